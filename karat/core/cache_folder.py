"""The folder for what karat can make again: isolated environments, compiled programs.

Checked: tests/core/test_environments.py.
"""

import os
from pathlib import Path


def cache_folder() -> Path:
    """`$KARAT_HOME`, else `$XDG_CACHE_HOME/karat`, else `~/.cache/karat`; it need not exist."""
    home = os.environ.get("KARAT_HOME")
    if home:
        return Path(home).expanduser()
    cache = os.environ.get("XDG_CACHE_HOME")
    return (Path(cache) if cache else Path.home() / ".cache") / "karat"

"""64-bit JAX that keeps what it compiled, without importing JAX where nobody uses it.

Checked: tests/campaign/test_runner.py.
"""

import os
import sys
from pathlib import Path


def prepare_jax(cache: Path | None = None) -> None:
    """Let JAX compute in 64 bits, and keep compiled programs in `cache`; called by entry points.

    JAX reads these variables when it is first imported; where it is imported already, the
    settings are changed directly. One worker per core computes on the CPU, unless JAX_PLATFORMS
    names another device.
    """
    settings: dict[str, str | bool | int | float] = {"jax_enable_x64": True}
    if cache is not None:
        settings |= {
            "jax_compilation_cache_dir": str(cache),
            "jax_persistent_cache_min_compile_time_secs": 0.2,
            "jax_persistent_cache_min_entry_size_bytes": -1,
        }
    if "jax" in sys.modules:
        import jax

        for name, value in settings.items():
            jax.config.update(name, value)
        return
    os.environ.setdefault("JAX_PLATFORMS", "cpu")
    for name, value in settings.items():
        os.environ[name.upper()] = str(value)

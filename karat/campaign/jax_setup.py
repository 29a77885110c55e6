"""64-bit JAX that keeps what it compiled, without importing JAX where nobody uses it.

Checked: tests/campaign/test_jax_setup.py, test_runner.py.
"""

import hashlib
import os
import platform
import sys
from pathlib import Path

from karat.core.cache_folder import cache_folder


def prepare_jax(cache: Path | None = None, cpu: bool = True) -> None:
    """Let JAX compute in 64 bits, and keep compiled programs in `cache`; called by entry points.

    JAX reads these variables when it is first imported; where it is imported already, the
    settings are changed directly. A `cache` that cannot be written to is left out: programs are
    then compiled anew each time.

    Args:
        cache: folder; made if missing. See `program_folder`.
        cpu: compute on the CPU, as one worker per core does, unless JAX_PLATFORMS names another
            device; False leaves the choice to JAX, which takes a GPU where it finds one.
    """
    settings: dict[str, str | bool | int | float] = {"jax_enable_x64": True}
    if cache is not None and _usable(cache):
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
    if cpu:
        os.environ.setdefault("JAX_PLATFORMS", "cpu")
    for name, value in settings.items():
        os.environ[name.upper()] = str(value)


def program_folder() -> Path:
    """Where commands keep compiled programs for later ones: `jax` below `cache_folder()`, a folder
    for each kind of processor, since a home directory may be shared by several."""
    return cache_folder() / "jax" / f"{platform.machine()}-{_processor()}"


def _processor() -> str:
    """A digest of what the processor can do."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    told = ("model name", "flags", "CPU part", "Features")
    found = [line for name in told for line in lines if line.startswith(name)]
    text = "\n".join(sorted(set(found))) or platform.processor()
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def _usable(folder: Path) -> bool:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError:
        return False
    return os.access(folder, os.W_OK)

"""Every test runs with shapes checked at run time, 64-bit JAX, one compute thread."""

import atexit
import os
import shutil
import tempfile
from pathlib import Path

from karat.core.threads import single_thread

single_thread()
os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ["KARAT_HOME"] = tempfile.mkdtemp(prefix="karat-tests-")
atexit.register(shutil.rmtree, os.environ["KARAT_HOME"], ignore_errors=True)

from jaxtyping import install_import_hook  # noqa: E402

HOOKED = [
    "karat.structures",
    "karat.results",
    "karat.data",
    "karat.potentials",
    "karat.simulation",
    "karat.training",
    "karat.assays",
    "karat.sampling",
    "karat.reference",
]
_hook = install_import_hook(HOOKED, "beartype.beartype")
_hook.__enter__()

import jax  # noqa: E402
import pytest  # noqa: E402

from karat.potentials.precision import enable_float64  # noqa: E402


@pytest.fixture(autouse=True, scope="session")
def strict_float64():
    """Physics in float64; dtype and rank promotion strict."""
    enable_float64()
    jax.config.update("jax_numpy_dtype_promotion", "strict")
    jax.config.update("jax_numpy_rank_promotion", "raise")


MANY_MAPS = 30_000
"""Of memory; Linux allows a process 65,530, and a compiled program takes some dozens."""


@pytest.fixture(autouse=True, scope="module")
def few_compiled_programs():
    """Programs are thrown away after a module where a process holds very many: beyond the kernel's
    limit of memory maps, compiling ends in a segmentation fault."""
    yield
    maps = Path("/proc/self/maps")
    if maps.exists() and maps.read_bytes().count(b"\n") > MANY_MAPS:
        jax.clear_caches()

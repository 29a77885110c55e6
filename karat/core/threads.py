"""One compute thread per process, so that timings and results repeat.

Environment variables are read by BLAS, OpenMP and XLA when they are first loaded: call
`single_thread` before importing them, i.e. first thing in a command or a worker.
"""

import os

VARIABLES = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
    "NUMEXPR_NUM_THREADS",
    "OPENMM_CPU_THREADS",
    "NPROC",  # size of XLA's thread pool on CPUs
)


def single_thread() -> None:
    """Ask every library of this process and its children for one thread."""
    for variable in VARIABLES:
        os.environ[variable] = "1"
    flag = "--xla_cpu_multi_thread_eigen=false"
    flags = os.environ.get("XLA_FLAGS", "")
    if flag not in flags:
        os.environ["XLA_FLAGS"] = f"{flags} {flag}".strip()

"""The isolated environment with torch and mace-torch.

Checked: tests/potentials/external/mace_torch/test_conversion.py.
"""

from dataclasses import replace
from pathlib import Path
from typing import Final

from karat.core.environments import Environment, Report, ensure, find
from karat.core.errors import CalculationFailed

TORCH: Final = "torch==2.13.0"
PACKAGES: Final = ("mace-torch==0.3.16", "e3nn==0.4.4", "safetensors>=0.6")

ENVIRONMENT: Final = Environment("mace-torch", (f"{TORCH}+cpu", *PACKAGES), disk_gb=2.0)
"""torch for the CPU only, from the package index that is configured."""

VARIANTS: Final = (
    ENVIRONMENT,
    replace(ENVIRONMENT, indexes=("https://download.pytorch.org/whl/cpu",)),
    # without the mark +cpu the usual index gives the CUDA libraries too: some GB more
    replace(ENVIRONMENT, requirements=(TORCH, *PACKAGES), disk_gb=9.0),
)
"""Tried in this order until one can be made."""


def interpreter(root: Path | None = None, report: Report | None = None) -> Path:
    """The Python of the environment, which is made now if it is not there.

    Args:
        root: folder of environments, by default the user's.
        report: is told what happens.

    Raises:
        BadInput, CalculationFailed: it cannot be made; see `karat.core.environments.ensure`.
    """
    for variant in VARIANTS:
        found = find(variant, root)
        if found is not None:
            return found
    for variant in VARIANTS[:-1]:
        try:
            return ensure(variant, root, report)
        except CalculationFailed as error:
            if error.kind not in ("no-such-version", "no-network"):
                raise
            if report is not None:
                report("no torch for the CPU only was found there; trying another index …")
    return ensure(VARIANTS[-1], root, report)

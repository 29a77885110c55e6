"""Reads a mace-torch model file; runs inside the isolated environment only.

A `.model` file is a pickled module: loading it runs code that the file holds.
"""

import json
import sys
from pathlib import Path
from typing import Any, NoReturn

BAD_INPUT = 2
"""Exit status that tells karat that the file is at fault; the reason is on standard error."""


def refuse(message: str) -> NoReturn:
    """End this process with the reason why the file cannot be used."""
    print(json.dumps({"bad-input": message}), file=sys.stderr, flush=True)
    sys.exit(BAD_INPUT)


def load(path: str) -> tuple[Any, str]:
    """The module in double precision on the CPU, and the precision that it was saved in."""
    import warnings

    warnings.filterwarnings("ignore")
    import mace  # noqa: F401  sets what e3nn needs before it is imported
    import torch

    torch.set_default_dtype(torch.float64)
    torch.set_num_threads(1)
    try:
        model = torch.load(path, map_location="cpu", weights_only=False)
    except Exception as error:
        refuse(
            f"{Path(path).name}: torch cannot load this file ({type(error).__name__}: {error}). It "
            "may have been saved by a mace-torch that differs too much from the one used here."
        )
    kind = type(model).__name__
    if isinstance(model, torch.jit.ScriptModule):
        refuse(
            f"{Path(path).name}: is compiled (TorchScript, as for LAMMPS). Name the .model file "
            "that it was made from."
        )
    if isinstance(model, dict):
        refuse(
            f"{Path(path).name}: holds weights without the model that they belong to (a checkpoint "
            "of a training). Name the .model file that mace-torch writes at the end."
        )
    if kind not in ("MACE", "ScaleShiftMACE"):
        refuse(
            f"{Path(path).name}: holds a {kind}; karat reads MACE and ScaleShiftMACE, which give "
            "energies."
        )
    precision = str(model.r_max.dtype).removeprefix("torch.")
    return model.double().eval(), precision

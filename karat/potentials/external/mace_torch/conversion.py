"""Reads mace-torch model files: in another process, with mace-torch itself.

A `.model` file is a pickled Python object, and unpickling runs code that the file holds. karat
never unpickles: the file is handed to `inside/`, in an isolated environment, and only after the
user has said that it is trusted. The environment protects karat's packages, not the computer.

Checked: tests/potentials/external/mace_torch/test_conversion.py.
"""

import json
import pickletools
import tempfile
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from karat.core.environments import Report
from karat.core.errors import BadInput
from karat.core.files import readable_file
from karat.core.isolated import run
from karat.potentials.external.mace_torch import environment
from karat.structures.labels import Labels
from karat.structures.structure import Structure

SCHEMA: Final = 1
_INSIDE: Final = Path(__file__).parent / "inside"
_TIMEOUT_S: Final = 1800.0


@dataclass(frozen=True, eq=False)
class ConvertedModel:
    """A model as plain numbers; the README of this folder says what each means.

    Attributes:
        settings: what stands in `model.json`.
        arrays: what stands in `weights.safetensors`; every factor of e3nn is multiplied in.
    """

    settings: dict[str, Any]
    arrays: dict[str, np.ndarray]


def inspect_file(path: Path) -> str:
    """The class of the model in a file, found without running anything in it.

    Raises:
        BadInput: missing, not written by torch, compiled, a training checkpoint, or another class.
    """
    readable_file(path, "mace-torch model file")
    if not zipfile.is_zipfile(path):
        raise BadInput(
            f"{path}: is not a file that torch (1.6 or newer) has saved. Name the .model file that "
            "mace-torch wrote."
        )
    with zipfile.ZipFile(path) as archive:
        names = archive.namelist()
        if any(name.endswith("/constants.pkl") for name in names):
            raise BadInput(
                f"{path}: is compiled (TorchScript, as for LAMMPS). Name the .model file that it "
                "was made from."
            )
        main = [name for name in names if name.count("/") == 1 and name.endswith("/data.pkl")]
        try:
            content = archive.read(main[0])
            used = {str(arg) for op, arg, _ in pickletools.genops(content) if op.name == "GLOBAL"}
        except (IndexError, ValueError, OSError, zipfile.BadZipFile) as error:
            raise BadInput(f"{path}: is damaged ({error}). Copy it again.") from error
    classes = sorted(name.split()[-1] for name in used if name.startswith("mace.modules.models "))
    if not classes:
        raise BadInput(
            f"{path}: holds no mace-torch model; it may be a checkpoint of a training, which has "
            "weights only. Name the .model file that mace-torch writes at the end."
        )
    if classes[0] not in ("MACE", "ScaleShiftMACE"):
        raise BadInput(f"{path}: holds a {classes[0]}; karat reads MACE and ScaleShiftMACE.")
    return classes[0]


def require_trust(path: Path, trust: bool) -> None:
    """Raises: BadInput: the user has not said that the file is trusted."""
    if not trust:
        raise BadInput(
            f"{path}: reading a mace-torch model runs code that the file holds, with your rights. "
            "Where you trust its origin, say so: --trust (trust=True)."
        )


def convert(
    path: Path,
    trust: bool,
    report: Report | None = None,
    python: Path | None = None,
    timeout_s: float = _TIMEOUT_S,
) -> ConvertedModel:
    """The numbers of a mace-torch model file.

    Args:
        path: of the `.model` file.
        trust: code in the file may run, in another process; see the module's text.
        report: is told what happens while the environment is made.
        python: interpreter with mace-torch, instead of the environment that karat makes.
        timeout_s: for the conversion.

    Raises:
        BadInput: not trusted, or the file holds what karat cannot read.
        CalculationFailed: the environment cannot be made, or mace-torch failed.
    """
    inspect_file(path)
    require_trust(path, trust)
    program = python or environment.interpreter(report=report)
    with tempfile.TemporaryDirectory(prefix="karat-mace-torch-") as scratch:
        folder = Path(scratch)
        arguments = [str(path.resolve()), str(folder)]
        run(program, _INSIDE / "convert_model.py", arguments, folder, timeout_s)
        return read(folder)


def read(folder: Path) -> ConvertedModel:
    """A converted model from its folder.

    Raises:
        BadInput: a file is missing, damaged or of another schema.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    header = readable_file(folder / "model.json", "converted model")
    weights = readable_file(folder / "weights.safetensors", "converted model")
    try:
        settings = json.loads(header.read_text())
        arrays = load_file(weights)
    except (ValueError, OSError, SafetensorError) as error:
        raise BadInput(f"{folder}: the converted model is damaged ({error}).") from error
    if not isinstance(settings, dict) or settings.get("schema") != SCHEMA:
        raise BadInput(f"{header}: is of another schema than {SCHEMA}. Convert the model again.")
    return ConvertedModel(settings=settings, arrays=arrays)


def evaluate(
    path: Path,
    structures: Sequence[Structure],
    trust: bool,
    head: str | None = None,
    report: Report | None = None,
    python: Path | None = None,
    timeout_s: float = _TIMEOUT_S,
) -> list[Labels]:
    """What mace-torch itself computes in double precision: energy, forces and stress.

    Args:
        path: of the `.model` file.
        structures: at least one.
        trust, report, python, timeout_s: as for `convert`.
        head: of a model with several; by default the first.

    Raises:
        BadInput, CalculationFailed: as for `convert`, or the model does not know an element.
    """
    from safetensors.numpy import load_file

    inspect_file(path)
    require_trust(path, trust)
    program = python or environment.interpreter(report=report)
    described = [
        {
            "numbers": structure.numbers.tolist(),
            "positions": structure.positions.tolist(),
            "cell": structure.cell.tolist(),
            "periodic": structure.periodic.tolist(),
        }
        | ({} if head is None else {"head": head})
        for structure in structures
    ]
    with tempfile.TemporaryDirectory(prefix="karat-mace-torch-") as scratch:
        folder = Path(scratch)
        (folder / "structures.json").write_text(json.dumps(described))
        arguments = [str(path.resolve()), "structures.json", "results.safetensors"]
        run(program, _INSIDE / "evaluate_model.py", arguments, folder, timeout_s)
        results = load_file(folder / "results.safetensors")
    ends = np.cumsum([len(structure) for structure in structures])
    return [
        Labels(
            energy=float(energy),
            forces=results["forces"][end - len(structure) : end],
            stress=stress if structure.periodic.all() else None,
        )
        for structure, end, energy, stress in zip(
            structures, ends, results["energy"], results["stress"]
        )
    ]

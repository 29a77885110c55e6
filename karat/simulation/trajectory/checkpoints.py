"""Checkpoints: all that a run needs to go on, written so that one whole one is always there.

A checkpoint is a safetensors file: the arrays, and JSON (header, marks of trajectory files, a
digest of everything). Nothing is unpickled.

Checked: tests/simulation/trajectory/test_checkpoints.py, test_kill.py.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np

from karat.core.errors import BadInput, CalculationFailed
from karat.core.files import write_atomic
from karat.core.hashing import canonical_json, digest_arrays, digest_json
from karat.simulation.trajectory.append_file import Mark, sync_folder, write_failed

KEPT: Final = 2
"""Checkpoints that stay: the newest and the one before."""
_NAME: Final = re.compile(r"checkpoint-(\d{8})\.safetensors")
_INTEGERS: Final = ("int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64")
_TYPES: Final = frozenset(("bool", "float16", "float32", "float64", *_INTEGERS))


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """What was saved.

    Attributes:
        number: 1 for the first one of a run.
        arrays: as they were given: names, types, shapes and bits.
        header: JSON.
        marks: of trajectory files, by the names under which they were given.
        warnings: a sentence for every newer checkpoint that was damaged and left out.
    """

    number: int
    arrays: Mapping[str, np.ndarray]
    header: Mapping[str, Any]
    marks: Mapping[str, Mark] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()


class Checkpoints:
    """The checkpoints of one run, in a folder of their own (made when it is missing)."""

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)

    def save(
        self,
        arrays: Mapping[str, np.ndarray],
        header: Mapping[str, Any],
        marks: Mapping[str, Mark],
    ) -> Path:
        """Write a checkpoint; when this returns it is on disk, and the one before still is.

        Raises:
            BadInput: an array of a type that is not stored (text, objects, complex numbers), or a
                header that is not JSON.
            CalculationFailed: the disk is full (kind ``disk-full``) or broken; the checkpoints
                before are untouched.
        """
        numbers = self.numbers()
        number = numbers[-1] + 1 if numbers else 1
        path = self._path(number)
        content = _packed(arrays, header, marks)
        try:
            write_atomic(path, content)
        except OSError as error:
            kept = f"{self._path(numbers[-1]).name} is" if numbers else "no checkpoint is"
            raise write_failed(
                path, error, f"{kept} there to go on from.", "resume the run"
            ) from error
        sync_folder(self.folder)
        self._tidy(numbers[: -(KEPT - 1)])
        return path

    def load(self) -> Checkpoint | None:
        """The newest whole checkpoint; `None` where none was saved yet.

        Raises:
            CalculationFailed: there are checkpoints, but all are damaged (kind ``damaged``).
        """
        warnings: list[str] = []
        for number in reversed(self.numbers()):
            path = self._path(number)
            try:
                arrays, header, marks = _unpacked(path.read_bytes())
            except (OSError, ValueError, KeyError, TypeError) as error:
                warnings.append(f"{path}: the checkpoint is damaged ({error}) and was left out.")
                continue
            return Checkpoint(number, arrays, header, marks, tuple(warnings))
        if warnings:
            raise CalculationFailed(
                " ".join(warnings) + " None is left: start the run anew.", kind="damaged"
            )
        return None

    def numbers(self) -> list[int]:
        """Of the checkpoints that are there, whole or not, ascending."""
        if not self.folder.is_dir():
            return []
        found = (_NAME.fullmatch(path.name) for path in self.folder.iterdir())
        return sorted(int(match.group(1)) for match in found if match)

    def _path(self, number: int) -> Path:
        return self.folder / f"checkpoint-{number:08d}.safetensors"

    def _tidy(self, numbers: list[int]) -> None:
        """Remove old checkpoints, and what a killed `save` left half written."""
        for number in numbers:
            self._path(number).unlink(missing_ok=True)
        for path in self.folder.glob(".checkpoint-*.part"):
            path.unlink(missing_ok=True)


def _packed(
    arrays: Mapping[str, np.ndarray], header: Mapping[str, Any], marks: Mapping[str, Mark]
) -> bytes:
    from safetensors.numpy import save

    # safetensors writes the memory of an array as it lies there: it must be in C order
    plain = {name: np.array(array, order="C") for name, array in arrays.items()}
    for name, array in plain.items():
        if array.dtype.name not in _TYPES or not array.dtype.isnative:
            raise BadInput(f"checkpoint: array '{name}' is of type {array.dtype}: not stored.")
    about = {"header": dict(header), "marks": {key: mark.as_dict() for key, mark in marks.items()}}
    try:
        text = canonical_json(about)
    except (TypeError, ValueError) as error:
        raise BadInput(f"checkpoint: the header cannot be written as JSON ({error}).") from error
    digest = digest_json([text, digest_arrays(plain)])
    content: bytes = save(plain, {"karat_checkpoint": text, "digest": digest})
    return content


def _unpacked(content: bytes) -> tuple[dict[str, np.ndarray], dict[str, Any], dict[str, Mark]]:
    """Arrays, header and marks.

    Raises:
        ValueError, KeyError, TypeError: not whole.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import load

    try:
        arrays = load(content)
    except SafetensorError as error:
        raise ValueError(str(error)[:200]) from error
    size = int.from_bytes(content[:8], "little")
    about = json.loads(content[8 : 8 + size])["__metadata__"]
    text = about["karat_checkpoint"]
    if digest_json([text, digest_arrays(arrays)]) != about["digest"]:
        raise ValueError("its digest does not fit")
    found = json.loads(text)
    marks = {name: Mark.from_dict(values) for name, values in found["marks"].items()}
    return arrays, found["header"], marks

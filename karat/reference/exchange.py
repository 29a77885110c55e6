"""Structures and labels as JSON: in an engine's folder, between processes, in the label store.

Python writes a float in the shortest form that reads back to the same bits, so nothing is lost;
nothing is ever pickled.

Checked: tests/reference/test_exchange.py.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, get_args

import numpy as np

from karat.core.errors import BadInput, CalculationFailed, UnsuitableStructure
from karat.core.files import write_json
from karat.structures.labels import Labels, Quantity
from karat.structures.structure import Structure

QUANTITIES: tuple[Quantity, ...] = get_args(Quantity)
INPUT, OUTPUT = "input.json", "output.json"


def ordered(want: Sequence[str]) -> tuple[Quantity, ...]:
    """The wanted quantities, each once, in the order in which karat always names them.

    Raises:
        BadInput: none is wanted, or one has no such name.
    """
    unknown = [name for name in want if name not in QUANTITIES]
    if unknown or not want:
        raise BadInput(
            f"Quantities wanted: {', '.join(map(str, want)) or 'none'}; "
            f"name one or more of {', '.join(QUANTITIES)}."
        )
    return tuple(name for name in QUANTITIES if name in want)


def check_quantities(
    engine: str, offered: Sequence[Quantity], structure: Structure, want: Sequence[Quantity]
) -> None:
    """Refuse quantities that `engine` does not offer, or that `structure` cannot have.

    Raises:
        BadInput: see `ordered`.
        UnsuitableStructure: not offered, stress without three periodic directions, or the
            dipole of a periodic structure.
    """
    for name in ordered(want):
        if name not in offered:
            raise UnsuitableStructure(
                f"{engine} does not compute {name}; it computes {', '.join(offered)}."
            )
    if "stress" in want and not structure.periodic.all():
        raise UnsuitableStructure(
            f"stress needs three periodic directions, and {structure.formula} has "
            f"{int(structure.periodic.sum())}. Leave stress out of what is wanted."
        )
    if "dipole" in want and structure.periodic.any():
        raise UnsuitableStructure(
            f"the dipole of a periodic structure ({structure.formula}) is not defined. "
            "Leave dipole out of what is wanted."
        )


def structure_to_json(structure: Structure) -> dict[str, Any]:
    """JSON-ready values of everything but the topology."""
    return {
        "numbers": structure.numbers.tolist(),
        "positions": structure.positions.tolist(),
        "cell": structure.cell.tolist(),
        "periodic": structure.periodic.tolist(),
        "charge": structure.charge,
        "multiplicity": structure.multiplicity,
    }


def structure_from_json(values: Mapping[str, Any]) -> Structure:
    """The inverse of `structure_to_json`, bit for bit."""
    return Structure(
        numbers=np.array(values["numbers"], dtype=np.int64),
        positions=np.array(values["positions"], dtype=np.float64),
        cell=np.array(values["cell"], dtype=np.float64),
        periodic=np.array(values["periodic"], dtype=np.bool_),
        charge=values["charge"],
        multiplicity=values["multiplicity"],
    )


def labels_to_json(labels: Labels) -> dict[str, Any]:
    """JSON-ready values of the quantities that are there."""
    return {str(name): np.asarray(getattr(labels, name)).tolist() for name in labels.quantities}


def labels_from_json(values: Mapping[str, Any]) -> Labels:
    """The inverse of `labels_to_json`, bit for bit."""
    parts: dict[str, Any] = {
        name: value if name == "energy" else np.array(value, dtype=np.float64)
        for name, value in values.items()
    }
    return Labels(**parts)


def finite(labels: Labels, who: str) -> Labels:
    """`labels`, if every number in it is finite.

    Raises:
        CalculationFailed: kind ``not-finite``.
    """
    if not labels.finite():
        raise CalculationFailed(f"{who} returned NaN or infinity.", kind="not-finite")
    return labels


def write_input(folder: Path, structure: Structure, want: Sequence[Quantity]) -> None:
    """Write `input.json`: structure and wanted quantities."""
    write_json(
        folder / INPUT, {"structure": structure_to_json(structure), "want": list(ordered(want))}
    )


def read_input(folder: Path) -> tuple[Structure, tuple[Quantity, ...]]:
    """What `write_input` wrote.

    Raises:
        BadInput: the folder was not prepared.
    """
    path = folder / INPUT
    if not path.is_file():
        raise BadInput(f"{folder}: has no {INPUT}. Call the engine's `prepare` on it first.")
    values = json.loads(path.read_text())
    return structure_from_json(values["structure"]), ordered(values["want"])


def write_output(folder: Path, raw: Mapping[str, Any]) -> None:
    """Write `output.json`: raw results, in the units of the program.

    Raises:
        CalculationFailed: kind ``not-finite``: a number is NaN or infinite.
    """
    values = {
        name: value.tolist() if isinstance(value, np.ndarray) else value
        for name, value in raw.items()
    }
    try:
        write_json(folder / OUTPUT, values)
    except ValueError as error:
        raise CalculationFailed(
            f"{folder}: the results hold NaN or infinity.", kind="not-finite"
        ) from error


def read_output(folder: Path) -> dict[str, Any]:
    """What `write_output` wrote.

    Raises:
        CalculationFailed: kind ``no-output``: missing or cut off.
    """
    path = folder / OUTPUT
    try:
        values = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise CalculationFailed(
            f"{path}: no complete output ({error}). Call the engine's `run` on it again.",
            kind="no-output",
        ) from error
    if not isinstance(values, dict):
        raise CalculationFailed(f"{path}: is not an engine's output.", kind="no-output")
    return values


def raw_array(raw: Mapping[str, Any], name: str, shape: tuple[int, ...], where: str) -> np.ndarray:
    """One array of a raw output, in float64.

    Raises:
        CalculationFailed: kind ``no-output``: it is not there, or has another shape.
    """
    if name not in raw:
        raise CalculationFailed(f"{where}: the output has no {name}.", kind="no-output")
    array = np.array(raw[name], dtype=np.float64)
    if array.shape != shape:
        raise CalculationFailed(
            f"{where}: {name} has shape {array.shape}, needs {shape}.", kind="no-output"
        )
    return array

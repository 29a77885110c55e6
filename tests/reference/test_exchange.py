"""Structures and labels survive JSON bit for bit; checks common to all engines."""

import json

import numpy as np
import pytest

from karat.core.errors import BadInput, CalculationFailed, UnsuitableStructure
from karat.reference.conformance import equal_bits
from karat.reference.exchange import (
    check_quantities,
    finite,
    labels_from_json,
    labels_to_json,
    ordered,
    raw_array,
    read_input,
    structure_from_json,
    structure_to_json,
    write_input,
    write_output,
)
from karat.structures.labels import Labels
from karat.structures.structure import Structure


def test_round_trip_keeps_every_bit():
    random = np.random.default_rng(5)
    values = random.normal(size=(4, 3)) * 10.0 ** random.integers(-300, 300, size=(4, 3))
    values[0] = [-0.0, 5e-324, 0.1 + 0.2]
    structure = Structure(
        np.array([1, 2, 3, 4]),
        values,
        cell=random.normal(size=(3, 3)),
        periodic=np.array([True, False, True]),
        charge=-2,
        multiplicity=3,
    )
    again = structure_from_json(json.loads(json.dumps(structure_to_json(structure))))
    assert again.digest == structure.digest
    assert again.positions.tobytes() == structure.positions.tobytes()
    labels = Labels(energy=1e-17, forces=values, stress=np.eye(3) / 3, charges=values[:, 0])
    back = labels_from_json(json.loads(json.dumps(labels_to_json(labels))))
    assert equal_bits(labels, back)
    assert back.forces.tobytes() == labels.forces.tobytes()
    assert back.dipole is None


def test_folder_round_trip(tmp_path):
    structure = Structure(np.array([1]), np.zeros((1, 3)))
    write_input(tmp_path, structure, ("forces", "energy"))
    again, want = read_input(tmp_path)
    assert again.digest == structure.digest
    assert want == ("energy", "forces")


def test_wanted_quantities():
    assert ordered(["dipole", "energy", "dipole"]) == ("energy", "dipole")
    for wrong in ([], ["energi"]):
        with pytest.raises(BadInput, match="one or more of energy"):
            ordered(wrong)
    structure = Structure(np.array([1]), np.zeros((1, 3)))
    with pytest.raises(UnsuitableStructure, match="X does not compute forces; it computes energy"):
        check_quantities("X", ("energy",), structure, ("forces",))


def test_what_is_not_finite_is_a_failure(tmp_path):
    with pytest.raises(CalculationFailed) as caught:
        finite(Labels(energy=float("nan")), "X")
    assert caught.value.kind == "not-finite"
    with pytest.raises(CalculationFailed) as caught:
        write_output(tmp_path, {"energy": float("inf")})
    assert caught.value.kind == "not-finite"
    assert not list(tmp_path.glob("*.json"))


def test_raw_arrays_have_their_shape():
    with pytest.raises(CalculationFailed, match="shape"):
        raw_array({"gradient": [[1.0, 2.0, 3.0]]}, "gradient", (2, 3), "X")

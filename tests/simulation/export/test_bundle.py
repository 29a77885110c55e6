"""The potential inside an export: complete without the folder it came from."""

import json

import numpy as np
import pytest

from karat.core.errors import BadInput, UnknownKey
from karat.simulation.export.bundle import component_of, in_float64, load_bundle, write_bundle


def test_file_goes_along(network_file, molecule, tmp_path):
    source = network_file((1, 6, 8))
    name, component = component_of(str(source), {})
    expected = component.load().predict([molecule])[0]
    files = write_bundle(name, component, tmp_path)
    assert files == ["potential.json", "net.karat"]
    document = json.loads((tmp_path / "potential.json").read_text())
    assert document["options"]["path"] == "net.karat"  # no path of this machine
    moved = tmp_path.rename(tmp_path.with_name("moved"))
    found = load_bundle(moved).predict([molecule])[0]
    assert found.energy == expected.energy
    np.testing.assert_array_equal(found.forces, expected.forces)


def test_options_survive(argon_options, mixture, tmp_path):
    name, component = component_of("lennard_jones", {**argon_options, "dtype": "float32"})
    write_bundle(name, component, tmp_path)
    potential = load_bundle(tmp_path)
    assert str(potential.dtype) == "float32"
    assert potential.predict([mixture])[0].energy == component.load().predict([mixture])[0].energy
    assert str(in_float64(component).load().dtype) == "float64"


def test_what_cannot_be_exported(tmp_path):
    with pytest.raises(BadInput, match="no such potential"):
        component_of("missing.karat", {})
    with pytest.raises(UnknownKey, match="stillinger_weber"):
        component_of("stilinger_weber", {"preset": "Si"})
    with pytest.raises(BadInput, match="no such exported potential"):
        load_bundle(tmp_path)
    (tmp_path / "potential.json").write_text('{"schema": 9, "potential": "x", "options": {},')
    with pytest.raises(BadInput, match="damaged"):
        load_bundle(tmp_path)
    text = '{"schema": 9, "potential": "x", "options": {}, "files": []}'
    (tmp_path / "potential.json").write_text(text)
    with pytest.raises(BadInput, match="schema 9"):
        load_bundle(tmp_path)

import dataclasses

import pytest

from karat.core import components
from karat.core.errors import BadInput, UnknownKey
from karat.potentials.catalogue import CATALOGUE, potential_component
from karat.potentials.protocol import AbstractPotentialComponent


@pytest.mark.parametrize("name", CATALOGUE.members)
def test_members_are_components(name):
    cls = CATALOGUE.resolve(name)
    assert issubclass(cls, AbstractPotentialComponent)
    assert dataclasses.is_dataclass(cls)
    assert cls.__dataclass_params__.frozen
    assert cls.__doc__
    assert "Attributes" in cls.__doc__ or not dataclasses.fields(cls)
    schema = components.schema(cls)
    assert schema["additionalProperties"] is False


def test_component_round_trip():
    values = {
        "epsilon_ev": {"Ar": 0.0104},
        "sigma_angstrom": {"Ar": 3.4},
        "cutoff_angstrom": 8,
        "onset_angstrom": 6.0,
    }
    component = potential_component("lennard_jones", values, "contestants.0")
    dumped = components.dump(component)
    assert dumped == values | {"dtype": "float64", "cutoff_angstrom": 8.0}
    assert potential_component("lennard_jones", dumped, "again") == component


def test_bad_names_and_options():
    with pytest.raises(UnknownKey, match="did you mean 'lennard_jones'"):
        potential_component("lenard_jones", {}, "contestants.0")
    with pytest.raises(
        UnknownKey, match=r"contestants\.0 has no 'varient'; did you mean 'variant'"
    ):
        potential_component("mmff94", {"varient": "MMFF94"}, "contestants.0")
    with pytest.raises(BadInput, match=r"contestants\.0\.variant"):
        potential_component("mmff94", {"variant": "MMFF95"}, "contestants.0")

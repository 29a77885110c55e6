"""What makes a collection, and what does not."""

import numpy as np
import pytest

from karat.core.errors import BadInput
from karat.data.collections.collection import Collection, Energy, parse_terms, terms_text


def test_groups_elements_and_used_structures(small):
    found = small.collection()
    assert found.used == ("HF", "H2", "F2", "far H2")
    assert found.species == (1, 9)
    assert [energy.group for energy in found.energies] == ["H2 + F2", "H2"]


def test_terms_are_written_and_read_again():
    terms = {"a b": 2.0, "c*d": -0.5}
    assert parse_terms(terms_text(terms), "here") == terms
    assert parse_terms("1*x;1*x;-1*y", "here") == {"x": 2.0, "y": -1.0}


@pytest.mark.parametrize("text", ["", "x", "one*x", "1*", "1*x;;1*y"])
def test_terms_that_are_none_are_refused(text):
    with pytest.raises(BadInput, match="here: .* is no term"):
        parse_terms(text, "here")


@pytest.mark.parametrize(
    ("terms", "words"),
    [
        ({"HF": 1.0, "H2": -1.0}, "atoms do not balance"),
        ({"HF": 2.0, "H2": -1.0, "F2": -1.1}, "atoms do not balance"),
        ({"H2+": 1.0, "H2": -1.0}, "charges do not balance"),
        ({"H2": 1.0, "D2": -1.0}, "no structure 'D2'"),
    ],
)
def test_sides_that_differ_are_refused(small, terms, words):
    structures = dict(small.collection().structures)
    structures["H2+"] = small.diatomic(1, 1, 1.0, charge=1)
    with pytest.raises(BadInput, match=f"energy e: .*{words}"):
        Collection(structures, (Energy("e", 0.0, terms),))


def test_names_twice_and_nothing_are_refused(small):
    structures = small.collection().structures
    one = Energy("e", 0.0, {"H2": 1.0, "far H2": -1.0})
    with pytest.raises(BadInput, match="Two energies are named 'e'"):
        Collection(structures, (one, one))
    with pytest.raises(BadInput, match="at least one energy"):
        Collection(structures, ())


@pytest.mark.parametrize(
    "values",
    [
        {"reference": np.nan},
        {"coordinate": np.inf},
        {"terms": {"a": np.nan}},
        {"terms": {}},
        {"terms": {"a": 0.0}},
        {"name": ""},
    ],
)
def test_energies_without_meaning_are_refused(values):
    with pytest.raises(BadInput):
        Energy(**({"name": "e", "reference": 0.0, "terms": {"a": 1.0}} | values))

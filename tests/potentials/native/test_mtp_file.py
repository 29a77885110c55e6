"""Moment tensor potentials in MLIP-2's format: there and back, orders that differ, refusals.

That another program reads the files and finds the same energies: tests/peers/test_motep.py.
"""

import functools
import json
import re

import ase.build
import numpy as np
import pytest

from karat.core.errors import BadInput
from karat.potentials.conformance.architecture import random_potential
from karat.potentials.native.mtp import Mtp
from karat.potentials.native.mtp_file import mtp_text, parse_mtp
from karat.potentials.native.schnet import Schnet
from karat.structures.structure import Structure

MODEL = Mtp(cutoff_angstrom=3.0, level=8, radial_size=4)


def molecule(seed):
    atoms = ase.build.molecule("CH3CH2OH")
    atoms.positions += np.random.default_rng(seed).normal(scale=0.1, size=(len(atoms), 3))
    return Structure.from_ase(atoms)


@functools.cache
def potential():
    return random_potential(MODEL, [molecule(0), molecule(1)])


def agree(first, second, structure=None):
    found = [one.predict([structure or molecule(7)])[0] for one in (first, second)]
    # totals of 10⁵ eV in float64
    assert found[0].energy == pytest.approx(found[1].energy, abs=1e-9)
    np.testing.assert_allclose(found[0].forces, found[1].forces, atol=1e-10)


def test_a_file_holds_the_potential():
    text = mtp_text(potential())
    model, found = parse_mtp(text, (1, 6, 8))
    nearest = potential().module.nearest
    assert model == Mtp(3.0, 8, 4, nearest)
    assert found.module.species == (1, 6, 8)
    agree(potential(), found)
    again = mtp_text(found)
    agree(potential(), parse_mtp(again, (1, 6, 8))[1])


def test_types_may_be_any_elements_in_any_order():
    _, found = parse_mtp(mtp_text(potential()), (8, 6, 1))
    turned = molecule(7)
    swapped = {1: 8, 6: 6, 8: 1}
    numbers = np.array([swapped[z] for z in turned.numbers.tolist()])
    other = Structure(numbers=numbers, positions=turned.positions)
    energies = potential().predict([turned])[0], found.predict([other])[0]
    np.testing.assert_allclose(energies[0].forces, energies[1].forces, atol=1e-10)


def listed(text, name):
    words = re.search(rf"^{name} = (.*)$", text, re.MULTILINE).group(1)
    return json.loads(words.replace("{", "[").replace("}", "]"))


def replaced(text, name, value):
    words = json.dumps(value).replace("[", "{").replace("]", "}")
    return re.sub(rf"^{name} = .*$", f"{name} = {words}", text, flags=re.MULTILINE)


def test_contractions_may_come_in_any_order():
    text = mtp_text(potential())
    order = np.random.default_rng(0).permutation(9)
    for name in ("alpha_moment_mapping", "moment_coeffs"):
        values = listed(text, name)
        text = replaced(text, name, [values[i] for i in order])
    agree(potential(), parse_mtp(text, (1, 6, 8))[1])


def test_an_empty_tag_is_read():
    """MLIP writes `potential_tag = ` with nothing behind it before a line that matters."""
    text = mtp_text(potential())
    assert re.search(r"^potential_tag = *\nradial_basis_type", text, re.MULTILINE)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda text: "MTP\nversion = 1.1.0\n", "no trained potential of MLIP-2"),
        (lambda text: text.replace("RBChebyshev", "RBShapeev"), "only RBChebyshev is read"),
        (lambda text: replaced(text, "moment_coeffs", [1.0]), "1 coefficients; the levels"),
        (
            lambda text: replaced(text, "scaling", "much"),
            "'scaling = .* is not what a .mtp file has there",
        ),
        (lambda text: text.replace("\t\t\t{", "\t\t\t", 1), "radial coefficients"),
        (lambda text: text.replace("{1, 0, 0, 0}", "{2, 0, 0, 0}"), "moments are not those"),
    ],
)
def test_other_files_are_refused(change, words):
    with pytest.raises(BadInput, match=words):
        parse_mtp(change(mtp_text(potential())), (1, 6, 8))


def test_other_contractions_are_refused():
    text = mtp_text(potential())
    times = listed(text, "alpha_index_times")
    times[0][2] += 1
    with pytest.raises(BadInput, match="contractions are not those of level 8"):
        parse_mtp(replaced(text, "alpha_index_times", times), (1, 6, 8))


@pytest.mark.parametrize("species", [(1, 6), (1, 6, 6)])
def test_elements_must_be_as_many_as_types(species):
    with pytest.raises(BadInput, match="The file has 3 elements"):
        parse_mtp(mtp_text(potential()), species)


def test_other_potentials_have_no_such_file():
    other = random_potential(Schnet(3.0, 4, 1, 4), [molecule(0)])
    with pytest.raises(BadInput, match="SchnetModule is no moment tensor potential"):
        mtp_text(other)

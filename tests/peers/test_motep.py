"""Moment tensor potentials against motep: the same `.mtp` file, energies, forces and stress."""

import ase.build
import numpy as np
import pytest

from karat.potentials.conformance.architecture import random_potential
from karat.potentials.native.mtp import Mtp
from karat.potentials.native.mtp_file import mtp_text
from karat.potentials.native_protocol import NativePotential
from karat.structures.structure import Structure

pytestmark = pytest.mark.peers


def rattled(atoms):
    atoms = atoms.copy()
    atoms.positions += np.random.default_rng(4).normal(scale=0.1, size=(len(atoms), 3))
    return Structure.from_ase(atoms)


STRUCTURES = {
    "molecule": rattled(ase.build.molecule("CH3CH2OH")),
    "crystal": rattled(ase.build.bulk("NaCl", "rocksalt", a=5.0).repeat((2, 2, 1))),
}


@pytest.mark.parametrize(
    ("case", "level"), [("molecule", 8), ("molecule", 16), ("molecule", 20), ("crystal", 8)]
)
def test_energies_forces_and_stress(case, level, peer):
    structure = STRUCTURES[case]
    architecture = Mtp(cutoff_angstrom=4.0, level=level, radial_size=6)
    module = random_potential(architecture, [structure]).module
    potential = NativePotential(module)
    theirs = peer("motep")(
        "motep_energies.py",
        {
            "text": np.array(mtp_text(potential)),
            "elements": np.array(module.species),
            "numbers": structure.numbers.astype(np.int64),
            "positions": structure.positions,
            "cell": structure.cell,
            "periodic": structure.periodic,
        },
    )
    want = ("energy", "forces", "stress") if case == "crystal" else ("energy", "forces")
    ours = potential.predict([structure], want)[0]
    atoms = np.asarray(module.evaluate(potential.batch([structure])).atom_energies)
    size = np.abs(ours.forces).max()
    assert size > 0.1
    # the same sums in another order; contractions are up to 10⁶ times their weighted sum
    np.testing.assert_allclose(theirs["energies"], atoms[: len(structure)], rtol=1e-8, atol=1e-9)
    np.testing.assert_allclose(theirs["forces"], ours.forces, rtol=0, atol=1e-8 * size)
    if case == "crystal":
        voigt = ours.stress[[0, 1, 2, 1, 0, 0], [0, 1, 2, 2, 2, 1]]
        np.testing.assert_allclose(theirs["stress"], voigt, rtol=0, atol=1e-8 * np.abs(voigt).max())

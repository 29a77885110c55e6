"""Strictly local potentials: what happens beyond the cut-off leaves an atom's energy alone."""

import equinox as eqx
import jax.numpy as jnp
import numpy as np
import pytest
from ase.build import bulk

from karat.potentials.analytic.lennard_jones import LennardJones
from karat.potentials.analytic.morse import Morse
from karat.potentials.analytic.stillinger_weber import StillingerWeber
from karat.potentials.analytic.zbl import Zbl
from karat.potentials.batch import make_batch
from karat.potentials.linear.ace import Ace
from karat.potentials.linear.snap import Snap
from karat.potentials.locality import strictly_local
from karat.potentials.native_protocol import AbstractNativePotential
from karat.potentials.sum_potential import SumModule
from karat.structures.structure import Structure


def linear(model):
    """With random coefficients."""
    module = model.basis((14,), "float64")
    drawn = np.random.default_rng(1).normal(size=module.coefficients.shape)
    return eqx.tree_at(lambda m: m.coefficients, module, jnp.asarray(drawn))


LOCAL = {
    "ace": lambda: linear(Ace({"Si": 3.0}, 4.0, (4, 4, 4))),
    "lennard_jones": lambda: LennardJones({"Si": 0.1}, {"Si": 2.1}, 4.0, 3.5).load().module,
    "morse": lambda: Morse({"Si": 1.0}, {"Si": 1.5}, {"Si": 2.3}, 4.0, 3.5).load().module,
    "snap": lambda: linear(Snap(twojmax=3, rcutfac=4.0)),
    "stillinger_weber": lambda: StillingerWeber(preset="Si").load().module,
    "zbl": lambda: Zbl(("Si",), 2.0, 4.0).load().module,
}


def atom_energies(module, structure):
    batch = make_batch([structure], module.cutoff, np.float64, module.needs_triplets)
    return np.asarray(eqx.filter_jit(module.evaluate)(batch).atom_energies)[: len(structure)]


@pytest.mark.parametrize("name", LOCAL)
def test_energies_of_atoms_do_not_see_beyond_the_cutoff(name):
    module = LOCAL[name]()
    assert strictly_local(module)
    atoms = bulk("Si", cubic=True) * (3, 3, 3)
    atoms.rattle(0.1, seed=1)
    before = Structure.from_ase(atoms)
    far = atoms.get_distances(0, range(len(atoms)), mic=True) > module.cutoff + 1.0
    moved = (
        atoms.positions
        + np.random.default_rng(2).normal(scale=0.1, size=(len(atoms), 3)) * far[:, None]
    )
    after = before.replace(positions=moved)
    one, other = atom_energies(module, before), atom_energies(module, after)
    # the same neighbours in the same order: rounding of another padding only
    assert one[0] == pytest.approx(other[0], abs=1e-13)
    assert np.abs(one[far] - other[far]).max() > 1e-4


def test_an_unknown_module_is_not_taken_for_local():
    class Unknown(AbstractNativePotential):
        cutoff: float = 4.0
        species: tuple[int, ...] = (14,)
        continuity: int = 2
        needs_triplets: bool = False

        def evaluate(self, batch):
            raise AssertionError("is not asked")

    assert not strictly_local(Unknown())
    local = LOCAL["zbl"]()
    assert not strictly_local(_sum(Unknown(), local))
    assert strictly_local(_sum(local, local))


def _sum(*terms):
    return SumModule(terms, (14,), 4.0, 2, False)

"""A small bpnn file and rattled crystals that exports are compared on."""

import jax
import numpy as np
import pytest
from ase.build import bulk

from karat.potentials.karat_file import save
from karat.potentials.native.bpnn import AngularGrid, Bpnn, RadialGrid
from karat.potentials.native_protocol import NativePotential
from karat.structures.structure import Structure

LJ = {
    "epsilon_ev": {"Ar": 0.0104, "Ne": 0.0031},
    "sigma_angstrom": {"Ar": 3.4, "Ne": 2.75},
    "cutoff_angstrom": 6.5,
    "onset_angstrom": 5.5,
}


@pytest.fixture
def argon_options():
    """Lennard-Jones argon and neon."""
    return dict(LJ)


@pytest.fixture(scope="session")
def silicon():
    """64 rattled atoms in a skewed cell."""
    atoms = bulk("Si", "diamond", a=5.431, cubic=True).repeat(2)
    strain = np.array([[1.0, 0.02, 0.0], [0.0, 1.01, -0.03], [0.01, 0.0, 0.99]])
    atoms.set_cell(atoms.cell @ strain, scale_atoms=True)
    atoms.rattle(0.1, seed=5)
    return Structure.from_ase(atoms)


@pytest.fixture(scope="session")
def mixture():
    """108 argon and neon atoms in a skewed cell, rattled."""
    atoms = bulk("Ar", "fcc", a=5.3, cubic=True).repeat(3)
    atoms.set_cell(atoms.cell @ (np.eye(3) + 0.03 * np.eye(3, k=-1)), scale_atoms=True)
    atoms.rattle(0.15, seed=6)
    atoms.numbers[::3] = 10
    return Structure.from_ase(atoms)


@pytest.fixture(scope="session")
def network_file(tmp_path_factory):
    """Maker of a `.karat` file: a bpnn with random weights for these elements."""

    def make(species, cutoff=4.0, seed=0):
        model = Bpnn(
            cutoff_angstrom=cutoff,
            radial=RadialGrid(count=3),
            angular=AngularGrid(count=1, zetas=(1,)),
            hidden=(4,),
        )
        skeleton = model.skeleton(species, "float64")
        rng = np.random.default_rng(seed)

        def fill(shape):
            return jax.numpy.asarray(rng.normal(0, 0.5, shape.shape))

        module = jax.tree.map(fill, skeleton)
        potential = NativePotential(module, {z: -10.0 * z for z in species})
        path = tmp_path_factory.mktemp("network") / "net.karat"
        save(path, model, potential)
        return path

    return make


@pytest.fixture(scope="session")
def molecule():
    """A rattled ethanol-like molecule: C2H6O by ASE."""
    from ase.build import molecule as build

    atoms = build("CH3CH2OH")
    atoms.rattle(0.05, seed=4)
    return Structure.from_ase(atoms)

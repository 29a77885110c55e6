"""The design matrix: equal to what the module predicts, and to central differences of features."""

import dataclasses

import equinox as eqx
import jax.numpy as jnp
import numpy as np
import pytest

from karat.potentials.linear import design as design_module
from karat.potentials.linear.design import Design, voigt
from karat.potentials.linear.model import ZblTerm
from karat.potentials.native_protocol import NativePotential
from karat.structures.structure import Structure

WANT = ("energy", "forces", "stress")


@pytest.fixture(scope="module")
def case(gaussians, make_crystal):
    """(module with random coefficients and a core, structures of several sizes)."""
    rng = np.random.default_rng(5)
    module = gaussians(zbl=ZblTerm(1.0, 2.9)).basis((29, 79), "float64")
    drawn = jnp.asarray(rng.normal(size=module.coefficients.shape))
    module = eqx.tree_at(lambda m: m.coefficients, module, drawn)
    sizes = (2, 1, 2, 1)
    structures = [make_crystal(rng, (29, 79), size, 3.3 + 0.3 * size) for size in sizes]
    return module, structures


@pytest.mark.parametrize("block_bytes", [2**24, 2**16])
def test_rows_times_coefficients_are_the_predictions(case, block_bytes, monkeypatch):
    module, structures = case
    # the smaller one cuts each structure into several blocks and the list into several groups
    monkeypatch.setattr(design_module, "BLOCK_BYTES", block_bytes)
    monkeypatch.setattr(design_module, "GROUP_BYTES", block_bytes)
    w = np.asarray(module.coefficients)
    labels = NativePotential(module).predict(structures, WANT)
    for rows, structure, label in zip(Design(module).rows(structures), structures, labels):
        count = len(structure)
        energy = count * (rows.energy @ w + rows.core_energy)
        forces = (rows.forces @ w + rows.core_forces).reshape(-1, 3)
        virial = rows.virial @ w + rows.core_virial
        # sums of some thousand terms of size one, in another order
        assert energy == pytest.approx(label.energy, rel=1e-11)
        np.testing.assert_allclose(forces, label.forces, rtol=0, atol=1e-11)
        stress = voigt(label.stress) * structure.volume / count
        np.testing.assert_allclose(virial, stress, rtol=0, atol=1e-11)


def test_rows_are_derivatives_of_features(case):
    module, structures = case
    structure = structures[1]
    rows = next(Design(module).rows([structure]))
    plain = Design(module, derivatives=False)

    def total(moved):
        return next(plain.rows([moved])).atoms.sum(axis=0)

    h = 1e-4  # truncation h² ~ 1e-8 times third derivatives of ~10
    for place in (0, 7):
        shift = np.zeros(3 * len(structure))
        shift[place] = h
        ends = [
            total(dataclasses.replace(structure, positions=structure.positions + s))
            for s in (shift.reshape(-1, 3), -shift.reshape(-1, 3))
        ]
        np.testing.assert_allclose(rows.forces[place], -(ends[0] - ends[1]) / (2 * h), atol=3e-6)
    for row, (a, b) in enumerate(design_module.VOIGT):
        strain = np.zeros((3, 3))
        strain[a, b] = strain[b, a] = h if a == b else h / 2
        ends = []
        for sign in (1, -1):
            deform = np.eye(3) + sign * strain
            ends.append(
                total(
                    Structure(
                        structure.numbers,
                        structure.positions @ deform,
                        structure.cell @ deform,
                        structure.periodic,
                    )
                )
            )
        expected = (ends[0] - ends[1]) / (2 * h) / len(structure)
        np.testing.assert_allclose(rows.virial[row], expected, atol=3e-6)


def test_a_molecule_and_a_lonely_atom_have_rows(case):
    module, _ = case
    dimer = Structure(np.array([29, 79]), np.array([[0.0, 0, 0], [2.4, 0.3, 0]]))
    atom = Structure(np.array([79]), np.zeros((1, 3)))
    first, second = Design(module).rows([dimer, atom])
    np.testing.assert_allclose(first.forces[0], -first.forces[3], atol=1e-13)
    assert np.count_nonzero(second.atoms) == 1  # the constant of its element
    assert not second.forces.any()


def test_few_shapes_are_compiled(case, make_crystal):
    module, _ = case
    rng = np.random.default_rng(0)
    design = Design(module)
    several = [make_crystal(rng, (29, 79), 2, lattice) for lattice in np.linspace(3.4, 3.8, 20)]
    list(design.rows(several))
    assert len(design.widths) <= 2

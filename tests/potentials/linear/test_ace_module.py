"""The atomic cluster expansion: features one by one against sums in plain NumPy, slopes, symmetry,
fast energies against features, two elements, single precision, engine."""

import itertools
from dataclasses import replace

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.spatial.transform import Rotation
from scipy.special import eval_jacobi, sph_harm_y

from karat.core.errors import BadInput
from karat.potentials.batch import make_batch
from karat.potentials.conformance import CHECKS, make_subject, run_check
from karat.potentials.linear import ace_basis, ace_energy
from karat.potentials.linear.ace import Ace
from karat.potentials.linear.coupling import clebsch_gordan
from karat.potentials.linear.model import ZblTerm
from karat.potentials.linear.protocol import AbstractLinearModule
from karat.potentials.native_protocol import NativePotential
from karat.structures.builders import crystal
from karat.structures.neighbours import neighbour_pairs

SILICON, CARBIDE = (14,), (6, 14)
ONE = Ace({"Si": 2.35}, 4.6, (4, 6, 7, 6), 1.0)
TWO = Ace({"Si": 2.35, "C": 1.6, "C-Si": 1.9}, 4.0, (2, 4, 5, 4), 1.0)


def rattled(species, seed=1, amount=0.12):
    """Eight atoms; every third one of the first of two elements."""
    perfect = crystal("Si", "diamond", a=5.43, cubic=True)
    random = np.random.default_rng(seed)
    numbers = np.where(np.arange(8) % 3, species[-1], species[0])
    cell = perfect.cell @ (np.eye(3) + random.normal(0, 0.03, (3, 3)))
    moved = perfect.positions @ np.linalg.inv(perfect.cell) @ cell
    return perfect.replace(
        numbers=numbers, cell=cell, positions=moved + random.normal(0, amount, (8, 3))
    )


@eqx.filter_jit
def features_of(module, batch):
    return module.features(batch)


def module_of(settings, species, dtype="float64", seed=0):
    """With random coefficients of like contributions."""
    module = settings.basis(species, dtype)
    batch = make_batch([rattled(species)], module.cutoff, np.dtype(dtype), False)
    size = np.abs(np.asarray(features_of(module, batch))).max(axis=0)
    random = np.random.default_rng(seed).normal(size=size.shape)
    coefficients = jnp.asarray(random / np.maximum(size, 0.1), dtype)
    return eqx.tree_at(lambda m: m.coefficients, module, coefficients), batch


CASES = [pytest.param(ONE, SILICON, id="one"), pytest.param(TWO, CARBIDE, id="two")]
FEW = [
    pytest.param(Ace({"Si": 2.35}, 4.6, (2, 4, 5), 1.0), SILICON, id="one"),
    pytest.param(replace(TWO, degrees=(2, 4, 3)), CARBIDE, id="two"),
]
"""Compiled in a moment: enough for what does not depend on the kind of products."""


def many_radials(settings, spacing, distances, count):
    """(count, pairs): envelope times orthonormal polynomials, written with scipy."""

    def transformed(r):
        s = r / spacing
        return 1 / (1 + 10 / 13 * s**4 / (1 + s**2))

    low = transformed(settings.cutoff_angstrom)
    y = 2 * (transformed(distances) - low) / (1 - low) - 1
    nodes, weights = np.polynomial.legendre.leggauss(60)
    rows = []
    for k in range(count):

        def function(x, k=k):
            return (1 - x) * (1 + x) ** 4 * eval_jacobi(k, 2, 8, x)

        rows.append(function(y) / np.sqrt(np.sum(weights * function(nodes) ** 2)))
    return np.array(rows) * (distances < settings.cutoff_angstrom)


def one_particle(settings, spacing, vectors, count, highest):
    """Complex A[n, l, highest + m] with the mean square of harmonics 1."""
    distances = np.linalg.norm(vectors, axis=1)
    radial = many_radials(settings, spacing, distances, count)
    theta, phi = np.arccos(vectors[:, 2] / distances), np.arctan2(vectors[:, 1], vectors[:, 0])
    made = np.zeros((count, highest + 1, 2 * highest + 1), complex)
    for degree in range(highest + 1):
        for m in range(-degree, degree + 1):
            angular = np.sqrt(4 * np.pi) * sph_harm_y(degree, m, theta, phi)
            made[:, degree, highest + m] = radial @ angular
    return made


def by_complex_sums(a, highest, factors):
    """|Σ CG … A A A| of an invariant product of two or three, of unit norm."""
    (l1, n1), (l2, n2), *third = factors
    if not third:
        found = sum(
            (-1) ** m * a[n1, l1, highest + m] * a[n2, l1, highest - m] for m in range(-l1, l1 + 1)
        )
        return found / np.sqrt(2 * l1 + 1)
    ((l3, n3),) = third
    table = clebsch_gordan(l1, l2, l3)
    found = 0
    for m1, m2 in itertools.product(range(-l1, l1 + 1), range(-l2, l2 + 1)):
        if abs(m1 + m2) <= l3:
            found += (
                table[l1 + m1, l2 + m2, l3 + m1 + m2]
                * a[n1, l1, highest + m1]
                * a[n2, l2, highest + m2]
                * a[n3, l3, highest + m1 + m2].conj()
            )
    return found / np.sqrt(2 * l3 + 1)


def test_features_are_explicit_sums():
    """Complex harmonics of scipy and sums over m of the textbook, without karat's real coupling."""
    structure = rattled(SILICON)
    module = ONE.basis(SILICON, "float64")
    basis = module.shape.basis
    batch = make_batch([structure], module.cutoff, np.float64, False)
    features = np.asarray(features_of(module, batch))
    pairs = neighbour_pairs(structure, module.cutoff)
    checked = set()
    for atom in (0, 5):
        vectors = pairs.vectors[pairs.centers == atom]
        a = one_particle(ONE, 2.35, vectors, basis.channels, basis.highest)
        for index, factors in enumerate(basis.members):
            if len(factors) == 4:
                continue
            expected = by_complex_sums(a, basis.highest, factors)
            assert abs(expected.imag) < 1e-10 * (1 + abs(expected))
            found = features[atom, 1 + 4 + index]
            assert found == pytest.approx(expected.real, rel=1e-9, abs=1e-9)
            checked.add((len(factors), tuple(degree for degree, _ in factors)))
    assert {(2, (2, 2)), (3, (1, 1, 2)), (3, (0, 1, 1))} <= checked
    assert (features[:8, 0] == 1).all()


def test_products_of_four_are_trees_of_complex_sums():
    """The space of products of four (2 2 2 2) with equal n is spanned by one function."""
    settings = Ace({"Si": 2.35}, 4.6, (1, 0, 0, 12), 1.0)
    module = settings.basis(SILICON, "float64")
    basis = module.shape.basis
    structure = rattled(SILICON)
    batch = make_batch([structure], module.cutoff, np.float64, False)
    features = np.asarray(features_of(module, batch))[:8, 2:]
    index = basis.members.index(((2, 0),) * 4)
    pairs = neighbour_pairs(structure, module.cutoff)
    ratios = []
    for atom in range(8):
        a = one_particle(settings, 2.35, pairs.vectors[pairs.centers == atom], 1, 2)[0, 2]
        norm = np.sum(np.abs(a) ** 2)  # Σ_m A_m A_m*: the only quartic invariant is its square
        ratios.append(features[atom, index] / norm**2)
    np.testing.assert_allclose(ratios, ratios[0], rtol=1e-10)


@pytest.mark.parametrize(("settings", "species"), CASES)
def test_slopes_are_the_jacobian(settings, species):
    module, batch = module_of(settings, species)
    found = eqx.filter_jit(module.slopes)(batch)
    expected = eqx.filter_jit(AbstractLinearModule.slopes)(module, batch)
    scale = jnp.abs(expected).max(axis=(0, 2), keepdims=True)
    np.testing.assert_allclose(found / (scale + 1), expected / (scale + 1), rtol=0, atol=1e-11)
    features = np.asarray(features_of(module, batch))
    assert not features[~np.asarray(batch.atom_mask)].any()
    assert not np.asarray(found)[~np.asarray(batch.pair_mask)].any()
    assert module.roughness().shape == (features.shape[1],)
    assert np.count_nonzero(module.roughness() == 0) == len(species)


@pytest.mark.parametrize(("settings", "species"), CASES)
def test_fast_energies_are_features_times_coefficients(settings, species):
    module, batch = module_of(settings, species)
    found = eqx.filter_jit(module.linear_energies)(batch)
    expected = features_of(module, batch) @ module.coefficients
    # the same polynomials in another order of sums
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-11 * np.abs(expected).max())


@pytest.mark.parametrize(
    ("settings", "species"),
    [FEW[1], *(pytest.param(*c.values, id=f"all-{c.id}", marks=pytest.mark.slow) for c in CASES)],
)
def test_derivatives_of_fast_energies(settings, species):
    """Gradients against slopes, Hessian and mixed derivatives against those of features."""
    module, batch = module_of(settings, species)

    def moved(vectors):
        return eqx.tree_at(lambda b: b.vectors, batch, vectors)

    def fast(vectors, coefficients):
        changed = eqx.tree_at(lambda m: m.coefficients, module, coefficients)
        return jnp.sum(changed.linear_energies(moved(vectors)))

    def slow(vectors, coefficients):
        return jnp.sum(module.features(moved(vectors)) @ coefficients)

    arguments = (batch.vectors, module.coefficients)
    random = np.random.default_rng(4)
    direction = tuple(jnp.asarray(random.normal(size=a.shape)) for a in arguments)
    results = []
    for function in (fast, slow):
        gradient = jax.grad(function, (0, 1))

        @jax.jit
        def second(*primals, gradient=gradient):
            return jax.jvp(gradient, primals, direction)

        results.append(second(*arguments))
    for found, expected in zip(*map(jax.tree.leaves, results)):
        scale = np.abs(expected).max()
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-10 * scale)


@pytest.mark.parametrize(("settings", "species"), CASES)
def test_features_do_not_turn(settings, species):
    """Rotation, reflection, and exchange of neighbours."""
    module, batch = module_of(settings, species)
    before = np.asarray(features_of(module, batch))
    turn = Rotation.random(random_state=2).as_matrix()
    for matrix in (turn, -turn, np.diag([1.0, -1.0, 1.0])):
        turned = eqx.tree_at(lambda b: b.vectors, batch, batch.vectors @ jnp.asarray(matrix))
        after = np.asarray(features_of(module, turned))
        np.testing.assert_allclose(after, before, rtol=0, atol=1e-12 * np.abs(before).max())


def rows_batch(structure, module, width):
    """As in dynamics: pairs in rows, the padding long vectors."""
    from karat.potentials.linear.design import _Several

    several = _Several([structure], [neighbour_pairs(structure, module.cutoff)])
    return several.block(0, len(structure), len(structure), width, np.dtype(np.float64))[0]


@pytest.mark.parametrize(
    ("settings", "species"),
    [FEW[0], pytest.param(*FEW[1].values, id="two", marks=pytest.mark.slow)],
)
def test_rows_in_parts_give_the_same(settings, species, monkeypatch):
    module, batch = module_of(settings, species)
    structure = rattled(species)
    width = int(np.bincount(neighbour_pairs(structure, module.cutoff).centers).max()) + 3
    rows = rows_batch(structure, module, width)
    expected = np.asarray(features_of(module, batch) @ module.coefficients)[:8]
    monkeypatch.setattr(ace_energy, "CACHED_PAIRS", 2 * width)
    found = np.asarray(eqx.filter_jit(lambda m, b: m.linear_energies(b))(module, rows))
    np.testing.assert_allclose(found[:8], expected, rtol=0, atol=1e-11)
    assert not found[8:].any()


def conformance_cases():
    for case in FEW:
        for check in CHECKS:
            slow = (case.id, check) not in (("one", "padding"), ("two", "cutoff_continuity"))
            marks = [pytest.mark.slow] if slow else []
            yield pytest.param(*case.values, check, marks=marks, id=f"{case.id}-{check}")


@pytest.mark.parametrize(("settings", "species", "check"), list(conformance_cases()))
def test_conformance(settings, species, check):
    module, _ = module_of(replace(settings, zbl=ZblTerm(1.0, 1.6)), species)
    small = eqx.tree_at(lambda m: m.coefficients, module, 0.02 * module.coefficients)
    outcome = run_check(check, make_subject(NativePotential(small)))
    assert outcome.status == "passed", outcome


def test_single_precision():
    """Energies to 1e-5 of their parts, forces to 1e-4 of the largest."""
    double, batch = module_of(*FEW[0].values)
    potentials = [NativePotential(double, dtype=name) for name in ("float64", "float32")]
    labels = [p.predict([rattled(SILICON)])[0] for p in potentials]
    parts = np.abs(np.asarray(features_of(double, batch)) * np.asarray(double.coefficients)).sum()
    assert labels[1].energy == pytest.approx(labels[0].energy, abs=1e-5 * parts)
    scale = np.abs(labels[0].forces).max()
    np.testing.assert_allclose(labels[1].forces, labels[0].forces, rtol=0, atol=1e-4 * scale)


def test_refusals(monkeypatch):
    monkeypatch.setattr(ace_basis, "MOST_FEATURES", 100)
    with pytest.raises(BadInput, match="cutoff_angstrom"):
        Ace({"Si": 2.35}, -1.0)
    with pytest.raises(BadInput, match="degrees"):
        Ace({"Si": 2.35}, 5.0, (0, 3))
    with pytest.raises(BadInput, match="degrees"):
        Ace({"Si": 2.35}, 5.0, (1, 2, 3, 4, 5))
    with pytest.raises(BadInput, match="l_weight"):
        Ace({"Si": 2.35}, 5.0, l_weight=0.0)
    with pytest.raises(BadInput, match="must lie between 0 and the cut-off"):
        Ace({"Si": 6.0}, 5.0)
    with pytest.raises(BadInput, match="has no Ge"):
        Ace({"Si": 2.35}, 5.0).basis((14, 32), "float64")
    with pytest.raises(BadInput, match="lower them"):
        Ace({"Si": 2.35}, 5.0, (4, 20, 20), 2.0).basis((14,), "float64")
    with pytest.raises(BadInput, match="beyond l = 12"):
        Ace({"Si": 2.35}, 5.0, (4, 40), 1.0).basis((14,), "float64")

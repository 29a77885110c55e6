"""Symmetry functions against dscribe, plain loops, and their own two ways of summation."""

import warnings

import ase.build
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from karat.core.errors import BadInput
from karat.potentials.batch import make_batch
from karat.potentials.blocks.radial import cutoff_function
from karat.potentials.native import acsf as module
from karat.potentials.native.acsf import Acsf, Angular, Radial
from karat.structures.structure import Structure

CUTOFF = 4.0
RADIAL = tuple(Radial(eta, shift) for eta, shift in ((0.05, 0.0), (1.0, 1.0), (4.0, 2.3)))


def rattled(atoms: ase.Atoms, seed: int = 0) -> ase.Atoms:
    atoms = atoms.copy()
    atoms.positions += np.random.default_rng(seed).normal(scale=0.08, size=(len(atoms), 3))
    return atoms


def cases() -> dict[str, ase.Atoms]:
    left_handed = ase.build.bulk("GaAs", "zincblende", a=5.6, cubic=True)
    left_handed.set_cell(left_handed.cell[[1, 0, 2]])
    return {
        "acetamide": ase.build.molecule("CH3CONH2"),  # four elements
        "small cell": ase.build.bulk("NaCl", "rocksalt", a=5.6),  # several images
        "left-handed": left_handed,
    }


def descriptors(atoms: ase.Atoms, acsf: Acsf) -> np.ndarray:
    batch = make_batch([Structure.from_ase(atoms)], acsf.cutoff, np.float64, acsf.needs_triplets)
    return np.asarray(jax.jit(acsf)(batch))[: len(atoms)]


def species(atoms: ase.Atoms) -> tuple[int, ...]:
    return tuple(sorted({int(z) for z in atoms.numbers}))


@pytest.mark.parametrize("name", cases())
def test_values_equal_dscribe(name):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # its docstrings have unescaped backslashes
        from dscribe.descriptors import ACSF
    atoms = rattled(cases()[name])
    angular = tuple(
        Angular(kind, eta, zeta, lam)
        for kind in ("g4", "g5")
        for eta in (0.01, 0.3)
        for zeta in (1, 2, 5, 9)  # 9 goes through triplets also for G5
        for lam in (-1, 1)
    )
    acsf = Acsf(CUTOFF, "cosine", RADIAL, angular, species(atoms))
    mine = descriptors(atoms, acsf)
    theirs = ACSF(
        r_cut=CUTOFF,
        g2_params=[[f.eta, f.shift_angstrom] for f in RADIAL],
        g4_params=[[f.eta, f.zeta, f.lam] for f in angular if f.kind == "g4"],
        g5_params=[[f.eta, f.zeta, f.lam] for f in angular if f.kind == "g5"],
        species=list(acsf.species),
        periodic=bool(atoms.pbc.any()),
    ).create(atoms)
    n, elements = len(RADIAL), len(acsf.species)
    # theirs: per element G1 (which karat has not) and G2; then element pairs as (0,0) (1,0) (1,1)…
    radial = theirs[:, [s * (n + 1) + 1 + k for s in range(elements) for k in range(n)]]
    order = [acsf.element_pairs.index((t, s)) for s in range(elements) for t in range(s + 1)]
    pairs = mine[:, elements * n :].reshape(len(atoms), len(order), -1)[:, order]
    np.testing.assert_allclose(mine[:, : elements * n], radial, rtol=0, atol=1e-8)
    np.testing.assert_allclose(
        pairs.reshape(len(atoms), -1), theirs[:, elements * (n + 1) :], rtol=0, atol=1e-8
    )
    assert np.abs(pairs).max() > 0.1


def loop(atoms: ase.Atoms, f: Angular, kind: str, centre: int, pair: tuple[int, int]) -> float:
    """The definition, written out for a molecule."""
    x, z, total = atoms.positions, atoms.numbers, 0.0

    def g(r: float) -> float:
        u = min(r / CUTOFF, 1.0)
        decay = (
            0.5 * (1 + np.cos(np.pi * u))
            if kind == "cosine"
            else 1 - u**3 * (10 - 15 * u + 6 * u * u)
        )
        return np.exp(-f.eta * (r - f.shift_angstrom) ** 2) * decay

    for j in range(len(atoms)):
        for k in range(j + 1, len(atoms)):
            if centre in (j, k) or sorted((z[j], z[k])) != sorted(pair):
                continue
            a, b = x[j] - x[centre], x[k] - x[centre]
            ra, rb = np.linalg.norm(a), np.linalg.norm(b)
            term = (1 + f.lam * a @ b / ra / rb) ** f.zeta * g(ra) * g(rb)
            total += term * (g(np.linalg.norm(a - b)) if f.kind == "g4" else 1.0)
    return 2.0 ** (1 - f.zeta) * total


@pytest.mark.parametrize("kind", ["cosine", "polynomial"])
def test_shifted_angular_functions_equal_their_definition(kind):
    atoms = rattled(ase.build.molecule("CH3OH"))
    angular = (  # not a full product of parameters, kinds mixed: tests the bookkeeping
        Angular("g4", 0.7, 2, 1, 1.3),
        Angular("g5", 0.7, 3, -1, 1.3),
        Angular("g5", 0.2, 8, 1, 0.5),
        Angular("g4", 0.0, 1, -1),
        Angular("g5", 1.1, 1, 1),
    )
    acsf = Acsf(CUTOFF, kind, (), angular, species(atoms))
    got = descriptors(atoms, acsf).reshape(len(atoms), len(acsf.element_pairs), len(angular))
    for p, (s, t) in enumerate(acsf.element_pairs):
        pair = (acsf.species[s], acsf.species[t])
        for i, f in enumerate(angular):
            expected = [loop(atoms, f, kind, c, pair) for c in range(len(atoms))]
            np.testing.assert_allclose(got[:, p, i], expected, rtol=0, atol=1e-12)


def test_moments_equal_triplets_in_value_and_gradient(monkeypatch):
    atoms = rattled(cases()["small cell"], 3)
    angular = tuple(Angular("g5", 0.1, z, lam, 0.8) for z in (1, 3, 6) for lam in (-1, 1))
    acsf = Acsf(CUTOFF, "cosine", (), angular, species(atoms))
    batch = make_batch([Structure.from_ase(atoms)], CUTOFF, np.float64, with_triplets=True)
    weights = jnp.asarray(np.random.default_rng(0).normal(size=acsf.size))

    def total(vectors):
        return jnp.sum(acsf(eqx.tree_at(lambda b: b.vectors, batch, vectors)) @ weights)

    assert not acsf.needs_triplets
    value, gradient = jax.jit(jax.value_and_grad(total))(batch.vectors)
    monkeypatch.setattr(module, "MAX_MOMENT_ZETA", 0)
    assert acsf.needs_triplets
    jax.clear_caches()  # the constant is not part of jit's key
    again, gradient_again = jax.jit(jax.value_and_grad(total))(batch.vectors)
    np.testing.assert_allclose(value, again, rtol=1e-12)
    np.testing.assert_allclose(gradient, gradient_again, rtol=0, atol=1e-11)


@pytest.mark.parametrize("kind", ["g4", "g5"])
def test_derivatives_are_finite_where_angles_are_degenerate(kind):
    # a straight line (θ = 0 and π) and a batch without padding pairs
    positions = np.arange(4)[:, None] * np.array([[1.2, 0.0, 0.0]])
    line = Structure(numbers=np.array([6, 6, 6, 8]), positions=positions)
    angular = tuple(Angular(kind, 0.1, zeta, lam) for zeta in (1, 2, 9) for lam in (-1, 1))
    acsf = Acsf(CUTOFF, "cosine", RADIAL, angular, (6, 8))
    batch = make_batch([line], CUTOFF, np.float64, True, sizes=(5, 12, 13, 2))
    assert not batch.triplet_mask.all()

    def total(vectors):
        return jnp.sum(acsf(eqx.tree_at(lambda b: b.vectors, batch, vectors)) ** 2)

    first, second = jax.jit(
        lambda v: (jax.grad(total)(v), jax.grad(lambda w: jnp.sum(jax.grad(total)(w) ** 2))(v))
    )(batch.vectors)
    assert np.isfinite(first).all()
    assert np.isfinite(second).all()


def test_padding_is_exactly_zero_and_changes_nothing():
    atoms = rattled(ase.build.molecule("CH3OH"))
    angular = (Angular("g4", 0.1, 2, 1), Angular("g5", 0.1, 2, 1))
    acsf = Acsf(CUTOFF, "cosine", RADIAL, angular, species(atoms))
    structure = Structure.from_ase(atoms)
    small = make_batch([structure], CUTOFF, np.float64, True, sizes=(7, 31, 61, 2))
    large = make_batch([structure], CUTOFF, np.float64, True, sizes=(40, 300, 700, 9))
    a, b = (np.asarray(jax.jit(acsf)(batch)) for batch in (small, large))
    assert (b[6:] == 0).all()
    # 1e-14: XLA may group sums otherwise in other shapes
    np.testing.assert_allclose(a[:6], b[:6], rtol=0, atol=1e-14)


def test_single_precision_follows_double():
    atoms = rattled(cases()["acetamide"])
    angular = tuple(Angular("g5", 0.05, zeta, lam) for zeta in (1, 4, 6) for lam in (-1, 1))
    acsf = Acsf(CUTOFF, "cosine", RADIAL, angular, species(atoms))
    single = make_batch([Structure.from_ase(atoms)], CUTOFF, np.float32, False)
    values = np.asarray(jax.jit(acsf)(single))
    assert values.dtype == np.float32
    expected = descriptors(atoms, acsf)
    # values up to ~10; binomial sums lose a digit to cancellation
    np.testing.assert_allclose(values[: len(atoms)], expected, rtol=0, atol=3e-5)


@pytest.mark.parametrize(("kind", "order"), [("cosine", 1), ("polynomial", 2)])
def test_continuity_at_the_cutoff_is_as_declared(kind, order):
    def derivative(n):
        f = lambda r: cutoff_function(r, CUTOFF, kind)  # noqa: E731
        for _ in range(n):
            f = jax.grad(f)
        return f

    inside, outside = jnp.asarray(CUTOFF - 1e-9), jnp.asarray(CUTOFF + 1e-9)
    for n in range(order + 2):
        jump = abs(derivative(n)(inside) - derivative(n)(outside))
        assert (jump < 1e-7) == (n <= order), (n, jump)
    assert module.CONTINUITY[kind] == order
    assert cutoff_function(jnp.asarray(0.0), CUTOFF, kind) == 1.0


@pytest.mark.parametrize(
    ("cutoff", "radial", "angular"),
    [
        (-1.0, RADIAL, ()),
        (float("nan"), RADIAL, ()),
        (1e3, RADIAL, ()),  # padding is not farther
        (4.0, (), ()),
        (4.0, (Radial(-0.1),), ()),
        (4.0, (Radial(float("inf")),), ()),
        (4.0, RADIAL * 400, ()),
        (4.0, RADIAL, (Angular("g5", 0.1, 0, 1),)),
        (4.0, RADIAL, (Angular("g4", 0.1, 65, 1),)),
    ],
)
def test_senseless_parameters_are_refused(cutoff, radial, angular):
    with pytest.raises(BadInput):
        Acsf(cutoff, "cosine", radial, angular, (1,))

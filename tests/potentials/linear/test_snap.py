"""SNAP: conformance, features against energies, slopes against the Jacobian, rows against lists."""

import dataclasses

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from karat.core.components import dump, parse
from karat.core.errors import BadInput, UnknownElement
from karat.potentials.batch import in_rows, make_batch
from karat.potentials.conformance import CHECKS, make_subject, run_check
from karat.potentials.linear.model import ZblTerm
from karat.potentials.linear.protocol import AbstractLinearModule
from karat.potentials.linear.snap import Snap
from karat.potentials.linear.snap_basis import triples
from karat.potentials.linear.snap_settings import SnapSettings
from karat.potentials.native_protocol import NativePotential, derive
from karat.structures.neighbours import neighbour_pairs

NICKEL, MOLYBDENUM = 28, 42
WEIGHTS = {"Ni": 1.0, "Mo": 0.8}
RADII = {"Ni": 0.5, "Mo": 0.51}
RCUTFAC = 4.1
"""No pair of the crystals lies within 0.01 Å of its cut-off, where the slope of forces jumps and
differences of energies err."""


def filled(model, species, dtype="float64", seed=0):
    """Random coefficients, small where features are many."""
    module = model.basis(species, dtype)
    size = module.coefficients.shape[0]
    values = np.random.default_rng(seed).normal(size=size) / np.sqrt(size)
    return eqx.tree_at(lambda m: m.coefficients, module, jnp.asarray(values, dtype))


def alloy(quadratic=False, dtype="float64", twojmax=3, **options):
    model = Snap(
        twojmax=twojmax,
        rcutfac=RCUTFAC,
        weights=WEIGHTS,
        radii=RADII,
        quadraticflag=quadratic,
        **options,
    )
    return filled(model, (NICKEL, MOLYBDENUM), dtype)


@pytest.fixture(scope="module")
def crystals(make_crystal):
    random = np.random.default_rng(2)
    numbers = (NICKEL, MOLYBDENUM)
    return [make_crystal(random, numbers, repeats, 3.6) for repeats in (1, 2)]


FAST = ("forces_are_gradient", "rotation", "longer_neighbour_list", "cutoff_continuity")
FEATURES = eqx.filter_jit(lambda module, batch: module.features(batch))
ENERGIES = eqx.filter_jit(lambda module, batch: module.linear_energies(batch))
SLOPES = eqx.filter_jit(lambda module, batch: module.slopes(batch))
DERIVE = eqx.filter_jit(derive)


@pytest.fixture(scope="module")
def subjects():
    models = {
        "snap": NativePotential(alloy(twojmax=2)),
        "qsnap": NativePotential(filled(Snap(2, 4.0, quadraticflag=True), (29,))),
        "single": NativePotential(alloy(dtype="float32"), dtype="float32"),
        "core": NativePotential(alloy(zbl=ZblTerm(1.0, 2.0))),
    }
    return {name: make_subject(potential) for name, potential in models.items()}


def cases():
    for name in ("snap", "qsnap", "single", "core"):
        for check in CHECKS:
            fast = name == "snap" and check in FAST
            yield pytest.param(name, check, marks=[] if fast else [pytest.mark.slow])


@pytest.mark.parametrize(("name", "check"), list(cases()))
def test_conforms(subjects, name, check):
    outcome = run_check(check, subjects[name])
    assert outcome.status == "passed", outcome


def both_layouts(structures, module, dtype=np.float64):
    """The batch of some structures, the same with its pairs in rows, and where they are there."""
    plain = make_batch(structures, module.cutoff, dtype, with_triplets=False)
    rows = in_rows(plain)
    return plain, rows, np.flatnonzero(rows.pair_mask)


@pytest.mark.parametrize("quadratic", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_energies_are_features_times_coefficients(crystals, quadratic):
    """In both layouts; the forces of both are equal."""
    module = alloy(quadratic, twojmax=2)
    plain, rows, _ = both_layouts(crystals, module)
    energies = [np.asarray(ENERGIES(module, batch)) for batch in (plain, rows)]
    features = [np.asarray(FEATURES(module, batch)) for batch in (plain, rows)]
    np.testing.assert_allclose(features[0], features[1], atol=1e-12)
    for energy, feature in zip(energies, features):
        # the same sums in another order
        expected = feature @ np.asarray(module.coefficients)
        np.testing.assert_allclose(energy, expected, atol=1e-10)
    assert not features[0][~np.asarray(plain.atom_mask)].any()
    forces = [np.asarray(DERIVE(module, batch).forces) for batch in (plain, rows)]
    np.testing.assert_allclose(forces[0], forces[1], atol=1e-11)


@pytest.mark.parametrize("quadratic", [pytest.param(False, marks=pytest.mark.slow), True])
def test_slopes_are_the_jacobian(crystals, quadratic):
    """Of the general form, one backward pass a feature, through the features."""
    module = alloy(quadratic, twojmax=2)
    plain, rows, slots = both_layouts(crystals[:1], module)
    general = eqx.filter_jit(AbstractLinearModule.slopes)
    expected = np.asarray(general(module, plain))
    found = np.asarray(SLOPES(module, plain))
    np.testing.assert_allclose(found, expected, atol=1e-10)
    laid = np.array(SLOPES(module, rows))
    np.testing.assert_allclose(laid[slots], expected[: len(slots)], atol=1e-10)
    laid[slots] = 0
    assert not laid.any()
    assert np.abs(expected).max() > 0.1


@pytest.mark.slow
def test_derivatives_by_coefficients_and_of_second_order(crystals):
    """Through the derivative that is written down."""
    module = alloy(True, twojmax=2)
    plain, rows, _ = both_layouts(crystals[:1], module)
    for batch in (plain, rows):
        check_derivatives(module, batch)


def check_derivatives(module, batch):
    def total(values, vectors):
        moved = eqx.tree_at(lambda b: b.vectors, batch, vectors)
        changed = eqx.tree_at(lambda m: m.coefficients, module, values)
        return jnp.sum(changed.linear_energies(moved))

    by_values = jax.jit(jax.grad(total))(module.coefficients, batch.vectors)
    sums = np.asarray(FEATURES(module, batch)).sum(axis=0)
    np.testing.assert_allclose(by_values, sums, atol=1e-10)
    change = jnp.asarray(np.random.default_rng(3).normal(size=batch.vectors.shape))
    change = jnp.where(batch.pair_mask[:, None], change, 0)

    def slope(vectors):
        return jax.grad(total, argnums=1)(module.coefficients, vectors)

    step = 1e-5
    ahead, behind = (jax.jit(slope)(batch.vectors + sign * step * change) for sign in (1, -1))
    product = jax.jit(lambda v, d: jax.jvp(slope, (v,), (d,))[1])(batch.vectors, change)
    numeric = (ahead - behind) / (2 * step)
    # h = 1e-5 Å: truncation ~1e-8, rounding ~1e-10; the slope bends at the cut-off
    np.testing.assert_allclose(product, numeric, atol=1e-5 * float(np.abs(numeric).max()))


@pytest.mark.slow
def test_large_systems_are_worked_on_in_tiles(make_crystal):
    """More atoms than a tile and more pairs than a chunk, not multiples of them."""
    module = filled(Snap(2, 4.5), (29,))
    crystal = make_crystal(np.random.default_rng(4), (29,), 3, 3.6)
    assert len(neighbour_pairs(crystal, module.cutoff)) > 2048
    plain, rows, _ = both_layouts([crystal], module)
    one, other = (DERIVE(module, batch) for batch in (plain, rows))
    np.testing.assert_allclose(one.energies, other.energies, atol=1e-9)
    np.testing.assert_allclose(one.forces, other.forces, atol=1e-11)
    np.testing.assert_allclose(one.stress, other.stress, atol=1e-12)


@pytest.mark.parametrize(
    ("bzeroflag", "bnormflag", "expected"),
    [(True, False, 0.0), (False, True, 1.0), (False, False, [j + 1 for _, _, j in triples(3)])],
)
def test_an_atom_alone(make_crystal, bzeroflag, bnormflag, expected):
    """Its bispectrum is 2j + 1, or one with bnormflag, or subtracted with bzeroflag."""
    lone = make_crystal(np.random.default_rng(0), (29,), 1, 3.6)
    lone = lone.replace(numbers=lone.numbers[:1], positions=lone.positions[:1], cell=np.eye(3) * 20)
    module = Snap(3, 4.0, bzeroflag=bzeroflag, bnormflag=bnormflag).basis((29,), "float64")
    batch = make_batch([lone], module.cutoff, np.float64, with_triplets=False)
    found = np.asarray(FEATURES(module, batch))[0, 1:]
    np.testing.assert_allclose(found, expected, atol=1e-12)


def test_parts_of_the_basis():
    module = alloy(True)
    size = 8
    assert module.coefficients.shape == (2 * (1 + size + size * (size + 1) // 2),)
    rough = module.roughness()
    assert rough.shape == module.coefficients.shape
    assert (rough[0], rough[len(rough) // 2]) == (0, 0)
    assert (np.delete(rough, [0, len(rough) // 2]) > 0).all()
    assert module.cutoff == pytest.approx(2 * 0.51 * RCUTFAC)
    assert alloy(zbl=ZblTerm(1.0, 6.0)).cutoff == 6.0


def test_hyper_parameters_survive_a_file():
    model = Snap(6, 4.7, RADII, WEIGHTS, zbl=ZblTerm(1.0, 2.0), quadraticflag=True)
    assert parse(Snap, dump(model), "test") == model
    shapes = {
        "posterior.root": (0, 0),
        "posterior.noise": (0,),
        "posterior.calibration": (0, 0),
        "posterior.active": (0, 0),
    }
    frame = model.frame((NICKEL, MOLYBDENUM), "float32", shapes)
    assert frame.coefficients.shape == (2 * (1 + 30 + 465),)
    assert frame.coefficients.dtype == np.float32


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"twojmax": -1}, r"twojmax: -1 must lie in 0 … 14"),
        ({"rcutfac": 0.0}, r"rcutfac: 0.0 must be above 0"),
        ({"rcutfac": float("nan")}, r"rcutfac: nan must be above 0"),
        ({"rfac0": 1.5}, r"rfac0: 1.5 must be above 0 and at most 1"),
        ({"rmin0": -0.1}, r"rmin0: -0.1 Å must lie between"),
        ({"rmin0": 5.0}, r"rmin0: 5.0 Å must lie between 0 and the shortest cut-off, 4.9 Å"),
        ({"radii": {"Ni": -1.0}}, r"radii: -1.0 must be above 0"),
    ],
)
def test_bad_settings(options, message):
    with pytest.raises(BadInput, match=message):
        Snap(**options)


def test_bad_elements():
    with pytest.raises(UnknownElement, match=r"snap.weights: 'Xx' is not an element"):
        Snap(weights={"Xx": 1.0})
    with pytest.raises(BadInput, match=r"snap.weights: the data have no Cu; they have Ni"):
        Snap(weights={"Cu": 1.0}).basis((NICKEL,), "float64")
    with pytest.raises(BadInput, match=r"weights: \[inf\] must be finite"):
        Snap(weights={"Ni": float("inf")}).basis((NICKEL,), "float64")
    settings = Snap().settings((NICKEL,))
    with pytest.raises(BadInput, match=r"1 radii and 2 weights"):
        dataclasses.replace(settings, weights=(1.0, 1.0))
    assert isinstance(settings, SnapSettings)

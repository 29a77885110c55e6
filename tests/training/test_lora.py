"""Low-rank updates: zero at the start, of low rank, the same merged, and no symmetry is lost."""

import ase.build
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from karat.potentials.batch import make_batch
from karat.potentials.model import named_arrays, with_arrays
from karat.potentials.native.mace import Mace
from karat.structures.structure import Structure
from karat.training.fine_tuning_start import merged
from karat.training.lora import LowRank, adapted, fits

TINY = Mace(
    cutoff_angstrom=3.0,
    channels=4,
    hidden_degree=1,
    harmonics_degree=1,
    bessel=4,
    radial_hidden=(8, 8),
    correlation=2,
    average_neighbours=5.0,
)
ETHANOL = Structure.from_ase(ase.build.molecule("CH3CH2OH"))


@pytest.fixture(scope="module")
def base():
    generator = np.random.default_rng(2)
    skeleton = TINY.skeleton((1, 6, 8), "float64")
    arrays = {n: generator.normal(size=a.shape) for n, a in named_arrays(skeleton).items()}
    arrays |= {"frequencies": np.arange(1.0, 5.0), "scale": np.array(1.0), "shift": np.zeros(3)}
    return with_arrays(skeleton, {name: jnp.asarray(array) for name, array in arrays.items()})


def matrices(module):
    groups = TINY.parameter_groups(module).values()
    shapes = {name: array.shape for name, array in named_arrays(module).items()}
    return [n for group in groups for n in group.matrices if fits(shapes[n], 1)]


def moved(lora):
    """As after some steps: no factor is zero any more."""
    generator = np.random.default_rng(7)
    updates = tuple(
        LowRank(u.a, jnp.asarray(0.1 * generator.normal(size=u.b.shape)), u.name)
        for u in lora.updates
    )
    return eqx.tree_at(lambda m: m.updates, lora, updates)


def test_the_start_is_the_base_to_the_bit(base):
    lora = adapted(base, matrices(base), 1, 4.0, jax.random.key(3))
    assert len(lora.updates) > 10
    expected = named_arrays(base)
    for name, array in named_arrays(merged(lora)).items():
        assert np.asarray(array).tobytes() == np.asarray(expected[name]).tobytes()


def test_what_is_added_is_alpha_over_rank_times_a_b_for_each_matrix(base):
    lora = moved(adapted(base, matrices(base), 2, 6.0, jax.random.key(3)))
    before, after = named_arrays(base), named_arrays(merged(lora))
    changed = {u.name: u for u in lora.updates}
    stacked = 0
    for name, array in after.items():
        difference = np.asarray(array) - np.asarray(before[name])
        if name not in changed:
            assert not difference.any()
            continue
        a, b = np.asarray(changed[name].a), np.asarray(changed[name].b)
        stacked += a.ndim == 3
        expected = 3.0 * np.einsum("...ir,...rj->...ij", a, b)
        np.testing.assert_allclose(difference, expected, rtol=0, atol=1e-14)
        assert np.linalg.matrix_rank(difference, tol=1e-10).max() == min(2, *difference.shape[-2:])
    assert stacked >= 2  # one matrix for each element


def test_merged_is_unmerged_to_rounding_and_invariant(base):
    lora = moved(adapted(base, matrices(base), 1, 4.0, jax.random.key(3)))
    turn, _ = np.linalg.qr(np.random.default_rng(5).normal(size=(3, 3)))
    turned = Structure(ETHANOL.numbers, ETHANOL.positions @ turn.T)
    first, second = (make_batch([s], 3.0, np.dtype("float64"), False) for s in (ETHANOL, turned))
    evaluate = eqx.filter_jit(lambda module, batch: module.evaluate(batch).atom_energies)
    ours = evaluate(lora, first)
    assert np.ptp(np.asarray(ours)) > 0.1
    # sums of some hundred numbers near 1 in float64
    np.testing.assert_allclose(evaluate(merged(lora), first), ours, rtol=0, atol=1e-11)
    np.testing.assert_allclose(evaluate(lora, second), ours, rtol=0, atol=1e-11)


def test_factors_are_drawn_with_the_spread_of_the_array(base):
    weight, zero = jnp.asarray(np.full((60, 50), 0.3)), jnp.asarray(np.zeros((40, 30)))
    module = eqx.tree_at(lambda m: (m.embedding, m.readouts[0]), base, (weight, zero))
    lora = adapted(module, ("embedding", "readouts.0"), 8, 8.0, jax.random.key(1))
    # 480 and 320 normal numbers: their spread is right to 3.2 and 4 % (one σ); five of them
    assert np.std(np.asarray(lora.updates[0].a)) == pytest.approx(0.3, rel=0.16)
    assert np.std(np.asarray(lora.updates[1].a)) == pytest.approx(1.0, rel=0.2)
    assert merged(module) is module


@pytest.mark.parametrize(
    ("shape", "rank", "expected"),
    [((64, 64), 4, True), ((3, 64, 64), 31, True), ((64, 64), 32, False), ((64, 1), 1, False)],
)
def test_factors_must_hold_fewer_numbers_than_the_matrix(shape, rank, expected):
    assert fits(shape, rank) is expected

"""Forces, stress, batching and reference energies of a module with exact answers."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jaxtyping import Array, Float

from karat.core.errors import BadInput, CalculationFailed
from karat.potentials import native_protocol
from karat.potentials.batch import Batch
from karat.potentials.native_protocol import AbstractNativePotential, NativePotential, Outputs
from karat.potentials.precision import require
from karat.structures.labels import LevelOfTheory
from karat.structures.structure import Structure


class Spring(AbstractNativePotential):
    """½ k (r - 2)² between atoms closer than 3 Å (energies jump there; no test comes near)."""

    stiffness: Float[Array, ""]
    cutoff: float = eqx.field(static=True, default=3.0)
    species: tuple[int, ...] = eqx.field(static=True, default=(18,))
    continuity: int = eqx.field(static=True, default=-1)
    needs_triplets: bool = eqx.field(static=True, default=False)

    def evaluate(self, batch: Batch) -> Outputs:
        r = jnp.sqrt(jnp.sum(batch.vectors**2, axis=-1))
        energy = jnp.where(batch.pair_mask & (r < self.cutoff), (r - 2) ** 2, 0)
        own = jax.ops.segment_sum(energy, batch.centers, num_segments=batch.atoms)
        return Outputs(atom_energies=0.25 * self.stiffness * own)


def spring(**options):
    return NativePotential(Spring(jnp.asarray(3.0)), **options)


def dimer(distance, shift=0.0):
    positions = np.array([[shift, 0, 0], [shift + distance, 0, 0]])
    return Structure(numbers=np.array([18, 18]), positions=positions)


def cubic(a):
    """Simple cubic, one atom a cell: six neighbours at a, none else within 3 Å."""
    return Structure(
        numbers=np.array([18]),
        positions=np.zeros((1, 3)),
        cell=a * np.eye(3),
        periodic=np.ones(3, bool),
    )


def test_dimer_is_exact():
    labels = spring().predict([dimer(2.5)])[0]
    assert labels.energy == 0.5 * 3 * 0.25
    np.testing.assert_allclose(labels.forces, [[1.5, 0, 0], [-1.5, 0, 0]], rtol=1e-15)
    assert labels.stress is None


def test_stress_of_a_cubic_crystal_is_exact():
    """Three bonds a cell: E = 3 · ½ k (a-2)², σ = k (a-2) a / a³, tension positive."""
    labels = spring().predict([cubic(2.2)], ("energy", "forces", "stress"))[0]
    assert labels.energy == pytest.approx(3 * 0.5 * 3 * 0.2**2, rel=1e-14)
    np.testing.assert_array_equal(labels.forces, 0)
    expected = 3 * 0.2 * 2.2 / 2.2**3
    np.testing.assert_allclose(labels.stress, expected * np.eye(3), atol=1e-15)


def test_reference_energies_keep_all_digits():
    """Added on the host in float64: also beside a float32 module."""
    big = -14394.123456789
    plain = spring(dtype="float32").predict([dimer(2.5)])[0].energy
    total = spring(dtype="float32", reference_energies={18: big}).predict([dimer(2.5)])[0].energy
    assert total == 2 * big + plain


def test_order_is_kept_over_chunks(monkeypatch):
    distances = np.linspace(1.5, 2.9, 23)
    structures = [dimer(d, shift=i) for i, d in enumerate(distances)]
    whole = spring().predict(structures)
    monkeypatch.setattr(native_protocol, "MAX_PAIRS_PER_BATCH", 10)
    chunks = spring().chunks(structures)
    assert len(chunks) > 3
    assert [s for chunk in chunks for s in chunk] == structures
    split = spring().predict(structures)
    for distance, one, other in zip(distances, whole, split):
        assert one.energy == other.energy == pytest.approx(1.5 * (distance - 2) ** 2, abs=1e-14)
        np.testing.assert_array_equal(one.forces, other.forces)


def test_nothing_to_do():
    assert spring().predict([]) == []


def test_shapes_are_compiled_once():
    native_protocol.derive_compiled._cached.clear_cache()
    potential = spring()
    for distance in (2.1, 2.2, 2.3):
        potential.predict([dimer(distance)])
    assert native_protocol.derive_compiled._cached._cache_size() == 1


def test_not_finite_is_a_failure():
    with pytest.raises(CalculationFailed, match="Spring returned NaN") as caught:
        NativePotential(Spring(jnp.asarray(np.inf))).predict([dimer(2.0)])
    assert caught.value.kind == "not-finite"


def test_precision_is_explicit():
    assert spring().module.stiffness.dtype == np.float64
    single = spring(dtype="float32")
    assert single.module.stiffness.dtype == np.float32
    assert single.traits.force_tolerance == 1e-2
    assert single.traits.tolerance_reason
    with pytest.raises(BadInput, match="float16"):
        spring(dtype="float16")


def test_float64_without_64_bit_jax_is_refused():
    jax.config.update("jax_enable_x64", False)
    try:
        with pytest.raises(BadInput, match="32 bits"):
            require("float64")
        assert require("float32") == np.float32
    finally:
        jax.config.update("jax_enable_x64", True)


def test_traits_and_level():
    level = LevelOfTheory(method="PBE")
    traits = spring(level=level).traits
    assert traits.level == level
    assert (traits.species, traits.cutoff, traits.continuity) == ((18,), 3.0, -1)
    assert traits.native

"""Native (JAX) potentials: energy as a sum over atoms; all else is derived here, once, for all.

Checked: tests/potentials/test_native_protocol.py and the conformance suite.
"""

import abc
from collections.abc import Mapping, Sequence

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from karat.potentials.batch import Batch, make_batch
from karat.potentials.protocol import (
    AbstractPotential,
    Traits,
    check_suitable,
    require_finite,
)
from karat.structures.labels import Labels, LevelOfTheory, Quantity
from karat.structures.neighbours import neighbour_pairs
from karat.structures.structure import Structure

MAX_PAIRS_PER_BATCH = 20_000


class Outputs(eqx.Module):
    """What a native potential returns.

    Attributes:
        atom_energies: eV, exactly zero on padding; without reference energies.
        charges: e, where it has them.
        forces: eV/Å, exactly zero on padding, of a potential that is not `conservative`; else
            `None`, and forces are derived.
    """

    atom_energies: Float[Array, "atoms"]
    charges: Float[Array, "atoms"] | None = None
    forces: Float[Array, "atoms 3"] | None = None


class Derived(eqx.Module):
    """Energies and their derivatives for a batch (padding included).

    Attributes:
        energies: eV, without reference energies.
        forces: eV/Å.
        stress: (1/V) ∂E/∂ε, eV/Å³; meaningful for systems periodic in three directions; NaN
            where forces are not the gradient: it is refused before (`Traits.quantities`).
    """

    energies: Float[Array, "systems"]
    forces: Float[Array, "atoms 3"]
    stress: Float[Array, "systems 3 3"]
    outputs: Outputs


class AbstractNativePotential(eqx.Module):
    """The pure function: batch → outputs. An equinox module: its array leaves are parameters.

    Attributes:
        cutoff: Å.
        species: atomic numbers, ascending.
        continuity: see `Traits.continuity`.
        needs_triplets: whether batches must carry triplets.
    """

    cutoff: eqx.AbstractVar[float]
    species: eqx.AbstractVar[tuple[int, ...]]
    continuity: eqx.AbstractVar[int]
    needs_triplets: eqx.AbstractVar[bool]

    @abc.abstractmethod
    def evaluate(self, batch: Batch) -> Outputs:
        """Atom energies in eV (exactly zero on padding), and what else the potential has."""

    @property
    def conservative(self) -> bool:
        """Whether forces are the gradient of the energy; else `evaluate` gives them."""
        return True

    @property
    def fixed_features(self) -> bool:
        """Whether most of the work, as descriptors, does not depend on parameters that are trained,
        so that the members of a committee have it in common."""
        return False

    def prepared(self, species: tuple[int, ...]) -> "AbstractNativePotential":
        """The same function to rounding, arranged for many evaluations with fixed parameters, as
        in dynamics, of structures of these elements; itself where there is nothing to gain."""
        return self


class AbstractMoleculePotential(AbstractNativePotential):
    """A native potential of one molecule only: one list of atoms, in one order, not periodic.

    All pairs interact: `cutoff` is larger than any molecule.

    Attributes:
        numbers: the molecule's atomic numbers.
    """

    numbers: eqx.AbstractVar[Int[Array, "atoms"]]


def derive(potential: AbstractNativePotential, batch: Batch) -> Derived:
    """Energies, forces and stress of a batch from one backward pass over the edge vectors.

    With g_p = ∂E/∂v_p of pair p = (i → j), v = r_j - r_i: F_i = Σ_{p from i} g_p - Σ_{p to i} g_p
    and σ = (1/V) Σ_p v_p ⊗ g_p, symmetrised (rotation invariance makes it symmetric). Forces that
    the potential itself gives are taken as they are.

    Source: Knuth et al., Comput. Phys. Commun. 190, 33 (2015).
    """

    def total(vectors: Float[Array, "pairs 3"]) -> tuple[Array, Outputs]:
        outputs = potential.evaluate(eqx.tree_at(lambda b: b.vectors, batch, vectors))
        return jnp.sum(outputs.atom_energies), outputs

    gradient, outputs = jax.grad(total, has_aux=True)(batch.vectors)
    energies = jax.ops.segment_sum(
        outputs.atom_energies, batch.system, num_segments=batch.systems, indices_are_sorted=True
    )
    if outputs.forces is not None:  # the gradient is not used: compiled, it is not computed
        stress = jnp.full((batch.systems, 3, 3), jnp.nan, batch.vectors.dtype)
        return Derived(energies=energies, forces=outputs.forces, stress=stress, outputs=outputs)
    gradient = jnp.where(batch.pair_mask[:, None], gradient, 0)
    forces = batch.sum_pairs(gradient) - jax.ops.segment_sum(
        gradient, batch.neighbours, num_segments=batch.atoms
    )
    virial = jax.ops.segment_sum(
        atom_virials(batch, gradient), batch.system, num_segments=batch.systems
    )
    stress = 0.5 * (virial + jnp.swapaxes(virial, 1, 2)) / batch.volume[:, None, None]
    return Derived(energies=energies, forces=forces, stress=stress, outputs=outputs)


def atom_virials(batch: Batch, gradient: Float[Array, "pairs 3"]) -> Float[Array, "atoms 3 3"]:
    """Σ v ⊗ ∂E/∂v over each atom's pairs, eV; `gradient` is zero on padding."""
    if batch.width is None:
        return batch.sum_pairs(batch.vectors[:, :, None] * gradient[:, None, :])
    shape = (batch.atoms, batch.width, 3)
    return jnp.einsum(
        "apx,apy->axy",
        batch.vectors.reshape(shape),
        gradient.reshape(shape),
        precision="highest",
    )


derive_compiled = eqx.filter_jit(derive)
"""`derive` under jit: compiled once per module type and batch shape."""


class NativePotential(AbstractPotential):
    """A native module as a potential: batching, padding, compilation, reference energies.

    Args:
        module: the pure function with its parameters.
        reference_energies: eV per atomic number, added on the host in float64, so that energies
            near -10⁴ eV lose no digits; `None` for zero.
        level: level of theory it was trained to.
        dtype: float64 or float32; float64 needs 64-bit JAX (entry points enable it).

    Raises:
        BadInput: float64 asked for while JAX computes in 32 bits.
    """

    def __init__(
        self,
        module: AbstractNativePotential,
        reference_energies: Mapping[int, float] | None = None,
        level: LevelOfTheory | None = None,
        dtype: str = "float64",
    ) -> None:
        from karat.potentials.precision import require

        self.dtype = require(dtype)
        self.module = jax.tree.map(
            lambda leaf: leaf.astype(self.dtype) if eqx.is_inexact_array(leaf) else leaf, module
        )
        self.reference_energies = {int(z): float(e) for z, e in (reference_energies or {}).items()}
        self.level = level

    @property
    def traits(self) -> Traits:
        single = self.dtype == np.float32
        module = self.module
        atoms = (
            tuple(np.asarray(module.numbers).tolist())
            if isinstance(module, AbstractMoleculePotential)
            else None
        )
        plain: tuple[Quantity, ...] = ("energy", "forces")
        return Traits(
            species=module.species,
            periodic=atoms is None,
            molecules=True,
            quantities=plain if atoms or not module.conservative else (*plain, "stress"),
            conservative=module.conservative,
            cutoff=None if atoms else module.cutoff,
            fixed_atoms=atoms is not None,
            atoms=atoms,
            continuity=self.module.continuity,
            force_tolerance=1e-2 if single else 1e-6,
            tolerance_reason="float32 rounding of central differences" if single else "",
            native=True,
            level=self.level,
        )

    def offset(self, structure: Structure) -> float:
        """Sum of reference energies, eV."""
        return float(sum(self.reference_energies.get(int(z), 0.0) for z in structure.numbers))

    def batch(self, structures: Sequence[Structure]) -> Batch:
        """A batch as this potential needs it."""
        return make_batch(
            structures, self.module.cutoff, self.dtype, with_triplets=self.module.needs_triplets
        )

    def predict(
        self, structures: Sequence[Structure], want: Sequence[Quantity] = ("energy", "forces")
    ) -> list[Labels]:
        for structure in structures:
            check_suitable(self, structure, want)
        labels: list[Labels] = []
        for chunk in self.chunks(structures):
            labels += self._predict_chunk(chunk, want)
        return labels

    def chunks(self, structures: Sequence[Structure]) -> list[list[Structure]]:
        """Consecutive structures with a bounded number of pairs (guessed from the first)."""
        if len(structures) < 2:
            return [list(structures)] if structures else []
        first = structures[0]
        per_atom = max(1, len(neighbour_pairs(first, self.module.cutoff))) / len(first)
        chunks: list[list[Structure]] = [[]]
        pairs = 0.0
        for structure in structures:
            size = per_atom * len(structure)
            if chunks[-1] and pairs + size > MAX_PAIRS_PER_BATCH:
                chunks.append([])
                pairs = 0.0
            chunks[-1].append(structure)
            pairs += size
        return chunks

    def _predict_chunk(self, structures: list[Structure], want: Sequence[Quantity]) -> list[Labels]:
        derived = derive_compiled(self.module, self.batch(structures))
        energies, forces = np.asarray(derived.energies, float), np.asarray(derived.forces, float)
        stress = np.asarray(derived.stress, float)
        ends = np.cumsum([len(s) for s in structures])
        labels = []
        for i, (structure, end) in enumerate(zip(structures, ends)):
            one = Labels(
                energy=energies[i] + self.offset(structure),
                forces=forces[end - len(structure) : end] if "forces" in want else None,
                stress=stress[i] if "stress" in want else None,
            )
            labels.append(require_finite(one, type(self.module).__name__))
        return labels

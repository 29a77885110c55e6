"""`bpnn`: symmetry functions and one small network per element.

Source: Behler, Parrinello, Phys. Rev. Lett. 98, 146401 (2007).
Checked: tests/potentials/native/test_bpnn.py.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, ClassVar, Literal

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from karat.core.errors import BadInput
from karat.data.dataset import Dataset
from karat.potentials.analytic.pairwise import species_index
from karat.potentials.batch import Batch
from karat.potentials.model import Card
from karat.potentials.native import bounds
from karat.potentials.native.acsf import (
    MAX_CUTOFF,
    MAX_FUNCTIONS,
    Acsf,
    Angular,
    CutoffFunction,
    Radial,
)
from karat.potentials.native.architecture import AbstractArchitecture, ParameterGroup
from karat.potentials.native.scales import output_scale
from karat.potentials.native.statistics import descriptor_statistics
from karat.potentials.native_protocol import AbstractNativePotential, Outputs

ACTIVATIONS = {"tanh": jnp.tanh, "silu": jax.nn.silu, "softplus": jax.nn.softplus}


@dataclass(frozen=True)
class RadialGrid:
    """G2 with centres evenly spaced from `start_angstrom` to the cut-off.

    Spacing Δ, η = 1/(2 Δ²). Source: the "shifted" set of Gastegger et al., J. Chem. Phys. 148,
    241709 (2018), there called radial symmetry functions (wACSF).
    """

    count: int = 16
    start_angstrom: float = 0.8

    def functions(self, cutoff: float) -> tuple[Radial, ...]:
        """The functions.

        Raises:
            BadInput: fewer than two, too many, or a start outside 0 … cut-off.
        """
        if not 2 <= self.count <= MAX_FUNCTIONS or not 0 <= self.start_angstrom < cutoff:
            raise BadInput(
                f"bpnn.radial: count {self.count} must be 2 to {MAX_FUNCTIONS} and start_angstrom "
                f"{self.start_angstrom} lie between 0 and the cut-off {cutoff} Å."
            )
        spacing = (cutoff - self.start_angstrom) / self.count
        centres = self.start_angstrom + spacing * np.arange(self.count)
        return tuple(Radial(0.5 / spacing**2, float(centre)) for centre in centres)


@dataclass(frozen=True)
class AngularGrid:
    """G4 or G5 around the atom itself: `count` widths × each ζ × each λ.

    Widths r_i evenly spaced from `start_angstrom` to the cut-off, η = 1/(2 r_i²), r_s = 0.
    Source: the "centred" set of Gastegger et al., J. Chem. Phys. 148, 241709 (2018).
    """

    kind: Literal["g4", "g5"] = "g5"
    count: int = 4
    start_angstrom: float = 0.8
    zetas: tuple[int, ...] = (1, 4)
    lambdas: tuple[Literal[-1, 1], ...] = (-1, 1)

    def functions(self, cutoff: float) -> tuple[Angular, ...]:
        """The functions.

        Raises:
            BadInput: too many, or a start outside 0 … cut-off.
        """
        functions = self.count * len(self.zetas) * len(self.lambdas)
        if not 0 <= functions <= MAX_FUNCTIONS or not 0 < self.start_angstrom < cutoff:
            raise BadInput(
                f"bpnn.angular: count × zetas × lambdas is {functions}, must be 0 to "
                f"{MAX_FUNCTIONS}, and start_angstrom {self.start_angstrom} lie between 0 and the "
                f"cut-off {cutoff} Å."
            )
        widths = np.linspace(self.start_angstrom, cutoff, self.count)
        return tuple(
            Angular(self.kind, float(0.5 / width**2), zeta, lam)
            for width in widths
            for zeta in self.zetas
            for lam in self.lambdas
        )


@dataclass(frozen=True)
class Bpnn(AbstractArchitecture):
    """E = Σ_i NN_{Z_i}(G_i): the energy of each atom from its symmetry functions.

    Source: Behler, Parrinello, Phys. Rev. Lett. 98, 146401 (2007).

    Attributes:
        cutoff_angstrom: radius of an atom's environment.
        cutoff_function: ``cosine`` as in the paper, or ``polynomial``: smooth second derivatives.
        radial: a grid, or G2 functions one by one.
        angular: a grid, or G4 and G5 functions one by one.
        hidden: widths of the hidden layers of each element's network.
        activation: of the hidden layers.
    """

    card: ClassVar[Card | None] = Card(
        paper="Behler, Parrinello, Phys. Rev. Lett. 98, 146401 (2007)",
        symmetry="invariant",
        reach="cut-off",
        cost="10 µs",
        tested="tests/potentials/native/test_bpnn.py, symmetry functions against dscribe",
    )

    cutoff_angstrom: float = 5.0
    cutoff_function: CutoffFunction = "cosine"
    radial: RadialGrid | tuple[Radial, ...] = field(default_factory=RadialGrid)
    angular: AngularGrid | tuple[Angular, ...] = field(default_factory=AngularGrid)
    hidden: tuple[int, ...] = (64, 64)
    activation: Literal["tanh", "silu", "softplus"] = "silu"

    def __post_init__(self) -> None:
        bounds.require_widths("bpnn", self, "hidden")
        self.descriptor((1,))

    def descriptor(self, species: tuple[int, ...]) -> Acsf:
        """The symmetry functions for these elements.

        Raises:
            BadInput: a parameter outside its range.
        """
        cutoff = self.cutoff_angstrom
        if not 0 < cutoff <= MAX_CUTOFF:
            raise BadInput(
                f"bpnn.cutoff_angstrom {cutoff} must lie in 0…{MAX_CUTOFF:g} Å, e.g. 5.0."
            )
        return Acsf(
            cutoff=cutoff,
            cutoff_function=self.cutoff_function,
            radial=(
                self.radial.functions(cutoff)
                if isinstance(self.radial, RadialGrid)
                else tuple(self.radial)
            ),
            angular=(
                self.angular.functions(cutoff)
                if isinstance(self.angular, AngularGrid)
                else tuple(self.angular)
            ),
            species=species,
        )

    def search_space(self) -> Mapping[str, str]:
        space = {"cutoff_angstrom": "4.0..6.5", "hidden": "[[16, 16], [32, 32], [64, 64]]"}
        if isinstance(self.radial, RadialGrid):
            space["radial.count"] = "8..24"
        if isinstance(self.angular, AngularGrid):
            space["angular.count"] = "2..6"
        return space

    def skeleton(self, species: tuple[int, ...], dtype: str) -> "BpnnModule":
        def empty() -> BpnnModule:
            acsf, kind = self.descriptor(species), np.dtype(dtype)
            n, widths = len(species), (acsf.size, *self.hidden, 1)
            return self._module(
                acsf,
                weights=tuple(jnp.zeros((n, a, b), kind) for a, b in pairwise(widths)),
                biases=tuple(jnp.zeros((n, b), kind) for b in widths[1:]),
                mean=jnp.zeros((n, acsf.size), kind),
                factor=jnp.zeros((n, acsf.size), kind),
                energy_scale=jnp.zeros((), kind),
            )

        return eqx.filter_eval_shape(empty)

    def initialise(self, dataset: Dataset, key: PRNGKeyArray, dtype: str) -> "BpnnModule":
        shapes = self.skeleton(dataset.species, dtype)
        mean, factor = descriptor_statistics(shapes.acsf, dataset, dtype)
        kind = np.dtype(dtype)
        keys = jax.random.split(key, len(shapes.weights))
        return self._module(
            shapes.acsf,
            weights=tuple(
                jax.random.normal(k, w.shape, kind) * jnp.asarray(1 / math.sqrt(w.shape[1]), kind)
                for k, w in zip(keys, shapes.weights)
            ),
            biases=tuple(jnp.zeros(b.shape, kind) for b in shapes.biases),
            mean=jnp.asarray(mean, kind),
            factor=jnp.asarray(factor, kind),
            energy_scale=jnp.asarray(output_scale(dataset), kind),
        )

    def _module(
        self,
        acsf: Acsf,
        weights: tuple[Array, ...],
        biases: tuple[Array, ...],
        mean: Array,
        factor: Array,
        energy_scale: Array,
    ) -> "BpnnModule":
        return BpnnModule(
            weights=weights,
            biases=biases,
            mean=mean,
            factor=factor,
            energy_scale=energy_scale,
            acsf=acsf,
            species=acsf.species,
            cutoff=float(self.cutoff_angstrom),
            continuity=acsf.continuity,
            needs_triplets=acsf.needs_triplets,
            activation=self.activation,
        )

    def trainable(self, module: AbstractNativePotential) -> Any:
        spec = jax.tree.map(eqx.is_inexact_array, module)
        fixed = lambda m: (m.mean, m.factor, m.energy_scale)  # noqa: E731
        return eqx.tree_at(fixed, spec, (False, False, False))

    def heads(self, module: AbstractNativePotential) -> Any:
        """The last layer of each element's network."""
        spec = jax.tree.map(lambda _: False, module)
        return eqx.tree_at(lambda m: (m.weights[-1], m.biases[-1]), spec, (True, True))

    def parameter_groups(self, module: AbstractNativePotential) -> Mapping[str, ParameterGroup]:
        """``layer_1`` …, ``output``; the second half of them is late, as in the transfer of a
        network of this kind to another level of theory by Smith et al., Nat. Commun. 10, 2903
        (2019)."""
        count = len(self.hidden) + 1
        return {
            f"layer_{i + 1}" if i < len(self.hidden) else "output": ParameterGroup(
                (f"weights.{i}", f"biases.{i}"), (f"weights.{i}",), late=i >= count // 2
            )
            for i in range(count)
        }


class BpnnModule(AbstractNativePotential):
    """The pure function; the networks of all elements are stacked along the first axis.

    `mean` and `factor` standardise the descriptors, `energy_scale` (eV) multiplies the networks'
    output; the three are fixed when training begins.
    """

    weights: tuple[Float[Array, "species _ _"], ...]
    biases: tuple[Float[Array, "species _"], ...]
    mean: Float[Array, "species size"]
    factor: Float[Array, "species size"]
    energy_scale: Float[Array, ""]
    acsf: Acsf = eqx.field(static=True)
    species: tuple[int, ...] = eqx.field(static=True)
    cutoff: float = eqx.field(static=True)
    continuity: int = eqx.field(static=True)
    needs_triplets: bool = eqx.field(static=True)
    activation: str = eqx.field(static=True)

    @property
    def fixed_features(self) -> bool:
        """Descriptors are fixed functions."""
        return True

    def evaluate(self, batch: Batch) -> Outputs:
        """Atom energies.

        Each layer is evaluated for all elements at once and an atom keeps its own element's
        part: on a CPU one large matrix product is faster than sorting atoms by element.
        """
        index = species_index(batch.numbers, self.species)
        mine = jax.nn.one_hot(index, len(self.species), dtype=self.mean.dtype)
        descriptor = self.acsf(batch)
        mean, factor = jax.lax.stop_gradient((self.mean, self.factor))
        values = (descriptor - mean[index]) * factor[index]
        for layer, (weight, bias) in enumerate(zip(self.weights, self.biases)):
            values = jnp.einsum("af,sfh->ash", values, weight) * mine[:, :, None]
            values = jnp.sum(values, axis=1) + bias[index]
            if layer + 1 < len(self.weights):
                values = ACTIVATIONS[self.activation](values)
        energies = values[:, 0] * jax.lax.stop_gradient(self.energy_scale)
        return Outputs(atom_energies=jnp.where(batch.atom_mask, energies, 0.0))

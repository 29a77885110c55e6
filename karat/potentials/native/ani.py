"""`ani`: environment vectors by element and one CELU network per element.

Source: Smith, Isayev, Roitberg, Chem. Sci. 8, 3192 (2017); networks and constants of ANI-1x and
ANI-2x: Smith et al., J. Chem. Phys. 148, 241733 (2018); Devereux et al., J. Chem. Theory Comput.
16, 4192 (2020).
Checked: tests/potentials/native/test_ani.py; tests/peers/test_torchani.py.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any, ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from karat.core.errors import BadInput
from karat.data.dataset import Dataset
from karat.potentials.analytic.pairwise import species_index
from karat.potentials.batch import Batch, make_batch
from karat.potentials.blocks.layers import celu
from karat.potentials.model import Card
from karat.potentials.native import bounds
from karat.potentials.native.ani_aev import MOST, Aev
from karat.potentials.native.architecture import AbstractArchitecture, ParameterGroup
from karat.potentials.native.drawing import ArrayMaker, drawn, in_shape
from karat.potentials.native.scales import mean_neighbours, output_scale
from karat.potentials.native_protocol import AbstractNativePotential, Outputs
from karat.structures.neighbours import neighbour_pairs

STRUCTURES_COUNTED = 200
"""Structures from which mean and spread of environment vectors are taken, evenly thinned out."""
FLOOR = 1e-2
"""Smallest spread that is divided by, relative to the element's largest."""
ANI_CARD = Card(
    paper="Smith et al., Chem. Sci. 8, 3192 (2017)",
    symmetry="invariant",
    reach="cut-off",
    cost="10 µs",
    tested="tests/peers/test_torchani.py, against torchani",
)


@dataclass(frozen=True)
class Ani(AbstractArchitecture):
    """E = Σ_i NN_{Z_i}(G_i) of atomic environment vectors G (`ani_aev.Aev`).

    The default has the environment vector of ANI-1x and smaller networks. Environment vectors are
    standardised by the training data: a change of variables of the first layer, so that one
    learning rate suits all elements.

    Attributes:
        cutoff_angstrom, angular_cutoff_angstrom: of radial and of angular functions.
        start_angstrom: smallest distance on which functions are centred.
        radial_eta, angular_eta: sharpness of Gaussians, 1/Å².
        radial_count, angular_count: distances on which they are centred.
        zeta: sharpness in the angle.
        sections: angles on which functions are centred.
        hidden: widths of the hidden layers of each element's network.
        angular_neighbours: neighbours within the angular cut-off that atoms seldom exceed: a matter
            of speed only; `None`: the most in the training data.
    """

    card: ClassVar[Card | None] = ANI_CARD

    cutoff_angstrom: float = 5.2
    angular_cutoff_angstrom: float = 3.5
    start_angstrom: float = 0.9
    radial_eta: float = 16.0
    radial_count: int = 16
    angular_eta: float = 8.0
    angular_count: int = 4
    zeta: float = 32.0
    sections: int = 8
    hidden: tuple[int, ...] = (64, 64, 32)
    angular_neighbours: int | None = None

    def __post_init__(self) -> None:
        bounds.require_cutoff("ani", self.cutoff_angstrom)
        if not 0 < self.angular_cutoff_angstrom <= self.cutoff_angstrom:
            raise BadInput(
                f"ani.angular_cutoff_angstrom {self.angular_cutoff_angstrom} must lie between 0 "
                f"and cutoff_angstrom {self.cutoff_angstrom}."
            )
        if not 0 <= self.start_angstrom < self.angular_cutoff_angstrom:
            raise BadInput(
                f"ani.start_angstrom {self.start_angstrom} must lie between 0 and "
                f"angular_cutoff_angstrom {self.angular_cutoff_angstrom}."
            )
        sharp = {"radial_eta": 1000.0, "angular_eta": 1000.0, "zeta": 200.0}
        for name, most in sharp.items():
            if not 0 < getattr(self, name) <= most:
                raise BadInput(f"ani.{name} {getattr(self, name)} must lie in 0…{most:g}.")
        limits = {
            "radial_count": (1, 64),
            "angular_count": (1, 64),
            "sections": (1, 64),
            "angular_neighbours": (2, MOST),
        }
        bounds.require_range("ani", self, limits)
        bounds.require_widths("ani", self, "hidden")

    def completed(self, training: Dataset) -> "Ani":
        if self.angular_neighbours is not None:
            return self
        most = 2
        for record in training:
            pairs = neighbour_pairs(record.structure, self.angular_cutoff_angstrom)
            most = max(most, int(np.bincount(pairs.centers, minlength=1).max()))
        return replace(self, angular_neighbours=min(most, MOST))

    def descriptor(self, species: tuple[int, ...]) -> Aev:
        """The environment vectors for these elements."""
        if self.angular_neighbours is None:
            raise BadInput("ani.angular_neighbours is not known; call completed(training) first.")
        return Aev(
            cutoff=float(self.cutoff_angstrom),
            angular_cutoff=float(self.angular_cutoff_angstrom),
            start=float(self.start_angstrom),
            radial_eta=float(self.radial_eta),
            radial_count=self.radial_count,
            angular_eta=float(self.angular_eta),
            angular_count=self.angular_count,
            zeta=float(self.zeta),
            sections=self.sections,
            places=self.angular_neighbours,
            species=species,
        )

    def search_space(self) -> Mapping[str, str]:
        return {
            "cutoff_angstrom": "4.0..6.0",
            "angular_cutoff_angstrom": "3.0..4.0",
            "hidden": "[[32, 32], [64, 64, 32], [160, 128, 96]]",
        }

    def skeleton(self, species: tuple[int, ...], dtype: str) -> "AniModule":
        return in_shape(lambda array: self._module(species, array), dtype)

    def initialise(self, dataset: Dataset, key: PRNGKeyArray, dtype: str) -> "AniModule":
        kind = np.dtype(dtype)
        mean_neighbours(dataset, self.cutoff_angstrom)  # refuses data without any
        module = drawn(lambda array: self._module(dataset.species, array), key, dtype)
        mean, factor = _statistics(module.aev, dataset, kind)
        fixed = lambda m: (m.mean, m.factor, m.scale)  # noqa: E731
        scale = jnp.asarray(output_scale(dataset), kind)
        numbers = (jnp.asarray(mean, kind), jnp.asarray(factor, kind), scale)
        return eqx.tree_at(fixed, module, numbers)

    def _module(self, species: tuple[int, ...], array: ArrayMaker) -> "AniModule":
        aev, count = self.descriptor(species), len(species)
        widths = (aev.size, *self.hidden, 1)
        return AniModule(
            weights=tuple(array(count, a, b) for a, b in pairwise(widths)),
            biases=tuple(jnp.zeros_like(array(count, b)) for b in widths[1:]),
            mean=array(count, aev.size),
            factor=array(count, aev.size),
            scale=array(),
            aev=aev,
            species=species,
            cutoff=aev.cutoff,
            continuity=1,
            needs_triplets=False,
        )

    def trainable(self, module: AbstractNativePotential) -> Any:
        spec = jax.tree.map(eqx.is_inexact_array, module)
        fixed = lambda m: (m.mean, m.factor, m.scale)  # noqa: E731
        return eqx.tree_at(fixed, spec, (False, False, False))

    def heads(self, module: AbstractNativePotential) -> Any:
        """The last layer of each element's network."""
        spec = jax.tree.map(lambda _: False, module)
        return eqx.tree_at(lambda m: (m.weights[-1], m.biases[-1]), spec, (True, True))

    def parameter_groups(self, module: AbstractNativePotential) -> Mapping[str, ParameterGroup]:
        """``layer_1`` …, ``output``; the second half of them is late, as in the transfer of ANI to
        another level of theory by Smith et al., Nat. Commun. 10, 2903 (2019)."""
        count = len(self.hidden) + 1
        return {
            f"layer_{i + 1}" if i < len(self.hidden) else "output": ParameterGroup(
                (f"weights.{i}", f"biases.{i}"), (f"weights.{i}",), late=i >= count // 2
            )
            for i in range(count)
        }


@dataclass(frozen=True)
class Ani1x(Ani):
    """Constants of ANI-1x, and for all elements the widths of its widest network, hydrogen's."""

    card: ClassVar[Card | None] = ANI_CARD

    hidden: tuple[int, ...] = (160, 128, 96)


@dataclass(frozen=True)
class Ani2x(Ani):
    """Constants of ANI-2x, and for all elements the widths of its widest network, hydrogen's."""

    card: ClassVar[Card | None] = ANI_CARD

    cutoff_angstrom: float = 5.1
    start_angstrom: float = 0.8
    radial_eta: float = 19.7
    angular_eta: float = 12.5
    angular_count: int = 8
    zeta: float = 14.1
    sections: int = 4
    hidden: tuple[int, ...] = (256, 192, 160)


class AniModule(AbstractNativePotential):
    """The pure function; the networks of all elements are stacked along the first axis.

    Attributes:
        weights: as drawn from a standard normal distribution; divided by √inputs in use.
        biases: of the same layers.
        mean, factor: standardise environment vectors, by the centre's element.
        scale: eV, of the networks' output.
        aev: the environment vectors.
    """

    weights: tuple[Float[Array, "species _ _"], ...]
    biases: tuple[Float[Array, "species _"], ...]
    mean: Float[Array, "species size"]
    factor: Float[Array, "species size"]
    scale: Float[Array, ""]
    aev: Aev = eqx.field(static=True)
    species: tuple[int, ...] = eqx.field(static=True)
    cutoff: float = eqx.field(static=True)
    continuity: int = eqx.field(static=True)
    needs_triplets: bool = eqx.field(static=True)

    @property
    def fixed_features(self) -> bool:
        """Descriptors are fixed functions."""
        return True

    def evaluate(self, batch: Batch) -> Outputs:
        """Atom energies; each layer is evaluated for all elements at once (one large matrix
        product), and an atom keeps its own element's part."""
        count = len(self.species)
        index = species_index(batch.numbers, self.species)
        mine = jax.nn.one_hot(index, count, dtype=self.mean.dtype)
        mean = jnp.matmul(mine, self.mean, precision="highest")
        values = (self.aev(batch) - mean) * jnp.matmul(mine, self.factor, precision="highest")
        for layer, (weight, bias) in enumerate(zip(self.weights, self.biases)):
            _, inputs, outputs = weight.shape
            together = jnp.swapaxes(weight, 0, 1).reshape(inputs, count * outputs)
            mixed = jnp.matmul(values, together * inputs**-0.5, precision="highest")
            mixed = mixed.reshape(-1, count, outputs) * mine[:, :, None]
            values = jnp.sum(mixed, axis=1) + jnp.matmul(mine, bias, precision="highest")
            if layer + 1 < len(self.weights):
                values = celu(values)
        return Outputs(jnp.where(batch.atom_mask, values[:, 0] * self.scale, 0.0))


def _statistics(
    aev: Aev, dataset: Dataset, kind: np.dtype
) -> tuple[Float[np.ndarray, "species size"], Float[np.ndarray, "species size"]]:
    """Mean and 1/spread of environment vectors for each element of the centre."""
    count = min(len(dataset), STRUCTURES_COUNTED)
    chosen = list(np.unique(np.linspace(0, len(dataset) - 1, count).round().astype(int)))
    for z in dataset.species:  # rare elements may be thinned out
        has = [bool(np.any(record.structure.numbers == z)) for record in dataset]
        if not any(has[i] for i in chosen):
            chosen.append(has.index(True))
    evaluate, rows, numbers = jax.jit(aev), [], []
    for i in chosen:
        structure = dataset.records[i].structure
        batch = make_batch([structure], aev.cutoff, kind, False)
        rows.append(np.asarray(evaluate(batch), np.float64)[: len(structure)])
        numbers.append(structure.numbers)
    values, elements = np.concatenate(rows), np.concatenate(numbers)
    mean = np.stack([values[elements == z].mean(axis=0) for z in aev.species])
    spread = np.stack([values[elements == z].std(axis=0) for z in aev.species])
    largest = spread.max(axis=1, keepdims=True)
    floor = np.where(largest > 0, FLOOR * largest, 1.0)
    return mean, 1.0 / np.maximum(spread, floor)

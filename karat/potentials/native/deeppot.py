"""`deeppot`: DeepPot-SE, a descriptor made by embedding networks of distances.

Source: Zhang et al., NeurIPS 31 (2018), arXiv:1805.09003.
Checked: tests/potentials/native/test_deeppot.py; tests/peers/test_deepmd.py.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any, ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, PRNGKeyArray

from karat.core.errors import BadInput
from karat.data.dataset import Dataset
from karat.potentials.model import Card, named_arrays
from karat.potentials.native import bounds
from karat.potentials.native.architecture import AbstractArchitecture, ParameterGroup
from karat.potentials.native.deeppot_module import (
    DeepPotModule,
    Environment,
    Layer,
    smooth_inverse,
)
from karat.potentials.native.drawing import ArrayMaker, drawn, in_shape
from karat.potentials.native.scales import mean_neighbours, output_scale
from karat.potentials.native_protocol import AbstractNativePotential
from karat.structures.neighbours import neighbour_pairs

FIRST_STEP = 0.1
"""Where the factors of skipped layers' steps (deepmd-kit's `resnet_dt`) begin."""
LEAST_SPREAD = 1e-2
"""Least standard deviation that rows of the environment are divided by, as in deepmd-kit, 1/Å."""
MAX_SLOTS = 10_000
DEEPPOT_CARD = Card(
    paper="Zhang et al., NeurIPS 31 (2018), arXiv:1805.09003",
    symmetry="invariant",
    reach="cut-off",
    cost="100 µs",
    tested="tests/peers/test_deepmd.py, against deepmd-kit",
)


@dataclass(frozen=True)
class DeepPot(AbstractArchitecture):
    """Hyper-parameters; names in brackets are those of deepmd-kit's se_e2_a.

    Attributes:
        cutoff_angstrom: (rcut).
        onset_angstrom: up to it s(r) is 1/r (rcut_smth).
        embedding: widths of the embedding networks (neuron).
        axis: columns of G_< (axis_neuron).
        fitting: widths of the fitting networks (fitting_net.neuron, with resnet_dt).
        slots: room for neighbours of each element, ascending (sel): a matter of normalisation only,
            more may come; `None`: the most in the training data.
    """

    card: ClassVar[Card | None] = DEEPPOT_CARD

    cutoff_angstrom: float = 5.0
    onset_angstrom: float = 0.5
    embedding: tuple[int, ...] = (8, 16, 32)
    axis: int = 8
    fitting: tuple[int, ...] = (64, 64, 64)
    slots: tuple[int, ...] | None = None

    def __post_init__(self) -> None:
        bounds.require_cutoff("deeppot", self.cutoff_angstrom)
        if not 0 < self.onset_angstrom < self.cutoff_angstrom:
            raise BadInput(
                f"deeppot.onset_angstrom {self.onset_angstrom} must lie between 0 and "
                f"cutoff_angstrom {self.cutoff_angstrom}."
            )
        bounds.require_widths("deeppot", self, "embedding", "fitting")
        if not 1 <= self.axis <= self.embedding[-1]:
            raise BadInput(
                f"deeppot.axis {self.axis} must lie in 1…{self.embedding[-1]}, the last width of "
                "embedding."
            )
        if self.fitting[0] in (self._size, 2 * self._size):
            raise BadInput(
                f"deeppot.fitting {list(self.fitting)}: its first width must not be the size of "
                f"the descriptor, {self._size}, or twice that."
            )
        if self.slots is not None and not all(1 <= n <= MAX_SLOTS for n in self.slots):
            raise BadInput(f"deeppot.slots {list(self.slots)}: each must lie in 1…{MAX_SLOTS}.")

    @property
    def _size(self) -> int:
        return self.embedding[-1] * self.axis

    def search_space(self) -> Mapping[str, str]:
        return {
            "cutoff_angstrom": "4.5..7.0",
            "embedding": "[[8, 16, 32], [16, 32, 64], [25, 50, 100]]",
            "axis": "[4, 8, 16]",
        }

    def completed(self, training: Dataset) -> "DeepPot":
        if self.slots is not None:
            return self
        mean_neighbours(training, self.cutoff_angstrom)  # refuses data without any
        species = training.species
        most = np.ones(len(species), int)
        for record in training:
            pairs = neighbour_pairs(record.structure, self.cutoff_angstrom)
            index = np.searchsorted(species, record.structure.numbers)
            counts = np.zeros((len(index), len(species)), int)
            np.add.at(counts, (pairs.centers, index[pairs.neighbours]), 1)
            most = np.maximum(most, counts.max(axis=0))
        return replace(self, slots=tuple(int(n) for n in most))

    def skeleton(self, species: tuple[int, ...], dtype: str) -> DeepPotModule:
        return in_shape(lambda array: self._module(species, array), dtype)

    def initialise(self, dataset: Dataset, key: PRNGKeyArray, dtype: str) -> DeepPotModule:
        kind = np.dtype(dtype)
        module = drawn(lambda array: self._module(dataset.species, array), key, dtype)
        mean, spread = environment_statistics(module.environment, dataset)
        fixed = lambda m: (m.environment.mean, m.environment.spread, m.scale)  # noqa: E731
        numbers = (mean, spread, np.float64(output_scale(dataset)))
        return eqx.tree_at(fixed, module, tuple(jnp.asarray(one, kind) for one in numbers))

    def _module(self, species: tuple[int, ...], array: ArrayMaker) -> DeepPotModule:
        if self.slots is None:
            raise BadInput("deeppot.slots are not known; call completed(training) first.")
        count = len(species)
        if len(self.slots) != count:
            raise BadInput(
                f"deeppot.slots {list(self.slots)}: one for each of the {count} elements is needed."
            )
        return DeepPotModule(
            environment=Environment(
                array(count),
                array(count, 2),
                float(self.onset_angstrom),
                float(self.cutoff_angstrom),
                tuple(self.slots),
                species,
            ),
            embedding=_layers(array, count * count, (1, *self.embedding), with_steps=False),
            fitting=_layers(array, count, (self._size, *self.fitting, 1), with_steps=True),
            scale=array(),
            axis=self.axis,
            species=species,
            cutoff=float(self.cutoff_angstrom),
            continuity=2,
            needs_triplets=False,
        )

    def trainable(self, module: AbstractNativePotential) -> Any:
        spec = jax.tree.map(eqx.is_inexact_array, module)
        fixed = lambda m: (m.environment.mean, m.environment.spread, m.scale)  # noqa: E731
        return eqx.tree_at(fixed, spec, (False, False, False))

    def heads(self, module: AbstractNativePotential) -> Any:
        """The last layer of each element's fitting network."""
        spec = jax.tree.map(lambda _: False, module)
        last = lambda m: (m.fitting[-1].weight, m.fitting[-1].bias)  # noqa: E731
        return eqx.tree_at(last, spec, (True, True))

    def parameter_groups(self, module: AbstractNativePotential) -> Mapping[str, ParameterGroup]:
        """``embedding``, ``fitting_1`` …, ``output``; the fitting networks are late."""
        names = tuple(named_arrays(eqx.filter(module, self.trainable(module))))

        def group(start: str, late: bool) -> ParameterGroup:
            mine = tuple(name for name in names if name.startswith(start))
            mixing = tuple(name for name in mine if name.endswith(".weight"))
            return ParameterGroup(mine, mixing, late)

        groups = {"embedding": group("embedding.", False)}
        for i in range(len(self.fitting) + 1):
            label = f"fitting_{i + 1}" if i < len(self.fitting) else "output"
            groups[label] = group(f"fitting.{i}.", True)
        return groups


@dataclass(frozen=True)
class DeepPotPaper(DeepPot):
    """The networks of the paper: embedding 25-50-100, 16 axis columns, fitting 240³; 6 Å."""

    card: ClassVar[Card | None] = DEEPPOT_CARD

    cutoff_angstrom: float = 6.0
    embedding: tuple[int, ...] = (25, 50, 100)
    axis: int = 16
    fitting: tuple[int, ...] = (240, 240, 240)


def _layers(
    array: ArrayMaker, kinds: int, widths: tuple[int, ...], with_steps: bool
) -> tuple[Layer, ...]:
    layers = []
    for place, (a, b) in enumerate(pairwise(widths)):
        skips = b in (a, 2 * a) and place + 2 < len(widths)
        weight, bias = array(kinds, a, b), array(kinds, b)
        step = jnp.full_like(bias, FIRST_STEP) if with_steps and skips else None
        layers.append(Layer(weight, bias, step))
    return tuple(layers)


def environment_statistics(
    environment: Environment, dataset: Dataset
) -> tuple[Float[np.ndarray, "species"], Float[np.ndarray, "species 2"]]:
    """Mean of s and spreads of the environment matrix over all slots, empty ones included, by the
    centre's element (davg and dstd of deepmd-kit)."""
    species, slots = environment.species, sum(environment.slots)
    sums = np.zeros((len(species), 3))
    numbers = np.zeros(len(species))
    for record in dataset:
        pairs = neighbour_pairs(record.structure, environment.cutoff)
        distance = np.linalg.norm(pairs.vectors, axis=1)
        s = np.asarray(smooth_inverse(jnp.asarray(distance), environment.onset, environment.cutoff))
        index = np.searchsorted(species, record.structure.numbers)
        squares = (s[:, None] * pairs.vectors / distance[:, None]).sum(axis=1)
        np.add.at(sums, index[pairs.centers], np.stack([s, s * s, squares], axis=1))
        numbers += np.bincount(index, minlength=len(species)) * slots
    mean = sums[:, 0] / numbers
    radial = np.sqrt(np.maximum(sums[:, 1] / numbers - mean**2, 0))
    # Σ over the three components of (s x/r)² is s²
    directed = np.sqrt(
        np.maximum(sums[:, 1] / (3 * numbers) - (sums[:, 2] / (3 * numbers)) ** 2, 0)
    )
    return mean, np.maximum(np.stack([radial, directed], axis=1), LEAST_SPREAD)

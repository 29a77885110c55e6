"""What an architecture is: hyper-parameters that make a native potential with parameters to fit.

To add one: write a frozen dataclass with `initialise` and `skeleton`, and its module, in one
file of this folder, add a line to `catalogue.py` (or an entry point of the group
`karat.architectures`), and pass the conformance suite of potentials. The trainer and the
`.karat` file know nothing else about it.
"""

import abc
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import equinox as eqx
import jax
from jaxtyping import PRNGKeyArray

from karat.data.dataset import Dataset
from karat.potentials.model import AbstractModel, named_arrays
from karat.potentials.native_protocol import AbstractNativePotential


@dataclass(frozen=True)
class ParameterGroup:
    """Arrays of a module that fine-tuning freezes or trains together; names as `named_arrays`.

    Attributes:
        arrays: all of them.
        matrices: those that mix channels linearly by their last two axes (one matrix, or one for
            each element): what low-rank updates apply to.
        late: whether it is so near to the energies that it is trained where layers are frozen.
    """

    arrays: tuple[str, ...]
    matrices: tuple[str, ...]
    late: bool


class AbstractArchitecture(AbstractModel):
    """Hyper-parameters of a potential whose parameters the trainer finds by gradients."""

    @abc.abstractmethod
    def initialise(
        self, dataset: Dataset, key: PRNGKeyArray, dtype: str
    ) -> AbstractNativePotential:
        """The potential before training: random parameters from `key`, statistics of `dataset`.

        Raises:
            BadInput: hyper-parameters and data do not fit together.
        """

    @abc.abstractmethod
    def skeleton(self, species: tuple[int, ...], dtype: str) -> AbstractNativePotential:
        """The module with `jax.ShapeDtypeStruct` in place of its arrays; nothing is allocated."""

    def frame(
        self, species: tuple[int, ...], dtype: str, shapes: Mapping[str, tuple[int, ...]]
    ) -> AbstractNativePotential:
        return self.skeleton(species, dtype)

    def inspect(self, module: AbstractNativePotential, dtype: str) -> None:
        """Any numbers of the right shapes will do."""

    def trainable(self, module: AbstractNativePotential) -> Any:
        """A tree like `module` that is True on the arrays that the trainer may change."""
        return jax.tree.map(eqx.is_inexact_array, module)

    def parameter_groups(self, module: AbstractNativePotential) -> Mapping[str, ParameterGroup]:
        """Every array that the trainer may change, in named groups, from first to last: what
        fine-tuning can freeze. Here one group, without matrices; override it where the module has
        layers."""
        arrays = tuple(named_arrays(eqx.filter(module, self.trainable(module))))
        return {"all": ParameterGroup(arrays, (), True)}

    def heads(self, module: AbstractNativePotential) -> Any:
        """A tree like `module` that is True on the arrays of its readouts (the layers above what
        a committee with a shared trunk has in common); all False where it has none."""
        return jax.tree.map(lambda _: False, module)

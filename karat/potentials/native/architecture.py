"""What an architecture is: hyper-parameters that make a native potential with parameters to fit.

To add one: write a frozen dataclass with `initialise` and `skeleton`, and its module, in one
file of this folder, add a line to `catalogue.py` (or an entry point of the group
`karat.architectures`), and pass the conformance suite of potentials. The trainer and the
`.karat` file know nothing else about it.
"""

import abc
from typing import Any

import equinox as eqx
import jax
from jaxtyping import PRNGKeyArray

from karat.data.dataset import Dataset
from karat.potentials.native_protocol import AbstractNativePotential


class AbstractArchitecture(abc.ABC):
    """A frozen dataclass whose fields are the hyper-parameters; all are written to the file."""

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

    def trainable(self, module: AbstractNativePotential) -> Any:
        """A tree like `module` that is True on the arrays that the trainer may change."""
        return jax.tree.map(eqx.is_inexact_array, module)


def named_arrays(module: Any) -> dict[str, Any]:
    """The arrays of a module (or the shapes in its skeleton) by path, e.g. ``weights.0``."""
    leaves = jax.tree_util.tree_flatten_with_path(module)[0]
    return {
        jax.tree_util.keystr(path, simple=True, separator="."): leaf
        for path, leaf in leaves
        if isinstance(leaf, jax.ShapeDtypeStruct) or eqx.is_array(leaf)
    }


def with_arrays(skeleton: Any, arrays: dict[str, Any]) -> Any:
    """`skeleton` with each array or shape replaced by the array of the same path."""

    def replace(path: Any, leaf: Any) -> Any:
        if isinstance(leaf, jax.ShapeDtypeStruct) or eqx.is_array(leaf):
            return arrays[jax.tree_util.keystr(path, simple=True, separator=".")]
        return leaf

    return jax.tree_util.tree_map_with_path(replace, skeleton)

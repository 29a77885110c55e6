"""What karat can fit: hyper-parameters that become a native potential with numbers from data.

Two kinds: architectures, whose parameters a gradient descent finds (`native/architecture.py`),
and models that one linear solve gives (`AbstractSolvedModel`). The `.karat` file serves both.

To add one: a frozen dataclass of one of the two kinds and its module, a line in
`native/catalogue.py` (or an entry point of the group `karat.architectures`), and the conformance
suite of potentials passes.
"""

import abc
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

import equinox as eqx
import jax

from karat.data.dataset import Dataset
from karat.potentials.native_protocol import AbstractNativePotential, NativePotential


@dataclass(frozen=True)
class Card:
    """What people ask of a model before they choose it (`karat list models`).

    Attributes:
        paper: authors, journal, volume, page, year.
        symmetry: ``invariant``: all its features are unchanged by rotation; ``equivariant``: some
            turn with the structure.
        reach: ``cut-off``: an atom's energy depends on atoms within it; ``layers``: within as many
            cut-offs as there are layers; ``molecule``: on all atoms of the molecule.
        cost: order of magnitude of the time that energies and forces take, µs an atom and step on
            one CPU core with the preset's size; measured figures: benchmarks/RESULTS.md.
        tested: where, besides the conformance suite.
        conservative: whether forces are the gradient of the energy.
    """

    paper: str
    symmetry: Literal["invariant", "equivariant"]
    reach: Literal["cut-off", "layers", "molecule"]
    cost: Literal["1 µs", "10 µs", "100 µs", "1 ms", "10 ms"]
    tested: str
    conservative: bool = True


class AbstractModel(abc.ABC):
    """A frozen dataclass whose fields are the hyper-parameters; all are written to the file.

    Attributes:
        card: what it is, for those who choose; `None` where its author has not said.
    """

    card: ClassVar[Card | None] = None

    @abc.abstractmethod
    def frame(
        self, species: tuple[int, ...], dtype: str, shapes: Mapping[str, tuple[int, ...]]
    ) -> AbstractNativePotential:
        """The module with `jax.ShapeDtypeStruct` in place of its arrays, nothing allocated;
        `shapes` are those of a file's arrays, for models whose size the data decide.

        Raises:
            BadInput: hyper-parameters or shapes that do not fit together.
        """

    @abc.abstractmethod
    def inspect(self, module: AbstractNativePotential, dtype: str) -> None:
        """Look at numbers that came from a file and are to be computed with in `dtype`.

        Raises:
            BadInput: such that the module could not work.
        """

    def completed(self, training: Dataset) -> "AbstractModel":
        """The same with settings that were left to the data filled in; what a file keeps.

        Raises:
            BadInput: data that do not say.
        """
        return self

    def usual_settings(self) -> Mapping[str, Any]:
        """Settings of the trainer that suit this model better than the trainer's own defaults, for
        where nothing else is said."""
        return {}

    def search_space(self) -> Mapping[str, str]:
        """What a search of settings varies unless told otherwise: by dotted key, written as for
        `karat train --vary` (``4.0..6.0``, ``[1, 2]``); empty where nothing is worth it."""
        return {}


@dataclass(frozen=True)
class Stage:
    """Where a fit stands: `done` of `total` parts of the work that `words` name."""

    done: int
    total: int
    words: str


@dataclass(frozen=True, eq=False)
class Solved:
    """What a solve gave.

    Attributes:
        potential: the fitted potential.
        summary: JSON-ready, for the `.karat` file: what was found, validation errors; no timings.
        seconds: wall time, that of interrupted runs not included.
        note: the outcome in a line, for people.
        references: how reference energies were found, for people.
    """

    potential: NativePotential
    summary: Mapping[str, Any]
    seconds: float
    note: str
    references: str


class AbstractSolvedModel(AbstractModel):
    """A model that is solved for, not descended to."""

    @abc.abstractmethod
    def fit(
        self,
        train: Dataset,
        valid: Dataset,
        folder: Path,
        progress: Callable[[Stage], None] | None = None,
        fresh: bool = False,
    ) -> Solved:
        """Fit to `train`; choose what must be chosen by `valid`; what is finished is kept in
        `folder` and used again, unless `fresh`.

        Raises:
            BadInput: before any work: data that the model cannot be fitted to.
            CalculationFailed: the solve failed.
        """


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

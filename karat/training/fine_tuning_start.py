"""Where fine-tuning starts: a `.karat` file, which of its arrays move, and how.

Checked: tests/training/test_fine_tuning.py, test_lora.py.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pydantic
from jaxtyping import PRNGKeyArray

from karat.core.errors import BadInput, UnknownElement, unknown_key
from karat.core.hashing import digest_json
from karat.data.dataset import Dataset
from karat.potentials.karat_file import architecture_of, load
from karat.potentials.karat_header import Header, read_header
from karat.potentials.model import named_arrays, with_arrays
from karat.potentials.native.architecture import AbstractArchitecture, ParameterGroup
from karat.potentials.native_protocol import AbstractNativePotential, NativePotential
from karat.training.lora import LoraModule, adapted, fits

Method = Literal["naive", "frozen", "lora"]


@dataclass(frozen=True)
class FineTuning:
    """How an existing potential is fitted to new data.

    Attributes:
        method: ``naive``: all its parameters are trained; ``frozen``: some groups of them;
            ``lora``: low-rank updates of its matrices.
        freeze: names of groups that stay as they are (see the architecture's
            `parameter_groups`). `None`: for ``frozen`` all groups but the late ones, for ``lora``
            none; ``naive`` has no frozen groups.
        rank, alpha: r and α of ``lora``. Matrices for which factors of rank r are no fewer
            numbers are trained whole; what is no matrix stays as it is.
        reference_energies: ``fit``: the base's, moved by least squares so that its energies agree
            with the new data for each composition; ``base``: the base's; ``auto``: ``base`` where
            both levels of theory are known and the same, else ``fit``.

    Raises:
        BadInput: a value outside its range, or without use for the method.

    Source: Radova et al., npj Comput. Mater. 11 (2025), doi:10.1038/s41524-025-01727-x (frozen
    layers of MACE); Hu et al., ICLR 2022, arXiv:2106.09685 (LoRA).
    """

    method: Method = "naive"
    freeze: tuple[str, ...] | None = None
    rank: int = 4
    alpha: float = 4.0
    reference_energies: Literal["auto", "fit", "base"] = "auto"

    def __post_init__(self) -> None:
        if self.rank < 1:
            raise BadInput(f"fine-tuning.rank {self.rank} must be 1 or more, e.g. 4.")
        if not (math.isfinite(self.alpha) and self.alpha > 0):
            raise BadInput(f"fine-tuning.alpha {self.alpha} must be positive, e.g. 4.")
        if self.method == "naive" and self.freeze:
            raise BadInput(
                f"fine-tuning.freeze {', '.join(self.freeze)}: naive fine-tuning trains all "
                "groups. Say frozen or lora."
            )


@dataclass(frozen=True, eq=False)
class Base:
    """A potential to start from.

    Attributes:
        header: of its file.
        architecture: its hyper-parameters.
        potential: its numbers, in the precision of the training.
    """

    path: Path
    header: Header
    architecture: AbstractArchitecture
    potential: NativePotential

    @classmethod
    def read(cls, path: Path, dtype: str) -> "Base":
        """From a `.karat` file.

        Raises:
            BadInput: no such file, damaged, a committee, or of a model that is not trained by
                gradients.
        """
        header = read_header(path)
        architecture = architecture_of(header, path)
        if not isinstance(architecture, AbstractArchitecture):
            raise BadInput(
                f"{path}: '{header.architecture}' is solved for, not trained; it cannot be "
                "fine-tuned. Fit it anew to all data together."
            )
        if header.members > 1:
            raise BadInput(
                f"{path} is a committee of {header.members}; a single potential can be fine-tuned. "
                "Name the file of one."
            )
        found = load(path)
        arrays = {
            name: jnp.asarray(np.asarray(array), np.dtype(dtype))
            if eqx.is_inexact_array(array)
            else array
            for name, array in named_arrays(found.module).items()
        }
        module = with_arrays(architecture.skeleton(header.species, dtype), arrays)
        potential = NativePotential(module, found.reference_energies, found.level, dtype)
        return cls(path, header, architecture, potential)

    @cached_property
    def digest(self) -> str:
        """SHA-256 of everything in the file."""
        return digest_json(self.header.as_dict())

    @cached_property
    def groups(self) -> Mapping[str, ParameterGroup]:
        """Of parameters."""
        return self.architecture.parameter_groups(self.potential.module)

    def check_species(self, species: Sequence[int], place: str) -> None:
        """Refuse data with elements that the base does not know.

        Raises:
            UnknownElement: naming them.
        """
        from ase.data import chemical_symbols

        unknown = sorted(set(species) - set(self.header.species))
        if unknown:
            known = ", ".join(chemical_symbols[z] for z in self.header.species)
            raise UnknownElement(
                f"{place} contain {', '.join(chemical_symbols[z] for z in unknown)}; {self.path} "
                f"knows {known} only. Leave these structures out, or train a potential of all "
                "these elements from scratch."
            )

    def frozen(self, tuning: FineTuning) -> tuple[str, ...]:
        """Names of the groups that stay as they are.

        Raises:
            UnknownKey: a name that no group has.
            BadInput: nothing is left to train.
        """
        if tuning.freeze is None:
            late = [name for name, group in self.groups.items() if not group.late]
            return tuple(late) if tuning.method == "frozen" else ()
        for name in tuning.freeze:
            if name not in self.groups:
                raise unknown_key("fine-tuning.freeze", name, set(self.groups))
        return tuple(name for name in self.groups if name in tuning.freeze)


@dataclass(frozen=True)
class FineTuned(AbstractArchitecture):
    """The base's architecture whose first parameters are the base's own; the trainer's view.

    Attributes:
        base: digest of the base's file, so that a run is resumed with the same base only.
        method, frozen, rank, alpha: see `FineTuning`; `frozen` are names of groups.
        source: the base itself.
    """

    base: str
    method: Method
    frozen: tuple[str, ...]
    rank: int
    alpha: float
    source: Annotated[Base, pydantic.Field(exclude=True)] = field(repr=False, compare=False)

    @classmethod
    def of(cls, base: Base, tuning: FineTuning) -> "FineTuned":
        """As `tuning` says.

        Raises:
            UnknownKey: see `Base.frozen`.
            BadInput: nothing is left to train.
        """
        frozen = base.frozen(tuning)
        found = cls(base.digest, tuning.method, frozen, tuning.rank, tuning.alpha, base)
        if not found.whole and not found.factored:
            raise BadInput(
                f"fine-tuning: nothing is left to train with {', '.join(frozen) or 'no group'} "
                f"frozen and method {tuning.method}. Groups: {', '.join(base.groups)}."
            )
        return found

    @property
    def groups(self) -> tuple[str, ...]:
        """Names of the groups that are trained."""
        return tuple(name for name in self.source.groups if name not in self.frozen)

    @cached_property
    def _split(self) -> tuple[tuple[str, ...], tuple[str, ...]]:
        groups = [self.source.groups[name] for name in self.groups]
        if self.method != "lora":
            return tuple(name for group in groups for name in group.arrays), ()
        arrays = named_arrays(self.source.potential.module)
        matrices = [name for group in groups for name in group.matrices]
        small = {name for name in matrices if not fits(arrays[name].shape, self.rank)}
        return tuple(n for n in matrices if n in small), tuple(
            n for n in matrices if n not in small
        )

    @property
    def whole(self) -> tuple[str, ...]:
        """Names of the base's arrays that are trained themselves."""
        return self._split[0]

    @property
    def factored(self) -> tuple[str, ...]:
        """Names of the base's arrays that get a low-rank update."""
        return self._split[1]

    @property
    def numbers(self) -> int:
        """How many numbers are trained."""
        module = self._first(jax.random.key(0))
        leaves = jax.tree_util.tree_leaves(eqx.filter(module, self.trainable(module)))
        return sum(leaf.size for leaf in leaves)

    def initialise(
        self, dataset: Dataset, key: PRNGKeyArray, dtype: str
    ) -> AbstractNativePotential:
        return self._first(key)

    def _first(self, key: PRNGKeyArray) -> AbstractNativePotential:
        module = self.source.potential.module
        if self.method != "lora":
            return module
        return adapted(module, self.factored, self.rank, self.alpha, key)

    def skeleton(self, species: tuple[int, ...], dtype: str) -> AbstractNativePotential:
        """Always of all the base's elements, in the base's precision."""

        def shape(leaf: Any) -> Any:
            return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype) if eqx.is_array(leaf) else leaf

        found: AbstractNativePotential = jax.tree.map(shape, self._first(jax.random.key(0)))
        return found

    def trainable(self, module: AbstractNativePotential) -> Any:
        if isinstance(module, LoraModule):
            names = {f"base.{name}" for name in self.whole}
            names |= {name for name in named_arrays(module) if name.startswith("updates.")}
        else:
            names = set(self.whole)

        def marked(path: Any, leaf: Any) -> bool:
            return jax.tree_util.keystr(path, simple=True, separator=".") in names

        return jax.tree_util.tree_map_with_path(marked, module)


def merged(module: AbstractNativePotential) -> AbstractNativePotential:
    """A plain module of the base's architecture."""
    if not isinstance(module, LoraModule):
        return module
    plain: AbstractNativePotential = eqx.filter_jit(LoraModule.merged)(module)
    return plain

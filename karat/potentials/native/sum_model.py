"""`sum`: trained models and fixed potentials added up and trained together.

Checked: tests/potentials/native/test_sum_model.py.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Final

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pydantic
from jaxtyping import Array, Float, PRNGKeyArray

from karat.core.components import dump, parse
from karat.core.errors import BadInput, UnknownElement, unknown_key
from karat.data.dataset import Dataset
from karat.potentials.catalogue import potential_component
from karat.potentials.model import Card, named_arrays
from karat.potentials.native.architecture import AbstractArchitecture, ParameterGroup
from karat.potentials.native.catalogue import ARCHITECTURES
from karat.potentials.native.scales import regressed_energies
from karat.potentials.native_protocol import AbstractNativePotential, NativePotential
from karat.potentials.sum_potential import SumModule, fused
from karat.structures.labels import Labels

FIXED: Final = ("buckingham", "lennard_jones", "morse", "stillinger_weber", "zbl")
"""Potentials that a `.karat` file may name: compiled, given by numbers alone; nothing is imported
and no other file is read."""
LATER_SHARE: Final = 0.1
"""Size of labels that trained terms after the first are told, for their scale of outputs."""


@dataclass(frozen=True)
class ModelTerm:
    """One term of a sum: either a model that is trained or a potential that stays as it is.

    Attributes:
        model: name in the catalogue of architectures.
        potential: one of `FIXED`.
        options: its fields.
    """

    __pydantic_config__ = pydantic.ConfigDict(extra="forbid")

    model: str = ""
    potential: str = ""
    options: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if bool(self.model) == bool(self.potential):
            raise BadInput(
                f"sum.terms: a term has either a model or a potential (model '{self.model}', "
                f"potential '{self.potential}')."
            )


@dataclass(frozen=True)
class SumModel(AbstractArchitecture):
    """The sum of terms on one neighbour list; those that are models are trained together.

    Fixed terms are taken off the labels before anything is made from them: scales of the trained
    terms come from what is left, and a constant for each element takes the mean of the fixed
    terms' energies off again (least squares on the composition), so that the trainer's reference
    energies, which are found from the labels, fit what is left. The sum of an isolated atom is
    therefore not its reference energy. The first trained term begins with outputs of the size of
    labels, those after it with a tenth (`charges`: with charges of about 0.2 e).

    Attributes:
        terms: at least one of them a model; sums in sums, models that are solved for, and forces
            that are no gradient are refused.
    """

    card: ClassVar[Card | None] = Card(
        paper="its terms'",
        symmetry="equivariant",
        reach="layers",
        cost="100 µs",
        tested="tests/potentials/native/test_sum_model.py",
    )

    terms: tuple[ModelTerm, ...] = (ModelTerm(model="painn"), ModelTerm(model="charges"))

    def __post_init__(self) -> None:
        if not any(term.model for term in self.terms):
            raise BadInput(
                "sum.terms: no model among them, nothing could be trained; add one, e.g. "
                "{model: painn}. For potentials alone there is the potential `sum`."
            )
        for index in range(len(self.terms)):
            if self.terms[index].model:
                self._model(index)
            else:
                self._potential(index, "float32")

    def _model(self, index: int) -> AbstractArchitecture:
        """The architecture of a trained term.

        Raises:
            UnknownKey, BadInput: no such model or option, or one that no sum takes.
        """
        name, place = self.terms[index].model, f"sum.terms.{index}"
        names = ARCHITECTURES.names()
        if name not in names:  # import paths too: a file could name any module
            raise unknown_key(f"{place}.model", name, names)
        kind = ARCHITECTURES.resolve(name)
        if not issubclass(kind, AbstractArchitecture) or issubclass(kind, SumModel):
            raise BadInput(
                f"{place}.model '{name}' cannot be a term: terms are trained by gradients, and are "
                "no sums themselves. Take another model, e.g. painn."
            )
        if kind.card is not None and not kind.card.conservative:
            raise BadInput(
                f"{place}.model '{name}' predicts forces that are no gradient of an energy. Take "
                "one that does not."
            )
        return parse(kind, self.terms[index].options, f"{place}.options")

    def _potential(self, index: int, dtype: str) -> AbstractNativePotential:
        """The module of a fixed term.

        Raises:
            UnknownKey, BadInput: no such potential or option, or one that no sum to train takes.
        """
        term, place = self.terms[index], f"sum.terms.{index}"
        if term.potential not in FIXED:
            raise unknown_key(f"{place}.potential", term.potential, FIXED)
        if "dtype" in term.options:
            raise BadInput(f"{place}.options.dtype: leave it out; the training's holds.")
        options = {**term.options, "dtype": dtype}
        module: AbstractNativePotential = (
            potential_component(term.potential, options, f"{place}.options").load().module
        )
        return module

    def completed(self, training: Dataset) -> "SumModel":
        terms = [
            replace(term, options=dump(self._model(i).completed(training))) if term.model else term
            for i, term in enumerate(self.terms)
        ]
        return replace(self, terms=tuple(terms))

    def usual_settings(self) -> Mapping[str, Any]:
        """Those of the first trained term."""
        return self._model(self._trained[0]).usual_settings()

    @property
    def _trained(self) -> tuple[int, ...]:
        return tuple(i for i, term in enumerate(self.terms) if term.model)

    def _fixed(self, species: tuple[int, ...], dtype: str) -> dict[int, AbstractNativePotential]:
        """Modules of the fixed terms by their index.

        Raises:
            UnknownElement: one of them lacks an element.
        """
        from ase.data import chemical_symbols

        modules = {
            i: self._potential(i, dtype) for i, term in enumerate(self.terms) if term.potential
        }
        for index, module in modules.items():
            missing = sorted(set(species) - set(module.species))
            if missing:
                raise UnknownElement(
                    f"sum.terms.{index} ({self.terms[index].potential}) has no parameters for "
                    f"{', '.join(chemical_symbols[z] for z in missing)}. Give them, or leave the "
                    "term out."
                )
        return modules

    def skeleton(self, species: tuple[int, ...], dtype: str) -> SumModule:
        fixed = self._fixed(species, dtype)
        modules = [
            _shapes(fixed[i]) if i in fixed else self._model(i).skeleton(species, dtype)
            for i in range(len(self.terms))
        ]
        shift: Any = jax.ShapeDtypeStruct((len(species),), np.dtype(dtype)) if fixed else None
        module: SumModule = eqx.filter_eval_shape(fused, modules, species, shift)
        return module

    def initialise(self, dataset: Dataset, key: PRNGKeyArray, dtype: str) -> SumModule:
        fixed = self._fixed(dataset.species, dtype)
        modules, shift = dict(fixed), None
        if fixed:
            dataset, shift = _without(dataset, list(fixed.values()), dtype)
        for index in self._trained:
            labels = dataset if index == self._trained[0] else _smaller(dataset)
            mine = jax.random.fold_in(key, index)
            modules[index] = self._model(index).initialise(labels, mine, dtype)
        return fused([modules[i] for i in range(len(self.terms))], dataset.species, shift)

    def inspect(self, module: AbstractNativePotential, dtype: str) -> None:
        """Those of the terms; numbers of fixed terms must be what their options give."""
        assert isinstance(module, SumModule)
        for index, term in enumerate(module.terms):
            if self.terms[index].model:
                self._model(index).inspect(term, dtype)
                continue
            found = named_arrays(term)
            kind = next(iter(found.values())).dtype.name
            expected = named_arrays(self._potential(index, kind))
            if not all(np.array_equal(found[name], expected[name]) for name in expected):
                raise BadInput(
                    f"sum.terms.{index}: the numbers of '{self.terms[index].potential}' are not "
                    "those of its options. Copy or train it again."
                )

    def trainable(self, module: AbstractNativePotential) -> Any:
        """Of fixed terms and their shift nothing is."""
        return self._flags(module, lambda model, term: model.trainable(term))

    def heads(self, module: AbstractNativePotential) -> Any:
        """Those of all trained terms."""
        return self._flags(module, lambda model, term: model.heads(term))

    def _flags(
        self,
        module: AbstractNativePotential,
        of: Callable[[AbstractArchitecture, AbstractNativePotential], Any],
    ) -> Any:
        """A tree like `module`: what `of` says of the trained terms, False elsewhere."""
        assert isinstance(module, SumModule)
        spec = jax.tree.map(lambda _: False, module)
        terms = tuple(
            of(self._model(i), term) if i in self._trained else spec.terms[i]
            for i, term in enumerate(module.terms)
        )
        return eqx.tree_at(lambda m: m.terms, spec, terms)

    def parameter_groups(self, module: AbstractNativePotential) -> Mapping[str, ParameterGroup]:
        """Those of the trained terms, as ``painn.embedding``; a second PaiNN is ``painn_2``."""
        assert isinstance(module, SumModule)
        groups, seen = {}, []
        for i in self._trained:
            name, prefix = self.terms[i].model, f"terms.{i}."
            seen.append(name)
            count = seen.count(name)
            owner = name if count == 1 else f"{name}_{count}"
            for label, group in self._model(i).parameter_groups(module.terms[i]).items():
                groups[f"{owner}.{label}"] = ParameterGroup(
                    tuple(prefix + array for array in group.arrays),
                    tuple(prefix + array for array in group.matrices),
                    group.late,
                )
        return groups


def _shapes(module: AbstractNativePotential) -> AbstractNativePotential:
    """`jax.ShapeDtypeStruct` in place of arrays."""
    return jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype) if eqx.is_array(leaf) else leaf,
        module,
    )


def _without(
    dataset: Dataset, modules: Sequence[AbstractNativePotential], dtype: str
) -> tuple[Dataset, Float[Array, "species"]]:
    """Energies and forces less those of fixed terms (stresses are left out: no scale is made from
    them), and for each element minus the terms' mean energy, eV."""
    potential = NativePotential(fused(modules, dataset.species), dtype=dtype)
    predicted = potential.predict(dataset.structures)
    records = []
    for record, fixed in zip(dataset, predicted):
        energy, forces = record.labels.energy, record.labels.forces
        assert fixed.energy is not None
        labels = Labels(
            energy=None if energy is None else energy - fixed.energy,
            forces=None if forces is None else forces - fixed.forces,
        )
        records.append(replace(record, labels=labels))
    energies = np.array([labels.energy for labels in predicted], float)
    mean, _ = regressed_energies(dataset.structures, energies, dataset.species)
    return replace(dataset, records=tuple(records)), -jnp.asarray(mean, np.dtype(dtype))


def _smaller(dataset: Dataset) -> Dataset:
    """With labels of `LATER_SHARE` of their size."""
    records = []
    for record in dataset:
        energy, forces = record.labels.energy, record.labels.forces
        labels = Labels(
            energy=None if energy is None else LATER_SHARE * energy,
            forces=None if forces is None else LATER_SHARE * forces,
        )
        records.append(replace(record, labels=labels))
    return replace(dataset, records=tuple(records))

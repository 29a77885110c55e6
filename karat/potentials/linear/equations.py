"""From labelled structures to equations: targets beside the rows of the design matrix.

Checked: tests/potentials/linear/test_design.py, test_linear_model.py.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from karat.core.errors import BadInput, UnknownElement
from karat.data.dataset import Dataset, Record
from karat.potentials.linear.design import Design, Rows, voigt
from karat.potentials.linear.least_squares import QUANTITIES, Equations, Kind
from karat.structures.structure import Structure

CACHE_BYTES = 2**29
"""Rows that are kept to be looked at again; what does not fit is computed again."""


@dataclass(frozen=True, eq=False)
class Targets:
    """What is subtracted from labels, and which labels count.

    Attributes:
        references: eV by atomic number.
        quantities: that are fitted to.
    """

    references: Mapping[int, float]
    quantities: tuple[Kind, ...]

    def equations(self, record: Record, rows: Rows) -> list[Equations]:
        """Rows with targets of the labels that the record has."""
        structure, labels, made = record.structure, record.labels, []
        count = len(structure)

        def put(quantity: Kind, matrix: np.ndarray, target: np.ndarray) -> None:
            full = np.column_stack([matrix, target])
            made.append(Equations(quantity, record.kind, full))

        if labels.energy is not None and "energy" in self.quantities:
            offset = sum(self.references[int(z)] for z in structure.numbers)
            target = (labels.energy - offset) / count - rows.core_energy
            put("energy", rows.energy[None], np.array([target]))
        if labels.forces is not None and "forces" in self.quantities:
            assert rows.forces is not None
            assert rows.core_forces is not None
            put("forces", rows.forces, labels.forces.reshape(-1) - rows.core_forces)
        if labels.stress is not None and "stress" in self.quantities:
            assert rows.virial is not None
            assert rows.core_virial is not None
            virial = voigt(labels.stress) * structure.volume / count
            put("stress", rows.virial, virial - rows.core_virial)
        return made


class Source:
    """Rows of a list of structures, as often as they are wanted; as many as fit are kept.

    Args:
        design: makes them.
        structures: in their order.
    """

    def __init__(self, design: Design, structures: Sequence[Structure]) -> None:
        self.design = design
        self.structures = list(structures)
        self._kept: dict[int, Rows] = {}
        self._room = CACHE_BYTES
        self._bare = Design(design.module, derivatives=False)

    @property
    def complete(self) -> bool:
        """Whether all rows are kept."""
        return len(self._kept) == len(self.structures)

    def rows(self, indices: Iterable[int]) -> Iterator[Rows]:
        """The rows of some structures (ascending indices), in that order."""
        yield from self._stream(list(indices), self.design)

    def atoms(self) -> Iterator[Float[np.ndarray, "_ features"]]:
        """Features of the atoms of each structure."""
        everything = list(range(len(self.structures)))
        for rows in self._stream(everything, self.design if self.complete else self._bare):
            yield rows.atoms

    def _stream(self, indices: list[int], design: Design) -> Iterator[Rows]:
        missing = [i for i in indices if i not in self._kept]
        computed = design.rows([self.structures[i] for i in missing])
        for index in indices:
            found = self._kept.get(index)
            if found is None:
                found = next(computed)
                if design is self.design:
                    self._keep(index, found)
            yield found

    def _keep(self, index: int, rows: Rows) -> None:
        size = 8 * rows.atoms.size * (4 if rows.forces is not None else 1)
        if size <= self._room:
            self._room -= size
            self._kept[index] = rows


def reference_energies(train: Dataset) -> dict[int, float]:
    """eV by atomic number: energies regressed on compositions; where these do not determine all
    elements, as near to the mean energy per atom as possible (constants of the basis and the
    fit correct them)."""
    species = train.species
    labelled = [r for r in train if r.labels.energy is not None]
    if not labelled:
        return dict.fromkeys(species, 0.0)
    counts = np.array([[np.sum(r.structure.numbers == z) for z in species] for r in labelled])
    energies = np.array([r.labels.energy for r in labelled], float)
    mean = float(energies.sum() / counts.sum())
    per_atom = counts / counts.sum(axis=1, keepdims=True)
    targets = energies / counts.sum(axis=1) - mean
    shift, *_ = np.linalg.lstsq(per_atom, targets, rcond=1e-8)
    return {z: float(mean + x) for z, x in zip(species, shift)}


def check_data(train: Dataset, valid: Dataset, quantities: tuple[Kind, ...]) -> tuple[Kind, ...]:
    """The quantities to fit that the training data have.

    Raises:
        UnknownElement: validation structures with an element that no training structure has.
        BadInput: no energy and no forces to fit to; a stress of a structure that is not periodic
            in three directions.
    """
    from ase.data import chemical_symbols

    strange = sorted(set(valid.species) - set(train.species))
    if strange:
        raise UnknownElement(
            "the validation data contain "
            f"{', '.join(chemical_symbols[z] for z in strange)}, which no training structure has. "
            "Split the data again (`karat split`), or leave these structures out."
        )
    for words, dataset in (("training", train), ("validation", valid)):
        for index, record in enumerate(dataset):
            if record.labels.stress is not None and not record.structure.periodic.all():
                raise BadInput(
                    f"the {words} structure {record.name or index} ({record.structure.formula}) "
                    "has a stress but does not repeat in three directions, so that it has no "
                    "volume. Leave its stress out, or give it a cell and periodic = T T T."
                )
    there = {name for record in train for name in record.labels.quantities}
    found = tuple(
        quantity for quantity in QUANTITIES if quantity in quantities and quantity in there
    )
    if not set(found) & {"energy", "forces"}:
        raise BadInput(
            f"the training data have no labels to fit to: asked for {', '.join(quantities)}, there "
            f"are {', '.join(sorted(there)) or 'none'}. Label them, or change the weights."
        )
    return found

"""What a fine-tuned potential has lost on data that it was not tuned to: errors before and after.

Nothing is chosen by these numbers.

Checked: tests/training/test_forgetting.py.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from jaxtyping import Float

from karat.core.errors import BadInput
from karat.data.dataset import Dataset
from karat.potentials.native.scales import regressed_energies
from karat.potentials.protocol import AbstractPotential
from karat.results.statistics import Interval, bootstrap, paired_difference
from karat.structures.labels import LevelOfTheory

SEED = 0
"""Of the bootstrap."""


@dataclass(frozen=True)
class Compared:
    """An error of the base and of the fine-tuned potential on the same structures.

    Attributes:
        name: ``energy_rmse`` or ``force_rmse``.
        unit: ``meV/atom`` or ``meV/Å``.
        base, tuned: with 95 % intervals (bootstrap over structures, taken as independent).
        difference: tuned - base, on structures drawn together; above zero: forgotten.
    """

    name: str
    unit: str
    base: Interval
    tuned: Interval
    difference: Interval


@dataclass(frozen=True)
class Forgetting:
    """Of one dataset.

    Attributes:
        name: of the data.
        structures: how many.
        level: of their labels.
        shifted: why energies were compared after a shift for each element, the best for each
            potential; "" where they were not.
        trained_on: structures that the fine-tuning was trained on or chosen by; others are
            forgotten more than these.
        errors: energies per atom, forces.
    """

    name: str
    structures: int
    level: LevelOfTheory
    shifted: str
    trained_on: int
    errors: tuple[Compared, ...]

    def as_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        return {
            **asdict(self),
            "level": self.level.as_dict(),
            "errors": [*map(asdict, self.errors)],
        }


def measure(
    name: str,
    data: Dataset,
    base: AbstractPotential,
    tuned: AbstractPotential,
    seen: Sequence[Dataset] = (),
) -> Forgetting:
    """Errors of both potentials on `data`.

    Where the three levels of theory are not known to be the same, energies of the two are compared
    after the same treatment: the least-squares shift for each element that brings a potential's
    energies nearest to the labels is taken off (`regressed_energies`), for each of the two.

    Args:
        seen: what `tuned` was tuned to and chosen by.

    Raises:
        BadInput: labels have neither energies nor forces.
        UnknownElement: elements that the potentials lack.
    """
    shifted = _why_shifted(data.level, base, tuned)
    errors = [errors_by_structure(potential, data, bool(shifted)) for potential in (base, tuned)]
    components = np.array([3.0 * len(structure) for structure in data.structures])
    compared = []
    for index, (quantity, unit) in enumerate((("energy", "meV/atom"), ("force", "meV/Å"))):
        before, after = errors[0][index], errors[1][index]
        if not np.isfinite(before).any():
            continue
        weights = components if quantity == "force" else None
        old, new = (bootstrap(found, "rms", SEED, weights=weights) for found in (before, after))
        difference = paired_difference(after, before, "rms", SEED, weights=weights)
        compared.append(Compared(f"{quantity}_rmse", unit, old, new, difference))
    if not compared:
        raise BadInput(f"{name}: no structure has an energy or forces. Label them.")
    known = {structure.digest for other in seen for structure in other.structures}
    again = sum(structure.digest in known for structure in data.structures)
    return Forgetting(name, len(data), data.level, shifted, again, tuple(compared))


def _why_shifted(level: LevelOfTheory, base: AbstractPotential, tuned: AbstractPotential) -> str:
    for words, potential in (("base", base), ("fine-tuned potential", tuned)):
        other = potential.traits.level
        if other is None or not level.same_as(other):
            label = "unknown" if other is None else other.label
            return f"the data are {level.label}, the {words} is {label}"
    return ""


def errors_by_structure(
    potential: AbstractPotential, data: Dataset, shift: bool
) -> tuple[Float[np.ndarray, "structures"], Float[np.ndarray, "structures"]]:
    """Energy errors in meV/atom, after a shift for each element if `shift`, and root mean squares
    of force errors in meV/Å; NaN where there is no label."""
    found = potential.predict(data.structures)
    energies, forces = np.full(len(data), np.nan), np.full(len(data), np.nan)
    for index, (record, label) in enumerate(zip(data, found)):
        if record.labels.energy is not None:
            assert label.energy is not None
            energies[index] = label.energy - record.labels.energy
        if record.labels.forces is not None:
            assert label.forces is not None
            forces[index] = np.sqrt(np.mean((label.forces - record.labels.forces) ** 2))
    labelled = np.flatnonzero(np.isfinite(energies)).tolist()
    if shift and labelled:
        structures = [data.records[i].structure for i in labelled]
        fitted, _ = regressed_energies(structures, energies[labelled], data.species)
        places = {z: i for i, z in enumerate(data.species)}
        for i, structure in zip(labelled, structures):
            energies[i] -= sum(fitted[places[int(z)]] for z in structure.numbers)
    atoms = np.array([len(structure) for structure in data.structures])
    return 1e3 * energies / atoms, 1e3 * forces

"""What only structures, data and installed programs can tell, checked before any work starts.

Nothing is written. Each refusal is one message that names the value, the place and the next step.

Checked: tests/campaign/test_validation.py.
"""

import math
from collections.abc import Sequence
from typing import Any, Final

import numpy as np

from karat.campaign.inputs import check_files
from karat.campaign.jax_setup import prepare_jax
from karat.campaign.sections import Campaign, Chosen, GivenData, MadeData, SplitSettings
from karat.campaign.step_data import build_system, read_given, starts_from_parts
from karat.core.errors import BadInput, UnknownElement
from karat.data.dataset import Dataset, Record
from karat.structures.labels import Labels, LevelOfTheory
from karat.structures.structure import Structure

USUAL_CUTOFF: Final = 6.0
"""Å; never refused: a small molecule may lie wholly inside."""
STRETCH: Final = 1.5
"""How much farther apart sampled atoms may come than those of the start."""
MOST_TRIPLETS: Final = 20_000_000
"""Of one structure; more do not fit into the memory of a training step (about 100 bytes each)."""
MOST_CHECKED: Final = 50
"""Structures of a data set that are looked at one by one; evenly spread."""


def validate(campaign: Campaign) -> None:
    """Refuse what cannot work.

    Raises:
        BadInput: with one clear message.
    """
    _check_files(campaign)
    starts: tuple[Structure, ...] = ()
    parts: dict[str, Dataset] = {}
    if campaign.system is not None:
        starts = build_system(campaign.system, campaign.seed)
    if isinstance(campaign.data, GivenData):
        parts, _ = read_given(campaign.data, campaign.seed)
        _check_levels(campaign, campaign.data)
        starts = starts or starts_from_parts(parts)
    _check_engine(campaign, starts)
    _check_contestants(campaign, starts, parts)
    _check_training(campaign, starts, parts)


def _check_files(campaign: Campaign) -> None:
    """Every file that is named is there and is not empty."""
    named: list[Any] = [campaign.system, campaign.data]
    named += [entry.potential.component for entry in campaign.contestants]
    named += [entry.assay.component for entry in campaign.assays]
    named += [entry.model.component for entry in campaign.train]
    if campaign.reference is not None:
        named.append(campaign.reference.component)
    for component in named:
        if component is not None and not isinstance(component, MadeData):
            check_files(component)


def _check_levels(campaign: Campaign, data: GivenData) -> None:
    if campaign.reference is None:
        return
    level = campaign.reference.component.level
    if not level.same_as(data.level):
        raise BadInput(
            f"{campaign.file}: the data are of level {data.level.label}, but the reference engine "
            f"{campaign.reference.name} computes {level.label}: two levels are never mixed. "
            "Remove 'reference', or name an engine of the data's level."
        )


def _some(structures: Sequence[Structure]) -> list[Structure]:
    chosen = np.unique(np.linspace(0, len(structures) - 1, MOST_CHECKED).round().astype(int))
    return [structures[i] for i in chosen]


def _check_engine(campaign: Campaign, starts: Sequence[Structure]) -> None:
    if campaign.reference is None:
        return
    place = f"{campaign.file}: reference {campaign.reference.name}"
    for structure in starts:
        try:
            campaign.reference.component.check(structure, ("energy", "forces"))
        except BadInput as error:
            raise type(error)(f"{place}: {error}") from error


def _check_contestants(
    campaign: Campaign, starts: Sequence[Structure], parts: dict[str, Dataset]
) -> None:
    """Parameter files can be read, packages are there, every element is known.

    What a contestant cannot treat for other reasons (a crystal, missing bonds) is "not
    applicable" where it is measured, and no error.
    """
    if not campaign.contestants:
        return
    prepare_jax()
    structures = [*starts, *(_some(parts["test"].structures) if "test" in parts else ())]
    for index, entry in enumerate(campaign.contestants):
        place = f"{campaign.file}: contestants[{index}] {entry.name}"
        try:
            species = entry.potential.component.load().traits.species
        except BadInput as error:
            raise type(error)(f"{place}: {error}") from error
        if species is not None:
            _check_elements(place, species, structures)


def _check_elements(place: str, species: Sequence[int], structures: Sequence[Structure]) -> None:
    from ase.data import chemical_symbols

    present = {int(z) for structure in structures for z in structure.numbers}
    unknown = sorted(present - set(species))
    if unknown:
        names = ", ".join(chemical_symbols[z] for z in unknown)
        known = ", ".join(chemical_symbols[z] for z in species[:20])
        more = " …" if len(species) > 20 else ""
        raise UnknownElement(
            f"{place}: has no parameters for {names}, which the system contains; it knows "
            f"{known}{more}. Remove this contestant, or give it parameters."
        )


def _check_training(
    campaign: Campaign, starts: Sequence[Structure], parts: dict[str, Dataset]
) -> None:
    if not campaign.train:
        return
    if isinstance(campaign.data, MadeData):
        try:
            most = most_training(campaign.data, starts)
        except BadInput as error:
            raise BadInput(f"{campaign.file}: data: {error}") from error
        structures, stretch = list(starts), STRETCH
    else:
        most = len(parts["train"])
        structures, stretch = parts["train"].structures, 1.0
    for index, entry in enumerate(campaign.train):
        place = f"{campaign.file}: train[{index}] {entry.name}"
        if most is not None and entry.size is not None and entry.size > most:
            raise BadInput(
                f"{place}: size {entry.size} is more than the {most} training structures that "
                "the data give. Lower 'size', or sample more (samplers, split)."
            )
        cutoff = getattr(entry.model.component, "cutoff_angstrom", None)
        if isinstance(cutoff, int | float):
            _check_cutoff(place, float(cutoff), structures, stretch)


def most_training(data: MadeData, starts: Sequence[Structure]) -> int | None:
    """How many training structures the samplers can give at most, split and gaps included.

    `None` where a sampler does not say how many it makes.
    """
    records: list[Record] = []
    for number, chosen in enumerate(data.sample):
        counts = _most_candidates(chosen, len(starts))
        if counts is None:
            return None
        for group, (count, timed) in enumerate(counts):
            records += [
                Record(starts[0], Labels(), group=f"{number}-{group}", frame=i if timed else -1)
                for i in range(count)
            ]
    if not records:
        return 0
    return _training_part(Dataset(tuple(records), LevelOfTheory("unknown")), data.split)


def _training_part(dataset: Dataset, settings: SplitSettings) -> int | None:
    from karat.data.splits import split_random, split_time_blocks

    if settings.by == "time_block":
        found = split_time_blocks(
            dataset, settings.valid, settings.test, settings.blocks, settings.gap
        )
        return len(found.train)
    if settings.by == "random":
        return len(split_random(dataset, settings.valid, settings.test, 0).train)
    return None  # it depends on which groups are drawn


def _most_candidates(chosen: Chosen, starts: int) -> list[tuple[int, bool]] | None:
    """(count, whether they have time) of each group of candidates."""
    component = chosen.component
    steps, every = getattr(component, "steps", None), getattr(component, "every", None)
    if isinstance(steps, int) and isinstance(every, int):
        return [(steps // every, True)] * starts
    for name in ("count", "copies"):
        if isinstance(count := getattr(component, name, None), int):
            return [(count, False)] * starts
    return None


def _check_cutoff(
    place: str, cutoff: float, structures: Sequence[Structure], stretch: float
) -> None:
    """Refuse a radius that holds nothing to learn from, or more than memory.

    Molecules: no pair of the data is farther apart. Crystals: triplets within the radius, by
    density, are more than `MOST_TRIPLETS`.
    """
    some = _some(structures)
    if not any(structure.periodic.any() for structure in some):
        reach = stretch * max(_extent(structure) for structure in some)
        if cutoff > max(reach, USUAL_CUTOFF):
            raise BadInput(
                f"{place}: cutoff_angstrom {cutoff:g} is larger than the data allow: no two atoms "
                f"are farther apart than {reach:.1f} Å, so that nothing beyond can be learned. "
                f"Use at most {max(reach, USUAL_CUTOFF):.1f}."
            )
    volume = 4 / 3 * math.pi
    for structure in some:
        if not structure.periodic.all():
            continue
        density = len(structure) / structure.volume
        neighbours = density * volume * cutoff**3
        triplets = len(structure) * neighbours**2 / 2
        if triplets > MOST_TRIPLETS:
            best = (math.sqrt(2 * MOST_TRIPLETS / len(structure)) / (density * volume)) ** (1 / 3)
            raise BadInput(
                f"{place}: cutoff_angstrom {cutoff:g} is larger than the data allow: "
                f"{structure.formula} has about {neighbours:.0f} neighbours per atom and "
                f"{triplets:.1e} triplets within it, more than fit into memory "
                f"({MOST_TRIPLETS:.0e}). Use at most {math.floor(best * 10) / 10:.1f}."
            )


def _extent(structure: Structure) -> float:
    from scipy.spatial.distance import pdist

    return float(pdist(structure.positions).max()) if len(structure) > 1 else 0.0

"""Paths of least energy between two structures, and their barriers.

Checked: tests/campaign/test_compute_paths.py.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import ClassVar

import numpy as np

from karat.campaign.compute.protocol import AbstractProperty, Case, Desk, Found, Source, Value
from karat.core.errors import BadInput, KaratError
from karat.potentials.protocol import AbstractPotential, check_suitable
from karat.results.figure import Figure, Series
from karat.simulation.batched_relax import RelaxSettings
from karat.simulation.neb import FLAT, NebPath, NebSettings, neb
from karat.simulation.neb_path import PathKind, matched_end

RESTLESS = 0.05
"""eV/Å; ends with longer forces are no minima, which a note says."""


@dataclass(frozen=True)
class ReactionPath(AbstractProperty):
    """Path of least energy from the first to the second structure of a file, and its barrier.

    Attributes:
        images: both ends included.
        force_tolerance: eV/Å; no force across the path, and none on the climbing image, may be
            longer.
        max_steps: after these the path has failed.
        spring: eV/Å² between neighbouring images; it only spaces them.
        climb: whether the highest image climbs to the saddle.
        climb_below: eV/Å; it begins to climb once no force across the path is longer.
        first_path: linear, or idpp, which keeps atoms apart.
        relax_ends: how both ends are relaxed before, with the settings of relax, e.g.
            {force_tolerance: 0.01}; null takes them as they are.
        align: a molecule's end is shifted and turned onto its start.
        check_order: crystals whose like atoms seem to stand in different orders are refused.
        check_saddle: count the negative curvatures at the saddle.
    """

    images: int = NebSettings.images
    force_tolerance: float = NebSettings.force_tolerance
    max_steps: int = NebSettings.max_steps
    spring: float = NebSettings.spring
    climb: bool = NebSettings.climb
    climb_below: float = NebSettings.climb_below
    first_path: PathKind = NebSettings.first_path
    relax_ends: RelaxSettings | None = NebSettings.relax_ends
    align: bool = NebSettings.align
    check_order: bool = NebSettings.check_order
    check_saddle: bool = NebSettings.check_saddle

    version: ClassVar[int] = 1
    columns: ClassVar[tuple[str, ...]] = (
        *("barrier_forward", "barrier_backward", "length", "saddle", "max_perpendicular_force"),
        "steps",
    )

    def __post_init__(self) -> None:
        _ = self.settings  # refuses what does not fit

    @property
    def settings(self) -> NebSettings:
        """The settings of `neb`."""
        return NebSettings(**{field.name: getattr(self, field.name) for field in fields(self)})

    def cases(self, sources: Sequence[Source]) -> tuple[Case, ...]:
        for source in sources:
            if len(source.structures) < 2:
                raise BadInput(
                    f"{source.name}: holds one structure. A path needs both ends in one file, the "
                    "start first, e.g. `ase convert start.cif end.cif both.xyz`."
                )
        return tuple(Case(_short(source.name), source.structures) for source in sources)

    def check(self, potential: AbstractPotential, case: Case) -> None:
        if len(case.structures) > 2:
            raise BadInput(
                f"holds {len(case.structures)} structures: a path is searched between two, and "
                "first_path (linear, idpp) says from what. Keep the first and the last alone, or "
                "give each piece in a file of its own."
            )
        start, end = case.structures
        matched_end(start, end, self.align, self.check_order)
        for structure in (start, end):
            check_suitable(potential, structure, ("energy", "forces"))

    def measure(
        self, potential: AbstractPotential, cases: Sequence[Case], desk: Desk
    ) -> list[Found | KaratError]:
        outcomes: list[Found | KaratError] = []
        for case in cases:
            try:
                outcomes.append(self._one(potential, case, desk))
            except KaratError as error:
                outcomes.append(error)
        return outcomes

    def _one(self, potential: AbstractPotential, case: Case, desk: Desk) -> Found:
        def progress(step: int, force: float) -> None:
            desk.say(
                f"{case.name}: step {step}, longest force {force:.3g} eV/Å "
                f"({self.force_tolerance:g} wanted)"
            )

        start, end = case.structures
        return _found(neb(potential, start, end, self.settings, progress), self.climb)


def _short(name: str) -> str:
    """The name of a file without folders and endings."""
    return Path(name).name.partition(".")[0] or name


def _found(path: NebPath, climb: bool) -> Found:
    axes = ("images",)
    values = [
        Value("energies", path.energies, "eV", axes),
        Value("arc_length", path.arc_length, "Å", axes, "along the path, in all coordinates"),
        Value("length", path.arc_length[-1], "Å", title="length of the path"),
        Value("barrier_forward", np.array(path.barrier_forward), "eV"),
        Value("barrier_backward", np.array(path.barrier_backward), "eV"),
        Value("energy_change", path.energies[-1] - path.energies[0], "eV", title="end minus start"),
        Value("max_perpendicular_force", np.array(path.max_perpendicular_force), "eV/Å"),
        Value("max_end_force", np.array(path.max_end_force), "eV/Å"),
        Value("energy_misfit", np.array(path.energy_misfit), "eV"),
        Value("steps", np.array(path.steps)),
    ]
    structures = {f"image {k}": image for k, image in enumerate(path.images)}
    if path.saddle is not None:
        values.append(Value("saddle", np.array(path.saddle), title="image, counted from 0"))
        structures["saddle"] = path.images[path.saddle]
    if path.intermediate_minima:
        minima = np.array(path.intermediate_minima)
        values.append(Value("intermediate_minima", minima, "", ("minima",), "images, from 0"))
    check = path.saddle_check
    if check is not None:
        values += [
            Value("curvatures", check.curvatures, "eV/Å²", ("components",), "at the saddle"),
            Value("negative_curvatures", np.array(check.negative)),
            Value("first_order", np.array(check.first_order)),
            Value("moving_atoms", check.atoms, "", ("moving",), "counted from 0"),
        ]
    return Found(tuple(values), structures, (), (_figure(path),), _notes(path, climb))


def _figure(path: NebPath) -> Figure:
    height = path.energies - path.energies[0]
    x, y = path.arc_length.tolist(), height.tolist()
    saddle = "" if path.saddle is None else f" Image {path.saddle} stands on the saddle."
    return Figure(
        "lines",
        "neb",
        f"Path of {path.images[0].formula}",
        "along the path, Å",
        "energy above the start, eV",
        (Series("energy", tuple(x), tuple(y), labels=tuple(f"image {k}" for k in range(len(x)))),),
        note=f"Lines only join the images.{saddle}",
    )


def _notes(path: NebPath, climb: bool) -> dict[str, str]:
    """What a reader of the barriers must know."""
    notes = {}
    highest = max(path.barrier_forward, path.barrier_backward)
    if path.saddle is None:
        notes["saddle"] = (
            f"none: no image between the ends is higher than both by {FLAT:g} eV"
            if climb
            else "none: no image was to climb, so that the barriers are lower bounds"
        )
    if path.max_end_force > RESTLESS:
        notes["ends"] = (
            f"no minima: forces of {path.max_end_force:.3g} eV/Å. For barriers between minima: "
            "--set 'relax_ends={force_tolerance: 0.01}'"
        )
    if path.intermediate_minima:
        between = ", ".join(map(str, path.intermediate_minima))
        notes["minima"] = (
            f"the path passes minima at images {between}: relax them and search each piece"
        )
    if path.energy_misfit > max(0.5 * highest, FLAT):
        notes["images"] = (
            f"too few: energies of neighbouring images differ by {path.energy_misfit:.3g} eV "
            "otherwise than their forces say"
        )
    return notes

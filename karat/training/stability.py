"""A short run of dynamics before a checkpoint is chosen: low validation errors do not say that a
potential has no holes next to the data.

Candidates are the best epochs of different tenths of the run. A few structures of the validation
data move side by side in one compiled program at a set temperature; a potential fails where the
engine stops (a number that is not finite, a jump, heat), where two atoms come closer than anything
in the data, where a bond of a molecule is twice as long as at the start, or where the temperature
stays above twice that of the thermostat. The first candidate by validation loss that passes wins;
where none does, the best by validation loss is returned and said to be unstable.

Source: Fu et al., Trans. Mach. Learn. Res. (2023), arXiv:2210.07237, for the need; Langevin
dynamics as in `karat.simulation.dynamics`.
Checked: tests/training/test_stability.py.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from jaxtyping import Float

from karat.core.errors import BadInput, CalculationFailed
from karat.core.units import BOLTZMANN
from karat.data.dataset import Dataset
from karat.potentials.native_protocol import NativePotential
from karat.simulation.dynamics import Trajectory, run_batch
from karat.simulation.loop import Dynamics
from karat.simulation.velocities import masses
from karat.structures.neighbours import neighbour_pairs
from karat.structures.structure import Structure

STRUCTURES = 4
CANDIDATES = 3
TENTHS = 10
"""Parts of a run; each gives one candidate, so that they are not neighbours in time."""
FRAME_FS = 5.0
CLOSEST = 0.75
"""Part of the shortest distance in the data (at most the sum of covalent radii) that may be
reached."""
LONGEST = 2.0
"""A bond of a molecule may grow to so many times its length at the start."""
BONDED = 1.25
"""Atoms closer than so many times the sum of their covalent radii are bonded."""
HOT = 2.0
"""Times the thermostat's temperature, in the mean over the second half of a run. In 1 ps (friction
10/ps: about five independent samples of the kinetic energy) ten healthy atoms pass it with a chance
of 5e-12, four with 7e-6, two with 9e-4 (χ² with 15 degrees of freedom for each atom)."""
LIGHT_AMU = 3.0


@dataclass(frozen=True)
class Candidate:
    """An epoch whose parameters are kept.

    Attributes:
        epoch: from 1.
        loss: of the validation data.
    """

    epoch: int
    loss: float


def place_of(
    candidates: Sequence[Candidate], epoch: int, loss: float, epochs: int, most: int = CANDIDATES
) -> int | None:
    """Which place among `candidates` an epoch takes: that of its own tenth of the run if it is
    better, the next free one (the length of `candidates`), that of the worst, or `None`.

    So the epoch with the lowest loss of all always has a place.
    """
    if not np.isfinite(loss):
        return None
    tenth = _tenth(epoch, epochs)
    for place, other in enumerate(candidates):
        if _tenth(other.epoch, epochs) == tenth:
            return place if loss < other.loss else None
    if len(candidates) < most:
        return len(candidates)
    worst = max(range(most), key=lambda i: candidates[i].loss)
    return worst if loss < candidates[worst].loss else None


def _tenth(epoch: int, epochs: int) -> int:
    return (epoch - 1) * min(TENTHS, epochs) // epochs


@dataclass(frozen=True)
class Instability:
    """Why one run failed.

    Attributes:
        structure: its name in the validation data, or formula.
        kind: a short word.
        femtoseconds: after so long.
        reason: for people.
    """

    structure: str
    kind: str
    femtoseconds: float
    reason: str


@dataclass(frozen=True)
class Tried:
    """A candidate and how it fared; it passed if there are no failures."""

    epoch: int
    loss: float
    failures: tuple[Instability, ...]


@dataclass(frozen=True)
class Stability:
    """What the test of the candidates found.

    Attributes:
        passed: whether the chosen epoch is stable.
        epoch: chosen.
        tried: candidates in order of validation loss, up to the one that passed.
        picoseconds, temperature_k, structures: of the test.
    """

    passed: bool
    epoch: int
    tried: tuple[Tried, ...]
    picoseconds: float
    temperature_k: float
    structures: tuple[str, ...]

    @property
    def note(self) -> str:
        """For people: "" where the epoch with the lowest loss passed, a warning where none did."""
        if len(self.tried) == 1 and self.passed:
            return ""
        first = self.tried[0].failures[0]
        why = f"{first.structure}, {first.femtoseconds:.0f} fs: {first.reason}"
        length = f"{self.picoseconds:g} ps at {self.temperature_k:g} K"
        if self.passed:
            return (
                f"epoch {self.tried[0].epoch} has a lower validation loss, but is not stable in "
                f"dynamics of {length} ({why})"
            )
        number = f"none of {len(self.tried)} candidates is" if len(self.tried) > 1 else "it is not"
        return (
            f"WARNING: not stable: {number} stable in dynamics of {length} ({why}). Do not run "
            "dynamics with this potential; add structures like those it failed on"
        )

    def as_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        values = asdict(self)
        values["structures"] = list(self.structures)
        values["tried"] = [{**asdict(t), "failures": list(map(asdict, t.failures))}
                           for t in self.tried]  # fmt: skip
        return {**values, "note": self.note}


@dataclass(frozen=True, eq=False)
class StabilityTest:
    """The runs that a candidate must survive.

    Attributes:
        structures, names: that move.
        closest: shortest distance allowed between two elements, Å.
        settings: of the dynamics.
    """

    structures: tuple[Structure, ...]
    names: tuple[str, ...]
    closest: Mapping[tuple[int, int], float]
    settings: Dynamics

    @classmethod
    def of(
        cls, valid: Dataset, picoseconds: float, temperature_k: float, seed: int
    ) -> "StabilityTest":
        """On four structures at equal distances in `valid`, in its order, single atoms left out;
        steps of 0.5 fs where there is hydrogen (below 3 amu), of 1 fs elsewhere.

        Raises:
            BadInput: the validation data are single atoms only, or a time or temperature that is
                not positive.
        """
        if not (picoseconds > 0 and temperature_k > 0):
            raise BadInput(
                f"training.stability_picoseconds {picoseconds:g} and stability_temperature_k "
                f"{temperature_k:g} must be positive (stability_picoseconds 0: no test)."
            )
        movable = [i for i, structure in enumerate(valid.structures) if len(structure) > 1]
        if not movable:
            raise BadInput(
                "training.stability_picoseconds: the validation data are single atoms; nothing "
                "can be learned from their dynamics. Set it to 0."
            )
        places = np.linspace(0, len(movable) - 1, min(STRUCTURES, len(movable)))
        chosen = [movable[round(place)] for place in places.tolist()]
        structures = tuple(valid.structures[i] for i in chosen)
        names = tuple(
            record.name or f"{i} ({record.structure.formula})"
            for i, record in ((i, valid.records[i]) for i in chosen)
        )
        light = min(float(masses(structure).min()) for structure in structures) < LIGHT_AMU
        timestep = 0.5 if light else 1.0
        every = round(FRAME_FS / timestep)
        steps = max(1, round(1000 * picoseconds / FRAME_FS)) * every
        settings = Dynamics("langevin", temperature_k, timestep, steps, every, seed=seed)
        return cls(structures, names, closest_allowed(valid.structures), settings)

    def run(self, potential: NativePotential) -> tuple[Instability, ...]:
        """Why `potential` fails; nothing where it does not."""
        try:
            runs = run_batch(potential, self.structures, self.settings)
        except CalculationFailed as error:
            return (Instability(", ".join(self.names), error.kind, 0.0, str(error)),)
        found = [self._judged(name, run) for name, run in zip(self.names, runs)]
        return tuple(failure for failure in found if failure is not None)

    def _judged(self, name: str, run: Trajectory) -> Instability | None:
        """The first thing that went wrong."""
        times = run.times_fs
        bonds = _bonds(run.start)
        for frame, positions in enumerate(run.positions):
            for kind, reason in (
                ("collapse", self._too_close(run.start, positions)),
                ("bond-broken", _too_long(run.start, positions, *bonds)),
            ):
                if reason:
                    return Instability(name, kind, float(times[frame]), reason)
        if run.stopped is not None:
            assert run.stopped_step is not None
            time = run.stopped_step * self.settings.timestep_fs
            return Instability(name, run.stopped.kind, time, run.stopped.reason)
        hot = mean_temperature(run)
        if hot > HOT * self.settings.temperature_k:
            half = float(times[len(times) // 2])
            reason = f"mean temperature {hot:.0f} K from then on"
            return Instability(name, "hot", half, reason)
        return None

    def _too_close(self, start: Structure, positions: Float[np.ndarray, "atoms 3"]) -> str:
        now = start.replace(positions=positions)
        for (a, b), (distance, i, j) in closest_pairs(now, max(self.closest.values())).items():
            if distance < self.closest.get((a, b), 0.0):
                return f"atoms {i} and {j} come within {distance:.2f} Å"
        return ""


def choose(
    candidates: Sequence[Candidate],
    potential_of: Callable[[int], NativePotential],
    test: StabilityTest,
    announce: Callable[[str], None] | None = None,
) -> tuple[int, Stability]:
    """The place of the first candidate by validation loss that is stable (of the first, where
    none is), and what was found.

    Args:
        potential_of: place among `candidates` → its potential.
        announce: told in words before each candidate.
    """
    order = sorted(range(len(candidates)), key=lambda i: (candidates[i].loss, candidates[i].epoch))
    tried: list[Tried] = []
    chosen, passed = order[0], False
    for place in order:
        one = candidates[place]
        if announce is not None:
            announce(f"testing the stability of epoch {one.epoch}")
        tried.append(Tried(one.epoch, one.loss, test.run(potential_of(place))))
        if not tried[-1].failures:
            chosen, passed = place, True
            break
    settings = test.settings
    length = settings.steps * settings.timestep_fs / 1000
    return chosen, Stability(
        passed, candidates[chosen].epoch, tuple(tried), length, settings.temperature_k, test.names
    )


def mean_temperature(run: Trajectory) -> float:
    """Kinetic temperature in K over the second half of a Langevin run (3 N degrees of freedom)."""
    energies = run.kinetic_energies[len(run) // 2 :]
    return float(2 * energies.mean() / (3 * len(run.start) * BOLTZMANN))


def closest_allowed(structures: Sequence[Structure]) -> dict[tuple[int, int], float]:
    """For each two elements, in Å: `CLOSEST` times the shortest distance in these structures, or
    times the sum of the covalent radii where they never come that close."""
    from ase.data import covalent_radii

    species = sorted({int(z) for structure in structures for z in structure.numbers})
    limits = {
        (a, b): float(covalent_radii[a] + covalent_radii[b])
        for a in species
        for b in species
        if a <= b
    }
    reach = max(limits.values())
    for structure in structures:
        for pair, (distance, _, _) in closest_pairs(structure, reach).items():
            limits[pair] = min(limits[pair], distance)
    return {pair: CLOSEST * distance for pair, distance in limits.items()}


def closest_pairs(
    structure: Structure, reach: float
) -> dict[tuple[int, int], tuple[float, int, int]]:
    """For each two elements the shortest distance (Å) within `reach`, and the atoms it is of."""
    pairs = neighbour_pairs(structure, reach)
    distances = np.linalg.norm(pairs.vectors, axis=1)
    order = np.argsort(distances, kind="stable")
    i, j = pairs.centers[order], pairs.neighbours[order]
    elements = np.sort(structure.numbers[np.stack([i, j], axis=1)], axis=1)
    kinds, first = np.unique(elements, axis=0, return_index=True)
    found = {}
    for (a, b), k in zip(kinds.tolist(), first.tolist()):
        low, high = sorted((int(i[k]), int(j[k])))
        found[a, b] = (float(distances[order[k]]), low, high)
    return found


def _bonds(start: Structure) -> tuple[np.ndarray, np.ndarray]:
    """Bonded pairs of a molecule and their lengths; none in periodic structures, where atoms may
    diffuse."""
    from ase.data import covalent_radii

    i, j = np.triu_indices(len(start), 1)
    lengths = np.linalg.norm(start.positions[i] - start.positions[j], axis=1)
    radii = covalent_radii[start.numbers]
    bonded = (lengths < BONDED * (radii[i] + radii[j])) & (not start.periodic.any())
    return np.stack([i, j], axis=1)[bonded], lengths[bonded]


def _too_long(
    start: Structure,
    positions: Float[np.ndarray, "atoms 3"],
    bonds: np.ndarray,
    lengths: np.ndarray,
) -> str:
    if not len(bonds):
        return ""
    now = np.linalg.norm(positions[bonds[:, 0]] - positions[bonds[:, 1]], axis=1)
    worst = int(np.argmax(now / lengths))
    if now[worst] <= LONGEST * lengths[worst]:
        return ""
    i, j = bonds[worst].tolist()
    return f"the bond of atoms {i} and {j} grew from {lengths[worst]:.2f} to {now[worst]:.2f} Å"

"""Energies of vacancies, interstitials and surfaces, ions relaxed.

Checked: tests/simulation/test_defects.py, against counted bonds and ASE with matscipy.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from karat.core.errors import BadInput, CalculationFailed, KaratError
from karat.potentials.protocol import AbstractPotential
from karat.simulation.batched_relax import (
    RelaxedStructure,
    RelaxSettings,
    energy_of,
    relax_batch,
)
from karat.simulation.strain import require_crystal
from karat.structures.structure import Structure

JOULE_PER_SQUARE_METRE = 16.02176634
"""J/m² per eV/Å²: the elementary charge, exact in the SI, times 10²⁰."""
TOO_NEAR = 0.5
"""Å; an interstitial atom this close to another lies on top of it."""


@dataclass(frozen=True, eq=False)
class PointDefect:
    """A vacancy or an interstitial in a supercell of fixed size.

    Attributes:
        formation_energy: eV; energy with the defect less that of the perfect supercell, plus
            (vacancy) or less (interstitial) the chemical potential of the atom.
        chemical_potential: eV, that was used; of an element, its energy per atom in the crystal.
        perfect, defective: structures, relaxed if that was asked for.
        max_force: longest force left in the defective one, eV/Å; `None` where nothing was relaxed.
    """

    formation_energy: float
    chemical_potential: float
    perfect: Structure
    defective: Structure
    max_force: float | None


@dataclass(frozen=True, eq=False)
class Surface:
    """A slab with two equal faces.

    Attributes:
        energy: (slab - bulk)/(2 area), eV/Å².
        energy_j_per_m2: the same in J/m².
        area: of one face, Å².
        slab: relaxed if that was asked for.
    """

    energy: float
    energy_j_per_m2: float
    area: float
    slab: Structure


def vacancy(
    potential: AbstractPotential,
    crystal: Structure,
    supercell: tuple[int, int, int],
    atom: int = 0,
    chemical_potentials: Mapping[int, float] | None = None,
    settings: RelaxSettings | None = None,
) -> PointDefect:
    """Formation energy of a missing atom.

    The symmetric vacancy may be at rest without being lowest (in Stillinger-Weber silicon no
    force acts around it): relax a disturbed `defective` structure where that matters.

    Args:
        crystal: at rest (relax it with `relax_batch` first); the supercell's cell is kept.
        supercell: repeats; the vacancy's images interact, so enlarge it until the energy stands.
        atom: of `crystal`, which is taken out.
        chemical_potentials: eV by atomic number; of an element, by default, the crystal's own.
        settings: of relaxing the ions; `None` leaves them where they are.

    Raises:
        UnsuitableStructure, UnknownElement: see `check_suitable`; or not a crystal.
        BadInput: no such atom, a cell that is to be relaxed, or no chemical potential.
        CalculationFailed: a relaxation failed.
    """
    require_crystal(crystal, "a vacancy")
    if not 0 <= atom < len(crystal):
        raise BadInput(
            f"vacancy: atom {atom} of {crystal.formula}: it has 0 to {len(crystal) - 1}."
        )
    perfect = _repeated(crystal, supercell)
    if len(perfect) < 2:
        raise BadInput("vacancy: the supercell has one atom; nothing would be left. Enlarge it.")
    stays = np.arange(len(perfect)) != atom
    defective = perfect.replace(numbers=perfect.numbers[stays], positions=perfect.positions[stays])
    number = int(crystal.numbers[atom])
    return _point_defect(potential, perfect, defective, number, chemical_potentials, settings)


def interstitial(
    potential: AbstractPotential,
    crystal: Structure,
    supercell: tuple[int, int, int],
    number: int,
    position: Float[np.ndarray, "3"],
    chemical_potentials: Mapping[int, float] | None = None,
    settings: RelaxSettings | None = None,
) -> PointDefect:
    """Formation energy of an additional atom; arguments as for `vacancy`.

    Args:
        number: atomic number of the additional atom.
        position: in fractions of `crystal`'s lattice vectors.

    Raises:
        BadInput: the place is taken; else as for `vacancy`.
    """
    require_crystal(crystal, "an interstitial")
    perfect = _repeated(crystal, supercell)
    place = np.asarray(position, float) @ crystal.cell
    fractional = (perfect.positions - place) @ np.linalg.inv(perfect.cell)
    nearest = np.linalg.norm((fractional - np.round(fractional)) @ perfect.cell, axis=1).min()
    if nearest < TOO_NEAR:
        raise BadInput(
            f"interstitial: at {np.round(position, 4).tolist()} lies an atom already "
            f"({nearest:.2g} Å away). Choose an empty place."
        )
    defective = perfect.replace(
        numbers=np.append(perfect.numbers, number),
        positions=np.concatenate([perfect.positions, place[None]]),
    )
    return _point_defect(potential, perfect, defective, number, chemical_potentials, settings)


def surface(
    potential: AbstractPotential,
    crystal: Structure,
    miller: tuple[int, int, int],
    layers: int,
    vacuum_angstrom: float = 10.0,
    settings: RelaxSettings | None = None,
) -> Surface:
    """Energy of the faces of a slab of the crystal's own composition.

    Both faces count: they are alike where the crystal has a symmetry that turns the slab over,
    else the value is their mean.

    Args:
        crystal: at rest; its cell is the one that `miller` refers to (the conventional one).
        miller: indices of the face.
        layers: as `ase.build.surface` counts them.
        vacuum_angstrom: on either side.
        settings: of relaxing the ions; `None` leaves them where they are.

    Raises:
        UnsuitableStructure, UnknownElement: see `check_suitable`; or not a crystal.
        BadInput: indices that are all zero, no layers, no vacuum.
        CalculationFailed: a relaxation failed.
    """
    from ase.build import surface as ase_surface

    require_crystal(crystal, "a surface")
    if not any(miller) or layers < 1 or not vacuum_angstrom > 0:
        raise BadInput(
            f"surface: indices {miller}, {layers} layers and a vacuum of {vacuum_angstrom} Å: "
            "indices must not all be zero, the others must be positive."
        )
    built = ase_surface(crystal.to_ase(), miller, layers, vacuum=vacuum_angstrom, periodic=True)
    slab = Structure.from_ase(built).replace(multiplicity=None)
    (bulk, slab), (bulk_energy, slab_energy), _ = _energies(potential, crystal, slab, settings)
    area = float(np.linalg.norm(np.cross(slab.cell[0], slab.cell[1])))
    energy = (slab_energy - len(slab) / len(bulk) * bulk_energy) / (2 * area)
    return Surface(energy, energy * JOULE_PER_SQUARE_METRE, area, slab)


def _repeated(crystal: Structure, supercell: tuple[int, int, int]) -> Structure:
    if min(supercell) < 1:
        raise BadInput(f"supercell {supercell}: every number must be positive.")
    return Structure.from_ase(crystal.to_ase().repeat(supercell)).replace(multiplicity=None)


def _point_defect(
    potential: AbstractPotential,
    perfect: Structure,
    defective: Structure,
    number: int,
    chemical_potentials: Mapping[int, float] | None,
    settings: RelaxSettings | None,
) -> PointDefect:
    elements = set(perfect.numbers.tolist())
    given = (chemical_potentials or {}).get(number)
    if given is None and elements != {number}:
        raise BadInput(
            f"The chemical potential of atomic number {number} in {perfect.formula} is not its "
            "energy per atom; give it in chemical_potentials (eV)."
        )
    (before, after), (whole, broken), force = _energies(potential, perfect, defective, settings)
    potential_of_atom = whole / len(before) if given is None else given
    added = len(defective) - len(perfect)
    formation = broken - whole - added * potential_of_atom
    return PointDefect(formation, potential_of_atom, before, after, force)


def _energies(
    potential: AbstractPotential,
    first: Structure,
    second: Structure,
    settings: RelaxSettings | None,
) -> tuple[tuple[Structure, Structure], tuple[float, float], float | None]:
    """Both structures and energies, relaxed in one batch, and the force left in the second."""
    if settings is None:
        labels = potential.predict([first, second], ("energy", "forces"))
        return (first, second), (energy_of(labels[0]), energy_of(labels[1])), None
    if settings.cell != "fixed":
        raise BadInput("defects: settings.cell must be 'fixed'; the crystal's own cell is kept.")
    relaxed: list[RelaxedStructure] = []
    for found in relax_batch(potential, [first, second], settings):
        if isinstance(found, CalculationFailed):
            raise CalculationFailed(f"defects: {found}", found.kind) from found
        if isinstance(found, KaratError):
            raise found
        relaxed.append(found)
    before, after = relaxed
    return (
        (before.structure, after.structure),
        (before.energy, after.energy),
        after.max_force,
    )

"""Phonons of crystals through phonopy: dispersion, density of states, thermal properties.

Checked: tests/simulation/test_phonons.py, against phonopy with matscipy and exact limits.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float, Int

from karat.core.errors import BadInput, CalculationFailed, KaratError, MissingDependency
from karat.core.units import KJ_PER_MOL
from karat.potentials.protocol import AbstractPotential, check_suitable
from karat.simulation.batched_relax import CellFreedom, RelaxSettings, relax_batch
from karat.simulation.strain import require_crystal
from karat.simulation.velocities import masses
from karat.structures.structure import Structure

if TYPE_CHECKING:
    from phonopy import Phonopy
    from phonopy.structure.atoms import PhonopyAtoms

IMAGINARY_THZ = 0.1
"""Frequencies below minus this are imaginary; the acoustic ones at Γ are zero up to noise."""


@dataclass(frozen=True, eq=False)
class Bands:
    """Frequencies along the path of high symmetry.

    Attributes:
        qpoints: in reciprocal vectors of the primitive cell.
        distances: along the path, 1/Å (without 2π).
        labels: names of the special points.
        label_distances: where they lie.
        frequencies_thz: ascending at each point; imaginary ones negative.
    """

    qpoints: Float[np.ndarray, "points 3"]
    distances: Float[np.ndarray, "points"]
    labels: tuple[str, ...]
    label_distances: Float[np.ndarray, "labels"]
    frequencies_thz: Float[np.ndarray, "points bands"]


@dataclass(frozen=True, eq=False)
class Phonons:
    """Harmonic lattice dynamics of a crystal.

    Attributes:
        structure: the cell that was given, relaxed if that was asked for.
        primitive: its primitive cell, to which q-points and modes belong.
        supercell: repeats of `structure`, within which force constants were found.
        symmetry_tolerance: Å, to which the primitive cell was found.
        force_constants: ∂²E/∂x∂x of the supercell, eV/Å²; atoms in phonopy's order.
        displacements: how many displaced supercells were computed.
        max_force: longest force in the crystal that was displaced, eV/Å (subtracted).
        mesh: of q-points, centred on Γ.
        qpoints: the irreducible ones, in reciprocal vectors of the primitive cell.
        weights: how many points of the mesh each stands for.
        frequencies_thz: imaginary ones negative.
        imaginary_fraction: of all modes on the mesh, those below -`IMAGINARY_THZ`.
        dos_frequencies_thz, dos_per_thz: density of states of a primitive cell; its integral is
            three times the number of atoms.
        bands: along the path of high symmetry.
    """

    structure: Structure
    primitive: Structure
    supercell: tuple[int, int, int]
    symmetry_tolerance: float
    force_constants: Float[np.ndarray, "atoms atoms 3 3"]
    displacements: int
    max_force: float
    mesh: tuple[int, int, int]
    qpoints: Float[np.ndarray, "points 3"]
    weights: Int[np.ndarray, "points"]
    frequencies_thz: Float[np.ndarray, "points bands"]
    imaginary_fraction: float
    dos_frequencies_thz: Float[np.ndarray, "bins"]
    dos_per_thz: Float[np.ndarray, "bins"]
    bands: Bands

    @property
    def lowest_thz(self) -> float:
        """Lowest frequency on mesh and path; clearly negative where the crystal is unstable."""
        return float(min(self.frequencies_thz.min(), self.bands.frequencies_thz.min()))


@dataclass(frozen=True, eq=False)
class ThermalProperties:
    """Of harmonic vibrations at constant volume, per mole of primitive cells or per cell.

    Attributes:
        temperatures_k: K.
        free_energy: Helmholtz, zero-point energy included, eV per primitive cell.
        entropy_j_per_mol_k: J/mol/K.
        heat_capacity_j_per_mol_k: C_V, J/mol/K.
        zero_point_energy: eV per primitive cell.
        atoms: in the primitive cell.
    """

    temperatures_k: Float[np.ndarray, "temperatures"]
    free_energy: Float[np.ndarray, "temperatures"]
    entropy_j_per_mol_k: Float[np.ndarray, "temperatures"]
    heat_capacity_j_per_mol_k: Float[np.ndarray, "temperatures"]
    zero_point_energy: float
    atoms: int


def phonons(
    potential: AbstractPotential,
    structure: Structure,
    supercell: tuple[int, int, int] = (3, 3, 3),
    displacement: float = 0.01,
    mesh: tuple[int, int, int] = (20, 20, 20),
    path_points: int = 101,
    relax_first: CellFreedom | None = "free",
    force_tolerance: float = 1e-4,
    symmetry_tolerance: float = 1e-4,
) -> Phonons:
    """Force constants by finite displacements, all in one batched call, and what follows.

    Interactions that reach beyond half the supercell are folded back: enlarge it until
    frequencies stand still. Charges' long-range (LO-TO) term is not added.

    Args:
        supercell: repeats of the given cell.
        displacement: Å.
        mesh: of q-points, for density of states and thermal properties.
        path_points: along the path of high symmetry.
        relax_first: what of the cell is relaxed with the atoms before, symmetry kept; `None`
            takes the crystal as it is.
        force_tolerance: eV/Å, of that relaxation.
        symmetry_tolerance: Å, for finding the space group.

    Raises:
        UnsuitableStructure, UnknownElement: see `check_suitable`; or not a crystal.
        BadInput: a displacement, supercell or mesh that is not positive.
        MissingDependency: phonopy is not installed.
        CalculationFailed: the relaxation or a displaced supercell failed.

    Source: Togo, Chaput, Tadano & Tanaka, J. Phys.: Condens. Matter 35, 353001 (2023).
    """
    require_crystal(structure, "phonons")
    _require_phonopy()
    if not displacement > 0 or path_points < 2:
        raise BadInput(
            f"phonons: displacement {displacement} Å must be positive, and path_points "
            f"{path_points} at least 2."
        )
    if min(*supercell, *mesh) < 1:
        raise BadInput(f"phonons: supercell {supercell} and mesh {mesh} must be positive.")
    check_suitable(potential, structure, ("energy", "forces"))
    if relax_first is not None:
        structure = _relaxed(potential, structure, relax_first, force_tolerance, symmetry_tolerance)
    crystal = _phonopy(structure, supercell, symmetry_tolerance)
    crystal.generate_displacements(distance=displacement)
    cells = [crystal.supercell, *(crystal.supercells_with_displacements or [])]
    labels = potential.predict([_structure(cell) for cell in cells], ("energy", "forces"))
    forces = np.array([one.forces for one in labels])
    crystal.forces = forces[1:] - forces[0]
    crystal.produce_force_constants(show_drift=False)
    crystal.symmetrize_force_constants(show_drift=False)
    return _collected(crystal, structure, supercell, symmetry_tolerance, mesh, path_points, forces)


def _collected(
    crystal: "Phonopy",
    structure: Structure,
    supercell: tuple[int, int, int],
    symmetry_tolerance: float,
    mesh: tuple[int, int, int],
    path_points: int,
    forces: Float[np.ndarray, "cells atoms 3"],
) -> Phonons:
    """Mesh, density of states and bands of phonopy's object as a frozen result."""
    grid = crystal.run_mesh(mesh, is_gamma_center=True)
    frequencies = np.array(grid.frequencies)
    weights = np.array(grid.weights, dtype=np.int64)
    imaginary = np.sum(weights[:, None] * (frequencies < -IMAGINARY_THZ))
    dos = crystal.run_total_dos()
    primitive = _structure(crystal.primitive)
    return Phonons(
        structure=structure,
        primitive=primitive,
        supercell=supercell,
        symmetry_tolerance=symmetry_tolerance,
        force_constants=np.array(crystal.force_constants),
        displacements=len(forces) - 1,
        max_force=float(np.linalg.norm(forces[0], axis=1).max()),
        mesh=mesh,
        qpoints=np.array(grid.qpoints),
        weights=weights,
        frequencies_thz=frequencies,
        imaginary_fraction=float(imaginary / (weights.sum() * frequencies.shape[1])),
        dos_frequencies_thz=np.array(dos.frequency_points),
        dos_per_thz=np.array(dos.dos),
        bands=_bands(crystal, primitive, path_points),
    )


def frequencies_at(
    found: Phonons, qpoints: Float[np.ndarray, "points 3"]
) -> Float[np.ndarray, "points bands"]:
    """THz at q-points given in reciprocal vectors of the primitive cell; imaginary negative."""
    return np.array(_restored(found).run_qpoints(qpoints).frequencies)


def thermal_properties(found: Phonons, temperatures_k: Sequence[float]) -> ThermalProperties:
    """Free energy, entropy and heat capacity from the mesh; the three modes that are shifts of
    the whole crystal (acoustic at Γ) left out.

    Raises:
        BadInput: a negative temperature, or none.
        CalculationFailed: kind ``imaginary-modes``: the harmonic crystal is not stable and has
            no free energy.
    """
    wanted = np.array(temperatures_k, dtype=float)
    if len(wanted) == 0 or not (np.isfinite(wanted).all() and wanted.min() >= 0):
        raise BadInput(f"thermal_properties: temperatures {temperatures_k} must be 0 K or more.")
    if found.imaginary_fraction > 0:
        raise CalculationFailed(
            f"{found.structure.formula} has {100 * found.imaginary_fraction:.3g} % imaginary "
            f"modes (down to {found.lowest_thz:.3g} THz): no harmonic free energy. Relax it "
            "without symmetry, follow the mode, or enlarge the supercell.",
            kind="imaginary-modes",
        )
    crystal = _restored(found)
    crystal.run_mesh(found.mesh, is_gamma_center=True)
    thermal = crystal.run_thermal_properties(temperatures=wanted, exclude_gamma_acoustic=True)
    if thermal.free_energy is None or thermal.zero_point_energy is None:
        raise CalculationFailed("phonopy returned no thermal properties.", kind="phonopy")
    return ThermalProperties(
        temperatures_k=wanted,
        free_energy=np.array(thermal.free_energy) * KJ_PER_MOL,
        entropy_j_per_mol_k=np.array(thermal.entropy),
        heat_capacity_j_per_mol_k=np.array(thermal.heat_capacity),
        zero_point_energy=float(thermal.zero_point_energy) * KJ_PER_MOL,
        atoms=len(found.primitive),
    )


def _relaxed(
    potential: AbstractPotential,
    structure: Structure,
    cell: CellFreedom,
    force_tolerance: float,
    symmetry_tolerance: float,
) -> Structure:
    settings = RelaxSettings(
        force_tolerance,
        2000,
        cell,
        stress_tolerance_gpa=1e-3,
        keep_symmetry=True,
        symmetry_tolerance=symmetry_tolerance,
    )
    found = relax_batch(potential, [structure], settings)[0]
    if isinstance(found, CalculationFailed):
        raise CalculationFailed(f"phonons, before displacing: {found}", found.kind) from found
    if isinstance(found, KaratError):
        raise found
    return found.structure


def _require_phonopy() -> None:
    try:
        import phonopy  # noqa: F401
    except ImportError as error:
        raise MissingDependency("Phonons need phonopy: pip install 'phonopy>=4.8'.") from error


def _phonopy(
    structure: Structure, supercell: tuple[int, int, int], symmetry_tolerance: float
) -> "Phonopy":
    from phonopy import Phonopy
    from phonopy.structure.atoms import PhonopyAtoms
    from phonopy.structure.cells import guess_primitive_matrix

    unit = PhonopyAtoms(
        numbers=structure.numbers,
        positions=structure.positions,
        cell=structure.cell,
        masses=masses(structure),
    )
    return Phonopy(
        unit,
        supercell_matrix=np.diag(supercell),
        primitive_matrix=guess_primitive_matrix(unit, symprec=symmetry_tolerance),
        symprec=symmetry_tolerance,
    )


def _restored(found: Phonons) -> "Phonopy":
    """Phonopy's object of a result."""
    crystal = _phonopy(found.structure, found.supercell, found.symmetry_tolerance)
    crystal.force_constants = found.force_constants
    return crystal


def _structure(cell: "PhonopyAtoms") -> Structure:
    return Structure(cell.numbers, cell.positions, cell.cell, np.ones(3, bool))


def _bands(crystal: "Phonopy", primitive: Structure, points: int) -> Bands:
    """Along the path that ASE proposes for the lattice (Setyawan & Curtarolo's conventions)."""
    path = primitive.to_ase().cell.bandpath(npoints=points)
    distances, label_distances, labels = path.get_linear_kpoint_axis()
    return Bands(
        qpoints=np.array(path.kpts),
        distances=np.array(distances),
        labels=tuple(labels),
        label_distances=np.array(label_distances),
        frequencies_thz=np.array(crystal.run_qpoints(path.kpts).frequencies),
    )

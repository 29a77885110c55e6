"""Any parametrised OpenMM system: System XML, AMBER prmtop, GROMACS top.

Checked: tests/potentials/classical/test_openmm_system.py, against OpenMM called directly and
against karat's own Lennard-Jones.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Float

from karat.core.errors import BadInput, CalculationFailed, UnsuitableStructure
from karat.core.units import KJ_PER_MOL
from karat.potentials.classical.openmm_files import (
    NonbondedMethod,
    Parametrised,
    read_amber,
    read_gromacs,
    read_system_xml,
)
from karat.potentials.classical.openmm_nature import Nature, nature_of
from karat.potentials.protocol import (
    AbstractPotential,
    AbstractPotentialComponent,
    Traits,
    check_suitable,
    require_finite,
)
from karat.structures.labels import Labels, LevelOfTheory, Quantity
from karat.structures.structure import Structure

ANGSTROM_PER_NM = 10.0
STRAIN_STEP = 1e-4
"""Strain of the central differences behind the stress."""

Platform = Literal["Reference", "CPU", "OpenCL", "CUDA", "HIP"]


@dataclass(frozen=True)
class OpenMM(AbstractPotentialComponent):
    """A parametrised system: exactly these atoms, in this order, with these force-field terms.

    Give one of `system_xml`, `prmtop`, `gromacs_top`. Systems from prmtop and top are made
    without constraints; an XML system that has some is refused, because constrained bonds have
    no energy. An XML system brings its own non-bonded method and cut-off.

    Source: Eastman et al., J. Phys. Chem. B 128, 109 (2024).

    Attributes:
        system_xml: file written by `openmm.XmlSerializer`.
        prmtop, inpcrd: AMBER topology, and coordinates for the box of a periodic system.
        gromacs_top, gromacs_gro: GROMACS topology, and coordinates for the box.
        gromacs_include: folder of included force-field files; "" where none are included.
        elements: symbols in order, where masses do not tell them (repartitioned hydrogens).
        nonbonded_method: of prmtop and top.
        cutoff_angstrom: of prmtop and top, where the method has one.
        platform: Reference computes in double precision, the others in single.
    """

    system_xml: str = ""
    prmtop: str = ""
    inpcrd: str = ""
    gromacs_top: str = ""
    gromacs_gro: str = ""
    gromacs_include: str = ""
    elements: tuple[str, ...] = ()
    nonbonded_method: NonbondedMethod = "NoCutoff"
    cutoff_angstrom: float = 10.0
    platform: Platform = "Reference"

    def __post_init__(self) -> None:
        given = [n for n in ("system_xml", "prmtop", "gromacs_top") if getattr(self, n)]
        if len(given) != 1:
            raise BadInput(
                f"openmm: give one of system_xml, prmtop, gromacs_top (given: "
                f"{', '.join(given) or 'none'})."
            )
        owners = {
            "inpcrd": "prmtop",
            "gromacs_gro": "gromacs_top",
            "gromacs_include": "gromacs_top",
        }
        for name, owner in owners.items():
            if getattr(self, name) and given != [owner]:
                raise BadInput(f"openmm: {name} goes with {owner}, not with {given[0]}.")
        if given == ["system_xml"] and self.nonbonded_method != "NoCutoff":
            raise BadInput("openmm: the non-bonded method of system_xml stands in that file.")
        if self.cutoff_angstrom <= 0:
            raise BadInput(f"openmm: cutoff_angstrom is {self.cutoff_angstrom}; it must be > 0.")

    def load(self) -> "OpenMMPotential":
        if self.system_xml:
            parametrised = read_system_xml(self.system_xml, self.elements)
        elif self.prmtop:
            parametrised = read_amber(
                self.prmtop,
                self.inpcrd,
                self.elements,
                self.nonbonded_method,
                self.cutoff_angstrom,
            )
        else:
            parametrised = read_gromacs(
                (self.gromacs_top, self.gromacs_gro, self.gromacs_include),
                self.elements,
                self.nonbonded_method,
                self.cutoff_angstrom,
            )
        return OpenMMPotential(parametrised, self.platform)


class OpenMMPotential(AbstractPotential):
    """One context, made once with the box of the file and given new positions and boxes.

    Ewald parameters therefore are those of the file's box, whatever was computed before.
    """

    def __init__(self, parametrised: Parametrised, platform: Platform = "Reference") -> None:
        import openmm

        self.system = parametrised.system
        self.numbers = parametrised.numbers
        self.real = parametrised.real
        self.nature: Nature = nature_of(self.system)
        self.platform = platform
        try:
            chosen = openmm.Platform.getPlatformByName(platform)
            settings = {"Threads": "1"} if platform == "CPU" else {}
            integrator = openmm.VerletIntegrator(0.001)
            self.context = openmm.Context(self.system, integrator, chosen, settings)
        except openmm.OpenMMException as error:
            raise BadInput(
                f"openmm: no context on platform {platform}: {error}. Available: "
                f"{', '.join(_platforms())}."
            ) from error

    @property
    def traits(self) -> Traits:
        import openmm

        nature = self.nature
        tolerance, reason = nature.force_tolerance, nature.tolerance_reason
        if self.platform != "Reference":
            tolerance, reason = (
                max(1e-2, tolerance),
                f"{self.platform} computes in single precision",
            )
        quantities: tuple[Quantity, ...] = ("energy", "forces")
        if self._has_stress:
            quantities += ("stress",)
        return Traits(
            species=tuple(sorted({int(z) for z in self.numbers})),
            periodic=nature.periodic,
            molecules=not nature.periodic,
            quantities=quantities,
            cutoff=nature.cutoff,
            continuity=nature.continuity,
            force_tolerance=tolerance,
            tolerance_reason=reason,
            fixed_atoms=True,
            level=LevelOfTheory(
                method="force field (OpenMM system)",
                program=f"OpenMM {openmm.Platform.getOpenMMVersion()}",
                settings={"platform": self.platform},
            ),
        )

    @property
    def _has_stress(self) -> bool:
        """Strain differences need an energy without jumps and atoms that all move by strain."""
        whole = len(self.real) == self.system.getNumParticles()
        return self.nature.periodic and self.nature.continuity >= 1 and whole

    def predict(
        self, structures: Sequence[Structure], want: Sequence[Quantity] = ("energy", "forces")
    ) -> list[Labels]:
        for structure in structures:
            check_suitable(self, structure, want)
            self._check_atoms(structure)
        return [self._compute(structure, want) for structure in structures]

    def _check_atoms(self, structure: Structure) -> None:
        """Raises UnsuitableStructure: other atoms, charge or box than the file's system allows."""
        if len(structure) != len(self.numbers):
            raise UnsuitableStructure(
                f"openmm: the system has {len(self.numbers)} atoms, but {structure.formula} has "
                f"{len(structure)}. Parametrise this structure, or give the one of the file."
            )
        differ = np.flatnonzero(structure.numbers != self.numbers)
        if len(differ):
            from ase.data import chemical_symbols

            i = int(differ[0])
            raise UnsuitableStructure(
                f"openmm: atom {i} of {structure.formula} is {structure.symbols[i]}, but "
                f"{chemical_symbols[self.numbers[i]]} in the system. Put the atoms in its order."
            )
        charge = self.nature.charge
        if charge is not None and not self.nature.periodic and charge != structure.charge:
            raise UnsuitableStructure(
                f"openmm: the system's charges add up to {charge:+d}, but the charge of "
                f"{structure.formula} is {structure.charge:+d}. Correct one of the two."
            )
        if self.nature.periodic:
            if not structure.periodic.all():
                raise UnsuitableStructure(
                    f"openmm: the system repeats in three directions; {structure.formula} does not."
                )
            self._check_box(structure)

    def _check_box(self, structure: Structure) -> None:
        box, _ = reduced_box(structure.cell)
        cutoff = self.nature.cutoff
        if cutoff is not None and 2 * cutoff > box.diagonal().min():
            raise UnsuitableStructure(
                f"openmm: the box of {structure.formula} is {box.diagonal().min():.2f} Å wide, "
                f"less than twice the cut-off ({cutoff:.2f} Å). Use a larger box or a shorter one."
            )

    def _compute(self, structure: Structure, want: Sequence[Quantity]) -> Labels:
        energy, forces = self._evaluate(structure.positions, structure.cell, "forces" in want)
        stress = self._stress(structure) if "stress" in want else None
        return require_finite(Labels(energy=energy, forces=forces, stress=stress), "OpenMM")

    def _evaluate(
        self, positions: Float[np.ndarray, "atoms 3"], cell: Float[np.ndarray, "3 3"], forces: bool
    ) -> tuple[float, Float[np.ndarray, "atoms 3"] | None]:
        """Energy (eV) and forces (eV/Å), in the frame of `positions`."""
        import openmm

        rotation = np.eye(3)
        if self.nature.periodic:
            box, rotation = reduced_box(cell)
            self.context.setPeriodicBoxVectors(*(box / ANGSTROM_PER_NM))
        particles = np.zeros((self.system.getNumParticles(), 3))
        particles[self.real] = positions @ rotation / ANGSTROM_PER_NM
        try:
            self.context.setPositions(particles)
            if len(self.real) < len(particles):
                self.context.computeVirtualSites()
            state = self.context.getState(energy=True, forces=forces)
        except openmm.OpenMMException as error:
            raise CalculationFailed(f"OpenMM: {error}") from error
        kilojoule = openmm.unit.kilojoule_per_mole
        energy = KJ_PER_MOL * float(state.getPotentialEnergy().value_in_unit(kilojoule))
        if not forces:
            return energy, None
        per_nm = state.getForces(asNumpy=True).value_in_unit(kilojoule / openmm.unit.nanometer)
        found = np.asarray(per_nm, dtype=np.float64)[self.real] @ rotation.T
        return energy, found * (KJ_PER_MOL / ANGSTROM_PER_NM)

    def _stress(self, structure: Structure) -> Float[np.ndarray, "3 3"]:
        """Central differences in strain: truncation ~ STRAIN_STEP² of the elastic constants."""
        stress = np.zeros((3, 3))
        for i, j in ((0, 0), (1, 1), (2, 2), (1, 2), (0, 2), (0, 1)):
            energies = []
            for sign in (1, -1):
                strain = np.eye(3)
                strain[i, j] += 0.5 * sign * STRAIN_STEP
                strain[j, i] += 0.5 * sign * STRAIN_STEP
                positions, cell = structure.positions @ strain, structure.cell @ strain
                energies.append(self._evaluate(positions, cell, False)[0])
            slope = (energies[0] - energies[1]) / (2 * STRAIN_STEP)
            stress[i, j] = stress[j, i] = slope / structure.volume
        return stress


def reduced_box(
    cell: Float[np.ndarray, "3 3"],
) -> tuple[Float[np.ndarray, "3 3"], Float[np.ndarray, "3 3"]]:
    """The same lattice as OpenMM wants it, and the rotation R into its frame (x → x R).

    OpenMM's box is lower triangular with a positive diagonal and reduced: |b_x| ≤ a_x/2,
    |c_x| ≤ a_x/2, |c_y| ≤ b_y/2. A left-handed cell has its third vector turned round first.
    """
    right = np.array(cell, dtype=np.float64)
    if np.linalg.det(right) < 0:
        right[2] = -right[2]
    first = right[0] / np.linalg.norm(right[0])
    third = np.cross(right[0], right[1])
    third /= np.linalg.norm(third)
    rotation = np.stack([first, np.cross(third, first), third], axis=1)
    box = np.tril(right @ rotation)
    box[2] -= box[1] * np.round(box[2, 1] / box[1, 1])
    box[2] -= box[0] * np.round(box[2, 0] / box[0, 0])
    box[1] -= box[0] * np.round(box[1, 0] / box[0, 0])
    for i, j in ((1, 0), (2, 0), (2, 1)):  # OpenMM refuses one rounding error too much
        box[i, j] = np.clip(box[i, j], -box[j, j] / 2, box[j, j] / 2)
    return box, rotation


def _platforms() -> list[str]:
    import openmm

    return [
        openmm.Platform.getPlatform(i).getName() for i in range(openmm.Platform.getNumPlatforms())
    ]

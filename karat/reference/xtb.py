"""GFN2-xTB and GFN1-xTB through tblite: the embedded default for molecules.

Sources: GFN2: Bannwarth, Ehlert, Grimme, J. Chem. Theory Comput. 15, 1652 (2019); GFN1: Grimme,
Bannwarth, Shushkov, J. Chem. Theory Comput. 13, 1989 (2017); program: https://tblite.readthedocs.io
Checked: tests/reference/test_xtb.py.
"""

import importlib.metadata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Final

import numpy as np
from jaxtyping import Float

from karat.core.errors import (
    BadInput,
    CalculationFailed,
    MissingDependency,
    UnknownElement,
    UnsuitableStructure,
)
from karat.core.units import BOHR, BOLTZMANN, HARTREE
from karat.reference.exchange import (
    check_quantities,
    finite,
    ordered,
    raw_array,
    read_input,
    read_output,
    write_input,
    write_output,
)
from karat.reference.protocol import AbstractEngine
from karat.structures.labels import Labels, LevelOfTheory, Quantity
from karat.structures.structure import Structure

LAST_ELEMENT: Final = 86
ACCURACY: Final = 0.1
TEMPERATURE_K: Final = 300.0
ITERATIONS: Final = 250
SHORTEST_SPACING: Final = 10.0
"""Å. What Gamma alone leaves out, as the energy per atom against the next larger supercell (GFN1,
tblite 0.8): diamond 1.2 eV (planes 3.6 Å apart), 36 meV (7.1 Å); MgO 2.0 eV (4.2 Å), 0.13 eV
(8.4 Å); silicon 1.1 eV (5.4 Å), 54 meV (10.9 Å); aluminium 1.8 eV (4.1 Å), 0.5 eV (8.1 Å): from
10 Å on usable for molecules and insulators, never for small-gap crystals or metals."""


class AbstractTblite(AbstractEngine):
    """What both parametrisations share; forces equal central differences to 1e-3 eV/Å.

    A calculation depends on its structure alone: the density always starts from the same guess,
    never from an earlier result. The multiplicity sets the occupation of orbitals that both spins
    share: there is no spin polarisation, so gaps between multiplicities are too small. The energy
    contains the entropy term -T S of the Fermi occupation, and forces are its gradient.
    """

    method: ClassVar[str]
    accuracy: float
    electronic_temperature_k: float
    max_iterations: int
    shortest_spacing: float

    @property
    def level(self) -> LevelOfTheory:
        """GFN1-xTB or GFN2-xTB: semi-empirical."""
        try:
            version = importlib.metadata.version("tblite")
        except importlib.metadata.PackageNotFoundError as error:
            raise MissingDependency(
                f"{self.method} needs tblite, which is not installed: pip install tblite"
            ) from error
        return LevelOfTheory(
            method=self.method,
            program=f"tblite {version}",
            settings={
                "accuracy": repr(self.accuracy),
                "electronic temperature": f"{self.electronic_temperature_k!r} K",
            },
        )

    @property
    def quantities(self) -> tuple[Quantity, ...]:
        """Everything; stress for periodic, the dipole for other structures."""
        return ("energy", "forces", "stress", "charges", "dipole")

    def check(self, structure: Structure, want: Sequence[Quantity]) -> None:
        """Refuse elements beyond Rn, small or partly periodic cells, spins that do not fit."""
        check_quantities(self.method, self.quantities, structure, want)
        heavy = sorted({int(z) for z in structure.numbers if z > LAST_ELEMENT})
        if heavy:
            from ase.data import chemical_symbols

            raise UnknownElement(
                f"{self.method} has no parameters for "
                f"{', '.join(chemical_symbols[z] for z in heavy)} (in {structure.formula}); it "
                "knows H to Rn (1 to 86). Use another engine, e.g. `ase` with a DFT program."
            )
        unpaired, electrons = structure.unpaired_electrons, structure.electrons
        if electrons < 1 or unpaired > electrons or (electrons - unpaired) % 2:
            raise UnsuitableStructure(
                f"{structure.formula} with charge {structure.charge} has {electrons} electrons, "
                f"which does not fit multiplicity {unpaired + 1}. Change one of the two."
            )
        if structure.periodic.any():
            self._check_cell(structure)

    def _check_cell(self, structure: Structure) -> None:
        if not structure.periodic.all():
            raise UnsuitableStructure(
                f"{self.method}: tblite repeats a structure in all three directions or in none, "
                f"and {structure.formula} repeats in {int(structure.periodic.sum())}. Give it a "
                "cell with vacuum and three periodic directions, or none."
            )
        # lengths of the reciprocal vectors are the inverse spacings of the lattice planes
        spacing = float(1.0 / np.linalg.norm(np.linalg.inv(structure.cell), axis=0).max())
        if spacing < self.shortest_spacing:
            raise UnsuitableStructure(
                f"{self.method}: the cell of {structure.formula} is too small: its lattice planes "
                f"are {spacing:.2f} Å apart, and tblite samples the Gamma point only, so at least "
                f"{self.shortest_spacing:g} Å are needed. Use a supercell, or for a crystal the "
                "engine `ase` with Quantum ESPRESSO or GPAW and k-points."
            )

    def prepare(self, structure: Structure, want: Sequence[Quantity], folder: Path) -> None:
        """Write `input.json`."""
        self.check(structure, want)
        write_input(folder, structure, want)

    def run(self, folder: Path) -> None:
        """Compute what `input.json` says; write `output.json` in atomic units."""
        structure, _ = read_input(folder)
        write_output(folder, self._single_point(structure))

    def parse(self, folder: Path) -> Labels:
        """Labels from `output.json`."""
        structure, want = read_input(folder)
        return self._labels(read_output(folder), structure, want)

    def compute(self, structure: Structure, want: Sequence[Quantity]) -> Labels:
        """The same in memory."""
        self.check(structure, want)
        return self._labels(self._single_point(structure), structure, ordered(want))

    def _single_point(self, structure: Structure) -> dict[str, float | Float[np.ndarray, "..."]]:
        try:
            from tblite.exceptions import TBLiteRuntimeError
            from tblite.interface import Calculator
        except ImportError as error:
            raise MissingDependency(
                f"{self.method} needs tblite, which cannot be imported ({error}): "
                "pip install tblite"
            ) from error
        periodic = bool(structure.periodic.any())
        try:
            calculator = Calculator(
                self.method,
                structure.numbers,
                structure.positions / BOHR,
                charge=float(structure.charge),
                uhf=structure.unpaired_electrons,
                lattice=structure.cell / BOHR if periodic else None,
                periodic=structure.periodic if periodic else None,
            )
            calculator.set("verbosity", 0)
            calculator.set("accuracy", self.accuracy)
            calculator.set("temperature", self.electronic_temperature_k * BOLTZMANN / HARTREE)
            calculator.set("max-iter", self.max_iterations)
            result = calculator.singlepoint()
            names = ("gradient", "virial", "charges", "dipole")
            arrays = {name: np.array(result.get(name), dtype=np.float64) for name in names}
            return {"energy": float(result.get("energy")), **arrays}
        except TBLiteRuntimeError as error:
            kind = "not-converged" if "not converged" in str(error).lower() else "error"
            raise CalculationFailed(
                f"{self.method} failed for {structure.formula}: {error}.", kind=kind
            ) from error

    def _labels(
        self, raw: Mapping[str, Any], structure: Structure, want: Sequence[Quantity]
    ) -> Labels:
        """From atomic units; tblite's virial is ∂E/∂ε (central differences say so)."""
        atoms = len(structure)

        def array(name: str, *shape: int) -> np.ndarray:
            return raw_array(raw, name, shape, f"{self.method}, {structure.formula}")

        values: dict[str, Any] = {"energy": float(array("energy")) * HARTREE}
        if "forces" in want:
            values["forces"] = -array("gradient", atoms, 3) * (HARTREE / BOHR)
        if "stress" in want:
            virial = array("virial", 3, 3) * (HARTREE / structure.volume)
            values["stress"] = 0.5 * (virial + virial.T)
        if "charges" in want:
            values["charges"] = array("charges", atoms)
        if "dipole" in want:
            values["dipole"] = array("dipole", 3) * BOHR
        return finite(Labels(**values), f"{self.method} for {structure.formula}")


def _check_settings(engine: AbstractTblite) -> None:
    for name in ("accuracy", "electronic_temperature_k", "max_iterations"):
        if not getattr(engine, name) > 0:
            raise BadInput(
                f"{engine.method}: {name} is {getattr(engine, name)}; it must be above 0."
            )


@dataclass(frozen=True)
class Gfn2Xtb(AbstractTblite):
    """GFN2-xTB: elements H to Rn, molecules and large periodic cells.

    Attributes:
        accuracy: factor on all numerical thresholds; smaller is tighter.
        electronic_temperature_k: of the Fermi occupation, K.
        max_iterations: of the self-consistent charges; beyond: ``not-converged``.
        shortest_spacing: Å; cells whose lattice planes are closer are refused (Gamma only).
    """

    method: ClassVar[str] = "GFN2-xTB"
    accuracy: float = ACCURACY
    electronic_temperature_k: float = TEMPERATURE_K
    max_iterations: int = ITERATIONS
    shortest_spacing: float = SHORTEST_SPACING

    def __post_init__(self) -> None:
        _check_settings(self)


@dataclass(frozen=True)
class Gfn1Xtb(AbstractTblite):
    """GFN1-xTB: elements H to Rn, molecules and large periodic cells.

    Attributes:
        accuracy: factor on all numerical thresholds; smaller is tighter.
        electronic_temperature_k: of the Fermi occupation, K.
        max_iterations: of the self-consistent charges; beyond: ``not-converged``.
        shortest_spacing: Å; cells whose lattice planes are closer are refused (Gamma only).
    """

    method: ClassVar[str] = "GFN1-xTB"
    accuracy: float = ACCURACY
    electronic_temperature_k: float = TEMPERATURE_K
    max_iterations: int = ITERATIONS
    shortest_spacing: float = SHORTEST_SPACING

    def __post_init__(self) -> None:
        _check_settings(self)

"""HF, DFT (with D3(BJ) or D4), MP2 and CCSD(T) of molecules through PySCF.

Source: Sun et al., J. Chem. Phys. 153, 024109 (2020); https://pyscf.org
Checked: tests/reference/test_pyscf_engine.py.
"""

import importlib.metadata
import importlib.util
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

from karat.core.errors import BadInput, MissingDependency, UnknownElement, UnsuitableStructure
from karat.core.units import BOHR, HARTREE
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

_NAMES: Final = {"hf": "HF", "mp2": "MP2", "ccsd(t)": "CCSD(T)"}
_DISPERSION: Final = {"": "", "d3bj": "D3(BJ)", "d4": "D4"}
_SUFFIX: Final = re.compile(r"(?i)^(?P<functional>.+)-(?P<dispersion>d3bj|d4)$")
INSTALL: Final = "pip install 'karat[qm]'"


@dataclass(frozen=True)
class Pyscf(AbstractEngine):
    """One method of quantum chemistry, restricted for singlets, unrestricted otherwise.

    Forces exist for HF and DFT, and without density fitting for MP2 and for closed-shell CCSD(T)
    (PySCF has no gradient of density-fitted MP2 or CCSD(T), and its open-shell CCSD(T) gradient is
    off by 3e-3 eV/Å). Dipole and Mulliken charges exist for HF and DFT. DFT forces contain the
    response of the grid, except for functionals with non-local correlation (``…-v``). A
    self-consistent solution is not tested for lying lowest among several.

    Attributes:
        method: ``hf``, ``dft``, ``mp2`` or ``ccsd(t)``.
        functional: for ``dft``, as PySCF names it: ``pbe``, ``b3lyp``, ``wb97m-v``, or with its
            own dispersion ``wb97m-d3bj``.
        basis: as PySCF names it; its effective core potentials are used where it has some.
        cartesian: 6 d functions instead of 5 (and so on): what published 6-31G* numbers mean.
        dispersion: added to HF or DFT: "", ``d3bj`` or ``d4``.
        density_fit: fit electron densities (faster; energies move by about 1e-4 hartree).
        frozen_core: leave core electrons out of MP2 and CCSD(T).
        convergence: of the self-consistent energy, hartree.
        max_cycles: of the self-consistent field, and of the coupled-cluster equations.
        grid_level: of DFT, 0 (coarse) to 9.
        max_memory_mb: what PySCF may use, MB.
    """

    method: Literal["hf", "dft", "mp2", "ccsd(t)"]
    functional: str = ""
    basis: str = "def2-svp"
    cartesian: bool = False
    dispersion: Literal["", "d3bj", "d4"] = ""
    density_fit: bool = True
    frozen_core: bool = True
    convergence: float = 1e-9
    max_cycles: int = 100
    grid_level: int = 3
    max_memory_mb: int = 2000

    def __post_init__(self) -> None:
        if (self.method == "dft") != bool(self.functional):
            raise BadInput(
                f"pyscf: method {self.method} with functional {self.functional!r}: a functional "
                "is needed for dft, and only there. Set both, e.g. dft and b3lyp."
            )
        if self.dispersion and self.method not in ("hf", "dft"):
            raise BadInput(
                f"pyscf: dispersion {self.dispersion!r} is a correction of hf and dft; "
                f"{self.method} has dispersion of its own. Set dispersion to ''."
            )
        if self.dispersion and _SUFFIX.match(self.functional):
            raise BadInput(
                f"pyscf: functional {self.functional!r} brings its dispersion; "
                f"set dispersion to '' instead of {self.dispersion!r}."
            )
        if not (self.convergence > 0 and self.max_cycles > 0 and 0 <= self.grid_level <= 9):
            raise BadInput(
                f"pyscf: convergence {self.convergence} and max_cycles {self.max_cycles} must be "
                f"above 0, grid_level {self.grid_level} from 0 to 9."
            )

    @property
    def level(self) -> LevelOfTheory:
        """Method or functional, basis, dispersion."""
        matched = _SUFFIX.match(self.functional)
        method = matched["functional"] if matched else self.functional
        dispersion = matched["dispersion"].lower() if matched else self.dispersion
        program = f"PySCF {_version('pyscf')}"
        if dispersion:
            program += f", pyscf-dispersion {_version('pyscf-dispersion')}"
        settings = {
            "density fitting": str(self.density_fit),
            "convergence": f"{self.convergence!r} hartree",
        }
        if self.method == "dft":
            settings["grid level"] = str(self.grid_level)
        elif self.method in ("mp2", "ccsd(t)"):
            settings["frozen core"] = str(self.frozen_core)
        return LevelOfTheory(
            method=_NAMES.get(self.method, method),
            basis=f"{self.basis} (Cartesian)" if self.cartesian else self.basis,
            dispersion=_DISPERSION[dispersion],
            program=program,
            settings=settings,
        )

    @property
    def quantities(self) -> tuple[Quantity, ...]:
        """What this method has here; forces of CCSD(T) for closed shells only."""
        if self.method in ("hf", "dft"):
            return ("energy", "forces", "charges", "dipole")
        return ("energy",) if self.density_fit else ("energy", "forces")

    def check(self, structure: Structure, want: Sequence[Quantity]) -> None:
        """Refuse periodic structures, elements without basis, functionals without meaning."""
        name = self.level.label
        if structure.periodic.any():
            raise UnsuitableStructure(
                f"pyscf takes molecules here, and {structure.formula} is periodic. Use the engine "
                "`ase` with Quantum ESPRESSO or GPAW for crystals."
            )
        if "forces" in want and "forces" not in self.quantities:
            raise UnsuitableStructure(
                f"PySCF has no gradient of {name} with density fitting. Set density_fit to false, "
                "or want only the energy, or use method hf or dft."
            )
        check_quantities(name, self.quantities, structure, want)
        if "forces" in want and self.method == "ccsd(t)" and structure.unpaired_electrons:
            raise UnsuitableStructure(
                f"the CCSD(T) gradient of open shells ({structure.formula}, multiplicity "
                f"{structure.unpaired_electrons + 1}) is not exact in PySCF. Want only the "
                "energy, or use method mp2, hf or dft."
            )
        if structure.electrons < 1:
            raise UnsuitableStructure(
                f"{structure.formula} with charge {structure.charge} has no electron."
            )
        self._check_installed()
        self._check_names(structure)

    def _check_installed(self) -> None:
        for module in ("pyscf", "pyscf.dispersion") if self.level.dispersion else ("pyscf",):
            if importlib.util.find_spec(module) is None:
                raise MissingDependency(f"the engine pyscf needs {module}: {INSTALL}")

    def _check_names(self, structure: Structure) -> None:
        from karat.reference.pyscf_methods import basis_of, functional_known

        for symbol in sorted(set(structure.symbols)):
            if basis_of(self.basis, symbol) is None:
                raise UnknownElement(
                    f"PySCF has no basis '{self.basis}' for {symbol} (in {structure.formula}). "
                    "Check its spelling, or choose another, e.g. def2-svp (H to Rn)."
                )
        if self.method == "dft" and not functional_known(self.functional):
            raise BadInput(
                f"PySCF has no functional '{self.functional}'. Check its spelling; e.g. pbe, "
                "b3lyp, wb97m-v, wb97m-d3bj."
            )

    def prepare(self, structure: Structure, want: Sequence[Quantity], folder: Path) -> None:
        """Write `input.json`."""
        self.check(structure, want)
        write_input(folder, structure, want)

    def run(self, folder: Path) -> None:
        """Compute what `input.json` says; write `output.json` in atomic units."""
        self._check_installed()
        from karat.reference.pyscf_methods import single_point

        structure, want = read_input(folder)
        write_output(folder, single_point(self, structure, want))

    def parse(self, folder: Path) -> Labels:
        """Labels from `output.json`."""
        structure, want = read_input(folder)
        return self._labels(read_output(folder), structure, want)

    def compute(self, structure: Structure, want: Sequence[Quantity]) -> Labels:
        """The same in memory."""
        from karat.reference.pyscf_methods import single_point

        self.check(structure, want)
        return self._labels(single_point(self, structure, want), structure, ordered(want))

    def _labels(
        self, raw: Mapping[str, Any], structure: Structure, want: Sequence[Quantity]
    ) -> Labels:
        where = f"{self.level.label}, {structure.formula}"
        atoms = len(structure)
        values: dict[str, Any] = {"energy": float(raw_array(raw, "energy", (), where)) * HARTREE}
        if "forces" in want:
            values["forces"] = -raw_array(raw, "gradient", (atoms, 3), where) * (HARTREE / BOHR)
        if "charges" in want:
            values["charges"] = raw_array(raw, "charges", (atoms,), where)
        if "dipole" in want:
            values["dipole"] = raw_array(raw, "dipole", (3,), where) * BOHR
        return finite(Labels(**values), where)


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError as error:
        raise MissingDependency(
            f"the engine pyscf needs {package}, which is not installed: {INSTALL}"
        ) from error

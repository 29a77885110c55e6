"""`Structure`: atoms in space, the common currency of every floor above.

Checked: tests/structures/test_structure.py.
"""

import dataclasses
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Bool, Float, Int

from karat.core.errors import BadInput
from karat.core.hashing import digest_arrays, digest_json
from karat.structures.topology import Topology

if TYPE_CHECKING:
    import ase

MAX_ATOMIC_NUMBER = 118


def _frozen(array: Any, dtype: type) -> np.ndarray:
    result: np.ndarray = np.array(array, dtype=dtype)
    result.setflags(write=False)
    return result


@dataclass(frozen=True, eq=False)
class Structure:
    """Atoms, cell, charge and spin; immutable (its arrays are read-only copies).

    Attributes:
        numbers: atomic numbers, 1 to 118.
        positions: Å.
        cell: Å, rows are the lattice vectors; zero rows along non-periodic directions.
        periodic: which of the three directions repeat.
        charge: total charge in e.
        multiplicity: 2S+1; `None` is the lowest that fits the number of electrons.
        topology: bonds, formal charges, residues, where they are known.

    Raises:
        BadInput: shapes, unknown elements, non-finite numbers, a singular cell, or a
            multiplicity that does not fit the number of electrons of a molecule.
    """

    numbers: Int[np.ndarray, "atoms"]
    positions: Float[np.ndarray, "atoms 3"]
    cell: Float[np.ndarray, "3 3"] = dataclasses.field(default_factory=lambda: np.zeros((3, 3)))
    periodic: Bool[np.ndarray, "3"] = dataclasses.field(default_factory=lambda: np.zeros(3, bool))
    charge: int = 0
    multiplicity: int | None = None
    topology: Topology | None = None

    def __post_init__(self) -> None:
        for name, dtype in (
            ("numbers", np.int64),
            ("positions", np.float64),
            ("cell", np.float64),
            ("periodic", np.bool_),
        ):
            object.__setattr__(self, name, _frozen(getattr(self, name), dtype))
        self._check()

    def _check(self) -> None:
        atoms = len(self.numbers)
        if atoms == 0:
            raise BadInput("A structure needs at least one atom.")
        for name, shape in (("positions", (atoms, 3)), ("cell", (3, 3)), ("periodic", (3,))):
            if getattr(self, name).shape != shape:
                raise BadInput(f"{name} has shape {getattr(self, name).shape}, needs {shape}.")
        if self.numbers.min() < 1 or self.numbers.max() > MAX_ATOMIC_NUMBER:
            bad = [int(z) for z in self.numbers if not 1 <= z <= MAX_ATOMIC_NUMBER]
            raise BadInput(f"Unknown atomic number {bad[0]}; 1 to {MAX_ATOMIC_NUMBER} are known.")
        if not (np.isfinite(self.positions).all() and np.isfinite(self.cell).all()):
            raise BadInput("positions or cell hold NaN or infinity.")
        if self.topology is not None and self.topology.atoms != atoms:
            raise BadInput(f"topology is for {self.topology.atoms} atoms, not {atoms}.")
        if self.periodic.any():
            rows = self.cell[self.periodic]
            if np.linalg.matrix_rank(rows) < len(rows):
                raise BadInput("The cell's lattice vectors are zero or linearly dependent.")
        if self.multiplicity is not None and not self.periodic.any():
            self._check_multiplicity(self.multiplicity)

    def _check_multiplicity(self, multiplicity: int) -> None:
        electrons = self.electrons
        if multiplicity < 1 or (electrons - (multiplicity - 1)) % 2 or multiplicity - 1 > electrons:
            raise BadInput(
                f"charge {self.charge} and multiplicity {multiplicity} do not fit: "
                f"{self.formula} has {electrons} electrons with that charge, so the multiplicity "
                f"must be {'odd' if electrons % 2 == 0 else 'even'}. Change one of the two."
            )

    def __len__(self) -> int:
        return len(self.numbers)

    @property
    def electrons(self) -> int:
        """Number of electrons: nuclear charges minus `charge`."""
        return int(self.numbers.sum()) - self.charge

    @property
    def unpaired_electrons(self) -> int:
        """`multiplicity - 1`, or the lowest possible number where it is `None`."""
        return self.electrons % 2 if self.multiplicity is None else self.multiplicity - 1

    @property
    def volume(self) -> float:
        """|det(cell)| in Å³ of a fully periodic structure.

        Raises:
            BadInput: not periodic in three directions.
        """
        if not self.periodic.all():
            raise BadInput(f"{self.formula}: only a structure periodic in 3 directions has volume.")
        return float(abs(np.linalg.det(self.cell)))

    @cached_property
    def formula(self) -> str:
        """Hill formula, e.g. C5H8O2."""
        from ase.formula import Formula
        from ase.symbols import Symbols

        return Formula(str(Symbols(self.numbers).formula)).format("hill")

    @cached_property
    def symbols(self) -> tuple[str, ...]:
        """Element symbol of each atom."""
        from ase.data import chemical_symbols

        return tuple(chemical_symbols[z] for z in self.numbers)

    @cached_property
    def digest(self) -> str:
        """SHA-256 over elements, positions, cell, periodicity, charge and multiplicity (exact)."""
        names = ("numbers", "positions", "cell", "periodic")
        arrays = digest_arrays({name: getattr(self, name) for name in names})
        return digest_json([arrays, self.charge, self.unpaired_electrons])

    def replace(self, **changes: Any) -> "Structure":
        """A copy with some attributes changed."""
        return dataclasses.replace(self, **changes)

    def to_ase(self) -> "ase.Atoms":
        """`ase.Atoms` with charge and multiplicity under `info`."""
        import ase

        atoms = ase.Atoms(
            numbers=self.numbers, positions=self.positions, cell=self.cell, pbc=self.periodic
        )
        atoms.info["charge"] = self.charge
        atoms.info["multiplicity"] = self.unpaired_electrons + 1
        return atoms

    @classmethod
    def from_ase(cls, atoms: "ase.Atoms", topology: Topology | None = None) -> "Structure":
        """From `ase.Atoms`; `info['charge']` and `info['multiplicity']` are read if present.

        A multiplicity of a periodic structure is kept but not checked.
        """
        pbc = np.asarray(atoms.pbc)
        return cls(
            numbers=atoms.numbers,
            positions=atoms.positions,
            cell=np.asarray(atoms.cell) if pbc.any() else np.zeros((3, 3)),
            periodic=pbc,
            charge=int(atoms.info.get("charge", 0)),
            multiplicity=(
                int(atoms.info["multiplicity"]) if "multiplicity" in atoms.info else None
            ),
            topology=topology,
        )

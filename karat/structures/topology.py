"""`Topology`: bonds and formal charges, where they are known and must not be guessed twice."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from jaxtyping import Float, Int

from karat.core.errors import BadInput
from karat.core.hashing import digest_arrays, digest_json


@dataclass(frozen=True, eq=False)
class Topology:
    """What force fields need beyond coordinates.

    Attributes:
        bonds: pairs of atom indices, each bond once.
        orders: bond orders: 1, 2, 3, or 1.5 for aromatic bonds.
        formal_charges: e, integers.
        residues: residue name of each atom, or empty where there are none.
        smiles: the SMILES string it was built from, or "".

    Raises:
        BadInput: an index out of range, a bond of an atom with itself, lengths that differ.
    """

    bonds: Int[np.ndarray, "bonds 2"]
    orders: Float[np.ndarray, "bonds"]
    formal_charges: Int[np.ndarray, "atoms"]
    residues: tuple[str, ...] = ()
    smiles: str = ""

    def __post_init__(self) -> None:
        for name, dtype in (
            ("bonds", np.int64),
            ("orders", np.float64),
            ("formal_charges", np.int64),
        ):
            array = np.array(getattr(self, name), dtype=dtype)
            if name == "bonds":
                array = array.reshape(-1, 2)
            array.setflags(write=False)
            object.__setattr__(self, name, array)
        if len(self.bonds) != len(self.orders):
            raise BadInput(f"topology: {len(self.bonds)} bonds but {len(self.orders)} orders.")
        if len(self.bonds) and (self.bonds.min() < 0 or self.bonds.max() >= self.atoms):
            raise BadInput(f"topology: a bond names an atom outside 0…{self.atoms - 1}.")
        if (self.bonds[:, 0] == self.bonds[:, 1]).any():
            raise BadInput("topology: an atom is bonded to itself.")
        if self.residues and len(self.residues) != self.atoms:
            raise BadInput(f"topology: {len(self.residues)} residues for {self.atoms} atoms.")

    @property
    def atoms(self) -> int:
        """Number of atoms it is for."""
        return len(self.formal_charges)

    @cached_property
    def digest(self) -> str:
        """SHA-256 over everything."""
        arrays = {name: getattr(self, name) for name in ("bonds", "orders", "formal_charges")}
        return digest_json([digest_arrays(arrays), list(self.residues), self.smiles])

"""MMFF94, MMFF94s and UFF for molecules, by RDKit.

Checked: tests/potentials/classical/test_rdkit_ff.py and the conformance suite.
"""

from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from karat.core.errors import UnsuitableStructure
from karat.core.units import KCAL_PER_MOL
from karat.potentials.protocol import (
    AbstractPotential,
    AbstractPotentialComponent,
    Traits,
    check_suitable,
    require_finite,
)
from karat.structures.labels import Labels, LevelOfTheory, Quantity
from karat.structures.structure import Structure

if TYPE_CHECKING:
    from rdkit.Chem import Mol

MMFF_SPECIES = (1, 3, 6, 7, 8, 9, 11, 12, 14, 15, 16, 17, 19, 20, 26, 29, 30, 35, 53)
"""Elements that MMFF94 has atom types for (metals as ions)."""
UFF_SPECIES = tuple(range(1, 104))
"""Elements that UFF has atom types for; not every coordination of each."""

EVERYTHING = 1e6
"""Non-bonded threshold: RDKit drops pairs that are far apart in the conformer that a force field
is built from, which would make the energy depend on that conformer."""

MAX_FIELDS = 256
"""Force fields kept, one per topology."""


@dataclass(frozen=True)
class Mmff94(AbstractPotentialComponent):
    """Merck molecular force field; molecules with bonds.

    Source: Halgren, J. Comput. Chem. 17, 490 (1996); MMFF94s: ibid. 20, 720 (1999); in RDKit:
    Tosco et al., J. Cheminf. 6, 37 (2014).

    Attributes:
        variant: MMFF94, or MMFF94s ("static": delocalised nitrogens planar).
    """

    variant: Literal["MMFF94", "MMFF94s"] = "MMFF94s"

    def load(self) -> "RdkitForceField":
        return RdkitForceField(self.variant)


@dataclass(frozen=True)
class Uff(AbstractPotentialComponent):
    """Universal force field without charges, as RDKit has it; molecules with bonds.

    Source: Rappé et al., J. Am. Chem. Soc. 114, 10024 (1992).
    """

    def load(self) -> "RdkitForceField":
        return RdkitForceField("UFF")


@dataclass(eq=False)
class _Field:
    """A built force field with the molecule that it points into."""

    mol: Any
    field: Any


class RdkitForceField(AbstractPotential):
    """Energies relative to the force field's own zero; bonds come from the topology.

    A force field is built once per topology and then only given new positions.
    """

    def __init__(self, variant: Literal["MMFF94", "MMFF94s", "UFF"]) -> None:
        self.variant = variant
        self._fields: OrderedDict[tuple[str, bytes], _Field] = OrderedDict()

    @property
    def traits(self) -> Traits:
        import rdkit

        return Traits(
            species=UFF_SPECIES if self.variant == "UFF" else MMFF_SPECIES,
            periodic=False,
            molecules=True,
            quantities=("energy", "forces"),
            needs_topology=True,
            level=LevelOfTheory(method=self.variant, program=f"RDKit {rdkit.__version__}"),
        )

    def predict(
        self, structures: Sequence[Structure], want: Sequence[Quantity] = ("energy", "forces")
    ) -> list[Labels]:
        for structure in structures:
            check_suitable(self, structure, want)
        fields = [self._field(structure).field for structure in structures]
        return [self._compute(f, s, want) for f, s in zip(fields, structures)]

    def _compute(self, field: Any, structure: Structure, want: Sequence[Quantity]) -> Labels:
        positions = structure.positions.ravel().tolist()
        energy = KCAL_PER_MOL * field.CalcEnergy(positions)
        forces = None
        if "forces" in want:
            forces = -KCAL_PER_MOL * np.array(field.CalcGrad(positions)).reshape(-1, 3)
        return require_finite(Labels(energy=energy, forces=forces), self.variant)

    def _field(self, structure: Structure) -> _Field:
        assert structure.topology is not None
        key = (structure.topology.digest, structure.numbers.tobytes())
        found = self._fields.pop(key, None)
        if found is None:
            found = self._build(structure)
        if not _depends_on_conformer(found.mol, self.variant):
            self._fields[key] = found
        while len(self._fields) > MAX_FIELDS:
            self._fields.popitem(last=False)
        return found

    def _build(self, structure: Structure) -> _Field:
        """Raises UnsuitableStructure: charges that do not fit, or parameters missing."""
        from rdkit import rdBase

        from karat.structures.rdkit_molecule import to_rdkit

        assert structure.topology is not None
        total = int(structure.topology.formal_charges.sum())
        if total != structure.charge:
            raise UnsuitableStructure(
                f"{self.variant}: the formal charges of {structure.formula} add up to {total:+d}, "
                f"but its charge is {structure.charge:+d}. Correct one of the two."
            )
        mol = to_rdkit(structure)
        with rdBase.BlockLogs():
            field = _force_field(mol, self.variant)
            if field is None:
                culprit = _without_parameters(mol, lambda m: _typed(m, self.variant))
                raise UnsuitableStructure(
                    f"{self.variant} has no parameters for {culprit} of {structure.formula}. "
                    "Use another potential for this molecule (e.g. uff or gfn2_xtb)."
                )
        field.Initialize()
        return _Field(mol=mol, field=field)


def _depends_on_conformer(mol: "Mol", variant: str) -> bool:
    """Whether RDKit chooses terms by geometry (UFF: axial and equatorial neighbours)."""
    from rdkit.Chem import HybridizationType as H

    special = (H.SP2D, H.SP3D, H.SP3D2)
    return variant == "UFF" and any(a.GetHybridization() in special for a in mol.GetAtoms())


def _typed(mol: "Mol", variant: str) -> bool:
    from rdkit.Chem import rdForceFieldHelpers as helpers

    if variant == "UFF":
        return bool(helpers.UFFHasAllMoleculeParams(mol))
    return bool(helpers.MMFFHasAllMoleculeParams(mol))


def _force_field(mol: "Mol", variant: str) -> Any:
    """RDKit's force field of the molecule's conformer, or `None` where parameters are missing."""
    from rdkit.Chem import rdForceFieldHelpers as helpers

    if not _typed(mol, variant):
        return None
    if variant == "UFF":
        return helpers.UFFGetMoleculeForceField(
            mol, vdwThresh=EVERYTHING, ignoreInterfragInteractions=False
        )
    properties = helpers.MMFFGetMoleculeProperties(mol, mmffVariant=variant)
    return helpers.MMFFGetMoleculeForceField(
        mol, properties, nonBondedThresh=EVERYTHING, ignoreInterfragInteractions=False
    )


def _without_parameters(mol: "Mol", typed: Callable[["Mol"], bool]) -> str:
    """Name of the atom without an atom type: the one whose replacement by carbon gives types."""
    if mol.GetNumAtoms() == 1:
        return f"atom 0 ({mol.GetAtomWithIdx(0).GetSymbol()})"
    for atom in mol.GetAtoms():
        if typed(_carbon_instead(mol, atom.GetIdx())):
            return f"atom {atom.GetIdx()} ({atom.GetSymbol()})"
    symbols = sorted({atom.GetSymbol() for atom in mol.GetAtoms()})
    return f"several atoms ({', '.join(symbols)})"


def _carbon_instead(mol: "Mol", index: int) -> "Mol":
    """The molecule with carbon for one atom, singly bonded to at most four of its neighbours."""
    from rdkit import Chem

    edited = Chem.RWMol(mol)
    carbon = Chem.Atom(6)
    carbon.SetNoImplicit(True)
    edited.ReplaceAtom(index, carbon, preserveProps=False)
    for bond in edited.GetAtomWithIdx(index).GetBonds():
        bond.SetBondType(Chem.BondType.SINGLE)
    surplus = [atom.GetIdx() for atom in edited.GetAtomWithIdx(index).GetNeighbors()][4:]
    for neighbour in sorted(surplus, reverse=True):
        edited.RemoveAtom(neighbour)
    Chem.SanitizeMol(edited, catchErrors=True)
    return edited.GetMol()

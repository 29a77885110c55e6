"""Engines by name; installed packages add theirs as entry points of the group `karat.engines`."""

from karat.core.catalogue import Catalogue

CATALOGUE = Catalogue(
    "engines",
    {
        "gfn2_xtb": "karat.reference.xtb:Gfn2Xtb",
        "gfn1_xtb": "karat.reference.xtb:Gfn1Xtb",
        "pyscf": "karat.reference.pyscf_engine:Pyscf",
        "ase": "karat.reference.ase_engine:AseCalculator",
    },
)

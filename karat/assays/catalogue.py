"""The assays karat knows: name → import path."""

from karat.core.catalogue import Catalogue

CATALOGUE = Catalogue(
    "assays",
    {
        "energy_forces": "karat.assays.energy_forces.assay:EnergyForces",
        "dynamics": "karat.assays.dynamics.assay:NveDynamics",
        "conservation": "karat.assays.conservation.assay:Conservation",
        "torsions": "karat.assays.torsions.assay:TorsionProfiles",
        "modes": "karat.assays.modes.assay:NormalModes",
        "cost": "karat.assays.cost.assay:Cost",
    },
)

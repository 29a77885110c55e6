"""The properties: name → class."""

from karat.core.catalogue import Catalogue

CATALOGUE = Catalogue(
    "properties",
    {
        "energy": "karat.campaign.compute.points:Energy",
        "relax": "karat.campaign.compute.points:Relax",
        "eos": "karat.campaign.compute.crystals:Eos",
        "elastic": "karat.campaign.compute.crystals:Elastic",
        "phonons": "karat.campaign.compute.crystals:PhononBands",
        "vacancy": "karat.campaign.compute.defects:Vacancy",
        "interstitial": "karat.campaign.compute.defects:Interstitial",
        "surface": "karat.campaign.compute.defects:Slab",
        "modes": "karat.campaign.compute.molecules:MolecularModes",
        "torsion": "karat.campaign.compute.molecules:TorsionProfile",
        "neb": "karat.campaign.compute.paths:ReactionPath",
        "md": "karat.campaign.compute.motion:MolecularDynamics",
        "diatomic": "karat.campaign.compute.molecules:Diatomic",
    },
)

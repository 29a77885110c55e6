"""The samplers: name → component."""

from karat.core.catalogue import Catalogue

CATALOGUE = Catalogue(
    "samplers",
    {
        "conformers": "karat.sampling.conformers:Conformers",
        "dynamics": "karat.sampling.dynamics:DynamicsSampler",
        "rattle": "karat.sampling.rattle:Rattle",
    },
)

"""The contestants: name → component."""

from karat.core.catalogue import Catalogue

CATALOGUE = Catalogue(
    "potentials",
    {
        "lennard_jones": "karat.potentials.analytic.lennard_jones:LennardJones",
    },
)

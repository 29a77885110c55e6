"""The contestants: name → component."""

from collections.abc import Mapping
from typing import Any

from karat.core import components
from karat.core.catalogue import Catalogue

CATALOGUE = Catalogue(
    "potentials",
    {
        "lennard_jones": "karat.potentials.analytic.lennard_jones:LennardJones",
        "morse": "karat.potentials.analytic.morse:Morse",
        "buckingham": "karat.potentials.analytic.buckingham:Buckingham",
        "stillinger_weber": "karat.potentials.analytic.stillinger_weber:StillingerWeber",
        "zbl": "karat.potentials.analytic.zbl:Zbl",
        "sum": "karat.potentials.sum_potential:SumPotential",
        "mmff94": "karat.potentials.classical.rdkit_ff:Mmff94",
        "uff": "karat.potentials.classical.rdkit_ff:Uff",
        "openmm": "karat.potentials.classical.openmm_system:OpenMM",
        "gfn2_xtb": "karat.potentials.external.engine_potential:Gfn2",
        "gfn1_xtb": "karat.potentials.external.engine_potential:Gfn1",
        "engine": "karat.potentials.external.engine_potential:Engine",
        "ase": "karat.potentials.external.ase_potential:Ase",
        "d3": "karat.potentials.external.dispersion:D3",
        "karat_file": "karat.potentials.karat_file:KaratFile",
        "committee": "karat.potentials.committee:Committee",
        "linear": "karat.potentials.linear.linear_potential:LinearModel",
        "snap_files": "karat.potentials.linear.snap_files:SnapFiles",
        "gap_variance": "karat.potentials.linear.gap_variance:GapVariance",
        "sgdml": "karat.potentials.kernel.sgdml_potential:SgdmlModel",
    },
)


def potential_component(name: str, options: Mapping[str, Any], place: str) -> Any:
    """The component of that name (or ``module:Class``) with these options.

    Raises:
        UnknownKey: no such potential or option, with a suggestion.
        BadInput: an option missing or wrong; the message starts with `place`.
    """
    return components.parse(CATALOGUE.resolve(name), options, place)

"""The engines that potentials are exported to: name → exporter."""

from karat.core.catalogue import Catalogue

CATALOGUE = Catalogue(
    "exporters",
    {
        "ase": "karat.simulation.export.ase_calculator:AseExporter",
        "openmm": "karat.simulation.export.openmm_engine:OpenMMExporter",
        "lammps": "karat.simulation.export.lammps_engine:LammpsExporter",
    },
)

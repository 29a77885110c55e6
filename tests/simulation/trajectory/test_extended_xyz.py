"""Extended XYZ trajectories read by ASE; files that are not whole or not karat's."""

import ase.io
import ase.units
import numpy as np
import pytest

from karat.core.errors import BadInput
from karat.core.units import ACCELERATION
from karat.simulation.trajectory.frames import Storage
from karat.simulation.trajectory.writer import open_writer, read_trajectory
from karat.simulation.velocities import degrees_of_freedom, kinetic_temperature


@pytest.fixture
def written(tmp_path, made):
    path, start = tmp_path / "run.xyz", made.made_structure()
    with open_writer(path, start, {"potential": 'made {up} \\ "so"'}) as writer:
        writer.append(made.made_block(start, 0, 3))
        writer.finish()
    return path, start, made.made_block(start, 0, 3)


def test_ase_reads_what_was_written(written):
    path, start, block = written
    images = ase.io.read(path, index=":")
    assert len(images) == 3
    for k, atoms in enumerate(images):
        np.testing.assert_array_equal(atoms.numbers, start.numbers)
        np.testing.assert_array_equal(atoms.positions, block.positions[k])
        np.testing.assert_array_equal(atoms.cell[:], block.cells[k])
        np.testing.assert_array_equal(atoms.pbc, True)
        assert atoms.get_potential_energy() == block.potential_energies[k]
        np.testing.assert_array_equal(atoms.get_forces(), block.forces[k])
        np.testing.assert_array_equal(atoms.get_stress(voigt=False), block.stress[k])
        # Å/fs as they were given, and ASE's own from the momenta
        np.testing.assert_array_equal(atoms.arrays["velo"], block.velocities[k])
        # rounding only, with the time unit of karat's constants (CODATA 2018)
        own = atoms.get_velocities() * np.sqrt(ACCELERATION)
        np.testing.assert_allclose(own, block.velocities[k], rtol=1e-14)
        # ASE's own time unit is of CODATA 2014: 6e-9 apart
        np.testing.assert_allclose(
            atoms.get_velocities() * ase.units.fs, block.velocities[k], rtol=2e-8
        )
        assert atoms.get_kinetic_energy() == pytest.approx(block.kinetic_energies[k], rel=1e-13)
        assert atoms.info["time_fs"] == block.times_fs[k]
        assert atoms.info["frame"] == k
        assert atoms.info["kinetic_energy"] == block.kinetic_energies[k]
        assert atoms.info["conserved_energy"] == block.conserved[k]
        assert atoms.info["temperature_k"] == kinetic_temperature(
            block.kinetic_energies[k], degrees_of_freedom(start)
        )
    assert images[0].info["karat"]["header"] == {"potential": 'made {up} \\ "so"'}
    assert "karat" not in images[1].info


def test_temperature_over_the_given_degrees_of_freedom(tmp_path, made):
    path, start = tmp_path / "run.xyz", made.made_structure()
    block = made.made_block(start, 0, 1)
    with open_writer(path, start, {}, Storage(degrees_of_freedom=15)) as writer:
        writer.append(block)
    expected = kinetic_temperature(block.kinetic_energies[0], 15)
    assert ase.io.read(path).info["temperature_k"] == expected


def test_many_atoms_are_written_in_parts(tmp_path, made):
    """More atoms than are written at once (4096)."""
    path, start = tmp_path / "run.xyz", made.made_structure(9000)
    block = made.made_block(start, 0, 1, ())
    with open_writer(path, start, {}) as writer:
        writer.append(block)
    atoms = ase.io.read(path)
    np.testing.assert_array_equal(atoms.numbers, start.numbers)
    np.testing.assert_array_equal(atoms.positions, block.positions[0])


def test_slabs_keep_their_zero_row(tmp_path, made):
    start = made.made_structure().replace(
        cell=np.diag([6.0, 7.0, 0.0]), periodic=np.array([True, True, False])
    )
    block = made.made_block(start, 0, 1, ())
    for ending in ("xyz", "h5"):
        with open_writer(tmp_path / f"run.{ending}", start, {}) as writer:
            writer.append(block)
            writer.finish()
        found = read_trajectory(tmp_path / f"run.{ending}")
        np.testing.assert_array_equal(found.frames(0, 1).cells, block.cells)
        np.testing.assert_array_equal(found.start.periodic, [True, True, False])


def test_files_of_others_and_damaged_ones_are_refused(written, made):
    path, start, _ = written
    other = path.with_name("other.xyz")
    ase.io.write(other, start.to_ase(), format="extxyz")
    with pytest.raises(BadInput, match="was not written by karat's dynamics"):
        read_trajectory(other)
    lines = path.read_text().splitlines(keepends=True)
    changed = path.with_name("changed.xyz")
    size = len(start) + 2
    lines[size + 2] = "Xe 1 2\n"
    changed.write_text("".join(lines))
    with pytest.raises(BadInput, match="changed.xyz.*atom 0: 3 columns"):
        list(read_trajectory(changed).blocks())
    text = path.read_text()
    last = text.rindex("conserved_energy")
    changed.write_text(text[:last] + "unknown" + text[last + len("conserved_energy") :])
    with pytest.raises(BadInput, match="not all have what frame 0 has.*conserved_energy"):
        list(read_trajectory(changed).blocks())
    with pytest.raises(BadInput, match="the trajectory has 3"):
        read_trajectory(path).frames(2, 4)
    with pytest.raises(BadInput, match="at least 1"):
        read_trajectory(path).blocks(0)
    with pytest.raises(BadInput, match="no such trajectory"):
        read_trajectory(path.with_name("none.xyz"))
    path.with_name("empty.xyz").write_bytes(b"")
    with pytest.raises(BadInput, match="no whole frame"):
        read_trajectory(path.with_name("empty.xyz"))

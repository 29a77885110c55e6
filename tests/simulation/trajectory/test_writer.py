"""What is appended comes back exactly; marks, truncation, refusals."""

import dataclasses
import time

import numpy as np
import pytest

from karat.core.errors import BadInput
from karat.simulation.trajectory.append_file import Mark
from karat.simulation.trajectory.frames import OPTIONAL, Storage
from karat.simulation.trajectory.writer import open_writer, read_trajectory
from karat.structures.topology import Topology

ENDINGS = ("xyz", "extxyz", "h5", "hdf5")
HEADER = {"potential": "made up", "text": 'a "quoted" \\ {name}, Å', "seeds": [1, 2]}


def write(path, made, start, sizes, optional=OPTIONAL, storage=None, finish=True):
    with open_writer(path, start, HEADER, storage) as writer:
        for size in sizes:
            writer.append(made.made_block(start, writer.frames, size, optional))
        mark = writer.mark()
        if finish:
            assert writer.finish() == path
    return mark


@pytest.mark.parametrize("finish", [True, False])
@pytest.mark.parametrize("optional", [OPTIONAL, (), ("forces",)])
@pytest.mark.parametrize("ending", ENDINGS)
def test_every_bit_comes_back(tmp_path, made, same_frames, ending, optional, finish):
    path = tmp_path / f"run.{ending}"
    start = made.made_structure()
    write(path, made, start, (1, 4, 2), optional, finish=finish)
    found = read_trajectory(path)
    assert len(found) == 7
    same_frames(found.frames(0, 7), made.made_block(start, 0, 7, optional))
    same_frames(found.frames(3, 5), made.made_block(start, 3, 2, optional))
    blocks = list(found.blocks(3))
    assert [(block.first, len(block)) for block in blocks] == [(0, 3), (3, 3), (6, 1)]
    for block in blocks:
        same_frames(block, made.made_block(start, block.first, len(block), optional))
    assert found.metadata.header == HEADER
    assert found.metadata.optional == optional
    np.testing.assert_array_equal(found.start.numbers, start.numbers)
    first = made.made_block(start, 0, 1)
    np.testing.assert_array_equal(found.start.positions, first.positions[0])
    np.testing.assert_array_equal(found.start.cell, first.cells[0])


@pytest.mark.parametrize("ending", ["xyz", "h5"])
def test_float32_comes_back_as_float32(tmp_path, made, ending):
    path = tmp_path / f"run.{ending}"
    start = made.made_structure()
    write(path, made, start, (3,), storage=Storage(precision="float32"))
    found, expected = read_trajectory(path).frames(0, 3), made.made_block(start, 0, 3)
    for name in ("positions", "velocities", "forces"):
        rounded = getattr(expected, name).astype(np.float32).astype(np.float64)
        np.testing.assert_array_equal(getattr(found, name), rounded, strict=True)
    for name in ("cells", "potential_energies", "kinetic_energies", "stress", "conserved"):
        np.testing.assert_array_equal(getattr(found, name), getattr(expected, name))


@pytest.mark.parametrize("ending", ["xyz", "h5"])
@pytest.mark.parametrize("finish", [True, False])
def test_molecules_ions_and_topology(tmp_path, made, ending, finish):
    path = tmp_path / f"run.{ending}"
    numbers = np.array([8, 1])
    topology = Topology(np.array([[0, 1]]), np.array([1.0]), np.array([-1, 0]), smiles="[OH-]")
    start = dataclasses.replace(
        made.made_structure(2, periodic=False),
        numbers=numbers,
        charge=-1,
        multiplicity=1,
        topology=topology,
    )
    write(path, made, start, (2,), finish=finish)
    found = read_trajectory(path).start
    assert (found.charge, found.multiplicity) == (-1, 1)
    assert found.topology.digest == topology.digest
    assert not found.periodic.any()
    assert not found.cell.any()


@pytest.mark.parametrize("ending", ["xyz", "h5"])
def test_the_cut_into_blocks_leaves_no_trace(tmp_path, made, ending):
    start = made.made_structure()
    for name, sizes in (("a", (11,)), ("b", (1,) * 11), ("c", (5, 0, 6))):
        write(tmp_path / f"{name}.{ending}", made, start, sizes)
    contents = {(tmp_path / f"{name}.{ending}").read_bytes() for name in "abc"}
    assert len(contents) == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == [f"{n}.{ending}" for n in "abc"]


@pytest.mark.parametrize("finished", [True, False])
@pytest.mark.parametrize("kept", [0, 1, 4])
@pytest.mark.parametrize("storage", [Storage(), Storage(precision="float32")])
@pytest.mark.parametrize("ending", ["xyz", "h5"])
def test_put_back_to_a_mark_and_go_on(tmp_path, made, ending, storage, kept, finished):
    """Also finished files: a run can be made longer, or was killed before its last checkpoint."""
    start = made.made_structure()
    whole, path = tmp_path / f"whole.{ending}", tmp_path / f"run.{ending}"
    write(whole, made, start, (9,), storage=storage)
    with open_writer(path, start, HEADER, storage) as writer:
        if kept:
            writer.append(made.made_block(start, 0, kept))
        mark = Mark.from_dict(writer.mark().as_dict())
        assert mark.frames == kept
        writer.append(made.made_block(start, kept, 3))
        if finished:
            writer.finish()
    # the header was stored when the file was begun, with the first frame
    with open_writer(path, start, {} if kept else HEADER, storage, mark) as writer:
        assert writer.frames == kept
        writer.append(made.made_block(start, kept, 9 - kept))
        writer.finish()
    assert path.read_bytes() == whole.read_bytes()
    assert sorted(item.name for item in tmp_path.iterdir()) == [path.name, whole.name]


@pytest.mark.parametrize("ending", ["xyz", "h5"])
def test_truncate_an_open_file(tmp_path, made, ending):
    start = made.made_structure()
    whole, path = tmp_path / f"whole.{ending}", tmp_path / f"run.{ending}"
    write(whole, made, start, (4,), optional=("forces",))
    with open_writer(path, start, HEADER) as writer:
        nothing = writer.mark()
        writer.append(made.made_block(start, 0, 5))
        writer.truncate(nothing)
        writer.append(made.made_block(start, 0, 2, ("forces",)))
        mark = writer.mark()
        writer.append(made.made_block(start, 2, 7, ("forces",)))
        writer.truncate(mark)
        assert len(read_trajectory(path)) == 2
        writer.append(made.made_block(start, 2, 2, ("forces",)))
        writer.finish()
    assert path.read_bytes() == whole.read_bytes()


@pytest.mark.parametrize("ending", ["xyz", "h5"])
def test_an_end_torn_off_is_left_out(tmp_path, made, same_frames, ending):
    start = made.made_structure()
    path = tmp_path / f"run.{ending}"
    write(path, made, start, (6,), finish=False)
    running = path if ending == "xyz" else path.with_name("run.h5.running")
    content = running.read_bytes()
    frame = len(content) // 6
    for lost in (1, frame // 2):
        running.write_bytes(content[:-lost])
        found = read_trajectory(path)
        assert len(found) == 5
        same_frames(found.frames(0, 5), made.made_block(start, 0, 5))
    running.write_bytes(content[:30])
    with pytest.raises(BadInput, match="frame"):
        read_trajectory(path)


def test_frames_that_do_not_fit_are_refused(tmp_path, made):
    start = made.made_structure()
    with open_writer(tmp_path / "run.xyz", start, {}) as writer:
        writer.append(made.made_block(start, 0, 2))
        before = writer.mark()
        with pytest.raises(BadInput, match="frame 2 is next, not 3"):
            writer.append(made.made_block(start, 3, 1))
        with pytest.raises(BadInput, match="has forces of .*before have stress, forces, conserved"):
            writer.append(made.made_block(start, 2, 1, ("forces",)))
        with pytest.raises(BadInput, match="positions have shape"):
            writer.append(made.made_block(made.made_structure(6), 2, 1))
        assert writer.mark() == before
    open_molecule = made.made_structure(periodic=False)
    with (
        open_writer(tmp_path / "b.xyz", open_molecule, {}) as writer,
        pytest.raises(BadInput, match="have a cell"),
    ):
        writer.append(made.made_block(start, 0, 1))


@pytest.mark.parametrize("ending", ["xyz", "h5"])
def test_files_that_are_not_the_marked_ones_are_refused(tmp_path, made, ending):
    start = made.made_structure()
    path, other = tmp_path / f"run.{ending}", tmp_path / f"other.{ending}"
    mark = write(path, made, start, (3,), finish=False)
    write(other, made, start, (4,), optional=(), finish=False)
    for arguments, message in (
        ((other, start, {}, None, mark), "is not the file|has .* bytes"),
        ((path, start, {}, Storage(every=5), mark), "another system, or of a trajectory"),
        ((path, made.made_structure(6), {}, None, mark), "another system"),
        ((tmp_path / f"none.{ending}", start, {}, None, mark), "cannot be opened"),
        ((path, start, {}), "exists. Resume that run"),
        ((tmp_path / "run.dcd", start, {}), "ending is one of .xyz"),
        ((tmp_path / "no" / "run.xyz", start, {}), "cannot be opened"),
        ((tmp_path / "a.xyz", start, {"a": float("nan")}), "cannot be written as JSON"),
        ((tmp_path / "a.xyz", start, {}, Storage(compression="gzip")), "only HDF5 is compressed"),
    ):
        with pytest.raises(BadInput, match=message):
            open_writer(*arguments)
    running = path if ending == "xyz" else path.with_name("run.h5.running")
    content = bytearray(running.read_bytes())
    content[-50] ^= 1
    running.write_bytes(content)
    with pytest.raises(BadInput, match="changed since"):
        open_writer(path, start, {}, None, mark)
    running.write_bytes(content[:-100])
    with pytest.raises(BadInput, match="was cut or replaced"):
        open_writer(path, start, {}, None, mark)


def test_settings_that_cannot_be_are_refused():
    for arguments in ({"every": 0}, {"degrees_of_freedom": -1}):
        with pytest.raises(BadInput, match=f"trajectory: {next(iter(arguments))}"):
            Storage(**arguments)


def test_a_finished_hdf5_is_not_overwritten(tmp_path, made):
    start = made.made_structure()
    write(tmp_path / "run.h5", made, start, (1,))
    with pytest.raises(BadInput, match="exists"):
        open_writer(tmp_path / "run.h5", start, {})


def test_an_empty_file_is_begun_and_one_without_frames_not_finished(tmp_path, made):
    start = made.made_structure()
    for ending in ("xyz", "h5"):
        path = tmp_path / f"run.{ending}"
        open_writer(path, start, {}).close()
        with pytest.raises(BadInput, match="frame"):
            read_trajectory(path)
        with open_writer(path, start, {}) as writer, pytest.raises(BadInput, match="no frame"):
            writer.finish()


def test_two_cannot_write_one_file(tmp_path, made):
    start = made.made_structure()
    path = tmp_path / "run.xyz"
    with open_writer(path, start, {}), pytest.raises(BadInput, match="another process"):
        open_writer(path, start, {})
    open_writer(path, start, {}).close()


@pytest.mark.parametrize("storage", [Storage(), Storage(precision="float32")])
@pytest.mark.parametrize("ending", ["xyz", "h5"])
def test_faster_than_5_mb_per_second(tmp_path, made, ending, storage):
    """CPU time of one core, so that a busy machine does not matter; measured 20 to 400 MB/s."""
    start = made.made_structure(500)
    block = made.made_block(start, 0, 20)
    path = tmp_path / f"run.{ending}"
    with open_writer(path, start, {}, storage) as writer:
        begin = time.process_time()
        for first in range(0, 60, 20):
            writer.append(dataclasses.replace(block, first=first))
        size = writer.mark().size
        spent = time.process_time() - begin
    assert size / spent > 5e6

"""Full disks: by a limit on the size of files in processes of their own, by calls that fail."""

import errno
import os

import pytest

from karat.core.errors import CalculationFailed
from karat.simulation.trajectory import append_file, records
from karat.simulation.trajectory.checkpoints import Checkpoints
from karat.simulation.trajectory.writer import open_writer, read_trajectory

RUN = {"atoms": 20, "frames": 60, "block": 5, "every": 2}


def run(start_run, folder, ending, **more):
    arguments = {"folder": folder / "checkpoints", "storage": {}, **RUN, **more}
    process = start_run(path=folder / f"run.{ending}", **arguments)
    said = process.communicate(timeout=60)[0]
    return process.returncode, said


@pytest.mark.parametrize("ending", ["xyz", "h5"])
def test_the_disk_fills_while_the_run_goes_on(tmp_path, made, start_run, same_frames, ending):
    start = made.made_structure(20)
    code, said = run(start_run, tmp_path, ending, limit=70_000)
    assert code == 1, said
    running = f"run.{ending}" + (".running" if ending == "h5" else "")
    assert f"disk-full: {tmp_path / running}: the disk is full" in said
    kept = len(read_trajectory(tmp_path / f"run.{ending}"))
    assert 0 < kept < 60
    assert f"frames {kept} to {kept + 4} could not be written; frames 0 to {kept - 1} are" in said
    assert "resume the run from its last checkpoint" in said
    same_frames(
        read_trajectory(tmp_path / f"run.{ending}").frames(0, kept),
        made.made_block(start, 0, kept),
    )
    code, said = run(start_run, tmp_path, ending)
    assert code == 0, said
    whole = tmp_path / "whole"
    whole.mkdir()
    assert run(start_run, whole, ending)[0] == 0
    name = f"run.{ending}"
    assert (tmp_path / name).read_bytes() == (whole / name).read_bytes()


@pytest.mark.parametrize(
    ("limit", "storage"), [(0, {}), (60_000, {}), (3000, {"compression": "gzip"})]
)
def test_the_disk_fills_while_hdf5_is_made(tmp_path, made, start_run, same_frames, storage, limit):
    """HDF5 itself would end the process with a segmentation fault here (h5py 3.16)."""
    code, said = run(start_run, tmp_path, "h5", limit_end=limit, storage=storage)
    assert code == 1, said
    assert f"disk-full: {tmp_path / 'run.h5'}: the disk is full" in said
    assert "its 60 frames are kept in run.h5.running" in said
    assert {path.name for path in tmp_path.iterdir()} == {"checkpoints", "run.h5.running"}
    start = made.made_structure(20)
    same_frames(read_trajectory(tmp_path / "run.h5").frames(0, 60), made.made_block(start, 0, 60))
    code, said = run(start_run, tmp_path, "h5", storage=storage)
    assert code == 0, said
    assert {path.name for path in tmp_path.iterdir()} == {"checkpoints", "run.h5"}
    same_frames(read_trajectory(tmp_path / "run.h5").frames(0, 60), made.made_block(start, 0, 60))


def failing(monkeypatch, name, code, after=0):
    """Let `os.name` fail after so many calls; a write then first writes half."""
    real, calls = getattr(os, name), []

    def call(handle, *arguments):
        calls.append(handle)
        if len(calls) == after + 1 and name == "pwrite":
            view, place = arguments
            return real(handle, view[: len(view) // 2], place)
        if len(calls) > after:
            raise OSError(code, os.strerror(code))
        return real(handle, *arguments)

    monkeypatch.setattr(os, name, call)


@pytest.mark.parametrize("ending", ["xyz", "h5"])
@pytest.mark.parametrize("after", [0, 3])
def test_the_same_block_may_be_written_again(tmp_path, made, monkeypatch, ending, after):
    """Also where several pieces were written before one failed."""
    if after:
        monkeypatch.setattr(append_file, "PIECE", 100)
        monkeypatch.setattr(records, "SLAB", 100)
    start = made.made_structure()
    path, whole = tmp_path / f"run.{ending}", tmp_path / f"whole.{ending}"
    with open_writer(whole, start, {}) as writer:
        writer.append(made.made_block(start, 0, 6))
        writer.finish()
    with open_writer(path, start, {}) as writer:
        writer.append(made.made_block(start, 0, 2))
        for code, kind in ((errno.ENOSPC, "disk-full"), (errno.EIO, "write-failed")):
            with pytest.MonkeyPatch.context() as patch:
                failing(patch, "pwrite", code, after)
                with pytest.raises(CalculationFailed, match="frames 2 to 5 could not") as caught:
                    writer.append(made.made_block(start, 2, 4))
            assert caught.value.kind == kind
            assert len(read_trajectory(path)) == 2
        writer.append(made.made_block(start, 2, 4))
        writer.finish()
    assert path.read_bytes() == whole.read_bytes()


def test_no_frame_fits(tmp_path, made, monkeypatch):
    start = made.made_structure()
    with open_writer(tmp_path / "run.xyz", start, {}) as writer:
        failing(monkeypatch, "pwrite", errno.EDQUOT)
        with pytest.raises(CalculationFailed, match="no frame is kept"):
            writer.append(made.made_block(start, 0, 4))
    assert (tmp_path / "run.xyz").stat().st_size == 0


def test_flushing_fails(tmp_path, made, monkeypatch):
    """Network file systems may tell of a full disk only then: the mark before counts."""
    start, path = made.made_structure(), tmp_path / "run.xyz"
    with open_writer(path, start, {}) as writer:
        writer.append(made.made_block(start, 0, 3))
        writer.mark()
        writer.append(made.made_block(start, 3, 3))
        failing(monkeypatch, "fsync", errno.ENOSPC)
        with pytest.raises(CalculationFailed, match="frames 3 to 5 could not.*frames 0 to 2 are"):
            writer.mark()
        assert writer.frames == len(read_trajectory(path)) == 3


def test_a_checkpoint_does_not_fit(tmp_path, monkeypatch):
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save({}, {"at": 1}, {})
    failing(monkeypatch, "fsync", errno.ENOSPC)
    with pytest.raises(
        CalculationFailed, match=r"00000002.*checkpoint-00000001\S* is there"
    ) as one:
        checkpoints.save({}, {"at": 2}, {})
    assert one.value.kind == "disk-full"
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint-00000001.safetensors"]
    assert checkpoints.load().header == {"at": 1}

"""The finished HDF5 file by the rules of H5MD 1.1 and of its module `units`, with h5py alone."""

import json
import re

import h5py
import numpy as np
import pytest

from karat.core.errors import BadInput, CalculationFailed
from karat.simulation.trajectory import h5md
from karat.simulation.trajectory.frames import Storage
from karat.simulation.trajectory.writer import open_writer, read_trajectory

UNIT = re.compile(r"[A-Za-z]+([+-]\d+)?( [A-Za-z]+([+-]\d+)?)*")
MDANALYSIS = {"position": {"Angstrom"}, "velocity": {"Angstrom fs-1"}, "time": {"fs"}}
"""Spellings that MDAnalysis 2 translates (of those that karat uses)."""


def written(path, made, start, frames=5, optional=("stress", "forces", "conserved"), **storage):
    with open_writer(path, start, {"a": 1}, Storage(**storage)) as writer:
        writer.append(made.made_block(start, 0, frames, optional))
        writer.finish()
    return made.made_block(start, 0, frames, optional)


def fixed_text(place, name):
    kind = place.attrs.get_id(name).dtype
    return kind.kind == "S" and h5py.check_string_dtype(kind).length is not None


def elements(file):
    """Time-dependent elements: groups with `step` and `value`."""
    found = {}
    file.visititems(
        lambda name, item: (
            found.update({name: item}) if isinstance(item, h5py.Group) and "step" in item else None
        )
    )
    return found


@pytest.mark.parametrize("compression", ["none", "gzip"])
@pytest.mark.parametrize("periodic", [True, False])
def test_by_the_rules_of_the_standard(tmp_path, made, periodic, compression):
    path, start = tmp_path / "run.h5", made.made_structure(periodic=periodic)
    block = written(path, made, start, every=4, author="A. N. Other", compression=compression)
    with h5py.File(path) as file:
        root = file["h5md"]
        np.testing.assert_array_equal(root.attrs["version"], [1, 1])
        assert root.attrs["version"].dtype.kind == "i"
        for place, name, value in (
            ("author", "name", b"A. N. Other"),
            ("creator", "name", b"karat"),
            ("creator", "version", None),
        ):
            assert fixed_text(root[place], name)
            assert value is None or root[place].attrs[name] == value
        assert root["modules/units"].attrs["version"].shape == (2,)
        assert root["modules/units"].attrs["system"]
        group = file["particles/all"]
        box = group["box"]
        assert box.attrs["dimension"] == 3
        assert box.attrs["dimension"].shape == ()
        assert fixed_text(box, "boundary")
        assert list(box.attrs["boundary"]) == [b"periodic" if periodic else b"none"] * 3
        assert ("edges" in box) == periodic
        assert group["species"].dtype.kind == "i"
        np.testing.assert_array_equal(group["species"][()], start.numbers)
        assert group["mass"].shape == (len(start),)
        found = elements(file)
        assert len(found) == 7 + periodic
        for name, element in found.items():
            value, step, time = element["value"], element["step"], element["time"]
            assert step.dtype.kind == "i"
            assert step.shape == time.shape == value.shape[:1] == (5,)
            assert value.maxshape[0] is None
            # one sampling: hard links to the very same datasets, as the box must have them
            assert step == group["position/step"]
            assert time == group["position/time"]
            for dataset in (value, time):
                unit = dataset.attrs["unit"]
                assert isinstance(unit, str)
                assert UNIT.fullmatch(unit)
            key = name.rsplit("/", 1)[-1]
            assert value.attrs["unit"] in MDANALYSIS.get(key, {value.attrs["unit"]})
            assert (value.compression == "gzip") == (compression == "gzip")
        np.testing.assert_array_equal(group["position/step"][()], 4 * np.arange(5))
        np.testing.assert_array_equal(group["position/time"][()], block.times_fs)
        assert group["position/time"].attrs["unit"] in MDANALYSIS["time"]
        np.testing.assert_array_equal(group["position/value"][()], block.positions)
        np.testing.assert_array_equal(group["velocity/value"][()], block.velocities)
        np.testing.assert_array_equal(group["force/value"][()], block.forces)
        if periodic:  # rows are the edge vectors
            np.testing.assert_array_equal(box["edges/value"][()], block.cells)
        seen = file["observables"]
        np.testing.assert_array_equal(seen["potential_energy/value"], block.potential_energies)
        np.testing.assert_array_equal(seen["kinetic_energy/value"], block.kinetic_energies)
        np.testing.assert_array_equal(seen["conserved_energy/value"], block.conserved)
        np.testing.assert_array_equal(seen["stress/value"], block.stress)
        assert json.loads(file["parameters/karat"][()])["header"] == {"a": 1}


def test_float32_and_gzip_make_files_smaller(tmp_path, made):
    start = made.made_structure(50)
    sizes = {}
    for name, storage in (
        ("plain", {}),
        ("single", {"precision": "float32"}),
        ("packed", {"precision": "float32", "compression": "gzip"}),
    ):
        written(tmp_path / f"{name}.h5", made, start, 200, (), **storage)
        sizes[name] = (tmp_path / f"{name}.h5").stat().st_size
    assert sizes["single"] < 0.6 * sizes["plain"]
    assert sizes["packed"] < sizes["single"]


def test_many_frames_in_slabs_and_large_frames_in_parts(tmp_path, made, same_frames, monkeypatch):
    """Chunks and slabs smaller than the run: the copy goes over their borders."""
    monkeypatch.setattr(h5md, "CHUNK", 500)
    monkeypatch.setattr(h5md, "SLAB", 3000)
    for atoms, chunk in ((5, (4, 5, 3)), (30, (1, 15, 3))):
        path, start = tmp_path / f"{atoms}.h5", made.made_structure(atoms)
        block = written(path, made, start, 23)
        with h5py.File(path) as file:
            assert file["particles/all/position/value"].chunks == chunk
        same_frames(read_trajectory(path).frames(0, 23), block)


def test_damaged_files_are_refused_with_their_place(tmp_path, made):
    path, start = tmp_path / "run.h5", made.made_structure()
    written(path, made, start, compression="gzip")
    other = tmp_path / "other.h5"
    other.write_bytes(path.read_bytes()[:3000])
    with pytest.raises(BadInput, match="other.h5: is no HDF5 trajectory of karat"):
        read_trajectory(other)
    with h5py.File(other, "w") as file:
        file["a"] = 1
    with pytest.raises(BadInput, match="is no HDF5 trajectory of karat"):
        read_trajectory(other)
    with h5py.File(path) as file:
        place = file["particles/all/velocity/value"].id.get_chunk_info(0).byte_offset
    content = bytearray(path.read_bytes())
    content[place : place + 40] = bytes(40)
    other.write_bytes(content)
    with pytest.raises(CalculationFailed, match="frames 0 to 4: cannot be read"):
        list(read_trajectory(other).blocks())


def test_a_hole_in_an_unfinished_run_is_noticed(tmp_path, made):
    """What a machine that goes down may leave: the size is there, the content is not."""
    path, start = tmp_path / "run.h5", made.made_structure()
    with open_writer(path, start, {}) as writer:
        writer.append(made.made_block(start, 0, 4))
        kept = writer.mark()
        writer.append(made.made_block(start, 4, 4))
    running = tmp_path / "run.h5.running"
    content = running.read_bytes()
    running.write_bytes(content[: kept.size] + bytes(len(content) - kept.size))
    found = read_trajectory(path)
    assert len(found.frames(0, 4)) == 4
    with pytest.raises(CalculationFailed, match="frame 4 is damaged.*Resume the run"):
        list(found.blocks())
    with open_writer(path, start, {}, None, kept) as writer:
        assert writer.frames == 4
    running.write_bytes(b"something else")
    with pytest.raises(BadInput, match="does not begin like one"):
        read_trajectory(path)

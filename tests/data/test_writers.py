"""Writers: every bit back, atomic, streamed."""

import dataclasses
import tracemalloc

import numpy as np
import pytest
from data_example import LEVEL, full_dataset, full_records

from karat.core.errors import BadInput
from karat.data.entry import Entry, entry_of
from karat.data.files import read_dataset, write_dataset
from karat.data.readers.catalogue import iterate
from karat.data.writers import write_entries
from karat.structures.labels import LevelOfTheory

NAMES = ["all.xyz", "all.extxyz.gz", "all.h5", "all.hdf5"]


def unjudged():
    """Entries that no record could be: NaN, unknown elements, several levels, odd tensors."""
    cell = np.diag([1.0, 2.0, -0.0])
    yield Entry(
        numbers=np.array([0, 500, -3]),
        positions=np.array([[np.nan, np.inf, -np.inf]] * 3),
        cell=cell,
        periodic=np.zeros(3, bool),
        place="",
        energy=np.nan,
        stress=np.arange(9.0).reshape(3, 3),
        level=LevelOfTheory("HF"),
    )
    for index in range(3):
        yield Entry(
            numbers=np.array([1]),
            positions=np.zeros((1, 3)),
            cell=np.zeros((3, 3)),
            periodic=np.array([True, False, True]),
            place="",
            forces=None if index else np.full((1, 3), np.nan),
            charges=np.array([0.1]) if index == 2 else None,
            charge=-3,
            multiplicity=4,
            kind="k",
            name=f"n{index}",
            frame=2**40,
            level=None if index else LEVEL,
        )


def equal(mine, theirs):
    for field in dataclasses.fields(Entry):
        if field.name == "place":
            continue
        one, other = getattr(mine, field.name), getattr(theirs, field.name)
        if isinstance(one, np.ndarray):
            assert one.dtype == other.dtype, field.name
            assert one.shape == other.shape, field.name
            assert one.tobytes() == other.tobytes(), field.name
        elif field.name == "topology":
            assert (one and one.digest) == (other and other.digest)
        else:
            assert repr(one) == repr(other), field.name


@pytest.mark.parametrize("name", NAMES)
def test_every_bit_back(tmp_path, name):
    entries = [entry_of(record, level=LEVEL) for record in full_records()] + list(unjudged())
    write_entries(iter(entries), tmp_path / name)
    for mine, theirs in zip(entries, iterate(tmp_path / name), strict=True):
        equal(mine, theirs)
    assert [item.name for item in tmp_path.iterdir()] == [name]


@pytest.mark.parametrize("name", NAMES)
def test_datasets(tmp_path, name):
    write_dataset(full_dataset(), tmp_path / name)
    assert read_dataset(tmp_path / name).digest == full_dataset().digest
    with pytest.raises(BadInput, match="was labelled with PBE-D3.BJ./def2-SVP, but HF was named"):
        read_dataset(tmp_path / name, LevelOfTheory("HF"))


@pytest.mark.parametrize("name", ["a.xyz.gz", "a.h5"])
def test_equal_data_make_equal_files(tmp_path, name):
    for folder in ("one", "two"):
        write_dataset(full_dataset(), tmp_path / folder / name)
    assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()


@pytest.mark.parametrize("name", ["a.xyz", "a.xyz.gz", "a.h5"])
def test_a_failure_leaves_the_old_file(tmp_path, name):
    write_dataset(full_dataset(), tmp_path / name)
    before = (tmp_path / name).read_bytes()

    def broken():
        yield entry_of(full_records()[0])
        raise BadInput("the source broke")

    with pytest.raises(BadInput, match="the source broke"):
        write_entries(broken(), tmp_path / name)
    assert (tmp_path / name).read_bytes() == before
    assert [item.name for item in tmp_path.iterdir()] == [name]


@pytest.mark.parametrize("name", ["a.npz", "a.h5.gz", "a", "a.cif"])
def test_other_suffixes(tmp_path, name):
    with pytest.raises(BadInput, match="Choose one of these suffixes"):
        write_dataset(full_dataset(), tmp_path / name)
    assert list(tmp_path.iterdir()) == []


def many(count):
    generator = np.random.default_rng(1)
    for index in range(count):
        yield Entry(
            numbers=np.full(200, 6),
            positions=generator.normal(size=(200, 3)),
            cell=np.zeros((3, 3)),
            periodic=np.zeros(3, bool),
            place="",
            energy=float(index),
            forces=generator.normal(size=(200, 3)),
        )


def test_hdf5_streams_both_ways(tmp_path):
    """More entries than are held at once; memory does not grow with them."""
    peaks = []
    for count in (200, 200, 900):
        tracemalloc.start()
        write_entries(many(count), tmp_path / "a.h5")
        energies = [entry.energy for entry in iterate(tmp_path / "a.h5")]
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
        assert energies == list(range(count))
    # 700 further entries are 7 MB
    assert peaks[2] < peaks[1] + 4e6
    for mine, theirs in zip(many(900), iterate(tmp_path / "a.h5"), strict=True):
        np.testing.assert_array_equal(mine.forces, theirs.forces)


def test_hdf5_is_refused_where_parts_do_not_fit(tmp_path):
    import h5py

    for name, words in (
        ("atoms_end", "does not count atoms upwards"),
        ("level", "level 9 is not there"),
        ("topology", "topology 9 is not there"),
        ("origin_end", "does not count bytes upwards|no JSON"),
    ):
        write_dataset(full_dataset(), tmp_path / "a.h5")
        with h5py.File(tmp_path / "a.h5", "r+") as file:
            file[name][0] = 9
            file[name][1] = 9
        with pytest.raises(BadInput, match=words):
            list(iterate(tmp_path / "a.h5"))
    write_dataset(full_dataset(), tmp_path / "a.h5")
    with h5py.File(tmp_path / "a.h5", "r+") as file:
        del file["energy"]
    with pytest.raises(BadInput, match="its energy should be there"):
        list(iterate(tmp_path / "a.h5"))

"""What HDF5 files may do that karat does not let them do."""

import struct
import zlib

import h5py
import numpy as np
import pytest

from karat.core.errors import BadInput
from karat.data.read_options import ReadOptions
from karat.data.readers.catalogue import iterate

OPTIONS = ReadOptions(energy_unit="eV", length_unit="angstrom")


@pytest.fixture
def secret(tmp_path):
    with h5py.File(tmp_path / "secret.h5", "w") as file:
        file["R"] = np.ones((4, 2, 3))
        file.create_group("x")["coordinates"] = np.ones((4, 2, 3))
    return tmp_path / "secret.h5"


def refused(path, words):
    with pytest.raises(BadInput, match=words) as caught:
        list(iterate(path, OPTIONS))
    assert str(path) in str(caught.value)


@pytest.mark.parametrize("where", ["R", "x/R", "group"])
@pytest.mark.parametrize("kind", ["external", "soft"])
def test_links(tmp_path, secret, where, kind):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["z"] = [1, 1]
        file.create_group("x")["atomic_numbers"] = [1, 1]
        target = {"external": h5py.ExternalLink(str(secret), "/R"), "soft": h5py.SoftLink("/z")}
        file[where] = target[kind]
    refused(tmp_path / "a.h5", "is a link to somewhere else")


def test_virtual_and_external_data(tmp_path, secret):
    layout = h5py.VirtualLayout((4, 2, 3), "f8")
    layout[:] = h5py.VirtualSource(secret, "R", (4, 2, 3))
    with h5py.File(tmp_path / "v.h5", "w") as file:
        file["z"] = [1, 1]
        file.create_virtual_dataset("R", layout)
    refused(tmp_path / "v.h5", "has its numbers in other files")
    (tmp_path / "raw").write_bytes(bytes(1000))
    with h5py.File(tmp_path / "e.h5", "w") as file:
        file["z"] = [1, 1]
        file.create_dataset("R", (4, 2, 3), "f8", external=[(str(tmp_path / "raw"), 0, 192)])
    refused(tmp_path / "e.h5", "has its numbers in other files")


def test_announced_but_never_written(tmp_path):
    for name, options in (("c.h5", {"chunks": (1000, 2, 3)}), ("g.h5", {"compression": "gzip"})):
        with h5py.File(tmp_path / name, "w") as file:
            file["z"] = [1, 1]
            file.create_dataset("R", (10**10, 2, 3), "f8", **options)
        refused(tmp_path / name, "announces 480000000000 bytes, holds 0")


def test_huge_chunk(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["z"] = [1, 1]
        file.create_dataset("R", (10**7, 2, 3), "f8", chunks=(10**7, 2, 3))
    refused(tmp_path / "a.h5", "chunks of more than 67108864 bytes")


def test_packed_bomb(tmp_path):
    """A chunk of 48 bytes that unpacks to 400 MB."""
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["z"] = [1, 1]
        dataset = file.create_dataset("R", (1, 2, 3), "f8", chunks=(1, 2, 3), compression="gzip")
        packer = zlib.compressobj(9)
        packed = b"".join(packer.compress(bytes(2**20)) for _ in range(400)) + packer.flush()
        dataset.id.write_direct_chunk((0, 0, 0), packed)
    refused(tmp_path / "a.h5", "a chunk unpacks to more than its size")


def test_unknown_filter(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["z"] = [1, 1]
        file.create_dataset("R", data=np.ones((4, 2, 3), "i8"), scaleoffset=4)
    refused(tmp_path / "a.h5", "is packed by filter 6; known are gzip")


def test_objects(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["z"] = [1, 1]
        dataset = file.create_dataset("R", (4,), h5py.vlen_dtype(np.float64))
        dataset[0] = np.ones(3)
    refused(tmp_path / "a.h5", "has no positions|no group of it holds")


def test_circles_end(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        child = file.create_group("a/b")
        for number in range(50):
            child[f"up{number}"] = file
            child[f"again{number}"] = file["a"]
        child["c/atomic_numbers"] = [1]
        child["c/coordinates"] = np.zeros((1, 1, 3))
    assert len(list(iterate(tmp_path / "a.h5", OPTIONS))) == 1


def test_cut_file(tmp_path, secret):
    content = secret.read_bytes()
    (tmp_path / "cut.h5").write_bytes(content[: len(content) // 2])
    refused(tmp_path / "cut.h5", "cannot be read as HDF5 .OSError")
    (tmp_path / "no.h5").write_bytes(struct.pack("<d", 1.0) * 100)
    refused(tmp_path / "no.h5", "cannot be read as HDF5 .OSError")

"""Digests tell contents apart and repeat; files are whole or absent."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from karat.core.errors import BadInput
from karat.core.files import readable_file, writable_folder, write_atomic, write_json
from karat.core.hashing import canonical_json, digest_arrays, digest_bytes, digest_json
from karat.core.threads import single_thread

json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner, max_size=4)
    ),
    max_leaves=8,
)


@given(json_values)
def test_canonical_json_reads_back(value):
    assert json.loads(canonical_json(value)) == value


def test_canonical_json_forgets_order_and_refuses_nan():
    assert canonical_json({"b": 1, "a": 0.1}) == '{"a":0.1,"b":1}'
    with pytest.raises(ValueError, match="not JSON compliant"):
        canonical_json([float("nan")])


def test_parts_cannot_run_together():
    assert digest_bytes(b"ab", b"c") != digest_bytes(b"a", b"bc")
    assert digest_bytes(b"", b"a") != digest_bytes(b"a", b"")
    # SHA-256 of eight zero bytes (the length of an empty part), by another program:
    # printf '\0\0\0\0\0\0\0\0' | sha256sum
    assert digest_bytes(b"") == "af5570f5a1810b7af78caf4bc70a660f0df51e42baf91d4de5b2328de0e83dfc"


def test_array_digest_sees_name_dtype_shape_and_bits():
    base = np.arange(6.0)
    variants = [
        {"x": base},
        {"y": base},
        {"x": base.astype(np.float32)},
        {"x": base.reshape(2, 3)},
        {"x": np.nextafter(base, 9)},
        {"x": base, "y": base},
        {"x": -base * 0.0},
    ]
    assert len({digest_arrays(one) for one in variants}) == len(variants)


def test_array_digest_does_not_see_memory_layout():
    array = np.random.default_rng(0).normal(size=(4, 5))
    same = [array, np.asfortranarray(array), array.astype(">f8"), np.hstack([array, array])[:, :5]]
    assert len({digest_arrays({"x": one}) for one in same}) == 1


def test_digest_repeats_in_another_process():
    code = (
        "from karat.core.hashing import digest_json; print(digest_json({'b': [1, 0.1], 'a': None}))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == digest_json({"a": None, "b": [1, 0.1]})


def test_atomic_write_leaves_the_old_file_where_it_fails(tmp_path, monkeypatch):
    path = tmp_path / "file.json"
    write_json(path, {"a": 1})

    def broken(*_):
        raise OSError("disk full")

    monkeypatch.setattr(os, "fsync", broken)
    with pytest.raises(OSError, match="disk full"):
        write_atomic(path, b"half of it")
    assert json.loads(path.read_text()) == {"a": 1}
    assert [item.name for item in tmp_path.iterdir()] == ["file.json"]


def test_atomic_write_makes_folders_and_readable_files(tmp_path):
    path = tmp_path / "a" / "b.txt"
    write_atomic(path, b"text")
    assert path.read_bytes() == b"text"
    assert path.stat().st_mode & 0o777 == 0o644


def test_json_refuses_nan(tmp_path):
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(tmp_path / "x.json", {"a": float("nan")})
    assert list(tmp_path.iterdir()) == []


def test_unreadable_files_are_named(tmp_path):
    (tmp_path / "empty.xyz").touch()
    for name, words in (("none.xyz", "no such data"), ("empty.xyz", "0 bytes"), ("", "a folder")):
        with pytest.raises(BadInput, match=words) as caught:
            readable_file(tmp_path / name, "data file")
        assert str(tmp_path) in str(caught.value)


def test_folder_that_cannot_be_made(tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(BadInput, match="cannot write into this folder"):
        writable_folder(tmp_path / "file" / "inside")
    assert writable_folder(tmp_path / "new" / "deep").is_dir()


def test_single_thread_sets_every_library(monkeypatch):
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NPROC"):
        monkeypatch.setenv(name, "8")
    monkeypatch.setenv("XLA_FLAGS", "--other")
    single_thread()
    single_thread()
    assert {os.environ[name] for name in ("OMP_NUM_THREADS", "NPROC")} == {"1"}
    assert os.environ["XLA_FLAGS"] == "--other --xla_cpu_multi_thread_eigen=false"

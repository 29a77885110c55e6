"""Archives from a local server: verified, unpacked flat, hostile ones refused."""

import functools
import hashlib
import http.server
import io
import tarfile
import threading
import zipfile

import pytest

from karat.core.errors import BadInput
from karat.data.collections import download as module
from karat.data.collections.download import download, unpack


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_):
        pass


@pytest.fixture
def server(tmp_path):
    """A folder and its address."""
    folder = tmp_path / "served"
    folder.mkdir()
    handler = functools.partial(Quiet, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as one:
        thread = threading.Thread(target=one.serve_forever)
        thread.start()
        yield folder, f"http://127.0.0.1:{one.server_address[1]}"
        one.shutdown()
        thread.join()


def test_a_file_comes_whole_with_its_progress(server, tmp_path, monkeypatch):
    folder, url = server
    monkeypatch.setattr(module, "PIECE", 1000)
    content = bytes(range(256)) * 20
    (folder / "a.bin").write_bytes(content)
    said = []
    digest = hashlib.sha256(content).hexdigest()
    download(f"{url}/a.bin", digest.upper(), tmp_path / "a", lambda *now: said.append(now))
    assert (tmp_path / "a").read_bytes() == content
    assert said == [(min(1000 * i, 5120), 5120) for i in range(1, 7)]


def test_what_is_not_as_it_should_be_leaves_nothing(server, tmp_path, monkeypatch):
    folder, url = server
    (folder / "a.bin").write_bytes(b"content")
    to = tmp_path / "a"
    for address, digest, words in (
        (f"{url}/a.bin", "0" * 64, "SHA-256 is ed7002b439e9ac84"),
        (f"{url}/b.bin", "0" * 64, "cannot be fetched"),
        ("http://127.0.0.1:9/a", "0" * 64, "cannot be fetched"),
        ("ftp://host/a", "0" * 64, "'ftp' is none of"),
        ("a.bin", "0" * 64, "'' is none of"),
    ):
        with pytest.raises(BadInput, match=words):
            download(address, digest, to)
        assert not to.exists()
    monkeypatch.setattr(module, "MAX_BYTES", 3)
    with pytest.raises(BadInput, match="larger than 3 bytes"):
        download(f"{url}/a.bin", "0" * 64, to)
    assert not to.exists()


def tar_of(path, members):
    with tarfile.open(path, "w:gz") as tar:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            if isinstance(content, bytes):
                info.size = len(content)
                tar.addfile(info, io.BytesIO(content))
            else:
                (info.type,), info.linkname = content, "/etc/passwd"
                tar.addfile(info)
    return path


def test_both_kinds_are_unpacked_flat(tmp_path):
    members = {"top/a.txt": b"one", "top/inner/b.txt": b"two"}
    tar_of(tmp_path / "t", members)
    with zipfile.ZipFile(tmp_path / "z", "w") as zipped:
        for name, content in members.items():
            zipped.writestr(name, content)
    for kind in ("t", "z"):
        folder = tmp_path / f"out-{kind}"
        folder.mkdir()
        unpack(tmp_path / kind, folder)
        assert {p.name: p.read_bytes() for p in folder.iterdir()} == {
            "a.txt": b"one",
            "b.txt": b"two",
        }


@pytest.mark.parametrize(
    ("members", "words"),
    [
        ({"a": b"1", "x/a": b"2"}, "no name of its own"),
        ({"x/..": b"1"}, "no name of its own"),
        ({"link": (tarfile.SYMTYPE,)}, "not a plain file"),
        ({"hard": (tarfile.LNKTYPE,)}, "not a plain file"),
        ({"device": (tarfile.CHRTYPE,)}, "not a plain file"),
        ({f"f{i}": b"" for i in range(101)}, "more than 100 files"),
    ],
)
def test_hostile_archives_are_refused(tmp_path, members, words):
    folder = tmp_path / "out"
    folder.mkdir()
    with pytest.raises(BadInput, match=words):
        unpack(tar_of(tmp_path / "t", members), folder)
    assert not any(path.is_symlink() for path in folder.iterdir())


def test_paths_cannot_leave_the_folder(tmp_path):
    folder = tmp_path / "out"
    folder.mkdir()
    unpack(tar_of(tmp_path / "t", {"../../up.txt": b"1", "/abs.txt": b"2"}), folder)
    assert sorted(path.name for path in folder.iterdir()) == ["abs.txt", "up.txt"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "t"]


def test_too_large_and_not_an_archive(tmp_path, monkeypatch):
    folder = tmp_path / "out"
    folder.mkdir()
    archive = tar_of(tmp_path / "t", {"a": b"12345"})
    monkeypatch.setattr(module, "MAX_BYTES", 4)
    with pytest.raises(BadInput, match="or 4 bytes"):
        unpack(archive, folder)
    (tmp_path / "text").write_text("no archive")
    with pytest.raises(BadInput, match="neither a tar nor a zip"):
        unpack(tmp_path / "text", folder)

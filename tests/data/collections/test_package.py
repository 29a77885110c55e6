"""Packages come back bit by bit; damage, wrong digests and hostile manifests are found."""

import dataclasses
import json

import pytest

from karat.core.errors import BadInput
from karat.data.collections.manifest import NAME, Noise, read_manifest
from karat.data.collections.package import ENERGIES, STRUCTURES, read_package, write_package


@pytest.fixture
def package(small, tmp_path):
    write_package(tmp_path / "p", small.manifest(), small.collection())
    return tmp_path / "p"


def test_everything_comes_back(small, package):
    manifest, found = read_package(package)
    made = small.collection()
    assert dataclasses.replace(manifest, files={}) == small.manifest()
    assert found.energies == made.energies
    assert set(found.structures) == set(made.used)
    assert all(found.structures[n].digest == made.structures[n].digest for n in made.used)
    assert found.structures["HF"].multiplicity == 1


def test_the_same_data_give_the_same_bytes(small, package, tmp_path):
    write_package(tmp_path / "q", small.manifest(), small.collection())
    for name in (NAME, ENERGIES, STRUCTURES):
        assert (package / name).read_bytes() == (tmp_path / "q" / name).read_bytes()


@pytest.mark.parametrize("name", [ENERGIES, STRUCTURES])
def test_a_changed_or_missing_file_is_found(package, name):
    content = (package / name).read_bytes()
    (package / name).write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(BadInput, match=f"{name}: is not the file that"):
        read_package(package)
    (package / name).unlink()
    with pytest.raises(BadInput, match="no such file of the collection small"):
        read_package(package)


def edited(package, edit):
    values = json.loads((package / NAME).read_text())
    edit(values)
    (package / NAME).write_text(json.dumps(values))


@pytest.mark.parametrize(
    ("edit", "words"),
    [
        (lambda v: v.update(schema=2), "schema 2"),
        (lambda v: v.pop("licence"), "not the manifest"),
        (lambda v: v.update(extra=1), "not the manifest"),
        (lambda v: v.update(name="../up"), "collection name"),
        (lambda v: v.update(task="anything"), "task 'anything'"),
        (lambda v: v.update(files={"../x": "0" * 64}), "not the name of a file"),
        (lambda v: v.update(files={"/etc/passwd": "0" * 64}), "not the name of a file"),
        (lambda v: v.update(files={"x": "0"}), "not SHA-256"),
        (lambda v: v.update(noise={"value": -1, "source": "s"}), "must be positive"),
        (lambda v: v.update(title=""), "title is empty"),
    ],
)
def test_manifests_that_cannot_be_are_refused(package, edit, words):
    edited(package, edit)
    with pytest.raises(BadInput, match=words):
        read_manifest(package)


def test_a_manifest_that_is_no_json_is_refused(package):
    (package / NAME).write_text("[1, 2")
    with pytest.raises(BadInput, match="not the manifest"):
        read_manifest(package)


@pytest.mark.parametrize(
    ("table", "words"),
    [
        ("a,b\n1,2\n", "its columns must be"),
        ("name,reference_ev,terms,kind,group,coordinate\ne,zero,1*HF,,,\n", "line 2: could not"),
        ("name,reference_ev,terms,kind,group,coordinate\ne,0,1*HF\n", "has not 6 columns"),
        ("name,reference_ev,terms,kind,group,coordinate\ne,0,HF,,,\n", "is no term"),
        ("name,reference_ev,terms,kind,group,coordinate\ne,nan,1*HF,,,\n", "NaN or infinite"),
        ("name,reference_ev,terms,kind,group,coordinate\ne,0,1*H3,,,\n", "no structure 'H3'"),
    ],
)
def test_tables_that_are_none_are_refused(package, table, words):
    from karat.data.collections.package import file_digest

    (package / ENERGIES).write_text(table)
    edited(package, lambda v: v["files"].update({ENERGIES: file_digest(package / ENERGIES)}))
    with pytest.raises(BadInput, match=words):
        read_package(package)


def test_the_digest_knows_every_word_and_the_data(small, package):
    manifest = read_manifest(package)
    other = dataclasses.replace(manifest, noise=Noise(0.003, "a guess"))
    files = {**manifest.files, ENERGIES: "0" * 64}
    digests = {one.digest for one in (manifest, other, dataclasses.replace(manifest, files=files))}
    assert len(digests) == 3

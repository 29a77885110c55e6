"""`karat data`: list, show, add and get, on small collections."""

import hashlib
import io
import json
import tarfile

import numpy as np
import pytest
from typer.testing import CliRunner

from karat.cli.main import app
from karat.core.errors import BadInput
from karat.data.collections.collection import Collection, Energy
from karat.data.collections.manifest import Manifest
from karat.data.collections.package import write_package
from karat.structures.labels import LevelOfTheory
from karat.structures.structure import Structure


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("KARAT_HOME", str(tmp_path / "home"))


@pytest.fixture
def package(tmp_path):
    level = LevelOfTheory("CCSD(T)", "CBS")
    words = ("stretches", "1", "Stretched [H2]", "diatomics", level, "Me (2026)", "here", "CC0")
    structures = {
        f"{r}": Structure(numbers=np.array([1, 1]), positions=np.array([[0, 0, 0], [r, 0, 0]]))
        for r in (0.7, 1.0, 2.0)
    }
    energies = tuple(
        Energy(f"at {r}", 0.5 * r, {f"{r}": 1.0, "0.7": -1.0}, group="H2", coordinate=r)
        for r in (1.0, 2.0)
    )
    write_package(tmp_path / "p", Manifest(*words), Collection(structures, energies))
    return tmp_path / "p"


def invoke(*words):
    return CliRunner().invoke(app, ["data", *map(str, words)], env={"COLUMNS": "200"})


def refusal(*words):
    error = invoke(*words).exception
    assert isinstance(error, BadInput)
    return str(error)


def test_from_nothing_to_a_collection(package):
    before = invoke("list")
    assert "none in" in before.output
    assert "s66x8.xyz.gz" in before.output
    added = invoke("add", package)
    assert (added.exit_code, added.stdout) == (0, "")
    assert "stretches-1: added" in added.stderr
    assert "stretches-1: was here" in invoke("add", package).stderr
    assert "Stretched [H2]" in invoke("list").output
    shown = invoke("show", "stretches").output
    for words in (
        "CCSD(T)/CBS",
        "energies       2",
        "structures     3",
        "noise          not known",
    ):
        assert words in shown


def test_documents_are_json(package):
    added = json.loads(invoke("add", package, "--json").stdout)
    assert [one["name"] for one in added["added"]] == ["stretches"]
    listed = json.loads(invoke("list", "--json").stdout)
    assert [one["name"] for one in listed["collections"]] == ["stretches"]
    assert "s66x8" in [one["name"] for one in listed["recipes"]]
    shown = json.loads(invoke("show", "stretches", "--json").stdout)
    assert (shown["energies"], shown["elements"], shown["groups"]) == (2, ["H"], 1)


def test_an_archive_is_fetched_and_added(package, tmp_path):
    archive = tmp_path / "a.tar.gz"
    with tarfile.open(archive, "w:gz") as tar:
        for path in package.iterdir():
            info = tarfile.TarInfo(f"stretches/{path.name}")
            info.size = path.stat().st_size
            tar.addfile(info, io.BytesIO(path.read_bytes()))
    digest = hashlib.sha256(archive.read_bytes()).hexdigest()
    found = invoke("get", archive.as_uri(), "--sha256", digest)
    assert found.exit_code == 0, found.output
    assert "stretches-1: added" in found.stderr
    assert "--sha256 is missing" in refusal("get", archive.as_uri())
    assert "SHA-256 is" in refusal("get", archive.as_uri(), "--sha256", "0" * 64)


def test_words_that_do_not_fit_are_refused(package):
    assert "takes no argument" in refusal("list", "x")
    assert "needs an argument" in refusal("show")
    assert "--sha256 belongs to get" in refusal("add", package, "--sha256", "0")
    assert "collection has no 'x'" in refusal("show", "x")

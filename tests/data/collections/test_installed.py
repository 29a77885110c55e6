"""Adding, finding and loading collections; conflicts and damage."""

import pytest

from karat.core.errors import BadInput, UnknownKey
from karat.data.collections.installed import (
    add_folder,
    collections_folder,
    installed,
    load_collection,
)
from karat.data.collections.manifest import NAME
from karat.data.collections.package import ENERGIES, write_package


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("KARAT_HOME", str(tmp_path / "home"))


@pytest.fixture
def package(small, tmp_path):
    def make(name, **changes):
        write_package(tmp_path / name, small.manifest(**changes), small.collection())
        return tmp_path / name

    return make


def test_nothing_is_here_at_first():
    assert installed() == []
    with pytest.raises(UnknownKey, match="collection has no 'small'"):
        load_collection("small")


def test_added_once_and_found_by_name(small, package):
    said = []
    folder = package("p")
    for _ in range(2):
        add_folder(folder, said=lambda manifest, new: said.append((manifest.name, new)))
    assert said == [("small", True), ("small", False)]
    manifest, found = load_collection("small")
    assert found.energies == small.collection().energies
    assert [one.digest for one in installed()] == [manifest.digest]
    assert sorted(p.name for p in collections_folder().iterdir()) == ["small-1"]


def test_versions_stand_side_by_side(package):
    add_folder(package("p"))
    add_folder(package("q", version="2", title="Newer"))
    with pytest.raises(BadInput, match="small-1, small-2"):
        load_collection("small")
    assert load_collection("small-2")[0].title == "Newer"


def test_another_of_the_same_version_is_refused(package):
    add_folder(package("p"))
    with pytest.raises(BadInput, match="another collection of this name and version"):
        add_folder(package("q", title="Other"))
    assert load_collection("small")[0].title == "Small"


def test_a_damaged_package_is_not_added(package):
    folder = package("p")
    (folder / ENERGIES).write_text("changed")
    with pytest.raises(BadInput, match="is not the file that"):
        add_folder(folder)
    assert installed() == []


def test_damage_after_adding_is_found_on_loading(package):
    add_folder(package("p"))
    (collections_folder() / "small-1" / ENERGIES).write_text("changed")
    with pytest.raises(BadInput, match="is not the file that"):
        load_collection("small")


def test_folders_of_nothing_known_are_refused(tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(BadInput, match=f"neither {NAME} nor the files of a recipe"):
        add_folder(tmp_path / "empty")
    with pytest.raises(BadInput, match="no such folder"):
        add_folder(tmp_path / "nowhere")
    with pytest.raises(UnknownKey, match="recipe has no 's66x9'; .*s66x8"):
        add_folder(tmp_path / "empty", ["s66x9"])
    with pytest.raises(BadInput, match=r"no such file of the recipe s66x8"):
        add_folder(tmp_path / "empty", ["s66x8"])

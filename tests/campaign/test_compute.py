"""`compute`: what is finished is kept at once and never done again; failures cost no other."""

import dataclasses
import errno
import json
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

import jax
import numpy as np
import pytest

from karat.campaign.compute import run as module
from karat.campaign.compute.document import document, write_documents
from karat.campaign.compute.protocol import (
    AbstractProperty,
    Case,
    Desk,
    Found,
    Source,
    Value,
    each,
    one_per_structure,
)
from karat.campaign.compute.run import compute, read_sources
from karat.campaign.folder import locked
from karat.core.errors import BadInput, CalculationFailed, KaratError, MissingDependency
from karat.data.dataset import Dataset, Record
from karat.data.files import read_structures
from karat.potentials.karat_file import save
from karat.potentials.native.bpnn import AngularGrid, Bpnn, RadialGrid
from karat.potentials.native_protocol import NativePotential
from karat.results.figure import Figure, Series
from karat.results.metric import Failure
from karat.results.result import Result
from karat.results.store import Store
from karat.structures.builders import crystal
from karat.structures.labels import Labels, LevelOfTheory
from karat.structures.structure import Structure

SI = {"preset": "Si"}
CRYSTALS = tuple(crystal("Si", "diamond", a=a) for a in (5.38, 5.40, 5.42, 5.44, 5.46))
SOURCE = Source("si", CRYSTALS)


class Watch:
    """Records what happens; stops the run after `stop_after` cases."""

    def __init__(self, stop_after=None):
        self.stop_after, self.names, self.reasons, self.begun, self.ended = (
            stop_after,
            [],
            [],
            (),
            0,
        )
        self.said = []

    def begin(self, total, kept):
        self.begun = (total, kept)

    def inside(self, words):
        self.said.append(words)

    def finished(self, name, atoms, reason):
        self.names.append(name)
        self.reasons.append(reason)
        if len(self.names) == self.stop_after:
            raise KeyboardInterrupt

    def end(self):
        self.ended += 1


@dataclasses.dataclass(frozen=True)
class Scale(AbstractProperty):
    """The lattice constant times a factor; fails, breaks or stops where it is told to.

    Attributes:
        factor: to multiply by.
        fail_beyond: Å; larger cells fail.
        fault_beyond: Å; larger cells are a fault of the code.
        stop_beyond: Å; at larger cells the user loses patience, once.
    """

    factor: float = 1.0
    fail_beyond: float = 9.0
    fault_beyond: float = 9.0
    stop_beyond: float = 9.0

    version: ClassVar[int] = 1
    columns: ClassVar[tuple[str, ...]] = ("length",)
    calls: ClassVar[list[list[str]]] = []

    def cases(self, sources: Sequence[Source]) -> tuple[Case, ...]:
        return one_per_structure(sources)

    def check(self, potential, case) -> None:
        if len(case.structure) > 20:
            raise BadInput(f"{len(case.structure)} atoms are too many.")

    def measure(self, potential, cases, desk: Desk):
        type(self).calls.append([case.name for case in cases])

        def one(structure: Structure) -> Found:
            size = float(2**0.5 * np.linalg.norm(structure.cell[0]))
            if size > self.fail_beyond:
                raise CalculationFailed(f"{size:.2f} Å are too many.", kind="too-large")
            if size > self.fault_beyond:
                raise ZeroDivisionError("a fault")
            trail = desk.folder(cases[0]) / "trail.txt"
            before = trail.read_text() if trail.exists() else ""
            trail.write_text(before + "x")
            if size > self.stop_beyond and not before:
                raise KeyboardInterrupt
            length = Value("length", np.array(self.factor * size), "Å")
            curve = Figure("lines", "g", "t", "x", "y", (Series("s", (0.0, 1.0), (0.0, size)),))
            return Found(
                (length, Value("cell", structure.cell, "Å", ("vectors", "xyz"))),
                {"same": structure},
                (Failure("part", "point 1", "odd", "was odd"),) if size > 5.45 else (),
                (curve,),
                {"word": "unit “Å”"},
                {"trail.txt": trail},
            )

        return each(one, cases)


SCALE = f"{__name__}:Scale"


@dataclasses.dataclass(frozen=True)
class Batched(AbstractProperty):
    """How many atoms, of many structures at once."""

    version: ClassVar[int] = 1
    columns: ClassVar[tuple[str, ...]] = ("atoms",)
    batched: ClassVar[bool] = True
    calls: ClassVar[list[list[str]]] = []

    def cases(self, sources: Sequence[Source]) -> tuple[Case, ...]:
        return one_per_structure(sources)

    def check(self, potential, case) -> None: ...

    def measure(self, potential, cases, desk: Desk):
        type(self).calls.append([case.name for case in cases])
        if len(cases) > 1 and "fault" in [case.name for case in cases]:
            raise RuntimeError("one of many")
        return each(lambda s: Found((Value("atoms", np.array(len(s))),)), cases)


@dataclasses.dataclass(frozen=True)
class Path2(AbstractProperty):
    """A path through all structures of a file: one case each."""

    version: ClassVar[int] = 1
    columns: ClassVar[tuple[str, ...]] = ("length",)

    def cases(self, sources: Sequence[Source]) -> tuple[Case, ...]:
        return tuple(Case(source.name, source.structures) for source in sources)

    def check(self, potential, case) -> None: ...

    def measure(self, potential, cases, desk: Desk):
        return [Found((Value("length", np.array(len(case.structures))),)) for case in cases]


@dataclasses.dataclass(frozen=True)
class Needy(Scale):
    """Needs what is not installed."""

    def measure(self, potential, cases, desk: Desk):
        return [MissingDependency("Install it: pip install it.")]


@pytest.fixture(autouse=True)
def calls():
    Scale.calls.clear()
    Batched.calls.clear()


def scale(folder, sources=(SOURCE,), progress=None, **settings):
    return compute(SCALE, "stillinger_weber", sources, folder, settings, SI, progress)


def contents(folder: Path):
    """Every file but times, hardware and versions of results."""
    found = {}
    for path in sorted(folder.rglob("*")):
        if path.name == "result.json":
            found[str(path.relative_to(folder))] = Result.load(path.parent).digest
        elif path.is_file() and path.name != ".lock":
            found[str(path.relative_to(folder))] = path.read_bytes()
    return found


def test_a_stopped_run_computes_only_the_rest_and_gives_the_same_bytes(tmp_path):
    whole = scale(tmp_path / "whole")
    write_documents(whole)
    Scale.calls.clear()
    watch = Watch(stop_after=2)
    with pytest.raises(KeyboardInterrupt):
        scale(tmp_path / "stopped", progress=watch)
    assert (watch.begun, watch.names, watch.ended) == ((5, 0), ["si:0", "si:1"], 1)
    watch = Watch()
    resumed = scale(tmp_path / "stopped", progress=watch)
    assert (watch.begun, watch.names) == ((5, 2), ["si:2", "si:3", "si:4"])
    assert Scale.calls == [[f"si:{place}"] for place in range(5)]
    assert [one.before for one in resumed.cases] == [True, True, False, False, False]
    write_documents(resumed)
    assert contents(tmp_path / "stopped") == contents(tmp_path / "whole")
    assert json.dumps(document(resumed)) == json.dumps(document(whole))


@pytest.mark.parametrize("property", ["relax", "energy"])
def test_batches_are_those_of_an_undisturbed_run(tmp_path, monkeypatch, property):
    """Three in a batch; stopped after the first batch, the second is the same as it was."""
    monkeypatch.setattr(module, "MOST_CASES", 3)
    frames = []
    for seed in range(5):
        atoms = CRYSTALS[0].to_ase().repeat((2, 1, 1))
        atoms.rattle(0.05, seed=seed)
        frames.append(Structure.from_ase(atoms).replace(multiplicity=None))
    given = (property, "stillinger_weber", [Source("si", tuple(frames))])
    whole = compute(*given, tmp_path / "whole", {}, SI)
    with pytest.raises(KeyboardInterrupt):
        compute(*given, tmp_path / "stopped", {}, SI, Watch(stop_after=3))
    watch = Watch()
    resumed = compute(*given, tmp_path / "stopped", {}, SI, watch)
    assert watch.begun == (5, 3)
    write_documents(whole)
    write_documents(resumed)
    assert contents(tmp_path / "stopped") == contents(tmp_path / "whole")


def test_batches_are_cut_by_number_and_atoms(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "MOST_CASES", 3)
    monkeypatch.setattr(module, "MOST_ATOMS", 20)
    large = Structure.from_ase(CRYSTALS[0].to_ase().repeat((3, 3, 1))).replace(multiplicity=None)
    names = ("a", "b", "c", "large", "d", "e")
    structures = (*CRYSTALS[:3], large, *CRYSTALS[3:])
    source = Source("x", structures, names)
    compute(f"{__name__}:Batched", "stillinger_weber", [source], tmp_path, {}, SI)
    assert Batched.calls == [["a", "b", "c"], ["large", "d"], ["e"]]


def test_batches_are_cut_from_the_list_of_all(tmp_path, monkeypatch):
    """Stopped inside the second batch: what is left of it is not filled up with the third."""
    monkeypatch.setattr(module, "MOST_CASES", 2)
    given = (f"{__name__}:Batched", "stillinger_weber", [SOURCE], tmp_path, {}, SI)
    with pytest.raises(KeyboardInterrupt):
        compute(*given, Watch(stop_after=3))
    Batched.calls.clear()
    assert len(compute(*given).cases) == 5
    assert Batched.calls == [["si:3"], ["si:4"]]


def test_a_fault_in_a_batch_costs_no_other(tmp_path):
    source = Source("x", CRYSTALS[:3], ("a", "fault", "c"))
    found = compute(f"{__name__}:Batched", "stillinger_weber", [source], tmp_path, {}, SI)
    assert len(found.cases) == 3
    assert Batched.calls == [["a", "fault", "c"], ["a"], ["fault"], ["c"]]


def test_foreign_potentials_are_asked_one_by_one(tmp_path):
    """A batch gains nothing there, and an interruption would cost more."""
    h2 = Structure(np.array([1, 1]), np.array([[0.0, 0, 0], [0, 0, 0.74]]))
    two = Source("x", (h2, h2.replace(positions=1.1 * h2.positions)))
    compute(f"{__name__}:Batched", "gfn2_xtb", [two], tmp_path)
    assert Batched.calls == [["x:0"], ["x:1"]]


def test_failures_are_counted_and_tried_again(tmp_path):
    watch = Watch()
    found = scale(tmp_path, progress=watch, fail_beyond=5.45, fault_beyond=5.43)
    assert [one.case.name for one in found.cases] == ["si:0", "si:1", "si:2"]
    kinds = [(failure.case, failure.kind) for failure in found.failures]
    assert kinds == [("si:3", "unexpected"), ("si:4", "too-large")]
    assert "ZeroDivisionError: a fault" in found.failures[0].reason
    assert watch.reasons[-1] == "5.46 Å are too many."
    Scale.calls.clear()
    again = scale(tmp_path, fail_beyond=5.45, fault_beyond=5.43)
    assert Scale.calls == [["si:3"], ["si:4"]]
    assert again.failures == found.failures


def test_parts_that_failed_are_listed_also_later(tmp_path):
    for _ in range(2):
        found = scale(tmp_path)
        assert [failure.case for failure in found.failures] == ["si:4: point 1"]
        assert len(found.cases) == found.attempted == 5


def test_what_goes_into_a_case_is_its_key(tmp_path):
    scale(tmp_path)
    keys = {one.key for one in scale(tmp_path).cases}
    assert len(Scale.calls) == 5
    others = scale(tmp_path, factor=2.0)
    assert len(Scale.calls) == 10
    assert not keys & {one.key for one in others.cases}
    renamed = Source("other", CRYSTALS)
    assert {one.key for one in scale(tmp_path, [renamed]).cases} == keys
    parameters = {"terms": {"Si-Si-Si": TERM}}
    other = compute(SCALE, "stillinger_weber", [SOURCE], tmp_path, {}, parameters)
    assert not keys & {one.key for one in other.cases}


def test_a_potential_file_counts_by_its_content(tmp_path):
    """The same file under another name finds what was computed; another content does not."""
    hydrogen = Structure(np.array([1, 1]), np.array([[0.0, 0, 0], [0, 0, 0.74]]))
    architecture = Bpnn(
        radial=RadialGrid(count=2), angular=AngularGrid(count=1, zetas=(1,)), hidden=(2,)
    )
    data = Dataset((Record(hydrogen, Labels(-31.0, np.zeros((2, 3)))),), LevelOfTheory("PBE"))
    for seed, name in ((0, "a"), (0, "same"), (1, "b")):
        module = architecture.initialise(data, jax.random.key(seed), "float64")
        model = NativePotential(module, {1: -15.0}, data.level, "float64")
        save(tmp_path / f"{name}.karat", architecture, model)
    begun = []
    for name in ("a", "same", "b"):
        watch = Watch()
        given = ("energy", str(tmp_path / f"{name}.karat"), [Source("h2", (hydrogen,))])
        found = compute(*given, tmp_path / "out", progress=watch)
        begun.append(watch.begun)
        assert found.about["potential"]["level"]["method"] == "PBE"
    assert begun == [(1, 0), (1, 1), (1, 0)]


TERM = {
    "epsilon_ev": 2.0,
    "sigma_angstrom": 2.0951,
    "a": 1.8,
    "lambda3": 21.0,
    "gamma": 1.2,
    "cos_theta0": -1 / 3,
    "A": 7.049556277,
    "B": 0.6022245584,
    "p": 4.0,
    "q": 0.0,
}


def test_equal_structures_are_computed_once_and_listed_twice(tmp_path):
    sources = [Source("a", CRYSTALS[:2]), Source("b", CRYSTALS[1:2]), Source("a", CRYSTALS[2:3])]
    watch = Watch()
    found = scale(tmp_path, sources, watch)
    assert [one.case.name for one in found.cases] == ["a:0", "a:1", "b", "a"]
    assert watch.begun == (3, 0)
    assert Scale.calls == [["a:0"], ["a:1"], ["a"]]
    twice = [Source("a", CRYSTALS[:1]), Source("a", CRYSTALS[1:2])]
    assert [one.case.name for one in scale(tmp_path, twice).cases] == ["a", "a#2"]


def test_all_that_was_found_comes_back(tmp_path):
    found = scale(tmp_path).cases[4].found
    assert found.value("length").number == pytest.approx(5.46)
    np.testing.assert_array_equal(found.value("cell").data, CRYSTALS[4].cell)
    assert found.value("cell").axes == ("vectors", "xyz")
    assert found.structures["same"].digest == CRYSTALS[4].digest
    assert found.notes == {"word": "unit “Å”"}
    assert found.figures[0].series[0].x == (0.0, 1.0)
    assert found.files["trail.txt"].read_text() == "x"
    with pytest.raises(KeyError, match="length, cell"):
        found.value("width")


def test_the_desk_outlives_an_interruption(tmp_path):
    """The case that was running goes on from what it left; its desk is cleared afterwards."""
    with pytest.raises(KeyboardInterrupt):
        scale(tmp_path, stop_beyond=5.45)
    found = scale(tmp_path, stop_beyond=5.45)
    trails = [one.found.files["trail.txt"].read_text() for one in found.cases]
    assert trails == ["x", "x", "x", "x", "xx"]
    assert not (tmp_path / "work").exists()


def test_a_file_as_one_case(tmp_path):
    sources = [Source("path", CRYSTALS), Source("short", CRYSTALS[:2])]
    found = compute(f"{__name__}:Path2", "stillinger_weber", sources, tmp_path, {}, SI)
    assert [one.found.value("length").number for one in found.cases] == [5, 2]


def test_every_unsuitable_structure_is_named_before_work(tmp_path):
    large = Structure.from_ase(CRYSTALS[0].to_ase().repeat(3)).replace(multiplicity=None)
    with pytest.raises(BadInput, match=r"2 of 7 cannot[\s\S]*x:0: 54 atoms[\s\S]*x:1: 54"):
        scale(tmp_path / "o", [SOURCE, Source("x", (large, large))])
    with pytest.raises(BadInput, match="and 3 more"):
        scale(tmp_path / "o", [Source("x", (large,) * 8)])
    with pytest.raises(BadInput, match="no structure"):
        scale(tmp_path / "o", [])
    assert not (tmp_path / "o").exists()
    assert Scale.calls == []


def test_what_is_not_installed_ends_the_run(tmp_path):
    with pytest.raises(MissingDependency, match="pip install it"):
        compute(f"{__name__}:Needy", "stillinger_weber", [SOURCE], tmp_path, {}, SI)


def test_a_full_disk_loses_nothing_that_was_written(tmp_path, monkeypatch):
    commit = Store.commit
    count = []

    def full(self, key, name, write):
        count.append(name)
        if len(count) == 3:
            raise OSError(errno.ENOSPC, "No space left on device")
        return commit(self, key, name, write)

    monkeypatch.setattr(Store, "commit", full)
    with pytest.raises(KaratError, match=r"No space left[\s\S]*make room"):
        scale(tmp_path)
    watch = Watch()
    scale(tmp_path, progress=watch)
    assert watch.begun == (5, 2)


def test_one_run_at_a_time_in_a_folder(tmp_path):
    with locked(tmp_path), pytest.raises(BadInput, match="another karat run"):
        scale(tmp_path)


def test_documents(tmp_path):
    found = scale(tmp_path)
    names = [path.name for path in write_documents(found)]
    assert [Path(name).suffix for name in names] == [".json", ".xyz", ".html"]
    written = json.loads((tmp_path / names[0]).read_text())
    assert written["settings"]["factor"] == 1.0
    assert written["potential"]["name"] == "stillinger_weber"
    first = written["cases"][0]
    assert first["values"][0] == {
        "name": "length",
        "title": "",
        "unit": "Å",
        "axes": [],
        "shape": [],
        "value": pytest.approx(5.38),
    }
    assert np.shape(first["values"][1]["value"]) == (3, 3)
    assert (tmp_path / first["folder"] / "arrays.safetensors").exists()
    items = read_structures(tmp_path / names[1])
    assert [item.name for item in items] == [f"si:{place} same" for place in range(5)]
    assert [item.structure.digest for item in items] == [s.digest for s in CRYSTALS]


def test_large_arrays_stay_in_their_files(tmp_path):
    large = Structure.from_ase(CRYSTALS[0].to_ase().repeat((4, 3, 3))).replace(multiplicity=None)
    found = compute("energy", "stillinger_weber", [Source("x", (large,))], tmp_path, {}, SI)
    values = {value["name"]: value for value in document(found)["cases"][0]["values"]}
    assert values["forces"]["shape"] == [72, 3]
    assert "value" not in values["forces"]
    from safetensors.numpy import load_file

    stored = load_file(tmp_path / values["forces"]["file"])["forces"]
    np.testing.assert_array_equal(stored, found.cases[0].found.value("forces").data)


def test_a_damaged_case_is_named(tmp_path):
    folder = scale(tmp_path).cases[0].folder
    (folder / "arrays.safetensors").unlink()
    with pytest.raises(BadInput, match="damaged"):
        _ = scale(tmp_path).cases[0].found


def test_sources_from_files(tmp_path):
    from ase.io import write

    atoms = [structure.to_ase() for structure in CRYSTALS[:2]]
    write(tmp_path / "one.cif", atoms[0])
    write(tmp_path / "two.xyz", atoms, format="extxyz")
    atoms[0].info["name"] = "mine"
    write(tmp_path / "named.xyz", atoms[:1], format="extxyz")
    sources = read_sources([tmp_path / name for name in ("one.cif", "two.xyz", "named.xyz")])
    assert [source.names for source in sources] == [("one",), ("two:0", "two:1"), ("mine",)]
    with pytest.raises(BadInput, match=r"missing\.xyz"):
        read_sources([tmp_path / "missing.xyz"])

"""Labelling: order and values whatever the workers do, limits, retries, kill -9, nothing twice."""

import json
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pytest

from karat.core.errors import BadInput, CalculationFailed, UnsuitableStructure
from karat.reference.conformance import equal_bits
from karat.reference.label_store import LabelStore, label_keys
from karat.reference.labelling import Limits, label_structures
from karat.reference.xtb import Gfn2Xtb
from karat.results.metric import Failure
from karat.structures.structure import Structure

HERE = Path(__file__).parent
WANT = ("energy", "forces")


@pytest.fixture
def awkward(monkeypatch, tmp_path):
    """The misbehaving engine, importable here and in workers."""
    monkeypatch.syspath_prepend(HERE)
    from awkward_engine import Awkward

    return Awkward(log=str(tmp_path / "log"))


def atoms(*numbers):
    """One-atom structures, each at another place."""
    places = [np.array([[0.25 * i, 1.0, 0.0]]) for i in range(len(numbers))]
    return [Structure(np.array([z]), place) for z, place in zip(numbers, places)]


def names(structures):
    return [f"s{i}" for i in range(len(structures))]


def log_of(engine):
    path = Path(engine.log)
    return [line.split() for line in path.read_text().splitlines()] if path.exists() else []


def alive(pid):
    """Whether a process runs (a zombie, waiting to be collected, does not)."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def wait_until(condition, seconds=30.0):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.02)


def water(seed):
    random = np.random.default_rng(seed)
    place = np.array([[0.0, 0.0, 0.12], [0.0, 0.76, -0.48], [0.0, -0.76, -0.48]])
    return Structure(np.array([8, 1, 1]), place + random.normal(scale=0.03, size=(3, 3)))


def test_workers_change_neither_order_nor_bits(tmp_path):
    structures = [water(seed) for seed in range(12)]
    engine = Gfn2Xtb()
    here = [engine.compute(structure, WANT) for structure in structures]
    for workers in (1, 3):
        found = label_structures(
            engine, structures, names(structures), WANT, tmp_path / str(workers), Limits(workers)
        )
        assert all(equal_bits(a, b) for a, b in zip(here, found))


def test_failures_stand_beside_successes(awkward, tmp_path):
    structures = atoms(1, 2, 3, 4, 5, 6, 7, 1)
    reports = []
    found = label_structures(
        awkward,
        structures,
        names(structures),
        WANT,
        tmp_path / "store",
        Limits(workers=3, timeout_s=1.0, attempts=2),
        lambda *report: reports.append(report),
    )
    kinds = [item.kind if isinstance(item, Failure) else item.energy for item in found]
    energy = [1.0 + (0.25 * i) ** 2 for i in range(8)]
    assert kinds == [
        energy[0],
        "timeout",
        "dead-process",
        "not-converged",
        "error",
        energy[5],  # died once, then worked
        energy[6],  # printed on standard output
        energy[7],
    ]
    failures = [item for item in found if isinstance(item, Failure)]
    assert [item.case for item in failures] == ["s1", "s2", "s3", "s4"]
    assert all(item.attempts == 2 and item.what == "label" for item in failures)
    assert "1 s" in failures[0].reason
    assert "SIGKILL" in failures[1].reason
    assert "ZeroDivisionError" in failures[3].reason
    begun = [element for _, element, _ in log_of(awkward)]
    assert {z: begun.count(z) for z in ("H", "He", "Li", "Be", "B", "C", "N")} == {
        "H": 2, "He": 2, "Li": 2, "Be": 2, "B": 2, "C": 2, "N": 1,
    }  # fmt: skip
    assert reports[0] == (0, 0, 8)
    assert reports[-1] == (8, 4, 8)
    assert reports == sorted(reports)
    assert not any(alive(pid) for pid, *_ in log_of(awkward))


@pytest.mark.timeout(60)
def test_a_worker_that_is_free_takes_what_is_to_be_tried_again(awkward, tmp_path):
    # the hydrogen is done long before the helium exceeds its limit
    found = label_structures(
        awkward, atoms(1, 2), ["a", "b"], WANT, tmp_path / "store", Limits(2, 0.6, attempts=3)
    )
    assert found[0].energy == 1.0
    assert (found[1].kind, found[1].attempts) == ("timeout", 3)
    (alone,) = label_structures(
        awkward, atoms(4), ["c"], WANT, tmp_path / "store", Limits(1, attempts=2)
    )
    assert (alone.kind, alone.attempts) == ("not-converged", 2)


def test_a_second_run_does_only_what_is_missing(awkward, tmp_path):
    structures = atoms(1, 1, 4, 1)
    limits, store = Limits(workers=1, attempts=1), tmp_path / "store"
    label_structures(awkward, structures[:3], names(structures[:3]), WANT, store, limits)
    assert len(log_of(awkward)) == 3
    found = label_structures(awkward, structures, ["a", "b", "c", "d"], WANT, store, limits)
    assert [element for _, element, _ in log_of(awkward)[3:]] == ["H"]
    assert found[3].energy == 1.0 + 0.75**2
    assert found[2].kind == "not-converged"
    assert found[2].case == "c"  # named as in this run
    again = label_structures(
        awkward, structures, names(structures), WANT, store, limits, retry_failed=True
    )
    assert [element for _, element, _ in log_of(awkward)[4:]] == ["Be"]
    assert again[2].kind == "not-converged"
    label_structures(awkward, structures[:1], ["a"], ("energy",), store, limits)
    assert len(log_of(awkward)) == 6  # other quantities are another question


def test_equal_structures_are_computed_once(awkward, tmp_path):
    one, other = atoms(1, 1)
    reports = []
    found = label_structures(
        awkward, [one, other, one.replace()], ["a", "b", "c"], WANT, tmp_path / "store",
        Limits(), lambda *report: reports.append(report),
    )  # fmt: skip
    assert len(log_of(awkward)) == 2
    assert equal_bits(found[0], found[2])
    assert reports[-1] == (3, 0, 3)


def test_refused_before_any_work(awkward, tmp_path):
    structures = atoms(1, 92)
    with pytest.raises(UnsuitableStructure, match="s1: .*uranium"):
        label_structures(awkward, structures, names(structures), WANT, tmp_path, Limits())
    assert log_of(awkward) == []
    assert not list(tmp_path.glob("*.json"))


def test_workers_leave_no_temporary_files(awkward, tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    (tmp_path / "temporary").mkdir()
    label_structures(
        awkward, atoms(1, 3, 2), ["a", "b", "c"], WANT, tmp_path / "store", Limits(2, 0.3, 1)
    )
    assert len(log_of(awkward)) == 3
    assert not list((tmp_path / "temporary").iterdir())


def test_a_time_limit_ends_the_programs_that_the_engine_started(awkward, tmp_path):
    found = label_structures(
        awkward, atoms(8), ["s"], WANT, tmp_path / "store", Limits(1, timeout_s=0.5, attempts=1)
    )
    assert found[0].kind == "timeout"
    children = [pid for pid, element, _ in log_of(awkward) if element == "child"]
    assert len(children) == 1
    wait_until(lambda: not alive(children[0]))


SCRIPT = """
import sys
from pathlib import Path
sys.path[:0] = [{here!r}]
from awkward_engine import Awkward
from karat.reference.labelling import Limits, label_structures
from karat.structures.structure import Structure
structures = [Structure([{number}], [[0.25 * i, 1.0, 0.0]]) for i in range({count})]
engine = Awkward(log={log!r}, seconds={seconds})
label_structures(engine, structures, list(map(str, structures)), ("energy", "forces"),
                 Path({store!r}), Limits(workers=2))
"""


def test_killed_parent_leaves_no_orphans_and_loses_only_what_was_in_flight(awkward, tmp_path):
    count, store = 12, tmp_path / "store"
    script = tmp_path / "script.py"
    text = SCRIPT.format(
        here=str(HERE), number=1, count=count, log=awkward.log, seconds=0.15, store=str(store)
    )
    script.write_text(text)
    parent = subprocess.Popen([sys.executable, str(script)])
    wait_until(lambda: len(list(store.glob("*.json"))) >= 4)
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    workers = {pid for pid, *_ in log_of(awkward)}
    assert len(workers) == 2
    wait_until(lambda: not any(alive(pid) for pid in workers), seconds=5.0)
    time.sleep(0.3)  # two calculations' time: an orphan would have gone on
    first = log_of(awkward)
    stored = {path.name: path.read_bytes() for path in store.glob("*.json")}
    assert len(first) <= len(stored) + 4  # two in flight, two finished but not yet stored

    subprocess.run([sys.executable, str(script)], check=True)
    assert {name: (store / name).read_bytes() for name in stored} == stored
    assert len(list(store.glob("*.json"))) == count
    second = log_of(awkward)[len(first) :]
    assert len(second) == count - len(stored)  # what was stored is not done again
    structures = [Structure(np.array([1]), np.array([[0.25 * i, 1.0, 0.0]])) for i in range(count)]
    engine = type(awkward)(log=awkward.log, seconds=0.15)
    for structure, key in zip(structures, label_keys(engine, structures, WANT)):
        labels = LabelStore(store).read(key).outcome
        assert labels.energy == float(np.sum(structure.positions**2))


def test_killed_parent_ends_workers_that_hang_and_their_programs(awkward, tmp_path):
    script = tmp_path / "script.py"
    text = SCRIPT.format(
        here=str(HERE), number=8, count=1, log=awkward.log, seconds=0.0, store=str(tmp_path / "s")
    )
    script.write_text(text)
    parent = subprocess.Popen([sys.executable, str(script)])
    wait_until(lambda: len(log_of(awkward)) == 2)
    running = [pid for pid, *_ in log_of(awkward)]
    assert all(alive(pid) for pid in running)
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    wait_until(lambda: not any(alive(pid) for pid in running), seconds=5.0)


def test_an_engine_that_workers_cannot_import_is_an_error(awkward, tmp_path):
    local = type("Local", (type(awkward),), {"__module__": "nowhere"})
    with pytest.raises(CalculationFailed, match="ModuleNotFoundError.*nowhere"):
        label_structures(local(log=awkward.log), atoms(1), ["s"], WANT, tmp_path, Limits())


def test_store_refuses_what_it_did_not_write(awkward, tmp_path):
    structures = atoms(1)
    (key,) = label_keys(awkward, structures, WANT)
    for content in ("{", '{"schema": 99}', json.dumps({"schema": 1, "key": key})):
        LabelStore(tmp_path).path(key).write_text(content)
        with pytest.raises(BadInput, match="Delete it"):
            label_structures(awkward, structures, ["s"], WANT, tmp_path, Limits())
    assert log_of(awkward) == []


def test_keys_tell_apart_what_changes_numbers():
    one, other = atoms(1, 1)
    engine = Gfn2Xtb()
    base = label_keys(engine, [one], WANT)
    assert label_keys(engine, [one.replace()], ("forces", "energy")) == base
    assert label_keys(engine, [other], WANT) != base
    assert label_keys(engine, [one.replace(charge=1)], WANT) != base
    assert label_keys(engine, [one], ("energy",)) != base
    assert label_keys(Gfn2Xtb(accuracy=0.01), [one], WANT) != base


@pytest.mark.parametrize("limits", [{"workers": 0}, {"attempts": 0}, {"timeout_s": 0.0}])
def test_limits_must_make_sense(limits):
    with pytest.raises(BadInput):
        Limits(**limits)


def test_unwritable_folder(awkward, tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(BadInput, match="cannot write"):
        label_structures(awkward, atoms(1), ["s"], WANT, tmp_path / "file" / "store", Limits())
    assert log_of(awkward) == []

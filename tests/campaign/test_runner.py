"""A campaign from start to report: done, failed, missing, not applicable, and done again."""

import json
import shutil

import numpy as np
import pytest

from karat.campaign.bench import get_part, get_starts
from karat.campaign.runner import run_campaign, steps_done
from karat.campaign.schema import parse_campaign
from karat.core.errors import BadInput
from karat.potentials.karat_file import load
from karat.results.result import Result


def outcome(mixed, name):
    return mixed.summary.outcomes[name]


def result(mixed, name):
    return Result.load(mixed.out / outcome(mixed, name).folder)


def test_each_contestant_ends_as_it_behaves(mixed):
    ends = {
        name.removeprefix("measure energy_forces "): (o.status, o.reason)
        for name, o in mixed.summary.outcomes.items()
        if name.startswith("measure energy_forces ")
    }
    assert {name: status for name, (status, _) in ends.items()} == {
        "GFN2-xTB": "done",
        "MMFF94s": "done",
        "bpnn": "done",
        "dies": "failed",
        "raises": "failed",
        "explodes": "done",  # its failures are counted, case by case
        "crystals": "not-applicable",
    }
    assert "SIGSEGV" in ends["dies"][1]
    assert "ZeroDivisionError: a fault of the contestant" in ends["raises"][1]
    assert "crystals only" in ends["crystals"][1]
    assert outcome(mixed, "score energy_forces dies").status == "missing"
    assert "measure energy_forces dies" in outcome(mixed, "score energy_forces dies").reason
    assert outcome(mixed, "score energy_forces crystals").status == "not-applicable"
    exploded = result(mixed, "score energy_forces explodes")
    assert {failure.kind for failure in exploded.failures} == {"exploded"}
    assert mixed.summary.failed == 2
    assert mixed.summary.exit_status == 1


def test_an_assay_that_cannot_be_asked_is_not_applicable_for_all(mixed):
    found = [o for name, o in mixed.summary.outcomes.items() if " torsions" in name]
    assert len(found) == 1 + 2 * 7
    assert {o.status for o in found} == {"not-applicable"}
    assert len({o.reason for o in found}) == 1  # water has no torsion


def test_results_hold_what_the_report_was_promised(mixed):
    structures = result(mixed, "structures").payload
    assert (structures["smiles"], structures["formula"], structures["atoms"]) == ("O", "H2O", 3)
    assert structures["structures"][0]["bonds"]
    labels = result(mixed, "label")
    assert (labels.payload["done"], labels.payload["failed"]) == (30, 0)
    assert labels.level.label == "GFN2-xTB"
    assert sum(result(mixed, "split").payload["sizes"].values()) == 30
    assert all({"severity", "code", "message", "offenders"} == set(f) for f in _findings(mixed))
    train = result(mixed, "train bpnn")
    assert train.payload["contestant"] == "bpnn"
    assert train.payload["labels"] == 12
    assert train.payload["curve"]["epoch"] == [1, 2]
    assert len(train.payload["curve"]["valid_force_mae_mev_per_angstrom"]) == 2
    assert train.timings["seconds"] > 0
    score = result(mixed, "score energy_forces MMFF94s")
    assert score.payload["is_reference"] is False
    assert score.payload["worst_structures"][0]["numbers"] == [8, 1, 1]
    assert result(mixed, "score energy_forces GFN2-xTB").payload["is_reference"] is True
    assert any(name.startswith("errors/") for name in score.arrays)


def _findings(mixed):
    found = result(mixed, "check").payload["findings"]
    assert found
    return found


def test_the_reference_has_no_error_against_itself(mixed):
    metrics = result(mixed, "score energy_forces GFN2-xTB").metrics
    errors = [m.value for m in metrics if m.unit in ("eV/Å", "meV/Å", "meV/atom", "eV")]
    assert errors
    assert max(map(abs, errors)) < 1e-9  # the same program on the same structure


def test_the_fitted_model_lies_beside_its_curve(mixed):
    folder = mixed.out / outcome(mixed, "fit bpnn").folder
    model = load(folder / "model.karat")
    assert model.traits.level.method == "GFN2-xTB"
    start = get_starts(result(mixed, "structures"))[0]
    assert np.isfinite(model.predict([start])[0].energy)
    sizes = {p: len(get_part(result(mixed, "split"), p)) for p in ("train", "valid", "test")}
    assert sizes == {"train": 18, "valid": 3, "test": 9}


def test_index_and_report_are_there(mixed):
    index = json.loads((mixed.out / "index.json").read_text())
    assert len(index["steps"]) == len(mixed.summary.outcomes)
    assert index["campaign"]["seed"] == 3
    for step in index["steps"]:
        assert (step["status"] == "done") == bool(step["folder"])
        assert step["status"] == "done" or step["reason"]
    page = mixed.summary.report.read_text()
    assert "MMFF94s" in page
    assert "a fault of the contestant" in page


def test_progress_hears_of_every_step(mixed):
    names = set(mixed.summary.outcomes)
    assert mixed.events[0] == ("begin", len(names), 0)
    assert {event[1] for event in mixed.events if event[0] == "finished"} == names
    assert mixed.events[-1] == ("end",)
    assert any(event[:2] == ("inside", "fit bpnn") for event in mixed.events)


def test_work_folders_are_removed_but_for_labels(mixed):
    left = [path.name for path in (mixed.out / "work").iterdir()]
    committed = [n for n in left if not n.startswith("labels-")]
    failed = {o for o in mixed.summary.outcomes.values() if o.status != "done"}
    assert any(n.startswith("labels-") for n in left)
    assert len(committed) <= len(failed)


def test_again_only_what_failed_is_tried_and_others_results_stay(mixed, tools):
    before, seen = tools.digests(mixed.out), len(tools.log(mixed.out))
    assert sum(steps_done(mixed.campaign, mixed.out).values()) == len(before)
    summary = run_campaign(mixed.campaign, mixed.out, workers=1)
    assert summary.reused == len(before)
    started = {e["name"] for e in tools.log(mixed.out)[seen:] if e["event"] == "started"}
    assert started == {
        "measure energy_forces dies",
        "measure energy_forces raises",
        "measure energy_forces crystals",
        "cases torsions",
    }
    assert tools.digests(mixed.out) == before


def test_another_contestant_changes_nobody_elses_results(mixed, tools, tmp_path):
    shutil.copytree(mixed.out, tmp_path / "out")
    values = mixed.campaign.as_dict()
    values["contestants"].insert(0, {"name": "UFF", "potential": "uff"})
    campaign = parse_campaign(values, tmp_path)
    before, seen = tools.digests(mixed.out), len(tools.log(mixed.out))
    summary = run_campaign(campaign, tmp_path / "out", workers=1)
    assert summary.reused == len(before)
    after = tools.digests(tmp_path / "out")
    assert {name: after[name] for name in before} == before
    started = {e["name"] for e in tools.log(tmp_path / "out")[seen:] if e["event"] == "started"}
    assert {"measure energy_forces UFF", "score energy_forces UFF"} < started
    assert not {name for name in started if name.startswith(("sample", "label", "fit"))}


def test_two_runs_into_one_folder_are_refused(mixed, tools):
    from karat.campaign.folder import locked

    with locked(mixed.out), pytest.raises(BadInput, match="another karat run"):
        run_campaign(mixed.campaign, mixed.out)

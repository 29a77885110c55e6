"""The output folder: one run at a time, an index that is whole, a log that only grows."""

import json

import pytest

from karat.campaign.folder import Outcome, locked, log_event, write_index
from karat.campaign.plan import Step
from karat.core.errors import BadInput

STEPS = (
    Step("fit a", "fit", "k1", {}, {"train": 0}),
    Step("score cost a", "score", "k2", {"fit": "k1"}, {}, contestant="a", assay="cost"),
)


def test_a_folder_is_locked_for_others_and_free_afterwards(tmp_path):
    with (
        locked(tmp_path),
        pytest.raises(BadInput, match=r"another karat run \(process \d+\)"),
        locked(tmp_path),
    ):
        pass
    with locked(tmp_path):
        pass


def test_the_index_has_every_step_of_the_plan(tmp_path):
    outcomes = {"k1": Outcome("done", "", 1.5, "steps/fit-a-k1")}
    write_index(tmp_path, {"name": "n", "title": "t"}, STEPS, outcomes)
    index = json.loads((tmp_path / "index.json").read_text())
    assert index["campaign"] == {"name": "n", "title": "t"}
    assert [step["status"] for step in index["steps"]] == ["done", "missing"]
    assert index["steps"][0]["folder"] == "steps/fit-a-k1"
    assert index["steps"][1]["reason"] == "not run yet"
    assert index["steps"][1]["contestant"] == "a"


def test_the_log_grows(tmp_path):
    log_event(tmp_path, "started", STEPS[0])
    log_event(tmp_path, "done", STEPS[0], seconds=2.0)
    lines = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert [line["event"] for line in lines] == ["started", "done"]
    assert lines[1]["seconds"] == 2.0

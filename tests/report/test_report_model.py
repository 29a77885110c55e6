"""Reading an output folder: nothing unreadable is hidden, bad folders are refused with one line."""

import json
import shutil

import pytest

from karat.core.errors import BadInput
from karat.report.model import load_view
from karat.report.sections.failures import troubles_of
from karat.report.standing import absence, standings_of
from karat.report.write import render, write_report


def test_everyone_and_everything_is_there(folder):
    view = load_view(folder)
    names = [c.name for c in view.contestants]
    assert names == ["bpnn-50", "bpnn-100", "bpnn-200", "mmff94s", "gfn1_xtb", "gfn2_xtb",
                     "exploding", "argon_lj"]  # fmt: skip
    assert [c.name for c in view.contestants if c.is_reference] == ["gfn2_xtb"]
    assert [c.labels for c in view.contestants][:4] == [50, 100, 200, None]
    assert view.assays == ("energy_forces", "dynamics", "torsions", "modes", "cost")
    assert view.assay_title("modes") == "Normal modes"


def test_a_damaged_result_is_listed_with_its_reason(folder, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(folder, copy)
    view = load_view(copy)
    victims = [s for s in view.steps if s.name.startswith("score torsions bpnn-")]
    (copy / victims[0].folder / "result.json").write_text("{")
    (copy / victims[1].folder / "arrays.safetensors").write_bytes(b"\x00" * 40)
    shutil.rmtree(copy / victims[2].folder)
    damaged = [s for s in load_view(copy).steps if s.status == "unreadable"]
    assert [s.name for s in damaged] == [s.name for s in victims]
    assert all(step.reason and step.result is None for step in damaged)
    listed = [t for t in troubles_of(load_view(copy)) if t.status == "unreadable"]
    assert len(listed) == 3
    assert "3 steps could not be read" in render(copy, "md")
    entry = standings_of(load_view(copy)).row("bpnn-50").entries
    assert [e.status for key, e in entry.items() if key.startswith("torsions")] == ["unreadable"]


def test_a_failure_is_zero_and_what_is_not_applicable_is_not_counted(folder):
    standings = standings_of(load_view(folder))
    failed, alien = standings.row("exploding"), standings.row("argon_lj")
    assert failed.karats == 0.0
    assert {entry.status for entry in failed.entries.values()} == {"failed"}
    assert {entry.why for entry in failed.entries.values()} == {"the worker process died"}
    assert alien.karats is None
    assert alien.counted == 0 < alien.possible
    assert {entry.status for entry in alien.entries.values()} == {"not applicable"}


def test_a_failed_fit_is_the_contestants_failure_and_a_failed_reference_is_not(folder, tmp_path):
    """What only waited for a fit has failed; what waited for the reference's cases is missing."""
    index = json.loads((folder / "index.json").read_text())
    entries = [e for e in index["steps"] if e["contestant"] in ("bpnn-200", "uff")]
    index["steps"] = [e for e in index["steps"] if e not in entries and e["folder"]]
    for step in index["steps"]:
        step["folder"] = str(folder / step["folder"])
    blank = {"folder": "", "seconds": None, "assay": "", "contestant": ""}
    fit = {"kind": "fit", "name": "fit net", "status": "failed", "reason": "loss is NaN"}
    index["steps"].append(blank | fit)
    for who, needs in (("net", "fit net"), ("uff", "cases modes")):
        for kind in ("measure", "score"):
            step = {"kind": kind, "name": f"{kind} modes {who}", "status": "missing"}
            step |= {"reason": f"needs '{needs}', which failed", "contestant": who}
            index["steps"].append(blank | step | {"assay": "modes"})
    (tmp_path / "index.json").write_text(json.dumps(index))
    view = load_view(tmp_path)
    assert absence(view, "net", "modes") == ("failed", "loss is NaN")
    assert absence(view, "uff", "modes") == ("missing", "needs 'cases modes', which failed")
    standings = standings_of(view)
    assert standings.row("net").karats == 0.0
    assert standings.row("uff").karats is None


def test_the_reference_is_last_and_has_no_karats(folder):
    rows = standings_of(load_view(folder)).rows
    assert rows[-1].contestant.name == "gfn2_xtb"
    assert rows[-1].karats is None
    order = ["bpnn-200", "gfn1_xtb", "bpnn-100", "bpnn-50", "mmff94s", "exploding", "argon_lj"]
    assert [row.contestant.name for row in rows[:-1]] == order  # by force error, then without


def test_ties_are_those_of_the_paired_differences(folder):
    """bpnn-100 and gfn1_xtb differ by 3 % with errors that scatter by 75 %; bpnn-200 by half."""
    standings = standings_of(load_view(folder))
    assert standings.primary.metric == "force_mae"
    assert standings.row("bpnn-100").tied == ("gfn1_xtb",)
    assert standings.row("gfn1_xtb").tied == ("bpnn-100",)
    assert standings.row("bpnn-200").tied == ()
    key = standings.primary.key
    assert [r.contestant.name for r in standings.rows if r.entries[key].best] == ["bpnn-200"]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, "holds no index.json"),
        ("", "empty"),
        ("[]", "not the index"),
        ('{"steps": 3}', "not the index"),
    ],
)
def test_a_folder_that_is_no_campaign_is_refused(tmp_path, content, words):
    if content is not None:
        (tmp_path / "index.json").write_text(content)
    with pytest.raises(BadInput, match=words):
        load_view(tmp_path)


def test_a_missing_folder_an_unknown_format_and_a_bad_target_are_refused(folder, tmp_path):
    with pytest.raises(BadInput, match="no such folder"):
        write_report(tmp_path / "nothing")
    with pytest.raises(BadInput, match="did you mean 'html'"):
        render(folder, "htm")
    with pytest.raises(BadInput, match="is a folder"):
        write_report(folder, tmp_path)
    (tmp_path / "file").write_text("")
    with pytest.raises(BadInput, match="cannot be written"):
        write_report(folder, tmp_path / "file" / "report.md", "md")


def test_a_campaign_of_which_nothing_is_done_has_a_report(tmp_path):
    step = {"folder": "", "kind": "score", "name": "score modes a", "status": "missing"}
    step |= {"reason": "not run yet", "seconds": None, "contestant": "a", "assay": "modes"}
    index = {"name": "x", "title": "", "steps": [step], "campaign": {}}
    (tmp_path / "index.json").write_text(json.dumps(index))
    for format in ("html", "md", "json"):
        assert "not run yet" in render(tmp_path, format)

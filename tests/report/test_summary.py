"""The words on top: the right names for the right reasons, ties called ties, warnings given."""

import dataclasses

import pytest

from karat.report.model import load_view
from karat.report.sections.front import on_front
from karat.report.standing import standings_of
from karat.report.summary import summary_of
from karat.structures.labels import LevelOfTheory


def summary(folder):
    view = load_view(folder)
    return summary_of(view, standings_of(view))


def remarks(folder, kind):
    return [remark.text for remark in summary(folder).remarks if remark.kind == kind]


def test_the_paragraph_says_what_to_use_when_and_what_failed(folder):
    lead = summary(folder).lead
    assert lead.startswith(
        "bpnn-200 is the most accurate against GFN2-xTB: "
        "Force MAE 75.0 meV/Å (95 %: 64.5 – 87.8)"
    )  # fmt: skip
    assert "Where speed decides, mmff94s is 11 times faster (80 µs a call)" in lead  # 9e-4 / 8e-5
    assert "5 steps failed and 2 single cases failed." in lead
    assert "GFN2-xTB is itself semi-empirical" in lead


def test_picks_are_joined_and_explained(folder):
    picks = {pick.who: pick for pick in summary(folder).picks}
    assert set(picks) == {"bpnn-200", "mmff94s"}
    assert picks["bpnn-200"].what == "Most accurate · best for the cost"
    assert picks["mmff94s"].what == "Fastest of use"


def test_a_cheaper_one_within_twice_the_lowest_error_is_best_for_the_cost(example, tmp_path):
    players = [
        dataclasses.replace(p, seconds=1e-2 if p.name == "bpnn-200" else p.seconds)
        for p in example.PLAYERS
        if p.name != "bpnn-100"
    ]
    folder = example.write_example(tmp_path, players=[*players])
    lead = summary(folder).lead
    assert "gfn1_xtb" not in lead  # 155 meV/Å is more than twice 75 meV/Å
    players = [dataclasses.replace(p, force=0.14) if p.name == "gfn1_xtb" else p for p in players]
    folder = example.write_example(tmp_path / "near", players=players)
    assert "gfn1_xtb stays within twice that error and is 2.5 times faster" in summary(folder).lead


def test_a_difference_in_time_that_may_be_chance_recommends_nobody(example, tmp_path):
    times = {"bpnn-200": 1.4e-3, "bpnn-100": 1.3e-3}
    errors = {"bpnn-200": 0.075, "bpnn-100": 0.1}
    players = [
        dataclasses.replace(p, seconds=times[p.name], force=errors[p.name])
        if p.name in times
        else p
        for p in example.PLAYERS
    ]
    picks = {
        pick.what: pick.who
        for pick in summary(example.write_example(tmp_path, players=players)).picks
    }
    assert picks["Most accurate · best for the cost"] == "bpnn-200"


def test_ties_are_called_ties(folder):
    ties = remarks(folder, "Tie")
    assert any("cannot be told apart on Force MAE" in text for text in ties)
    assert all("bpnn-200" not in text for text in ties)


def test_equal_contestants_share_the_first_place(example, tmp_path):
    players = [
        dataclasses.replace(p, force=0.075) if p.name == "gfn1_xtb" else p for p in example.PLAYERS
    ]
    lead = summary(example.write_example(tmp_path, players=players)).lead
    assert "are tied as the most accurate against GFN2-xTB" in lead


def test_levels_failures_and_data_are_said(folder):
    (levels,) = remarks(folder, "Levels")
    assert "mmff94s (MMFF94s)" in levels
    assert "gfn1_xtb (GFN1-xTB)" in levels
    (failed,) = remarks(folder, "Failed")
    assert failed == "exploding failed in every assay: the worker process died."
    (asked,) = remarks(folder, "Not asked")
    assert asked.startswith("argon_lj was not asked in any assay: argon_lj knows Ar only")
    assert remarks(folder, "Data") == ["2 structures are equal."]


def test_several_reference_levels_are_not_comparable(example, tmp_path, monkeypatch):
    folder = example.write_example(tmp_path)
    view = load_view(folder)
    other = LevelOfTheory("B3LYP", basis="def2-SVP")
    scores = [s for s in view.steps if s.name == "score modes bpnn-50"]
    changed = dataclasses.replace(scores[0].result, level=other)
    changed.save(folder / scores[0].folder)
    (text,) = remarks(folder, "Not comparable")
    assert "B3LYP/def2-SVP" in text


def test_worse_than_trivial_is_said(example, tmp_path):
    players = [
        dataclasses.replace(p, force=1.5) if p.name == "mmff94s" else p for p in example.PLAYERS
    ]
    weak = remarks(example.write_example(tmp_path, players=players), "No use")
    assert any("mmff94s is no better than a trivial predictor on Force MAE" in t for t in weak)


def test_too_few_cases_decide_nothing(example, tmp_path):
    """Seven cases are fewer than eight: no interval of any difference, hence no best."""
    folder = example.write_example(tmp_path, cases=7)
    view = load_view(folder)
    standings = standings_of(view)
    words = summary_of(view, standings)
    assert "bpnn-200 has the lowest error against GFN2-xTB, with too few cases" in words.lead
    assert words.picks[0].what.startswith("Lowest error, undecided")
    assert not [remark for remark in words.remarks if remark.kind == "Tie"]
    (text,) = remarks(folder, "Undecided")
    assert "Too few independent cases to tell anyone apart on Force MAE" in text
    assert not any(e.best for row in standings.rows for e in row.entries.values())
    assert all(row.tied == () for row in standings.rows)


def test_karats_against_different_floors_are_not_compared(example, folder, tmp_path):
    assert remarks(folder, "Karats") == []  # the example has one floor for all
    view = load_view(example.write_example(tmp_path))
    for step in view.steps:
        if step.kind == "score" and step.contestant == "mmff94s":
            metrics = tuple(
                dataclasses.replace(m, floor=10 * m.floor) if m.floor else m
                for m in step.result.metrics
            )
            dataclasses.replace(step.result, metrics=metrics).save(tmp_path / step.folder)
    (text,) = remarks(tmp_path, "Karats")
    assert "compare the two groups by raw values" in text


@pytest.mark.parametrize(
    ("points", "expected"),
    [
        ([(1, 5), (2, 3), (3, 4), (4, 1)], [True, True, False, True]),
        ([(1, 1), (1, 1)], [True, True]),  # equals do not beat each other
        ([(1, 2), (1, 1), (2, 1)], [False, True, False]),
        ([], []),
    ],
)
def test_the_front_is_whom_nobody_beats(points, expected):
    assert on_front(points) == expected

"""Contestants side by side: karats, ties, differences, coverage, levels kept apart."""

import json

import numpy as np
import pytest

from karat.core.errors import BadInput
from karat.results.comparison import Absent, compare
from karat.results.metric import Failure, Metric
from karat.results.provenance import Provenance
from karat.results.result import Result
from karat.results.statistics import bootstrap
from karat.structures.labels import LevelOfTheory

GFN2 = LevelOfTheory("GFN2-xTB")
CASES = tuple(f"case {i}" for i in range(40))
BASE = np.random.default_rng(0).exponential(1.0, 40)


def result(
    contestant,
    errors,
    assay="forces",
    level=GFN2,
    is_reference=False,
    floor=0.01,
    baseline=10.0,
    metric="force_mae",
    failures=(),
    **payload,
):
    interval = bootstrap(errors, "mean", 0)
    metrics = (
        Metric(
            metric,
            interval.value,
            "eV/Å",
            interval.low,
            interval.high,
            interval.n,
            "lower",
            interval.why_no_interval,
            floor=floor,
            floor_source="measured",
            baseline=baseline,
            baseline_source="zero forces",
            headline=True,
        ),
        Metric("side", 1.0, "s", None, None, 1, "lower", "one value", floor=0.1, baseline=10.0),
    )
    return Result(
        kind="score",
        name=f"score {assay} {contestant}",
        provenance=Provenance(),
        metrics=metrics,
        failures=tuple(failures),
        payload={
            "contestant": contestant,
            "assay": assay,
            "is_reference": is_reference,
            "case_names": list(CASES[: len(errors)]),
            "groups": [],
            **payload,
        },
        arrays={f"errors/{metric}": errors},
        level=level,
    )


def standing(comparison, name):
    return next(s for s in comparison.standings if s.contestant == name)


def test_one_table_with_ties_and_differences():
    noise = np.random.default_rng(1)
    comparison = compare(
        [
            result("bad", BASE + 1 + noise.normal(0, 0.1, 40)),
            result("good", BASE + noise.normal(0, 0.1, 40)),
            result("twin", BASE + noise.normal(0, 0.1, 40)),
            result("gfn2", np.zeros(40), is_reference=True),
        ]
    )
    (table,) = comparison.tables
    assert (table.assay, table.metric, table.unit, table.level) == (
        "forces",
        "force_mae",
        "eV/Å",
        "GFN2-xTB",
    )
    assert [set(group) for group in table.ties] == [{"good", "twin"}, {"bad"}]
    assert [(row.place, row.is_reference) for row in table.rows] == [
        (1, False),
        (1, False),
        (2, False),
        (None, True),
    ]
    worst = next(d for d in table.differences if d.second == "bad")
    assert worst.high < -0.8
    assert worst.n == 40
    assert comparison.standings[-1].contestant == "gfn2"
    assert comparison.standings[-1].karats is None
    assert comparison.standings[-1].reason == "reference"


def test_karats_are_those_of_the_score():
    comparison = compare([result("a", np.full(40, 0.1)), result("b", np.full(40, 0.01))])
    rows = {row.contestant: row for row in comparison.tables[0].rows}
    assert rows["a"].karats == pytest.approx(24 * 2 / 3)
    assert rows["b"].karats == pytest.approx(24.0)
    assert standing(comparison, "a").karats == pytest.approx(16.0)
    assert comparison.standings[0].contestant == "b"


def test_adding_a_contestant_changes_no_other():
    few = [result(name, BASE * x) for name, x in (("a", 1.0), ("b", 2.0))]
    few += [result("a", BASE, assay="torsions"), result("b", BASE * 3, assay="torsions")]
    more = [*few, result("c", BASE * 0.001), result("c", BASE * 9, assay="energies")]
    before, after = compare(few), compare(more)
    for name in ("a", "b"):
        assert standing(after, name).karats == standing(before, name).karats
    rows = {(t.assay, r.contestant): r.karats for t in after.tables for r in t.rows}
    for table in before.tables:
        for row in table.rows:
            assert rows[table.assay, row.contestant] == row.karats


def test_failed_counts_zero_and_missing_is_not_counted():
    results = [result("a", np.full(40, 0.1), assay=name) for name in ("x", "y", "z")]
    results += [result("b", np.full(40, 0.1), assay="x")]
    absent = [Absent("b", "y", "failed", "exploded"), Absent("b", "z", "missing", "no stress")]
    comparison = compare(results, absent)
    b = standing(comparison, "b")
    assert b.karats == pytest.approx(8.0)  # (16 + 0) / 2
    assert (b.counted, b.possible) == (2, 3)
    assert b.covered == pytest.approx(2 / 3)
    assert b.assays == {"x": pytest.approx(16.0), "y": 0.0, "z": None}
    rows = {t.assay: r for t in comparison.tables for r in t.rows if r.contestant == "b"}
    assert (rows["y"].status, rows["y"].karats, rows["y"].reason) == ("failed", 0.0, "exploded")
    assert (rows["z"].status, rows["z"].karats, rows["z"].reason) == ("missing", None, "no stress")
    assert standing(comparison, "a").covered == 1.0
    assert standing(compare(results), "b").karats == pytest.approx(16.0)


def test_an_assay_where_everyone_failed():
    comparison = compare([], [Absent("a", "x", "failed", "exploded")])
    assert standing(comparison, "a").karats == 0.0


def test_failed_cases_count_zero():
    errors = np.full(40, 0.1)
    errors[:10] = np.nan
    lost = [Failure("force", name, "not-converged", "no") for name in CASES[:10]]
    comparison = compare([result("a", errors, failures=lost), result("b", np.full(40, 0.1))])
    rows = {row.contestant: row for row in comparison.tables[0].rows}
    assert (rows["a"].failed_cases, rows["a"].cases) == (10, 40)
    assert rows["a"].karats == pytest.approx(16.0 * 0.75)
    assert "10 of 40 cases failed" in rows["a"].reason
    # not applicable cases are NaN without a failure
    assert compare([result("a", errors)]).tables[0].rows[0].karats == pytest.approx(16.0)


def test_pairs_are_compared_on_common_cases():
    lazy = np.concatenate([BASE[:20] + 0.5, np.full(20, np.nan)])
    honest = BASE + np.concatenate([np.zeros(20), np.full(20, 5.0)])
    table = compare([result("lazy", lazy), result("honest", honest)]).tables[0]
    assert table.ties == (("honest",), ("lazy",))
    assert table.differences[0].n == 20
    assert table.differences[0].value == pytest.approx(-0.5)


def test_cases_are_matched_by_name_not_by_place():
    shuffled = result("b", BASE[::-1] + 0.1, case_names=list(CASES[::-1]))
    difference = compare([result("a", BASE), shuffled]).tables[0].differences[0]
    assert (difference.first, difference.value) == ("a", pytest.approx(-0.1))
    assert difference.high - difference.low < 1e-9


def test_levels_never_share_a_table():
    pbe = LevelOfTheory("PBE", "def2-SVP")
    tight = LevelOfTheory("gfn2-xtb", program="tblite", settings={"accuracy": "0.1"})
    comparison = compare(
        [result("a", BASE), result("b", BASE, level=pbe), result("c", BASE, level=tight)]
    )
    members = [{r.contestant for r in t.rows if r.value is not None} for t in comparison.tables]
    assert members == [{"a", "c"}, {"b"}]
    assert set(standing(comparison, "b").assays) == {
        "forces (GFN2-xTB)",
        "forces (PBE/def2-SVP)",
    }
    unknown = [LevelOfTheory("unknown"), LevelOfTheory("unknown", program="x")]
    apart = compare([result("a", BASE, level=unknown[0]), result("b", BASE, level=unknown[1])])
    assert len(apart.tables) == 2


def test_metrics_without_a_scale_are_shown_without_karats():
    comparison = compare([result("a", BASE, floor=None), result("b", BASE * 2, floor=None)])
    assert [row.karats for row in comparison.tables[0].rows] == [None, None]
    a = standing(comparison, "a")
    assert (a.karats, a.possible, a.reason) == (None, 0, "nothing gave karats")


def test_rms_is_compared_as_rms():
    spiky, flat = np.zeros(40), np.full(40, 0.2)
    spiky[:8] = 0.9  # mean 0.18 < 0.2, rms 0.40 > 0.2
    names = {
        metric: compare(
            [result("spiky", spiky, metric=metric), result("flat", flat, metric=metric)]
        )
        .tables[0]
        .differences[0]
        for metric in ("force_mae", "force_rmse")
    }
    assert names["force_rmse"].first == "flat"
    assert names["force_rmse"].value == pytest.approx(0.2 - 0.9 * np.sqrt(0.2))
    assert abs(names["force_mae"].value) == pytest.approx(0.02)


def test_groups_are_resampled_whole():
    blocks = [f"block {i // 10}" for i in range(40)]
    table = compare(
        [result("a", BASE, groups=blocks), result("b", BASE + 1, groups=blocks)]
    ).tables[0]
    assert table.differences[0].why_no_interval == "4 independent groups, at least 8 needed"
    assert table.ties == (("a", "b"),)


def test_interval_over_assays_from_eight():
    def many(number):
        return [result("a", np.full(40, 0.1 * (1 + i)), assay=f"assay {i}") for i in range(number)]

    assert standing(compare(many(7)), "a").why_no_interval == "7 assays, at least 8"
    whole = standing(compare(many(9)), "a")
    assert whole.low < whole.karats < whole.high


def test_without_errors_of_cases_the_values_rank():
    def bare(name, value):
        one = result(name, np.full(40, value))
        return Result(**{**one.__dict__, "arrays": {}})

    table = compare([bare("b", 2.0), bare("a", 1.0)]).tables[0]
    assert (table.ties, table.differences) == ((("a",), ("b",)), ())


def test_survives_json_and_storage(tmp_path):
    results = [result("a", BASE), result("b", BASE * 2)]
    for number, one in enumerate(results):
        one.save(tmp_path / str(number))
    back = [Result.load(tmp_path / str(number)) for number in range(2)]
    first = compare(results).as_dict()
    assert json.loads(json.dumps(first, allow_nan=False)) == json.loads(
        json.dumps(compare(back).as_dict())
    )


def test_what_cannot_be_compared_is_named():
    with pytest.raises(BadInput, match="two scores of a"):
        compare([result("a", BASE), result("a", BASE)])
    with pytest.raises(BadInput, match="does not say its assay"):
        compare([result("a", BASE, assay="")])
    with pytest.raises(BadInput, match="distinct case names"):
        compare([result("a", BASE, case_names=["x"] * 40)])


def test_other_kinds_are_left_out():
    other = Result(kind="train", name="fit", provenance=Provenance())
    assert compare([other]).tables == ()

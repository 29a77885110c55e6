"""Better, worse and tied on simulated errors whose truth is known; what cannot be compared."""

import dataclasses

import numpy as np
import pytest

from karat.results.change import cases_lost, changes
from karat.results.metric import Failure, Metric
from karat.results.provenance import Provenance
from karat.results.result import Result
from karat.results.statistics import holm, paired_difference, paired_p_value
from karat.structures.labels import LevelOfTheory

PBE, B3LYP = LevelOfTheory("PBE", "def2-SVP"), LevelOfTheory("B3LYP", "def2-SVP")


def result(contestant="a", assay="forces", level=PBE, failed=(), cases="key", groups=(), **errors):
    metrics = [
        Metric(
            name, float(np.nanmean(values)), "eV/Å", None, None, len(values), "lower", "given",
            headline=True, floor_source="none", baseline_source="none",
        )
        for name, values in errors.items()
    ]  # fmt: skip
    count = len(next(iter(errors.values())))
    return Result(
        kind="score",
        name=f"score {assay} {contestant}",
        provenance=Provenance(inputs={"cases": cases}),
        metrics=tuple(metrics),
        failures=tuple(Failure("x", case, "y", "z") for case in failed),
        payload={
            "contestant": contestant,
            "assay": assay,
            "version": 1,
            "case_names": [f"case {i}" for i in range(count)],
            "groups": list(groups),
        },
        arrays={f"errors/{name}": np.asarray(values) for name, values in errors.items()},
        level=level,
    )


@pytest.fixture
def random():
    return np.random.default_rng(5)


def test_a_shift_is_found_and_noise_is_not(random):
    base = random.gamma(4, size=60)
    shift = base - 0.3 + random.normal(0, 0.1, 60)
    noise = base + random.normal(0, 0.1, 60)
    found = changes([result(mae=base, other=base)], [result(mae=shift, other=noise)])
    assert [(c.metric, c.verdict) for c in found] == [("mae", "better"), ("other", "tied")]
    better = found[0]
    assert better.low < -0.3 < better.high < 0
    assert better.n == 60
    back = changes([result(mae=shift)], [result(mae=base)])
    assert back[0].verdict == "worse"
    assert (back[0].difference, back[0].p) == (-better.difference, better.p)


def test_nothing_changed_is_tied_with_certainty(random):
    errors = random.gamma(4, size=30)
    (same,) = changes([result(mae=errors)], [result(mae=errors)])
    assert (same.verdict, same.difference, same.p) == ("tied", 0.0, 1.0)


def test_false_alarms_of_many_comparisons_stay_at_the_level(random):
    """20 correlated comparisons without any change, 100 times: some alarm in at most 5 %.

    Expected 5 of 100 at most (Holm is an upper bound); 13 is the 99.9 % quantile of that.
    """
    alarms = 0
    for _ in range(100):
        base = random.gamma(4, size=30)
        common = random.normal(0, 0.3, 30)
        pairs = {f"m{i}": common + random.normal(0, 0.3, 30) for i in range(20)}
        old = result(**dict.fromkeys(pairs, base))
        new = result(**{name: base + gap for name, gap in pairs.items()})
        alarms += any(c.verdict in ("better", "worse") for c in changes([old], [new]))
    assert alarms <= 13


def test_without_control_the_same_would_alarm_often(random):
    """So that the test above can fail: single 95 % intervals alarm in most of such runs."""
    alarms = 0
    for _ in range(50):
        base = random.gamma(4, size=30)
        gaps = random.normal(0, 0.3, (20, 30))
        alarms += any(
            not paired_difference(base + gap, base, "mean", 0).contains_zero for gap in gaps
        )
    assert alarms >= 20


def test_the_p_value_is_students(random):
    """For means of independent cases it is the paired t test, to the noise of resampling."""
    from scipy.stats import ttest_rel

    for n in (8, 15, 60):
        base = random.normal(size=n)
        moved = base + 0.5 + random.normal(size=n)
        mine = paired_p_value(moved, base, "mean", 0, resamples=20000)
        # the bootstrap's standard error is known to 1/√(2·20000) = 0.5 %
        t = ttest_rel(moved, base)
        wide, narrow = (ttest_from(t.statistic * f, n) for f in (0.98, 1.02))
        assert narrow <= mine <= wide


def ttest_from(t, n):
    from scipy.stats import t as student

    return 2 * student.sf(abs(t), n - 1)


def test_blocks_are_resampled_as_a_whole(random):
    """Ten cases of each block share one gap: ten times the cases, no more knowledge."""
    gap = np.repeat(random.normal(0.3, 0.5, 9), 10)
    base = random.gamma(4, size=90)
    groups = tuple(f"block {i // 10}" for i in range(90))
    (blocks,) = changes([result(mae=base, groups=groups)], [result(mae=base + gap, groups=groups)])
    (alone,) = changes([result(mae=base)], [result(mae=base + gap)])
    assert blocks.n == 9
    assert blocks.p > 10 * alone.p


def test_holm_is_its_definition():
    assert holm([0.01, 0.04, 0.03]) == (True, False, False)
    assert holm([0.01, 0.02, 0.05]) == (True, True, True)
    assert holm([0.2, 0.01]) == (False, True)
    assert holm([]) == ()


def test_few_cases_are_undecided(random):
    base = random.gamma(4, size=5)
    (few,) = changes([result(mae=base)], [result(mae=base + 1)])
    assert (few.verdict, few.p, few.low) == ("undecided", None, None)
    assert "5 independent cases" in few.why


def test_failed_cases_are_left_out_of_the_pair_and_named(random):
    old, new = random.gamma(4, size=(2, 20))
    old[3], new[7] = np.nan, np.nan
    sides = [result(mae=old, failed=["case 3"])], [result(mae=new, failed=["case 7"])]
    (change,) = changes(*sides)
    assert change.n == 18
    both = np.isfinite(old + new)
    assert change.difference == pytest.approx((new - old)[both].mean())
    (lost,) = cases_lost(*sides)
    assert (lost.now_failing, lost.now_working) == (("case 7",), ("case 3",))


def test_what_cannot_be_compared_says_why(random):
    errors = random.gamma(4, size=20)
    old = result(mae=errors)
    version = dataclasses.replace(old, payload={**old.payload, "version": 2})
    for new, words in (
        (version, "versions 1 and 2"),
        (result(mae=errors, level=B3LYP), "B3LYP"),
        (result(mae=errors, cases="other"), "other cases"),
        (result(mae=errors, cases="x"), "--by-name"),
    ):
        (change,) = changes([old], [new])
        assert change.verdict == "incomparable"
        assert words in change.why
        assert change.old == change.new == pytest.approx(errors.mean())
    (named,) = changes([old], [result(mae=errors, cases="other")], by_name=True)
    assert named.verdict == "tied"


def test_who_is_gone_and_who_is_new(random):
    errors = random.gamma(4, size=20)
    found = changes(
        [result("a", mae=errors), result("b", mae=errors)],
        [result("a", mae=errors), result("c", mae=errors)],
    )
    assert [(c.contestant, c.verdict) for c in found] == [
        ("a", "tied"), ("b", "gone"), ("c", "new"),
    ]  # fmt: skip
    renamed = changes([result("b", mae=errors)], [result("c", mae=errors)], {"b": "c"})
    assert [(c.contestant, c.verdict) for c in renamed] == [("c", "tied")]


def test_references_and_timings_are_left_out(random):
    errors = random.gamma(4, size=20)
    one = result("gfn2", mae=errors)
    for key in ("is_reference", "timing"):
        marked = dataclasses.replace(one, payload={**one.payload, key: True})
        assert changes([marked], [marked]) == ()


def test_the_order_of_cases_does_not_matter(random):
    old, new = random.gamma(4, size=(2, 20))
    one, other = result(mae=old), result(mae=new)
    turned = dataclasses.replace(
        other,
        payload={**other.payload, "case_names": other.payload["case_names"][::-1]},
        arrays={"errors/mae": new[::-1]},
    )
    (straight,), (back,) = changes([one], [other]), changes([one], [turned])
    assert straight.difference == pytest.approx(back.difference, rel=1e-12)

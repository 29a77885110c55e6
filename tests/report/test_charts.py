"""Chart specifications: common axes of parity panels, thinning, rounding."""

import math

from karat.report.charts import MOST_POINTS, Drawn, overlay, rounded, thinned
from karat.results.figure import Figure, Series


def parity(name, xs, ys):
    figure = Figure(
        kind="parity",
        group="forces",
        title="Force components",
        x_label="reference (eV/Å)",
        y_label="contestant (eV/Å)",
        series=(Series(name=name, x=tuple(xs), y=tuple(ys)),),
    )
    return Drawn(name, "energy_forces", figure)


XS = [-1.0, -0.5, 0.0, 0.5, 1.0]


def test_a_contestant_far_off_does_not_shrink_the_others():
    far = parity("far", XS, [-90.0, 3.0, 0.0, 1.5, 120.0])
    near = parity("near", XS, [-1.1, -0.5, 0.0, 0.5, 1.2])
    chart = overlay("c", [far, near], reference="")
    low, high = chart["range"]
    assert low < -1.1
    assert 1.5 < high < 2.2
    titles = [panel["title"] for panel in chart["panels"]]
    assert titles == ["far (3 of 5 points outside)", "near"]


def test_all_points_are_inside_where_nobody_is_far_off():
    chart = overlay("c", [parity("near", XS, [-1.9, -0.5, 0.0, 0.5, 1.9])], reference="")
    low, high = chart["range"]
    assert low < -1.9
    assert high > 1.9
    assert chart["panels"][0]["title"] == "near"


def test_thinning_keeps_the_worst_points_of_a_cloud():
    count = 5 * MOST_POINTS
    ys = [0.01 * math.sin(i) for i in range(count)]
    ys[1234] = 7.0
    series = parity("a", [0.0] * count, ys).figure.series[0]
    picks = thinned(series, "parity")
    assert len(picks) == MOST_POINTS
    assert 1234 in picks
    assert picks == thinned(series, "parity")


def test_rounding_keeps_six_digits_and_turns_nan_into_a_gap():
    assert rounded([1234.56789, math.nan]) == [1234.57, None]
    assert rounded([1.23456789e-7], log=True) == [1.23457e-7]

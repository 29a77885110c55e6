"""Rates and progress in words."""

import pytest

from karat.simulation.trajectory.rate import clock_text, ns_per_day, progress_line, rate_text


def test_ns_per_day():
    # 1 ns in 1 fs steps at 1e6 steps per day
    assert ns_per_day(1e6 / 86400, 1.0) == pytest.approx(1.0)
    assert ns_per_day(100.0, 2.0) == pytest.approx(17.28)


@pytest.mark.parametrize(
    ("rate", "text"),
    [
        (0.0, "0 ns/day"),
        (0.00123, "0.0012 ns/day"),
        (0.5, "0.5 ns/day"),
        (0.996, "1.0 ns/day"),
        (8.24, "8.2 ns/day"),
        (99.4, "99.4 ns/day"),
        (99.6, "100 ns/day"),
        (12345.6, "12 346 ns/day"),
    ],
)
def test_rate_text(rate, text):
    assert rate_text(rate * 1e6 / 86400, 1.0) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.0, "00:00"),
        (0.2, "00:01"),
        (12.0, "00:12"),
        (59.5, "01:00"),
        (3599.5, "1:00:00"),
        (7500.0, "2:05:00"),
        (2 * 86400.0 - 1, "47:59:59"),
        (2 * 86400.0, "2 d 00:00"),
        (3 * 86400 + 3.5 * 3600, "3 d 04:00"),
    ],
)
def test_clock_text(seconds, text):
    assert clock_text(seconds) == text


def test_progress_line():
    # 8.2 ns/day in steps of 0.5 fs; 12 s are left
    per_second = 8.2 * 1e6 / 0.5 / 86400
    total = 12345 + round(12 * per_second - 0.5)
    line = progress_line(12345, total, 12345 / per_second, 0.5)
    assert line == f"12 345/{total:,} steps · 8.2 ns/day · 00:12 left".replace(",", " ")
    assert progress_line(0, 100_000, 0.0, 0.5) == "0/100 000 steps"


def test_progress_of_resumed_and_of_many():
    """Steps of an earlier part cost nothing now; replicas add up in the rate, not in the time."""
    assert progress_line(500, 1000, 0.1, 1.0, before=500) == "500/1 000 steps"
    line = progress_line(600, 1000, 100.0, 1.0, before=500, replicas=64)
    assert line == "600/1 000 steps · 5.5 ns/day · 06:40 left"

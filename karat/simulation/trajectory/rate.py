"""How fast a run goes, in words; pure functions.

Checked: tests/simulation/trajectory/test_rate.py.
"""

from typing import Final

_NS_PER_FS: Final = 1e-6
_SECONDS_PER_DAY: Final = 86400.0


def ns_per_day(steps_per_second: float, timestep_fs: float) -> float:
    """Simulated nanoseconds in a day of wall time."""
    return steps_per_second * timestep_fs * _NS_PER_FS * _SECONDS_PER_DAY


def rate_text(steps_per_second: float, timestep_fs: float) -> str:
    """`8.2 ns/day`; two digits below 100, whole numbers in groups of three above."""
    rate = ns_per_day(steps_per_second, timestep_fs)
    if rate == 0:
        return "0 ns/day"
    if rate >= 99.5:
        return f"{grouped(round(rate))} ns/day"
    return f"{rate:.1f} ns/day" if rate >= 0.995 else f"{rate:.2g} ns/day"


def grouped(number: int) -> str:
    """`12 345`: digits in groups of three."""
    return f"{number:,}".replace(",", " ")


def clock_text(seconds: float) -> str:
    """`00:12` minutes and seconds, `2:05:00` hours, `3 d 04:00` days and hours; rounded up."""
    whole = int(-(-seconds // 1))
    if whole >= 2 * _SECONDS_PER_DAY:
        hours = -(-whole // 3600)
        return f"{hours // 24} d {hours % 24:02d}:00"
    hours, rest = divmod(whole, 3600)
    minutes, left = divmod(rest, 60)
    return f"{hours}:{minutes:02d}:{left:02d}" if hours else f"{minutes:02d}:{left:02d}"


def progress_line(
    done: int, total: int, seconds: float, timestep_fs: float, before: int = 0, replicas: int = 1
) -> str:
    """`12 345/100 000 steps · 8.2 ns/day · 00:12 left`; rate and time left once there is a rate.

    Args:
        done, total: steps of each replica.
        seconds: wall time of the steps since `before`.
        before: steps that an earlier part of the run had made.
        replicas: systems that move together; the rate is the sum over all.
    """
    parts = [f"{grouped(done)}/{grouped(total)} steps"]
    if done > before and seconds > 0:
        rate = (done - before) / seconds
        parts.append(rate_text(rate * replicas, timestep_fs))
        parts.append(f"{clock_text((total - done) / rate)} left")
    return " · ".join(parts)

"""What a run shows."""

import io
import re

from karat.campaign.plan import Step
from karat.campaign.progress import LIGHT, WEIGHTS, Estimate
from karat.cli.console import LiveProgress, PlainProgress, duration, make_progress

STEPS = [Step(f"fit {i}", "fit", f"k{i}") for i in range(4)]


def play(progress):
    progress.begin(STEPS, ("k0",), 2)
    progress.started(STEPS[1])
    progress.inside(STEPS[1], 3, 10, "epochs")
    progress.finished(STEPS[1], "done", "", 8.0)
    progress.started(STEPS[2])
    progress.finished(STEPS[2], "failed", "[no] luck", 2.0)
    progress.end()


def test_plain_lines():
    stream = io.StringIO()
    play(make_progress(plain=False, stream=stream))  # not a terminal
    lines = stream.getvalue().splitlines()
    assert lines[0] == "4 steps, 1 done before, 2 workers"
    assert lines[1].startswith("[2/4 steps, 0 running, 2 waiting, 0:00 passed, about 0:08 left]")
    assert lines[2].startswith("[3/4 steps, 1 failed, 0 running, 1 waiting")
    assert lines[2].endswith("fit 2: failed (2.0 s): [no] luck")


def test_live_display_on_a_terminal():
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    stream = Terminal()
    progress = make_progress(plain=False, stream=stream)
    assert isinstance(progress, LiveProgress)
    play(progress)
    text = re.sub(r"\x1b\[[?0-9;]*[a-zA-Z]", "", stream.getvalue())
    assert "failed: fit 2: [no] luck" in text
    assert "3/4 steps" in text
    assert isinstance(make_progress(plain=True, stream=stream), PlainProgress)


def test_the_estimate_knows_kinds():
    estimate = Estimate(["fit", "fit", "score", "score"], workers=2)
    assert estimate.left is None
    estimate.finished("fit", 10.0)
    # scores never ended yet: in proportion to their weights
    assert estimate.left == (10 + 2 * 10 * LIGHT / WEIGHTS["fit"]) / 2
    estimate.finished("score", 2.0)
    assert estimate.left == (10 + 2) / 2
    estimate.finished("score", 0.0, counts=False)
    assert estimate.left == 10 / 2


def test_durations():
    assert [duration(x) for x in (None, 0.4, 83, 7260)] == ["–", "0:00", "1:23", "2:01:00"]

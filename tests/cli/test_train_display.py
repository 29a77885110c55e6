"""Lines now and then, news at once; the bar on a terminal."""

import io
import sys

from karat.cli.train_display import display, plain_report
from karat.potentials.model import Stage


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_lines_are_two_seconds_apart_and_news_comes_at_once(capsys):
    now = [0.0]
    report = plain_report(lambda: now[0])
    report(Stage(0, 9, "compiling the training step (1 of 2 shapes)"))
    report(Stage(0, 9, "compiling the validation (1 of 1 shapes)"))
    for epoch in range(1, 7):
        now[0] = 0.7 * epoch
        report(Stage(epoch, 9, f"epochs: loss {epoch}"))
        if epoch == 3:
            report(Stage(3, 9, "compiling the training step (2 of 2 shapes)"))
            report(Stage(3, 9, "compiling the training step (2 of 2 shapes)"))
    report(Stage(6, 9, "diverged in epoch 7"))
    report(Stage(9, 9, "epochs: the end"))
    lines = capsys.readouterr().err.splitlines()
    assert lines == [
        "train: 0/9 compiling the training step (1 of 2 shapes)",
        "train: 0/9 compiling the validation (1 of 1 shapes)",
        "train: 1/9 epochs: loss 1",
        "train: 3/9 compiling the training step (2 of 2 shapes)",
        "train: 4/9 epochs: loss 4",
        "train: 6/9 diverged in epoch 7",
        "train: 9/9 epochs: the end",
    ]


def test_nothing_but_lines_where_there_is_no_terminal(capsys, monkeypatch):
    with display(plain=False, as_json=False) as report:
        report(Stage(1, 2, "epochs: loss 1"))
    found = capsys.readouterr()
    assert found.err == "train: 1/2 epochs: loss 1\n"
    assert found.out == ""
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    with display(plain=False, as_json=True) as report:
        report(Stage(1, 2, "epochs: loss 1"))
    assert terminal.getvalue() == "train: 1/2 epochs: loss 1\n"


def test_the_bar_shows_words_and_counts(monkeypatch):
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setenv("TERM", "xterm")
    with display(plain=False, as_json=False) as report:
        report(Stage(0, 40, "compiling the training step (1 of 2 shapes)"))
        assert "compiling the training step" in terminal.getvalue()  # at once
        report(Stage(7, 40, "epochs: loss 0.5, validation MAE 1.2 meV/atom"))
    shown = terminal.getvalue()
    assert "7/40" in shown
    assert "validation MAE 1.2 meV/atom" in shown

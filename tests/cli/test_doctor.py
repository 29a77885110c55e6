"""`karat doctor` tries things, and survives what does not work."""

import json
import sys

import pytest

from karat.cli import doctor as module
from karat.cli.doctor import ABSENT, BROKEN, WORKS, Trial, attempt
from karat.cli.main import main


@pytest.mark.parametrize(
    ("code", "status", "words"),
    [
        ("print('noise'); print('all is well')", WORKS, "all is well"),
        ("import no_such_module", ABSENT, "no_such_module"),
        ("raise ValueError('crooked')", BROKEN, "crooked"),
        ("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)", BROKEN, "status -11"),
        ("import time; time.sleep(60)", BROKEN, "not done after 2 s"),
    ],
)
def test_how_a_trial_can_go(code, status, words):
    finding = attempt(Trial("g", "n", code), timeout=2)
    assert finding.status == status
    assert words in finding.words


def test_every_trial_is_python_and_each_member_is_tried_by_name():
    listed = module.trials()
    for trial in listed:
        compile(trial.code, trial.name, "exec")
    names = {trial.name for trial in listed}
    assert {"gfn2_xtb", "pyscf", "mmff94", "uff", "bpnn", "OpenMM", "GPAW"} <= names


def test_a_quick_engine_works():
    trial = next(t for t in module.trials() if (t.group, t.name) == ("engine", "gfn2_xtb"))
    finding = attempt(trial, timeout=120)
    assert finding.status == WORKS, finding.words
    assert "water -13" in finding.words  # about -5.07 hartree


@pytest.mark.parametrize(("optional", "code"), [(True, 0), (False, 1)])
def test_what_is_always_needed_decides(monkeypatch, capsys, optional, code):
    trials = [Trial("g", "gone", "import no_such_module", optional, "pip install it")]
    monkeypatch.setattr(module, "trials", lambda: trials)
    monkeypatch.setattr(sys, "argv", ["karat", "doctor", "--json"])
    with pytest.raises(SystemExit) as ending:
        main()
    assert (ending.value.code or 0) == code
    document = json.loads(capsys.readouterr().out)
    assert document["ok"] is optional
    assert document["findings"][0]["status"] == ABSENT


def test_the_table_says_how_to_get_what_is_absent(monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", "200")  # no line is folded
    trials = [Trial("g", "gone", "import no_such_module", True, "pip install it")]
    monkeypatch.setattr(module, "trials", lambda: trials)
    monkeypatch.setattr(sys, "argv", ["karat", "doctor"])
    with pytest.raises(SystemExit):
        main()
    assert "pip install it" in capsys.readouterr().out

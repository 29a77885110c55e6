"""The entry point: fast help, exit statuses, one message per error."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from karat.cli import main as module
from karat.core.errors import BadInput, CalculationFailed
from karat.potentials.native.catalogue import ARCHITECTURES

HEAVY = ("jax", "numpy", "rdkit", "openmm", "pyscf", "ase", "scipy", "pydantic", "yaml", "plotly")


def call(monkeypatch, capsys, *arguments):
    """Exit status and both streams of `karat …` in this process."""
    monkeypatch.setattr(sys, "argv", ["karat", *map(str, arguments)])
    monkeypatch.setenv("KARAT_DEBUG", "")
    with pytest.raises(SystemExit) as ending:
        module.main()
    said = capsys.readouterr()
    return ending.value.code or 0, said.out, said.err


def test_help_imports_nothing_heavy():
    code = (
        "import sys; sys.argv = ['karat', '--help']\n"
        "from karat.cli.main import main\n"
        "try: main()\n"
        "except SystemExit as ending: assert not ending.code\n"
        f"print([name for name in {HEAVY!r} if name in sys.modules], file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stderr.strip() == "[]"
    for verb, (_, words) in module.VERBS.items():
        assert verb in done.stdout
        assert words.split(",")[0].split(";")[0] in done.stdout


@pytest.mark.parametrize("verb", module.VERBS)
def test_every_verb_helps_with_examples(monkeypatch, capsys, verb):
    code, out, _ = call(monkeypatch, capsys, verb, "--help")
    assert code == 0
    assert "Examples:" in out
    assert f"karat {verb}" in out


def test_version(monkeypatch, capsys):
    code, out, _ = call(monkeypatch, capsys, "--version")
    assert (code, out.split()[0]) == (0, "karat")


def test_an_unknown_verb_is_bad_input_with_a_suggestion(monkeypatch, capsys):
    code, out, err = call(monkeypatch, capsys, "rum")
    assert (code, out) == (2, "")
    assert "run" in err


@pytest.mark.parametrize(
    ("error", "status", "words"),
    [
        (BadInput("x: is wrong"), 2, "karat: x: is wrong\n"),
        (CalculationFailed("it exploded"), 1, "karat: it exploded\n"),
        (KeyboardInterrupt(), 3, "interrupted. Give the same command again"),
        (ZeroDivisionError("a fault"), 70, "unexpected error: ZeroDivisionError: a fault\nThis is"),
    ],
)
def test_exit_statuses(monkeypatch, capsys, error, status, words):
    def fail():
        raise error

    monkeypatch.setitem(module.VERBS, "plan", (f"{__name__}:fail", "Fails."))
    monkeypatch.setattr(module, "load_verb", lambda name: _command(fail))
    code, out, err = call(monkeypatch, capsys, "plan")
    assert (code, out) == (status, "")
    assert words in err
    assert "Traceback" not in err


def test_debug_shows_the_traceback(monkeypatch, capsys):
    def fail():
        raise BadInput("x: is wrong")

    monkeypatch.setattr(module, "load_verb", lambda name: _command(fail))
    code, _, err = call(monkeypatch, capsys, "--debug", "plan")
    assert code == 2
    assert "Traceback" in err
    assert err.endswith("karat: x: is wrong\n")


def _command(function):
    import typer

    app = typer.Typer(add_completion=False, rich_markup_mode=None)
    app.command("plan")(function)
    return typer.main.get_command(app)


def test_completion_knows_the_verbs():
    environment = os.environ | {
        "_KARAT_COMPLETE": "complete_bash",
        "COMP_WORDS": "karat r",
        "COMP_CWORD": "1",
    }
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            "import sys; sys.argv[0] = 'karat'\n"
            "from karat.cli.main import app; app(prog_name='karat')",
        ],
        env=environment,
        capture_output=True,
        text=True,
    )
    assert set(done.stdout.split()) == {"run", "report"}, done.stderr


def test_one_compute_thread_before_anything_is_imported():
    code = (
        "import karat.cli.main, os, sys\n"
        "assert os.environ['OMP_NUM_THREADS'] == '1' and 'numpy' not in sys.modules"
    )
    subprocess.run(
        [sys.executable, "-c", code], check=True, env=os.environ | {"OMP_NUM_THREADS": "9"}
    )


def test_list_and_schema_speak_json(monkeypatch, capsys):
    code, out, err = call(monkeypatch, capsys, "list", "engines", "--json")
    assert (code, err) == (0, "")
    assert json.loads(out)["engines"]["gfn2_xtb"].startswith("GFN2-xTB")
    code, out, _ = call(monkeypatch, capsys, "list")
    assert code == 0
    assert "bpnn" in out
    code, _, err = call(monkeypatch, capsys, "list", "potential")
    assert code == 2
    assert "did you mean 'potentials'" in err
    code, out, _ = call(monkeypatch, capsys, "schema")
    assert json.loads(out)["title"] == "karat campaign"


def test_models_come_with_their_cards(monkeypatch, capsys):
    """Every architecture of karat's own says what it is; where it is tested exists."""
    code, out, err = call(monkeypatch, capsys, "list", "models", "--json")
    assert (code, err) == (0, "")
    cards = json.loads(out)
    assert cards.keys() == set(ARCHITECTURES.names())
    root = Path(__file__).parents[2]
    for name, card in cards.items():
        assert "problem" not in card, name
        places = [word.strip(",") for word in card["tested"].split() if "/" in word]
        assert places, name
        assert all((root / place).exists() for place in places), card["tested"]
    code, out, _ = call(monkeypatch, capsys, "list", "models")
    assert code == 0
    for name, card in cards.items():
        line = next(text for text in out.splitlines() if text.startswith(name + " "))
        assert card["paper"] in line
        assert ("NON-CONSERVATIVE" in line) is not card["conservative"]

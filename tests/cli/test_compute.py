"""`karat compute`: table, JSON, exit statuses, interruption, completion, and the page in docs."""

import json
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import typer
from ase.build import bulk
from ase.io import write
from typer.testing import CliRunner

from karat.campaign.compute.catalogue import CATALOGUE
from karat.campaign.compute.protocol import Value
from karat.campaign.compute.run import property_of
from karat.cli.compute import compute, make_progress, shown
from karat.cli.settings import key_values
from karat.core.errors import BadInput, UnknownElement, UnknownKey

app = typer.Typer()
app.command()(compute)
SILICON = ("--potential", "stillinger_weber", "--potential-set", "preset=Si")
DOCS = Path(__file__).parents[2] / "docs" / "compute.md"


def run(*arguments):
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


@pytest.fixture
def crystal(tmp_path):
    path = tmp_path / "si.cif"
    bulk("Si", "diamond", a=5.431).write(path)
    return path


@pytest.fixture
def frames(tmp_path):
    """Two that come to rest, and one so far from it that 30 steps do not suffice."""
    path = tmp_path / "frames.xyz"
    atoms = []
    for size, seed in ((0.01, 1), (0.3, 2), (0.02, 3)):
        one = bulk("Si", "diamond", a=5.431, cubic=True)
        one.rattle(size, seed=seed)
        atoms.append(one)
    write(path, atoms, format="extxyz")
    return path


def test_table_with_units_and_what_was_kept(crystal, tmp_path):
    result = run("elastic", crystal, *SILICON, "-o", tmp_path / "out")
    assert result.exit_code == 0
    assert "elastic: 1 to compute" in result.stderr
    assert "bulk hill" in result.stdout
    assert "GPa" in result.stdout
    # Stillinger-Weber silicon: (C11 + 2 C12)/3 = 101.4 GPa (tests/simulation/test_elastic.py)
    assert re.search(r"101\.4\d", result.stdout)
    assert "1 computed, 0 done before, 0 failed" in result.stdout
    assert "elastic.json" in result.stdout
    again = run("elastic", crystal, *SILICON, "-o", tmp_path / "out")
    assert "1 to compute, 1 of them done before" in again.stderr
    assert "0 computed, 1 done before" in again.stdout


def test_json_is_one_document(crystal, frames, tmp_path):
    result = run("energy", crystal, frames, *SILICON, "-o", tmp_path / "out", "--json")
    found = json.loads(result.stdout)
    assert [case["name"] for case in found["cases"]] == ["si", "frames:0", "frames:1", "frames:2"]
    values = {value["name"]: value for value in found["cases"][0]["values"]}
    # Stillinger & Weber (1985): the cohesive energy of silicon is 2 ε = 4.3366 eV
    assert values["energy_per_atom"]["value"] == pytest.approx(-4.3366, abs=1e-3)
    assert values["energy_per_atom"]["unit"] == "eV"
    assert values["forces"]["shape"] == [2, 3]
    assert found["kept_from_before"] == 0
    assert found["failures"] == []
    written = json.loads((tmp_path / "out" / "energy.json").read_text())
    assert written == {k: v for k, v in found.items() if k not in ("kept_from_before", "folder")}


def test_failures_are_listed_with_exit_status_one(frames, tmp_path):
    few = ("--set", "optimiser=fire", "--set", "max_steps=30")
    words = ("relax", frames, *SILICON, *few, "-o", tmp_path / "out")
    result = run(*words)
    assert result.exit_code == 1
    assert "failed: frames:1: not-converged: Relaxation of Si8" in result.stdout.replace("\n", " ")
    assert "2 computed, 0 done before, 1 failed" in result.stdout
    document = json.loads(run(*words, "--json").stdout)
    assert [failure["case"] for failure in document["failures"]] == ["frames:1"]
    assert document["kept_from_before"] == 2
    assert document["attempted"] == 3


def test_without_a_folder_nothing_is_kept(crystal, tmp_path, monkeypatch):
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    result = run("energy", crystal, *SILICON)
    assert "Nothing is kept" in result.stdout
    assert [path.name for path in tmp_path.iterdir()] == ["si.cif"]
    assert json.loads(run("energy", crystal, *SILICON, "--json").stdout)["folder"] is None


@pytest.mark.parametrize(
    ("words", "error", "message"),
    [
        (["elastc"], UnknownKey, "did you mean 'elastic'"),
        (["elastic", "--set", "stain=0.1"], UnknownKey, "did you mean 'strain'"),
        (["elastic", "--set", "strain"], BadInput, "key=value"),
        (["surface"], BadInput, "karat compute list surface"),
        (["phonons", "--set", "mesh=[8,8]"], BadInput, r"phonons\.mesh"),
    ],
)
def test_bad_words_before_files_are_read(tmp_path, words, error, message):
    with pytest.raises(error, match=message):
        run(words[0], tmp_path / "missing.cif", *words[1:], *SILICON, "-o", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_bad_potentials_and_structures(crystal, tmp_path):
    magnesium = tmp_path / "mg.cif"
    bulk("Mg").write(magnesium)
    out = ("-o", tmp_path / "out")
    with pytest.raises(UnknownElement, match="mg: NativePotential has no parameters for Mg"):
        run("elastic", crystal, magnesium, *SILICON, *out)
    with pytest.raises(BadInput, match="--potential"):
        run("elastic", crystal, *out)
    with pytest.raises(UnknownKey, match="did you mean 'stillinger_weber'"):
        run("elastic", crystal, "--potential", "stilinger_weber", *out)
    with pytest.raises(BadInput, match=r"missing\.cif"):
        run("elastic", tmp_path / "missing.cif", *SILICON, *out)
    with pytest.raises(BadInput, match="Name files"):
        run("elastic", *SILICON, *out)
    assert not (tmp_path / "out").exists()


def test_help_names_every_property():
    words = re.sub(r"[\s│]+", " ", run("--help").stdout)
    assert ", ".join(CATALOGUE.members) in words


def test_list():
    result = run("list")
    for name in CATALOGUE.members:
        assert re.search(rf"^{name} +[A-Z].*\.$", result.stdout, re.MULTILINE)
    words = run("list", "surface").stdout
    assert "miller [required]: indices of the face" in words
    assert "vacuum_angstrom [10.0]: Å" in words
    found = json.loads(run("list", "elastic", "--json").stdout)
    assert found["elastic"]["settings"][0]["name"] == "strain"
    with pytest.raises(UnknownKey, match="did you mean 'phonons'"):
        run("list", "phonon")


def test_the_bar_shows_rate_and_what_runs(monkeypatch, capsys):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    bar = make_progress("relax", plain=False)
    assert type(bar).__name__ == "_Bar"
    monkeypatch.undo()
    for watch in (bar, make_progress("relax", plain=True)):
        watch.begin(3, 1)
        watch.inside("si [1/2]")
        watch.finished("si", 2, "")
        watch.finished("ge", 2, "not converged")
        watch.end()
    assert "relax: 3/3 done, 1 failed" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (Value("x", -8.673199991, "eV"), "-8.6732"),
        (Value("x", 1.23456e-5, "eV"), "1.23e-05"),
        (Value("x", 101.423168, "GPa"), "101.42"),
        (Value("x", 12), "12"),
        (Value("x", True), "yes"),
        (Value("x", 0.0, "eV/Å"), "0"),
    ],
)
def test_digits(value, text):
    assert shown(value) == text


def test_completion_of_properties():
    environment = os.environ | {
        "_KARAT_COMPLETE": "complete_bash",
        "COMP_WORDS": "karat compute e",
        "COMP_CWORD": "2",
    }
    code = (
        "import sys; sys.argv[0] = 'karat'\n"
        "from karat.cli.main import app\n"
        "try: app(prog_name='karat')\n"
        "finally: assert 'jax' not in sys.modules and 'numpy' not in sys.modules"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True
    )
    assert set(done.stdout.split()) == {"elastic", "energy", "eos"}, done.stderr
    assert done.stderr == ""


@pytest.mark.slow
def test_interrupted_it_goes_on(tmp_path):
    """Ctrl-C after the second crystal: exit status 3; the rest is computed next time, and all
    files are those of a run that nobody disturbed."""
    path = tmp_path / "many.xyz"
    atoms = [bulk("Si", "diamond", a=5.30 + 0.005 * place) for place in range(8)]
    write(path, atoms, format="extxyz")
    words = ["elastic", str(path), *SILICON, "--plain", "-o"]
    command = [sys.executable, "-m", "karat.cli.main", "compute", *words, str(tmp_path / "out")]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    steps = tmp_path / "out" / "steps"
    until = time.monotonic() + 60
    while time.monotonic() < until and process.poll() is None:
        if steps.is_dir() and sum("part" not in p.name for p in steps.iterdir()) >= 2:
            process.send_signal(signal.SIGINT)
            break
        time.sleep(0.01)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 3, said
    assert "Give the same command again" in said
    kept = sorted(p.name for p in steps.iterdir() if not p.name.startswith("."))
    assert 2 <= len(kept) < 8
    times = {name: (steps / name / "result.json").stat().st_mtime_ns for name in kept}
    result = run(*words, tmp_path / "out")
    assert f"8 to compute, {len(kept)} of them done before" in result.stderr
    assert result.exit_code == 0
    again = {name: (steps / name / "result.json").stat().st_mtime_ns for name in kept}
    assert again == times
    run(*words, tmp_path / "whole")
    for name in ("elastic.json", "elastic.xyz"):
        assert (tmp_path / "out" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
    for folder in steps.iterdir():
        whole = tmp_path / "whole" / "steps" / folder.name
        for name in ("arrays.safetensors", "structures.xyz"):
            assert (folder / name).read_bytes() == (whole / name).read_bytes()


def blocks(kind):
    return re.findall(rf"```{kind}\n(.*?)```", DOCS.read_text(), re.DOTALL)


@pytest.fixture
def documented_files(crystal, frames, tmp_path, monkeypatch):
    """What the page's commands name."""
    from rdkit import Chem
    from rdkit.Chem import AllChem

    molecule = Chem.AddHs(Chem.MolFromSmiles("CC"))
    AllChem.EmbedMolecule(molecule, randomSeed=1)
    with Chem.SDWriter(str(tmp_path / "ethane.sdf")) as writer:
        writer.write(molecule)
    monkeypatch.chdir(tmp_path)


def documented_commands():
    commands = [line for block in blocks("console") for line in block.splitlines()]
    words = [shlex.split(command) for command in commands]
    assert [one[:2] for one in words] == [["karat", "compute"]] * 8
    return [one[2:] for one in words]


def test_every_command_of_the_documentation_can_be_given(documented_files):
    for words in documented_commands():
        settings = [words[i + 1] for i, word in enumerate(words) if word == "--set"]
        property_of(words[0], key_values(settings, "--set"))
        files = [word for word in words if word.endswith((".cif", ".xyz", ".sdf"))]
        assert all(Path(file).exists() for file in files)


@pytest.mark.slow
def test_every_command_of_the_documentation_runs(documented_files, tmp_path):
    for words in documented_commands():
        assert run(*words).exit_code == 0, words
        assert (tmp_path / "out" / f"{words[0]}.json").exists()


def test_the_python_of_the_documentation_runs(documented_files, capsys):
    (code,) = blocks("python")
    exec(compile(code, str(DOCS), "exec"), {})
    name, bulk_modulus, unit = capsys.readouterr().out.split()
    assert (name, unit) == ("si", "GPa")
    assert float(bulk_modulus) == pytest.approx(101.4, abs=0.1)


def test_the_table_of_the_documentation_has_every_property():
    table = re.findall(r"^\| (.*?) \|", DOCS.read_text(), re.MULTILINE)
    named = {name for cell in table for name in re.findall(r"`(\w+)`", cell)}
    assert named == set(CATALOGUE.members)

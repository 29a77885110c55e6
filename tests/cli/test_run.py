"""`karat plan` and `karat run` as a user gives them."""

import json
import subprocess
import sys

import pytest

TEXT = """
name: tiny
seed: 5
system: {smiles: "O"}
reference: {engine: gfn2_xtb}
data:
  sample: [{sampler: rattle, options: {copies: 20}}]
  split: {by: random, valid: 0.1, test: 0.3}
contestants:
  - {name: UFF, potential: uff}
assays:
  - assay: energy_forces
"""


def karat(folder, *arguments):
    return subprocess.run(
        [sys.executable, "-m", "karat.cli.main", *arguments],
        cwd=folder,
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
    )


@pytest.fixture(scope="module")
def ran(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    (folder / "tiny.yaml").write_text(TEXT)
    before = karat(folder, "plan", "tiny.yaml")
    nothing = sorted(path.name for path in folder.iterdir())
    done = karat(folder, "run", "tiny.yaml", "--set", "title=Hello")
    after = karat(folder, "plan", "tiny.yaml", "--json")
    return folder, before, nothing, done, after


def test_plan_shows_what_is_to_do_and_writes_nothing(ran):
    _, before, nothing, _, after = ran
    assert before.returncode == 0, before.stderr
    assert nothing == ["tiny.yaml"]
    assert "todo" in before.stdout
    assert before.stdout.splitlines()[-1] == "10 steps, 0 done, 10 to do."
    steps = json.loads(after.stdout)["steps"]
    assert len(steps) == 10
    assert all(step["done"] for step in steps)


def test_run_ends_with_the_path_of_the_report(ran):
    folder, _, _, done, _ = ran
    assert done.returncode == 0, done.stderr
    last = done.stdout.splitlines()[-1]
    assert last == "runs/tiny/report.html"
    assert "Hello" in (folder / last).read_text()
    assert "10/10 steps" in done.stderr
    assert "score energy_forces UFF: done" in done.stderr


def test_run_speaks_json_and_resumes(ran):
    folder, *_ = ran
    again = karat(folder, "run", "tiny.yaml", "--json")
    assert again.returncode == 0, again.stderr
    document = json.loads(again.stdout)
    assert document["reused"] == 10
    assert document["steps"] == {"done": 10}
    assert document["failures"] == []

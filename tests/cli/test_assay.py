"""`karat assay`: numbers equal errors computed by hand; levels, leakage and failures are told."""

import json
import sys
from pathlib import Path

import jax
import numpy as np
import pytest
import typer
from typer.testing import CliRunner

sys.path.insert(0, str(Path(__file__).parent))
from assay_example import LEVEL, spring

from karat.campaign.single_assay import level_warnings, make_campaign
from karat.cli.assay import assay, row_of
from karat.core.errors import BadInput, KaratError, UnknownElement, UnknownKey
from karat.data.dataset import Dataset, Record
from karat.data.files import read_dataset, write_dataset
from karat.potentials.karat_file import load, save
from karat.potentials.native.bpnn import AngularGrid, Bpnn, RadialGrid
from karat.potentials.native_protocol import NativePotential
from karat.results.metric import Metric
from karat.results.result import Result
from karat.structures.labels import Labels, LevelOfTheory
from karat.structures.structure import Structure

app = typer.Typer()
app.command()(assay)

SHIFTED = "assay_example:Shifted"
KCAL = 0.0433641042385  # eV, CODATA


def springs(seed, count=24):
    """Single H2 molecules, not of one trajectory, so that each is a case of its own."""
    generator = np.random.default_rng(seed)
    records = []
    for index in range(count):
        direction = generator.normal(size=3)
        direction *= (0.6 + 0.02 * index) / np.linalg.norm(direction)
        structure = Structure(np.array([1, 1]), np.array([np.zeros(3), direction]))
        records.append(Record(structure, spring(structure), f"s{index}", group=f"g{index}"))
    return Dataset(tuple(records), LEVEL)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    path = tmp_path_factory.mktemp("data") / "test.xyz"
    write_dataset(springs(1), path)
    return path


@pytest.fixture(scope="module")
def tiny(data, tmp_path_factory):
    """An untrained potential of another level that says it was trained on the test set."""
    architecture = Bpnn(
        radial=RadialGrid(count=3), angular=AngularGrid(count=1, zetas=(1,)), hidden=(4,)
    )
    dataset = read_dataset(data)
    module = architecture.initialise(dataset, jax.random.key(0), "float64")
    potential = NativePotential(module, {1: -15.0}, LevelOfTheory("PBE"), "float64")
    path = tmp_path_factory.mktemp("model") / "tiny.karat"
    save(path, architecture, potential, dataset.digest)
    return path


def run(*words):
    result = CliRunner().invoke(app, [str(word) for word in words])
    if isinstance(result.exception, KaratError):
        raise result.exception
    assert result.exception is None or isinstance(result.exception, SystemExit), result.output
    return result


def values(document, place=0):
    metrics = document["assays"][place]["metrics"]
    return {(m["name"], m["subset"]): m for m in metrics}


def test_errors_of_a_karat_file_are_those_computed_by_hand(tiny, data, tmp_path):
    result = run(tiny, "--data", data, "-o", tmp_path / "out", "--json", "--set", "dtype=float64")
    assert result.exit_code == 0
    document = json.loads(result.stdout)
    whole = read_dataset(data)
    found = load(tiny).predict(whole.structures)
    errors = np.array([f.forces - r.labels.forces for f, r in zip(found, whole)])
    offsets = np.array([f.energy - r.labels.energy for f, r in zip(found, whole)])
    metrics = values(document)
    for name, expected in (
        ("force_mae", np.abs(errors).mean()),
        ("force_rmse", np.sqrt(np.square(errors).mean())),
        ("force_max", np.abs(errors).max()),
        ("energy_mae_per_atom", np.abs(offsets - offsets.mean()).mean() / 2),
    ):
        assert metrics[name, ""]["value"] == pytest.approx(expected, rel=1e-9)
    mae = metrics["force_mae", ""]
    assert mae["low"] < mae["value"] < mae["high"]
    assert mae["n"] == 24
    assert metrics["force_max", ""]["why_no_interval"] == "a maximum"
    # what the file's header tells
    assert "leakage" in result.stderr
    assert "trained on exactly these 24 structures" in document["warnings"][0]
    assert "the potential is PBE, the test is spring" in document["warnings"][1]
    # stored as a run stores it
    stored = Result.load(Path(document["assays"][0]["folder"]))
    assert stored.metric("force_mae").value == mae["value"]
    np.testing.assert_allclose(
        stored.arrays["errors/force_mae"], np.abs(errors).mean(axis=(1, 2)), rtol=1e-9
    )
    assert (tmp_path / "out" / "report.html").exists()


def test_a_known_error_shows_in_the_table_and_the_folder_is_taken_up_again(data, tmp_path):
    words = (SHIFTED, "--data", data, "-o", tmp_path, "--set", "error_ev_per_angstrom=0.25")
    result = run(*words)
    assert result.exit_code == 0
    assert result.stdout.startswith(f"{SHIFTED} on test.xyz: 24 structures, spring")
    row = next(line for line in result.stdout.splitlines() if "Force MAE " in line)
    assert "0.25" in row
    assert "eV/Å" in row
    assert "0.25 to 0.25" in row
    assert "no cases failed" in result.stdout
    assert "warning" not in result.stderr  # same level, no header to ask
    again = run(*words, "--assay", "energy_forces", "--set", "energy_forces.per_element=false")
    assert "done before" in again.stderr
    assert "Force MAE, H" in result.stdout
    assert "Force MAE, H" not in again.stdout
    for change in (("--seed", "1"), ("--set", "fails_beyond_angstrom=1.0")):
        with pytest.raises(BadInput, match="another campaign, potential or test set"):
            run(*words, *change)


def test_failures_are_counted_and_what_the_data_do_not_allow_says_why(data):
    # lengths are 0.60, 0.62 … 1.06 Å: three are longer than 1.01
    words = ("--set", "fails_beyond_angstrom=1.01", "--assay", "energy_forces")
    result = run(SHIFTED, "--data", data, *words, "--assay", "torsions", "--json")
    assert result.exit_code == 1
    document = json.loads(result.stdout)
    assert [failure["case"] for failure in document["failures"]] == ["s21", "s22", "s23"]
    assert {failure["kind"] for failure in document["failures"]} == {"too-long"}
    share = next(m for m in document["assays"][0]["metrics"] if "attempted" in m["title"])
    assert share["value"] == pytest.approx(21 / 24)
    assert document["folder"] is None
    torsions = document["assays"][1]
    assert (torsions["status"], torsions["metrics"]) == ("not-applicable", [])
    assert "reference engine" in torsions["reason"]


def test_units_are_converted_before_anything_is_compared(data, tmp_path):
    records = []
    for record in read_dataset(data):
        labels = Labels(record.labels.energy / KCAL, record.labels.forces / KCAL)
        records.append(Record(record.structure, labels, record.name, group=record.group))
    path = tmp_path / "kcal.xyz"
    write_dataset(Dataset(tuple(records), LEVEL), path)
    words = ("--energy-unit", "kcal/mol", "--set", "error_ev_per_angstrom=-0.5", "--json")
    result = run(SHIFTED, "--data", path, "-o", tmp_path / "out", *words)
    metrics = values(json.loads(result.stdout))
    assert metrics["force_mae", ""]["value"] == pytest.approx(0.5, rel=1e-7)
    assert metrics["energy_mae_per_atom", ""]["value"] < 1e-6
    assert read_dataset(tmp_path / "out" / "test.xyz.gz").level == LEVEL


@pytest.mark.parametrize(
    ("words", "kind", "message"),
    [
        (("gfn2_xt",), UnknownKey, "did you mean 'gfn2_xtb'"),
        (("none.karat",), BadInput, "no such potential"),
        ((SHIFTED, "--assay", "energy_force"), UnknownKey, "did you mean 'energy_forces'"),
        ((SHIFTED, "--set", "eror=1"), UnknownKey, "has no 'eror'"),
        ((SHIFTED, "--set", "error_ev_per_angstrom=x"), BadInput, "error_ev_per_angstrom"),
        ((SHIFTED, "--set", "cost.repeats=1"), BadInput, "Add --assay cost"),
        ((SHIFTED, "--set", "energy_forces.per_elemnt=1"), UnknownKey, "per_element"),
        ((SHIFTED, "--level", "PBE"), BadInput, "labelled with"),
        ((SHIFTED, "--energy-unit", "kcal"), UnknownKey, "kcal/mol"),
    ],
)
def test_bad_input_is_refused_before_any_work(words, kind, message, data, tmp_path):
    with pytest.raises(kind, match=message):
        run(*words, "--data", data, "-o", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_files_that_are_no_potentials_or_data(data, tmp_path):
    with pytest.raises(BadInput, match=r"is no \.karat file"):
        run(data, "--data", data)
    (tmp_path / "bad.karat").write_bytes(b"not a potential")
    with pytest.raises(BadInput, match="not a readable"):
        run(tmp_path / "bad.karat", "--data", data)
    with pytest.raises(BadInput, match="no such"):
        run(SHIFTED, "--data", tmp_path / "none.xyz")


def test_an_unknown_element_is_refused_before_any_work(tmp_path):
    helium = Structure(np.array([2, 2]), np.array([[0.0, 0, 0], [1.0, 0, 0]]))
    record = Record(helium, Labels(energy=0.0, forces=np.zeros((2, 3))))
    write_dataset(Dataset((record,), LEVEL), tmp_path / "he.xyz")
    with pytest.raises(UnknownElement, match="He"):
        run(SHIFTED, "--data", tmp_path / "he.xyz")


def test_levels_are_compared():
    unknown, pbe = LevelOfTheory("unknown"), LevelOfTheory("PBE")
    assert level_warnings(pbe, LevelOfTheory("pbe", program="x")) == []
    assert "name it with --level" in level_warnings(pbe, unknown)[0]
    assert "potential does not say" in level_warnings(None, pbe)[0]
    assert "two levels" in level_warnings(pbe, LevelOfTheory("PBE0"))[0]


def test_settings_go_to_the_potential_or_the_assay(data):
    options = {"error_ev_per_angstrom": 0.5, "energy_forces": {"per_element": False}}
    campaign = make_campaign(SHIFTED, data, LEVEL, "t", ["energy_forces"], options)
    assert campaign.contestants[0].potential.component.error_ev_per_angstrom == 0.5
    assert campaign.assays[0].assay.component.per_element is False


def test_rows_show_the_interval_or_why_there_is_none():
    one = Metric("force_mae", 0.12345678, "eV/Å", 0.1, 0.2, 9, "lower", title="Force MAE")
    assert row_of(one) == ("Force MAE", "0.1235", "eV/Å", "0.1 to 0.2", "9")
    other = Metric("n", 3.0, "", None, None, 3, "higher", "a count", subset="kind:600K")
    assert row_of(other) == ("n, 600K", "3", "", "a count", "3")

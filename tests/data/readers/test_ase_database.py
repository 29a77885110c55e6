"""ASE databases written by ASE, read without it."""

import json
import sqlite3

import ase
import numpy as np
import pytest
from ase.calculators.singlepoint import SinglePointCalculator
from ase.db import connect

from karat.core.errors import BadInput
from karat.data.files import read_dataset
from karat.data.read_options import ReadOptions
from karat.data.readers.catalogue import iterate

FORCES = np.array([[0.1, 0.2, 0.3], [-0.1, -0.2, -1 / 3]])
STRESS = np.array([0.01, 0.02, 0.03, 0.004, 0.005, 0.006])  # xx yy zz yz xz xy


def crystal():
    atoms = ase.Atoms(
        "SiGe", [[0, 0, 0], [1.4, 1.4, 1 / 3]], cell=[[4, 0, 0], [1, 5, 0], [0, 0, 6]]
    )
    atoms.pbc = [True, True, True]
    atoms.calc = SinglePointCalculator(atoms, energy=-10.5, forces=FORCES, stress=STRESS)
    return atoms


@pytest.fixture(params=["db", "json"])
def path(tmp_path, request):
    path = tmp_path / f"rows.{request.param}"
    with connect(path) as database:
        database.write(crystal(), config_type="bulk", dft=-3.5, data={"own": FORCES * 2})
        database.write(
            ase.Atoms("H", pbc=[True, False, False], cell=[3, 0, 0]), name="lonely", charge=1
        )
        database.write(crystal(), config_type="bulk")
    return path


def test_rows(path):
    first, second, third = iterate(path)
    atoms = crystal()
    np.testing.assert_array_equal(first.positions, atoms.positions)
    np.testing.assert_array_equal(first.cell, atoms.cell[:])
    np.testing.assert_array_equal(first.forces, FORCES)
    assert (first.energy, first.kind, first.group, third.frame) == (-10.5, "bulk", "rows", 1)
    xx, yy, zz, yz, xz, xy = STRESS
    np.testing.assert_array_equal(first.stress, [[xx, xy, xz], [xy, yy, yz], [xz, yz, zz]])
    assert (second.name, second.charge, second.energy) == ("lonely", 1, None)
    assert second.periodic.tolist() == [True, False, False]


def test_own_keys_need_units(path):
    with pytest.raises(BadInput, match="key 'dft': does not say its unit of energy"):
        list(iterate(path, ReadOptions(energy_key="dft")))
    entry = next(iter(iterate(path, ReadOptions("dft", "own", energy_unit="kcal/mol"))))
    assert entry.energy == pytest.approx(-3.5 * 0.0433641042418, rel=1e-12)
    np.testing.assert_allclose(entry.forces, FORCES * 2 * 0.0433641042418, rtol=1e-12)
    with pytest.raises(BadInput, match="no row has 'dftt'"):
        list(iterate(path, ReadOptions(energy_key="dftt", energy_unit="eV")))


def test_schnetpack_states_units(tmp_path):
    path = tmp_path / "md17.db"
    with connect(path) as database:
        database.metadata = {
            "_property_unit_dict": {"energy": "kcal/mol", "forces": "kcal/mol/Ang"},
            "_distance_unit": "Ang",
        }
        database.write(ase.Atoms("HF", np.eye(3)[:2]), data={"energy": [2.0], "forces": FORCES})
    record = read_dataset(path).records[0]
    assert record.labels.energy == pytest.approx(2 * 0.0433641042418, rel=1e-12)
    np.testing.assert_allclose(record.labels.forces, FORCES * 0.0433641042418, rtol=1e-12)


def test_read_only_and_untouched(path):
    before = path.read_bytes()
    path.chmod(0o444)
    assert len(list(iterate(path))) == 3
    assert path.read_bytes() == before
    assert sorted(item.name for item in path.parent.iterdir()) == [path.name]


@pytest.mark.parametrize(
    ("sql", "words"),
    [
        ("DROP TABLE systems", "no plain table 'systems'"),
        (
            "DROP TABLE systems; CREATE VIEW systems AS WITH RECURSIVE n(numbers) AS "
            "(SELECT 1 UNION ALL SELECT numbers FROM n) SELECT * FROM n",
            "no plain table 'systems'",
        ),
        (
            "DROP TABLE systems; CREATE TABLE systems (numbers BLOB, positions BLOB, pbc, "
            "cell BLOB GENERATED ALWAYS AS (zeroblob(900000000)))",
            "has no column 'cell'",
        ),
        ("UPDATE systems SET positions = x'00'", "an array of it has 1 bytes"),
        ("UPDATE systems SET forces = zeroblob(24)", "row 1: forces has shape .1, 3."),
        ("UPDATE systems SET pbc = 'x'", "pbc is no number"),
        ("UPDATE systems SET numbers = NULL", "row 1|its atoms"),
        ("UPDATE systems SET data = x'ffffffffffffff7f00'", "do not say where they begin"),
        ("UPDATE systems SET key_value_pairs = '{\"charge\": 0.5}'", "row 1: charge is 0.5"),
    ],
)
def test_broken_tables(tmp_path, sql, words):
    path = tmp_path / "a.db"
    with connect(path) as database:
        database.write(crystal())
    connection = sqlite3.connect(path)
    connection.executescript(sql)
    connection.close()
    with pytest.raises(BadInput, match=words):
        list(iterate(path))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda v: v.pop("ids"), "no list 'ids'"),
        (lambda v: v.update(ids=[1, 1]), "stands twice among the ids"),
        (lambda v: v["1"].pop("numbers"), "its atoms cannot be read"),
        (lambda v: v["1"].update(forces=[[1]]), "forces has shape"),
        (
            lambda v: v["1"].update(forces={"__ndarray__": [[10**12], "float64", []]}),
            "an array of it cannot be read",
        ),
        (
            lambda v: v["1"].update(forces={"__ndarray__": [[1], "object", [1]]}),
            "an array of it cannot be read",
        ),
    ],
)
def test_broken_json(tmp_path, change, words):
    path = tmp_path / "a.json"
    with connect(path) as database:
        database.write(crystal())
    values = json.loads(path.read_text())
    change(values)
    path.write_text(json.dumps(values))
    with pytest.raises(BadInput, match=words):
        list(iterate(path))

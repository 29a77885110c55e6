"""Recipes on the published files: counts, units and signs, by other routes than the recipes'."""

import csv
import gzip
import os
from pathlib import Path

import numpy as np
import pytest

from karat.core.errors import BadInput
from karat.data.collections.package import read_package, write_package
from karat.data.collections.recipe_book import RECIPES

BOOK = {recipe.manifest.name: recipe for recipe in RECIPES}
KCAL = 0.0433641  # eV
DATA = Path(os.environ.get("KARAT_DATA", Path(__file__).parents[4] / "shared" / "data"))


def folder_of(name):
    folders = {"pla15": "pla15_plf547", "plf547": "pla15_plf547"}
    folder = DATA / ("gscdb138" if name.startswith("gscdb138") else folders.get(name, name))
    if not folder.is_dir():
        pytest.skip(f"{folder} is not there: set KARAT_DATA to the folder of reference data")
    return folder


def table(name, file):
    with (folder_of(name) / file).open(newline="") as stream:
        return list(csv.DictReader(stream))


def test_names_are_unique():
    assert len(BOOK) == len(RECIPES)


def test_s66x8_is_its_table():
    found = BOOK["s66x8"].read(folder_of("s66x8"))
    rows = table("s66x8", "s66x8.csv")
    assert len(found.energies) == len(rows) == 264
    assert len({energy.group for energy in found.energies}) == 33
    by_place = {(int(e.group[:2]), e.coordinate): e for e in found.energies}
    for row in rows:
        energy = by_place[int(row["id"]), float(row["distance_factor"])]
        assert energy.reference == pytest.approx(float(row["E_int_kcal_2016"]) * KCAL, rel=1e-5)
    water = by_place[1, 1.0]
    assert water.kind == "hydrogen bond"
    sizes = sorted(len(found.structures[name]) for name in water.terms)
    assert sizes == [3, 3, 6]
    spread = np.mean([abs(float(r["E_int_kcal_2016"]) - float(r["E_int_kcal_2011"])) for r in rows])
    noise = BOOK["s66x8"].manifest.noise
    assert noise.value == pytest.approx(spread * KCAL, rel=0.01)


def test_conformers_are_relative_to_the_lowest():
    found = BOOK["conformers_hutchison"].read(folder_of("conformers_hutchison"))
    rows = table("conformers_hutchison", "conformers.csv")
    tabled = {
        f"{r['molecule']} {r['conformer']}": float(r["DLPNO_CCSDT_rel_kcal"]) * KCAL for r in rows
    }
    assert len(found.used) == len(rows) == 2555
    assert len(found.energies) == 2555 - 260
    for energy in found.energies:  # tabled to 1e-4 kcal/mol
        assert energy.reference == pytest.approx(tabled[energy.name], abs=1e-5)
        (base,) = [name for name, factor in energy.terms.items() if factor < 0]
        assert tabled[base] == 0.0


def test_torsions_are_relative_to_their_minimum():
    found = BOOK["torsions_openff59"].read(folder_of("torsions_openff59"))
    rows = table("torsions_openff59", "torsions.csv")
    tabled = {
        (f"torsion {r['torsion_id']}", float(r["angle_deg"])): float(r["E_rel_kcal_CCSDT"]) * KCAL
        for r in rows
    }
    assert len(found.energies) == len(rows) - 31
    for energy in found.energies:
        expected = tabled[energy.group, energy.coordinate]
        assert energy.reference == pytest.approx(expected, abs=1e-6)


def test_barriers_of_gscdb_and_bh28():
    found = BOOK["bh28"].read(folder_of("bh28"))
    energies = {energy.name: energy for energy in found.energies}
    assert len(energies) == 27  # of 28, one has not all of its reactants
    assert energies["PXBH_1"].reference == pytest.approx(202.6 / 96.48533, rel=1e-5)
    assert all(energy.reference > 0 for energy in energies.values())
    gscdb = BOOK["gscdb138_barriers"].read(folder_of("gscdb138"))
    rows = [r for r in table("gscdb138", "reactions.csv") if r["category"] == "barrier"]
    assert len(gscdb.energies) == len(rows) == 674
    assert sorted({energy.kind for energy in gscdb.energies}) == sorted({r["set"] for r in rows})


@pytest.mark.parametrize(
    ("name", "energies", "structures"),
    [
        ("pla15", 10, 30),
        ("s30l", 30, 90),
        ("wiggle150", 100, 102),
        ("gscdb138_conformers", 218, 250),
        ("gscdb138_isomers", 266, 448),
    ],
)
def test_others_have_what_their_files_have(name, energies, structures):
    found = BOOK[name].read(folder_of(name))
    assert (len(found.energies), len(found.used)) == (energies, structures)


def test_large_complexes_are_charged_and_bound():
    found = BOOK["pla15"].read(folder_of("pla15"))
    one = next(energy for energy in found.energies if energy.name == "2CET")
    assert one.reference == pytest.approx(-247.699 * KCAL, rel=1e-5)
    charges = {name: found.structures[name].charge for name in one.terms}
    assert charges == {"2CET": -1, "2CET A": -2, "2CET B": 1}


def test_diatomics_end_at_zero_and_leave_out_what_jumps():
    found = BOOK["diatomics_pbe"].read(folder_of("diatomics_pbe"))
    groups = {energy.group for energy in found.energies}
    assert len(groups) == 84
    assert not groups & {"Ho-Ho", "Er-Er", "Tm-Tm"}
    rows = {row["element"]: row for row in table("diatomics_pbe", "diatomics_pbe.csv")}
    for element in ("H", "C", "N", "O", "Si"):
        curve = [e for e in found.energies if e.group == f"{element}-{element}"]
        lowest = min(curve, key=lambda energy: energy.reference)
        depth = -float(rows[element]["E_rmax_minus_Emin_eV"])
        assert lowest.reference == pytest.approx(depth, abs=1e-4)
        assert lowest.coordinate == pytest.approx(float(rows[element]["r_of_minimum_A"]), abs=1e-3)


def test_a_package_of_published_files_comes_back(tmp_path):
    recipe = BOOK["wiggle150"]
    made = recipe.read(folder_of("wiggle150"))
    write_package(tmp_path / "p", recipe.manifest, made)
    _, again = read_package(tmp_path / "p")
    assert again.energies == made.energies


def test_files_of_another_layout_are_refused(tmp_path):
    with gzip.open(tmp_path / "wiggle150.xyz.gz", "wt") as stream:
        stream.write("1\nProperties=species:S:1:pos:R:3\nH 0 0 0\n")
    with pytest.raises(BadInput, match="not the layout that the recipe wiggle150 reads"):
        BOOK["wiggle150"].read(tmp_path)

"""The doctor on published sets: what their README lists, and what was verified by hand besides."""

import gzip
import re

import numpy as np
import pytest

from karat.data.doctor import check
from karat.data.read_options import ReadOptions
from karat.data.readers.catalogue import iterate
from karat.data.survey import survey
from karat.structures.labels import LevelOfTheory

OPTIONS = ReadOptions(level=LevelOfTheory("as published"))


@pytest.fixture
def look(published):
    """Findings by code of one set, or of train and test."""

    def find(*names):
        sets = [iterate(published(f"{name}.xyz.gz"), OPTIONS) for name in names]
        return {
            finding.code: finding
            for finding in reversed(check(*sets))
            if not finding.message.startswith("test: ")
        }

    return find


def text(path):
    return gzip.decompress(path.read_bytes()).decode()


def grave(findings):
    return {code for code, finding in findings.items() if finding.severity != "info"}


@pytest.mark.slow
def test_lithium_and_silicon_have_equivalent_strains(look):
    lithium = look("mlearn/Li_train", "mlearn/Li_test")
    assert "3 of 29" in lithium["equivalent-leakage"].message
    assert "15 of 241" in lithium["equivalent"].message
    assert grave(lithium) == {"equivalent-leakage"}
    silicon = look("mlearn/Si_train", "mlearn/Si_test")
    assert "equivalent" in silicon
    assert grave(silicon) == {"equivalent-leakage"}


@pytest.mark.slow
@pytest.mark.parametrize("element", ["Mo", "Cu", "Ni"])
def test_shear_stress_of_mlearn_stands_in_the_wrong_order(look, published, element):
    """Not in the README: yz and xz are exchanged in the strained cells of Mo, Cu and Ni.

    By hand: for a cell sheared by γ, σ must be C44 γ at that very component.
    """
    findings = look(f"mlearn/{element}_train")
    assert "put at xz, yz, xy" in findings["stress-order"].message
    assert grave(findings) - {"near-duplicates"} == {"stress-order"}
    sheared = 0
    for entry in iterate(published(f"mlearn/{element}_train.xyz.gz"), OPTIONS):
        if entry.kind != "Elastic" or entry.stress is None:
            continue
        edge = np.abs(entry.cell).max()
        off = np.abs(entry.cell - np.diag(np.diag(entry.cell))) / edge
        off = np.maximum(off, off.T)
        if off.max() < 0.02 or (off > 0.01).sum() != 2:
            continue
        where = np.unravel_index(off.argmax(), (3, 3))
        shear = np.abs(entry.stress - np.diag(np.diag(entry.stress)))
        swapped = {(0, 2): (1, 2), (1, 2): (0, 2), (0, 1): (0, 1)}[tuple(sorted(where))]
        assert tuple(sorted(np.unravel_index(shear.argmax(), (3, 3)))) == swapped
        sheared += 1
    assert sheared > 10


@pytest.mark.slow
def test_stress_of_the_mvl_sets_is_right(look):
    findings = look("mvl_snap/NiMo_elastic")
    assert grave(findings) == set()


@pytest.mark.slow
def test_mvl_nickel_repeats_mlearn_nickel(look):
    assert "155 of 295" in look("mlearn/Ni_train", "mvl_snap/NiMo_elastic")["leakage"].message


@pytest.mark.slow
def test_ethanol_sets_share_a_trajectory(look):
    findings = look("rmd17/ethanol_train", "ethanol/test_MD")
    assert "23 of 1000" in findings["equivalent-leakage"].message
    assert "neighbouring-frames" in findings


@pytest.mark.slow
def test_training_molecules_of_3bpa_stand_in_the_mixed_set(look):
    findings = look("3bpa/train_300K", "3bpa/train_mixedT")
    assert "31 of 500" in findings["leakage"].message


@pytest.mark.parametrize("name", ["acac/{}_300K", "rmd17/uracil_{}"])
def test_frames_of_one_trajectory_and_large_totals(look, name):
    test = "test_MD" if "acac" in name else "test"
    findings = look(name.format("train"), name.format(test))
    assert "as frames of one trajectory do" in findings["same-system"].message
    assert "32-bit floats" in findings["large-totals"].message


@pytest.mark.parametrize(
    "molecule",
    [
        "malonaldehyde",
        *(pytest.param(m, marks=pytest.mark.slow) for m in ("aspirin", "azobenzene", "toluene")),
    ],
)
def test_neighbours_found_by_geometry_are_neighbours_in_time(look, published, molecule):
    """rMD17 states each frame's number in MD17, which the doctor does not see."""
    files = [published(f"rmd17/{molecule}_{part}.xyz.gz") for part in ("train", "test")]
    train, test = (np.array(re.findall(r"md17_index=(\d+)", text(file)), int) for file in files)
    finding = look(f"rmd17/{molecule}_train", f"rmd17/{molecule}_test")["neighbouring-frames"]
    rows = [int(name.split(":")[1]) for name in finding.offenders]
    assert max(np.abs(train - test[row]).min() for row in rows) <= 3


@pytest.mark.slow
def test_water(look):
    findings = look("water_deepmd/liquid_water_64", "water_deepmd/liquid_water_64_test")
    assert {"float32-energies", "net-force", "one-cell", "no-stress"} <= set(findings)
    # four test frames are 0.01 to 0.05 Å from a training frame, all others beyond 0.1 Å
    assert "4 of 80" in findings["neighbouring-frames"].message
    assert "float32-energies" in look("water_deepmd/liquid_water_128_dplr")


def test_level_of_the_large_water_cells_is_unknown(published):
    entries = iterate(published("water_deepmd/liquid_water_128_dplr.xyz.gz"))
    assert "unknown-level" in {finding.code for finding in check(entries)}


def test_malonaldehyde_has_relative_energies_and_no_forces(look):
    findings = look("qm22/malonaldehyde_test")
    assert "relative-energies" in findings
    assert "forces" not in findings["summary"].message


@pytest.mark.slow
def test_tropolone_has_an_optimum_with_zero_forces_and_duplicates(look):
    assert look("qm22/tropolone_test")["zero-forces"].offenders == ("tropolone_test:532",)
    assert look("qm22/tropolone_train")["duplicates"].offenders == ("tropolone_train:518",)


@pytest.mark.slow
def test_diatomics(look):
    findings = look("diatomics_pbe/diatomics_pbe")
    jumps = findings["energy-jumps"].message
    for pair in ("Ho2", "Er2", "Tm2", "Pr2", "Dy2", "Pm2", "Tb2", "Sm2"):
        assert pair in jumps
    # not in the README: failed points at the inner end of four curves, energy and forces zero
    assert len(findings["zero-energy"].offenders) == 4
    assert {"large-forces", "overlapping-atoms"} <= set(findings)
    assert "force-unit" not in findings


def test_s24_is_not_at_rest(look):
    findings = look("s24/s24")
    assert "6.7 eV/Å" in findings["residual-forces"].message


def test_capping_hydrogens_of_pla15(look, published):
    finding = look("pla15_plf547/pla15")["overlapping-atoms"]
    assert "0.578 Å" in finding.message
    labels = re.findall(r"label=(\w+)", text(published("pla15_plf547/pla15.xyz.gz")))
    found = {labels[int(name.split(":")[1])] for name in finding.offenders}
    assert found == {"2P4Y", "2ZX6", "3G0W", "3NOX", "3PE2"}


SLOW = ("acac/train_600K", "ethanol/train_eth_meth", "rmd17/naphthalene_train")
SLOW += ("water_dimers/dimers_far_mp2_avtz", "wbm_equilibrium/wbm")


@pytest.mark.parametrize(
    "name",
    [
        *("s66x8/s66x8", "wiggle150/wiggle150", "ethanol/test_norm_mode_3005"),
        *(pytest.param(name, marks=pytest.mark.slow) for name in SLOW),
    ],
)
def test_nothing_of_weight_elsewhere(look, name):
    assert grave(look(name)) == set()


@pytest.mark.parametrize("name", ["conformers/water27", "eos_delta71/delta71", "x23/x23"])
def test_files_without_labels_are_checked_and_said_to_have_none(look, name):
    assert grave(look(name)) - {"duplicates"} == {"no-labels"}


@pytest.mark.slow
def test_isolated_atoms_are_known(published):
    entries = [
        entry
        for name in ("train_300K", "isolated_atoms")
        for entry in iterate(published(f"acac/{name}.xyz.gz"), OPTIONS)
    ]
    codes = {finding.code for finding in check(entries)}
    assert not codes & {"no-isolated-atoms", "unbound", "atomisation-energies", "isolated-atoms"}
    assert len(survey(entries)) == 503

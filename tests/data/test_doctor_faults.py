"""Sets spoilt on purpose, one fault each: the intended check finds it and names the culprits; the
clean sets they were made from give neither warning nor error."""

import dataclasses
from functools import cache

import numpy as np
import pytest
from doctor_example import atoms, change, crystals, every, molecule_labels, molecules

from karat.core.units import BOHR, GPA, HARTREE, KCAL_PER_MOL, KJ_PER_MOL
from karat.data.checks.units import all_electron_totals
from karat.data.doctor import check
from karat.structures.labels import LevelOfTheory

GENERATOR = np.random.default_rng(7)
TURN = np.linalg.qr(np.random.default_rng(5).normal(size=(3, 3)))[0]


def named(entries, rows):
    return {entries[row].name for row in rows}


def found(*sets):
    return {finding.code: finding for finding in check(*sets)}


@cache
def clean(base):
    """Codes that the clean set has."""
    return set(found(base()))


def scaled(energy=1.0, forces=1.0, length=1.0, stress=1.0):
    """All of a set in other units: what was 1 is written as so much."""

    def make(entry):
        changed = {"positions": entry.positions * length, "cell": entry.cell * length}
        if entry.energy is not None:
            changed["energy"] = entry.energy * energy
        if entry.forces is not None:
            changed["forces"] = entry.forces * forces
        if entry.stress is not None:
            changed["stress"] = entry.stress * stress
        return changed

    return lambda entries: every(entries, make)


def one(rows, make):
    return lambda entries: change(entries, rows, make)


def relabelled(entry, positions):
    energy, forces = molecule_labels(positions)
    return {"positions": positions, "energy": float(energy), "forces": forces}


def overlap(entry):
    positions = entry.positions.copy()
    positions[5] = positions[6] + [0.2, 0, 0]
    return {"positions": positions}


def copies(pairs, make):
    """Row `to` becomes what `make` makes of row `source`."""

    def spoil(entries):
        result = list(entries)
        for source, to in pairs:
            result[to] = dataclasses.replace(
                entries[source], name=entries[to].name, frame=entries[to].frame
            )
        return change(result, [to for _, to in pairs], make)

    return spoil


def shuffled(name):
    def spoil(entries):
        order = np.random.default_rng(3).permutation(len(entries))
        values = [getattr(entries[i], name) for i in order]
        return [dataclasses.replace(e, **{name: v}) for e, v in zip(entries, values)]

    return spoil


def rolled(entry):
    return {"forces": np.roll(entry.forces, 1, axis=0)}


def voigt(order):
    """Shear components of the stress in another order."""

    def make(entry):
        yz, xz, xy = (entry.stress[(1, 0, 0)[k], (2, 2, 1)[k]] for k in order)
        diagonal = np.diag(entry.stress)
        stress = np.array([[0, xy, xz], [xy, 0, yz], [xz, yz, 0]]) + np.diag(diagonal)
        return {"stress": stress}

    return make


def frozen(entry):
    forces = entry.forces.copy()
    forces[:2] = 0.0
    return {"forces": forces}


def totals_of_atoms(entry):
    return {"energy": 2 * -1027.0 - 2037.0 + 6 * -13.6}


def without_labels(entry):
    return {"energy": None, "forces": None}


def swapped_elements(entry):
    numbers = entry.numbers.copy()
    numbers[[0, 8]] = numbers[[8, 0]]
    return {"numbers": numbers}


def shrunk(entry):
    return {"cell": entry.cell * 0.7, "positions": entry.positions * 0.7}


SOME = (3, 17, 33)
MOLECULE = [
    ("not-finite", "error", one(SOME, lambda e: {"energy": float("nan")}), SOME),
    ("not-finite", "error", one(SOME, lambda e: {"forces": e.forces * np.inf}), SOME),
    ("bad-geometry", "error", one(SOME, lambda e: {"positions": e.positions * np.nan}), SOME),
    ("bad-geometry", "error", one(SOME, lambda e: {"numbers": e.numbers * 100}), SOME),
    ("absurd-values", "error", one(SOME, lambda e: {"forces": e.forces * 1e6}), SOME),
    ("missing-forces", "warning", one(SOME, lambda e: {"forces": None}), SOME),
    ("no-labels", "error", one(SOME, without_labels), SOME),
    ("no-labels", "warning", lambda entries: every(entries, without_labels), ()),
    ("unknown-level", "warning", lambda entries: every(entries, lambda e: {"level": None}), ()),
    ("mixed-levels", "error", one(SOME, lambda e: {"level": LevelOfTheory("HF")}), SOME),
    (
        "mixed-references",
        "error",
        one(range(0, 80, 3), lambda e: {"energy": e.energy + 9.0}),
        range(0, 30, 3),
    ),
    ("energy-outliers", "warning", one(SOME, lambda e: {"energy": e.energy + 50.0}), SOME),
    ("duplicates", "warning", copies([(2, 4)], lambda e: {}), (4,)),
    (
        "contradicting-labels",
        "error",
        copies([(2, 4)], lambda e: {"energy": e.energy + 0.1}),
        (4,),
    ),
    (
        "equivalent",
        "info",
        copies(
            [(2, 4)],
            lambda e: {"positions": e.positions * [1, 1, -1], "forces": e.forces * [1, 1, -1]},
        ),
        (4,),
    ),
    (
        "near-duplicates",
        "warning",
        copies(
            [(2, 4), (9, 11)],
            lambda e: relabelled(e, e.positions + np.random.default_rng(1).normal(0, 5e-4, (9, 3))),
        ),
        (4, 11),
    ),
    (
        "near-duplicates",
        "warning",
        copies(
            [(2, 4)],
            lambda e: {
                "positions": np.round(e.positions[::-1] @ TURN, 4),
                "forces": e.forces[::-1] @ TURN + 1e-4,
                "numbers": e.numbers[::-1].copy(),
            },
        ),
        (4,),
    ),
    ("energy-unit", "error", scaled(energy=1 / KCAL_PER_MOL, forces=1 / KCAL_PER_MOL), ()),
    ("force-unit", "error", scaled(energy=1 / KCAL_PER_MOL, forces=1 / KCAL_PER_MOL), ()),
    ("energy-unit", "error", scaled(energy=1 / KJ_PER_MOL, forces=1 / KJ_PER_MOL), ()),
    ("energy-unit", "error", scaled(energy=1e3, forces=1e3), ()),
    ("energy-unit", "error", scaled(energy=1 / HARTREE, forces=BOHR / HARTREE), ()),
    ("energy-force-units", "error", scaled(energy=1 / KCAL_PER_MOL), ()),
    ("energy-force-units", "error", scaled(energy=1 / HARTREE), ()),
    ("energy-force-units", "error", scaled(forces=BOHR / HARTREE), ()),
    ("energy-force-units", "error", scaled(forces=1e3), ()),
    ("energy-force-units", "error", scaled(forces=1 / KJ_PER_MOL), ()),
    ("length-unit", "error", scaled(length=1 / BOHR), ()),
    ("length-unit", "error", scaled(length=0.1), ()),
    ("length-unit", "error", scaled(length=BOHR), ()),
    ("forces-sign", "error", scaled(forces=-1.0), ()),
    ("energy-sign", "error", scaled(energy=-1.0), ()),
    ("forces-unrelated", "error", lambda entries: every(entries, rolled), ()),
    ("forces-unrelated", "error", shuffled("forces"), ()),
    ("energies-unrelated", "error", shuffled("energy"), ()),
    ("forces-not-gradient", "error", scaled(forces=3.2), ()),
    ("net-force", "warning", one(SOME, lambda e: {"forces": e.forces + 0.1}), SOME),
    ("net-torque", "warning", one(SOME, lambda e: {"forces": e.forces @ TURN}), SOME),
    ("net-torque", "error", lambda entries: every(entries, rolled), ()),
    ("large-forces", "warning", one(SOME, lambda e: {"forces": e.forces * 200}), SOME),
    ("overlapping-atoms", "warning", one(SOME, overlap), SOME),
    ("element-order", "error", one(SOME, swapped_elements), SOME),
    ("electrons", "error", one(SOME, lambda e: {"multiplicity": 2}), SOME),
    ("zero-forces", "error", one(SOME, lambda e: {"forces": e.forces * 0}), SOME),
    ("zero-energy", "error", one(SOME, lambda e: {"energy": 0.0}), SOME),
    ("constant-energy", "error", lambda entries: every(entries, lambda e: {"energy": -1.0}), ()),
    ("frozen-atoms", "warning", one(SOME, frozen), SOME),
    (
        "relative-energies",
        "warning",
        lambda entries: every(entries, lambda e: {"energy": e.energy + 4213.0}),
        (),
    ),
    (
        "float32-energies",
        "warning",
        lambda entries: every(entries, lambda e: {"energy": float(np.float32(e.energy * 10))}),
        (),
    ),
    (
        "atoms-as-totals",
        "error",
        lambda entries: change(entries, SOME, totals_of_atoms) + atoms(),
        SOME,
    ),
    (
        "atomisation-energies",
        "error",
        lambda entries: every(entries, lambda e: {"energy": e.energy + 4172.6 - 35}) + atoms(),
        (),
    ),
    (
        "isolated-atoms",
        "warning",
        lambda entries: entries + atoms() + every(atoms([8]), lambda e: {"energy": -2030.0}),
        (),
    ),
    (
        "outside-cell",
        "info",
        lambda entries: every(entries, lambda e: {"cell": np.diag([12.0, 12.0, 12.0])}),
        (),
    ),
]

CRYSTAL = [
    ("bad-geometry", "error", one(SOME, lambda e: {"cell": e.cell[[0, 0, 2]]}), SOME),
    ("missing-stress", "warning", one(SOME, lambda e: {"stress": None}), SOME),
    ("no-stress", "info", lambda entries: every(entries, lambda e: {"stress": None}), ()),
    ("stress-sign", "error", scaled(stress=-1.0), ()),
    ("stress-unit", "error", scaled(stress=1 / GPA), ()),
    ("stress-unit", "error", scaled(stress=-10 / GPA), ()),
    (
        "stress-size",
        "error",
        lambda entries: scaled(stress=-10 / GPA)(entries[::2]),
        (),
    ),
    (
        "stress-unit",
        "error",
        lambda entries: every(
            entries, lambda e: {"stress": -e.stress * abs(np.linalg.det(e.cell))}
        ),
        (),
    ),
    ("stress-order", "error", lambda entries: every(entries, voigt((1, 0, 2))), ()),
    ("stress-order", "error", lambda entries: every(entries, voigt((2, 0, 1))), ()),
    (
        "asymmetric-stress",
        "error",
        one(SOME, lambda e: {"stress": e.stress + np.triu(np.full((3, 3), 0.01), 1)}),
        SOME,
    ),
    ("left-handed-cell", "info", one(SOME, lambda e: {"cell": -e.cell}), SOME),
    (
        "periodic-flags",
        "error",
        one(range(40), lambda e: {"periodic": np.zeros(3, bool)}),
        (),
    ),
    (
        "mixed-periodicity",
        "warning",
        one(SOME, lambda e: {"periodic": np.array([True, True, False])}),
        SOME,
    ),
    ("too-dense", "warning", one(SOME, shrunk), SOME),
    ("length-unit", "error", scaled(length=1 / BOHR), ()),
    ("length-unit", "error", scaled(length=0.1), ()),
    ("forces-sign", "error", scaled(forces=-1.0), ()),
    ("energy-force-units", "error", scaled(energy=1 / KCAL_PER_MOL), ()),
    ("energy-force-units", "error", scaled(forces=BOHR / HARTREE), ()),
    ("forces-unrelated", "error", lambda entries: every(entries, rolled), ()),
    ("energies-unrelated", "error", shuffled("energy"), ()),
    ("force-unit", "error", scaled(energy=1 / KJ_PER_MOL, forces=1 / KJ_PER_MOL), ()),
    ("copied-forces", "error", one((5,), lambda e: {"forces": crystals()[8].forces}), (8,)),
    ("one-cell", "info", lambda entries: entries[::2], ()),
]


@pytest.mark.parametrize(
    ("base", "code", "severity", "spoil", "rows"),
    [(molecules, *case) for case in MOLECULE] + [(crystals, *case) for case in CRYSTAL],
    ids=lambda value: value if isinstance(value, str) else None,
)
def test_planted_faults_are_found_and_named(base, code, severity, spoil, rows):
    entries = base()
    findings = found(spoil(entries))
    assert code in findings, sorted(findings)
    finding = findings[code]
    assert finding.severity == severity
    if rows:
        assert set(finding.offenders) == named(entries, rows)
    if severity != "info":
        assert code not in clean(base)


def test_there_are_many_kinds():
    kinds = {code for code, *_ in MOLECULE + CRYSTAL}
    assert len(kinds) >= 40
    assert len(MOLECULE + CRYSTAL) >= 70


@pytest.mark.parametrize(
    "entries",
    [
        molecules(),
        molecules(seed=1, every=1, name="dense"),
        molecules() + atoms(),
        crystals(),
        crystals(seed=2)[::2],
        molecules(seed=3) + crystals(seed=3),
    ],
    ids=["molecule", "half-femtosecond steps", "with atoms", "crystal", "one cell", "both"],
)
def test_clean_sets_have_no_complaint(entries):
    findings = check(entries)
    assert {f.severity for f in findings} == {"info"}, [f for f in findings if f.severity != "info"]


def test_single_jumps_are_blamed_on_the_right_frames():
    entries = molecules(every=2, name="dense")
    spoilt = change(entries, SOME, lambda e: {"energy": e.energy + 0.8})
    finding = found(spoilt)["energy-jumps"]
    assert (finding.severity, set(finding.offenders)) == ("error", named(entries, SOME))
    assert {f.severity for f in check(entries)} == {"info"}


@pytest.mark.parametrize(
    ("unit", "spoil"),
    [
        ("kcal/mol", scaled(energy=1 / KCAL_PER_MOL)),
        ("hartree", scaled(energy=1 / HARTREE)),
        ("hartree/bohr", scaled(forces=BOHR / HARTREE)),
        ("meV/Å", scaled(forces=1e3)),
        ("kJ/mol/Å", scaled(forces=1 / KJ_PER_MOL)),
    ],
)
def test_the_unit_that_fits_is_named(unit, spoil):
    assert unit in found(spoil(molecules()))["energy-force-units"].message


def test_stress_messages_name_unit_sign_and_order():
    entries = crystals()
    assert "GPa" in found(scaled(stress=1 / GPA)(entries))["stress-unit"].message
    vasp = found(scaled(stress=-10 / GPA)(entries))["stress-unit"].message
    assert "kbar" in vasp
    assert "sign turned" in vasp
    order = found(every(entries, voigt((1, 0, 2))))["stress-order"].message
    assert "put at xz, yz, xy" in order


def test_worst_come_first():
    entries = change(molecules(), [3], lambda e: {"forces": e.forces * 200})
    entries = change(entries, [9], lambda e: {"forces": e.forces * 900})
    assert found(entries)["large-forces"].offenders == ("run:9", "run:3")


def test_all_electron_totals():
    """Hartree-Fock limits of Bunge et al., At. Data Nucl. Data Tables 53, 113 (1993), hartree."""
    limits = {3: -7.4327, 6: -37.6886, 8: -74.8094, 14: -288.8544, 26: -1262.4437, 36: -2752.0550}
    totals = all_electron_totals() / HARTREE
    for number, energy in limits.items():
        assert totals[number] == pytest.approx(energy, rel=0.04)


def test_order_of_entries_does_not_matter_for_whole_sets():
    """Frames in random order are paired by their geometry."""
    order = np.random.default_rng(0).permutation(200)
    frames = molecules(frames=200, seed=4)
    entries = [frames[i] for i in order]
    assert {f.severity for f in check(entries)} == {"info"}
    assert "forces-sign" in found(scaled(forces=-1.0)(entries))
    assert "energies-unrelated" in found(shuffled("energy")(entries))

"""Any ASE calculator: exact dimers, objects from plain data, failures, Quantum ESPRESSO."""

import json
import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from ase import units
from ase.build import bulk

from karat.core.components import parse
from karat.core.errors import (
    BadInput,
    CalculationFailed,
    MissingDependency,
    UnsuitableStructure,
)
from karat.reference.ase_engine import AseCalculator
from karat.reference.conformance import CHECKS, EngineCase
from karat.structures.structure import Structure

HERE = Path(__file__).parent
PSEUDOS = Path("/usr/share/espresso/pseudo")


def copper():
    atoms = bulk("Cu", cubic=True)
    atoms.rattle(0.05, seed=1)
    return Structure.from_ase(atoms)


def pair(distance, **more):
    return Structure(np.array([18, 18]), np.array([[0.0, 0, 0], [distance, 0, 0]]), **more)


EMT = AseCalculator("ase.calculators.emt:EMT", "EMT")
LENNARD_JONES = AseCalculator(
    "ase.calculators.lj.LennardJones",
    "Lennard-Jones",
    {"epsilon": 0.01, "sigma": 3.4, "rc": 100.0, "ro": 99.0, "smooth": True},
)


@pytest.mark.parametrize("check", CHECKS)
@pytest.mark.parametrize("reuse", [False, True])
def test_conformance(reuse, check, tmp_path):
    engine = AseCalculator("ase.calculators.emt:EMT", "EMT", reuse=reuse)
    # analytic: differences leave 1e-5 eV/Å of truncation at h = 1e-3 Å
    charged = copper().replace(charge=1)
    case = EngineCase(engine, copper(), charged, force_tolerance=5e-5, stress_tolerance=5e-6)
    CHECKS[check](case, tmp_path)


def test_lennard_jones_dimer_is_exact():
    labels = LENNARD_JONES.compute(pair(4.0), ("energy", "forces"))
    power = (3.4 / 4.0) ** 6
    assert labels.energy == pytest.approx(4 * 0.01 * (power**2 - power), abs=1e-12)
    force = 24 * 0.01 * (2 * power**2 - power) / 4.0
    np.testing.assert_allclose(labels.forces, [[-force, 0, 0], [force, 0, 0]], atol=1e-12)


def test_arguments_may_hold_objects_as_plain_data():
    engine = AseCalculator(
        "ase.calculators.mixing:SumCalculator",
        "twice Lennard-Jones",
        {
            "calcs": [
                {"class": LENNARD_JONES.calculator, "arguments": dict(LENNARD_JONES.arguments)}
            ]
            * 2
        },
    )
    once = LENNARD_JONES.compute(pair(4.0), ("energy",)).energy
    assert engine.compute(pair(4.0), ("energy",)).energy == pytest.approx(2 * once, abs=1e-12)


@pytest.mark.parametrize(
    ("calculator", "arguments", "error", "words"),
    [
        ("ase.calculators.emt:EMTT", {}, BadInput, "no class 'ase.calculators.emt:EMTT'"),
        ("EMT", {}, BadInput, "package.module:Class"),
        ("nowhere.at_all:EMT", {}, MissingDependency, "'nowhere'"),
        (
            "ase.calculators.espresso:Espresso",
            {
                "profile": {
                    "class": "ase.calculators.espresso:EspressoProfile",
                    "arguments": {"bogus": 1},
                }
            },
            BadInput,
            "bogus",
        ),
        ("ase.atoms:Atoms", {}, BadInput, "cannot be made"),
        (
            "ase.calculators.espresso:Espresso",
            {
                "profile": {
                    "class": "ase.calculators.espresso:EspressoProfile",
                    "arguments": {"command": "no-such-pw.x", "pseudo_dir": "/"},
                }
            },
            MissingDependency,
            "'no-such-pw.x', which is not on PATH",
        ),
    ],
)
def test_refuses_before_work(calculator, arguments, error, words):
    with pytest.raises(error, match=words):
        AseCalculator(calculator, "x", arguments).check(copper(), ("energy",))


def test_method_cannot_be_guessed():
    with pytest.raises(BadInput, match="engine.method"):
        parse(AseCalculator, {"calculator": "ase.calculators.emt:EMT"}, "engine")


def test_charge_and_multiplicity_need_an_argument():
    with pytest.raises(UnsuitableStructure, match="charge_argument"):
        EMT.check(copper().replace(charge=-1), ("energy",))
    with pytest.raises(UnsuitableStructure, match="multiplicity_argument"):
        LENNARD_JONES.check(pair(4.0, multiplicity=3), ("energy",))


@pytest.fixture
def recording(monkeypatch, tmp_path):
    """An engine around a calculator that says what it was given, or fails as told."""
    (tmp_path / "recording_calculator.py").write_text(
        """
import os, subprocess
from pathlib import Path
from ase.calculators.calculator import Calculator, all_changes

class Recording(Calculator):
    implemented_properties = ["energy", "free_energy", "forces"]

    def __init__(self, fail="", settings=None, spin=0):
        super().__init__()
        self.fail, self.settings, self.spin = fail, settings or {}, spin

    def calculate(self, atoms=None, properties=(), system_changes=all_changes):
        super().calculate(atoms, properties, system_changes)
        print("noise")
        Path("here.txt").write_text(os.getcwd())
        if self.fail == "scf":
            Path("program.log").write_text("convergence NOT achieved after 3 iterations")
            raise RuntimeError("no energy")
        if self.fail == "dead":
            Path("program.err").write_text("something odd happened")
            subprocess.run(["false"], check=True)
        if self.fail == "nan":
            self.results = {"energy": float("nan"), "free_energy": float("nan")}
            return
        self.results = {
            "energy": 1.0,
            "free_energy": self.settings.get("system", {}).get("charge", 0) + 10.0 * self.spin,
        }
"""
    )
    monkeypatch.syspath_prepend(tmp_path)

    def make(arguments=None, **more):
        return AseCalculator("recording_calculator:Recording", "none", arguments or {}, **more)

    return make


def test_charge_and_multiplicity_reach_their_arguments(recording):
    engine = recording(
        {"settings": {"system": {"other": 1}}},
        charge_argument="settings.system.charge",
        multiplicity_argument="spin",
    )
    labels = engine.compute(pair(4.0, charge=-1, multiplicity=4), ("energy",))
    assert labels.energy == -1.0 + 40.0  # the free energy, of which forces are the gradient
    assert engine.arguments == {"settings": {"system": {"other": 1}}}  # left alone


def test_runs_inside_its_folder_and_keeps_what_is_printed(recording, tmp_path, capsys):
    folder = tmp_path / "one"
    folder.mkdir()
    before = Path.cwd()
    engine = recording()
    engine.prepare(pair(4.0), ("energy",), folder)
    engine.run(folder)
    assert engine.parse(folder).energy == 0.0
    assert (folder / "here.txt").read_text() == str(folder)
    assert "noise" in (folder / "output.txt").read_text()
    assert capsys.readouterr().out == ""
    assert Path.cwd() == before


@pytest.mark.parametrize(
    ("fail", "kind", "words"),
    [
        ("scf", "not-converged", "no energy"),
        ("dead", "dead-process", "something odd happened"),
        ("nan", "not-finite", "NaN"),
    ],
)
def test_failures_have_their_kind(recording, fail, kind, words):
    with pytest.raises(CalculationFailed, match=words) as caught:
        recording({"fail": fail}).compute(pair(4.0), ("energy",))
    assert caught.value.kind == kind


def test_a_calculator_that_does_not_deliver_is_a_failure(recording):
    with pytest.raises(CalculationFailed):  # forces are promised, and not in its results
        recording().compute(pair(4.0), ("energy", "forces"))


def test_parse_notices_what_is_missing(tmp_path):
    EMT.prepare(copper(), ("energy", "forces"), tmp_path)
    for content in ({"energy": 1.0}, {"energy": 1.0, "forces": [[0, 0, 0]]}, {"forces": 3}):
        (tmp_path / "output.json").write_text(json.dumps(content))
        with pytest.raises(CalculationFailed) as caught:
            EMT.parse(tmp_path)
        assert caught.value.kind == "no-output"


def espresso(**electrons):
    return AseCalculator(
        "ase.calculators.espresso:Espresso",
        "PBE",
        {
            "profile": {
                "class": "ase.calculators.espresso:EspressoProfile",
                "arguments": {"command": "pw.x", "pseudo_dir": str(PSEUDOS)},
            },
            "pseudopotentials": {"Si": "Si.pbe-rrkj.UPF"},
            "kpts": [2, 2, 2],
            "input_data": {
                "control": {"tprnfor": True, "tstress": True},
                "system": {"ecutwfc": 20.0},
                "electrons": {"conv_thr": 1e-9} | electrons,
            },
        },
        basis="plane waves 20 Ry",
    )


def silicon():
    atoms = bulk("Si")
    atoms.rattle(0.05, seed=1)
    return Structure.from_ase(atoms)


needs_espresso = pytest.mark.skipif(
    shutil.which("pw.x") is None or not (PSEUDOS / "Si.pbe-rrkj.UPF").exists(),
    reason="Quantum ESPRESSO is not installed (pw.x and its Si pseudopotential): "
    "apt-get install quantum-espresso",
)


@needs_espresso
@pytest.mark.parametrize("check", ["forces", "steps", "bits"])
def test_quantum_espresso_for_a_crystal(check, tmp_path):
    # conv_thr 1e-9 Ry: forces to about 1e-3 eV/Å, differences with h = 0.01 Å to 5e-3
    case = EngineCase(espresso(), silicon(), force_tolerance=1e-2, step=0.01, components=2)
    CHECKS[check](case, tmp_path)


INPUT = """&control
 calculation='scf', pseudo_dir='{pseudos}', outdir='.', tprnfor=.true.
/
&system
 ibrav=0, nat=2, ntyp=1, ecutwfc=20.0
/
&electrons
 conv_thr=1e-9
/
ATOMIC_SPECIES
Si 28.0855 Si.pbe-rrkj.UPF
K_POINTS automatic
2 2 2 0 0 0
CELL_PARAMETERS angstrom
{cell}
ATOMIC_POSITIONS angstrom
{positions}
"""


@needs_espresso
def test_quantum_espresso_equals_a_run_by_hand(tmp_path):
    structure = silicon()
    rows = ["{!r} {!r} {!r}".format(*map(float, row)) for row in structure.cell]
    atoms = ["Si {!r} {!r} {!r}".format(*map(float, row)) for row in structure.positions]
    text = INPUT.format(pseudos=PSEUDOS, cell="\n".join(rows), positions="\n".join(atoms))
    (tmp_path / "in").write_text(text)
    command = ["pw.x", "-in", "in"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    (energy,) = re.findall(r"^! +total energy += +(\S+) Ry", done.stdout, re.MULTILINE)
    forces = re.findall(r"^ +atom +\d+ type +1 +force = +(.*)$", done.stdout, re.MULTILINE)
    labels = espresso().compute(structure, ("energy", "forces"))
    # ASE reads with constants of 2006: 1e-7 off; forces are printed with eight decimals
    assert labels.energy == pytest.approx(float(energy) * units.Rydberg, rel=2e-7)
    by_hand = np.array([line.split() for line in forces[:2]], dtype=float)
    by_hand *= units.Rydberg / units.Bohr
    np.testing.assert_allclose(labels.forces, by_hand, rtol=0, atol=1e-5)


@needs_espresso
def test_quantum_espresso_failures():
    with pytest.raises(CalculationFailed) as caught:
        espresso(electron_maxstep=2).compute(silicon(), ("energy",))
    assert caught.value.kind == "not-converged"


def test_gpaw_for_a_crystal():
    pytest.importorskip("gpaw", reason="GPAW is not installed: pip install gpaw")
    engine = AseCalculator(
        "gpaw:GPAW",
        "PBE",
        {"mode": {"name": "pw", "ecut": 300}, "xc": "PBE", "kpts": [2, 2, 2], "txt": "gpaw.txt"},
    )
    labels = engine.compute(silicon(), ("energy", "forces"))
    assert labels.finite()
    np.testing.assert_allclose(labels.forces.sum(axis=0), 0.0, atol=0.05)

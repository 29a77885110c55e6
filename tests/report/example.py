"""A realistic output folder of a campaign, built from `Result` objects; used by the tests."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from karat.results.figure import Figure, Series
from karat.results.metric import Failure, Metric
from karat.results.provenance import Provenance
from karat.results.result import Result
from karat.structures.labels import LevelOfTheory

REFERENCE = LevelOfTheory("GFN2-xTB", program="tblite 0.8.0", settings={"accuracy": "0.1"})
CLASSICAL = LevelOfTheory("MMFF94s", program="rdkit 2026.9.1")
OTHER = LevelOfTheory("GFN1-xTB", program="tblite 0.8.0")
CASES = 60
NUMBERS = [6, 6, 8, 1, 1, 1, 1, 1, 1]
ETHANOL = [
    [1.168, -0.404, 0.0], [0.0, 0.556, 0.0], [-1.190, -0.215, 0.0], [-1.946, 0.381, 0.0],
    [0.043, 1.206, 0.888], [0.043, 1.206, -0.888], [2.115, 0.145, 0.0], [1.128, -1.038, 0.887],
    [1.128, -1.038, -0.887],
]  # fmt: skip
BONDS = [[0, 1], [1, 2], [2, 3], [1, 4], [1, 5], [0, 6], [0, 7], [0, 8]]


@dataclass(frozen=True)
class Player:
    """Made-up errors of one contestant: force MAE in eV/Å, the rest follows from it."""

    name: str
    level: LevelOfTheory | None
    force: float
    seconds: float
    labels: int = 0
    reference: bool = False
    conservative: bool = True


PLAYERS = (
    Player("bpnn-50", REFERENCE, 0.31, 9e-4, labels=50, conservative=False),
    Player("bpnn-100", REFERENCE, 0.16, 9e-4, labels=100),
    Player("bpnn-200", REFERENCE, 0.075, 9e-4, labels=200),
    Player("mmff94s", CLASSICAL, 0.42, 8e-5),
    Player("gfn1_xtb", OTHER, 0.155, 4e-3),
    Player("gfn2_xtb", REFERENCE, 0.0, 5e-3, reference=True),
)
ASSAYS = {
    "energy_forces": "Energies and forces on kept-apart structures",
    "dynamics": "Stability of dynamics",
    "torsions": "Torsion profiles",
    "modes": "Normal modes",
    "cost": "Cost",
}


def provenance(seconds: float = 1.0) -> Provenance:
    return Provenance(
        versions={"karat": "0.1.0", "python": "3.11.7", "numpy": "2.4.6"},
        hardware={"cpu": "AMD EPYC", "cores": "2", "architecture": "x86_64", "memory": "8 GiB"},
        inputs={"labels": "ab" * 32},
        seeds={"seed": 7},
        created="2026-01-02T03:04:05+00:00",
        seconds=seconds,
    )


def error(name, title, unit, x, floor, baseline, *, subset="", headline=False, n=CASES):
    return Metric(
        name=name, value=x, unit=unit, low=0.86 * x, high=1.17 * x, n=n, better="lower",
        subset=subset, floor=floor, floor_source="SCC convergence at accuracy 0.1",
        baseline=baseline, baseline_source="zero forces", headline=headline, title=title,
    )  # fmt: skip


def single(name, title, unit, x, why, better="lower", n=1):
    return Metric(
        name=name, value=x, unit=unit, low=None, high=None, n=n, better=better,
        why_no_interval=why, title=title,
    )  # fmt: skip


def energy_forces(player: Player, rng: np.random.Generator):
    x = max(player.force, 1e-4)
    metrics = [
        error("force_mae", "Force MAE", "eV/Å", x, 1e-3, 1.4, headline=True),
        error("force_rmse", "Force RMSE", "eV/Å", 1.35 * x, 1.3e-3, 1.9),
        error("force_mae", "Force MAE", "eV/Å", 0.8 * x, 1e-3, 1.2, subset="kind:300K", n=30),
        error("force_mae", "Force MAE", "eV/Å", 1.2 * x, 1e-3, 1.6, subset="kind:600K", n=30),
        error("force_mae", "Force MAE", "eV/Å", 0.9 * x, 1e-3, 1.0, subset="element:H"),
        error("force_mae", "Force MAE", "eV/Å", 1.5 * x, 1e-3, 2.2, subset="element:C"),
        single("force_max", "Largest force error", "eV/Å", 6 * x, "a maximum", n=CASES),
        error("energy_mae_per_atom", "Energy MAE", "eV/atom", 0.03 * x, 1e-6, 0.02, headline=True),
    ]
    true = rng.normal(0, 1.5, 1200)
    found = true + rng.normal(0, 1.2 * x, 1200)
    bins = np.geomspace(1e-4, 10, 51)
    counts = np.histogram(np.abs(found - true).clip(1e-4, 10), bins)[0]
    centres = np.sqrt(bins[1:] * bins[:-1])
    figures = (
        Figure("parity", "forces", "Force components", "reference (eV/Å)", "contestant (eV/Å)",
               (Series(player.name, tuple(true.tolist()), tuple(found.tolist())),)),
        Figure("histogram", "forces:histogram", "Distribution: force components", "|error| (eV/Å)",
               "count", (Series(player.name, tuple(centres.tolist()),
                                tuple(counts.astype(float).tolist())),), log_x=True),
    )  # fmt: skip
    return metrics, figures, "force_mae", np.abs(rng.normal(0, 1.25 * x, CASES))


def dynamics(player: Player, rng: np.random.Generator):
    x = 1e-6 + 2e-4 * player.force
    time = np.linspace(0, 5000, 200)
    series = Series("energy", tuple(time.tolist()),
                    tuple((x * time / 1e3 + rng.normal(0, x, 200)).tolist()))  # fmt: skip
    figure = Figure("lines", "drift", "Total energy", "time (fs)", "drift (eV/atom)", (series,))
    metrics = [
        error("drift", "Energy drift", "eV/atom/ns", x, 1e-7, 0.1, headline=True, n=8),
        single("survival", "Share that survived", "", 1.0, "a count, not an estimate", "higher", 4),
    ]
    return metrics, (figure,), "drift", np.abs(rng.normal(0, x, CASES))


def torsions(player: Player, rng: np.random.Generator):
    x = 0.01 + 0.1 * player.force
    angle = np.arange(-180, 181, 15.0)
    true = 0.06 * (1 + np.cos(np.radians(3 * angle)))
    series = (
        Series("reference", tuple(angle.tolist()), tuple(true.tolist())),
        Series(player.name, tuple(angle.tolist()),
               tuple((true + rng.normal(0, x / 4, len(angle))).tolist())),
    )  # fmt: skip
    figure = Figure("lines", "torsion:0", "Torsion C–C–O–H", "angle (°)", "energy (eV)", series)
    metrics = [
        error("torsion_rmse", "Profile RMSE", "eV", x, 1e-4, 0.06, headline=True, n=24),
        single("barrier", "Barrier error", "eV", x, "one torsion: fewer than eight cases"),
    ]
    return metrics, (figure,), "torsion_rmse", np.abs(rng.normal(0, x, CASES))


def modes(player: Player, rng: np.random.Generator):
    x = 2 + 150 * player.force
    true = np.sort(rng.uniform(200, 3600, 21))
    series = Series(player.name, tuple(true.tolist()),
                    tuple((true + rng.normal(0, x, 21)).tolist()))  # fmt: skip
    figure = Figure("parity", "modes", "Frequencies", "reference (cm⁻¹)", "contestant (cm⁻¹)",
                    (series,))  # fmt: skip
    metrics = [error("frequency_mae", "Frequency MAE", "cm⁻¹", x, 1.0, 900.0, headline=True, n=21)]
    return metrics, (figure,), "frequency_mae", np.abs(rng.normal(0, x, CASES))


def cost(player: Player, rng: np.random.Generator):
    atoms = (9.0, 18.0, 36.0, 72.0)
    times = tuple(player.seconds * (a / 9) ** 1.3 for a in atoms)
    figure = Figure("lines", "cost:time", "Time per call", "atoms", "time (s)",
                    (Series(player.name, atoms, times),), log_x=True, log_y=True)  # fmt: skip
    metric = Metric("time_per_call", player.seconds, "s", 0.9 * player.seconds,
                    1.1 * player.seconds, 20, "lower", title="Time per call")  # fmt: skip
    return [metric], (figure,), "", None


MAKERS = {
    "energy_forces": energy_forces,
    "dynamics": dynamics,
    "torsions": torsions,
    "modes": modes,
    "cost": cost,
}


def score(player: Player, assay: str) -> Result:
    rng = np.random.default_rng([len(player.name), len(assay), int(1e4 * player.force)])
    metrics, figures, name, errors = MAKERS[assay](player, rng)
    arrays = {} if errors is None else {f"errors/{name}": errors}
    cases = [f"600K/{i}" for i in range(CASES)] if errors is not None else []
    worst = [] if errors is None else [cases[i] for i in np.argsort(-errors)[:3]]
    structures = [
        {
            "case": case,
            "numbers": NUMBERS,
            "positions": (np.array(ETHANOL) + rng.normal(0, 0.06, (9, 3))).tolist(),
            "bonds": BONDS,
            "note": f"{name} {max(errors):.3g}",
        }
        for case in worst
        if assay == "energy_forces"
    ]
    failures = ()
    if player.name == "mmff94s" and assay == "torsions":
        failures = (Failure("torsion scan", "torsion 1", "exploded", "energy above 1e3 eV"),)
    return Result(
        kind="score",
        name=f"score {assay} {player.name}",
        provenance=provenance(),
        metrics=tuple(metrics),
        failures=failures,
        figures=figures,
        payload={
            "contestant": player.name,
            "assay": assay,
            "title": ASSAYS[assay],
            "version": 1,
            "is_reference": player.reference,
            "contestant_level": None if player.level is None else player.level.as_dict(),
            "conservative": player.conservative,
            "timing": assay == "cost",
            "case_names": cases,
            "groups": [f"block {i // 6}" for i in range(len(cases))],
            "worst": worst,
            "worst_structures": structures,
        },
        arrays=arrays,
        level=REFERENCE if assay != "cost" else None,
    )


def train(player: Player) -> Result:
    epochs = list(range(1, 81))
    decay = [player.force * (1 + 8 * np.exp(-e / 12)) for e in epochs]
    return Result(
        kind="train",
        name=f"train {player.name}",
        provenance=provenance(30.0),
        payload={
            "contestant": player.name,
            "model": "bpnn",
            "labels": player.labels,
            "settings": {"epochs": 80, "batch_size": 8, "learning_rate": 0.001},
            "curve": {
                "epoch": epochs,
                "train_loss": [float(v**2) for v in decay],
                "valid_energy_mae_mev_per_atom": [float(20 * v) for v in decay],
                "valid_force_rmse_mev_per_angstrom": [float(1350 * v) for v in decay],
            },
            "best_epoch": 78,
            "stopped_because": "80 epochs",
        },
        timings={"seconds": 0.15 * player.labels},
    )


def preparations() -> list[Result]:
    structure = {"numbers": NUMBERS, "positions": ETHANOL}
    findings = [
        {"severity": "warning", "code": "duplicates", "message": "2 structures are equal",
         "offenders": ["300K/4", "300K/5"]},
        {"severity": "info", "code": "elements", "message": "C, H and O", "offenders": []},
    ]  # fmt: skip
    split = {"how": "time blocks", "sizes": {"train": 200, "valid": 40, "test": 60},
             "digests": {"train": "1" * 64, "valid": "2" * 64, "test": "3" * 64}}  # fmt: skip
    failed = (Failure("label", "600K/17", "not-converged", "SCF: 250 iterations", attempts=2),)
    return [
        Result("structures", "structures", provenance(), payload={
            "smiles": "CCO", "formula": "C2H6O", "conformers": 2, "atoms": 9,
            "structures": [structure]}),
        Result("labels", "labels", provenance(20.0), failures=failed, level=REFERENCE,
               payload={"engine": "gfn2_xtb", "done": 299, "failed": 1}),
        Result("check", "check", provenance(), payload={"findings": findings}),
        Result("split", "split", provenance(), payload=split),
    ]  # fmt: skip


def write_example(
    folder: Path,
    rename: dict[str, str] | None = None,
    large: int = 0,
    players: Sequence[Player] = PLAYERS,
    cases: int = CASES,
) -> Path:
    """Write the folder; `rename` changes contestants' names, `large` sets points of parity,
    `cases` keeps the errors of the first ones only."""
    rename = rename or {}
    players = [Player(**{**p.__dict__, "name": rename.get(p.name, p.name)}) for p in players]
    results = preparations() + [train(p) for p in players if p.labels]
    results += [score(p, assay) for assay in ASSAYS for p in players]
    steps = []
    for i, result in enumerate(results):
        if large:
            result = with_points(result, large)
        if result.payload.get("case_names"):
            payload = dict(result.payload)
            payload |= {key: payload[key][:cases] for key in ("case_names", "groups")}
            payload["groups"] = payload["case_names"] if cases < CASES else payload["groups"]
            arrays = {name: array[:cases] for name, array in result.arrays.items()}
            result = Result(**{**result.__dict__, "payload": payload, "arrays": arrays})
        place = f"steps/{i:03d}-{result.kind}"
        result.save(folder / place)
        who, assay = (str(result.payload.get(key, "")) for key in ("contestant", "assay"))
        steps.append(_entry(place, result.kind, result.name, who, assay, seconds=1.5 + i / 10))
    died, alien = "the worker process died", "argon_lj knows Ar only; the system has C, H, O"
    for assay in ASSAYS:
        name = f"measure {assay} exploding"
        steps.append(_entry("", "measure", name, "exploding", assay, "failed", died))
        needs = f"needs '{name}', which failed"
        name = f"score {assay} exploding"
        steps.append(_entry("", "score", name, "exploding", assay, "missing", needs))
        name = f"score {assay} argon_lj"
        steps.append(_entry("", "score", name, "argon_lj", assay, "not-applicable", alien))
    index = {
        "name": "ethanol",
        "title": "Ethanol from its SMILES string",
        "steps": steps,
        "campaign": {"name": "ethanol", "seed": 7, "structures": {"smiles": "CCO"}},
    }
    (folder / "index.json").write_text(json.dumps(index))
    return folder


def _entry(folder, kind, name, contestant="", assay="", status="done", reason="", seconds=None):
    return {
        "folder": folder, "kind": kind, "name": name, "contestant": contestant, "assay": assay,
        "status": status, "reason": reason, "seconds": seconds,
    }  # fmt: skip


def with_points(result: Result, count: int) -> Result:
    """The same result with `count` points in every parity figure."""
    rng = np.random.default_rng(1)
    figures = []
    for figure in result.figures:
        if figure.kind == "parity":
            x = rng.normal(0, 1, count)
            cloud = Series(figure.series[0].name, tuple(x), tuple(x + 0.1))
            figure = Figure(**{**figure.__dict__, "series": (cloud,)})
        figures.append(figure)
    return Result(**{**result.__dict__, "figures": tuple(figures)})

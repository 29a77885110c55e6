"""Is a pre-trained MACE worth it? rMD17 molecules first, then acetylacetone with few labels.

    .venv/bin/python benchmarks/fine_tuning.py FOLDER            # five seeds; hours on one core
    .venv/bin/python benchmarks/fine_tuning.py FOLDER --short    # shows that it works; a minute
    .venv/bin/python benchmarks/fine_tuning.py FOLDER --report   # what is done so far

One potential is trained to rMD17 (PBE/def2-SVP). For each number of labelled structures and each
seed the same structures of acetylacetone (PBE-D3, 300 K) are then fitted from scratch and by
naive, frozen (all but the last product and the readouts; ``half``: all of the first layer) and LoRA
fine-tuning, with as many steps; a tenth of them chooses the epoch. Errors:
RMSE of forces on the 300 K test, mean over seeds with Student's t interval; differences to training
from scratch are paired by seed. Forgetting: force RMSE on rMD17's test structures before and after.

Every run's result is kept in FOLDER and not done again; what is interrupted goes on. Another
FOLDER for other options. Data: KARAT_DATA, by default ../shared/data.
"""

import argparse
import json
import os
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
DATA = Path(os.environ.get("KARAT_DATA", ROOT.parent / "shared" / "data"))
MOLECULES = (
    "aspirin azobenzene benzene ethanol malonaldehyde naphthalene toluene uracil".split()  # noqa: SIM905
)
METHODS = ("scratch", "naive", "half", "frozen", "lora")
FIRST_LAYER = ("embedding", "radial", "interaction_1", "product_1")
"""What the method ``half`` keeps."""
LEAST_VALID = 8


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--short", action="store_true", help="tiny sizes: shows that it works")
    parser.add_argument("--report", action="store_true", help="only print what is done")
    parser.add_argument("--molecules", nargs="+", default=MOLECULES, choices=MOLECULES)
    parser.add_argument("--per-molecule", type=int, default=300, help="structures to pre-train on")
    parser.add_argument("--pretraining-epochs", type=int, default=60)
    parser.add_argument("--sizes", nargs="+", type=int, default=[50, 200])
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--methods", nargs="+", default=METHODS, choices=METHODS)
    parser.add_argument("--steps", type=int, default=4000, help="of each run, whatever its size")
    parser.add_argument("--optimiser", default="muon", help="of fine-tuning; scratch has MACE's")
    parser.add_argument("--rate", type=float, default=1e-2, help="learning rate of fine-tuning")
    parser.add_argument("--rank", type=int, default=4)
    parser.add_argument("--test", type=int, default=650, help="structures of the AcAc test")
    parser.add_argument("--forgetting", type=int, default=100, help="test structures per molecule")
    parser.add_argument("--channels", type=int, default=32)
    parser.add_argument("--hidden-degree", type=int, default=1)
    parser.add_argument("--harmonics-degree", type=int, default=2)
    parser.add_argument("--radial-hidden", nargs="+", type=int, default=[64, 64, 64])
    found = parser.parse_args()
    if found.short:
        small = {
            "molecules": ["ethanol", "malonaldehyde"],
            "per_molecule": 40,
            "pretraining_epochs": 8,
            "sizes": [20],
            "seeds": 2,
            "steps": 60,
            "rank": 1,
            "test": 40,
            "forgetting": 20,
            "channels": 4,
            "harmonics_degree": 1,
            "radial_hidden": [8, 8],
        }
        vars(found).update(small)
    return found


def rmd17(molecules, part: str, count: int, first: int = 0):
    from karat.data.dataset import Dataset
    from karat.data.files import read_dataset
    from karat.structures.labels import LevelOfTheory

    level = LevelOfTheory("PBE", "def2-SVP")
    records = []
    for molecule in molecules:
        whole = read_dataset(DATA / "rmd17" / f"{molecule}_{part}.xyz.gz", level)
        records += whole.records[first : first + count]
    return Dataset(tuple(records), level)


def acetylacetone(name: str):
    from karat.data.files import read_dataset
    from karat.structures.labels import LevelOfTheory

    return read_dataset(DATA / "acac" / name, LevelOfTheory("PBE", "def2-SVP", "D3"))


def pretrained(options: argparse.Namespace) -> Path:
    """The base, trained if it is not there."""
    from karat.potentials.karat_file import save
    from karat.potentials.native.mace import Mace
    from karat.training.fit import fit
    from karat.training.settings import TrainingSettings

    path = options.folder / "base.karat"
    if path.exists():
        return path
    model = Mace(
        channels=options.channels,
        hidden_degree=options.hidden_degree,
        harmonics_degree=options.harmonics_degree,
        radial_hidden=tuple(options.radial_hidden),
    )
    train = rmd17(options.molecules, "train", options.per_molecule)
    valid = rmd17(options.molecules, "train", max(4, options.per_molecule // 10), 900)
    settings = TrainingSettings(**model.usual_settings(), epochs=options.pretraining_epochs)
    fitted = fit(model, train, valid, settings, options.folder / "base", teller("base"))
    save(path, fitted.model, fitted.potential, train.digest, fitted.summary)
    return path


def teller(name: str):
    """Progress on standard error, every ten seconds."""
    last = [time.monotonic()]

    def tell(stage) -> None:
        if time.monotonic() - last[0] > 10:
            last[0] = time.monotonic()
            print(f"{name}: {stage.done}/{stage.total} {stage.words}", file=sys.stderr, flush=True)

    return tell


def done(options: argparse.Namespace, base: Path, method: str, size: int, seed: int) -> dict:
    """One run's result, from its file if it was done before."""
    import numpy as np

    from karat.potentials.karat_file import architecture_of
    from karat.potentials.karat_header import read_header
    from karat.training.fine_tuning import fine_tune
    from karat.training.fine_tuning_start import FineTuning
    from karat.training.fit import fit
    from karat.training.forgetting import errors_by_structure
    from karat.training.settings import TrainingSettings

    name = f"{method}-{size}-{seed}"
    path = options.folder / f"{name}.json"
    if path.exists():
        return json.loads(path.read_text())
    frames = acetylacetone("train_300K.xyz.gz")
    chosen = np.random.default_rng(seed).permutation(len(frames))[:size].tolist()
    held = max(LEAST_VALID, size // 10)
    parts = (frames.subset(chosen[held:]), frames.subset(chosen[:held]))
    scratch = method == "scratch"
    model = architecture_of(read_header(base), base)
    usual = model.usual_settings()
    mine = {} if scratch else {"optimiser": options.optimiser, "learning_rate": options.rate}
    epochs = max(1, round(options.steps * usual["batch_size"] / (size - held)))
    settings = TrainingSettings(**{**usual, **mine}, epochs=epochs, seed=seed)
    others = {m: rmd17([m], "test", options.forgetting) for m in options.molecules}
    folder = options.folder / name
    if scratch:
        found = fit(model, *parts, settings, folder, teller(name))
    else:
        kind = "frozen" if method == "half" else method
        freeze = FIRST_LAYER if method == "half" else None
        rank = options.rank
        tuning = FineTuning(method=kind, freeze=freeze, rank=rank, alpha=float(rank))
        found = fine_tune(base, *parts, tuning, settings, folder, others, teller(name))
    test = acetylacetone("test_MD_300K.xyz.gz")
    test = test.subset(range(min(options.test, len(test))))
    energies, forces = errors_by_structure(found.potential, test, shift=False)
    about = found.summary.get("fine_tuning", {})
    result = {
        "method": method,
        "size": size,
        "seed": seed,
        "force_rmse": float(np.sqrt(np.mean(forces**2))),
        "energy_rmse": float(np.sqrt(np.mean(energies**2))),
        "seconds": found.seconds,
        "best_epoch": found.best_epoch,
        "valid_force_rmse": float(found.curve.force_rmse[found.best_epoch - 1]),
        "force_rmse_before": about.get("valid_force_rmse_before_mev_per_angstrom"),
        "parameters_trained": about.get("parameters_trained"),
        "forgetting": {
            one["name"]: {e["name"]: e for e in one["errors"]}
            for one in about.get("forgetting", [])
        },
    }
    path.write_text(json.dumps(result, indent=1))
    return result


def interval(values) -> str:
    """Mean and Student's t interval of independent seeds."""
    import numpy as np
    from scipy.stats import t

    mean = float(np.mean(values))
    if len(values) < 2:
        return f"{mean:7.1f}"
    half = t.ppf(0.975, len(values) - 1) * np.std(values, ddof=1) / np.sqrt(len(values))
    return f"{mean:7.1f} [{mean - half:.1f}, {mean + half:.1f}]"


def report(results: list[dict]) -> None:
    """Tables of what is done."""
    import numpy as np

    by = {(r["method"], r["size"], r["seed"]): r for r in results}
    print("AcAc 300 K test, RMSE of forces in meV/Å: mean over seeds [95 %]; from scratch minus it")
    for size in sorted({r["size"] for r in results}):
        for method in METHODS:
            mine = {s: r for (m, n, s), r in by.items() if (m, n) == (method, size)}
            if not mine:
                continue
            errors = [r["force_rmse"] for r in mine.values()]
            both = [s for s in mine if ("scratch", size, s) in by]
            gain = [by["scratch", size, s]["force_rmse"] - mine[s]["force_rmse"] for s in both]
            paired = interval(gain) if gain and method != "scratch" else ""
            seconds = np.median([r["seconds"] for r in mine.values()])
            print(f"{size:5} {method:8} {interval(errors):28} {paired:28} {seconds:6.0f} s")
    print("Forgetting: RMSE of forces on rMD17 tests in meV/Å, mean over molecules: before, change")
    for size in sorted({r["size"] for r in results}):
        for method in METHODS[1:]:
            mine = [r for (m, n, _), r in by.items() if (m, n) == (method, size)]
            if not mine:
                continue
            forces = [[e["force_rmse"] for e in r["forgetting"].values()] for r in mine]
            before = np.mean([[e["base"]["value"] for e in one] for one in forces])
            change = [np.mean([e["difference"]["value"] for e in one]) for one in forces]
            print(f"{size:5} {method:8} {before:7.1f} {interval(change):28}")


def main() -> None:
    options = arguments()
    if options.report:
        names = sorted(options.folder.glob("*-*-*.json"))
        report([json.loads(path.read_text()) for path in names])
        return
    from karat.campaign.jax_setup import prepare_jax, program_folder
    from karat.core.threads import single_thread

    single_thread()
    prepare_jax(program_folder())
    said = {k: v for k, v in vars(options).items() if k not in ("folder", "report", "methods")}
    said = json.loads(json.dumps({k: v for k, v in said.items() if k not in ("seeds", "sizes")}))
    options.folder.mkdir(parents=True, exist_ok=True)
    kept = options.folder / "options.json"
    if kept.exists() and json.loads(kept.read_text()) != said:
        sys.exit(f"{kept} holds other options. Name another folder.")
    kept.write_text(json.dumps(said, indent=1))
    base = pretrained(options)
    results = []
    for seed in range(options.seeds):
        for size in options.sizes:
            results += [done(options, base, m, size, seed) for m in options.methods]
    report(results)


if __name__ == "__main__":
    main()

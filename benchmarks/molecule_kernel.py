"""karat's `sgdml` against the `sgdml` package, on one thread; and on rMD17.

    .venv/bin/python benchmarks/molecule_kernel.py compare --peer PEER/bin/python [--structures 200]
    .venv/bin/python benchmarks/molecule_kernel.py rmd17 ethanol aspirin

`compare` runs both alternately, each in a process of its own, five times: acetylacetone at 300 K,
the same training structures, width (20) and regularisation; prints medians (smallest – largest)
and the ratios of each round. PEER is an environment with `pip install sgdml==1.0.3 ase scipy
numpy==1.26.4` (no torch is used). `rmd17` trains on 950 structures and validates on 50 with the
`karat` command, and measures on the 500 test structures. Data: KARAT_DATA, by default
../shared/data.
"""

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
DATA = Path(os.environ.get("KARAT_DATA", ROOT.parent / "shared" / "data"))
SIGMA, LAMBDA, BATCH = 20, 1e-10, 100
THREADS = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")


def frames(name: str, count: int | None = None):
    """(numbers, positions, energies, forces) of a published set."""
    import ase.io
    import numpy as np

    atoms = ase.io.read(DATA / name, slice(count))
    return (
        atoms[0].numbers,
        np.array([one.positions for one in atoms]),
        np.array([one.info["REF_energy"] for one in atoms]),
        np.array([one.arrays["REF_forces"] for one in atoms]),
    )


def report(result: dict, forces, expected, energies, reference) -> None:
    """Print one JSON line with errors and peak memory."""
    import numpy as np

    error = forces.reshape(expected.shape) - expected
    result["force_rmse"] = 1e3 * float(np.sqrt(np.mean(error**2)))
    result["force_mae"] = 1e3 * float(np.mean(np.abs(error)))
    shift = energies - reference
    result["energy_rmse"] = 1e3 * float(np.sqrt(np.mean(shift**2))) / expected.shape[1]
    result["peak_mb"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print("JSON " + json.dumps(result))


def karat_child(count: int) -> None:
    from karat.core.threads import single_thread

    single_thread()
    from karat.data.dataset import Dataset, Record
    from karat.potentials.kernel.sgdml import Sgdml
    from karat.potentials.precision import enable_float64
    from karat.structures.labels import Labels, LevelOfTheory
    from karat.structures.structure import Structure

    enable_float64()

    def dataset(numbers, positions, energies, forces):
        rows = zip(positions, energies, forces)
        records = (Record(Structure(numbers, r), Labels(float(e), f)) for r, e, f in rows)
        return Dataset(tuple(records), LevelOfTheory("PBE-D3"))

    import numpy as np

    numbers, *arrays = frames("acac/train_300K.xyz.gz", count)
    train, test = dataset(numbers, *arrays), dataset(*frames("acac/test_MD_300K.xyz.gz"))
    model = Sgdml(sigma=SIGMA, regularization=LAMBDA, calibration_structures=0)
    stages: dict[str, float] = {}
    start = time.perf_counter()

    def note(stage) -> None:
        stages.setdefault(stage.words, time.perf_counter() - start)

    with tempfile.TemporaryDirectory() as folder:
        solved = model.fit(train, test.subset(range(50)), Path(folder), note)
    total = time.perf_counter() - start
    matching = next(t for words, t in stages.items() if "all data" in words)
    potential, structures = solved.potential, test.structures
    potential.predict(structures[:BATCH])
    seconds = []
    for _ in range(5):
        start = time.perf_counter()
        labels = [
            one
            for first in range(0, 600, BATCH)
            for one in potential.predict(structures[first : first + BATCH])
        ]
        seconds.append((time.perf_counter() - start) / 600)
    labels += potential.predict(structures[600:])
    result = {
        "permutations": solved.summary["permutations"],
        "fit_s": total - matching,
        "fit_with_matching_s": total,
        "predict_ms": 1e3 * statistics.median(seconds),
    }
    forces = np.array([one.forces for one in labels])
    energies = np.array([one.energy for one in labels])
    reference = np.array([one.energy for one in test.labels])
    report(result, forces, np.array([one.forces for one in test.labels]), energies, reference)


def peer_child(count: int) -> None:
    import numpy as np
    from sgdml.predict import GDMLPredict
    from sgdml.train import GDMLTrain
    from sgdml.utils import io

    def dataset(numbers, positions, energies, forces, name):
        made = {"type": "d", "code_version": "1", "name": name, "theory": "dft"}
        made |= {"r_unit": "Ang", "e_unit": "eV"}
        made = {key: np.array(value) for key, value in made.items()}
        made |= {"z": numbers, "R": positions, "E": energies, "F": forces}
        for key in "EF":
            for word in ("min", "max", "mean", "var"):
                made[f"{key}_{word}"] = getattr(np, word)(made[key])
        made["md5"] = np.array(io.dataset_md5(made))
        return made

    train = dataset(*frames("acac/train_300K.xyz.gz", count), "train")
    test = dataset(*frames("acac/test_MD_300K.xyz.gz"), "test")
    trainer = GDMLTrain(max_processes=1, use_torch=False)
    start = time.perf_counter()
    task = trainer.create_task(train, count, test, 50, SIGMA, LAMBDA, use_sym=True)
    matching = time.perf_counter() - start
    start = time.perf_counter()
    model = trainer.train(task)
    fit = time.perf_counter() - start
    predictor = GDMLPredict(model, max_processes=1, use_torch=False)
    flat = test["R"].reshape(len(test["R"]), -1)
    predictor.predict(flat[:BATCH])
    seconds = []
    for _ in range(2):
        start = time.perf_counter()
        parts = [predictor.predict(flat[first : first + BATCH]) for first in range(0, 600, BATCH)]
        seconds.append((time.perf_counter() - start) / 600)
    parts.append(predictor.predict(flat[600:]))
    result = {
        "permutations": len(model["perms"]),
        "fit_s": fit,
        "fit_with_matching_s": fit + matching,
        "predict_ms": 1e3 * statistics.median(seconds),
    }
    energies = np.concatenate([part[0] for part in parts])
    forces = np.concatenate([part[1] for part in parts])
    report(result, forces, test["F"], energies, test["E"])


def child(python: str, kind: str, count: int) -> dict:
    done = subprocess.run(
        [python, __file__, kind, "--structures", str(count)],
        capture_output=True,
        text=True,
        env=os.environ | THREADS | {"JAX_PLATFORMS": "cpu", "KARAT_DATA": str(DATA)},
    )
    lines = [line for line in done.stdout.splitlines() if line.startswith("JSON ")]
    if not lines:
        sys.exit(f"{kind} failed:\n{done.stderr[-2000:]}")
    return json.loads(lines[-1].removeprefix("JSON "))


def compare(peer: str, count: int, rounds: int) -> None:
    found: dict[str, list[dict]] = {"karat": [], "peer": []}
    for _ in range(rounds):
        found["karat"].append(child(sys.executable, "karat-child", count))
        found["peer"].append(child(peer, "peer-child", count))
    print(f"acetylacetone 300 K, {count} structures, sigma {SIGMA}, {rounds} alternating rounds")
    for key in found["karat"][0]:
        ours, theirs = ([one[key] for one in found[who]] for who in ("karat", "peer"))
        ratios = [b / a for a, b in zip(ours, theirs)]
        print(
            f"{key}: karat {spread(ours)}, package {spread(theirs)}, package/karat {spread(ratios)}"
        )


def spread(values: list[float]) -> str:
    return f"{statistics.median(values):.4g} ({min(values):.4g} – {max(values):.4g})"


def rmd17(molecule: str) -> None:
    """950 + 50 of the published training part, by the `karat` command, and its test part."""
    import ase.io

    karat = str(Path(sys.executable).parent / "karat")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        atoms = ase.io.read(DATA / f"rmd17/{molecule}_train.xyz.gz", ":1000")
        valid = set(range(10, 1000, 20))  # every twentieth
        for part, chosen in (("train", set(range(1000)) - valid), ("valid", valid)):
            lines = [atoms[i] for i in sorted(chosen)]
            ase.io.write(folder / f"{part}.xyz", lines, format="extxyz")
        level = "PBE/def2-SVP"
        start = time.perf_counter()
        run(
            [karat, "train", "--model", "sgdml", "--data", "train.xyz", "--valid", "valid.xyz"]
            + ["--level", level, "--output", "p.karat", "--plain"],
            folder,
        )
        seconds = time.perf_counter() - start
        peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 2**20
        print(f"{molecule}: train {seconds:.0f} s, peak {peak:.2f} GiB", flush=True)
        test = DATA / f"rmd17/{molecule}_test.xyz.gz"
        run([karat, "assay", "p.karat", "--data", str(test), "--level", level], folder)


def run(command: list[str], folder: Path) -> None:
    subprocess.run(command, cwd=folder, check=True, env=os.environ | {"JAX_PLATFORMS": "cpu"})


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=["compare", "rmd17", "karat-child", "peer-child"])
    parser.add_argument("molecules", nargs="*")
    parser.add_argument("--peer")
    parser.add_argument("--structures", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=5)
    chosen = parser.parse_args()
    if chosen.what == "compare":
        compare(chosen.peer, chosen.structures, chosen.rounds)
    elif chosen.what == "rmd17":
        for one in chosen.molecules:
            rmd17(one)
    else:
        {"karat-child": karat_child, "peer-child": peer_child}[chosen.what](chosen.structures)

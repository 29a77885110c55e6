"""Measures the noise floors that karat/results/noise.py states; prints one line for each.

    JAX_PLATFORMS=cpu .venv/bin/python benchmarks/noise_floors.py [--dft]

Label noise: GFN2-/GFN1-xTB at tblite accuracy 1, 0.1 and 0.01 against 1e-4, on rattled molecules.
Uncertainty of a level: GFN2-/GFN1-xTB against PBE-D3/def2-SVP (acetylacetone dynamics, 300 K) and
against CCSD(T)-level torsion scans, both from the data folder (KARAT_DATA, else ../shared/data);
with --dft (PySCF, minutes) harmonic frequencies and minima against PBE-D3(BJ)/def2-SVP.
"""

import os
import sys
from pathlib import Path

from karat.core.threads import single_thread

single_thread()

import numpy as np  # noqa: E402

from karat.core.units import ACCELERATION, HBAR, INVERSE_CM, KCAL_PER_MOL  # noqa: E402
from karat.data.files import read_dataset  # noqa: E402
from karat.reference.xtb import Gfn1Xtb, Gfn2Xtb  # noqa: E402
from karat.structures.builders import from_smiles  # noqa: E402

DATA = Path(os.environ.get("KARAT_DATA", Path(__file__).parents[2] / "shared" / "data"))
ENGINES = {"GFN2-xTB": Gfn2Xtb, "GFN1-xTB": Gfn1Xtb}
MOLECULES = (
    "CC(=O)/C=C(/C)O",
    "CCO",
    "CC(=O)Oc1ccccc1C(=O)O",
    "Cn1cnc2c1c(=O)n(C)c(=O)n2C",
    "C[C@H](N)C(=O)O",
    "CS(=O)(=O)c1ccc(Cl)cc1",
    "[NH3+]CC(=O)[O-]",
    "O=C([O-])CCl",
)
SMALL = ("O", "C=O", "CO", "N", "C=C", "C#N", "CF")
TIGHT = 1e-4


def rattled(smiles: str, count: int, seed: int, width: float = 0.05):
    """Conformer with every coordinate moved by a normal deviate of `width` Å."""
    start = from_smiles(smiles, seed=seed)[0]
    generator = np.random.default_rng(seed)
    for _ in range(count):
        yield start.replace(positions=start.positions + generator.normal(0, width, (len(start), 3)))


def label_noise(engine) -> None:
    structures = [s for smiles in MOLECULES for s in rattled(smiles, 4, seed=1)]
    tight = [engine(accuracy=TIGHT).compute(s, ("energy", "forces")) for s in structures]
    for accuracy in (1.0, 0.1, 0.01):
        loose = [engine(accuracy=accuracy).compute(s, ("energy", "forces")) for s in structures]
        energy = np.array([a.energy - b.energy for a, b in zip(loose, tight)])
        atoms = np.array([len(s) for s in structures])
        force = np.concatenate([(a.forces - b.forces).ravel() for a, b in zip(loose, tight)])
        print(
            f"{engine.method} accuracy {accuracy:g} against {TIGHT:g}, {len(structures)} rattled: "
            f"energy/atom MAE {np.abs(energy / atoms).mean():.2e} "
            f"RMS {rms(energy / atoms):.2e} eV; total energy RMS {rms(energy):.2e} eV; "
            f"force MAE {np.abs(force).mean():.2e} RMS {rms(force):.2e} eV/Å"
        )


def frequency_noise(engine) -> None:
    for accuracy in (1.0, 0.1, 0.01):
        shifts, motions = [], []
        for smiles in ("CCO", "CC(=O)/C=C(/C)O", "C[C@H](N)C(=O)O"):
            start = from_smiles(smiles, seed=1)[0]
            exact, first = minimum_and_frequencies(engine(accuracy=TIGHT), start)
            found, second = minimum_and_frequencies(engine(accuracy=accuracy), start)
            shifts += list(found - exact)
            motions.append(rmsd(first, second))
        print(
            f"{engine.method} accuracy {accuracy:g} against {TIGHT:g}, 3 molecules: frequency MAE "
            f"{np.abs(shifts).mean():.2e} cm-1 ({len(shifts)} modes); minima RMSD "
            f"{np.mean(motions):.2e} Å"
        )


def against_dft(engine) -> None:
    data = read_dataset(DATA / "acac" / "test_MD_300K.xyz.gz").records[::5]
    found = [engine().compute(r.structure, ("energy", "forces")) for r in data]
    energy = np.array([f.energy - r.labels.energy for f, r in zip(found, data)]) / 15
    energy -= energy.mean()
    force = np.concatenate([(f.forces - r.labels.forces).ravel() for f, r in zip(found, data)])
    print(
        f"{engine.method} against PBE-D3/def2-SVP, acetylacetone 300 K, every 5th of 650 "
        f"({len(data)}): force MAE {np.abs(force).mean():.4f} RMSE {rms(force):.4f} eV/Å; energy "
        f"per atom (mean removed) MAE {np.abs(energy).mean():.5f} RMSE {rms(energy):.5f} eV"
    )


def against_ccsdt(engine) -> None:
    scans: dict[str, list[tuple[float, float]]] = {}
    from karat.structures.geometry_files import structures_and_frames

    path = DATA / "torsions_openff59" / "torsions.xyz.gz"
    for structure, frame in structures_and_frames(path):
        energy = engine().compute(structure, ("energy",)).energy
        reference = float(frame.info["E_rel_kcal"]) * KCAL_PER_MOL
        scans.setdefault(str(frame.info["torsion_id"]), []).append((energy, reference))
    squares, barriers = [], []
    for points in scans.values():
        mine, reference = np.array(points).T
        error = mine - reference
        squares.append(((error - error.mean()) ** 2).mean())
        barriers.append(abs(np.ptp(mine) - np.ptp(reference)))
    print(
        f"{engine.method} against CCSD(T)-level torsions, {len(scans)} scans of 24 points: profile "
        f"RMSE (mean removed) {np.sqrt(np.mean(squares)):.4f} eV, median "
        f"{np.sqrt(np.median(squares)):.4f}; barrier MAE {np.mean(barriers):.4f} eV"
    )


def frequencies_against_dft(engine) -> None:
    from karat.reference.pyscf_engine import Pyscf

    errors, motions = [], []
    reference = Pyscf("dft", functional="PBE", basis="def2-svp", dispersion="d3bj")
    for smiles in SMALL:
        start = from_smiles(smiles, seed=1)[0]
        exact, first = DFT.get(smiles) or minimum_and_frequencies(reference, start, 5e-3)
        DFT[smiles] = (exact, first)
        found, second = minimum_and_frequencies(engine(), start)
        errors += list(found - exact)
        motions.append(rmsd(first, second))
        print(f"  {smiles}: {np.round(exact)} {np.round(found)}", flush=True)
    print(
        f"{engine.method} against PBE-D3(BJ)/def2-SVP, {len(SMALL)} molecules: harmonic frequency "
        f"MAE {np.abs(errors).mean():.1f} cm-1 ({len(errors)} modes); minima RMSD "
        f"{np.mean(motions):.4f} Å"
    )


DFT: dict = {}


def minimum_and_frequencies(engine, structure, fmax: float = 1e-4, h: float = 0.005):
    """Harmonic frequencies (cm⁻¹, ascending, without the 5 or 6 lowest) and the minimum."""
    from ase.calculators.calculator import Calculator, all_changes
    from ase.optimize import BFGS

    from karat.structures.structure import Structure

    class Engine(Calculator):
        implemented_properties = ("energy", "forces")

        def calculate(self, atoms=None, properties=("energy",), system_changes=all_changes):
            super().calculate(atoms, properties, system_changes)
            labels = engine.compute(Structure.from_ase(self.atoms), ("energy", "forces"))
            self.results = {"energy": labels.energy, "forces": labels.forces}

    atoms = structure.to_ase()
    atoms.calc = Engine()
    BFGS(atoms, logfile=None).run(fmax=fmax, steps=500)
    minimum = structure.replace(positions=atoms.positions)
    size = 3 * len(minimum)
    hessian = np.zeros((size, size))
    for row in range(size):
        step = np.zeros(size)
        step[row] = h
        plus, minus = (
            engine.compute(
                minimum.replace(positions=minimum.positions + sign * step.reshape(-1, 3)),
                ("energy", "forces"),
            ).forces.ravel()
            for sign in (1, -1)
        )
        hessian[row] = (minus - plus) / (2 * h)
    mass = np.repeat(atoms.get_masses(), 3)
    hessian = 0.5 * (hessian + hessian.T) / np.sqrt(np.outer(mass, mass))
    squares = np.linalg.eigvalsh(hessian) * ACCELERATION  # 1/fs²
    waves = np.sign(squares) * np.sqrt(np.abs(squares)) * HBAR / INVERSE_CM
    inertia = np.linalg.svd(minimum.positions - minimum.positions.mean(axis=0))[1]
    rigid = 5 if inertia[1] < 1e-2 else 6
    return np.sort(waves[np.argsort(np.abs(waves))[rigid:]]), minimum.positions


def rms(values: np.ndarray) -> float:
    return float(np.sqrt(np.mean(values**2)))


def rmsd(first: np.ndarray, second: np.ndarray) -> float:
    """After superposition (Kabsch)."""
    from scipy.spatial.transform import Rotation

    first, second = first - first.mean(axis=0), second - second.mean(axis=0)
    return float(Rotation.align_vectors(first, second)[1]) / np.sqrt(len(first))


if __name__ == "__main__":
    for engine in ENGINES.values():
        if "--dft" in sys.argv:
            frequencies_against_dft(engine)
            continue
        label_noise(engine)
        frequency_noise(engine)
        against_dft(engine)
        against_ccsdt(engine)

"""Lattice and elastic constants of linear potentials fitted to mlearn, beside DFT's.

    python benchmarks/linear_properties.py Si=FOLDER/Si.karat Mo=FOLDER/Mo.karat …

DFT's come from the training file itself: the volume at which its strained perfect crystals have no
pressure, and the slope of their stress with strain (strains up to 2 %). Ions were not relaxed in
these frames, so all constants are those of clamped ions; only C44 of silicon differs by much. Li's
shear stresses are not linear in the strain, even of the wrong sign: no figure (nan).
"""

import os
import sys
from pathlib import Path

from karat.core.threads import single_thread

single_thread()
os.environ.setdefault("JAX_PLATFORMS", "cpu")

import numpy as np  # noqa: E402

ROOT = Path(__file__).resolve().parents[1]
DATA = Path(os.environ.get("KARAT_DATA", ROOT.parent / "shared" / "data"))
CRYSTALS = {"Ni": ("fcc", 4), "Cu": ("fcc", 4), "Li": ("bcc", 2), "Mo": ("bcc", 2)}
CRYSTALS["Si"] = ("diamond", 8)
LARGEST = 0.021
GPA = 160.21766208
SHEARS = ((0, 1), (1, 2), (0, 2))


def of_dft(element: str) -> tuple[float, float, float, float]:
    """a (Å), C11, C12, C44 (GPa) from the strained crystals of the training file."""
    import ase.io

    frames = ase.io.read(DATA / "mlearn" / f"{element}_train.xyz.gz", ":", format="extxyz")
    frames = [frame for frame in frames if frame.info["config_type"] == "Elastic"]
    stresses = [np.reshape(frame.info["REF_stress"], (3, 3)) * GPA for frame in frames]
    count = CRYSTALS[element][1]
    volumes = [frame.get_volume() / len(frame) for frame in frames]
    lattice = float((count * np.median(volumes)) ** (1 / 3))
    for _ in range(20):  # until these strained crystals have no pressure at no strain
        strains, chosen = _near(frames, stresses, lattice, count)
        spread = [np.trace(strain) for strain in strains]
        pressures = [np.trace(stress) for stress in chosen]
        lattice *= 1 - np.polyval(np.polyfit(pressures, spread, 1), 0.0) / -3
    normal, shear = [], []
    # Mo, Cu and Ni have yz and xz of the stress exchanged: only xy is used there
    planes = SHEARS if element in ("Li", "Si") else SHEARS[:1]
    for strain, stress in zip(strains, chosen):
        for i in range(3):
            normal.append((strain[i, i], np.trace(strain) - strain[i, i], stress[i, i]))
        shear += [(2 * strain[plane], stress[plane]) for plane in planes]
    table = np.array(normal)
    c11, c12 = np.linalg.lstsq(table[:, :2], table[:, 2], rcond=None)[0]
    x, y = np.array(shear).T
    c44 = float(x @ y / (x @ x))
    linear = np.sum((y - c44 * x) ** 2) < 0.1 * np.sum(y**2)
    return lattice, float(c11), float(c12), c44 if linear else np.nan


def _near(frames, stresses, lattice: float, count: int) -> tuple[list, list]:
    """Strains up to 2 % with respect to a cubic crystal, and their stresses (GPa)."""
    repeats = round((len(frames[0]) / count) ** (1 / 3))
    strains, chosen = [], []
    for frame, stress in zip(frames, stresses):
        moved = frame.cell.array / (lattice * repeats)
        strain = 0.5 * (moved + moved.T) - np.eye(3)
        if np.abs(strain).max() <= LARGEST:
            strains.append(strain)
            chosen.append(stress)
    return strains, chosen


def of_potential(element: str, path: str) -> tuple[float, float, float, float]:
    """The same of a fitted potential."""
    from ase.build import bulk

    from karat.potentials.karat_file import load
    from karat.simulation.elastic import elastic_tensor
    from karat.structures.structure import Structure

    structure, count = CRYSTALS[element]
    crystal = Structure.from_ase(bulk(element, structure, a=of_dft(element)[0], cubic=True))
    found = elastic_tensor(load(path), crystal, relax_ions=False)
    lattice = float((found.structure.volume * count / len(found.structure)) ** (1 / 3))
    stiffness = found.stiffness_gpa
    return lattice, *(float(stiffness[i, j]) for i, j in ((0, 0), (0, 1), (3, 3)))


def main(given: list[str]) -> None:
    from karat.potentials.precision import enable_float64

    enable_float64()
    print(f"{'':4}{'':10}{'a, Å':>8}{'C11':>8}{'C12':>8}{'C44 (GPa)':>11}")
    for word in given:
        element, _, path = word.partition("=")
        if element not in CRYSTALS or not Path(path).is_file():
            sys.exit(f"{word}: write ELEMENT=FILE.karat, elements {', '.join(CRYSTALS)}.")
        for title, values in (("DFT", of_dft(element)), ("fit", of_potential(element, path))):
            a, c11, c12, c44 = values
            print(f"{element:4}{title:10}{a:8.4f}{c11:8.1f}{c12:8.1f}{c44:11.1f}", flush=True)


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    main(sys.argv[1:])

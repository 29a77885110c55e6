"""From labelled structures to a fitted linear potential.

Checked: tests/potentials/linear/test_linear_model.py.
"""

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

import karat
from karat.core.components import dump
from karat.core.errors import BadInput
from karat.core.hashing import digest_json
from karat.data.dataset import Dataset
from karat.potentials.linear.bayes import Estimate, residual
from karat.potentials.linear.calibration import Errors, calibrate, coverage, leave_out
from karat.potentials.linear.design import Design, Rows
from karat.potentials.linear.ellipsoid import Row, find_ellipsoid
from karat.potentials.linear.equations import (
    Source,
    Targets,
    check_data,
    reference_energies,
)
from karat.potentials.linear.estimate import estimate, priors
from karat.potentials.linear.grade import find_active_set
from karat.potentials.linear.least_squares import Equations, Factors, Kind
from karat.potentials.linear.posterior import Posterior
from karat.potentials.linear.protocol import AbstractLinearModule
from karat.potentials.linear.regression import Regression
from karat.potentials.model import Solved, Stage
from karat.potentials.native_protocol import NativePotential
from karat.potentials.precision import require

if TYPE_CHECKING:
    from karat.potentials.linear.model import AbstractLinearModel

SAVE_SECONDS = 30.0
"""Finished equations are written to disk so often."""
CALIBRATION_STRUCTURES = 400
"""So many structures (evenly spaced) are left out in turn for the calibration."""
FEWER_STRUCTURES = 100
"""So many where their rows are not in memory and have to be computed again."""

Report = Callable[[Stage], None]


@dataclass(frozen=True, eq=False)
class Reading:
    """The equations of one dataset, read once.

    Attributes:
        data: the structures.
        source: their rows.
        factors: their triangles.
    """

    data: Dataset
    source: Source
    factors: Factors


def fit_linear(
    model: "AbstractLinearModel",
    train: Dataset,
    valid: Dataset,
    folder: Path,
    report: Report,
    fresh: bool,
) -> Solved:
    """See `AbstractLinearModel.fit`."""
    started = time.perf_counter()
    require("float64")
    regression = model.regression
    quantities = check_data(train, valid, regression.quantities)
    regression.check_groups([r.kind for r in (*train, *valid)])
    module = model.basis(train.species, "float64")
    settings = {name: value for name, value in dump(model).items() if name != "regression"}
    basis = [type(model).__qualname__, settings, train.species, quantities]
    design = Design(module)
    targets = Targets(reference_energies(train), quantities)
    fitted, targets = _read("training", train, design, targets, folder, basis, report, fresh)
    basis.append(list(targets.references.items()))  # both sets need the same
    checked, _ = _read("validation", valid, design, targets, folder, basis, report, fresh)
    trial, power, tried = _choose(regression, module, fitted.factors, checked.factors, report)
    errors = _root_mean_squares(checked.factors.weighted({}), trial)
    both = (fitted, checked) if regression.use_validation else (fitted,)
    final = trial
    if regression.use_validation:
        merged = fitted.factors.merged(checked.factors)
        final = _estimate(regression, module, merged, power)
    posterior = Posterior.none("float64")
    summary: dict[str, Any] = {}
    if regression.uncertainty:
        posterior, summary = _posterior(regression, targets, both, final, report)
    module = eqx.tree_at(
        lambda m: (m.coefficients, m.posterior),
        module,
        (jnp.asarray(final.coefficients), posterior),
    )
    summary = {
        "train_structures": len(train),
        "valid_structures": len(valid),
        "valid_digest": valid.digest,
        "features": len(final.coefficients),
        "equations": final.equations,
        "effective_coefficients": final.effective,
        "noise": {name: float(value) for name, value in final.noise.items()},
        "smoothness": power,
        "smoothness_search": tried,
        **errors,
        **summary,
    }
    potential = NativePotential(module, targets.references, train.level)
    note = _note(regression, final, power)
    references = "least squares of the training energies on compositions"
    return Solved(potential, summary, time.perf_counter() - started, note, references)


def _note(regression: Regression, final: Estimate, power: float) -> str:
    note = (
        f"{regression.solver} with {final.equations} equations for {len(final.coefficients)} "
        f"coefficients, of which the data determine {final.effective:.0f}"
    )
    if len(regression.smoothness) > 1 and power == max(regression.smoothness):
        note += f" (smoothness {power:g} is the largest of those tried: a larger may be better)"
    return note


def _read(
    words: str,
    data: Dataset,
    design: Design,
    targets: Targets,
    folder: Path,
    basis: list[Any],
    report: Report,
    fresh: bool,
) -> tuple[Reading, Targets]:
    """The equations of all structures; those of the first ones may stand in `folder`, from an
    interrupted run or from one with fewer structures: then with its reference energies."""
    path = folder / f"{words}-equations.safetensors"
    columns = design.features + 1

    def digest_of(count: int) -> str:
        records = [record.digest for record in data.records[:count]]
        return digest_json([basis, records, karat.__version__])

    factors = Factors(columns)
    if not fresh:
        factors, references = Factors.read(path, digest_of, columns)
        targets = replace(targets, references=references or targets.references)
    source = Source(design, data.structures)
    saved = time.perf_counter()
    first = factors.structures
    waiting: list[list[Equations]] = []
    for index, rows in enumerate(source.rows(range(first, len(data))), start=first):
        waiting.append(targets.equations(data.records[index], rows))
        last = index + 1 == len(data)
        late = time.perf_counter() - saved > SAVE_SECONDS
        if last or late or sum(len(e.matrix) for s in waiting for e in s) > 4 * columns + 4096:
            factors = factors.add(waiting)
            waiting = []
        if last or late:
            factors.save(path, digest_of(index + 1), targets.references)
            saved = time.perf_counter()
        report(Stage(index + 1, len(data), f"{words} structures"))
    return Reading(data, source, factors), targets


def _estimate(
    regression: Regression, module: AbstractLinearModule, factors: Factors, power: float
) -> Estimate:
    parts = factors.weighted(regression.group_weights)
    return estimate(regression, parts, priors(regression, module.roughness(), parts, power))


def _choose(
    regression: Regression,
    module: AbstractLinearModule,
    train: Factors,
    valid: Factors,
    report: Report,
) -> tuple[Estimate, float, list[list[float]]]:
    """The fit to the training structures with the smoothness of the least validation error."""
    powers = sorted(set(regression.smoothness)) if regression.has_prior else [0.0]
    checked = valid.weighted(regression.group_weights)
    tried: list[list[float]] = []
    best: tuple[float, Estimate, float] | None = None
    for index, power in enumerate(powers):
        found = _estimate(regression, module, train, power)
        error = _score(checked, found)
        tried.append([power, error])
        if best is None or error < best[0]:
            best = (error, found, power)
        report(Stage(index + 1, len(powers), f"smoothness {power:g}, error {error:.4g}"))
    assert best is not None
    return best[1], best[2], tried


def _score(valid: Mapping[Kind, Any], found: Estimate) -> float:
    """Geometric mean of the RMSE of energies (eV/atom) and forces (eV/Å)."""
    squares = [
        residual(valid[q], found.coefficients) / valid[q].rows
        for q in ("energy", "forces")
        if q in valid
    ]
    if not squares:
        raise BadInput(
            "the validation structures have neither energies nor forces of those that are fitted "
            "to. Label them, or split the data again."
        )
    return float(np.prod(squares) ** (0.5 / len(squares)))


def _root_mean_squares(valid: Mapping[Kind, Any], found: Estimate) -> dict[str, float]:
    """As the summary of a training names them."""
    names: dict[Kind, str] = {
        "energy": "valid_energy_rmse_mev_per_atom",
        "forces": "valid_force_rmse_mev_per_angstrom",
        "stress": "valid_virial_rmse_mev_per_atom",
    }
    return {
        names[q]: 1e3 * float(np.sqrt(residual(part, found.coefficients) / part.rows))
        for q, part in valid.items()
    }


def _posterior(
    regression: Regression,
    targets: Targets,
    read: tuple[Reading, ...],
    found: Estimate,
    report: Report,
) -> tuple[Posterior, dict[str, Any]]:
    """Covariance, calibration, active set and ellipsoid of the final fit, and what the file says
    of them."""
    errors = left_out_errors(regression, targets, read, found, report)
    summary: dict[str, Any] = {}
    weights = []
    for name, one in errors.items():
        if one is None:
            weights.append(np.zeros(3))
            continue
        weights.append(calibrate(one))
        share, width = coverage(one, weights[-1])
        summary[f"left_out_{name}_coverage"] = share.value
        summary[f"left_out_{name}_interval"] = width.value

    def blocks() -> Iterator[Float[np.ndarray, "_ features"]]:
        for reading in read:
            yield from reading.source.atoms()

    def structures() -> Iterator[Row]:
        total, done = sum(len(reading.data) for reading in read), 0
        for reading in read:
            for record, atoms in zip(reading.data, reading.source.atoms()):
                yield record.structure.numbers, atoms
                done += 1
                report(Stage(done, total, "means of structures"))

    active = find_active_set(blocks, lambda done, total: report(Stage(done, total, "active set")))
    summary["largest_training_grade"] = active.largest
    noise = [found.noise.get(q, np.nan) for q in ("energy", "forces", "stress")]
    posterior = Posterior(
        root=jnp.asarray(found.root),
        noise=jnp.asarray(np.array(noise, float)),
        calibration=jnp.asarray(np.stack(weights)),
        active=jnp.asarray(active.inverse),
        ellipsoid=find_ellipsoid(structures()),
    )
    return posterior, summary


def left_out_errors(
    regression: Regression,
    targets: Targets,
    read: tuple[Reading, ...],
    found: Estimate,
    report: Report,
) -> dict[str, Errors | None]:
    """Errors of energies per atom and forces of structures that are left out in turn."""
    total = sum(len(reading.data) for reading in read)
    cached = all(reading.source.complete for reading in read)
    most = CALIBRATION_STRUCTURES if cached else FEWER_STRUCTURES
    places = np.linspace(0, total - 1, min(total, most)).round().astype(int)
    kept: dict[str, list[Errors]] = {"energy": [], "forces": []}
    offset = done = 0
    for reading in read:
        own = [int(p) - offset for p in places if 0 <= p - offset < len(reading.data)]
        offset += len(reading.data)
        for index, rows in zip(own, reading.source.rows(own)):
            record = reading.data.records[index]
            equations = targets.equations(record, rows)
            factor = regression.group_weights.get(record.kind, 1.0)
            for name, one in _left_out(equations, rows, found, factor, done).items():
                kept[name].append(one)
            done += 1
            report(Stage(done, len(places), "structures left out in turn"))
    return {name: Errors.join(parts) if parts else None for name, parts in kept.items()}


def _left_out(
    equations: list[Equations], rows: Rows, found: Estimate, factor: float, owner: int
) -> dict[str, Errors]:
    """Of one structure."""
    if not equations:
        return {}
    matrix = np.concatenate([part.matrix for part in equations])
    sizes = [len(part.matrix) for part in equations]
    # equations of weight 0 were not fitted to
    noises = [found.noise.get(part.quantity, np.inf) for part in equations]
    noise = np.repeat(noises, sizes) / factor if factor > 0 else np.full(len(matrix), np.inf)
    result = leave_out(matrix[:, :-1], matrix[:, -1], noise, found.coefficients, found.root)
    made: dict[str, Errors] = {}
    ends = np.cumsum(sizes)
    for part, end in zip(equations, ends):
        own = slice(int(end) - len(part.matrix), int(end))
        if part.quantity == "stress":
            continue
        errors, variances = result.errors[own], result.variances[own]
        size = np.zeros(len(errors))
        if part.quantity == "forces":
            assert rows.core_forces is not None
            size = force_sizes(part.matrix[:, :-1] @ found.coefficients + rows.core_forces)
        terms = np.stack([np.ones(len(errors)), variances, size], axis=1)
        made[part.quantity] = Errors(errors, terms, np.full(len(errors), owner))
    return made


def force_sizes(forces: Float[np.ndarray, "values"]) -> Float[np.ndarray, "values"]:
    """Squared length of the force that each component belongs to, eV²/Å²."""
    squares = np.sum(forces.reshape(-1, 3) ** 2, axis=1)
    return np.repeat(squares, 3)

"""From labelled structures to a fitted Gaussian approximation potential.

The sparse Gaussian process is solved by an orthogonal factorisation of its equations, divided by
their noises, above a root of the kernel matrix of the sparse points: no squares are formed.

Source: Foster et al., J. Mach. Learn. Res. 10, 857 (2009); Deringer et al., Chem. Rev. 121, 10073
(2021); noises as gap_fit's default_sigma and config_type_sigma: Klawohn et al., J. Chem. Phys. 159,
174108 (2023).
Checked: tests/potentials/linear/test_gap_fit.py, against a dense Gaussian process.
"""

import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

import karat
from karat.core.components import dump
from karat.core.errors import CalculationFailed
from karat.core.hashing import digest_json
from karat.data.dataset import Dataset, Record
from karat.potentials.linear.bayes import Estimate
from karat.potentials.linear.calibration import Errors, calibrate, coverage, leave_out
from karat.potentials.linear.design import Design, Rows
from karat.potentials.linear.ellipsoid import Ellipsoid, Row, find_ellipsoid
from karat.potentials.linear.equations import Source, Targets, check_data, reference_energies
from karat.potentials.linear.fit import (
    CALIBRATION_STRUCTURES,
    FEWER_STRUCTURES,
    SAVE_SECONDS,
    Reading,
    Report,
    force_sizes,
)
from karat.potentials.linear.gap_module import GapModule
from karat.potentials.linear.gap_sparse import choose_distances, choose_points
from karat.potentials.linear.grade import find_active_set
from karat.potentials.linear.least_squares import QUANTITIES, Equations, Factors, Kind, stack
from karat.potentials.linear.posterior import Posterior
from karat.potentials.model import Solved, Stage
from karat.potentials.native_protocol import NativePotential
from karat.potentials.precision import require

if TYPE_CHECKING:
    from karat.potentials.linear.gap import Gap

Sigma = Callable[[Kind, str], float | None]
"""Noise of a quantity of structures of a kind; `None` leaves these out."""


def fit_gap(
    model: "Gap",
    train: Dataset,
    valid: Dataset,
    folder: Path,
    report: Report,
    fresh: bool,
) -> Solved:
    """See `AbstractSolvedModel.fit`."""
    started = time.perf_counter()
    require("float64")
    quantities = check_data(train, valid, model.quantities)
    model.check_groups({record.kind for record in (*train, *valid)})
    module = sparse_module(model, train, report)
    unread = ("sigma", "group_sigma", "jitter", "use_validation", "uncertainty")
    settings = {name: value for name, value in dump(model).items() if name not in unread}
    records = [record.digest for record in train.records]  # they decide the sparse points
    basis = [type(model).__qualname__, settings, train.species, quantities, records]
    targets = Targets(reference_energies(train), quantities)
    reader = _Reader(Design(module), folder, basis, report, fresh)
    fitted, targets = reader.read("training", train, targets)
    basis.append(list(targets.references.items()))
    checked, _ = reader.read("validation", valid, targets)
    root = kernel_root(module)
    trial = solve(fitted.factors, root, model.sigma_of)
    errors = _validation_errors(checked, targets, trial)
    both = (fitted, checked) if model.use_validation else (fitted,)
    final = trial
    if model.use_validation:
        final = solve(fitted.factors.merged(checked.factors), root, model.sigma_of)
    posterior, more = Posterior.none("float64"), dict[str, Any]()
    if model.uncertainty:
        posterior, more = _posterior(model.sigma_of, targets, both, final, root, report)
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
        **errors,
        **more,
    }
    potential = NativePotential(module, targets.references, train.level)
    note = (
        f"sparse Gaussian process with {final.equations} equations for "
        f"{len(final.coefficients)} sparse points, which count as {final.effective:.0f} parameters"
    )
    references = "least squares of the training energies on compositions"
    return Solved(potential, summary, time.perf_counter() - started, note, references)


def sparse_module(model: "Gap", train: Dataset, report: Report) -> GapModule:
    """The module with the sparse points that the training structures give, coefficients zero.

    Raises:
        BadInput: fewer different atoms of an element than sparse points.
    """
    structures, species, settings = train.structures, train.species, model.soap
    points = choose_points(
        structures,
        species,
        settings,
        model.n_sparse,
        model.seed,
        lambda done: report(Stage(done, len(structures), "structures to choose sparse points")),
    )
    distances = choose_distances(structures, species, settings, model.n_sparse_pairs)
    return model.module(species, tuple(map(jnp.asarray, points)), jnp.asarray(distances), "float64")


def sized(record: Record, rows: Rows, targets: Targets) -> list[Equations]:
    """Equations of noise σ: energies and virials in units of √N, since theirs are σ √N."""
    root = float(np.sqrt(len(record.structure)))
    return [
        part if part.quantity == "forces" else replace(part, matrix=root * part.matrix)
        for part in targets.equations(record, rows)
    ]


@dataclass(frozen=True)
class _Reader:
    """Reads equations; those of the first structures may stand in `folder`, from an interrupted
    run."""

    design: Design
    folder: Path
    basis: list[Any]
    report: Report
    fresh: bool

    def read(self, words: str, data: Dataset, targets: Targets) -> tuple[Reading, Targets]:
        """Of all structures, with the reference energies that they were read with."""
        path = self.folder / f"{words}-equations.safetensors"
        columns = self.design.features + 1

        def digest_of(count: int) -> str:
            records = [record.digest for record in data.records[:count]]
            return digest_json([self.basis, records, karat.__version__])

        factors = Factors(columns)
        if not self.fresh:
            factors, references = Factors.read(path, digest_of, columns)
            targets = replace(targets, references=references or targets.references)
        source = Source(self.design, data.structures)
        saved, first = time.perf_counter(), factors.structures
        waiting: list[list[Equations]] = []
        for index, rows in enumerate(source.rows(range(first, len(data))), start=first):
            waiting.append(sized(data.records[index], rows, targets))
            last = index + 1 == len(data)
            late = time.perf_counter() - saved > SAVE_SECONDS
            if last or late or sum(len(e.matrix) for s in waiting for e in s) > 2 * columns:
                factors, waiting = factors.add(waiting), []
            if last or late:
                factors.save(path, digest_of(index + 1), targets.references)
                saved = time.perf_counter()
            self.report(Stage(index + 1, len(data), f"{words} structures"))
        return Reading(data, source, factors), targets


def kernel_root(module: GapModule) -> Float[np.ndarray, "features features"]:
    """Upper triangular U with UᵀU = K_MM + jitter diag(K_MM).

    Raises:
        CalculationFailed: the jitter is too small for the sparse points.
    """
    prior, jitter = module.prior(), module.kernel.jitter
    try:
        lower = np.linalg.cholesky(prior + jitter * np.diag(np.diag(prior)))
    except np.linalg.LinAlgError as error:
        raise CalculationFailed(
            f"gap.jitter: with {jitter:g} the kernel matrix of the sparse points is not positive "
            "(too like each other). Set a larger one, e.g. 1e-8, or fewer sparse points.",
            kind="not-converged",
        ) from error
    return np.ascontiguousarray(lower.T)


def solve(factors: Factors, root: Float[np.ndarray, "features features"], sigma: Sigma) -> Estimate:
    """Mean and root of the covariance of the coefficients.

    Args:
        factors: equations.
        root: of `kernel_root`.
        sigma: noises.
    """
    from scipy.linalg import solve_triangular

    features, rows, equations = len(root), [np.pad(root, ((0, 0), (0, 1)))], 0
    for (quantity, kind), triangle in factors.triangles.items():
        noise = sigma(quantity, kind)
        if noise is not None:
            rows.append(triangle.matrix / noise)
            equations += triangle.rows
    upper = stack(rows)[:features]
    inverse = solve_triangular(upper[:, :-1], np.eye(features))
    effective = features - float(np.sum((root @ inverse) ** 2))
    found = {q: sigma(q, "") for q in QUANTITIES}
    noises = {q: value for q, value in found.items() if value is not None}
    return Estimate(inverse @ upper[:, -1], inverse, noises, effective, equations, float("nan"))


def _validation_errors(checked: Reading, targets: Targets, found: Estimate) -> dict[str, float]:
    """Root mean squares, as the summary of a training names them."""
    names: dict[Kind, str] = {
        "energy": "valid_energy_rmse_mev_per_atom",
        "forces": "valid_force_rmse_mev_per_angstrom",
        "stress": "valid_virial_rmse_mev_per_atom",
    }
    errors: dict[Kind, list[np.ndarray]] = {q: [] for q in names}
    for record, rows in zip(checked.data, checked.source.rows(range(len(checked.data)))):
        for part in targets.equations(record, rows):
            errors[part.quantity].append(part.matrix @ np.append(found.coefficients, -1.0))
    return {
        names[q]: 1e3 * float(np.sqrt(np.mean(np.concatenate(parts) ** 2)))
        for q, parts in errors.items()
        if parts
    }


def _posterior(
    sigma: Sigma,
    targets: Targets,
    read: tuple[Reading, ...],
    found: Estimate,
    root: Float[np.ndarray, "features features"],
    report: Report,
) -> tuple[Posterior, dict[str, Any]]:
    """Covariance, calibration, active set and ellipsoid, and what the file says of them."""
    summary: dict[str, Any] = {}
    weights = []
    for name, one in _left_out(sigma, targets, read, found, report).items():
        weights.append(np.zeros(3) if one is None else calibrate(one))
        if one is not None:
            share, width = coverage(one, weights[-1])
            summary[f"left_out_{name}_coverage"] = share.value
            summary[f"left_out_{name}_interval"] = width.value
    # features that are orthonormal by the prior: kernels with sparse points are nearly dependent
    inverse = np.linalg.inv(root)

    def blocks() -> Iterator[Float[np.ndarray, "_ features"]]:
        for reading in read:
            for atoms in reading.source.atoms():
                yield atoms @ inverse

    def structures() -> Iterator[Row]:
        for reading in read:
            for record, atoms in zip(reading.data, reading.source.atoms()):
                yield record.structure.numbers, atoms @ inverse

    active = find_active_set(blocks, lambda done, total: report(Stage(done, total, "active set")))
    summary["largest_training_grade"] = active.largest
    ellipsoid = find_ellipsoid(structures())
    noise = [found.noise.get(q, np.nan) for q in QUANTITIES]
    posterior = Posterior(
        root=jnp.asarray(found.root),
        noise=jnp.asarray(np.array(noise, float)),
        calibration=jnp.asarray(np.stack(weights)),
        active=jnp.asarray(inverse @ active.inverse),
        ellipsoid=None if ellipsoid is None else _of_kernels(ellipsoid, root, inverse),
    )
    return posterior, summary


def _of_kernels(ellipsoid: Ellipsoid, root: np.ndarray, inverse: np.ndarray) -> Ellipsoid:
    """The same in the space of the kernels."""
    return Ellipsoid(
        centre=jnp.asarray(np.asarray(ellipsoid.centre) @ root),
        axes=jnp.asarray(inverse @ np.asarray(ellipsoid.axes)),
    )


def _left_out(
    sigma: Sigma,
    targets: Targets,
    read: tuple[Reading, ...],
    found: Estimate,
    report: Report,
) -> dict[str, Errors | None]:
    """Errors of energies per atom and forces of structures that are left out in turn."""
    total = sum(len(reading.data) for reading in read)
    cached = all(reading.source.complete for reading in read)
    most = CALIBRATION_STRUCTURES if cached else FEWER_STRUCTURES
    chosen = np.linspace(0, total - 1, min(total, most)).round().astype(int)
    kept: dict[str, list[Errors]] = {"energy": [], "forces": []}
    offset = done = 0
    for reading in read:
        own = [int(p) - offset for p in chosen if 0 <= p - offset < len(reading.data)]
        offset += len(reading.data)
        for index, rows in zip(own, reading.source.rows(own)):
            record = reading.data.records[index]
            for name, one in _errors_of(record, rows, targets, sigma, found, done):
                kept[name].append(one)
            done += 1
            report(Stage(done, len(chosen), "structures left out in turn"))
    return {name: Errors.join(parts) if parts else None for name, parts in kept.items()}


def _errors_of(
    record: Record, rows: Rows, targets: Targets, sigma: Sigma, found: Estimate, owner: int
) -> Iterable[tuple[str, Errors]]:
    """Of one structure."""
    parts = sized(record, rows, targets)
    if not parts:
        return
    noises = [sigma(part.quantity, record.kind) for part in parts]
    noise = np.repeat(
        [np.inf if one is None else one for one in noises], [len(part.matrix) for part in parts]
    )
    matrix = np.concatenate([part.matrix for part in parts])
    result = leave_out(matrix[:, :-1], matrix[:, -1], noise, found.coefficients, found.root)
    end = 0
    for part in parts:
        start, end = end, end + len(part.matrix)
        if part.quantity == "stress":
            continue
        unit = 1.0 if part.quantity == "forces" else len(record.structure) ** -0.5
        errors = unit * result.errors[start:end]
        size = np.zeros(len(errors))
        if part.quantity == "forces":
            assert rows.core_forces is not None
            size = force_sizes(part.matrix[:, :-1] @ found.coefficients + rows.core_forces)
        variances = unit**2 * result.variances[start:end]
        terms = np.stack([np.ones(len(errors)), variances, size], axis=1)
        yield part.quantity, Errors(errors, terms, np.full(len(errors), owner))

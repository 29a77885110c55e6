"""From a molecule's forces to a module, its energy constant and its errors.

Checked: tests/potentials/kernel/test_sgdml.py.
"""

from collections.abc import Callable

import jax.numpy as jnp
import numpy as np

from karat.core.errors import CalculationFailed
from karat.data.dataset import Dataset
from karat.potentials.kernel.geometry import Geometries, pair_permutations
from karat.potentials.kernel.sgdml_data import MoleculeData
from karat.potentials.kernel.sgdml_module import SgdmlModule
from karat.potentials.kernel.solve import Factor
from karat.potentials.native_protocol import NativePotential


def solve(
    data: MoleculeData,
    group: np.ndarray,
    sigma: float,
    regularization: float,
    progress: Callable[[int, int], None] | None = None,
) -> tuple[Factor, SgdmlModule]:
    """The factorised covariance of the forces, and the module that predicts from it.

    Raises:
        CalculationFailed: kind ``not-positive-definite``, with what to do.
    """
    geometries = Geometries.of(data.positions)
    pairs = pair_permutations(group)
    try:
        factor = Factor.of(geometries, pairs, sigma, regularization, progress)
    except CalculationFailed as error:
        raise CalculationFailed(
            f"sgdml with sigma {sigma:g}: {error}. Structures are nearly the same, or sigma is too "
            "large: thin the data (`karat check` names near duplicates), lower sigma or raise "
            "regularization.",
            kind=error.kind,
        ) from error
    scale = float(np.std(data.forces))
    coefficients = scale * factor.coefficients(data.forces / scale)
    module = SgdmlModule(
        numbers=jnp.asarray(data.numbers, jnp.int32),
        permutations=jnp.asarray(group, jnp.int32),
        positions=jnp.asarray(data.positions),
        descriptors=jnp.asarray(geometries.descriptors),
        coefficients=jnp.asarray(coefficients),
        sigma=jnp.asarray(float(sigma)),
        regularization=jnp.asarray(regularization),
        deviation=jnp.asarray(np.nan),
        species=tuple(sorted(set(data.numbers.tolist()))),
    )
    return factor, module


def energy_constant(module: SgdmlModule, data: MoleculeData) -> float:
    """The mean difference, in eV, between energies and what forces integrate to."""
    predicted = NativePotential(module).predict(data.structures, ("energy",))
    return float(np.mean(data.energies - [one.energy or 0.0 for one in predicted]))


def as_potential(module: SgdmlModule, constant: float, train: Dataset) -> NativePotential:
    """The module with its constant as equal reference energies of all atoms."""
    each = constant / len(module.numbers)
    return NativePotential(module, dict.fromkeys(module.species, each), train.level)


def calibrate(
    factor: Factor,
    potential: NativePotential,
    valid: MoleculeData,
    progress: Callable[[int, int], None] | None = None,
) -> float:
    """What makes posterior deviations of forces as large as the errors on validation data.

    Only along the directions that change distances: of net forces and torques, which labels may
    have, the model knows nothing.
    """
    geometries = Geometries.of(valid.positions)
    _, variances = factor.variances(geometries, progress)
    labels = potential.predict(valid.structures)
    errors = np.stack([np.asarray(one.forces) for one in labels]) - valid.forces
    inner = np.einsum("fci,fc->fi", geometries.directions, errors.reshape(len(valid), -1))
    return float(np.sqrt(np.sum(inner**2) / np.sum(variances)))


def force_rmse(potential: NativePotential, data: MoleculeData) -> float:
    """RMSE over all force components, eV/Å."""
    labels = potential.predict(data.structures)
    errors = np.stack([np.asarray(one.forces) for one in labels]) - data.forces
    return float(np.sqrt(np.mean(errors**2)))


def validation_errors(potential: NativePotential, data: MoleculeData) -> dict[str, float]:
    """As the summary of a training names them."""
    labels = potential.predict(data.structures)
    energies = np.array([one.energy for one in labels], dtype=float)
    forces = np.stack([np.asarray(one.forces) for one in labels])
    per_atom = 1e3 * (energies - data.energies) / len(data.numbers)
    return {
        "valid_energy_rmse_mev_per_atom": float(np.sqrt(np.mean(per_atom**2))),
        "valid_force_rmse_mev_per_angstrom": 1e3
        * float(np.sqrt(np.mean((forces - data.forces) ** 2))),
    }

"""First coefficients of a moment tensor potential, by linear least squares.

Checked: tests/potentials/native/test_mtp.py.
"""

from math import floor

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from karat.core.errors import BadInput
from karat.data.dataset import Dataset
from karat.potentials.batch import make_batch
from karat.potentials.native.mtp_module import MtpModule
from karat.potentials.native.scales import STRUCTURES_COUNTED, regressed_energies
from karat.potentials.native_protocol import derive_compiled
from karat.structures.neighbours import neighbour_pairs

LABELS_PER_COEFFICIENT = 8
"""Of the structures that are used, where there are so many."""
ENERGY_WEIGHT = 10.0
"""Of the squared error of energies per atom, relative to that of force components: the trainer's
default."""
RIDGE = 1e-6
"""Relative to the largest eigenvalue: contractions are nearly dependent, from level 16 on exactly
(the Gram determinant of four directions vanishes)."""


def nearest_distance(dataset: Dataset, cutoff: float) -> float:
    """Shortest distance in the data within `cutoff`, Å, rounded down to hundredths; in larger data
    of 500 structures.

    Raises:
        BadInput: no atom has a neighbour.
    """
    count = min(len(dataset), STRUCTURES_COUNTED)
    chosen = np.unique(np.linspace(0, len(dataset) - 1, count).round().astype(int))
    lists = [neighbour_pairs(dataset.records[i].structure, cutoff) for i in chosen]
    squares = [np.sum(pairs.vectors**2, axis=1).min() for pairs in lists if len(pairs)]
    if not squares:
        raise BadInput(
            f"No atom of the training data has a neighbour within {cutoff} Å. "
            "Raise cutoff_angstrom."
        )
    return floor(100 * np.sqrt(min(squares))) / 100


def started(module: MtpModule, dataset: Dataset) -> MtpModule:
    """`module` with the linear coefficients and e that least squares gives for its radial
    functions, on forces and energies of a part of the data, and with the mixing that makes the
    second derivatives of that problem alike in all directions."""
    count = len(module.linear)
    plain = eqx.tree_at(
        lambda m: (m.mixing, m.elements),
        module,
        (jnp.eye(count, dtype=module.scale.dtype), jnp.zeros_like(module.elements)),
    )
    matrix, target = _equations(plain, _part(dataset, count))
    sizes = np.sqrt(np.sum(matrix**2, axis=0))
    sizes = np.maximum(sizes, 1e-6 * max(float(sizes.max()), 1e-6))
    matrix = matrix / sizes
    curvatures, axes = np.linalg.eigh(matrix[:, :count].T @ matrix[:, :count])
    widths = np.sqrt(np.maximum(curvatures, 0) + RIDGE * max(float(curvatures[-1]), RIDGE))
    mixing = axes / widths / sizes[:count, None]
    solution = _ridge(matrix, target)
    linear = widths * (axes.T @ solution[:count])  # the same in terms of the mixing
    elements = solution[count:] / sizes[count:]
    arrays = tuple(jnp.asarray(one, module.scale.dtype) for one in (mixing, linear, elements))
    return eqx.tree_at(lambda m: (m.mixing, m.linear, m.elements), module, arrays)


def _part(dataset: Dataset, coefficients: int) -> Dataset:
    """Structures spread evenly over the data, with enough labels, and with every element."""
    atoms = np.mean([len(structure) for structure in dataset.structures])
    wanted = int(np.ceil(LABELS_PER_COEFFICIENT * coefficients / (3 * atoms)))
    count = min(len(dataset), max(wanted, 2))
    chosen = set(np.linspace(0, len(dataset) - 1, count).round().astype(int).tolist())
    seen = set(dataset.subset(sorted(chosen)).species)
    for index, structure in enumerate(dataset.structures):
        new = {int(z) for z in structure.numbers} - seen
        if new:
            chosen.add(index)
            seen |= new
    return dataset.subset(sorted(chosen))


def _equations(
    module: MtpModule, part: Dataset
) -> tuple[Float[np.ndarray, "labels coefficients"], Float[np.ndarray, "labels"]]:
    """Matrix and right side of the linear problem for ξ and e, relative to the module's scale and
    weighted so that the sum of squares is a mean, as in the trainer's loss; energies are relative
    to what the composition gives."""
    forces, energies = _columns(module, part)
    scale = float(module.scale)
    counts = np.array([np.sum(s.numbers[:, None] == module.species, 0) for s in part.structures])
    labels = list(zip(part.structures, part.labels, strict=True))
    pushed = np.concatenate([np.full(len(s), one.forces is not None) for s, one in labels])
    rows, targets = [], []
    if pushed.any():
        target = np.concatenate([x.forces.ravel() for x in part.labels if x.forces is not None])
        columns = forces[pushed].reshape(len(target), -1) / np.sqrt(len(target))
        rows.append(np.concatenate([columns, np.zeros((len(target), counts.shape[1]))], axis=1))
        targets.append(target / np.sqrt(len(target)))
    known = np.array([one.energy is not None for one in part.labels])
    if known.any():
        values = np.array([one.energy for one in part.labels if one.energy is not None])
        mine = [structure for structure, one in labels if one.energy is not None]
        reference, _ = regressed_energies(mine, values, module.species)
        weight = np.sqrt(ENERGY_WEIGHT / len(values)) / counts[known].sum(axis=1)
        columns = np.concatenate([energies, scale * counts], axis=1)[known]
        rows.append(columns * weight[:, None])
        targets.append((values - counts[known] @ reference) * weight)
    return np.concatenate(rows) / scale, np.concatenate(targets) / scale


def _columns(
    module: MtpModule, part: Dataset
) -> tuple[Float[np.ndarray, "atoms 3 contractions"], Float[np.ndarray, "structures contractions"]]:
    """Forces and energies of each contraction."""
    batch = make_batch(part.structures, module.cutoff, module.scale.dtype, False)

    found = []
    for unit in np.eye(len(module.linear)):
        linear = jnp.asarray(unit, module.scale.dtype)
        one = derive_compiled(eqx.tree_at(lambda m: m.linear, module, linear), batch)
        found.append(jax.device_get((one.forces, one.energies)))
    atoms = sum(len(structure) for structure in part.structures)
    forces = np.stack([np.asarray(force[:atoms], np.float64) for force, _ in found], axis=2)
    energies = np.stack([np.asarray(e[: len(part)], np.float64) for _, e in found], axis=1)
    return forces, energies


def _ridge(
    matrix: Float[np.ndarray, "labels coefficients"], target: Float[np.ndarray, "labels"]
) -> Float[np.ndarray, "coefficients"]:
    """Least squares with damped small singular values."""
    left, sizes, right = np.linalg.svd(matrix, full_matrices=False)
    damped = sizes / (sizes**2 + RIDGE * max(sizes[0], RIDGE) ** 2)
    return right.T @ (damped * (left.T @ target))

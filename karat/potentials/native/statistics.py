"""Mean and spread of descriptors over a dataset, for each element."""

import jax
import numpy as np
from jaxtyping import Float

from karat.core.errors import BadInput
from karat.data.dataset import Dataset
from karat.potentials.batch import make_batch
from karat.potentials.native.acsf import Acsf
from karat.structures.neighbours import neighbour_pairs

MAX_STRUCTURES = 1000
"""More are thinned out evenly: the statistics no longer change."""
CHUNK = 16
FLOOR = 1e-2
"""Smallest spread that is divided by, relative to the largest of the element's spreads: hardly
varying descriptors are not blown up."""


def descriptor_statistics(
    acsf: Acsf, dataset: Dataset, dtype: str
) -> tuple[Float[np.ndarray, "species size"], Float[np.ndarray, "species size"]]:
    """Mean and 1/spread of each value for each central element.

    Raises:
        BadInput: no atom has a neighbour within the cut-off.
    """
    count = min(len(dataset), MAX_STRUCTURES)
    chosen = np.unique(np.linspace(0, len(dataset) - 1, count).round().astype(int))
    structures = [dataset.records[i].structure for i in chosen]
    # rare elements may be thinned out: bring them back
    seen = {int(z) for s in structures for z in s.numbers}
    for record in dataset if set(dataset.species) - seen else ():
        if {int(z) for z in record.structure.numbers} - seen:
            structures.append(record.structure)
            seen |= {int(z) for z in record.structure.numbers}
    lists = [neighbour_pairs(s, acsf.cutoff) for s in structures]
    if not any(len(pairs) for pairs in lists):
        raise BadInput(
            f"No atom of the training data has a neighbour within {acsf.cutoff} Å. "
            "Raise cutoff_angstrom."
        )
    chunks = [slice(i, i + CHUNK) for i in range(0, len(structures), CHUNK)]
    triplets = [int(sum(n * (n - 1) // 2 for n in np.bincount(p.centers))) for p in lists]
    sizes = (
        max(sum(len(s) for s in structures[c]) for c in chunks) + 1,
        max(sum(len(p) for p in lists[c]) for c in chunks) + 1,
        max(sum(triplets[c]) for c in chunks) + 1,
        CHUNK + 1,
    )
    evaluate = jax.jit(acsf)
    rows, numbers = [], []
    for chunk in chunks:
        batch = make_batch(
            structures[chunk],
            acsf.cutoff,
            np.dtype(dtype),
            acsf.needs_triplets,
            lists[chunk],
            sizes,
        )
        real = sum(len(s) for s in structures[chunk])
        rows.append(np.asarray(evaluate(batch), np.float64)[:real])
        numbers.append(np.concatenate([s.numbers for s in structures[chunk]]))
    values, elements = np.concatenate(rows), np.concatenate(numbers)
    mean = np.stack([values[elements == z].mean(axis=0) for z in acsf.species])
    spread = np.stack([values[elements == z].std(axis=0) for z in acsf.species])
    largest = np.maximum(spread.max(axis=1, keepdims=True), 1e-12)
    return mean, 1.0 / np.maximum(spread, FLOOR * largest)

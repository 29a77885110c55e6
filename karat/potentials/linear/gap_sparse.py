"""Sparse points of a Gaussian approximation potential: atoms of the training structures chosen by
leverage scores (CUR), and evenly spaced distances.

Source: Mahoney & Drineas, Proc. Natl. Acad. Sci. 106, 697 (2009); Deringer et al., Chem. Rev. 121,
10073 (2021), §4.3.
Checked: tests/potentials/linear/test_gap_fit.py.
"""

from collections.abc import Callable, Iterator, Sequence

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from ase.data import chemical_symbols
from jaxtyping import Array, Float, Int

from karat.core.errors import BadInput
from karat.potentials.batch import Batch
from karat.potentials.linear.design import Design
from karat.potentials.linear.gap_module import normalised, pair_rows, spectra
from karat.potentials.linear.posterior import Posterior
from karat.potentials.linear.protocol import AbstractLinearModule
from karat.potentials.linear.soap import places
from karat.potentials.linear.soap_settings import LEAST, SoapSettings
from karat.structures.neighbours import neighbour_pairs
from karat.structures.structure import Structure

SAME = 9
"""Atoms whose spectra agree to so many decimals along a random direction count once."""


class SpectraModule(AbstractLinearModule):
    """Features: the normalised power spectra themselves."""

    coefficients: Float[Array, "features"]
    repulsion: None
    posterior: Posterior
    settings: SoapSettings = eqx.field(static=True)
    species: tuple[int, ...] = eqx.field(static=True)
    cutoff: float = eqx.field(static=True)
    continuity: int = eqx.field(static=True, default=-1)
    needs_triplets: bool = eqx.field(static=True, default=False)

    def features(self, batch: Batch) -> Float[Array, "atoms features"]:
        return normalised(spectra(batch, self.species, self.settings))[0]

    def roughness(self) -> Float[np.ndarray, "features"]:
        return np.ones(self.coefficients.shape[0])


def spectra_of(
    structures: Sequence[Structure], species: tuple[int, ...], settings: SoapSettings
) -> Iterator[Float[np.ndarray, "_ components"]]:
    """Normalised power spectra of the atoms of each structure."""
    module = SpectraModule(
        coefficients=jnp.zeros(len(places(len(species), settings)[0])),
        repulsion=None,
        posterior=Posterior.none("float64"),
        settings=settings,
        species=species,
        cutoff=settings.reach,
    )
    for rows in Design(module, derivatives=False).rows(structures):
        yield rows.atoms


def choose_points(
    structures: Sequence[Structure],
    species: tuple[int, ...],
    settings: SoapSettings,
    count: int,
    seed: int,
    report: Callable[[int], None],
) -> tuple[Float[np.ndarray, "_ components"], ...]:
    """So many power spectra of atoms of each element.

    Args:
        report: called with the number of structures that have been read.

    Raises:
        BadInput: an element with fewer different atoms.
    """
    found: dict[int, list[np.ndarray]] = {z: [] for z in species}
    for index, (structure, rows) in enumerate(
        zip(structures, spectra_of(structures, species, settings))
    ):
        for z in species:
            found[z].append(rows[structure.numbers == z])
        report(index + 1)
    random = np.random.default_rng(seed)
    chosen = []
    for z in species:
        rows = np.concatenate(found[z])
        rows = rows[np.sort(_different(rows, random))]
        if len(rows) < count:
            raise BadInput(
                f"gap.n_sparse: {count} sparse points for each element, but the training "
                f"structures have only {len(rows)} different atoms of {chemical_symbols[z]}. Set "
                "fewer, or add structures."
            )
        chosen.append(rows[leverage_choice(rows, count, random)])
    return tuple(chosen)


def _different(
    rows: Float[np.ndarray, "atoms components"], random: np.random.Generator
) -> Int[np.ndarray, "_"]:
    """The first of each set of equal rows."""
    along = random.normal(size=rows.shape[1])
    _, first = np.unique(np.round(rows @ along, SAME), return_index=True)
    return np.asarray(first)


def leverage_choice(
    rows: Float[np.ndarray, "atoms components"], count: int, random: np.random.Generator
) -> Int[np.ndarray, "_"]:
    """Indices of so many rows, drawn without replacement with probabilities in proportion to their
    leverage scores in the space of the first `count` singular vectors."""
    return np.sort(random.choice(len(rows), count, replace=False, p=leverages(rows, count)))


def leverages(
    rows: Float[np.ndarray, "atoms components"], count: int
) -> Float[np.ndarray, "atoms"]:
    """Squared sizes of each row's entries in the first left singular vectors, sum 1."""
    tall = len(rows) > rows.shape[1]
    values, vectors = np.linalg.eigh(rows.T @ rows if tall else rows @ rows.T)
    rank = int(np.sum(values > 1e-12 * values[-1]))
    kept = slice(len(values) - min(count, rank), None)
    left = rows @ (vectors[:, kept] / np.sqrt(values[kept])) if tall else vectors[:, kept]
    scores = np.sum(left**2, axis=1)
    # rounding may leave a row without any: still, each may be drawn
    scores = np.maximum(scores, 1e-12 * scores.max())
    shares: np.ndarray = scores / scores.sum()
    return shares


def choose_distances(
    structures: Sequence[Structure], species: tuple[int, ...], settings: SoapSettings, count: int
) -> Float[np.ndarray, "kinds points"]:
    """Evenly spaced from the least distance of each pair of elements to the cut-off, Å; where
    there is no such pair, from 1 Å."""
    rows = pair_rows(len(species))
    least = np.full(int(rows.max()) + 1, np.inf)
    lookup = np.zeros(max(species) + 1, int)
    lookup[list(species)] = np.arange(len(species))
    for structure in structures:
        pairs = neighbour_pairs(structure, settings.reach)
        kinds = lookup[structure.numbers]
        which = rows[kinds[pairs.centers], kinds[pairs.neighbours]]
        np.minimum.at(least, which, np.linalg.norm(pairs.vectors, axis=1))
    least = np.where(np.isfinite(least), least, LEAST)
    return np.linspace(least, settings.reach, count, axis=1)

"""From the density of an atom to its bispectrum, and derivatives back.

Densities are arrays (functions, atoms) for each j; see `snap_basis.py`.

Checked: tests/potentials/linear/test_snap_basis.py, test_snap_lammps.py.
"""

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from karat.potentials.linear.snap_basis import largest_spin, point_values, triples
from karat.potentials.linear.snap_settings import SnapSettings


def scales(settings: SnapSettings) -> Float[np.ndarray, "components"]:
    """Of each component, B over the integral of three densities."""
    ones = [1.0 if settings.bnormflag else j + 1.0 for _, _, j in triples(settings.twojmax)]
    return np.array(ones)


def offsets(settings: SnapSettings) -> Float[np.ndarray, "components"]:
    """What `bzeroflag` subtracts: the bispectrum of an atom alone."""
    return scales(settings) * float(settings.bzeroflag)


def by_order(density: list[Array], twojmax: int) -> list[Array]:
    """For each j (functions (l, m), atoms), from arrays (m, j, atoms) for each l; with the atom's
    own share."""
    found = []
    for j in range(twojmax + 1):
        parts = [density[degree][:, j - degree] for degree in range(j + 1)]
        own = np.zeros(((j + 1) ** 2, 1))
        own[0] = np.sqrt(j + 1.0)
        found.append(jnp.concatenate(parts) + jnp.asarray(own, parts[0].dtype))
    return found


def by_degree(derivative: list[Array]) -> list[Array]:
    """The way back of `by_order`: for each l (m, j, atoms)."""
    size = len(derivative)
    return [
        jnp.stack(
            [derivative[j][degree**2 : (degree + 1) ** 2] for j in range(degree, size)], axis=1
        )
        for degree in range(size)
    ]


def in_points(density: list[Array], spin: int | None = None) -> list[Float[Array, "points atoms"]]:
    """ρ_j in the points of the quadrature, times the cube root of the weights; `spin` is of the
    quadrature, by default such that all components are exact."""
    twojmax = len(density) - 1
    tables = point_values(twojmax, largest_spin(twojmax) if spin is None else spin)
    return [
        jnp.matmul(jnp.asarray(table, values.dtype), values, precision="highest")
        for table, values in zip(tables, density)
    ]


def from_points(
    slope: Float[Array, "points any"], j: int, twojmax: int, spin: int
) -> Float[Array, "functions any"]:
    """Derivatives with respect to the density's part j from those in the points."""
    table = jnp.asarray(point_values(twojmax, spin)[j].T, slope.dtype)
    return jnp.matmul(table, slope, precision="highest")


def components(points: list[Array], settings: SnapSettings) -> Float[Array, "components atoms"]:
    """The bispectrum (less that of an atom alone, with `bzeroflag`)."""
    found = [
        jnp.sum(points[j1] * points[j2] * points[j], axis=0)
        for j1, j2, j in triples(settings.twojmax)
    ]
    scale = jnp.asarray(scales(settings), points[0].dtype)[:, None]
    return jnp.stack(found) * scale - jnp.asarray(offsets(settings), points[0].dtype)[:, None]


def energy_slopes(
    points: list[Array], factors: Float[Array, "components any"], settings: SnapSettings
) -> list[Array]:
    """∂(Σ_k factors_k B_k)/∂(density) for each j; factors of each atom, or one for all."""
    scaled = factors * jnp.asarray(scales(settings), factors.dtype)[:, None]
    slopes: list[Array] = [jnp.zeros_like(points[0]) for _ in points]
    for k, triple in enumerate(triples(settings.twojmax)):
        for j in sorted(set(triple)):
            others = list(triple)
            others.remove(j)
            product = points[others[0]] * points[others[1]]
            slopes[j] = slopes[j] + (triple.count(j) * scaled[k])[None] * product
    twojmax, spin = settings.twojmax, largest_spin(settings.twojmax)
    return [from_points(slope, j, twojmax, spin) for j, slope in enumerate(slopes)]


def component_slopes(density: list[Array], settings: SnapSettings) -> list[tuple[Array, list[int]]]:
    """For each j ∂B_k/∂(density's part j), (atoms, members, functions), and k of the members: the
    components that hold it.

    One large product of matrices for each j and each of two quadratures: components of lower
    degree need fewer points.
    """
    twojmax, atoms, dtype = settings.twojmax, density[0].shape[1], density[0].dtype
    most = largest_spin(twojmax)
    fewer = -(-3 * most // 4)
    levels = {spin: in_points(density, spin) for spin in sorted({fewer, most})}
    found = []
    for j in range(twojmax + 1):
        blocks, all_members = [], []
        for spin, points in levels.items():
            members, slopes = [], []
            for k, triple in enumerate(triples(twojmax)):
                needed = fewer if sum(triple) <= 2 * fewer else most
                if j not in triple or needed != spin:
                    continue
                others = list(triple)
                others.remove(j)
                factor = jnp.asarray(triple.count(j) * scales(settings)[k], dtype)
                slopes.append(factor * (points[others[0]] * points[others[1]]))
                members.append(k)
            if members:
                block = from_points(jnp.concatenate(slopes, axis=1), j, twojmax, spin)
                blocks.append(block.reshape(-1, len(members), atoms))
                all_members += members
        rows = jnp.concatenate(blocks, axis=1)
        found.append((jnp.transpose(rows, (2, 1, 0)), all_members))
    return found


def sum_members(
    parts: list[tuple[Array, list[int]]], count: int
) -> Float[Array, "atoms components *values"]:
    """Sums over j of what belongs to each of `count` components; parts are (atoms, members, …)."""
    first = parts[0][0]
    nothing = jnp.zeros_like(first[:, :1])
    rows = jnp.concatenate([*(part for part, _ in parts), nothing], axis=1)
    places: list[list[int]] = [[] for _ in range(count)]
    for place, k in enumerate(k for _, members in parts for k in members):
        places[k].append(place)
    empty = rows.shape[1] - 1
    table = np.array([(*found, empty, empty)[:3] for found in places])
    return rows[:, table[:, 0]] + rows[:, table[:, 1]] + rows[:, table[:, 2]]

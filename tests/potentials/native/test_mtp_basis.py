"""Contractions of moment tensors: MLIP-2's counts, values by the definition, independence."""

import itertools
import string

import numpy as np
import pytest

from karat.potentials.native.mtp_basis import graphs, monomials, program

MLIP = {
    2: (1, 1),
    4: (2, 1),
    6: (5, 5),
    8: (9, 11),
    10: (16, 25),
    12: (29, 46),
    14: (52, 81),
    16: (92, 130),
    18: (163, 201),
    20: (288, 295),
    22: (500, 421),
    24: (864, 581),
}
"""alpha_scalar_moments and alpha_index_basic_count of MLIP-2's potentials of each level, as in the
files of github.com/imw-md/motep (tests/data_path/fitting/crystals/cubic/*/pot.mtp); levels 16, 20
and 24 also in those of github.com/materialsvirtuallab/maml (mvl_models/pes/*/mtp.2020.01)."""
PRODUCTS = {8: 14, 10: 42, 12: 117, 16: 969}
"""alpha_index_times_count of the same files."""


@pytest.mark.parametrize(
    "level",
    [pytest.param(level, marks=pytest.mark.slow if level > 20 else []) for level in MLIP],
)
def test_there_are_as_many_contractions_and_components_as_in_mlip(level):
    found = graphs(level)
    assert len(set(found)) == len(found)
    ranks = {kind for graph in found for kind in zip(graph.mus, graph.ranks)}
    components = sum(len(monomials(rank)) for _, rank in ranks)
    assert (len(found), components) == MLIP[level]
    assert max(graph.level for graph in found) == level


def test_level_8_is_the_list_that_one_writes_down():
    """Powers of M00, M10, M01·M01, products of these, M02:M02."""

    def one(*vertices, edges=()):
        return tuple(vertices), tuple(edges)

    expected = {
        *(one(*[(0, 0)] * count) for count in (1, 2, 3, 4)),
        one((1, 0)),
        one((0, 0), (1, 0)),
        one((0, 1), (0, 1), edges=[1]),
        one((0, 0), (0, 1), (0, 1), edges=[1]),
        one((0, 2), (0, 2), edges=[2]),
    }
    found = {
        (
            tuple(sorted(zip(graph.mus, graph.ranks))),
            tuple(x for i, row in enumerate(graph.edges) for x in row[i:] if x),
        )
        for graph in graphs(8)
    }
    assert found == expected


@pytest.mark.parametrize("level", PRODUCTS)
def test_about_as_many_products_are_needed_as_in_mlip(level):
    steps = program(level)
    count = len(steps.last.left) + sum(len(products.left) for products, _ in steps.stages)
    assert PRODUCTS[level] <= count <= 1.02 * PRODUCTS[level]


def values(level, rows):
    """Scalars (scalars, atoms) by the program, rows (components, atoms)."""
    steps = program(level)
    result = np.zeros((steps.scalars, rows.shape[1]))
    for products, count in steps.stages:
        new = np.zeros((count, rows.shape[1]))
        terms = rows[products.left] * rows[products.right] * products.factor[:, None]
        np.add.at(new, products.target, terms)
        rows = np.concatenate([rows, new])
    last = steps.last
    np.add.at(result, last.target, rows[last.left] * rows[last.right] * last.factor[:, None])
    result[steps.ready[1]] = rows[steps.ready[0]]
    return result


def components(level, atoms, seed):
    """Moments of atoms with 14 random neighbours each, rows as the program has them, and each
    neighbour's radial functions and direction."""
    random, steps = np.random.default_rng(seed), program(level)
    unit = random.normal(size=(14, atoms, 3))
    unit /= np.linalg.norm(unit, axis=2, keepdims=True)
    x = random.uniform(-1, 1, size=(14, atoms))
    functions = int(steps.mus.max()) + 1
    radial = np.stack([np.cos(mu * np.arccos(x)) * (1 - x) ** 2 for mu in range(functions)])
    powers = np.prod(unit[..., None, :] ** steps.exponents, axis=3)
    rows = np.sum(radial[steps.mus] * np.moveaxis(powers, 2, 0), axis=1)
    return rows, radial, unit


@pytest.mark.parametrize("level", [8, 12, pytest.param(18, marks=pytest.mark.slow)])
def test_the_program_gives_the_contractions_by_their_definition(level):
    rows, radial, unit = components(level, 1, 3)
    tensors = {}
    for mu, rank in {kind for graph in graphs(level) for kind in zip(graph.mus, graph.ranks)}:
        tensor = np.zeros((3,) * rank)
        for f, direction in zip(radial[mu, :, 0], unit[:, 0]):
            outer = np.array(f)
            for _ in range(rank):
                outer = np.multiply.outer(outer, direction)
            tensor += outer
        tensors[mu, rank] = tensor
    expected = []
    for graph in graphs(level):
        letters, indices = iter(string.ascii_letters), [""] * len(graph.mus)
        for i, j in itertools.combinations(range(len(graph.mus)), 2):
            for _ in range(graph.edges[i][j]):
                letter = next(letters)
                indices[i] += letter
                indices[j] += letter
        factors = [tensors[kind] for kind in zip(graph.mus, graph.ranks)]
        expected.append(np.einsum(",".join(indices) + "->", *factors, optimize=True))
    np.testing.assert_allclose(values(level, rows)[:, 0], expected, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize(
    ("level", "dependent"),
    [(8, 0), (10, 0), (12, 0), (14, 0), (16, 1), pytest.param(18, 2, marks=pytest.mark.slow)],
)
def test_contractions_are_independent_but_for_gram_determinants(level, dependent):
    """det(u_i · u_j) = 0 for four directions. Summed over neighbours with four radial functions it
    is a relation of contractions of four moments: with all μ = 0 one of level 16; times u_1 · u_2
    one of level 18."""
    rows, _, _ = components(level, 2 * len(graphs(level)), 5)
    found = values(level, rows)
    found /= np.sqrt(np.mean(found**2, axis=1, keepdims=True))
    # independent ones are above 4e-6 of the largest, zeros at rounding
    assert np.linalg.matrix_rank(found, tol=1e-11 * np.linalg.norm(found, 2)) == (
        len(found) - dependent
    )

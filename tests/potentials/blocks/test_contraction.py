"""Symmetric contractions: counts of paths, brute force, equivariance."""

import itertools
import json
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import load_file
from scipy.spatial.transform import Rotation

from karat.core.errors import BadInput
from karat.potentials.blocks.contraction import Contraction, expansion, path_tensor, paths
from karat.potentials.linear.density import harmonics

MODELS = Path(__file__).parents[2] / "data" / "mace_torch"
RNG = np.random.default_rng(3)


def rotation_matrix(degree, rotation):
    """What takes real harmonics of x to those of Rx, from a fit to many directions."""
    points = RNG.normal(size=(60, 3))
    points /= np.linalg.norm(points, axis=1, keepdims=True)

    def block(p):
        rows = np.array(harmonics(*jnp.asarray(p.T), degree))
        return rows[degree * degree : (degree + 1) ** 2]

    return block(rotation.apply(points)) @ np.linalg.pinv(block(points))


@pytest.mark.parametrize("model", ["plain", "single", "mp_medium", "off_deep"])
def test_paths_are_as_many_as_in_maces_code(model):
    """Shapes of the weights that mace-torch 0.3.16 made (l up to 1, 2 and 3)."""
    highest = json.loads((MODELS / model / "model.json").read_text())["largest_degree"]
    found = 0
    for name, array in load_file(MODELS / model / "weights.safetensors").items():
        if ".contraction." in name and name.endswith(".weights"):
            degree, correlation = (int(part) for part in name.split(".")[3:5])
            assert len(paths(highest, correlation, degree)) == array.shape[1], name
            found += 1
    assert found >= 6


def test_independent_trees_are_as_many_as_symmetric_invariants():
    """Of one vector and one second-degree tensor: x·x, t:t, xtx, ttt and powers of the scalar are
    all invariants of degree up to 3 (classical invariant theory)."""
    # degree 3: s³, s x·x, s t:t, x t x, t:t·t; degree 2: s², x·x, t:t; degree 1: s
    assert len(expansion(2, 3, 0).trees) == 9
    rank = np.linalg.matrix_rank(
        np.array([path_tensor(2, p, 0).ravel() for p in paths(2, 3, 0)]), tol=1e-8
    )
    assert rank == 5


@pytest.mark.parametrize("unrolled", [False, True])
@pytest.mark.parametrize(("highest", "correlation"), [(1, 2), (2, 3)])
def test_results_are_the_weighted_sum_over_all_paths(highest, correlation, unrolled):
    features = RNG.normal(size=((highest + 1) ** 2, 2, 3))
    degrees = (0, 1)
    contraction = Contraction(highest, correlation, degrees, unrolled)
    weights = [RNG.normal(size=(1, contraction.weight_count(d), 3)) for d in degrees]
    trees = [
        jnp.repeat(contraction.tree_weights(d, jnp.asarray(w)).swapaxes(0, 1), 2, axis=1)
        for d, w in zip(degrees, weights)
    ]
    found = contraction(jnp.asarray(features), trees)
    for degree, weight, result in zip(degrees, weights, found):
        expected = np.zeros((2 * degree + 1, 2, 3))
        for path, w in zip(expansion(highest, correlation, degree).paths, weight[0]):
            tensor = path_tensor(highest, path, degree)
            letters = "abc"[: tensor.ndim - 1]
            factors = ",".join(f"{letter}pk" for letter in letters)
            arrays = [features] * len(letters)
            expected += w * np.einsum(f"{letters}M,{factors}->Mpk", tensor, *arrays)
        np.testing.assert_allclose(result, expected, rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("degree", [0, 1, 2])
def test_results_turn_with_the_features(degree):
    rotation = Rotation.random(random_state=4)
    blocks = [rotation_matrix(l, rotation) for l in range(3)]  # noqa: E741
    features = RNG.normal(size=(9, 2, 3))
    turned = np.concatenate(
        [np.einsum("mn,npk->mpk", b, features[l * l : (l + 1) ** 2]) for l, b in enumerate(blocks)]  # noqa: E741
    )
    contraction = Contraction(2, 3, (degree,))
    weights = RNG.normal(size=(len(expansion(2, 3, degree).trees), 2, 3))
    before, after = (
        contraction(jnp.asarray(x), [jnp.asarray(weights)])[0] for x in (features, turned)
    )
    expected = np.einsum("mn,npk->mpk", blocks[degree], before)
    np.testing.assert_allclose(after, expected, rtol=1e-9, atol=1e-9)


def test_every_path_is_symmetric_in_its_factors():
    for path in paths(2, 3, 1):
        tensor = path_tensor(2, path, 1)
        for order in itertools.permutations(range(3)):
            np.testing.assert_allclose(np.transpose(tensor, (*order, 3)), tensor, atol=1e-12)


def test_a_fourth_factor_is_refused():
    with pytest.raises(BadInput, match="correlation 4"):
        paths(2, 4, 0)

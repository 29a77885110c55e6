"""GotenNet: a hand computation, what its vectors see, refusals.

Its features are compared with gotennet's own in tests/peers/test_gotennet.py.
"""

import dataclasses

import ase.build
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from karat.core.components import dump, parse
from karat.core.errors import BadInput
from karat.potentials.conformance import CHECKS, make_subject, run_check
from karat.potentials.conformance.architecture import (
    ARCHITECTURE_CHECKS,
    random_potential,
    run_architecture_check,
)
from karat.potentials.native.gotennet import Gotennet, GotennetPaper
from karat.potentials.native_protocol import NativePotential
from karat.structures.structure import Structure

SMALL = Gotennet(cutoff_angstrom=3.0, channels=4, layers=3, attention_heads=2, radial_functions=5)


def rattled(atoms: ase.Atoms, seed: int) -> Structure:
    atoms = atoms.copy()
    atoms.positions += np.random.default_rng(seed).normal(scale=0.1, size=(len(atoms), 3))
    return Structure.from_ase(atoms)


MOLECULES = [rattled(ase.build.molecule("CH3CH2OH"), seed) for seed in range(2)]
CRYSTAL = rattled(ase.build.bulk("NaCl", "rocksalt", a=5.0).repeat((2, 1, 1)), 1)


@pytest.mark.parametrize("check", ARCHITECTURE_CHECKS)
def test_architecture(check, tmp_path):
    run_architecture_check(check, SMALL, MOLECULES, tmp_path)


@pytest.mark.slow  # each compiles for 20 s and more
@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("check", CHECKS)
def test_conformance(check, dtype):
    outcome = run_check(check, make_subject(random_potential(SMALL, MOLECULES, dtype)))
    assert outcome.status == "passed", outcome


@pytest.mark.slow
@pytest.mark.parametrize("check", CHECKS)
def test_conformance_of_a_crystal(check):
    outcome = run_check(check, make_subject(random_potential(SMALL, [CRYSTAL]), [CRYSTAL]))
    assert outcome.status == "passed", outcome


@pytest.mark.slow
@pytest.mark.parametrize(
    "check", ["forces_are_gradient", "cutoff_continuity", "rows_as_in_dynamics"]
)
@pytest.mark.parametrize(("layers", "degree"), [(1, 2), (2, 1), (2, 3)])
def test_conformance_of_other_depths_and_degrees(check, layers, degree):
    architecture = dataclasses.replace(SMALL, layers=layers, degree=degree)
    outcome = run_check(check, make_subject(random_potential(architecture, MOLECULES)))
    assert outcome.status == "passed", outcome


def silu(x):
    return x / (1 + np.exp(-x))


def times(x, matrix):
    return x @ np.asarray(matrix) / np.sqrt(np.shape(matrix)[0])


def dense(x, one):
    return times(x, one.weight) + np.asarray(one.bias)


def layers(x, weights):
    for one in weights[:-1]:
        x = silu(dense(x, one))
    return dense(x, weights[-1])


def directions(r, degree):
    """Harmonics of a unit vector, or of zero; each degree has norm 1."""
    x, y, z = r
    third = 3**0.5
    two = [third * x * y, third * y * z, third * x * z, third / 2 * (x * x - y * y)]
    two.append(z * z - 0.5 * (x * x + y * y))
    return [np.array([x, y, z]), np.array(two)][:degree]


def rejection(a, d):
    return a - np.outer(d, d @ a)


def begin(module, architecture, structure):
    """First scalars and features of links, and what layers need of distances."""
    atoms, cutoff = len(structure), architecture.cutoff_angstrom
    which = [module.species.index(z) for z in structure.numbers]
    away = structure.positions[None] - structure.positions[:, None]
    length = np.linalg.norm(away, axis=2)
    window = np.where(length < cutoff, 0.5 * (1 + np.cos(np.pi * length / cutoff)), 0.0)
    count = architecture.radial_functions
    mu = np.linspace(np.exp(-cutoff), 1, count)
    beta = (2 / count * (1 - np.exp(-cutoff))) ** -2
    radial = window[..., None] * np.exp(-beta * (np.exp(-5 * length / cutoff)[..., None] - mu) ** 2)
    first = module.surroundings
    own, near = (np.asarray(one)[which] for one in (first.embedding, first.near))
    others = window * (1 - np.eye(atoms))
    got = np.einsum("ij,ijc,jc->ic", others, dense(radial, first.filter), near)
    h = dense(np.concatenate([own, got], axis=1), module.combine)
    h = (h - h.mean(axis=1, keepdims=True)) / np.sqrt(h.var(axis=1, keepdims=True) + 1e-5)
    h = dense(silu(h * np.asarray(module.norm.weight) + np.asarray(module.norm.bias)), module.begin)
    t = (h[:, None] + h[None]) * dense(radial, module.link_filter)
    return h, t, window, away / (length + np.eye(atoms))[..., None]


def by_hand(module, architecture, structure):
    """Eqs. 1 to 13 of the paper in loops over pairs, an atom and itself included."""
    h, t, window, units = begin(module, architecture, structure)
    atoms, k, degree = len(h), architecture.channels, architecture.degree
    heads, parts = architecture.attention_heads, 1 + 2 * degree
    v = [np.zeros((atoms, 2 * n + 1, k)) for n in range(1, degree + 1)]
    for number, layer in enumerate(module.layers):
        q, key = np.split(dense(h, layer.attention), 2, axis=1)
        edge, sent, value = dense(t, layer.edge), layers(h, layer.send), layers(h, layer.value)
        score = q[:, None] * key[None] * silu(edge[..., :k])
        raised = window[..., None] * np.exp(score.reshape(atoms, atoms, heads, -1).sum(axis=3))
        weight = raised / raised.sum(axis=1, keepdims=True) / np.sqrt(k)
        weight = np.repeat(weight, parts * k // heads, axis=2)[..., : sent.shape[1]]
        o = window[..., None] * edge[..., k:] * sent[None] + weight * value[None]
        dh, dv = o[..., :k].sum(axis=1), [np.zeros_like(one) for one in v]
        for i in range(atoms):
            for j in range(atoms):
                for n, d in enumerate(directions(units[i, j], degree)):
                    dv[n][i] += np.outer(d, o[i, j, (1 + n) * k : (2 + n) * k])
                    if number:
                        start = (1 + degree + n) * k
                        dv[n][i] += v[n][j] * o[i, j, start : start + k]
        h, v = h + dh, [one + other for one, other in zip(v, dv)]
        if layer.refine is not None:
            more = np.zeros_like(t)
            query = [times(one, layer.refine.query) for one in v]
            keys = [times(one, matrix) for one, matrix in zip(v, layer.refine.keys)]
            for i in range(atoms):
                for j in range(atoms):
                    for n, d in enumerate(directions(units[i, j], degree)):
                        more[i, j] += (rejection(query[n][i], d) * rejection(keys[n][j], -d)).sum(
                            axis=0
                        )
            t = t + silu(dense(t, layer.refine.gate)) * more
        mixed = [times(one, layer.measure) for one in v]
        size = np.sqrt(sum((one**2).sum(axis=1) for one in mixed) + architecture.norm_epsilon)
        m = layers(np.concatenate([h, size], axis=1), layer.context)
        h = h + m[:, :k]
        if m.shape[1] > k:
            v = [one + m[:, None, k:] * other for one, other in zip(v, mixed)]
    return h, v, np.asarray(module.scale) * layers(h, module.output)[:, 0]


@pytest.mark.parametrize("degree", [1, 2])
def test_features_and_energies_are_the_papers_by_hand(degree):
    architecture = dataclasses.replace(SMALL, degree=degree)
    structure = MOLECULES[0]
    potential = random_potential(architecture, [structure])
    leaves, tree = jax.tree.flatten(potential.module)
    random = np.random.default_rng(3)  # biases are drawn too
    some = [x + jnp.asarray(random.normal(scale=0.1, size=x.shape)) for x in leaves]
    module = jax.tree.unflatten(tree, some)
    fixed = {name: getattr(potential.module, name) for name in ("basis", "scale")}
    module = dataclasses.replace(module, **fixed)
    h, v, energies = by_hand(module, architecture, structure)
    batch, atoms = potential.batch([structure]), len(structure)
    scalars, vectors = module.features(batch)
    np.testing.assert_allclose(scalars[:atoms], h, rtol=1e-10, atol=1e-11)
    places = (slice(0, 3), slice(3, 8))
    for place, one in zip(places, v):  # harmonics of a degree may be in another order
        mine = vectors[:atoms, place]
        found, expected = (np.einsum("iab,jac->ijbc", u, u) for u in (mine, one))
        np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-11)
    found = module.evaluate(batch).atom_energies[:atoms]
    np.testing.assert_allclose(found, energies, rtol=1e-10)


def test_a_torsion_is_seen_across_a_bond():
    """Ends out of reach of each other: the product of rejections tells the dihedral angle."""

    def twisted(phi):
        ends = [[-1.3, 0.9, 0.0], [3.1, 0.9 * np.cos(phi), 0.9 * np.sin(phi)]]
        return Structure(np.array([8, 8, 1, 1]), np.array([[0.0, 0, 0], [1.8, 0, 0], *ends]))

    module = random_potential(dataclasses.replace(SMALL, layers=2), [twisted(0.5)]).module
    potential = NativePotential(module)
    first, second = (one.energy for one in potential.predict([twisted(0.5), twisted(2.0)]))
    assert abs(first - second) > 1e-9 * abs(first)


def test_hyperparameters_survive_writing():
    for architecture in (SMALL, GotennetPaper()):
        assert parse(type(architecture), dump(architecture), "model") == architecture


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"cutoff_angstrom": 0.0}, "gotennet.cutoff_angstrom"),
        ({"channels": 1}, "gotennet.channels 1"),
        ({"layers": 0}, "gotennet.layers 0"),
        ({"radial_functions": 1}, "gotennet.radial_functions 1"),
        ({"degree": 5}, "gotennet.degree 5"),
        ({"norm_epsilon": 0.0}, "gotennet.norm_epsilon 0.0"),
        ({"channels": 30, "attention_heads": 4}, "must divide gotennet.channels"),
    ],
)
def test_senseless_hyperparameters_are_refused(values, words):
    with pytest.raises(BadInput, match=words):
        parse(Gotennet, values, "model")

"""ViSNet: a hand computation, rejections and dihedral angles, refusals.

Its energies and forces are compared with torch_geometric's in tests/peers/test_torch_geometric.py.
"""

import dataclasses

import ase.build
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from karat.core.components import dump, parse
from karat.core.errors import BadInput
from karat.potentials.blocks.links import unit_harmonics
from karat.potentials.conformance import CHECKS, make_subject, run_check
from karat.potentials.conformance.architecture import (
    ARCHITECTURE_CHECKS,
    random_potential,
    run_architecture_check,
)
from karat.potentials.model import named_arrays
from karat.potentials.native.visnet import Visnet, VisnetPaper
from karat.potentials.native_protocol import NativePotential
from karat.structures.structure import Structure

SMALL = Visnet(cutoff_angstrom=3.0, channels=4, layers=3, attention_heads=2, radial_functions=5)


def rattled(atoms: ase.Atoms, seed: int) -> Structure:
    atoms = atoms.copy()
    atoms.positions += np.random.default_rng(seed).normal(scale=0.1, size=(len(atoms), 3))
    return Structure.from_ase(atoms)


MOLECULES = [rattled(ase.build.molecule("CH3CH2OH"), seed) for seed in range(2)]
CRYSTAL = rattled(ase.build.bulk("NaCl", "rocksalt", a=5.0).repeat((2, 1, 1)), 1)


@pytest.mark.parametrize("check", ARCHITECTURE_CHECKS)
def test_architecture(check, tmp_path):
    run_architecture_check(check, SMALL, MOLECULES, tmp_path)


FAST = ("cutoff_continuity",)


def conformance_cases():
    for dtype in ("float64", "float32"):
        for check in CHECKS:
            fast = dtype == "float64" and check in FAST
            yield pytest.param(check, dtype, marks=[] if fast else [pytest.mark.slow])


@pytest.mark.parametrize(("check", "dtype"), list(conformance_cases()))
def test_conformance(check, dtype):
    outcome = run_check(check, make_subject(random_potential(SMALL, MOLECULES, dtype)))
    assert outcome.status == "passed", outcome


@pytest.mark.slow
@pytest.mark.parametrize("check", CHECKS)
def test_conformance_of_a_crystal_and_rejection_by_degree(check):
    architecture = dataclasses.replace(SMALL, reject_by_degree=True)
    outcome = run_check(check, make_subject(random_potential(architecture, [CRYSTAL]), [CRYSTAL]))
    assert outcome.status == "passed", outcome


@pytest.mark.slow
@pytest.mark.parametrize("check", ["forces_are_gradient", *FAST])
@pytest.mark.parametrize("layers", [1, 2, 4])
def test_conformance_of_other_depths_and_degree_1(check, layers):
    architecture = dataclasses.replace(SMALL, layers=layers, degree=1)
    outcome = run_check(check, make_subject(random_potential(architecture, MOLECULES)))
    assert outcome.status == "passed", outcome


def silu(x):
    return x / (1 + np.exp(-x))


def times(x, matrix):
    return x @ np.asarray(matrix) / np.sqrt(len(matrix))


def dense(x, one):
    return times(x, one.weight) + np.asarray(one.bias)


def norm(x, one):
    spread = np.sqrt(x.var(axis=-1, keepdims=True) + 1e-5)
    return (x - x.mean(axis=-1, keepdims=True)) / spread * np.asarray(one.weight) + np.asarray(
        one.bias
    )


def directions(r, degree):
    """Harmonics of a unit vector, or of zero; each degree has norm 1."""
    x, y, z = r
    third = 3**0.5
    two = [third * x * y, third * y * z, third * x * z, third / 2 * (x * x - y * y)]
    two.append(z * z - 0.5 * (x * x + y * y))
    return np.array([x, y, z, *(two if degree == 2 else [])])


def rejections(a, b, d, by_degree):
    """⟨a − ⟨a, d⟩ d, b − ⟨b, d⟩ d⟩ for each channel, of each degree or of all at once."""
    parts = [slice(0, 3), slice(3, None)] if by_degree else [slice(None)]
    return sum(
        ((a[p] - np.outer(d[p], d[p] @ a[p])) * (b[p] - np.outer(d[p], d[p] @ b[p]))).sum(axis=0)
        for p in parts
    )


def by_hand(module, architecture, structure):
    """Eqs. 1 to 13 of the paper in loops over pairs, an atom and itself included."""
    atoms, k, cutoff = len(structure), architecture.channels, architecture.cutoff_angstrom
    heads, degree = architecture.attention_heads, architecture.degree
    which = [module.species.index(z) for z in structure.numbers]
    away = structure.positions[None] - structure.positions[:, None]
    length = np.linalg.norm(away, axis=2)
    window = np.where(length < cutoff, 0.5 * (1 + np.cos(np.pi * length / cutoff)), 0.0)
    count = architecture.radial_functions
    mu = np.linspace(np.exp(-cutoff), 1, count)
    beta = (2 / count * (1 - np.exp(-cutoff))) ** -2
    shape = np.exp(-beta * (np.exp(-5 * length / cutoff)[..., None] - mu) ** 2)
    radial = window[..., None] * shape
    x, near = (
        np.asarray(one)[which] for one in (module.surroundings.embedding, module.surroundings.near)
    )
    others = 1 - np.eye(atoms)
    got = np.einsum(
        "ij,ijc,jc->ic", window * others, dense(radial, module.surroundings.filter), near
    )
    x = dense(np.concatenate([x, got], axis=1), module.combine)
    f = (x[:, None] + x[None]) * dense(radial, module.link_filter)
    v = np.zeros((atoms, (degree + 1) ** 2 - 1, k))
    for number, layer in enumerate(module.layers):
        q, key, value = np.split(dense(norm(x, layer.norm), layer.node), 3, axis=1)
        e, first = silu(dense(f, layer.edge)), number == 0
        m, dv, df = np.zeros_like(x), np.zeros_like(v), np.zeros_like(f)
        mixed = None if first else np.split(times(v, layer.mix), layer.mix.shape[1] // k, axis=2)
        for i in range(atoms):
            for j in range(atoms):
                d = directions(away[i, j] / (length[i, j] or 1), degree)
                score = (q[i] * key[j] * e[i, j, :k]).reshape(heads, -1).sum(axis=1)
                weight = np.repeat(silu(score) * window[i, j], k // heads)
                sent = value[j] * e[i, j, k : 2 * k] * weight
                gates = silu(times(sent, layer.gate))
                m[i] += sent
                dv[i] += np.outer(d, gates[-k:]) + (0 if first else v[j] * gates[:k])
                if not first and len(mixed) == 5:
                    both = mixed[3][i], mixed[4][j]
                    product = rejections(*both, d, architecture.reject_by_degree)
                    df[i, j] = e[i, j, 2 * k :] * product
        o = dense(m, layer.update)
        if not first:
            dv = dv + mixed[2] * o[:, None, :k]
            x = x + (mixed[0] * mixed[1]).sum(axis=1) * o[:, k : 2 * k]
        x, v, f = x + o[:, -k:], v + dv, f + df
    x = norm(x, module.norm)
    y, u = x, v
    for block in module.output:
        size = np.sqrt((times(u, block.measure) ** 2).sum(axis=1) + architecture.norm_epsilon)
        hidden = silu(dense(np.concatenate([y, size], axis=1), block.context[0]))
        y = dense(hidden, block.context[1])
        if block is module.output[0]:
            half = y.shape[1] // 2
            y, u = silu(y[:, :half]), y[:, None, half:] * times(u, block.carry)
    return x, v, np.asarray(module.scale) * y[:, 0]


@pytest.mark.parametrize(
    ("degree", "each"), [(1, False), (2, True), pytest.param(2, False, marks=pytest.mark.slow)]
)
def test_features_and_energies_are_the_papers_by_hand(degree, each):
    architecture = dataclasses.replace(SMALL, degree=degree, reject_by_degree=each)
    structure = MOLECULES[0]
    potential = random_potential(architecture, [structure])
    leaves, tree = jax.tree.flatten(potential.module)
    random = np.random.default_rng(3)  # biases are drawn too
    some = [x + jnp.asarray(random.normal(scale=0.1, size=x.shape)) for x in leaves]
    module = jax.tree.unflatten(tree, some)
    fixed = {name: getattr(potential.module, name) for name in ("basis", "scale")}
    module = dataclasses.replace(module, **fixed)
    x, v, energies = by_hand(module, architecture, structure)
    batch, atoms = potential.batch([structure]), len(structure)
    scalars, vectors = module.features(batch)
    np.testing.assert_allclose(scalars[:atoms], x, rtol=1e-10, atol=1e-11)
    for part in (slice(0, 3), slice(3, None)):  # harmonics of a degree may be in another order
        found, expected = (
            np.einsum("iab,jac->ijbc", u[:, part], u[:, part]) for u in (vectors[:atoms], v)
        )
        np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-11)
    np.testing.assert_allclose(module.evaluate(batch).atom_energies[:atoms], energies, rtol=1e-10)


def test_a_torsion_is_seen_across_a_bond():
    """Ends out of reach of each other: two rounds pass vectors along the bond, and one of them
    turns with the dihedral angle."""

    def twisted(phi):
        ends = [[-1.3, 0.9, 0.0], [3.1, 0.9 * np.cos(phi), 0.9 * np.sin(phi)]]
        return Structure(np.array([8, 8, 1, 1]), np.array([[0.0, 0, 0], [1.8, 0, 0], *ends]))

    module = random_potential(dataclasses.replace(SMALL, layers=2), [twisted(0.5)]).module
    potential = NativePotential(module)
    first, second = (one.energy for one in potential.predict([twisted(0.5), twisted(2.0)]))
    assert abs(first - second) > 1e-9 * abs(first)


@pytest.mark.slow
def test_vectors_turn_with_the_molecule():
    structure = MOLECULES[0]
    potential = random_potential(SMALL, [structure])
    turn, _ = np.linalg.qr(np.random.default_rng(2).normal(size=(3, 3)))
    moved = structure.replace(positions=structure.positions @ turn.T)
    scalars, vectors = potential.module.features(potential.batch([structure]))
    same, turned = potential.module.features(potential.batch([moved]))
    np.testing.assert_allclose(same, scalars, atol=1e-12)
    axes = jnp.eye(3)
    order = np.asarray(unit_harmonics(axes, jnp.ones(3), 1))  # rows: harmonics of x, y, z
    matrix = order.T @ turn @ order
    expected = np.einsum("xy,ayc->axc", matrix, vectors[:, :3])
    np.testing.assert_allclose(turned[:, :3], expected, atol=1e-12)
    assert float(jnp.abs(vectors[:9, :3]).max()) > 1e-3
    assert float(jnp.abs(vectors[:9, 3:]).max()) > 1e-3


def test_the_papers_size_has_as_many_parameters_as_torch_geometrics():
    """9,815,398 there with embeddings of 100 elements; what is missing here has no effect, except
    the biases of the gates, without which energies are continuous."""
    species = (1, 6, 7, 8, 9)
    arrays = named_arrays(VisnetPaper().skeleton(species, "float32"))
    count = sum(
        leaf.size for name, leaf in arrays.items() if not name.startswith(("basis", "scale"))
    )
    k = 256
    spare = 2 * (100 - len(species)) * k + 100 + 9 * 2 * k  # elements, their energies, the biases
    spare += 3 * k * k + k * (k + 1) + 2 * k * k + k * k + 2 * k * (k + 1)  # of the first layer
    assert count + spare + 128 + 129 == 9_815_398  # vectors of the last output


def test_hyperparameters_survive_writing():
    for architecture in (SMALL, VisnetPaper()):
        assert parse(type(architecture), dump(architecture), "model") == architecture


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"cutoff_angstrom": 0.0}, "visnet.cutoff_angstrom"),
        ({"channels": 1}, "visnet.channels 1"),
        ({"layers": 0}, "visnet.layers 0"),
        ({"radial_functions": 1}, "visnet.radial_functions 1"),
        ({"degree": 3}, "visnet.degree 3"),
        ({"norm_epsilon": 0.0}, "visnet.norm_epsilon 0.0"),
        ({"channels": 30, "attention_heads": 4}, "must divide visnet.channels"),
    ],
)
def test_senseless_hyperparameters_are_refused(values, words):
    with pytest.raises(BadInput, match=words):
        parse(Visnet, values, "model")

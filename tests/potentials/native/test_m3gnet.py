"""M3GNet: a hand computation with plain sums over triplets, the paper's size, derivatives,
invariances, what angles change.

Its energies and forces are compared with matgl's in tests/peers/test_matgl.py.
"""

import dataclasses

import ase.build
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import eval_legendre, spherical_jn

from karat.core.components import dump, parse
from karat.core.errors import BadInput
from karat.potentials.blocks.spherical_bessel import bessel_roots
from karat.potentials.conformance import CHECKS, make_subject, run_check
from karat.potentials.conformance.architecture import (
    ARCHITECTURE_CHECKS,
    random_dataset,
    random_potential,
    run_architecture_check,
)
from karat.potentials.model import named_arrays
from karat.potentials.native.m3gnet import M3gnet, M3gnetPaper
from karat.structures.structure import Structure

SMALL = M3gnet(
    cutoff_angstrom=3.0, three_body_cutoff_angstrom=2.5, channels=4, blocks=1, radial=2, degrees=3
)


def rattled(atoms: ase.Atoms, seed: int) -> Structure:
    atoms = atoms.copy()
    atoms.positions += np.random.default_rng(seed).normal(scale=0.1, size=(len(atoms), 3))
    return Structure.from_ase(atoms)


MOLECULES = [rattled(ase.build.molecule("CH3CH2OH"), seed) for seed in range(2)]
CRYSTAL = rattled(ase.build.bulk("NaCl", "rocksalt", a=4.4).repeat((2, 1, 1)), 1)


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
def test_conformance_of_a_crystal(check):
    outcome = run_check(check, make_subject(random_potential(SMALL, [CRYSTAL]), [CRYSTAL]))
    # no molecule is among the structures that were given
    assert outcome.status == "passed" or outcome.detail == "no molecule was given", outcome


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def silu(x):
    return x * sigmoid(x)


def linear(x, weight):
    return x @ np.asarray(weight) / np.sqrt(len(weight))


def layers(x, weights, last):
    for i, one in enumerate(weights):
        x = linear(x, one.weight) + np.asarray(one.bias)
        x = silu(x) if i + 1 < len(weights) else last(x)
    return x


def gated(x, value, gate, last=silu):
    return layers(x, value, last) * layers(x, gate, sigmoid)


def smooth(r, cutoff):
    """The two functions of Kocer et al. (2020) by their recurrence."""

    def plain(m):
        size = np.sqrt(2 / cutoff**3) * np.pi * (m + 1) * (m + 2) / np.hypot(m + 1, m + 2)
        return (-1) ** m * size * sum(np.sinc((m + k) * r / cutoff) for k in (1, 2))

    e = 1 * 9 / (4 * 16 + 1)
    return np.array([plain(0), (plain(1) + np.sqrt(e) * plain(0)) / np.sqrt(1 - e)])


def end(r, cutoff):
    x = r / cutoff
    return 1 - 6 * x**5 + 15 * x**4 - 10 * x**3 if x < 1 else 0.0


def angular(r, cosine, cutoff):
    """√(2/(r_c³ j²)) j_l(z r/r_c) Y_l0 by l, then n."""
    roots = bessel_roots(SMALL.degrees - 1, SMALL.radial)
    values = []
    for degree, row in enumerate(roots):
        around = np.sqrt((2 * degree + 1) / (4 * np.pi)) * eval_legendre(degree, cosine)
        for z in row:
            size = np.sqrt(2 / cutoff**3) / abs(spherical_jn(degree + 1, z))
            values.append(size * spherical_jn(degree, z * r / cutoff) * around)
    return np.array(values)


def triplet_sums(block, x, pairs, vectors):
    """Eq. 2: each edge's sum over the other edges of its centre."""
    sums = []
    for here, (i, _) in enumerate(pairs):
        total = np.zeros(SMALL.radial * SMALL.degrees)
        for there, (centre, k) in enumerate(pairs):
            if centre != i or here == there:
                continue
            r, s = (np.linalg.norm(vectors[one]) for one in (here, there))
            basis = angular(s, vectors[here] @ vectors[there] / (r * s), SMALL.cutoff_angstrom)
            factor = sigmoid(linear(x[k], block.atoms.weight) + np.asarray(block.atoms.bias))
            ends = [end(one, SMALL.three_body_cutoff_angstrom) for one in (r, s)]
            total += basis * factor * ends[0] * ends[1]
        sums.append(total)
    return np.array(sums)


def by_hand(module, structure):
    """Energies of atoms by eqs. 2 to 5 of the paper, in loops over atoms, pairs and triplets."""
    place, atoms = structure.positions, len(structure)
    every = [(i, j) for i in range(atoms) for j in range(atoms) if i != j]
    pairs = [(i, j) for i, j in every if np.linalg.norm(place[j] - place[i]) < module.cutoff]
    vectors = np.array([place[j] - place[i] for i, j in pairs])
    h = np.array([smooth(np.linalg.norm(v), module.cutoff) for v in vectors])
    x = np.stack([np.asarray(module.embedding)[module.species.index(z)] for z in structure.numbers])
    e = silu(linear(h, module.edge_embedding))
    for many, edge, atom in zip(module.three_body, module.edge_updates, module.atom_updates):
        sums = triplet_sums(many, x, pairs, vectors)
        e = e + silu(linear(sums, many.value)) * sigmoid(linear(sums, many.gate))
        both = np.array([np.concatenate([x[i], x[j]]) for i, j in pairs])
        joined = np.concatenate([both, e], axis=1)
        e = e + gated(joined, edge.value, edge.gate) * linear(h, edge.weight)
        joined = np.concatenate([both, e], axis=1)
        messages = gated(joined, atom.value, atom.gate) * linear(h, atom.weight)
        x = x.copy()
        for (i, _), message in zip(pairs, messages):
            x[i] += message
    out = gated(x, module.output_value, module.output_gate, last=lambda value: value)
    return np.asarray(module.scale) * out[:, 0]


def test_the_energy_is_the_papers_by_hand():
    """Biases are drawn too."""
    structure = MOLECULES[0]
    potential = random_potential(dataclasses.replace(SMALL, blocks=2), [structure])
    leaves, tree = jax.tree.flatten(potential.module)
    random = np.random.default_rng(3)
    some = [x + jnp.asarray(random.normal(scale=0.3, size=x.shape)) for x in leaves]
    module = jax.tree.unflatten(tree, some)
    outputs = eqx.filter_jit(type(module).evaluate)(module, potential.batch([structure]))
    found = outputs.atom_energies[: len(structure)]
    # interpolated Bessel functions: 1e-13 of the largest
    np.testing.assert_allclose(found, by_hand(module, structure), rtol=1e-10)


def test_the_size_is_the_papers():
    """ "227,549" for 95 elements (index 0 to 94 of the authors' code), and a fixed scale."""
    module = M3gnetPaper().skeleton(tuple(range(1, 96)), "float32")
    assert sum(leaf.size for leaf in named_arrays(module).values()) == 227_549 + 1


def bent(degrees):
    turn = np.radians(degrees)
    place = np.array([[0.0, 0, 0], [1.0, 0, 0], [np.cos(turn), np.sin(turn), 0]])
    return Structure(np.array([8, 1, 1]), place)


def test_angles_matter_within_the_three_body_cutoff_only():
    """Ends of the angle do not see one another."""
    near = dataclasses.replace(SMALL, cutoff_angstrom=1.5, three_body_cutoff_angstrom=1.5)
    potential = random_potential(near, [bent(90)])
    first, second = (potential.predict([bent(angle)])[0].energy for angle in (100, 160))
    assert abs(first - second) > 1e-6
    nearer = dataclasses.replace(near, three_body_cutoff_angstrom=0.99)
    potential = random_potential(nearer, [bent(90)])
    first, second = (potential.predict([bent(angle)])[0].energy for angle in (100, 160))
    assert first == pytest.approx(second, abs=1e-9)


def test_an_edge_alone_has_no_three_body_term():
    """The term k = j is out, whatever the functions."""
    pair = Structure(np.array([1, 8]), np.array([[0.0, 0, 0], [0.3, 0.4, 1.2]]))
    potential = random_potential(SMALL, [pair])
    batch, module = potential.batch([pair]), potential.module

    @eqx.filter_jit
    def parts(module, batch):
        angles = module.angles(batch, jnp.linalg.norm(batch.vectors, axis=1))
        atoms = jnp.ones((batch.atoms, SMALL.channels))
        return angles, module.three_body[0].terms(batch, angles, atoms)

    angles, terms = parts(module, batch)
    assert np.all(np.asarray(terms) == 0.0)
    assert np.any(np.asarray(angles.functions) != 0.0)


def test_hyperparameters_survive_writing():
    for architecture in (SMALL, M3gnetPaper()):
        assert parse(type(architecture), dump(architecture), "model") == architecture


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"cutoff_angstrom": 0.0}, "m3gnet.cutoff_angstrom"),
        ({"three_body_cutoff_angstrom": 5.5}, "m3gnet.three_body_cutoff_angstrom 5.5"),
        ({"three_body_cutoff_angstrom": 0.0}, "m3gnet.three_body_cutoff_angstrom 0.0"),
        ({"channels": 1}, "m3gnet.channels 1"),
        ({"blocks": 0}, "m3gnet.blocks 0"),
        ({"radial": 0}, "m3gnet.radial 0"),
        ({"degrees": 9}, "m3gnet.degrees 9"),
    ],
)
def test_senseless_hyperparameters_are_refused(values, words):
    with pytest.raises(BadInput, match=words):
        parse(M3gnet, values, "model")


def test_the_scale_is_that_of_the_forces():
    data = random_dataset(MOLECULES)
    assert float(SMALL.initialise(data, jax.random.key(0), "float64").scale) == pytest.approx(
        np.sqrt(np.mean(np.concatenate([x.forces.ravel() for x in data.labels]) ** 2))
    )

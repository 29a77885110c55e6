"""DimeNet++: a hand computation with plain sums over triplets, the size of the authors' model,
derivatives, invariances, the pair that leads back, what angles change.

Its energies and forces are compared with torch_geometric's in
tests/peers/test_torch_geometric_dimenet.py.
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
from karat.potentials.batch import in_rows, make_batch
from karat.potentials.blocks.reverse import reverse_pairs
from karat.potentials.blocks.spherical_bessel import bessel_roots
from karat.potentials.conformance import CHECKS, make_subject, run_check
from karat.potentials.conformance.architecture import (
    ARCHITECTURE_CHECKS,
    random_dataset,
    random_potential,
    run_architecture_check,
)
from karat.potentials.model import named_arrays
from karat.potentials.native.dimenetpp import Dimenetpp, DimenetppPaper
from karat.structures.structure import Structure

SMALL = Dimenetpp(
    cutoff_angstrom=3.0,
    channels=4,
    projected=3,
    few=2,
    output_width=4,
    interactions=1,
    radial=2,
    degrees=3,
    before=1,
    after=1,
    output_layers=1,
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


def crystal_cases():
    for check in CHECKS:
        fast = check == "rows_as_in_dynamics"
        yield pytest.param(check, marks=[] if fast else [pytest.mark.slow])


@pytest.mark.parametrize("check", list(crystal_cases()))
def test_conformance_of_a_crystal(check):
    outcome = run_check(check, make_subject(random_potential(SMALL, [CRYSTAL]), [CRYSTAL]))
    # no molecule is among the structures that were given
    assert outcome.status == "passed" or outcome.detail == "no molecule was given", outcome


PERFECT = Structure.from_ase(ase.build.bulk("Cu"))
"""One atom: all its neighbours are images of itself."""


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("structures", [[PERFECT, MOLECULES[0]], [CRYSTAL]])
def test_the_pair_that_leads_back(structures, dtype):
    batch = make_batch(structures, 4.0, dtype, with_triplets=False)
    for one in (batch, in_rows(batch)):
        back, there = (np.asarray(part) for part in eqx.filter_jit(reverse_pairs)(one))
        real = np.asarray(one.pair_mask)
        np.testing.assert_array_equal(there, real)
        np.testing.assert_array_equal(np.sort(back), np.arange(len(back)))
        centers, neighbours = np.asarray(one.centers), np.asarray(one.neighbours)
        np.testing.assert_array_equal(centers[back][real], neighbours[real])
        np.testing.assert_array_equal(neighbours[back][real], centers[real])
        vectors = np.asarray(one.vectors)
        np.testing.assert_allclose(vectors[back][real], -vectors[real], atol=1e-5)


def test_a_pair_without_one_that_leads_back_disturbs_no_other():
    """Rounding at the cut-off may leave it so."""
    batch = make_batch([CRYSTAL], 4.0, np.float64, with_triplets=False)
    before, _ = (np.asarray(part) for part in reverse_pairs(batch))
    mask = np.asarray(batch.pair_mask).copy()
    mask[5] = False
    less = dataclasses.replace(batch, pair_mask=jnp.asarray(mask))
    back, there = (np.asarray(part) for part in reverse_pairs(less))
    assert not there[before[5]]
    assert np.sum(np.asarray(batch.pair_mask)) - np.sum(there) == 2
    np.testing.assert_array_equal(back[there], before[there])


def silu(x):
    return x / (1 + np.exp(-x))


def linear(x, weight):
    return x @ np.asarray(weight) / np.sqrt(len(weight))


def dense(x, layer):
    return linear(x, layer.weight) + np.asarray(layer.bias)


def residual(x, layer):
    return x + silu(dense(silu(dense(x, layer.first)), layer.second))


def envelope(r):
    x, p = r / SMALL.cutoff_angstrom, SMALL.envelope_power
    return (
        1
        - (p + 1) * (p + 2) / 2 * x**p
        + p * (p + 2) * x ** (p + 1)
        - p * (p + 1) / 2 * x ** (p + 2)
    )


def angular(r, cosine):
    """Functions of distance and angle by l, then n."""
    cutoff, values = SMALL.cutoff_angstrom, []
    for degree, row in enumerate(bessel_roots(SMALL.degrees - 1, SMALL.radial)):
        around = np.sqrt((2 * degree + 1) / (4 * np.pi)) * eval_legendre(degree, cosine)
        for z in row:
            size = np.sqrt(2 / cutoff**3) / abs(spherical_jn(degree + 1, z))
            values.append(size * spherical_jn(degree, z * r / cutoff) * around)
    return np.array(values) * envelope(r) * cutoff / r


def interaction(block, pairs, vectors, h, messages):
    sent = silu(dense(messages, block.send))
    sent = sent * linear(linear(h, block.radial_in), block.radial_out)
    sent = silu(linear(sent, block.down))
    summed = np.zeros_like(sent)
    for ji, (i, j) in enumerate(pairs):
        for kj, (end, k) in enumerate(pairs):
            if end != j or k == i:
                continue
            r = np.linalg.norm(vectors[kj])
            cosine = -vectors[ji] @ vectors[kj] / (np.linalg.norm(vectors[ji]) * r)
            factor = linear(linear(angular(r, cosine), block.angle_in), block.angle_out)
            summed[ji] += sent[kj] * factor
    values = silu(dense(messages, block.receive)) + silu(linear(summed, block.up))
    for layer in block.before:
        values = residual(values, layer)
    values = silu(dense(values, block.join)) + messages
    for layer in block.after:
        values = residual(values, layer)
    return values


def output(block, atoms, pairs, h, messages):
    x = np.zeros((atoms, messages.shape[1]))
    for (i, _), one in zip(pairs, messages * linear(h, block.radial)):
        x[i] += one
    x = linear(x, block.up)
    for layer in block.layers:
        x = silu(dense(x, layer))
    return linear(x, block.last)[:, 0]


def by_hand(module, structure):
    """Energies of atoms in loops over atoms, pairs and triplets."""
    place, atoms, cutoff = structure.positions, len(structure), module.cutoff
    every = [(i, j) for i in range(atoms) for j in range(atoms) if i != j]
    pairs = [(i, j) for i, j in every if np.linalg.norm(place[j] - place[i]) < cutoff]
    vectors = np.array([place[j] - place[i] for i, j in pairs])
    n = np.asarray(module.frequencies)
    h = np.array(
        [
            envelope(r) * np.sqrt(2 / cutoff) * np.sin(n * np.pi * r / cutoff) / r
            for r in np.linalg.norm(vectors, axis=1)
        ]
    )
    x = np.stack([np.asarray(module.embedding)[module.species.index(z)] for z in structure.numbers])
    edges = silu(dense(h, module.radial_embedding))
    rows = [np.concatenate([x[i], x[j], edge]) for (i, j), edge in zip(pairs, edges)]
    messages = silu(dense(np.array(rows), module.message_embedding))
    energies = output(module.outputs[0], atoms, pairs, h, messages)
    for block, last in zip(module.interactions, module.outputs[1:]):
        messages = interaction(block, pairs, vectors, h, messages)
        energies = energies + output(last, atoms, pairs, h, messages)
    return np.asarray(module.scale) * energies


def test_the_energy_is_the_papers_by_hand():
    """Biases are drawn too, and frequencies differ from whole numbers."""
    structure = MOLECULES[0]
    potential = random_potential(SMALL, [structure])
    leaves, tree = jax.tree.flatten(potential.module)
    random = np.random.default_rng(3)
    some = [x + jnp.asarray(random.normal(scale=0.3, size=x.shape)) for x in leaves]
    module = jax.tree.unflatten(tree, some)
    outputs = eqx.filter_jit(type(module).evaluate)(module, potential.batch([structure]))
    found = outputs.atom_energies[: len(structure)]
    # interpolated Bessel functions: 1e-13 of the largest
    np.testing.assert_allclose(found, by_hand(module, structure), rtol=1e-10)


def test_the_size_is_the_authors():
    """torch_geometric's count with its 95 elements, and a fixed scale; see tests/peers."""
    module = DimenetppPaper().skeleton(tuple(range(1, 96)), "float32")
    square = 128 * 128 + 128
    start = 95 * 128 + (6 * 128 + 128) + (3 * 128 * 128 + 128) + 6
    block = 6 * 8 + 8 * 128 + 42 * 8 + 8 * 64 + 2 * 128 * 64 + (2 + 2 * 3 + 1) * square
    last = 6 * 128 + 128 * 256 + 3 * (256 * 256 + 256) + 256
    count = sum(leaf.size for leaf in named_arrays(module).values())
    assert count == start + 4 * block + 5 * last + 1 == 1_885_830 + 1


def bent(degrees):
    turn = np.radians(degrees)
    place = np.array([[0.0, 0, 0], [1.0, 0, 0], [np.cos(turn), np.sin(turn), 0]])
    return Structure(np.array([8, 1, 1]), place)


def test_angles_between_neighbours_matter():
    """Ends of the angle do not see one another; without interactions only distances matter."""
    near = dataclasses.replace(SMALL, cutoff_angstrom=1.5)
    potential = random_potential(near, [bent(90)])
    first, second = (potential.predict([bent(angle)])[0].energy for angle in (100, 160))
    assert abs(first - second) > 1e-6
    batch, module = potential.batch([bent(100), bent(160)]), potential.module
    plain = dataclasses.replace(module, interactions=(), outputs=module.outputs[:1])
    outputs = eqx.filter_jit(type(plain).evaluate)(plain, batch)
    energies = np.asarray(outputs.atom_energies)[:6].reshape(2, 3)
    np.testing.assert_allclose(energies[0], energies[1], atol=1e-12)


def test_a_message_does_not_hear_what_comes_straight_back():
    """The term k = i is out: two atoms alone have nothing that comes in."""
    pair = Structure(np.array([1, 8]), np.array([[0.0, 0, 0], [0.3, 0.4, 1.2]]))
    potential = random_potential(SMALL, [pair])

    @eqx.filter_jit
    def incoming(module, batch):
        sent = jnp.ones((batch.centers.shape[0], SMALL.projected))
        return module.interactions[0].incoming(batch, module.geometry(batch), sent)

    summed = incoming(potential.module, potential.batch([pair]))
    np.testing.assert_allclose(np.asarray(summed)[:2], 0.0, atol=1e-13)


def test_hyperparameters_survive_writing():
    for architecture in (SMALL, DimenetppPaper()):
        assert parse(type(architecture), dump(architecture), "model") == architecture


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"cutoff_angstrom": 0.0}, "dimenetpp.cutoff_angstrom"),
        ({"channels": 1}, "dimenetpp.channels 1"),
        ({"projected": 0}, "dimenetpp.projected 0"),
        ({"interactions": 0}, "dimenetpp.interactions 0"),
        ({"degrees": 9}, "dimenetpp.degrees 9"),
        ({"envelope_power": 1}, "dimenetpp.envelope_power 1"),
        ({"after": -1}, "dimenetpp.after -1"),
    ],
)
def test_senseless_hyperparameters_are_refused(values, words):
    with pytest.raises(BadInput, match=words):
        parse(Dimenetpp, values, "model")


def test_the_scale_is_that_of_the_forces():
    data = random_dataset(MOLECULES)
    assert float(SMALL.initialise(data, jax.random.key(0), "float64").scale) == pytest.approx(
        np.sqrt(np.mean(np.concatenate([x.forces.ravel() for x in data.labels]) ** 2))
    )

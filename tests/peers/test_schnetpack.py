"""SchNet and PaiNN against schnetpack: the same weights, energies and forces."""

import ase.build
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from karat.potentials.conformance.architecture import random_potential
from karat.potentials.native.painn import Painn
from karat.potentials.native.schnet import Schnet
from karat.potentials.native_protocol import NativePotential
from karat.structures.neighbours import neighbour_pairs
from karat.structures.structure import Structure

pytestmark = pytest.mark.peers

CHANNELS, INTERACTIONS, FUNCTIONS, CUTOFF = 16, 3, 12, 4.0
MAX_NUMBER = 100
"""Rows of schnetpack's embedding."""


def rattled(atoms):
    atoms = atoms.copy()
    atoms.positions += np.random.default_rng(4).normal(scale=0.1, size=(len(atoms), 3))
    return Structure.from_ase(atoms)


STRUCTURES = {
    "molecule": rattled(ase.build.molecule("CH3CH2OH")),
    "crystal": rattled(ase.build.bulk("NaCl", "rocksalt", a=5.0).repeat((2, 2, 1))),
}


def with_biases(module, trainable):
    """All weights drawn anew, biases too; the scale 1."""
    random = np.random.default_rng(6)
    free, rest = eqx.partition(module, trainable)
    free = jax.tree.map(lambda x: jnp.asarray(random.normal(size=x.shape)), free)
    return eqx.tree_at(lambda m: m.scale, eqx.combine(free, rest), jnp.asarray(1.0))


def matrix(weight):
    """x W / √n here is x Mᵀ there."""
    return np.asarray(weight).T / np.sqrt(weight.shape[0])


def dense(start, layers):
    """Weights and biases of a torch Sequential of layers."""
    return {
        f"{start}{i}.{kind}": value
        for i, one in enumerate(layers)
        for kind, value in (("weight", matrix(one.weight)), ("bias", np.asarray(one.bias)))
    }


def embedding(module):
    rows = np.zeros((MAX_NUMBER, CHANNELS))
    rows[list(module.species)] = np.asarray(module.embedding)
    return {"body.embedding.weight": rows}


def schnet_weights(module):
    weights = embedding(module) | dense("head.outnet.", module.output)
    for i, block in enumerate(module.interactions):
        start = f"body.interactions.{i}."
        weights[start + "in2f.weight"] = matrix(block.send)
        weights |= dense(start + "filter_network.", block.filter)
        weights |= dense(start + "f2out.", block.receive)
    return weights


def answers(run, name, module, weights, structure):
    pairs = neighbour_pairs(structure, CUTOFF)
    moved = structure.positions[pairs.neighbours] - structure.positions[pairs.centers]
    return run(
        "schnetpack_energies.py",
        {
            "model": np.array(name),
            "channels": np.array(CHANNELS),
            "interactions": np.array(INTERACTIONS),
            "functions": np.array(FUNCTIONS),
            "cutoff": np.array(CUTOFF),
            "numbers": structure.numbers.astype(np.int64),
            "positions": structure.positions,
            "centers": pairs.centers.astype(np.int64),
            "neighbours": pairs.neighbours.astype(np.int64),
            "offsets": pairs.vectors - moved,
        }
        | {f"weights.{key}": value for key, value in weights.items()},
    )


def compare(module, theirs, structure):
    ours = NativePotential(module).predict([structure])[0]
    # the same formula in another order of sums; torch's softplus is x beyond 20, which is wrong by
    # 2e-9 there
    size = np.abs(ours.forces).max()
    assert ours.energy == pytest.approx(float(theirs["energy"]), rel=1e-9)
    np.testing.assert_allclose(ours.forces, theirs["forces"], rtol=0, atol=1e-9 * size)
    assert size > 0.1


@pytest.mark.parametrize("case", STRUCTURES)
def test_schnet(case, peer):
    structure = STRUCTURES[case]
    architecture = Schnet(CUTOFF, CHANNELS, INTERACTIONS, FUNCTIONS)
    potential = random_potential(architecture, [structure])
    module = with_biases(potential.module, architecture.trainable(potential.module))
    theirs = answers(peer("schnetpack"), "schnet", module, schnet_weights(module), structure)
    compare(module, theirs, structure)


def filled(weight, bias, parts):
    """The second of three blocks of outputs, or the last, is missing here where it has no effect:
    there random numbers, which must not matter."""
    random = np.random.default_rng(8)
    if weight.shape[0] == 3 * CHANNELS:
        return weight, bias
    first, second = np.split(np.concatenate([weight, bias[:, None]], axis=1), 2)
    none = random.normal(size=first.shape)
    both = np.concatenate([{0: first, 1: second, None: none}[part] for part in parts])
    return both[:, :-1], both[:, -1]


def painn_weights(module):
    """Parts of a message there: s, r̂, v; of an update: s, v, product."""
    weights = embedding(module) | dense("head.outnet.", module.output)
    filters = []
    for i, (message, update) in enumerate(zip(module.messages, module.updates)):
        context = f"body.interactions.{i}.interatomic_context_net."
        weights |= dense(context, message.context)
        last = [weights[context + f"1.{kind}"] for kind in ("weight", "bias")]
        weights[context + "1.weight"], weights[context + "1.bias"] = filled(*last, (0, 1, None))
        filters.append(filled(matrix(message.filter.weight), message.filter.bias, (0, 1, None)))
        weights[f"body.mixing.{i}.mu_channel_mix.weight"] = matrix(update.mix)
        context = f"body.mixing.{i}.intraatomic_context_net."
        weights |= dense(context, update.context)
        last = [weights[context + f"1.{kind}"] for kind in ("weight", "bias")]
        if update is module.updates[-1]:
            last = filled(*last, (0, None, 1))
        else:  # here: s, product, v
            last = [one.reshape(3, CHANNELS, *one.shape[1:])[[0, 2, 1]] for one in last]
            last = [one.reshape(-1, *one.shape[2:]) for one in last]
        weights[context + "1.weight"], weights[context + "1.bias"] = last
    weights["body.filter_net.weight"] = np.concatenate([weight for weight, _ in filters])
    weights["body.filter_net.bias"] = np.concatenate([bias for _, bias in filters])
    return weights


@pytest.mark.parametrize("case", STRUCTURES)
def test_painn(case, peer):
    structure = STRUCTURES[case]
    architecture = Painn(CUTOFF, CHANNELS, INTERACTIONS, FUNCTIONS)
    potential = random_potential(architecture, [structure])
    module = with_biases(potential.module, architecture.trainable(potential.module))
    module = jax.tree.map(lambda x: 0.5 * x, module)  # else forces of 1e5 eV/Å
    fixed = (potential.module.frequencies, jnp.asarray(1.0))
    module = eqx.tree_at(lambda m: (m.frequencies, m.scale), module, fixed)
    theirs = answers(peer("schnetpack"), "painn", module, painn_weights(module), structure)
    compare(module, theirs, structure)
    # what has no effect is left out here
    free = eqx.filter(module, architecture.trainable(module))
    count = sum(leaf.size for leaf in jax.tree.leaves(free))
    spare = CHANNELS * (FUNCTIONS + 1 + 2 * (CHANNELS + 1))
    rest = (MAX_NUMBER - len(module.species)) * CHANNELS
    assert count + spare + rest == int(theirs["parameters"])

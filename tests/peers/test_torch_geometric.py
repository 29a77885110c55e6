"""ViSNet against torch_geometric: the same weights, energies and forces."""

import dataclasses

import ase.build
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from karat.potentials.conformance.architecture import random_potential
from karat.potentials.native.visnet import Visnet
from karat.potentials.native_protocol import NativePotential
from karat.structures.neighbours import neighbour_pairs
from karat.structures.structure import Structure

pytestmark = pytest.mark.peers

K, MAX_NUMBER = 12, 100
"""Channels; rows of torch_geometric's embeddings."""
MODEL = Visnet(
    cutoff_angstrom=4.0,
    channels=K,
    layers=4,
    attention_heads=3,
    radial_functions=8,
    norm_epsilon=1e-12,  # none there
)
RANDOM = np.random.default_rng(6)


def rattled(atoms):
    atoms = atoms.copy()
    atoms.positions += np.random.default_rng(4).normal(scale=0.1, size=(len(atoms), 3))
    return Structure.from_ase(atoms)


STRUCTURES = {
    "molecule": rattled(ase.build.molecule("CH3CH2OH")),
    # cells larger than the cut-off: there an atom's own image counts as the atom itself
    "crystal": rattled(ase.build.bulk("NaCl", "rocksalt", a=5.0, cubic=True)),
}


def with_biases(module, trainable):
    """All weights drawn anew, biases too; the scale 1."""
    free, rest = eqx.partition(module, trainable)
    free = jax.tree.map(lambda x: jnp.asarray(1.3 * RANDOM.normal(size=x.shape)), free)
    return eqx.tree_at(lambda m: m.scale, eqx.combine(free, rest), jnp.asarray(1.0))


def matrix(weight):
    """x W / √n here is x Mᵀ there."""
    return np.asarray(weight).T / np.sqrt(weight.shape[0])


def dense(name, one):
    return {f"{name}.weight": matrix(one.weight), f"{name}.bias": np.asarray(one.bias)}


def norm(name, one):
    return {f"{name}.weight": np.asarray(one.weight), f"{name}.bias": np.asarray(one.bias)}


def rows(module, values):
    table = np.zeros((MAX_NUMBER, K))
    table[list(module.species)] = np.asarray(values)
    return table


def parts(names, weight, bias=None):
    """Stacked outputs here are layers of their own there."""
    found = {f"{name}.weight": one for name, one in zip(names, np.split(weight, len(names)))}
    if bias is not None:
        ends = np.split(np.asarray(bias), len(names))
        found |= {f"{name}.bias": one for name, one in zip(names, ends)}
    return found


def filled(values, blocks, place):
    """Blocks of outputs of which those not at `place` are missing here, where they have no effect:
    there random numbers, which must not matter."""
    some = RANDOM.normal(size=(blocks * K, *np.shape(values)[1:]))
    some[place] = values
    return some


def layer_weights(layer, last):
    first = layer.mix is None
    found = norm("layernorm", layer.norm)
    found |= parts(("q_proj", "k_proj", "v_proj"), matrix(layer.node.weight), layer.node.bias)
    names = ("dk_proj", "dv_proj", "f_proj")
    edge = matrix(layer.edge.weight), np.asarray(layer.edge.bias)
    if first and not last:
        edge = tuple(filled(one, 3, slice(0, 2 * K)) for one in edge)
    found |= parts(names[: len(edge[1]) // K], *edge)
    gate, update = matrix(layer.gate), (matrix(layer.update.weight), np.asarray(layer.update.bias))
    mix = np.zeros((0, K)) if first else matrix(layer.mix)
    if first:
        gate = filled(gate, 2, slice(K, None))
        update = tuple(filled(one, 3, slice(2 * K, None)) for one in update)
        mix = filled(mix, 3 if last else 5, slice(0, 0))
    # the bias that makes energies jump at the cut-off; it begins as zero there
    found |= {"s_proj.weight": gate, "s_proj.bias": np.zeros(2 * K)}
    found |= {"o_proj.weight": update[0], "o_proj.bias": update[1], "vec_proj.weight": mix[: 3 * K]}
    return found | ({} if last else parts(("w_trg_proj", "w_src_proj"), mix[3 * K :]))


def weights(module):
    body, head = "representation_model.", "output_model.output_network."
    found = {
        body + "embedding.weight": rows(module, module.surroundings.embedding),
        body + "neighbor_embedding.embedding.weight": rows(module, module.surroundings.near),
        "prior_model.atomref.weight": np.zeros((MAX_NUMBER, 1)),
    }
    found |= dense(body + "neighbor_embedding.distance_proj", module.surroundings.filter)
    found |= dense(body + "neighbor_embedding.combine", module.combine)
    found |= dense(body + "edge_embedding.edge_proj", module.link_filter)
    found |= norm(body + "out_norm", module.norm)
    for i, layer in enumerate(module.layers):
        mine = layer_weights(layer, i == len(module.layers) - 1)
        found |= {f"{body}vis_mp_layers.{i}.{name}": value for name, value in mine.items()}
    for i, block in enumerate(module.output):
        start = f"{head}{i}."
        found[start + "vec1_proj.weight"] = matrix(block.measure)
        found |= dense(start + "update_net.0", block.context[0])
        found |= dense(start + "update_net.2", block.context[1])
        if block.carry is not None:
            found[start + "vec2_proj.weight"] = matrix(block.carry)
    half, last = module.output[1].measure.shape[0], head + "1.update_net.2."
    found[head + "1.vec2_proj.weight"] = RANDOM.normal(size=(1, half))
    found[last + "weight"] = np.vstack([found[last + "weight"], RANDOM.normal(size=(1, half))])
    found[last + "bias"] = np.append(found[last + "bias"], 0.3)
    return found


@pytest.mark.parametrize(
    ("case", "degree", "layers"),
    [("molecule", 1, 3), ("molecule", 2, 4), ("crystal", 2, 4), ("molecule", 2, 1)],
)
def test_visnet(case, degree, layers, peer):
    structure = STRUCTURES[case]
    architecture = dataclasses.replace(MODEL, degree=degree, layers=layers)
    potential = random_potential(architecture, [structure])
    module = with_biases(potential.module, architecture.trainable(potential.module))
    pairs = neighbour_pairs(structure, architecture.cutoff_angstrom)
    moved = structure.positions[pairs.neighbours] - structure.positions[pairs.centers]
    given = weights(module)
    theirs = peer("torch_geometric")(
        "torch_geometric_visnet.py",
        {
            "lmax": np.array(degree),
            "num_heads": np.array(architecture.attention_heads),
            "num_layers": np.array(layers),
            "hidden_channels": np.array(K),
            "num_rbf": np.array(architecture.radial_functions),
            "cutoff": np.array(architecture.cutoff_angstrom),
            "numbers": structure.numbers.astype(np.int64),
            "positions": structure.positions,
            "centers": pairs.centers.astype(np.int64),
            "neighbours": pairs.neighbours.astype(np.int64),
            "offsets": pairs.vectors - moved,
        }
        | {f"weights.{key}": value for key, value in given.items()},
    )
    ours = NativePotential(module).predict([structure])[0]
    # the same formula in another order of sums, ε under roots apart
    size = np.abs(ours.forces).max()
    assert ours.energy == pytest.approx(float(theirs["energy"]), rel=1e-9)
    np.testing.assert_allclose(ours.forces, theirs["forces"], rtol=0, atol=1e-7 * size)
    assert size > 0.1
    assert int(theirs["parameters"]) == sum(value.size for value in given.values())

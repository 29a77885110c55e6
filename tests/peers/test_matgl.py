"""M3GNet against matgl: the same weights, energies and forces."""

import ase.build
import ase.data
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from karat.potentials.conformance.architecture import random_potential
from karat.potentials.native.m3gnet import M3gnet
from karat.potentials.native_protocol import NativePotential
from karat.structures.neighbours import neighbour_pairs
from karat.structures.structure import Structure

pytestmark = pytest.mark.peers

ARCHITECTURE = M3gnet(
    cutoff_angstrom=4.0, three_body_cutoff_angstrom=3.2, channels=8, blocks=2, radial=3, degrees=3
)


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
    """Weights and biases of a torch Sequential of layers with activations between them."""
    return {
        f"{start}{2 * i}.{kind}": value
        for i, one in enumerate(layers)
        for kind, value in (("weight", matrix(one.weight)), ("bias", np.asarray(one.bias)))
    }


def weights_of(module):
    """By matgl's names."""
    weights = {
        "embedding.layer_node_embedding.weight": np.asarray(module.embedding),
        "embedding.layer_edge_embedding.layers.0.weight": matrix(module.edge_embedding),
        # the authors' code, and the paper's number of parameters, have none
        "embedding.layer_edge_embedding.layers.0.bias": np.zeros(module.embedding.shape[1]),
    }
    for i, block in enumerate(module.three_body):
        start = f"three_body_interactions.{i}."
        weights |= dense(start + "update_network_atom.layers.", [block.atoms])
        weights[start + "update_network_bond.layers.0.weight"] = matrix(block.value)
        weights[start + "update_network_bond.gates.0.weight"] = matrix(block.gate)
    for kind, updates in (("edge", module.edge_updates), ("node", module.atom_updates)):
        for i, block in enumerate(updates):
            start = f"graph_layers.{i}.conv.{kind}_"
            weights |= dense(start + "update_func.layers.", block.value)
            weights |= dense(start + "update_func.gates.", block.gate)
            weights[start + "weight_func.weight"] = matrix(block.weight)
    weights |= dense("final_layer.layers.", module.output_value)
    return weights | dense("final_layer.gates.", module.output_gate)


@pytest.mark.parametrize("case", STRUCTURES)
def test_m3gnet(case, peer):
    structure = STRUCTURES[case]
    potential = random_potential(ARCHITECTURE, [structure])
    module = with_biases(potential.module, ARCHITECTURE.trainable(potential.module))
    weights = weights_of(module)
    pairs = neighbour_pairs(structure, module.cutoff)
    moved = structure.positions[pairs.neighbours] - structure.positions[pairs.centers]
    theirs = peer("matgl")(
        "matgl_m3gnet.py",
        {
            "units": np.array(ARCHITECTURE.channels),
            "radial": np.array(ARCHITECTURE.radial),
            "degrees": np.array(ARCHITECTURE.degrees),
            "blocks": np.array(ARCHITECTURE.blocks),
            "cutoff": np.array(module.cutoff),
            "three_body_cutoff": np.array(module.three_body_cutoff),
            "elements": np.array([ase.data.chemical_symbols[z] for z in module.species]),
            "types": np.searchsorted(module.species, structure.numbers).astype(np.int64),
            "positions": structure.positions,
            "edges": np.stack([pairs.centers, pairs.neighbours]).astype(np.int64),
            "offsets": pairs.vectors - moved,
        }
        | {f"weights.{name}": value for name, value in weights.items()},
    )
    ours = NativePotential(module).predict([structure])[0]
    # the same formula in another order of sums; cosines are cut at 1 − 1e-7 there
    size = np.abs(ours.forces).max()
    assert ours.energy == pytest.approx(float(theirs["energy"]), rel=1e-9)
    np.testing.assert_allclose(ours.forces, theirs["forces"], rtol=0, atol=1e-9 * size)
    assert size > 0.1
    free = eqx.filter(module, ARCHITECTURE.trainable(module))
    count = sum(leaf.size for leaf in jax.tree.leaves(free))
    assert count + ARCHITECTURE.channels == int(theirs["parameters"])  # the bias of edges

"""GotenNet against gotennet: the same weights, energies and forces."""

import dataclasses

import ase.build
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from karat.potentials.conformance.architecture import random_potential
from karat.potentials.native.gotennet import Gotennet
from karat.potentials.native_protocol import NativePotential
from karat.structures.neighbours import neighbour_pairs
from karat.structures.structure import Structure

pytestmark = pytest.mark.peers

K, MAX_NUMBER = 12, 100
"""Channels; rows of gotennet's embeddings."""
MODEL = Gotennet(cutoff_angstrom=4.0, channels=K, layers=3, attention_heads=3, radial_functions=8)
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
    free = jax.tree.map(lambda x: jnp.asarray(0.5 * RANDOM.normal(size=x.shape)), free)
    return eqx.tree_at(lambda m: m.scale, eqx.combine(free, rest), jnp.asarray(1.0))


def matrix(weight):
    """x W / √n here is x Mᵀ there."""
    return np.asarray(weight).T / np.sqrt(weight.shape[0])


def dense(name, one):
    return {f"{name}.weight": matrix(one.weight), f"{name}.bias": np.asarray(one.bias)}


def rows(module, values):
    table = np.zeros((MAX_NUMBER, K))
    table[list(module.species)] = np.asarray(values)
    return table


def split(names, one, widths):
    """Outputs side by side here are layers of their own there."""
    ends = np.cumsum(widths)[:-1]
    pairs = zip(names, np.split(matrix(one.weight), ends), np.split(np.asarray(one.bias), ends))
    return {
        f"{name}.{kind}": value
        for name, weight, bias in pairs
        for kind, value in (("weight", weight), ("bias", bias))
    }


def longer(found, name, count):
    """Last outputs that are missing here, where they have no effect: random numbers, which must
    not matter."""
    for kind in ("weight", "bias"):
        value = found[f"{name}.{kind}"]
        more = RANDOM.normal(size=(count - len(value), *value.shape[1:]))
        found[f"{name}.{kind}"] = np.concatenate([value, more])


def layer_weights(layer, degree):
    full = (1 + 2 * degree) * K
    found = split(("W_q", "W_k"), layer.attention, (K, K))
    found |= split(("W_re", "W_rs"), layer.edge, (K, layer.edge.bias.size - K))
    for name, network in (("gamma_s", layer.send), ("gamma_v", layer.value)):
        found |= dense(f"{name}.0", network[0]) | dense(f"{name}.1", network[1])
        longer(found, f"{name}.1", full)
    longer(found, "W_rs", full)
    if layer.refine is not None:
        found |= dense("gamma_t.dense_layers.0", layer.refine.gate)
        found["W_vq.weight"] = matrix(layer.refine.query)
        keys = {f"W_vk.{i}.weight": matrix(key) for i, key in enumerate(layer.refine.keys)}
        found |= keys
    return found


def forward_weights(layer):
    found = dense("gamma_m.0", layer.context[0]) | dense("gamma_m.1", layer.context[1])
    longer(found, "gamma_m.1", 2 * K)
    return found | {"W_vu.weight": matrix(layer.measure)}


def weights(module, degree):
    first = module.surroundings
    found = {
        "A_na.weight": rows(module, first.embedding),
        "node_init.A_nbr.weight": rows(module, first.near),
    }
    found |= dense("node_init.W_ndp.dense_layers.0", first.filter)
    found |= dense("node_init.W_nrd_nru.dense_layers.0", module.combine)
    norm = "node_init.W_nrd_nru.dense_layers.0.norm."
    found |= {norm + kind: np.asarray(getattr(module.norm, kind)) for kind in ("weight", "bias")}
    found |= dense("node_init.W_nrd_nru.dense_layers.1", module.begin)
    found |= dense("edge_init.W_erp", module.link_filter)
    for i, layer in enumerate(module.layers):
        parts = (("gata_list", layer_weights(layer, degree)), ("eqff_list", forward_weights(layer)))
        for start, mine in parts:
            found |= {f"{start}.{i}.{name}": value for name, value in mine.items()}
    return found


@pytest.mark.parametrize(
    ("case", "degree", "layers"), [("molecule", 2, 3), ("molecule", 1, 2), ("crystal", 2, 2)]
)
def test_gotennet(case, degree, layers, peer):
    structure = STRUCTURES[case]
    architecture = dataclasses.replace(MODEL, degree=degree, layers=layers)
    potential = random_potential(architecture, [structure])
    module = with_biases(potential.module, architecture.trainable(potential.module))
    pairs = neighbour_pairs(structure, architecture.cutoff_angstrom)
    moved = structure.positions[pairs.neighbours] - structure.positions[pairs.centers]
    given = weights(module, degree)
    output = dense("0", module.output[0]) | dense("1", module.output[1])
    theirs = peer("gotennet")(
        "gotennet_energies.py",
        {
            "lmax": np.array(degree),
            "num_heads": np.array(architecture.attention_heads),
            "n_interactions": np.array(layers),
            "n_atom_basis": np.array(K),
            "n_rbf": np.array(architecture.radial_functions),
            "cutoff": np.array(architecture.cutoff_angstrom),
            "numbers": structure.numbers.astype(np.int64),
            "positions": structure.positions,
            "centers": pairs.centers.astype(np.int64),
            "neighbours": pairs.neighbours.astype(np.int64),
            "offsets": pairs.vectors - moved,
        }
        | {f"weights.{key}": value for key, value in given.items()}
        | {f"output.{key}": value for key, value in output.items()},
    )
    ours = NativePotential(module).predict([structure])[0]
    # the same formula in another order of sums
    size = np.abs(ours.forces).max()
    assert ours.energy == pytest.approx(float(theirs["energy"]), rel=1e-9)
    np.testing.assert_allclose(ours.forces, theirs["forces"], rtol=0, atol=1e-9 * size)
    assert size > 0.1

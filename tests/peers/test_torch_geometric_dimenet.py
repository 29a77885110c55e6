"""DimeNet++ against torch_geometric: the same weights, energies and forces, of molecules (it has
no periodic images). The environment of matgl has it, with the scipy that it needs here."""

import ase.build
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from karat.potentials.conformance.architecture import random_potential
from karat.potentials.native.dimenetpp import Dimenetpp
from karat.potentials.native_protocol import NativePotential
from karat.structures.neighbours import neighbour_pairs
from karat.structures.structure import Structure

pytestmark = pytest.mark.peers

ARCHITECTURE = Dimenetpp(
    cutoff_angstrom=3.0,
    channels=8,
    projected=6,
    few=5,
    output_width=10,
    interactions=2,
    radial=4,
    degrees=7,
    output_layers=2,
)
MAX_NUMBER = 95
"""Rows of torch_geometric's embedding."""


def rattled(name, seed):
    atoms = ase.build.molecule(name)
    atoms.positions += np.random.default_rng(seed).normal(scale=0.1, size=(len(atoms), 3))
    return Structure.from_ase(atoms)


def with_biases(module, trainable):
    """All weights drawn anew, biases too; frequencies near whole numbers, the scale 1."""
    random = np.random.default_rng(6)
    free, rest = eqx.partition(module, trainable)
    free = jax.tree.map(lambda x: jnp.asarray(random.normal(size=x.shape)), free)
    some = module.frequencies + 0.1 * free.frequencies
    fixed = (some, jnp.asarray(1.0))
    return eqx.tree_at(lambda m: (m.frequencies, m.scale), eqx.combine(free, rest), fixed)


def matrix(weight):
    """x W / √n here is x Mᵀ there."""
    return np.asarray(weight).T / np.sqrt(weight.shape[0])


def dense(name, layer):
    return {f"{name}.weight": matrix(layer.weight), f"{name}.bias": np.asarray(layer.bias)}


def residuals(start, layers):
    parts = {}
    for i, one in enumerate(layers):
        parts |= dense(f"{start}{i}.lin1", one.first) | dense(f"{start}{i}.lin2", one.second)
    return parts


def interaction(start, block, signs, sizes):
    radial, angular = sizes
    return (
        dense(start + "lin_ji", block.receive)
        | dense(start + "lin_kj", block.send)
        | dense(start + "lin", block.join)
        | residuals(start + "layers_before_skip.", block.before)
        | residuals(start + "layers_after_skip.", block.after)
        | {
            start + "lin_rbf1.weight": matrix(block.radial_in) * radial,
            start + "lin_rbf2.weight": matrix(block.radial_out),
            start + "lin_sbf1.weight": matrix(block.angle_in) * signs * angular,
            start + "lin_sbf2.weight": matrix(block.angle_out),
            start + "lin_down.weight": matrix(block.down),
            start + "lin_up.weight": matrix(block.up),
        }
    )


def weights_of(module):
    """By torch_geometric's names. There distances are divided by the cut-off first, and the angle
    is that of what comes in with what goes out: cos θ has the other sign."""
    cutoff, radial = module.cutoff, module.frequencies.shape[0]
    sizes = ((2 / cutoff) ** 0.5 / cutoff, cutoff**-1.5)
    signs = np.repeat((-1.0) ** np.arange(module.degrees), radial)
    rows = np.zeros((MAX_NUMBER, module.embedding.shape[1]))
    rows[list(module.species)] = np.asarray(module.embedding)
    weights = {"emb.emb.weight": rows, "rbf.freq": np.pi * np.asarray(module.frequencies)}
    weights |= dense("emb.lin_rbf", module.radial_embedding)
    weights["emb.lin_rbf.weight"] = weights["emb.lin_rbf.weight"] * sizes[0]
    weights |= dense("emb.lin", module.message_embedding)
    for i, block in enumerate(module.interactions):
        weights |= interaction(f"interaction_blocks.{i}.", block, signs, sizes)
    for i, block in enumerate(module.outputs):
        start = f"output_blocks.{i}."
        weights[start + "lin_rbf.weight"] = matrix(block.radial) * sizes[0]
        weights[start + "lin_up.weight"] = matrix(block.up)
        weights[start + "lin.weight"] = matrix(block.last)
        for k, layer in enumerate(block.layers):
            weights |= dense(f"{start}lins.{k}", layer)
    return weights


def test_dimenetpp(peer):
    structure = rattled("CH3CH2OH", 4)
    potential = random_potential(ARCHITECTURE, [structure])
    module = with_biases(potential.module, ARCHITECTURE.trainable(potential.module))
    pairs = neighbour_pairs(structure, module.cutoff)
    size = {
        "hidden_channels": ARCHITECTURE.channels,
        "num_blocks": ARCHITECTURE.interactions,
        "int_emb_size": ARCHITECTURE.projected,
        "basis_emb_size": ARCHITECTURE.few,
        "out_emb_channels": ARCHITECTURE.output_width,
        "num_spherical": ARCHITECTURE.degrees,
        "num_radial": ARCHITECTURE.radial,
        "envelope_exponent": ARCHITECTURE.envelope_power - 1,
        "num_before_skip": ARCHITECTURE.before,
        "num_after_skip": ARCHITECTURE.after,
        "num_output_layers": ARCHITECTURE.output_layers,
    }
    theirs = peer("matgl")(
        "torch_geometric_dimenetpp.py",
        {
            "cutoff": np.array(module.cutoff),
            "numbers": structure.numbers.astype(np.int64),
            "positions": structure.positions,
            "edges": np.stack([pairs.neighbours, pairs.centers]).astype(np.int64),
        }
        | {f"size.{name}": np.array(value) for name, value in size.items()}
        | {f"weights.{name}": value for name, value in weights_of(module).items()},
    )
    ours = NativePotential(module).predict([structure])[0]
    # its Bessel functions of degree 6 lose six digits at the shortest distances in closed form
    scale = np.abs(ours.forces).max()
    assert ours.energy == pytest.approx(float(theirs["energy"]), rel=1e-8)
    np.testing.assert_allclose(ours.forces, theirs["forces"], rtol=0, atol=1e-8 * scale)
    assert scale > 0.1
    free = eqx.filter(module, ARCHITECTURE.trainable(module))
    count = sum(leaf.size for leaf in jax.tree.leaves(free))
    spare = (MAX_NUMBER - len(module.species)) * ARCHITECTURE.channels
    assert count + spare == int(theirs["parameters"])

"""NequIP equals nequip: weights drawn there and copied, energies and forces in float64."""

import dataclasses

import ase.build
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from karat.data.dataset import Dataset, Record
from karat.potentials.blocks.harmonics import pair_harmonics
from karat.potentials.blocks.perceptron import SILU_FACTOR
from karat.potentials.linear.coupling import real_coupling
from karat.potentials.model import named_arrays
from karat.potentials.native.nequip import Nequip
from karat.potentials.native_protocol import NativePotential
from karat.structures.labels import Labels, LevelOfTheory
from karat.structures.structure import Structure

RNG = np.random.default_rng(4)
CUTOFF = 4.0
POINTS = RNG.normal(size=(3, 3))
POINTS /= np.linalg.norm(POINTS, axis=1)[:, None]


def rattled(atoms):
    atoms = atoms.copy()
    atoms.positions += np.random.default_rng(1).normal(scale=0.1, size=(len(atoms), 3))
    return Structure.from_ase(atoms)


def triples(degree):
    span = range(degree + 1)
    return np.array(
        [(i, j, k) for i in span for j in span for k in span if abs(i - j) <= k <= i + j]
    )


def signs(degree, products):
    """The peer's coupling of each triple of degrees over karat's: both are unique up to a sign."""
    values = np.asarray(pair_harmonics(jnp.asarray(POINTS), jnp.ones(3), degree))
    found = {}
    for triple, theirs in zip(triples(degree), products):
        parts = [values[d * d : (d + 1) ** 2, point] for point, d in enumerate(triple)]
        mine = np.einsum("ijk,i,j,k->", real_coupling(*triple.tolist()), *parts)
        mine /= (2 * triple[2] + 1) ** 0.5
        assert abs(mine) > 1e-3
        np.testing.assert_allclose(abs(theirs), abs(mine), rtol=1e-10)
        found[tuple(triple.tolist())] = np.sign(theirs / mine)
    return found


def copied_layer(layer, index, got, sign):
    """The layer with the peer's weights, of which those that cannot change the energy are left
    out."""
    mine = lambda name: got[f"{index}{name}"]  # noqa: E731
    features = layer.before[0].shape[0]
    theirs = {tuple(path): row for row, path in enumerate(mine("paths"))}
    rows = []
    for i, second, o in layer.convolution.paths:
        rows.append(theirs[(*layer.inputs[i], second, *layer.outputs[o])])
    columns = np.concatenate([np.arange(features) + row * features for row in rows])
    # here: sqrt(2 / cutoff) for their 2 / cutoff of the Bessel functions, SiLU of unit variance
    # for their sqrt(2)
    radial = [mine("radial0") * (2 / CUTOFF) ** 0.5]
    radial += [mine(f"radial{i}") * 2**0.5 / SILU_FACTOR for i in (1, 2)]
    turned = [
        sign[layer.inputs[i][0], second, layer.outputs[o][0]]
        for i, second, o in layer.convolution.paths
    ]
    radial[2] = radial[2][:, columns] * np.repeat(turned, features)
    gates = [tuple(kind) for kind in mine("gated")]
    kept = [gates.index(kind) for kind in layer.outputs if kind[0] > 0]
    wide = np.concatenate([np.arange(features) + (1 + g) * features for g in kept] or [[]])
    wide = np.concatenate([np.arange(features), wide]).astype(int)
    after = []
    for place in range(len(layer.outputs)):
        mixed = [
            mine(f"after_{row}") for row, path in zip(rows, layer.convolution.paths)
            if path[2] == place
        ]  # fmt: skip
        all_paths = sum(tuple(p[3:]) == layer.outputs[place] for p in mine("paths").tolist())
        # both divide by the number of paths there are; the peer has more where some are left out
        matrix = np.concatenate(mixed) * (len(mixed) / all_paths) ** 0.5
        after.append(matrix[:, wide] if place == 0 else matrix)
    connection = []
    for kind in layer.inputs if f"{index}connection_0_1" in got else ():
        if kind in layer.outputs:
            block = mine("connection_{}_{}".format(*kind))
            connection.append(block[:, :, wide] if kind == (0, 1) else block)
    before = [mine("before_{}_{}".format(*kind)) for kind in layer.inputs]
    tuples = [tuple(map(jnp.asarray, part)) for part in (radial, before, after, connection)]
    return dataclasses.replace(
        layer, radial=tuples[0], before=tuples[1], after=tuples[2], connection=tuples[3]
    )


@pytest.mark.peers
@pytest.mark.parametrize(
    ("system", "layers", "degree", "features"),
    [("molecule", 3, 1, 32), ("molecule", 4, 2, 6), ("crystal", 4, 1, 8)],
)
def test_energies_and_forces_are_nequips(peer, system, layers, degree, features):
    atoms = (
        ase.build.molecule("CH3CH2OH")
        if system == "molecule"
        else ase.build.bulk("NaCl", "rocksalt", a=5.0).repeat((2, 1, 1))
    )
    structure = rattled(atoms)
    species = tuple(sorted(set(structure.numbers.tolist())))
    scale, shift = RNG.uniform(0.5, 2, len(species)), RNG.normal(size=len(species))
    settings = {"layers": layers, "degree": degree, "features": features}
    got = peer("nequip")(
        "nequip_energies.py",
        {name: np.array(value) for name, value in settings.items()}
        | {
            "numbers": structure.numbers, "positions": structure.positions,
            "cell": structure.cell, "periodic": structure.periodic, "seed": np.array(7),
            "scale": scale, "shift": shift, "cutoff": np.array(CUTOFF), "average": np.array(9.0),
            "points": POINTS, "triples": triples(degree),
        },
    )  # fmt: skip
    architecture = Nequip(
        cutoff_angstrom=CUTOFF, average_neighbours=9.0, radial_nodes=200, **settings
    )
    record = Record(structure, Labels(energy=0.0, forces=np.ones((len(structure), 3))))
    data = Dataset((record,), LevelOfTheory("test"))
    module = architecture.initialise(data, jax.random.key(0), "float64")
    sign = signs(degree, got["products"])
    module = eqx.tree_at(
        lambda m: (m.embedding, m.layers, m.readout, m.scale, m.shift),
        module,
        (
            jnp.asarray(got["embedding"]),
            tuple(copied_layer(layer, i, got, sign) for i, layer in enumerate(module.layers)),
            jnp.asarray(got["readout"]),
            jnp.asarray(scale),
            jnp.asarray(shift),
        ),
    )
    fresh = architecture.initialise(data, jax.random.key(0), "float64")
    for name, array in named_arrays(module).items():
        assert array.shape == named_arrays(fresh)[name].shape, name
    found = NativePotential(module, {}).predict([structure])[0]
    np.testing.assert_allclose(found.energy, got["energy"], rtol=1e-9)
    size = np.abs(got["forces"]).max()
    np.testing.assert_allclose(found.forces, got["forces"], atol=1e-8 * size)
    assert size > 1e-3

"""DeepPot-SE against deepmd-kit: statistics, descriptor and atom energies with copied weights."""

import ase.build
import equinox as eqx
import numpy as np
import pytest

from karat.potentials.conformance.architecture import random_potential
from karat.potentials.native.deeppot import DeepPot
from karat.structures.structure import Structure

pytestmark = pytest.mark.peers


@pytest.mark.parametrize("slots", [(16, 12), (40, 33)])
def test_descriptor_and_energies_are_deepmds(peer, slots):
    """With as many slots as neighbours need, and with many empty ones."""
    run = peer("deepmd")
    atoms = ase.build.bulk("NaCl", "cesiumchloride", a=3.6).repeat(3)
    generator = np.random.default_rng(0)
    atoms.positions += generator.normal(scale=0.15, size=(len(atoms), 3))
    structure = Structure.from_ase(atoms)
    architecture = DeepPot(4.2, 1.5, (5, 10, 20), 4, (12, 12, 12), slots)
    potential = random_potential(architecture, [structure])
    module = potential.module
    arrays = {
        "positions": structure.positions,
        "types": (structure.numbers == 17).astype(int),
        "cell": structure.cell,
        "settings": np.array([4.2, 1.5, 4.0]),
        "slots": np.array(slots),
        "embedding": np.array(architecture.embedding),
        "fitting": np.array(architecture.fitting),
    }
    for name, layers in (("embedding", module.embedding), ("fitting", module.fitting)):
        for k, layer in enumerate(layers):
            weight = np.asarray(layer.weight) * sum(layer.weight.shape[1:]) ** -0.5
            for kind in range(len(weight)):
                place = divmod(kind, 2) if name == "embedding" else (kind,)
                label = "_".join(map(str, (k, *place)))
                arrays[f"{name}_{label}"] = weight[kind]
                arrays[f"{name}_bias_{label}"] = np.asarray(layer.bias)[kind]
                if layer.step is not None:
                    arrays[f"{name}_step_{label}"] = np.asarray(layer.step)[kind]
    found = run("deepmd_descriptor.py", arrays)
    spread = np.asarray(module.environment.spread)
    np.testing.assert_allclose(module.environment.mean, found["mean"][:, 0], rtol=1e-12)
    np.testing.assert_allclose(spread, found["spread"][:, :2], rtol=1e-12)
    batch = potential.batch([structure])
    descriptor = np.asarray(eqx.filter_jit(module.descriptor)(batch))[: len(structure)]
    assert np.abs(found["descriptor"]).max() > 0.1
    np.testing.assert_allclose(descriptor, found["descriptor"], rtol=0, atol=1e-12)
    energies = np.asarray(eqx.filter_jit(module.evaluate)(batch).atom_energies)[: len(structure)]
    expected = float(module.scale) * found["energies"]
    np.testing.assert_allclose(energies, expected, rtol=0, atol=1e-11)

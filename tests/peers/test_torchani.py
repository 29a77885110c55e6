"""ANI against torchani: environment vectors, energies and forces with copied weights."""

import ase.build
import jax
import numpy as np
import pytest

from karat.potentials.conformance.architecture import random_potential
from karat.potentials.native.ani import Ani1x, Ani2x
from karat.structures.structure import Structure

pytestmark = pytest.mark.peers


@pytest.mark.parametrize("preset", [Ani1x, Ani2x])
def test_vectors_energies_and_forces_are_torchanis(peer, preset):
    run = peer("torchani")
    atoms = ase.build.molecule("CH3CONH2")
    atoms.positions += np.random.default_rng(0).normal(scale=0.05, size=(len(atoms), 3))
    structure = Structure.from_ase(atoms)
    potential = random_potential(preset(hidden=(20, 16, 12)), [structure])
    module, aev = potential.module, potential.module.aev
    arrays = {
        "numbers": structure.numbers,
        "positions": structure.positions,
        "radial": np.array([aev.radial_eta, aev.cutoff]),
        "angular": np.array([aev.angular_eta, aev.angular_cutoff]),
        "zeta": np.array(aev.zeta),
        "radial_shifts": np.linspace(aev.start, aev.cutoff, aev.radial_count, endpoint=False),
        "angular_shifts": np.linspace(
            aev.start, aev.angular_cutoff, aev.angular_count, endpoint=False
        ),
        "angles": np.pi / aev.sections * (np.arange(aev.sections) + 0.5),
    }
    for layer, (weight, bias) in enumerate(zip(module.weights, module.biases)):
        for element in range(len(module.species)):
            matrix = np.asarray(weight[element]).T / weight.shape[1] ** 0.5
            shift = np.array(bias[element]) + 0.1 * layer
            if layer == 0:  # the standardisation belongs to torchani's first layer
                matrix = matrix * np.asarray(module.factor[element])
                shift = shift - matrix @ np.asarray(module.mean[element])
            arrays[f"weight_{layer}_{element}"] = matrix
            arrays[f"bias_{layer}_{element}"] = shift
    biases = tuple(bias + 0.1 * layer for layer, bias in enumerate(module.biases))
    potential.module = type(module)(**{**vars(module), "biases": biases})
    found = run("torchani_aev.py", arrays)
    vectors = np.asarray(jax.jit(aev)(potential.batch([structure])))[: len(structure)]
    np.testing.assert_allclose(vectors, found["vectors"], rtol=0, atol=1e-12)
    assert found["vectors"].max() > 0.3
    labels = potential.predict([structure])[0]
    scale = float(module.scale)
    energy = labels.energy - potential.offset(structure)
    # reference energies near 1e5 eV: their rounding is 1e-10 eV
    assert energy == pytest.approx(scale * float(found["energy"].sum()), abs=1e-9)
    # torch rounds constants in the slope of CELU to float32: relative errors up to 1.3e-7
    np.testing.assert_allclose(labels.forces, scale * found["forces"], rtol=0, atol=2e-7)

"""The checks of architectures: a sound one passes, planted faults are found."""

import dataclasses
from dataclasses import dataclass

import ase.build
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from karat.potentials.conformance.architecture import ARCHITECTURE_CHECKS, run_architecture_check
from karat.potentials.conformance.outcome import Violation
from karat.potentials.native.architecture import ParameterGroup
from karat.potentials.native.bpnn import AngularGrid, Bpnn, RadialGrid
from karat.potentials.native.mace import Mace
from karat.structures.structure import Structure

STRUCTURES = [Structure.from_ase(ase.build.molecule(name)) for name in ("CH3OH", "H2CO")]
BPNN = {
    "cutoff_angstrom": 4.0,
    "radial": RadialGrid(count=4),
    "angular": AngularGrid(count=2),
    "hidden": (6,),
}
MACE = {"harmonics_degree": 1, "channels": 3, "bessel": 3, "radial_hidden": (4,)}


@pytest.mark.parametrize("check", ARCHITECTURE_CHECKS)
def test_a_sound_architecture_passes(check, tmp_path):
    run_architecture_check(check, Bpnn(**BPNN), STRUCTURES, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("check", ARCHITECTURE_CHECKS)
def test_mace_passes(check, tmp_path):
    run_architecture_check(check, Mace(**MACE), STRUCTURES, tmp_path)


@dataclass(frozen=True)
class Faulty(Bpnn):
    """Attributes:
    fault: which.
    """

    fault: str = ""

    def skeleton(self, species, dtype):
        module = super().skeleton(species, dtype)
        if self.fault == "shape":
            return eqx.tree_at(lambda m: m.mean, module, jax.ShapeDtypeStruct((1, 2), dtype))
        return module

    def initialise(self, dataset, key, dtype):
        key = jax.random.key(0) if self.fault == "key" else key
        module = super().initialise(dataset, key, dtype)
        if self.fault == "dead":
            dead = jnp.zeros_like(module.weights[1])
            return eqx.tree_at(lambda m: m.weights[1], module, dead)
        return module

    def parameter_groups(self, module):
        groups = dict(super().parameter_groups(module))
        if self.fault == "left out":
            groups.pop("layer_1")
        if self.fault == "early":
            return {k: dataclasses.replace(g, late=False) for k, g in groups.items()}
        if self.fault == "vector":
            groups["output"] = ParameterGroup(("weights.1", "biases.1"), ("biases.0",), True)
        return groups


@pytest.mark.parametrize(
    ("fault", "check", "words"),
    [
        ("shape", "skeleton_is_shape", "mean: initialise"),
        ("key", "seeded", "two keys"),
        ("dead", "parameters_are_live", "do not depend on weights.0"),
        ("left out", "groups_cover", "weights.0"),
        ("early", "groups_cover", "late"),
        ("vector", "groups_cover", "biases.0 is no matrix"),
    ],
)
def test_planted_faults_are_found(fault, check, words, tmp_path):
    with pytest.raises(Violation, match=words):
        run_architecture_check(check, Faulty(**BPNN, fault=fault), STRUCTURES, tmp_path)


def test_a_file_that_loses_digits_is_found(tmp_path, monkeypatch):
    """float32 in between."""
    import karat.potentials.conformance.architecture as checks

    monkeypatch.setattr(checks, "load", lambda path, dtype: rounded(checks_load(path, dtype)))
    checks_load = load_of_karat_file()
    with pytest.raises(Violation, match="read back"):
        run_architecture_check("file_keeps_all", Bpnn(**BPNN), STRUCTURES, tmp_path)


def load_of_karat_file():
    from karat.potentials.karat_file import load

    return load


def rounded(potential):
    from karat.potentials.native_protocol import NativePotential

    module = jax.tree.map(
        lambda leaf: leaf.astype(np.float32) if eqx.is_inexact_array(leaf) else leaf,
        potential.module,
    )
    return NativePotential(module, potential.reference_energies)

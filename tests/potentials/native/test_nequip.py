"""NequIP: a computation by hand, kinds of features, size, range, invariances, refusals.

Its energies are compared with nequip's in tests/peers/test_nequip.py.
"""

import ase.build
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from karat.core.components import dump, parse
from karat.core.errors import BadInput, UnknownElement
from karat.potentials.batch import in_rows
from karat.potentials.blocks.parity import live_kinds
from karat.potentials.conformance import CHECKS, make_subject, run_check
from karat.potentials.conformance.architecture import (
    ARCHITECTURE_CHECKS,
    random_dataset,
    random_potential,
    run_architecture_check,
)
from karat.potentials.model import named_arrays
from karat.potentials.native.nequip import Nequip, NequipPaper
from karat.potentials.native_protocol import NativePotential, derive_compiled
from karat.structures.structure import Structure

SMALL = {"layers": 2, "features": 4, "bessel": 4, "radial_hidden": (8, 8), "cutoff_angstrom": 3.0}
MOLECULE = ase.build.molecule("CH3CH2OH")
WATER = ase.build.molecule("H2O")
CRYSTAL = ase.build.bulk("NaCl", "rocksalt", a=5.0)


def rattled(atoms: ase.Atoms, seed: int) -> Structure:
    atoms = atoms.copy()
    atoms.positions += np.random.default_rng(seed).normal(scale=0.1, size=(len(atoms), 3))
    return Structure.from_ase(atoms)


@pytest.fixture(scope="module")
def molecular():
    return random_potential(Nequip(**SMALL), [rattled(MOLECULE, seed) for seed in range(3)])


@pytest.mark.parametrize("check", ARCHITECTURE_CHECKS)
def test_architecture(check, tmp_path):
    architecture = Nequip(**SMALL, bessel_trainable=True, connect_first=True, radial_nodes=32)
    run_architecture_check(check, architecture, [rattled(WATER, 0)], tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("parity", [True, False])
def test_every_array_of_four_layers_with_vectors_and_tensors_is_live(parity, tmp_path):
    architecture = Nequip(**SMALL | {"layers": 4}, degree=2, parity=parity)
    run_architecture_check("parameters_are_live", architecture, [rattled(MOLECULE, 0)], tmp_path)


FAST = ("stress_is_strain_derivative",)


def conformance_cases():
    for dtype in ("float64", "float32"):
        for check in CHECKS:
            fast = dtype == "float64" and check in FAST
            yield pytest.param(check, dtype, marks=[] if fast else [pytest.mark.slow])


@pytest.mark.parametrize(("check", "dtype"), list(conformance_cases()))
def test_conformance(check, dtype):
    structures = [rattled(MOLECULE, seed) for seed in range(3)]
    outcome = run_check(
        check, make_subject(random_potential(Nequip(**SMALL), structures, dtype=dtype))
    )
    assert outcome.status == "passed", outcome


@pytest.mark.slow
@pytest.mark.parametrize("check", CHECKS)
def test_conformance_of_a_crystal_with_vectors_of_both_parities(check):
    architecture = Nequip(**SMALL | {"layers": 4}, connect_first=True, radial_nodes=32)
    potential = random_potential(architecture, [rattled(CRYSTAL.repeat(2), 1)])
    outcome = run_check(check, make_subject(potential))
    assert outcome.status == "passed", outcome


def silu(x):
    return 1.6791767923989418 * x / (1 + np.exp(-x))  # mean square 1 for normal x, as in e3nn


def plain_energy(module, structure):
    """Four layers of degree 1 with scalars s, vectors v and axial vectors a, by dot and cross
    products, pair by pair."""
    parts = jax.tree.map(np.asarray, module)
    index = [module.species.index(z) for z in structure.numbers]
    atoms, channels = len(index), parts.embedding.shape[1]
    features = {(0, 1): parts.embedding[index][:, None, :]}
    for layer in parts.layers:
        sent = {
            kind: features[kind] @ w / channels**0.5 for kind, w in zip(layer.inputs, layer.before)
        }
        paths = layer.convolution.paths
        summed = {kind: np.zeros((atoms, 2 * kind[0] + 1, 0 * channels)) for kind in layer.outputs}
        for number, (i, degree, o) in enumerate(paths):
            kind, result = layer.inputs[i], layer.outputs[o]
            total = np.zeros((atoms, 2 * result[0] + 1, channels))
            for a in range(atoms):
                for b in range(atoms):
                    arrow = structure.positions[b] - structure.positions[a]
                    r = np.linalg.norm(arrow)
                    if a == b or r >= module.cutoff:
                        continue
                    n = (arrow / r)[:, None]
                    weight = network(parts, layer, r)[number * channels : (number + 1) * channels]
                    h = sent[kind][b]
                    if degree == 0:
                        product = h
                    elif kind[0] == 0:
                        product = 3**0.5 * n * h
                    elif result[0] == 0:
                        product = -np.sum(n * h, axis=0, keepdims=True)  # as ⟨10 10|00⟩
                    else:
                        product = 1.5**0.5 * np.cross(h, np.broadcast_to(n, h.shape), axis=0)
                    total[a] += weight * product
            summed[result] = np.concatenate([summed[result], total], axis=2)
        shared = [kind for kind in layer.inputs if kind in layer.outputs]
        message = {}
        for kind, w in zip(layer.outputs, layer.after):
            scale = (w.shape[0] * module.average_neighbours) ** -0.5
            message[kind] = summed[kind] @ w * scale
        for kind, w in zip(shared, layer.connection):
            own = np.einsum("aok,akc->aoc", features[kind], w[index]) / channels**0.5
            message[kind] = message[kind] + own
        scalars = silu(message[0, 1])
        features, at = {(0, 1): scalars[..., :channels]}, channels
        for kind in layer.outputs[1:]:
            features[kind] = message[kind] * scalars[..., at : at + channels]
            at += channels
    energies = features[0, 1][:, 0] @ parts.readout[:, 0] / channels**0.5
    return float(np.sum(energies * parts.scale[index]))


def network(parts, layer, r):
    """Radial weights of one pair, from the network itself."""
    x, p = r / parts.cutoff, parts.envelope_power
    envelope = 1 - (p + 1) * (p + 2) / 2 * x**p + p * (p + 2) * x ** (p + 1)
    envelope -= p * (p + 1) / 2 * x ** (p + 2)
    values = (2 / parts.cutoff) ** 0.5 * np.sin(np.pi * parts.frequencies * x) / r * envelope
    for number, weight in enumerate(layer.radial):
        values = values @ weight / weight.shape[0] ** 0.5
        values = silu(values) if number < len(layer.radial) - 1 else values
    return values


def test_energy_is_that_of_dot_and_cross_products():
    structure = rattled(ase.build.molecule("NH3"), 3)
    architecture = Nequip(**SMALL | {"layers": 4}, degree=1, radial_nodes=96)
    module = random_potential(architecture, [structure]).module
    assert [kind for layer in module.layers for kind in layer.outputs].count((1, 1)) == 1
    found = NativePotential(module).predict([structure])[0].energy
    expected = plain_energy(module, structure)
    assert found == pytest.approx(expected, rel=1e-8)
    assert abs(expected) > 1e-3


def test_kinds_that_no_product_links_with_both_ends_are_left_out():
    scalar, vector, axial = (0, 1), (1, -1), (1, 1)
    assert live_kinds(3, 1, True) == ((scalar,), (scalar, vector), (scalar, vector), (scalar,))
    # an axial vector takes two products to make and two to become a scalar again
    assert live_kinds(4, 1, True)[2] == (scalar, vector, axial)
    assert (0, -1) in live_kinds(6, 1, True)[3]
    assert live_kinds(6, 1, False)[3] == (scalar, vector)
    assert live_kinds(1, 3, True) == ((scalar,), (scalar,))


def test_size_is_that_of_nequip_without_what_cannot_matter():
    """216,704 in nequip 0.19.1 (its own count). There self-connections have 32 weights (an
    embedding) where three elements take 3, and the second layer has axial vectors: 32 columns of
    the radial network's 64 rows, a message of 32 → 32 channels with 64 → 32 for the gate, and
    32 x 32 before the third convolution."""
    module = Nequip(average_neighbours=11.0).skeleton((1, 6, 8), "float32")
    fixed = sum(leaf.size for leaf in (module.frequencies, module.scale, module.shift))
    axial = 64 * 32 + 32 * 32 + 64 * 32 + 32 * 32
    second = 32 * (32 * 96 + 32 * 32) - 3 * (32 * 64 + 32 * 32)
    third = 32 * 32 * 32 - 3 * 32 * 32
    size = sum(leaf.size for leaf in named_arrays(module).values()) - fixed
    assert size == 216_704 - axial - second - third == 59_008


def test_the_papers_preset_is_larger():
    sizes = []
    for preset in (Nequip, NequipPaper):
        module = preset(average_neighbours=10.0).skeleton((1, 6, 8), "float32")
        sizes.append(sum(leaf.size for leaf in named_arrays(module).values()))
    assert 1e6 < sizes[1] < 3.5e6  # 3,190,488 in Batatia et al. (2022), table 3
    assert sizes[0] < sizes[1]


@pytest.mark.parametrize("layers", [1, 2, 3])
def test_each_layer_looks_one_cutoff_further(layers):
    """A chain with spacing 2.5 Å, cut-off 3 Å: beyond its reach nothing moves atom 0."""
    chain = np.zeros((6, 3))
    chain[:, 0] = 2.5 * np.arange(6)
    chain[:, 1] = np.random.default_rng(1).normal(scale=0.3, size=6)
    module = random_potential(
        Nequip(**SMALL | {"layers": layers}, radial_nodes=32), [Structure(np.full(6, 18), chain)]
    ).module

    energies = jax.jit(lambda batch: module.evaluate(batch).atom_energies)

    def first(moved):
        positions = chain.copy()
        positions[moved, 2] += 0.2
        batch = NativePotential(module).batch([Structure(np.full(6, 18), positions)])
        return float(energies(batch)[0])

    start = first(5)
    assert first(layers + 1) == start
    assert abs(first(layers) - start) > 1e-11  # rounding: 1e-17


def test_an_isolated_atom_has_its_reference_energy_unless_the_first_layer_connects(molecular):
    atom = Structure(np.array([8]), np.zeros((1, 3)))
    assert molecular.predict([atom])[0].energy == -1e4
    structures = [rattled(MOLECULE, 0)]
    connected = random_potential(Nequip(**SMALL, connect_first=True), structures)
    assert abs(connected.predict([atom])[0].energy + 1e4) > 1e-3


@pytest.mark.parametrize("case", ["molecule", pytest.param("crystal", marks=pytest.mark.slow)])
def test_the_prepared_module_is_the_same_function(case, molecular):
    if case == "molecule":
        module, structure = molecular.module, rattled(MOLECULE, 8)
    else:
        structure = rattled(CRYSTAL.repeat(2), 2)
        architecture = Nequip(**SMALL | {"layers": 4}, connect_first=True)
        module = random_potential(architecture, [structure]).module
    batch = NativePotential(module).batch([structure])
    species = tuple(sorted(set(structure.numbers.tolist())))
    expected = derive_compiled(module, batch)
    for form in (batch, in_rows(batch)):  # rows: as in dynamics
        found = derive_compiled(module.prepared(species), form)
        # cubic splines on 8192 intervals: relative error about 1e-9 of the largest functions
        np.testing.assert_allclose(found.energies, expected.energies, atol=1e-8)
        np.testing.assert_allclose(found.forces, expected.forces, atol=1e-7)


@pytest.mark.slow
def test_a_module_of_many_elements_is_the_same_restricted_to_those_at_hand():
    """Ten elements take the other way through products by element."""
    structures = [rattled(MOLECULE, 0)]
    species = (1, 3, 6, 7, 8, 9, 11, 14, 16, 17)
    others = Structure(np.array(species), 3.0 * np.eye(10, 3))
    module = random_potential(Nequip(**SMALL, radial_nodes=32), [*structures, others]).module
    whole = NativePotential(module).predict(structures)[0]
    part = NativePotential(module.restricted((1, 6, 8))).predict(structures)[0]
    assert part.energy == pytest.approx(whole.energy, abs=1e-12)
    np.testing.assert_allclose(part.forces, whole.forces, atol=1e-12)
    with pytest.raises(UnknownElement, match="79"):
        module.restricted((1, 79))


def test_interpolated_radial_networks_are_the_networks():
    """Of the default size, with the default number of nodes."""
    data = random_dataset([rattled(MOLECULE, 0)])
    module = Nequip(average_neighbours=9.0).initialise(data, jax.random.key(0), "float64")
    distances = jnp.linspace(0.5, 4.999, 200)
    both = jax.jit(lambda d: (module.radial(d), module.networks(d)))(distances)
    for found, exact in zip(*both):
        np.testing.assert_allclose(found, exact, atol=1e-6 * float(jnp.abs(exact).max()))


def test_scale_and_shift_are_by_element(molecular):
    structure = rattled(MOLECULE, 4)
    module = molecular.module
    batch = NativePotential(module).batch([structure])
    before = np.asarray(derive_compiled(module, batch).outputs.atom_energies)[: len(structure)]
    changed = eqx.tree_at(
        lambda m: (m.scale, m.shift), module, (module.scale * 2.0, jnp.asarray([1.0, 2.0, 3.0]))
    )
    after = np.asarray(derive_compiled(changed, batch).outputs.atom_energies)[: len(structure)]
    shift = np.array([{1: 1.0, 6: 2.0, 8: 3.0}[z] for z in structure.numbers.tolist()])
    np.testing.assert_allclose(after, 2 * before + shift, atol=1e-12)


def test_hyperparameters_survive_writing():
    architecture = Nequip(**SMALL)
    assert parse(Nequip, dump(architecture), "model") == architecture


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"degree": 5}, "nequip.degree 5"),
        ({"layers": 0}, "nequip.layers 0"),
        ({"cutoff_angstrom": 0.0}, "nequip.cutoff_angstrom"),
        ({"radial_hidden": []}, "nequip.radial_hidden"),
        ({"radial_nodes": 4}, "nequip.radial_nodes 4"),
        ({"average_neighbours": -1.0}, "nequip.average_neighbours"),
    ],
)
def test_senseless_hyperparameters_are_refused(values, words):
    with pytest.raises(BadInput, match=words):
        parse(Nequip, values, "model")

"""Committees: means of members, conformance, files, the contestant."""

import dataclasses
import json

import ase.build
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from karat.core.errors import BadInput
from karat.core.hashing import digest_json
from karat.data.dataset import Dataset, Record
from karat.potentials.catalogue import potential_component
from karat.potentials.committee import Committee, CommitteePotential
from karat.potentials.committee_module import (
    CommitteeModule,
    MeanModule,
    derive_members_compiled,
    differing,
    flagged,
    stack,
)
from karat.potentials.conformance import CHECKS, make_subject, run_check
from karat.potentials.karat_file import load, save
from karat.potentials.karat_header import KEY, read_header
from karat.potentials.model import named_arrays
from karat.potentials.native.bpnn import Bpnn, RadialGrid
from karat.potentials.native.mace import Mace
from karat.potentials.native_protocol import NativePotential, derive_compiled
from karat.structures.labels import Labels, LevelOfTheory
from karat.structures.structure import Structure

ARCHITECTURE = Bpnn(
    cutoff_angstrom=3.5,
    cutoff_function="polynomial",
    radial=RadialGrid(count=4),
    angular=(),
    hidden=(5,),
)
REFERENCES = {6: -1000.0, 8: -2041.0}
ALL = ("energy", "forces", "stress")


def rattled(atoms: ase.Atoms, seed: int) -> Structure:
    atoms = atoms.copy()
    atoms.positions += np.random.default_rng(seed).normal(scale=0.1, size=(len(atoms), 3))
    return Structure.from_ase(atoms)


def crystals() -> list[Structure]:
    """Of different volumes, so that the spread of descriptors is not tiny."""
    sizes = (3.9, 3.6, 4.3)
    return [rattled(ase.build.bulk("CO", "rocksalt", a=a), i) for i, a in enumerate(sizes)]


def untrained(members: int, heads_only: bool = False, architecture=None) -> CommitteeModule:
    architecture = architecture or ARCHITECTURE
    structures = crystals()
    data = Dataset(
        tuple(Record(s, Labels(energy=-1.0, forces=np.ones((len(s), 3)))) for s in structures),
        LevelOfTheory("test"),
    )
    modules = [
        architecture.initialise(data, jax.random.key(seed), "float64") for seed in range(members)
    ]
    names = differing(modules)
    if heads_only:
        names &= flagged(modules[0], architecture.heads(modules[0]))
    factors = jnp.asarray([1.3, 0.7])
    return stack(modules, names, factors)


@pytest.fixture(scope="module")
def potential():
    return NativePotential(untrained(3), REFERENCES, LevelOfTheory("test"))


@pytest.fixture(scope="module")
def committee(potential):
    return CommitteePotential(potential)


@pytest.fixture(scope="module")
def path(potential, tmp_path_factory):
    path = tmp_path_factory.mktemp("committee") / "p.karat"
    save(path, ARCHITECTURE, potential)
    return path


def test_predictions_are_means_over_the_members(potential, committee):
    structures = crystals()
    singles = [NativePotential(potential.module.one(i), REFERENCES) for i in range(3)]
    apart = [single.predict(structures, ALL) for single in singles]
    found = committee.predict(structures, ALL)
    mean = potential.predict(structures, ALL)
    for index, one in enumerate(found):
        energies = np.array([labels[index].energy for labels in apart])
        forces = np.array([labels[index].forces for labels in apart])
        assert np.std(forces, axis=0).min() > 1e-6  # the members differ
        own = one.uncertainty
        # rounding of energies of 10³ eV, and of sums in another order
        np.testing.assert_allclose(own.member_energies, energies, rtol=0, atol=1e-11)
        np.testing.assert_allclose(own.member_forces, forces, rtol=0, atol=1e-12)
        assert one.energy == pytest.approx(energies.mean(), abs=1e-11)
        np.testing.assert_allclose(one.forces, forces.mean(axis=0), rtol=0, atol=1e-12)
        stress = np.mean([labels[index].stress for labels in apart], axis=0)
        np.testing.assert_allclose(one.stress, stress, rtol=0, atol=1e-12)
        np.testing.assert_allclose(mean[index].forces, one.forces, rtol=0, atol=1e-12)
        assert mean[index].energy == pytest.approx(one.energy, abs=1e-11)
        assert own.energy == pytest.approx(1.3 * np.std(energies, ddof=1), rel=1e-8)
        pooled = np.sqrt(np.var(forces, axis=0, ddof=1).mean(axis=1, keepdims=True))
        np.testing.assert_allclose(own.forces, 0.7 * np.repeat(pooled, 3, axis=1), rtol=1e-9)


def test_energies_alone_bring_no_forces(committee):
    one = committee.predict(crystals()[:1], ("energy",))[0]
    assert one.forces is None
    assert one.uncertainty.forces is None
    assert one.uncertainty.member_forces is None
    assert one.uncertainty.energy > 0


def test_what_was_not_calibrated_has_no_deviation(potential):
    factors = jnp.asarray([np.nan, 0.7])
    module = eqx.tree_at(lambda m: m.calibration, potential.module, factors)
    one = CommitteePotential(NativePotential(module)).predict(crystals()[:1])[0].uncertainty
    assert one.energy is None
    assert one.forces.shape == (2, 3)


FAST = ("forces_are_gradient", "stress_is_strain_derivative")


@pytest.mark.parametrize(
    "check", [c if c in FAST else pytest.param(c, marks=pytest.mark.slow) for c in CHECKS]
)
def test_the_mean_conforms(potential, check):
    outcome = run_check(check, make_subject(potential, crystals()[:1]))
    assert outcome.status == "passed", outcome


@pytest.mark.slow
def test_the_contestant_conforms(committee):
    subject = make_subject(committee, crystals()[:1])
    outcomes = [run_check(check, subject) for check in CHECKS]
    assert [o for o in outcomes if o.status == "failed"] == []
    skipped = {o.check for o in outcomes if o.status == "skipped"}
    native_only = {"padding", "longer_neighbour_list", "rows_as_in_dynamics"}
    assert skipped == native_only


def test_a_file_brings_back_the_same_bits(path, potential, committee):
    header = read_header(path)
    assert header.members == 3
    assert header.architecture == "bpnn"
    structures = crystals()
    for before, after in ((potential, load(path)), (committee, Committee(str(path)).load())):
        assert before.traits == after.traits
        for a, b in zip(before.predict(structures), after.predict(structures)):
            assert a.energy == b.energy
            assert a.forces.tobytes() == b.forces.tobytes()
    assert a.uncertainty.forces.tobytes() == b.uncertainty.forces.tobytes()
    assert a.uncertainty.member_energies.tobytes() == b.uncertainty.member_energies.tobytes()


def test_a_shared_trunk_is_there_once(tmp_path):
    module = untrained(4, heads_only=True)
    assert module.stacked == ("biases.1", "weights.1") or module.stacked == ("weights.1",)
    arrays = named_arrays(module)
    assert arrays["member.weights.1"].shape[0] == 4
    assert arrays["member.weights.0"].ndim == 3
    save(tmp_path / "p.karat", ARCHITECTURE, NativePotential(module))
    again = load(tmp_path / "p.karat").module
    assert again.stacked == module.stacked
    assert again.members == 4


def test_single_potentials_have_the_header_they_had(tmp_path, potential):
    """No key for the number of members: files of before this key have the same digest."""
    save(tmp_path / "p.karat", ARCHITECTURE, NativePotential(potential.module.one(0)))
    header = read_header(tmp_path / "p.karat")
    assert header.members == 1
    assert "members" not in header.as_dict()
    with pytest.raises(BadInput, match="is no committee.*karat_file"):
        Committee(str(tmp_path / "p.karat")).load()


@pytest.mark.parametrize("members", [1, 2, 4, 0, -1, 10**9, 3.0, "3"])
def test_another_number_of_members_is_refused(path, tmp_path, members):
    """With an honest digest."""
    values = read_header(path).as_dict() | {"members": members}
    values.pop("digest")
    text = json.dumps({**values, "digest": digest_json(values)})
    save_file(load_file(path), tmp_path / "lie.karat", {KEY: text})
    with pytest.raises(BadInput, match="lie.karat"):
        load(tmp_path / "lie.karat")


@pytest.mark.parametrize("factor", [0.0, -1.0, np.inf])
def test_impossible_factors_are_refused(potential, tmp_path, factor):
    module = eqx.tree_at(lambda m: m.calibration, potential.module, jnp.asarray([1.0, factor]))
    save(tmp_path / "p.karat", ARCHITECTURE, NativePotential(module))
    with pytest.raises(BadInput, match="'calibration'"):
        load(tmp_path / "p.karat")


def test_the_contestant_of_a_campaign(path):
    options = {"path": str(path), "uncertainty": True}
    found = potential_component("committee", options, "contestants.mine").load()
    assert found.predict(crystals()[:1])[0].uncertainty.energy > 0
    mean = potential_component("committee", options | {"uncertainty": False}, "mine").load()
    assert isinstance(mean, NativePotential)
    single = potential_component("committee", options | {"dtype": "float32"}, "mine").load()
    a, b = (p.predict(crystals()[:1])[0].forces for p in (found, single))
    np.testing.assert_allclose(a, b, rtol=0, atol=1e-4 * np.abs(a).max())


def test_committees_of_one_or_of_two_kinds_are_refused(potential):
    one = potential.module.one(0)
    with pytest.raises(BadInput, match="two members"):
        stack([one], {"weights.0"})
    other = dataclasses.replace(one, activation="tanh")
    with pytest.raises(BadInput, match="one architecture"):
        stack([one, other], {"weights.0"})
    with pytest.raises(BadInput, match="BpnnModule is no committee"):
        CommitteePotential(NativePotential(one))


def test_members_that_fit_into_no_one_array_are_added_up(potential):
    batch = potential.batch(crystals())
    module = potential.module
    mean = MeanModule(
        tuple(module.one(index) for index in range(3)),
        module.species,
        module.cutoff,
        module.continuity,
        module.needs_triplets,
    )
    a, b = derive_compiled(module, batch), derive_compiled(mean, batch)
    np.testing.assert_allclose(a.forces, b.forces, rtol=0, atol=1e-12)
    np.testing.assert_allclose(a.energies, b.energies, rtol=0, atol=1e-12)


def test_prepared_for_dynamics_it_is_the_same_function(potential):
    batch = potential.batch(crystals())
    ready = potential.module.prepared(potential.module.species)
    a, b = derive_compiled(potential.module, batch), derive_compiled(ready, batch)
    np.testing.assert_allclose(a.forces, b.forces, rtol=0, atol=1e-12)
    np.testing.assert_allclose(a.energies, b.energies, rtol=0, atol=1e-12)


MACE = Mace(
    channels=4,
    bessel=4,
    harmonics_degree=1,
    radial_hidden=(8,),
    readout_hidden=4,
    cutoff_angstrom=3.5,
    average_neighbours=10.0,
)


@pytest.mark.slow
@pytest.mark.parametrize("heads_only", [False, True])
def test_equivariant_members(heads_only, tmp_path):
    """Members that pass messages: each as alone, tables of radial functions for dynamics, files."""
    module = untrained(3, heads_only, architecture=MACE)
    assert len(module.stacked) == 3 if heads_only else len(module.stacked) > 20
    potential = NativePotential(module)
    batch = potential.batch(crystals())
    whole = derive_compiled(module, batch)
    apart = [derive_compiled(module.one(index), batch) for index in range(3)]
    forces = np.array([one.forces for one in apart])
    assert np.std(forces, axis=0)[:6].max() > 1e-4
    scale = np.abs(forces).max()
    np.testing.assert_allclose(whole.forces, forces.mean(axis=0), rtol=0, atol=1e-12 * scale)
    found = CommitteePotential(potential).predict(crystals())
    members = np.concatenate([one.uncertainty.member_forces for one in found], axis=1)
    np.testing.assert_allclose(members, forces[:, :6], rtol=0, atol=1e-12 * scale)
    ready = module.prepared(module.species)
    first = ready.terms[0] if isinstance(ready, MeanModule) else ready.member
    assert type(first) is not type(module.member)
    # interpolated radial functions, see test_mace.py
    np.testing.assert_allclose(
        derive_compiled(ready, batch).forces, whole.forces, rtol=0, atol=1e-6 * scale
    )
    save(tmp_path / "p.karat", MACE, potential)
    again = derive_compiled(load(tmp_path / "p.karat").module, batch)
    assert np.asarray(again.forces).tobytes() == np.asarray(whole.forces).tobytes()


@pytest.mark.slow
def test_members_of_a_network_of_messages_are_what_they_are_alone_in_large_batches():
    """Side by side (`jax.vmap`), forces of two of four members were wrong by half their size in
    batches of 5000 pairs, not in smaller ones; energies were right."""
    structures = [rattled(ase.build.molecule("C2H6CHOH"), seed) for seed in range(40)]
    records = [Record(s, Labels(energy=-1.0, forces=np.ones((len(s), 3)))) for s in structures]
    data = Dataset(tuple(records), LevelOfTheory("test"))
    architecture = Mace(channels=8).completed(data)
    modules = [architecture.initialise(data, jax.random.key(i), "float32") for i in range(4)]
    committee = stack(modules, differing(modules))
    batch = NativePotential(committee, dtype="float32").batch(structures)
    assert batch.centers.shape[0] > 5000
    together = derive_members_compiled(committee, batch)
    for index in range(4):
        alone = derive_compiled(committee.one(index), batch)
        largest = float(np.abs(alone.forces).max())
        np.testing.assert_allclose(together.forces[index], alone.forces, atol=1e-4 * largest)

"""Fits of one molecule: accuracy, files, conformance, resumption, refusals."""

import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from karat.core.components import parse
from karat.core.errors import BadInput, UnsuitableStructure
from karat.data.dataset import Dataset, Record
from karat.potentials.conformance import CHECKS, NotApplicable, make_subject
from karat.potentials.karat_file import KaratFile, load, save
from karat.potentials.karat_header import read_header
from karat.potentials.kernel.sgdml import Sgdml
from karat.potentials.kernel.sgdml_module import SgdmlModule
from karat.potentials.kernel.sgdml_potential import SgdmlModel
from karat.structures.labels import Labels
from karat.structures.structure import Structure


@pytest.fixture(scope="module")
def fitted(methanol, tmp_path_factory):
    train, valid = methanol
    return Sgdml(sigma=10.0).fit(train, valid, tmp_path_factory.mktemp("fit"))


def test_the_fit_equals_the_packages(fitted, stored):
    structures = [Structure(stored["z"], r) for r in stored["R"]]
    found = fitted.potential.predict(structures)
    # same width, regularisation and permutations: equal to rounding of coefficients near 10³
    np.testing.assert_allclose([one.forces for one in found], stored["F"], atol=1e-6)
    np.testing.assert_allclose([one.energy for one in found], stored["E"], atol=1e-6)
    assert fitted.summary["permutations"] == 6
    assert fitted.summary["matrix_rows"] == 16 * 12
    assert fitted.summary["valid_force_rmse_mev_per_angstrom"] < 1e-3  # labels are the package's


def test_training_labels_are_met(fitted, methanol):
    train, _ = methanol
    found = fitted.potential.predict(train.structures)
    for one, labels in zip(found, train.labels):
        # up to the regularisation: 2e-3 of the largest force
        np.testing.assert_allclose(one.forces, labels.forces, atol=0.02)
    energies = np.array([one.energy - labels.energy for one, labels in zip(found, train.labels)])
    assert abs(energies.mean()) < 1e-9
    assert energies.std() < 0.05


@pytest.mark.parametrize("check", CHECKS)
def test_conforms(fitted, methanol, check):
    try:
        CHECKS[check](make_subject(fitted.potential, methanol[1].structures[:3]))
    except NotApplicable as reason:
        pytest.skip(str(reason))


def test_permutations_of_like_atoms_change_nothing(fitted, methanol):
    structure = methanol[1].structures[0]
    order = [0, 1, 3, 4, 2, 5]
    moved = structure.replace(positions=structure.positions[order])
    one, other = fitted.potential.predict([structure, moved])
    assert one.energy == pytest.approx(other.energy, abs=1e-8)
    np.testing.assert_allclose(one.forces[order], other.forces, atol=1e-8)


def test_second_derivatives_exist(fitted, methanol):
    structure = methanol[0].structures[3]  # a training structure: distance zero in the kernel
    potential = fitted.potential
    batch = potential.batch([structure])

    def energy(vectors):
        moved = dataclasses.replace(batch, vectors=vectors)
        return jnp.sum(potential.module.evaluate(moved).atom_energies)

    direction = (
        jnp.zeros_like(batch.vectors).at[:30].set(jax.random.normal(jax.random.key(0), (30, 3)))
    )
    step = 1e-5
    gradient = jax.jit(jax.grad(energy))
    slopes = [gradient(batch.vectors + s * direction) for s in (step, -step)]
    expected = (slopes[0] - slopes[1]) / (2 * step)
    forward = jax.jit(lambda v: jax.jvp(jax.grad(energy), (v,), (direction,))[1])(batch.vectors)
    np.testing.assert_allclose(forward, expected, atol=1e-4)


def test_few_at_once_or_all_at_once(fitted, methanol, monkeypatch):
    whole = fitted.potential.predict(methanol[1].structures)
    monkeypatch.setattr("karat.potentials.kernel.sgdml_module.ELEMENTS_AT_ONCE", 300)
    jax.clear_caches()
    parts = fitted.potential.predict(methanol[1].structures)
    jax.clear_caches()
    for one, other in zip(whole, parts):
        np.testing.assert_allclose(one.forces, other.forces, atol=1e-9)


def test_search_chooses_by_validation_forces_and_resumes(methanol, tmp_path):
    train, valid = methanol
    model = Sgdml(sigma_grid=(2.0, 10.0, 50.0), search_structures=8, calibration_structures=0)
    seen = []
    solved = model.fit(train, valid, tmp_path, lambda stage: seen.append(stage.words))
    table = json.loads((tmp_path / "sigma-search.json").read_text())["errors"]
    assert {size for size, _, _ in table} == {2, 4, 8}
    finite = {sigma: error for size, sigma, error in table if size == 8 and error is not None}
    assert solved.summary["sigma"] == min(finite, key=finite.get)
    assert solved.summary["sigma_search"] == table
    assert any("trying" in words for words in seen)
    assert np.isnan(float(solved.potential.module.deviation))
    again = []
    second = model.fit(train, valid, tmp_path, lambda stage: again.append(stage.words))
    assert not any("trying" in words for words in again)
    assert second.summary == solved.summary
    np.testing.assert_array_equal(
        second.potential.module.coefficients, solved.potential.module.coefficients
    )
    with pytest.raises(BadInput, match="--fresh"):
        dataclasses.replace(model, regularization=1e-8).fit(train, valid, tmp_path)


def test_a_file_brings_it_back_bit_by_bit(fitted, methanol, tmp_path):
    path = tmp_path / "methanol.karat"
    save(path, Sgdml(sigma=10.0), fitted.potential, "digest", fitted.summary)
    header = read_header(path)
    assert header.architecture == "sgdml"
    assert header.training["sigma"] == 10.0
    back = load(path)
    structures = methanol[1].structures
    for one, other in zip(back.predict(structures), fitted.potential.predict(structures)):
        assert one.energy == other.energy
        np.testing.assert_array_equal(one.forces, other.forces)
    with pytest.raises(BadInput, match="float64 only"):
        KaratFile(str(path), dtype="float32").load()
    # numbers that fit in shape but not in meaning
    module = back.module
    broken = dataclasses.replace(module, permutations=module.permutations.at[1].set(0))
    assert isinstance(broken, SgdmlModule)
    back.module = broken
    save(path, Sgdml(), back)
    with pytest.raises(BadInput, match="no permutation"):
        load(path)


def test_deviations_are_calibrated_and_large_where_errors_are(fitted, methanol, tmp_path):
    path = tmp_path / "methanol.karat"
    save(path, Sgdml(), fitted.potential)
    potential = SgdmlModel(str(path), uncertainty=True).load()
    train, valid = methanol
    at_training, elsewhere = potential.predict([train.structures[0], valid.structures[0]])
    assert at_training.uncertainty.forces.max() < 0.1 * elsewhere.uncertainty.forces.max()
    stretched = valid.structures[0].replace(positions=1.1 * valid.structures[0].positions)
    far = potential.predict([stretched])[0].uncertainty
    assert far.forces.max() > 2 * elsewhere.uncertainty.forces.max()
    assert far.energy > elsewhere.uncertainty.energy
    assert SgdmlModel(str(path)).load().traits.native
    assert not potential.traits.native


def test_calibration_makes_deviations_as_large_as_errors(methanol, tmp_path):
    train, valid = methanol
    solved = Sgdml(sigma=10.0, calibration_structures=100).fit(
        train.subset(range(12)), valid, tmp_path
    )
    path = tmp_path / "p.karat"
    save(path, Sgdml(), solved.potential)
    found = SgdmlModel(str(path), uncertainty=True).load().predict(valid.structures)
    deviations = np.array([one.uncertainty.forces for one in found])
    errors = np.array([one.forces - r.labels.forces for one, r in zip(found, valid)])
    assert np.sqrt(np.mean(errors**2)) == pytest.approx(np.sqrt(np.mean(deviations**2)), rel=1e-3)


def test_what_it_is_not_for_is_refused_before_work(methanol, tmp_path):
    train, valid = methanol
    record = train.records[0]
    periodic = record.structure.replace(cell=10 * np.eye(3), periodic=np.ones(3, bool))
    swapped = record.structure.replace(
        numbers=record.structure.numbers[::-1], positions=record.structure.positions[::-1]
    )
    for changed, words in (
        (Record(periodic, record.labels, "x"), "periodic"),
        (Record(swapped, record.labels, "x"), "same order"),
        (Record(record.structure, Labels(-1.0), "x"), "no .finite. forces"),
        (Record(record.structure, Labels(forces=record.labels.forces), "x"), "energy"),
    ):
        data = Dataset((*train.records[1:], changed), train.level)
        with pytest.raises(BadInput, match=words):
            Sgdml(sigma=10.0).fit(data, valid, tmp_path)
    for options, words in (
        ({"sigma": -1.0}, "positive"),
        ({"sigma_grid": (2.0, 1.0)}, "ascending"),
        ({"regularization": 0.0}, "regularization"),
        ({"search_structures": 1}, "search_structures"),
        ({"calibration_structures": -1}, "calibration"),
        ({"sigma": 10.0, "permutations": ((0, 1, 2),)}, "no permutation"),
        ({"sigma": 10.0, "permutations": ((1, 0, 2, 3, 4, 5),)}, "unlike"),
    ):
        with pytest.raises(BadInput, match=words):
            Sgdml(**options).fit(train, valid, tmp_path)
    assert parse(Sgdml, {"permutations": "none"}, "x").permutations == "none"


def test_other_molecules_are_refused(fitted, methanol):
    structure = methanol[0].structures[0]
    swapped = structure.replace(
        numbers=structure.numbers[::-1], positions=structure.positions[::-1]
    )
    with pytest.raises(UnsuitableStructure, match="atom 0 has atomic number 1 instead of"):
        fitted.potential.predict([swapped])
    with pytest.raises(UnsuitableStructure, match="one molecule, CH4O"):
        fitted.potential.predict([Structure(np.array([1, 1]), np.eye(3)[:2])])
    assert fitted.potential.traits.cutoff is None

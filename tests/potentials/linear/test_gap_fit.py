"""Fits of GAP: against a dense Gaussian process, choice of points, noises by kind, resumption."""

import dataclasses

import numpy as np
import pytest

from karat.core.errors import BadInput, CalculationFailed
from karat.data.dataset import Dataset, Record
from karat.potentials.analytic.morse import Morse
from karat.potentials.linear import gap_fit
from karat.potentials.linear.design import Design
from karat.potentials.linear.gap import Gap, Sigmas
from karat.potentials.linear.gap_fit import kernel_root
from karat.potentials.linear.gap_sparse import leverage_choice, leverages, spectra_of
from karat.potentials.linear.gap_variance import GapWithVariance
from karat.potentials.linear.linear_potential import LinearWithUncertainty
from karat.structures.labels import Labels, LevelOfTheory
from karat.structures.structure import Structure

LEVEL = LevelOfTheory("PBE")
MODEL = Gap(
    cutoff_angstrom=4.0,
    n_max=3,
    l_max=2,
    zeta=2,
    n_sparse=24,
    n_sparse_pairs=0,
    delta=0.5,
    jitter=1e-12,
    sigma=Sigmas(0.001, 0.02, None),
)


@pytest.fixture(scope="module")
def truth():
    return Morse({"Cu": 0.6}, {"Cu": 1.5}, {"Cu": 2.5}, 4.0, 3.0).load()


def clusters(count, seed, atoms=4):
    """Rattled tetrahedra of copper, cut to so many atoms."""
    random = np.random.default_rng(seed)
    corners = 2.5 * np.array([[0, 0, 0], [1, 0, 0], [0.5, 0.87, 0], [0.5, 0.29, 0.82]])
    return [
        Structure(np.full(atoms, 29), corners[:atoms] + random.normal(0, 0.2, (atoms, 3)))
        for _ in range(count)
    ]


def dataset(truth, structures, kinds=("",), noise=0.0, seed=0):
    random = np.random.default_rng(seed)
    records = []
    for index, (structure, labels) in enumerate(zip(structures, truth.predict(structures))):
        kind = kinds[index % len(kinds)]
        forces = labels.forces + noise * random.normal(size=labels.forces.shape)
        records.append(Record(structure, Labels(labels.energy, forces), f"s{index}", kind))
    return Dataset(tuple(records), LEVEL)


def energies_only(data):
    return Dataset(
        tuple(dataclasses.replace(r, labels=Labels(r.labels.energy)) for r in data), data.level
    )


class Dense:
    """A Gaussian process of sums over atoms, in plain NumPy: observations are energies."""

    def __init__(self, model, data, others, reference, noise):
        self.model, self.reference = model, reference
        self.count = len(data)
        structures = [*data.structures, *others]
        self.sizes = np.array([len(s) for s in structures])
        found = list(spectra_of(structures, (29,), model.soap))
        self.kernels = np.array([[self.kernel(a, b) for b in found] for a in found])
        known, sizes = slice(0, self.count), self.sizes[: self.count]
        self.inverse = np.linalg.inv(self.kernels[known, known] + noise**2 * np.diag(sizes))
        energies = np.array([r.labels.energy for r in data])
        self.weights = self.inverse @ (energies - reference * sizes)

    def kernel(self, one, other):
        return self.model.delta**2 * np.sum((one @ other.T) ** self.model.zeta)

    def energies(self):
        """Of the others."""
        cross = self.kernels[self.count :, : self.count]
        return cross @ self.weights + self.reference * self.sizes[self.count :]

    def covariance(self):
        cross = self.kernels[self.count :, : self.count]
        return self.kernels[self.count :, self.count :] - cross @ self.inverse @ cross.T


def moved(structure, atom, axis, step):
    positions = structure.positions.copy()
    positions[atom, axis] += step
    return structure.replace(positions=positions)


def test_with_all_atoms_as_points_it_is_the_dense_process(truth, tmp_path):
    """Energies, forces, and variances of both: the sparse process is exact where every training
    atom is a sparse point."""
    data = energies_only(dataset(truth, clusters(6, 1)))
    valid = energies_only(dataset(truth, clusters(2, 2)))
    model = dataclasses.replace(MODEL, sigma=Sigmas(0.02, None, None), use_validation=False)
    solved = model.fit(data, valid, tmp_path)
    probes, step = clusters(2, 3), 0.01
    ends = [moved(s, 1, 0, sign * step) for s in probes for sign in (1, -1)]
    reference = solved.potential.reference_energies[29]
    dense = Dense(model, data, [*probes, *ends], reference, 0.02)
    energies, covariance = dense.energies(), dense.covariance()
    for index, labels in enumerate(GapWithVariance(solved.potential).predict(probes)):
        # jitter of 1e-12 against kernels of 0.25
        assert labels.energy == pytest.approx(energies[index], abs=1e-6)
        deviation = np.sqrt(covariance[index, index])
        assert labels.uncertainty.energy == pytest.approx(deviation, rel=1e-4)
        plus, minus = 2 + 2 * index, 3 + 2 * index
        slope = (energies[plus] - energies[minus]) / (2 * step)
        # differences over 0.02 Å: truncation of 2e-5 times the third derivative
        assert labels.forces[1, 0] == pytest.approx(-slope, abs=1e-3)
        spread = covariance[plus, plus] + covariance[minus, minus] - 2 * covariance[plus, minus]
        spread = np.sqrt(spread) / (2 * step)
        assert labels.uncertainty.forces[1, 0] == pytest.approx(spread, rel=5e-3)


def test_the_solution_is_that_of_the_normal_equations(truth, tmp_path):
    """With noises by kind of structure: α = (K + Σ AᵀA/σ²)⁻¹ Σ Aᵀy/σ²; what it predicts, since
    squares of the condition number (1e6) spoil the coefficients themselves."""
    data = dataset(truth, clusters(10, 1), ("a", "b"))
    valid = dataset(truth, clusters(3, 2))
    groups = {"a": Sigmas(0.02, 0.1, None), "b": Sigmas(0.1, None, None)}
    model = dataclasses.replace(MODEL, group_sigma=groups, use_validation=False, uncertainty=True)
    solved = model.fit(data, valid, tmp_path)
    module, reference = solved.potential.module, solved.potential.reference_energies[29]
    upper = kernel_root(module)
    left, right, count = upper.T @ upper, np.zeros(24), 0
    everything = list(Design(module).rows(data.structures))
    for record, rows in zip(data, everything):
        sigma = groups[record.kind]
        total = rows.atoms.sum(axis=0)
        noise = sigma.energy * np.sqrt(len(rows.atoms))
        left += np.outer(total, total) / noise**2
        right += total * (record.labels.energy - reference * len(rows.atoms)) / noise**2
        count += 1
        if sigma.force is not None:
            left += rows.forces.T @ rows.forces / sigma.force**2
            right += rows.forces.T @ record.labels.forces.ravel() / sigma.force**2
            count += rows.forces.shape[0]
    assert solved.summary["equations"] == count
    forces = np.concatenate([rows.forces for rows in everything])
    expected = forces @ np.linalg.solve(left, right)
    found = forces @ np.asarray(module.coefficients)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-4 * np.abs(expected).max())
    spread = forces @ np.asarray(module.posterior.root)
    variances = np.sum(forces * np.linalg.solve(left, forces.T).T, axis=1)
    np.testing.assert_allclose(np.sum(spread**2, axis=1), variances, rtol=1e-3)


@pytest.mark.slow
def test_it_learns_and_knows_how_well(truth, tmp_path):
    """A pair potential from 30 clusters with forces; intervals hold what they say."""
    data = dataset(truth, clusters(30, 1), noise=0.02)
    test = dataset(truth, clusters(20, 5), noise=0.02)
    stages = []
    solved = MODEL.fit(data, dataset(truth, clusters(6, 2), noise=0.02), tmp_path, stages.append)
    sure = LinearWithUncertainty(solved.potential)
    labels = sure.predict(test.structures)
    errors = np.array([p.forces - r.labels.forces for p, r in zip(labels, test)])
    spread = np.std([r.labels.forces for r in test])
    assert np.sqrt(np.mean(errors**2)) < 0.1 * spread
    assert solved.summary["valid_force_rmse_mev_per_angstrom"] < 100 * spread
    inside = np.abs(errors) <= 1.645 * np.array([p.uncertainty.forces for p in labels])
    # 240 components of 20 clusters, nominal 0.9: ±0.1 is five deviations of independent ones
    assert np.mean(inside) == pytest.approx(0.9, abs=0.1)
    assert np.median(labels[0].uncertainty.grade) < 1.5
    assert labels[0].uncertainty.structure_grade < 2
    near = [s.replace(positions=0.6 * s.positions) for s in test.structures]
    assert min(p.uncertainty.grade.max() for p in sure.predict(near)) > 3
    assert {s.words for s in stages} >= {"training structures", "validation structures"}
    assert "structures to choose sparse points" in {s.words for s in stages}


def test_the_same_seed_chooses_the_same_points(truth, tmp_path):
    data, valid = dataset(truth, clusters(12, 1)), dataset(truth, clusters(3, 2))
    found = [
        dataclasses.replace(MODEL, seed=seed, uncertainty=False)
        .fit(data, valid, tmp_path / f"{index}")
        .potential.module
        for index, seed in enumerate((0, 0, 1))
    ]
    np.testing.assert_array_equal(found[0].coefficients, found[1].coefficients)
    assert not np.array_equal(found[0].sparse[0], found[2].sparse[0])


def test_leverages_are_those_of_the_singular_vectors():
    random = np.random.default_rng(0)
    for shape in ((40, 7), (7, 40)):
        rows = random.normal(size=shape) * np.logspace(0, -1, shape[1])
        left = np.linalg.svd(rows)[0][:, :4]
        np.testing.assert_allclose(leverages(rows, 4), np.sum(left**2, axis=1) / 4, atol=1e-9)
    # a row unlike all others is nearly always among a few that are drawn
    rows = np.ones((200, 5)) + 1e-3 * random.normal(size=(200, 5))
    rows[17] = [1, -1, 1, -1, 1]
    drawn = [17 in leverage_choice(rows, 3, np.random.default_rng(seed)) for seed in range(20)]
    assert sum(drawn) >= 12  # of three draws one in three at least goes to it: 1 - (2/3)³ = 0.7


def test_equal_atoms_count_once(truth, tmp_path):
    """Ten copies of two clusters have eight different atoms."""
    copies = dataset(truth, clusters(2, 1) * 10)
    with pytest.raises(BadInput, match="only 8 different atoms of Cu"):
        MODEL.fit(copies, copies, tmp_path)
    assert not list(tmp_path.iterdir())


def test_refusals(truth, tmp_path):
    data = dataset(truth, clusters(6, 1), ("a",))
    with pytest.raises(BadInput, match=r"n_sparse: 30 sparse points.*only 24 different"):
        dataclasses.replace(MODEL, n_sparse=30).fit(data, data, tmp_path)
    with pytest.raises(BadInput, match=r"group_sigma: no structure is of the kind 'c'"):
        dataclasses.replace(MODEL, group_sigma={"c": Sigmas()}).fit(data, data, tmp_path)
    model = dataclasses.replace(MODEL, n_sparse=4, n_sparse_pairs=60, jitter=0.0)
    with pytest.raises(CalculationFailed, match="jitter: with 0 the"):
        model.fit(data, data, tmp_path)
    plain = dataclasses.replace(MODEL, uncertainty=False).fit(data, data, tmp_path / "a")
    with pytest.raises(BadInput, match="fitted without uncertainty"):
        GapWithVariance(plain.potential)


def test_what_is_read_is_not_read_again(truth, tmp_path, monkeypatch):
    monkeypatch.setattr(gap_fit, "SAVE_SECONDS", 0.0)
    data, valid = dataset(truth, clusters(12, 1)), dataset(truth, clusters(3, 2))
    model = dataclasses.replace(MODEL, uncertainty=False)

    class Stopped(Exception):
        pass

    def stop(stage):
        if stage.words == "training structures" and stage.done == 7:
            raise Stopped

    with pytest.raises(Stopped):
        model.fit(data, valid, tmp_path, stop)
    stages = []
    resumed = model.fit(data, valid, tmp_path, stages.append)
    assert next(s.done for s in stages if s.words == "training structures") == 8
    whole = model.fit(data, valid, tmp_path / "other")
    np.testing.assert_allclose(
        resumed.potential.predict(valid.structures)[0].forces,
        whole.potential.predict(valid.structures)[0].forces,
        atol=1e-8,
    )
    # other noises read nothing again, other kernels are refused
    stages = []
    dataclasses.replace(model, sigma=Sigmas(0.002, 0.1, None)).fit(
        data, valid, tmp_path, stages.append
    )
    assert not any(s.words == "training structures" for s in stages)
    with pytest.raises(BadInput, match="other data or another basis"):
        dataclasses.replace(model, zeta=3).fit(data, valid, tmp_path)
    stages = []
    model.fit(data, valid, tmp_path, stages.append, fresh=True)
    assert sum(s.words == "training structures" for s in stages) == len(data)

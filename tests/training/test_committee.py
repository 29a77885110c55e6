"""Members trained as one program: as each alone, resampled data, resume, best epochs, heads."""

import dataclasses
import json

import equinox as eqx
import jax
import numpy as np
import pytest

from karat.core.errors import BadInput
from karat.potentials.batch import Batch
from karat.potentials.committee import CommitteePotential
from karat.potentials.committee_calibration import coverage_of
from karat.potentials.karat_file import load, save
from karat.potentials.model import named_arrays
from karat.potentials.native.architecture import AbstractArchitecture
from karat.training.batches import Targets, assemble_on_host, build_graphs, label_numbers
from karat.training.committee_step import DRAWS, committee_gradient, make_member_step
from karat.training.divergence import Diverged
from karat.training.feeding import Feed
from karat.training.fit import fit
from karat.training.members import (
    Members,
    bootstrap_draws,
    committee_trainable,
    first_committee,
    member_keys,
)
from karat.training.packing import pack
from karat.training.parity import Predictions
from karat.training.references import regress
from karat.training.run_state import first_state
from karat.training.settings import TrainingSettings
from karat.training.step import Numbers, Recipe, loss_gradient, make_step
from karat.training.trainer import train
from karat.training.watches import Watches

SETTINGS = TrainingSettings(
    epochs=6, batch_size=4, members=3, weight_decay=0.01, seed=3, dtype="float64"
)
SIZE = (60, 200, 0, 16)  # one shape for all, so that little is compiled


KEPT = ("static", "kinds")
one_gradient = jax.jit(loss_gradient, static_argnames=KEPT)
all_gradients = jax.jit(committee_gradient, static_argnames=(*KEPT, "own_trunk"))


class Case:
    """A committee before training, and graphs of which some have no forces."""

    def __init__(self, clusters, small, settings):
        self.data, self.settings = clusters(12, 4), settings
        graphs = build_graphs(self.data, regress(self.data), 6.0, False, "float64")
        self.graphs = [
            dataclasses.replace(g, forces=None) if i % 4 == 1 else g for i, g in enumerate(graphs)
        ]
        self.committee = first_committee(small, self.data, settings)
        spec = committee_trainable(small, self.committee)
        self.parameters, self.fixed = eqx.partition(self.committee, spec)
        self.small = small

    def numbers(self, counts):
        s = self.settings
        weights, deltas = np.array(s.first_weights), np.array(s.deltas)
        return Numbers(weights, counts, deltas, np.asarray(0.01), np.asarray(0.9))

    def gradient(self, draws, shares, own_trunk):
        """Of all structures as one batch."""
        batch, targets = jax.device_put(assemble_on_host(self.graphs, SIZE, "float64"))
        if draws is not None:
            draws = jax.device_put(np.pad(draws, ((0, 0), (0, SIZE[3] - 12))))
        numbers = self.numbers(np.array(label_numbers(self.graphs), float) * shares)
        arrays, static = eqx.partition(self.fixed, eqx.is_array)
        micro = (batch, {**targets, DRAWS: draws})
        return all_gradients(
            self.parameters,
            arrays,
            static,
            micro,
            numbers,
            kinds=self.settings.kinds,
            own_trunk=own_trunk,
        )

    def alone(self, index, graphs):
        """Gradient and terms of one member by itself with these structures."""
        module = self.committee.one(index)
        parameters, fixed = eqx.partition(module, self.small.trainable(module))
        arrays, static = eqx.partition(fixed, eqx.is_array)
        batch, targets = jax.device_put(assemble_on_host(graphs, SIZE, "float64"))
        numbers = self.numbers(np.array(label_numbers(graphs), float))
        return one_gradient(
            parameters,
            arrays,
            static,
            Batch(**batch),
            Targets(**targets),
            numbers,
            kinds=self.settings.kinds,
        )


def assert_close(a, b, rtol):
    """Relative to the largest number of each array."""
    a, b = named_arrays(a), named_arrays(b)
    assert set(a) == set(b)
    for name in a:
        scale = float(np.abs(b[name]).max())
        np.testing.assert_allclose(a[name], b[name], rtol=0, atol=rtol * max(scale, 1e-12))


@pytest.fixture(scope="module")
def case(clusters, small):
    return Case(clusters, small, SETTINGS)


@pytest.mark.parametrize("accumulate", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_members_move_as_each_alone(case, small, accumulate):
    """Five steps of the same batches; the gradients' norms are clipped, each member's by itself.
    Rounding: sums of a product over members are in another order."""
    settings = dataclasses.replace(SETTINGS, gradient_clip=0.05, accumulate=accumulate)
    step = make_member_step(case.fixed, settings)
    order = np.random.default_rng(0).permutation(12).reshape(3, 4)
    batches = [[order[(k + j) % 3] for j in range(accumulate)] for k in range(5)]
    state = first_state(case.parameters, settings)
    moving = (state.parameters, state.average, state.optimiser)
    found_terms, counts = [], []
    for group in batches:
        graphs = [[case.graphs[i] for i in batch] for batch in group]
        micros = [assemble_on_host(part, SIZE, "float64") for part in graphs]
        counts.append(np.array(label_numbers([g for part in graphs for g in part]), float))
        numbers = case.numbers(np.tile(counts[-1], (3, 1)))
        with_draws = [(batch, {**targets, DRAWS: None}) for batch, targets in micros]
        moving, terms = step(moving, with_draws, numbers)
        found_terms.append(np.asarray(terms))
    found = eqx.combine(moving[0], case.fixed), eqx.combine(moving[1], case.fixed)
    for index in range(3):
        module = case.committee.one(index)
        parameters, fixed = eqx.partition(module, small.trainable(module))
        single = dataclasses.replace(settings, members=1)
        state = first_state(parameters, single)
        mine = (state.parameters, state.average, state.optimiser)
        alone = make_step(fixed, single)
        for k, group in enumerate(batches):
            micros = [
                assemble_on_host([case.graphs[i] for i in batch], SIZE, "float64")
                for batch in group
            ]
            mine, terms = alone(mine, micros, case.numbers(counts[k]))
            np.testing.assert_allclose(found_terms[k][index], terms, rtol=1e-9)
        for committee, moved in zip(found, mine):
            assert_close(committee.one(index), eqx.combine(moved, fixed), 1e-9)
        assert np.abs(moved.weights[0] - parameters.weights[0]).max() > 1e-3


def test_draws_are_the_resampled_data(case):
    """Loss, terms and gradient with weights equal those of a batch in which structures are as
    often as they were drawn, though structures without forces make the numbers of labels differ."""
    members = Members.of(dataclasses.replace(SETTINGS, member_data="bootstrap"), case.graphs)
    assert members.draws.sum(axis=1).tolist() == [12.0] * 3
    assert len({tuple(row) for row in members.draws}) == 3
    gradient, terms = case.gradient(members.draws, members.shares, own_trunk=True)
    stacked, other_counts = eqx.combine(gradient, case.fixed), []
    for index, row in enumerate(members.draws.astype(int)):
        graphs = [g for g, times in zip(case.graphs, row) for _ in range(times)]
        other_counts.append(label_numbers(graphs)[1] != label_numbers(case.graphs)[1])
        expected, their_terms = case.alone(index, graphs)
        np.testing.assert_allclose(terms[index], their_terms, rtol=1e-12)
        mine = eqx.filter(stacked.one(index), case.small.trainable(stacked.one(index)))
        assert_close(mine, expected, 1e-10)
    assert any(other_counts)
    _, plain_terms = case.gradient(np.ones((3, 12)), np.ones((3, 3)), own_trunk=True)
    assert not np.allclose(plain_terms, terms, rtol=1e-3)


def test_batches_of_an_epoch_add_up_to_the_resampled_data(case):
    """Weighted by their numbers of labels, the terms of an epoch's steps have that sum: no batch
    counts more because its structures were drawn less."""
    settings = dataclasses.replace(SETTINGS, member_data="bootstrap", batch_size=4)
    members = Members.of(settings, case.graphs)
    counts = np.array([g.counts for g in case.graphs])
    feed = Feed(case.graphs, pack(counts, 4, 0), 1, Recipe.of(settings), "float64")
    steps = feed.epoch(0)
    assert len(steps) == 3
    weighted = sum(feed.counts(step)[None] * members.shares for step in steps)
    drawn = members.draws @ np.array([label_numbers([g]) for g in case.graphs], float)
    np.testing.assert_allclose(weighted, drawn, rtol=1e-12)


def test_every_structure_is_drawn_once_on_average():
    """10⁵ structures: the share never drawn is 1/e (binomial error 0.0015; 4.5 of it)."""
    draws = bootstrap_draws(2, 100_000, 7)
    assert draws.mean(axis=1).tolist() == [1.0, 1.0]
    assert np.abs(np.mean(draws == 0, axis=1) - np.exp(-1)).max() < 4.5 * 0.0015


def test_a_shared_trunk_learns_from_the_mean_loss(clusters, small):
    case = Case(clusters, small, dataclasses.replace(SETTINGS, member_trunk="shared"))
    assert case.committee.stacked == ("biases.1", "weights.1")
    gradient, _ = case.gradient(None, np.ones((3, 3)), own_trunk=False)
    apart = [case.alone(index, case.graphs)[0] for index in range(3)]
    trunk = np.mean([one.weights[0] for one in apart], axis=0)
    np.testing.assert_allclose(gradient.member.weights[0], trunk, rtol=0, atol=1e-10)
    assert np.abs(trunk).max() > 1e-3
    for index, one in enumerate(apart):
        np.testing.assert_allclose(
            gradient.member.weights[1][index], one.weights[1] / 3, rtol=0, atol=1e-10
        )


class Interrupted(Exception):
    pass


def assert_same_run(a, b):
    one, other = (named_arrays(trained.potential.module) for trained in (a, b))
    assert {n: np.asarray(x).tobytes() for n, x in one.items()} == {
        n: np.asarray(x).tobytes() for n, x in other.items()
    }
    assert a.members.best_epochs == b.members.best_epochs
    for name, curve in a.members.curves.items():
        assert curve.tobytes() == b.members.curves[name].tobytes()
    assert a.parity.force_predicted.tobytes() == b.parity.force_predicted.tobytes()


@pytest.fixture(scope="module")
def data(clusters):
    return clusters(22, 0), clusters(12, 1)


# so large a rate that some epochs are worse than those before
RESTLESS = dataclasses.replace(
    SETTINGS,
    epochs=12,
    learning_rate=0.2,
    schedule="constant",
    member_data="bootstrap",
    ema_decay=0.0,
)


@pytest.fixture(scope="module")
def restless(small, data, tmp_path_factory):
    folder = tmp_path_factory.mktemp("restless")
    return train(small, *data, RESTLESS, folder), folder


def test_interrupted_runs_end_with_the_same_bits(restless, small, data, tmp_path):
    def stop_at(epoch):
        def report(progress):
            if progress.epoch == epoch:
                raise Interrupted

        return report

    for epoch, pause in ((2, 0.0), (9, 1e9)):
        with pytest.raises(Interrupted):
            train(small, *data, RESTLESS, tmp_path, stop_at(epoch), checkpoint_seconds=pause)
    seen = []
    resumed = train(small, *data, RESTLESS, tmp_path, seen.append)
    assert [progress.epoch for progress in seen] == [10, 11, 12]
    assert_same_run(resumed, restless[0])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("karat.training.trainer.run", lambda *_: pytest.fail("done twice"))
        assert_same_run(train(small, *data, RESTLESS, tmp_path), restless[0])


def test_each_member_keeps_its_own_best_epoch(restless, data):
    trained, _ = restless
    members, valid = trained.members, data[1]
    losses = members.curves["valid_loss"]
    assert members.best_epochs == tuple(int(i) + 1 for i in losses.argmin(axis=0))
    assert len(set(members.best_epochs)) > 1
    assert min(members.best_epochs) < 12
    committee = CommitteePotential(trained.potential)
    found = committee.predict(valid.structures)
    for index, best in enumerate(members.best_epochs):
        errors = [
            f.uncertainty.member_forces[index] - r.labels.forces for f, r in zip(found, valid)
        ]
        rmse = 1e3 * np.sqrt(np.mean(np.square(errors)))
        assert rmse == pytest.approx(members.curves["force_rmse"][best - 1, index], rel=1e-9)
        assert rmse == pytest.approx(members.force_rmse[index], rel=1e-9)
    errors = [f.forces - r.labels.forces for f, r in zip(found, valid)]
    summary = trained.summary(*data, RESTLESS)
    rmse = 1e3 * np.sqrt(np.mean(np.square(errors)))
    assert summary["valid_force_rmse_mev_per_angstrom"] == pytest.approx(rmse, rel=1e-9)
    json.dumps(summary, allow_nan=False)


def test_nominal_intervals_hold_on_the_validation_data(restless, data):
    """By construction: 12 of 12 energies (rank ⌈0.9 · 13⌉), 90 % of 144 force components."""
    found = coverage_of(CommitteePotential(restless[0].potential), data[1])
    assert found.energy.value == 1.0
    assert found.forces.value == pytest.approx(np.ceil(0.9 * 145) / 144, abs=1.5 / 144)


@pytest.mark.slow
def test_the_first_member_is_the_single_potential(small, data, tmp_path):
    """Same first parameters, same batches: the same curve to rounding (12 steps of Adam)."""
    settings = dataclasses.replace(SETTINGS, epochs=2)
    several = train(small, *data, settings, tmp_path / "a").members
    one = train(small, *data, dataclasses.replace(settings, members=1), tmp_path / "b").curve
    for name in several.curves:
        np.testing.assert_allclose(
            several.curves[name][:, 0], getattr(one, name), rtol=1e-7, err_msg=name
        )
    assert len({str(jax.random.key_data(key)) for key in member_keys(settings)}) == 3


def test_a_trained_committee_is_saved_whole(restless, small, data, tmp_path):
    trained, _ = restless
    save(tmp_path / "p.karat", small, trained.potential, training=trained.summary(*data, RESTLESS))
    again = load(tmp_path / "p.karat")
    one, other = named_arrays(trained.potential.module), named_arrays(again.module)
    assert {n: np.asarray(x).tobytes() for n, x in one.items()} == {
        n: np.asarray(x).tobytes() for n, x in other.items()
    }
    assert np.asarray(again.module.calibration).tolist() == trained.members.calibration.tolist()
    assert "3 members with best epochs" in trained.members.note


@pytest.mark.slow
@pytest.mark.parametrize("trunk", ["own", "shared"])
def test_fitted_committees_are_saved_and_are_contestants(trunk, small, data, tmp_path):
    settings = TrainingSettings(
        epochs=3, batch_size=8, members=4, member_data="bootstrap", member_trunk=trunk
    )
    fitted = fit(small, *data, settings, tmp_path / "run")
    assert "committee of 4 members" in fitted.note
    assert fitted.summary["committee"]["members"] == 4
    epochs = fitted.summary["committee"]["best_epochs"]
    assert trunk == "own" or len(set(epochs)) == 1
    save(tmp_path / "p.karat", small, fitted.potential, training=fitted.summary)
    again = CommitteePotential(load(tmp_path / "p.karat"))
    one = again.predict(data[1].structures[:2])[1]
    spread = one.uncertainty
    assert spread.member_energies.shape == (4,)
    assert spread.forces.min() > 0
    # float32, whose mean over members is taken in another order
    mean = fitted.potential.predict(data[1].structures[:2])[1]
    assert one.energy == pytest.approx(mean.energy, abs=1e-4)
    weights = named_arrays(again.committee)["member.weights.0"]
    assert weights.ndim == (4 if trunk == "own" else 3)


def test_a_member_that_diverges_stops_all():
    watches = Watches(2, 5, 10, [1.0, 1.0, 0.0] * 2, ("mse", "mse", "mse"))
    good = jax.numpy.ones((2, 3))
    watches.add(good, (1.0, 1.0, 0.0), 0.1)
    watches.finish()
    assert watches.medians() == [1.0] * 6
    assert watches.mean_loss() == 2.0
    watches.add(good.at[1, 0].set(np.nan), (1.0, 1.0, 0.0), 0.1)
    with pytest.raises(Diverged, match="member 2: a training loss of nan"):
        watches.finish()


def test_a_member_that_diverges_takes_all_back(small, data, tmp_path, monkeypatch):
    """The second member's validation loss is not finite once: the epoch is done again by all."""
    from karat.training.validation import Validation

    plain, calls = Validation.rows, []

    def broken(self, parameters):
        rows = plain(self, parameters)
        calls.append(1)
        if len(calls) == 2:
            rows[1] = dataclasses.replace(rows[1], loss=float("nan"))
        return rows

    monkeypatch.setattr(Validation, "rows", broken)
    settings = dataclasses.replace(SETTINGS, epochs=3, schedule="constant", warmup_fraction=0.0)
    trained = train(small, *data, settings, tmp_path)
    (rollback,) = trained.rollbacks
    assert rollback.epoch == 2
    assert rollback.reason == "a validation loss of member 2 of nan"
    assert trained.curve.learning_rate.tolist() == pytest.approx([0.01, 0.005, 0.005])
    assert np.isfinite(trained.members.curves["valid_loss"]).all()


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"members": 0}, "members 0"),
        ({"members": 1000}, "at most"),
        ({"member_data": "bootstrap"}, "one member only"),
        ({"member_trunk": "shared"}, "one member only"),
        ({"members": 2, "devices": 2}, "on one device"),
    ],
)
def test_settings_that_do_not_fit_are_refused(values, words):
    with pytest.raises(BadInput, match=words):
        TrainingSettings(**values)


def test_a_shared_trunk_needs_readouts(small, clusters, monkeypatch):
    monkeypatch.setattr(type(small), "heads", AbstractArchitecture.heads)
    settings = dataclasses.replace(SETTINGS, member_trunk="shared")
    with pytest.raises(BadInput, match="Bpnn has no readouts"):
        first_committee(small, clusters(5, 0), settings)


def test_predictions_have_rows():
    rows = Predictions(np.arange(6.0).reshape(3, 2), np.zeros((3, 4, 3))).rows
    assert [one.energies.tolist() for one in rows] == [[0, 1], [2, 3], [4, 5]]

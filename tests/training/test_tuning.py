"""The search of settings: its front, what it keeps, what it refuses, what it costs."""

import dataclasses

import numpy as np
import pytest

from karat.core.errors import BadInput, CalculationFailed, UnknownKey
from karat.data.dataset import Dataset, Record
from karat.potentials.analytic.stillinger_weber import StillingerWeber
from karat.potentials.karat_file import load
from karat.potentials.kernel.sgdml import Sgdml
from karat.potentials.native.bpnn import Bpnn
from karat.potentials.native.catalogue import ARCHITECTURES
from karat.structures.labels import Labels, LevelOfTheory
from karat.structures.structure import Structure
from karat.training import tuning
from karat.training.search_space import Options, Span, parse_choice, with_values
from karat.training.settings import TrainingSettings
from karat.training.step_cost import microseconds_per_atom_step, sample_structure
from karat.training.tuning import Trial, tune

MODEL = Sgdml(permutations="none", calibration_structures=0)


def springs(count, seed):
    """Three atoms held by springs; labels are exact."""
    random = np.random.default_rng(seed)
    records = []
    rest = np.array([[0.0, 0.0, 0.0], [1.0, 0.0, 0.0], [0.2, 0.9, 0.0]])
    for index in range(count):
        moved = rest + random.normal(0, 0.08, (3, 3))
        energy, forces = -30.0, np.zeros((3, 3))
        for i, j in ((0, 1), (0, 2), (1, 2)):
            along = moved[j] - moved[i]
            length, natural = np.linalg.norm(along), np.linalg.norm(rest[j] - rest[i])
            energy += 16.0 * (length - natural) ** 2
            forces[i] += 32.0 * (length - natural) * along / length
            forces[j] -= 32.0 * (length - natural) * along / length
        structure = Structure(np.array([8, 1, 1]), moved)
        records.append(Record(structure, Labels(energy=energy, forces=forces), f"{seed}-{index}"))
    return Dataset(tuple(records), LevelOfTheory("springs"))


@pytest.fixture
def priced(monkeypatch):
    """Costs that depend on the width alone, so that a search repeats exactly."""
    monkeypatch.setattr(
        tuning,
        "microseconds_per_atom_step",
        lambda potential, structure: float(potential.module.sigma),
    )


def search(folder, trials, **options):
    space = dict(
        [parse_choice("sigma=2.0..40.0:log"), parse_choice("regularization=[1e-10, 1e-4]")]
    )
    data = springs(12, 0), springs(6, 1)
    return tune(MODEL, space, *data, TrainingSettings(), folder, trials, **options)


def test_front_holds_what_no_trial_beats_and_the_files_are_there(priced, tmp_path):
    front = search(tmp_path, 8)
    done = [(t.cost, t.force_rmse) for t in front.trials]
    assert all(t.failure == "" for t in front.trials)
    unbeaten = {
        i
        for i, (cost, error) in enumerate(done)
        if not any(c <= cost and e <= error and (c, e) != (cost, error) for c, e in done)
    }
    assert set(front.best) == unbeaten
    assert [front.trials[i].cost for i in front.best] == sorted(done[i][0] for i in front.best)
    chosen = front.chosen
    assert chosen.force_rmse == min(error for _, error in done)
    potential = load(tmp_path / chosen.file)
    valid = springs(6, 1)
    found = potential.predict(valid.structures)
    errors = [f.forces - r.labels.forces for f, r in zip(found, valid)]
    assert 1e3 * np.sqrt(np.mean(np.square(errors))) == pytest.approx(chosen.force_rmse, rel=1e-6)
    # the same search again gives the same; a ceiling leaves the cheap ones
    again = search(tmp_path / "again", 8)
    assert [t.values for t in again.trials] == [t.values for t in front.trials]
    limit = float(np.median([cost for cost, _ in done]))
    under = search(tmp_path / "ceiling", 8, ceiling=limit)
    assert under.best
    assert all(under.trials[i].cost <= limit for i in under.best)


def test_a_stopped_search_goes_on_where_it_was(priced, tmp_path, monkeypatch):
    whole = search(tmp_path / "whole", 5)
    part = search(tmp_path / "part", 3)
    calls = []
    real = tuning.fit
    monkeypatch.setattr(tuning, "fit", lambda *a: calls.append(a) or real(*a))
    with (tmp_path / "part" / "trials.jsonl").open("a") as stream:
        stream.write('{"index": 3, "val')  # killed while writing
    rest = search(tmp_path / "part", 5)
    assert len(calls) == 2
    same = [dataclasses.replace(t, seconds=0.0) for t in whole.trials]
    assert [dataclasses.replace(t, seconds=0.0) for t in rest.trials] == same
    assert [dataclasses.replace(t, seconds=0.0) for t in part.trials] == same[:3]
    with pytest.raises(BadInput, match="another search|other data"):
        tune(
            MODEL,
            dict([parse_choice("sigma=2.0..9.0")]),
            springs(12, 0),
            springs(6, 1),
            TrainingSettings(),
            tmp_path / "part",
            5,
        )


def test_a_failed_trial_counts_and_costs_no_other(priced, tmp_path, monkeypatch):
    real = tuning.fit

    def fails_once(model, *rest):
        if fails_once.left:
            fails_once.left -= 1
            raise CalculationFailed("planted", kind="planted")
        return real(model, *rest)

    fails_once.left = 1
    monkeypatch.setattr(tuning, "fit", fails_once)
    front = search(tmp_path, 4)
    assert [t.failure for t in front.trials] == ["planted", "", "", ""]
    assert 0 not in front.best
    assert len((tmp_path / "trials.jsonl").read_text().splitlines()) == 5


def test_front_of_planted_points():
    points = [(1.0, 9.0), (2.0, 5.0), (3.0, 6.0), (4.0, 5.0), (5.0, 1.0), (None, None)]
    trials = [Trial(i, {}, e, e, c, 0.0) for i, (c, e) in enumerate(points)]
    assert tuning._front(trials, "forces", None, "X").best == (0, 1, 4)
    assert tuning._front(trials, "energy", 4.5, "X").best == (0, 1)
    assert tuning._front(trials, "energy", 0.5, "X").chosen is None


def test_what_may_vary_is_read_strictly():
    assert parse_choice("a=1..5") == ("a", Span(1.0, 5.0, whole=True))
    assert parse_choice("a.b=1e-3..1:log") == ("a.b", Span(1e-3, 1.0, logarithmic=True))
    name, options = parse_choice("hidden=[[8], [16, 16]]")
    assert (name, options.ends) == ("hidden", ([8], [16, 16]))
    assert isinstance(options, Options)
    for bad in ("a", "a=3", "a=5..1", "a=x..y", "a=[1]", "=1..2", "a=1..2:lin", "a=0..2:log"):
        with pytest.raises(BadInput):
            parse_choice(bad)
    changed = with_values(Bpnn(), {"radial.count": 5, "hidden": [7]})
    assert (changed.radial.count, changed.hidden) == (5, (7,))
    with pytest.raises(UnknownKey):
        with_values(Bpnn(), {"hiden": [7]})
    with pytest.raises(BadInput, match="nested"):
        with_values(Bpnn(), {"cutoff_angstrom.x": 1})
    with pytest.raises(BadInput):
        with_values(Bpnn(), {"cutoff_angstrom": -1.0})


@pytest.mark.parametrize("name", sorted(set(ARCHITECTURES.names()) - {"deeppot_compressed"}))
def test_the_usual_search_of_every_model_fits_it(name):
    """Of all that can be fitted; a compressed model is made from another's file."""
    kind = ARCHITECTURES.resolve(name)
    for assignment in [f"{k}={v}" for k, v in kind().search_space().items()]:
        key, choice = parse_choice(assignment)
        for value in choice.ends:
            with_values(kind(), {key: value})
        assert choice.value(choice.stored(choice.ends[0])) == choice.ends[0]


def test_bad_searches_are_refused_before_work(tmp_path):
    data = springs(4, 0), springs(2, 1)
    space = {"sigma": Span(1.0, 2.0)}
    for wrong in ({"trials": 0}, {"space": {}}, {"ceiling": -1.0}):
        options = {"space": space, "trials": 2, "ceiling": None} | wrong
        with pytest.raises(BadInput):
            tune(
                MODEL,
                options["space"],
                *data,
                TrainingSettings(),
                tmp_path / "x",
                options["trials"],
                ceiling=options["ceiling"],
            )
    (tmp_path / "trials.jsonl").write_text("not json\n")
    with pytest.raises(BadInput, match="damaged"):
        tune(MODEL, space, *data, TrainingSettings(), tmp_path, 2)


def test_the_cost_is_that_of_dynamics_on_a_large_enough_crystal():
    from ase.build import bulk

    crystal = Structure.from_ase(bulk("Si", cubic=True))
    sample = sample_structure([crystal, Structure(np.array([18]), np.zeros((1, 3)))], atoms=60)
    assert len(sample) == 64
    assert np.isclose(sample.volume, 8 * crystal.volume)
    lengths = np.linalg.norm(sample.cell, axis=1)
    assert lengths.max() / lengths.min() < 2.1
    potential = StillingerWeber(preset="Si").load()
    cost = microseconds_per_atom_step(potential, sample)
    assert 0.05 < cost < 1000
    with pytest.raises(BadInput):
        sample_structure([])

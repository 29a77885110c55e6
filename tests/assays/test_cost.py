"""Contestants whose time and memory are known from below; copies that must not interact."""

import time

import numpy as np
import pytest

from karat.assays.cost import memory
from karat.assays.cost.assay import Cost
from karat.assays.cost.growth import GAP_ANGSTROM, grow
from karat.assays.protocol import Contestant, NotApplicable
from karat.core.errors import BadInput
from karat.potentials.analytic.lennard_jones import LennardJones
from karat.structures.structure import Structure

NAP, PER_ATOM = 1e-3, 2e-4  # s


def slow(toys):
    """Takes 1 ms for a call and 0.2 ms for an atom, at least; remembers what it saw."""
    potential = toys.Scaled(toys.Toy([[0, 1]], [1.0]))
    seen = []

    def predict(structures, want):
        seen.append(structures[0].digest)
        time.sleep(NAP + PER_ATOM * sum(len(s) for s in structures))
        return [None] * len(structures)

    potential.predict = predict
    return potential, seen


def scored(assay, cases, potential, contestant):
    measured = assay.measure(potential, cases)
    score = assay.score(cases, measured, contestant)
    return measured, score, {(m.name, m.subset): m for m in score.metrics}


def test_times_sizes_and_training(toys):
    assay = Cost(largest_atoms=8, calls=9, batch=4)
    cases = assay.cases(toys.context([toys.pair()]))
    assert [r.name for r in cases.records] == ["2 atoms", "4 atoms", "8 atoms"]
    potential, seen = slow(toys)
    contestant = Contestant("c", training={"seconds": 12.5, "labels": 40.0})
    measured, score, metrics = scored(assay, cases, potential, contestant)
    for atoms in (2, 4, 8):
        least = (NAP + atoms * PER_ATOM) * 1e3
        metric = metrics["time_per_call", f"size:{atoms} atoms"]
        # sleeping takes at least that long; above, room for a loaded machine
        assert least <= metric.value < least + 500
        assert metric.low <= metric.value <= metric.high
        assert (metric.unit, metric.n) == ("ms", 9)
    own = metrics["time_per_call", ""]
    assert own.value == metrics["time_per_call", "size:2 atoms"].value
    assert metrics["time_per_atom", ""].value == pytest.approx(own.value * 1e3 / 2)
    assert metrics["batch_time_per_atom", ""].value >= (NAP + 8 * PER_ATOM) / 8 * 1e6
    assert metrics["training_time", ""].value == 12.5
    assert metrics["training_labels", ""].value == 40
    assert len(set(seen)) == len(seen)  # nothing is asked twice: no answer from memory
    assert not any(m.headline for m in score.metrics)
    assert measured.arrays == {}
    (figure,) = score.figures
    assert figure.series[0].x == (2.0, 4.0, 8.0)
    assert figure.log_x
    assert figure.log_y


def test_a_slow_call_ends_the_growth(toys):
    assay = Cost(largest_atoms=64, calls=3, slow_call_seconds=(NAP + 3 * PER_ATOM), batch=1)
    cases = assay.cases(toys.context([toys.pair()]))
    potential, _ = slow(toys)
    measured, _, _ = scored(assay, cases, potential, Contestant("c"))
    assert "64 atoms" not in measured.timings["seconds"]
    assert "2 atoms" in measured.timings["seconds"]


def test_failures_and_what_cannot_be_asked(toys):
    assay = Cost(largest_atoms=8, calls=3, batch=2)
    cases = assay.cases(toys.context([toys.pair()]))
    toy = toys.Toy([[0, 1]], [1.0])
    measured, _, metrics = scored(
        assay, cases, toys.Failing(toy, lambda s: len(s) > 4), Contestant("c")
    )
    assert [f.case for f in measured.failures] == ["8 atoms"]
    assert ("time_per_call", "size:4 atoms") in metrics
    helium = Structure(np.array([2]), np.zeros((1, 3)))
    with pytest.raises(NotApplicable, match="He"):
        assay.measure(toy, assay.cases(toys.context([helium])))


@pytest.mark.skipif(memory.start() is None, reason="no /proc/self/clear_refs on this system")
def test_memory_that_was_used_and_given_back_is_seen(toys):
    potential = toys.Scaled(toys.Toy([[0, 1]], [1.0]))

    def predict(structures, want):
        np.ones(64 * 2**17)  # 64 MiB of float64, touched and dropped
        return [None] * len(structures)

    potential.predict = predict
    assay = Cost(largest_atoms=2, calls=3, batch=1)
    cases = assay.cases(toys.context([toys.pair()]))
    _, _, metrics = scored(assay, cases, potential, Contestant("c"))
    growth = metrics["memory_growth", ""]
    assert 60 < growth.value < 200
    assert growth.unit == "MiB"
    assert metrics["peak_memory", ""].value > growth.value


@pytest.mark.skipif(memory.start() is None, reason="no /proc/self/clear_refs on this system")
def test_what_others_used_before_is_not_charged():
    large = np.ones(128 * 2**17)  # 128 MiB
    del large
    used = memory.stop(memory.start())
    assert 0 <= used.peak - used.before < 32


def test_copies_of_a_molecule_stand_apart(toys):
    molecule = toys.peroxide().replace(charge=1, multiplicity=2)
    grown = grow(molecule, 8)
    assert len(grown) == 32
    assert grown.charge == 8
    np.testing.assert_array_equal(grown.numbers, np.tile(molecule.numbers, 8))
    groups = grown.positions.reshape(8, 4, 3)
    for i in range(8):
        np.testing.assert_allclose(
            groups[i] - groups[i, 0], molecule.positions - molecule.positions[0], atol=1e-12
        )
        for j in range(i):
            gaps = np.linalg.norm(groups[i][:, None] - groups[j][None], axis=-1)
            assert gaps.min() > GAP_ANGSTROM - 1e-9
    lengths = np.linalg.norm(
        np.diff(grown.positions[grown.topology.bonds], axis=1)[:, 0], axis=1
    ).reshape(8, 3)
    np.testing.assert_allclose(lengths, np.tile([1.45, 0.97, 0.97], (8, 1)))
    assert grow(molecule, 1) is molecule


def test_a_supercell_is_extensive(toys):
    cell = 5.3 * np.eye(3) + np.array([[0, 0, 0], [0.5, 0, 0], [0, 0, 0.0]])
    corners = np.array([[0, 0, 0], [0, 0.5, 0.5], [0.5, 0, 0.5], [0.5, 0.52, 0]])
    argon = Structure(np.full(4, 18), corners @ cell, cell, np.ones(3, bool))
    potential = LennardJones({"Ar": 0.0104}, {"Ar": 3.4}, 6.0, 5.0).load()
    single = potential.predict([argon])[0].energy
    for copies in (2, 8):
        grown = grow(argon, copies)
        assert len(grown) == 4 * copies
        assert potential.predict([grown])[0].energy == pytest.approx(copies * single, rel=1e-12)


def test_bad_settings_are_refused():
    with pytest.raises(BadInput, match="calls"):
        Cost(calls=1)

"""Several batches in a step, one after the other or on two devices, against one large batch."""

import dataclasses
import os
import subprocess
import sys
from pathlib import Path

import equinox as eqx
import jax
import numpy as np
import pytest

from karat.core.errors import BadInput
from karat.training.batches import assemble_on_host, build_graphs, label_numbers
from karat.training.feeding import Feed
from karat.training.packing import pack
from karat.training.references import regress
from karat.training.run_state import first_state
from karat.training.settings import TrainingSettings
from karat.training.step import Numbers, Recipe, make_mesh, make_step

SGD = TrainingSettings(
    dtype="float64",
    optimiser="sgd",  # its first step is the gradient itself
    gradient_clip=0.0,
    ema_decay=0.5,
    force_loss="huber",
    accumulate=2,
)


class Case:
    """The first step of a run with 12 structures: changes of the parameters, and the terms."""

    def __init__(self, clusters, small):
        self.data = clusters(12, 4)
        self.module = small.initialise(self.data, jax.random.key(0), "float64")
        self.graphs = build_graphs(
            self.data, regress(self.data), self.module.cutoff, False, "float64"
        )
        self.parameters, self.fixed = eqx.partition(self.module, small.trainable(self.module))

    def step(self, settings, batches, graphs=None):
        """`batches`: indices of structures."""
        graphs = graphs or self.graphs
        size = (60, 200, 0, 16)  # one shape for all, so that little is compiled
        members = [[graphs[i] for i in batch] for batch in batches]
        micros = [assemble_on_host(group, size, "float64") for group in members]
        counts = np.array(label_numbers([g for group in members for g in group]), float)
        weights, deltas = np.array(settings.first_weights), np.array(settings.deltas)
        numbers = Numbers(weights, counts, deltas, np.asarray(0.1), np.asarray(0.5))
        state = first_state(self.parameters, settings)
        moving = (state.parameters, state.average, state.optimiser)
        moving, terms = make_step(self.fixed, settings)(moving, micros, numbers)
        change = [a - b for a, b in zip(*map(jax.tree.leaves, (moving[0], self.parameters)))]
        return change, terms


@pytest.fixture(scope="module")
def case(clusters, small):
    return Case(clusters, small)


def assert_equal(a, b, atol=1e-10):
    scale = max(float(np.abs(x).max()) for x in a[0])
    assert scale > 1e-3
    for x, y in zip(a[0], b[0]):
        np.testing.assert_allclose(x, y, rtol=0, atol=atol * scale)
    np.testing.assert_allclose(a[1], b[1], rtol=atol, atol=0)


@pytest.fixture(scope="module")
def large(case):
    """One batch of 12."""
    return case.step(dataclasses.replace(SGD, accumulate=1), [range(12)])


@pytest.mark.parametrize("batches", [[range(6), range(6, 12)], [range(2), range(2, 12)]])
def test_accumulated_batches_equal_one_large_batch(case, large, batches):
    """Of equal and of unequal sizes."""
    assert_equal(case.step(SGD, batches), large)
    assert_equal(case.step(SGD, [batches[1], batches[0]]), large)


def test_missing_forces_count_in_the_whole_step(case, clusters, large):
    """Half of the structures without force labels: means are over what is there in all batches."""
    bare = [dataclasses.replace(g, forces=None) if i < 4 else g for i, g in enumerate(case.graphs)]
    whole = case.step(dataclasses.replace(SGD, accumulate=1), [range(12)], bare)
    assert_equal(case.step(SGD, [range(6), range(6, 12)], bare), whole)
    assert not np.isclose(float(whole[1][1]), float(large[1][1]))


def test_a_last_step_may_have_fewer_batches(case, large):
    assert_equal(case.step(SGD, [range(12)]), large)


def test_an_epoch_is_fed_whole_and_its_padding_counted(case):
    counts = np.array([g.counts for g in case.graphs])
    packing = pack(counts, 2, 0)
    feed = Feed(case.graphs, packing, 4, Recipe.of(SGD), "float64")
    steps = feed.epoch(3)
    assert len(steps) == feed.steps == 2
    assert [len(step) for step in steps] == [4, 2]
    every = [int(i) for step in steps for row in step for batch in row for i in batch]
    assert sorted(every) == list(range(12))
    assert feed.counts(steps[0]).tolist() == [8, 8 * 12, 0]
    padded = 6 * packing.shapes.large[1]
    assert feed.padding(steps) == pytest.approx(1 - counts[:, 1].sum() / padded)


def test_more_devices_than_there_are_are_refused():
    assert make_mesh(1) is None
    with pytest.raises(BadInput, match=r"devices 99: this process has \d"):
        make_mesh(99)


BEGINNING = """
import dataclasses, importlib.util, sys
from pathlib import Path
from karat.core.threads import single_thread
single_thread()
from karat.potentials.precision import enable_float64
enable_float64()
import jax, numpy as np
def load(name, path):
    spec = importlib.util.spec_from_file_location(name, path)
    module = importlib.util.module_from_spec(spec); spec.loader.exec_module(module)
    return module
fixtures, tests = load("fixtures", sys.argv[1]), load("tests", sys.argv[2])
from karat.potentials.native.bpnn import Bpnn, RadialGrid
assert len(jax.devices()) == 2
small = Bpnn(cutoff_angstrom=6.0, radial=RadialGrid(count=4, start_angstrom=1.5), angular=(),
             hidden=(8,))
"""

SAME_STEP = """
from karat.training.feeding import Feed
from karat.training.packing import Packing, Shapes
from karat.training.run_state import first_state
from karat.training.step import Numbers, Recipe, make_step, replicated
case = tests.Case(fixtures.morse_clusters, small)
batches = [np.arange(6), np.arange(6, 12), np.arange(3)]
expected = case.step(dataclasses.replace(tests.SGD, accumulate=3), batches)
settings = dataclasses.replace(tests.SGD, devices=0)
recipe = Recipe.of(settings)
size = (60, 200, 0, 16)
counts = np.array([g.counts for g in case.graphs])
packing = Packing(counts, Shapes(size, size), 3, 0, 0.0, "")
feed = Feed(case.graphs, packing, 2, recipe, "float64")
step = [batches[:2], batches[2:]]  # the last row leaves a device without structures
numbers = Numbers(np.array(settings.first_weights), feed.counts(step),
                  np.array(settings.deltas), np.asarray(0.1), np.asarray(0.5))
state = first_state(case.parameters, settings)
moving = replicated((state.parameters, state.average, state.optimiser), recipe)
moving, terms = make_step(case.fixed, settings)(moving, list(feed.micros(step)), numbers)
leaves = jax.tree.leaves(moving[0])
assert all(len(leaf.sharding.device_set) == 2 for leaf in leaves)
change = [np.asarray(a) - np.asarray(b)
          for a, b in zip(leaves, jax.tree.leaves(case.parameters))]
tests.assert_equal((change, terms), expected)
print("same")
"""

SAME_RUN = """
from karat.training.settings import TrainingSettings
from karat.training.trainer import train
data = fixtures.morse_clusters(13, 0), fixtures.morse_clusters(5, 1)
common = dict(batch_size=2, epochs=4, dtype="float64", seed=1)
one = train(small, *data, TrainingSettings(accumulate=2, **common), Path("one"))
two = train(small, *data, TrainingSettings(devices=2, **common), Path("two"))
assert two.curve.valid_loss[-1] < two.curve.valid_loss[0]
for name in ("train_loss", "valid_loss", "force_rmse", "learning_rate"):
    a, b = getattr(one.curve, name), getattr(two.curve, name)
    np.testing.assert_allclose(a, b, rtol=1e-6)
print("same")
"""


@pytest.mark.parametrize("what", ["step", pytest.param("run", marks=pytest.mark.slow)])
def test_two_devices_equal_one_with_accumulation(what, tmp_path):
    """On two host devices in a process of its own; in `step` one of them is without structures
    once; in `run` rounding of four epochs adds up."""
    here = Path(__file__)
    code = BEGINNING + {"step": SAME_STEP, "run": SAME_RUN}[what]
    done = subprocess.run(
        [sys.executable, "-c", code, str(here.with_name("conftest.py")), str(here)],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env=os.environ
        | {
            "JAX_PLATFORMS": "cpu",
            "XLA_FLAGS": "--xla_force_host_platform_device_count=2",
            "PYTHONPATH": str(here.parents[2]),
        },
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "same"

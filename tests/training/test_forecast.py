"""Time and memory before the first step: against runs, against JAX's own count of bytes."""

import dataclasses
import os
import subprocess
import sys
import time
from pathlib import Path

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from karat.core.errors import BadInput
from karat.training import forecast as forecasts
from karat.training.batches import build_graphs
from karat.training.feeding import Feed
from karat.training.forecast import Forecast, Room, find_room, forecast, program_bytes, require
from karat.training.packing import pack
from karat.training.references import regress
from karat.training.run_state import first_state
from karat.training.settings import TrainingSettings
from karat.training.step import Numbers, Recipe, make_step
from karat.training.validation import Validation

PLENTY = Room(held=0, limit=2**40, where="a large machine")
SETTINGS = TrainingSettings(epochs=40, batch_size=4)


class Parts:
    """What the loop hands over."""

    def __init__(self, clusters, small, settings):
        data, valid = clusters(22, 0), clusters(7, 1)
        module = small.initialise(data, jax.random.key(0), settings.dtype)
        parameters, self.fixed = eqx.partition(module, small.trainable(module))
        state = first_state(parameters, settings)
        self.moving = (state.parameters, state.average, state.optimiser)
        first, second = (
            build_graphs(part, regress(data), module.cutoff, False, settings.dtype)
            for part in (data, valid)
        )
        packing = pack(np.array([g.counts for g in first]), settings.batch_size, 0)
        recipe = Recipe.of(settings)
        self.feed = Feed(first, packing, settings.accumulate, recipe, settings.dtype)
        self.validation = Validation(self.fixed, second, settings, lambda words: None)
        self.settings = settings

    def forecast(self, **options) -> Forecast:
        return forecast(
            self.fixed, self.moving, self.feed, self.validation, self.settings, **options
        )

    def epoch(self) -> float:
        """Seconds of the steps of an epoch by the loop's own step."""
        step = make_step(self.fixed, self.settings)
        moving = jax.tree.map(jnp.copy, self.moving)
        began = time.perf_counter()
        for group in self.feed.epoch(0):
            values = ((1.0, 1.0, 0.0), self.feed.counts(group), self.settings.deltas, 1e-3, 0.9)
            numbers = Numbers(*(np.asarray(value, self.settings.dtype) for value in values))
            moving, _ = step(moving, list(self.feed.micros(group)), numbers)
        jax.block_until_ready(moving)
        return time.perf_counter() - began


@pytest.fixture(scope="module")
def parts(clusters, small):
    return Parts(clusters, small, SETTINGS)


def test_time_is_that_of_an_epoch_and_nothing_moves(parts):
    before = [np.array(leaf) for leaf in jax.tree.leaves(parts.moving)]
    said = []
    made = parts.forecast(room=PLENTY, announce=said.append)
    after = jax.tree.leaves(parts.moving)  # raises if a buffer was given away
    assert all(a.tobytes() == np.asarray(b).tobytes() for a, b in zip(before, after, strict=True))
    assert said[0].startswith("compiling the training step (1 of ")
    assert said[1].startswith("compiling the validation")
    assert (made.epochs, made.steps) == (40, len(parts.feed.epoch(0)))
    # on a busy machine a median of five steps may be off by some times, not by orders
    seconds = min(parts.epoch() for _ in range(5))
    assert seconds / 5 < made.train_seconds < 20 * seconds
    assert made.epoch_seconds == made.train_seconds + made.valid_seconds
    assert made.seconds == made.compile_seconds_left + 40 * made.epoch_seconds
    assert made.as_dict()["seconds"] == made.seconds
    assert "for 40 epochs" in made.words
    assert "of 1024 GiB of a large machine" in made.words


def test_the_run_does_not_compile_again(clusters, small, caplog):
    parts = Parts(clusters, small, dataclasses.replace(SETTINGS, batch_size=11))
    assert parts.feed.packing.shapes.number == 1

    def compilations() -> int:
        return sum("Finished XLA compilation of jit(_step)" in text for text in caplog.messages)

    with jax.log_compiles():
        parts.forecast(room=PLENTY)
        assert compilations() == 1
        parts.epoch()
        assert compilations() == 1


def test_memory_is_that_of_the_arrays():
    """A program whose bytes are known: 8 kB in, 8 MB between, 8 kB out."""

    def outer(x):
        table = jnp.sin(x[:, None] * x[None, :])
        return jnp.linalg.qr(table)[0][0]

    x = jnp.arange(1000.0)
    size = program_bytes(jax.jit(outer).lower(x).compile())
    assert 8e6 < size < 60e6
    # one that gives its argument's memory to its result: 8 kB altogether, not 16
    in_place = jax.jit(lambda x: x + 1, donate_argnums=0).lower(x).compile()
    assert program_bytes(in_place) <= 8000 + 100


def test_held_memory_counts(parts):
    alone = parts.forecast(room=PLENTY).memory_bytes
    beside = parts.forecast(room=dataclasses.replace(PLENTY, held=10**9)).memory_bytes
    assert beside - alone == 10**9
    room = find_room()
    assert 0 < room.held < room.limit
    resident = room.held
    block = np.ones(30_000_000)
    assert find_room().held - resident > 0.8 * block.nbytes


def test_a_device_with_its_own_memory_is_asked(monkeypatch):
    class Device:
        device_kind = "Some GPU"

        def memory_stats(self):
            return {"bytes_in_use": 3, "bytes_limit": 70, "peak_bytes_in_use": 9}

    monkeypatch.setattr(jax, "devices", lambda: [Device()])
    assert find_room() == Room(3, 70, "Some GPU")


def test_a_run_that_does_not_fit_is_refused_before_a_step(parts, monkeypatch):
    monkeypatch.setattr(forecasts, "_measured", lambda work: pytest.fail("a step was made"))
    need = max(1, parts_bytes(parts))
    with pytest.raises(BadInput, match=r"no step was made") as caught:
        parts.forecast(room=Room(0, need, "a small machine"))
    words = str(caught.value)
    assert "of a small machine" in words
    assert "a smaller batch_size (now 4" in words
    assert "e.g. 2 with accumulate 2" in words
    assert "fewer channels" in words


def parts_bytes(parts) -> int:
    """The step's own bytes."""
    groups = parts.feed.epoch(0)
    arguments = (parts.fixed, parts.moving, parts.feed, groups, parts.settings, None)
    return forecasts._StepTrial.prepare(*arguments).bytes


def test_advice_fits_the_settings():
    single = TrainingSettings(batch_size=1, dtype="float64")
    with pytest.raises(BadInput) as caught:
        require(2**30, Room(0, 2**30, "this machine"), single, 1.0)
    words = str(caught.value)
    assert "Training needs 1 of 1 GiB of this machine" in words
    assert "batch_size" not in words
    assert "dtype float32" in words
    require(2**29, Room(0, 2**30, "this machine"), single, 1.0)


def test_running_out_of_memory_all_the_same_is_the_same_message(parts, monkeypatch):
    def full(work):
        raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: out of memory")

    monkeypatch.setattr(forecasts, "_measured", full)
    with pytest.raises(BadInput, match="no step was made"):
        parts.forecast(room=PLENTY)


def test_accumulated_batches_are_measured_together(clusters, small):
    parts = Parts(clusters, small, dataclasses.replace(SETTINGS, batch_size=2, accumulate=3))
    made = parts.forecast(room=PLENTY)
    assert made.steps == parts.feed.steps
    seconds = min(parts.epoch() for _ in range(5))
    assert seconds / 5 < made.train_seconds < 20 * seconds


DEVICES = """
import sys
sys.path.insert(0, sys.argv[1])
from karat.potentials.precision import enable_float64
enable_float64()
from conftest import morse_clusters
from test_forecast import PLENTY, SETTINGS, Parts
from karat.potentials.native.bpnn import Bpnn, RadialGrid
import dataclasses
small = Bpnn(cutoff_angstrom=6.0, radial=RadialGrid(count=10, start_angstrom=1.5), angular=(),
             hidden=(16,))
sizes = []
for devices in (1, 2):
    parts = Parts(morse_clusters, small, dataclasses.replace(SETTINGS, devices=devices))
    made = parts.forecast(room=PLENTY)
    parts.epoch()
    sizes.append(made.memory_bytes)
assert sizes[1] > 1.5 * sizes[0], sizes
print("done")
"""


@pytest.mark.slow
def test_two_devices():
    environment = {**os.environ, "XLA_FLAGS": "--xla_force_host_platform_device_count=2"}
    done = subprocess.run(
        [sys.executable, "-c", DEVICES, str(Path(__file__).parent)],
        capture_output=True, text=True, env=environment,
    )  # fmt: skip
    assert done.stdout.strip() == "done", done.stderr

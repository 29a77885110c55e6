"""A run that was killed gives the same bits as one that was not."""

import dataclasses
import os
import signal
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest

from karat.core.errors import BadInput
from karat.potentials.model import named_arrays
from karat.training import checkpoint
from karat.training.settings import TrainingSettings
from karat.training.trainer import Trained, train

SETTINGS = TrainingSettings(epochs=6, batch_size=4, weight_decay=0.01, seed=3)


class Interrupted(Exception):
    pass


def parameters(trained: Trained) -> dict[str, bytes]:
    arrays = named_arrays(trained.potential.module)
    return {name: np.asarray(array).tobytes() for name, array in arrays.items()}


def timeless(trained: Trained) -> dict[str, bytes]:
    columns = trained.curve.as_arrays()
    return {name: array.tobytes() for name, array in columns.items() if name != "seconds"}


def assert_same(a: Trained, b: Trained) -> None:
    assert parameters(a) == parameters(b)
    assert timeless(a) == timeless(b)
    assert (a.best_epoch, a.stopped_because) == (b.best_epoch, b.stopped_because)
    found, expected = (trained.parity.as_arrays() for trained in (a, b))
    assert all(found[name].tobytes() == expected[name].tobytes() for name in expected)


@pytest.fixture(scope="module")
def data(clusters):
    return clusters(22, 0), clusters(7, 1)


@pytest.fixture(scope="module")
def undisturbed(small, data, tmp_path_factory):
    folder = tmp_path_factory.mktemp("undisturbed")
    return train(small, *data, SETTINGS, folder), folder


def test_interrupted_runs_end_with_the_same_bits(undisturbed, small, data, tmp_path):
    def stop_at(epoch):
        def report(progress):
            if progress.epoch == epoch:
                raise Interrupted

        return report

    for epoch, pause in ((1, 0.0), (4, 1e9)):  # written each epoch; written on interruption only
        with pytest.raises(Interrupted):
            train(small, *data, SETTINGS, tmp_path, stop_at(epoch), checkpoint_seconds=pause)
    seen = []
    resumed = train(small, *data, SETTINGS, tmp_path, seen.append)
    assert [progress.epoch for progress in seen] == [5, 6]
    assert_same(resumed, undisturbed[0])


def test_all_that_changes_with_time_is_remembered(small, data, tmp_path):
    """Plateaus, stage two, several batches in a step, an optimiser with more memory."""
    settings = dataclasses.replace(
        SETTINGS,
        epochs=8,
        schedule="plateau",
        plateau_patience=1,
        learning_rate=0.2,  # so large that some epochs are worse
        optimiser="amsgrad",
        accumulate=2,
        force_loss="huber",
        stage_two_start=0.6,
        stage_two_energy_weight=100.0,
        stage_two_learning_rate_ratio=0.5,
    )

    def stop_at(epoch):
        def report(progress):
            if progress.epoch == epoch:
                raise Interrupted

        return report

    whole = train(small, *data, settings, tmp_path / "whole")
    rates = whole.curve.learning_rate
    assert len(set(rates.tolist())) > 3  # warm-up or peak, plateaus, stage two
    for epoch in (2, 5, 7):
        with pytest.raises(Interrupted):
            train(small, *data, settings, tmp_path / "parts", stop_at(epoch))
    assert_same(train(small, *data, settings, tmp_path / "parts"), whole)


KILLED = """
import os, pickle, signal, sys
from karat.core.threads import single_thread
single_thread()
from karat.potentials.precision import enable_float64
enable_float64()
import importlib.util
spec = importlib.util.spec_from_file_location("fixtures", sys.argv[1])
fixtures = importlib.util.module_from_spec(spec); spec.loader.exec_module(fixtures)
from karat.potentials.native.bpnn import Bpnn
from karat.core.components import parse
from karat.training.settings import TrainingSettings
from karat.training.trainer import train
import json
from pathlib import Path
model = parse(Bpnn, json.loads(sys.argv[3]), "model")
settings = parse(TrainingSettings, json.loads(sys.argv[4]), "training")
def kill(progress):
    if progress.epoch == 3:
        os.kill(os.getpid(), signal.SIGKILL)
train(model, fixtures.morse_clusters(22, 0), fixtures.morse_clusters(7, 1), settings,
      Path(sys.argv[2]), kill, checkpoint_seconds=0.0)
"""


def test_kill_9_in_another_process_costs_no_bit(undisturbed, small, data, tmp_path):
    import json

    from karat.core.components import dump

    fixtures = Path(__file__).with_name("conftest.py")
    texts = [json.dumps(dump(small)), json.dumps(dump(SETTINGS))]
    done = subprocess.run(
        [sys.executable, "-c", KILLED, str(fixtures), str(tmp_path), *texts],
        capture_output=True,
        text=True,
        env=os.environ | {"JAX_PLATFORMS": "cpu"},
    )
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert checkpoint.read(tmp_path, undisturbed_digest(undisturbed))[0].epoch == 3
    assert_same(train(small, *data, SETTINGS, tmp_path), undisturbed[0])


def undisturbed_digest(undisturbed) -> str:
    import json

    from safetensors import safe_open

    with safe_open(undisturbed[1] / checkpoint.NAME, framework="numpy") as file:
        return json.loads(file.metadata()["karat_training"])["digest"]


def test_a_finished_run_is_not_done_again(undisturbed, small, data, monkeypatch):
    monkeypatch.setattr("karat.training.trainer.run", lambda *_: pytest.fail("done twice"))
    again = train(small, *data, SETTINGS, undisturbed[1])
    assert_same(again, undisturbed[0])
    assert again.seconds == undisturbed[0].seconds


def test_the_seed_matters(undisturbed, small, data, tmp_path):
    other = train(small, *data, dataclasses.replace(SETTINGS, seed=4), tmp_path)
    assert parameters(other) != parameters(undisturbed[0])


def test_another_runs_checkpoint_is_refused_and_fresh_replaces_it(
    undisturbed, small, data, tmp_path
):
    (tmp_path / checkpoint.NAME).write_bytes((undisturbed[1] / checkpoint.NAME).read_bytes())
    changed = dataclasses.replace(SETTINGS, epochs=1, force_weight=2.0)
    with pytest.raises(BadInput, match="other data, settings or versions.*fresh"):
        train(small, *data, changed, tmp_path)
    trained = train(small, *data, changed, tmp_path, fresh=True)
    assert len(trained.curve.epoch) == 1


def test_damaged_checkpoints_are_refused(undisturbed, small, data, tmp_path):
    whole = (undisturbed[1] / checkpoint.NAME).read_bytes()
    path = tmp_path / checkpoint.NAME
    for content in (b"", whole[:5], whole[: len(whole) // 2], b"\xff" * 100):
        path.write_bytes(content)
        with pytest.raises(BadInput, match="not a readable checkpoint"):
            train(small, *data, SETTINGS, tmp_path)


def test_no_pickle_is_in_a_checkpoint(undisturbed):
    assert isinstance(jax.__version__, str)
    content = (undisturbed[1] / checkpoint.NAME).read_bytes()
    assert b"\x80\x04\x95" not in content[:8]
    length = int.from_bytes(content[:8], "little")
    assert content[8:9] == b"{"
    assert length < len(content)

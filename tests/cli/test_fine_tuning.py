"""`karat train --from`: a file becomes another one; flags that do not go together are refused."""

import json

import jax.numpy as jnp
import numpy as np
import pytest

from karat.cli.train import train
from karat.core.errors import BadInput, UnknownElement, UnknownKey
from karat.data.dataset import Dataset, Record
from karat.data.files import read_dataset, write_dataset
from karat.potentials.karat_file import load, save
from karat.potentials.karat_header import read_header
from karat.potentials.model import named_arrays, with_arrays
from karat.potentials.native.bpnn import Bpnn, RadialGrid
from karat.potentials.native_protocol import NativePotential
from karat.structures.labels import Labels, LevelOfTheory
from karat.structures.structure import Structure


def springs(path, stiffness, energy, level, numbers=(1, 1), count=20):
    """Hydrogen molecules as springs about 0.75 Å, in a file."""
    records = []
    for index, length in enumerate(0.75 + 0.2 * np.sin(np.arange(count) + stiffness)):
        positions = np.array([[0.0, 0.0, 0.0], [length, 0.0, 0.0]])
        pull = stiffness * (length - 0.75)
        forces = np.array([[pull, 0.0, 0.0], [-pull, 0.0, 0.0]])
        labels = Labels(energy + 0.5 * stiffness * (length - 0.75) ** 2, forces)
        records.append(Record(Structure(np.array(numbers), positions), labels, f"f{index}"))
    write_dataset(Dataset(tuple(records), LevelOfTheory(level)), path)
    return path


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Two levels, and a potential for the first of them."""
    folder = tmp_path_factory.mktemp("springs")
    old = springs(folder / "old.xyz", 3.0, -30.0, "soft")
    new = springs(folder / "new.xyz", 4.0, -32.0, "hard")
    base = folder / "base.karat"
    generator = np.random.default_rng(1)
    bpnn = Bpnn(hidden=(4,), angular=(), radial=RadialGrid(count=4))
    skeleton = bpnn.skeleton((1,), "float64")
    arrays = {n: generator.normal(size=a.shape) for n, a in named_arrays(skeleton).items()}
    arrays |= {"factor": np.ones((1, 4)), "energy_scale": np.array(0.1)}
    module = with_arrays(skeleton, {name: jnp.asarray(array) for name, array in arrays.items()})
    save(base, bpnn, NativePotential(module, {1: -15.0}, LevelOfTheory("soft")))
    return old, new, base


def test_a_potential_becomes_another_and_says_what_it_forgot(files, tmp_path, capsys):
    old, new, base = files
    output = tmp_path / "p.karat"
    options = {"from_": base, "fine_tune": "frozen", "forgetting": [old], "epochs": 2}
    train(new, output, tuning=["freeze=[layer_1]"], **options)
    out = capsys.readouterr().out
    assert "Fine-tuned (frozen) from base.karat: 5 numbers trained for" in out
    assert "frozen: layer_1" in out
    assert "warning: the base's level of theory is soft, that of the new data hard" in out
    assert f"{old} (20 structures)" in out
    assert "force RMSE, meV/Å" in out
    assert "energies after a shift for each element: the data are soft" in out
    header = read_header(output)
    assert header.level == LevelOfTheory("hard")
    assert header.dtype == "float64"
    assert header.training["settings"]["learning_rate"] == 1e-3
    about = header.training["fine_tuning"]
    assert about["base"]["level"]["method"] == "soft"
    # of 18 of these 20 structures the mean difference per atom
    data = read_dataset(new)
    labels = load(base).predict(data.structures, ("energy",))
    expected = np.mean([r.labels.energy - found.energy for r, found in zip(data, labels)]) / 2
    assert about["reference_energies_moved"]["H"] == pytest.approx(expected, abs=0.05)
    first, last = load(base).module, load(output).module
    assert np.asarray(first.weights[0]).tobytes() == np.asarray(last.weights[0]).tobytes()
    assert np.asarray(first.weights[1]).tobytes() != np.asarray(last.weights[1]).tobytes()
    # done already: the same command only tells again, as JSON too
    train(new, output, tuning=["freeze=[layer_1]"], as_json=True, **options)
    document = json.loads(capsys.readouterr().out)
    (lost,) = document["training"]["fine_tuning"]["forgetting"]
    assert [error["name"] for error in lost["errors"]] == ["energy_rmse", "force_rmse"]
    for error in lost["errors"]:
        values = {key: error[key]["value"] for key in ("base", "tuned", "difference")}
        assert values["tuned"] - values["base"] == pytest.approx(values["difference"])
        assert error["base"]["low"] < values["base"] < error["base"]["high"]


def test_flags_that_do_not_go_together_are_refused_before_any_work(files, tmp_path):
    old, new, base = files
    output = tmp_path / "p.karat"
    alone = {"fine_tune": "lora", "tuning": ["rank=2"], "forgetting": [old]}
    for name, value in alone.items():
        with pytest.raises(BadInput, match=f"--{name.replace('_', '-')} needs --from"):
            train(new, output, **{name: value})
    unused = {
        "model": "bpnn",
        "set_": ["hidden=[4]"],
        "tune": 3,
        "ceiling": 1.0,
        "vary": ["hidden=[[4]]"],
    }
    for name, value in unused.items():
        with pytest.raises(BadInput, match=f"--{name.strip('_')} has no use with --from"):
            train(new, output, from_=base, **{name: value})
    for change, kind, text in (
        ({"fine_tune": "lorra"}, BadInput, "fine-tuning.method"),
        ({"tuning": ["rnk=2"]}, UnknownKey, "did you mean 'rank'"),
        ({"tuning": ["method=lora"]}, BadInput, "say --fine-tune"),
        ({"fine_tune": "lora", "tuning": ["freeze=[out]"]}, UnknownKey, "has no 'out'"),
        ({"forgetting": [tmp_path / "none.xyz"]}, BadInput, "no such"),
        ({"from_": tmp_path / "none.karat"}, BadInput, "no such"),
        ({"setting": ["learning_rte=1"]}, UnknownKey, "did you mean 'learning_rate'"),
    ):
        with pytest.raises(kind, match=text):
            train(new, output, **{"from_": base, **change})
    with pytest.raises(BadInput, match="is the file of --from"):
        train(new, base, from_=base)
    helium = springs(tmp_path / "helium.xyz", 2.0, -5.0, "hard", numbers=(1, 2))
    with pytest.raises(UnknownElement, match=r"contain He; .*base\.karat knows H only"):
        train(helium, output, from_=base)
    with pytest.raises(UnknownElement, match="forgetting.*contain He"):
        train(new, output, from_=base, forgetting=[helium])
    assert not output.exists()
    assert {path.name for path in tmp_path.iterdir()} == {"helium.xyz"}

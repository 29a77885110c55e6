"""`karat train --tune`: from file to front; bad input is one message before any work."""

import json

import pytest

from karat.cli.train import train
from karat.core.errors import BadInput, CalculationFailed
from karat.data.files import write_dataset
from karat.potentials.karat_file import load
from tests.training.test_tuning import springs

OPTIONS = {
    "model": "sgdml",
    "set_": ["permutations=none", "calibration_structures=0"],
    "vary": ["sigma=5..30:log"],
}


@pytest.fixture
def files(tmp_path):
    paths = tmp_path / "train.xyz", tmp_path / "valid.xyz"
    for seed, path in enumerate(paths):
        write_dataset(springs(8, seed), path)
    return paths


def test_a_search_writes_the_best_the_table_and_the_plot(files, tmp_path, capsys):
    output = tmp_path / "p.karat"
    train(files[0], output, valid=files[1], tune=2, **OPTIONS)
    shown = capsys.readouterr().out
    assert "2 trials, 0 failed" in shown
    assert "sigma=" in shown
    plot = (tmp_path / "p.karat.front.html").read_text()
    assert "Plotly.newPlot" in plot
    train(files[0], output, valid=files[1], tune=2, as_json=True, **OPTIONS)
    document = json.loads(capsys.readouterr().out)
    best = document["trials"][document["best"][-1]]
    assert best["force_rmse"] == min(t["force_rmse"] for t in document["trials"])
    assert float(load(output).module.sigma) == pytest.approx(best["values"]["sigma"])
    with pytest.raises(CalculationFailed, match="none of 2 trials"):
        train(files[0], output, valid=files[1], tune=2, ceiling=1e-9, fresh=True, **OPTIONS)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"vary": ["sigma=1..2"]}, "--tune"),
        ({"ceiling": 3.0}, "--tune"),
        ({"tune": 0}, "at least one"),
        ({"tune": 3, "vary": ["width=1..2"]}, "sigma"),
        ({"tune": 3, "vary": ["sigma=2..1"]}, "smaller"),
        ({"tune": 3, "tune_by": "luck"}, "forces or energy"),
    ],
)
def test_bad_options_are_one_message_before_work(files, tmp_path, options, message):
    with pytest.raises(BadInput, match=message):
        train(files[0], tmp_path / "p.karat", model="sgdml", valid=files[1], **options)
    assert not (tmp_path / "p.karat.training").exists()

"""Model files: what they hold is found without running them; conversion in the environment."""

import json
import zipfile
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file
from samples import FOLDER, NAMES, samples

from karat.core.errors import BadInput, CalculationFailed
from karat.potentials.external.mace_torch import conversion, environment
from karat.potentials.external.mace_torch.conversion import convert, evaluate, inspect_file, read
from karat.structures.structure import Structure


def archive(path: Path, pickled: bytes, *others: str) -> Path:
    """A file as torch.save writes it, with this pickle."""
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("model/data.pkl", pickled)
        for name in others:
            file.writestr(f"model/{name}", b"x")
    return path


MACE = b"cmace.modules.models\nScaleShiftMACE\n."


def test_class_is_found_without_running_the_file(tmp_path):
    marker = tmp_path / "marker"
    command = f"touch {marker}".encode()
    evil = b"cmace.modules.models\nMACE\n0cposix\nsystem\n(V" + command + b"\ntR."
    assert inspect_file(archive(tmp_path / "a.model", evil)) == "MACE"
    assert inspect_file(archive(tmp_path / "b.model", MACE)) == "ScaleShiftMACE"
    assert not marker.exists()


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "no such mace-torch model file"),
        (b"", "empty"),
        (b"not a zip file", "is not a file that torch"),
        ((MACE, "constants.pkl"), "is compiled"),
        ((b"ccollections\nOrderedDict\n.",), "holds no mace-torch model; it may be a checkpoint"),
        ((b"cmace.modules.models\nAtomicDipolesMACE\n.",), "holds a AtomicDipolesMACE"),
        ((b"\xff\xff",), "is damaged"),
    ],
)
def test_files_that_are_no_models_are_refused_before_anything_runs(
    content, said, tmp_path, monkeypatch
):
    monkeypatch.setattr(environment, "interpreter", lambda **_: pytest.fail("made a environment"))
    path = tmp_path / "x.model"
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif content is not None:
        archive(path, *content)
    with pytest.raises(BadInput, match=said):
        convert(path, trust=True)
    with pytest.raises(BadInput, match=said):
        evaluate(path, [], trust=True)


def test_trust_is_asked_for_before_anything_runs(tmp_path, monkeypatch):
    monkeypatch.setattr(environment, "interpreter", lambda **_: pytest.fail("made a environment"))
    path = archive(tmp_path / "x.model", MACE)
    for call in (
        lambda: convert(path, trust=False),
        lambda: evaluate(path, [], trust=False),
    ):
        with pytest.raises(BadInput, match=r"x.model: .*runs code that the file holds.*--trust"):
            call()


def test_variants_are_tried_in_order(monkeypatch, tmp_path):
    tried = []

    def ensure(asked, root, report):
        tried.append(asked)
        if len(tried) < 3:
            raise CalculationFailed("no", kind=("no-such-version", "no-network")[len(tried) - 1])
        return tmp_path

    monkeypatch.setattr(environment, "ensure", ensure)
    assert environment.interpreter(tmp_path) == tmp_path
    assert tried == list(environment.VARIANTS)
    assert len({asked.folder_name for asked in tried}) == 3
    monkeypatch.setattr(
        environment, "ensure", lambda *_: (_ for _ in ()).throw(CalculationFailed("x", "disk-full"))
    )
    with pytest.raises(CalculationFailed, match="x"):
        environment.interpreter(tmp_path)


def test_converted_folder_is_checked(tmp_path):
    with pytest.raises(BadInput, match="model.json: no such converted model"):
        read(tmp_path)
    (tmp_path / "model.json").write_text('{"schema": 0}')
    weights = tmp_path / "weights.safetensors"
    weights.write_bytes((FOLDER / "plain" / "weights.safetensors").read_bytes())
    with pytest.raises(BadInput, match="another schema than 1"):
        read(tmp_path)
    weights.write_bytes(b"damaged")
    with pytest.raises(BadInput, match="is damaged"):
        read(tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_stored_numbers_are_what_mace_torch_gives(name, made, mace_torch_python):
    path = made / f"{name}.model"
    found, stored = convert(path, trust=True, python=mace_torch_python), read(FOLDER / name)
    for settings in (found.settings, stored.settings):
        settings.pop("source")
    assert found.settings == stored.settings
    assert sorted(found.arrays) == sorted(stored.arrays)
    for key, array in stored.arrays.items():
        np.testing.assert_allclose(found.arrays[key], array, rtol=1e-12, atol=1e-14)
    chosen = samples(name)
    head = chosen[-1].head
    chosen = [sample for sample in chosen if sample.head == head]
    structures = [sample.structure for sample in chosen]
    for mine, sample in zip(
        evaluate(path, structures, True, head, python=mace_torch_python), chosen
    ):
        assert mine.energy == pytest.approx(sample.labels.energy, rel=1e-12)
        np.testing.assert_allclose(mine.forces, sample.labels.forces, rtol=0, atol=1e-11)
        assert (mine.stress is None) == (sample.labels.stress is None)


@pytest.mark.slow
def test_source_says_what_it_cannot_do(made, mace_torch_python):
    path = made / "two_heads.model"
    gold = Structure(numbers=np.array([79]), positions=np.zeros((1, 3)))
    with pytest.raises(BadInput, match=r"structure 0: .*does not know atomic numbers \[79\]"):
        evaluate(path, [gold], True, python=mace_torch_python)
    water = Structure(numbers=np.array([1]), positions=np.zeros((1, 3)))
    with pytest.raises(BadInput, match="no head 'x'; it has pbe, r2scan"):
        evaluate(path, [water], True, "x", python=mace_torch_python)


def test_stored_files_fit_together():
    """What the other tests read was written by one conversion."""
    for name in NAMES:
        folder = FOLDER / name
        settings = json.loads((folder / "model.json").read_text())
        assert settings["source"]["versions"]["e3nn"] == "0.4.4"
        assert settings["source"]["file"] == f"{name}.model"
        atoms = sum(len(sample.structure) for sample in samples(name))
        assert load_file(folder / "reference.safetensors")["forces"].shape == (atoms, 3)
        assert settings["schema"] == conversion.SCHEMA

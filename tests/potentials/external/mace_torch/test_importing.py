"""The whole import: convert, rebuild, compare with the source."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from samples import FOLDER, samples

from karat.core.errors import CalculationFailed
from karat.potentials.external.mace_torch import conversion, importing
from karat.potentials.external.mace_torch.conversion import read
from karat.potentials.external.mace_torch.importing import compare, import_model, probes
from karat.potentials.external.mace_torch.rebuild import rebuild


def test_probes_hold_every_element_apart_from_each_other():
    for species in ((1, 6, 8), (14,), tuple(range(1, 90))):
        found = probes(species)
        for some in (found[::2], found[1::2]):
            assert set(np.concatenate([s.numbers for s in some])) == set(species)
        assert all(s.periodic.all() for s in found[1::2])
        assert not any(s.periodic.any() for s in found[::2])
        for structure in found[::2]:
            difference = structure.positions[:, None] - structure.positions[None]
            distance = np.linalg.norm(difference, axis=-1)
            near = distance[~np.eye(len(structure), dtype=bool)]
            assert 1.0 < near.min() < 3.5


@pytest.fixture(scope="module")
def single():
    return rebuild(read(FOLDER / "single")).potential


def test_differences_are_relative(single):
    chosen = samples("single")
    structures = [sample.structure for sample in chosen]
    found = compare(single, structures, [sample.labels for sample in chosen])
    assert 1e-12 < found.largest < 1e-7  # rounding of a float32 file
    crystal = chosen[-1]
    interaction = crystal.labels.energy - single.offset(crystal.structure)
    for name, shift, expected in (
        ("energy", 0.5 * interaction, 0.5 / 1.5),
        ("forces", 0.5 * crystal.labels.forces, 0.5 / 1.5),
        ("stress", crystal.labels.stress, 0.5),
    ):
        value = getattr(crystal.labels, name)
        changed = dataclasses.replace(crystal.labels, **{name: value + shift})
        source = [*(sample.labels for sample in chosen[:-1]), changed]
        found = compare(single, structures, source)
        assert getattr(found, name) == pytest.approx(expected, rel=1e-5)
        assert found.largest == getattr(found, name)


def test_import_that_differs_is_refused(monkeypatch, tmp_path):
    path = tmp_path / "x.model"
    path.write_bytes(b"x")
    off = 1e-5

    def source(*_):
        labels = [sample.labels for sample in samples("single")]
        return [dataclasses.replace(one, forces=one.forces * (1 + off)) for one in labels]

    structures = [sample.structure for sample in samples("single")]
    monkeypatch.setattr(importing, "probes", lambda species: structures)

    monkeypatch.setattr(conversion, "inspect_file", lambda path: "MACE")
    monkeypatch.setattr(conversion, "convert", lambda *_: read(FOLDER / "single"))
    monkeypatch.setattr(conversion, "evaluate", source)
    with pytest.raises(CalculationFailed, match=r"differs from mace-torch by 1.0e-05") as caught:
        import_model(path, trust=True, python=Path("python"))
    assert caught.value.kind == "not-equal"
    off = 1e-7
    found = import_model(path, trust=True, python=Path("python"))
    assert found.differences.forces == pytest.approx(1e-7, rel=0.3)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["plain", "mp_medium", "mpa", "single", "two_heads"])
def test_import_of_a_file_equals_its_source(name, made, mace_torch_python):
    said = []
    path = made / f"{name}.model"
    found = import_model(path, True, report=said.append, python=mace_torch_python)
    assert found.differences.largest < 1e-6
    assert found.differences.energy > 0  # two programs never agree to the last bit everywhere
    assert any("comparing" in line for line in said)

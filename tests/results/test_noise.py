"""Noise floors: sourced, in the declared unit, and those of the right level."""

import pytest

from karat.core.errors import BadInput
from karat.reference.xtb import Gfn1Xtb, Gfn2Xtb
from karat.results.noise import UNITS, floor
from karat.structures.builders import from_smiles
from karat.structures.labels import LevelOfTheory

GFN2 = LevelOfTheory("GFN2-xTB", settings={"accuracy": "0.1"})
GFN1 = LevelOfTheory("GFN1-xTB", settings={"accuracy": "0.1"})
PBE = LevelOfTheory("PBE", "def2-SVP", "D3(BJ)")


@pytest.mark.parametrize("quantity", UNITS)
@pytest.mark.parametrize("level", [GFN2, GFN1])
def test_same_level_is_label_noise(quantity, level):
    found = floor(quantity, level, LevelOfTheory(level.method, program="other"))
    assert 0 < found.value < 1e-2
    assert found.unit == UNITS[quantity]
    assert "label noise" in found.source
    assert "0.1" in found.source


def test_different_levels_have_the_references_own_uncertainty():
    for contestant in (None, GFN1, PBE):
        found = floor("force_mae", GFN2, contestant)
        assert (found.value, found.unit) == (0.39, "eV/Å")
        assert "GFN2-xTB against PBE-D3/def2-SVP" in found.source
    assert floor("torsion_rmse", GFN1, GFN2).source.startswith("karat, measured")
    assert "CCSD(T)" in floor("torsion_rmse", GFN1, GFN2).source
    noise = floor("force_mae", GFN2, GFN2)
    assert noise.value < 1e-3 * floor("force_mae", GFN2, None).value


def test_frequencies_and_geometries():
    assert floor("frequency_mae", GFN2, None).unit == "cm⁻¹"
    assert floor("frequency_mae", GFN2, None).value == 39.7
    assert floor("geometry_rmsd", GFN2, None).unit == "Å"


def test_no_source_no_floor():
    assert floor("force_mae", PBE, None) is None
    assert floor("force_mae", PBE, PBE) is None
    assert floor("force_mae", LevelOfTheory("unknown"), LevelOfTheory("unknown")) is None


def test_looser_settings_are_noisier():
    values = [
        floor("force_mae", LevelOfTheory("GFN2-xTB", settings={"accuracy": text}), GFN2).value
        for text in ("0.01", "0.05", "0.1", "1.0")
    ]
    assert values == sorted(values)
    assert values[1] == values[2]  # 0.05 was not measured: the next looser one
    assert floor("force_mae", LevelOfTheory("GFN2-xTB"), GFN2).value == values[3]
    loose = LevelOfTheory("GFN2-xTB", settings={"accuracy": "30"})
    assert floor("force_mae", loose, GFN2) is None


def test_both_spellings():
    assert floor("energy_per_atom_mae", GFN2, None) == floor("energy_mae_per_atom", GFN2, None)


def test_unknown_quantity():
    with pytest.raises(BadInput, match="unknown quantity 'entropy'"):
        floor("entropy", GFN2, None)


@pytest.mark.parametrize("engine", [Gfn2Xtb, Gfn1Xtb])
def test_label_noise_is_what_is_stated(engine):
    """The published number again, on one other molecule: within a factor of ten."""
    import numpy as np

    start = from_smiles("CC(N)C#N", seed=2)[0]
    generator = np.random.default_rng(1)
    differences = []
    for _ in range(3):
        moved = start.positions + generator.normal(0, 0.05, start.positions.shape)
        structure = start.replace(positions=moved)
        loose, tight = (
            engine(accuracy=accuracy).compute(structure, ("energy", "forces")).forces
            for accuracy in (1.0, 1e-4)
        )
        differences.append(np.abs(loose - tight).mean())
    level = LevelOfTheory(engine.method, settings={"accuracy": "1.0"})
    stated = floor("force_mae", level, level).value
    assert 0.1 < np.mean(differences) / stated < 10

"""The README's formulas, in plain NumPy on the converted numbers, against mace-torch's energies."""

import numpy as np
import pytest
from plain_energy import PlainModel, coupling
from samples import FOLDER, NAMES, samples


@pytest.mark.parametrize("name", NAMES)
def test_plain_formulas_give_the_energies_of_mace_torch(name):
    model = PlainModel(FOLDER / name)
    # couplings of the file in float32 hold rounding of 1e-8
    tolerance = 1e-7 if model.settings["precision"] == "float32" else 1e-12
    for sample in samples(name):
        found = model.atom_energies(
            sample.structure.numbers,
            sample.structure.positions,
            sample.structure.cell,
            model.settings["heads"].index(sample.head),
        )
        size = np.abs(sample.atom_energies).max()
        np.testing.assert_allclose(found, sample.atom_energies, rtol=0, atol=tolerance * size)
        assert found.sum() == pytest.approx(sample.labels.energy, abs=20 * tolerance * size)


@pytest.mark.parametrize("name", ["plain", "mpa", "unusual", "one_layer"])
def test_every_stored_array_matters(name):
    """Else an array that is stored wrongly, or not used at all, would pass the test above."""
    model, chosen = PlainModel(FOLDER / name), samples(name)

    def energies() -> np.ndarray:
        heads = model.settings["heads"]
        return np.concatenate(
            [
                model.atom_energies(
                    s.structure.numbers, s.structure.positions, s.structure.cell,
                    heads.index(s.head),
                )
                for s in chosen
            ]
        )  # fmt: skip

    before = energies()
    # a shift of 0 changes nothing when multiplied
    floats = [
        key
        for key, array in model.arrays.items()
        if array.dtype == np.float64 and np.abs(array).max() > 0
    ]
    assert len(floats) > 20
    for key in floats:
        kept = model.arrays[key]
        model.arrays[key] = kept * 1.001
        change = np.abs(energies() - before).max()
        model.arrays[key] = kept
        assert change > 1e-7, key


def test_coupling_has_the_phases_of_e3nn():
    """Values printed by e3nn 0.4.4's wigner_3j; x, y, z for degree 1."""
    np.testing.assert_allclose(coupling(1, 1, 0)[:, :, 0], np.eye(3) / np.sqrt(3), atol=1e-14)
    two = coupling(1, 1, 2)
    entries = {  # l = 2: xz, xy, 2y² - x² - z², yz, z² - x²
        (0, 0, 2): -0.18257418583505522,
        (0, 0, 4): -0.31622776601683816,
        (0, 1, 1): 0.3162277660168378,
        (0, 2, 0): 0.3162277660168382,
    }
    for place, value in entries.items():
        assert two[place] == pytest.approx(value, abs=1e-14)

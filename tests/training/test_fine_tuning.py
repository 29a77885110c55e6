"""Fine-tuning: what is frozen stays to the bit, the base is the start, levels are told apart."""

import dataclasses

import jax.numpy as jnp
import numpy as np
import pytest

from karat.core.errors import BadInput, UnknownElement, UnknownKey
from karat.data.dataset import Dataset, Record
from karat.potentials.karat_file import load, save
from karat.potentials.kernel.sgdml import Sgdml
from karat.potentials.model import named_arrays, with_arrays
from karat.potentials.native.bpnn import Bpnn, RadialGrid
from karat.potentials.native.mace import Mace
from karat.potentials.native_protocol import NativePotential
from karat.structures.labels import Labels, LevelOfTheory
from karat.structures.structure import Structure
from karat.training.fine_tuning import fine_tune
from karat.training.fine_tuning_start import Base, FineTuned, FineTuning
from karat.training.settings import TrainingSettings
from karat.training.trainer import train

SETTINGS = TrainingSettings(epochs=3, batch_size=4, learning_rate=1e-3, dtype="float64", seed=3)
LORA = FineTuning(method="lora", rank=1, alpha=2.0, freeze=("output",))
OTHER = LevelOfTheory("other")
OFFSETS = {18: 3.5, 36: -7.25}  # between the levels, eV by element


def relabelled(data: Dataset, offsets=OFFSETS, level=OTHER) -> Dataset:
    """The same at a level that differs by a constant for each element."""
    records = []
    for record in data:
        shift = sum(offsets[int(z)] for z in record.structure.numbers)
        labels = dataclasses.replace(record.labels, energy=record.labels.energy + shift)
        records.append(dataclasses.replace(record, labels=labels))
    return Dataset(tuple(records), level)


def arrays(potential) -> dict[str, np.ndarray]:
    return {name: np.asarray(a) for name, a in named_arrays(potential.module).items()}


def changed(first, last) -> set[str]:
    before, after = arrays(first), arrays(last)
    return {name for name in before if before[name].tobytes() != after[name].tobytes()}


@pytest.fixture(scope="module")
def data(clusters):
    return clusters(22, 0), clusters(7, 1)


@pytest.fixture(scope="module")
def small():
    """Wide enough for factors of rank 1 and 2."""
    radial = RadialGrid(count=6, start_angstrom=1.5)
    return Bpnn(cutoff_angstrom=6.0, radial=radial, angular=(), hidden=(8, 8))


@pytest.fixture(scope="module")
def base(small, data, tmp_path_factory):
    folder = tmp_path_factory.mktemp("base")
    settings = dataclasses.replace(SETTINGS, epochs=10, learning_rate=1e-2)
    trained = train(small, *data, settings, folder)
    save(folder / "base.karat", small, trained.potential, data[0].digest)
    return folder / "base.karat"


def test_groups_hold_every_trainable_array_once(small):
    mace = Mace(channels=4, harmonics_degree=1, bessel=4, radial_hidden=(8, 8))
    mace = dataclasses.replace(mace, average_neighbours=4.0, density=True)
    for architecture, fixed in (
        (small, {"mean", "factor", "energy_scale"}),
        (mace, {"frequencies", "scale", "shift"}),
    ):
        skeleton = architecture.skeleton((1, 6), "float64")
        shapes = {name: array.shape for name, array in named_arrays(skeleton).items()}
        module = with_arrays(skeleton, {name: jnp.zeros(s) for name, s in shapes.items()})
        groups = architecture.parameter_groups(module)
        listed = [name for group in groups.values() for name in group.arrays]
        assert sorted(listed) == sorted(set(shapes) - fixed)
        for group in groups.values():
            assert group.arrays
            assert set(group.matrices) <= set(group.arrays)
            assert all(len(shapes[name]) >= 2 for name in group.matrices)
            assert not any("contraction" in name or "bias" in name for name in group.matrices)
    assert [name for name, group in groups.items() if group.late] == ["product_2", "readouts"]
    assert list(groups)[:4] == ["embedding", "radial", "interaction_1", "product_1"]


def test_naive_training_goes_on_where_the_base_stopped(base, data, tmp_path):
    start = load(base)
    tiny = dataclasses.replace(SETTINGS, epochs=1, learning_rate=1e-9)
    found = fine_tune(base, *data, FineTuning(), tiny, tmp_path / "a")
    about = found.summary["fine_tuning"]
    # the levels are the same, so the reference energies are too; steps of 1e-9 change nothing
    assert found.potential.reference_energies == start.reference_energies
    assert found.summary["valid_force_rmse_mev_per_angstrom"] == pytest.approx(
        about["valid_force_rmse_before_mev_per_angstrom"], rel=1e-6
    )
    assert found.summary["valid_energy_rmse_mev_per_atom"] == pytest.approx(
        about["valid_energy_rmse_before_mev_per_atom"], rel=1e-5
    )
    assert about["warnings"] == []
    assert about["parameters_trained"] == 2 * (6 * 2 * 8 + 8 + 8 * 8 + 8 + 8 + 1)
    longer = dataclasses.replace(SETTINGS, epochs=10)
    found = fine_tune(base, *data, FineTuning(), longer, tmp_path / "b")
    before = found.summary["fine_tuning"]["valid_force_rmse_before_mev_per_angstrom"]
    assert found.summary["valid_force_rmse_mev_per_angstrom"] < before
    trained = {f"{kind}.{i}" for kind in ("weights", "biases") for i in range(3)}
    assert changed(start, found.potential) == trained


def test_frozen_arrays_stay_to_the_bit(base, data, tmp_path):
    settings = dataclasses.replace(SETTINGS, epochs=1, weight_decay=0.01)
    found = fine_tune(base, *data, FineTuning(method="frozen"), settings, tmp_path)
    assert changed(load(base), found.potential) == {
        f"{kind}.{i}" for kind in ("weights", "biases") for i in (1, 2)
    }
    assert found.summary["fine_tuning"]["frozen"] == ["layer_1"]
    assert found.summary["fine_tuning"]["trained"] == ["layer_2", "output"]
    chosen = FineTuning(method="frozen", freeze=("output", "layer_2"))
    assert FineTuned.of(Base.read(base, "float64"), chosen).whole == ("weights.0", "biases.0")


def test_lora_gives_a_plain_model_with_updates_of_low_rank(base, data, tmp_path):
    found = fine_tune(base, *data, LORA, SETTINGS, tmp_path / "run")
    assert changed(load(base), found.potential) == {"weights.0", "weights.1"}
    first, last = arrays(load(base)), arrays(found.potential)
    for name in ("weights.0", "weights.1"):
        assert np.linalg.matrix_rank(last[name] - first[name], tol=1e-12).tolist() == [1, 1]
    about = found.summary["fine_tuning"]
    assert about["parameters_trained"] == 2 * (12 + 8 + 8 + 8)
    # the file is one of the base's architecture, and what the trainer validated is what it says
    save(tmp_path / "p.karat", found.model, found.potential, "", found.summary)
    labels = load(tmp_path / "p.karat").predict(data[1].structures)
    errors = [f.forces - r.labels.forces for f, r in zip(labels, data[1])]
    shown = found.summary["valid_force_rmse_mev_per_angstrom"]
    np.testing.assert_allclose(1e3 * np.sqrt(np.mean(np.square(errors))), shown, rtol=1e-9)


def test_matrices_too_small_for_factors_are_trained_whole(base):
    start = Base.read(base, "float64")
    found = FineTuned.of(start, FineTuning(method="lora", rank=4))
    # (12, 8) → 80 < 96; (8, 8) → 64 = 64 and (8, 1): no gain
    assert found.factored == ("weights.0",)
    assert found.whole == ("weights.1", "weights.2")
    assert found.numbers == 2 * (4 * 20 + 64 + 8)


def test_a_difference_of_levels_goes_into_the_reference_energies(base, data, tmp_path):
    new = tuple(relabelled(one) for one in data)
    start = load(base)
    tiny = dataclasses.replace(SETTINGS, epochs=1, learning_rate=1e-9)
    same = fine_tune(base, *data, FineTuning(reference_energies="fit"), tiny, tmp_path / "a")
    found = fine_tune(base, *new, FineTuning(), tiny, tmp_path / "b")
    moved = {
        z: found.potential.reference_energies[z] - same.potential.reference_energies[z]
        for z in OFFSETS
    }
    # least squares is linear: what was added to the labels is found again
    assert moved == pytest.approx(OFFSETS, abs=1e-9)
    assert found.potential.level == OTHER
    about = found.summary["fine_tuning"]
    assert about["base"]["level"]["method"] == "Morse"
    assert "Morse, that of the new data other" in about["warnings"][0]
    assert about["valid_energy_rmse_before_mev_per_atom"] == pytest.approx(
        same.summary["fine_tuning"]["valid_energy_rmse_before_mev_per_atom"], rel=1e-6
    )
    assert "least squares" in found.references
    kept = fine_tune(base, *new, FineTuning(reference_energies="base"), tiny, tmp_path / "c")
    assert kept.potential.reference_energies == start.reference_energies
    given = dataclasses.replace(tiny, reference_energies={"Ar": -5.0, "Kr": -6.0})
    told = fine_tune(base, *new, FineTuning(), given, tmp_path / "d")
    assert told.potential.reference_energies == {18: -5.0, 36: -6.0}
    assert told.summary["settings"]["reference_energies"] == {"Ar": -5.0, "Kr": -6.0}
    assert found.summary["settings"]["reference_energies"] == "regress"


def test_elements_that_the_new_data_lack_are_kept(base, data, tmp_path):
    """Argon clusters only: krypton's energies and the potential's elements stay."""

    def argon(record):
        structure = Structure(np.full(4, 18), record.structure.positions)
        return dataclasses.replace(record, structure=structure)

    light, valid = (Dataset(tuple(argon(r) for r in one), OTHER) for one in data)
    assert light.species == (18,)
    settings = dataclasses.replace(SETTINGS, epochs=1)
    found = fine_tune(base, light, valid, FineTuning(), settings, tmp_path / "run")
    start = load(base)
    assert found.potential.module.species == (18, 36)
    assert found.potential.reference_energies[36] == start.reference_energies[36]
    assert found.potential.reference_energies[18] != start.reference_energies[18]
    assert "no Kr" in found.summary["fine_tuning"]["warnings"][1]
    before, after = arrays(start), arrays(found.potential)
    # no gradient: only the average with itself rounds
    np.testing.assert_allclose(after["weights.0"][1], before["weights.0"][1], rtol=1e-14)
    assert np.abs(after["weights.0"][0] - before["weights.0"][0]).max() > 1e-4
    save(tmp_path / "p.karat", found.model, found.potential, "", found.summary)
    assert load(tmp_path / "p.karat").module.species == (18, 36)


class Interrupted(Exception):
    pass


def test_resumed_runs_end_with_the_same_bits_and_want_the_same_base(base, small, data, tmp_path):
    whole = fine_tune(base, *data, LORA, SETTINGS, tmp_path / "whole")

    def stop(now):
        if now.done == 2:
            raise Interrupted

    with pytest.raises(Interrupted):
        fine_tune(base, *data, LORA, SETTINGS, tmp_path / "run", progress=stop)
    moved = tmp_path / "elsewhere.karat"
    moved.write_bytes(base.read_bytes())
    seen = []
    again = fine_tune(moved, *data, LORA, SETTINGS, tmp_path / "run", progress=seen.append)
    assert min(now.done for now in seen) >= 2
    assert changed(whole.potential, again.potential) == set()
    other = tmp_path / "other.karat"
    start = load(base)
    scaled = with_arrays(start.module, {n: 1.01 * a for n, a in named_arrays(start.module).items()})
    save(other, small, NativePotential(scaled, start.reference_energies, start.level))
    with pytest.raises(BadInput, match="--fresh"):
        fine_tune(other, *data, LORA, SETTINGS, tmp_path / "run")


def test_what_cannot_be_is_refused_before_the_first_step(base, data, tmp_path):
    def refused(kind, text, start=base, parts=data, tuning=None, **more):
        run = tmp_path / "run"
        with pytest.raises(kind, match=text):
            fine_tune(start, *parts, tuning or FineTuning(), SETTINGS, run, **more)
        assert not run.exists()

    helium = Structure(np.array([2, 18]), np.array([[0.0, 0, 0], [3.0, 0, 0]]))
    odd = Dataset((Record(helium, Labels(energy=0.0, forces=np.zeros((2, 3)))),), data[0].level)
    refused(UnknownElement, r"training data contain He; .*knows Ar, Kr", parts=(odd, data[1]))
    refused(UnknownElement, "'old'.*contain He", forgetting={"old": odd})
    wrong = FineTuning(method="frozen", freeze=("layer_3",))
    refused(UnknownKey, "freeze has no 'layer_3'.*layer_1", tuning=wrong)
    every = FineTuning(method="frozen", freeze=("layer_1", "layer_2", "output"))
    refused(BadInput, "nothing is left to train", tuning=every)
    refused(BadInput, "no such", start=tmp_path / "none.karat")
    (tmp_path / "text.karat").write_text("not one")
    refused(BadInput, "not a readable", start=tmp_path / "text.karat")
    committee = dataclasses.replace(SETTINGS, members=2)
    with pytest.raises(BadInput, match="members 2"):
        fine_tune(base, *data, FineTuning(), committee, tmp_path / "run")
    for values in ({"rank": 0}, {"alpha": 0.0}, {"freeze": ("layer_1",)}):
        with pytest.raises(BadInput, match=r"fine-tuning\."):
            FineTuning(**values)


def test_a_model_that_is_solved_for_cannot_be_a_base(tmp_path):
    positions = np.array([[0.0, 0, 0], [0.9, 0, 0], [0, 0.9, 0]])
    records = []
    for index in range(6):
        shaken = positions + np.random.default_rng(index).normal(0, 0.05, (3, 3))
        labels = Labels(energy=float(np.sum(shaken**2)), forces=-2 * (shaken - shaken.mean(0)))
        records.append(Record(Structure(np.array([8, 1, 1]), shaken), labels, str(index)))
    data = Dataset(tuple(records), LevelOfTheory("springs"))
    model = Sgdml(sigma=10.0, permutations="none", calibration_structures=0).completed(
        data.subset(range(5))
    )
    solved = model.fit(data.subset(range(5)), data.subset([5]), tmp_path / "fit")
    save(tmp_path / "s.karat", model, solved.potential)
    with pytest.raises(BadInput, match="solved for, not trained"):
        Base.read(tmp_path / "s.karat", "float64")


@pytest.fixture(scope="module")
def mace_base(data, tmp_path_factory):
    mace = Mace(
        cutoff_angstrom=4.5,
        channels=4,
        hidden_degree=1,
        harmonics_degree=1,
        bessel=4,
        radial_hidden=(8, 8),
    ).completed(data[0])
    folder = tmp_path_factory.mktemp("mace")
    settings = dataclasses.replace(SETTINGS, epochs=60, learning_rate=2e-2)
    save(folder / "base.karat", mace, train(mace, *data, settings, folder).potential)
    return folder / "base.karat"


@pytest.mark.slow
@pytest.mark.parametrize("method", ["naive", "frozen", "lora"])
def test_mace_learns_from_new_data(method, mace_base, data, tmp_path):
    """Each method makes errors on clusters that are bound otherwise smaller, and moves only its
    own arrays."""
    settings = dataclasses.replace(SETTINGS, epochs=30, learning_rate=1e-2)
    new = tuple(_deeper(one) for one in data)
    tuning = FineTuning(method=method, rank=1)
    found = fine_tune(mace_base, *new, tuning, settings, tmp_path / "run", {"old": data[1]})
    about = found.summary["fine_tuning"]
    now = found.summary["valid_force_rmse_mev_per_angstrom"]
    # 68 before; 26 (naive), 34 (frozen) and 27 meV/Å (lora) were seen
    assert now < 0.7 * about["valid_force_rmse_before_mev_per_angstrom"]
    moved = changed(load(mace_base), found.potential)
    assert moved
    assert not moved & {"frequencies", "scale", "shift"}
    if method == "frozen":
        late = ("layers.1.contraction", "layers.1.out", "readouts", "last_readout")
        assert all(name.startswith(late) for name in moved)
    if method == "lora":
        assert not any("contraction" in name for name in moved)
    save(tmp_path / "p.karat", found.model, found.potential, "", found.summary)
    labels = load(tmp_path / "p.karat").predict(new[1].structures)
    errors = [f.forces - r.labels.forces for f, r in zip(labels, new[1])]
    np.testing.assert_allclose(1e3 * np.sqrt(np.mean(np.square(errors))), now, rtol=1e-8)
    (lost,) = about["forgetting"]
    assert lost["errors"][1]["difference"]["value"] > 0


def _deeper(data: Dataset) -> Dataset:
    """Clusters that are bound by a third more: energies relative to atoms and forces."""
    records = []
    for record in data:
        atoms = sum({18: -1000.25, 36: -2000.5}[int(z)] for z in record.structure.numbers)
        energy = atoms + (record.labels.energy - atoms) * 4 / 3
        labels = Labels(energy=energy, forces=record.labels.forces * 4 / 3)
        records.append(dataclasses.replace(record, labels=labels))
    return Dataset(tuple(records), OTHER)

"""Sums that are trained: terms as they are alone, fixed ones untouched, files, refusals."""

import functools

import ase.build
import jax
import numpy as np
import pytest

from karat.cli.train import make_model
from karat.core.components import dump, parse
from karat.core.errors import BadInput, UnknownElement, UnknownKey
from karat.data.dataset import Dataset, Record
from karat.potentials.catalogue import potential_component
from karat.potentials.conformance import CHECKS, make_subject, run_check
from karat.potentials.conformance.architecture import (
    ARCHITECTURE_CHECKS,
    random_dataset,
    random_potential,
    run_architecture_check,
)
from karat.potentials.karat_file import load, save
from karat.potentials.model import named_arrays
from karat.potentials.native.scales import output_scale
from karat.potentials.native.sum_model import LATER_SHARE, ModelTerm, SumModel
from karat.potentials.native_protocol import NativePotential, derive_compiled
from karat.potentials.sum_potential import fused
from karat.structures.labels import LevelOfTheory
from karat.structures.structure import Structure
from karat.training.fit import fit
from karat.training.settings import TrainingSettings

BPNN = ModelTerm(
    model="bpnn",
    options={
        "cutoff_angstrom": 3.5,
        "cutoff_function": "polynomial",
        "radial": {"count": 3},
        "angular": {"count": 0},
        "hidden": [4],
    },
)
CHARGES = ModelTerm(
    model="charges",
    options={
        "cutoff_angstrom": 5.0,
        "environment_cutoff_angstrom": 3.5,
        "radial": {"count": 3},
        "angular": {"count": 0},
        "hidden": [4],
        "transfer_functions": 3,
    },
)
ZBL = ModelTerm(
    potential="zbl",
    options={"elements": ["H", "C", "O"], "inner_angstrom": 0.9, "outer_angstrom": 1.6},
)
SUM = SumModel((BPNN, ZBL, CHARGES))


def rattled(seed: int, name: str = "CH3CH2OH") -> Structure:
    atoms = ase.build.molecule(name)
    atoms.positions += np.random.default_rng(seed).normal(scale=0.1, size=(len(atoms), 3))
    return Structure.from_ase(atoms)


MOLECULES = [rattled(seed) for seed in range(3)]


@functools.cache
def example(dtype: str = "float64") -> NativePotential:
    """Of random parameters."""
    return random_potential(SUM, MOLECULES, dtype)


@pytest.mark.parametrize("check", ARCHITECTURE_CHECKS)
def test_architecture(check, tmp_path):
    run_architecture_check(check, SUM, MOLECULES, tmp_path)


FAST = ("rows_as_in_dynamics",)


def conformance_cases():
    for dtype in ("float64", "float32"):
        for check in CHECKS:
            fast = dtype == "float64" and check in FAST
            yield pytest.param(check, dtype, marks=[] if fast else [pytest.mark.slow])


@pytest.mark.parametrize(("check", "dtype"), list(conformance_cases()))
def test_conformance(check, dtype):
    """Molecules, and one of them in a periodic box: of elements that met in the data, of which
    descriptors' spreads come."""
    one = MOLECULES[0]
    box = one.replace(cell=7.0 * np.eye(3), periodic=np.ones(3, bool))
    outcome = run_check(check, make_subject(example(dtype), [*MOLECULES, box]))
    assert outcome.status == "passed", outcome


def test_energies_and_forces_are_the_sum_of_the_terms():
    """Each term by itself, the constants of the elements besides."""
    whole = example()
    module = whole.module
    labels = whole.predict(MOLECULES)
    terms = [NativePotential(term).predict(MOLECULES) for term in module.terms]
    shift = dict(zip(module.species, np.asarray(module.shift)))
    for i, structure in enumerate(MOLECULES):
        energy = sum(term[i].energy for term in terms)
        energy += sum(shift[int(z)] for z in structure.numbers) - 1e4 * len(structure)
        # rounding of -9e4 eV
        assert labels[i].energy == pytest.approx(energy, abs=1e-9)
        forces = sum(term[i].forces for term in terms)
        np.testing.assert_allclose(labels[i].forces, forces, atol=1e-10)
        assert all(np.abs(term[i].forces).max() > 1e-3 for term in terms)


def test_it_has_the_charges_of_the_one_term_that_has_them():
    whole = example()
    batch = whole.batch(MOLECULES)
    found = derive_compiled(whole.module, batch).outputs.charges
    alone = derive_compiled(whole.module.terms[2], batch).outputs.charges
    np.testing.assert_allclose(found, alone, atol=1e-14)
    assert np.abs(found).max() > 1e-3
    twice = fused([whole.module.terms[2]] * 2, (1, 6, 8))
    assert jax.eval_shape(twice.evaluate, batch).charges is None


def test_only_trained_terms_are_trainable():
    module = example().module
    spec = SUM.trainable(module)
    names = {
        name for name, flag in zip(named_arrays(module), jax.tree.leaves(spec), strict=True) if flag
    }
    assert {name.split(".")[1] for name in names} == {"0", "2"}
    assert "terms.0.weights.0" in names
    assert "terms.2.transfer" in names
    assert "terms.0.energy_scale" not in names
    assert "shift" not in names
    groups = SUM.parameter_groups(module)
    assert {"bpnn.layer_1", "bpnn.output", "charges.transfer"} <= groups.keys()
    twice = SumModel((BPNN, BPNN))
    again = twice.initialise(random_dataset(MOLECULES), jax.random.key(0), "float64")
    assert {"bpnn.output", "bpnn_2.output"} <= twice.parameter_groups(again).keys()
    heads = jax.tree.leaves(SUM.heads(module))
    assert sum(heads) == 4  # the last weights and biases of two networks


def test_scales_are_those_of_labels_less_the_fixed_terms():
    data = random_dataset(MOLECULES)
    zbl = potential_component("zbl", ZBL.options, "zbl").load()
    fixed = zbl.predict(MOLECULES)
    left = Dataset(
        tuple(
            Record(r.structure, type(r.labels)(forces=r.labels.forces - f.forces))
            for r, f in zip(data, fixed)
        ),
        data.level,
    )
    module = SumModel((BPNN, ZBL, BPNN)).initialise(data, jax.random.key(0), "float64")
    first, _, second = module.terms
    assert float(first.energy_scale) == pytest.approx(output_scale(left), rel=1e-12)
    assert float(second.energy_scale) == pytest.approx(LATER_SHARE * output_scale(left), rel=1e-12)
    assert output_scale(left) > 1.5 * output_scale(data)
    # the fixed terms' energies and the constants cancel in the mean: one composition only
    energies = [f.energy for f in fixed]
    shift = dict(zip(module.species, np.asarray(module.shift)))
    constant = sum(shift[int(z)] for z in MOLECULES[0].numbers)
    assert constant == pytest.approx(-np.mean(energies), rel=1e-9)
    assert np.mean(energies) > 1.0
    assert SumModel((BPNN,)).initialise(data, jax.random.key(0), "float64").shift is None


def repelled(count: int, seed: int) -> Dataset:
    """Distorted molecules of two compositions with the energies of ZBL and of wells between H and
    all others, which trained terms have to find."""
    structures = [
        rattled(1000 * seed + i, name) for i in range(count) for name in ("H2CO", "CH3OH")
    ]
    wells = {f"H-{other}": 0.5 for other in ("C", "O")} | {"H": 0.2, "C-O": 0.5, "C": 0.5, "O": 0.5}
    near = dict.fromkeys(wells, 1.3)
    options = {
        "depth_ev": wells,
        "width_per_angstrom": dict.fromkeys(wells, 1.5),
        "distance_angstrom": near,
        "cutoff_angstrom": 3.0,
        "onset_angstrom": 2.0,
    }
    terms = [
        {"potential": "morse", "options": options},
        {"potential": "zbl", "options": ZBL.options},
    ]
    teacher = potential_component("sum", {"terms": terms}, "teacher").load()
    labels = teacher.predict(structures)
    return Dataset(tuple(map(Record, structures, labels)), LevelOfTheory("teacher"))


def test_training_lowers_errors_and_leaves_fixed_terms_alone(tmp_path):
    train, valid = repelled(12, 1), repelled(4, 2)
    settings = TrainingSettings(epochs=25, batch_size=8, learning_rate=0.02, dtype="float64")
    fitted = fit(SUM, train, valid, settings, tmp_path / "run")
    curve = fitted.curve
    assert curve.valid_loss[-1] < 0.2 * curve.valid_loss[0]
    module = fitted.potential.module
    start = fitted.model.initialise(train, jax.random.key(settings.seed), "float64")
    for before, after in zip(
        named_arrays(start.terms[1]).values(), named_arrays(module.terms[1]).values(), strict=True
    ):
        np.testing.assert_array_equal(before, after)
    np.testing.assert_array_equal(start.shift, module.shift)
    for i in (0, 2):  # both learned
        weights = [
            named_arrays(m.terms[i])["weights.0" if i == 0 else "transfer"] for m in (start, module)
        ]
        assert np.abs(weights[0] - weights[1]).max() > 0.01
    path = tmp_path / "sum.karat"
    save(path, fitted.model, fitted.potential, train.digest, fitted.summary)
    again = load(path)
    assert again.predict(valid.structures)[0].energy == (
        fitted.potential.predict(valid.structures)[0].energy
    )
    # its repulsion is that of the fixed term where the trained ones are small
    close = Structure(numbers=np.array([6, 8]), positions=np.array([[0.0, 0, 0], [0, 0, 0.15]]))
    zbl = potential_component("zbl", ZBL.options, "zbl").load()
    found, expected = (p.predict([close])[0].forces[1, 2] for p in (again, zbl))
    assert found == pytest.approx(expected, rel=0.1)


def test_files_whose_fixed_numbers_are_others_are_refused(tmp_path):
    data = random_dataset(MOLECULES)
    model, potential = SUM.completed(data), example()
    other = SumModel(
        (BPNN, ModelTerm(potential="zbl", options=ZBL.options | {"outer_angstrom": 1.7}), CHARGES)
    )
    path = tmp_path / "sum.karat"
    save(path, other.completed(data), potential)
    with pytest.raises(BadInput, match=r"sum\.terms\.1: the numbers of 'zbl'"):
        load(path)
    save(path, model, potential)
    assert load(path).predict(MOLECULES[:1])[0].energy == potential.predict(MOLECULES[:1])[0].energy


def test_hyperparameters_survive_writing():
    data = random_dataset(MOLECULES)
    full = SUM.completed(data)
    assert parse(SumModel, dump(full), "model") == full
    assert full.terms[0].options["hidden"] == [4]
    assert full.terms[0].options["activation"] == "silu"
    assert full.completed(data) == full
    mace = SumModel((ModelTerm(model="mace"),))
    assert mace.completed(data).terms[0].options["average_neighbours"] > 1
    assert mace.usual_settings()["optimiser"] == "muon"


def test_terms_are_read_from_the_command_line():
    words = [
        "terms=[{model: painn, options: {channels: 16}}, {potential: zbl, options: {elements: [H], "
        "inner_angstrom: 0.8, outer_angstrom: 1.2}}, {model: charges}]"
    ]
    model = make_model("sum", words)
    assert [term.model or term.potential for term in model.terms] == ["painn", "zbl", "charges"]
    assert model.terms[0].options == {"channels": 16}


@pytest.mark.slow
def test_defaults_are_a_model():
    data = random_dataset(MOLECULES)
    module = SumModel().initialise(data, jax.random.key(0), "float32")
    assert [type(term).__name__ for term in module.terms] == ["PainnModule", "ChargesModule"]
    assert module.cutoff == 8.0


TWO = {"model": "bpnn", "potential": "zbl"}


@pytest.mark.parametrize(
    ("terms", "error", "words"),
    [
        ([], BadInput, "no model among them"),
        ([{"potential": "zbl", "options": ZBL.options}], BadInput, "no model among them"),
        ([{}], BadInput, "either a model or a potential"),
        ([TWO], BadInput, "either a model or a potential"),
        ([{"model": "pain"}], UnknownKey, "did you mean 'painn'"),
        ([{"model": "bpnn", "option": {}}], BadInput, "option"),
        ([{"model": "bpnn", "options": {"hiden": [4]}}], UnknownKey, "did you mean 'hidden'"),
        ([{"model": "bpnn", "options": {"hidden": []}}], BadInput, "hidden"),
        ([{"model": "sgdml"}], BadInput, "trained by gradients"),
        ([{"model": "sum"}], BadInput, "no sums themselves"),
        ([{"model": "painn_direct"}], BadInput, "no gradient"),
        ([{"model": "os:system"}], UnknownKey, "os:system"),
        ([{"model": "bpnn"}, {"potential": "ase"}], UnknownKey, "ase"),
        ([{"model": "bpnn"}, {"potential": "os:system"}], UnknownKey, "os:system"),
        (
            [{"model": "bpnn"}, {"potential": "zbl", "options": {"dtype": "float64"}}],
            BadInput,
            "training's holds",
        ),
        (
            [{"model": "bpnn"}, {"potential": "zbl", "options": {"outer_angstrom": 1.0}}],
            BadInput,
            r"sum\.terms\.1\.options",
        ),
    ],
)
def test_bad_terms_are_named(terms, error, words):
    with pytest.raises(error, match=words):
        parse(SumModel, {"terms": terms}, "model")


def test_a_fixed_term_without_an_element_is_refused():
    lacking = SumModel(
        (BPNN, ModelTerm(potential="zbl", options=ZBL.options | {"elements": ["H"]}))
    )
    with pytest.raises(UnknownElement, match=r"sum\.terms\.1 \(zbl\) has no parameters for C, O"):
        lacking.initialise(random_dataset(MOLECULES), jax.random.key(0), "float64")

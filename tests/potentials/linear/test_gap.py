"""GAP as a linear module: kernels in plain NumPy, slopes, conformance, files, settings."""

import dataclasses
import warnings

import ase.build
import equinox as eqx
import jax.numpy as jnp
import numpy as np
import pytest

from karat.core.errors import BadInput
from karat.potentials.batch import in_rows, make_batch
from karat.potentials.conformance import CHECKS, make_subject, run_check
from karat.potentials.karat_file import load, save
from karat.potentials.linear.gap import Gap, GapPaper, Sigmas
from karat.potentials.linear.gap_module import GapModule
from karat.potentials.linear.gap_sparse import spectra_of
from karat.potentials.linear.model import ZblTerm
from karat.potentials.linear.protocol import AbstractLinearModule
from karat.potentials.native.catalogue import ARCHITECTURES
from karat.potentials.native_protocol import NativePotential
from karat.structures.builders import crystal
from karat.structures.neighbours import neighbour_pairs
from karat.structures.structure import Structure

SMALL = Gap(cutoff_angstrom=4.0, n_max=3, l_max=2, n_sparse=5, n_sparse_pairs=4, zeta=3)


def molecule(seed=0):
    """Methanol, rattled."""
    atoms = ase.build.molecule("CH3OH")
    atoms.rattle(0.15, seed=seed)
    return Structure(atoms.numbers, atoms.positions)


def carbide(seed=0):
    """Eight atoms of silicon and carbon."""
    perfect = crystal("Si", "diamond", a=4.6, cubic=True)
    random = np.random.default_rng(seed)
    moved = perfect.positions + random.normal(0, 0.12, (8, 3))
    return perfect.replace(numbers=np.where(np.arange(8) % 3, 14, 6), positions=moved)


def module_of(model, structures, seed=0):
    """With sparse points from these structures and random coefficients."""
    species = tuple(sorted({int(z) for s in structures for z in s.numbers}))
    random = np.random.default_rng(seed)
    found = list(spectra_of(structures, species, model.soap))
    numbers = np.concatenate([s.numbers for s in structures])
    points = []
    for z in species:
        rows = np.concatenate(found)[numbers == z]
        points.append(jnp.asarray(rows[random.choice(len(rows), model.n_sparse)]))
    kinds = len(species) * (len(species) + 1) // 2
    lengths = random.uniform(1.0, 3.5, (kinds, model.n_sparse_pairs))
    module = model.module(species, tuple(points), jnp.asarray(lengths), "float64")
    drawn = random.normal(size=module.coefficients.shape)
    return eqx.tree_at(lambda m: m.coefficients, module, jnp.asarray(drawn))


CASES = {"molecule": [molecule(seed) for seed in range(3)], "crystal": [carbide(0), carbide(1)]}


@eqx.filter_jit
def features_of(module, batch):
    return module.features(batch)


def dscribe_vectors(structure, species, model):
    """Normalised power spectra with √2 where a component stands for two, from dscribe."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # its docstrings have unescaped backslashes
        from dscribe.descriptors import SOAP
    atoms = ase.Atoms(structure.numbers, structure.positions)
    if structure.periodic.all():
        atoms.set_cell(structure.cell)
        atoms.pbc = True
    descriptor = SOAP(
        species=species,
        r_cut=model.cutoff_angstrom,
        n_max=model.n_max,
        l_max=model.l_max,
        sigma=model.atom_sigma_angstrom,
        periodic=bool(structure.periodic.all()),
        weighting={"function": "poly", "r0": model.cutoff_angstrom, "c": 1.0, "m": 2},
    )
    found = descriptor.create(atoms)
    weights = np.zeros(found.shape[1])
    for i, one in enumerate(species):
        for j in range(i, len(species)):
            place = descriptor.get_location((one, species[j]))
            block = np.full((model.n_max, model.n_max), np.sqrt(2))
            if i == j:
                block = (block - (np.sqrt(2) - 1) * np.eye(model.n_max))[
                    np.triu_indices(model.n_max)
                ]
            weights[place] = np.tile(block.ravel(), model.l_max + 1)
    weighted = found * weights
    return weighted / np.linalg.norm(weighted, axis=1, keepdims=True)


@pytest.mark.parametrize("name", CASES)
def test_features_are_kernels(name):
    """δ² (p·p')^ζ of dscribe's spectra, and half of each pair's f δ² exp(-(r - r')²/2θ²)."""
    structure, model = CASES[name][0], dataclasses.replace(SMALL, delta=1.7, pair_delta=0.6)
    module = module_of(model, CASES[name])
    batch = make_batch([structure], module.cutoff, np.float64, False)
    features = np.asarray(features_of(module, batch))
    vectors = dscribe_vectors(structure, module.species, model)
    expected = np.zeros((len(structure), features.shape[1]))
    for element, z in enumerate(module.species):
        kernels = 1.7**2 * (vectors @ np.asarray(module.sparse[element]).T) ** 3
        own = structure.numbers == z
        expected[own, 5 * element : 5 * element + 5] = kernels[own]
    pairs, start = neighbour_pairs(structure, 4.0), 5 * len(module.species)
    order = [(a, b) for i, a in enumerate(module.species) for b in module.species[i:]]
    for i, j, vector in zip(pairs.centers, pairs.neighbours, pairs.vectors):
        r = np.linalg.norm(vector)
        ends = sorted((int(structure.numbers[i]), int(structure.numbers[j])))
        kind = order.index((ends[0], ends[1]))
        factor = 0.5 * 0.6**2 * (1 + 2 * (r / 4) ** 3 - 3 * (r / 4) ** 2) ** 2
        away = (r - np.asarray(module.distances[kind])) / 0.5
        here = slice(start + 4 * kind, start + 4 * kind + 4)
        expected[i, here] += factor * np.exp(-0.5 * away**2)
    np.testing.assert_allclose(features[: len(structure)], expected, rtol=0, atol=1e-9)
    assert (features[len(structure) :] == 0).all()
    energies = np.asarray(eqx.filter_jit(lambda m, b: m.linear_energies(b))(module, batch))
    np.testing.assert_allclose(energies, features @ module.coefficients, atol=1e-12)


@pytest.mark.parametrize(("name", "rows"), [("molecule", False), ("crystal", True)])
def test_slopes_are_derivatives(name, rows):
    module = module_of(dataclasses.replace(SMALL, n_max=2), CASES[name])
    batch = make_batch(CASES[name][:1], module.cutoff, np.float64, False)
    batch = in_rows(batch) if rows else batch
    features, found = eqx.filter_jit(lambda m, b: m.features_and_slopes(b))(module, batch)
    expected = eqx.filter_jit(AbstractLinearModule.slopes)(module, batch)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-12 * np.abs(expected).max())
    assert (np.asarray(found)[~np.asarray(batch.pair_mask)] == 0).all()
    np.testing.assert_allclose(features, features_of(module, batch), atol=1e-12)


def test_the_prior_is_the_kernel_of_the_sparse_points():
    """An atom that is a sparse point has that row of it as features."""
    module = module_of(dataclasses.replace(SMALL, n_sparse_pairs=0), CASES["crystal"])
    batch = make_batch([carbide(0), carbide(1)], module.cutoff, np.float64, False)
    features, prior = np.asarray(features_of(module, batch)), module.prior()
    assert prior.shape == (10, 10)
    for row in prior:
        assert np.abs(features - row).max(axis=1).min() < 1e-12


FAST = ("rows_as_in_dynamics",)


@pytest.mark.parametrize(
    "check",
    [
        pytest.param(name, marks=() if name in FAST else pytest.mark.slow, id=name)
        for name in CHECKS
    ],
)
def test_conformance(check):
    module = module_of(dataclasses.replace(SMALL, zbl=ZblTerm(0.8, 2.2)), CASES["crystal"])
    potential = NativePotential(module)
    outcome = run_check(check, make_subject(potential))
    assert outcome.status != "failed", outcome


@pytest.mark.slow
@pytest.mark.parametrize("check", CHECKS)
def test_conformance_with_a_cosine_in_single_precision(check):
    model = dataclasses.replace(SMALL, switch="cosine", transition_angstrom=1.0)
    potential = NativePotential(module_of(model, CASES["molecule"]), dtype="float32")
    outcome = run_check(check, make_subject(potential))
    assert outcome.status != "failed", outcome


@pytest.fixture
def named(monkeypatch):
    """`gap` in the catalogue, whether it stands there already or not."""
    paths = {"gap": f"{Gap.__module__}:{Gap.__qualname__}"}
    monkeypatch.setattr(type(ARCHITECTURES), "names", lambda self: paths)
    monkeypatch.setattr(type(ARCHITECTURES), "resolve", lambda self, name: Gap)


def test_files_keep_everything(named, tmp_path):
    model = dataclasses.replace(SMALL, zbl=ZblTerm(0.8, 1.5), group_sigma={"a": Sigmas(force=None)})
    potential = NativePotential(module_of(model, CASES["molecule"]), {1: -1.0, 6: -2.0, 8: -3.0})
    save(tmp_path / "a.karat", model, potential)
    again = load(tmp_path / "a.karat")
    assert isinstance(again.module, GapModule)
    (one,), (two,) = (p.predict([molecule(7)]) for p in (potential, again))
    assert one.energy == two.energy
    np.testing.assert_array_equal(one.forces, two.forces)
    single = load(tmp_path / "a.karat", "float32").predict([molecule(7)])[0]
    np.testing.assert_allclose(single.forces, one.forces, atol=1e-4 * np.abs(one.forces).max())


def test_arrays_that_do_not_fit_are_refused():
    module = module_of(SMALL, CASES["molecule"])
    with pytest.raises(BadInput, match=r"sparse\.1.*5 sparse points of C"):
        SMALL.frame((1, 6, 8), "float64", {"sparse.0": (5, 135), "sparse.1": (4, 135)})
    longer = eqx.tree_at(lambda m: m.sparse[0], module, 2 * module.sparse[0])
    with pytest.raises(BadInput, match=r"sparse\.0.*not of length 1"):
        SMALL.inspect(longer, "float64")
    broken = eqx.tree_at(lambda m: m.distances, module, module.distances.at[0, 0].set(np.nan))
    with pytest.raises(BadInput, match="'distances' holds NaN"):
        SMALL.inspect(broken, "float64")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"cutoff_angstrom": 0.0}, "cutoff_angstrom 0.0"),
        ({"transition_angstrom": 6.0}, "transition: 6.0"),
        ({"switch": "none"}, "lets energies jump"),
        ({"zeta": 0}, "zeta 0"),
        ({"delta": 0.0}, "delta 0.0"),
        ({"n_sparse": 0}, "n_sparse 0"),
        ({"jitter": 0.1}, "jitter 0.1"),
        ({"pair_theta_angstrom": -1.0}, "pair_theta_angstrom"),
        ({"sigma": Sigmas(None, None, 0.1)}, "energy or force"),
    ],
)
def test_settings_out_of_range_are_refused(changes, words):
    with pytest.raises(BadInput, match=words):
        dataclasses.replace(Gap(), **changes)


def test_noises_must_be_positive():
    with pytest.raises(BadInput, match="force 0.0 must be positive"):
        Sigmas(force=0.0)


def test_the_published_settings():
    """324 components: 36 of n ≤ n' for each of l = 0 … 8 (gap_fit's file says 325: a bias more)."""
    model = GapPaper()
    assert (model.n_max, model.l_max, model.zeta, model.n_sparse) == (8, 8, 4, 200)
    assert model.quantities == ("energy", "forces")
    empty = {f"posterior.{name}": (0, 0) for name in ("root", "calibration", "active")}
    shapes = {"sparse.0": (200, 324), "posterior.noise": (0,), **empty}
    assert model.frame((42,), "float64", shapes).coefficients.shape == (200,)

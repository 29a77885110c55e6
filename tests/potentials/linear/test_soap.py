"""SOAP against dscribe: power spectra and forces of linear energies; switches; single precision."""

import dataclasses
import warnings

import ase.build
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from karat.core.errors import BadInput
from karat.potentials.batch import in_rows, make_batch
from karat.potentials.linear.soap import places, soap
from karat.potentials.linear.soap_settings import CONTINUITY, SoapSettings, radial_values
from karat.structures.structure import Structure

PLAIN = SoapSettings(4.0, 5, 4, 0.5, "none")
SMOOTH = SoapSettings(4.5, 5, 3, 0.4, "polynomial", 4.5)


def cases():
    """A molecule of three elements and a rattled crystal of two."""
    molecule, crystal = ase.build.molecule("CH3CONH2"), ase.build.bulk("NaCl", "rocksalt", 5.64)
    for atoms in (molecule, crystal):
        atoms.rattle(0.1, seed=3)
    return {"molecule": molecule, "crystal": crystal}


def structure_of(atoms):
    return Structure(atoms.numbers, atoms.positions, atoms.cell.array, np.array(atoms.pbc))


def species_of(atoms):
    return tuple(sorted(set(atoms.numbers.tolist())))


def ours(atoms, settings, dtype=np.float64):
    batch = make_batch([structure_of(atoms)], settings.reach, dtype, False)
    return np.asarray(soap(batch, species_of(atoms), settings))[: len(atoms)]


def theirs(atoms, settings, **weighting):
    """dscribe's descriptor."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # its docstrings have unescaped backslashes
        from dscribe.descriptors import SOAP
    if settings.switch == "polynomial":
        weighting |= {"function": "poly", "r0": settings.cutoff, "c": 1.0, "m": 2}
    return SOAP(
        species=species_of(atoms),
        r_cut=settings.cutoff,
        n_max=settings.n_max,
        l_max=settings.l_max,
        sigma=settings.atom_sigma,
        periodic=bool(atoms.pbc.all()),
        weighting=weighting or None,
    )


@pytest.mark.parametrize("settings", [PLAIN, SMOOTH], ids=["plain", "smooth"])
@pytest.mark.parametrize("name", cases())
def test_power_spectra_equal_dscribes(name, settings):
    """To 1e-9 of the largest: dscribe's own prefactors have 11 correct digits, and the radial
    functions depend on each other to one part in 10⁵."""
    atoms = cases()[name]
    expected = theirs(atoms, settings).create(atoms)
    found = ours(atoms, settings)
    assert found.shape == expected.shape
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-9 * np.abs(expected).max())


@pytest.mark.slow
def test_more_functions_equal_dscribes():
    """Sizes as in published potentials; the radial functions depend on each other to 10⁻⁷, so that
    rounding in their orthonormalisation shows."""
    atoms = cases()["crystal"]
    settings = SoapSettings(5.0, 8, 8, 0.5, "none", central_weight=0.5)
    expected = theirs(atoms, settings, w0=0.5).create(atoms)
    found = ours(atoms, settings)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-6 * np.abs(expected).max())


def test_forces_of_a_linear_energy_equal_dscribes():
    """Of random weights on power spectra: our gradient by edge vectors, dscribe's by positions."""
    atoms = cases()["molecule"]
    batch = make_batch([structure_of(atoms)], PLAIN.reach, np.float64, False)
    expected, spectra = theirs(atoms, PLAIN).derivatives(
        atoms, method="analytical", attach=True, include=list(range(len(atoms)))
    )
    weights = np.random.default_rng(0).normal(size=spectra.shape)

    @jax.jit
    def energy(vectors):
        moved = eqx.tree_at(lambda b: b.vectors, batch, vectors)
        return jnp.sum(soap(moved, species_of(atoms), PLAIN)[: len(atoms)] * weights)

    slopes = np.asarray(jax.grad(energy)(batch.vectors))
    gradient = np.zeros((len(batch.numbers), 3))
    np.add.at(gradient, np.asarray(batch.neighbours), slopes)
    np.subtract.at(gradient, np.asarray(batch.centers), slopes)
    right = np.einsum("iaxk,ik->ax", expected, weights)
    np.testing.assert_allclose(
        gradient[: len(atoms)], right, rtol=0, atol=1e-8 * np.abs(right).max()
    )


def test_components_stand_where_dscribe_says():
    atoms = cases()["molecule"]
    descriptor, species = theirs(atoms, PLAIN), species_of(atoms)
    _, first, second = places(len(species), PLAIN)
    pairs = np.stack([first, second]) // PLAIN.n_max
    for i, one in enumerate(species):
        for j in range(i, len(species)):
            here = np.flatnonzero((pairs[0] == i) & (pairs[1] == j))
            place = descriptor.get_location((one, species[j]))
            np.testing.assert_array_equal(here, np.arange(place.start, place.stop))


def test_radial_functions_are_overlaps_of_gaussians():
    """⟨R_n Y_00 | Gaussian at r⟩ by quadrature over the radius: the angular part of a Gaussian at r
    is known (modified spherical Bessel function i₀)."""
    settings = SoapSettings(4.0, 3, 0, 0.5, "none")
    eta = 1 / (2 * 0.5**2)
    ends = np.linspace(1.0, 4.0, 3)
    alpha = -np.log(1e-3) / ends**2
    grid = (np.arange(4000) + 0.5) * (12 / 4000)
    primitive = np.exp(-alpha[:, None] * grid**2)
    overlap = primitive * grid**2 @ primitive.T * (12 / 4000)
    values, vectors = np.linalg.eigh(overlap)
    orthonormal = vectors / np.sqrt(values) @ vectors.T @ primitive
    for r in (0.7, 2.5):
        average = np.exp(-eta * (grid - r) ** 2) * -np.expm1(-4 * eta * grid * r)
        average /= 4 * eta * grid * r
        expected = 4 * np.pi * (orthonormal * grid**2 * average).sum(axis=1) * (12 / 4000)
        found = radial_values(settings, np.array([r]))[0]
        # the midpoint rule on 4000 points: 1e-6
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5 * np.abs(expected).max())


def test_rows_and_longer_lists_give_the_same():
    atoms = cases()["crystal"]
    expected = ours(atoms, SMOOTH)
    longer = make_batch([structure_of(atoms)], 1.3 * SMOOTH.reach, np.float64, False)
    for batch in (longer, in_rows(longer)):
        found = np.asarray(soap(batch, species_of(atoms), SMOOTH))
        np.testing.assert_allclose(found[:2], expected, rtol=0, atol=1e-13 * expected.max())
        assert (found[2:] == 0).all()


def test_a_turned_molecule_has_the_same_spectra():
    atoms = cases()["molecule"]
    turned = atoms.copy()
    turned.positions = Rotation.from_rotvec([0.3, -1.0, 0.6]).apply(-atoms.positions)
    expected = ours(atoms, PLAIN)
    np.testing.assert_allclose(ours(turned, PLAIN), expected, atol=1e-12 * expected.max())


@pytest.mark.slow
def test_single_precision():
    """No sums that cancel: errors stay near the rounding of float32 (6e-8)."""
    atoms = cases()["molecule"]
    settings = SoapSettings(5.0, 8, 3, 0.5, "cosine", 1.0)
    expected = ours(atoms, settings)
    found = ours(atoms, settings, np.float32)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, rtol=0, atol=5e-6 * np.abs(expected).max())


@pytest.mark.parametrize("switch", ["cosine", "polynomial"])
def test_switches_end_smoothly(switch):
    """Near the cut-off the switch falls as the distance to it to the power of order + 1."""
    settings = SoapSettings(5.0, 2, 0, 0.5, switch, 1.5)
    near, far = settings.weight(jnp.array([5.0 - 0.005, 5.0 - 0.01]))
    # the next term is a share of 0.01 / 1.5
    assert np.log2(float(far / near)) == pytest.approx(CONTINUITY[switch] + 1, abs=0.05)
    assert float(settings.weight(jnp.array([3.49]))[0]) == 1
    assert float(settings.weight(jnp.array([5.0]))[0]) == 0


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"cutoff": 1.0}, r"soap\.cutoff: 1\.0"),
        ({"n_max": 0}, r"soap\.n_max: 0"),
        ({"l_max": 13}, r"soap\.l_max: 13"),
        ({"atom_sigma": 0.0}, r"soap\.atom_sigma"),
        ({"central_weight": -1.0}, r"soap\.central_weight"),
        ({"switch": "cosine", "transition": 4.1}, r"soap\.transition: 4\.1"),
    ],
)
def test_settings_out_of_range_are_refused(changes, words):
    with pytest.raises(BadInput, match=words):
        dataclasses.replace(PLAIN, **changes)


def test_functions_that_depend_on_each_other_are_refused():
    with pytest.raises(BadInput, match="depend on each other"):
        ours(cases()["crystal"], SoapSettings(1.5, 16, 0, 0.5, "none"))

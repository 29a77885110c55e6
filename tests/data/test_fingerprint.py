"""Fingerprints: what they must not see, what they must see, and how far apart things lie."""

import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from karat.core.errors import BadInput
from karat.data import fingerprint as module
from karat.data.fingerprint import (
    EMBEDDING,
    FINGERPRINT_SIZE,
    displacement,
    fingerprint,
    fingerprint_batch,
    fingerprints,
)
from karat.structures.structure import Structure

EXACT = 1e-11  # sums of a few hundred terms of order one


def molecule(seed, atoms=9, extent=2.0):
    generator = np.random.default_rng(seed)
    numbers = generator.choice([1, 6, 7, 8, 17], atoms)
    return Structure(numbers, generator.uniform(-extent, extent, (atoms, 3)))


def crystal(seed, atoms=4):
    generator = np.random.default_rng(seed)
    cell = np.diag(generator.uniform(3.5, 5.0, 3)) + generator.uniform(-0.7, 0.7, (3, 3))
    positions = generator.uniform(0, 1, (atoms, 3)) @ cell
    return Structure(generator.choice([11, 17, 28], atoms), positions, cell, np.ones(3, bool))


def orthogonal(generator):
    q, r = np.linalg.qr(generator.normal(size=(3, 3)))
    return q * np.sign(np.diag(r))


def of(structure):
    return fingerprint(structure.numbers, structure.positions, structure.cell, structure.periodic)


def test_size_and_kind():
    found = of(molecule(0))
    assert found.shape == (FINGERPRINT_SIZE,)
    assert found.dtype == np.float64
    assert np.isfinite(found).all()


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10_000), periodic=st.booleans(), reflect=st.booleans())
def test_rotation_reflection_translation_permutation(seed, periodic, reflect):
    one = crystal(seed) if periodic else molecule(seed)
    generator = np.random.default_rng(seed + 1)
    turn = orthogonal(generator) * (-1.0 if reflect else 1.0)
    order = generator.permutation(len(one))
    other = Structure(
        one.numbers[order],
        (one.positions @ turn + generator.normal(size=3))[order],
        one.cell @ turn,
        one.periodic,
    )
    np.testing.assert_allclose(of(other), of(one), rtol=0, atol=EXACT)


@settings(max_examples=15, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    counts=st.tuples(*[st.integers(1, 2)] * 3),
    shear=st.integers(-1, 1),
)
def test_choice_of_cell_supercell_and_wrapping(seed, counts, shear):
    one = crystal(seed)
    generator = np.random.default_rng(seed)
    skew = np.array([[1, 0, 0], [shear, 1, 0], [0, shear, 1]])
    wrapped = one.positions + generator.integers(-2, 3, (len(one), 3)) @ one.cell
    same = one.replace(cell=skew @ one.cell, positions=wrapped)
    np.testing.assert_allclose(of(same), of(one), rtol=0, atol=EXACT)
    left_handed = one.replace(cell=one.cell[[1, 0, 2]])
    np.testing.assert_allclose(of(left_handed), of(one), rtol=0, atol=EXACT)
    super_ = Structure.from_ase(one.to_ase().repeat(counts))
    np.testing.assert_allclose(of(super_), of(one), rtol=0, atol=EXACT)


@pytest.mark.parametrize("kind", ["sc", "fcc", "bcc"])
def test_one_atom_per_cell_whose_images_lie_in_planes(kind):
    """An atom's own images come as pairs v, -v, also where z, or y and z, are exactly zero."""
    from ase.build import bulk

    one = bulk("Po", kind, a=3.35)
    large = Structure.from_ase(bulk("Po", kind, a=3.35, cubic=True).repeat((2, 1, 3)))
    np.testing.assert_allclose(of(large), of(Structure.from_ase(one)), rtol=0, atol=EXACT)


def test_slab_and_chain_do_not_see_the_cell_along_free_directions():
    one = crystal(3)
    for flags in ([True, True, False], [True, False, False]):
        periodic = np.array(flags)
        short = one.replace(periodic=periodic)
        tall = short.replace(cell=one.cell * np.where(periodic, 1.0, 3.0)[:, None])
        np.testing.assert_allclose(of(tall), of(short), rtol=0, atol=EXACT)
        assert np.linalg.norm(of(short) - of(one)) > 0.05


def test_molecule_in_a_large_box_has_the_radial_and_angular_part_of_the_free_molecule():
    one = molecule(5)
    boxed = one.replace(cell=40.0 * np.eye(3), periodic=np.ones(3, bool))
    np.testing.assert_allclose(of(boxed)[:52], of(one)[:52], rtol=0, atol=EXACT)


@pytest.mark.parametrize("atoms", [1, 2, 9, 40])
def test_both_ways_of_summing_agree(atoms, monkeypatch):
    one = molecule(atoms, atoms, extent=atoms ** (1 / 3) * 1.5)
    dense = of(one)
    monkeypatch.setattr(module, "_DENSE_ATOMS", 0)
    monkeypatch.setattr(module, "_CHUNK", 50)
    np.testing.assert_allclose(of(one), dense, rtol=0, atol=EXACT)


def test_definition_by_plain_loops():
    """The formulas of the module's docstring, term by term."""
    one = molecule(7, 5)
    w, numbers, r = module.WEIGHTS, one.numbers, one.positions
    expected = []

    def fall(d, radius):
        return max(0.0, 1 - d**2 / radius**2) ** 3

    for centre, width in zip([1.0, 1.5, 2.1, 2.8, 3.6, 4.5], [0.3, 0.4, 0.5, 0.65, 0.8, 0.95]):
        for a, b in ((0, 0), (0, 1), (0, 2), (1, 1), (1, 2), (2, 2)):
            total = 0.0
            for i in range(5):
                for j in range(5):
                    if i != j:
                        d = np.linalg.norm(r[i] - r[j])
                        g = np.exp(-((d - centre) ** 2) / (2 * width**2)) * fall(d, 6.0)
                        total += w[numbers[i], a] * w[numbers[j], b] * g
            expected.append(0.2 * total / 5)
    np.testing.assert_allclose(of(one)[:36], expected, rtol=0, atol=1e-12)
    angular = []
    for order in (1, 2):
        for b in range(2):
            for radius in (3.2, 6.0):
                for a in range(2):
                    total = 0.0
                    for i in range(5):
                        others = [j for j in range(5) if j != i]
                        h = {j: fall(np.linalg.norm(r[j] - r[i]), radius) for j in others}
                        v = {j: (r[j] - r[i]) / radius for j in others}
                        q = sum(h.values())
                        if order == 1:
                            m = sum(w[numbers[j], b] * h[j] * v[j] for j in others)
                        else:
                            m = sum(w[numbers[j], b] * h[j] * np.outer(v[j], v[j]) for j in others)
                            m = m - np.trace(m) / 3 * np.eye(3)
                        total += w[numbers[i], a] * (m**2).sum() / (1 + q**2)
                    angular.append(4.0 * total / 5)
    np.testing.assert_allclose(of(one)[36:52], angular, rtol=0, atol=1e-12)


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 10_000), periodic=st.booleans())
def test_smooth(seed, periodic):
    """Central differences with steps h and h/2 agree to second order: no kink, no jump."""
    one = crystal(seed) if periodic else molecule(seed)
    move = np.random.default_rng(seed).normal(size=one.positions.shape)
    move /= np.linalg.norm(move)

    def slope(h):
        plus, minus = (of(one.replace(positions=one.positions + s * h * move)) for s in (1, -1))
        return (plus - minus) / (2 * h)

    coarse, fine = slope(2e-3), slope(1e-3)
    # third derivatives of the narrowest Gaussian are below 1/0.3³ ≈ 40; h² = 4e-6
    np.testing.assert_allclose(coarse, fine, rtol=0, atol=4e-4)


def test_atoms_at_one_place_are_no_trouble():
    one = Structure(np.array([1, 1, 8]), np.zeros((3, 3)))
    assert np.isfinite(of(one)).all()


def test_elements_and_compositions_differ():
    distances = np.linalg.norm(EMBEDDING[1:119, None] - EMBEDDING[None, 1:119], axis=2)
    assert distances[~np.eye(118, dtype=bool)].min() > 0.5
    one = molecule(2)
    for place in range(len(one)):
        numbers = one.numbers.copy()
        numbers[place] = 9 if numbers[place] != 9 else 16
        assert np.linalg.norm(of(one.replace(numbers=numbers)) - of(one)) > 0.05
    swapped = one.numbers.copy()
    i, j = np.flatnonzero(one.numbers == 6)[0], np.flatnonzero(one.numbers != 6)[0]
    swapped[[i, j]] = swapped[[j, i]]
    assert np.linalg.norm(of(one.replace(numbers=swapped)) - of(one)) > 0.01


def test_parts_beyond_the_cutoff_are_told_apart():
    left, right = molecule(1, 5), molecule(2, 5)

    def dimer(distance):
        positions = np.concatenate([left.positions, right.positions + [distance, 0, 0]])
        return Structure(np.concatenate([left.numbers, right.numbers]), positions)

    found = [of(dimer(d)) for d in (12.0, 12.1, 14.0)]
    assert 0.001 < np.linalg.norm(found[1] - found[0]) < np.linalg.norm(found[2] - found[0])


def test_batches_and_mixed_lists_equal_single_calls():
    generator = np.random.default_rng(0)
    one = molecule(3, 12)
    frames = one.positions + generator.normal(0, 0.1, (700, 12, 3))
    batch = fingerprint_batch(one.numbers, frames)
    assert batch.shape == (700, FINGERPRINT_SIZE)
    for i in (0, 416, 417, 699):
        np.testing.assert_allclose(
            batch[i], of(one.replace(positions=frames[i])), rtol=0, atol=EXACT
        )
    order = generator.permutation(12)
    mixed = [crystal(1), one, molecule(4), one.replace(numbers=one.numbers[order])]
    mixed += [molecule(5, 1), crystal(2)]
    np.testing.assert_allclose(
        fingerprints(mixed), [of(item) for item in mixed], rtol=0, atol=EXACT
    )
    assert fingerprints([]).shape == (0, FINGERPRINT_SIZE)


@pytest.mark.parametrize(
    ("numbers", "positions", "cell", "periodic", "words"),
    [
        ([], np.zeros((0, 3)), 0, False, "at least one atom"),
        ([0, 1], np.zeros((2, 3)), 0, False, "atomic number 0"),
        ([1, 119], np.zeros((2, 3)), 0, False, "atomic number 119"),
        ([1], np.full((1, 3), np.nan), 0, False, "NaN"),
        ([1], np.zeros((1, 3)), 0, True, "zero or linearly dependent"),
        ([1], np.zeros((1, 3)), np.nan, True, "cell holds NaN"),
        ([1], np.zeros((1, 3)), 0.01, True, "length unit"),
    ],
)
def test_what_cannot_be_is_refused(numbers, positions, cell, periodic, words):
    cells, flags = cell * np.eye(3), np.full(3, periodic)
    with pytest.raises(BadInput, match=words):
        fingerprint(np.array(numbers, int), positions, cells, flags)


def test_bad_frame_is_named():
    frames = np.zeros((5, 2, 3))
    frames[:, 1] = 1.0
    frames[3, 0, 0] = np.inf
    with pytest.raises(BadInput, match="frame 3"):
        fingerprint_batch(np.array([1, 1]), frames)


def read(path):
    import ase.io

    return [Structure.from_ase(atoms) for atoms in ase.io.read(path, ":250")]


def rattled(structures, size, seed=0):
    """Each atom displaced by a random vector of root mean square length `size`."""
    generator = np.random.default_rng(seed)
    return [
        s.replace(positions=s.positions + generator.normal(0, size / 3**0.5, s.positions.shape))
        for s in structures
    ]


@pytest.mark.parametrize(
    ("name", "stride"), [("acac/train_300K.xyz.gz", 1), ("rmd17/aspirin_train.xyz.gz", 1)]
)
def test_scale_on_molecules_at_300_to_500_kelvin(published, name, stride):
    """A rattle of 0.01 Å is read as 0.005 to 0.03 Å, lies far below independent frames, and
    distance grows with displacement."""
    frames = read(published(name))[::stride]
    atoms = len(frames[0])
    found = fingerprints(frames)
    small = np.linalg.norm(fingerprints(rattled(frames, 0.01)) - found, axis=1)
    read_as = np.array([displacement(d, atoms) for d in small])
    assert 0.008 < np.mean(read_as) < 0.014
    assert read_as.min() > 0.002
    assert read_as.max() < 0.03
    larger = np.linalg.norm(fingerprints(rattled(frames, 0.02)) - found, axis=1)
    assert 1.8 < np.mean(larger) / np.mean(small) < 2.2
    distances = np.linalg.norm(found[:, None] - found[None], axis=2)
    distances = distances[np.triu_indices(len(found), 1)]
    assert np.median(distances) > 10 * np.median(small)
    assert np.quantile(distances, 1e-3) > small.max()


def test_scale_on_crystals(published):
    """In crystals the response to a rattle is smaller, yet frames lie farther apart."""
    frames = [s for s in read(published("mlearn/Li_train.xyz.gz")) if len(s) == 54][::3]
    found = fingerprints(frames)
    small = np.linalg.norm(fingerprints(rattled(frames, 0.01)) - found, axis=1)
    distances = np.linalg.norm(found[:, None] - found[None], axis=2)
    distances = distances[np.triu_indices(len(found), 1)]
    assert 1e-4 < np.median(small) < 3e-3
    assert np.median(distances) > 50 * np.median(small)


@pytest.mark.slow
def test_speed():
    """Twice the time on a machine of 2024: 20 µs in batches, 150 µs alone, for 21 atoms."""
    one = molecule(0, 21, 3.0)
    frames = np.repeat(one.positions[None], 1000, axis=0)
    fingerprint_batch(one.numbers, frames[:10])
    start = time.process_time()
    fingerprint_batch(one.numbers, frames)
    assert (time.process_time() - start) / 1000 < 60e-6
    start = time.process_time()
    for _ in range(300):
        of(one)
    assert (time.process_time() - start) / 300 < 400e-6

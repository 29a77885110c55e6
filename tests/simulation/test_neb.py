import dataclasses

import numpy as np
import pytest
from ase.build import bulk
from scipy.optimize import minimize
from scipy.spatial.transform import Rotation

from karat.core.errors import BadInput, CalculationFailed, UnknownElement
from karat.potentials.analytic.lennard_jones import LennardJones
from karat.potentials.analytic.stillinger_weber import StillingerWeber
from karat.potentials.protocol import AbstractPotential, Traits
from karat.simulation import neb as module
from karat.simulation.batched_relax import RelaxSettings, relax_batch
from karat.simulation.neb import NebSettings, _tangents, neb
from karat.simulation.neb_path import first_path, matched_end
from karat.structures.labels import Labels
from karat.structures.structure import Structure

EPSILON, SIGMA = 0.0104, 3.4


class TwoWells(AbstractPotential):
    """A molecule of two atoms with E = h (x² - 1)² + s x, x = r - 3: two bond lengths."""

    traits = Traits(species=None, periodic=False, molecules=True, quantities=("energy", "forces"))

    def __init__(self, height, slope):
        self.height, self.slope = height, slope

    def energy(self, x):
        return self.height * (x * x - 1) ** 2 + self.slope * x

    def stationary(self):
        """Left minimum, maximum and right minimum."""
        roots = np.roots([4 * self.height, 0, -4 * self.height, self.slope])
        return np.sort(roots.real)

    def curvature(self, x):
        return self.height * (12 * x * x - 4)

    def predict(self, structures, want=("energy", "forces")):
        found = []
        for structure in structures:
            arm = structure.positions[1] - structure.positions[0]
            length = np.linalg.norm(arm)
            x = length - 3.0
            pull = -(4 * self.height * x * (x * x - 1) + self.slope) * arm / length
            found.append(Labels(self.energy(x), np.array([-pull, pull])))
        return found


def pair(x):
    return Structure(np.full(2, 1), np.array([[0, 0, 0], [0.6, 0.8, 0.0]]) * (3.0 + x))


@pytest.fixture(scope="module")
def silicon():
    return StillingerWeber("Si").load()


@pytest.fixture(scope="module")
def far_argon():
    """Lennard-Jones, cut off where nothing of a small cluster notices."""
    return LennardJones({"Ar": EPSILON}, {"Ar": SIGMA}, 30.0, 29.0).load()


def vacancy_hop(potential, cells, part=0.3):
    """The split vacancies of silicon beside two neighbouring sites, relaxed.

    The vacancy with four unmoved neighbours is a shallow minimum of this potential; the deep
    one has a neighbour pulled a quarter of the way into the hole.
    """
    crystal = bulk("Si", a=5.430949777, cubic=True) * (cells, cells, cells)
    neighbour = int(np.argsort(crystal.get_all_distances(mic=True)[0])[1])
    hop = crystal.get_distance(neighbour, 0, mic=True, vector=True)
    ends = []
    for way in (part, 1 - part):
        atoms = crystal.copy()
        atoms.positions[neighbour] += way * hop
        del atoms[0]
        ends.append(Structure.from_ase(atoms))
    found = relax_batch(potential, ends, RelaxSettings(1e-3, 200, optimiser="lbfgs"))
    return [each.structure for each in found]


def barrier_by_ase(start, end, images, force):
    from ase.mep.neb import NEB
    from ase.optimize import FIRE
    from matscipy.calculators.manybody import Manybody
    from matscipy.calculators.manybody.explicit_forms import StillingerWeber as Form
    from matscipy.calculators.manybody.explicit_forms.stillinger_weber import (
        Stillinger_Weber_PRB_31_5262_Si,
    )

    frames = [start.to_ase() for _ in range(images - 1)] + [end.to_ase()]
    for frame in frames:
        frame.calc = Manybody(**Form(Stillinger_Weber_PRB_31_5262_Si))
    band = NEB(frames, k=0.1, climb=True, method="improvedtangent")
    band.interpolate(mic=True)
    assert FIRE(band, logfile=None).run(fmax=force, steps=200)
    energies = np.array([frame.get_potential_energy() for frame in frames])
    return energies - energies[0]


def test_two_wells_have_their_exact_barriers():
    potential = TwoWells(0.2, 0.1)
    left, top, right = potential.stationary()
    seen = []
    settings = NebSettings(5, 1e-4, check_saddle=True)
    found = neb(potential, pair(left), pair(right), settings, lambda *done: seen.append(done))
    low, high, other = (potential.energy(x) for x in (left, top, right))
    # F²/2k on the top: 1e-8/(2·0.8)
    assert found.barrier_forward == pytest.approx(high - low, abs=1e-7)
    assert found.barrier_backward == pytest.approx(high - other, abs=1e-7)
    arm = np.diff(found.images[found.saddle].positions, axis=0)
    assert np.linalg.norm(arm) - 3.0 == pytest.approx(top, abs=1e-3)
    # either atom moves half the way: the path is shorter than the bond's change by √2
    assert found.arc_length[-1] == pytest.approx((right - left) / 2**0.5, rel=1e-6)
    assert (np.diff(found.arc_length) > 0).all()
    check = found.saddle_check
    assert check.first_order
    # both atoms move against each other: E'' (1² + 1²); differences of x² by 0.01² times 12 h
    assert check.curvatures[0] == pytest.approx(2 * potential.curvature(top), abs=1e-3)
    assert len(check.curvatures) == 1  # six components, five rigid motions
    assert found.max_end_force < 1e-6
    bonds = [np.linalg.norm(np.diff(image.positions, axis=0)) - 3.0 for image in found.images]
    x = np.array(bonds)
    slopes = 0.8 * x * (x * x - 1) + 0.1
    rises = 0.5 * (slopes[1:] + slopes[:-1]) * np.diff(x)
    misfit = np.abs(np.diff(potential.energy(x)) - rises).max()
    assert found.energy_misfit == pytest.approx(misfit, rel=1e-4)
    assert found.intermediate_minima == ()
    assert len(seen) == found.steps > 0
    assert seen[-1][0] == found.steps


def test_three_images_and_no_climbing():
    potential = TwoWells(0.2, 0.0)
    left, _, right = potential.stationary()
    found = neb(potential, pair(left), pair(right), NebSettings(3, 1e-3))
    assert found.saddle == 1
    assert found.barrier_forward == pytest.approx(0.2, abs=1e-6)
    without = neb(potential, pair(left), pair(right), NebSettings(6, 1e-3, climb=False))
    # four inner images, evenly spaced over x = -1 to 1: the highest stand at ±0.2
    assert without.barrier_forward == pytest.approx(0.2 * (0.2**2 - 1) ** 2, abs=2e-3)
    assert without.saddle is None


def test_downhill_there_is_no_saddle():
    potential = TwoWells(0.2, 0.1)
    left, _, right = potential.stationary()
    settings = NebSettings(5, 1e-3, check_saddle=True)
    found = neb(potential, pair(right + 0.5), pair(right), settings)
    assert found.saddle is None
    assert found.saddle_check is None
    assert found.barrier_forward == 0
    drop = potential.energy(right + 0.5) - potential.energy(right)
    assert found.barrier_backward == pytest.approx(drop, abs=1e-9)
    assert found.max_end_force > 0.1  # the start is no minimum, and the result says so
    passing = neb(potential, pair(left - 0.4), pair(left + 0.3), NebSettings(6, 1e-3))
    assert passing.intermediate_minima


def tetrahedron(degrees):
    """Two atoms on an axis, two that stand `degrees` apart around it, all touching the first."""
    bond = SIGMA * 2 ** (1 / 6)
    half, height = np.radians(degrees) / 2, bond * 3**0.5 / 2
    ends = [[height * np.cos(half), sign * height * np.sin(half), 0] for sign in (-1, 1)]
    return Structure(np.full(4, 18), np.array([[0, 0, -bond / 2], [0, 0, bond / 2], *ends]))


REGULAR = float(np.degrees(2 * np.arcsin(3**-0.5)))


def lowest(square):
    """Energy of four atoms at the corners of a square, or of a rhombus, by Nelder and Mead."""

    def depth(r):
        return 4 * EPSILON * ((SIGMA / r) ** 12 - (SIGMA / r) ** 6)

    def energy(half):  # of both diagonals
        half = [half[0], half[0]] if square else half
        return depth(2 * half[0]) + depth(2 * half[1]) + 4 * depth(np.hypot(*half))

    options = {"xatol": 1e-10, "fatol": 1e-16, "maxiter": 4000}
    start = [2.6] if square else [1.9, 3.3]
    return minimize(energy, start, method="Nelder-Mead", options=options).fun


def test_four_argon_atoms_turn_inside_out_through_the_rhombus(far_argon):
    turn = Rotation.from_rotvec([0.05, -0.05, 0.26])  # off the mirror plane
    start, end = tetrahedron(REGULAR), tetrahedron(360 - REGULAR)
    end = end.replace(positions=turn.apply(end.positions.copy()))
    settings = NebSettings(7, 2e-4, 1500, align=False, check_saddle=True)
    found = neb(far_argon, start, end, settings)
    rhombus = lowest(square=False)
    assert rhombus / EPSILON == pytest.approx(-5.0734, abs=1e-4)  # Wales' database has -5.073421
    # F²/2k: 4e-8/(2·0.05)
    assert found.barrier_forward == pytest.approx(rhombus + 6 * EPSILON, abs=2e-6)
    assert found.barrier_backward == pytest.approx(rhombus + 6 * EPSILON, abs=2e-6)
    assert found.saddle_check.first_order
    assert len(found.saddle_check.curvatures) == 6


def test_a_path_over_a_higher_saddle_is_told(far_argon):
    # the straight path keeps a mirror, and the mirror leads over the square, two ways down
    start, end = tetrahedron(REGULAR), tetrahedron(360 - REGULAR)
    settings = NebSettings(5, 2e-4, 1500, check_saddle=True)
    found = neb(far_argon, start, end, settings)
    square = lowest(square=True)
    assert found.barrier_forward == pytest.approx(square + 6 * EPSILON, abs=2e-6)
    assert found.saddle_check.negative == 2
    assert not found.saddle_check.first_order


def test_a_vacancy_hop_in_silicon_against_ase_with_matscipy(silicon):
    start, end = vacancy_hop(silicon, 2)
    found = neb(silicon, start, end, NebSettings(5, 0.01))
    expected = barrier_by_ase(start, end, 5, 0.01)
    # both climb to a saddle with forces of 0.01 eV/Å along 3 eV/Å²: F²/2k is 2e-5 eV on it and
    # as much on each of some ten atoms around
    assert found.barrier_forward == pytest.approx(expected.max(), abs=5e-4)
    assert found.barrier_backward == pytest.approx(found.barrier_forward, abs=1e-5)
    # the band is only spaced by springs; energies between the ends are those of like places
    np.testing.assert_allclose(found.energies - found.energies[0], expected, atol=5e-3)
    assert found.saddle == 2
    assert found.max_perpendicular_force <= 0.01


@pytest.mark.slow
def test_a_vacancy_hop_in_a_larger_cell_against_ase_with_matscipy(silicon):
    start, end = vacancy_hop(silicon, 3)
    found = neb(silicon, start, end, NebSettings(7, 0.002, check_saddle=True))
    expected = barrier_by_ase(start, end, 7, 0.002)
    # long waves of the crystal are as soft as 0.1 eV/Å²: F²/2k is 2e-5 eV on each of a few
    assert found.barrier_forward == pytest.approx(expected.max(), abs=1e-4)
    np.testing.assert_allclose(found.energies - found.energies[0], expected, atol=5e-3)
    assert found.saddle_check.first_order
    assert 0 < len(found.saddle_check.atoms) < 215  # those far away are held


def test_atoms_hop_across_the_boundary(argon):
    crystal = bulk("Ar", a=5.3, cubic=True) * (2, 2, 2)
    neighbour = int(np.argsort(crystal.get_all_distances(mic=True)[0])[1])
    ends = [crystal.copy(), crystal.copy()]
    ends[1].positions[neighbour] = crystal.positions[0]
    for atoms in ends:
        del atoms[0]
    start, end = (Structure.from_ase(atoms) for atoms in ends)
    settings = NebSettings(3, 2e-3, relax_ends=RelaxSettings(1e-3, 300))
    here = neb(argon(), start, end, settings)
    for atoms in ends:
        atoms.positions += [0.3, -0.4, 0.2]
        atoms.wrap()
    across = [Structure.from_ase(atoms) for atoms in ends]
    assert np.abs(across[1].positions - across[0].positions).max() > 5.0
    there = neb(argon(), *across, settings)
    # one path, shifted; rounding of positions only
    assert there.barrier_forward == pytest.approx(here.barrier_forward, abs=1e-8)
    assert there.arc_length[-1] == pytest.approx(here.arc_length[-1], abs=1e-6)
    assert here.arc_length[-1] < 5.3
    assert here.max_end_force <= 1e-3


def test_images_in_several_calls_are_those_in_one(springs, monkeypatch):
    random = np.random.default_rng(4)
    start, end = (Structure(np.full(3, 18), random.normal(0, 1.0, (3, 3))) for _ in range(2))
    settings = NebSettings(5, 0.05, spring=1.0)
    together = neb(springs(0.3), start, end, settings)
    monkeypatch.setattr(module, "MAX_PAIRS_PER_BATCH", 13)  # two images have 12
    apart = neb(springs(0.3), start, end, settings)
    assert apart.steps == together.steps > 0
    np.testing.assert_allclose(apart.energies, together.energies, atol=1e-10)


def test_a_turned_molecule_is_turned_back():
    potential = TwoWells(0.2, 0.1)
    left, _, right = potential.stationary()
    end = pair(right)
    turned = Rotation.from_rotvec([0.4, 0.3, -1.2]).apply(end.positions.copy()) + 7.0
    found = neb(potential, pair(left), end.replace(positions=turned), NebSettings(5, 1e-3))
    assert found.arc_length[-1] == pytest.approx((right - left) / 2**0.5, rel=1e-5)
    water = Structure(np.array([8, 1, 1]), np.array([[0, 0, 0.1], [0, 0.8, -0.5], [0, -0.8, -0.5]]))
    away = Rotation.from_rotvec([1.0, 2.0, 0.5]).apply(water.positions.copy()) + [3.0, 1.0, 0.0]
    with pytest.raises(BadInput, match="one structure"):
        matched_end(water, water.replace(positions=away))


def test_idpp_keeps_atoms_apart():
    # two atoms change places: on straight lines they meet in the middle
    start = Structure(np.array([18, 36, 18]), np.array([[0, 0, 0], [4.0, 0, 0], [2.0, 3.0, 0.3]]))
    end = start.replace(positions=start.positions[[1, 0, 2]])
    straight = first_path(start, end, 7, "linear")
    bent = first_path(start, end, 7, "idpp")

    def nearest(path):
        gaps = path[:, :, None] - path[:, None, :]
        return np.linalg.norm(gaps, axis=3)[:, ~np.eye(3, dtype=bool)].min()

    assert nearest(straight) < 1e-9
    assert nearest(bent) > 0.5
    for path in (straight, bent):
        np.testing.assert_array_equal(path[0], start.positions)
        np.testing.assert_allclose(path[-1], end.positions, atol=1e-12)


def test_tangents_follow_the_paper():
    after, before = np.array([[[1.0, 0, 0]]]), np.array([[[0, 1.0, 0]]])

    def direction(*energies):
        return _tangents(after, before, np.array(energies))[0, 0]

    np.testing.assert_allclose(direction(0.0, 1.0, 2.0), [1, 0, 0])  # uphill: eq. 8
    np.testing.assert_allclose(direction(2.0, 1.0, 0.0), [0, 1, 0])
    # a maximum: the higher neighbour's arm counts by the larger difference, eq. 10
    np.testing.assert_allclose(direction(0.0, 3.0, 1.0), np.array([3, 2, 0]) / 13**0.5)
    np.testing.assert_allclose(direction(1.0, 3.0, 0.0), np.array([2, 3, 0]) / 13**0.5)
    np.testing.assert_allclose(direction(3.0, 1.0, 2.0), np.array([1, 2, 0]) / 5**0.5)
    np.testing.assert_allclose(direction(1.0, 1.0, 1.0), np.array([1, 1, 0]) / 2**0.5)


def test_what_differs_between_the_ends_is_named(argon):
    crystal = Structure.from_ase(bulk("Ar", a=5.3, cubic=True))
    moved = crystal.replace(positions=crystal.positions + np.eye(4, 3) * 0.5)
    with pytest.raises(BadInput, match="4 atoms, end has 32"):
        neb(argon(), crystal, Structure.from_ase(bulk("Ar", a=5.3, cubic=True) * (2, 2, 2)))
    with pytest.raises(BadInput, match="atom 2 is Ar in start .* and Kr in end"):
        neb(argon(), crystal, moved.replace(numbers=np.array([18, 18, 36, 18])))
    with pytest.raises(BadInput, match="differ by up to 0.1 Å"):
        neb(argon(), crystal, moved.replace(cell=crystal.cell + np.diag([0.1, 0, 0])))
    with pytest.raises(BadInput, match=r"\[True, True, False\]"):
        neb(argon(), crystal, moved.replace(periodic=np.array([True, True, False])))
    with pytest.raises(BadInput, match="charge 0, end has 1"):
        neb(argon(), crystal, moved.replace(charge=1))
    with pytest.raises(BadInput, match="one structure"):
        neb(argon(), crystal, crystal.replace(positions=crystal.positions + crystal.cell[0]))
    silicon = crystal.replace(numbers=np.full(4, 14))
    with pytest.raises(UnknownElement):
        neb(argon(), silicon, silicon.replace(positions=moved.positions))
    mixed = crystal.replace(numbers=np.array([18, 36, 18, 18]))
    with pytest.raises(BadInput, match="Sort the atoms"):
        neb(argon(), mixed, mixed.replace(numbers=np.array([36, 18, 18, 18])))


def test_atoms_in_another_order_are_found(argon):
    crystal = bulk("Ar", a=5.3, cubic=True) * (2, 2, 2)
    ends = [crystal.copy(), crystal.copy()]
    del ends[0][3]
    del ends[1][7]  # atoms 4 to 7 now stand one place earlier than in the start
    start, end = (Structure.from_ase(atoms) for atoms in ends)
    with pytest.raises(BadInput, match="where like atoms stood before"):
        neb(argon(), start, end)
    assert len(matched_end(start, end, check_order=False)) == 31


@pytest.mark.parametrize(
    "wrong",
    [
        {"images": 2},
        {"force_tolerance": 0.0},
        {"spring": float("nan")},
        {"max_steps": 0},
        {"relax_ends": RelaxSettings(cell="free")},
        {"climb": False, "check_saddle": True},
    ],
)
def test_bad_settings_are_refused(wrong):
    with pytest.raises(BadInput, match="neb"):
        NebSettings(**wrong)


def test_failures_say_where(argon, foreign):
    potential = TwoWells(0.2, 0.1)
    left, _, right = potential.stationary()
    with pytest.raises(CalculationFailed, match="after 2 steps") as caught:
        neb(potential, pair(left), pair(right), NebSettings(5, 1e-6, 2))
    assert caught.value.kind == "not-converged"
    with pytest.raises(CalculationFailed, match="image 2 at step 1: SCF"):
        # one call for both ends, one for each of three images per step
        neb(foreign(potential, fail_at=6), pair(left), pair(right), NebSettings(5, 1e-6))
    settings = NebSettings(relax_ends=RelaxSettings(1e-6, 1))
    with pytest.raises(CalculationFailed, match="neb: start: Relaxation of H2") as caught:
        neb(potential, pair(left - 0.2), pair(right), settings)
    assert caught.value.kind == "not-converged"
    settings = NebSettings(relax_ends=RelaxSettings(1e-4))
    with pytest.raises(CalculationFailed, match="one structure") as caught:
        neb(potential, pair(left - 0.2), pair(left + 0.2), settings)
    assert caught.value.kind == "bad-ends"


def test_the_result_is_frozen():
    potential = TwoWells(0.2, 0.0)
    left, _, right = potential.stationary()
    found = neb(potential, pair(left), pair(right), NebSettings(3, 1e-2))
    with pytest.raises(dataclasses.FrozenInstanceError):
        found.barrier_forward = 0.0

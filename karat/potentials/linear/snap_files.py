"""LAMMPS' `.snapcoeff` and `.snapparam` files: read strictly, written so that LAMMPS loads them.

Source: LAMMPS manual, pair_style snap.
Checked: tests/potentials/linear/test_snap_files.py; test_snap_lammps.py, by running LAMMPS.
"""

import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import jax.numpy as jnp
import numpy as np
from ase.data import chemical_symbols

from karat.core.errors import BadInput, UnknownElement, suggestion
from karat.potentials.analytic.pairwise import atomic_number
from karat.potentials.analytic.zbl import ZblModule
from karat.potentials.linear.model import ZblTerm
from karat.potentials.linear.posterior import Posterior
from karat.potentials.linear.snap_module import SnapModule, feature_count
from karat.potentials.linear.snap_settings import SnapSettings
from karat.potentials.native_protocol import NativePotential
from karat.potentials.precision import require
from karat.potentials.protocol import AbstractPotentialComponent

NUMBERS = ("rcutfac", "rfac0", "rmin0")
FLAGS = ("switchflag", "bzeroflag", "bnormflag", "quadraticflag")
WITHOUT_EFFECT = ("chunksize", "parallelthresh", "wselfallflag")
"""Keys that change no number of what karat reads: wselfallflag does with chemflag only."""
REFUSED = {"chemflag": "a density for each pair of elements", "switchinnerflag": "an inner switch"}
INNER = ("sinner", "dinner")
KEYS = ("twojmax", *NUMBERS, *FLAGS, *WITHOUT_EFFECT, *REFUSED, *INNER, "diagonalstyle")


@dataclass(frozen=True)
class SnapTables:
    """What a pair of files holds.

    Attributes:
        elements: symbols, in the order of their atomic numbers.
        settings: radii and weights in that order.
        coefficients: of each element, eV: the constant first.
    """

    elements: tuple[str, ...]
    settings: SnapSettings
    coefficients: tuple[tuple[float, ...], ...]

    def only(self, elements: tuple[str, ...]) -> "SnapTables":
        """With these elements only.

        Raises:
            UnknownElement: an element that the files do not have.
        """
        for symbol in elements:
            if symbol not in self.elements:
                raise UnknownElement(
                    f"snap.elements: the files have no '{symbol}'; they have "
                    f"{', '.join(self.elements)}."
                )
        kept = [i for i, symbol in enumerate(self.elements) if symbol in elements]
        values = {name: getattr(self.settings, name) for name in SnapSettings.__dataclass_fields__}
        for name in ("radii", "weights"):
            values[name] = tuple(values[name][i] for i in kept)
        return SnapTables(
            tuple(self.elements[i] for i in kept),
            SnapSettings(**values),
            tuple(self.coefficients[i] for i in kept),
        )

    def module(self, dtype: str, zbl: ZblTerm | None = None) -> SnapModule:
        """The potential, perhaps with a repulsion underneath."""
        species = tuple(atomic_number(symbol, "snap") for symbol in self.elements)
        return SnapModule(
            coefficients=jnp.asarray(np.concatenate(self.coefficients), require(dtype)),
            repulsion=None if zbl is None else zbl.module(species, dtype),
            posterior=Posterior.none(dtype),
            settings=self.settings,
            species=species,
            cutoff=max(self.settings.cutoff, 0.0 if zbl is None else zbl.outer_angstrom),
            continuity=1 if self.settings.switchflag else -1,
        )


@dataclass(frozen=True)
class SnapFiles(AbstractPotentialComponent):
    """A potential from LAMMPS' files for `pair_style snap`.

    Attributes:
        coefficients: path of the `.snapcoeff` file.
        parameters: path of the `.snapparam` file.
        elements: those to use; by default all of the file.
        zbl: screened nuclear repulsion added to it, as with LAMMPS' `hybrid/overlay`; the files
            do not say whether it belongs to the potential.
    """

    coefficients: str
    parameters: str
    elements: tuple[str, ...] | None = None
    zbl: ZblTerm | None = None
    dtype: Literal["float32", "float64"] = "float64"

    def load(self) -> NativePotential:
        tables = read_snap(self.coefficients, self.parameters)
        if self.elements is not None:
            if not self.elements:
                raise BadInput("snap.elements: is empty; name some, or leave it out for all.")
            tables = tables.only(self.elements)
        return NativePotential(tables.module(self.dtype, self.zbl), dtype=self.dtype)


def read_snap(coefficients: str | Path, parameters: str | Path) -> SnapTables:
    """Both files.

    Raises:
        BadInput: missing, or with a line that is not understood, which is named.
        UnknownElement: an element that there is not.
    """
    values = _read_parameters(Path(parameters))
    elements = _read_coefficients(Path(coefficients))
    order = sorted(elements, key=lambda symbol: atomic_number(symbol, str(coefficients)))
    settings = SnapSettings(
        radii=tuple(elements[symbol][0] for symbol in order),
        weights=tuple(elements[symbol][1] for symbol in order),
        **values,
    )
    needed, found = feature_count(settings), len(elements[order[0]][2])
    if found != needed:
        form = "quadratic form" if settings.quadraticflag else "linear form"
        raise BadInput(
            f"{coefficients}: has {found} coefficients for each element, but twojmax "
            f"{settings.twojmax} in {parameters} needs {needed} ({form}). Take the files that "
            "belong together."
        )
    return SnapTables(tuple(order), settings, tuple(elements[symbol][2] for symbol in order))


def _lines(path: Path) -> Iterator[tuple[str, list[str]]]:
    """Place and words of each line that is more than a comment."""
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise BadInput(f"{path}: cannot be read ({error.strerror}). Name another file.") from error
    except UnicodeDecodeError as error:
        raise BadInput(f"{path}: is not a text file. Name another file.") from error
    for number, line in enumerate(text.splitlines(), 1):
        words = line.split("#", 1)[0].split()
        if words:
            yield f"{path}, line {number}", words


def _number(place: str, word: str) -> float:
    try:
        value = float(word)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise BadInput(f"{place}: '{word:.40}' is not a finite number.")
    return value


def _integer(place: str, word: str) -> int:
    if not word.isdecimal():
        raise BadInput(f"{place}: '{word:.40}' is not a whole number.")
    return int(word)


def _flag(place: str, key: str, word: str) -> bool:
    if word not in ("0", "1"):
        raise BadInput(f"{place}: {key} is '{word:.40}'; it must be 0 or 1.")
    return word == "1"


def _read_parameters(path: Path) -> dict[str, Any]:
    values: dict[str, Any] = {}
    seen: set[str] = set()
    for place, words in _lines(path):
        if len(words) != 2:
            raise BadInput(f"{place}: '{' '.join(words):.60}' is not a key and a value.")
        key, word = words
        if key not in KEYS:
            raise BadInput(f"{place}: unknown key '{key:.40}'; {suggestion(key, KEYS)}")
        if key in seen:
            raise BadInput(f"{place}: {key} is given twice.")
        seen.add(key)
        if key in REFUSED:
            if _flag(place, key, word):
                raise BadInput(f"{place}: {key} 1 ({REFUSED[key]}) is not supported; use LAMMPS.")
        elif key == "diagonalstyle":
            if word != "3":
                raise BadInput(f"{place}: diagonalstyle {word:.40} is obsolete; only 3 is known.")
        elif key == "twojmax":
            values[key] = _integer(place, word)
        elif key in FLAGS:
            values[key] = _flag(place, key, word)
        elif key == "wselfallflag":
            _flag(place, key, word)
        elif key in NUMBERS:
            values[key] = _number(place, word)
    for key in ("twojmax", "rcutfac"):
        if key not in values:
            raise BadInput(f"{path}: {key} is missing.")
    return values


def _read_coefficients(path: Path) -> dict[str, tuple[float, float, tuple[float, ...]]]:
    """Radius, weight and coefficients of each element."""
    lines = _lines(path)
    place, words = next(lines, (str(path), []))
    if len(words) != 2:
        raise BadInput(f"{place}: the numbers of elements and of coefficients must stand first.")
    count, size = (_integer(place, word) for word in words)
    if not 1 <= count <= len(chemical_symbols) or size < 1:
        raise BadInput(f"{place}: {count} elements and {size} coefficients are impossible.")
    found: dict[str, tuple[float, float, tuple[float, ...]]] = {}
    for _ in range(count):
        place, words = next(lines, (str(path), []))
        if len(words) != 3:
            raise BadInput(
                f"{place}: an element, its radius and its weight must stand here ({len(found)} of "
                f"{count} elements were read, of {size} coefficients each)."
            )
        symbol = words[0]
        atomic_number(symbol, place)
        if symbol in found:
            raise BadInput(f"{place}: {symbol} is given twice.")
        radius, weight = (_number(place, word) for word in words[1:])
        values = []
        for index in range(size):
            place, words = next(lines, (str(path), []))
            if len(words) != 1:
                raise BadInput(
                    f"{place}: coefficient {index + 1} of {size} of {symbol} is missing."
                )
            values.append(_number(place, words[0]))
        found[symbol] = radius, weight, tuple(values)
    extra = next(lines, None)
    if extra is not None:
        raise BadInput(f"{extra[0]}: '{' '.join(extra[1]):.40}' follows the last coefficient.")
    return found


def tables_of(potential: NativePotential) -> SnapTables:
    """What files of this potential hold: reference energies are added to the constants."""
    module = potential.module
    assert isinstance(module, SnapModule)
    rows = np.asarray(module.coefficients, np.float64).reshape(len(module.species), -1).copy()
    rows[:, 0] += [potential.reference_energies.get(z, 0.0) for z in module.species]
    symbols = tuple(chemical_symbols[z] for z in module.species)
    return SnapTables(symbols, module.settings, tuple(tuple(row.tolist()) for row in rows))


def snap_texts(tables: SnapTables) -> tuple[str, str]:
    """Contents of the `.snapcoeff` and of the `.snapparam` file; every digit is kept."""
    settings = tables.settings
    lines = ["# SNAP coefficients (eV); made by karat"]
    lines.append(f"{len(tables.elements)} {len(tables.coefficients[0])}")
    rows = zip(tables.elements, settings.radii, settings.weights, tables.coefficients)
    for symbol, radius, weight, values in rows:
        lines.append(f"{symbol} {radius!r} {weight!r}")
        lines += [repr(float(value)) for value in values]
    given = ["# SNAP parameters (units metal); made by karat", f"twojmax {settings.twojmax}"]
    given += [f"{key} {float(getattr(settings, key))!r}" for key in NUMBERS]
    given += [f"{key} {int(getattr(settings, key))}" for key in FLAGS]
    return "\n".join([*lines, ""]), "\n".join([*given, ""])


def lammps_snap(
    potential: NativePotential, folder: str = ".", stem: str = "potential"
) -> tuple[dict[str, str], list[str]]:
    """Files (name → text) and the commands with which LAMMPS computes the same; atom types are
    the potential's species in order.

    Args:
        potential: of a `SnapModule`.
        folder: where LAMMPS finds the files; may be a variable, e.g. ``${karat}``.
        stem: of the files' names.
    """
    tables = tables_of(potential)
    coefficients, parameters = snap_texts(tables)
    files = {f"{stem}.snapcoeff": coefficients, f"{stem}.snapparam": parameters}
    names = " ".join(f"{folder}/{name}" for name in files)
    symbols = " ".join(tables.elements)
    assert isinstance(potential.module, SnapModule)
    core, species = potential.module.repulsion, potential.module.species
    if core is None:
        return files, ["pair_style snap", f"pair_coeff * * {names} {symbols}"]
    assert isinstance(core, ZblModule)
    commands = [f"pair_style hybrid/overlay zbl {core.inner!r} {core.cutoff!r} snap"]
    for i, j in itertools.combinations_with_replacement(range(len(species)), 2):
        commands.append(f"pair_coeff {i + 1} {j + 1} zbl {species[i]} {species[j]}")
    return files, [*commands, f"pair_coeff * * snap {names} {symbols}"]

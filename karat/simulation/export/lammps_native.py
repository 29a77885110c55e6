"""Files of LAMMPS' own pair styles: Stillinger-Weber, SNAP, and tables of pair potentials.

Checked: tests/simulation/export/test_lammps_native.py, by running LAMMPS.
"""

import itertools
from pathlib import Path
from typing import Any

import jax
import numpy as np
from ase.data import chemical_symbols

from karat.core.files import write_atomic
from karat.potentials.analytic.pairwise import atomic_number
from karat.potentials.analytic.stillinger_weber import PRESETS, StillingerWeber
from karat.potentials.batch import Batch
from karat.potentials.linear.snap_files import lammps_snap
from karat.potentials.linear.snap_module import SnapModule
from karat.potentials.native_protocol import (
    AbstractNativePotential,
    NativePotential,
    derive_compiled,
)
from karat.potentials.protocol import AbstractPotential, AbstractPotentialComponent
from karat.simulation.export.bundle import in_float64
from karat.simulation.export.protocol import EXACT, Route, Tolerance

INPUT = "native.in"
POINTS = 4000
"""Of a table, evenly spaced in r²; LAMMPS puts cubic splines through them."""
WALL_EV = 100.0
"""Tables begin where the pair energy falls below this."""
INNERMOST = 0.1
"""Å; or here."""
MAX_ELEMENTS = 8
TABLE = Tolerance(1e-2, 1e-4, 1e-6, f"cubic splines through {POINTS} points")


def write_native(
    component: AbstractPotentialComponent, potential: AbstractPotential, folder: Path
) -> Route | None:
    """Write `native.in` and the parameter file, where LAMMPS has the form; `None` elsewhere."""
    species = potential.traits.species
    if not isinstance(potential, NativePotential) or species is None:
        return None
    if isinstance(component, StillingerWeber):
        return _stillinger_weber(component, species, folder)
    if isinstance(potential.module, SnapModule):
        return _snap(component, species, folder)
    pairwise = _is_pairwise(potential.module) and not any(potential.reference_energies.values())
    if pairwise and len(species) <= MAX_ELEMENTS:
        exact = in_float64(component).load()
        assert isinstance(exact, NativePotential)
        return _tables(exact, species, folder)
    return None


def _input(species: tuple[int, ...], lines: list[str]) -> bytes:
    """`native.in`; the variable lets it be included from elsewhere (-var karat FOLDER)."""
    names = ", ".join(f"{i + 1} {chemical_symbols[z]}" for i, z in enumerate(species))
    head = [f"# units metal; atom types: {names}", "variable karat index ."]
    return "\n".join([*head, *lines, ""]).encode()


def _stillinger_weber(component: StillingerWeber, species: tuple[int, ...], folder: Path) -> Route:
    terms = PRESETS[component.preset] if component.preset is not None else component.terms
    assert terms is not None
    known = {
        tuple(atomic_number(symbol, "terms") for symbol in key.split("-")): term
        for key, term in terms.items()
    }
    lines = ["# epsilon sigma a lambda gamma costheta0 A B p q tol; metal units"]
    for triple in itertools.product(species, repeat=3):
        term: Any = known.get(triple) or known[triple[0], triple[2], triple[1]]
        numbers = (
            *(term.epsilon_ev, term.sigma_angstrom, term.a, term.lambda3, term.gamma),
            *(term.cos_theta0, term.A, term.B, term.p, term.q, 0.0),
        )
        symbols = " ".join(chemical_symbols[z] for z in triple)
        lines.append(f"{symbols} {' '.join(repr(float(number)) for number in numbers)}")
    write_atomic(folder / "potential.sw", "\n".join([*lines, ""]).encode())
    symbols = " ".join(chemical_symbols[z] for z in species)
    commands = ["pair_style sw", f"pair_coeff * * ${{karat}}/potential.sw {symbols}"]
    write_atomic(folder / INPUT, _input(species, commands))
    return Route("pair_style sw", (INPUT, "potential.sw"), EXACT)


def _snap(component: AbstractPotentialComponent, species: tuple[int, ...], folder: Path) -> Route:
    exact = in_float64(component).load()
    assert isinstance(exact, NativePotential)
    files, commands = lammps_snap(exact, "${karat}")
    for name, text in files.items():
        write_atomic(folder / name, text.encode())
    write_atomic(folder / INPUT, _input(species, commands))
    return Route("pair_style snap", (INPUT, *files), EXACT)


def _is_pairwise(module: AbstractNativePotential) -> bool:
    from karat.potentials.analytic.buckingham import BuckinghamModule
    from karat.potentials.analytic.lennard_jones import LennardJonesModule
    from karat.potentials.analytic.morse import MorseModule
    from karat.potentials.analytic.zbl import ZblModule
    from karat.potentials.sum_potential import SumModule

    if isinstance(module, SumModule):
        return all(_is_pairwise(term) for term in module.terms)
    return isinstance(module, BuckinghamModule | LennardJonesModule | MorseModule | ZblModule)


def _tables(potential: NativePotential, species: tuple[int, ...], folder: Path) -> Route:
    cutoff = potential.module.cutoff
    sections = ["# r (Å), energy (eV), force (eV/Å); made by karat"]
    commands = [f"pair_style table spline {POINTS}"]
    for i, j in itertools.combinations_with_replacement(range(len(species)), 2):
        keyword = f"{chemical_symbols[species[i]]}-{chemical_symbols[species[j]]}"
        distance, energy, force = _table(potential, (species[i], species[j]))
        sections += ["", keyword, f"N {POINTS} RSQ {distance[0]!r} {cutoff!r}", ""]
        sections += [
            f"{k + 1} {float(r)!r} {float(e)!r} {float(f)!r}"
            for k, (r, e, f) in enumerate(zip(distance, energy, force))
        ]
        commands.append(
            f"pair_coeff {i + 1} {j + 1} ${{karat}}/potential.table {keyword} {cutoff!r}"
        )
    write_atomic(folder / "potential.table", "\n".join([*sections, ""]).encode())
    write_atomic(folder / INPUT, _input(species, commands))
    return Route("pair_style table", (INPUT, "potential.table"), TABLE)


def _table(
    potential: NativePotential, pair: tuple[int, int]
) -> tuple[list[float], np.ndarray, np.ndarray]:
    """Distances (Å), energies (eV) and forces (eV/Å, repulsion positive) of two atoms."""
    cutoff = potential.module.cutoff
    coarse = np.linspace(INNERMOST, 0.99 * cutoff, 500)
    high = np.flatnonzero(_dimers(potential, pair, coarse)[0] > WALL_EV)
    inner = float(coarse[high[-1]]) if len(high) else INNERMOST
    distance = np.sqrt(np.linspace(inner**2, cutoff**2, POINTS))
    distance[0], distance[-1] = inner, cutoff
    energy, force = _dimers(potential, pair, distance)
    return distance.tolist(), energy, force


def _dimers(
    potential: NativePotential, pair: tuple[int, int], distances: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Energies (eV) and forces (eV/Å, repulsion positive), in one batch."""
    count, dtype = len(distances), potential.dtype
    atoms = np.arange(2 * count)
    vectors = np.zeros((2 * count, 3), dtype)
    vectors[0::2, 0], vectors[1::2, 0] = distances, -distances
    arrays = {
        "numbers": np.append(np.tile(pair, count), 0).astype(np.int32),
        "system": np.append(atoms // 2, count).astype(np.int32),
        "centers": atoms.astype(np.int32),
        "neighbours": (atoms ^ 1).astype(np.int32),
        "vectors": vectors,
        "pair_mask": np.ones(2 * count, bool),
        "triplets": None,
        "triplet_mask": None,
        "volume": np.ones(count + 1, dtype),
    }
    derived = derive_compiled(potential.module, Batch(**jax.device_put(arrays)))
    return np.asarray(derived.energies)[:count], np.asarray(derived.forces)[1:-1:2, 0]

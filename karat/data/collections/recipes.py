"""Recipes of published sets, as converted to extended XYZ and CSV.

Layouts, units and what was checked in them: the README beside the files. A set that its authors
give no uncertainty for has none here.

Checked: tests/data/collections/test_recipes.py.
"""

from collections import defaultdict
from collections.abc import Callable
from functools import partial
from pathlib import Path

from karat.core.units import KCAL_PER_MOL
from karat.data.collections.collection import Collection, Energy, Task, parse_terms
from karat.data.collections.recipe import (
    Found,
    found_in,
    interaction,
    relative,
    rows_of,
)
from karat.structures.structure import Structure

GSCDB_CATEGORIES: dict[str, tuple[Task, str]] = {
    "conformer": ("conformers", "conformers"),
    "isomerisation": ("isomers", "isomers"),
    "noncovalent": ("interactions", "noncovalent"),
    "barrier": ("barriers", "barriers"),
    "thermochemistry": ("reactions", "thermochemistry"),
}
CLASSES = {"HB": "hydrogen bond", "DD": "dispersion", "MX": "mixed"}
INCOMPLETE_BARRIERS = frozenset({"BHPERI_6"})
"""The reactants in the files have not the atoms of the transition state."""
UNUSABLE_DIATOMICS = frozenset({"Ho", "Er", "Tm", "Pr", "Dy", "Pm", "Tb", "Sm"})
"""Their curves jump by 0.6 eV and more: the minimum over electronic branches is no one surface."""


def s66x8(folder: Path) -> Collection:
    """Dissociation curves of 33 dimers; the coordinate is the factor of the distance."""
    structures: dict[str, Structure] = {}
    energies = []
    for one in found_in(folder / "s66x8.xyz.gz"):
        group = f"{int(one.info['system_id']):02d} {one.text('system')}"
        name = f"{group} {one.text('distance_factor')}"
        charges = int(one.info["charge_A"]), int(one.info["charge_B"])
        parts, terms = interaction(name, one.structure, int(one.info["natoms_A"]), charges)
        structures |= parts
        kind = CLASSES[one.text("config_type").removeprefix("S66x8_")]
        reference = float(one.info["E_int_kcal_2016"]) * KCAL_PER_MOL
        place = float(one.info["distance_factor"])
        energies.append(Energy(name, reference, terms, kind, group, place))
    return Collection(structures, tuple(energies))


def protein_ligand(folder: Path, stem: str) -> Collection:
    """Rigid interaction energies; energies of one complex are a group."""
    structures: dict[str, Structure] = {}
    energies = []
    for one in found_in(folder / f"{stem}.xyz.gz"):
        name = one.text("label")
        charges = int(one.info["charge_A"]), int(one.info["charge_B"])
        parts, terms = interaction(name, one.structure, int(one.info["natoms_A"]), charges)
        structures |= parts
        kind = "charged" if any(charges) else "neutral"
        reference = float(one.info["E_int_kcal"]) * KCAL_PER_MOL
        energies.append(Energy(name, reference, terms, kind, one.text("complex")))
    return Collection(structures, tuple(energies))


def s30l(folder: Path) -> Collection:
    """Association energies with host and guest relaxed by themselves."""
    structures: dict[str, Structure] = {}
    energies = []
    for one in found_in(folder / "s30l.xyz.gz"):
        system = f"{int(one.info['system']):02d}"
        structures[f"{system} {one.text('role')}"] = one.structure
        if one.info["role"] == "complex":
            terms = {f"{system} complex": 1.0, f"{system} host": -1.0, f"{system} guest": -1.0}
            reference = float(one.info["E_assoc_kcal"]) * KCAL_PER_MOL
            energies.append(Energy(system, reference, terms))
    kinds = {e.name: any(structures[name].charge for name in e.terms) for e in energies}
    named = [
        Energy(e.name, e.reference, e.terms, "charged" if kinds[e.name] else "neutral")
        for e in energies
    ]
    return Collection(structures, tuple(named))


def water_dimers(folder: Path) -> Collection:
    """Two-body energies of dimers at 300 K."""
    structures: dict[str, Structure] = {}
    energies = []
    for number, one in enumerate(found_in(folder / "dimers_ccsdt_avdz.xyz.gz")):
        name = f"dimer {number:03d}"
        parts, terms = interaction(name, one.structure, int(one.info["natoms_A"]), (0, 0))
        structures |= parts
        reference = float(one.info["E_2body_CCSDT_AVDZ"])
        energies.append(Energy(name, reference, terms, one.text("config_type")))
    return Collection(structures, tuple(energies))


def gscdb138(folder: Path, category: str) -> Collection:
    """One category; the kind is the name of the original set."""
    structures = {one.text("name"): one.structure for one in found_in(folder / "structures.xyz.gz")}
    energies = []
    for row in rows_of(folder / "reactions.csv"):
        if row["category"] == category:
            reference = float(row["ref_kcal_per_mol"]) * KCAL_PER_MOL
            terms = parse_terms(row["stoichiometry"], row["reaction"])
            energies.append(Energy(row["reaction"], reference, terms, row["set"]))
    return Collection(structures, tuple(energies))


def conformers_hutchison(folder: Path) -> Collection:
    """Conformers of drug-like molecules relative to the lowest of each."""

    def name(one: Found) -> str:
        return f"{one.text('molecule')} {one.text('label')}"

    return _by_group(
        folder / "conformers.xyz.gz",
        lambda one: one.text("molecule"),
        name,
        lambda one: one.text("config_type").removeprefix("conformer_"),
    )


def wiggle150(folder: Path) -> Collection:
    """Strained conformers relative to the relaxed one, the lowest."""
    path = folder / "wiggle150.xyz.gz"
    molecule = partial(Found.text, key="molecule")
    return _by_group(path, molecule, partial(Found.text, key="label"), molecule)


def torsions_openff59(folder: Path) -> Collection:
    """Torsion scans relative to the lowest point of each; the coordinate is in degrees."""
    path = folder / "torsions.xyz.gz"
    return _by_group(
        path,
        lambda one: f"torsion {one.text('torsion_id')}",
        lambda one: f"torsion {one.text('torsion_id')} at {one.text('dihedral_deg')}",
        lambda one: "charged" if one.structure.charge else "neutral",
        lambda one: float(one.info["dihedral_deg"]),
    )


def diatomics_pbe(folder: Path) -> Collection:
    """Curves of homonuclear pairs relative to the farthest point; the coordinate is in Å."""
    return _by_group(
        folder / "diatomics_pbe.xyz.gz",
        lambda one: one.text("pair"),
        lambda one: f"{one.text('pair')} {one.text('distance')}",
        lambda one: "",
        lambda one: float(one.info["distance"]),
        lambda one: one.text("pair").split("-")[0] not in UNUSABLE_DIATOMICS,
        base=-1,
    )


def bh28(folder: Path) -> Collection:
    """Barriers; the kind is the class of the reaction."""
    structures = {one.text("label"): one.structure for one in found_in(folder / "bh28.xyz.gz")}
    energies = []
    for row in rows_of(folder / "bh28.csv"):
        minima = parse_terms(row["minima"], row["reaction"])
        terms = {row["ts"]: 1.0} | {name: -factor for name, factor in minima.items()}
        # the table names reactions that are kept apart, too
        if set(terms) <= set(structures) and row["reaction"] not in INCOMPLETE_BARRIERS:
            kind = row["reaction"].split("_")[0]
            energies.append(Energy(row["reaction"], float(row["barrier_eV"]), terms, kind))
    return Collection(structures, tuple(energies))


Word = Callable[[Found], str]


def _by_group(
    path: Path,
    group: Word,
    name: Word,
    kind: Word,
    coordinate: Callable[[Found], float] | None = None,
    wanted: Callable[[Found], bool] = lambda one: True,
    base: int | None = None,
) -> Collection:
    """Total energies of structures, relative within each group."""
    structures: dict[str, Structure] = {}
    members: dict[str, list[Found]] = defaultdict(list)
    for one in found_in(path):
        if wanted(one):
            structures[name(one)] = one.structure
            members[group(one)].append(one)
    energies: list[Energy] = []
    for label, mine in members.items():
        totals = [(name(one), float(one.info["REF_energy"])) for one in mine]
        places = None if coordinate is None else [coordinate(one) for one in mine]
        zero = None if base is None else base % len(mine)
        energies += relative(totals, label, kind(mine[0]), places, zero)
    return Collection(structures, tuple(energies))

"""Equation of state, elastic tensor and phonons of crystals.

Checked: tests/campaign/test_compute_properties.py.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from karat.campaign.compute.points import at_rest
from karat.campaign.compute.protocol import (
    AbstractProperty,
    Case,
    Desk,
    Found,
    Source,
    Value,
    defaults,
    each,
    one_per_structure,
    positive,
)
from karat.core.errors import BadInput, KaratError
from karat.potentials.protocol import AbstractPotential, check_suitable
from karat.results.figure import Figure, Series
from karat.simulation.batched_relax import CellFreedom, RelaxSettings
from karat.simulation.elastic import elastic_tensor
from karat.simulation.equation_of_state import EquationOfState, equation_of_state
from karat.simulation.phonons import Phonons, phonons, thermal_properties
from karat.simulation.strain import require_crystal
from karat.structures.labels import Quantity
from karat.structures.structure import Structure

WITH_STRESS: tuple[Quantity, ...] = ("energy", "forces", "stress")
_EOS, _ELASTIC, _PHONONS = (
    defaults(function) for function in (equation_of_state, elastic_tensor, phonons)
)


@dataclass(frozen=True)
class Eos(AbstractProperty):
    """Energy against volume, with Birch-Murnaghan and Vinet fits.

    Attributes:
        relax_first: relax atoms and cell before (symmetry kept), so that the volumes lie around
            the potential's own minimum; needs stress.
        volume_span: fraction of the volume to either side.
        volumes: how many.
        relax_shape: let the cell's shape relax at each volume; exact without for cubic crystals.
        force_tolerance: eV/Å.
        stress_tolerance_gpa: GPa, of the shape.
        max_steps: of a relaxation.
        symmetry_tolerance: Å, for finding the space group of the first relaxation.
    """

    relax_first: bool = True
    volume_span: float = _EOS["volume_span"]
    volumes: int = _EOS["volumes"]
    relax_shape: bool = _EOS["relax_shape"]
    force_tolerance: float = _EOS["force_tolerance"]
    stress_tolerance_gpa: float = _EOS["stress_tolerance_gpa"]
    max_steps: int = _EOS["max_steps"]
    symmetry_tolerance: float = RelaxSettings.symmetry_tolerance

    version: ClassVar[int] = 1
    columns: ClassVar[tuple[str, ...]] = (
        *("volume_per_atom", "energy_per_atom", "bulk_modulus", "bulk_modulus_derivative"),
    )

    def __post_init__(self) -> None:
        positive(self, "eos", "force_tolerance", "stress_tolerance_gpa", "max_steps")
        if not (0 < self.volume_span < 0.5 and self.volumes >= 6):
            raise BadInput(
                f"eos: volume_span {self.volume_span} must lie between 0 and 0.5, and volumes "
                f"{self.volumes} be 6 or more."
            )

    def cases(self, sources: Sequence[Source]) -> tuple[Case, ...]:
        return one_per_structure(sources)

    def check(self, potential: AbstractPotential, case: Case) -> None:
        require_crystal(case.structure, "an equation of state")
        stress = self.relax_first or self.relax_shape
        try:
            check_suitable(potential, case.structure, WITH_STRESS if stress else WITH_STRESS[:2])
        except BadInput as error:
            if "stress" in potential.traits.quantities or not stress:
                raise
            raise type(error)(
                f"{error} Without stress: --set relax_first=false, with relax_shape off."
            ) from error

    def measure(
        self, potential: AbstractPotential, cases: Sequence[Case], desk: Desk
    ) -> list[Found | KaratError]:
        def one(structure: Structure) -> Found:
            if self.relax_first:
                structure = at_rest(
                    potential,
                    structure,
                    self.force_tolerance,
                    self.max_steps,
                    self.symmetry_tolerance,
                )
            curve = equation_of_state(
                potential,
                structure,
                self.volume_span,
                self.volumes,
                self.relax_shape,
                self.force_tolerance,
                self.stress_tolerance_gpa,
                self.max_steps,
            )
            return _eos(curve, len(structure))

        return each(one, cases)


def _eos(curve: EquationOfState, atoms: int) -> Found:
    """Values of the Birch-Murnaghan fit carry no prefix, those of Vinet's `vinet_`."""
    values = [
        Value("volumes", curve.volumes, "Å³", ("volumes",), "volumes of the cell"),
        Value("energies", curve.energies, "eV", ("volumes",), "energies of the cell"),
    ]
    for prefix, fit in (("", curve.birch_murnaghan), ("vinet_", curve.vinet)):
        for name, number, unit in (
            ("volume", fit.volume, "Å³"),
            ("volume_per_atom", fit.volume / atoms, "Å³"),
            ("energy", fit.energy, "eV"),
            ("energy_per_atom", fit.energy / atoms, "eV"),
            ("bulk_modulus", fit.bulk_modulus_gpa, "GPa"),
            ("bulk_modulus_derivative", fit.bulk_modulus_derivative, ""),
            ("volume_error", fit.volume_error, "Å³"),
            ("energy_error", fit.energy_error, "eV"),
            ("bulk_modulus_error", fit.bulk_modulus_gpa_error, "GPa"),
            ("bulk_modulus_derivative_error", fit.bulk_modulus_derivative_error, ""),
            ("rms_residual", fit.rms_residual, "eV"),
        ):
            values.append(Value(prefix + name, np.array(number), unit))
    fine = np.linspace(curve.volumes[0], curve.volumes[-1], 101)
    lowest = curve.birch_murnaghan.energy
    drawn = [
        Series(
            "Birch–Murnaghan",
            tuple((fine / atoms).tolist()),
            tuple(((curve.birch_murnaghan.energies(fine) - lowest) / atoms).tolist()),
        ),
        Series(
            "computed",
            tuple((curve.volumes / atoms).tolist()),
            tuple(((curve.energies - lowest) / atoms).tolist()),
        ),
    ]
    figure = Figure(
        "lines",
        "eos",
        "Equation of state",
        "volume, Å³/atom",
        "energy above the minimum, eV/atom",
        tuple(drawn),
    )
    roles = {f"volume {place}": one for place, one in enumerate(curve.structures)}
    return Found(tuple(values), roles, figures=(figure,))


@dataclass(frozen=True)
class Elastic(AbstractProperty):
    """Elastic tensor from stresses of strained crystals, and moduli of a polycrystal.

    Attributes:
        strain: largest applied.
        relax_first: relax atoms and cell before, symmetry kept.
        relax_ions: let the ions follow the strain; else "clamped" constants.
        force_tolerance: eV/Å; 1e-4 leaves 0.1 GPa in C44 of silicon, 1e-5 0.01.
        max_steps: of a relaxation.
        symmetry_tolerance: Å, for finding the space group.
    """

    strain: float = _ELASTIC["strain"]
    relax_first: bool = _ELASTIC["relax_first"]
    relax_ions: bool = _ELASTIC["relax_ions"]
    force_tolerance: float = _ELASTIC["force_tolerance"]
    max_steps: int = _ELASTIC["max_steps"]
    symmetry_tolerance: float = _ELASTIC["symmetry_tolerance"]

    version: ClassVar[int] = 1
    columns: ClassVar[tuple[str, ...]] = (
        *("bulk_hill", "shear_hill", "young", "poisson", "universal_anisotropy"),
        *("lowest_eigenvalue", "stable"),
    )

    def __post_init__(self) -> None:
        positive(self, "elastic", "strain", "force_tolerance", "max_steps", "symmetry_tolerance")
        if self.strain > 0.05:
            raise BadInput(f"elastic.strain {self.strain} must be at most 0.05.")

    def cases(self, sources: Sequence[Source]) -> tuple[Case, ...]:
        return one_per_structure(sources)

    def check(self, potential: AbstractPotential, case: Case) -> None:
        require_crystal(case.structure, "an elastic tensor")
        check_suitable(potential, case.structure, WITH_STRESS)

    def measure(
        self, potential: AbstractPotential, cases: Sequence[Case], desk: Desk
    ) -> list[Found | KaratError]:
        def one(structure: Structure) -> Found:
            return self._found(potential, structure)

        return each(one, cases)

    def _found(self, potential: AbstractPotential, structure: Structure) -> Found:
        tensor = elastic_tensor(
            potential,
            structure,
            self.strain,
            self.relax_first,
            self.relax_ions,
            self.force_tolerance,
            self.max_steps,
            self.symmetry_tolerance,
        )
        values = [
            Value(
                "stiffness",
                tensor.stiffness_gpa,
                "GPa",
                ("voigt", "voigt"),
                "xx, yy, zz, yz, xz, xy in the axes of the given positions",
            ),
            Value("error", np.array(tensor.error_gpa), "GPa", title="bound of the error"),
            Value("symmetry_misfit", np.array(tensor.symmetry_misfit_gpa), "GPa"),
            Value("stable", np.array(tensor.stable), title="Born stability"),
            Value("lowest_eigenvalue", np.array(tensor.lowest_eigenvalue_gpa), "GPa"),
            Value("space_group", np.array(tensor.space_group[0]), title="number of the group"),
        ]
        notes = {"space_group": tensor.space_group[1]}
        if tensor.moduli is None:
            notes["moduli"] = "none: the crystal is not stable"
        else:
            for name, number in vars(tensor.moduli).items():
                unit = "" if name in ("poisson", "universal_anisotropy") else "GPa"
                values.append(Value(name.removesuffix("_gpa"), np.array(number), unit))
        return Found(tuple(values), {"at rest": tensor.structure}, notes=notes)


@dataclass(frozen=True)
class PhononBands(AbstractProperty):
    """Phonons: bands, density of states, free energy, entropy and heat capacity.

    Attributes:
        supercell: repeats of the given cell; enlarge until frequencies stand still.
        displacement: Å.
        mesh: of q-points, for density of states and thermal properties.
        path_points: along the path of high symmetry.
        relax_first: what of the cell is relaxed with the atoms before (fixed, shape, free),
            symmetry kept; null takes the crystal as it is.
        force_tolerance: eV/Å, of that relaxation.
        symmetry_tolerance: Å, for finding the space group.
        temperatures_k: K, of the thermal properties.
    """

    supercell: tuple[int, int, int] = _PHONONS["supercell"]
    displacement: float = _PHONONS["displacement"]
    mesh: tuple[int, int, int] = _PHONONS["mesh"]
    path_points: int = _PHONONS["path_points"]
    relax_first: CellFreedom | None = _PHONONS["relax_first"]
    force_tolerance: float = _PHONONS["force_tolerance"]
    symmetry_tolerance: float = _PHONONS["symmetry_tolerance"]
    temperatures_k: tuple[float, ...] = (0.0, 100.0, 200.0, 300.0, 400.0, 500.0)

    version: ClassVar[int] = 1
    columns: ClassVar[tuple[str, ...]] = (
        *("lowest_frequency", "highest_frequency", "imaginary_fraction", "zero_point_energy"),
    )

    def __post_init__(self) -> None:
        positive(self, "phonons", "supercell", "displacement", "mesh", "path_points")
        positive(self, "phonons", "force_tolerance", "symmetry_tolerance")
        if not self.temperatures_k or min(self.temperatures_k) < 0:
            raise BadInput(f"phonons.temperatures_k {self.temperatures_k} must be 0 K or more.")

    def cases(self, sources: Sequence[Source]) -> tuple[Case, ...]:
        return one_per_structure(sources)

    def check(self, potential: AbstractPotential, case: Case) -> None:
        require_crystal(case.structure, "phonons")
        moves = self.relax_first not in (None, "fixed")
        check_suitable(potential, case.structure, WITH_STRESS if moves else WITH_STRESS[:2])

    def measure(
        self, potential: AbstractPotential, cases: Sequence[Case], desk: Desk
    ) -> list[Found | KaratError]:
        def one(structure: Structure) -> Found:
            found = phonons(
                potential,
                structure,
                self.supercell,
                self.displacement,
                self.mesh,
                self.path_points,
                self.relax_first,
                self.force_tolerance,
                self.symmetry_tolerance,
            )
            return _phonons(found, self.temperatures_k)

        return each(one, cases)


def _phonons(found: Phonons, temperatures_k: Sequence[float]) -> Found:
    bands = found.bands
    highest = max(found.frequencies_thz.max(), bands.frequencies_thz.max())
    spectrum = ("bins",)
    values = [
        Value("lowest_frequency", np.array(found.lowest_thz), "THz"),
        Value("highest_frequency", np.array(highest), "THz"),
        Value("imaginary_fraction", np.array(found.imaginary_fraction)),
        Value("max_force", np.array(found.max_force), "eV/Å", title="left before displacing"),
        Value("displacements", np.array(found.displacements)),
        Value("qpoints", found.qpoints, "reciprocal vectors", ("points", "xyz")),
        Value("weights", found.weights, "", ("points",)),
        Value("frequencies", found.frequencies_thz, "THz", ("points", "bands")),
        Value("dos_frequencies", found.dos_frequencies_thz, "THz", spectrum),
        Value("dos", found.dos_per_thz, "1/THz", spectrum, "states of a primitive cell"),
        Value("path_qpoints", bands.qpoints, "reciprocal vectors", ("path", "xyz")),
        Value("path_distances", bands.distances, "1/Å", ("path",)),
        Value("path_frequencies", bands.frequencies_thz, "THz", ("path", "bands")),
        Value("path_label_distances", bands.label_distances, "1/Å", ("labels",)),
        Value("force_constants", found.force_constants, "eV/Å²", ("atoms", "atoms", "xyz", "xyz")),
    ]
    notes = {"path_labels": " ".join(bands.labels)}
    if found.imaginary_fraction > 0:
        notes["thermal"] = "none: imaginary modes, so that there is no harmonic free energy"
    else:
        values += _thermal(found, temperatures_k)
    roles = {"displaced": found.structure, "primitive": found.primitive}
    return Found(tuple(values), roles, figures=_phonon_figures(found), notes=notes)


def _thermal(found: Phonons, temperatures_k: Sequence[float]) -> list[Value]:
    thermal = thermal_properties(found, temperatures_k)
    axes, mole = ("temperatures",), "of a primitive cell, constant volume"
    return [
        Value("temperatures", thermal.temperatures_k, "K", axes),
        Value("free_energy", thermal.free_energy, "eV", axes, "Helmholtz, of a primitive cell"),
        Value("entropy", thermal.entropy_j_per_mol_k, "J/mol/K", axes, mole),
        Value("heat_capacity", thermal.heat_capacity_j_per_mol_k, "J/mol/K", axes, mole),
        Value("zero_point_energy", np.array(thermal.zero_point_energy), "eV"),
    ]


def _phonon_figures(found: Phonons) -> tuple[Figure, ...]:
    bands = found.bands
    path = tuple(bands.distances.tolist())
    stops = ", ".join(
        f"{label} {place:.3f}" for label, place in zip(bands.labels, bands.label_distances)
    )
    drawn = tuple(
        Series(f"band {index + 1}", path, tuple(column.tolist()))
        for index, column in enumerate(bands.frequencies_thz.T)
    )
    states = Series(
        "states",
        tuple(found.dos_frequencies_thz.tolist()),
        tuple(found.dos_per_thz.tolist()),
    )
    return (
        Figure(
            "lines",
            "phonon-bands",
            "Phonon bands",
            "path, 1/Å",
            "frequency, THz",
            drawn,
            note=f"Special points: {stops}.",
            extra={"one_look": True},
        ),
        Figure("lines", "phonon-dos", "Density of states", "frequency, THz", "1/THz", (states,)),
    )

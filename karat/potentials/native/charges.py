"""`charges`: learned charges and their screened Coulomb energy; a term for ions in `sum`.

Sources: Fennell, Gezelter, J. Chem. Phys. 124, 234104 (2006); Metcalf, Jiang, Spronk, Cheney,
Sherrill, J. Chem. Inf. Model. 61, 115 (2021).
Checked: tests/potentials/native/test_charges.py.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, PRNGKeyArray

from karat.core.errors import BadInput
from karat.data.dataset import Dataset
from karat.potentials.model import Card
from karat.potentials.native import bounds
from karat.potentials.native.architecture import AbstractArchitecture, ParameterGroup
from karat.potentials.native.bpnn import AngularGrid, Bpnn, BpnnModule, RadialGrid
from karat.potentials.native.charges_module import ChargesModule, ScreenedCoulomb
from karat.potentials.native.drawing import drawn, in_shape
from karat.potentials.native_protocol import AbstractNativePotential

CONTINUITY = 1
"""Energy and its slope vanish at the cut-off by the shifted force, the curvature does not."""


@dataclass(frozen=True)
class Charges(AbstractArchitecture):
    """Coulomb energy of Gaussian charges that neighbours transfer to each other.

    q_i = Σ_j w(r_ij) (x_i − x_j), where x comes from a small network on symmetry functions
    (`bpnn`), one for each element, and w from a few learned numbers for each pair of elements.
    What an atom gains its neighbour loses, as in bond-charge increments (Halgren, J. Comput. Chem.
    17, 520 (1996)) and electron-passing networks (Metcalf et al.), so charges of each system add
    up to zero: charged molecules are out of scope, and refused in training data. The form of w and
    x is karat's own. Charges are learned from energies and forces; labels of charges are not used.

    The sum over pairs ends at the cut-off by damping and shifted force (`ScreenedCoulomb`) instead
    of an Ewald sum. That is near the Ewald energy where charges are locally neutral (salts,
    liquids, molecules); it leaves out what charges do to each other farther apart, as two separated
    ions, dipoles of slabs and long-range polar order. Nor is there charge transfer beyond
    `environment_cutoff_angstrom`. It is a long-range term for a sum with a model of short range
    (`sum`), and a poor model by itself. An atom's energy depends on atoms within the cut-off and
    two radii of environments.

    Attributes:
        cutoff_angstrom: R, where the Coulomb energy ends.
        damping_per_angstrom: α; 0 for shifted force without damping. The larger, the sooner the
            energy of a crystal converges with R, and to the farther from its Ewald energy.
        smearing_angstrom: σ, width of the charges.
        environment_cutoff_angstrom: of symmetry functions and of transfers.
        radial, angular: grids of symmetry functions, see `bpnn`.
        hidden: widths of the hidden layers of each element's network.
        transfer_functions: of the distance, in w.
    """

    card: ClassVar[Card | None] = Card(
        paper="Fennell, Gezelter, J. Chem. Phys. 124, 234104 (2006)",
        symmetry="invariant",
        reach="layers",
        cost="10 µs",
        tested="tests/potentials/native/test_charges.py, Madelung energy of NaCl",
    )

    cutoff_angstrom: float = 8.0
    damping_per_angstrom: float = 0.2
    smearing_angstrom: float = 1.0
    environment_cutoff_angstrom: float = 5.0
    radial: RadialGrid = field(default_factory=lambda: RadialGrid(count=8))
    angular: AngularGrid = field(default_factory=lambda: AngularGrid(count=2, zetas=(1,)))
    hidden: tuple[int, ...] = (32,)
    transfer_functions: int = 8

    def __post_init__(self) -> None:
        bounds.require_cutoff("charges", self.cutoff_angstrom, 30.0)
        bounds.require_positive("charges", self, "smearing_angstrom", "environment_cutoff_angstrom")
        bounds.require_range("charges", self, {"transfer_functions": (2, 64)})
        if self.environment_cutoff_angstrom > self.cutoff_angstrom:
            raise BadInput(
                f"charges.environment_cutoff_angstrom {self.environment_cutoff_angstrom} must not "
                f"be above cutoff_angstrom {self.cutoff_angstrom}."
            )
        most = 1 / (math.sqrt(2.0) * self.smearing_angstrom)
        if not 0 <= self.damping_per_angstrom < most:
            raise BadInput(
                f"charges.damping_per_angstrom {self.damping_per_angstrom} must lie between 0 and "
                f"1/(√2 smearing_angstrom) = {most:.3g}."
            )
        self.environment()

    def environment(self) -> Bpnn:
        """What gives x.

        Raises:
            BadInput: a parameter outside its range.
        """
        return Bpnn(
            cutoff_angstrom=self.environment_cutoff_angstrom,
            cutoff_function="polynomial",
            radial=self.radial,
            angular=self.angular,
            hidden=self.hidden,
        )

    def completed(self, training: Dataset) -> "Charges":
        """Itself.

        Raises:
            BadInput: a structure with a charge.
        """
        for index, record in enumerate(training):
            if record.structure.charge:
                raise BadInput(
                    f"charges: training structure {record.name or index} "
                    f"({record.structure.formula}) has charge {record.structure.charge:+d}, and "
                    "learned charges add up to zero. Leave it out, or train without this term."
                )
        return self

    def search_space(self) -> Mapping[str, str]:
        return {"cutoff_angstrom": "6.0..10.0", "smearing_angstrom": "0.6..1.5"}

    def skeleton(self, species: tuple[int, ...], dtype: str) -> ChargesModule:
        environment = self.environment().skeleton(species, dtype)
        transfer = in_shape(lambda array: array(*self._transfer_shape(species)), dtype)
        module: ChargesModule = eqx.filter_eval_shape(self._module, environment, transfer)
        return module

    def initialise(self, dataset: Dataset, key: PRNGKeyArray, dtype: str) -> ChargesModule:
        first, second, third = jax.random.split(key, 3)
        environment = self.environment().initialise(dataset, first, dtype)
        kind, shape = np.dtype(dtype), environment.biases[-1].shape
        # x has no unit: labels say nothing about its size; elements begin with different ones, for
        # charges that are all zero would stay so: the energy is quadratic in them
        environment = eqx.tree_at(
            lambda m: (m.energy_scale, m.biases[-1]),
            environment,
            (jnp.ones((), kind), jax.random.normal(third, shape, kind)),
        )
        shape = self._transfer_shape(dataset.species)
        return self._module(environment, drawn(lambda array: array(*shape), second, dtype))

    def _transfer_shape(self, species: tuple[int, ...]) -> tuple[int, int]:
        return len(species) * (len(species) + 1) // 2, self.transfer_functions

    def _module(self, environment: BpnnModule, transfer: Array) -> ChargesModule:
        coulomb = ScreenedCoulomb(
            float(self.cutoff_angstrom),
            float(self.damping_per_angstrom),
            float(self.smearing_angstrom),
        )
        return ChargesModule(
            environment=environment,
            transfer=transfer,
            coulomb=coulomb,
            reach=float(self.environment_cutoff_angstrom),
            species=environment.species,
            cutoff=coulomb.cutoff,
            continuity=min(CONTINUITY, environment.continuity),
            needs_triplets=environment.needs_triplets,
        )

    def trainable(self, module: AbstractNativePotential) -> Any:
        assert isinstance(module, ChargesModule)
        spec = jax.tree.map(eqx.is_inexact_array, module)
        inner = self.environment().trainable(module.environment)
        return eqx.tree_at(lambda m: m.environment, spec, inner)

    def heads(self, module: AbstractNativePotential) -> Any:
        """The last layer of each element's network."""
        assert isinstance(module, ChargesModule)
        spec = jax.tree.map(lambda _: False, module)
        inner = self.environment().heads(module.environment)
        return eqx.tree_at(lambda m: m.environment, spec, inner)

    def parameter_groups(self, module: AbstractNativePotential) -> Mapping[str, ParameterGroup]:
        """Those of the networks, and ``transfer``."""
        assert isinstance(module, ChargesModule)
        inner = self.environment().parameter_groups(module.environment)
        groups = {
            label: ParameterGroup(
                tuple(f"environment.{name}" for name in group.arrays),
                tuple(f"environment.{name}" for name in group.matrices),
                group.late,
            )
            for label, group in inner.items()
        }
        return groups | {"transfer": ParameterGroup(("transfer",), (), True)}

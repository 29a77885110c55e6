"""`gap`: the Gaussian approximation potential with SOAP kernels and a two-body term.

Checked: tests/potentials/linear/test_gap.py, test_gap_fit.py; the density against dscribe in
test_soap.py.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import ClassVar

import equinox as eqx
import jax
import numpy as np
from ase.data import chemical_symbols
from jaxtyping import Array

from karat.core.errors import BadInput, suggestion
from karat.data.dataset import Dataset
from karat.potentials.linear.gap_fit import fit_gap
from karat.potentials.linear.gap_module import GapKernel, GapModule, pair_rows
from karat.potentials.linear.least_squares import QUANTITIES, Kind
from karat.potentials.linear.model import ZblTerm
from karat.potentials.linear.posterior import Posterior, posterior_of
from karat.potentials.linear.soap import places
from karat.potentials.linear.soap_settings import SoapSettings, Switch
from karat.potentials.model import AbstractSolvedModel, Card, Solved, Stage
from karat.potentials.native.bounds import require_cutoff, require_positive, require_range
from karat.potentials.native_protocol import AbstractNativePotential
from karat.potentials.precision import require

GAP_CARD = Card(
    paper="Bartók et al., Phys. Rev. Lett. 104, 136403 (2010)",
    symmetry="invariant",
    reach="cut-off",
    cost="100 µs",
    tested="tests/potentials/linear/, SOAP against dscribe",
)
MAX_POINTS = 20_000


@dataclass(frozen=True)
class Sigmas:
    """Noises of the labels, as gap_fit's ``default_sigma``; `None` leaves the quantity out.

    Attributes:
        energy: eV; of a structure of N atoms √N times that.
        force: of a component, eV/Å.
        virial: eV; of a structure of N atoms (its volume times a component of its stress) √N
            times that.
    """

    energy: float | None = 0.001
    force: float | None = 0.1
    virial: float | None = 0.05

    def __post_init__(self) -> None:
        require_positive("gap.sigma", self, "energy", "force", "virial")

    def of(self, quantity: Kind) -> float | None:
        """Of a quantity of the equations."""
        return {"energy": self.energy, "forces": self.force, "stress": self.virial}[quantity]


@dataclass(frozen=True)
class Gap(AbstractSolvedModel):
    """A sparse Gaussian process of atomic energies: kernels between normalised SOAP power spectra,
    δ² (p · p')^ζ, and squared exponentials of the distances of pairs.

    Source: Bartók, Kondor & Csányi, Phys. Rev. B 87, 184115 (2013); Deringer et al., Chem. Rev.
    121, 10073 (2021).

    Attributes:
        cutoff_angstrom: of pairs and densities.
        transition_angstrom: the last part of the cut-off, in which neighbours lose their weight;
            `None`: all of it.
        switch: how they lose it; see `SoapSettings`.
        n_max, l_max, atom_sigma_angstrom, central_weight: of the density; see `SoapSettings`.
        zeta: ζ.
        delta: δ, eV.
        n_sparse: sparse points of each element.
        n_sparse_pairs: sparse distances of each pair of elements; 0 for no two-body term.
        pair_delta: of the two-body term, eV.
        pair_theta_angstrom: its length scale.
        sigma: noises of labels; the default, found by validation on mlearn's Mo and Si, leaves
            virials out.
        group_sigma: by kind of structure (``config_type`` of extended XYZ), as gap_fit's
            ``config_type_sigma``; `sigma` for kinds that are not named.
        jitter: added to the kernel matrix of the sparse points, relative to its diagonal.
        seed: of the choice of sparse points.
        use_validation: fit the final coefficients to training and validation structures; sparse
            points are of the former.
        uncertainty: keep the covariance, the active set and the ellipsoid in the file, for
            deviations and grades; takes features² numbers three times.
        zbl: repulsion underneath, or `None`.
    """

    card: ClassVar[Card | None] = GAP_CARD

    cutoff_angstrom: float = 5.0
    transition_angstrom: float | None = None
    switch: Switch = "polynomial"
    n_max: int = 8
    l_max: int = 6
    atom_sigma_angstrom: float = 0.5
    central_weight: float = 1.0
    zeta: int = 4
    delta: float = 1.0
    n_sparse: int = 300
    n_sparse_pairs: int = 20
    pair_delta: float = 1.0
    pair_theta_angstrom: float = 0.5
    sigma: Sigmas = field(default_factory=lambda: Sigmas(0.0005, 0.01, None))
    group_sigma: Mapping[str, Sigmas] = field(default_factory=dict)
    jitter: float = 1e-10
    seed: int = 0
    use_validation: bool = True
    uncertainty: bool = True
    zbl: ZblTerm | None = None

    def __post_init__(self) -> None:
        require_cutoff("gap", self.cutoff_angstrom)
        require_positive("gap", self, "delta", "pair_delta", "pair_theta_angstrom")
        bounds: dict[str, tuple[float, float]] = {
            "zeta": (1, 12),
            "n_sparse": (1, MAX_POINTS),
            "n_sparse_pairs": (0, 200),
            "jitter": (0.0, 1e-3),
            "seed": (0, 2**63 - 1),
        }
        require_range("gap", self, bounds)
        if self.switch == "none":
            raise BadInput("gap.switch: 'none' lets energies jump; take cosine or polynomial.")
        if self.sigma.energy is None and self.sigma.force is None:
            raise BadInput("gap.sigma: energy or force must be given.")
        _ = self.soap  # refuses what does not fit together

    @property
    def soap(self) -> SoapSettings:
        """Of the density."""
        transition = self.transition_angstrom
        return SoapSettings(
            cutoff=self.cutoff_angstrom,
            n_max=self.n_max,
            l_max=self.l_max,
            atom_sigma=self.atom_sigma_angstrom,
            switch=self.switch,
            transition=self.cutoff_angstrom if transition is None else transition,
            central_weight=self.central_weight,
        )

    @property
    def quantities(self) -> tuple[Kind, ...]:
        """That are fitted to."""
        return tuple(q for q in QUANTITIES if self.sigma.of(q) is not None)

    def sigma_of(self, quantity: Kind, kind: str) -> float | None:
        """Noise of a quantity of structures of a kind; `None` where it is left out."""
        return self.group_sigma.get(kind, self.sigma).of(quantity)

    def check_groups(self, known: Iterable[str]) -> None:
        """Refuse noises of kinds that no structure has.

        Raises:
            BadInput: with the kinds that there are.
        """
        named = set(known) - {""}
        for name in self.group_sigma:
            if name not in named:
                hint = suggestion(name, named) if named else "The data name no kinds."
                raise BadInput(f"gap.group_sigma: no structure is of the kind '{name}'; {hint}")

    def search_space(self) -> Mapping[str, str]:
        low, high = 0.8 * self.cutoff_angstrom, 1.2 * self.cutoff_angstrom
        return {"cutoff_angstrom": f"{low:.3f}..{high:.3f}", "atom_sigma_angstrom": "0.3..0.7"}

    def module(
        self,
        species: tuple[int, ...],
        sparse: tuple[Array, ...],
        distances: Array,
        dtype: str,
    ) -> GapModule:
        """With these sparse points, all coefficients zero."""
        kernel = GapKernel(
            self.zeta, self.delta, self.pair_delta, self.pair_theta_angstrom, self.jitter
        )
        repulsion = None if self.zbl is None else self.zbl.module(species, dtype)
        require(dtype)
        return GapModule.zero(self.soap, kernel, species, sparse, distances, repulsion, dtype)

    def frame(
        self, species: tuple[int, ...], dtype: str, shapes: Mapping[str, tuple[int, ...]]
    ) -> AbstractNativePotential:
        kinds = int(pair_rows(len(species)).max()) + 1
        components = len(places(len(species), self.soap)[0])
        sparse = []
        for index, z in enumerate(species):
            shape = shapes.get(f"sparse.{index}", (0, 0))
            if len(shape) != 2 or shape != (self.n_sparse, components):
                raise BadInput(
                    f"the array 'sparse.{index}' has shape {shape}; {self.n_sparse} sparse points "
                    f"of {chemical_symbols[z]} have {(self.n_sparse, components)}. The file is "
                    "damaged; copy or train it again."
                )
            sparse.append(jax.ShapeDtypeStruct(shape, np.dtype(dtype)))
        distances = jax.ShapeDtypeStruct((kinds, self.n_sparse_pairs), np.dtype(dtype))
        framed = eqx.filter_eval_shape(
            lambda points, lengths: self.module(species, points, lengths, dtype),
            tuple(sparse),
            distances,
        )
        posterior = Posterior.frame(shapes, dtype, framed.coefficients.shape[0])
        made: GapModule = eqx.tree_at(lambda m: m.posterior, framed, posterior)
        return made

    def inspect(self, module: AbstractNativePotential, dtype: str) -> None:
        """Numbers must be such that a fit can give."""
        assert isinstance(module, GapModule)
        for name, array in {
            "coefficients": module.coefficients,
            "distances": module.distances,
            **{f"sparse.{index}": points for index, points in enumerate(module.sparse)},
        }.items():
            if not np.isfinite(np.asarray(array)).all():
                raise BadInput(f"the array '{name}' holds NaN or infinity.")
        for index, points in enumerate(module.sparse):
            lengths = np.linalg.norm(np.asarray(points, float), axis=1)
            if np.abs(lengths - 1).max() > 1e-5:
                raise BadInput(f"the array 'sparse.{index}' holds rows that are not of length 1.")
        posterior_of(module).check()

    def fit(
        self,
        train: Dataset,
        valid: Dataset,
        folder: Path,
        progress: Callable[[Stage], None] | None = None,
        fresh: bool = False,
    ) -> Solved:
        return fit_gap(self, train, valid, folder, progress or (lambda stage: None), fresh)


@dataclass(frozen=True)
class GapPaper(Gap):
    """Settings of the potentials of Zuo et al., J. Phys. Chem. A 124, 731 (2020), as far as their
    program gives them (materialsvirtuallab/mlearn: the example's ``soap.xml`` and the defaults of
    ``GAPotential.train``): no two-body term, 200 sparse points, noises 0.0005 eV and 0.1 eV/Å; the
    paper varied the cut-off from element to element. See `Gap`.

    Its radial functions are Gaussian type orbitals, those of gap_fit polynomials.
    """

    card: ClassVar[Card | None] = replace(GAP_CARD, cost="1 ms")
    transition_angstrom: float | None = 0.5
    switch: Switch = "cosine"
    l_max: int = 8
    n_sparse: int = 200
    n_sparse_pairs: int = 0
    sigma: Sigmas = field(default_factory=lambda: Sigmas(0.0005, 0.1, None))

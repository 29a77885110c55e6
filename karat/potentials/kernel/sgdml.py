"""`sgdml`: the symmetric gradient-domain kernel model of one molecule, solved exactly.

Source: Chmiela et al., Sci. Adv. 3, e1603015 (2017); Nat. Commun. 9, 3887 (2018).
Checked: tests/potentials/kernel/test_sgdml.py; benchmarks/molecule_kernel.py, against the package.
"""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal

import equinox as eqx
import jax.numpy as jnp
import numpy as np

import karat
from karat.core.components import digest as component_digest
from karat.core.errors import BadInput
from karat.core.hashing import digest_json
from karat.data.dataset import Dataset
from karat.potentials.kernel.geometry import internal_directions
from karat.potentials.kernel.packed import require_memory
from karat.potentials.kernel.permutations import check_group, close_group, find_permutations
from karat.potentials.kernel.sgdml_data import MoleculeData
from karat.potentials.kernel.sgdml_module import SgdmlModule
from karat.potentials.kernel.sgdml_solve import (
    as_potential,
    calibrate,
    energy_constant,
    force_rmse,
    solve,
    validation_errors,
)
from karat.potentials.kernel.sigma_search import SigmaTable, climb
from karat.potentials.model import AbstractSolvedModel, Card, Solved, Stage
from karat.potentials.native_protocol import AbstractNativePotential, NativePotential

GRID = (5.0, 7.0, 10.0, 14.0, 20.0, 28.0, 40.0, 56.0, 80.0, 112.0)
FIRST = 20.0


@dataclass(frozen=True)
class Sgdml(AbstractSolvedModel):
    """A Gaussian process on the forces of one molecule, with a Matérn kernel (ν = 5/2) on inverse
    distances, summed over the molecule's permutations.

    For one molecule near where it was sampled, no network of the same minutes is as accurate; for
    more atoms than about thirty or more structures than about a thousand it gets too large.

    Attributes:
        sigma: width of the kernel in 1/Å; `None` to search `sigma_grid` by the RMSE of the
            validation forces.
        sigma_grid: widths to choose from, ascending.
        search_structures: the search ends with so many training structures (evenly spaced),
            after a quarter and a half of them; `None` for half of all.
        regularization: λ, added to the diagonal where forces are scaled to a standard deviation
            of one.
        permutations: ``find`` them in the training structures, ``none``, or rows of 0 … atoms − 1
            that generate the group.
        calibration_structures: so many validation structures scale the posterior deviations; 0
            for none.
    """

    card: ClassVar[Card | None] = Card(
        paper="Chmiela et al., Nat. Commun. 9, 3887 (2018)",
        symmetry="invariant",
        reach="molecule",
        cost="10 µs",
        tested="tests/potentials/kernel/, against sgdml",
    )

    sigma: float | None = None
    sigma_grid: tuple[float, ...] = GRID
    search_structures: int | None = None
    regularization: float = 1e-10
    permutations: Literal["find", "none"] | tuple[tuple[int, ...], ...] = "find"
    calibration_structures: int = 10

    def __post_init__(self) -> None:
        grid = self.sigma_grid if self.sigma is None else (self.sigma,)
        if not grid or any(not 0 < s < np.inf for s in grid) or list(grid) != sorted(set(grid)):
            raise BadInput(f"sgdml: widths {list(grid)} must be positive and ascending.")
        if not 0 < self.regularization < 1:
            raise BadInput(f"sgdml.regularization {self.regularization} must be in (0, 1).")
        if self.calibration_structures < 0:
            raise BadInput("sgdml.calibration_structures must be 0 or more.")
        if self.search_structures is not None and self.search_structures < 2:
            raise BadInput(
                "sgdml.search_structures must be 2 or more, or left out for half of all."
            )

    def search_space(self) -> Mapping[str, str]:
        return {"sigma": "5.0..60.0:log", "regularization": "1e-12..1e-6:log"}

    def frame(
        self, species: tuple[int, ...], dtype: str, shapes: Mapping[str, tuple[int, ...]]
    ) -> AbstractNativePotential:
        require_double(dtype)
        frames, kept, atoms, permutations = _frame_sizes(shapes)
        pairs = atoms * (atoms - 1) // 2

        def module() -> SgdmlModule:
            return SgdmlModule(
                numbers=jnp.zeros(atoms, jnp.int32),
                permutations=jnp.zeros((permutations, atoms), jnp.int32),
                positions=jnp.zeros((kept, atoms, 3), dtype),
                descriptors=jnp.zeros((frames, pairs), dtype),
                coefficients=jnp.zeros((frames, pairs), dtype),
                sigma=jnp.zeros((), dtype),
                regularization=jnp.zeros((), dtype),
                deviation=jnp.zeros((), dtype),
                species=species,
            )

        return eqx.filter_eval_shape(module)

    def inspect(self, module: AbstractNativePotential, dtype: str) -> None:
        require_double(dtype)
        assert isinstance(module, SgdmlModule)
        numbers, group = np.asarray(module.numbers), np.asarray(module.permutations)
        if set(numbers.tolist()) != set(module.species):
            raise BadInput("sgdml: the molecule's elements are not those of the header.")
        check_group(group, numbers)
        for name in ("positions", "descriptors", "coefficients", "sigma"):
            if not np.isfinite(np.asarray(getattr(module, name))).all():
                raise BadInput(f"sgdml: '{name}' holds NaN or infinity.")
        if float(module.sigma) <= 0:
            raise BadInput(f"sgdml: sigma is {float(module.sigma)}, must be positive.")

    def fit(
        self,
        train: Dataset,
        valid: Dataset,
        folder: Path,
        progress: Callable[[Stage], None] | None = None,
        fresh: bool = False,
    ) -> Solved:
        started = time.perf_counter()
        data = MoleculeData.of(train, "training")
        checked = MoleculeData.of(valid, "validation", like=data)
        require_memory(len(data) * internal_directions(len(data.numbers)))
        report = progress or (lambda stage: None)
        table = SigmaTable.read(folder, self._digest(train, valid), fresh)
        group = self._group(data, report)
        sigma = self._width(group, data, checked, table, report)
        factor, module = solve(
            data, group, sigma, self.regularization, _part(report, f"σ = {sigma:g}, all data")
        )
        constant = energy_constant(module, data)
        potential = as_potential(module, constant, train)
        if self.calibration_structures:
            chosen = checked.thinned(self.calibration_structures)
            deviation = calibrate(factor, potential, chosen, _part(report, "calibrating"))
            module = eqx.tree_at(lambda m: m.deviation, module, jnp.asarray(deviation))
            potential = as_potential(module, constant, train)
        errors = validation_errors(potential, checked)
        summary = {
            "train_structures": len(train),
            "valid_structures": len(valid),
            "valid_digest": valid.digest,
            "sigma": sigma,
            "sigma_search": table.rows(),
            "permutations": len(group),
            "matrix_rows": factor.matrix.order,
            **errors,
        }
        note = (
            f"solved with σ = {sigma:g}, {len(group)} permutations and a matrix of "
            f"{factor.matrix.order} rows"
        )
        if self.sigma is None and sigma in (self.sigma_grid[0], self.sigma_grid[-1]):
            note += " (σ is at the edge of sigma_grid: a wider grid may hold a better one)"
        references = "the mean of the training energies, shared out evenly among the atoms"
        return Solved(potential, summary, time.perf_counter() - started, note, references)

    def _digest(self, train: Dataset, valid: Dataset) -> str:
        return digest_json([component_digest(self), train.digest, valid.digest, karat.__version__])

    def _width(
        self,
        group: np.ndarray,
        data: MoleculeData,
        valid: MoleculeData,
        table: SigmaTable,
        report: Callable[[Stage], None],
    ) -> float:
        """The width that is set, or the best of the grid for the validation forces."""
        if self.sigma is not None:
            return self.sigma
        if len(self.sigma_grid) == 1:
            return self.sigma_grid[0]
        most = min(self.search_structures or -(-len(data) // 2), len(data))
        sizes = sorted({max(2, most // 4), max(2, most // 2), most})

        def error_of(size: int, sigma: float) -> float:
            part = _part(report, f"trying σ = {sigma:g} with {size} structures")
            _, module = solve(data.thinned(size), group, sigma, self.regularization, part)
            return force_rmse(NativePotential(module), valid)

        return climb(sizes, self.sigma_grid, FIRST, error_of, table)

    def _group(self, data: MoleculeData, report: Callable[[Stage], None]) -> np.ndarray:
        if self.permutations == "find":
            matching = _part(report, "matching structures")
            return find_permutations(data.positions, data.numbers, matching)
        atoms = len(data.numbers)
        rows = () if self.permutations == "none" else self.permutations
        for row in rows:
            if sorted(row) != list(range(atoms)):
                raise BadInput(
                    f"sgdml.permutations: {list(row)} is no permutation of 0 … {atoms - 1}."
                )
        group = close_group([tuple(row) for row in rows], atoms)
        if group is None:
            raise BadInput("sgdml.permutations generate a group of more than 100. Name fewer.")
        check_group(group, data.numbers)
        return group


def require_double(dtype: str) -> None:
    """Refuse float32: coefficients of 10⁴ cancel to forces of 1.

    Raises:
        BadInput: not float64.
    """
    if dtype != "float64":
        raise BadInput(f"sgdml computes in float64 only; {dtype} was asked for. Set dtype float64.")


def _part(report: Callable[[Stage], None], words: str) -> Callable[[int, int], None]:
    return lambda done, total: report(Stage(done, total, words))


def _frame_sizes(shapes: Mapping[str, tuple[int, ...]]) -> tuple[int, int, int, int]:
    """Training structures, those whose positions were kept (all or none), atoms, permutations."""
    descriptors = shapes.get("descriptors", ())
    positions, group = shapes.get("positions", ()), shapes.get("permutations", ())
    fit = (
        (len(descriptors), len(positions), len(group)) == (2, 3, 2)
        and positions[0] in (0, descriptors[0])
        and group[1] == positions[1] >= 2
    )
    if not fit:
        raise BadInput(
            f"sgdml: arrays 'descriptors' {descriptors}, 'positions' {positions} and "
            f"'permutations' {group} do not fit together."
        )
    return descriptors[0], positions[0], positions[1], group[0]

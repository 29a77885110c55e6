"""Streamed least squares: triangular factors of the equations, kept by quantity and by kind of
structure, so that weights and priors can be chosen after the data were read once.

Memory does not grow with the data, and more structures are added to what is there at the cost of
their own rows. Source: Golub & Van Loan, Matrix Computations, 4th ed. (2013), §5.3 and §6.5;
triangular-pentagonal QR of LAPACK (dtpqrt).

Checked: tests/potentials/linear/test_least_squares.py, against NumPy's lstsq on all rows at once.
"""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
from jaxtyping import Float

from karat.core.errors import BadInput
from karat.core.files import write_atomic

Kind = Literal["energy", "forces", "stress"]
QUANTITIES: tuple[Kind, ...] = ("energy", "forces", "stress")
LEAST_ROWS = 256
"""Rows are gathered until there are so many, or as many as columns, before they are factorised."""


@dataclass(frozen=True, eq=False)
class Equations:
    """Some rows of one quantity.

    Attributes:
        quantity: whose.
        kind: of the structure, "" where it has none.
        matrix: the rows; the last column holds the targets.
    """

    quantity: Kind
    kind: str
    matrix: Float[np.ndarray, "rows columns"]


@dataclass(frozen=True, eq=False)
class Triangle:
    """R with RᵀR = AᵀA for all rows A so far; as long as these are few, the rows themselves.

    Attributes:
        matrix: at most as many rows as columns; upper triangular where there are as many.
        rows: number of equations in it.
    """

    matrix: Float[np.ndarray, "kept columns"]
    rows: int

    def add(self, blocks: Sequence[Float[np.ndarray, "_ columns"]]) -> "Triangle":
        """With more rows."""
        from scipy.linalg import lapack

        columns = self.matrix.shape[1]
        new = np.concatenate(blocks) if blocks else np.zeros((0, columns))
        total = self.rows + len(new)
        if len(self.matrix) + len(new) < columns:
            return Triangle(np.concatenate([self.matrix, new]), total)
        if len(self.matrix) < columns:
            return Triangle(_triangle(np.concatenate([self.matrix, new])), total)
        size = min(columns, 32)
        merged, *_, info = lapack.dtpqrt(0, size, np.asfortranarray(self.matrix), new)
        assert info == 0
        return Triangle(np.triu(merged), total)


def _triangle(matrix: np.ndarray) -> np.ndarray:
    """R of a QR factorisation."""
    return np.asarray(np.linalg.qr(matrix, mode="r"))


def stack(parts: Iterable[Float[np.ndarray, "_ columns"]]) -> Float[np.ndarray, "_ columns"]:
    """One triangle (or fewer rows than columns) of the rows of several."""
    matrix = np.concatenate(list(parts))
    return _triangle(matrix) if len(matrix) > matrix.shape[1] else matrix


@dataclass(frozen=True, eq=False)
class Factors:
    """The equations of all structures so far, as triangles by quantity and kind.

    Attributes:
        columns: number of coefficients plus one.
        triangles: by quantity and kind.
        structures: how many are in it.
    """

    columns: int
    triangles: Mapping[tuple[Kind, str], Triangle] = field(default_factory=dict)
    structures: int = 0

    def add(self, structures: Iterable[Iterable[Equations]]) -> "Factors":
        """With the equations of more structures; costs what their own rows cost."""
        triangles = dict(self.triangles)
        waiting: dict[tuple[Kind, str], list[np.ndarray]] = {}
        many = max(LEAST_ROWS, self.columns)
        count = self.structures
        for structure in structures:
            count += 1
            for part in structure:
                key = part.quantity, part.kind
                blocks = waiting.setdefault(key, [])
                blocks.append(part.matrix)
                if sum(map(len, blocks)) >= many:
                    triangles[key] = self._start(triangles, key).add(blocks)
                    waiting[key] = []
        for key, blocks in waiting.items():
            triangles[key] = self._start(triangles, key).add(blocks)
        return Factors(self.columns, triangles, count)

    def _start(self, triangles: Mapping, key: tuple[Kind, str]) -> Triangle:
        found = triangles.get(key)
        return found if found is not None else Triangle(np.zeros((0, self.columns)), 0)

    def merged(self, other: "Factors") -> "Factors":
        """The equations of both."""
        triangles = dict(self.triangles)
        for key, triangle in other.triangles.items():
            mine = self._start(triangles, key)
            both = mine.add([triangle.matrix])
            triangles[key] = Triangle(both.matrix, mine.rows + triangle.rows)
        return Factors(self.columns, triangles, self.structures + other.structures)

    def weighted(
        self, group_weights: Mapping[str, float], leave_out: Iterable[Kind] = ()
    ) -> dict[Kind, Triangle]:
        """One triangle for each quantity that is there, kinds weighted; those of weight 0 do not
        count as equations."""
        found: dict[Kind, Triangle] = {}
        for quantity in QUANTITIES:
            parts = [
                (group_weights.get(kind, 1.0), triangle)
                for (one, kind), triangle in self.triangles.items()
                if one == quantity and quantity not in leave_out
            ]
            counted = [(weight, triangle) for weight, triangle in parts if weight > 0]
            if counted:
                matrix = stack(weight * triangle.matrix for weight, triangle in counted)
                found[quantity] = Triangle(matrix, sum(part.rows for _, part in counted))
        return found

    def save(self, path: Path, digest: str, references: Mapping[int, float]) -> None:
        """Write it, atomically; `digest` says of what it is, `references` (eV by atomic number)
        what was subtracted from its energies."""
        from safetensors.numpy import save

        arrays = {f"{i}": t.matrix for i, t in enumerate(self.triangles.values())}
        arrays["rows"] = np.array([t.rows for t in self.triangles.values()], np.int64)
        about = {
            "digest": digest,
            "names": json.dumps(list(self.triangles)),
            "structures": str(self.structures),
            "references": json.dumps(list(references.items())),
        }
        write_atomic(path, save(arrays, about))

    @classmethod
    def read(
        cls, path: Path, digest_of: Callable[[int], str], columns: int
    ) -> tuple["Factors", dict[int, float]]:
        """What `save` wrote, if it is of the digest that as many structures have; empty, without
        references, where there is no file.

        Raises:
            BadInput: the file is damaged or of another run.
        """
        from safetensors import SafetensorError, safe_open

        if not path.exists():
            return cls(columns), {}
        try:
            with safe_open(path, framework="numpy") as file:
                about = file.metadata()
                rows = file.get_tensor("rows")
                matrices = [file.get_tensor(str(i)) for i in range(len(rows))]
            structures = int(about["structures"])
            same = about["digest"] == digest_of(structures)
            references = {int(z): float(energy) for z, energy in json.loads(about["references"])}
            triangles = {
                (_quantity(quantity), str(kind)): Triangle(matrix, int(count))
                for (quantity, kind), matrix, count in zip(
                    json.loads(about["names"]), matrices, rows, strict=True
                )
            }
            if same and any(matrix.shape[1] != columns for matrix in matrices):
                raise ValueError(f"factors that have not {columns} columns")
        except (SafetensorError, OSError, ValueError, KeyError, TypeError) as error:
            raise BadInput(f"{path}: is damaged ({error}). Start again with --fresh.") from error
        if not same:
            raise BadInput(
                f"{path}: is of a run with other data or another basis. Name another folder "
                "(--work), or start again with --fresh."
            )
        return cls(columns, triangles, structures), references


def _quantity(name: str) -> Kind:
    for quantity in QUANTITIES:
        if quantity == name:
            return quantity
    raise ValueError(f"no quantity '{name}'")


def solve_least_squares(
    parts: Iterable[Float[np.ndarray, "_ columns"]],
) -> tuple[Float[np.ndarray, "features"], Float[np.ndarray, "features features"]]:
    """Coefficients that minimise the sum of squares of all (weighted) rows, and the inverse of
    the triangle of the scaled equations: covariance = inverse @ inverse.T for noise of one.

    Raises:
        BadInput: fewer equations than coefficients, or columns that depend on each other.
    """
    from scipy.linalg import solve_triangular

    matrix = stack(parts)
    features = matrix.shape[1] - 1
    if len(matrix) < features:
        raise BadInput(
            f"the fit has {len(matrix)} equations for {features} coefficients. Add structures, "
            "take a smaller basis, or a solver with a prior (bayes, ridge)."
        )
    scale = np.sqrt(np.sum(matrix[:, :-1] ** 2, axis=0))
    if not scale.all():
        raise _singular(int(np.sum(scale == 0)), features)
    upper = _triangle(matrix)[:features]
    upper[:, :-1] /= scale
    singular_values = np.linalg.svd(upper[:, :-1], compute_uv=False)
    rank = int(np.sum(singular_values > singular_values[0] * features * 1e-15))
    if rank < features:
        raise _singular(features - rank, features)
    inverse = solve_triangular(upper[:, :-1], np.eye(features))
    return inverse @ upper[:, -1] / scale, inverse / scale[:, None]


def _singular(missing: int, features: int) -> BadInput:
    return BadInput(
        f"the design is singular: the data leave {missing} of {features} coefficients undetermined "
        "(an element or a distance that is not in the data, or features that depend on each "
        "other). Add such structures, take a smaller basis, or a solver with a prior: bayes, ridge."
    )

"""Choosing the width of a kernel on a grid, by the error on validation data, resumably.

Checked: tests/potentials/kernel/test_sigma_search.py.
"""

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from karat.core.errors import BadInput, CalculationFailed
from karat.core.files import write_json

NAME = "sigma-search.json"


@dataclass
class SigmaTable:
    """Errors by number of training structures and width, kept in a file from run to run.

    Attributes:
        path: of the file.
        digest: of all that decides the errors.
        errors: finite where the solve succeeded, infinite where it failed.
    """

    path: Path
    digest: str
    errors: dict[tuple[int, float], float] = field(default_factory=dict)

    @classmethod
    def read(cls, folder: Path, digest: str, fresh: bool) -> "SigmaTable":
        """What an earlier run with the same digest found, if anything.

        Raises:
            BadInput: the file in `folder` is of another run.
        """
        path = folder / NAME
        if fresh or not path.exists():
            return cls(path, digest)
        try:
            found = json.loads(path.read_text())
            same = found["digest"] == digest
            errors = {
                (int(size), float(sigma)): math.inf if error is None else float(error)
                for size, sigma, error in found["errors"]
            }
        except (ValueError, KeyError, TypeError, AttributeError, OSError) as error:
            raise BadInput(f"{path}: is damaged ({error}). Start again with --fresh.") from error
        if not same:
            raise BadInput(
                f"{path}: is of a run with other data or settings. Name another folder (--work), "
                "or start again with --fresh."
            )
        return cls(path, digest, errors)

    def add(self, size: int, sigma: float, error: float) -> None:
        """Keep one result, on disk at once."""
        self.errors[size, sigma] = error
        write_json(self.path, {"digest": self.digest, "errors": self.rows()})

    def rows(self) -> list[list[int | float | None]]:
        """(structures, width, error or `None` where the solve failed), ascending."""
        return [
            [size, sigma, error if math.isfinite(error) else None]
            for (size, sigma), error in sorted(self.errors.items())
        ]


ErrorOf = Callable[[int, float], float]


def climb(
    sizes: Sequence[int], grid: Sequence[float], first: float, error_of: ErrorOf, table: SigmaTable
) -> float:
    """The best width for the largest of ascending training-set sizes, each searched from the
    best of the one before.

    The best width shrinks slowly as data get denser, so that a cheap search on few structures
    brings the dear one near its end.

    Raises:
        CalculationFailed: see `search`.
    """
    for size in sizes:
        first = search(size, grid, first, error_of, table)
    return first


def search(
    size: int, grid: Sequence[float], first: float, error_of: ErrorOf, table: SigmaTable
) -> float:
    """Walk downhill on an ascending grid, from the width nearest to `first`, to one whose error
    is lower than those of its neighbours; widths whose solve fails count as infinitely bad.

    Raises:
        CalculationFailed: no width on the way could be solved.
    """
    failures: dict[float, CalculationFailed] = {}

    def error(index: int) -> float:
        sigma = grid[index]
        if (size, sigma) not in table.errors:
            try:
                table.add(size, sigma, error_of(size, sigma))
            except CalculationFailed as failure:
                failures[sigma] = failure
                table.add(size, sigma, math.inf)
        return table.errors[size, sigma]

    place = min(range(len(grid)), key=lambda i: abs(math.log(grid[i] / first)))
    while math.isinf(error(place)) and place > 0:
        place -= 1  # too wide a kernel is not positive definite
    while True:  # narrower first: denser data want narrower kernels
        if place > 0 and error(place - 1) < error(place):
            place -= 1
        elif place + 1 < len(grid) and error(place + 1) < error(place):
            place += 1
        else:
            break
    if math.isinf(error(place)):
        raise next(iter(failures.values()), CalculationFailed("no sigma could be solved"))
    return grid[place]

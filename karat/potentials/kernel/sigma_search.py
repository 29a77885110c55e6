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
    """Errors by width, kept in a file from one run to the next.

    Attributes:
        path: of the file.
        digest: of all that decides the errors.
        errors: finite where the solve succeeded, infinite where it failed.
    """

    path: Path
    digest: str
    errors: dict[float, float] = field(default_factory=dict)

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
                float(sigma): math.inf if error is None else float(error)
                for sigma, error in found["errors"].items()
            }
        except (ValueError, KeyError, TypeError, AttributeError, OSError) as error:
            raise BadInput(f"{path}: is damaged ({error}). Start again with --fresh.") from error
        if not same:
            raise BadInput(
                f"{path}: is of a run with other data or settings. Name another folder (--work), "
                "or start again with --fresh."
            )
        return cls(path, digest, errors)

    def add(self, sigma: float, error: float) -> None:
        """Keep one result, on disk at once."""
        self.errors[sigma] = error
        errors = {str(s): e if math.isfinite(e) else None for s, e in sorted(self.errors.items())}
        write_json(self.path, {"digest": self.digest, "errors": errors})


def search(
    grid: Sequence[float],
    first: float,
    error_of: Callable[[float], float],
    table: SigmaTable,
) -> float:
    """Walk downhill on an ascending grid, from the width nearest to `first`, to one whose error
    is lower than those of its neighbours; widths whose solve fails count as infinitely bad.

    Raises:
        CalculationFailed: no width on the way could be solved.
    """
    failures: dict[float, CalculationFailed] = {}

    def error(index: int) -> float:
        sigma = grid[index]
        if sigma not in table.errors:
            try:
                table.add(sigma, error_of(sigma))
            except CalculationFailed as failure:
                failures[sigma] = failure
                table.add(sigma, math.inf)
        return table.errors[sigma]

    place = min(range(len(grid)), key=lambda i: abs(math.log(grid[i] / first)))
    while math.isinf(error(place)) and place > 0:
        place -= 1  # too wide a kernel is not positive definite
    while True:
        around = [i for i in (place - 1, place + 1) if 0 <= i < len(grid)]
        best = min(around, key=error, default=place)
        if not around or error(best) >= error(place):
            break
        place = best
    if math.isinf(error(place)):
        raise next(iter(failures.values()), CalculationFailed("no sigma could be solved"))
    return grid[place]

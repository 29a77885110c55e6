"""What assays share in `measure`: predictions for named cases, with failures and gaps apart."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from karat.assays.protocol import NotApplicable
from karat.core.errors import BadInput, KaratError
from karat.potentials.protocol import AbstractPotential, check_suitable, predict_each
from karat.results.metric import Failure
from karat.structures.labels import Labels, Quantity
from karat.structures.structure import Structure

MOTION: tuple[Quantity, ...] = ("energy", "forces")
"""What dynamics, relaxations and timings ask for."""
CHUNK = 32
"""Structures per call: large enough to batch, small enough that one failure repeats little."""


@dataclass(frozen=True, eq=False)
class Predictions:
    """Labels of each case, or `None`; why not stands in `failures` or `missing`.

    Attributes:
        labels: in the order of the cases.
        failures: attempted and failed.
        missing: name → reason, for cases that the potential cannot be asked.
    """

    labels: tuple[Labels | None, ...]
    failures: tuple[Failure, ...]
    missing: Mapping[str, str]


def failure(what: str, case: str, error: Exception) -> Failure:
    """A `Failure` from what was raised."""
    kind = getattr(error, "kind", None) or type(error).__name__
    return Failure(what=what, case=case, kind=str(kind), reason=str(error))


def suitable(potential: AbstractPotential, structure: Structure, want: Sequence[Quantity]) -> str:
    """ "" if the potential can be asked, else the reason why not."""
    try:
        check_suitable(potential, structure, want)
    except BadInput as error:
        return str(error)
    return ""


def predict_cases(
    potential: AbstractPotential,
    names: Sequence[str],
    structures: Sequence[Structure],
    wants: Sequence[Sequence[Quantity]],
    what: str,
) -> Predictions:
    """Predictions of every case that the potential can be asked.

    Args:
        names, structures, wants: of the cases; cases with equal wants are predicted in chunks.
        what: for the failures.

    Raises:
        NotApplicable: it cannot be asked any of them; the first reason is given.
    """
    reasons = [suitable(potential, s, w) for s, w in zip(structures, wants)]
    if all(reasons):
        raise NotApplicable(reasons[0] if reasons else "There is no case.")
    labels: list[Labels | None] = [None] * len(names)
    failures: dict[int, Failure] = {}
    for want in dict.fromkeys(tuple(w) for w in wants):
        asked = [i for i, w in enumerate(wants) if tuple(w) == want and not reasons[i]]
        for start in range(0, len(asked), CHUNK):
            chunk = asked[start : start + CHUNK]
            found = predict_each(potential, [structures[i] for i in chunk], want)
            for i, outcome in zip(chunk, found):
                if isinstance(outcome, KaratError):
                    failures[i] = failure(what, names[i], outcome)
                elif not outcome.finite():
                    failures[i] = Failure(what, names[i], "not-finite", "NaN or infinity returned.")
                else:
                    labels[i] = outcome
    missing = {name: reason for name, reason in zip(names, reasons) if reason}
    return Predictions(tuple(labels), tuple(failures[i] for i in sorted(failures)), missing)

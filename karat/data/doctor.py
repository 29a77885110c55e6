"""The data doctor: what is wrong with labelled data, before anything is trained on it.

One pass over the structures (`survey`) keeps columns; the checks look at these. Checks of one set
stand in `checks/`, of train against test in `leakage.py`. To add one: write the function, add it
to its file's table.

Checked: tests/data/test_doctor_*.py, also on published sets with known findings.
"""

from collections.abc import Callable, Iterable, Iterator

from karat.core.errors import BadInput
from karat.data.checks.duplicates import DUPLICATE_CHECKS
from karat.data.checks.energy import ENERGY_CHECKS
from karat.data.checks.forces import FORCE_CHECKS
from karat.data.checks.geometry import GEOMETRY_CHECKS
from karat.data.checks.gradient import gradient
from karat.data.checks.labels import LABEL_CHECKS
from karat.data.checks.stress import STRESS_CHECKS
from karat.data.checks.units import UNIT_CHECKS
from karat.data.dataset import Dataset
from karat.data.entry import Entry, entry_of
from karat.data.finding import Finding
from karat.data.leakage import PAIR_CHECKS
from karat.data.survey import Survey, survey

__all__ = ["CHECKS", "PAIR_CHECKS", "Finding", "check"]

CHECKS: tuple[Callable[[Survey], Iterator[Finding]], ...] = (
    *LABEL_CHECKS,
    *GEOMETRY_CHECKS,
    *DUPLICATE_CHECKS,
    *ENERGY_CHECKS,
    *UNIT_CHECKS,
    *FORCE_CHECKS,
    gradient,
    *STRESS_CHECKS,
)

Checkable = Dataset | Survey | Iterable[Entry]


def check(train: Checkable, test: Checkable | None = None) -> tuple[Finding, ...]:
    """All findings, errors first; about `train`, about `test`, and about both together.

    Raises:
        BadInput: no structure.
    """
    surveys = [_survey(one) for one in (train, test) if one is not None]
    findings: list[Finding] = []
    for name, one in zip(("", "test: "), surveys):
        for look in CHECKS:
            findings += [
                Finding(f.severity, f.code, name + f.message, f.offenders) for f in look(one)
            ]
    if len(surveys) == 2:
        for compare in PAIR_CHECKS:
            findings += compare(surveys[0], surveys[1])
    order = {"error": 0, "warning": 1, "info": 2}
    return tuple(sorted(findings, key=lambda finding: order[finding.severity]))


def _survey(data: Checkable) -> Survey:
    if isinstance(data, Survey):
        found = data
    elif isinstance(data, Dataset):
        found = survey(entry_of(record, level=data.level) for record in data)
    else:
        found = survey(data)
    if len(found) == 0:
        raise BadInput("There is nothing to check: no structure.")
    return found

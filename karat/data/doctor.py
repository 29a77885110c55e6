"""The data doctor: what is wrong with labelled data, before anything is trained on it.

Checks stand in `checks.py` (one dataset) and `leakage.py` (train against test).
Checked: tests/data/test_doctor.py, also on published sets with known findings.
"""

from karat.data.checks import CHECKS
from karat.data.dataset import Dataset
from karat.data.finding import Finding
from karat.data.leakage import PAIR_CHECKS

__all__ = ["CHECKS", "PAIR_CHECKS", "Finding", "check"]


def check(train: Dataset, test: Dataset | None = None) -> tuple[Finding, ...]:
    """All findings, errors first; about `train`, about `test`, and about both together."""
    findings: list[Finding] = []
    for name, dataset in (("", train), ("test: ", test)):
        if dataset is None:
            continue
        for one in CHECKS:
            found = list(one(dataset))
            findings += [Finding(f.severity, f.code, name + f.message, f.offenders) for f in found]
    if test is not None:
        for pair in PAIR_CHECKS:
            findings += pair(train, test)
    order = {"error": 0, "warning": 1, "info": 2}
    return tuple(sorted(findings, key=lambda finding: order[finding.severity]))

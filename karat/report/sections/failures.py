"""Everything that failed, could not be asked, is missing or cannot be read, with the reason."""

from dataclasses import dataclass

from karat.report.model import View
from karat.report.sections.section import Section, lede
from karat.report.tags import Cell, Head, Markup, Row, empty, table, tag
from karat.report.words import counted

TITLE = "Failures, and what is missing"
TONES = {"failed": "tag bad", "unreadable": "tag bad", "missing": "tag warn"}


@dataclass(frozen=True)
class Trouble:
    """One line: where, which case, what happened, how often it was tried."""

    where: str
    status: str
    case: str
    kind: str
    reason: str
    attempts: int = 1

    @property
    def follows(self) -> bool:
        """Whether it only could not start because another step ended badly."""
        return self.status == "missing" and self.reason.startswith("needs '")


def troubles_of(view: View) -> list[Trouble]:
    """Steps that are not done, then cases that failed within steps that are."""
    found = [
        Trouble(step.name, step.status, "", "", step.reason or "no reason was recorded")
        for step in view.steps
        if step.status != "done"
    ]
    for step in view.steps:
        if step.result is not None:
            found += [
                Trouble(step.name, "failed", f.case, f.kind, f"{f.what}: {f.reason}", f.attempts)
                for f in step.result.failures
            ]
    order = ("failed", "unreadable", "missing", "not-applicable")
    return sorted(found, key=lambda t: order.index(t.status) if t.status in order else 0)


def failures_section(view: View) -> Section:
    """A table; never empty without saying so."""
    troubles = troubles_of(view)
    if not troubles:
        done = counted(len(view.steps), "step")
        return Section("failures", TITLE, empty(f"Nothing failed: all {done} are done."))
    words = lede(
        "A failure counts as zero karats and never as a number. “Not applicable” means that the "
        "question cannot be asked (an element the potential does not know, no rotatable bond): "
        "it is not counted, and lowers the covered share."
    )
    first = [trouble for trouble in troubles if not trouble.follows]
    after = [trouble for trouble in troubles if trouble.follows]
    parts = [words, _table(first, counted(len(first), "entry", "entries"))]
    if after:
        title = f"{counted(len(after), 'step')} could not start because of these"
        parts.append(tag("details", tag("summary", title), _table(after, title)))
    return Section("failures", TITLE, Markup("".join(parts)))


def _table(troubles: list[Trouble], caption: str) -> Markup:
    heads = [
        Head("Status"),
        Head("Step"),
        Head("Case"),
        Head("Kind"),
        Head("Reason"),
        Head("Tries", numeric=True),
    ]
    rows = [
        Row(
            (
                Cell(tag("span", t.status, class_=TONES.get(t.status, "tag")), t.status),
                Cell(t.where, t.where, header=True),
                Cell(t.case or "all", t.case),
                Cell(tag("code", t.kind) if t.kind else "–", t.kind),
                Cell(t.reason, t.reason),
                Cell(str(t.attempts) if t.case else "–", float(t.attempts), "num"),
            )
        )
        for t in troubles
    ]
    return table(heads, rows, caption)

"""What the numbers stand on: structures, labels, split, and what the data check found."""

from collections.abc import Mapping
from typing import Any

from karat.report.model import View
from karat.report.sections.section import Section
from karat.report.tags import Cell, Head, Markup, Row, empty, table, tag
from karat.report.words import counted, listed

TITLE = "Data and its check"
SEVERITIES = ("error", "warning", "info")
TONES = {"error": "tag bad", "warning": "tag warn", "info": "tag"}


def findings_of(view: View) -> list[Mapping[str, Any]]:
    """Findings of every data check, the gravest first."""
    found = [f for result in view.results("check") for f in result.payload.get("findings") or ()]
    rank = {name: i for i, name in enumerate(SEVERITIES)}
    return sorted(found, key=lambda f: rank.get(str(f.get("severity")), len(rank)))


def data_section(view: View) -> Section:
    """Facts as a list, findings as a table."""
    facts = [*_structures(view), *_labels(view), *_split(view)]
    parts = [_facts(facts)] if facts else []
    findings = findings_of(view)
    if findings:
        parts.append(_findings(findings))
    elif view.results("check"):
        parts.append(empty("The data check found nothing to report."))
    else:
        parts.append(empty("The data were not checked in this campaign."))
    return Section("data", TITLE, Markup("".join(parts)))


def _facts(facts: list[tuple[str, str]]) -> Markup:
    rows = [[tag("dt", name), tag("dd", text)] for name, text in facts]
    return tag("dl", rows, class_="defs")


def _structures(view: View) -> list[tuple[str, str]]:
    facts = []
    for result in view.results("structures"):
        payload = result.payload
        words = [str(payload.get("formula", ""))]
        if payload.get("smiles"):
            words.append(f"SMILES {payload['smiles']}")
        if payload.get("atoms"):
            words.append(counted(int(payload["atoms"]), "atom"))
        if payload.get("conformers"):
            words.append(counted(int(payload["conformers"]), "conformer"))
        facts.append(("Structures", ", ".join(word for word in words if word)))
    return facts


def _labels(view: View) -> list[tuple[str, str]]:
    facts = []
    for result in view.results("labels"):
        payload = result.payload
        level = result.level.label if result.level else "unknown level"
        words = f"{payload.get('done', '?')} labelled by {payload.get('engine', '?')} ({level})"
        if payload.get("failed"):
            words += f"; {payload['failed']} failed, see failures"
        facts.append(("Labels", words))
    return facts


def _split(view: View) -> list[tuple[str, str]]:
    facts = []
    for result in view.results("split"):
        sizes = result.payload.get("sizes") or {}
        words = ", ".join(f"{count} {name}" for name, count in sizes.items())
        facts.append(("Split", f"{words}, by {result.payload.get('how', 'unknown rule')}"))
    return facts


def _findings(findings: list[Mapping[str, Any]]) -> Markup:
    heads = [Head("Severity"), Head("Finding"), Head("Message"), Head("Where", sortable=False)]
    rows = []
    for finding in findings:
        severity = str(finding.get("severity", ""))
        offenders = [str(name) for name in finding.get("offenders") or ()]
        rank = float(SEVERITIES.index(severity)) if severity in SEVERITIES else 9.0
        rows.append(
            Row(
                (
                    Cell(tag("span", severity, class_=TONES.get(severity, "tag")), rank),
                    Cell(tag("code", str(finding.get("code", ""))), str(finding.get("code", ""))),
                    Cell(str(finding.get("message", ""))),
                    Cell(listed(offenders, limit=6) if offenders else "–"),
                )
            )
        )
    return table(heads, rows, "What the data check found")

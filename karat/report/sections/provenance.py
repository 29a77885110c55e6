"""Where the numbers come from: versions, hardware, seeds, digests of inputs, wall times."""

import json
from collections.abc import Mapping, Sequence

from karat.report.model import View
from karat.report.sections.section import Section, lede
from karat.report.tags import Cell, Head, Markup, Row, table, tag
from karat.report.words import duration

TITLE = "Provenance"


def provenance_section(view: View) -> Section:
    """Everything needed to repeat the campaign."""
    results = [step.result for step in view.steps if step.result is not None]
    versions = merged([r.provenance.versions for r in results])
    hardware = merged([r.provenance.hardware for r in results])
    seeds = merged([{k: str(v) for k, v in r.provenance.seeds.items()} for r in results])
    levels = list(dict.fromkeys(_level(r) for r in results if r.level is not None))
    facts = [
        ("Reference level", "; ".join(levels) or "none recorded"),
        ("Versions", _pairs(versions)),
        ("Hardware", _pairs(hardware)),
        ("Seeds", _pairs(seeds) or "none recorded"),
    ]
    body = [
        lede(
            "Same inputs, seeds and versions give the same numbers; times depend on the hardware."
        ),
        tag("dl", [[tag("dt", name), tag("dd", text)] for name, text in facts], class_="defs"),
        _steps(view),
        tag(
            "details",
            tag("summary", "The campaign, every default written out"),
            tag("pre", json.dumps(view.campaign, indent=2, ensure_ascii=False)),
        ),
    ]
    return Section("provenance", TITLE, Markup("".join(body)))


def merged(mappings: Sequence[Mapping[str, str]]) -> dict[str, str]:
    """One mapping; where steps differ, every value is named."""
    values: dict[str, dict[str, None]] = {}
    for mapping in mappings:
        for key, value in mapping.items():
            values.setdefault(key, {})[str(value)] = None
    return {key: " / ".join(found) for key, found in values.items()}


def _pairs(values: Mapping[str, str]) -> str:
    return ", ".join(f"{key} {value}" for key, value in values.items())


def _level(result) -> str:
    level = result.level
    settings = ", ".join(f"{k} {v}" for k, v in level.settings.items())
    words = [level.label, f"by {level.program}" if level.program else "", settings]
    return ", ".join(word for word in words if word)


def _steps(view: View) -> Markup:
    heads = [
        Head("Step"),
        Head("Status"),
        Head("Wall time", numeric=True, descending=True),
        Head("Made"),
        Head("Inputs (SHA-256)", sortable=False),
    ]
    rows = []
    for step in view.steps:
        made = step.result.provenance if step.result is not None else None
        digests = [
            tag("small", f"{name} ", tag("code", digest[:12], title=digest))
            for name, digest in (made.inputs.items() if made else ())
        ]
        rows.append(
            Row(
                (
                    Cell(step.name, step.name, header=True),
                    Cell(step.status, step.status),
                    Cell(duration(step.seconds), step.seconds, "num"),
                    Cell(made.created if made else "–", made.created if made else None),
                    Cell(digests or "–"),
                )
            )
        )
    total = sum(step.seconds or 0.0 for step in view.steps)
    inner = table(heads, rows, f"{len(rows)} steps, {duration(total)} of wall time in all")
    return tag("details", tag("summary", "Steps, wall times and input digests"), inner)

"""The report as one JSON document: everything but the figures and the pictures.

Checked: tests/report/test_formats.py.
"""

import dataclasses
import json
from typing import Any

from karat.report.model import View
from karat.report.sections.data import findings_of
from karat.report.sections.failures import troubles_of
from karat.report.standing import Standing, Standings, standings_of
from karat.report.summary import summary_of
from karat.results.metric import Metric

SCHEMA_VERSION = 1


def render_json(view: View) -> str:
    """An object with ``summary``, ``contestants``, ``assays``, ``failures``, ``steps`` …"""
    standings = standings_of(view)
    document = {
        "schema": SCHEMA_VERSION,
        "name": view.name,
        "title": view.title,
        "summary": dataclasses.asdict(summary_of(view, standings)),
        "problem": standings.problem,
        "headline": [
            {"key": c.key, "assay": c.assay, "metric": c.metric, "title": c.title, "level": c.level}
            for c in standings.columns
        ],
        "contestants": [_contestant(row, standings) for row in standings.rows],
        "comparison": standings.comparison.as_dict() if standings.comparison else None,
        "assays": [_assay(view, assay) for assay in view.assays],
        "findings": [dict(finding) for finding in findings_of(view)],
        "failures": [dataclasses.asdict(trouble) for trouble in troubles_of(view)],
        "steps": [_step(step) for step in view.steps],
        "campaign": dict(view.campaign),
    }
    return json.dumps(document, indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def _contestant(row: Standing, standings: Standings) -> dict[str, Any]:
    entries = {c.key: dataclasses.asdict(row.entries[c.key]) for c in standings.columns}
    return {
        **dataclasses.asdict(row.contestant),
        "karats": row.karats,
        "reason": row.reason,
        "karats_per_assay": dict(row.per_assay),
        "covered": {"counted": row.counted, "possible": row.possible},
        "headline": entries,
        "seconds_per_call": row.cost_seconds,
        "tied_with": list(row.tied),
    }


def _assay(view: View, assay: str) -> dict[str, Any]:
    scores = view.scores_of(assay)
    return {
        "assay": assay,
        "title": view.assay_title(assay),
        "scores": [
            {
                "contestant": score.payload.get("contestant"),
                "version": score.payload.get("version"),
                "level": None if score.level is None else score.level.as_dict(),
                "metrics": [_metric(metric) for metric in score.metrics],
                "failures": [failure.as_dict() for failure in score.failures],
                "worst": list(score.payload.get("worst") or ()),
                "provenance": score.provenance.as_dict(),
            }
            for score in scores
        ],
    }


def _metric(metric: Metric) -> dict[str, Any]:
    return metric.as_dict()


def _step(step) -> dict[str, Any]:
    names = ("folder", "kind", "name", "status", "reason", "seconds", "contestant", "assay")
    return {name: getattr(step, name) for name in names}

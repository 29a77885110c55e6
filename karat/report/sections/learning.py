"""Learning curves: error against training-set size, and loss per epoch."""

from typing import Any

from karat.report.charts import figure_html, plotly_text, rounded
from karat.report.model import View
from karat.report.sections.fit_parity import parity_charts
from karat.report.sections.section import Section, lede
from karat.report.tags import Cell, Head, Markup, Row, empty, name_with_swatch, table, tag
from karat.report.words import duration, metric_title, shown_unit
from karat.results.metric import Metric

TITLE = "Learning curves"
NAMES = {
    "train_loss": "Training loss",
    "valid_loss": "Validation loss",
    "valid_energy_mae_mev_per_atom": "Validation energy MAE (meV/atom)",
    "valid_energy_rmse_mev_per_atom": "Validation energy RMSE (meV/atom)",
    "valid_force_mae_mev_per_angstrom": "Validation force MAE (meV/Å)",
    "valid_force_rmse_mev_per_angstrom": "Validation force RMSE (meV/Å)",
    "train_terms": "Terms of the training loss",
    "valid_terms": "Terms of the validation loss",
    "rollbacks": "Returns to an earlier epoch",
}
TERMS = {
    f"{part}_{term}_loss": (f"{part}_terms", term, dash)
    for part in ("train", "valid")
    for dash, term in enumerate(("energy", "force", "stress"))
}
"""Column → chart that it shares, name and dash of its line."""
NOT_DRAWN = ("epoch", "learning_rate", "padding")


def learning_section(view: View) -> Section:
    """Of the contestants that were trained here."""
    trained = [c for c in view.contestants if c.labels is not None]
    if not trained:
        return Section("learning", TITLE, empty("No contestant was trained in this campaign."))
    charts = [*_by_size(view), *_by_epoch(view), *parity_charts(view)]
    words = lede(
        "Does more data help? Above: error on the kept-apart structures against the number of "
        "training structures, with 95 % intervals; a straight fall on these axes says that more "
        "labels will help, a plateau that the architecture or the labels limit. Below: the "
        "course of each training, the terms of its loss before they are weighted, and what the "
        "chosen parameters predict for the validation data."
    )
    drawn = [figure_html(chart, wide=chart["kind"] == "parity") for chart in charts]
    body = words + tag("div", drawn, class_="charts") + _table(view)
    return Section("learning", TITLE, Markup(body), tuple(charts))


def _by_size(view: View) -> list[dict[str, Any]]:
    """One chart for each headline error of the first assays, where a model has several sizes."""
    models: dict[str, list] = {}
    for contestant in view.contestants:
        if contestant.labels is not None:
            models.setdefault(contestant.model, []).append(contestant)
    found: dict[tuple[str, str], dict[str, list[tuple[int, Metric]]]] = {}
    for score in view.scores:
        for metric in score.metrics:
            if not metric.headline or metric.subset or metric.value <= 0:
                continue
            for model, members in models.items():
                for member in members:
                    if member.name == score.payload.get("contestant"):
                        key = (str(score.payload.get("assay")), metric.name)
                        rows = found.setdefault(key, {}).setdefault(model, [])
                        rows.append((member.labels, metric))
    charts = []
    for i, ((assay, _), curves) in enumerate(found.items()):
        if any(len(rows) > 1 for rows in curves.values()):
            charts.append(_size_chart(i, view.assay_title(assay), curves, models))
    return charts


def _size_chart(index: int, assay: str, curves: dict, models: dict) -> dict[str, Any]:
    metrics = [metric for rows in curves.values() for _, metric in rows]
    unit = shown_unit(metrics[0].unit, [m.value for m in metrics])
    series = []
    for model, rows in curves.items():
        rows = sorted(rows, key=lambda row: row[0])
        values = [m.value * unit.factor for _, m in rows]
        whole = all(m.low is not None for _, m in rows)
        series.append(
            {
                "who": max(models[model], key=lambda c: c.labels).name,
                "name": model,
                "hover": plotly_text(model),
                "dash": 0,
                "x": [labels for labels, _ in rows],
                "y": rounded(values, log=True),
                "low": rounded([m.low * unit.factor for _, m in rows], True) if whole else [],
                "high": rounded([m.high * unit.factor for _, m in rows], True) if whole else [],
                "labels": [],
            }
        )
    return {
        "id": f"chart-learning-size-{index}",
        "kind": "lines",
        "title": f"{metric_title(metrics[0])} against training structures",
        "note": assay,
        "x": "training structures",
        "y": plotly_text(f"{metric_title(metrics[0])} ({unit.text})"),
        "log_x": True,
        "log_y": True,
        "series": series,
    }


def _by_epoch(view: View) -> list[dict[str, Any]]:
    """One chart for each quantity that trainings recorded."""
    keys: dict[str, list[dict[str, Any]]] = {}
    for result in view.results("train"):
        curve = result.payload.get("curve") or {}
        epochs = [float(e) for e in curve.get("epoch", [])]
        name = str(result.payload.get("contestant", result.name))
        for key, values in curve.items():
            pairs = [(e, float(v)) for e, v in zip(epochs, values) if isinstance(v, int | float)]
            if key in NOT_DRAWN or not pairs or not _says_something(key, pairs):
                continue
            step = max(1, len(pairs) // 400)
            kept = pairs[::step]
            chart, term, dash = TERMS.get(key, (key, "", 0))
            line = f"{name} · {term}" if term else name
            keys.setdefault(chart, []).append(
                {
                    "who": name,
                    "name": line,
                    "hover": plotly_text(line),
                    "dash": dash,
                    "x": [e for e, _ in kept],
                    "y": rounded([v for _, v in kept], log=True),
                    "low": [],
                    "high": [],
                    "labels": [],
                }
            )
    return [
        {
            "id": f"chart-learning-epoch-{i}",
            "kind": "lines",
            "title": f"{NAMES.get(key, key.replace('_', ' '))} per epoch",
            "x": "epoch",
            "y": plotly_text(NAMES.get(key, key.replace("_", " "))),
            "log_x": False,
            "log_y": all((v or 0) > 0 for s in series for v in s["y"]),
            "series": series,
        }
        for i, (key, series) in enumerate(keys.items())
    ]


def _says_something(key: str, pairs: list[tuple[float, float]]) -> bool:
    """Terms without labels and a count of returns that never happened are zero throughout."""
    return not (key in TERMS or key == "rollbacks") or any(value for _, value in pairs)


def _table(view: View) -> Markup:
    heads = [
        Head("Trained"),
        Head("Model"),
        Head("Structures", numeric=True),
        Head("Time", numeric=True),
        Head("Epochs", numeric=True),
        Head("Best epoch", numeric=True),
        Head("Outcome"),
    ]
    rows = []
    for result in view.results("train"):
        payload, seconds = result.payload, result.timings.get("seconds")
        epochs = (payload.get("curve") or {}).get("epoch") or []
        labels, best = payload.get("labels"), payload.get("best_epoch")
        name = str(payload.get("contestant", result.name))
        model = next((c.model for c in view.contestants if c.name == name), "")
        rows.append(
            Row(
                (
                    Cell(name_with_swatch(name), name, header=True),
                    Cell(model, model),
                    Cell(_count(labels), _sortable(labels), "num"),
                    Cell(duration(seconds), _sortable(seconds), "num"),
                    Cell(_count(len(epochs) or None), float(len(epochs)), "num"),
                    Cell(_count(best), _sortable(best), "num"),
                    Cell(str(payload.get("note", ""))),
                )
            )
        )
    return table(heads, rows, "Trainings of this campaign")


def _count(given: Any) -> str:
    return f"{given:.0f}" if isinstance(given, int | float) else "–"


def _sortable(given: Any) -> float | None:
    return float(given) if isinstance(given, int | float) else None

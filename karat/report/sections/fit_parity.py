"""What fitted potentials predict for the validation data, against its labels.

Checked: tests/report/test_fit_parity.py.
"""

from typing import Any

from karat.report.charts import Drawn, grouped, overlay
from karat.report.model import View
from karat.results.figure import Figure, Series
from karat.results.result import Result

WHERE = "Validation data, by which the epoch was chosen: errors elsewhere are larger."


def parity_charts(view: View) -> list[dict[str, Any]]:
    """Energies and force components: a chart each, a panel for each contestant."""
    drawn = [
        Drawn(str(result.payload.get("contestant", result.name)), "fit", figure)
        for result in view.results("train")
        for figure in parity_figures(result)
    ]
    groups = grouped(drawn).values()
    return [overlay(f"chart-fit-parity-{i}", group, "") for i, group in enumerate(groups)]


def parity_figures(result: Result) -> list[Figure]:
    """Of a training that stored its validation data; none of one that did not, and no forces
    where there are no labels.

    Energies are shown relative to the mean of the labels, so that no digits are lost.
    """
    arrays, figures = result.arrays, []
    name = str(result.payload.get("contestant", result.name))
    labels, found = (arrays.get(f"parity/energy_{side}") for side in ("reference", "predicted"))
    if labels is not None and found is not None and len(labels):
        mean = float(labels.mean())
        title, unit = "Energies of the validation data", "eV/atom"
        note = f"Relative to the mean label. {WHERE}"
        axes = (f"label ({unit})", f"predicted ({unit})")
        cloud = Series(name, tuple((labels - mean).tolist()), tuple((found - mean).tolist()))
        figures.append(Figure("parity", "fit:energies", title, *axes, (cloud,), note=note))
    labels, found = (arrays.get(f"parity/force_{side}") for side in ("reference", "predicted"))
    if labels is not None and found is not None and labels.size:
        title, unit = "Force components of the validation data", "eV/Å"
        axes = (f"label ({unit})", f"predicted ({unit})")
        cloud = Series(name, tuple(labels.ravel().tolist()), tuple(found.ravel().tolist()))
        figures.append(Figure("parity", "fit:forces", title, *axes, (cloud,), note=WHERE))
    return figures

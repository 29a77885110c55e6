"""`karat train --tune`: a search of settings, its Pareto front as a table and a plot.

Checked: tests/cli/test_tuning.py.
"""

import json
import sys
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from karat.core.errors import BadInput, CalculationFailed
from karat.core.files import write_atomic

if TYPE_CHECKING:
    from karat.data.dataset import Dataset
    from karat.potentials.model import AbstractModel, Stage
    from karat.training.search_space import Options, Span
    from karat.training.settings import TrainingSettings
    from karat.training.tuning import By, Front, Trial


@dataclass(frozen=True)
class Search:
    """What `--tune`, `--vary`, `--ceiling` and `--tune-by` say."""

    trials: int
    space: "Mapping[str, Span | Options]"
    ceiling: float | None
    by: "By"

    def run(
        self,
        model: "AbstractModel",
        parts: "tuple[Dataset, Dataset]",
        settings: "TrainingSettings",
        folder: Path,
        report: "Callable[[Stage], None]",
        fresh: bool,
    ) -> "Front":
        """The search itself; see `karat.training.tuning.tune`."""
        from karat.training.tuning import tune

        return tune(
            model,
            self.space,
            *parts,
            settings,
            folder,
            self.trials,
            self.by,
            self.ceiling,
            report,
            fresh,
        )


def make_search(
    model: "AbstractModel",
    trials: int | None,
    vary: list[str],
    ceiling: float | None,
    by: str,
) -> Search | None:
    """What is to be searched, or `None` without `--tune`; looks at each setting's ends.

    Raises:
        BadInput: options of a search without `--tune`, a value that the model cannot have, or
            nothing to vary.
    """
    if trials is None:
        given = [n for n, on in (("--vary", vary), ("--ceiling", ceiling is not None)) if on]
        if given:
            raise BadInput(f"{' and '.join(given)} need --tune TRIALS, e.g. --tune 30.")
        return None
    from karat.training.search_space import parse_choice, with_values

    if by not in ("forces", "energy"):
        raise BadInput(f"--tune-by {by}: forces or energy is possible.")
    listed = vary or [f"{key}={text}" for key, text in model.search_space().items()]
    if trials < 1 or not listed:
        raise BadInput(
            f"--tune {trials}: at least one trial and one setting to vary (--vary key=LOW..HIGH) "
            "are needed."
        )
    space = dict(parse_choice(one) for one in listed)
    for name, choice in space.items():
        for value in choice.ends:
            with_values(model, {name: value})
    return Search(trials, space, ceiling, by)  # type: ignore[arg-type]


def tell(front: "Front", folder: Path, output: Path, as_json: bool) -> None:
    """Write the chosen potential and the plot; print the front.

    Raises:
        CalculationFailed: no trial came to an end within the ceiling.
    """
    plot = output.with_name(output.name + ".front.html")
    _draw(front, plot)
    if front.chosen is None:
        failed = [trial for trial in front.trials if trial.failure]
        why = f" First failure: {failed[0].failure}" if failed else ""
        raise CalculationFailed(
            f"none of {len(front.trials)} trials gave a potential"
            + (f" within {front.ceiling:g} µs per atom and step" if front.ceiling else "")
            + f"; {len(failed)} failed.{why} All are listed in {folder / 'trials.jsonl'}.",
            kind="tuning",
        )
    write_atomic(output, (folder / front.chosen.file).read_bytes())
    if as_json:
        print(json.dumps(_document(front, output, plot), indent=1))
        return
    failures = sum(bool(trial.failure) for trial in front.trials)
    print(
        f"{len(front.trials)} trials, {failures} failed. What no other one beats in cost and in "
        f"the validation error of {front.by}, timed on {front.timed_on} here:"
    )
    print(f"{'µs/atom/step':>12}  {'meV/Å':>8}  {'meV/atom':>8}  settings")
    for index in front.best:
        print(_row(front.trials[index]))
    for trial in front.trials:
        if trial.failure:
            print(f"trial {trial.index} failed: {trial.failure}", file=sys.stderr)
    print(f"Written: {output} (the most accurate one), {plot}; the others: {folder}")


def _row(trial: "Trial") -> str:
    assert trial.cost is not None
    force = "–" if trial.force_rmse is None else f"{trial.force_rmse:.1f}"
    energy = "–" if trial.energy_rmse is None else f"{trial.energy_rmse:.2f}"
    words = ", ".join(
        f"{key}={value:.4g}" if isinstance(value, float) else f"{key}={value}"
        for key, value in trial.values.items()
    )
    return f"{trial.cost:12.3g}  {force:>8}  {energy:>8}  {words}  ({trial.file})"


def _document(front: "Front", output: Path, plot: Path) -> dict[str, Any]:
    return {
        "output": str(output),
        "plot": str(plot),
        "by": front.by,
        "ceiling_us_per_atom_step": front.ceiling,
        "timed_on": front.timed_on,
        "best": list(front.best),
        "trials": [asdict(trial) for trial in front.trials],
    }


def _draw(front: "Front", path: Path) -> None:
    """Every trial as a point, the front as a line; offline HTML."""
    import plotly.graph_objects as go

    shown = [t for t in front.trials if t.error(front.by) is not None and t.cost is not None]
    best = [front.trials[index] for index in front.best]
    unit = "meV/Å" if front.by == "forces" else "meV/atom"
    figure = go.Figure()
    for title, trials, mode in (("trials", shown, "markers"), ("front", best, "lines+markers")):
        figure.add_scatter(
            x=[t.cost for t in trials],
            y=[t.error(front.by) for t in trials],
            mode=mode,
            name=title,
            text=["<br>".join(f"{k} = {v}" for k, v in t.values.items()) for t in trials],
        )
    if front.ceiling is not None:
        figure.add_vline(x=front.ceiling, line_dash="dash", annotation_text="ceiling")
    figure.update_layout(
        xaxis_title=f"cost, µs/atom/step ({front.timed_on}, this machine)",
        yaxis_title=f"validation RMSE of {front.by}, {unit}",
        xaxis_type="log",
        yaxis_type="log",
    )
    write_atomic(path, figure.to_html(include_plotlyjs=True).encode())

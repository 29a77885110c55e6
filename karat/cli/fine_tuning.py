"""`karat train --from`: an existing potential is trained further, and what it forgets is shown.

Checked: tests/cli/test_fine_tuning.py.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from karat.cli.settings import key_values
from karat.core.errors import BadInput

if TYPE_CHECKING:
    from karat.data.dataset import Dataset
    from karat.data.read_options import ReadOptions
    from karat.training.fine_tuning_start import FineTuning
    from karat.training.settings import TrainingSettings

_PANEL = "Fine-tuning"
From = Annotated[
    Path | None,
    typer.Option(
        "--from", help="Train this .karat file's potential further.", rich_help_panel=_PANEL
    ),
]
How = Annotated[
    str | None,
    typer.Option(
        help="With --from: naive (all parameters), frozen (some groups) or lora (low rank).",
        rich_help_panel=_PANEL,
    ),
]
Tuning = Annotated[
    list[str] | None,
    typer.Option(
        help="With --from: key=value (YAML): freeze='[embedding, radial]', rank=8, alpha=8, "
        "reference_energies=fit.",
        rich_help_panel=_PANEL,
    ),
]
Other = Annotated[
    list[Path] | None,
    typer.Option(
        help="With --from: labelled structures on which base and result are compared.",
        rich_help_panel=_PANEL,
    ),
]


@dataclass(frozen=True)
class Start:
    """What `--from`, `--fine-tune`, `--tuning` and `--forgetting` say."""

    base: Path
    tuning: "FineTuning"
    forgetting: "Mapping[str, Dataset]"


def make_start(
    base: Path | None,
    method: str | None,
    tuning: list[str],
    forgetting: list[Path],
    options: "ReadOptions",
    output: Path,
    unused: Mapping[str, Any],
) -> Start | None:
    """From flags; `None` where there is no `--from`.

    Args:
        options: of the new data; the level of theory of other data is their own file's.
        unused: flags that have no use with `--from`, by name.

    Raises:
        BadInput: flags that do not go together, a file that cannot be read or that the output
            would overwrite.
        UnknownKey: a key that fine-tuning does not have.
    """
    from dataclasses import replace

    from karat.core.components import parse
    from karat.data.files import read_dataset
    from karat.training.fine_tuning_start import FineTuning

    if base is None:
        given = {"--fine-tune": method, "--tuning": tuning, "--forgetting": forgetting}
        for flag, value in given.items():
            if value:
                raise BadInput(f"{flag} needs --from FILE.karat, the potential to begin with.")
        return None
    for flag, value in unused.items():
        if value:
            raise BadInput(f"{flag} has no use with --from: the model is that of {base}.")
    if base.resolve() == output.resolve():
        raise BadInput(f"--output {output} is the file of --from. Name another.")
    values = key_values(tuning, "--tuning")
    if "method" in values:
        raise BadInput("--tuning method: say --fine-tune naive, frozen or lora.")
    if method is not None:
        values["method"] = method
    found = parse(FineTuning, values, "fine-tuning")
    own_level = replace(options, level=None)
    others = {str(path): read_dataset(path, options=own_level) for path in forgetting}
    return Start(base, found, others)


def fine_tuning_settings(base: Path, values: Mapping[str, Any]) -> "TrainingSettings":
    """Training settings from what was said, with the base's precision and a smaller learning rate
    where nothing was.

    Raises:
        BadInput: no `.karat` file, an unknown key or a value that does not fit.
    """
    from karat.core.components import parse
    from karat.potentials.karat_header import read_header
    from karat.training.fine_tuning import LEARNING_RATE
    from karat.training.settings import TrainingSettings

    usual = {"dtype": read_header(base).dtype, "learning_rate": LEARNING_RATE}
    return parse(TrainingSettings, {**usual, **values}, "training")


def told(summary: Mapping[str, Any]) -> list[str]:
    """Lines about a fine-tuned potential: what was trained, warnings, what was forgotten."""
    about = summary["fine_tuning"]
    before = about["valid_force_rmse_before_mev_per_angstrom"]
    forces = "" if before is None else f", {before:.1f} meV/Å"
    lines = [
        f"Fine-tuned ({about['method']}) from {about['base']['file']}: "
        f"{about['parameters_trained']} numbers trained for {about['parameters']}; frozen: "
        f"{', '.join(about['frozen']) or 'nothing'}. Validation RMSE of the base, with the new "
        f"reference energies: {about['valid_energy_rmse_before_mev_per_atom']:.2f} meV/atom"
        f"{forces}."
    ]
    lines += [f"warning: {words}." for words in about["warnings"]]
    if about["forgetting"]:
        lines += ["", f"{'error on other data':32} {'base':>22} {'fine-tuned':>22} {'change':>22}"]
    for one in about["forgetting"]:
        lines.append(f"{one['name']} ({one['structures']} structures)")
        for error in one["errors"]:
            title = f"  {error['name'].replace('_rmse', '')} RMSE, {error['unit']}"
            cells = (_cell(error[key]) for key in ("base", "tuned", "difference"))
            lines.append(f"{title:32} " + " ".join(f"{cell:>22}" for cell in cells))
        if one["shifted"]:
            lines.append(f"  energies after a shift for each element: {one['shifted']}")
        if one["trained_on"]:
            lines.append(f"  {one['trained_on']} of them are among the new data")
    return lines


def _cell(interval: Mapping[str, Any]) -> str:
    value = f"{interval['value']:.2f}"
    if interval["low"] is None:
        return value
    return f"{value} [{interval['low']:.2f}, {interval['high']:.2f}]"

"""`karat train --forecast`: what a run would take, and no run.

Checked: tests/cli/test_train_forecast.py.
"""

import json
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from karat.cli import fine_tuning
from karat.cli.train_display import display
from karat.core.errors import BadInput

if TYPE_CHECKING:
    from karat.cli.tuning import Search
    from karat.data.dataset import Dataset
    from karat.potentials.model import AbstractModel
    from karat.training.forecast import Forecast
    from karat.training.settings import TrainingSettings


class _Enough(Exception):
    """The forecast is made; nothing more is wanted of the run."""

    def __init__(self, made: "Forecast") -> None:
        super().__init__(made.words)
        self.made = made


def refuse_forecast(task: "AbstractModel | fine_tuning.Start", search: "Search | None") -> None:
    """Refuse where there is nothing to foresee.

    Raises:
        BadInput: a search, a fine-tuning, or a model that is solved for.
    """
    from karat.potentials.model import AbstractSolvedModel

    if search is not None or isinstance(task, fine_tuning.Start | AbstractSolvedModel):
        raise BadInput(
            "--forecast is of one training from the beginning: leave out --tune and --from, and "
            "choose a model that is trained (those that are solved for, as ace or sgdml, check "
            "their memory themselves)."
        )


def show_forecast(
    task: "AbstractModel | fine_tuning.Start",
    parts: "tuple[Dataset, Dataset]",
    settings: "TrainingSettings",
    shown: tuple[bool, bool],
) -> None:
    """Compile and measure a step, print what the run would take; `shown`: plain, as JSON.

    Raises:
        BadInput: as `fit`; also where the memory would not do.
    """
    from karat.training.fit import fit

    assert not isinstance(task, fine_tuning.Start)

    def stop(made: "Forecast") -> None:
        raise _Enough(made)

    with tempfile.TemporaryDirectory() as folder:
        try:
            with display(*shown) as report:
                fit(task, *parts, settings, Path(folder), report, foreseen=stop)
        except _Enough as enough:
            made = enough.made
    words = made.words[:1].upper() + made.words[1:]
    print(json.dumps(made.as_dict(), indent=1) if shown[1] else words)

"""The table of settings in docs/training.md holds every setting with its default."""

import dataclasses
import re
from pathlib import Path

import karat
from karat.training.settings import TrainingSettings

PAGE = Path(karat.__file__).parents[1] / "docs" / "training.md"


def documented() -> dict[str, str]:
    """Name → default, as the page says."""
    found: dict[str, str] = {}
    for line in PAGE.read_text().splitlines():
        cells = [cell.strip() for cell in line.strip("| ").split("|")]
        names = re.findall(r"`(\w+)`", cells[0])
        if not (line.startswith("| `") and names):
            continue
        defaults = cells[1].replace("`", "").split(", ")
        found |= dict(zip(names, defaults * len(names) if len(defaults) == 1 else defaults))
    return found


def test_every_setting_is_there_with_its_default():
    table = documented()
    for field in dataclasses.fields(TrainingSettings):
        said, default = table[field.name], field.default
        if default is None:
            assert said in ("none", "as before"), field.name
        elif isinstance(default, str):
            assert said == default, field.name
        else:
            assert float(said) == default, field.name

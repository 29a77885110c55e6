"""Who tests the stability of candidates at the end of a run.

Checked: tests/training/test_before_and_after.py.
"""

from collections.abc import Callable, Sequence
from typing import Any

import equinox as eqx

from karat.data.dataset import Dataset
from karat.potentials.native_protocol import NativePotential
from karat.structures.labels import LevelOfTheory
from karat.training.references import ReferenceEnergies
from karat.training.run_state import Choose
from karat.training.settings import TrainingSettings
from karat.training.stability import Candidate, Stability, StabilityTest, choose


def make_choice(
    fixed: Any,
    references: ReferenceEnergies,
    level: LevelOfTheory,
    valid: Dataset,
    settings: TrainingSettings,
) -> Choose | None:
    """`choose` for parameters that belong to `fixed`; `None` where no test is asked for.

    Raises:
        BadInput: validation data that cannot be used for it.
    """
    if not settings.stability_picoseconds:
        return None
    length, temperature = settings.stability_picoseconds, settings.stability_temperature_k
    test = StabilityTest.of(valid, length, temperature, settings.seed)

    def choose_among(
        candidates: Sequence[Candidate], rivals: Sequence[Any], announce: Callable[[str], None]
    ) -> tuple[int, Stability]:
        def potential_of(place: int) -> NativePotential:
            module = eqx.combine(rivals[place], fixed)
            return NativePotential(module, references.values, level, settings.dtype)

        return choose(candidates, potential_of, test, announce)

    return choose_among

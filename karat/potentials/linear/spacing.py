"""How far atoms are from each other in a set of crystals: the length that an expansion is built on.

Checked: tests/potentials/linear/test_spacing.py.
"""

import numpy as np
from ase.data import chemical_symbols

from karat.core.errors import BadInput
from karat.data.dataset import Dataset

CUTOFF_SPACINGS = 1.95
"""Cut-off where none is given; chosen by cross-validation on five elements of mlearn."""


def close_packed_spacing(training: Dataset) -> dict[str, float]:
    """Distance of nearest neighbours (Å) in a close packing of the training crystals' median
    density, for each element alike: 2^(1/6) (volume per atom)^(1/3).

    The distance of nearest neighbours itself serves open structures (diamond) badly.

    Raises:
        BadInput: fewer than half of the structures repeat in three directions.
    """
    volumes = [s.volume / len(s) for s in training.structures if s.periodic.all()]
    if 2 * len(volumes) < len(training):
        raise BadInput(
            f"ace.spacing_angstrom: only {len(volumes)} of {len(training)} training structures "
            "repeat in three directions, so that it cannot be taken from their density. Give "
            "about the distance of nearest neighbours by element, and cutoff_angstrom, e.g. "
            "--set spacing_angstrom.C=1.5 --set cutoff_angstrom=5."
        )
    spacing = round(float(2 ** (1 / 6) * np.median(volumes) ** (1 / 3)), 3)
    return {chemical_symbols[z]: spacing for z in training.species}

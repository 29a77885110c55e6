"""How many nodes the radial networks of an imported model need in karat's interpolation.

Checked: tests/potentials/external/mace_torch/test_rebuild.py.
"""

from collections.abc import Mapping
from typing import Final

import numpy as np

from karat.core.errors import BadInput
from karat.potentials.blocks.perceptron import SILU_FACTOR
from karat.potentials.native.mace import Mace

NODE_COUNTS: Final = (64, 96, 128, 192, 256, 384, 512, 768, 1024)
INTERPOLATION_TOLERANCE: Final = 1e-11
"""Of radial functions: energies of large products of them shall still agree to 1e-6."""


def enough_nodes(architecture: Mace, arrays: Mapping[str, np.ndarray]) -> int:
    """The fewest of `NODE_COUNTS` nodes at which karat's interpolation gives the radial networks
    to `INTERPOLATION_TOLERANCE` of their largest value.

    Args:
        architecture: of the model.
        arrays: karat's, by name.

    Raises:
        BadInput: none of them is enough.
    """
    cutoff, power = architecture.cutoff_angstrom, architecture.envelope_power

    def over_envelope(distances: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        x = distances / cutoff
        ends = 1 - x**power * (
            0.5 * (power + 1) * (power + 2)
            - power * (power + 2) * x
            + 0.5 * power * (power + 1) * x * x
        )
        waves = np.sin(np.pi * x[:, None] * arrays["frequencies"]) * np.sqrt(2 / cutoff)
        columns = []
        for layer in range(architecture.layers):
            values = waves / distances[:, None] * ends[:, None]
            for index in range(len(architecture.radial_hidden) + 1):
                weight = arrays[f"layers.{layer}.radial.{index}"]
                values = values @ weight / np.sqrt(len(weight))
                if index < len(architecture.radial_hidden):
                    values = SILU_FACTOR * values / (1 + np.exp(-values))
            columns.append(values)
        return np.concatenate(columns, axis=1), ends[:, None]

    places = np.linspace(0.3, cutoff, 1001)[:-1]
    exact, envelope = over_envelope(places)
    allowed = INTERPOLATION_TOLERANCE * float(np.abs(exact).max())
    differences = []
    for count in NODE_COUNTS:
        zeros = np.polynomial.chebyshev.chebpts1(count)
        values, ends = over_envelope(0.5 * cutoff * (zeros + 1))
        fitted = np.polynomial.chebyshev.chebvander(zeros, count - 1).T @ (values / ends)
        fitted *= np.where(np.arange(count) == 0, 1, 2)[:, None] / count
        table = np.polynomial.chebyshev.chebval(2 * places / cutoff - 1, fitted).T
        differences.append(float(np.abs(table * envelope - exact).max()))
        if differences[-1] <= allowed:
            return count
    raise BadInput(
        "The mace-torch model's radial networks vary too fast for karat: read from "
        f"{NODE_COUNTS[-1]} nodes they differ by {differences[-1] / np.abs(exact).max():.1e} of "
        "their largest value. Use the model through mace-torch itself."
    )

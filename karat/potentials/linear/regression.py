"""`Regression`: how the coefficients of a linear potential are found.

Checked: tests/potentials/linear/test_linear_model.py.
"""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Literal

from karat.core.errors import BadInput, suggestion
from karat.potentials.linear.least_squares import QUANTITIES, Kind


@dataclass(frozen=True)
class Regression:
    """Rows are energies per atom (eV), force components (eV/Å) and virials per atom (stress times
    the volume per atom, eV); a row counts by the square of its weight.

    Attributes:
        solver: ``bayes``: Gaussian prior, its width and the noise found by maximal evidence;
            ``ard``: a prior width for each coefficient, so that useless ones vanish; ``ridge``:
            a prior of given width; ``least_squares``: none.
        noise: of ``bayes`` and ``ard``: ``weights`` takes the ratios of the noises of energies,
            forces and virials from the weights, and finds one factor; ``evidence`` finds them one
            by one, which is right for labels with noise, but gives energies too little weight
            where the errors are those of the basis.
        energy_weight, force_weight, stress_weight: 0 leaves the quantity out.
        group_weights: factors on the weights by kind of structure (``config_type`` of extended
            XYZ); 1 for kinds that are not named, 0 leaves them out.
        ridge: prior precision of ``ridge``, relative to the mean square of the weighted columns.
        smoothness: prior deviations fall as (1 + roughness)^-p; with several p, the one with the
            least error on validation structures is taken.
        scale_features: let prior widths be relative to the inverse size of each feature in the
            training data, so that the units of features do not matter.
        use_validation: fit the final coefficients to training and validation structures, with
            what was chosen and calibrated on the latter before.
        uncertainty: keep the covariance, the active set and the ellipsoid in the file, for
            deviations and grades; takes features² numbers three times.
    """

    solver: Literal["bayes", "ard", "ridge", "least_squares"] = "bayes"
    noise: Literal["weights", "evidence"] = "weights"
    energy_weight: float = 100.0
    force_weight: float = 1.0
    stress_weight: float = 0.3
    group_weights: Mapping[str, float] = field(default_factory=dict)
    ridge: float = 1e-11
    smoothness: tuple[float, ...] = (0.0, 2.0, 4.0)
    scale_features: bool = True
    use_validation: bool = True
    uncertainty: bool = True

    def __post_init__(self) -> None:
        weights = {
            "energy_weight": self.energy_weight,
            "force_weight": self.force_weight,
            "stress_weight": self.stress_weight,
            **{f"group_weights.{name}": weight for name, weight in self.group_weights.items()},
        }
        for name, weight in weights.items():
            if not 0 <= weight < math.inf:
                raise BadInput(f"regression.{name}: {weight} must be 0 or more, and finite.")
        if not self.energy_weight + self.force_weight > 0:
            raise BadInput("regression: energy_weight or force_weight must be above 0.")
        if not 0 < self.ridge < math.inf:
            raise BadInput(f"regression.ridge: {self.ridge} must be above 0, and finite.")
        if not self.smoothness or any(not 0 <= p <= 20 for p in self.smoothness):
            raise BadInput(
                f"regression.smoothness: {list(self.smoothness)} must hold powers in [0, 20]."
            )

    @property
    def quantities(self) -> tuple[Kind, ...]:
        """Those whose weight is not zero."""
        return tuple(q for q, weight in zip(QUANTITIES, self.weights) if weight > 0)

    @property
    def has_prior(self) -> bool:
        """Whether smoothness plays a part."""
        return self.solver != "least_squares"

    @property
    def weights(self) -> tuple[float, float, float]:
        """Of energies, forces and stresses."""
        return self.energy_weight, self.force_weight, self.stress_weight

    def check_groups(self, kinds: Iterable[str]) -> None:
        """Refuse weights of kinds that no structure has.

        Raises:
            BadInput: with the kinds that there are.
        """
        known = set(kinds)
        for name in self.group_weights:
            if name not in known:
                named = known - {""}
                hint = suggestion(name, named) if named else "The data name no kinds."
                raise BadInput(
                    f"regression.group_weights: no structure is of the kind '{name}'; {hint}"
                )

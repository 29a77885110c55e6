"""`Saved`: the state of a run as plain arrays, for checkpoints.

Checked: tests/simulation/engine/test_run.py.
"""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass

import jax.numpy as jnp
import numpy as np

from karat.core.errors import BadInput
from karat.simulation.engine.plan import Grid, Plan
from karat.simulation.engine.state import State


@dataclass(frozen=True, eq=False)
class Saved:
    """A state and the plan of its neighbour rows: the plan decides the order of sums.

    Attributes:
        arrays: of `State`, by name.
        plan, grid: of the rows; `None` where forces come from the host.
        skin: Å.
    """

    arrays: Mapping[str, np.ndarray]
    plan: Plan | None
    grid: Grid | None
    skin: float

    def to_arrays(self) -> dict[str, np.ndarray]:
        """Everything as named arrays."""
        arrays = {f"state.{name}": array for name, array in self.arrays.items()}
        arrays["skin"] = np.asarray(self.skin, np.float64)
        if self.plan is None or self.grid is None:
            return arrays
        for name in (*SIZES, "stencil", "nearest"):
            arrays[f"plan.{name}"] = np.asarray(getattr(self.plan, name))
        for name in GRID:
            arrays[f"grid.{name}"] = np.asarray(getattr(self.grid, name))
        return arrays

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, np.ndarray]) -> "Saved":
        """The inverse of `to_arrays`.

        Raises:
            BadInput: something is missing.
        """
        try:
            state = {name: arrays[f"state.{name}"] for name in STATE}
            if "plan.width" not in arrays:
                return cls(state, None, None, float(arrays["skin"]))
            sizes = {name: int(arrays[f"plan.{name}"]) for name in SIZES}
            nearest = bool(arrays["plan.nearest"])
            first, second, third = (int(value) for value in arrays["plan.stencil"])
            plan = Plan(stencil=(first, second, third), nearest=nearest, **sizes)
            grid = Grid(**{name: jnp.asarray(arrays[f"grid.{name}"]) for name in GRID})
            return cls(state, plan, grid, float(arrays["skin"]))
        except KeyError as error:
            raise BadInput(
                f"the checkpoint holds no {error}: it is not of this version of karat. Start the "
                "run anew."
            ) from error


STATE = tuple(field.name for field in dataclasses.fields(State))
SIZES = ("cells", "capacity", "width", "block", "blocks")
GRID = ("counts", "away", "start", "reach")


def save_state(state: State, plan: Plan | None, grid: Grid | None, skin: float) -> Saved:
    """`state` on the host."""
    arrays = {name: np.asarray(getattr(state, name)) for name in STATE}
    return Saved(arrays, plan, grid, skin)


def load_state(saved: Saved, like: State) -> State:
    """The saved state on the device.

    Raises:
        BadInput: it is of other atoms, another ensemble or another precision.
    """
    arrays = {}
    for name in STATE:
        have, want = saved.arrays[name], getattr(like, name)
        if have.shape != want.shape or have.dtype != want.dtype:
            raise BadInput(
                f"the checkpoint's {name} is {have.dtype}{list(have.shape)}, the run's "
                f"{want.dtype}{list(want.shape)}: it belongs to another run. Use the structures, "
                "settings and potential it was made with, or start anew."
            )
        arrays[name] = jnp.asarray(have)
    return State(**arrays)

"""`Systems`: the atoms of one or several structures side by side, as the engine moves them.

Checked: tests/simulation/engine/test_rows.py, test_run.py.
"""

from collections.abc import Sequence

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from karat.simulation.velocities import degrees_of_freedom, masses
from karat.structures.structure import Structure


class Systems(eqx.Module):
    """What does not change while atoms move. The last atom and the last system are padding.

    Attributes:
        numbers: atomic numbers, 0 on padding.
        system: index of each atom's system, ascending.
        order: index of each atom within its system.
        mass: amu; 1 on padding.
        periodic: which of the three directions of each system repeat.
        freedom: degrees of freedom of each system whose overall motion is at rest.
    """

    numbers: Int[Array, "atoms"]
    system: Int[Array, "atoms"]
    order: Int[Array, "atoms"]
    mass: Float[Array, "atoms"]
    periodic: Bool[Array, "systems 3"]
    freedom: Float[Array, "systems"]

    @property
    def atoms(self) -> int:
        """Number of atoms, the padding one included."""
        return self.numbers.shape[0]

    @property
    def count(self) -> int:
        """Number of systems, the padding one included."""
        return self.periodic.shape[0]

    @property
    def real(self) -> Bool[Array, "atoms"]:
        """False on padding."""
        return self.numbers > 0


def pack_systems(structures: Sequence[Structure], dtype: np.dtype) -> Systems:
    """The systems of `structures`, in their order, and one padding atom in a padding system."""
    sizes = [len(structure) for structure in structures]
    return Systems(
        numbers=jnp.asarray(joined([s.numbers for s in structures], 0), jnp.int32),
        system=jnp.asarray(np.repeat(np.arange(len(sizes) + 1), [*sizes, 1]), jnp.int32),
        order=jnp.asarray(joined([np.arange(size) for size in sizes], 0), jnp.int32),
        mass=jnp.asarray(joined([masses(s) for s in structures], 1.0), dtype),
        periodic=jnp.asarray(joined([s.periodic[None] for s in structures], False)),
        freedom=jnp.asarray(joined([np.array([degrees_of_freedom(s)]) for s in structures], 0.0),
                            dtype),
    )  # fmt: skip


def pack_cells(structures: Sequence[Structure]) -> Float[np.ndarray, "systems 3 3"]:
    """Cells (Å) completed by unit vectors at right angles along directions that do not repeat."""
    from ase.geometry.cell import complete_cell

    cells = [complete_cell(np.where(s.periodic[:, None], s.cell, 0.0)) for s in structures]
    return np.array([*cells, np.eye(3)])


def joined(parts: Sequence[np.ndarray], padding: float | int | bool) -> np.ndarray:
    """All rows one after the other, and one row of padding."""
    rows = np.concatenate(parts)
    return np.concatenate([rows, np.full((1, *rows.shape[1:]), padding, rows.dtype)])

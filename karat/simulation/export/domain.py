"""One rank's share of a system: own atoms, ghosts around them, and who owns the ghosts.

Checked: tests/simulation/export/test_lammps_fix.py, test_lammps_ranks.py.
"""

from typing import Any

import numpy as np
from jaxtyping import Float, Int

from karat.core.errors import CalculationFailed
from karat.potentials import locality
from karat.potentials.native_protocol import NativePotential
from karat.potentials.protocol import AbstractPotential
from karat.simulation.export.compiled import SKIN, Answer, ListKernel, search


def strictly_local(potential: AbstractPotential) -> bool:
    """Whether each atom's energy is known to depend on atoms within the cut-off only."""
    return isinstance(potential, NativePotential) and locality.strictly_local(potential.module)


class Domain:
    """A strictly local potential on one rank.

    Pairs whose centre is an own atom suffice: the energy of an own atom depends on no other.
    The list is kept until atoms change places in memory or one has moved through half the skin.

    Attributes:
        builds: how often the list was made.
    """

    def __init__(self, potential: NativePotential, communicator: Any = None) -> None:
        self.builds = 0
        self._potential, self._communicator = potential, communicator
        self._kernel = ListKernel(potential, potential.module.species)
        self._exchange = Exchange(communicator)
        self._tags = np.zeros(0, np.int64)
        self._own = -1
        self._built_at = np.zeros((0, 3))

    def evaluate(
        self,
        own: int,
        tags: Int[np.ndarray, "atoms"],
        numbers: Int[np.ndarray, "atoms"],
        positions: Float[np.ndarray, "atoms 3"],
    ) -> Answer:
        """Energy and virial of all ranks, forces on the `own` first atoms; ghosts follow them.

        Raises:
            CalculationFailed: not finite.
        """
        if not np.isfinite(positions).all():
            raise CalculationFailed("positions are not finite: exploded.", kind="not-finite")
        moved = own != self._own or not np.array_equal(tags, self._tags)
        if self._any(moved):
            self._own, self._tags = own, np.array(tags)
            self._exchange.set_atoms(tags[:own], tags[own:])
            self._build(own, numbers, positions)
        elif np.max((positions - self._built_at) ** 2 @ np.ones(3), initial=0) > SKIN**2 / 4:
            self._build(own, numbers, positions)
        answer = self._kernel(positions)
        forces = np.array(answer.forces[:own])
        self._exchange.add(answer.forces[own:], forces)
        energy = answer.energy + sum(
            count * self._potential.reference_energies.get(int(z), 0.0)
            for z, count in zip(*np.unique(numbers[:own], return_counts=True))
        )
        assert answer.virial is not None
        total = self._sum(np.concatenate([[energy], answer.virial.ravel()]))
        return Answer(float(total[0]), forces, total[1:].reshape(3, 3))

    def _build(self, own: int, numbers: np.ndarray, positions: np.ndarray) -> None:
        self.builds += 1
        self._built_at = np.array(positions)
        centers = neighbours = np.zeros(0, np.int64)
        if own:
            nowhere, free = np.zeros((3, 3)), np.zeros(3, bool)  # ghosts are the periodic images
            reach = self._potential.module.cutoff + SKIN
            centers, neighbours, _ = search(positions, nowhere, free, reach)
            mine = np.searchsorted(centers, own)
            centers, neighbours = centers[:mine], neighbours[:mine]
        self._kernel.set_list(numbers, centers, neighbours, own)
        self._kernel.set_offsets(np.zeros((len(centers), 3)))

    def _any(self, mine: bool) -> bool:
        """Whether it is so on any rank: what follows is done by all of them."""
        if self._communicator is None:
            return mine
        return bool(self._communicator.allreduce(int(mine)))

    def _sum(self, mine: np.ndarray) -> np.ndarray:
        if self._communicator is None:
            return mine
        total = np.empty_like(mine)
        self._communicator.Allreduce(mine, total)
        return total


class Exchange:
    """Brings forces on ghosts to the atoms that they are images of, on whichever rank."""

    def __init__(self, communicator: Any = None) -> None:
        self._communicator = communicator

    def set_atoms(self, own: Int[np.ndarray, "own"], ghosts: Int[np.ndarray, "ghosts"]) -> None:
        """Find the owner of each ghost by its tag; all ranks call this together."""
        own, ghosts = np.asarray(own, np.int64), np.asarray(ghosts, np.int64)
        if self._communicator is None:
            order = np.argsort(own)
            self._place = order[np.searchsorted(own[order], ghosts)]
            return
        every = self._communicator.allgather(own)
        ranks = np.repeat(np.arange(len(every)), [len(tags) for tags in every])
        places = np.concatenate([np.arange(len(tags)) for tags in every])
        tags = np.concatenate(every)
        order = np.argsort(tags)
        found = order[np.searchsorted(tags[order], ghosts)]
        self._order = np.argsort(ranks[found], kind="stable")
        self._sent = np.bincount(ranks[found], minlength=len(every))
        send = np.ascontiguousarray(places[found][self._order])
        self._received = np.array(self._communicator.alltoall(self._sent.tolist()))
        self._place = np.empty(self._received.sum(), np.int64)
        self._communicator.Alltoallv((send, self._sent), (self._place, self._received))

    def add(self, ghosts: Float[np.ndarray, "ghosts 3"], own: Float[np.ndarray, "own 3"]) -> None:
        """Add forces on ghosts to those of their owners, in place."""
        if self._communicator is not None:
            send = np.ascontiguousarray(ghosts[self._order])
            ghosts = np.empty((len(self._place), 3))
            self._communicator.Alltoallv((send, 3 * self._sent), (ghosts, 3 * self._received))
        np.add.at(own, self._place, ghosts)

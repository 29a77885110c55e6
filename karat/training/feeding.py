"""The batches of each step, put together on the host just before they are needed.

That takes about 0.1 ms for a batch of 1000 pairs, and JAX runs the steps before meanwhile
(asynchronous dispatch), so that no thread of its own is needed.

Checked: tests/training/test_step.py.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import jax
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec

from karat.training.batches import Fields, Graph, assemble_on_host, label_numbers
from karat.training.packing import Packing
from karat.training.step import Micro, Recipe


@dataclass(frozen=True, eq=False)
class Feed:
    """The structures of an epoch, step by step.

    Attributes:
        graphs: all.
        packing: of them.
        accumulate: batches of one step on each device.
        recipe: of the step.
        dtype: of the batches.
    """

    graphs: Sequence[Graph]
    packing: Packing
    accumulate: int
    recipe: Recipe
    dtype: str

    @property
    def steps(self) -> int:
        """Of an epoch; some have one or two more."""
        return -(-self.packing.batches // (self.accumulate * self.recipe.devices))

    def epoch(self, epoch: int) -> list[list[list[np.ndarray]]]:
        """Structures of each step, of each batch of devices in it, on each device."""
        batches, devices = self.packing.epoch(epoch), self.recipe.devices
        together = devices > 1 and self.packing.shapes.number > 1
        if together:  # those that are computed together shall be of one shape
            batches.sort(key=lambda batch: self.packing.size(batch) == self.packing.shapes.large)
        rows = [batches[i : i + devices] for i in range(0, len(batches), devices)]
        if together:
            shuffle = np.random.default_rng([self.packing.seed, epoch, 1]).permutation(len(rows))
            rows = [rows[i] for i in shuffle]
        return [rows[i : i + self.accumulate] for i in range(0, len(rows), self.accumulate)]

    def micros(self, step: Sequence[Sequence[np.ndarray]]) -> Iterator[Micro]:
        """The batches of a step."""
        for row in step:
            yield self._micro(row)

    def counts(self, step: Sequence[Sequence[np.ndarray]]) -> np.ndarray:
        """Number of energies, force components and stress components of a step."""
        members = [self.graphs[i] for row in step for batch in row for i in batch]
        return np.array(label_numbers(members), self.dtype)

    def padding(self, steps: Sequence[Sequence[Sequence[np.ndarray]]]) -> float:
        """Part of the computed pairs (triplets) that is padding, over these steps."""
        unit = self.packing.unit
        rows = [row for step in steps for row in step]
        padded = sum(self.packing.size_of_all(row)[unit] for row in rows) * self.recipe.devices
        real = sum(int(self.packing.counts[batch, unit].sum()) for row in rows for batch in row)
        return 1.0 - real / max(padded, 1)

    def _micro(self, row: Sequence[np.ndarray]) -> Micro:
        sizes = self.packing.size_of_all(row)
        members = [[self.graphs[i] for i in batch] for batch in row]
        mesh = self.recipe.mesh
        if mesh is None:
            return assemble_on_host(members[0], sizes, self.dtype)
        members += [[]] * (self.recipe.devices - len(members))
        parts = [assemble_on_host(graphs, sizes, self.dtype) for graphs in members]
        stacked: Micro = (_stacked([p[0] for p in parts]), _stacked([p[1] for p in parts]))
        split: Micro = jax.device_put(stacked, NamedSharding(mesh, PartitionSpec("data")))
        return split


def _stacked(fields: Sequence[Fields]) -> Fields:
    """The fields of several batches along a new first axis; what none has stays `None`."""
    return {
        name: None if first is None else np.stack([field[name] for field in fields])
        for name, first in fields[0].items()
    }

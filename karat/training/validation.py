"""Errors over the validation data, and what is predicted for it.

Checked: tests/training/test_trainer.py, test_parity.py.
"""

from collections.abc import Callable, Sequence
from typing import Any

import equinox as eqx
import jax
import numpy as np

from karat.training.batches import Graph, assemble_on_host
from karat.training.loss import Errors, total_errors
from karat.training.packing import pack
from karat.training.parity import Predictions
from karat.training.settings import TrainingSettings
from karat.training.step import evaluate

BATCH = 25
"""Structures in a validation batch, about."""


class Validation:
    """Compiled errors and predictions for given parameters; the batches are kept on the device.

    Args:
        fixed: the module without its trainable arrays.
        graphs: of the validation data.
        announce: told in words before a compilation.
    """

    def __init__(
        self,
        fixed: Any,
        graphs: Sequence[Graph],
        settings: TrainingSettings,
        announce: Callable[[str], None],
    ) -> None:
        packing = pack(np.array([graph.counts for graph in graphs]), BATCH, 0)
        self.members = packing.epoch(0)
        self.shapes = [packing.size(batch) for batch in self.members]
        self.batches = [
            jax.device_put(assemble_on_host([graphs[i] for i in batch], size, settings.dtype))
            for batch, size in zip(self.members, self.shapes)
        ]
        self.atoms = np.array([len(graph.numbers) for graph in graphs])
        self.weights = settings.last_weights
        self._arrays, self._static = eqx.partition(fixed, eqx.is_array)
        self._kinds = settings.kinds
        self._deltas = np.array(settings.deltas, settings.dtype)
        self._announce = announce
        self._compiled: set[Any] = set()

    def errors(self, parameters: Any) -> Errors:
        """With these parameters."""
        parts = [self._evaluate(parameters, i).sums for i in range(len(self.batches))]
        return total_errors(parts, self.weights)

    def predictions(self, parameters: Any) -> Predictions:
        """With these parameters, in the order of the data."""
        ends = np.cumsum(self.atoms)
        energies, forces = np.zeros(len(self.atoms)), np.zeros((ends[-1], 3))
        for index, batch in enumerate(self.members):
            found = self._evaluate(parameters, index)
            energies[batch] = np.asarray(found.energies, float)[: len(batch)]
            rows = [np.arange(ends[i] - self.atoms[i], ends[i]) for i in batch]
            forces[np.concatenate(rows)] = np.asarray(found.forces, float)[
                : self.atoms[batch].sum()
            ]
        return Predictions(energies, forces)

    def _evaluate(self, parameters: Any, index: int) -> Any:
        shape = self.shapes[index]
        if shape not in self._compiled:
            self._compiled.add(shape)
            total = len(set(self.shapes))
            self._announce(f"compiling the validation ({len(self._compiled)} of {total} shapes)")
        return evaluate(
            parameters,
            self._arrays,
            self.batches[index],
            self._deltas,
            static=self._static,
            kinds=self._kinds,
        )

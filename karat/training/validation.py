"""Errors over the validation data, and what is predicted for it.

Checked: tests/training/test_trainer.py, test_parity.py.
"""

from collections.abc import Callable, Sequence
from typing import Any

import equinox as eqx
import jax
import numpy as np

from karat.training.batches import Graph, assemble_on_host
from karat.training.committee_step import evaluate_members
from karat.training.loss import Errors, total_errors
from karat.training.packing import pack
from karat.training.parity import Predictions
from karat.training.settings import TrainingSettings
from karat.training.step import evaluate

BATCH = 25
"""Structures in a validation batch, about."""


class Validation:
    """Compiled errors and predictions for given parameters; the batches are kept on the device.

    Of a committee there are rows: one for each member, and a last one for their mean.

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
        self._rows = (settings.members + 1,) if settings.members > 1 else ()
        self._arrays, self._static = eqx.partition(fixed, eqx.is_array)
        self._kinds = settings.kinds
        self._deltas = np.array(settings.deltas, settings.dtype)
        self._announce = announce
        self.compiled: set[Any] = set()

    def errors(self, parameters: Any) -> Errors:
        """With these parameters; of a committee those of the mean."""
        return self.rows(parameters)[-1]

    def rows(self, parameters: Any) -> list[Errors]:
        """With these parameters, of each row; of a single potential there is one."""
        parts = [self._evaluate(parameters, i).sums for i in range(len(self.batches))]
        if not self._rows:
            return [total_errors(parts, self.weights)]
        on_host = jax.device_get(parts)
        rows = [
            [jax.tree.map(lambda values, row=row: values[row], part) for part in on_host]
            for row in range(*self._rows)
        ]
        return [total_errors(row, self.weights) for row in rows]

    def predictions(self, parameters: Any) -> Predictions:
        """With these parameters, in the order of the data; of a committee with rows."""
        ends = np.cumsum(self.atoms)
        energies = np.zeros((*self._rows, len(self.atoms)))
        forces = np.zeros((*self._rows, ends[-1], 3))
        for index, batch in enumerate(self.members):
            found = self._evaluate(parameters, index)
            energies[..., batch] = np.asarray(found.energies, float)[..., : len(batch)]
            rows = [np.arange(ends[i] - self.atoms[i], ends[i]) for i in batch]
            forces[..., np.concatenate(rows), :] = np.asarray(found.forces, float)[
                ..., : self.atoms[batch].sum(), :
            ]
        return Predictions(energies, forces)

    def _evaluate(self, parameters: Any, index: int) -> Any:
        shape = self.shapes[index]
        if shape not in self.compiled:
            self.compiled.add(shape)
            total = len(set(self.shapes))
            self._announce(f"compiling the validation ({len(self.compiled)} of {total} shapes)")
        compute = evaluate_members if self._rows else evaluate
        return compute(
            parameters,
            self._arrays,
            self.batches[index],
            self._deltas,
            static=self._static,
            kinds=self._kinds,
        )

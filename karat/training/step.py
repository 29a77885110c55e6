"""One compiled training step: gradient of the loss, direction, new parameters, their average.

A step is a pure function of parameters and their companions, the fixed arrays, the batch, the
targets and a few numbers: no number is a constant of the compiled code, so that runs on other
data with the same shapes share it, also through JAX's persistent cache.

Checked: tests/training/test_trainer.py, test_step.py.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jaxtyping import Array, Float

from karat.core.errors import BadInput
from karat.potentials.batch import Batch
from karat.potentials.native_protocol import AbstractNativePotential, derive
from karat.training.batches import Fields, Targets
from karat.training.loss import Sums, batch_errors, error_sums, loss_sums
from karat.training.optimisers import make_optimiser
from karat.training.settings import Kind, TrainingSettings

Moving = tuple[Any, Any, Any]
"""Parameters, average, memory of the optimiser."""

Micro = tuple[Fields, Fields]
"""A batch and its targets as fields; with a leading axis where devices share the step."""


class Numbers(NamedTuple):
    """What else a step depends on.

    Attributes:
        weights: of the loss's terms.
        counts: number of errors of each term in all batches of the step: what makes sums means;
            of a committee for each member.
        deltas: of Huber losses.
        rate: learning rate.
        decay: weight of the old average.
    """

    weights: Float[Array, "3"] | Float[np.ndarray, "3"]
    counts: Float[Array, "*members 3"] | Float[np.ndarray, "*members 3"]
    deltas: Float[Array, "3"] | Float[np.ndarray, "3"]
    rate: Float[Array, ""] | Float[np.ndarray, ""]
    decay: Float[Array, ""] | Float[np.ndarray, ""]


@dataclass(frozen=True)
class Recipe:
    """What a step is compiled for.

    Attributes:
        kinds: of the loss's terms.
        optimiser, gradient_clip, weight_decay: see `make_optimiser`.
        mesh: of the devices that share each step, `None` for one.
    """

    kinds: tuple[Kind, Kind, Kind]
    optimiser: str
    gradient_clip: float
    weight_decay: float
    mesh: Mesh | None = None

    @classmethod
    def of(cls, settings: TrainingSettings) -> "Recipe":
        """The settings' own.

        Raises:
            BadInput: more devices than there are.
        """
        clip, shrink = float(settings.gradient_clip), float(settings.weight_decay)
        return cls(settings.kinds, settings.optimiser, clip, shrink, make_mesh(settings.devices))

    @property
    def devices(self) -> int:
        """That share a step."""
        return 1 if self.mesh is None else self.mesh.size


def make_mesh(devices: int) -> Mesh | None:
    """The first `devices` devices (0: all) along one axis, ``data``; `None` for one.

    Raises:
        BadInput: more than there are.
    """
    found = jax.devices()
    if devices > len(found):
        raise BadInput(
            f"training.devices {devices}: this process has {len(found)} "
            f"({found[0].platform}). Ask for fewer, or 0 for all."
        )
    number = devices or len(found)
    return None if number == 1 else Mesh(np.array(found[:number]), ("data",))


def batch_loss(
    potential: AbstractNativePotential,
    batch: Batch,
    targets: Targets,
    numbers: Numbers,
    kinds: tuple[Kind, Kind, Kind],
) -> tuple[Float[Array, ""], Float[Array, "3"]]:
    """What a batch contributes to the loss of its step, and to its three terms unweighted: sums
    over the batch, divided by the numbers of errors in the whole step."""
    errors = batch_errors(derive(potential, batch), targets, batch.volume)
    terms = loss_sums(errors, kinds, jnp.asarray(numbers.deltas))
    terms = terms / jnp.maximum(jnp.asarray(numbers.counts), 1.0)
    return jnp.sum(jnp.asarray(numbers.weights) * terms), terms


def loss_gradient(
    parameters: Any,
    arrays: Any,
    static: Any,
    batch: Batch,
    targets: Targets,
    numbers: Numbers,
    kinds: tuple[Kind, Kind, Kind],
) -> tuple[Any, Float[Array, "3"]]:
    """Gradient of `batch_loss` with respect to `parameters`, and the three terms."""

    def loss(p: Any) -> tuple[Float[Array, ""], Float[Array, "3"]]:
        return batch_loss(eqx.combine(p, arrays, static), batch, targets, numbers, kinds)

    gradient, terms = jax.grad(loss, has_aux=True)(parameters)
    return gradient, terms


def _gradient(
    parameters: Any, arrays: Any, micro: Micro, numbers: Numbers, static: Any, recipe: Recipe
) -> tuple[Any, Float[Array, "3"]]:
    """Gradient and terms of a batch, or summed over those of all devices."""

    def one(p: Any, fixed: Any, fields: Micro, values: Numbers) -> tuple[Any, Float[Array, "3"]]:
        batch, targets = Batch(**fields[0]), Targets(**fields[1])
        return loss_gradient(p, fixed, static, batch, targets, values, recipe.kinds)

    if recipe.mesh is None:
        return one(parameters, arrays, micro, numbers)

    def mine(p: Any, fixed: Any, fields: Micro, values: Numbers) -> tuple[Any, Float[Array, "3"]]:
        own = jax.tree.map(lambda field: field[0], fields)
        summed: tuple[Any, Float[Array, "3"]] = jax.lax.psum(one(p, fixed, own, values), "data")
        return summed

    every, split = PartitionSpec(), PartitionSpec("data")
    shared: tuple[Any, Float[Array, "3"]] = jax.shard_map(
        mine,
        mesh=recipe.mesh,
        in_specs=(every, every, split, every),
        out_specs=every,
        check_vma=False,  # the sum over devices is written out above
    )(parameters, arrays, micro, numbers)
    return shared


def direction(gradient: Any, memory: Any, parameters: Any, recipe: Recipe) -> tuple[Any, Any]:
    """The optimiser's direction, and its memory after it."""
    with jax.numpy_dtype_promotion("standard"):  # optax raises floats to integer powers
        transform = make_optimiser(recipe.optimiser, recipe.gradient_clip, recipe.weight_decay)
        updates, memory = transform.update(gradient, memory, parameters)
    return updates, memory


def moved(
    moving: Moving,
    gradient: Any,
    numbers: Numbers,
    recipe: Recipe,
    found: tuple[Any, Any] | None = None,
) -> Moving:
    """Parameters a step along the optimiser's direction, and the average after it; `found`: that
    direction and the memory after it, where they are known."""
    parameters, average, memory = moving
    rate, decay = jnp.asarray(numbers.rate), jnp.asarray(numbers.decay)
    updates, memory = found or direction(gradient, memory, parameters, recipe)
    parameters = jax.tree.map(lambda p, u: p - rate * u, parameters, updates)
    average = jax.tree.map(lambda a, p: decay * a + (1 - decay) * p, average, parameters)
    return parameters, average, memory


@partial(jax.jit, static_argnames=("static", "recipe"), donate_argnames=("moving",))
def _step(
    moving: Moving, arrays: Any, micro: Micro, numbers: Numbers, *, static: Any, recipe: Recipe
) -> tuple[Moving, Float[Array, "3"]]:
    """A step of one batch (on each device)."""
    gradient, terms = _gradient(moving[0], arrays, micro, numbers, static, recipe)
    return moved(moving, gradient, numbers, recipe), terms


@partial(jax.jit, static_argnames=("static", "recipe"), donate_argnames=("total",))
def _add(
    total: Any,
    parameters: Any,
    arrays: Any,
    micro: Micro,
    numbers: Numbers,
    *,
    static: Any,
    recipe: Recipe,
) -> Any:
    """`total` (gradient and terms) with those of one more batch."""
    more = _gradient(parameters, arrays, micro, numbers, static, recipe)
    return jax.tree.map(jnp.add, total, more)


@partial(jax.jit, static_argnames=("recipe",), donate_argnames=("moving",))
def _move(moving: Moving, gradient: Any, numbers: Numbers, *, recipe: Recipe) -> Moving:
    return moved(moving, gradient, numbers, recipe)


Step = Callable[[Moving, Sequence[Micro], Numbers], tuple[Moving, Float[Array, "*members 3"]]]


def make_step(fixed: Any, settings: TrainingSettings) -> Step:
    """The compiled step: what moves, the batches of one step, the numbers → what moves, and the
    loss's terms before the step.

    Of several batches (`accumulate`) the gradients are added: since each is divided by the numbers
    of errors in all of them, the step is that of one batch with all their structures.
    """
    arrays, static = eqx.partition(fixed, eqx.is_array)
    recipe = Recipe.of(settings)
    arrays = replicated(arrays, recipe)

    def step(
        moving: Moving, micros: Sequence[Micro], numbers: Numbers
    ) -> tuple[Moving, Float[Array, "3"]]:
        if settings.accumulate == 1:
            (micro,) = micros
            done: tuple[Moving, Float[Array, "3"]] = _step(
                moving, arrays, micro, numbers, static=static, recipe=recipe
            )
            return done
        zeros = jax.tree.map(jnp.zeros_like, moving[0]), jnp.zeros(3, settings.dtype)
        total = replicated(zeros, recipe)
        for micro in micros:
            total = _add(total, moving[0], arrays, micro, numbers, static=static, recipe=recipe)
        moved: Moving = _move(moving, total[0], numbers, recipe=recipe)
        return moved, total[1]

    return step


def replicated(tree: Any, recipe: Recipe) -> Any:
    """The same on all devices of the recipe."""
    if recipe.mesh is None:
        return tree
    return jax.device_put(tree, NamedSharding(recipe.mesh, PartitionSpec()))


class Evaluated(eqx.Module):
    """A validation batch: its error sums, and what was predicted (eV, without reference energies;
    eV/Å), padding included; of a committee each with an axis of rows, see `evaluate_members`."""

    sums: Sums
    energies: Float[Array, "*rows systems"]
    forces: Float[Array, "*rows atoms 3"]


@partial(jax.jit, static_argnames=("static", "kinds"))
def evaluate(
    parameters: Any,
    arrays: Any,
    micro: Micro,
    deltas: Float[Array, "3"] | Float[np.ndarray, "3"],
    *,
    static: Any,
    kinds: tuple[Kind, Kind, Kind],
) -> Evaluated:
    """Errors and predictions of a batch."""
    batch, targets = Batch(**micro[0]), Targets(**micro[1])
    derived = derive(eqx.combine(parameters, arrays, static), batch)
    sums = error_sums(derived, targets, batch.volume, kinds, jnp.asarray(deltas))
    return Evaluated(sums, derived.energies, derived.forces)

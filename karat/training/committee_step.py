"""One compiled training step of all members of a committee: the program of `step.py` with an axis
of members, in which batches are shared.

Parameters are the trainable part of a `CommitteeModule`. Members that share nothing have their own
loss, norm of the gradient and memory of the optimiser, so that each moves as it would alone; those
with a shared trunk have one of each, from the mean of their losses.

Checked: tests/training/test_committee.py.
"""

from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from karat.potentials.batch import Batch
from karat.potentials.committee_module import CommitteeModule, derive_members
from karat.potentials.native_protocol import AbstractNativePotential, derive
from karat.training.batches import Targets
from karat.training.feeding import Feed
from karat.training.loss import Terms, batch_errors, error_sums, loss_of, loss_sums
from karat.training.members import Members
from karat.training.settings import Kind, TrainingSettings
from karat.training.step import (
    Evaluated,
    Micro,
    Moving,
    Numbers,
    Recipe,
    Step,
    direction,
    moved,
)

DRAWS = "draws"
"""How often each member drew each structure of a batch, among the fields of its targets."""


def member_micros(
    feed: Feed, step: Sequence[Sequence[np.ndarray]], members: Members
) -> Iterator[Micro]:
    """The batches of a step, with what each member drew of them."""
    for row, (batch, targets) in zip(step, feed.micros(step)):
        draws = None
        if members.draws is not None:
            draws = np.zeros((members.number, len(targets["energy"])), feed.dtype)
            draws[:, : len(row[0])] = members.draws[:, row[0]]
        yield batch, {**targets, DRAWS: draws}


def drawn_sums(
    errors: Terms,
    draws: Float[Array, "systems"],
    owner: Array,
    kinds: tuple[Kind, Kind, Kind],
    deltas: Float[Array, "3"],
) -> Float[Array, "3"]:
    """As `loss_sums`, over structures as often as they were drawn; `owner`: of each atom."""
    weights = (draws, draws[owner][:, None], draws[:, None, None])
    losses = [loss_of(k, e, d) for k, e, d in zip(kinds, errors, deltas)]
    return jnp.stack([jnp.sum(w * loss) for w, loss in zip(weights, losses)])


def member_loss(
    potential: AbstractNativePotential,
    batch: Batch,
    targets: Targets,
    draws: Float[Array, "systems"] | None,
    numbers: Numbers,
    kinds: tuple[Kind, Kind, Kind],
) -> tuple[Float[Array, ""], Float[Array, "3"]]:
    """What a batch contributes to one member's loss, and to its three terms unweighted.

    The sums are divided by the numbers of errors in the step times the part of all labels that
    the member drew (`Members.shares`), not by the number drawn in this step: so a pass over all
    batches weights every structure by its draws, and one batch of all structures has exactly the
    loss of the resampled data.
    """
    errors = batch_errors(derive(potential, batch), targets, batch.volume)
    deltas = jnp.asarray(numbers.deltas)
    if draws is None:
        terms = loss_sums(errors, kinds, deltas)
    else:
        terms = drawn_sums(errors, draws, batch.system, kinds, deltas)
    # without labels of a kind the sum is zero: any number will do
    counts = jnp.asarray(numbers.counts)
    terms = terms / jnp.where(counts > 0, counts, 1.0)
    return jnp.sum(jnp.asarray(numbers.weights) * terms), terms


def committee_gradient(
    parameters: Any,
    arrays: Any,
    static: Any,
    micro: Micro,
    numbers: Numbers,
    kinds: tuple[Kind, Kind, Kind],
    own_trunk: bool,
) -> tuple[Any, Float[Array, "members 3"]]:
    """Gradient of each member's loss with respect to its own parameters, or of the mean loss where
    the trunk is shared; and each member's three terms."""
    batch, fields = Batch(**micro[0]), dict(micro[1])
    draws = fields.pop(DRAWS)
    targets = Targets(**fields)

    def loss(p: Any) -> tuple[Float[Array, ""], Float[Array, "members 3"]]:
        committee: CommitteeModule = eqx.combine(p, arrays, static)

        def one(member: AbstractNativePotential, mine: Any, counts: Any) -> Any:
            its = numbers._replace(counts=counts)
            return member_loss(member, batch, targets, mine, its, kinds)

        losses, terms = committee.each(one, draws, numbers.counts)
        return (jnp.sum(losses) if own_trunk else jnp.mean(losses)), terms

    gradient, terms = jax.grad(loss, has_aux=True)(parameters)
    return gradient, terms


def _moved(moving: Moving, gradient: Any, numbers: Numbers, recipe: Recipe, own: bool) -> Moving:
    """Each member along its own direction, or all along the one of the whole."""
    if not own:
        return moved(moving, gradient, numbers, recipe)
    parameters, _, memory = moving
    one = partial(direction, recipe=recipe)
    updates, memory = jax.vmap(one)(gradient, memory, parameters)
    return moved(moving, gradient, numbers, recipe, (updates, memory))


_STATIC = ("static", "recipe", "own")


@partial(jax.jit, static_argnames=_STATIC, donate_argnames=("moving",))
def _step(
    moving: Moving,
    arrays: Any,
    micro: Micro,
    numbers: Numbers,
    *,
    static: Any,
    recipe: Recipe,
    own: bool,
) -> tuple[Moving, Float[Array, "members 3"]]:
    gradient, terms = committee_gradient(
        moving[0], arrays, static, micro, numbers, recipe.kinds, own
    )
    return _moved(moving, gradient, numbers, recipe, own), terms


@partial(jax.jit, static_argnames=_STATIC, donate_argnames=("total",))
def _add(
    total: Any,
    parameters: Any,
    arrays: Any,
    micro: Micro,
    numbers: Numbers,
    *,
    static: Any,
    recipe: Recipe,
    own: bool,
) -> Any:
    more = committee_gradient(parameters, arrays, static, micro, numbers, recipe.kinds, own)
    return jax.tree.map(jnp.add, total, more)


@partial(jax.jit, static_argnames=("recipe", "own"), donate_argnames=("moving",))
def _move(moving: Moving, gradient: Any, numbers: Numbers, *, recipe: Recipe, own: bool) -> Moving:
    return _moved(moving, gradient, numbers, recipe, own)


def make_member_step(fixed: Any, settings: TrainingSettings) -> Step:
    """As `make_step`, for all members; the loss's terms have an axis of members in front, and so
    have the counts that it is given."""
    arrays, static = eqx.partition(fixed, eqx.is_array)
    recipe, own = Recipe.of(settings), settings.member_trunk == "own"

    def step(
        moving: Moving, micros: Sequence[Micro], numbers: Numbers
    ) -> tuple[Moving, Float[Array, "members 3"]]:
        constant = {"static": static, "recipe": recipe, "own": own}
        if settings.accumulate == 1:
            (micro,) = micros
            done: tuple[Moving, Float[Array, "members 3"]] = _step(
                moving, arrays, micro, numbers, **constant
            )
            return done
        terms = jnp.zeros((settings.members, 3), settings.dtype)
        total = jax.tree.map(jnp.zeros_like, moving[0]), terms
        for micro in micros:
            total = _add(total, moving[0], arrays, micro, numbers, **constant)
        after: Moving = _move(moving, total[0], numbers, recipe=recipe, own=own)
        return after, total[1]

    return step


@partial(jax.jit, static_argnames=("static", "kinds"))
def evaluate_members(
    parameters: Any,
    arrays: Any,
    micro: Micro,
    deltas: Float[Array, "3"] | Float[np.ndarray, "3"],
    *,
    static: Any,
    kinds: tuple[Kind, Kind, Kind],
) -> Evaluated:
    """Errors and predictions of a batch, of each member and, in the last row, of their mean."""
    batch, targets = Batch(**micro[0]), Targets(**micro[1])
    derived = derive_members(eqx.combine(parameters, arrays, static), batch)
    every = jax.tree.map(
        lambda a: jnp.concatenate([a, jnp.mean(a, axis=0, keepdims=True)]), derived
    )
    sums = jax.vmap(lambda one: error_sums(one, targets, batch.volume, kinds, jnp.asarray(deltas)))(
        every
    )
    return Evaluated(sums, every.energies, every.forces)

"""The members of a committee in training: their first parameters, data and best epochs.

Checked: tests/training/test_committee.py.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool, Float, PRNGKeyArray

from karat.core.errors import BadInput
from karat.data.dataset import Dataset
from karat.potentials.committee_module import CommitteeModule, differing, flagged, stack
from karat.potentials.native.architecture import AbstractArchitecture
from karat.training.batches import Graph, label_numbers
from karat.training.settings import TrainingSettings


@dataclass(frozen=True, eq=False)
class Members:
    """What a committee's members train on.

    Attributes:
        number: of members.
        own_trunk: whether they share nothing.
        draws: how often each member drew each structure; `None` where all have the same data.
        shares: numbers of energies, force components and stress components that a member drew
            for each one that there is; 1 without draws.
    """

    number: int
    own_trunk: bool
    draws: Float[np.ndarray, "members structures"] | None
    shares: Float[np.ndarray, "members 3"]

    @classmethod
    def of(cls, settings: TrainingSettings, graphs: Sequence[Graph]) -> "Members | None":
        """As the settings say; `None` for a single potential."""
        if settings.members == 1:
            return None
        draws = None
        shares = np.ones((settings.members, 3))
        if settings.member_data == "bootstrap":
            draws = bootstrap_draws(settings.members, len(graphs), settings.seed)
            labels = np.array([label_numbers([graph]) for graph in graphs], float)
            shares = draws @ labels / np.maximum(labels.sum(axis=0), 1.0)
        return cls(settings.members, settings.member_trunk == "own", draws, shares)


def bootstrap_draws(
    members: int, structures: int, seed: int
) -> Float[np.ndarray, "members structures"]:
    """How often each structure is drawn, by each member as often with replacement as there are.

    Source: Breiman, Mach. Learn. 24, 123 (1996).
    """
    even = np.full(structures, 1 / structures)
    generator = np.random.default_rng([seed, 2])
    return generator.multinomial(structures, even, size=members).astype(float)


def member_keys(settings: TrainingSettings) -> list[PRNGKeyArray]:
    """Of the members' first parameters; the first's is that of a single potential."""
    first = jax.random.key(settings.seed)
    others = [jax.random.fold_in(first, index) for index in range(1, settings.members)]
    return [first, *others]


def first_committee(
    architecture: AbstractArchitecture, train: Dataset, settings: TrainingSettings
) -> CommitteeModule:
    """The committee before training.

    Raises:
        BadInput: a shared trunk is asked for, but the architecture names no readouts.
    """
    keys = member_keys(settings)
    modules = [architecture.initialise(train, key, settings.dtype) for key in keys]
    names = flagged(modules[0], architecture.trainable(modules[0]))
    if settings.member_trunk == "own":
        return stack(modules, names | differing(modules))
    heads = flagged(modules[0], architecture.heads(modules[0])) & names
    if not heads:
        raise BadInput(
            f"training.member_trunk shared: {type(architecture).__name__} has no readouts apart. "
            "Set member_trunk to own."
        )
    return stack(modules, heads)


def committee_trainable(architecture: AbstractArchitecture, committee: CommitteeModule) -> Any:
    """A tree like `committee` that is True on the arrays that the trainer may change."""
    spec = jax.tree.map(lambda _: False, committee)
    mine = architecture.trainable(committee.member)
    return eqx.tree_at(lambda module: module.member, spec, mine)


def better(new: Any, old: Any, improved: Bool[np.ndarray, "members"], own_trunk: bool) -> Any:
    """The parameters to keep: of each member the new ones where it has improved. With a shared
    trunk all of them improve together, or none does.

    Always copies: the memory of the new ones is given to the next step.
    """
    if improved.all():
        return jax.tree.map(jnp.copy, new)
    if not improved.any() or not own_trunk:
        return old
    chosen = jnp.asarray(improved)

    def choose(a: jax.Array, b: jax.Array) -> jax.Array:
        return jnp.where(chosen.reshape(-1, *[1] * (a.ndim - 1)), a, b)

    return jax.tree.map(choose, new, old)

"""Optimisers by name: each turns a gradient into a direction; the step multiplies it by the
learning rate and subtracts it.

To add one: a line in `OPTIMISERS` and its name in `settings.OptimiserName`.

Checked: tests/training/test_optimisers.py, against optax's own complete optimisers.
"""

from collections.abc import Callable
from types import MappingProxyType
from typing import Any

import jax
import optax


def _muon() -> optax.GradientTransformation:
    """Muon for matrices, Adam for all else; optax has it with the rate's sign only."""
    return optax.chain(optax.contrib.muon(learning_rate=1.0), optax.scale(-1.0))


OPTIMISERS: MappingProxyType[str, Callable[[], optax.GradientTransformation]] = MappingProxyType(
    {
        "adam": optax.scale_by_adam,
        "adamw": optax.scale_by_adam,  # weight decay is decoupled for all
        "amsgrad": optax.scale_by_amsgrad,
        "nadam": lambda: optax.scale_by_adam(nesterov=True),
        "adabelief": optax.scale_by_belief,
        "lion": optax.scale_by_lion,
        "sgd": lambda: optax.trace(decay=0.9),
        "muon": _muon,
    }
)
"""Name → transform with optax's constants. Sources: Kingma & Ba (2015); Loshchilov & Hutter
(2019); Reddi et al. (2018); Dozat (2016); Zhuang et al. (2020); Chen et al. (2023); momentum
0.9; Jordan et al. (2024)."""


def make_optimiser(
    name: str, gradient_clip: float, weight_decay: float
) -> optax.GradientTransformation:
    """The named direction with clipping of the gradient's global norm before it (0: none) and
    decoupled weight decay of all but biases after it.

    Source: Loshchilov & Hutter (2019).
    """

    def decayed(parameters: Any) -> Any:
        return jax.tree_util.tree_map_with_path(
            lambda path, _: "bias" not in jax.tree_util.keystr(path), parameters
        )

    parts = [optax.clip_by_global_norm(gradient_clip)] if gradient_clip else []
    parts.append(OPTIMISERS[name]())
    if weight_decay:
        parts.append(optax.add_decayed_weights(weight_decay, mask=decayed))
    return optax.chain(*parts)

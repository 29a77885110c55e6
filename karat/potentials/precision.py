"""Precision of JAX: entry points enable 64 bits, importing never does."""

import jax
import numpy as np

from karat.core.errors import BadInput


def enable_float64() -> None:
    """Let JAX compute in 64 bits; called by commands and workers, never on import."""
    jax.config.update("jax_enable_x64", True)


def require(dtype: str) -> np.dtype:
    """The NumPy dtype of that name, if JAX can compute in it now.

    Raises:
        BadInput: not float32 or float64, or float64 while JAX computes in 32 bits.
    """
    if dtype not in ("float32", "float64"):
        raise BadInput(f"dtype '{dtype}' is not known. Allowed: float32, float64.")
    if dtype == "float64" and not jax.config.read("jax_enable_x64"):
        raise BadInput(
            "float64 was asked for, but JAX computes in 32 bits. Call "
            "karat.potentials.precision.enable_float64() first, or ask for float32."
        )
    return np.dtype(dtype)

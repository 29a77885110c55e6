"""Symmetric positive definite matrices in half the memory, factorised in place.

LAPACK's rectangular full packed format holds n (n + 1) / 2 numbers in a rectangle, so that
Cholesky runs at the speed of matrix products.

Source: Gustavson, Waśniewski, Dongarra and Langou, ACM Trans. Math. Softw. 37, 18 (2010).
Checked: tests/potentials/kernel/test_packed.py, against LAPACK's own conversion and NumPy.
"""

import ctypes
import os
from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
from jaxtyping import Float

from karat.core.errors import BadInput, CalculationFailed

MAX_ORDER = 65_534
"""The n (n + 1) / 2 numbers are counted in 32 bits by some of LAPACK; more was never tried."""


def packed_bytes(order: int) -> int:
    """Memory of a packed matrix."""
    return order * (order + 1) // 2 * 8


def available_bytes() -> int:
    """Memory that is free or can be freed on this machine; a container's limit counts."""
    free = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    try:
        with open("/proc/meminfo") as lines:
            for line in lines:
                if line.startswith("MemAvailable:"):
                    free = int(line.split()[1]) * 1024
        with (
            open("/sys/fs/cgroup/memory.max") as limit,
            open("/sys/fs/cgroup/memory.current") as used,
        ):
            text = limit.read().strip()
            if text != "max":
                free = min(free, int(text) - int(used.read()))
    except (OSError, ValueError):
        pass  # not Linux, or no such control group: what sysconf says stands
    return free


def require_memory(order: int) -> None:
    """Refuse a matrix that cannot be held.

    Raises:
        BadInput: larger than `MAX_ORDER`, or than the memory there is.
    """
    if order > MAX_ORDER:
        raise BadInput(
            f"The kernel matrix would have {order} rows; at most {MAX_ORDER} can be factorised. "
            "Train on fewer structures, or with another model."
        )
    needed, free = packed_bytes(order), available_bytes()
    if needed > 0.95 * free:
        raise BadInput(
            f"The kernel matrix of {order} rows needs {needed / 1e9:.1f} GB; {free / 1e9:.1f} GB "
            "of memory are free. Train on fewer structures, or on a larger machine."
        )


class PackedMatrix:
    """The lower triangle of a symmetric matrix, to be filled block by block and factorised.

    Raises:
        BadInput: larger than `MAX_ORDER`, or than the memory there is.
    """

    def __init__(self, order: int) -> None:
        require_memory(order)
        self.order = order
        self.factorised = False
        self._odd = order % 2
        self._left = (order + 1) // 2  # columns that are stored as they are
        self._numbers = np.empty(order * (order + 1) // 2)
        self._numbers.fill(0.0)  # in order: memory that is first touched here and there is slow
        rows = order if self._odd else order + 1
        self._rectangle = self._numbers.reshape((rows, self._left), order="F")

    def fill(self, start: int, columns: Float[np.ndarray, "rows width"]) -> None:
        """Store the rows from `start` on of the columns from `start` on; what stands above the
        diagonal is ignored."""
        rows, width = columns.shape
        for offset in range(width):  # down to the diagonal
            self._fill_column(start + offset, columns[offset : min(width, rows), offset])
        if rows > width:
            self._fill_below(start, width, columns[width:])

    def _fill_column(self, column: int, values: np.ndarray) -> None:
        """Store rows from the diagonal on of one column."""
        end = column + len(values)
        if column < self._left:
            shift = 1 - self._odd
            self._rectangle[column + shift : end + shift, column] = values
        else:
            place = column - self._left
            shift = self._odd
            self._rectangle[place, place + shift : end - self._left + shift] = values

    def _fill_below(self, start: int, width: int, block: np.ndarray) -> None:
        """Store a block whose rows begin below its columns."""
        first, last = start + width, start + width + len(block)
        split = min(max(self._left - start, 0), width)
        if split:
            shift = 1 - self._odd
            rows = slice(first + shift, last + shift)
            self._rectangle[rows, start : start + split] = block[:, :split]
        if split < width:
            shift = self._odd - self._left
            columns = slice(start + split - self._left, start + width - self._left)
            self._rectangle[columns, first + shift : last + shift] = block[:, split:].T

    def add_to_diagonal(self, value: float) -> None:
        """Add a number to each diagonal element."""
        left = np.arange(self._left)
        self._rectangle[left + 1 - self._odd, left] += value
        rest = np.arange(self.order - self._left)
        self._rectangle[rest, rest + self._odd] += value

    def factorise(self) -> None:
        """Replace the matrix by its Cholesky factor, in place.

        Raises:
            CalculationFailed: kind ``not-positive-definite``.
        """
        info = ctypes.c_int(0)
        order = ctypes.c_int(self.order)
        _lapack("dpftrf")(b"N", b"L", order, self._numbers.ctypes, info)
        if info.value > 0:
            raise CalculationFailed(
                f"the kernel matrix is not positive definite at row {info.value} of {self.order}",
                kind="not-positive-definite",
            )
        self.factorised = True

    def solve(self, right: Float[np.ndarray, "rows sides"]) -> Float[np.ndarray, "rows sides"]:
        """A⁻¹ b from the factor."""
        if not self.factorised or right.shape[:1] != (self.order,):
            raise ValueError(f"not factorised, or right-hand sides of shape {right.shape}")
        solution = np.array(right, dtype=np.float64, order="F")
        order, info = ctypes.c_int(self.order), ctypes.c_int(0)
        sides = ctypes.c_int(right.shape[1])
        _lapack("dpftrs")(
            b"N", b"L", order, sides, self._numbers.ctypes, solution.ctypes, order, info
        )
        return solution


@cache
def _lapack(name: str) -> Callable[..., None]:
    """LAPACK's own routine: SciPy's wrapper of it counts in 32 bits, up to 46340 rows only.

    Every argument is passed by reference, as Fortran wants it; texts are single letters.
    """
    from scipy.linalg import cython_lapack

    capsule = cython_lapack.__pyx_capi__[name]
    api = ctypes.pythonapi
    api.PyCapsule_GetName.restype = ctypes.c_char_p
    api.PyCapsule_GetName.argtypes = [ctypes.py_object]
    api.PyCapsule_GetPointer.restype = ctypes.c_void_p
    api.PyCapsule_GetPointer.argtypes = [ctypes.py_object, ctypes.c_char_p]
    address = api.PyCapsule_GetPointer(capsule, api.PyCapsule_GetName(capsule))
    routine = ctypes.CFUNCTYPE(None, *[ctypes.c_void_p] * _ARGUMENTS[name])(address)

    def call(*arguments: Any) -> None:
        routine(*(_reference(argument) for argument in arguments))

    return call


_ARGUMENTS = {"dpftrf": 5, "dpftrs": 8}


def _reference(argument: Any) -> Any:
    if isinstance(argument, bytes):
        return ctypes.cast(ctypes.c_char_p(argument), ctypes.c_void_p)
    if isinstance(argument, ctypes.c_int):
        return ctypes.cast(ctypes.pointer(argument), ctypes.c_void_p)
    return argument.data  # of an array

"""`.karat` files: fitted native potentials on disk; nothing in a file is ever executed.

The architecture is looked up by name among karat's own and those of installed packages (entry
points of the group `karat.architectures`); a file cannot name a module to import.

Checked: tests/potentials/test_karat_file.py.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np

import karat
from karat.core.components import dump, parse
from karat.core.errors import BadInput, KaratError
from karat.core.files import write_atomic
from karat.core.hashing import digest_arrays
from karat.potentials.committee_module import (
    CommitteeModule,
    committee_frame,
    inspect_committee,
)
from karat.potentials.karat_header import KEY, Header, read_header
from karat.potentials.model import AbstractModel, named_arrays, with_arrays
from karat.potentials.native.catalogue import ARCHITECTURES
from karat.potentials.native_protocol import NativePotential
from karat.potentials.protocol import AbstractPotentialComponent


@dataclass(frozen=True)
class KaratFile(AbstractPotentialComponent):
    """A potential that was saved as a `.karat` file.

    Attributes:
        path: of the file.
        dtype: to compute in; ``float64`` makes forces exact gradients of energies, ``float32`` is
            faster. Numbers trained in float32 are taken over exactly.
    """

    path: str
    dtype: Literal["float32", "float64"] = "float64"

    def load(self) -> NativePotential:
        return load(self.path, self.dtype)


def save(
    path: str | Path,
    architecture: AbstractModel,
    potential: NativePotential,
    training_data: str = "",
    training: Mapping[str, Any] | None = None,
) -> Header:
    """Write a `.karat` file, atomically; the same potential gives the same bytes.

    Args:
        path: of the file.
        architecture: that the potential's module, or each of a committee's members, was made by.
        potential: its reference energies and level of theory are written too.
        training_data: digest of the training data.
        training: JSON-ready summary of the training.

    Raises:
        BadInput: the architecture has no name in the catalogue, the numbers do not fit it, or
            the file cannot be written.
    """
    module = potential.module
    arrays = {name: np.array(array, order="C") for name, array in named_arrays(module).items()}
    header = Header(
        architecture=architecture_name(architecture),
        hyperparameters=dump(architecture),
        species=module.species,
        dtype=str(potential.dtype),
        level=potential.level,
        reference_energies=potential.reference_energies,
        training_data=training_data,
        training=dict(training or {}),
        tensors=digest_arrays(arrays),
        members=module.members if isinstance(module, CommitteeModule) else 1,
        karat=karat.__version__,
    )
    _check_arrays(str(path), architecture, header, arrays)
    from safetensors.numpy import save as encode

    text = json.dumps(header.as_dict(), separators=(",", ":"), allow_nan=False)
    try:
        write_atomic(Path(path), encode(arrays, {KEY: text}))
    except OSError as error:
        raise BadInput(f"{path}: cannot be written ({error.strerror}). Name another.") from error
    return header


def load(path: str | Path, dtype: str | None = None) -> NativePotential:
    """The potential of a `.karat` file, to compute in `dtype` (by default as it was trained); of a
    committee the mean of its members.

    Raises:
        BadInput: the file is missing, damaged or of another schema, its architecture is not
            installed, its numbers do not fit it, or float64 is asked for without 64-bit JAX.
    """
    header = read_header(path)
    architecture = architecture_of(header, path)
    arrays = _read_arrays(path)
    if digest_arrays(arrays) != header.tensors:
        raise BadInput(f"{path}: the numbers are damaged (digest differs). Copy or train it again.")
    skeleton = _check_arrays(str(path), architecture, header, arrays)
    module = with_arrays(skeleton, {name: jnp.asarray(array) for name, array in arrays.items()})
    try:
        if isinstance(module, CommitteeModule):
            inspect_committee(architecture, module, dtype or header.dtype)
        else:
            architecture.inspect(module, dtype or header.dtype)
    except BadInput as error:
        raise BadInput(f"{path}: {error}") from error
    return NativePotential(module, header.reference_energies, header.level, dtype or header.dtype)


def architecture_name(architecture: AbstractModel) -> str:
    """Its name in the catalogue.

    Raises:
        BadInput: it has none, so a file of it could not be read again.
    """
    kind = f"{type(architecture).__module__}:{type(architecture).__qualname__}"
    for name, path in ARCHITECTURES.names().items():
        if path == kind:
            return name
    raise BadInput(
        f"{kind} is not in the catalogue of architectures, so its .karat file could not be read "
        "again. Give its package an entry point of the group karat.architectures."
    )


def architecture_of(header: Header, path: str | Path) -> AbstractModel:
    """The hyper-parameters that a header names.

    Raises:
        BadInput: the architecture is not installed or has no such hyper-parameters.
    """
    names = ARCHITECTURES.names()
    if header.architecture not in names:
        raise BadInput(
            f"{path}: architecture '{header.architecture:.80}' is not installed. Known: "
            f"{', '.join(names)}. Install the package that it comes from."
        )
    kind = ARCHITECTURES.resolve(header.architecture)
    return parse(kind, header.hyperparameters, f"{path}: {header.architecture}")


def _read_arrays(path: str | Path) -> dict[str, np.ndarray]:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="numpy") as file:
            return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, ValueError, TypeError, AttributeError, OSError) as error:
        raise BadInput(f"{path}: is damaged ({error}). Copy or train it again.") from error


def _check_arrays(
    path: str, architecture: AbstractModel, header: Header, arrays: dict[str, np.ndarray]
) -> Any:
    """The architecture's skeleton, if names, shapes and dtypes agree with the arrays."""
    try:
        sizes = {name: array.shape for name, array in arrays.items()}
        skeleton: Any = (
            architecture.frame(header.species, header.dtype, sizes)
            if header.members == 1
            else committee_frame(architecture, header.members, header.species, header.dtype, sizes)
        )
    except KaratError:
        raise
    except (ValueError, TypeError, OverflowError) as error:
        raise BadInput(f"{path}: hyper-parameters do not fit together ({error}).") from error
    shapes = {
        name: (tuple(shape.shape), np.dtype(shape.dtype))
        for name, shape in named_arrays(skeleton).items()
        if isinstance(shape, jax.ShapeDtypeStruct)
    }
    found = {name: (array.shape, array.dtype) for name, array in arrays.items()}
    for name in sorted(set(shapes) | set(found)):
        if shapes.get(name) != found.get(name):
            raise BadInput(
                f"{path}: '{name:.80}' is {found.get(name, 'missing')}, architecture "
                f"'{header.architecture}' needs {shapes.get(name, 'no such array')}. The file is "
                "damaged or was written by another version; copy or train it again."
            )
    return skeleton

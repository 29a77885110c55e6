"""Models of the `sgdml` package: its npz files read and written; arrays only, nothing unpickled.

Checked: tests/potentials/kernel/test_sgdml_npz.py, against predictions of sgdml 1.0.3.
"""

import io
import zipfile
import zlib
from pathlib import Path
from tokenize import TokenError
from typing import Any

import jax.numpy as jnp
import numpy as np

from karat.core.errors import BadInput
from karat.core.files import readable_file, write_atomic
from karat.core.units import energy_in_ev, length_in_angstrom
from karat.potentials.kernel.geometry import pair_permutations
from karat.potentials.kernel.permutations import check_group
from karat.potentials.kernel.sgdml_data import MAX_ATOMS
from karat.potentials.kernel.sgdml_module import SgdmlModule
from karat.potentials.native_protocol import NativePotential
from karat.structures.labels import LevelOfTheory

MAX_NUMBERS = 10**8
"""Of one array; 1000 structures of 100 atoms have 5·10⁶."""

_NEEDED = {"z": 1, "R_desc": 2, "R_d_desc_alpha": 2, "perms": 2, "c": 0, "std": 0, "sig": 0}
"""Arrays of a model, and how many dimensions each has."""

SIGN = -1.0
"""The package's products R_d_desc_alpha have the opposite sign of karat's coefficients."""

_TEXTS = ("type", "r_unit", "e_unit", "dataset_theory")


def read_sgdml(
    path: str | Path,
    energy_unit: str | None = None,
    length_unit: str | None = None,
    level: LevelOfTheory | None = None,
) -> NativePotential:
    """The potential of a model file of the `sgdml` package.

    Args:
        path: of the npz file.
        energy_unit, length_unit: where the file states none (``kcal/mol``, ``angstrom``, …).
        level: level of theory; by default what the file calls its theory.

    Raises:
        BadInput: not such a file, damaged, with a lattice or energy constraints (which karat's
            `sgdml` does not have), or without units.
    """
    path = readable_file(Path(path), "sgdml model (npz)")
    texts, arrays = _contents(path)
    units = []
    for key, given, option, convert in (
        ("r_unit", length_unit, "length_unit", length_in_angstrom),
        ("e_unit", energy_unit, "energy_unit", energy_in_ev),
    ):
        unit = given or texts.get(key)
        if not unit:
            raise BadInput(f"{path}: states no {key}; say {option}, e.g. angstrom or kcal/mol.")
        units.append(convert(unit))
    try:
        module, constant = _module(arrays, *units)
    except (BadInput, ValueError, TypeError, IndexError, OverflowError) as error:
        raise BadInput(f"{path}: its arrays do not fit together ({error}).") from error
    references = dict.fromkeys(module.species, constant / len(module.numbers))
    theory = texts.get("dataset_theory") or "unknown"
    return NativePotential(module, references, level or LevelOfTheory(theory))


def _contents(path: Path) -> tuple[dict[str, str], dict[str, np.ndarray]]:
    """Texts and arrays of the file; entries that karat has no use for are not even opened."""
    texts: dict[str, str] = {}
    arrays: dict[str, np.ndarray] = {}
    try:
        with zipfile.ZipFile(path) as archive:
            names = {name.removesuffix(".npy") for name in archive.namelist()}
            for name in ("lattice", "alphas_E"):
                if name in names:
                    raise BadInput(f"{path}: has '{name}', which karat's sgdml cannot treat.")
            for name in (*_NEEDED, *_TEXTS):
                if name not in names:
                    if name in _NEEDED:
                        raise BadInput(f"{path}: has no '{name}'; it is no model of sgdml.")
                    continue
                array = _read_array(archive, name)
                if name in _TEXTS:
                    texts[name] = str(array)
                else:
                    arrays[name] = array
    except (OSError, ValueError, EOFError, KeyError, RuntimeError, NotImplementedError) as error:
        raise BadInput(f"{path}: is not a readable sgdml model ({error}).") from error
    except (zipfile.BadZipFile, zlib.error, TokenError, SyntaxError, MemoryError) as error:
        raise BadInput(f"{path}: is damaged ({error}). Copy it again.") from error
    if texts.get("type") != "m":
        raise BadInput(f"{path}: is of type {texts.get('type')!r}; a model is of type 'm'.")
    return texts, arrays


def _read_array(archive: zipfile.ZipFile, name: str) -> np.ndarray:
    """One entry, its announced size checked before anything is allocated."""
    with archive.open(f"{name}.npy") as stream:
        version = np.lib.format.read_magic(stream)
        readers = {
            (1, 0): np.lib.format.read_array_header_1_0,
            (2, 0): np.lib.format.read_array_header_2_0,
        }
        if version not in readers:
            raise ValueError(f"'{name}' is of npy version {version}")
        shape, _, dtype = readers[version](stream)
    kinds = "US" if name in _TEXTS else "iuf"
    if dtype.kind not in kinds or np.prod(shape, dtype=float) * dtype.itemsize > 8 * MAX_NUMBERS:
        raise ValueError(f"'{name}' has dtype {dtype} and shape {shape}")
    if len(shape) != _NEEDED.get(name, 0):
        raise ValueError(f"'{name}' has shape {shape}")
    with archive.open(f"{name}.npy") as stream:
        return np.lib.format.read_array(stream, allow_pickle=False)


def _module(arrays: dict[str, np.ndarray], angstrom: float, ev: float) -> tuple[SgdmlModule, float]:
    """Module and constant in eV; `angstrom` and `ev` are the file's units."""
    numbers = arrays["z"].astype(np.int32)
    atoms, pairs = len(numbers), len(numbers) * (len(numbers) - 1) // 2
    descriptors = arrays["R_desc"].T.astype(np.float64) / angstrom
    coefficients = arrays["R_d_desc_alpha"].astype(np.float64)
    if not 2 <= atoms <= MAX_ATOMS or numbers.min() < 1 or numbers.max() > 118:
        raise BadInput(f"{atoms} atoms with atomic numbers {numbers.tolist()[:10]}")
    if descriptors.shape != coefficients.shape or descriptors.shape[1] != pairs:
        raise BadInput(
            f"R_desc {arrays['R_desc'].shape}, R_d_desc_alpha {coefficients.shape}, {pairs} pairs"
        )
    group = arrays["perms"].astype(np.int64)
    check_group(group, numbers)
    scale, sigma, constant = (float(arrays[name]) for name in ("std", "sig", "c"))
    numbers_are_finite = np.isfinite(descriptors).all() and np.isfinite(coefficients).all()
    if not (numbers_are_finite and np.isfinite([scale, constant]).all() and 0 < sigma < np.inf):
        raise BadInput("NaN or infinity, or a width that is not positive")
    module = SgdmlModule(
        numbers=jnp.asarray(numbers),
        permutations=jnp.asarray(group, jnp.int32),
        positions=jnp.zeros((0, atoms, 3)),
        descriptors=jnp.asarray(descriptors),
        coefficients=jnp.asarray(SIGN * coefficients * scale * ev / angstrom),
        sigma=jnp.asarray(sigma / angstrom),
        regularization=jnp.asarray(np.nan),
        deviation=jnp.asarray(np.nan),
        species=tuple(sorted(set(numbers.tolist()))),
    )
    return module, constant * ev


def write_sgdml(path: str | Path, potential: NativePotential, name: str = "karat") -> None:
    """Write a model file that the `sgdml` package (and `read_sgdml`) predicts the same from.

    It holds what predictions need; the package's iterative solver cannot go on from it.

    Raises:
        BadInput: not an sgdml potential.
    """
    module = potential.module
    if not isinstance(module, SgdmlModule):
        raise BadInput(f"{type(module).__name__} is not an sgdml potential.")
    numbers, group = np.asarray(module.numbers), np.asarray(module.permutations)
    pairs = pair_permutations(group)
    sigma = float(module.sigma)
    values: dict[str, Any] = {
        "type": np.array("m"),
        "code_version": np.array("1.0.3"),
        "dataset_name": np.array(name),
        "dataset_theory": np.array(potential.level.label if potential.level else "unknown"),
        "solver_name": np.array("analytic"),
        "z": numbers.astype(np.int64),
        "R_desc": np.asarray(module.descriptors).T,
        "R_d_desc_alpha": SIGN * np.asarray(module.coefficients),
        "c": np.array(sum(potential.reference_energies.get(int(z), 0.0) for z in numbers)),
        "std": np.array(1.0),
        "sig": np.array(int(sigma) if sigma.is_integer() else sigma),
        "perms": group.astype(np.int64),
        # each permuted pair as an index into all copies laid end to end
        "tril_perms_lin": (pairs + pairs.shape[1] * np.arange(len(pairs))[:, None]).ravel("F"),
        "use_E": np.array(True),
        "r_unit": np.array("Ang"),
        "e_unit": np.array("eV"),
    }
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **values)
    write_atomic(Path(path), buffer.getvalue())

"""Moment tensor potentials in the text format of MLIP-2 (`.mtp`), from it and to it.

Source: the format as in the potentials published with Zuo et al., J. Phys. Chem. A 124, 731 (2020).
Checked: tests/potentials/native/test_mtp_file.py; against motep in tests/peers/test_motep.py.
"""

import json
import re
from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from karat.core.errors import BadInput
from karat.potentials.native.mtp import Mtp
from karat.potentials.native.mtp_basis import graphs, program
from karat.potentials.native.mtp_module import MtpModule
from karat.potentials.native_protocol import NativePotential

BASIS = "RBChebyshev"
LEVELS = range(2, 25, 2)
COEFFICIENTS = ("moment_coeffs", "species_coeffs")
TABLES = ("alpha_index_basic", "alpha_index_times", "alpha_moment_mapping")
NUMBERS = ("scaling", "species_count", "radial_basis_size", "radial_funcs_count")


def mtp_text(potential: NativePotential) -> str:
    """The file that MLIP-2, LAMMPS' `pair_style mlip` and motep read: energies in eV and distances
    in Å; types 0, 1 … are the potential's elements by atomic number; reference energies are among
    its `species_coeffs`.

    Raises:
        BadInput: it is no moment tensor potential.
    """
    module = potential.module
    if not isinstance(module, MtpModule):
        raise BadInput(f"A {type(module).__name__} is no moment tensor potential.")
    steps, scale = program(module.level), np.float64(module.scale)
    basic = np.concatenate([steps.mus[:, None], steps.exponents], axis=1)
    times, first = [], len(basic)
    for products, count in steps.stages:
        target = first + products.target
        times.append(np.stack([products.left, products.right, products.factor, target], axis=1))
        first += count
    mapping = np.full(steps.scalars, -1)
    mapping[steps.ready[1]] = steps.ready[0]
    late = mapping < 0
    mapping[late] = first + np.arange(late.sum())
    last = steps.last
    times.append(np.stack([last.left, last.right, last.factor, mapping[last.target]], axis=1))
    references = potential.reference_energies
    constants = [references.get(z, 0.0) for z in module.species]
    elements = scale * np.asarray(module.elements, np.float64) + constants
    mixing, linear = (np.asarray(x, np.float64) for x in (module.mixing, module.linear))
    lines = [
        "MTP",
        "version = 1.1.0",
        f"potential_name = MTP level {module.level}",
        f"scaling = {(module.cutoff - module.nearest) ** -2:.17e}",
        f"species_count = {len(module.species)}",
        "potential_tag = ",
        f"radial_basis_type = {BASIS}",
        f"\tmin_dist = {module.nearest:.17e}",
        f"\tmax_dist = {module.cutoff:.17e}",
        f"\tradial_basis_size = {module.radial.shape[3]}",
        f"\tradial_funcs_count = {module.radial.shape[2]}",
        "\tradial_coeffs",
        *_radial_lines(np.asarray(module.radial, np.float64)),
        f"alpha_moments_count = {first + late.sum()}",
        f"alpha_index_basic_count = {len(basic)}",
        f"alpha_index_basic = {_braced(basic)}",
        f"alpha_index_times_count = {sum(map(len, times))}",
        f"alpha_index_times = {_braced(np.concatenate(times).astype(int))}",
        f"alpha_scalar_moments = {steps.scalars}",
        f"alpha_moment_mapping = {_braced(mapping)}",
        f"species_coeffs = {_braced(elements)}",
        f"moment_coeffs = {_braced(scale * (mixing @ linear))}",
    ]
    return "\n".join(lines) + "\n"


def _radial_lines(radial: Float[np.ndarray, "species species functions size"]) -> list[str]:
    lines = []
    for i, row in enumerate(radial):
        for j, functions in enumerate(row):
            lines.append(f"\t\t{i}-{j}")
            lines += [f"\t\t\t{_braced(one)}" for one in functions]
    return lines


def _braced(values: np.ndarray) -> str:
    if values.ndim > 1:
        return "{" + ", ".join(map(_braced, values)) + "}"
    form = "{:d}" if values.dtype.kind == "i" else "{:.17e}"
    return "{" + ", ".join(map(form.format, values.tolist())) + "}"


def parse_mtp(text: str, species: tuple[int, ...]) -> tuple[Mtp, NativePotential]:
    """Hyper-parameters and potential (float64) of a file's text.

    Args:
        species: atomic numbers of types 0, 1 …, which the file does not name.

    Raises:
        BadInput: another format, or another basis than that of an even level from 2 to 24.
    """
    data = _parsed(text)
    count = int(data["species_count"])
    if len(species) != count or len(set(species)) != count:
        raise BadInput(f"The file has {count} elements; {list(species)} were given.")
    level = _level(data)
    order = np.argsort(species)
    shape = (count, count, int(data["radial_funcs_count"]), int(data["radial_basis_size"]))
    if data["radial"].size != np.prod(shape):
        raise BadInput(f"The file has {data['radial'].size} radial coefficients, not {shape}.")
    nearest, cutoff = float(data["min_dist"]), float(data["max_dist"])
    radial = data["scaling"] * (cutoff - nearest) ** 2 * data["radial"].reshape(shape)
    linear = np.array(data["moment_coeffs"], float)[_matched(data, level)]
    model = Mtp(cutoff, level, shape[3], nearest)
    module = MtpModule(
        radial=jnp.asarray(radial[np.ix_(order, order)]),
        linear=jnp.asarray(linear),
        elements=jnp.asarray(np.array(data["species_coeffs"], float)[order]),
        mixing=jnp.asarray(np.eye(len(linear))),
        scale=jnp.ones((), jnp.float64),
        level=level,
        nearest=nearest,
        species=tuple(int(species[i]) for i in order),
        cutoff=cutoff,
        continuity=1,
        needs_triplets=False,
    )
    return model, NativePotential(module, dtype="float64")


def _parsed(text: str) -> dict[str, Any]:
    """Numbers and tables by their names in the file; `radial`: all radial coefficients."""
    found = dict(re.findall(r"^[ \t]*(\w+)[ \t]*=[ \t]*(.*?)[ \t]*$", text, re.MULTILINE))
    wanted = (*NUMBERS, "min_dist", "max_dist", *TABLES, *COEFFICIENTS)
    missing = [name for name in wanted if name not in found]
    if not text.startswith("MTP") or missing:
        raise BadInput(f"This is no trained potential of MLIP-2 (.mtp): without {missing}.")
    if found.get("radial_basis_type") != BASIS:
        raise BadInput(f"radial_basis_type {found.get('radial_basis_type')}: only {BASIS} is read.")
    rows = re.findall(r"^\s*(\{.*\})\s*$", text, re.MULTILINE)
    data = {name: _table(found[name]) for name in wanted}
    for name, value in data.items():
        if isinstance(value, int | float) != (name in (*NUMBERS, "min_dist", "max_dist")):
            raise BadInput(f"'{name} = {found[name][:60]}' is not what a .mtp file has there.")
    return data | {"radial": np.array([_table(row) for row in rows], float)}


def _table(words: str) -> Any:
    try:
        return json.loads(words.replace("{", "[").replace("}", "]"))
    except json.JSONDecodeError as error:
        raise BadInput(f"'{words[:60]}' in a .mtp file is no list of numbers: {error}.") from error


def _level(data: Mapping[str, Any]) -> int:
    sizes = {len(graphs(level)): level for level in LEVELS}
    scalars = len(data["alpha_moment_mapping"])
    if scalars not in sizes or len(data["moment_coeffs"]) != scalars:
        raise BadInput(
            f"The file has {scalars} contractions and {len(data['moment_coeffs'])} coefficients; "
            f"the levels {LEVELS[0]} to {LEVELS[-1]} have {list(sizes)}."
        )
    return sizes[scalars]


def _matched(data: Mapping[str, Any], level: int) -> np.ndarray:
    """For each contraction of karat's order its place in the file, by values for random moments."""
    steps, random = program(level), np.random.default_rng(0)
    keys = [(int(mu), *map(int, m)) for mu, m in zip(steps.mus, steps.exponents)]
    drawn = dict(zip(keys, random.uniform(0.5, 1.5, len(keys)) * random.choice([-1, 1], len(keys))))
    basic = [tuple(one) for one in data["alpha_index_basic"]]
    functions = 1 + max(key[0] for key in keys)
    if set(basic) != set(keys) or int(data["radial_funcs_count"]) != functions:
        raise BadInput(f"The file's moments are not those of level {level}.")
    own = _values(np.array([drawn[key] for key in keys]), level)
    targets = [one[3] for one in data["alpha_index_times"]]
    moments = np.zeros(max([len(basic) - 1, *targets]) + 1)
    moments[: len(basic)] = [drawn[key] for key in basic]
    for left, right, factor, target in data["alpha_index_times"]:
        moments[target] += factor * moments[left] * moments[right]
    theirs = moments[data["alpha_moment_mapping"]]
    places = np.empty(len(own), int)
    places[np.argsort(own)] = np.argsort(theirs)
    size = np.maximum(np.abs(own), 1.0)
    if np.any(np.abs(theirs[places] - own) > 1e-9 * size):
        raise BadInput(f"The file's contractions are not those of level {level}.")
    return places


def _values(rows: Float[np.ndarray, "components"], level: int) -> Float[np.ndarray, "scalars"]:
    """Contractions of components of moments."""
    steps = program(level)
    for products, count in steps.stages:
        new = products.factor * rows[products.left] * rows[products.right]
        rows = np.concatenate([rows, np.bincount(products.target, new, count)])
    last = steps.last
    new = last.factor * rows[last.left] * rows[last.right]
    values = np.bincount(last.target, new, steps.scalars)
    values[steps.ready[1]] = rows[steps.ready[0]]
    return values

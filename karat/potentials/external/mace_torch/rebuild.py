"""A converted mace-torch model as karat's own `mace`.

karat stores weights as drawn from a standard normal distribution and normalises them in the
function, so the effective matrices of the conversion are divided by its factors here. Coupling
coefficients may differ in sign; weights of contractions are carried over to karat's paths by
least squares, which is exact because both span the same polynomials.

Checked: tests/potentials/external/mace_torch/test_rebuild.py, against numbers of mace-torch.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from karat.core.errors import BadInput, unknown_key
from karat.potentials.blocks.contraction import path_tensor, paths
from karat.potentials.blocks.convolution import Convolution
from karat.potentials.blocks.perceptron import SILU_FACTOR
from karat.potentials.external.mace_torch.conversion import ConvertedModel
from karat.potentials.external.mace_torch.nodes import enough_nodes
from karat.potentials.linear.coupling import real_coupling
from karat.potentials.linear.density import harmonics
from karat.potentials.model import named_arrays, with_arrays
from karat.potentials.native.mace import Mace
from karat.potentials.native.mace_pairs import AGNESI, ZBL_LENGTH, ZBL_POWER, ZBL_WEIGHTS
from karat.potentials.native_protocol import NativePotential
from karat.structures.labels import LevelOfTheory

Arrays = dict[str, np.ndarray]

SPAN_TOLERANCE: Final = {"float64": 1e-9, "float32": 1e-5}
"""Largest relative part of a coupling that karat's paths may fail to represent: rounding in the
precision in which the file holds the couplings."""


@dataclass(frozen=True, eq=False)
class Rebuilt:
    """An imported model.

    Attributes:
        architecture: hyper-parameters of karat's `mace`.
        potential: in float64, with the file's atomic energies as reference energies.
        head: of the file, whose energies these are.
    """

    architecture: Mace
    potential: NativePotential
    head: str


def rebuild(
    model: ConvertedModel, head: str | None = None, level: LevelOfTheory | None = None
) -> Rebuilt:
    """karat's own potential with the same energies.

    Args:
        model: the converted file.
        head: of a model with several; by default the first.
        level: of theory that the model was trained to, where the user knows it.

    Raises:
        UnknownKey: the model has no such head.
        BadInput: the model has parts that karat's `mace` lacks.
    """
    settings = model.settings
    heads = settings["heads"]
    head = heads[0] if head is None else head
    if head not in heads:
        raise unknown_key("the mace-torch model", head, heads)
    require_supported(model)
    order = np.argsort(settings["atomic_numbers"])
    species = tuple(int(settings["atomic_numbers"][i]) for i in order)
    arrays = _parameters(model, heads.index(head), order)
    architecture = architecture_of(settings, model.arrays)
    if not architecture.agnesi:  # else the networks are evaluated for each pair
        architecture = replace(architecture, radial_nodes=enough_nodes(architecture, arrays))
    skeleton = architecture.skeleton(species, "float64")
    for name, shape in named_arrays(skeleton).items():
        if name not in arrays or arrays[name].shape != shape.shape:
            found = arrays[name].shape if name in arrays else "nothing"
            raise BadInput(f"the mace-torch model gives {found} for {name}, needs {shape.shape}.")
    module = with_arrays(skeleton, {name: jnp.asarray(array) for name, array in arrays.items()})
    energies = model.arrays["atomic_energies"][heads.index(head)][order]
    reference = {number: float(energy) for number, energy in zip(species, energies)}
    return Rebuilt(architecture, NativePotential(module, reference, level), head)


def require_supported(model: ConvertedModel) -> None:
    """Raises: BadInput: the model has parts that karat's `mace` lacks; all of them are named."""
    settings = model.settings
    radial, layers, readouts = settings["radial"], settings["layers"], settings["readouts"]
    channels = settings["channels"]
    kinds = [readout["kind"] for readout in readouts]
    lacking = {
        f"radial functions '{radial['basis']}'": radial["basis"] != "bessel",
        f"distance transform '{radial['transform']}'": radial["transform"] not in (None, "agnesi"),
        "constants of pairs of its own (Agnesi transform, repulsion, covalent radii)": (
            not _usual_pairs(model)
        ),
        "an envelope on the radial network": radial["cutoff_on_network"],
        "messages that only some layers divide by a density": (
            len({layer["density"] for layer in layers}) > 1
        ),
        "products that do not depend on the element": not all(
            layer["element_dependent_product"] for layer in layers
        ),
        "a first layer that keeps its input and later ones that do not": not all(
            layer["residual"] and layer["adds_skip"] for layer in layers[1:]
        ),
        "layers with different correlation": len({layer["correlation"] for layer in layers}) > 1,
        "layers with different average_neighbours": (
            len({layer["average_neighbours"] for layer in layers}) > 1
        ),
        "edges with other features than atoms": any(
            layer["edge_channels"] != channels or layer["edge_degrees"] != layer["input_degrees"]
            for layer in layers
        ),
        f"readouts {', '.join(kinds)}": (
            kinds != ["linear"] * (len(layers) - 1) + ["perceptron"]
            or [readout["layer"] for readout in readouts] != list(range(len(layers)))
        ),
        "another activation than SiLU": any(
            name != "silu"
            for name in [
                *(layer["radial_activation"] for layer in layers),
                *(readout.get("activation", "silu") for readout in readouts),
            ]
        ),
    }
    found = [name for name, is_there in lacking.items() if is_there]
    if found:
        raise BadInput(
            f"The mace-torch model has {'; '.join(found)}; karat's mace does not have this yet. "
            "Use the model through mace-torch itself."
        )


def _usual_pairs(model: ConvertedModel) -> bool:
    """Whether constants of the Agnesi transform and of the repulsion are those that karat has, to
    rounding in single precision."""
    from ase.data import covalent_radii

    radial, zbl = model.settings["radial"], model.settings["repulsion"]
    found: list[tuple[Any, Any]] = []
    if radial["transform"] == "agnesi":
        found += [(radial["transform_parameters"][name], AGNESI[name]) for name in AGNESI]
    if zbl is not None:
        found += [
            (zbl["cutoff_power"], radial["cutoff_power"]),
            (zbl["coefficients"], ZBL_WEIGHTS),
            (zbl["screening_exponent"], ZBL_POWER),
            (zbl["screening_prefactor"] * 0.529, ZBL_LENGTH),
        ]
    if found:
        numbers = model.settings["atomic_numbers"]
        found += [(model.arrays["covalent_radii"][numbers], covalent_radii[numbers])]
    return all(np.allclose(theirs, mine, rtol=3e-7, atol=0) for theirs, mine in found)


def architecture_of(settings: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> Mace:
    """The hyper-parameters of karat's `mace`.

    Raises:
        BadInput: one is outside karat's range.
    """
    layers, highest = settings["layers"], settings["largest_degree"]
    hidden = layers[0]["output_degrees"] if len(layers) > 1 else [0]
    widths = _radial_widths(arrays)
    last = len(settings["readouts"]) - 1
    return Mace(
        cutoff_angstrom=settings["cutoff"],
        channels=settings["channels"],
        hidden_degree=max(hidden),
        harmonics_degree=highest,
        correlation=layers[0]["correlation"],
        layers=len(layers),
        bessel=settings["radial"]["count"],
        envelope_power=settings["radial"]["cutoff_power"],
        radial_hidden=tuple(widths[:-1]),
        readout_hidden=arrays[f"readouts.{last}.hidden"].shape[1] // len(settings["heads"]),
        residual_first=layers[0]["residual"],
        average_neighbours=layers[0]["average_neighbours"],
        agnesi=settings["radial"]["transform"] == "agnesi",
        density=layers[0]["density"],
        repulsion=settings["repulsion"] is not None,
    )


def _radial_widths(arrays: Mapping[str, np.ndarray]) -> list[int]:
    names = sorted(name for name in arrays if name.startswith("layers.0.radial."))
    return [arrays[name].shape[1] for name in names]


def _normal(effective: np.ndarray) -> np.ndarray:
    """What karat's `linear` makes this matrix of: rows are inputs."""
    return effective * np.sqrt(effective.shape[-2])


def _parameters(model: ConvertedModel, head: int, order: np.ndarray) -> Arrays:
    """karat's arrays by name; elements in the order `order`."""
    settings, given = model.settings, model.arrays
    cutoff, number = settings["cutoff"], len(order)
    found: Arrays = {
        "embedding": given["embedding"][order] * np.sqrt(number),
        "frequencies": given["radial.frequencies"] * (cutoff / np.pi),
        "scale": np.array(given["scale"][head]),
        "shift": np.full(number, given["shift"][head]),
    }
    for index, layer in enumerate(settings["layers"]):
        found |= _layer(index, layer, model, order)
    *linear, last = range(len(settings["readouts"]))
    for index in linear:
        found[f"readouts.{index}"] = _normal(given[f"readouts.{index}.linear"][:, [head]])
    width = given[f"readouts.{last}.hidden"].shape[1] // len(settings["heads"])
    own = slice(head * width, (head + 1) * width)
    found["last_readout.0"] = _normal(given[f"readouts.{last}.hidden"][:, own])
    factor = settings["readouts"][last]["factor"] / SILU_FACTOR
    found["last_readout.1"] = _normal(given[f"readouts.{last}.linear"][own, [head]])
    found["last_readout.1"] *= factor
    return found


def _layer(
    index: int, layer: Mapping[str, Any], model: ConvertedModel, order: np.ndarray
) -> Arrays:
    """Arrays of one layer."""
    given, here = model.arrays, f"layers.{index}"
    channels, number = model.settings["channels"], len(order)
    highest = model.settings["largest_degree"]
    found: Arrays = {}
    for slot, degree in enumerate(layer["input_degrees"]):
        found[f"{here}.up.{slot}"] = _normal(given[f"{here}.linear_up.{degree}"])
    convolution = Convolution(tuple(layer["input_degrees"]), highest)
    if layer["density"]:
        found[f"{here}.density"] = _normal(given[f"{here}.density"]) * _waves(model)
    matrices = _radial(here, layer, model, convolution)
    found |= {f"{here}.radial.{i}": matrix for i, matrix in enumerate(matrices)}
    for degree in range(highest + 1):
        # paths to one degree stand in the same order in both
        matrix = given[f"{here}.linear.{degree}"]
        found[f"{here}.mix.{degree}"] = _normal(matrix.reshape(-1, channels))
    skipped = [
        degree
        for degree in (layer["input_degrees"] if layer["residual"] else range(highest + 1))
        if not layer["residual"] or degree in layer["output_degrees"]
    ]
    for slot, degree in enumerate(skipped):
        skip = given[f"{here}.skip.{degree}"][order]
        found[f"{here}.skip.{slot}"] = skip * np.sqrt(channels * number)
    for slot, degree in enumerate(layer["output_degrees"]):
        found[f"{here}.out.{slot}"] = _normal(given[f"{here}.product.{degree}"])
        weights = _contraction(here, degree, layer, model)
        found[f"{here}.contraction.{slot}"] = weights[order]
    return found


def _waves(model: ConvertedModel) -> float:
    """Factor of the file's Bessel functions over karat's: rounding of a file in float32."""
    return float(model.settings["radial"]["prefactor"] / np.sqrt(2 / model.settings["cutoff"]))


def _radial(
    here: str, layer: Mapping[str, Any], model: ConvertedModel, convolution: Convolution
) -> list[np.ndarray]:
    """The radial network, whose last matrix takes what differs between coupling coefficients."""
    given, count = model.arrays, len(_radial_widths(model.arrays))
    matrices = [_normal(given[f"{here}.radial.{i}"]) for i in range(count)]
    factor = layer["radial_factor"] / SILU_FACTOR
    matrices = [_waves(model) * matrices[0], *(factor * matrix for matrix in matrices[1:])]
    theirs = [tuple(path[:3]) for path in layer["paths"]]
    last = matrices[-1].reshape(len(matrices[-1]), len(theirs), -1)
    columns = []
    for path in convolution.paths:
        position = theirs.index(path)
        columns.append(last[:, position] * layer["paths"][position][3] * coupling_ratio(*path))
    return [*matrices[:-1], np.concatenate(columns, axis=1)]


def coupling_ratio(first: int, second: int, third: int) -> float:
    """e3nn's coupling coefficients over karat's, for an even sum of degrees.

    e3nn's have Frobenius norm 1 and are a positive multiple of the integral of three harmonics;
    contracted with three harmonics of one direction they are positive.
    """
    x, y, z = jnp.array([0.36, 0.48, 0.8])
    values = [np.asarray(v) for v in harmonics(x, y, z, max(first, second, third))]
    rows = [np.array(values[d * d : (d + 1) ** 2]) for d in (first, second, third)]
    mine = real_coupling(first, second, third)
    sign = np.sign(np.einsum("abc,a,b,c->", mine, *rows))
    return float(sign / np.linalg.norm(mine))


def _contraction(
    here: str, degree: int, layer: Mapping[str, Any], model: ConvertedModel
) -> Float[np.ndarray, "species paths channels"]:
    """Weights of karat's paths to one degree, of all orders.

    Raises:
        BadInput: the file's couplings are not among karat's.
    """
    highest, precision = model.settings["largest_degree"], model.settings["precision"]
    blocks = []
    for order in range(layer["correlation"], 0, -1):
        mine = _monomial_table(highest, order, degree)
        prefix = f"{here}.contraction.{degree}.{order}."
        if order not in layer["contraction_orders"][str(degree)]:
            shape = (len(model.settings["atomic_numbers"]), len(mine), model.settings["channels"])
            blocks.append(np.zeros(shape))
            continue
        given = {
            name: model.arrays[prefix + name]
            for name in ("monomials", "components", "paths", "values", "weights")
        }
        theirs = np.zeros((given["weights"].shape[1], *mine.shape[1:]))
        size = (highest + 1) ** 2
        columns = given["monomials"].astype(np.int64) @ (size ** np.arange(order)[::-1])
        np.add.at(theirs, (given["paths"], given["components"], columns), given["values"])
        theirs, table = theirs.reshape(len(theirs), -1), mine.reshape(len(mine), -1)
        transfer = np.linalg.lstsq(table.T, theirs.T, rcond=1e-10)[0].T
        rest = np.linalg.norm(transfer @ table - theirs) / np.linalg.norm(theirs)
        if rest > SPAN_TOLERANCE[precision]:
            raise BadInput(
                f"{here}: products of {order} features of degree {degree} are not among karat's "
                f"(a relative part of {rest:.1e} is left). The file may be damaged."
            )
        blocks.append(np.einsum("tp,ztc->zpc", transfer, given["weights"]))
    return np.concatenate(blocks, axis=1)


def _monomial_table(
    highest: int, order: int, degree: int
) -> Float[np.ndarray, "paths orders monomials"]:
    """Coefficients of each of karat's paths on sorted monomials, at Σ component · size^position."""
    size = (highest + 1) ** 2
    grid = np.sort(np.indices((size,) * order).reshape(order, -1), axis=0)
    slot = (size ** np.arange(order)[::-1]) @ grid
    found = paths(highest, order, degree)
    table = np.zeros((len(found), 2 * degree + 1, size**order))
    for row, path in enumerate(found):
        tensor = path_tensor(highest, path, degree).reshape(-1, 2 * degree + 1)
        np.add.at(table[row].T, slot, tensor)
    return table

"""mace-torch model file → model.json and weights.safetensors; runs inside the environment only.

Usage: convert_model.py FILE.model FOLDER. The names and shapes are explained in ../README.md.
"""

import hashlib
import importlib.metadata
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
from blocks import (
    Arrays,
    activation,
    class_of,
    contraction,
    degrees,
    linear,
    numpy,
    perceptron,
    skip,
)
from mace_file import load, refuse

SCHEMA = 1
INTERACTIONS = {
    "RealAgnosticInteractionBlock": (False, False),
    "RealAgnosticResidualInteractionBlock": (True, False),
    "RealAgnosticDensityInteractionBlock": (False, True),
    "RealAgnosticDensityResidualInteractionBlock": (True, True),
}
"""Class → (the skip connection passes the interaction by, a density divides the messages)."""


def radial(model: Any, arrays: Arrays) -> dict[str, Any]:
    """Settings of the radial embedding."""
    block = model.radial_embedding
    kinds = {"BesselBasis": "bessel", "GaussianBasis": "gaussian", "ChebychevBasis": "chebyshev"}
    kind = kinds[class_of(block.bessel_fn, tuple(kinds), "radial basis")]
    if kind == "bessel":
        arrays["radial.frequencies"] = numpy(block.bessel_fn.bessel_weights)
    elif kind == "gaussian":
        arrays["radial.centres"] = numpy(block.bessel_fn.gaussian_weights)
    class_of(block.cutoff_fn, ("PolynomialCutoff",), "cutoff function")
    settings: dict[str, Any] = {
        "basis": kind,
        "count": int(block.out_dim),
        "cutoff_power": int(block.cutoff_fn.p),
        "cutoff_on_network": not getattr(block, "apply_cutoff", True),
        "transform": None,
    }
    if kind == "bessel":
        settings["prefactor"] = float(block.bessel_fn.prefactor)
    if kind == "gaussian":
        settings["coefficient"] = float(block.bessel_fn.coeff)
    if hasattr(block, "distance_transform"):
        transform = block.distance_transform
        name = class_of(transform, ("AgnesiTransform", "SoftTransform"), "distance transform")
        keys = ("q", "p", "a") if name == "AgnesiTransform" else ("alpha",)
        settings["transform"] = name.removesuffix("Transform").lower()
        settings["transform_parameters"] = {key: float(getattr(transform, key)) for key in keys}
        arrays["covalent_radii"] = numpy(transform.covalent_radii)
    return settings


def repulsion(model: Any, arrays: Arrays) -> dict[str, Any] | None:
    """Settings of the pair repulsion."""
    if not hasattr(model, "pair_repulsion_fn"):
        return None
    zbl = model.pair_repulsion_fn
    class_of(zbl, ("ZBLBasis",), "pair repulsion")
    if not hasattr(zbl, "a_prefactor") or not hasattr(zbl, "covalent_radii"):
        refuse("pair repulsion: was written by an older mace-torch, which karat cannot convert yet")
    arrays["covalent_radii"] = numpy(zbl.covalent_radii)
    return {
        "cutoff_power": int(zbl.p),
        "coefficients": numpy(zbl.c).tolist(),
        "screening_exponent": float(zbl.a_exp),
        "screening_prefactor": float(zbl.a_prefactor),
    }


def interaction(block: Any, where: str, arrays: Arrays) -> dict[str, Any]:
    """Settings of one interaction; its matrices go into `arrays`."""
    kind = class_of(block, tuple(INTERACTIONS), where)
    residual, density = INTERACTIONS[kind]
    class_of(block.conv_tp, ("TensorProduct",), f"{where}.conv_tp")
    for name, module in (("linear_up", block.linear_up), ("linear", block.linear)):
        for degree, matrices in linear(module, f"{where}.{name}").items():
            arrays[f"{where}.{name}.{degree}"] = matrices[0] if name == "linear_up" else matrices
    for degree, matrices in skip(block.skip_tp, f"{where}.skip_tp").items():
        arrays[f"{where}.skip.{degree}"] = matrices
    matrices, name, factor = perceptron(block.conv_tp_weights, f"{where}.conv_tp_weights")
    for index, matrix in enumerate(matrices):
        arrays[f"{where}.radial.{index}"] = matrix
    if density:
        arrays[f"{where}.density"] = perceptron(block.density_fn, f"{where}.density_fn")[0][0]
    product = block.conv_tp
    paths = [
        [
            product.irreps_in1[step.i_in1].ir.l,
            product.irreps_in2[step.i_in2].ir.l,
            product.irreps_out[step.i_out].ir.l,
            float(step.path_weight),
        ]
        for step in product.instructions
    ]
    if [step.i_out for step in product.instructions] != list(range(len(paths))):
        refuse(f"{where}: paths are not in the order of their results")
    return {
        "class": kind,
        "residual": residual,
        "density": density,
        "average_neighbours": float(block.avg_num_neighbors),
        "input_degrees": degrees(block.node_feats_irreps, where),
        "edge_degrees": degrees(product.irreps_in1, where),
        "edge_channels": int(product.irreps_in1[0].mul),
        "paths": paths,
        "radial_activation": name,
        "radial_factor": factor,
    }


def product(block: Any, where: str, threshold: float, arrays: Arrays) -> dict[str, Any]:
    """Settings of one product basis; its polynomials and matrices go into `arrays`."""
    class_of(block.symmetric_contractions, ("SymmetricContraction",), where)
    contractions = block.symmetric_contractions.contractions
    modules = list(contractions.values() if hasattr(contractions, "values") else contractions)
    outputs = degrees(block.symmetric_contractions.irreps_out, where)
    orders: dict[str, list[int]] = {}
    for degree, module in zip(outputs, modules):
        orders[str(degree)] = []
        for order in range(1, int(module.correlation) + 1):
            found = contraction(module, order, threshold)
            if found is not None:
                orders[str(degree)].append(order)
                for name, array in found.items():
                    arrays[f"{where}.contraction.{degree}.{order}.{name}"] = array
    for degree, matrices in linear(block.linear, f"{where}.linear").items():
        arrays[f"{where}.product.{degree}"] = matrices[0]
    return {
        "output_degrees": outputs,
        "correlation": int(modules[0].correlation),
        "contraction_orders": orders,
        "element_dependent_product": not getattr(block, "use_agnostic_product", False),
    }


def readout(block: Any, where: str, arrays: Arrays) -> dict[str, Any]:
    """Settings of one readout; its matrices go into `arrays`."""
    kind = class_of(block, ("LinearReadoutBlock", "NonLinearReadoutBlock"), where)
    if kind == "LinearReadoutBlock":
        arrays[f"{where}.linear"] = linear(block.linear, where)[0][0]
        return {"kind": "linear"}
    acts = list(block.non_linearity.acts)
    if len(acts) != 1:
        refuse(f"{where}: has more than one kind of hidden features")
    name, factor = activation(acts[0], where)
    arrays[f"{where}.hidden"] = linear(block.linear_1, where)[0][0]
    arrays[f"{where}.linear"] = linear(block.linear_2, where)[0][0]
    return {"kind": "perceptron", "activation": name, "factor": factor}


def convert(model: Any, precision: str) -> tuple[dict[str, Any], Arrays]:
    """Everything that the energy needs."""
    for name in ("joint_embedding", "embedding_readout"):
        if hasattr(model, name):
            refuse(f"the model has a {name} (charge, spin, …), which karat cannot convert yet")
    arrays: Arrays = {}
    threshold = 1e-12 if precision == "float64" else 1e-7
    spherical = model.spherical_harmonics
    if spherical.normalization != "component" or not spherical.normalize:
        refuse("spherical harmonics: are not normalised as in every known model")
    arrays["embedding"] = linear(model.node_embedding.linear, "embedding")[0][0]
    arrays["atomic_energies"] = np.atleast_2d(numpy(model.atomic_energies_fn.atomic_energies))
    layers = []
    for index, (block, basis) in enumerate(zip(model.interactions, model.products)):
        where = f"layers.{index}"
        settings = interaction(block, where, arrays) | product(basis, where, threshold, arrays)
        settings["adds_skip"] = settings["residual"] and bool(basis.use_sc)
        layers.append(settings)
    heads = [str(head) for head in getattr(model, "heads", None) or ["Default"]]
    readouts = []
    for index, block in enumerate(model.readouts):
        layer = len(layers) - 1 if len(model.readouts) == 1 else index
        settings = readout(block, f"readouts.{index}", arrays)
        readouts.append(settings | {"layer": layer})
    scaled = type(model).__name__ == "ScaleShiftMACE"
    ones = np.ones(len(heads))
    arrays["scale"] = numpy(model.scale_shift.scale).ravel() * ones if scaled else ones
    arrays["shift"] = numpy(model.scale_shift.shift).ravel() * ones if scaled else 0 * ones
    return {
        "schema": SCHEMA,
        "class": type(model).__name__,
        "precision": precision,
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "heads": heads,
        "atomic_numbers": [int(number) for number in model.atomic_numbers],
        "cutoff": float(model.r_max),
        "channels": int(arrays["embedding"].shape[1]),
        "largest_degree": max(degrees(spherical.irreps_out, "spherical harmonics")),
        "radial": radial(model, arrays),
        "repulsion": repulsion(model, arrays),
        "layers": layers,
        "readouts": readouts,
    }, arrays


def main() -> None:
    """Read the file, write the folder."""
    from safetensors.numpy import save_file

    source, folder = Path(sys.argv[1]), Path(sys.argv[2])
    model, precision = load(str(source))
    try:
        settings, arrays = convert(model, precision)
    except (AttributeError, KeyError, TypeError) as error:
        refuse(
            f"{source.name}: is not built as models of this mace-torch are ({error!r}); it was "
            "written by a version that differs too much, or changed afterwards."
        )
    names = ("mace-torch", "e3nn", "torch")
    settings["source"] = {
        "file": source.name,
        "sha256": hashlib.sha256(source.read_bytes()).hexdigest(),
        "versions": {name: importlib.metadata.version(name) for name in names},
    }
    folder.mkdir(parents=True, exist_ok=True)
    save_file(
        {k: np.ascontiguousarray(v) for k, v in arrays.items()}, folder / "weights.safetensors"
    )
    (folder / "model.json").write_text(json.dumps(settings, indent=1, allow_nan=False) + "\n")


if __name__ == "__main__":
    main()

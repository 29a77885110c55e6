"""Parts of a mace-torch model as plain matrices; every factor of e3nn is multiplied in.

Runs inside the isolated environment only.
"""

import itertools
from typing import Any

import numpy as np
from mace_file import refuse

Arrays = dict[str, np.ndarray]


def numpy(tensor: Any) -> np.ndarray:
    """A copy in float64."""
    return np.array(tensor.detach().cpu().double().numpy())


def class_of(module: Any, allowed: tuple[str, ...], where: str) -> str:
    """The name of the module's class, if karat knows what it computes."""
    name, package = type(module).__name__, type(module).__module__.partition(".")[0]
    if name not in allowed or package not in ("mace", "e3nn"):
        refuse(
            f"{where}: is a {package} {name}, which karat cannot convert yet; known: "
            f"{', '.join(allowed)}"
        )
    return name


def degrees(irreps: Any, where: str) -> list[int]:
    """Degree l of each block; all blocks have as many channels and the parity (-1)^l."""
    if len({mul for mul, _ in irreps}) != 1:
        refuse(f"{where}: {irreps} has blocks with different numbers of channels")
    if any(ir.p != (-1) ** ir.l for _, ir in irreps):
        refuse(f"{where}: {irreps} holds pseudotensors, which karat cannot convert yet")
    return [ir.l for _, ir in irreps]


def linear(module: Any, where: str) -> dict[int, np.ndarray]:
    """Per degree, the matrices (input blocks, channels in, channels out) of an `o3.Linear`."""
    class_of(module, ("Linear",), where)
    if module.bias.numel():
        refuse(f"{where}: has biases, which karat cannot convert yet")
    found: dict[int, list[np.ndarray]] = {}
    targets: dict[int, int] = {}
    for _, instruction, weight in module.weight_views(yield_instruction=True):
        degree = module.irreps_out[instruction.i_out].ir.l
        if targets.setdefault(degree, instruction.i_out) != instruction.i_out:
            refuse(f"{where}: {module.irreps_out} has two blocks of one degree")
        found.setdefault(degree, []).append(numpy(weight) * instruction.path_weight)
    return {degree: np.stack(matrices) for degree, matrices in found.items()}


def skip(module: Any, where: str) -> dict[int, np.ndarray]:
    """Per degree, the matrices (elements, channels in, channels out) of a `skip_tp`.

    The second input is one-hot in the element, and w3j(l, 0, l) = δ/√(2l+1).
    """
    class_of(module, ("FullyConnectedTensorProduct",), where)
    found: dict[int, np.ndarray] = {}
    for _, instruction, weight in module.weight_views(yield_instruction=True):
        degree = module.irreps_out[instruction.i_out].ir.l
        if degree in found or instruction.i_in2 != 0:
            refuse(f"{where}: {module} has more than one path to a degree")
        factor = instruction.path_weight / np.sqrt(2 * degree + 1)
        found[degree] = numpy(weight).transpose(1, 0, 2) * factor
    return found


def perceptron(module: Any, where: str) -> tuple[list[np.ndarray], str, float]:
    """Matrices of a `FullyConnectedNet`, its activation, and the factor after the activation."""
    class_of(module, ("FullyConnectedNet",), where)
    layers = list(module.children())
    if layers[-1].act is not None or any(layer.act is None for layer in layers[:-1]):
        refuse(f"{where}: {module} has an activation where none is expected, or lacks one")
    matrices = [numpy(layer.weight) / np.sqrt(layer.h_in * layer.var_in) for layer in layers]
    kinds = {activation(layer.act, where) for layer in layers[:-1]}
    if len(kinds) > 1:
        refuse(f"{where}: has several kinds of activation")
    name, factor = kinds.pop() if kinds else ("silu", 1.0)
    return matrices, name, factor


def activation(module: Any, where: str) -> tuple[str, float]:
    """Name of an activation and the factor that e3nn multiplies it with."""
    class_of(module, ("normalize2mom",), where)
    name = getattr(module.f, "__name__", type(module.f).__name__).lower()
    if name not in ("silu", "tanh"):
        refuse(f"{where}: activation {name}; karat converts silu and tanh")
    return name, float(module.cst)


def contraction(module: Any, order: int, threshold: float) -> Arrays | None:
    """The polynomials of one order of a symmetric contraction, or `None` where all vanish.

    Product features of channel k and element z are, for component M,
    Σ_e values[e] · weights[z, paths[e], k] · Π_i A[k, monomials[e, i]] over the entries e with
    components[e] = M: coefficients of equal monomials are summed over permutations.
    """
    couplings = numpy(getattr(module, f"U_matrix_{order}"))
    if couplings.ndim == order + 1:
        couplings = couplings[None]
    size = couplings.shape[1]
    monomials = np.array(list(itertools.combinations_with_replacement(range(size), order)))
    rank = {tuple(monomial): index for index, monomial in enumerate(monomials.tolist())}
    grid = np.sort(np.indices((size,) * order).reshape(order, -1), axis=0).T
    slot = np.array([rank[tuple(row)] for row in grid.tolist()])
    flat = couplings.reshape(len(couplings), -1, couplings.shape[-1])
    summed = np.zeros((len(couplings), len(monomials), couplings.shape[-1]))
    for component in range(len(couplings)):
        np.add.at(summed[component], slot, flat[component])
    keep = np.abs(summed) > threshold * max(1.0, float(np.abs(summed).max()))
    if not keep.any():
        return None
    components, terms, paths = np.nonzero(keep)
    last = order == int(module.correlation)
    weights = module.weights_max if last else module.weights[int(module.correlation) - 1 - order]
    return {
        "monomials": monomials[terms].astype(np.uint8),
        "components": components.astype(np.uint8),
        "paths": paths.astype(np.uint16),
        "values": summed[keep],
        "weights": numpy(weights),
    }

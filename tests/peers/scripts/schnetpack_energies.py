"""Energies and forces of SchNet or PaiNN with given weights, from schnetpack in float64.

Reads `model` (``schnet``, ``painn``), its sizes, `weights.NAME` by schnetpack's own names, and
`numbers`, `centers`, `neighbours`, `offsets`, `positions` of one structure; writes `energy`, its
negative gradient `forces`, and `parameters`, the number of weights.
"""

import sys
import typing

import numpy as np
import torch
import torch.utils.data.dataloader as loader

loader.T_co = typing.TypeVar("T_co", covariant=True)  # gone from torch, imported by schnetpack 2.0

import schnetpack.nn as snn  # noqa: E402
import schnetpack.properties as names  # noqa: E402
from schnetpack.atomistic import Atomwise  # noqa: E402
from schnetpack.nn.activations import shifted_softplus  # noqa: E402
from schnetpack.representation import PaiNN, SchNet  # noqa: E402


def build(given):
    channels, blocks = int(given["channels"]), int(given["interactions"])
    functions, cutoff = int(given["functions"]), float(given["cutoff"])
    end = snn.CosineCutoff(cutoff)
    if str(given["model"]) == "schnet":
        basis, activation = snn.GaussianRBF(functions, cutoff), shifted_softplus
        body = SchNet(channels, blocks, basis, end)
    else:
        basis, activation = snn.BesselRBF(functions, cutoff), torch.nn.functional.silu
        body = PaiNN(channels, blocks, basis, end, activation)
    head = Atomwise(channels, 1, activation=activation, output_key="energy")
    model = torch.nn.ModuleDict({"body": body, "head": head}).double()
    if str(given["model"]) == "schnet":  # float32 numbers otherwise
        basis.offsets = torch.linspace(0, cutoff, functions, dtype=torch.float64)
        basis.widths = torch.full_like(basis.offsets, cutoff / (functions - 1))
    else:
        basis.freqs = torch.arange(1, functions + 1, dtype=torch.float64) * (np.pi / cutoff)
    return model


def main():
    with np.load(sys.argv[1], allow_pickle=False) as found:
        given = dict(found)
    model = build(given)
    torch.set_default_dtype(torch.float64)  # PaiNN begins with zeros of the default type
    parameters = dict(model.named_parameters())
    weights = {key[8:]: value for key, value in given.items() if key.startswith("weights.")}
    assert parameters.keys() == weights.keys(), parameters.keys() ^ weights.keys()
    with torch.no_grad():
        for name, value in weights.items():
            assert parameters[name].shape == value.shape, (name, parameters[name].shape)
            parameters[name].copy_(torch.from_numpy(value))
    positions = torch.from_numpy(given["positions"]).requires_grad_()
    centers, neighbours = (torch.from_numpy(given[key]) for key in ("centers", "neighbours"))
    vectors = positions[neighbours] - positions[centers] + torch.from_numpy(given["offsets"])
    numbers = torch.from_numpy(given["numbers"])
    inputs = {
        names.Z: numbers,
        names.Rij: vectors,
        names.idx_i: centers,
        names.idx_j: neighbours,
        names.idx_m: torch.zeros_like(numbers),
        names.n_atoms: torch.tensor([len(numbers)]),
    }
    energy = model["head"](model["body"](inputs))["energy"]
    (gradient,) = torch.autograd.grad(energy.sum(), positions)
    np.savez(
        sys.argv[2],
        energy=energy.detach().numpy()[0],
        forces=-gradient.numpy(),
        parameters=sum(value.size for value in weights.values()),
    )


if __name__ == "__main__":
    main()

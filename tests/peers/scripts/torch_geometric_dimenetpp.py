"""Energy and forces of DimeNet++ with given weights, from torch_geometric in float64.

Its searches for neighbours and triplets need packages with compiled code; edges are given instead,
and triplets found here by trying all pairs of edges.

Reads the sizes, `weights.NAME` by torch_geometric's own names, and `numbers`, `edges` (from, to)
and `positions` of one molecule; writes `energy`, its negative gradient `forces`, and `parameters`,
the number of weights.
"""

import sys

import numpy as np
import torch
from torch_geometric.nn.models import DimeNetPlusPlus, dimenet


def triplets(edges, num_nodes):
    """Edges j → i with all edges k → j but those of k = i."""
    start, end = edges
    ji, kj = torch.nonzero(start[:, None] == end[None, :], as_tuple=True)
    kept = start[kj] != end[ji]
    ji, kj = ji[kept], kj[kept]
    return end, start, end[ji], start[ji], start[kj], kj, ji


def main():
    with np.load(sys.argv[1], allow_pickle=False) as found:
        given = dict(found)
    torch.set_default_dtype(torch.float64)
    edges = torch.from_numpy(given["edges"])
    dimenet.radius_graph = lambda *_, **__: edges
    dimenet.triplets = triplets
    size = {key[5:]: int(value) for key, value in given.items() if key.startswith("size.")}
    model = DimeNetPlusPlus(out_channels=1, cutoff=float(given["cutoff"]), **size)
    parameters = dict(model.named_parameters())
    weights = {key[8:]: value for key, value in given.items() if key.startswith("weights.")}
    assert parameters.keys() == weights.keys(), parameters.keys() ^ weights.keys()
    with torch.no_grad():
        for name, value in weights.items():
            assert parameters[name].shape == value.shape, (name, parameters[name].shape)
            parameters[name].copy_(torch.from_numpy(value))
    positions = torch.from_numpy(given["positions"]).requires_grad_()
    energy = model(torch.from_numpy(given["numbers"]), positions)[0]
    (gradient,) = torch.autograd.grad(energy, positions)
    np.savez(
        sys.argv[2],
        energy=energy.detach().numpy(),
        forces=-gradient.numpy(),
        parameters=sum(value.size for value in weights.values()),
    )


if __name__ == "__main__":
    main()

"""Energy and forces of M3GNet with given weights, from matgl in float64.

matgl's network differs from that of the paper in details, which are set right with its own layers:
smooth radial functions for edges but spherical Bessel functions for angles, gated networks of two
layers in graph convolutions and of three in the output.

Reads the sizes, `weights.NAME` by matgl's own names, and `types`, `edges`, `offsets`, `positions`
of one structure; writes `energy`, its negative gradient `forces`, and `parameters`, the number of
weights.
"""

import sys
from pathlib import Path

import matgl
import numpy as np
import torch
from matgl.layers import GatedMLP, M3GNetBlock, SphericalBesselWithHarmonics, _basis
from matgl.models import M3GNet
from torch_geometric.data import Data


def build(given):
    units, functions, degrees = (int(given[key]) for key in ("units", "radial", "degrees"))
    blocks, cutoff = int(given["blocks"]), float(given["cutoff"])
    matgl.set_default_dtype("float", 64)
    roots = np.load(Path(matgl.__file__).parent / "utils" / "sb_roots.npy")
    _basis.SPHERICAL_BESSEL_ROOTS = torch.from_numpy(roots)  # rounded to float32 at import
    model = M3GNet(
        element_types=tuple(str(name) for name in given["elements"]),
        dim_node_embedding=units,
        dim_edge_embedding=units,
        units=units,
        max_n=functions,
        max_l=degrees,
        nblocks=blocks,
        cutoff=cutoff,
        threebody_cutoff=float(given["three_body_cutoff"]),
        is_intensive=False,
        use_smooth=True,
    )
    model.basis_expansion = SphericalBesselWithHarmonics(
        max_n=functions, max_l=degrees, cutoff=cutoff, use_smooth=False, use_phi=False
    )
    model.graph_layers = torch.nn.ModuleList(
        M3GNetBlock(functions, torch.nn.SiLU(), [units], units, units) for _ in range(blocks)
    )
    model.final_layer = GatedMLP(units, [units, units, 1], activate_last=False)
    return model.double()


def main():
    with np.load(sys.argv[1], allow_pickle=False) as found:
        given = dict(found)
    model = build(given)
    parameters = dict(model.named_parameters())
    weights = {key[8:]: value for key, value in given.items() if key.startswith("weights.")}
    assert parameters.keys() == weights.keys(), parameters.keys() ^ weights.keys()
    with torch.no_grad():
        for name, value in weights.items():
            assert parameters[name].shape == value.shape, (name, parameters[name].shape)
            parameters[name].copy_(torch.from_numpy(value))
    positions = torch.from_numpy(given["positions"]).requires_grad_()
    graph = Data(
        node_type=torch.from_numpy(given["types"]),
        pos=positions,
        edge_index=torch.from_numpy(given["edges"]),
        pbc_offshift=torch.from_numpy(given["offsets"]),
    )
    energy = model(graph)
    (gradient,) = torch.autograd.grad(energy, positions)
    np.savez(
        sys.argv[2],
        energy=energy.detach().numpy(),
        forces=-gradient.numpy(),
        parameters=sum(value.size for value in weights.values()),
    )


if __name__ == "__main__":
    main()

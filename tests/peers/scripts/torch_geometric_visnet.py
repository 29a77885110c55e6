"""Energies and forces of ViSNet with given weights, from torch_geometric in float64.

Reads the sizes of the model, `weights.NAME` by torch_geometric's own names, and `numbers`,
`centers`, `neighbours`, `offsets`, `positions` of one structure; writes `energy`, its negative
gradient `forces`, and `parameters`, the number of weights. Pairs are given, so that no compiled
extension is needed to find them, and crystals are possible.
"""

import sys

import numpy as np
import torch
from torch_geometric.nn.models import ViSNet


class GivenPairs(torch.nn.Module):
    """In place of the search for neighbours: the same pairs, and each atom with itself."""

    def __init__(self, centers, neighbours, offsets):
        super().__init__()
        self.centers, self.neighbours, self.offsets = centers, neighbours, offsets

    def forward(self, positions, batch):
        alone = torch.arange(len(positions))
        moved = positions[self.neighbours] - positions[self.centers] + self.offsets
        vectors = torch.cat([moved, torch.zeros_like(positions)])
        lengths = torch.cat([torch.norm(moved, dim=1), positions.new_zeros(len(positions))])
        ends = torch.cat([self.neighbours, alone]), torch.cat([self.centers, alone])
        return torch.stack(ends), lengths, vectors


def main():
    with np.load(sys.argv[1], allow_pickle=False) as found:
        given = dict(found)
    torch.set_default_dtype(torch.float64)
    sizes = ("lmax", "num_heads", "num_layers", "hidden_channels", "num_rbf")
    model = ViSNet(cutoff=float(given["cutoff"]), **{name: int(given[name]) for name in sizes})
    parameters = dict(model.named_parameters())
    weights = {key[8:]: value for key, value in given.items() if key.startswith("weights.")}
    assert parameters.keys() == weights.keys(), parameters.keys() ^ weights.keys()
    with torch.no_grad():
        for name, value in weights.items():
            assert parameters[name].shape == value.shape, (name, parameters[name].shape)
            parameters[name].copy_(torch.from_numpy(value))
    pairs = (torch.from_numpy(given[key]) for key in ("centers", "neighbours", "offsets"))
    model.representation_model.distance = GivenPairs(*pairs)
    positions = torch.from_numpy(given["positions"]).requires_grad_()
    numbers = torch.from_numpy(given["numbers"])
    energy, _ = model(numbers, positions, torch.zeros_like(numbers))
    (gradient,) = torch.autograd.grad(energy.sum(), positions)
    np.savez(
        sys.argv[2],
        energy=energy.detach().numpy().reshape(()),
        forces=-gradient.numpy(),
        parameters=sum(value.size for value in weights.values()),
    )


if __name__ == "__main__":
    main()

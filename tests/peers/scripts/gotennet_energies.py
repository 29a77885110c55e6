"""Energies and forces of GotenNet with given weights, from gotennet in float64.

Reads the sizes of the model, `weights.NAME` by gotennet's own names and `output.NAME` of a network
on its scalars, and `numbers`, `centers`, `neighbours`, `offsets`, `positions` of one structure;
writes `energy`, its negative gradient `forces`, and `parameters`, the number of weights. Pairs are
given, so that no compiled extension is needed; each atom is linked with itself, as gotennet does.
Its softmax, which does not know the distance, gets the cut-off function as a weight, as in karat.
"""

import logging
import sys
import types

import numpy as np
import torch
from torch_geometric.utils import scatter


def stand_in(name, **names):
    """Modules that are imported there, and not used here."""
    sys.modules[name] = types.ModuleType(name)
    vars(sys.modules[name]).update(names)


stand_in("torch_cluster", radius_graph=None)
stand_in("gotennet.utils", get_logger=logging.getLogger)
stand_in("gotennet.models.goten_model", GotenModel=None)

import gotennet.models.representation.gotennet as theirs  # noqa: E402
from gotennet.models.components.layers import CosineCutoff  # noqa: E402


def main():
    with np.load(sys.argv[1], allow_pickle=False) as found:
        given = dict(found)
    torch.set_default_dtype(torch.float64)
    end = CosineCutoff(float(given["cutoff"]))
    sizes = ("lmax", "num_heads", "n_interactions", "n_atom_basis", "n_rbf")
    model = theirs.GotenNet(
        cutoff_fn=end,
        scale_edge=False,
        sep_dir=True,
        sep_tensor=True,
        **{name: int(given[name]) for name in sizes},
    ).eval()
    parameters = dict(model.named_parameters())
    weights = {key[8:]: value for key, value in given.items() if key.startswith("weights.")}
    assert parameters.keys() == weights.keys(), parameters.keys() ^ weights.keys()
    with torch.no_grad():
        for name, value in weights.items():
            assert parameters[name].shape == value.shape, (name, parameters[name].shape)
            parameters[name].copy_(torch.from_numpy(value))
    positions = torch.from_numpy(given["positions"]).requires_grad_()
    near, centers, offsets = (
        torch.from_numpy(given[k]) for k in ("neighbours", "centers", "offsets")
    )
    moved = positions[near] - positions[centers] + offsets
    alone = torch.arange(len(positions))
    vectors = torch.cat([moved, torch.zeros_like(positions)])
    lengths = torch.cat([torch.norm(moved, dim=1), positions.new_zeros(len(positions))])

    def softmax(scores, index, ptr, size):
        most = scatter(scores.detach(), index, dim=0, dim_size=size, reduce="max")
        raised = end(lengths)[:, None, None] * torch.exp(scores - most[index])
        return raised / scatter(raised, index, dim=0, dim_size=size)[index]

    theirs.softmax = softmax
    ends = torch.stack([torch.cat([near, alone]), torch.cat([centers, alone])])
    scalars, _ = model(torch.from_numpy(given["numbers"]), ends, lengths, vectors)
    first, second = (
        [torch.from_numpy(given[f"output.{i}.{kind}"]) for kind in ("weight", "bias")]
        for i in range(2)
    )
    hidden = torch.nn.functional.silu(torch.nn.functional.linear(scalars, *first))
    energy = torch.nn.functional.linear(hidden, *second).sum()
    (gradient,) = torch.autograd.grad(energy, positions)
    np.savez(
        sys.argv[2],
        energy=energy.detach().numpy(),
        forces=-gradient.numpy(),
        parameters=sum(value.size for value in weights.values()),
    )


if __name__ == "__main__":
    main()

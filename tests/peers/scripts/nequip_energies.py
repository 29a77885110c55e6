"""Energies, forces and weights of a NequIP network of nequip itself, in float64.

    python nequip_energies.py given.npz got.npz

given: numbers, positions, cell, periodic; layers, degree, features, seed; scale and shift of each
element; cutoff, average (neighbours); points (3, 3), unit vectors at which products of harmonics
are compared, triples (n, 3), degrees of those products.
got: energy, forces, products; embedding, readout; and of each layer L: Lpaths (n, 5), rows of
degree, parity, degree of harmonics, degree and parity of the result; Lradial0 …, the network's
weights, columns of the last in the order of paths; Lbefore_l_p; Lafter_N, the rows of path N;
Lconnection_l_p by element; Lgated (n, 2), kinds with gates in their order.
"""

import sys

import numpy as np
import torch
from ase import Atoms
from ase.data import chemical_symbols
from e3nn import o3
from nequip.data.transforms import ChemicalSpeciesToAtomTypeMapper, NeighborListTransform
from nequip.integrations.ase import NequIPCalculator
from nequip.model import NequIPGNNModel
from nequip.utils.global_state import set_global_state


def blocks(weight, irreps_in, irreps_out):
    """Matrices of an e3nn Linear by kind; kinds occur once on each side."""
    found, at = {}, 0
    flat = weight.detach().numpy()
    for mul_in, one in irreps_in:
        for mul_out, other in irreps_out:
            if one == other:
                found[one] = flat[at : at + mul_in * mul_out].reshape(mul_in, mul_out)
                at += mul_in * mul_out
    assert at == flat.size
    return found


def layer_arrays(layer, embedding):
    conv, out = layer.conv, {}
    kinds = conv.linear_1.irreps_in
    for kind, matrix in blocks(conv.linear_1.weight, kinds, conv.linear_1.irreps_out).items():
        out[f"before_{kind.l}_{kind.p}"] = matrix
    linears = [m for m in conv.edge_mlp.mlp if hasattr(m, "weight")]
    for i, linear in enumerate(linears):
        out[f"radial{i}"] = linear.weight.detach().numpy()
    scatter = conv.tp_scatter
    after = blocks(conv.linear_2.weight, conv.linear_2.irreps_in, conv.linear_2.irreps_out)
    paths = []
    for i, j, k, *_ in scatter.instructions:
        mul, kind = scatter.irreps_mid[k]
        one, other = kinds[i].ir, scatter.irreps_edge_attr[j].ir
        place = sum(m for m, same in scatter.irreps_mid[:k] if same == kind)
        out[f"after_{len(paths)}"] = after[kind][place : place + mul]
        paths.append((one.l, one.p, other.l, kind.l, kind.p))
    out["paths"] = np.array(paths)
    if conv.sc is not None:
        flat, at = conv.sc.weight.detach().numpy(), 0
        for mul, kind in kinds:
            for wide, other in conv.sc.irreps_out:
                if kind != other:
                    continue
                size = mul * embedding.shape[1] * wide
                block = flat[at : at + size].reshape(mul, embedding.shape[1], wide)
                made = np.einsum("za,uaw->zuw", embedding, block) * embedding.shape[1] ** -0.5
                out[f"connection_{kind.l}_{kind.p}"] = made
                at += size
        assert at == flat.size
    gated = layer.equivariant_nonlin.irreps_gated
    out["gated"] = np.array([(kind.l, kind.p) for _, kind in gated]).reshape(-1, 2)
    return out


def main():
    given = np.load(sys.argv[1])
    set_global_state()
    species = sorted({int(z) for z in given["numbers"]})
    names = [chemical_symbols[z] for z in species]
    model = NequIPGNNModel(
        seed=int(given["seed"]), model_dtype="float64", r_max=float(given["cutoff"]),
        type_names=names, num_layers=int(given["layers"]), l_max=int(given["degree"]), parity=True,
        num_features=int(given["features"]), radial_mlp_depth=2, radial_mlp_width=64,
        num_bessels=8, polynomial_cutoff_p=6, avg_num_neighbors=float(given["average"]),
        per_type_energy_scales=dict(zip(names, map(float, given["scale"]))),
        per_type_energy_shifts=dict(zip(names, map(float, given["shift"]))),
    )  # fmt: skip
    transforms = [
        ChemicalSpeciesToAtomTypeMapper(names),
        NeighborListTransform(r_max=float(given["cutoff"])),
    ]
    atoms = Atoms(given["numbers"], given["positions"], cell=given["cell"], pbc=given["periodic"])
    atoms.calc = NequIPCalculator(model.eval(), "cpu", transforms=transforms)
    got = {"energy": np.array(atoms.get_potential_energy()), "forces": atoms.get_forces()}
    modules = dict(model.named_modules())
    (start,) = (m for name, m in modules.items() if name.endswith("embed_module"))
    embedding = start.weight.detach().numpy()
    got["embedding"] = embedding
    (last,) = (m for name, m in modules.items() if name.endswith("readout.mlp_module.mlp.0"))
    got["readout"] = last.weight.detach().numpy()
    for index in range(int(given["layers"])):
        (layer,) = (m for n, m in modules.items() if n.endswith(f"layer{index}_convnet"))
        got |= {f"{index}{key}": v for key, v in layer_arrays(layer, embedding).items()}
    points = torch.tensor(given["points"])
    values = [
        [o3.spherical_harmonics(d, p, True, "component") for d, p in zip(row.tolist(), points)]
        for row in given["triples"]
    ]
    got["products"] = np.array(
        [
            torch.einsum("ijk,i,j,k->", o3.wigner_3j(*row.tolist(), dtype=torch.float64), *three)
            for row, three in zip(given["triples"], values)
        ]
    )
    got["parameters"] = np.array(sum(p.numel() for p in model.parameters()))
    np.savez(sys.argv[2], **got)


main()

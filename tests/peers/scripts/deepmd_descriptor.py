"""deepmd-kit's se_e2_a (its NumPy backend): statistics, descriptor and energies with given weights.

Arrays: positions, types, cell; settings (cut-off, its onset, axis), slots, embedding, fitting
(widths); embedding_L_C_N, embedding_bias_L_C_N (layer, centre, neighbour), fitting_L_C,
fitting_bias_L_C, fitting_step_L_C.
"""

import sys

import numpy as np
from deepmd.dpmodel.descriptor.se_e2_a import DescrptSeA
from deepmd.dpmodel.fitting.ener_fitting import EnergyFittingNet
from deepmd.dpmodel.utils.nlist import extend_input_and_build_neighbor_list

given = np.load(sys.argv[1], allow_pickle=False)
cutoff, onset, axis = given["settings"]
count = len(given["slots"])
descriptor = DescrptSeA(
    float(cutoff),
    float(onset),
    given["slots"].tolist(),
    given["embedding"].tolist(),
    int(axis),
    type_one_side=False,
    precision="float64",
)
for c in range(count):
    for n in range(count):
        for k, layer in enumerate(descriptor.embeddings[c, n].layers):
            layer.w = given[f"embedding_{k}_{c}_{n}"]
            layer.b = given[f"embedding_bias_{k}_{c}_{n}"]
coordinates, types = given["positions"][None], given["types"][None]
cell = given["cell"][None]
descriptor.compute_input_stats(
    [{"coord": coordinates, "atype": types, "box": cell.reshape(1, 9), "natoms": None}]
)
extended, extended_types, _, neighbours = extend_input_and_build_neighbor_list(
    coordinates.reshape(1, -1), types, float(cutoff), given["slots"].tolist(), False, cell
)
found = descriptor.call(extended, extended_types, neighbours)[0]
fitting = EnergyFittingNet(
    count, found.shape[-1], given["fitting"].tolist(), resnet_dt=True, precision="float64"
)
for c in range(count):
    for k, layer in enumerate(fitting.nets[(c,)].layers):
        layer.w, layer.b = given[f"fitting_{k}_{c}"], given[f"fitting_bias_{k}_{c}"]
        if layer.idt is not None:
            layer.idt = given[f"fitting_step_{k}_{c}"]
energies = fitting.call(found, types)["energy"]
np.savez(
    sys.argv[2],
    mean=descriptor.davg[:, 0],
    spread=descriptor.dstd[:, 0],
    descriptor=found[0],
    energies=energies[0, :, 0],
)

"""torchani's environment vectors, energies and forces of one molecule, with given constants.

Arrays: numbers, positions; radial and angular (η, cut-off), zeta, radial_shifts, angular_shifts,
angles; weight_L_E, bias_L_E of layer L and element E (in torch's order).
"""

import sys

import numpy as np
import torch
from torchani.aev import AEVComputer, ANIAngular, ANIRadial
from torchani.nn import ANINetworks, AtomicNetwork

torch.set_default_dtype(torch.float64)
given = np.load(sys.argv[1], allow_pickle=False)
radial_eta, radial_cutoff = given["radial"]
angular_eta, angular_cutoff = given["angular"]
radial = ANIRadial(radial_eta, list(given["radial_shifts"]), float(radial_cutoff))
angular = ANIAngular(
    angular_eta,
    float(given["zeta"]),
    list(given["angular_shifts"]),
    list(given["angles"]),
    float(angular_cutoff),
)
radial, angular = radial.double(), angular.double()
# torchani makes its constants in float32
for module, name, value in (
    (radial, "shifts", given["radial_shifts"]),
    (radial, "eta", [radial_eta]),
    (angular, "shifts", given["angular_shifts"]),
    (angular, "sections", given["angles"]),
    (angular, "eta", [angular_eta]),
    (angular, "zeta", [float(given["zeta"])]),
):
    getattr(module, name).copy_(torch.tensor(np.asarray(value)))

elements = np.unique(given["numbers"])
computer = AEVComputer(radial, angular, num_species=len(elements))
positions = torch.tensor(given["positions"][None], requires_grad=True)
species = torch.tensor(np.searchsorted(elements, given["numbers"])[None])
vectors = computer(species, positions)

layers = len([name for name in given.files if name.startswith("weight_") and name.endswith("_0")])
networks = {}
for e, symbol in enumerate(["H", "C", "N", "O"][: len(elements)]):  # the names do not matter
    widths = [given[f"weight_{k}_{e}"].shape[1] for k in range(layers)] + [1]
    network = AtomicNetwork(widths, activation="celu", bias=True).double()
    linears = [*network.layers, network.final_layer]
    with torch.no_grad():
        for k, linear in enumerate(linears):
            linear.weight.copy_(torch.tensor(given[f"weight_{k}_{e}"]))
            linear.bias.copy_(torch.tensor(given[f"bias_{k}_{e}"]))
    networks[symbol] = network
energy = ANINetworks(networks)(species, vectors)
forces = -torch.autograd.grad(energy.sum(), positions)[0]
np.savez(
    sys.argv[2],
    vectors=vectors.detach().numpy()[0],
    energy=energy.detach().numpy(),
    forces=forces.numpy()[0],
)

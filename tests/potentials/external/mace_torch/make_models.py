"""Makes tests/data/mace_torch; runs inside the environment of mace-torch, see the README there.

Usage: make_models.py SCRATCH: writes NAME.model and NAME.json (structures) for each model.
"""

import json
import sys
from pathlib import Path

import mace  # noqa: F401  sets what e3nn needs before it is imported
import numpy as np
import torch
from e3nn import o3
from mace import modules

PLAIN = "RealAgnosticInteractionBlock"
RESIDUAL = "RealAgnosticResidualInteractionBlock"
DENSITY = "RealAgnosticDensityInteractionBlock"
DENSITY_RESIDUAL = "RealAgnosticDensityResidualInteractionBlock"

DEFAULTS = {
    "r_max": 4.0,
    "num_bessel": 4,
    "num_polynomial_cutoff": 5,
    "max_ell": 2,
    "num_interactions": 2,
    "hidden_irreps": "4x0e+4x1o",
    "MLP_irreps": "3x0e",
    "atomic_numbers": [1, 6, 8],
    "correlation": 2,
    "avg_num_neighbors": 1.5,
    "radial_MLP": [8, 8],
    "first": PLAIN,
    "later": RESIDUAL,
    "gate": torch.nn.functional.silu,
    "heads": ["Default"],
    "scaled": True,
}
MODELS = {
    # as trained from scratch with mace-torch's defaults
    "plain": {"correlation": 3},
    # as MACE-MP-0: residual first layer, l_max 3
    "mp_medium": {
        "first": RESIDUAL,
        "max_ell": 3,
        "correlation": 3,
        "atomic_numbers": [6, 8, 12, 14],
        "num_polynomial_cutoff": 6,
    },
    "mp_small": {
        "first": RESIDUAL,
        "max_ell": 3,
        "correlation": 3,
        "hidden_irreps": "5x0e",
        "num_polynomial_cutoff": 5,
    },
    # as MACE-MPA-0 and MACE-OMAT-0: density-normalised messages, Agnesi, ZBL
    "mpa": {
        "first": DENSITY,
        "later": DENSITY_RESIDUAL,
        "max_ell": 3,
        "atomic_numbers": [8, 12],
        "distance_transform": "Agnesi",
        "pair_repulsion": True,
        "num_bessel": 5,
    },
    # as MACE-OFF23, with three layers and features up to l = 2
    "off_deep": {
        "first": RESIDUAL,
        "num_interactions": 3,
        "hidden_irreps": "2x0e+2x1o+2x2e",
        "atomic_numbers": [1, 6, 7, 8],
    },
    "two_heads": {"heads": ["pbe", "r2scan"], "max_ell": 1},
    # parts that few models have
    "unusual": {
        "heads": ["pbe", "r2scan"],
        "correlation": [1, 3],
        "max_ell": 1,
        "gate": torch.tanh,
        "distance_transform": "Soft",
        "radial_type": "gaussian",
        "pair_repulsion": True,
    },
    "one_layer": {
        "num_interactions": 1,
        "scaled": False,
        "max_ell": 3,
        "pair_repulsion": True,
        "apply_cutoff": False,
        "radial_type": "chebyshev",
        "distance_transform": "Agnesi",
    },
    # saved in single precision, as foundation models are
    "single": {"first": RESIDUAL, "scaled": False, "correlation": 3, "max_ell": 1},
}


def make(name: str, settings: dict) -> torch.nn.Module:
    """A model with random weights."""
    torch.set_default_dtype(torch.float32 if name == "single" else torch.float64)
    torch.manual_seed(sorted(MODELS).index(name))
    values = DEFAULTS | settings
    elements, heads = len(values["atomic_numbers"]), values["heads"]
    energies = -5.0 - torch.rand(len(heads), elements).numpy()
    values |= {
        "interaction_cls": modules.interaction_classes[values.pop("later")],
        "interaction_cls_first": modules.interaction_classes[values.pop("first")],
        "num_elements": elements,
        "hidden_irreps": o3.Irreps(values["hidden_irreps"]),
        "MLP_irreps": o3.Irreps(values["MLP_irreps"]),
        "atomic_energies": energies if len(heads) > 1 else energies[0],
    }
    if values.pop("scaled"):
        scale = [0.8, 1.3] if len(heads) > 1 else 0.8
        shift = [0.1, -0.2] if len(heads) > 1 else 0.1
        values |= {"atomic_inter_scale": scale, "atomic_inter_shift": shift}
        model = modules.ScaleShiftMACE(**values)
    else:
        model = modules.MACE(**values)
    with torch.no_grad():  # else products of three hardly matter for the energy
        for product in model.products:
            for contraction in product.symmetric_contractions.contractions:
                for weight in (contraction.weights_max, *contraction.weights):
                    weight *= 4.0 * weight.shape[1]
    return model


def structures(numbers: list[int], heads: list[str]) -> list[dict]:
    """A molecule, a dimer closer than its covalent radii, and a skewed crystal."""
    random = np.random.default_rng(7)
    methanol = [
        [-0.748, -0.015, 0.024],
        [0.558, 0.420, -0.278],
        [-1.293, -0.202, -0.901],
        [-1.263, 0.754, 0.600],
        [-0.699, -0.934, 0.609],
        [0.716, 1.404, 0.137],
    ]
    crystal = np.array([[0, 0, 0], [1.9, 1.8, 0.1], [0.2, 2.1, 1.9], [2.0, 0.1, 1.8]])
    cell = [[4.0, 0.3, 0.0], [0.0, 4.1, -0.2], [0.5, 0.0, 3.9]]
    none, box = [False] * 3, np.zeros((3, 3)).tolist()

    def some(count: int) -> list[int]:
        return [numbers[index % len(numbers)] for index in range(count)]

    found = []
    for head in heads:
        found += [
            {
                "numbers": some(6)[::-1],
                "positions": (1.2 * np.array(methanol)).tolist(),
                "cell": box,
                "periodic": none,
                "head": head,
            },
            {
                "numbers": [numbers[-1], numbers[0]],
                "positions": [[0, 0, 0], [0.3, -0.4, 0.5]],
                "cell": box,
                "periodic": none,
                "head": head,
            },
            {
                "numbers": some(4),
                "positions": (crystal + 0.1 * random.normal(size=(4, 3))).tolist(),
                "cell": cell,
                "periodic": [True] * 3,
                "head": head,
            },
        ]
    return found


def main() -> None:
    """Write all files."""
    scratch = Path(sys.argv[1])
    scratch.mkdir(parents=True, exist_ok=True)
    for name, settings in MODELS.items():
        values = DEFAULTS | settings
        torch.save(make(name, settings), scratch / f"{name}.model")
        text = json.dumps(structures(values["atomic_numbers"], values["heads"]), indent=1)
        (scratch / f"{name}.json").write_text(text + "\n")


if __name__ == "__main__":
    main()

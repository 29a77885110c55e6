"""The models that karat can fit: name → frozen dataclass of hyper-parameters."""

from karat.core.catalogue import Catalogue

ARCHITECTURES = Catalogue(
    "architectures",
    {
        "ace": "karat.potentials.linear.ace:Ace",
        "bpnn": "karat.potentials.native.bpnn:Bpnn",
        "mace": "karat.potentials.native.mace:Mace",
        "mace_medium": "karat.potentials.native.mace:MaceMedium",
        "mace_paper": "karat.potentials.native.mace:MacePaper",
        "sgdml": "karat.potentials.kernel.sgdml:Sgdml",
        "snap": "karat.potentials.linear.snap:Snap",
    },
)

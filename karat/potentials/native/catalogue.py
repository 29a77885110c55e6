"""The models that karat can fit: name → frozen dataclass of hyper-parameters."""

from karat.core.catalogue import Catalogue

ARCHITECTURES = Catalogue(
    "architectures",
    {
        "ace": "karat.potentials.linear.ace:Ace",
        "bpnn": "karat.potentials.native.bpnn:Bpnn",
        "sgdml": "karat.potentials.kernel.sgdml:Sgdml",
        "snap": "karat.potentials.linear.snap:Snap",
    },
)

"""The models that karat can fit: name → frozen dataclass of hyper-parameters."""

from karat.core.catalogue import Catalogue

ARCHITECTURES = Catalogue(
    "architectures",
    {
        "bpnn": "karat.potentials.native.bpnn:Bpnn",
        "sgdml": "karat.potentials.kernel.sgdml:Sgdml",
    },
)

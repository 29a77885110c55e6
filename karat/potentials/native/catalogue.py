"""The architectures that the trainer can fit: name → frozen dataclass of hyper-parameters."""

from karat.core.catalogue import Catalogue

ARCHITECTURES = Catalogue(
    "architectures",
    {
        "bpnn": "karat.potentials.native.bpnn:Bpnn",
    },
)

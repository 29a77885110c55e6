"""The models that karat can fit: name → frozen dataclass of hyper-parameters."""

from karat.core.catalogue import Catalogue

ARCHITECTURES = Catalogue(
    "architectures",
    {
        "ace": "karat.potentials.linear.ace:Ace",
        "allegro": "karat.potentials.native.allegro:Allegro",
        "allegro_paper": "karat.potentials.native.allegro:AllegroPaper",
        "ani": "karat.potentials.native.ani:Ani",
        "ani_1x": "karat.potentials.native.ani:Ani1x",
        "ani_2x": "karat.potentials.native.ani:Ani2x",
        "bpnn": "karat.potentials.native.bpnn:Bpnn",
        "deeppot": "karat.potentials.native.deeppot:DeepPot",
        "deeppot_compressed": "karat.potentials.native.deeppot_compressed:DeepPotCompressed",
        "deeppot_paper": "karat.potentials.native.deeppot:DeepPotPaper",
        "mace": "karat.potentials.native.mace:Mace",
        "mace_medium": "karat.potentials.native.mace:MaceMedium",
        "mace_paper": "karat.potentials.native.mace:MacePaper",
        "nequip": "karat.potentials.native.nequip:Nequip",
        "nequip_paper": "karat.potentials.native.nequip:NequipPaper",
        "painn": "karat.potentials.native.painn:Painn",
        "painn_direct": "karat.potentials.native.painn:PainnDirect",
        "painn_paper": "karat.potentials.native.painn:PainnPaper",
        "schnet": "karat.potentials.native.schnet:Schnet",
        "schnet_paper": "karat.potentials.native.schnet:SchnetPaper",
        "sgdml": "karat.potentials.kernel.sgdml:Sgdml",
        "snap": "karat.potentials.linear.snap:Snap",
    },
)

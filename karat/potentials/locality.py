"""Which native potentials are strictly local: an atom's energy depends on atoms within its
cut-off only.

Checked: tests/potentials/test_locality.py, by moving atoms beyond the cut-off.
"""

from karat.potentials.native_protocol import AbstractNativePotential


def strictly_local(module: AbstractNativePotential) -> bool:
    """Whether this is known of the module; one that passes messages or knows a whole molecule
    is not."""
    from karat.potentials.analytic.buckingham import BuckinghamModule
    from karat.potentials.analytic.lennard_jones import LennardJonesModule
    from karat.potentials.analytic.morse import MorseModule
    from karat.potentials.analytic.stillinger_weber import StillingerWeberModule
    from karat.potentials.analytic.zbl import ZblModule
    from karat.potentials.committee_module import CommitteeModule, MeanModule
    from karat.potentials.linear.ace_module import AceModule
    from karat.potentials.linear.snap_module import SnapModule
    from karat.potentials.native.allegro_module import AllegroModule
    from karat.potentials.native.ani import AniModule
    from karat.potentials.native.bpnn import BpnnModule
    from karat.potentials.native.deeppot_compressed import CompressedDeepPot
    from karat.potentials.native.deeppot_module import DeepPotModule
    from karat.potentials.sum_potential import SumModule

    if isinstance(module, CommitteeModule):
        return strictly_local(module.member)
    if isinstance(module, MeanModule | SumModule):
        return all(strictly_local(term) for term in module.terms)
    known = (
        AceModule,
        AllegroModule,
        AniModule,
        BpnnModule,
        BuckinghamModule,
        CompressedDeepPot,
        DeepPotModule,
        LennardJonesModule,
        MorseModule,
        SnapModule,
        StillingerWeberModule,
        ZblModule,
    )
    return isinstance(module, known)

"""Who takes part: contestants that are there, fitted ones, and the reference itself.

Checked: tests/campaign/test_plan.py.
"""

from dataclasses import dataclass
from typing import Any, Literal

from karat.campaign.inputs import component_digest
from karat.campaign.sections import Campaign

Source = Literal["given", "trained", "reference"]


@dataclass(frozen=True)
class Contender:
    """One who takes part.

    Attributes:
        name: as in the campaign; of the reference, its level of theory.
        source: where it comes from.
        component: what loads it; `None` for a fitted one.
        is_reference: whether it is the reference itself: shown, never ranked.
    """

    name: str
    source: Source
    component: Any
    is_reference: bool = False


def contenders(campaign: Campaign) -> tuple[Contender, ...]:
    """Contestants, then fitted ones; the reference first, unless it is among the contestants."""
    reference = None if campaign.reference is None else campaign.reference.component
    given = [
        Contender(
            entry.name,
            "given",
            entry.potential.component,
            is_reference=reference is not None and _is_engine(entry.potential.component, reference),
        )
        for entry in campaign.contestants
    ]
    trained = [Contender(entry.name, "trained", None) for entry in campaign.train]
    found = [*given, *trained]
    if reference is not None and not any(contender.is_reference for contender in given):
        taken = {contender.name for contender in found}
        name = reference.level.label
        while name in taken:
            name = f"{name} (reference)"
        found.insert(0, Contender(name, "reference", reference_component(campaign), True))
    return tuple(found)


def reference_component(campaign: Campaign) -> Any:
    """The reference engine as a component of a potential."""
    from karat.core import components
    from karat.potentials.external.engine_potential import Engine

    assert campaign.reference is not None
    chosen = campaign.reference
    return Engine(engine=chosen.name, options=components.dump(chosen.component))


def _is_engine(component: Any, reference: Any) -> bool:
    """Whether a contestant is the reference engine with the same settings."""
    from karat.potentials.external.engine_potential import Engine, Gfn1, Gfn2

    if not isinstance(component, Engine | Gfn1 | Gfn2):
        return False
    return component_digest(component.load().engine) == component_digest(reference)

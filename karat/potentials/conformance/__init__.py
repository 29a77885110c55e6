"""The conformance suite: every potential is held to what it declares in its `Traits`.

For third parties, e.g. with pytest::

    from karat.potentials.conformance import CHECKS, NotApplicable, make_subject

    @pytest.mark.parametrize("check", CHECKS)
    def test_my_potential_conforms(check):
        try:
            CHECKS[check](make_subject(my_potential()))
        except NotApplicable as reason:
            pytest.skip(str(reason))

or all at once: ``run_conformance(my_potential())``.

Checked: tests/potentials/conformance/test_planted_faults.py.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence

from karat.core.errors import unknown_key
from karat.potentials.conformance.cutoff import cutoff_continuity
from karat.potentials.conformance.derivatives import (
    forces_are_gradient,
    nve_keeps_energy,
    stress_is_strain_derivative,
)
from karat.potentials.conformance.interface import (
    batch_equals_single,
    declared_quantities,
    input_unchanged,
    longer_neighbour_list,
    padding,
    refusals,
    rows_as_in_dynamics,
)
from karat.potentials.conformance.outcome import NotApplicable, Outcome, Violation
from karat.potentials.conformance.subject import Subject, make_subject
from karat.potentials.conformance.symmetry import (
    left_handed_cell,
    one_atom,
    permutation,
    reflection,
    rotation,
    small_cells,
    supercell,
    translation,
)
from karat.potentials.protocol import AbstractPotential
from karat.structures.structure import Structure

CHECKS: Mapping[str, Callable[[Subject], str]] = {
    check.__name__: check
    for check in (
        declared_quantities,
        refusals,
        forces_are_gradient,
        stress_is_strain_derivative,
        rotation,
        reflection,
        permutation,
        translation,
        left_handed_cell,
        supercell,
        small_cells,
        one_atom,
        batch_equals_single,
        padding,
        longer_neighbour_list,
        rows_as_in_dynamics,
        input_unchanged,
        cutoff_continuity,
        nve_keeps_energy,
    )
}
"""Name → check: returns its largest deviation in words, raises `Violation` or `NotApplicable`."""

__all__ = [
    "CHECKS",
    "NotApplicable",
    "Outcome",
    "Subject",
    "Violation",
    "make_subject",
    "run_check",
    "run_conformance",
]


def run_check(name: str, subject: Subject) -> Outcome:
    """One check; whatever the potential raises counts as a failure.

    Raises:
        UnknownKey: no such check.
    """
    if name not in CHECKS:
        raise unknown_key("The conformance suite", name, CHECKS)
    try:
        return Outcome(name, "passed", CHECKS[name](subject))
    except NotApplicable as reason:
        return Outcome(name, "skipped", str(reason))
    except Exception as error:
        said = str(error) if isinstance(error, Violation) else f"{type(error).__name__}: {error}"
        return Outcome(name, "failed", said)


def run_conformance(
    potential: AbstractPotential,
    structures: Sequence[Structure] = (),
    checks: Iterable[str] | None = None,
    seed: int = 0,
) -> tuple[Outcome, ...]:
    """All checks (or those named), with the given structures or with generated ones."""
    subject = make_subject(potential, structures, seed)
    return tuple(run_check(name, subject) for name in (CHECKS if checks is None else checks))

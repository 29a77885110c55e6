"""What every engine must do; exported, so that engines outside karat can be held to it.

In a test of your own package::

    from karat.reference.conformance import CHECKS, EngineCase

    @pytest.mark.parametrize("name", CHECKS)
    def test_conforms(name, tmp_path):
        CHECKS[name](EngineCase(MyEngine(), structure, refused=not_for_it), tmp_path)

A check raises `AssertionError` with the numbers where the engine does not hold.

Checked: tests/reference/test_conformance.py (with engines that break each rule).
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Final

import numpy as np

from karat.core import components
from karat.core.errors import BadInput
from karat.reference.exchange import INPUT, QUANTITIES
from karat.reference.protocol import AbstractEngine
from karat.structures.labels import Labels, Quantity
from karat.structures.structure import Structure


@dataclass(frozen=True, eq=False)
class EngineCase:
    """An engine and what to hold it to.

    Attributes:
        engine: under test.
        structure: one it treats, small and cheap, without symmetry.
        refused: one that its `check` must refuse, or `None` if there is no such thing.
        other: a further one it treats, computed in between to disturb it; `None` for `structure`
            displaced.
        force_tolerance: to which forces equal central differences, eV/Å.
        stress_tolerance: the same for the stress, eV/Å³.
        step: of the central differences, Å.
        components: how many force components are compared, spread over the atoms.
    """

    engine: AbstractEngine
    structure: Structure
    refused: Structure | None = None
    other: Structure | None = None
    force_tolerance: float = 1e-3
    stress_tolerance: float = 1e-4
    step: float = 1e-3
    components: int = 3

    @property
    def want(self) -> tuple[Quantity, ...]:
        """What the engine offers for the structure."""
        offered = []
        for name in self.engine.quantities:
            try:
                self.engine.check(self.structure, ("energy", name))
            except BadInput:
                continue
            offered.append(name)
        return tuple(offered)


def equal_bits(first: Labels, second: Labels) -> bool:
    """Whether both hold the same quantities with the same bits."""
    return first.quantities == second.quantities and all(
        np.array_equal(getattr(first, name), getattr(second, name)) for name in first.quantities
    )


def central_difference(
    engine: AbstractEngine, structure: Structure, atom: int, axis: int, step: float
) -> float:
    """-(E(x+h) - E(x-h)) / 2h in eV/Å; the truncation error is h²/6 times the third derivative."""
    energies = []
    for sign in (1.0, -1.0):
        positions = structure.positions.copy()
        positions[atom, axis] += sign * step
        energies.append(_energy(engine, structure.replace(positions=positions)))
    return -(energies[0] - energies[1]) / (2.0 * step)


def strained(structure: Structure, strain: np.ndarray) -> Structure:
    """The structure with cell and positions multiplied by 1 + strain."""
    factor = np.eye(3) + strain
    return structure.replace(
        positions=structure.positions @ factor.T, cell=structure.cell @ factor.T
    )


def _energy(engine: AbstractEngine, structure: Structure) -> float:
    energy = engine.compute(structure, ("energy",)).energy
    assert energy is not None, "no energy, which was wanted"
    return energy


def check_forces_are_minus_the_gradient(case: EngineCase, folder: Path) -> None:
    """Forces equal central differences; trivially so for an engine without forces."""
    if "forces" not in case.want:
        return
    forces = case.engine.compute(case.structure, ("energy", "forces")).forces
    assert forces is not None, "no forces, which were wanted"
    flat = np.unique(np.linspace(0, forces.size - 1, case.components).round().astype(int))
    for index in flat:
        atom, axis = divmod(int(index), 3)
        expected = central_difference(case.engine, case.structure, atom, axis, case.step)
        assert abs(forces[atom, axis] - expected) <= case.force_tolerance, (
            f"force on atom {atom} along {'xyz'[axis]}: {forces[atom, axis]:.8f} eV/Å, minus the "
            f"gradient is {expected:.8f} (tolerance {case.force_tolerance:g})"
        )


def check_stress_is_the_strain_derivative(case: EngineCase, folder: Path) -> None:
    """Stress equals central differences in strain, tension positive, and is symmetric."""
    if "stress" not in case.want:
        return
    stress = case.engine.compute(case.structure, ("energy", "stress")).stress
    assert stress is not None, "no stress, which was wanted"
    assert np.allclose(stress, stress.T, rtol=0, atol=1e-10), f"not symmetric: {stress}"
    for i, j in ((0, 0), (2, 2), (0, 1), (1, 2)):
        strain = np.zeros((3, 3))
        strain[i, j] += 0.5 * case.step
        strain[j, i] += 0.5 * case.step
        up, down = (_energy(case.engine, strained(case.structure, s)) for s in (strain, -strain))
        expected = (up - down) / (2.0 * case.step * case.structure.volume)
        assert abs(stress[i, j] - expected) <= case.stress_tolerance, (
            f"stress {'xyz'[i]}{'xyz'[j]}: {stress[i, j]:.8f} eV/Å³, the derivative is "
            f"{expected:.8f} (tolerance {case.stress_tolerance:g})"
        )


def check_steps_equal_compute(case: EngineCase, folder: Path) -> None:
    """`prepare`, `run`, `parse` give the bits that `compute` gives; so does `parse` again."""
    case.engine.prepare(case.structure, case.want, folder)
    assert any(folder.iterdir()), f"prepare wrote nothing (engines of karat write {INPUT})"
    case.engine.run(folder)
    parsed = case.engine.parse(folder)
    computed = case.engine.compute(case.structure, case.want)
    assert equal_bits(parsed, computed), f"steps: {parsed}, in memory: {computed}"
    assert equal_bits(parsed, case.engine.parse(folder)), "a second parse differs"
    assert not any(path.suffix in (".pkl", ".pickle") for path in folder.rglob("*")), "pickles"


def check_labels_are_what_was_wanted(case: EngineCase, folder: Path) -> None:
    """Every wanted quantity is there, finite, and of the right length."""
    for want in (("energy",), case.want):
        labels = case.engine.compute(case.structure, want)
        missing = set(want) - set(labels.quantities)
        assert not missing, f"wanted {want}, missing {missing}"
        assert labels.finite(), f"not finite: {labels}"
        for array in (labels.forces, labels.charges):
            assert array is None or len(array) == len(case.structure), "another number of atoms"


def check_structure_is_left_alone(case: EngineCase, folder: Path) -> None:
    """The structure's digest is the same afterwards."""
    before = case.structure.digest
    case.engine.compute(case.structure, case.want)
    again = case.structure.replace()  # a new object: the old one may have kept its digest
    assert again.digest == before, "the engine changed its input"


def check_bits_repeat(case: EngineCase, folder: Path) -> None:
    """The same structure gives the same bits, whatever was computed in between."""
    first = case.engine.compute(case.structure, case.want)
    other = case.other
    if other is None:
        moved = case.structure.positions * 1.01
        other = case.structure.replace(positions=moved)
    case.engine.compute(other, ("energy",))
    second = case.engine.compute(case.structure, case.want)
    assert equal_bits(first, second), f"first {first}, then {second}"


def check_unsuitable_is_refused(case: EngineCase, folder: Path) -> None:
    """`check`, `prepare` and `compute` refuse with `BadInput` and leave nothing behind."""
    unknown: Sequence[Quantity] = ("energy", *(q for q in QUANTITIES if q not in case.want))
    attempts: list[tuple[Structure, Sequence[Quantity]]] = []
    if case.refused is not None:
        attempts.append((case.refused, ("energy",)))
    if len(unknown) > 1:
        attempts.append((case.structure, unknown))
    for structure, want in attempts:
        for call in (
            lambda s=structure, w=want: case.engine.check(s, w),
            lambda s=structure, w=want: case.engine.prepare(s, w, folder),
            lambda s=structure, w=want: case.engine.compute(s, w),
        ):
            message = _refusal(call)
            assert message is not None, f"{structure.formula} with {want} was not refused"
            assert len(message) > 20, f"the message says too little: {message}"
    assert not any(folder.iterdir()), "refused, but files were written"


def _refusal(call: Callable[[], object]) -> str | None:
    try:
        call()
    except BadInput as error:
        return str(error)
    return None


def check_level_is_complete(case: EngineCase, folder: Path) -> None:
    """The level of theory names method and program, and is the same on a second look."""
    level = case.engine.level
    assert level.method, "the level of theory has no method"
    assert level.program, "the level of theory has no program"
    assert level == type(level).from_dict(level.as_dict()), "level does not survive a round trip"
    assert level.digest == case.engine.level.digest, "level differs on a second look"


def check_component_round_trip(case: EngineCase, folder: Path) -> None:
    """The engine, written out and parsed again, is the same: workers are made that way."""
    written = components.dump(case.engine)
    again = components.parse(type(case.engine), written, "engine")
    assert components.digest(again) == components.digest(case.engine), f"{case.engine}, {again}"


Check = Callable[[EngineCase, Path], None]
CHECKS: Final[Mapping[str, Check]] = MappingProxyType(
    {
        "forces": check_forces_are_minus_the_gradient,
        "stress": check_stress_is_the_strain_derivative,
        "steps": check_steps_equal_compute,
        "wanted": check_labels_are_what_was_wanted,
        "input": check_structure_is_left_alone,
        "bits": check_bits_repeat,
        "refusal": check_unsuitable_is_refused,
        "level": check_level_is_complete,
        "component": check_component_round_trip,
    }
)
"""Every check by name; each takes a case and an empty folder."""

"""Batches, padding, repeated calls, declared quantities, refusals."""

import numpy as np

from karat.core.errors import BadInput, UnknownElement, UnsuitableStructure
from karat.potentials.conformance.outcome import Deviations, NotApplicable, Violation, name_of
from karat.potentials.conformance.subject import Subject
from karat.structures.labels import Quantity
from karat.structures.structure import MAX_ATOMIC_NUMBER, Structure


def batch_equals_single(subject: Subject) -> str:
    """Structures predicted together, in any order, equal those predicted one by one."""
    worst = Deviations()
    declared = subject.potential.traits.force_tolerance
    structures = subject.structures
    mixed = [structures[-1], *structures, structures[0]]
    want: tuple[Quantity, ...] = ("energy", "forces")
    want = tuple(q for q in want if q in subject.potential.traits.quantities)
    together = subject.potential.predict(mixed, want)
    if len(together) != len(mixed):
        raise Violation(f"{len(together)} labels for {len(mixed)} structures")
    for structure, labels in zip(mixed, together):
        single = subject.potential.predict([structure], want)[0]
        assert single.energy is not None
        assert labels.energy is not None
        tolerance = subject.energy_tolerance(structure, single.energy)
        place = f"in a batch, {name_of(structure)}"
        worst.compare(f"energy {place}, eV", labels.energy, single.energy, tolerance)
        if single.forces is not None and labels.forces is not None:
            worst.compare(f"forces {place}, eV/Å", labels.forces, single.forces, declared)
    return worst.text


def _native(subject: Subject):
    if not subject.potential.traits.native:
        raise NotApplicable("is not native: it sees no padding")
    from karat.potentials.native_protocol import NativePotential

    if not isinstance(subject.potential, NativePotential):
        raise Violation("declares `native`, but is no NativePotential")
    return subject.potential


def _batches(subject: Subject):
    """As the potential makes it; with more padding; with a list of 1.25 times the cut-off.

    The last two have the same sizes, so that they share one compilation.
    """
    from karat.potentials.batch import make_batch

    potential = _native(subject)
    module, structures = potential.module, list(subject.structures)
    arguments = potential.dtype, module.needs_triplets
    longer = make_batch(structures, 1.25 * module.cutoff, *arguments)
    triplets = 0 if longer.triplets is None else longer.triplets.shape[0]
    sizes = (longer.atoms + 7, len(longer.centers) + 13, triplets + 11, longer.systems + 3)
    return (
        potential.batch(structures),
        make_batch(structures, module.cutoff, *arguments, sizes=sizes),
        make_batch(structures, 1.25 * module.cutoff, *arguments, sizes=sizes),
    )


def _compare_derived(subject: Subject, got, want, what: str) -> str:
    """Energies and forces of the subject's structures, without their padding."""
    worst = Deviations()
    for i, structure in enumerate(subject.structures):
        tolerance = subject.energy_tolerance(structure, float(want.energies[i]))
        place = f"energy with {what}, {name_of(structure)}, eV"
        worst.compare(place, float(got.energies[i]), float(want.energies[i]), tolerance)
    atoms = sum(len(s) for s in subject.structures)
    worst.compare(
        f"forces with {what}, eV/Å",
        np.asarray(got.forces[:atoms]),
        np.asarray(want.forces[:atoms]),
        subject.potential.traits.force_tolerance,
    )
    return worst.text


def padding(subject: Subject) -> str:
    """More padding changes nothing, and padding has exactly zero energy and force."""
    module = _native(subject).module
    from karat.potentials.native_protocol import derive_compiled

    plain, more, _ = _batches(subject)
    few, many = derive_compiled(module, plain), derive_compiled(module, more)
    atoms, systems = sum(len(s) for s in subject.structures), len(subject.structures)
    for found in (few, many):
        padded = np.concatenate(
            [
                np.ravel(found.outputs.atom_energies[atoms:]),
                np.ravel(found.forces[atoms:]),
                np.ravel(found.energies[systems:]),
            ]
        )
        if not np.all(padded == 0):
            raise Violation(f"padding has energy or force {np.abs(padded).max():.3g}, not zero")
    return _compare_derived(subject, many, few, "more padding")


def longer_neighbour_list(subject: Subject) -> str:
    """Pairs beyond the cut-off (a Verlet skin, a sum with longer terms) change nothing."""
    module = _native(subject).module
    from karat.potentials.native_protocol import derive_compiled

    plain, _, longer = _batches(subject)
    found, want = derive_compiled(module, longer), derive_compiled(module, plain)
    return _compare_derived(subject, found, want, "a longer neighbour list")


def rows_as_in_dynamics(subject: Subject) -> str:
    """Prepared for dynamics and given its pairs in rows of one atom each, it is the same function.

    Tables of a prepared form are to agree to the tolerances of repeated predictions.
    """
    from karat.potentials.batch import in_rows
    from karat.potentials.native_protocol import derive_compiled

    potential = _native(subject)
    batch = potential.batch(list(subject.structures))
    species = tuple(sorted({int(z) for one in subject.structures for z in one.numbers}))
    found = derive_compiled(potential.module.prepared(species), in_rows(batch))
    want = derive_compiled(potential.module, batch)
    return _compare_derived(subject, found, want, "pairs in rows")


def _fingerprint(structure: Structure) -> tuple[str, str]:
    return structure.digest, "" if structure.topology is None else structure.topology.digest


def input_unchanged(subject: Subject) -> str:
    """Prediction changes no structure, and depends on no earlier prediction."""
    worst = Deviations()
    copies = [s.replace() for s in subject.structures]
    before = [_fingerprint(s) for s in copies]
    first = [subject.predict(s) for s in copies]
    again = [subject.predict(s.replace()) for s in reversed(copies)][::-1]
    # `replace` copies the arrays: a digest that was cached on a changed structure shows nothing
    if [_fingerprint(s.replace()) for s in copies] != before:
        raise Violation("a structure was changed by predicting it")
    for structure, one, two in zip(copies, first, again):
        assert one.energy is not None
        assert two.energy is not None
        tolerance = subject.energy_tolerance(structure, one.energy)
        place = f"energy in a second call, {name_of(structure)}, eV"
        worst.compare(place, two.energy, one.energy, tolerance)
    return worst.text


def declared_quantities(subject: Subject) -> str:
    """Every declared quantity comes with the right shape, finite."""
    traits, given = subject.potential.traits, []
    for quantity in traits.quantities:
        pool = subject.structures
        if quantity == "stress":
            pool = tuple(s for s in subject.crystals if s.periodic.all())
        if quantity == "dipole":
            pool = subject.molecules
        if not pool:
            continue
        labels = subject.potential.predict([pool[-1]], (quantity,))[0]
        if quantity not in labels.quantities:
            raise Violation(f"{quantity} is declared and was asked for, but is not there")
        value = np.asarray(getattr(labels, quantity))
        atoms = len(pool[-1])
        shapes = {"energy": (), "forces": (atoms, 3), "stress": (3, 3), "charges": (atoms,)}
        if value.shape != shapes.get(quantity, (3,)) or not np.isfinite(value).all():
            raise Violation(f"{quantity} has shape {value.shape}, or is not finite")
        given.append(quantity)
    return f"predicts {', '.join(given)}"


def refusals(subject: Subject) -> str:
    """What its declarations exclude is refused by name, before any work."""
    potential, traits = subject.potential, subject.potential.traits
    structure = subject.structures[0]
    refused: list[str] = []

    def expect(what: str, bad: Structure, error: type[BadInput], want: Quantity = "energy") -> None:
        try:
            potential.predict([bad], (want,))
        except error:
            refused.append(what)
            return
        except Exception as other:
            raise Violation(
                f"{what}: raised {type(other).__name__}, not {error.__name__}"
            ) from other
        raise Violation(f"{what} was not refused")

    if traits.species is not None:
        unknown = [z for z in range(1, MAX_ATOMIC_NUMBER + 1) if z not in traits.species]
        if unknown:
            numbers = np.array(structure.numbers)
            numbers[0] = unknown[-1]
            expect(
                "an unknown element",
                structure.replace(numbers=numbers, multiplicity=None),
                UnknownElement,
            )
    if not traits.periodic and subject.molecules:
        crystal = structure.replace(cell=30 * np.eye(3), periodic=np.ones(3, bool))
        expect("a crystal", crystal, UnsuitableStructure)
    if not traits.molecules and subject.crystals:
        molecule = structure.replace(cell=np.zeros((3, 3)), periodic=np.zeros(3, bool))
        expect("a molecule", molecule, UnsuitableStructure)
    if traits.needs_topology:
        expect("missing bonds", structure.replace(topology=None), UnsuitableStructure)
    if "charges" not in traits.quantities:
        expect("an undeclared quantity", structure, UnsuitableStructure, "charges")
    if not refused:
        raise NotApplicable("its declarations exclude nothing")
    return f"refused: {', '.join(refused)}"

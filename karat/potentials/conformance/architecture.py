"""What every architecture must do besides its potential: shapes, groups, files, live parameters.

For third parties, e.g. with pytest::

    from karat.potentials.conformance.architecture import (
        ARCHITECTURE_CHECKS, random_potential, run_architecture_check
    )

    @pytest.mark.parametrize("check", ARCHITECTURE_CHECKS)
    def test_my_architecture(check, tmp_path):
        run_architecture_check(check, MyArchitecture(), structures, tmp_path)

    def test_its_potential():
        assert all_pass(run_conformance(random_potential(MyArchitecture(), structures)))

Checked: tests/potentials/conformance/test_architecture_checks.py, with planted faults.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from karat.data.dataset import Dataset, Record
from karat.potentials.conformance.outcome import Violation
from karat.potentials.karat_file import load, save
from karat.potentials.model import named_arrays
from karat.potentials.native.architecture import AbstractArchitecture
from karat.potentials.native_protocol import AbstractNativePotential, NativePotential
from karat.structures.labels import Labels, LevelOfTheory
from karat.structures.structure import Structure

ENERGY = -1.0e4
"""eV, reference energy of every element: as large as those of real atoms."""


def random_dataset(structures: Sequence[Structure], seed: int = 5) -> Dataset:
    """The structures with standard normal forces and energies of about their number of atoms times
    −10⁴ eV."""
    generator = np.random.default_rng(seed)
    records = [
        Record(
            one,
            Labels(
                energy=ENERGY * len(one) + float(generator.normal()),
                forces=generator.normal(size=(len(one), 3)),
            ),
        )
        for one in structures
    ]
    return Dataset(tuple(records), LevelOfTheory("test"))


def random_potential(
    architecture: AbstractArchitecture,
    structures: Sequence[Structure],
    dtype: str = "float64",
    seed: int = 1,
) -> NativePotential:
    """The architecture with random parameters, sized by these structures."""
    data = random_dataset(structures)
    module = _completed(architecture, data).initialise(data, jax.random.key(seed), dtype)
    return NativePotential(module, dict.fromkeys(data.species, ENERGY), dtype=dtype)


def _completed(architecture: AbstractArchitecture, data: Dataset) -> AbstractArchitecture:
    full = architecture.completed(data)
    if not isinstance(full, AbstractArchitecture):
        raise Violation(f"completed() gave a {type(full).__name__}, no architecture")
    return full


def skeleton_is_shape(
    architecture: AbstractArchitecture, structures: Sequence[Structure], folder: Path
) -> None:
    """`skeleton` has the shapes and precisions of what `initialise` makes."""
    data = random_dataset(structures)
    full = _completed(architecture, data)
    for dtype in ("float32", "float64"):
        made = named_arrays(full.initialise(data, jax.random.key(0), dtype))
        shapes = named_arrays(full.skeleton(data.species, dtype))
        for name in made.keys() | shapes.keys():
            pair = made.get(name), shapes.get(name)
            found = [None if one is None else (one.shape, str(one.dtype)) for one in pair]
            if found[0] != found[1]:
                raise Violation(f"{dtype} {name}: initialise {found[0]}, skeleton {found[1]}")


def seeded(
    architecture: AbstractArchitecture, structures: Sequence[Structure], folder: Path
) -> None:
    """One key gives one potential, another key another."""
    first, again, other = (
        random_potential(architecture, structures, seed=seed).predict(structures[:1])[0].energy
        for seed in (1, 1, 2)
    )
    if first != again:
        raise Violation(f"the same key gave {first} and {again} eV")
    if first == other:
        raise Violation(f"two keys gave the same energy {first} eV")


def parameters_are_live(
    architecture: AbstractArchitecture, structures: Sequence[Structure], folder: Path
) -> None:
    """Energies, or forces that the potential itself gives, depend on every array that the trainer
    may change, and on no array's NaN."""
    potential = random_potential(architecture, structures)
    batch = potential.batch(structures)
    free, fixed = eqx.partition(potential.module, architecture.trainable(potential.module))

    def total(parameters: AbstractNativePotential) -> jax.Array:
        # squares: the gradient of a plain sum over atoms may vanish by symmetry
        outputs = eqx.combine(parameters, fixed).evaluate(batch)
        given = 0.0 if outputs.forces is None else jnp.sum(outputs.forces * outputs.forces)
        return jnp.sum(outputs.atom_energies * outputs.atom_energies) + given

    for name, gradient in named_arrays(jax.jit(jax.grad(total))(free)).items():
        if not np.all(np.isfinite(gradient)):
            raise Violation(f"the gradient by {name} is not finite")
        if not np.any(np.asarray(gradient) != 0):
            raise Violation(f"energies do not depend on {name}")


def groups_cover(
    architecture: AbstractArchitecture, structures: Sequence[Structure], folder: Path
) -> None:
    """Every trainable array is in exactly one parameter group; matrices are matrices."""
    data = random_dataset(structures)
    full = _completed(architecture, data)
    module = full.initialise(data, jax.random.key(0), "float32")
    arrays = named_arrays(eqx.filter(module, full.trainable(module)))
    groups = full.parameter_groups(module)
    grouped = [name for group in groups.values() for name in group.arrays]
    if sorted(grouped) != sorted(arrays):
        wrong = sorted(set(grouped) ^ set(arrays)) or sorted(
            {name for name in grouped if grouped.count(name) > 1}
        )
        raise Violation(f"not in exactly one parameter group, or not trainable: {wrong}")
    for label, group in groups.items():
        for name in group.matrices:
            if name not in group.arrays or arrays[name].ndim < 2:
                raise Violation(f"{label}: {name} is no matrix of that group")
    if not any(group.late for group in groups.values()):
        raise Violation("no parameter group is late: nothing would be trained with frozen layers")


def file_keeps_all(
    architecture: AbstractArchitecture, structures: Sequence[Structure], folder: Path
) -> None:
    """A potential read back from its `.karat` file predicts the same to the bit."""
    data = random_dataset(structures)
    potential = random_potential(architecture, structures)
    path = folder / "potential.karat"
    save(path, architecture.completed(data), potential, data.digest, {})
    before, after = (p.predict(structures[:1])[0] for p in (potential, load(path, "float64")))
    first, second = np.asarray(before.forces), np.asarray(after.forces)
    if before.energy != after.energy or not np.array_equal(first, second):
        raise Violation(f"energy before {before.energy} eV, read back {after.energy} eV")


ARCHITECTURE_CHECKS: Mapping[
    str, Callable[[AbstractArchitecture, Sequence[Structure], Path], None]
] = {
    check.__name__: check
    for check in (skeleton_is_shape, seeded, parameters_are_live, groups_cover, file_keeps_all)
}
"""Name → check; raises `Violation`."""


def run_architecture_check(
    name: str, architecture: AbstractArchitecture, structures: Sequence[Structure], folder: Path
) -> None:
    """One of `ARCHITECTURE_CHECKS`, with files in `folder`.

    Args:
        structures: at least one, with all elements together and neighbours within the cut-off.

    Raises:
        Violation: it does not hold.
    """
    ARCHITECTURE_CHECKS[name](architecture, structures, folder)

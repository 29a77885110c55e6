"""`CommitteeModule`: several native potentials of one architecture as one; its energy is the mean.

Arrays in which the members differ have an axis of members in front, all others are there once, so
that what does not depend on the member (descriptors, or the layers below separate readouts) is
computed once for all of them.

Checked: tests/potentials/test_committee.py and the conformance suite.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from karat.core.errors import BadInput
from karat.potentials.batch import Batch
from karat.potentials.model import AbstractModel, named_arrays
from karat.potentials.native_protocol import (
    AbstractNativePotential,
    Derived,
    Outputs,
    derive,
)


class CommitteeModule(AbstractNativePotential):
    """The mean of its members: E = (1/N) Σ_m E_m, hence forces and stress are means, too.

    Attributes:
        member: a module of the members' architecture; some arrays with an axis of members.
        calibration: what deviations of energies and of forces are multiplied by, see
            `committee_calibration`; NaN where they were not calibrated.
        members: number of them.
        stacked: names of the arrays with an axis of members (see `named_arrays`), ascending.
    """

    member: AbstractNativePotential
    calibration: Float[Array, "2"]
    members: int = eqx.field(static=True)
    stacked: tuple[str, ...] = eqx.field(static=True)
    species: tuple[int, ...] = eqx.field(static=True)
    cutoff: float = eqx.field(static=True)
    continuity: int = eqx.field(static=True)
    needs_triplets: bool = eqx.field(static=True)

    @classmethod
    def around(
        cls,
        member: AbstractNativePotential,
        calibration: Float[Array, "2"],
        members: int,
        stacked: Sequence[str],
    ) -> "CommitteeModule":
        """With what the member's architecture declares; `member` has its arrays stacked."""
        return cls(
            member=member,
            calibration=calibration,
            members=members,
            stacked=tuple(sorted(stacked)),
            species=member.species,
            cutoff=member.cutoff,
            continuity=member.continuity,
            needs_triplets=member.needs_triplets,
        )

    def each(self, function: Callable[..., Any], *values: Any) -> Any:
        """What `function` gives for each member, with an axis of members in front: side by side
        where they share most of the work (`fixed_features`), else one after the other within
        one program.

        Forces of networks of messages were wrong for some members when they were computed side by
        side in larger batches, and less precise in a compiled loop (JAX 0.10.2, CPU; the cause was
        not found: tests/potentials/test_committee.py).

        Args:
            function: of a member, and of what each of `values` holds for it.
            values: trees of arrays whose first axis is that of the members; `None` stays.
        """
        own, shared = eqx.partition(self.member, self.own())

        def one(mine: Any, *its: Any) -> Any:
            return function(eqx.combine(mine, shared), *its)

        if self.member.fixed_features:
            return jax.vmap(one)(own, *values)
        rows = [jax.tree.map(lambda a, i=i: a[i], (own, *values)) for i in range(self.members)]
        return jax.tree.map(lambda *parts: jnp.stack(parts), *[one(*row) for row in rows])

    def own(self) -> Any:
        """A tree like `member` that is True on the stacked arrays."""
        return flags(self.member, set(self.stacked))

    def one(self, index: int) -> AbstractNativePotential:
        """A member by itself."""
        own, shared = eqx.partition(self.member, self.own())
        mine: AbstractNativePotential = eqx.combine(jax.tree.map(lambda a: a[index], own), shared)
        return mine

    @property
    def conservative(self) -> bool:
        """As its members."""
        return self.member.conservative

    def evaluate(self, batch: Batch) -> Outputs:
        """Mean atom energies (and charges and forces, where members have them)."""
        outputs = self.each(lambda member: member.evaluate(batch))
        mean: Outputs = jax.tree.map(lambda values: jnp.mean(values, axis=0), outputs)
        return mean

    def prepared(self, species: tuple[int, ...]) -> AbstractNativePotential:
        """Of prepared members; one after the other, where their arrays differ in shape."""
        members = [self.one(index) for index in range(self.members)]
        ready = tuple(member.prepared(species) for member in members)
        if all(_kind(member) == _kind(ready[0]) for member in ready):
            return stack(ready, differing(ready), self.calibration)
        return MeanModule(
            terms=ready,
            species=ready[0].species,
            cutoff=self.cutoff,
            continuity=self.continuity,
            needs_triplets=self.needs_triplets,
        )


class MeanModule(AbstractNativePotential):
    """The mean of modules that cannot be put side by side."""

    terms: tuple[AbstractNativePotential, ...]
    species: tuple[int, ...] = eqx.field(static=True)
    cutoff: float = eqx.field(static=True)
    continuity: int = eqx.field(static=True)
    needs_triplets: bool = eqx.field(static=True)

    @property
    def conservative(self) -> bool:
        """As its terms."""
        return all(term.conservative for term in self.terms)

    def evaluate(self, batch: Batch) -> Outputs:
        """Mean atom energies (and charges and forces, where terms have them)."""
        parts = [term.evaluate(batch) for term in self.terms]
        mean: Outputs = jax.tree.map(lambda *values: sum(values) / len(values), *parts)
        return mean

    def prepared(self, species: tuple[int, ...]) -> "MeanModule":
        terms = tuple(term.prepared(species) for term in self.terms)
        mean: MeanModule = eqx.tree_at(lambda module: module.terms, self, terms)
        return mean


def _kind(module: AbstractNativePotential) -> Any:
    """What two modules must have in common to be put side by side."""
    shapes = {name: (array.shape, array.dtype) for name, array in named_arrays(module).items()}
    return jax.tree.structure(module), shapes


def flags(module: Any, names: set[str]) -> Any:
    """A tree like `module` that is True on the arrays of these names."""

    def flag(path: Any, _: Any) -> bool:
        return jax.tree_util.keystr(path, simple=True, separator=".") in names

    return jax.tree_util.tree_map_with_path(flag, module)


def flagged(module: Any, spec: Any) -> set[str]:
    """Names of the arrays of `module` where the tree `spec` is True."""
    return set(named_arrays(eqx.filter(module, spec)))


def differing(modules: Sequence[AbstractNativePotential]) -> set[str]:
    """Names of the arrays that are not the same in all modules of one architecture."""
    first, *others = [named_arrays(module) for module in modules]
    return {
        name
        for name, array in first.items()
        if not all(np.array_equal(array, other[name], equal_nan=True) for other in others)
    }


def stack(
    modules: Sequence[AbstractNativePotential],
    names: set[str],
    calibration: Float[Array, "2"] | None = None,
) -> CommitteeModule:
    """Members as one module: the named arrays side by side, all others those of the first.

    Raises:
        BadInput: fewer than two members, or of different architectures.
    """
    if len(modules) < 2:
        raise BadInput(f"A committee needs two members or more; {len(modules)} given.")
    if any(_kind(module) != _kind(modules[0]) for module in modules):
        raise BadInput("The members of a committee are of one architecture; these differ.")
    trees = [eqx.partition(module, flags(module, names)) for module in modules]
    side_by_side = jax.tree.map(lambda *arrays: jnp.stack(arrays), *[own for own, _ in trees])
    member = eqx.combine(side_by_side, trees[0][1])
    if calibration is None:
        dtype = np.result_type(*[a.dtype for a in named_arrays(modules[0]).values()])
        calibration = jnp.full(2, np.nan, dtype)
    return CommitteeModule.around(member, calibration, len(modules), sorted(names))


def derive_members(committee: CommitteeModule, batch: Batch) -> Derived:
    """Energies, forces and stress of each member, all with an axis of members in front."""
    derived: Derived = committee.each(lambda member: derive(member, batch))
    return derived


derive_members_compiled = eqx.filter_jit(derive_members)
"""`derive_members` under jit: one program for all members."""

PREFIX = "member."


def committee_frame(
    architecture: AbstractModel,
    members: int,
    species: tuple[int, ...],
    dtype: str,
    shapes: Mapping[str, tuple[int, ...]],
) -> CommitteeModule:
    """The committee with `jax.ShapeDtypeStruct` in place of its arrays, nothing allocated.

    Args:
        architecture: of the members.
        members, species, dtype: what a file's header says.
        shapes: of the file's arrays; they say which have an axis of members.

    Raises:
        BadInput: hyper-parameters that do not fit together.
    """
    given = {n.removeprefix(PREFIX): s for n, s in shapes.items() if n.startswith(PREFIX)}
    # members whose size the data decide would need shapes without the axis: none is trained so
    frame = architecture.frame(species, dtype, given)
    expected = named_arrays(frame)
    stacked = {n for n, leaf in expected.items() if given.get(n) == (members, *leaf.shape)}

    def widened(path: Any, leaf: Any) -> Any:
        name = jax.tree_util.keystr(path, simple=True, separator=".")
        if name not in stacked:
            return leaf
        return jax.ShapeDtypeStruct((members, *leaf.shape), leaf.dtype)

    member = jax.tree_util.tree_map_with_path(widened, frame, is_leaf=_is_shape)
    plain = CommitteeModule.around(member, jnp.zeros(2, np.float32), members, sorted(stacked))
    shape = jax.ShapeDtypeStruct((2,), np.dtype(dtype))
    framed: CommitteeModule = eqx.tree_at(lambda module: module.calibration, plain, shape)
    return framed


def _is_shape(leaf: object) -> bool:
    return isinstance(leaf, jax.ShapeDtypeStruct)


def inspect_committee(architecture: AbstractModel, committee: CommitteeModule, dtype: str) -> None:
    """Look at numbers that came from a file.

    Raises:
        BadInput: members or a calibration that could not work.
    """
    for index in range(committee.members):
        architecture.inspect(committee.one(index), dtype)
    factors = np.asarray(committee.calibration)
    if not (np.isnan(factors) | (np.isfinite(factors) & (factors > 0))).all():
        raise BadInput(f"the array 'calibration' is {factors}; factors are positive.")

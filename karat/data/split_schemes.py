"""Ways to split a dataset, as components: `split(dataset, scheme, seed)`.

To add one: a frozen dataclass with `split` and `units`, one entry in `SCHEMES`.

Checked: tests/data/test_split_schemes.py.
"""

import abc
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from jaxtyping import Float

from karat.core.errors import BadInput
from karat.data.dataset import Dataset
from karat.data.split_clusters import clusters, nearest_of
from karat.data.splits import (
    Split,
    check_fractions,
    group_members,
    split_by_group,
    split_of_roles,
    split_random,
    split_time_blocks,
)

Features = Float[np.ndarray, "structures features"]

SEPARATION_SAMPLE = 2000
"""Test structures whose nearest training structure is looked for."""


class AbstractScheme(abc.ABC):
    """A frozen dataclass: how structures are dealt out to train, valid and test.

    Attributes:
        name: on the command line and in stored splits.
        seeded: whether another seed gives another split.
        valid_fraction, test_fraction: parts of the structures, 0 ≤ f < 1, together below 1.
    """

    name: ClassVar[str]
    seeded: ClassVar[bool] = True
    valid_fraction: float
    test_fraction: float

    @abc.abstractmethod
    def split(self, dataset: Dataset, seed: int, features: Features | None = None) -> Split:
        """The split of that seed.

        Args:
            features: fingerprints of the structures, where they are known already.

        Raises:
            BadInput: a part that was asked for stays empty.
        """

    @abc.abstractmethod
    def units(
        self, dataset: Dataset, seed: int, features: Features | None = None
    ) -> list[np.ndarray]:
        """What stays together, as indices: single structures, groups or clusters.

        Raises:
            BadInput: this scheme has no such units.
        """


@dataclass(frozen=True)
class RandomSplit(AbstractScheme):
    """Each structure for itself at random. Frames of one trajectory leak.

    Attributes:
        valid_fraction, test_fraction: parts of the structures.
    """

    name: ClassVar[str] = "random"

    valid_fraction: float = 0.1
    test_fraction: float = 0.1

    def __post_init__(self) -> None:
        check_fractions(self.valid_fraction, self.test_fraction)

    def split(self, dataset: Dataset, seed: int, features: Features | None = None) -> Split:
        return split_random(dataset, self.valid_fraction, self.test_fraction, seed)

    def units(
        self, dataset: Dataset, seed: int, features: Features | None = None
    ) -> list[np.ndarray]:
        return [np.array([index]) for index in range(len(dataset))]


@dataclass(frozen=True)
class TimeBlockSplit(AbstractScheme):
    """Contiguous stretches of each trajectory; no chance in it, so one seed is enough.

    Attributes:
        valid_fraction, test_fraction: parts of the structures.
        blocks: periods into which each trajectory is cut, each with all three parts.
        gap: frames given up between parts.
    """

    name: ClassVar[str] = "time"
    seeded: ClassVar[bool] = False

    valid_fraction: float = 0.1
    test_fraction: float = 0.1
    blocks: int = 1
    gap: int = 1

    def __post_init__(self) -> None:
        check_fractions(self.valid_fraction, self.test_fraction)
        if self.blocks < 1 or self.gap < 0:
            raise BadInput(f"blocks is {self.blocks} and gap is {self.gap}; needs ≥ 1 and ≥ 0.")

    def split(self, dataset: Dataset, seed: int, features: Features | None = None) -> Split:
        if all(record.frame < 0 for record in dataset):
            raise BadInput(
                "no structure says which frame of a trajectory it is, so that there are no "
                "stretches of time. Split by similarity, by group or at random."
            )
        return split_time_blocks(
            dataset, self.valid_fraction, self.test_fraction, self.blocks, self.gap
        )

    def units(
        self, dataset: Dataset, seed: int, features: Features | None = None
    ) -> list[np.ndarray]:
        raise BadInput(
            "stretches of time have no folds here. Cross-validate by similarity, by group or at "
            "random."
        )


@dataclass(frozen=True)
class GroupSplit(AbstractScheme):
    """Whole groups (trajectories, molecules) at random.

    Attributes:
        valid_fraction, test_fraction: parts of the structures, rounded up to whole groups.
    """

    name: ClassVar[str] = "group"

    valid_fraction: float = 0.1
    test_fraction: float = 0.1

    def __post_init__(self) -> None:
        check_fractions(self.valid_fraction, self.test_fraction)

    def split(self, dataset: Dataset, seed: int, features: Features | None = None) -> Split:
        return split_by_group(dataset, self.valid_fraction, self.test_fraction, seed)

    def units(
        self, dataset: Dataset, seed: int, features: Features | None = None
    ) -> list[np.ndarray]:
        return group_members(dataset)


@dataclass(frozen=True)
class SimilaritySplit(AbstractScheme):
    """Whole clusters of similar structures, so that the test set lies away from the training set.

    Clusters are made of geometric fingerprints (`karat.data.fingerprint`) by k-means. One drawn at
    random and those nearest to it test: one region of the space of structures; clusters drawn at
    random from the others validate.

    Attributes:
        valid_fraction, test_fraction: parts of the structures, rounded to whole clusters.
        clusters: how many at most.
    """

    name: ClassVar[str] = "similarity"

    valid_fraction: float = 0.1
    test_fraction: float = 0.1
    clusters: int = 20

    def __post_init__(self) -> None:
        check_fractions(self.valid_fraction, self.test_fraction)
        if self.clusters < 2:
            raise BadInput(f"clusters is {self.clusters}; needs at least 2.")

    def split(self, dataset: Dataset, seed: int, features: Features | None = None) -> Split:
        if features is None:
            features = _fingerprints(dataset)
        members = self.units(dataset, seed, features)
        centres = np.array([features[unit].mean(axis=0) for unit in members])
        generator = np.random.default_rng([seed, 1])
        roles = np.zeros(len(dataset), dtype=int)
        order = generator.permutation(len(members))
        if self.test_fraction > 0.0:
            away = np.linalg.norm(centres[order] - centres[order[0]], axis=1)
            region = order[np.argsort(away, kind="stable")]
            order = self._take(members, region, roles, 2, self.test_fraction * len(dataset))
        if self.valid_fraction > 0.0:
            order = generator.permutation(np.sort(order))
            self._take(members, order, roles, 1, self.valid_fraction * len(dataset))
        how = (
            f"by similarity ({len(members)} clusters), {self.valid_fraction:g} valid, "
            f"{self.test_fraction:g} test"
        )
        fractions = (self.valid_fraction, self.test_fraction)
        return split_of_roles(dataset, roles, how, seed, fractions)

    @staticmethod
    def _take(
        members: Sequence[np.ndarray],
        order: np.ndarray,
        roles: np.ndarray,
        role: int,
        wanted: float,
    ) -> np.ndarray:
        """Give units a role, in place, first of `order` first; the units that are left."""
        taken = order[choose_units([len(members[unit]) for unit in order], wanted)]
        for unit in taken:
            roles[members[unit]] = role
        return order[~np.isin(order, taken)]

    def units(
        self, dataset: Dataset, seed: int, features: Features | None = None
    ) -> list[np.ndarray]:
        if features is None:
            features = _fingerprints(dataset)
        owner = clusters(features, self.clusters, seed)
        if owner.max() == 0:
            raise BadInput(
                f"all {len(dataset)} structures are alike: there is one cluster only. "
                "Split them at random."
            )
        return np.split(np.argsort(owner, kind="stable"), np.cumsum(np.bincount(owner))[:-1])


def _fingerprints(dataset: Dataset) -> np.ndarray:
    from karat.data.fingerprint import fingerprints

    return fingerprints(dataset.structures)


SCHEMES: dict[str, type[AbstractScheme]] = {
    cls.name: cls for cls in (RandomSplit, TimeBlockSplit, GroupSplit, SimilaritySplit)
}
"""Name → way to split."""


def choose_units(sizes: Sequence[int], wanted: float) -> list[int]:
    """Places of units, in the order given, that bring their sum near to `wanted`; never none.

    A unit is taken where that brings the sum nearer.
    """
    taken: list[int] = []
    total = 0
    for place, size in enumerate(sizes):
        if abs(total + size - wanted) < abs(total - wanted):
            taken.append(place)
            total += size
    if not taken and sizes:
        taken.append(int(np.argmin(sizes)))
    return taken


def split(
    dataset: Dataset, scheme: AbstractScheme, seed: int = 0, features: Features | None = None
) -> Split:
    """The split of a dataset by a scheme; the same arguments give the same split.

    Args:
        features: fingerprints of the structures, where they are known already.

    Raises:
        BadInput: a part that was asked for stays empty, or the scheme does not suit the data.
    """
    return scheme.split(dataset, seed, features)


def separation(features: Features, split: Split) -> float:
    """Median distance of test structures (at most `SEPARATION_SAMPLE`) to the nearest training
    structure, in units of the fingerprint.

    Raises:
        BadInput: there is no test part.
    """
    if not split.test:
        raise BadInput("the split has no test part, so that it has no distance from train.")
    places = np.unique(np.linspace(0, len(split.test) - 1, SEPARATION_SAMPLE).round().astype(int))
    test = features[np.array(split.test)[places]]
    return float(np.median(nearest_of(test, features[np.array(split.train)])[1]))

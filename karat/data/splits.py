"""Splits of a dataset into train, valid and test, and nested training sets.

Ways to split as components, by similarity too, stand in `split_schemes.py`; several seeds and
cross-validation in `split_ensembles.py`.

Checked: tests/data/test_splits.py.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from karat.core.errors import BadInput
from karat.core.hashing import digest_json
from karat.data.dataset import Dataset


@dataclass(frozen=True)
class Split:
    """Indices into a dataset, ascending, no index twice.

    Attributes:
        train, valid, test: indices; what is in none was dropped (gaps between time blocks).
        how: in words, for the report.
        seed: of what was drawn at random, 0 where nothing was.
        source: digest of the dataset that was split.
    """

    train: tuple[int, ...]
    valid: tuple[int, ...]
    test: tuple[int, ...]
    how: str
    seed: int
    source: str

    @cached_property
    def digest(self) -> str:
        """SHA-256 over everything."""
        parts = [list(self.train), list(self.valid), list(self.test)]
        return digest_json([*parts, self.how, self.seed, self.source])

    def as_dict(self) -> dict[str, Any]:
        """JSON-ready values, with the digest."""
        return {
            "how": self.how,
            "seed": self.seed,
            "source": self.source,
            "digest": self.digest,
            "train": list(self.train),
            "valid": list(self.valid),
            "test": list(self.test),
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any], dataset: Dataset) -> "Split":
        """The inverse of `as_dict`, for the dataset that was split.

        Raises:
            BadInput: values missing or changed, or the split is of other data.
        """
        try:
            train, valid, test = (_stored_indices(values[n]) for n in ("train", "valid", "test"))
            how, source = str(values["how"]), str(values["source"])
            found = cls(train, valid, test, how, int(values["seed"]), source)
            digest = values["digest"]
        except (KeyError, TypeError, ValueError) as error:
            raise BadInput(f"a stored split is damaged ({error!r}). Make it again.") from error
        if found.digest != digest:
            raise BadInput("a stored split was changed: its digest does not match. Make it again.")
        if found.source != dataset.digest:
            raise BadInput(
                f"the split is of other data (digest {found.source[:12]}…, these have "
                f"{dataset.digest[:12]}…). Name the file that was split, or split this one anew."
            )
        together = sorted([*train, *valid, *test])
        if len(set(together)) < len(together) or together[-1:] > [len(dataset) - 1]:
            raise BadInput("a stored split names a structure twice, or one that is not there.")
        return found


def _stored_indices(values: Any) -> tuple[int, ...]:
    found = tuple(values)
    if not all(type(index) is int and index >= 0 for index in found) or list(found) != sorted(
        found
    ):
        raise ValueError("indices are not ascending whole numbers")
    return found


def check_fractions(valid_fraction: float, test_fraction: float) -> None:
    """Refuse fractions outside 0 ≤ f < 1, or that leave nothing to train on.

    Raises:
        BadInput: which.
    """
    for name, value in (("valid_fraction", valid_fraction), ("test_fraction", test_fraction)):
        if not 0.0 <= value < 1.0:
            raise BadInput(f"{name} is {value}; needs 0 ≤ {name} < 1.")
    if valid_fraction + test_fraction >= 1.0:
        raise BadInput(
            f"valid_fraction {valid_fraction} and test_fraction {test_fraction} leave nothing to "
            "train on. Lower one of them."
        )


def split_of_roles(
    dataset: Dataset, roles: np.ndarray, how: str, seed: int, fractions: tuple[float, float]
) -> Split:
    """From roles (0 train, 1 valid, 2 test, −1 dropped) of the structures.

    Raises:
        BadInput: a part that was asked for (fraction above 0, and train) stays empty.
    """
    parts = [tuple(int(i) for i in np.flatnonzero(roles == role)) for role in range(3)]
    for name, part, fraction in zip(
        ("train", "valid", "test"), parts, (1.0, *fractions), strict=True
    ):
        if fraction > 0 and not part:
            raise BadInput(
                f"split ({how}) of {len(dataset)} structures leaves none for '{name}'. Use more "
                "structures, other fractions, fewer blocks or a smaller gap."
            )
    train, valid, test = parts
    return Split(train, valid, test, how, seed, dataset.digest)


def _counts(total: int, valid_fraction: float, test_fraction: float) -> tuple[int, int]:
    return round(total * valid_fraction), round(total * test_fraction)


def split_random(dataset: Dataset, valid_fraction: float, test_fraction: float, seed: int) -> Split:
    """Each structure for itself at random. Frames of trajectories leak: see `split_time_blocks`.

    Raises:
        BadInput: fractions out of range, or a part that stays empty.
    """
    check_fractions(valid_fraction, test_fraction)
    valid, test = _counts(len(dataset), valid_fraction, test_fraction)
    order = np.random.default_rng(seed).permutation(len(dataset))
    roles = np.zeros(len(dataset), dtype=int)
    roles[order[:test]] = 2
    roles[order[test : test + valid]] = 1
    how = f"random, {valid_fraction:g} valid, {test_fraction:g} test"
    return split_of_roles(dataset, roles, how, seed, (valid_fraction, test_fraction))


def split_by_group(
    dataset: Dataset, valid_fraction: float, test_fraction: float, seed: int
) -> Split:
    """Whole groups (trajectories, molecules) at random; parts are filled up to their size.

    Raises:
        BadInput: fractions out of range, or a part that stays empty (too few groups).
    """
    check_fractions(valid_fraction, test_fraction)
    valid, test = _counts(len(dataset), valid_fraction, test_fraction)
    members = group_members(dataset)
    roles = np.zeros(len(dataset), dtype=int)
    wanted = {2: test, 1: valid}
    filled = {2: 0, 1: 0}
    for group in np.random.default_rng(seed).permutation(len(members)):
        for role in (2, 1):
            if filled[role] < wanted[role]:
                roles[members[group]] = role
                filled[role] += len(members[group])
                break
    how = f"by group, {valid_fraction:g} valid, {test_fraction:g} test"
    return split_of_roles(dataset, roles, how, seed, (valid_fraction, test_fraction))


def group_members(dataset: Dataset) -> list[np.ndarray]:
    """Indices of each group, ascending, groups in the order of their names."""
    found: dict[str, list[int]] = {}
    for index, record in enumerate(dataset):
        found.setdefault(record.group, []).append(index)
    return [np.array(found[name]) for name in sorted(found)]


def split_time_blocks(
    dataset: Dataset,
    valid_fraction: float,
    test_fraction: float,
    blocks: int = 1,
    gap: int = 1,
) -> Split:
    """Contiguous stretches of each trajectory, so that neighbouring frames do not leak.

    The frames of each group, in order of time, are cut into `blocks` periods; the first part of
    each trains, then comes valid, then test. Frames of one group in different parts are more
    than `gap` frames (in units of `Record.frame`) apart: what lies between is dropped, at the
    cost of train. Records without time (frame −1) train.

    Raises:
        BadInput: fractions out of range, blocks < 1, gap < 0, or a part that stays empty.
    """
    check_fractions(valid_fraction, test_fraction)
    if blocks < 1 or gap < 0:
        raise BadInput(f"blocks is {blocks} and gap is {gap}; needs blocks ≥ 1 and gap ≥ 0.")
    roles = np.zeros(len(dataset), dtype=int)
    frames = np.array([record.frame for record in dataset])
    groups = np.array([record.group for record in dataset])
    for group in sorted(set(groups.tolist())):
        members = np.flatnonzero((groups == group) & (frames >= 0))
        members = members[np.argsort(frames[members], kind="stable")]
        for period in np.array_split(members, blocks):
            valid, test = _counts(len(period), valid_fraction, test_fraction)
            before = period[: len(period) - test]
            roles[period[len(before) :]] = 2
            if test:  # so that valid keeps its size, and train pays for the gaps
                before = before[frames[before] < frames[period[len(before)]] - gap]
            roles[before[max(len(before) - valid, 0) :]] = 1
        _drop_near(roles, frames, members, 1, (2,), gap)
        _drop_near(roles, frames, members, 0, (1, 2), gap)
    how = (
        f"time blocks ({blocks} per trajectory, gap {gap}), {valid_fraction:g} valid, "
        f"{test_fraction:g} test"
    )
    return split_of_roles(dataset, roles, how, 0, (valid_fraction, test_fraction))


def _drop_near(
    roles: np.ndarray,
    frames: np.ndarray,
    members: np.ndarray,
    role: int,
    others: tuple[int, ...],
    gap: int,
) -> None:
    """Give up members of `role` within `gap` frames of members of `others`, in place."""
    mine = members[roles[members] == role]
    theirs = np.sort(frames[members[np.isin(roles[members], others)]])
    if len(mine) == 0 or len(theirs) == 0:
        return
    right = np.clip(np.searchsorted(theirs, frames[mine]), 0, len(theirs) - 1)
    left = np.clip(right - 1, 0, None)
    near = np.minimum(np.abs(frames[mine] - theirs[left]), np.abs(frames[mine] - theirs[right]))
    roles[mine[near <= gap]] = -1


def nested_subsets(
    dataset: Dataset, indices: Sequence[int], sizes: Sequence[int], seed: int
) -> dict[int, tuple[int, ...]]:
    """Training sets of several sizes, each contained in the next larger, ascending indices.

    Drawn at random within each kind of structure, kinds in proportion (one structure of a kind
    more or less), so that a small set is a fair picture of the large one.

    Raises:
        BadInput: a size below 1 or above the number of indices.
    """
    for size in sizes:
        if not 1 <= size <= len(indices):
            raise BadInput(
                f"training-set size {size}: the training part has {len(indices)} structures. "
                f"Name sizes from 1 to {len(indices)}, or label more."
            )
    pool = np.array(sorted(indices), dtype=int)
    kinds = np.array([dataset.records[i].kind for i in pool])
    generator = np.random.default_rng(seed)
    rank = np.zeros(len(pool))
    for kind in sorted(set(kinds.tolist())):
        members = np.flatnonzero(kinds == kind)
        places = (np.arange(len(members)) + generator.uniform()) / len(members)
        rank[generator.permutation(members)] = places
    order = pool[np.argsort(rank, kind="stable")]
    return {int(n): tuple(sorted(int(i) for i in order[:n])) for n in sorted(set(sizes))}

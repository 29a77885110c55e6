"""Parameter groups by the names of arrays.

Checked: by the conformance check `groups_cover` of each architecture that uses it.
"""

from collections.abc import Collection, Mapping
from typing import Any

from karat.potentials.model import named_arrays
from karat.potentials.native.architecture import ParameterGroup


def groups_by_start(
    trainable: Any, starts: Mapping[str, tuple[str, ...]], late: Collection[str]
) -> Mapping[str, ParameterGroup]:
    """For each label the arrays whose names begin with one of its starts; what has two axes or
    more is a matrix.

    Args:
        trainable: the module without what is not.
        late: labels of late groups.
    """
    arrays = named_arrays(trainable)
    groups = {}
    for label, start in starts.items():
        mine = tuple(name for name in arrays if name.startswith(start))
        matrices = tuple(name for name in mine if arrays[name].ndim > 1)
        groups[label] = ParameterGroup(mine, matrices, label in late)
    return groups

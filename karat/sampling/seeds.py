"""One seed for each start, from one seed for all.

Checked: tests/sampling/test_samplers.py.
"""

import numpy as np


def spawn_seeds(seed: int, count: int) -> list[int]:
    """`count` independent seeds below 2³²; the first ones do not depend on `count`.

    Source: NumPy's `SeedSequence`, whose children are independent of each other.
    """
    children = np.random.SeedSequence(seed).spawn(count)
    return [int(child.generate_state(1, np.uint32)[0]) for child in children]

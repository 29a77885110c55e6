"""How many invariant functions ACEsuit's own coupling finds for each product of (n, l).

given: `factors` (products, 4, 2) of n and l, padded with -1; `degree`, `weight`, `order` for
ace-jax's own selection of products for one element. got: `counts` of each product, `chosen`: the
products that it selects, padded alike.
"""

import sys

import numpy as np
from ace_jax.basis.coupling import couple
from ace_jax.basis.spec import build_spec

given = np.load(sys.argv[1], allow_pickle=False)
bodies = [[(int(n), int(deg)) for n, deg in one if n >= 0] for one in given["factors"]]
channels = sorted({nl for body in bodies for nl in body}, key=lambda nl: (nl[1], nl[0]))
highest = max(deg for _, deg in channels)
harmonics = [(deg, m) for deg in range(highest + 1) for m in range(-deg, deg + 1)]
found = couple(bodies, channels, harmonics)
counts = {}
for body in found.nnll_spec:
    counts[tuple(sorted(body))] = counts.get(tuple(sorted(body)), 0) + 1
chosen, _, _ = build_spec(1, int(given["order"]), float(given["degree"]), float(given["weight"]))
padded = np.full((len(chosen), 4, 2), -1)
for row, body in zip(padded, chosen):
    row[: len(body)] = sorted(body)
np.savez(
    sys.argv[2],
    counts=[counts.get(tuple(sorted(body)), 0) for body in bodies],
    chosen=padded,
)

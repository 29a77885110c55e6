"""Numbers of invariant functions, body order by body order, against the code of ACE's authors.

ace-jax couples angular momenta with EquivariantTensors (ACEsuit), which constructs the complete,
linearly independent invariants of Dusson et al., J. Comput. Phys. 454, 110946 (2022).
"""

from collections import Counter

import numpy as np
import pytest

from karat.potentials.linear.ace_basis import AceSpec, ace_basis

CASES = [
    AceSpec(elements=1, degrees=(12, 12, 12, 12), l_weight=1.5),
    AceSpec(elements=1, degrees=(8, 8, 8, 8), l_weight=0.5),
    AceSpec(elements=2, degrees=(6, 6, 6, 6), l_weight=1.0),
]


@pytest.mark.peers
@pytest.mark.parametrize("spec", CASES, ids=["one-1.5", "one-half", "two-1"])
def test_body_order_counts_are_those_of_aces_authors(spec, peer):
    """Every product of (n, l) gives as many independent invariants, and for one element the same
    products are chosen by total degree."""
    ours = Counter(ace_basis(spec).members)  # (l, channel) of each factor
    products = sorted(ours)
    factors = np.full((len(products), 4, 2), -1)
    for row, product in zip(factors, products):
        row[: len(product)] = [(channel + 1, degree) for degree, channel in product]
    order, degree = len(spec.degrees), float(spec.degrees[-1])
    found = peer("ace_jax")(
        "ace_jax_counts.py",
        {"factors": factors, "order": order, "degree": degree, "weight": spec.l_weight},
    )
    np.testing.assert_array_equal(found["counts"], [ours[product] for product in products])
    by_order = Counter(dict.fromkeys((2, 3, 4), 0))
    for product, count in zip(products, found["counts"]):
        by_order[len(product)] += int(count)
    assert min(by_order.values()) > 10
    if spec.elements == 1:
        theirs = {
            tuple(sorted((l, n - 1) for n, l in body if n >= 0))  # noqa: E741
            for body in found["chosen"].tolist()
            if sum(n >= 0 for n, _ in body) > 1
        }
        assert theirs == {tuple(sorted(product)) for product in products}

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from karat.core.errors import BadInput, UnknownElement
from karat.potentials.analytic.pairwise import pair_table, species_index, species_of, switch


def test_switch_is_one_then_zero_with_two_continuous_derivatives():
    value = lambda r: switch(r, 3.0, 4.0)  # noqa: E731
    first = jax.grad(value)
    second = jax.grad(first)
    every = jax.jit(
        jax.vmap(lambda r: jnp.stack([value(r), first(r), second(r), jax.grad(second)(r)]))
    )
    points = np.array([2.9, 4.1, 3 - 1e-6, 3 + 1e-6, 4 - 1e-6, 4 + 1e-6])
    derivatives = np.asarray(every(jnp.asarray(points)))
    assert derivatives[0, 0] == 1.0
    assert derivatives[1, 0] == 0.0
    for jump in (derivatives[3] - derivatives[2], derivatives[5] - derivatives[4]):
        # each moves by at most 2e-6 times the next derivative's largest value
        assert np.all(np.abs(jump[:3]) <= 2.1e-6 * np.array([1.9, 6.0, 60.0]))
        assert abs(jump[3]) > 50  # the third does jump


def test_switch_falls_monotonically():
    r = jnp.linspace(3.0, 4.0, 101)
    assert np.all(np.diff(jax.vmap(lambda x: switch(x, 3.0, 4.0))(r)) <= 0)


def test_pair_table_mixes_by_lorentz_and_berthelot():
    species = species_of({"Ar": 1.0, "Kr": 4.0}, "test")
    assert species == (18, 36)
    geometric = pair_table({"Ar": 1.0, "Kr": 4.0}, species, mix="geometric")
    np.testing.assert_array_equal(geometric, [[1, 2], [2, 4]])
    arithmetic = pair_table({"Ar": 1.0, "Kr": 4.0}, species, mix="arithmetic")
    np.testing.assert_array_equal(arithmetic, [[1, 2.5], [2.5, 4]])
    given = pair_table({"Kr": 4.0, "Ar-Kr": 9.0, "Ar": 1.0}, species, mix="geometric")
    np.testing.assert_array_equal(given, [[1, 9], [9, 4]])


@pytest.mark.parametrize(
    ("parameters", "mix", "words"),
    [
        ({"Ar": 1.0, "Ar-Ar": 1.0}, "geometric", "twice"),
        ({"Ar": 1.0, "Ar-Kr": 1.0}, "geometric", "36-36"),
        ({"Ar": 1.0, "Kr": 1.0}, "none", "18-36"),
        ({"Ar": float("nan")}, "none", "finite"),
        ({"Ar-Ar-Ar": 1.0}, "none", "pair of elements"),
    ],
)
def test_pair_table_refuses(parameters, mix, words):
    with pytest.raises(BadInput, match=words):
        pair_table(parameters, species_of(parameters, "test"), mix=mix)


def test_unknown_symbols_are_named():
    with pytest.raises(UnknownElement, match="'Argon'"):
        species_of({"Argon": 1.0}, "lennard_jones.epsilon_ev")
    with pytest.raises(BadInput, match="is empty"):
        species_of({}, "lennard_jones.epsilon_ev")


def test_species_index_is_zero_on_padding():
    index = species_index(jnp.asarray([36, 18, 0]), (18, 36))
    np.testing.assert_array_equal(index, [1, 0, 0])

"""The loss and the errors of a batch, worked out by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from karat.potentials.native_protocol import Derived, Outputs
from karat.training.batches import Targets
from karat.training.loss import error_sums, loss_of, total_errors, weighted


def case():
    """Two systems of 2 and 1 atoms and a padding system; the second lacks forces."""
    targets = Targets(
        energy=jnp.array([1.0, 2.0, 0.0]),
        atoms=jnp.array([2.0, 1.0, 1.0]),
        system_mask=jnp.array([True, True, False]),
        forces=jnp.zeros((4, 3)),
        force_mask=jnp.array([True, True, False, False]),
        stress=jnp.zeros((3, 3, 3)),
        stress_mask=jnp.array([True, False, False]),
    )
    forces = np.full((4, 3), 99.0)
    forces[:2] = [[0.1, 0.0, 0.0], [0.0, -0.2, 0.0]]
    stress = np.full((3, 3, 3), 99.0)
    stress[0] = 0.01
    derived = Derived(
        energies=jnp.array([1.2, 1.7, 55.0]),
        forces=jnp.asarray(forces),
        stress=jnp.asarray(stress),
        outputs=Outputs(atom_energies=jnp.zeros(4)),
    )
    return derived, targets, jnp.array([50.0, 1.0, 1.0])


MSE = ("mse", "mse", "mse")
DELTAS = jnp.array([0.01, 0.01, 0.01])


def test_sums_are_those_by_hand():
    sums = error_sums(*case(), MSE, DELTAS)
    np.testing.assert_allclose(sums.absolute, [0.1 + 0.3, 0.3, 9 * 0.25], rtol=1e-12)
    np.testing.assert_allclose(sums.squared, [0.01 + 0.09, 0.05, 9 * 0.0625], rtol=1e-12)
    np.testing.assert_allclose(sums.loss, sums.squared, rtol=0)
    assert sums.count.tolist() == [2, 6, 9]


def test_each_term_has_its_own_kind():
    # errors: energies 0.1 and 0.3 in size, forces 0.1 and 0.2 (and four zeros), virials nine 0.25
    deltas = jnp.array([0.2, 9.0, 0.15])
    sums = error_sums(*case(), ("huber", "mae", "huber"), deltas)
    huber = 0.5 * 0.1**2 + 0.2 * (0.3 - 0.1)
    np.testing.assert_allclose(sums.loss, [huber, 0.1 + 0.2, 9 * 0.15 * (0.25 - 0.075)], rtol=1e-12)
    errors = total_errors([sums, sums], (1.0, 10.0, 0.0))
    np.testing.assert_allclose(errors.terms, [huber / 2, 0.05, 0.15 * 0.175], rtol=1e-12)
    np.testing.assert_allclose(errors.loss, huber / 2 + 0.5, rtol=1e-12)


@pytest.mark.parametrize("delta", [0.01, 0.3])
def test_huber_and_its_slope_equal_optax(delta):
    errors = jnp.array([-1.0, -0.3, -0.01, -0.001, 0.0, 0.002, 0.01, 0.29, 0.31, 5.0])
    mine = jax.vmap(lambda e: loss_of("huber", e, jnp.asarray(delta)))
    np.testing.assert_allclose(mine(errors), optax.losses.huber_loss(errors, delta=delta))
    slope = jax.vmap(jax.grad(lambda e: loss_of("huber", e, jnp.asarray(delta))))
    np.testing.assert_allclose(slope(errors), np.clip(errors, -delta, delta), atol=1e-15)


def test_a_term_that_does_not_count_cannot_spoil_the_loss():
    assert weighted((1.0, 2.0, 0.0), (3.0, 4.0, float("nan"))) == 11.0


def test_errors_are_means_over_all_batches_in_meV():
    sums = error_sums(*case(), MSE, DELTAS)
    errors = total_errors([sums, sums], (10.0, 2.0, 4.0))
    np.testing.assert_allclose(errors.energy_mae, 200.0)
    np.testing.assert_allclose(errors.energy_rmse, 1e3 * np.sqrt(0.05))
    np.testing.assert_allclose(errors.force_mae, 50.0)
    np.testing.assert_allclose(errors.force_rmse, 1e3 * np.sqrt(0.05 / 6))
    np.testing.assert_allclose(errors.loss, 10 * 0.05 + 2 * 0.05 / 6 + 4 * 0.0625)


def test_no_force_labels_give_no_force_error():
    derived, targets, volume = case()
    import equinox as eqx

    bare = eqx.tree_at(lambda t: t.force_mask, targets, jnp.zeros(4, bool))
    errors = total_errors([error_sums(derived, bare, volume, MSE, DELTAS)], (1.0, 0.0, 0.0))
    assert np.isnan(errors.force_mae)
    assert np.isnan(errors.force_rmse)
    np.testing.assert_allclose(errors.loss, 0.05)

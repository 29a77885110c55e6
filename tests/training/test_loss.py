"""The loss and the errors of a batch, worked out by hand."""

import jax.numpy as jnp
import numpy as np

from karat.potentials.native_protocol import Derived, Outputs
from karat.training.batches import Targets
from karat.training.loss import error_sums, total_errors


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


def test_sums_are_those_by_hand():
    sums = error_sums(*case())
    np.testing.assert_allclose(sums.absolute, [0.1 + 0.3, 0.3, 9 * 0.25], rtol=1e-12)
    np.testing.assert_allclose(sums.squared, [0.01 + 0.09, 0.05, 9 * 0.0625], rtol=1e-12)
    assert sums.count.tolist() == [2, 6, 9]


def test_errors_are_means_over_all_batches_in_meV():
    sums = error_sums(*case())
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
    errors = total_errors([error_sums(derived, bare, volume)], (1.0, 0.0, 0.0))
    assert np.isnan(errors.force_mae)
    assert np.isnan(errors.force_rmse)
    np.testing.assert_allclose(errors.loss, 0.05)

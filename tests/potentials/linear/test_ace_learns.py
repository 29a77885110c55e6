"""An expansion of growing degree fitted to a potential that it can represent."""

import numpy as np
import pytest

from karat.potentials.analytic.stillinger_weber import StillingerWeber
from karat.potentials.linear.ace import Ace
from karat.potentials.linear.design import Design
from karat.structures.builders import crystal


def silicon(count, seed):
    """Cubic cells of eight atoms, strained and rattled by about 0.1 Å, more and less."""
    random = np.random.default_rng(seed)
    perfect = crystal("Si", "diamond", a=5.43, cubic=True)
    made = []
    for _ in range(count):
        cell = perfect.cell @ (np.eye(3) + random.normal(0, 0.02, (3, 3)))
        moved = perfect.positions @ np.linalg.inv(perfect.cell) @ cell
        noise = random.normal(0, random.uniform(0.02, 0.15), (8, 3))
        made.append(perfect.replace(cell=cell, positions=moved + noise))
    return made


def equations(settings, structures, labels):
    """Rows and targets: energies per atom ten times as heavy as force components."""
    design = Design(settings.basis((14,), "float64"))
    rows, targets = [], []
    for row, label in zip(design.rows(structures), labels):
        rows += [10 * row.energy[None], row.forces]
        targets += [[10 * label.energy / 8], label.forces.ravel()]
    return np.concatenate(rows), np.concatenate(targets)


def errors(degrees, count):
    """RMSE of held-out energies, meV/atom, of least squares for each degree."""
    teacher = StillingerWeber(preset="Si").load()
    train, test = silicon(count, 1), silicon(20, 2)
    known, wanted = teacher.predict(train), teacher.predict(test)
    found = []
    for degree in degrees:
        settings = Ace({"Si": 2.35}, 3.9, (degree, degree), 2.0)
        matrix, target = equations(settings, train, known)
        coefficients = np.linalg.lstsq(matrix, target, rcond=1e-13)[0]
        held, energies = equations(settings, test, wanted)
        step = 1 + 24  # an energy and the forces of eight atoms
        off = (held @ coefficients - energies)[::step] / 10
        found.append(1e3 * np.sqrt(np.mean(off**2)))
    return np.array(found)


def test_error_falls_with_degree():
    found = errors((4, 7), 12)
    assert found[1] < 0.5 * found[0], found


@pytest.mark.slow
def test_stillinger_weber_is_learned_to_a_tenth_of_a_milli_electronvolt():
    """Angles need l up to 2 only; what is left is how fast radial functions converge."""
    found = errors((5, 8, 11, 14, 17, 20), 60)
    assert (np.diff(found) < 0).all(), found
    assert found[-1] < 0.1

"""What a fitted potential costs in dynamics: microseconds for each atom and step.

Checked: tests/training/test_tuning.py.
"""

import statistics
from collections.abc import Sequence

import numpy as np

from karat.core.errors import BadInput, CalculationFailed
from karat.potentials.native_protocol import NativePotential
from karat.simulation.dynamics import run_batch
from karat.simulation.loop import Dynamics
from karat.simulation.velocities import thermal_velocities
from karat.structures.structure import Structure

ATOMS = 256
"""Crystals are repeated until they have so many: below, fixed costs dominate."""
BLOCKS, STEPS = 5, 40
TEMPERATURE_K, TIMESTEP_FS = 300.0, 0.25


def sample_structure(structures: Sequence[Structure], atoms: int = ATOMS) -> Structure:
    """What to time on: the largest (among equals the first), repeated along its shortest periodic
    axis until it has so many `atoms`.

    Raises:
        BadInput: no structure.
    """
    if not structures:
        raise BadInput("cost of a step: there is no structure to time it on.")
    chosen = max(structures, key=len).to_ase()
    while len(chosen) < atoms and chosen.pbc.any():
        lengths = np.where(chosen.pbc, chosen.cell.lengths(), np.inf)
        repeats = [1, 1, 1]
        repeats[int(np.argmin(lengths))] = 2
        chosen = chosen.repeat(repeats)
    return Structure.from_ase(chosen)


def microseconds_per_atom_step(potential: NativePotential, structure: Structure) -> float:
    """Wall time of a step of NVE dynamics from 300 K velocities, list updates included,
    compilation excluded: the median of five blocks of 40 steps.

    Raises:
        CalculationFailed: the dynamics stopped; then there is no honest figure.
    """
    settings = Dynamics("nve", TEMPERATURE_K, TIMESTEP_FS, STEPS, STEPS)
    velocities = thermal_velocities(structure, TEMPERATURE_K, 0)
    seconds = []
    for block in range(BLOCKS + 1):
        run = run_batch(potential, [structure], settings, [velocities])[0]
        if run.stopped is not None:
            raise CalculationFailed(
                f"timing the potential on {structure.formula}: {run.stopped.reason}",
                kind=run.stopped.kind,
            )
        if block:
            seconds.append(run.seconds)
    return 1e6 * statistics.median(seconds) / (STEPS * len(structure))

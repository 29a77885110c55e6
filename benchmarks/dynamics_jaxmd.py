"""Worker for `dynamics.py lj`: Lennard-Jones by jax-md, in an environment of its own.

    python dynamics_jaxmd.py START.npz FORMAT SKIN STEPS TIMESTEP ENSEMBLE SWITCH

Reduced units. SWITCH is `same` (karat's polynomial, so that energies can be compared) or `own`
(jax-md's `lennard_jones_neighbor_list`). The list is updated in the compiled loop, as in jax-md's
examples. The jitted run compiles twice, so it is called three times before the first block.
"""

import importlib.metadata
import sys
import warnings
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from dynamics_worker import serve, timed
from jax_md import energy, partition, simulate, smap, space

# jax-md asks for float64 sums and gets float32, as its float32 runs mean
warnings.filterwarnings("ignore", message="Explicitly requested dtype float64")

CUTOFF, ONSET = 2.5, 2.0


def switched(distance, sigma=1.0, epsilon=1.0, **unused):
    """12-6 times 1 - 10x³ + 15x⁴ - 6x⁵ between onset and cut-off."""
    x = jnp.clip((distance - ONSET) / (CUTOFF - ONSET), 0.0, 1.0)
    fade = 1 - x**3 * (10 - 15 * x + 6 * x * x)
    return energy.lennard_jones(distance, sigma, epsilon) * fade


def functions(displacement, box, form, skin, switch):
    """Neighbour function and energy of positions with a list."""
    if switch == "own":
        return energy.lennard_jones_neighbor_list(
            displacement, box, r_onset=ONSET, r_cutoff=CUTOFF, dr_threshold=skin, format=form
        )
    neighbours = partition.neighbor_list(displacement, box, CUTOFF, skin, format=form)
    metric = space.canonicalize_displacement_or_metric(displacement)
    return neighbours, smap.pair_neighbor_list(
        switched, metric, ignore_unused_parameters=True, sigma=1.0, epsilon=1.0
    )


def integrator(potential, shift, timestep, start, ensemble):
    """Start and step of velocity Verlet, or of a Nosé–Hoover chain of three."""
    if ensemble == "nve":
        init, step = simulate.nve(potential, shift, timestep)
        return lambda key, r, **rest: init(key, r, start["temperature"], **rest), step
    period = float(start["thermostat"])
    return simulate.nvt_nose_hoover(
        potential, shift, timestep, float(start["temperature"]), chain_length=3, tau=period
    )


def main(path, form, skin, steps, timestep, ensemble, switch) -> None:
    start = np.load(path)
    sigma, unit = float(start["sigma"]), float(start["time_unit"])
    box = jnp.asarray(start["box"] / sigma, jnp.float32)
    positions = jnp.asarray(np.mod(start["positions"] / sigma, start["box"] / sigma), jnp.float32)
    momenta = jnp.asarray(start["velocities"] * unit / sigma, jnp.float32)
    displacement, shift = space.periodic(box)
    chosen = getattr(partition.NeighborListFormat, form)
    neighbours, potential = functions(displacement, box, chosen, float(skin), switch)
    init, step = integrator(potential, shift, float(timestep), start, ensemble)
    count = int(steps)

    @jax.jit
    def run(state, near):
        def once(_, carry):
            state, near = carry
            state = step(state, neighbor=near)
            return state, near.update(state.position)

        return jax.lax.fori_loop(0, count, once, (state, near))

    near = neighbours.allocate(positions)
    here = {
        "near": near,
        "state": init(jax.random.PRNGKey(0), positions, momenta=momenta, neighbor=near),
    }

    def block() -> dict:
        def work() -> None:
            state, near = run(here["state"], here["near"])
            here.update(state=jax.block_until_ready(state), near=near)

        figures = timed(work, count)
        if bool(here["near"].did_buffer_overflow):
            sys.exit("jax-md: the neighbour list overflowed; equilibrate longer.")
        return figures | {"temperature": float(jnp.mean(here["state"].momentum ** 2))}

    facts: dict[str, Any] = {"energy": float(potential(positions, neighbor=near))}
    for _ in range(3):
        block()
    for name in ("jax-md", "jax", "jaxlib", "numpy"):
        facts[name] = importlib.metadata.version(name)
    serve(facts, block)


if __name__ == "__main__":
    if len(sys.argv) != 8:
        sys.exit(__doc__)
    main(*sys.argv[1:])

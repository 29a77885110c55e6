"""DeepPot-SE with tabulated embedding networks.

The networks are functions of one number, s. All of them together, for every pair of elements, are
sums of few functions (a singular value decomposition), and these are tabulated: fifth-order
polynomials on even intervals of s that agree with value, slope and curvature at the ends. Sums over
neighbours are taken of the few functions; what makes embedding widths of them is folded into the
first layer of the fitting networks.

Source: Lu et al., J. Chem. Theory Comput. 18, 5559 (2022), "DP Compress", for the tables; the
decomposition is karat's.
Checked: tests/potentials/native/test_deeppot_compressed.py.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from karat.core.errors import BadInput
from karat.potentials.batch import Batch
from karat.potentials.model import AbstractModel, Card
from karat.potentials.native.acsf_moments import products_by_element
from karat.potentials.native.deeppot_module import (
    DeepPotModule,
    Environment,
    Layer,
    Surroundings,
    sum_products,
)
from karat.potentials.native.drawing import ArrayMaker, in_shape
from karat.potentials.native_protocol import AbstractNativePotential, Outputs

NEAREST_ANGSTROM = 0.3
"""Tables end at this distance; nearer atoms have energy NaN, which is refused."""
COARSEST, FINEST = 64, 4096
"""Intervals."""
TOLERANCE = {"float32": 1e-7, "float64": 1e-11}
"""Singular values below this part of the largest are left out; twenty times it is what tables may
differ from the networks by."""


class CompressedDeepPot(AbstractNativePotential):
    """Energies of atoms from the table.

    Attributes:
        environment: the original's.
        table: coefficients of 1, t … t⁵ of each interval, 0 ≤ t < 1, power by power.
        empty: the few functions at s = 0.
        narrow: by the centre's element: neighbour's element × few functions → axis columns / N_c.
        first: the first fitting layer, of (neighbour's element × few functions) × axis.
        fitting: the others.
        scale: eV.
    """

    environment: Environment
    table: Float[Array, "intervals _"]
    empty: Float[Array, "few"]
    narrow: Float[Array, "species rows axis"]
    first: Layer
    fitting: tuple[Layer, ...]
    scale: Float[Array, ""]
    species: tuple[int, ...] = eqx.field(static=True)
    cutoff: float = eqx.field(static=True)
    continuity: int = eqx.field(static=True)
    needs_triplets: bool = eqx.field(static=True)

    def evaluate(self, batch: Batch) -> Outputs:
        near = self.environment(batch)
        total = self._density(batch, near)
        axis = self._narrowed(total, near.centre)
        found = jnp.matmul(jnp.swapaxes(total, 1, 2), axis, precision="highest")
        values = jnp.tanh(self.first.linear(found.reshape(batch.atoms, -1), near.centre))
        for layer in self.fitting[:-1]:
            values = layer(values, near.centre)
        energies = self.fitting[-1].linear(values, near.centre)[:, 0] * self.scale
        return Outputs(jnp.where(batch.atom_mask, energies, 0.0))

    def _density(self, batch: Batch, near: Surroundings) -> Float[Array, "atoms 4 rows"]:
        """Σ rows of the environment matrix × few functions, by the neighbour's element."""
        few, count = self.functions(near.inverse), len(self.species)
        if count == 1:
            total = sum_products(batch, near.rows, few)
        else:
            index = jnp.argmax(near.own, axis=1).astype(jnp.int32)
            total = products_by_element(batch, near.rows, few, index, count)
            total = jnp.swapaxes(total, 1, 2).reshape(batch.atoms, 4, -1)
        empty = jnp.matmul(near.centre, self.environment.empty[:, None], precision="highest")
        rest = (near.missing * empty)[:, :, None] * self.empty[None, None]
        rest = rest.reshape(batch.atoms, 1, -1)
        return jnp.concatenate([total[:, :1] + rest, total[:, 1:]], axis=1)

    def _narrowed(
        self, total: Float[Array, "atoms 4 rows"], centre: Float[Array, "atoms species"]
    ) -> Float[Array, "atoms 4 axis"]:
        """Axis columns from the few functions, with the matrix of each atom's element."""
        species, rows, axis = self.narrow.shape
        together = jnp.swapaxes(self.narrow, 0, 1).reshape(rows, species * axis)
        mixed = jnp.matmul(total.reshape(-1, rows), together, precision="highest")
        mixed = mixed.reshape(-1, 4, species, axis)
        return jnp.sum(mixed * centre[:, None, :, None], axis=2)

    def functions(self, inverse: Float[Array, "pairs"]) -> Float[Array, "pairs few"]:
        """The few functions of s (1/Å)."""
        intervals = self.table.shape[0]
        place = inverse * (intervals * NEAREST_ANGSTROM)
        row = jnp.clip(jnp.floor(jax.lax.stop_gradient(place)), 0, intervals - 1)
        # through memory: else XLA computes the index anew for each number of a row
        index = jnp.zeros(row.shape, jnp.int32).at[jnp.arange(row.size)].set(row.astype(jnp.int32))
        t = jnp.where(place <= intervals, place - row, jnp.nan)
        return _quintic(self.table[index], t)


def _powers(
    found: Float[Array, "pairs _"], t: Float[Array, "pairs"]
) -> tuple[list[Float[Array, "pairs few"]], Float[Array, "pairs 1"]]:
    return jnp.split(found, 6, axis=1), t[:, None]


@jax.custom_jvp
def _quintic(found: Float[Array, "pairs _"], t: Float[Array, "pairs"]) -> Float[Array, "pairs few"]:
    """Polynomials in t."""
    (a, b, c, d, e, f), x = _powers(found, t)
    return a + x * (b + x * (c + x * (d + x * (e + x * f))))


@_quintic.defjvp
def _quintic_slope(values: tuple[Array, Array], slopes: tuple[Array, Array]) -> tuple[Array, Array]:
    found, t = values
    (_, b, c, d, e, f), x = _powers(found, t)
    spread = jnp.ones((1, b.shape[1]), t.dtype)  # its transpose is a product: faster than a sum
    along = jnp.matmul(slopes[1][:, None], spread, precision="highest")
    along = (b + x * (2 * c + x * (3 * d + x * (4 * e + x * 5 * f)))) * along
    return _quintic(found, t), _quintic(slopes[0], t) + along


def compressed(module: DeepPotModule) -> CompressedDeepPot:
    """`module` with tables; works on the host, in float64.

    Raises:
        BadInput: not even the finest table follows the networks.
    """
    dtype = np.dtype(module.scale.dtype)
    tolerance = TOLERANCE[str(dtype)]
    with jax.enable_x64(True):
        double = jax.tree.map(
            lambda x: jnp.asarray(np.asarray(x), jnp.float64) if eqx.is_inexact_array(x) else x,
            module,
        )
        networks, intervals = _networks(double), COARSEST
        while True:
            knots = np.linspace(0, 1 / NEAREST_ANGSTROM, intervals + 1)
            width = knots[1]
            values, slopes, curves = networks(knots)
            _, sizes, right = np.linalg.svd(values, full_matrices=False)
            rank = max(1, int(np.sum(sizes > tolerance * sizes[0])))
            few = [part @ right[:rank].T for part in (values, slopes, curves)]
            table = _coefficients(few[0], few[1] * width, few[2] * width * width)
            middle = np.einsum("ikf,k->if", table, 0.5 ** np.arange(6))
            exact = networks(knots[:-1] + 0.5 * width)[0]
            worst = np.abs(middle @ right[:rank] - exact).max() / np.abs(exact).max()
            if worst < 20 * tolerance:
                break
            intervals *= 2
            if intervals > FINEST:
                raise BadInput(
                    f"The embedding networks vary too fast for a table of {FINEST} intervals: its "
                    f"largest relative error would be {worst:.1e}. Keep the original."
                )
    return _assembled(module, table, few[0][0], right[:rank], dtype)


def _networks(module: DeepPotModule) -> Callable[[np.ndarray], tuple[np.ndarray, ...]]:
    """A function of s (1/Å): value, slope and curvature of all networks, side by side."""
    count = len(module.species)
    environment = module.environment

    def one(s: Array) -> Array:
        standard = (s - environment.mean) / environment.spread[:, 0]
        every = jnp.repeat(standard, count)[:, None]
        return module.embed(every, jnp.eye(count * count, dtype=s.dtype)).reshape(-1)

    def slope(s: Array) -> Array:
        return jax.jvp(one, (s,), (jnp.ones_like(s),))[1]

    def all_three(s: Array) -> tuple[Array, Array, Array]:
        first, curve = jax.jvp(slope, (s,), (jnp.ones_like(s),))
        return one(s), first, curve

    some = jax.jit(jax.vmap(all_three))  # compiled once: always for as many points

    def every(inverse: np.ndarray) -> tuple[np.ndarray, ...]:
        padded = np.pad(inverse, (0, -len(inverse) % COARSEST), mode="edge")
        parts = [some(jnp.asarray(part)) for part in padded.reshape(-1, COARSEST)]
        return tuple(np.concatenate(kind)[: len(inverse)] for kind in zip(*parts))

    return every


def _coefficients(
    values: Float[np.ndarray, "knots few"],
    slopes: Float[np.ndarray, "knots few"],
    curves: Float[np.ndarray, "knots few"],
) -> Float[np.ndarray, "intervals 6 few"]:
    """Powers of t in [0, 1] from value, slope and curvature at both ends of each interval."""
    y, dy, ddy = values[:-1], slopes[:-1], curves[:-1]
    step = values[1:] - y - dy - 0.5 * ddy
    bend = slopes[1:] - dy - ddy
    last = curves[1:] - ddy
    parts = (
        y,
        dy,
        0.5 * ddy,
        10 * step - 4 * bend + 0.5 * last,
        -15 * step + 7 * bend - last,
        6 * step - 3 * bend + 0.5 * last,
    )
    return np.stack(parts, axis=1)


def _assembled(
    module: DeepPotModule,
    table: Float[np.ndarray, "intervals 6 few"],
    empty: Float[np.ndarray, "few"],
    right: Float[np.ndarray, "few functions"],
    dtype: np.dtype,
) -> CompressedDeepPot:
    """The module; `right` makes embedding widths of the few functions."""
    count, width = len(module.species), module.embedding[-1].bias.shape[1]
    few, slots = right.shape[0], sum(module.environment.slots)
    # (centre, neighbour × few, width)
    expand = right.reshape(few, count, count, width).transpose(1, 2, 0, 3)
    expand = expand.reshape(count, count * few, width) / slots
    old = module.fitting[0]
    inputs, outputs = old.weight.shape[1:]
    weight = np.asarray(old.weight, float) * (inputs + outputs) ** -0.5
    weight = weight.reshape(count, width, module.axis, outputs)
    folded = np.einsum("crm,cmah->crah", expand, weight).reshape(count, -1, outputs)
    folded = folded * (folded.shape[1] + outputs) ** 0.5
    return CompressedDeepPot(
        environment=module.environment,
        table=jnp.asarray(table.reshape(table.shape[0], -1), dtype),
        empty=jnp.asarray(empty, dtype),
        narrow=jnp.asarray(expand[:, :, : module.axis], dtype),
        first=Layer(jnp.asarray(folded, dtype), old.bias, None),
        fitting=module.fitting[1:],
        scale=module.scale,
        species=module.species,
        cutoff=module.cutoff,
        continuity=module.continuity,
        needs_triplets=False,
    )


@dataclass(frozen=True)
class DeepPotCompressed(AbstractModel):
    """What a file of a compressed DeepPot-SE keeps beside its numbers; made by `karat compress`.

    Attributes: see `DeepPot`.
    """

    card: ClassVar[Card | None] = Card(
        paper="Lu et al., J. Chem. Theory Comput. 18, 5559 (2022)",
        symmetry="invariant",
        reach="cut-off",
        cost="100 µs",
        tested="tests/potentials/native/test_deeppot_compressed.py, against the networks",
    )

    cutoff_angstrom: float
    onset_angstrom: float
    axis: int
    fitting: tuple[int, ...]
    slots: tuple[int, ...]

    def frame(
        self, species: tuple[int, ...], dtype: str, shapes: Mapping[str, tuple[int, ...]]
    ) -> CompressedDeepPot:
        table, count = shapes.get("table", ()), len(species)
        if len(table) != 2 or table[1] % 6 or not 0 < table[0] <= FINEST:
            raise BadInput(f"deeppot_compressed: the table has shape {list(table)}.")
        if len(self.slots) != count or not all(n > 0 for n in self.slots):
            raise BadInput(f"deeppot_compressed.slots {list(self.slots)}: one for each element.")
        if not 0 < self.onset_angstrom < self.cutoff_angstrom <= 20:
            raise BadInput("deeppot_compressed: onset and cut-off do not fit together.")
        rows = count * (table[1] // 6)

        def build(make: ArrayMaker) -> CompressedDeepPot:
            widths = (*self.fitting, 1)
            layers = []
            for place, (a, b) in enumerate(pairwise(widths)):
                skips = b in (a, 2 * a) and place + 2 < len(widths)
                step = make(count, b) if skips else None
                layers.append(Layer(make(count, a, b), make(count, b), step))
            first = Layer(make(count, rows * self.axis, widths[0]), make(count, widths[0]), None)
            return CompressedDeepPot(
                environment=Environment(
                    make(count),
                    make(count, 2),
                    float(self.onset_angstrom),
                    float(self.cutoff_angstrom),
                    tuple(self.slots),
                    species,
                ),
                table=make(*table),
                empty=make(table[1] // 6),
                narrow=make(count, rows, self.axis),
                first=first,
                fitting=tuple(layers),
                scale=make(),
                species=species,
                cutoff=float(self.cutoff_angstrom),
                continuity=2,
                needs_triplets=False,
            )

        return in_shape(build, dtype)

    def inspect(self, module: AbstractNativePotential, dtype: str) -> None:
        for leaf in jax.tree.leaves(eqx.filter(module, eqx.is_inexact_array)):
            if not np.all(np.isfinite(np.asarray(leaf))):
                raise BadInput("deeppot_compressed: numbers that are not finite.")

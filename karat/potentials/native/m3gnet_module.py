"""The pure function of M3GNet: many-body terms in edges, graph convolutions, gated output.

The sum over pairs of neighbours of one centre is taken as moments: by the addition theorem
Y_l0(θ_jik) = Σ_m Y_lm(r̂_ij) Y_lm(r̂_ik) / √(4π(2l+1)) for harmonics of mean square 1, so that the
sum over k runs once for each centre, and the term k = j is taken out again.

Checked: tests/potentials/native/test_m3gnet.py, and against matgl's own numbers in
tests/peers/test_matgl.py.
"""

import functools
import math

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from karat.potentials.analytic.pairwise import species_index
from karat.potentials.batch import Batch
from karat.potentials.blocks.harmonics import pair_harmonics
from karat.potentials.blocks.joined import joined
from karat.potentials.blocks.layers import Dense, network
from karat.potentials.blocks.messages import sum_messages
from karat.potentials.blocks.perceptron import linear
from karat.potentials.blocks.radial import cutoff_function
from karat.potentials.blocks.spherical_bessel import smooth_bessel, spherical_bessel
from karat.potentials.native_protocol import AbstractNativePotential, Outputs

Atoms = Float[Array, "atoms channels"]
Edges = Float[Array, "pairs channels"]


class Angles(eqx.Module):
    """What three-body terms need of the pairs; columns by l, then m, then n.

    Attributes:
        harmonics: Y_lm of the direction, repeated for each n.
        functions: the same times the radial function l, n and the cut-off function.
        envelope: the cut-off function.
    """

    harmonics: Float[Array, "pairs columns"]
    functions: Float[Array, "pairs columns"]
    envelope: Float[Array, "pairs"]


class ThreeBody(eqx.Module):
    """Edges plus gated(ẽ), ẽ_ij = f_c(r_ij) Σ_k≠j f_c(r_ik) j_l(z_ln r_ik/r_c) Y_l0(θ_jik) σ(W v_k)
    with neighbours j and k of i; eqs. 2 and 3 of the paper.

    Attributes:
        atoms: gives a factor for each l and n.
        value, gate: from ẽ to edge features.
    """

    atoms: Dense
    value: Float[Array, "functions channels"]
    gate: Float[Array, "functions channels"]

    def __call__(self, batch: Batch, angles: Angles, atoms: Atoms, edges: Edges) -> Edges:
        """Edges after the update."""
        terms = self.terms(batch, angles, atoms)
        _, gather = expansion(self.value.shape[0], terms.shape[1])
        # the sum over m and the layer in one product: thin products are slow
        size = jnp.asarray(gather * self.value.shape[0] ** -0.5, terms.dtype)
        value, gate = (
            jnp.matmul(terms, jnp.matmul(size, weight, precision="highest"), precision="highest")
            for weight in (self.value, self.gate)
        )
        return edges + jax.nn.silu(value) * jax.nn.sigmoid(gate)

    def terms(self, batch: Batch, angles: Angles, atoms: Atoms) -> Float[Array, "pairs columns"]:
        """What, summed over m and divided by √(4π(2l+1)), is ẽ."""
        spread = self._spread(angles.harmonics.shape[1])
        matrix, bias = (
            jnp.matmul(one, spread, precision="highest")
            for one in (self.atoms.weight, self.atoms.bias[None, :])
        )
        factors = linear(atoms, matrix)
        factors = jax.nn.sigmoid(factors + jnp.broadcast_to(bias, factors.shape))
        sent = angles.functions * factors[batch.neighbours]
        others = batch.spread(sum_messages(batch, sent)) - sent
        return others * angles.harmonics * angles.envelope[:, None]

    def _spread(self, columns: int) -> Float[Array, "functions columns"]:
        spread, _ = expansion(self.value.shape[0], columns)
        return jnp.asarray(spread, self.value.dtype)


class GatedEdges(eqx.Module):
    """φ(v_i ⊕ v_j ⊕ e_ij) ∘ W h(r_ij), φ(x) = value(x) ∘ gate(x); eqs. 4 and 5 of the paper.

    Attributes:
        value: layers with SiLU after each.
        gate: the same with a sigmoid after the last.
        weight: from radial functions, which vanish at the cut-off, to channels.
    """

    value: tuple[Dense, ...]
    gate: tuple[Dense, ...]
    weight: Float[Array, "radial channels"]

    def __call__(
        self, batch: Batch, atoms: Atoms, edges: Edges, radial: Float[Array, "pairs radial"]
    ) -> Edges:
        """Zero beyond the cut-off."""
        value = jax.nn.silu(_network(batch, atoms, edges, self.value))
        gate = jax.nn.sigmoid(_network(batch, atoms, edges, self.gate))
        return value * gate * linear(radial, self.weight)


class M3gnetModule(AbstractNativePotential):
    """Energies of atoms: `scale` · output(features).

    Attributes:
        embedding: first features of each element.
        edge_embedding: radial functions → first features of edges, before SiLU.
        three_body, edge_updates, atom_updates: by block.
        output_value, output_gate: from features to the energy and its factor.
        scale: eV.
        radial: number of radial functions of edges, and of each degree of angles.
        degrees: of angles, 0 … degrees − 1.
        three_body_cutoff: Å.
    """

    embedding: Float[Array, "species channels"]
    edge_embedding: Float[Array, "radial channels"]
    three_body: tuple[ThreeBody, ...]
    edge_updates: tuple[GatedEdges, ...]
    atom_updates: tuple[GatedEdges, ...]
    output_value: tuple[Dense, ...]
    output_gate: tuple[Dense, ...]
    scale: Float[Array, ""]
    radial: int = eqx.field(static=True)
    degrees: int = eqx.field(static=True)
    three_body_cutoff: float = eqx.field(static=True)
    species: tuple[int, ...] = eqx.field(static=True)
    cutoff: float = eqx.field(static=True)
    continuity: int = eqx.field(static=True)
    needs_triplets: bool = eqx.field(static=True)

    def evaluate(self, batch: Batch) -> Outputs:
        distances = jnp.sqrt(jnp.sum(batch.vectors * batch.vectors, axis=1))
        angles = self.angles(batch, distances)
        radial = smooth_bessel(distances, self.radial, self.cutoff)
        atoms = self.embedding[species_index(batch.numbers, self.species)]
        edges = jax.nn.silu(linear(radial, self.edge_embedding))
        for many, edge, atom in zip(self.three_body, self.edge_updates, self.atom_updates):
            edges = many(batch, angles, atoms, edges)
            edges = edges + edge(batch, atoms, edges, radial)
            atoms = atoms + sum_messages(batch, atom(batch, atoms, edges, radial))
        gate = jax.nn.sigmoid(network(atoms, self.output_gate, "silu"))
        energies = self.scale * (network(atoms, self.output_value, "silu") * gate)[:, 0]
        return Outputs(atom_energies=jnp.where(batch.atom_mask, energies, 0.0))

    def angles(self, batch: Batch, distances: Float[Array, "pairs"]) -> Angles:
        """What all three-body terms share."""
        dtype, highest, reach = distances.dtype, self.degrees - 1, self.three_body_cutoff
        envelope = cutoff_function(distances, reach, "polynomial")
        radial = spherical_bessel(distances, highest, self.radial, self.cutoff, reach)
        spread, _ = expansion(radial.shape[1], self.radial * self.degrees**2)
        radial = jnp.matmul(
            radial * envelope[:, None], jnp.asarray(spread, dtype), precision="highest"
        )
        repeat = jnp.asarray(np.repeat(np.eye(self.degrees**2), self.radial, axis=1), dtype)
        harmonics = jax.lax.dot_general(
            pair_harmonics(batch.vectors, distances, highest),
            repeat,
            (((0,), (0,)), ((), ())),
            precision="highest",
        )
        return Angles(harmonics, harmonics * radial, envelope)


@functools.cache
def expansion(
    functions: int, columns: int
) -> tuple[Float[np.ndarray, "functions columns"], Float[np.ndarray, "columns functions"]]:
    """From functions (l, n) to columns (l, m, n); and back, summed over m and divided by
    √(4π(2l+1)). Their numbers are degrees · radial and degrees² · radial."""
    degrees = columns // functions
    radial = functions // degrees
    spread = np.zeros((degrees, radial, degrees**2, radial))
    gather = np.zeros((degrees**2, radial, degrees, radial))
    for degree in range(degrees):
        orders = slice(degree**2, (degree + 1) ** 2)
        spread[degree, :, orders] = np.eye(radial)[:, None]
        gather[orders, :, degree] = np.eye(radial) / math.sqrt(4 * math.pi * (2 * degree + 1))
    return spread.reshape(functions, columns), gather.reshape(columns, functions)


def _network(batch: Batch, atoms: Atoms, edges: Edges, layers: tuple[Dense, ...]) -> Edges:
    """The network on v_i ⊕ v_j ⊕ e_ij without the last activation."""
    hidden = joined(batch, layers[0], atoms, edges)
    for layer in layers[1:]:
        hidden = layer(jax.nn.silu(hidden))
    return hidden

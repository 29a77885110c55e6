"""Energies of a converted mace-torch model in plain NumPy, pair by pair: slow and independent.

Follows the formulas of karat/potentials/external/mace_torch/README.md; harmonics come from SciPy,
coupling coefficients from Gauss quadrature.
"""

import functools
import json
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file
from scipy.special import eval_chebyt, sph_harm_y


def harmonics(degree: int, units: np.ndarray) -> np.ndarray:
    """(n, 2l+1) real harmonics with mean square 1 on the sphere, m = -l…l, polar axis y."""
    x, y, z = units.T
    polar, azimuth = np.arccos(np.clip(y, -1, 1)), np.arctan2(x, z)
    columns = []
    for m in range(-degree, degree + 1):
        value = sph_harm_y(degree, abs(m), polar, azimuth) * (-1.0) ** m * np.sqrt(4 * np.pi)
        part = value.imag if m < 0 else value.real
        columns.append(part * (1 if m == 0 else np.sqrt(2)))
    return np.stack(columns, axis=1)


@functools.cache
def coupling(l1: int, l2: int, l3: int) -> np.ndarray:
    """Integral of three harmonics over the sphere, scaled to Frobenius norm 1."""
    nodes, weights = np.polynomial.legendre.leggauss(12)
    azimuths = np.arange(24) * np.pi / 12
    cosine, phi = (a.ravel() for a in np.meshgrid(nodes, azimuths, indexing="ij"))
    sine = np.sqrt(1 - cosine**2)
    units = np.stack([sine * np.sin(phi), cosine, sine * np.cos(phi)], axis=1)
    parts = [harmonics(degree, units) for degree in (l1, l2, l3)]
    integral = np.einsum("q,qa,qb,qc->abc", np.repeat(weights, 24), *parts)
    return integral / np.linalg.norm(integral)


def silu(x: np.ndarray) -> np.ndarray:
    return x / (1 + np.exp(-x))


ACTIVATIONS = {"silu": silu, "tanh": np.tanh}


def envelope(x: np.ndarray, p: int) -> np.ndarray:
    """Polynomial cut-off function of r / r_cut."""
    inner = 1 - (p + 1) * (p + 2) / 2 * x**p + p * (p + 2) * x ** (p + 1)
    return np.where(x < 1, inner - p * (p + 1) / 2 * x ** (p + 2), 0.0)


class PlainModel:
    """A converted model."""

    def __init__(self, folder: Path) -> None:
        self.settings = json.loads((folder / "model.json").read_text())
        self.arrays = load_file(folder / "weights.safetensors")

    def matrices(self, prefix: str) -> dict[int, np.ndarray]:
        return {
            int(name.removeprefix(prefix)): array
            for name, array in self.arrays.items()
            if name.startswith(prefix) and name.removeprefix(prefix).isdigit()
        }

    def atom_energies(
        self, numbers: np.ndarray, positions: np.ndarray, cell: np.ndarray, head: int
    ) -> np.ndarray:
        """eV; `cell` is zero for molecules."""
        s, a = self.settings, self.arrays
        z = np.array([s["atomic_numbers"].index(number) for number in numbers])
        receivers, senders, vectors = pairs(positions, cell, s["cutoff"])
        r = np.linalg.norm(vectors, axis=1)
        sphere = {
            degree: harmonics(degree, vectors / r[:, None])
            for degree in range(s["largest_degree"] + 1)
        }
        cut = envelope(r / s["cutoff"], s["radial"]["cutoff_power"])[:, None]
        basis = self.basis(r, numbers[receivers], numbers[senders])
        factor = cut if s["radial"]["cutoff_on_network"] else 1.0
        basis = basis if s["radial"]["cutoff_on_network"] else basis * cut
        interaction = self.repulsion(r, numbers, receivers, senders)
        features = {0: a["embedding"][z][:, :, None]}
        layers = []
        for index, layer in enumerate(s["layers"]):
            edges = (receivers, senders, sphere, basis, factor)
            features = self.layer(index, layer, features, z, edges)
            layers.append(features[0][:, :, 0])
        for index, readout in enumerate(s["readouts"]):
            x = layers[readout["layer"]]
            if readout["kind"] == "perceptron":
                x = x @ a[f"readouts.{index}.hidden"]
                x = readout["factor"] * ACTIVATIONS[readout["activation"]](x)
                width = x.shape[1] // len(s["heads"])
                x = x * (np.arange(x.shape[1]) // width == head)
            interaction = interaction + (x @ a[f"readouts.{index}.linear"])[:, head]
        scaled = a["scale"][head] * interaction + a["shift"][head]
        return a["atomic_energies"][head][z] + scaled

    def basis(self, r: np.ndarray, receivers: np.ndarray, senders: np.ndarray) -> np.ndarray:
        s, a = self.settings["radial"], self.arrays
        if s["transform"] == "agnesi":
            p = s["transform_parameters"]
            x = r / (0.5 * (a["covalent_radii"][receivers] + a["covalent_radii"][senders]))
            r = 1 / (1 + p["a"] * x ** p["q"] / (1 + x ** (p["q"] - p["p"])))
        elif s["transform"] == "soft":
            near = 0.75 * (a["covalent_radii"][receivers] + a["covalent_radii"][senders])
            far = near * 16 / 9
            steep = s["transform_parameters"]["alpha"] / (far - near)
            r = near + (r - near) * 0.5 * (1 + np.tanh(steep * (r - (near + far) / 2)))
        r = r[:, None]
        if s["basis"] == "bessel":
            return s["prefactor"] * np.sin(a["radial.frequencies"] * r) / r
        if s["basis"] == "gaussian":
            return np.exp(s["coefficient"] * (r - a["radial.centres"]) ** 2)
        return eval_chebyt(np.arange(1, s["count"] + 1), r)

    def repulsion(
        self, r: np.ndarray, numbers: np.ndarray, receivers: np.ndarray, senders: np.ndarray
    ) -> np.ndarray:
        s, energies = self.settings["repulsion"], np.zeros(len(numbers))
        if s is not None:
            one, two = numbers[receivers], numbers[senders]
            radii, power = self.arrays["covalent_radii"], s["screening_exponent"]
            screening = s["screening_prefactor"] * 0.529 / (one**power + two**power)
            exponents = np.array([3.2, 0.9423, 0.4028, 0.2016])
            phi = np.exp(-exponents * (r / screening)[:, None]) @ np.array(s["coefficients"])
            cut = envelope(r / (radii[one] + radii[two]), s["cutoff_power"])
            np.add.at(energies, receivers, 0.5 * 14.3996 * one * two / r * phi * cut)
        return energies

    def layer(self, index: int, s: dict, features: dict, z: np.ndarray, edges: tuple) -> dict:
        receivers, senders, sphere, basis, factor = edges
        where, count = f"layers.{index}", len(z)
        skips = self.matrices(f"{where}.skip.")
        up = {
            degree: np.einsum("nkm,kj->njm", features[degree], matrix)
            for degree, matrix in self.matrices(f"{where}.linear_up.").items()
        }
        radial = self.matrices(f"{where}.radial.")
        x = basis
        for number in range(len(radial) - 1):
            x = s["radial_factor"] * ACTIVATIONS[s["radial_activation"]](x @ radial[number])
        x = (x @ radial[len(radial) - 1] * factor).reshape(len(basis), len(s["paths"]), -1)
        messages: dict[int, list] = {}
        for path, (l1, l2, l3, weight) in enumerate(s["paths"]):
            product = np.einsum(
                "abc,eka,eb,ek->ekc", coupling(l1, l2, l3), up[l1][senders], sphere[l2], x[:, path]
            )
            summed = np.zeros((count, *product.shape[1:]))
            np.add.at(summed, receivers, weight * product)
            messages.setdefault(l3, []).append(summed)
        atoms = {
            degree: sum(np.einsum("nkm,kj->njm", m, w) for m, w in zip(messages[degree], matrices))
            for degree, matrices in self.matrices(f"{where}.linear.").items()
        }
        divisor = np.full(count, s["average_neighbours"])
        if s["density"]:
            density = np.tanh((basis @ self.arrays[f"{where}.density"]) ** 2) * factor
            divisor = np.ones(count)
            np.add.at(divisor, receivers, density[:, 0])
        atoms = {degree: value / divisor[:, None, None] for degree, value in atoms.items()}
        if not s["residual"]:
            atoms = {
                degree: np.einsum("nkm,nkj->njm", value, skips[degree][z])
                for degree, value in atoms.items()
            }
        return self.product(where, s, atoms, features, skips, z)

    def product(
        self, where: str, s: dict, atoms: dict, features: dict, skips: dict, z: np.ndarray
    ) -> dict:
        stacked = np.concatenate([atoms[degree] for degree in sorted(atoms)], axis=2)
        element = z if s["element_dependent_product"] else np.zeros_like(z)
        found = {}
        for degree in s["output_degrees"]:
            total = np.zeros((*stacked.shape[:2], 2 * degree + 1))
            for order in s["contraction_orders"][str(degree)]:
                prefix = f"{where}.contraction.{degree}.{order}."
                part = {
                    name: self.arrays[prefix + name]
                    for name in ("monomials", "components", "paths", "values", "weights")
                }
                terms = stacked[:, :, part["monomials"]].prod(axis=-1) * part["values"]
                terms = terms * part["weights"][element][:, part["paths"]].transpose(0, 2, 1)
                np.add.at(total, (slice(None), slice(None), part["components"]), terms)
            found[degree] = np.einsum(
                "nkm,kj->njm", total, self.arrays[f"{where}.product.{degree}"]
            )
            if s["adds_skip"] and degree in skips:
                found[degree] += np.einsum("nkm,nkj->njm", features[degree], skips[degree][z])
        return found


def pairs(positions: np.ndarray, cell: np.ndarray, cutoff: float) -> tuple[np.ndarray, ...]:
    """All (receiver, sender, r_receiver - r_sender) closer than `cutoff`, by brute force."""
    images = np.zeros((1, 3))
    if np.any(cell):
        steps = np.array(np.meshgrid(*[np.arange(-3, 4)] * 3)).reshape(3, -1).T
        images = steps @ cell
    difference = positions[:, None, None] - positions[None, :, None] + images[None, None]
    length = np.linalg.norm(difference, axis=-1)
    receivers, senders, image = np.nonzero((length < cutoff) & (length > 1e-6))
    return receivers, senders, difference[receivers, senders, image]

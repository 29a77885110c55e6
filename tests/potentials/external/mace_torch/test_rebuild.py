"""karat's own `mace` from converted models: energies, forces and stress of mace-torch."""

import dataclasses

import jax.numpy as jnp
import numpy as np
import pytest
from samples import FOLDER, NAMES, samples

from karat.core.errors import BadInput, UnknownKey
from karat.potentials import karat_file
from karat.potentials.external.mace_torch import nodes
from karat.potentials.external.mace_torch.conversion import read
from karat.potentials.external.mace_torch.rebuild import coupling_ratio, rebuild
from karat.potentials.model import named_arrays, with_arrays
from karat.potentials.native_protocol import derive_compiled

LACKING = {
    "unusual": r"radial functions 'gaussian'.*layers with different correlation.*activation",
    "one_layer": r"'chebyshev'.*an envelope on the radial network.*readouts linear",
}
SLOW = ("mp_small", "mp_medium", "mpa", "off_deep", "two_heads")  # each takes seconds to compile


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=pytest.mark.slow if name in SLOW else ())
        for name in NAMES
        if name not in LACKING
    ],
)
def test_rebuilt_model_equals_mace_torch(name):
    model = read(FOLDER / name)
    # couplings in a float32 file hold rounding of 1e-8; radial functions are interpolated to 1e-11
    tolerance = 1e-7 if model.settings["precision"] == "float32" else 1e-8
    for head in model.settings["heads"]:
        potential = rebuild(model, head).potential
        chosen = [sample for sample in samples(name) if sample.head == head]
        assert [sample.structure.periodic.all() for sample in chosen] == [False, False, True]
        structures = [sample.structure for sample in chosen]
        derived = derive_compiled(potential.module, potential.batch(structures))
        start = 0
        for index, sample in enumerate(chosen):
            want, own = sample.labels, slice(start, start + len(sample.structure))
            start = own.stop
            interaction = want.energy - potential.offset(sample.structure)
            assert abs(interaction) > 0.05
            assert float(derived.energies[index]) == pytest.approx(interaction, rel=tolerance)
            scale = tolerance * np.abs(want.forces).max()
            np.testing.assert_allclose(derived.forces[own], want.forces, rtol=0, atol=scale)
            if want.stress is not None:
                scale = tolerance * np.abs(want.stress).max()
                np.testing.assert_allclose(derived.stress[index], want.stress, rtol=0, atol=scale)


@pytest.mark.parametrize("name", sorted(LACKING))
def test_what_karat_lacks_is_named(name):
    with pytest.raises(BadInput, match=LACKING[name]):
        rebuild(read(FOLDER / name))


@pytest.mark.parametrize(
    ("part", "key", "value"),
    [
        ("repulsion", "cutoff_power", 6),
        ("repulsion", "coefficients", [0.18, 0.5099, 0.2802, 0.02817]),
        ("radial", "transform_parameters", {"a": 1.0805, "q": 0.92, "p": 4.5791}),
    ],
)
def test_other_constants_of_pairs_are_refused(part, key, value):
    model = read(FOLDER / "mpa")
    changed = model.settings | {part: model.settings[part] | {key: value}}
    with pytest.raises(BadInput, match="has constants of pairs of its own"):
        rebuild(dataclasses.replace(model, settings=changed))


def test_nodes_are_enough_and_no_more_than_that():
    found = rebuild(read(FOLDER / "mp_medium"))
    module, distances = found.potential.module, jnp.linspace(0.4, 3.99, 300)
    exact = np.concatenate(module.networks(distances, distances), axis=1)

    def difference(nodes: int) -> float:
        architecture = dataclasses.replace(found.architecture, radial_nodes=nodes)
        other = with_arrays(architecture.skeleton(module.species, "float64"), named_arrays(module))
        table = np.concatenate(other.radial(distances), axis=1)
        return float(np.abs(table - exact).max() / np.abs(exact).max())

    chosen = found.architecture.radial_nodes
    before = nodes.NODE_COUNTS[nodes.NODE_COUNTS.index(chosen) - 1]
    assert difference(chosen) < nodes.INTERPOLATION_TOLERANCE < difference(before)


def test_networks_that_vary_too_fast_are_refused(monkeypatch):
    monkeypatch.setattr(nodes, "NODE_COUNTS", (8, 16))
    with pytest.raises(BadInput, match=r"vary too fast for karat: read from 16 nodes"):
        rebuild(read(FOLDER / "plain"))


def test_head_is_chosen_by_name():
    model = read(FOLDER / "two_heads")
    first, second = (rebuild(model, head) for head in (None, "r2scan"))
    assert (first.head, second.head) == ("pbe", "r2scan")
    assert first.potential.reference_energies != second.potential.reference_energies
    assert float(second.potential.module.scale) == pytest.approx(1.3)
    with pytest.raises(UnknownKey, match="'r2scam'; did you mean 'r2scan'"):
        rebuild(model, "r2scam")


def test_order_of_elements_does_not_matter():
    """karat orders elements by number; a file may have them in any order."""
    model = read(FOLDER / "plain")
    order = [2, 0, 1]
    settings = model.settings | {
        "atomic_numbers": [model.settings["atomic_numbers"][i] for i in order]
    }
    arrays = {
        key: array[order]
        if key == "embedding" or ".skip." in key or key.endswith(".weights")
        else array[:, order]
        if key == "atomic_energies"
        else array
        for key, array in model.arrays.items()
    }
    one = rebuild(model).potential
    two = rebuild(dataclasses.replace(model, settings=settings, arrays=arrays)).potential
    assert one.reference_energies == two.reference_energies
    import jax

    jax.tree.map(np.testing.assert_array_equal, one.module, two.module)


def test_couplings_that_are_not_equivariant_are_refused():
    model = read(FOLDER / "plain")
    key = "layers.0.contraction.1.3.values"
    values = model.arrays[key].copy()
    values[0] *= 1.01
    damaged = dataclasses.replace(model, arrays=model.arrays | {key: values})
    with pytest.raises(BadInput, match=r"layers.0: products of 3 features of degree 1"):
        rebuild(damaged)


def test_array_of_another_shape_is_named():
    model = read(FOLDER / "plain")
    arrays = model.arrays | {"layers.1.product.0": np.zeros((3, 3))}
    with pytest.raises(BadInput, match=r"\(3, 3\) for layers.1.out.0, needs \(4, 4\)"):
        rebuild(dataclasses.replace(model, arrays=arrays))


def test_ratio_of_couplings_has_its_sign():
    # Clebsch–Gordan ⟨20 20|20⟩ = -√(2/7) is negative where the integral of three harmonics is
    # positive; ⟨10 10|20⟩ is positive
    assert coupling_ratio(2, 2, 2) == pytest.approx(-1 / np.sqrt(5))
    assert coupling_ratio(1, 1, 2) == pytest.approx(1 / np.sqrt(5))
    assert coupling_ratio(0, 3, 3) == pytest.approx(1 / np.sqrt(7))


def test_imported_model_survives_a_karat_file(tmp_path):
    found, chosen = rebuild(read(FOLDER / "single")), samples("single")
    path = tmp_path / "imported.karat"
    karat_file.save(path, found.architecture, found.potential)
    again = karat_file.load(path)
    assert again.reference_energies == found.potential.reference_energies
    structures = [sample.structure for sample in chosen]
    one, two = (
        derive_compiled(potential.module, potential.batch(structures))
        for potential in (again, found.potential)
    )
    np.testing.assert_array_equal(one.energies, two.energies)
    np.testing.assert_array_equal(one.forces, two.forces)

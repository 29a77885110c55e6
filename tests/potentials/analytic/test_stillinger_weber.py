import dataclasses

import numpy as np
import pytest
from ase.build import bulk

from karat.core.errors import BadInput
from karat.potentials.analytic.stillinger_weber import (
    PRESETS,
    StillingerWeber,
    StillingerWeberTerm,
)
from karat.potentials.batch import make_batch
from karat.potentials.native_protocol import derive_compiled
from karat.structures.structure import Structure

SILICON = StillingerWeber(preset="Si")

# GaN of Béré & Serra, Phil. Mag. 86, 2159 (2006), as in LAMMPS' GaN.sw
_GA = (1.2, 2.100, 1.6, 32.5, 1.2, -0.333333333333, 7.917, 0.72, 4.0, 0.0)
_N = (1.2, 1.300, 1.8, 32.5, 1.2, -0.333333333333, 7.917, 0.72, 4.0, 0.0)
_GAN = (2.17, 1.695, 1.8, 32.5, 1.2, -0.333333333333, 7.917, 0.72, 4.0, 0.0)
_MIXED = (1.6136914, 0.0, 0.0, 32.5, 0.0, -0.333333333333, 0.0, 0.0, 0.0, 0.0)
GAN = {
    "Ga-Ga-Ga": StillingerWeberTerm(*_GA),
    "N-N-N": StillingerWeberTerm(*_N),
    "Ga-N-N": StillingerWeberTerm(*_GAN),
    "N-Ga-Ga": StillingerWeberTerm(*_GAN),
    "Ga-Ga-N": StillingerWeberTerm(*_MIXED),
    "N-Ga-N": StillingerWeberTerm(*_MIXED),
    "N-N-Ga": StillingerWeberTerm(*_MIXED),
    "Ga-N-Ga": StillingerWeberTerm(*_MIXED),
}


def test_cohesive_energy_of_silicon():
    """-4.3366 eV/atom = -2 ε at 5.431 Å, where lattice stress nearly vanishes."""
    crystal = Structure.from_ase(bulk("Si", "diamond", a=5.431))
    labels = SILICON.load().predict([crystal], ("forces", "stress"))[0]
    assert labels.energy / 2 == pytest.approx(-4.3366, abs=5e-5)
    np.testing.assert_allclose(labels.forces, 0, atol=1e-13)
    # 5.431 is rounded to 1e-4 Å; bulk modulus 101 GPa × 3 × 1e-4/5.4 ~ 4e-5 eV/Å³
    np.testing.assert_allclose(labels.stress, 0, atol=4e-5)


def test_elastic_constants_of_silicon():
    """C11 = 151.4, C12 = 76.4 GPa: Balamane, Halicioglu & Tiller, Phys. Rev. B 46, 2250 (1992)."""
    primitive = bulk("Si", "diamond", a=5.431)
    potential, stress = SILICON.load(), []
    for strain in (1e-4, -1e-4):
        atoms = primitive.copy()
        atoms.set_cell(atoms.cell @ np.diag([1 + strain, 1, 1]), scale_atoms=True)
        labels = potential.predict([Structure.from_ase(atoms)], ("stress",))[0]
        stress.append(np.diag(labels.stress))
    c = (stress[0] - stress[1]) / 2e-4 / 0.006241509074460763
    # published to 0.1 GPa
    assert c[0] == pytest.approx(151.4, abs=0.1)
    assert c[1] == pytest.approx(76.4, abs=0.1)


def test_agrees_with_matscipy(lammps_case):
    from matscipy.calculators.manybody import Manybody
    from matscipy.calculators.manybody.explicit_forms import (
        StillingerWeber as MatscipyStillingerWeber,
    )
    from matscipy.calculators.manybody.explicit_forms.stillinger_weber import (
        Stillinger_Weber_PRB_31_5262_Si,
    )

    structure, _ = lammps_case("sw_si")
    atoms = structure.to_ase()
    atoms.calc = Manybody(**MatscipyStillingerWeber(Stillinger_Weber_PRB_31_5262_Si))
    labels = SILICON.load().predict([structure], ("forces", "stress"))[0]
    # matscipy writes cos θ₀ with 12 digits
    assert labels.energy == pytest.approx(atoms.get_potential_energy(), abs=1e-10)
    np.testing.assert_allclose(labels.forces, atoms.get_forces(), atol=1e-10)
    np.testing.assert_allclose(labels.stress, atoms.get_stress(voigt=False), atol=1e-11)


@pytest.mark.parametrize(
    ("case", "component"), [("sw_si", SILICON), ("sw_gan", StillingerWeber(terms=GAN))]
)
def test_agrees_with_lammps(lammps_case, case, component):
    structure, expected = lammps_case(case)
    labels = component.load().predict([structure], ("forces", "stress"))[0]
    # Si.sw writes cos θ₀ with 12 digits
    assert labels.energy == pytest.approx(expected.energy, abs=1e-10)
    np.testing.assert_allclose(labels.forces, expected.forces, atol=1e-10)
    np.testing.assert_allclose(labels.stress, expected.stress, atol=1e-11)


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_nothing_overflows_at_the_cutoff(dtype):
    """A hair inside, at, and beyond a σ, all of them on the list: no energy, no force, no NaN."""
    potential = StillingerWeber(preset="Si", dtype=dtype).load()
    reach = potential.module.cutoff
    resolution = 1e-15 if dtype == "float64" else 1e-7
    positions = np.array([[0.0, 0, 0], [0, 2.35, 0], [reach, 0, 0]])
    structures = [Structure(numbers=np.full(2, 14), positions=positions[:2])]
    for factor in (1 - 4 * resolution, 1 - resolution, 1.0, 1 + resolution, 1 + 1e-4, 1.01):
        scaled = positions * np.array([factor, 1, 1])
        structures.append(Structure(numbers=np.full(3, 14), positions=scaled))
    longer = make_batch(structures, 1.1 * reach, potential.dtype, with_triplets=True)
    derived = derive_compiled(potential.module, longer)
    energies, forces = np.asarray(derived.energies), np.asarray(derived.forces)
    np.testing.assert_allclose(energies[1 : len(structures)], energies[0], rtol=1e-6)
    np.testing.assert_array_equal(forces[4 : 3 * len(structures) - 1 : 3], 0)
    assert np.isfinite(forces).all()


def test_order_of_neighbours_may_be_left_out_but_not_contradicted(lammps_case):
    fewer = {key: term for key, term in GAN.items() if key not in ("Ga-Ga-N", "N-Ga-N")}
    structure, _ = lammps_case("sw_gan")
    full, short = (StillingerWeber(terms=t).load().predict([structure])[0] for t in (GAN, fewer))
    assert full.energy == short.energy
    other = dataclasses.replace(GAN["N-Ga-N"], lambda3=1.0)
    with pytest.raises(BadInput, match="lambda3 of the N-N-Ga"):
        StillingerWeber(terms={**GAN, "N-Ga-N": other}).load()
    other = dataclasses.replace(GAN["N-Ga-Ga"], sigma_angstrom=1.7)
    with pytest.raises(BadInput, match="sigma_angstrom of the pair"):
        StillingerWeber(terms={**GAN, "N-Ga-Ga": other}).load()


def test_missing_triples_and_bad_keys_are_named():
    some = {key: GAN[key] for key in ("Ga-Ga-Ga", "N-N-N")}
    with pytest.raises(BadInput, match="'N-N-Ga' is missing"):
        StillingerWeber(terms=some).load()
    with pytest.raises(BadInput, match="'Si-Si' is not a triple"):
        StillingerWeber(terms={"Si-Si": PRESETS["Si"]["Si-Si-Si"]}).load()
    with pytest.raises(BadInput, match="either"):
        StillingerWeber()

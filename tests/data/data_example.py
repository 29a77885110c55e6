"""Records of every sort, for round trips."""

import numpy as np

from karat.data.dataset import Dataset, Record
from karat.structures.builders import from_smiles
from karat.structures.labels import Labels, LevelOfTheory, Uncertainty
from karat.structures.structure import Structure

LEVEL = LevelOfTheory("PBE", "def2-SVP", "D3(BJ)", "ORCA 5", {"grid": 'fine "5"\\6', "k": "2 2 2"})


def full_records(seed=0):
    """Molecules and crystals, with and without each label, odd names, awkward floats."""
    generator = np.random.default_rng(seed)

    def labels(atoms, **changes):
        values = {
            "energy": float(generator.normal() * 1e4),
            "forces": generator.normal(size=(atoms, 3)) * 10.0 ** generator.integers(-12, 4),
        }
        return Labels(**(values | changes))

    glycine = from_smiles("[NH3+]CC(=O)[O-]", seed=1)[0]
    radical = from_smiles("[CH3]", seed=1)[0]
    cell = generator.normal(size=(3, 3)) * 5
    crystal = Structure(
        np.array([14, 32, 8]), generator.normal(size=(3, 3)), cell, np.ones(3, bool), charge=-2
    )
    slab = crystal.replace(periodic=np.array([True, True, False]), charge=0)
    stress = generator.normal(size=(3, 3))
    stress = stress + stress.T
    tiny = np.nextafter(0.0, 1.0)
    return (
        Record(glycine, labels(10), "glycine:0", "300K", "run 1", 0),
        Record(glycine.replace(positions=glycine.positions / 3), labels(10), "T", "true", "007", 7),
        Record(radical, labels(4, charges=generator.normal(size=4)), "1e5", "nan", 'a "b" \\c', 3),
        Record(crystal, labels(3, stress=stress), "x=y", "", "", -1),
        Record(slab, Labels(energy=-0.0, dipole=generator.normal(size=3)), "F", "[1, 2]", "None"),
        Record(slab, Labels(forces=np.full((3, 3), tiny)), "ä Å", "_JSON", "{}", 2**40),
        Record(
            Structure(np.array([2]), np.array([[1 / 3, -0.0, 1e300]])),
            Labels(energy=1 / 3, forces=np.zeros((1, 3))),
            "last",
        ),
    )


def uncertain_records():
    """Model labels with every part of `Uncertainty`, and with an empty one."""
    molecule = from_smiles("O", seed=1)[0]
    generator = np.random.default_rng(4)
    whole = Uncertainty(
        energy=0.1,
        forces=generator.normal(size=(3, 3)),
        member_energies=generator.normal(size=5),
        member_forces=generator.normal(size=(5, 3, 3)),
        grade=generator.normal(size=3),
        structure_grade=1.5,
    )
    return (
        Record(molecule, Labels(energy=1.0, uncertainty=whole)),
        Record(molecule, Labels(energy=1.0, uncertainty=Uncertainty())),
        Record(molecule, Labels()),
    )


def full_dataset():
    return Dataset(full_records(), LEVEL)


def trajectories(lengths, stride=1, kinds=None):
    """Helium atoms, one group for each length, frames 0, stride, 2·stride …"""
    records = []
    for group, length in enumerate(lengths):
        for frame in range(length):
            structure = Structure(np.array([2]), np.array([[float(group), float(frame), 0.0]]))
            kind = "" if kinds is None else kinds[group]
            labels = Labels(energy=float(frame), forces=np.zeros((1, 3)))
            name = f"{group}/{frame}"
            records.append(Record(structure, labels, name, kind, f"run {group}", frame * stride))
    return Dataset(tuple(records), LevelOfTheory("PBE"))

"""Valid small files of every format that karat reads, as bytes: seeds of the fuzzer.

A folder is a mapping from relative path to bytes.
"""

import gzip
import io
import json
import sqlite3
import tempfile
from pathlib import Path

import ase
import ase.build
import ase.io
import h5py
import numpy as np
from ase.calculators.singlepoint import SinglePointCalculator
from data_example import full_records

from karat.data.entry import entry_of
from karat.data.writers import write_entries
from karat.structures.labels import LevelOfTheory

LEVEL = LevelOfTheory("PBE", "def2-SVP")


def seeds():
    """Format → (suffix, list of contents)."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        texts = _texts(folder)
        return {
            "xyz": (".xyz", texts),
            "xyz_gz": (".xyz.gz", [gzip.compress(text, 1, mtime=0) for text in texts]),
            "npz": (".npz", _npz()),
            "hdf5": (".h5", _hdf5(folder)),
            "deepmd": ("", _deepmd()),
            "db": (".db", [_database(folder, "rows.db")]),
            "json": (".json", [_database(folder, "rows.json")]),
            "sdf": (".sdf", [_molecule(True)]),
            "pdb": (".pdb", [_molecule(False)]),
            "cif": (".cif", [_by_ase(folder, "cell.cif")]),
            "vasp": (".vasp", [_by_ase(folder, "cell.vasp")]),
            "traj": (".traj", [_by_ase(folder, "cell.traj")]),
        }


def _texts(folder):
    write_entries((entry_of(record, level=LEVEL) for record in full_records()), folder / "a.xyz")
    plain = b"2\nwater, half of it\nO 0 0 0.1\nH 0 0 1\n" * 2
    crystal = (
        b'2\nLattice="4 0 0 0 4 0 0 0 4" Properties=species:S:1:pos:R:3:forces:R:3 '
        b'energy=-10.5 virial="1 2 3 2 1 3 3 3 1" pbc="T T T" config_type=bulk\n'
        b"Si 0 0 0 0.1 0.2 0.3\nGe 1.4 1.4 1.4 -0.1 -0.2 -0.3\n"
    )
    return [(folder / "a.xyz").read_bytes(), plain, crystal * 3]


def _npz():
    generator = np.random.default_rng(1)
    positions = generator.normal(size=(5, 3, 3))
    flat = {"R": positions, "F": -positions, "E": np.arange(5.0), "z": np.array([8, 1, 1])}
    units = {"r_unit": "Ang", "e_unit": "kcal/mol", "theory": "PBE"}
    qm9 = {
        "R": positions[0],
        "Z": np.array([8, 1, 1]),
        "N": np.array([2, 1]),
        "U0": np.arange(2.0),
        "r_unit": "Ang",
        "e_unit": "eV",
    }
    padded = {
        "positions": positions,
        "charges": np.array([[8, 1, 1], [6, 1, 0]] * 2 + [[1, 0, 0]]),
        "energy": np.arange(5.0),
        "r_unit": "bohr",
        "e_unit": "hartree",
    }
    found = []
    for save, arrays in (
        (np.savez, flat | units),
        (np.savez_compressed, flat | units),
        (np.savez, qm9),
        (np.savez, padded),
    ):
        stream = io.BytesIO()
        save(stream, **arrays)
        found.append(stream.getvalue())
    return found


def _hdf5(folder):
    write_entries((entry_of(record, level=LEVEL) for record in full_records()), folder / "k.h5")
    generator = np.random.default_rng(2)
    with h5py.File(folder / "s.h5", "w") as file:
        for name in ("a", "b"):
            group = file.create_group(name)
            group["atomic_numbers"] = np.array([8, 1, 1], np.int16)
            group["smiles"] = ["[O:1]([H:2])[H:3]"]
            group["subset"] = ["PubChem"]
            for key, unit, shape in (
                ("conformations", "bohr", (4, 3, 3)),
                ("dft_total_energy", "hartree", (4,)),
                ("dft_total_gradient", "hartree/bohr", (4, 3, 3)),
            ):
                group[key] = generator.normal(size=shape).astype(np.float32)
                group[key].attrs["units"] = unit
    with h5py.File(folder / "m.h5", "w") as file:
        file["z"] = np.array([8, 1, 1])
        for key, unit, shape in (("R", "angstrom", (40, 3, 3)), ("E", "eV", (40,))):
            options = {"compression": "gzip", "shuffle": True, "chunks": (8, *shape[1:])}
            file.create_dataset(key, data=generator.normal(size=shape), **options)
            file[key].attrs["units"] = unit
    return [(folder / name).read_bytes() for name in ("k.h5", "s.h5", "m.h5")]


def _npy(array):
    stream = io.BytesIO()
    np.save(stream, array, allow_pickle=False)
    return stream.getvalue()


def _deepmd():
    generator = np.random.default_rng(3)
    files = {
        "type.raw": b"0\n1\n1\n",
        "type_map.raw": b"O\nH\n",
        "set.000/coord.npy": _npy(generator.normal(size=(4, 9)).astype(np.float32)),
        "set.000/box.npy": _npy(np.tile(np.eye(3).ravel() * 5, (4, 1))),
        "set.000/energy.npy": _npy(np.arange(4.0)),
        "set.000/force.npy": _npy(generator.normal(size=(4, 9))),
        "set.000/virial.npy": _npy(generator.normal(size=(4, 9))),
    }
    mixed = files | {"set.000/real_atom_types.npy": _npy(np.array([[0, 1, 1]] * 3 + [[0, 1, -1]]))}
    return [files, mixed]


def _labelled():
    crystal = ase.Atoms("SiGe", [[0, 0, 0], [1.4, 1.4, 1.4]], cell=[4, 5, 6], pbc=True)
    crystal.calc = SinglePointCalculator(
        crystal, energy=-10.5, forces=np.ones((2, 3)) / 3, stress=np.arange(6) / 100
    )
    return crystal


def _database(folder, name):
    from ase.db import connect

    with connect(folder / name) as database:
        for index in range(3):
            database.write(
                _labelled(), config_type="bulk", dft=-1.5 * index, data={"own": np.eye(3)}
            )
    _without_time(folder / name)
    return (folder / name).read_bytes()


def _without_time(path):
    """ASE writes the time, the user and a random number; the same file is wanted each time."""
    if path.suffix == ".json":
        values = json.loads(path.read_text())
        for number in values["ids"]:
            values[str(number)] |= {"ctime": 1.5, "mtime": 1.5, "user": "u", "unique_id": "0" * 32}
        path.write_text(json.dumps(values, indent=1))
        return
    connection = sqlite3.connect(path)
    connection.execute(
        "UPDATE systems SET ctime = 1.5, mtime = 1.5, username = 'u', "
        "unique_id = '0000000000000000000000000000000' || id"
    )
    connection.commit()
    connection.execute("VACUUM")
    connection.close()


def _by_ase(folder, name):
    ase.io.write(folder / name, _labelled())
    return (folder / name).read_bytes()


def _molecule(sdf):
    from rdkit import Chem

    from karat.structures.builders import from_smiles
    from karat.structures.rdkit_molecule import to_rdkit

    if sdf:
        mols = [to_rdkit(from_smiles(smiles)[0]) for smiles in ("CCO", "[NH4+]")]
        blocks = [f"{Chem.MolToMolBlock(mol)}>  <dft>\n-1.5\n\n$$$$\n" for mol in mols]
        return "".join(blocks).encode()
    from rdkit.Chem import rdDistGeom

    mol = Chem.AddHs(Chem.MolFromSequence("AG"), addResidueInfo=True)
    rdDistGeom.EmbedMolecule(mol, randomSeed=1)
    return Chem.MolToPDBBlock(mol).encode()

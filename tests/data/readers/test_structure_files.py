"""SDF, PDB and ASE's formats as entries."""

import pickle

import ase
import ase.io
import numpy as np
import pytest
from ase.calculators.singlepoint import SinglePointCalculator
from rdkit import Chem

from karat.core.errors import BadInput
from karat.data.read_options import ReadOptions
from karat.data.readers.catalogue import iterate
from karat.structures.builders import from_smiles
from karat.structures.rdkit_molecule import to_rdkit


def sdf(path, *texts):
    blocks = []
    for smiles, text in texts:
        blocks.append(f"{Chem.MolToMolBlock(to_rdkit(from_smiles(smiles)[0]))}{text}$$$$\n")
    path.write_text("".join(blocks))
    return path


def test_properties_of_sdf_are_no_labels_unless_named(tmp_path):
    texts = [("CCO", ">  <energy>\n-5.5\n\n>  <charge>\n7\n\n"), ("[NH4+]", "")]
    path = sdf(tmp_path / "a.sdf", *texts)
    first, second = iterate(path)
    assert (first.energy, first.charge, second.charge) == (None, 0, 1)
    assert len(first.topology.bonds) == 8
    with pytest.raises(BadInput, match="does not say its unit of energy. Name it: --energy-unit"):
        list(iterate(path, ReadOptions(energy_key="energy")))
    first, second = iterate(path, ReadOptions(energy_key="energy", energy_unit="kJ/mol"))
    assert first.energy == pytest.approx(-5.5 * 0.0103642696562622, rel=1e-12)
    assert second.energy is None


def test_trajectory_of_ase(tmp_path):
    frames = []
    for index in range(3):
        atoms = ase.Atoms("HF", [[0, 0, 0], [0, 0, 1 + index / 10]])
        atoms.calc = SinglePointCalculator(atoms, energy=index / 3, forces=np.full((2, 3), index))
        frames.append(atoms)
    ase.io.write(tmp_path / "a.traj", frames)
    entries = list(iterate(tmp_path / "a.traj"))
    assert [e.energy for e in entries] == [0, 1 / 3, 2 / 3]
    assert [(e.group, e.frame) for e in entries] == [("a", 0), ("a", 1), ("a", 2)]
    np.testing.assert_array_equal(entries[2].forces, np.full((2, 3), 2.0))


class Payload:
    def __init__(self, marker):
        self.marker = marker

    def __reduce__(self):
        return open, (str(self.marker), "w")


@pytest.mark.parametrize("suffix", ["traj", "trj", "pkl", "bundle", "gpw", "py", "h5", "npz"])
@pytest.mark.parametrize("start", [b"", b"PickleTrajectory", b"- of UlmASE-Trajectory"])
def test_pickles_are_never_opened(tmp_path, suffix, start):
    marker = tmp_path / "marker"
    path = tmp_path / f"a.{suffix}"
    path.write_bytes(start + pickle.dumps(Payload(marker)))
    with pytest.raises(BadInput):
        list(iterate(path))
    assert not marker.exists()


def test_code_is_never_run(tmp_path):
    marker = tmp_path / "marker"
    (tmp_path / "a.py").write_text(f"open({str(marker)!r}, 'w')\nimages = []\n")
    with pytest.raises(BadInput):
        list(iterate(tmp_path / "a.py"))
    assert not marker.exists()

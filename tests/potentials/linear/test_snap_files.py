"""LAMMPS' files: round trips and what is refused. `test_snap_lammps.py` runs LAMMPS on them."""

import os
from pathlib import Path

import numpy as np
import pytest

from karat.core.errors import BadInput, UnknownElement
from karat.potentials.linear.model import ZblTerm
from karat.potentials.linear.snap_files import (
    SnapFiles,
    SnapTables,
    lammps_snap,
    read_snap,
    snap_texts,
    tables_of,
)
from karat.potentials.linear.snap_settings import SnapSettings
from karat.potentials.native_protocol import NativePotential

DATA = Path(os.environ.get("KARAT_DATA", Path(__file__).parents[4] / "shared" / "data"))
PARAMETERS = "rcutfac 4.0 # of radii\n\n# a comment\ntwojmax 2\n"
COEFFICIENTS = "# made elsewhere\n1 6\nSi 0.5 1.0\n1.0\n2.0\n3.0\n4.0\n5.0\n6.0 # last\n"


def read(folder, coefficients=COEFFICIENTS, parameters=PARAMETERS):
    (folder / "a.snapcoeff").write_text(coefficients)
    (folder / "a.snapparam").write_text(parameters)
    return read_snap(folder / "a.snapcoeff", folder / "a.snapparam")


def test_defaults_are_those_of_lammps(tmp_path):
    tables = read(tmp_path)
    assert tables.elements == ("Si",)
    assert tables.coefficients == ((1.0, 2.0, 3.0, 4.0, 5.0, 6.0),)
    assert tables.settings == SnapSettings(
        twojmax=2,
        rcutfac=4.0,
        radii=(0.5,),
        weights=(1.0,),
        rfac0=0.99363,
        rmin0=0.0,
        switchflag=True,
        bzeroflag=True,
        bnormflag=False,
        quadraticflag=False,
    )
    assert tables.settings.cutoff == 4.0


def two_elements():
    rng = np.random.default_rng(1)
    settings = SnapSettings(
        4, 4.7, (0.5, 0.4173), (1.0, 0.931), 0.95, 0.1, False, False, True, True
    )
    size = 1 + 14 + 14 * 15 // 2
    return SnapTables(
        ("Ni", "Mo"), settings, tuple(tuple(rng.normal(size=size).tolist()) for _ in range(2))
    )


def test_read_and_write_again(tmp_path):
    """Every digit and setting survives."""
    tables = two_elements()
    assert read(tmp_path, *snap_texts(tables)) == tables
    potential = NativePotential(tables.module("float64"))
    assert tables_of(potential) == tables


def test_elements_are_sorted_and_chosen(tmp_path):
    text = "2 6\nSi 0.5 1\n" + "1\n" * 6 + "C 0.4 0.7\n" + "2\n" * 6
    tables = read(tmp_path, text)
    assert tables.elements == ("C", "Si")
    assert tables.settings.radii == (0.4, 0.5)
    assert tables.settings.weights == (0.7, 1.0)
    assert tables.coefficients == ((2.0,) * 6, (1.0,) * 6)
    files = (str(tmp_path / "a.snapcoeff"), str(tmp_path / "a.snapparam"))
    module = SnapFiles(*files, elements=("C",)).load().module
    assert module.species == (6,)
    assert module.cutoff == pytest.approx(3.2)
    with pytest.raises(UnknownElement, match=r"no 'Ge'; they have C, Si"):
        SnapFiles(*files, elements=("Ge",)).load()
    with pytest.raises(BadInput, match=r"snap.elements: is empty"):
        SnapFiles(*files, elements=()).load()


def test_reference_energies_become_constants(tmp_path):
    tables = read(tmp_path)
    potential = NativePotential(tables.module("float64"), {14: -3.0})
    assert tables_of(potential).coefficients[0] == (-2.0, 2.0, 3.0, 4.0, 5.0, 6.0)


def test_commands(tmp_path):
    files, commands = lammps_snap(NativePotential(two_elements().module("float64")), "${karat}")
    assert set(files) == {"potential.snapcoeff", "potential.snapparam"}
    names = "${karat}/potential.snapcoeff ${karat}/potential.snapparam"
    assert commands == ["pair_style snap", f"pair_coeff * * {names} Ni Mo"]
    potential = NativePotential(two_elements().module("float64", ZblTerm(1.0, 1.5)))
    assert lammps_snap(potential)[1] == [
        "pair_style hybrid/overlay zbl 1.0 1.5 snap",
        "pair_coeff 1 1 zbl 28 28",
        "pair_coeff 1 2 zbl 28 42",
        "pair_coeff 2 2 zbl 42 42",
        "pair_coeff * * snap ./potential.snapcoeff ./potential.snapparam Ni Mo",
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (PARAMETERS + "twojmaxx 4\n", r"line 5: unknown key 'twojmaxx'; did you mean 'twojmax'"),
        (PARAMETERS + "rfac0\n", r"line 5: 'rfac0' is not a key and a value"),
        (PARAMETERS + "rmin0 0 0\n", r"line 5: 'rmin0 0 0' is not a key"),
        (PARAMETERS + "rmin0 nan\n", r"line 5: 'nan' is not a finite number"),
        (PARAMETERS + "rmin0 9\n", r"rmin0: 9.0 Å must lie between 0 and"),
        (PARAMETERS + "rfac0 1.2\n", r"rfac0: 1.2 must be above 0 and at most 1"),
        (PARAMETERS + "twojmax 2\n", r"line 5: twojmax is given twice"),
        (PARAMETERS + "bzeroflag yes\n", r"line 5: bzeroflag is 'yes'; it must be 0 or 1"),
        (PARAMETERS + "diagonalstyle 1\n", r"line 5: diagonalstyle 1 is obsolete"),
        (PARAMETERS + "chemflag 1\n", r"line 5: chemflag 1 \(a density for each pair"),
        (PARAMETERS + "switchinnerflag 1\n", r"line 5: switchinnerflag 1 \(an inner switch"),
        (PARAMETERS + "quadraticflag 1\n", r"has 6 coefficients .* needs 21 \(quadratic form\)"),
        ("twojmax 2\n", r"rcutfac is missing"),
        ("rcutfac 4\n", r"twojmax is missing"),
        ("rcutfac 4\ntwojmax 2.5\n", r"line 2: '2.5' is not a whole number"),
        ("rcutfac 4\ntwojmax 30\n", r"twojmax: 30 must lie in"),
        ("rcutfac -4\ntwojmax 2\n", r"rcutfac: -4.0 must be above 0"),
        ("rcutfac 4\ntwojmax 4\n", r"has 6 coefficients .* twojmax 4 .* needs 15"),
    ],
)
def test_bad_parameters(tmp_path, text, message):
    with pytest.raises(BadInput, match=message):
        read(tmp_path, parameters=text)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", r"numbers of elements and of coefficients must stand first"),
        ("1\n", r"line 1: the numbers of elements"),
        ("0 6\n", r"line 1: 0 elements and 6 coefficients are impossible"),
        ("1 6\nSi 0.5\n", r"line 2: an element, its radius and its weight must stand here"),
        ("1 6\nXx 0.5 1\n", r"line 2: 'Xx' is not an element symbol"),
        ("1 6\nSi 0 1\n" + "1\n" * 6, r"radii: 0.0 must be above 0"),
        ("1 6\nSi 0.5 1\n1\n2\n", r"coefficient 3 of 6 of Si is missing"),
        ("1 6\nSi 0.5 1\n1\n2 3\n", r"line 4: coefficient 2 of 6 of Si is missing"),
        ("1 6\nSi 0.5 1\n1\ninf\n", r"line 4: 'inf' is not a finite number"),
        (COEFFICIENTS + "7.0\n", r"line 10: '7.0' follows the last coefficient"),
        ("2" + COEFFICIENTS[18:], r"must stand here \(1 of 2 elements were read"),
        ("2 1\nSi 0.5 1\n1\nSi 0.5 1\n1\n", r"line 4: Si is given twice"),
    ],
)
def test_bad_coefficients(tmp_path, text, message):
    with pytest.raises(BadInput, match=message):
        read(tmp_path, coefficients=text)


def test_missing_and_binary_files(tmp_path):
    with pytest.raises(BadInput, match=r"none.snapparam: cannot be read"):
        read_snap(tmp_path / "none.snapcoeff", tmp_path / "none.snapparam")
    (tmp_path / "b").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(BadInput, match=r"b: is not a text file"):
        read_snap(tmp_path / "b", tmp_path / "b")


def test_published_files():
    """With `diagonalstyle 3`, as they were published: 56 and 1596 numbers for 55 components."""
    folder = DATA / "mlearn_snap"
    if not folder.is_dir():
        pytest.skip(f"{folder} is not there; set KARAT_DATA to the folder of published data")
    for path in sorted(folder.glob("*.snapcoeff")):
        tables = read_snap(path, path.with_suffix(".snapparam"))
        assert tables.settings.quadraticflag == ("qsnap" in path.name)
        assert not tables.settings.bzeroflag
        text = path.read_text().split()
        assert [float(word) for word in text[5:]] == list(tables.coefficients[0])

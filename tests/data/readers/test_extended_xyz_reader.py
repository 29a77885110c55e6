"""Extended XYZ: labels and units, bounded memory, dishonest files."""

import gzip
import tracemalloc

import numpy as np
import pytest
from ase.io.extxyz import key_val_str_to_dict
from hypothesis import given, settings
from hypothesis import strategies as st

from karat.core.errors import BadInput
from karat.core.units import GPA, HARTREE, KCAL_PER_MOL
from karat.data.read_options import ReadOptions
from karat.data.readers.catalogue import iterate
from karat.structures.comment_line import comment_values
from karat.structures.labels import LevelOfTheory

HEADER = 'Lattice="4 0 0 0 5 0 0 0 6" Properties=species:S:1:pos:R:3:forces:R:3'
ROWS = "H 0 0 0 1 2 3\nH 0 0 1 -1 -2 -3\n"


def write(path, *comments, header=HEADER):
    path.write_text("".join(f"2\n{header} {comment}\n{ROWS}" for comment in comments))
    return path


def one(path, **options):
    return next(iter(iterate(path, ReadOptions(**options))))


def test_virial_is_minus_volume_times_stress(tmp_path):
    path = write(tmp_path / "a.xyz", 'energy=1 REF_virial="12 0 0 0 24 0 0 0 36" v="1 1 1 0 0 0"')
    np.testing.assert_allclose(one(path).stress, np.diag([-0.1, -0.2, -0.3]), rtol=1e-15)
    np.testing.assert_allclose(one(path, virial_key="v").stress, np.eye(3) / -120, rtol=1e-15)


def test_stress_goes_before_virial(tmp_path):
    path = write(tmp_path / "a.xyz", 'energy=1 stress="1 2 3 0 0 0" virial="9 9 9 0 0 0"')
    np.testing.assert_array_equal(one(path).stress, np.diag([1.0, 2, 3]))


def test_user_names_units(tmp_path):
    path = write(tmp_path / "a.xyz", 'energy=2 s="1 2 3 0 0 0"')
    entry = one(path, energy_unit="kcal/mol", length_unit="bohr", stress_key="s", stress_unit="GPa")
    bohr = 0.529177210903
    assert entry.energy == 2 * KCAL_PER_MOL
    np.testing.assert_allclose(entry.positions[1], [0, 0, bohr], rtol=1e-15)
    np.testing.assert_allclose(np.diag(entry.cell), [4 * bohr, 5 * bohr, 6 * bohr], rtol=1e-15)
    np.testing.assert_allclose(entry.forces[0, 0], KCAL_PER_MOL / bohr, rtol=1e-14)
    np.testing.assert_allclose(np.diag(entry.stress), [GPA, 2 * GPA, 3 * GPA], rtol=1e-14)
    assert one(path, energy_unit="Ha", forces_unit="eV/Ang").forces[0, 0] == 1.0
    assert one(path, energy_unit="Ha").energy == 2 * HARTREE
    with pytest.raises(BadInput, match="did you mean 'hartree'"):
        one(path, energy_unit="hartre")


def test_keys_that_are_not_there(tmp_path):
    path = write(tmp_path / "a.xyz", "energy=1", "energy=2 mine=3")
    assert [entry.energy for entry in iterate(path, ReadOptions(energy_key="mine"))] == [None, 3.0]
    with pytest.raises(BadInput, match="no frame has the key 'yours'"):
        list(iterate(path, ReadOptions(energy_key="yours")))


def test_faults_reach_the_doctor(tmp_path):
    """NaN, unknown elements by number and odd tensors are entries, not errors."""
    path = tmp_path / "a.xyz"
    path.write_text(
        '1\nProperties=Z:I:1:pos:R:3 energy=nan stress="1 2 3 4 5 6 7 8 9"\n500 0 0 nan\n'
    )
    entry = one(path)
    assert entry.numbers.tolist() == [500]
    assert np.isnan(entry.energy)
    assert np.isnan(entry.positions[0, 2])
    assert entry.stress[0, 1] == 2
    with pytest.raises(BadInput, match="frame 0"):
        entry.record()


def test_level_is_the_files_or_the_users(tmp_path):
    level = r'level="_JSON {\"method\":\"PBE\"}"'
    path = write(tmp_path / "a.xyz", f"energy=1 {level}", "energy=1")
    assert [e.level for e in iterate(path)] == [LevelOfTheory("PBE"), None]
    found = [e.level for e in iterate(path, ReadOptions(level=LevelOfTheory("pbe")))]
    assert found == [LevelOfTheory("PBE"), LevelOfTheory("pbe")]
    with pytest.raises(BadInput, match="frame 0: was labelled with PBE, but HF"):
        list(iterate(path, ReadOptions(level=LevelOfTheory("HF"))))


def frames(path, count):
    with gzip.open(path, "wt", compresslevel=1) as stream:
        for index in range(count):
            stream.write(f"2\n{HEADER} energy={index}\n{ROWS}")
    return path


def peak(path):
    """Largest memory that Python and numpy had while the file was read, in bytes."""
    tracemalloc.start()
    count = sum(1 for _ in iterate(path))
    found = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return count, found


def test_memory_does_not_grow_with_the_file(tmp_path):
    list(iterate(frames(tmp_path / "first.xyz.gz", 10)))
    few, small = peak(frames(tmp_path / "few.xyz.gz", 100))
    many, large = peak(frames(tmp_path / "many.xyz.gz", 400))
    assert (few, many) == (100, 400)
    # 300 further frames would be more than 400 kB; allow for the noise of one buffer
    assert large < small + 100_000


class Endless:
    """Bytes of a stream that never ends, through gzip."""

    @staticmethod
    def write(path, start, repeated, megabytes):
        with gzip.open(path, "wb", compresslevel=1) as stream:
            stream.write(start)
            block = repeated * (2**20 // len(repeated))
            for _ in range(megabytes):
                stream.write(block)
        return path


@pytest.mark.parametrize(
    ("start", "repeated", "words"),
    [
        (b"", b"9", "starts with '9999"),
        (b"1\n", b"a", "comment line is longer"),
        (b"1\n", b'k="v" ', "comment line is longer"),
        (b"1\n\nH ", b"1 ", "line is longer"),
        (b"", b"\n", "blank lines in a row"),
        (b"1000000000000\n\n", b"H 0 0 0\n", "more than .* numbers in one frame"),
        (b"2000000\n\n", b"H 0 0 0 ", "its line is longer"),
        (b"1\nProperties=species:S:1:pos:R:3:x:R:30000\n", b"1 1 1 1 ", "columns|longer"),
    ],
)
def test_bombs(tmp_path, start, repeated, words):
    path = Endless.write(tmp_path / "bomb.xyz.gz", start, repeated, 40)
    tracemalloc.start()
    with pytest.raises(BadInput, match=words):
        list(iterate(path))
    assert tracemalloc.get_traced_memory()[1] < 100 * 2**20
    tracemalloc.stop()


def test_announced_atoms_need_not_fit_into_memory(tmp_path):
    path = tmp_path / "a.xyz"
    path.write_text("2000000\n\nH 0 0 0\n")
    tracemalloc.start()
    with pytest.raises(BadInput, match="2000000 atoms announced, 1 lines follow"):
        list(iterate(path))
    assert tracemalloc.get_traced_memory()[1] < 2**20
    tracemalloc.stop()


@pytest.mark.parametrize("cut", [5, 40, -5])
def test_cut_gzip(tmp_path, cut):
    whole = frames(tmp_path / "a.xyz.gz", 50).read_bytes()
    (tmp_path / "cut.xyz.gz").write_bytes(whole[:cut])
    with pytest.raises(BadInput, match="cut.xyz.gz"):
        list(iterate(tmp_path / "cut.xyz.gz"))


COMMENTS = [
    'a=1 b=2.5 c="1 2 3" d="1 2.5" e=T f="T F T" g=text h="two words" i=-1e-3',
    "alone other=1",
    "a = 1 b= 2 c =3",
    "a={1 2 3} b=[4 5] c='6 7'",
    r'a="_JSON {\"x\": [1, 2], \"y\": \"z\"}" b="_JSON [[1, 2], [3, 4]]" c="_JSON [\"q\"]"',
    "a=b=c",
    'path="C:\\\\x" q="say \\"hi\\""',
    "n=nan i=inf m=-inf big=99999999999999999999 comma=1,2,3",
    'unclosed="1 2',
    'glued=a"b c"d',
]


def same(mine, theirs):
    if isinstance(theirs, np.ndarray):
        np.testing.assert_array_equal(mine, theirs)
        assert np.asarray(mine).dtype.kind == theirs.dtype.kind
    elif isinstance(theirs, float | np.floating) and np.isnan(theirs):
        assert np.isnan(mine)
    else:
        assert mine == theirs


@pytest.mark.parametrize("comment", COMMENTS)
def test_comment_line_as_ase_reads_it(comment):
    mine, theirs = comment_values(comment), key_val_str_to_dict(comment)
    assert list(mine) == list(theirs)
    for key in mine:
        same(mine[key], theirs[key])


@settings(max_examples=100, deadline=None, derandomize=True)
@given(
    st.lists(
        st.tuples(
            st.sampled_from(["a", "b_1", "REF_x"]),
            st.sampled_from(["=", " = ", "= "]),
            st.sampled_from(['"{}"', "{{{}}}", "[{}]", "'{}'"]),
            st.text(alphabet="ab1.T,- e", min_size=1, max_size=8).filter(
                lambda text: text.strip(" ,")
            ),
        ),
        min_size=1,
        max_size=4,
    )
)
def test_any_pairs_as_ase_reads_them(parts):
    comment = " ".join(f"{key}{sign}{quote.format(text)}" for key, sign, quote, text in parts)
    mine, theirs = comment_values(comment), key_val_str_to_dict(comment)
    assert list(mine) == list(theirs)
    for key in mine:
        same(mine[key], theirs[key])


def test_names_stay_text():
    found = comment_values('name=1e5 config_type=007 group="T" energy=1e5')
    assert found == {"name": "1e5", "config_type": "007", "group": "T", "energy": 1e5}

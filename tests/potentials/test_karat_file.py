"""`.karat` files: exact round trip, deterministic bytes, and every damage is one clear error."""

import json
import random
import struct
import subprocess
import sys
from pathlib import Path

import ase.build
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from karat.core.errors import BadInput
from karat.core.hashing import digest_arrays, digest_json
from karat.data.dataset import Dataset, Record
from karat.potentials.karat_file import KaratFile, load, save
from karat.potentials.karat_header import KEY, read_header
from karat.potentials.model import named_arrays
from karat.potentials.native.bpnn import AngularGrid, Bpnn, RadialGrid
from karat.potentials.native_protocol import NativePotential
from karat.structures.labels import Labels, LevelOfTheory
from karat.structures.structure import Structure

ARCHITECTURE = Bpnn(
    radial=RadialGrid(count=3), angular=AngularGrid(count=1, zetas=(1,)), hidden=(4,)
)
LEVEL = LevelOfTheory("PBE", "def2-SVP", "D3", "ORCA 5", {"grid": "fine"})
WATER = Structure.from_ase(ase.build.molecule("H2O"))
REFERENCES = {1: -13.6057, 8: -2041.123456789}


def untrained(dtype: str) -> NativePotential:
    labels = Labels(energy=-2067.0, forces=np.ones((3, 3)))
    data = Dataset((Record(WATER, labels),), LEVEL)
    module = ARCHITECTURE.initialise(data, jax.random.key(0), dtype)
    return NativePotential(module, REFERENCES, LEVEL, dtype)


@pytest.fixture(scope="module")
def potential():
    return untrained("float64")


@pytest.fixture(scope="module")
def path(potential, tmp_path_factory):
    path = tmp_path_factory.mktemp("files") / "water.karat"
    save(path, ARCHITECTURE, potential, "abc123", {"train_structures": 1, "note": "Å"})
    return path


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_predictions_are_the_same_bits_after_a_round_trip(dtype, tmp_path):
    before = untrained(dtype)
    save(tmp_path / "p.karat", ARCHITECTURE, before)
    after = load(tmp_path / "p.karat")
    assert after.dtype == before.dtype
    assert after.traits == before.traits
    a, b = (p.predict([WATER], ("energy", "forces"))[0] for p in (before, after))
    assert a.energy == b.energy
    assert a.forces.tobytes() == b.forces.tobytes()


def test_numbers_trained_in_single_precision_are_taken_over_exactly(tmp_path):
    save(tmp_path / "p.karat", ARCHITECTURE, untrained("float32"))
    double = KaratFile(str(tmp_path / "p.karat")).load()
    assert double.dtype == np.float64
    single = named_arrays(untrained("float32").module)
    for name, array in named_arrays(double.module).items():
        assert np.array_equal(np.asarray(array, np.float32), single[name])


def test_the_header_says_what_it_is(path):
    header = read_header(path)
    assert header.schema == 1
    assert header.architecture == "bpnn"
    assert header.species == (1, 8)
    assert header.level == LEVEL
    assert header.reference_energies == REFERENCES
    assert header.training_data == "abc123"
    assert header.training == {"train_structures": 1, "note": "Å"}
    assert header.hyperparameters["hidden"] == [4]
    assert header.hyperparameters["angular"]["kind"] == "g5"
    assert header.dtype == "float64"
    assert header.as_dict()["units"] == {"energy": "eV", "length": "angstrom"}


def test_it_is_one_valid_safetensors_file(path, potential):
    arrays = load_file(path)
    expected = named_arrays(potential.module)
    assert set(arrays) == set(expected)
    assert all(np.array_equal(arrays[name], expected[name]) for name in arrays)


def test_the_same_potential_gives_the_same_bytes(path, potential, tmp_path):
    save(tmp_path / "again.karat", ARCHITECTURE, potential, "abc123", read_header(path).training)
    assert (tmp_path / "again.karat").read_bytes() == path.read_bytes()
    save(tmp_path / "loaded.karat", ARCHITECTURE, load(path), "abc123", read_header(path).training)
    assert (tmp_path / "loaded.karat").read_bytes() == path.read_bytes()


def test_the_header_is_read_without_jax(path):
    code = (
        "import sys\n"
        "class Refuse:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name.split('.')[0] in ('jax', 'equinox', 'safetensors'):\n"
        "            raise ImportError(name)\n"
        "sys.meta_path.insert(0, Refuse())\n"
        "from karat.potentials.karat_header import read_header\n"
        "print(read_header(sys.argv[1]).architecture)\n"
    )
    done = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, text=True)
    assert done.stdout.strip() == "bpnn", done.stderr


def mutations(content: bytes, count: int):
    """Damaged copies: bits, bytes, cuts, insertions, swaps, in header and numbers."""
    generator = random.Random(7)
    header = 8 + struct.unpack("<Q", content[:8])[0]
    for index in range(count):
        data = bytearray(content)
        where = generator.randrange(header if index % 2 else len(data))
        kind = index % 7
        if kind == 0:
            data[where] ^= 1 << generator.randrange(8)
        elif kind == 1:
            data[where] = generator.randrange(256)
        elif kind == 2:
            del data[where:]
        elif kind == 3:
            data[where:where] = bytes(generator.randrange(256) for _ in range(8))
        elif kind == 4:
            del data[where : where + generator.randrange(1, 20)]
        elif kind == 5:
            data[:8] = struct.pack("<Q", generator.getrandbits(generator.choice([8, 16, 40, 64])))
        else:
            data[where : where + 30] = b"[" * 30
        yield index, bytes(data)


def test_numpy_and_safetensors_are_enough_to_look_inside(path, potential):
    """The script of examples/, with every other installed package out of reach."""
    script = Path(__file__).parents[2] / "examples" / "read_karat.py"
    guarded = (
        "import sys\n"
        "class Guard:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        top = name.partition('.')[0]\n"
        "        if top in sys.stdlib_module_names or top in ('numpy', 'safetensors'):\n"
        "            return None\n"
        "        raise ImportError(f'{name} is out of reach')\n"
        "sys.meta_path.insert(0, Guard())\n"
        f"sys.argv = ['read_karat.py', {str(path)!r}]\n"
        f"exec(compile(open({str(script)!r}).read(), 'read_karat.py', 'exec'))\n"
    )
    shown = subprocess.run([sys.executable, "-c", guarded], capture_output=True, text=True)
    assert shown.returncode == 0, shown.stderr
    assert '"architecture": "bpnn"' in shown.stdout
    assert '"training_data": "abc123"' in shown.stdout
    for name, array in named_arrays(potential.module).items():
        assert f"{name}: {array.dtype} {list(array.shape)}" in shown.stdout


def test_five_hundred_damaged_files_are_refused_or_harmless(path, potential, tmp_path):
    good = {name: np.asarray(a).tobytes() for name, a in named_arrays(potential.module).items()}
    damaged = tmp_path / "damaged.karat"
    messages = []
    for index, content in mutations(path.read_bytes(), 500):
        damaged.write_bytes(content)
        try:
            found = load(damaged)
        except BadInput as error:
            messages.append(str(error))
            continue
        # harmless: a space more in the padding, …: nothing that is read has changed
        arrays = {n: np.asarray(a).tobytes() for n, a in named_arrays(found.module).items()}
        assert arrays == good, index
        assert found.reference_energies == REFERENCES
        assert found.level == LEVEL
    assert len(messages) > 480
    assert all(str(damaged) in message for message in messages)


def rewritten(path, target, change):
    """A file with an honest digest over a changed header or changed numbers."""
    from safetensors import safe_open

    with safe_open(path, framework="numpy") as file:
        values = json.loads(file.metadata()[KEY])
        arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    del values["digest"]
    change(values, arrays)
    values["tensors"] = digest_arrays(arrays)
    values["digest"] = digest_json(values)
    save_file(arrays, target, {KEY: json.dumps(values)})
    return target


def setter(*keys, to):
    def change(values, arrays):
        for key in keys[:-1]:
            values = values[key]
        values[keys[-1]] = to

    return change


LIES = {
    "schema": (setter("schema", to=99), "schema version 99"),
    "architecture": (setter("architecture", to="nosuch"), "'nosuch' is not installed"),
    "import path": (setter("architecture", to="os:system"), "'os:system' is not installed"),
    "unknown hyper-parameter": (setter("hyperparameters", "depth", to=3), "no 'depth'"),
    "huge network": (setter("hyperparameters", "hidden", to=[10**12]), "bpnn.hidden"),
    "other shapes": (setter("hyperparameters", "hidden", to=[4096] * 4), "biases.0"),
    "other species": (setter("species", to=[1, 6, 8]), "needs"),
    "no species": (setter("species", to=[]), "species"),
    "species order": (setter("species", to=[8, 1]), "ascending"),
    "units": (setter("units", to={"energy": "hartree", "length": "bohr"}), "units"),
    "dtype": (setter("dtype", to="object"), "dtype"),
    "other dtype": (setter("dtype", to="float32"), "float32"),
    "reference": (setter("reference_energies", to={"1": "nan"}), "reference energies"),
    "level": (setter("level", to={"method": "PBE", "cost": 3}), "cost"),
    "array missing": (lambda values, arrays: arrays.pop("mean"), "'mean' is missing"),
    "array more": (
        lambda values, arrays: arrays.update(extra=np.zeros(3)),
        "'extra' .* no such array",
    ),
    "array shape": (lambda values, arrays: arrays.update(mean=np.zeros((2, 1))), "'mean'"),
    "array kind": (
        lambda values, arrays: arrays.update(mean=arrays["mean"].astype(np.float32)),
        "'mean'",
    ),
}


@pytest.mark.parametrize("name", LIES)
def test_honest_digests_over_wrong_content_are_refused(name, path, tmp_path):
    change, text = LIES[name]
    with pytest.raises(BadInput, match=text):
        load(rewritten(path, tmp_path / "lie.karat", change))


def test_unchanged_content_passes_the_rewriting(path, tmp_path):
    assert load(rewritten(path, tmp_path / "same.karat", lambda *_: None)).level == LEVEL


def test_missing_empty_and_foreign_files_are_refused(tmp_path):
    (tmp_path / "empty.karat").touch()
    (tmp_path / "text.karat").write_text("this is not a potential " * 10)
    save_file({"a": np.zeros(2)}, tmp_path / "foreign.karat")
    for name, text in (
        ("none", "no such"),
        ("empty", "empty"),
        ("text", "not a readable"),
        ("foreign", "not a readable"),
    ):
        with pytest.raises(BadInput, match=text):
            KaratFile(str(tmp_path / f"{name}.karat")).load()


def test_a_huge_header_is_not_read(tmp_path):
    path = tmp_path / "huge.karat"
    with path.open("wb") as stream:
        stream.write(struct.pack("<Q", 2**33))
        stream.truncate(2**33 + 100)  # sparse: 8 GiB that are not there
    with pytest.raises(BadInput, match="header has 8589934592 bytes"):
        load(path)


def test_what_could_not_be_read_again_is_not_written(potential, tmp_path):
    with pytest.raises(BadInput, match="biases.0.*needs"):
        save(tmp_path / "p.karat", Bpnn(), potential)
    broken = NativePotential(
        eqx.tree_at(lambda m: m.mean, potential.module, jnp.zeros((2, 1))), REFERENCES, LEVEL
    )
    with pytest.raises(BadInput, match="mean"):
        save(tmp_path / "p.karat", ARCHITECTURE, broken)
    assert not list(tmp_path.iterdir())
    (tmp_path / "folder").touch()
    with pytest.raises(BadInput, match="cannot be written"):
        save(tmp_path / "folder" / "p.karat", ARCHITECTURE, potential)

"""Checkpoints: every bit back, damage noticed, one whole one always there."""

import numpy as np
import pytest

from karat.core.errors import BadInput, CalculationFailed
from karat.simulation.trajectory.append_file import Mark
from karat.simulation.trajectory.checkpoints import Checkpoints

MARKS = {"a": Mark(3, 400, "i", "c", ("forces",)), "b": Mark(0, 0, "", "")}


def arrays():
    rng = np.random.default_rng(2)
    return {
        "positions": rng.normal(size=(2, 5, 3)),
        "turned": rng.normal(size=(4, 3)).T,  # not in C order
        "every second": np.arange(10, dtype=np.int32)[::2],
        "single": rng.normal(size=7).astype(np.float32),
        "key": np.array([1, 2**32 - 1], dtype=np.uint32),
        "step": np.array(2**62),
        "flags": np.array([True, False]),
        "none": np.zeros((0, 3)),
        "odd": np.array([np.nan, -0.0, np.inf, 5e-324]),
    }


def test_every_bit_comes_back(tmp_path):
    checkpoints = Checkpoints(tmp_path / "new" / "folder")
    assert checkpoints.load() is None
    path = checkpoints.save(arrays(), {"step": 3, "name": 'Å "x"'}, MARKS)
    assert path.name == "checkpoint-00000001.safetensors"
    found = Checkpoints(tmp_path / "new" / "folder").load()
    assert found.number == 1
    assert found.warnings == ()
    assert found.header == {"step": 3, "name": 'Å "x"'}
    assert found.marks == MARKS
    assert sorted(found.arrays) == sorted(arrays())
    for name, expected in arrays().items():
        assert found.arrays[name].dtype == expected.dtype
        assert found.arrays[name].shape == expected.shape
        assert found.arrays[name].tobytes() == expected.tobytes()


def test_the_newest_and_the_one_before_stay(tmp_path):
    checkpoints = Checkpoints(tmp_path)
    (tmp_path / ".checkpoint-00000001.safetensors.abc.part").write_bytes(b"of a killed save")
    (tmp_path / "notes.txt").write_text("mine")
    for number in range(1, 6):
        checkpoints.save({"at": np.array(number)}, {}, {})
        assert checkpoints.load().arrays["at"] == number
    assert checkpoints.numbers() == [4, 5]
    assert len(list(tmp_path.iterdir())) == 3


def test_any_damage_is_noticed_and_the_one_before_is_taken(tmp_path):
    """Each byte of a small checkpoint in turn, and every length."""
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save({"at": np.array([1.0])}, {"n": 1}, {})
    path = checkpoints.save({"at": np.array([2.0])}, {"n": 2}, {"a": MARKS["a"]})
    content = path.read_bytes()
    harmless = 0
    for place in range(len(content)):
        changed = bytearray(content)
        changed[place] ^= 0x04
        path.write_bytes(changed)
        found = checkpoints.load()
        if found.number == 2:  # blanks after the header, say: what was saved is whole
            harmless += 1
            assert found.header == {"n": 2}
            assert found.marks == {"a": MARKS["a"]}
            np.testing.assert_array_equal(found.arrays["at"], [2.0])
        else:
            assert found.header == {"n": 1}
            assert len(found.warnings) == 1
            assert f"{path}: the checkpoint is damaged" in found.warnings[0]
    assert harmless <= 16
    for size in range(0, len(content), 7):
        path.write_bytes(content[:size])
        assert checkpoints.load().number == 1
    assert checkpoints.save({}, {}, {}).name == "checkpoint-00000003.safetensors"


def test_all_damaged(tmp_path):
    checkpoints = Checkpoints(tmp_path)
    for number in (1, 2):
        checkpoints.save({}, {}, {}).write_bytes(b"x" * number)
    with pytest.raises(CalculationFailed, match="00000002.*00000001.*start the run anew") as caught:
        checkpoints.load()
    assert caught.value.kind == "damaged"


def test_what_cannot_be_stored_is_refused(tmp_path):
    checkpoints = Checkpoints(tmp_path)
    for array in (np.array(["a"]), np.array([None]), np.array([1j]), np.array([1.0], dtype=">f8")):
        with pytest.raises(BadInput, match="array 'x' is of type"):
            checkpoints.save({"x": array}, {}, {})
    with pytest.raises(BadInput, match="cannot be written as JSON"):
        checkpoints.save({}, {"a": {1, 2}}, {})
    assert checkpoints.load() is None

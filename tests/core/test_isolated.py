"""Scripts and workers in another process: clean surroundings, errors, time limits, frames."""

import io
import json
import os
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from karat.core.errors import BadInput, CalculationFailed
from karat.core.isolated import Worker, run
from karat.core.isolated_worker import read_frame, write_frame

PYTHON = Path(sys.executable)


def test_script_sees_clean_surroundings(tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    (tmp_path / "json.py").write_text("raise SystemExit('the wrong json')")
    script = tmp_path / "code" / "show.py"
    script.parent.mkdir()
    script.write_text(
        "import json, os, sys\n"
        "import beside\n"
        "print(json.dumps([sys.argv[1:], os.getcwd(), os.environ['OMP_NUM_THREADS'],\n"
        "    'PYTHONPATH' in os.environ, os.environ['TMPDIR'], sys.path, beside.X]))\n"
    )
    (script.parent / "beside.py").write_text("X = 3")
    found = json.loads(run(PYTHON, script, ["a b", "c"], tmp_path, 60))
    here = str(tmp_path)
    assert found[:5] == [["a b", "c"], here, "1", False, here]
    assert here not in found[5]
    assert "" not in found[5]
    assert found[6] == 3
    # source text sees neither the working folder
    assert run(PYTHON, "import json; print(json.dumps(1))", [], tmp_path, 60) == "1\n"


def test_ends_of_a_script_are_told_apart(tmp_path):
    bad = "import json, sys; print(json.dumps({'bad-input': 'no such é'}), file=sys.stderr); "
    with pytest.raises(BadInput, match=r"^no such é$"):
        run(PYTHON, bad + "sys.exit(2)", [], tmp_path, 60)
    with pytest.raises(CalculationFailed, match="exit status 1.*no such") as caught:
        run(PYTHON, bad + "sys.exit(1)", [], tmp_path, 60)
    assert caught.value.kind == "dead-process"
    with pytest.raises(CalculationFailed, match=r"exit status 2.*usage") as caught:
        run(PYTHON, "import sys; print('usage', file=sys.stderr); sys.exit(2)", [], tmp_path, 60)
    with pytest.raises(CalculationFailed, match=r"(?s)exit status 1.*ZeroDivisionError"):
        run(PYTHON, "1 / 0", [], tmp_path, 60)
    with pytest.raises(CalculationFailed, match="ended by SIGKILL"):
        run(PYTHON, "import os; os.kill(os.getpid(), 9)", [], tmp_path, 60)
    with pytest.raises(BadInput, match="cannot be started"):
        run(tmp_path / "nothing", "1", [], tmp_path, 60)


def test_script_that_takes_too_long_is_ended_with_its_children(tmp_path):
    script = (
        "import subprocess, sys, time\n"
        "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)'])\n"
        "open('child', 'w').write(str(child.pid))\n"
        "time.sleep(60)\n"
    )
    started = time.monotonic()
    with pytest.raises(CalculationFailed, match="stopped after 2 s") as caught:
        run(PYTHON, script, [], tmp_path, 2)
    assert caught.value.kind == "timeout"
    assert time.monotonic() - started < 30
    child = int((tmp_path / "child").read_text())
    for _ in range(100):
        state = Path(f"/proc/{child}/stat")
        if not state.exists() or state.read_text().rpartition(")")[2].split()[0] == "Z":
            break
        time.sleep(0.05)
    else:
        pytest.fail("the child still runs")


ARRAYS = {
    "a": np.arange(6, dtype=np.float64).reshape(2, 3)[:, ::2],
    "big": np.array([1, -2], dtype=">i4"),
    "empty": np.zeros((0, 3), np.float32),
    "flag": np.array(True),
}


def test_frames_carry_arrays_bit_for_bit():
    stream = io.BytesIO()
    write_frame(stream, {"x": [1, "é"]}, ARRAYS)
    write_frame(stream, {}, {})
    stream.seek(0)
    message, arrays = read_frame(stream)
    assert message == {"x": [1, "é"]}
    for name, array in ARRAYS.items():
        assert arrays[name].shape == array.shape
        assert arrays[name].dtype == array.dtype.newbyteorder("=")
        assert np.array_equal(arrays[name], array)
        assert arrays[name].flags.writeable
    assert read_frame(stream) == ({}, {})
    assert read_frame(stream) is None


def header(text: str) -> bytes:
    return len(text).to_bytes(8, "little") + text.encode()


@pytest.mark.parametrize(
    "data",
    [
        b"\x01",
        (1 << 40).to_bytes(8, "little"),
        header("{}")[:-1],
        header('{"message": {}, "arrays": [["a", "|O", [1]]]}') + bytes(8),
        header('{"message": {}, "arrays": [["a", "<f8", [2]]]}') + bytes(8),
        header('{"message": {}, "arrays": [["a", "<f8", [-1]]]}') + bytes(8),
        header("not json"),
    ],
)
def test_damaged_frames_are_refused(data):
    with pytest.raises(ValueError):  # noqa: PT011  any reason, but no other error and no hang
        read_frame(io.BytesIO(data))


def test_objects_are_never_sent():
    with pytest.raises(TypeError, match="cannot be sent"):
        write_frame(io.BytesIO(), {}, {"a": np.array([object()])})


SCRIPT = """
import os, sys, json, time
import numpy as np

class Odd(Exception):
    kind = "odd"

def start(arguments):
    if arguments == ["bad"]:
        print(json.dumps({"bad-input": "not this"}), file=sys.stderr)
        sys.exit(2)
    count = 0
    print("printed at start")
    def handle(message, arrays):
        nonlocal count
        count += 1
        os.write(1, b"spoils the frames?")
        if message["do"] == "fail":
            raise Odd("could not")
        if message["do"] == "die":
            print("last words", file=sys.stderr, flush=True)
            os._exit(3)
        if message["do"] == "sleep":
            time.sleep(60)
        return {"count": count, "arguments": arguments}, {"twice": 2 * arrays["a"]}
    return handle
"""


@pytest.fixture
def script(tmp_path):
    path = tmp_path / "worker.py"
    path.write_text(SCRIPT)
    return path


def test_worker_answers_fails_and_lives_on(script):
    with Worker(PYTHON, script, ["x"], 60) as worker:
        array = np.random.default_rng(0).normal(size=(300, 1000))  # more than a pipe holds
        message, arrays = worker.ask({"do": "work"}, {"a": array}, 60)
        assert message == {"count": 1, "arguments": ["x"]}
        assert np.array_equal(arrays["twice"], 2 * array)
        with pytest.raises(CalculationFailed, match="Odd: could not") as caught:
            worker.ask({"do": "fail"}, {}, 60)
        assert caught.value.kind == "odd"
        assert worker.ask({"do": "work"}, {"a": array}, 60)[0]["count"] == 3
        folder = Path(worker._folder.name)
        assert folder.is_dir()
    assert not folder.exists()
    with pytest.raises(CalculationFailed, match="closed"):
        worker.ask({"do": "work"}, {"a": array}, 60)


def test_worker_that_dies_or_hangs_is_told(script):
    with Worker(PYTHON, script, [], 60) as worker:
        with pytest.raises(CalculationFailed, match=r"exit status 3.*last words"):
            worker.ask({"do": "die"}, {}, 60)
        with pytest.raises(CalculationFailed, match="dead-process|exit status 3"):
            worker.ask({"do": "work"}, {}, 60)
    with Worker(PYTHON, script, [], 60) as worker:
        with pytest.raises(CalculationFailed, match="no answer in 0.5 s") as caught:
            worker.ask({"do": "sleep"}, {}, 0.5)
        assert caught.value.kind == "timeout"
    with pytest.raises(BadInput, match="^not this$"):
        Worker(PYTHON, script, ["bad"], 60)


def test_worker_ends_when_its_parent_does(script, tmp_path):
    parent = (
        "import sys, os\n"
        "from pathlib import Path\n"
        "from karat.core.isolated import Worker\n"
        "worker = Worker(Path(sys.executable), Path(sys.argv[1]), [], 60)\n"
        "print(worker._process.pid, flush=True)\n"
        "os._exit(0)\n"
    )
    import subprocess

    done = subprocess.run(
        [sys.executable, "-c", parent, str(script)],
        capture_output=True,
        text=True,
        env=os.environ | {"TMPDIR": str(tmp_path)},
    )
    pid = int(done.stdout)
    for _ in range(200):
        state = Path(f"/proc/{pid}/stat")
        if not state.exists() or state.read_text().rpartition(")")[2].split()[0] == "Z":
            return
        time.sleep(0.05)
    pytest.fail("the worker outlived its parent")

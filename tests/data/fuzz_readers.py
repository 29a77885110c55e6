"""The fuzzer: spoilt files of every format through the readers, in a process of its own.

``python fuzz_readers.py '{"xyz": 100, …}' SEED FOLDER`` prints a JSON line for each format: how
many inputs ended in entries and how many in `BadInput`, by how much the largest memory grew, and
what went wrong. The process has bounded memory; an input longer than `SECONDS` is a failure.
"""

import contextlib
import gzip
import io
import json
import pickle
import re
import resource
import shutil
import signal
import sqlite3
import sys
import warnings
import zipfile
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parent))

from fuzz_seeds import seeds

from karat.core.errors import BadInput
from karat.data.read_options import ReadOptions
from karat.data.readers.catalogue import iterate

SECONDS = 10
MEMORY = 2**30
"""Bytes that an input may take beyond what the process has at the start."""
MAX_ENTRIES = 3000

WORDS = [
    b"nan", b"-nan", b"inf", b"1e309", b"-1", b"0", b"1", b"999999999999999999999", b"1e-400",
    b"2147483648", b"-9223372036854775809", b"T", b"H", b"Xx", b"\x00", b"\xff\xfe", b"\n", b"\r",
    b'"', b"'", b"{", b"}", b"[", b"]", b"\\", b"=", b",", b":", b"%s%n", b"[" * 3000,
    b'"_JSON ' + b"[" * 5000, b'{"a":' * 2000, b"9" * 5000, b"A" * 70000, b"1 " * 3000,
    b"charge=nan ", b"charge=1e300 ", b"frame=1e30 ", b'name="a b" ', b"multiplicity=-5 ",
    b'topology="_JSON {\\"bonds\\":[0,99],\\"orders\\":[1],\\"formal_charges\\":[0]}" ',
    b"Properties=species:S:1:pos:R:3000000 ", b"Properties=pos:R:3 ", b"pbc=5 ",
    b'Lattice="0 0 0 0 0 0 0 0 0" ', b'level="_JSON {\\"method\\":1}" ', b"energy=T ",
]  # fmt: skip
MISTAKES = re.compile(r"\((TypeError|AttributeError|NameError|AssertionError|UnboundLocalError)")
"""In a message of karat's own readers: a mistake of karat, caught by accident."""
FOREIGN = re.compile(r"\.(cif|vasp|traj|sdf|pdb|h5)$")
NUMBER = re.compile(rb"[-+]?\d+(?:\.\d+)?(?:[eE][-+]?\d+)?")


class Payload:
    """Unpickling it would write the marker."""

    def __init__(self, marker):
        self.marker = marker

    def __reduce__(self):
        return open, (str(self.marker), "w")


def mutate(generator, content, other):
    """`content` after one to four changes."""
    content = bytearray(content)
    for _ in range(int(generator.choice([1, 1, 1, 2, 3]))):
        size = len(content)
        place = int(generator.integers(0, size + 1))
        match int(generator.integers(0, 9)):
            case 0 if size:
                content[place % size] ^= 1 << int(generator.integers(0, 8))
            case 1 if size:
                content[place % size] = int(generator.integers(0, 256))
            case 2:
                del content[place:]
            case 3:
                del content[place : place + int(generator.integers(1, 40))]
            case 4:
                content[place:place] = WORDS[int(generator.integers(0, len(WORDS)))]
            case 5:
                start = int(generator.integers(0, len(other) + 1))
                content[place : place + 30] = other[start : start + int(generator.integers(1, 200))]
            case 6:
                content = _other_number(generator, content)
            case 7:
                content = _other_lines(generator, content)
            case 8 if size:
                end = min(size, place + int(generator.integers(1, 9)))
                content[place:end] = bytes([int(generator.choice([0, 255, 127]))]) * (end - place)
    return bytes(content)


def _other_number(generator, content):
    found = list(NUMBER.finditer(bytes(content)))
    if found:
        match = found[int(generator.integers(0, len(found)))]
        content[match.start() : match.end()] = WORDS[int(generator.integers(0, 11))]
    return content


def _other_lines(generator, content):
    lines = bytes(content).splitlines(keepends=True)
    if lines:
        index = int(generator.integers(0, len(lines)))
        times = int(generator.choice([0, 2, 50]))
        lines[index : index + 1] = [lines[index]] * times
    return bytearray(b"".join(lines))


def spoil_npz(generator, content, other):
    """The archive broken, or whole around broken arrays (so that checksums fit)."""
    if generator.random() < 0.3:
        return mutate(generator, content, other)
    stream = io.BytesIO()
    packing = int(generator.choice([zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED]))
    with (
        zipfile.ZipFile(io.BytesIO(content)) as archive,
        zipfile.ZipFile(stream, "w", packing) as copy,
    ):
        names = archive.namelist()
        chosen = names[int(generator.integers(0, len(names)))]
        for name in names:
            data = archive.read(name)
            if name == chosen:
                data = spoil_npy(generator, data, archive.read(names[0]))
            copy.writestr(name, data)
    return stream.getvalue()


def spoil_npy(generator, content, other):
    """Mostly the header; also pickles."""
    end = content.index(b"\n") + 1
    head, body = content[:end], content[end:]
    match int(generator.integers(0, 6)):
        case 0:
            return content[:10] + mutate(generator, head[10:], other) + body
        case 1:
            return _npy_header(head, rb"\([\d, ]*\)", SHAPES[int(generator.integers(0, 12))]) + body
        case 2:
            return _npy_header(head, rb"'[<>|]\w+'", DTYPES[int(generator.integers(0, 12))]) + body
        case 3:
            stream = io.BytesIO()
            np.save(stream, np.array([Payload(MARKER)] * 3, dtype=object), allow_pickle=True)
            return stream.getvalue()
        case 4:
            values = np.array([np.nan, np.inf, -1, 1e300])[generator.integers(0, 4)]
            return head + np.full(len(body) // 8, values).tobytes() + body[len(body) // 8 * 8 :]
        case _:
            return mutate(generator, content, other)


SHAPES = [
    b"(10000000000000,)", b"(-1,)", b"(0,)", b"()", b"(5, 0, 3)", b"(0, 3, 3)", b"(3,)",
    b"(1, 1, 1, 1, 1, 1)", b"(4611686018427387904, 4)", b"(5, 9)", b"(45,)", b"(1e3,)",
]  # fmt: skip
DTYPES = [
    b"'|O'", b"'<f2'", b"'>f8'", b"'<c16'", b"'|S8'", b"'<U2'", b"'|V8'", b"'<M8'", b"'<f16'",
    b"'|b1'", b"'<i8'", b"'|S99999999999'",
]  # fmt: skip


def _npy_header(head, pattern, value):
    text = re.sub(pattern, value.replace(b"\\", b"\\\\"), head[10:].rstrip(), count=1)
    text += b"\n"
    return head[:8] + len(text).to_bytes(2, "little") + text


def spoil_hdf5(generator, content, other):
    """A few bytes, most of them near the beginning, where the structure of the file stands."""
    content = bytearray(content)
    for _ in range(int(generator.integers(1, 6))):
        reach = len(content) if generator.random() < 0.4 else min(len(content), 6000)
        place = int(generator.integers(0, reach))
        match int(generator.integers(0, 4)):
            case 0:
                content[place] ^= 1 << int(generator.integers(0, 8))
            case 1:
                content[place : place + 8] = bytes([int(generator.choice([0, 255, 127, 1]))]) * 8
            case 2 if generator.random() < 0.2:
                del content[place:]
            case _:
                content[place] = int(generator.integers(0, 256))
        if len(content) < 10:
            break
    return bytes(content)


def spoil_db(generator, content, path):
    """Bytes of the file, or values in the table, which stays sound."""
    if generator.random() < 0.5:
        return mutate(generator, content, content)
    path.write_bytes(content)
    columns = ["numbers", "positions", "cell", "pbc", "energy", "forces", "stress", "data",
               "key_value_pairs"]  # fmt: skip
    values = [b"", b"\x00" * 7, b"\xff" * 24, pickle.dumps(Payload(MARKER)), None, "text", 10**15,
              1e300, b'{"a": ' * 3000, b"[" * 90000, b"\x10" + bytes(7) + b'{"a":' * 3,
              '{"name": [1], "charge": "x"}', '{"__ndarray__": [[99999999999], "float64", []]}',
              b"\x08" + bytes(7) + b'{"own": {"__ndarray__": [[1000000000000], "float64", 8]}}'
              ]  # fmt: skip
    column = columns[int(generator.integers(0, len(columns)))]
    value = values[int(generator.integers(0, len(values)))]
    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA synchronous = OFF")
        connection.execute(f"UPDATE systems SET {column} = ? WHERE id = 2", (value,))
    connection.close()
    return path.read_bytes()


def spoil(kind, generator, content, other, path):
    """Another content of that format."""
    if isinstance(content, dict):
        name = list(content)[int(generator.integers(0, len(content)))]
        changed = dict(content)
        if generator.random() < 0.1:
            del changed[name]
        elif name.endswith(".npy"):
            changed[name] = spoil_npy(generator, content[name], content["set.000/coord.npy"])
        else:
            changed[name] = mutate(generator, content[name], b"C H 5 -3")
        return changed
    if kind == "npz":
        return spoil_npz(generator, content, other)
    if kind == "hdf5":
        return spoil_hdf5(generator, content, other)
    if kind == "db":
        return spoil_db(generator, content, path)
    if kind == "xyz_gz" and generator.random() < 0.6:
        return gzip.compress(
            mutate(generator, gzip.decompress(content), gzip.decompress(other)), 1, mtime=0
        )
    return mutate(generator, content, other)


def write(path, content):
    """The file or folder."""
    if isinstance(content, dict):
        shutil.rmtree(path, ignore_errors=True)
        for name, part in content.items():
            (path / name).parent.mkdir(parents=True, exist_ok=True)
            (path / name).write_bytes(part)
    else:
        path.write_bytes(content)


def try_input(path, options):
    """``entries``, ``refused`` or what else happened."""
    signal.setitimer(signal.ITIMER_REAL, SECONDS)
    try:
        for number, entry in enumerate(iterate(path, options)):
            with contextlib.suppress(BadInput):
                entry.record()
            if number > MAX_ENTRIES:
                break
    except BadInput as error:
        text = str(error)
        own = FOREIGN.search(path.name) is None and MISTAKES.search(text)
        return "refused" if 0 < len(text) < 5000 and not own else f"message {text[:300]}"
    except BaseException as error:  # anything else is what is looked for
        return f"{type(error).__name__}: {str(error)[:300]}"
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
    return "entries"


def _too_long(number, frame):
    raise TimeoutError(f"more than {SECONDS} s")


def bounded():
    """Bound the address space."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    limit = pages * resource.getpagesize() + MEMORY
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))


def peak_kb():
    """Largest resident memory of this process so far (getrusage would count its parent's)."""
    text = Path("/proc/self/status").read_text()
    return int(re.search(r"VmHWM:\s+(\d+) kB", text)[1])


def prepared():
    """Modules imported before memory is bounded; warnings made errors."""
    import ase.db
    import ase.io  # noqa: F401
    import h5py  # noqa: F401
    from rdkit import RDLogger

    RDLogger.DisableLog("rdApp.*")
    warnings.simplefilter("error")


def fuzz(kind, suffix, contents, count, generator, folder):
    """Run the inputs of one format and print what came of them."""
    path = folder / f"input{suffix}"
    counts = {"entries": 0, "refused": 0}
    wrong = []
    before = peak_kb()
    for number in range(count):
        content = contents[int(generator.integers(0, len(contents)))]
        other = contents[int(generator.integers(0, len(contents)))]
        spoilt = spoil(kind, generator, content, other, folder / "scratch.db")
        write(path, spoilt)
        outcome = try_input(path, ReadOptions())
        if outcome in counts:
            counts[outcome] += 1
        else:
            wrong.append(f"input {number}: {outcome}")
            if not isinstance(spoilt, dict):
                (folder / f"wrong-{kind}-{number}{suffix}").write_bytes(spoilt)
    after = peak_kb()
    grown = (after - before) // 1024
    line = {"format": kind, **counts, "memory_mb": grown, "marker": MARKER.exists()}
    print(json.dumps({**line, "wrong": wrong[:20]}), flush=True)


def main(counts, seed, folder):
    """Every format of `counts`."""
    prepared()
    signal.signal(signal.SIGALRM, _too_long)
    known = seeds()
    for kind in counts:
        suffix, contents = known[kind]
        for content in contents:
            write(folder / f"seed{suffix}", content)
            outcome = try_input(folder / f"seed{suffix}", ReadOptions())
            assert outcome == "entries", f"seed of {kind}: {outcome}"
    bounded()
    for number, (kind, count) in enumerate(counts.items()):
        suffix, contents = known[kind]
        fuzz(kind, suffix, contents, count, np.random.default_rng([seed, number]), folder)


if __name__ == "__main__":
    MARKER = Path(sys.argv[3]) / "marker"
    main(json.loads(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3]))

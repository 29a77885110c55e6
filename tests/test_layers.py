"""Imports point down only; the floors that must start fast import without JAX."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import karat

ROOT = Path(karat.__file__).parent
FLOORS = [
    {"core"},
    {"structures"},
    {"results"},
    {"data", "reference"},
    {"potentials"},
    {"simulation"},
    {"report", "assays", "sampling", "training"},
    {"campaign"},
    {"cli"},
]
LEVEL = {room: height for height, floor in enumerate(FLOORS) for room in floor}
WITHOUT_JAX = ("core", "structures", "results", "data", "reference", "report")


def imports(path: Path):
    """(line, room) of every import of another karat room, lazy ones included."""
    for node in ast.walk(ast.parse(path.read_text())):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: relative import"
            names = [node.module or ""]
        for name in names:
            parts = name.split(".")
            if parts[0] == "karat" and len(parts) > 1:
                yield node.lineno, parts[1]


def violations(files):
    found = []
    for path in files:
        room = path.relative_to(ROOT).parts[0]
        for line, other in imports(path):
            if other == room:
                continue
            if other not in LEVEL or LEVEL[other] >= LEVEL[room]:
                found.append(f"{path}:{line}: {room} imports {other}")
    return found


def test_imports_point_down_only():
    files = [path for path in ROOT.rglob("*.py") if path.parent != ROOT]
    assert len(files) > 20
    assert violations(files) == []


@pytest.mark.parametrize("room", WITHOUT_JAX)
def test_floor_imports_without_jax(room):
    modules = [
        ".".join(("karat", *path.relative_to(ROOT).with_suffix("").parts))
        for path in sorted((ROOT / room).rglob("*.py"))
        if path.name != "__init__.py"
    ]
    code = (
        "import importlib, sys\n"
        "class Refuse:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name.split('.')[0] in ('jax', 'jaxlib', 'equinox', 'torch'):\n"
        "            raise ImportError(f'{name} imported on a floor without JAX')\n"
        "sys.meta_path.insert(0, Refuse())\n"
        f"for name in {modules!r}: importlib.import_module(name)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_files_and_functions_stay_small():
    long = []
    for path in ROOT.rglob("*.py"):
        text = path.read_text()
        if len(text.splitlines()) > 400:
            long.append(f"{path}: {len(text.splitlines())} lines")
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef) and node.end_lineno - node.lineno + 1 > 60:
                long.append(f"{path}:{node.lineno} {node.name}")
    assert long == []

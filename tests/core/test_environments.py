"""Isolated environments: made from tiny packages written here, so no network is needed."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import pytest

from karat.core import environments, installers
from karat.core.cache_folder import cache_folder
from karat.core.environments import Environment, delete, ensure, find, installed
from karat.core.errors import BadInput, CalculationFailed, UnknownKey
from karat.core.isolated import run


def wheel(folder: Path, name: str, version: str, source: str, requires: str = "") -> None:
    """Write a wheel that holds one module."""
    folder.mkdir(exist_ok=True)
    info = f"{name}-{version}.dist-info"
    needs = f"Requires-Dist: {requires}\n" if requires else ""
    files = {
        f"{name}.py": source,
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n{needs}",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: t\nRoot-Is-Purelib: true\n"
        "Tag: py3-none-any\n",
    }
    files[f"{info}/RECORD"] = "".join(f"{path},,\n" for path in [*files, f"{info}/RECORD"])
    with zipfile.ZipFile(folder / f"{name}-{version}-py3-none-any.whl", "w") as archive:
        for path, text in files.items():
            archive.writestr(path, text)


@pytest.fixture
def packages(tmp_path: Path) -> Path:
    folder = tmp_path / "packages"
    wheel(folder, "isolated_one", "1.0", "NUMBER = 1\n", "isolated_two>=2")
    wheel(folder, "isolated_two", "2.5", "NUMBER = 2\n")
    wheel(folder, "isolated_two", "1.5", "NUMBER = 3\n")
    return folder


def environment(packages: Path, *requirements: str) -> Environment:
    return Environment(
        "tiny",
        requirements or ("isolated-one==1.0",),
        find_links=(str(packages),),
        no_index=True,
    )


SHOW = (
    "import isolated_one, isolated_two, sys\n"
    "print(isolated_one.NUMBER, isolated_two.NUMBER, sys.prefix)"
)


# slow: venv takes 10 s to install pip
@pytest.mark.parametrize("tool", ["uv", pytest.param("pip", marks=pytest.mark.slow)])
def test_environment_holds_what_was_asked_for_and_nothing_else(
    tool, packages, tmp_path, monkeypatch
):
    if tool == "pip":
        monkeypatch.setattr(environments, "find_uv", lambda: None)
    elif installers.find_uv() is None:
        pytest.skip("uv is not installed")
    root = tmp_path / "root"
    asked, said = environment(packages), []
    assert find(asked, root) is None
    python = ensure(asked, root, said.append)
    assert find(asked, root) == python
    one, two, prefix = run(python, SHOW, [], tmp_path, 60).split()
    assert (one, two) == ("1", "2")
    assert Path(prefix) == python.parent.parent == root / asked.folder_name
    with pytest.raises(CalculationFailed, match="No module named 'numpy'"):
        run(python, "import numpy", [], tmp_path, 60)
    record = json.loads((python.parent.parent / "record.json").read_text())
    assert record["asked"]["requirements"] == ["isolated-one==1.0"]
    # in lower case and with hyphens by one tool, as written by the other
    names = {line.lower().replace("_", "-") for line in record["resolved"]}
    assert {"isolated-one==1.0", "isolated-two==2.5"} <= {n.split(" @ ")[0] for n in names}
    assert record["tool"].startswith(tool)
    assert "isolated" in (root / f"{asked.folder_name}.log").read_text()
    assert said
    again = []
    assert ensure(asked, root, again.append) == python
    assert again == []  # nothing to do


def test_folder_depends_on_all_that_decides_the_contents(packages):
    base = environment(packages)
    others = [
        environment(packages, "isolated-one==1.0", "isolated-two"),
        Environment("tiny", base.requirements, "3.12", find_links=base.find_links, no_index=True),
        Environment("tiny", base.requirements, find_links=base.find_links),
        Environment("tiny", base.requirements, no_index=True),
        Environment("tiny", base.requirements, indexes=("https://example.org",), no_index=True),
        Environment("other", base.requirements, find_links=base.find_links, no_index=True),
    ]
    assert len({one.folder_name for one in [base, *others]}) == 7
    current = f"{sys.version_info.major}.{sys.version_info.minor}"
    explicit = Environment(
        "tiny", base.requirements, current, find_links=base.find_links, no_index=True, disk_gb=3
    )
    assert explicit.folder_name == base.folder_name


def test_version_that_does_not_exist_is_one_clear_error(packages, tmp_path):
    asked, root = environment(packages, "isolated-one==7.0"), tmp_path / "root"
    with pytest.raises(CalculationFailed, match=r"(?s)isolated.one.*UV_FIND_LINKS.*log") as caught:
        ensure(asked, root)
    assert caught.value.kind == "no-such-version"
    assert find(asked, root) is None
    assert installed(root) == []
    left = [path.name for path in root.iterdir()]
    assert sorted(left) == sorted([f".{asked.folder_name}.lock", f"{asked.folder_name}.log"])


@pytest.mark.parametrize(
    ("said", "kind"),
    [
        ("error: failed to write: No space left on device (os error 28)", "disk-full"),
        ("error: Failed to fetch: `https://pypi.org/simple/x/`\n dns error", "no-network"),
        (
            "WARNING: Retrying: NewConnectionError: [Errno -2] Name or service not known\n"
            "Temporary failure in name resolution\nERROR: no more",
            "no-network",
        ),
        ("ERROR: No matching distribution found for x==9", "no-such-version"),
        ("error: command 'gcc' failed", "install"),
    ],
)
def test_failures_are_told_apart_and_name_the_next_step(said, kind, tmp_path):
    script = f"import sys; print({said!r}); sys.exit(1)"
    with (tmp_path / "log").open("w") as log, pytest.raises(CalculationFailed) as caught:
        installers.follow([sys.executable, "-c", script], dict(os.environ), log, lambda line: None)
    assert caught.value.kind == kind
    assert said.splitlines()[-1] in str(caught.value)
    assert str(tmp_path / "log") in str(caught.value)


def test_installer_that_hangs_is_stopped(tmp_path):
    command = [sys.executable, "-c", "import time; time.sleep(60)"]
    started = time.monotonic()
    with (tmp_path / "log").open("w") as log, pytest.raises(CalculationFailed) as caught:
        installers.follow(command, dict(os.environ), log, lambda line: None, limit_s=0.3)
    assert caught.value.kind == "timeout"
    assert time.monotonic() - started < 20


def test_too_little_room_is_refused_before_anything_is_made(packages, tmp_path):
    asked = Environment("tiny", ("isolated-one",), find_links=(str(packages),), disk_gb=1e9)
    with pytest.raises(BadInput, match=r"needs 1000000000.0 GB.*KARAT_HOME"):
        ensure(asked, tmp_path)
    assert list(tmp_path.glob("tiny-*")) == []


@pytest.mark.parametrize(("name", "wanted"), [("a b", "x"), ("", "x"), ("a", "-r x"), ("a", "")])
def test_names_and_requirements_are_checked(name, wanted):
    with pytest.raises(BadInput, match="environment"):
        Environment(name, (wanted,))


def test_python_that_is_not_there_is_named(packages, tmp_path, monkeypatch):
    monkeypatch.setattr(environments, "find_uv", lambda: None)
    asked = Environment("tiny", (), python="3.99")
    with pytest.raises(BadInput, match=r"Python 3.99 .*not available"):
        ensure(asked, tmp_path)


BUILD = (
    "import sys\n"
    "from pathlib import Path\n"
    "from karat.core.environments import Environment, ensure\n"
    "asked = Environment('tiny', tuple(sys.argv[3:]), find_links=(sys.argv[2],), no_index=True)\n"
    "ensure(asked, Path(sys.argv[1]), lambda line: print(line, flush=True))\n"
)


def builder(root: Path, packages: Path, *requirements: str) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, "-c", BUILD, str(root), str(packages), *requirements],
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def test_two_processes_make_one_environment_once(packages, tmp_path):
    root = tmp_path / "root"
    both = [builder(root, packages, "isolated-one==1.0") for _ in range(2)]
    said = [process.communicate(timeout=100)[0] for process in both]
    assert [process.returncode for process in both] == [0, 0]
    assert sum("is ready" in text for text in said) == 1
    assert [one.name for one in installed(root)] == ["tiny"]


def slow_source(packages: Path, marker: Path) -> None:
    """A source package whose build writes `marker` and then waits."""
    backend = (
        "import pathlib, time\n"
        "def build_wheel(*_, **__):\n"
        f"    pathlib.Path({str(marker)!r}).write_text('')\n"
        "    time.sleep(60)\n"
        "prepare_metadata_for_build_wheel = build_wheel\n"
    )
    project = (
        "[build-system]\nrequires = []\nbuild-backend = 'backend'\nbackend-path = ['.']\n"
        "[project]\nname = 'isolated-slow'\nversion = '1.0'\ndynamic = ['dependencies']\n"
    )
    metadata = "Metadata-Version: 2.1\nName: isolated-slow\nVersion: 1.0\n"
    top = packages.parent / "isolated_slow-1.0"
    top.mkdir()
    for name, text in (
        ("backend.py", backend),
        ("pyproject.toml", project),
        ("PKG-INFO", metadata),
    ):
        (top / name).write_text(text)
    archive = shutil.make_archive(str(top), "gztar", top.parent, top.name)
    shutil.move(archive, packages)


def test_killed_build_leaves_nothing_that_is_taken_for_an_environment(packages, tmp_path):
    root, marker = tmp_path / "root", tmp_path / "marker"
    slow_source(packages, marker)
    process = builder(root, packages, "isolated-slow")
    deadline = time.monotonic() + 60
    while not marker.exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert marker.exists()
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate(timeout=30)
    asked = environment(packages, "isolated-slow")
    assert find(asked, root) is None
    assert installed(root) == []
    assert len(list(root.glob(f".{asked.folder_name}-*"))) == 1  # half of one
    wheel(packages, "isolated_slow", "1.0", "NUMBER = 5\n")  # now it can be installed
    python = ensure(asked, root)
    assert run(python, "import isolated_slow as s; print(s.NUMBER)", [], tmp_path, 60) == "5\n"
    assert list(root.glob(f".{asked.folder_name}-*")) == []


def test_environments_are_listed_and_deleted(packages, tmp_path):
    root = tmp_path / "root"
    first = environment(packages, "isolated-two==2.5")
    second = environment(packages, "isolated-two==1.5")
    for asked in (first, second):
        ensure(asked, root)
    found = installed(root)
    assert {one.folder.name for one in found} == {first.folder_name, second.folder_name}
    assert {one.requirements for one in found} == {first.requirements, second.requirements}
    assert all(one.size_bytes > 100 and one.made.endswith("+00:00") for one in found)
    assert delete(first.folder_name, root) == [root / first.folder_name]
    assert [one.folder.name for one in installed(root)] == [second.folder_name]
    with pytest.raises(UnknownKey, match="'tinny'; did you mean 'tiny'"):
        delete("tinny", root)
    delete("tiny", root)
    assert installed(root) == []
    assert list(root.glob("tiny-*")) == []
    assert installed(tmp_path / "nowhere") == []


def test_damaged_record_is_named(packages, tmp_path):
    folder = tmp_path / "tiny-0"
    folder.mkdir()
    (folder / "record.json").write_text("{}")
    with pytest.raises(BadInput, match=r"record.json: is damaged"):
        installed(tmp_path)


def test_cache_folder_follows_the_variables(monkeypatch, tmp_path):
    monkeypatch.setenv("KARAT_HOME", str(tmp_path / "a"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "b"))
    assert cache_folder() == tmp_path / "a"
    assert environments.environments_folder() == tmp_path / "a" / "environments"
    monkeypatch.delenv("KARAT_HOME")
    assert cache_folder() == tmp_path / "b" / "karat"
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert cache_folder() == Path.home() / ".cache" / "karat"


def test_settings_for_pip_hold_for_uv_too(monkeypatch):
    monkeypatch.setenv("PIP_FIND_LINKS", "/a /b")
    monkeypatch.setenv("PIP_INDEX_URL", "https://mirror.example/simple")
    monkeypatch.setenv("UV_INDEX", "https://own.example")
    monkeypatch.setenv("PIP_EXTRA_INDEX_URL", "https://other.example")
    monkeypatch.setenv("PYTHONPATH", "/nowhere")
    values = installers.UvInstaller._environment()
    assert values["UV_FIND_LINKS"] == "/a,/b"
    assert values["UV_DEFAULT_INDEX"] == "https://mirror.example/simple"
    assert values["UV_INDEX"] == "https://own.example"
    assert "PYTHONPATH" not in values

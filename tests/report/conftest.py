"""A campaign's output folder, its report, and the browser, for every test of the report."""

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

from karat.report.write import write_report


def _load(name: str) -> ModuleType:
    """A module of this folder; tests are not packages."""
    full = f"karat_report_tests_{name}"
    if full not in sys.modules:
        spec = importlib.util.spec_from_file_location(full, Path(__file__).parent / f"{name}.py")
        module = importlib.util.module_from_spec(spec)
        sys.modules[full] = module
        spec.loader.exec_module(module)
    return sys.modules[full]


@pytest.fixture(scope="session")
def example():
    """`example.py`: builds output folders."""
    return _load("example")


@pytest.fixture(scope="session")
def browser():
    """`browser.py`; skips where there is no browser."""
    module = _load("browser")
    if module.find_browser() is None:
        pytest.skip("no Chromium on PATH (Debian: apt install chromium)")
    return module


@pytest.fixture(scope="session")
def folder(example, tmp_path_factory):
    """The example's output folder; not to be changed."""
    return example.write_example(tmp_path_factory.mktemp("campaign"))


@pytest.fixture(scope="session")
def page(folder, tmp_path_factory):
    """The example's report as HTML."""
    return write_report(folder, tmp_path_factory.mktemp("page") / "report.html")

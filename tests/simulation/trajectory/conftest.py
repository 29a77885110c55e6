"""The made-up run of `made_run.py`, for tests and for processes that tests start."""

import importlib.util
import json
import subprocess
import sys
from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest

PROGRAM = Path(__file__).with_name("made_run.py")


@pytest.fixture(scope="session")
def made():
    """The module `made_run`."""
    spec = importlib.util.spec_from_file_location("made_run", PROGRAM)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def start_run():
    """Start `made_run.py` as a process of its own; it is ended with the test."""
    begun = []

    def start(**arguments):
        begun.append(
            subprocess.Popen(
                [sys.executable, str(PROGRAM), json.dumps(arguments, default=str)],
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
            )
        )
        return begun[-1]

    yield start
    for process in begun:
        process.kill()
        process.wait()
        process.stdout.close()


@pytest.fixture
def same_frames():
    """Two blocks are equal, bit for bit."""

    def check(found, expected):
        for field in fields(expected):
            one, two = getattr(found, field.name), getattr(expected, field.name)
            if two is None or field.name == "first":
                assert one == two, field.name
            else:
                assert one.dtype == np.float64
                np.testing.assert_array_equal(one, two, err_msg=field.name, strict=True)

    return check

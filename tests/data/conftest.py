"""Makes `data_example.py` importable and names the folder of published data."""

import os
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

FOLDER = Path(os.environ.get("KARAT_DATA", Path(__file__).parents[3] / "shared" / "data"))


@pytest.fixture
def published():
    """Path of a published set, or skip."""

    def find(name):
        path = FOLDER / name
        if not path.exists():
            pytest.skip(f"{path} is not there; set KARAT_DATA to the folder of published data")
        return path

    return find

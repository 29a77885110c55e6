"""Makes `samples.py` and `plain_energy.py` importable; finds an interpreter with mace-torch."""

import os
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))


@pytest.fixture(scope="session")
def mace_torch_python():
    """An interpreter with mace-torch: KARAT_MACE_TORCH_PYTHON, or karat's environment if made."""
    from karat.core.environments import find
    from karat.potentials.external.mace_torch.environment import VARIANTS

    named = os.environ.get("KARAT_MACE_TORCH_PYTHON")
    found = [Path(named)] if named else [find(variant) for variant in VARIANTS]
    for path in found:
        if path is not None and path.exists():
            return path
    pytest.skip(
        "no environment with mace-torch: python -c 'from karat.potentials.external.mace_torch."
        "environment import interpreter; interpreter(report=print)' makes it"
    )


@pytest.fixture(scope="session")
def made(mace_torch_python, tmp_path_factory):
    """Folder with the models of tests/data/mace_torch, made again."""
    from karat.core.isolated import run

    folder = tmp_path_factory.mktemp("models")
    script = Path(__file__).parent / "make_models.py"
    run(mace_torch_python, script, [str(folder)], folder, 300)
    return folder

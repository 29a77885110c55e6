"""Entry points: 64 bits, the device, and programs that a second process need not compile."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from karat.campaign.jax_setup import prepare_jax, program_folder

COMPILES = """
import logging, sys
from pathlib import Path
from karat.campaign.jax_setup import prepare_jax
prepare_jax(Path(sys.argv[1]))
import jax, jax.numpy as jnp
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
hits = []
logging.getLogger("jax._src.compiler").addFilter(lambda record: hits.append(record.getMessage()))
logging.getLogger("jax._src.compiler").setLevel(logging.DEBUG)
x = jax.jit(lambda x: jnp.linalg.qr(x)[1] @ x)(jnp.eye(7))
assert x.dtype == "float64", x.dtype
print(jax.devices()[0].platform, sum("cache hit" in hit for hit in hits))
"""


def run(folder: Path, **variables: str) -> str:
    environment = {k: v for k, v in os.environ.items() if not k.startswith("JAX_")}
    done = subprocess.run(
        [sys.executable, "-c", COMPILES, str(folder)],
        capture_output=True, text=True, env=environment | variables,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_a_second_process_finds_what_the_first_compiled(tmp_path):
    folder = tmp_path / "deep" / "jax"
    assert run(folder) == "cpu 0"
    assert list(folder.iterdir())
    platform, hits = run(folder).split()
    assert platform == "cpu"
    assert int(hits) > 0


def test_a_folder_that_cannot_be_written_is_left_out(tmp_path):
    blocked = tmp_path / "file"
    blocked.write_text("")
    assert run(blocked / "jax") == "cpu 0"


@pytest.mark.parametrize(("cpu", "expected"), [(True, "cpu"), (False, "None")])
def test_the_choice_of_the_device_may_be_left_to_jax(cpu, expected):
    code = (
        "import os; from karat.campaign.jax_setup import prepare_jax; "
        f"prepare_jax(cpu={cpu}); print(os.environ.get('JAX_PLATFORMS'))"
    )
    environment = {k: v for k, v in os.environ.items() if k != "JAX_PLATFORMS"}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=environment
    )
    assert done.stdout.strip() == expected, done.stderr


def test_the_folder_is_below_that_of_karat(monkeypatch, tmp_path):
    monkeypatch.setenv("KARAT_HOME", str(tmp_path))
    folder = program_folder()
    assert folder.parent == tmp_path / "jax"
    assert folder == program_folder()
    assert not folder.exists()
    monkeypatch.setattr("karat.campaign.jax_setup._processor", lambda: "another")
    assert program_folder() != folder


def test_prepared_where_jax_is_imported_already(tmp_path):
    import jax

    before = jax.config.jax_compilation_cache_dir
    try:
        prepare_jax(tmp_path / "cache")
        assert jax.config.jax_compilation_cache_dir == str(tmp_path / "cache")
    finally:
        jax.config.update("jax_compilation_cache_dir", before)

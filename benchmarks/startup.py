"""Times what a newcomer waits for: `karat --help`, and a call of each quick contestant.

    JAX_PLATFORMS=cpu .venv/bin/python benchmarks/startup.py

Prints the median of nine runs with the smallest and the largest. One compute thread.
"""

import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from karat.core.threads import single_thread

single_thread()

RUNS = 9


def spread(seconds: list[float], unit: str = "ms", factor: float = 1e3) -> str:
    low, middle, high = min(seconds), statistics.median(seconds), max(seconds)
    return f"{middle * factor:.3g} {unit} ({low * factor:.3g} – {high * factor:.3g})"


def timed(call: Callable[[], object], repeat: int = 1) -> list[float]:
    """Seconds of one call, `RUNS` times, each the mean of `repeat` calls."""
    call()
    found = []
    for _ in range(RUNS):
        start = time.perf_counter()
        for _ in range(repeat):
            call()
        found.append((time.perf_counter() - start) / repeat)
    return found


def command_line() -> None:
    karat = Path(sys.executable).parent / "karat"
    for words in (["--help"], ["run", "--help"], ["list", "engines"]):
        seconds = timed(lambda words=words: subprocess.run([karat, *words], capture_output=True))
        print(f"karat {' '.join(words)}: {spread(seconds)}")


def contestants() -> None:
    from karat.potentials.catalogue import potential_component
    from karat.structures.builders import from_smiles

    molecule = from_smiles("CC(=O)/C=C(/C)O")[0]
    for name in ("mmff94", "uff", "gfn1_xtb", "gfn2_xtb"):
        potential = potential_component(name, {}, name).load()
        seconds = timed(lambda p=potential: p.predict([molecule]), repeat=20)
        print(f"{name}, energy and forces of acetylacetone (15 atoms): {spread(seconds)}")


if __name__ == "__main__":
    command_line()
    contestants()

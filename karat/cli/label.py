"""`karat label`: structures in, labelled structures out.

Checked: tests/cli/test_label.py.
"""

import json
import sys
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from karat.cli.settings import key_values
from karat.core.errors import BadInput

if TYPE_CHECKING:
    from karat.data.files import NamedStructure
    from karat.reference.protocol import AbstractEngine
    from karat.results.metric import Failure
    from karat.structures.labels import Labels

Report = Callable[[int, int, int], None]


def label(
    file: Annotated[Path, typer.Argument(help="Structures: extended XYZ or whatever ASE reads.")],
    engine: Annotated[str, typer.Option(help="Name, or module:Class; see `karat list`.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Extended XYZ to write.")],
    set_: Annotated[
        list[str] | None, typer.Option("--set", help="A setting of the engine: key=value.")
    ] = None,
    want: Annotated[
        str, typer.Option(help="Of energy, forces, stress, charges, dipole.")
    ] = "energy,forces",
    workers: Annotated[int, typer.Option(help="Processes, one compute thread each.")] = 2,
    timeout: Annotated[
        float | None, typer.Option(help="Seconds for one structure; none without.")
    ] = None,
    attempts: Annotated[int, typer.Option(help="Tries before a structure has failed.")] = 2,
    work: Annotated[
        Path | None, typer.Option(help="Folder of finished labels; default OUTPUT.labels.")
    ] = None,
    retry_failed: Annotated[
        bool, typer.Option("--retry-failed", help="Try again what failed in an earlier run.")
    ] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="One JSON document on standard output.")
    ] = False,
    plain: Annotated[bool, typer.Option("--plain", help="Progress as plain lines.")] = False,
) -> None:
    """Label structures with a reference engine, in parallel; started again, it goes on.

    What is finished is kept at once in the work folder. Failures (not converged, time-out, dead
    process) are listed in OUTPUT.failures.json; the exit status is 1 if there are some. Examples:

    karat label frames.xyz --engine gfn2_xtb --output labelled.xyz

    karat label frames.xyz --engine pyscf --set method=mp2 --output mp2.xyz --timeout 600
    """
    from karat.data.files import read_structures
    from karat.reference.exchange import ordered
    from karat.reference.labelling import Limits, label_structures

    chosen = make_engine(engine, set_ or [])
    limits = Limits(workers=workers, timeout_s=timeout, attempts=attempts)
    wanted = ordered([name.strip() for name in want.split(",") if name.strip()])
    structures = read_structures(file)
    _check_output(output)
    started = time.monotonic()
    with _progress(plain, as_json) as report:
        outcomes = label_structures(
            chosen,
            [item.structure for item in structures],
            [item.name for item in structures],
            wanted,
            work or output.with_name(output.name + ".labels"),
            limits,
            report,
            retry_failed=retry_failed,
        )
    failures = _write(chosen, structures, outcomes, output)
    _tell(chosen, len(outcomes), failures, output, time.monotonic() - started, as_json)
    if failures:
        raise typer.Exit(1)


def make_engine(name: str, settings: list[str]) -> "AbstractEngine":
    """The engine of that name with `key=value` settings; values are read as YAML.

    Raises:
        BadInput: unknown engine or key, a value that does not fit.
    """
    from karat.core.components import parse
    from karat.reference.catalogue import CATALOGUE
    from karat.reference.protocol import AbstractEngine

    values = key_values(settings, "--set")
    cls = CATALOGUE.resolve(name)
    if not (isinstance(cls, type) and issubclass(cls, AbstractEngine)):
        raise BadInput(f"--engine {name}: is not an engine (AbstractEngine).")
    return parse(cls, values, f"engine {name}")


def _progress(plain: bool, as_json: bool) -> AbstractContextManager[Report]:
    """A bar on a terminal, else a line now and then; always on standard error."""
    if plain or as_json or not sys.stderr.isatty():
        return nullcontext(_plain_report())
    return _Bar()


def _plain_report() -> Report:
    started, last = time.monotonic(), [-60.0, 0]

    def report(done: int, failed: int, total: int) -> None:
        now = time.monotonic() - started
        first = last[0] < 0
        if first:
            last[1] = done
        if not (first or done == total or now - last[0] >= 10.0):
            return
        last[0] = now
        fresh = done - last[1]
        left = f", {now / fresh * (total - done):.0f} s left" if fresh and done < total else ""
        print(f"label: {done}/{total} done, {failed} failed{left}", file=sys.stderr, flush=True)

    return report


class _Bar(AbstractContextManager[Report]):
    """A rich progress bar with the time left."""

    def __enter__(self) -> Report:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
        from rich.progress import TimeRemainingColumn as Left

        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[failed]} failed, time left"),
            Left(),
            console=Console(stderr=True),
        )
        task = self._bar.add_task("label", total=None, failed=0)
        self._bar.start()

        def report(done: int, failed: int, total: int) -> None:
            self._bar.update(task, completed=done, total=total, failed=failed)

        return report

    def __exit__(self, *exception: Any) -> None:
        self._bar.stop()


def _write(
    engine: "AbstractEngine",
    structures: "list[NamedStructure]",
    outcomes: "list[Labels | Failure]",
    output: Path,
) -> "list[Failure]":
    """Write the labelled structures and the list of failures, which is returned."""
    from karat.core.files import write_json
    from karat.data.dataset import Dataset, Record
    from karat.data.files import write_dataset
    from karat.results.metric import Failure
    from karat.structures.labels import Labels

    failures = [outcome for outcome in outcomes if isinstance(outcome, Failure)]
    records = tuple(
        Record(item.structure, outcome, item.name, item.kind, item.group, item.frame)
        for item, outcome in zip(structures, outcomes)
        if isinstance(outcome, Labels)
    )
    if records:
        write_dataset(Dataset(records, engine.level), output)
    listed = _failures_file(output)
    if failures:
        write_json(listed, [failure.as_dict() for failure in failures])
    else:
        listed.unlink(missing_ok=True)
    return failures


def _check_output(output: Path) -> None:
    from karat.core.files import writable_folder

    if output.suffix not in (".xyz", ".extxyz", ".gz") or output.is_dir():
        raise BadInput(f"--output {output}: name a file that ends in .xyz, .extxyz or .xyz.gz.")
    writable_folder(output.parent)


def _failures_file(output: Path) -> Path:
    return output.with_name(output.name + ".failures.json")


def _tell(
    engine: "AbstractEngine",
    total: int,
    failures: "list[Failure]",
    output: Path,
    seconds: float,
    as_json: bool,
) -> None:
    labelled = total - len(failures)
    if as_json:
        document = {
            "level": engine.level.as_dict(),
            "structures": total,
            "labelled": labelled,
            "failures": [failure.as_dict() for failure in failures],
            "output": str(output) if labelled else None,
            "seconds": seconds,
        }
        print(json.dumps(document, indent=1))
        return
    for failure in failures:
        tries = f"{failure.attempts} attempt{'s' if failure.attempts != 1 else ''}"
        print(f"failed: {failure.case}: {failure.kind} after {tries}: {failure.reason}")
    written = f" Written: {output}" if labelled else " Nothing was labelled, nothing is written."
    level = engine.level.label + (" (semi-empirical)" if engine.level.semiempirical else "")
    print(f"{labelled} of {total} structures labelled with {level} in {seconds:.1f} s.{written}")
    if failures:
        print(f"Failures: {_failures_file(output)}")

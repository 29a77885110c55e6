"""`karat compute`: a property of many structures by one potential; started again, it goes on.

Checked: tests/cli/test_compute.py.
"""

import contextlib
import json
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from karat.campaign.compute.catalogue import CATALOGUE
from karat.cli.settings import key_values

if TYPE_CHECKING:
    from karat.campaign.compute.protocol import Progress, Value
    from karat.campaign.compute.run import Computed

LIST = "list"
"""In the place of a property: what can be computed."""
WIDTH = 120
"""Columns of the table where standard output is no terminal."""
QUIET_SECONDS = 10.0
"""Between plain lines."""


def complete(incomplete: str) -> list[str]:
    """Names of properties for the shell; nothing heavy is imported."""
    return [name for name in (*CATALOGUE.names(), LIST) if name.startswith(incomplete)]


Property = Annotated[
    str,
    typer.Argument(
        help=f"One of {', '.join(CATALOGUE.members)}; or {LIST}, which explains them.",
        autocompletion=complete,
    ),
]
Files = Annotated[
    list[str] | None, typer.Argument(help="Structures: CIF, POSCAR, extended XYZ, SDF, …")
]
Potential = Annotated[
    str | None,
    typer.Option("--potential", "-p", help="A .karat file, or a name (`karat list potentials`)."),
]
PotentialSet = Annotated[
    list[str] | None,
    typer.Option("--potential-set", help="Of the potential: key=value; may be repeated."),
]
Set = Annotated[
    list[str] | None,
    typer.Option("--set", help="Of the property: key=value (`karat compute list PROPERTY`)."),
]
Output = Annotated[
    Path | None, typer.Option("--output", "-o", help="Folder that keeps what is finished.")
]
Plain = Annotated[bool, typer.Option("--plain", help="Progress as plain lines.")]
Json = Annotated[bool, typer.Option("--json", help="One JSON document on standard output.")]


def compute(
    property: Property,
    files: Files = None,
    potential: Potential = None,
    potential_set: PotentialSet = None,
    set_: Set = None,
    output: Output = None,
    plain: Plain = False,
    as_json: Json = False,
) -> None:
    """A property of every structure in the files: relaxed structures, elastic tensors, phonons, …

    Every finished structure is kept in OUTPUT at once: interrupted, the same command goes on, and
    with more files it computes only what is new. Failures are listed; the exit status is 1 where
    there are some. `karat compute list` names the properties, `karat compute list elastic` what
    can be set, with units and defaults.

    Examples:

        karat compute elastic --potential stillinger_weber --potential-set preset=Si si.cif -o out

        karat compute relax --potential water.karat frames.xyz --set cell=free -o relaxed

        karat compute torsion --potential gfn2_xtb ligands.sdf --set points=24 -o scans --json
    """
    from karat.campaign.jax_setup import prepare_jax, program_folder
    from karat.core.errors import BadInput

    prepare_jax(program_folder(), cpu=False)
    if property == LIST:
        _list(files or [], as_json)
        return
    if potential is None:
        raise BadInput("compute: name a potential with --potential (`karat list potentials`).")
    settings = key_values(set_ or [], "--set")
    of_potential = key_values(potential_set or [], "--potential-set")
    signal.signal(signal.SIGTERM, _interrupt)
    with _folder(output) as folder:
        watch = make_progress(property, plain or as_json)
        found = _computed(property, potential, files or [], folder, settings, of_potential, watch)
        _tell(found, output, as_json)
    if found.failures:
        raise typer.Exit(1)


def _computed(
    property: str,
    potential: str,
    files: list[str],
    folder: Path,
    settings: dict[str, Any],
    of_potential: dict[str, Any],
    watch: "Progress",
) -> "Computed":
    """What is asked for; settings are looked at before files are read."""
    from karat.campaign.compute.run import compute as compute_property
    from karat.campaign.compute.run import property_of, read_sources

    property_of(property, settings)
    sources = read_sources(files)
    return compute_property(property, potential, sources, folder, settings, of_potential, watch)


def _tell(found: "Computed", output: Path | None, as_json: bool) -> None:
    """Write the documents, and print one of them or the table."""
    from karat.campaign.compute.document import document, write_documents

    written = write_documents(found)
    if as_json:
        kept = sum(one.before for one in found.cases)
        counts = {"kept_from_before": kept, "folder": None if output is None else str(output)}
        typer.echo(json.dumps(document(found) | counts, indent=1, allow_nan=False))
    else:
        _print(found, written if output is not None else ())


def _interrupt(*_: Any) -> None:
    raise KeyboardInterrupt


@contextlib.contextmanager
def _folder(output: Path | None) -> Iterator[Path]:
    if output is not None:
        yield output
        return
    with tempfile.TemporaryDirectory(prefix="karat-compute-") as temporary:
        yield Path(temporary)


def _list(names: list[str], as_json: bool) -> None:
    """What can be computed, or the settings of some properties."""
    from karat.campaign.compute.describe import describe

    described = [describe(name) for name in names or CATALOGUE.names()]
    if as_json:
        document = {
            one.name: {"title": one.title, "settings": [vars(s) for s in one.settings]}
            for one in described
        }
        typer.echo(json.dumps(document, indent=1))
        return
    for one in described:
        typer.echo(f"{one.name:<12}  {one.title}")
        for setting in one.settings if names else ():
            shown = "required" if setting.required else json.dumps(setting.default)
            typer.echo(f"  {setting.name} [{shown}]: {setting.words}")


def make_progress(property: str, plain: bool) -> "Progress":
    """A bar on a terminal, else a line now and then; always on standard error."""
    return _Lines(property) if plain or not sys.stderr.isatty() else _Bar()


class _Counts:
    """What both displays know."""

    total = kept = done = failed = 0
    started = 0.0

    def begin(self, total: int, kept: int) -> None:
        self.total, self.kept, self.started = total, kept, time.monotonic()

    def finished(self, name: str, atoms: int, reason: str) -> None:
        self.done += 1
        self.failed += bool(reason)

    @property
    def rate(self) -> str:
        """How many a second or minute, and how long it will take or took."""
        seconds = time.monotonic() - self.started
        if not self.done or seconds <= 0:
            return ""
        speed, left = self.done / seconds, self.total - self.kept - self.done
        each = f"{speed:.3g} per second" if speed >= 1 else f"{60 * speed:.3g} per minute"
        return f"{each}, {left / speed:.0f} s left" if left else f"{each}, {seconds:.1f} s"


class _Lines:
    """Plain lines: at the beginning, at the end, failures, and now and then."""

    def __init__(self, property: str) -> None:
        self._property, self._counts, self._said = property, _Counts(), 0.0

    def begin(self, total: int, kept: int) -> None:
        self._counts.begin(total, kept)
        before = f", {kept} of them done before" if kept else ""
        self._say(f"{total} to compute{before}")

    def inside(self, words: str) -> None:
        if time.monotonic() - self._said >= QUIET_SECONDS:
            self._say(f"… {words}")

    def finished(self, name: str, atoms: int, reason: str) -> None:
        self._counts.finished(name, atoms, reason)
        counts = self._counts
        ends = counts.kept + counts.done == counts.total
        if ends or time.monotonic() - self._said >= QUIET_SECONDS:
            done = f"{counts.kept + counts.done}/{counts.total} done, {counts.failed} failed"
            self._say(f"{done}, {counts.rate}")

    def end(self) -> None:
        sys.stderr.flush()

    def _say(self, words: str) -> None:
        self._said = time.monotonic()
        print(f"{self._property}: {words}", file=sys.stderr, flush=True)


class _Bar:
    """A bar with rate and what runs now."""

    def __init__(self) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, TextColumn
        from rich.progress import Progress as Bar

        self._counts = _Counts()
        self._bar = Bar(
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[rate]}  {task.fields[words]}", markup=False),
            console=Console(stderr=True),
        )
        self._task = self._bar.add_task("", total=None, rate="", words="preparing …")

    def begin(self, total: int, kept: int) -> None:
        self._counts.begin(total, kept)
        before = f"{kept} done before" if kept else ""
        self._bar.update(self._task, total=total, completed=kept, words=before)
        self._bar.start()

    def inside(self, words: str) -> None:
        self._bar.update(self._task, words=words)

    def finished(self, name: str, atoms: int, reason: str) -> None:
        self._counts.finished(name, atoms, reason)
        failed = f"{self._counts.failed} failed, " if self._counts.failed else ""
        self._bar.update(self._task, advance=1, rate=failed + self._counts.rate)

    def end(self) -> None:
        self._bar.stop()


def _print(found: "Computed", written: tuple[Path, ...]) -> None:
    from rich.console import Console
    from rich.table import Table

    console = Console(width=None if sys.stdout.isatty() else WIDTH, highlight=False)
    table = Table(title=f"{found.property} by {found.about['potential']['name']}")
    results = [(one, {value.name: value for value in one.found.values}) for one in found.cases]
    names = [name for name in type(found.settings).columns if any(name in v for _, v in results)]
    table.add_column("structure", overflow="fold")
    table.add_column("formula", overflow="fold")
    for name in names:
        unit = next(values[name].unit for _, values in results if name in values)
        head = name.replace("_", " ") + (f"\n{unit}" if unit else "")
        table.add_column(head, justify="right")
    for one, values in results:
        cells = [shown(values[name]) if name in values else "–" for name in names]
        table.add_row(one.case.name.replace("[", r"\["), one.case.structure.formula, *cells)
    if results:
        console.print(table)
    for one in found.cases:
        for name, words in one.found.notes.items():
            if words.startswith("none: "):
                console.print(f"{one.case.name}: no {name}: {words[6:]}", markup=False)
    for failure in found.failures:
        words = f"failed: {failure.case}: {failure.kind}: {failure.reason}"
        console.print(words, markup=False)
    before = sum(one.before for one in found.cases)
    new, failed = len(found.cases) - before, found.attempted - len(found.cases)
    console.print(f"{new} computed, {before} done before, {failed} failed.")
    if written:
        console.print(f"Written: {', '.join(map(str, written))}", markup=False, soft_wrap=True)
    else:
        console.print("Nothing is kept; name a folder with --output.")


def shown(value: "Value") -> str:
    """A single number in a table: whole numbers as they are, energies to 0.1 meV, others to five
    digits, three where they are small."""
    number = value.number
    if isinstance(number, bool):
        return "yes" if number else "no"
    if isinstance(number, int):
        return str(number)
    if value.unit == "eV" and abs(number) >= 0.001:
        return f"{number:.4f}"
    return f"{number:.5g}" if abs(number) >= 0.01 else f"{number:.3g}"

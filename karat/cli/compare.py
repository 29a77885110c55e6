"""`karat compare`: what became better, worse, or stayed, between two result folders."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from karat.results.change import CasesLost, Change
    from karat.results.result import Result

EXIT_WORSE = 1
COLOURS = {"better": "green", "worse": "red", "gone": "red", "incomparable": "yellow"}
ORDER = ("worse", "gone", "better", "undecided", "incomparable", "new", "tied")


def compare(
    old: Annotated[Path, typer.Argument(help="Folder of a `karat run` or `karat assay --output`.")],
    new: Annotated[Path, typer.Argument(help="Another, to be judged against it.")],
    rename: Annotated[
        list[str] | None,
        typer.Option(
            "--rename",
            metavar="OLD=NEW",
            help="Contestant of the first folder and the one of the second to compare it with. "
            "Where each folder has one, they are compared whatever they are called.",
        ),
    ] = None,
    by_name: Annotated[
        bool,
        typer.Option(
            "--by-name", help="Pair cases by their names even where the sets of cases differ."
        ),
    ] = False,
    level: Annotated[
        float,
        typer.Option(
            help="Chance of any false 'better' or 'worse' among all changes.", min=1e-6, max=0.5
        ),
    ] = 0.05,
    as_json: Annotated[
        bool, typer.Option("--json", help="One JSON document on standard output.")
    ] = False,
) -> None:
    """Compare two result folders case by case: better, worse, or tied, with intervals.

    Every error that both have is compared on the cases that both did (paired bootstrap; whole
    blocks of trajectories are drawn). Verdicts hold for all changes at once (Holm), the interval of
    each difference is its own 95 % one. Timings are left out: they say as much of the machine.

    Exit status 0: nothing is worse; 1: something is worse or gone, or cases fail that did not;
    2: a folder holds no results.

    Examples:

        karat compare runs/before runs/after

        karat compare runs/mace-22 runs/mace-44 --rename mace-22=mace-44

        karat compare main.results pull-request.results --json | jq .worse
    """
    from karat.results.change import cases_lost, changes

    before, after = _scores(old), _scores(new)
    names = _names(rename or [], [_contestants(before), _contestants(after)], (old, new))
    found = changes(before, after, names, by_name, level)
    lost = cases_lost(before, after, names)
    if as_json:
        _print_json(found, lost, level)
    else:
        _print_table(found, lost)
    failing = any(change.verdict in ("worse", "gone") for change in found)
    raise typer.Exit(EXIT_WORSE if failing or any(one.now_failing for one in lost) else 0)


def _scores(folder: Path) -> "tuple[Result, ...]":
    """The scores of a run.

    Raises:
        BadInput: no run, or one without scores.
    """
    from karat.core.errors import BadInput
    from karat.report.model import load_view

    scores = load_view(folder).scores
    if not scores:
        raise BadInput(f"{folder}: holds no scores. Finish its run with `karat run` first.")
    return scores


def _contestants(scores: "tuple[Result, ...]") -> list[str]:
    return list(
        dict.fromkeys(
            score.payload["contestant"]
            for score in scores
            if not score.payload.get("is_reference") and score.payload.get("contestant")
        )
    )


def _names(
    rename: list[str], contestants: list[list[str]], folders: tuple[Path, Path]
) -> dict[str, str]:
    """Contestant of the old folder → that of the new.

    Raises:
        BadInput: a contestant that is not there, or no common one.
    """
    from karat.core.errors import BadInput

    olds, news = contestants
    names: dict[str, str] = {}
    for text in rename:
        first, equals, second = text.partition("=")
        if not equals:
            raise BadInput(f"compare: --rename {text}: write OLD=NEW.")
        for name, there, folder in ((first, olds, folders[0]), (second, news, folders[1])):
            if name not in there:
                raise BadInput(
                    f"compare: --rename {text}: {folder} has no contestant '{name}'. It has "
                    f"{', '.join(there) or 'none'}."
                )
        names[first] = second
    if not names and len(olds) == len(news) == 1:
        names = {olds[0]: news[0]}
    if not any(names.get(name, name) in news for name in olds):
        raise BadInput(
            f"compare: no contestant is in both: {', '.join(olds)} and {', '.join(news)}. Say "
            "which belong together by --rename OLD=NEW."
        )
    return names


def _print_json(found: "tuple[Change, ...]", lost: "tuple[CasesLost, ...]", level: float) -> None:
    import dataclasses
    import json

    document = {
        "schema": 1,
        "level": level,
        "changes": [change.as_dict() for change in found],
        "cases": [dataclasses.asdict(one) for one in lost],
        **{verdict: sum(change.verdict == verdict for change in found) for verdict in ORDER},
    }
    typer.echo(json.dumps(document, indent=1, ensure_ascii=False))


def _print_table(found: "tuple[Change, ...]", lost: "tuple[CasesLost, ...]") -> None:
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    from karat.report.words import counted, listed

    console = Console()
    grid = Table("Contestant", "Assay", "Metric", "Old", "New", "Difference (95 %)", "Verdict")
    for change in sorted(found, key=lambda c: ORDER.index(c.verdict)):
        colour = COLOURS.get(change.verdict)
        verdict = f"[{colour}]{change.verdict}[/]" if colour else change.verdict
        why = f": {escape(change.why)}" if change.why else ""
        words = [escape(w) for w in (change.contestant, change.assay, change.metric)]
        numbers = [_number(change.old), _number(change.new), escape(_difference(change))]
        grid.add_row(*words, *numbers, verdict + why)
    console.print(grid)
    for one in lost:
        for what, cases in (("failing now", one.now_failing), ("working now", one.now_working)):
            if cases:
                which = f"{what}: {counted(len(cases), 'case')} ({listed(cases, limit=5)})"
                console.print(escape(f"{one.contestant}, {one.assay}: {which}"))
    counts = [(verdict, sum(c.verdict == verdict for c in found)) for verdict in ORDER]
    said = ", ".join(f"{count} {verdict}" for verdict, count in counts if count)
    console.print(f"{said or 'nothing to compare'}.")


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.4g}"


def _difference(change: "Change") -> str:
    if change.difference is None:
        return "–"
    interval = "" if change.low is None else f" ({change.low:+.2g} … {change.high:+.2g})"
    return f"{change.difference:+.3g}{interval} {change.unit}".rstrip()

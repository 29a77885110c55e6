"""The table of contestants: raw values first, then karats, cost, covered share, ties."""

from karat.report.model import NON_CONSERVATIVE, Contestant, View
from karat.report.sections.section import Section, lede
from karat.report.standing import Column, Entry, Standing, Standings
from karat.report.tags import Cell, Head, Markup, Row, empty, name_with_swatch, table, tag
from karat.report.words import Unit, counted, duration, interval, listed, number, shown_unit

TITLE = "Contestants"


def contestants_section(view: View, standings: Standings) -> Section:
    """One row for each, best first; the reference apart."""
    if not standings.rows:
        reason = standings.problem or "No contestant was measured."
        return Section("contestants", TITLE, empty(reason))
    words = lede(
        "Raw values with their 95 % intervals first. ",
        tag("span", "Gold dots", class_="best"),
        " mark the best of a column and everyone tied with it: the paired difference on common "
        "cases does not exclude zero. No dots: too few cases to tell. Click a heading to sort.",
    )
    rows = [_row(standing, standings) for standing in standings.rows]
    grid = table(_heads(standings), rows, f"{_count(standings)}; {_level(view)}", "standings", True)
    return Section("contestants", TITLE, Markup(words + grid))


def _count(standings: Standings) -> str:
    ranked = [row for row in standings.rows if not row.contestant.is_reference]
    return f"{counted(len(ranked), 'contestant')} and the reference"


def _level(view: View) -> str:
    levels = list(dict.fromkeys(s.level.label for s in view.scores if s.level is not None))
    return f"errors against {listed(levels)}" if levels else "no reference level recorded"


def _heads(standings: Standings) -> list[Head]:
    heads = [Head("Contestant")]
    for column in standings.columns:
        unit = column.unit.text or "share"
        heads.append(Head(column.title, unit, True, hint=column.assay_title))
    heads += [
        Head("Karats", "mean, of 24", True, descending=True),
        Head("Time per call", standings.cost_note, True),
        Head("Training", "structures, time", True),
        Head("Covered", "share of assays", True, descending=True),
        Head("Tied with", standings.primary_title, sortable=False),
    ]
    return heads


def _row(standing: Standing, standings: Standings) -> Row:
    who = standing.contestant
    cells = [Cell(_name(who), who.name, header=True)]
    cells += [_entry(standing.entries[c.key], c, who) for c in standings.columns]
    cells += [_karats(standing), _cost(standing), _training(who), _covered(standing)]
    cells.append(Cell(listed(standing.tied) if standing.tied else "–", class_="note"))
    return Row(tuple(cells), "reference" if who.is_reference else "")


def _name(who: Contestant) -> Markup:
    words = [who.level] if who.level else []
    if who.model and who.model not in who.name:
        words.insert(0, who.model)
    mark = tag("span", "reference", class_="tag ref") if who.is_reference else ""
    inner = [name_with_swatch(who.name), " ", mark]
    if not who.conservative:
        inner.append(tag("span", NON_CONSERVATIVE, class_="tag warn"))
    if words:
        inner.append(tag("small", ", ".join(words)))
    return Markup("".join(str(part) for part in inner))


def _entry(entry: Entry, column: Column, who: Contestant) -> Cell:
    """Value and interval, or the reason why there is no number."""
    if entry.value is None:
        if who.is_reference:
            return Cell("–", class_="num none", hint=entry.why)
        tone = "tag bad" if entry.status == "failed" else "tag"
        return Cell(tag("span", entry.status, class_=tone), class_="num none", hint=entry.why)
    unit = column.unit
    best = "best" if entry.best else None
    shown = tag("span", number(entry.value * unit.factor), class_=best)
    small = interval(entry, unit) if entry.low is not None else "no interval"
    hint = "" if entry.low is not None else entry.why_no_interval
    return Cell([shown, tag("small", small)], entry.value, "num", hint=hint)


def _karats(standing: Standing) -> Cell:
    if standing.contestant.is_reference:
        return Cell(tag("span", "reference", class_="note"), class_="num")
    total = standing.karats
    if total is None:
        return Cell("–", class_="num none", hint=standing.reason)
    share = max(0.0, min(1.0, total / 24.0))
    parts = [
        f"{name} {'none' if v is None else f'{v:.1f}'}" for name, v in standing.per_assay.items()
    ]
    bar = tag(
        "span", tag("i", style=f"width:{100 * share:.0f}%"), class_="meter", aria_hidden="true"
    )
    return Cell([tag("strong", f"{total:.1f}"), bar], total, "num", hint=", ".join(parts))


def _cost(standing: Standing) -> Cell:
    metric = standing.cost
    if metric is None:
        return Cell("–", class_="num none", hint="time per call was not measured")
    seconds = standing.cost_seconds or 0.0
    unit = shown_unit("s", [seconds])
    scale = Unit(unit.text, unit.factor * seconds / metric.value)
    small = tag("small", f"{interval(metric, scale)} {unit.text}") if metric.low is not None else ""
    return Cell([duration(seconds), small], seconds, "num")


def _training(who: Contestant) -> Cell:
    if who.labels is None:
        return Cell("–", class_="num none", hint="was not trained here")
    return Cell([str(who.labels), tag("small", duration(who.seconds))], float(who.labels), "num")


def _covered(standing: Standing) -> Cell:
    if standing.contestant.is_reference or not standing.possible:
        return Cell("–", class_="num none")
    share = standing.counted / standing.possible
    small = tag("small", f"{standing.counted} of {standing.possible}")
    return Cell([f"{100 * share:.0f} %", small], share, "num")

"""HTML from Python: everything that is not `Markup` is escaped, so hostile names stay inert.

Checked: tests/report/test_words.py.
"""

import html
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any


class Markup(str):
    """Text that is HTML already."""

    __slots__ = ()


Content = "str | Markup | Iterable[str | Markup]"


def text(content: Any) -> Markup:
    """Content as HTML: markup unchanged, text escaped, sequences joined."""
    if isinstance(content, Markup):
        return content
    if isinstance(content, str):
        return Markup(html.escape(content, quote=True))
    if isinstance(content, list | tuple):
        return Markup("".join(text(part) for part in content))
    raise TypeError(f"not content of a page: {type(content).__name__}")


def tag(name: str, *content: Any, **attributes: Any) -> Markup:
    """One element; ``class_`` → ``class``, ``data_v`` → ``data-v``; `None` and `False` left out."""
    parts = [name]
    for key, given in attributes.items():
        if given is None or given is False:
            continue
        label = key.rstrip("_").replace("_", "-")
        parts.append(label if given is True else f'{label}="{html.escape(str(given), quote=True)}"')
    opened = f"<{' '.join(parts)}>"
    if name in ("input", "meta", "br"):
        return Markup(opened)
    return Markup(f"{opened}{''.join(text(part) for part in content)}</{name}>")


def script_json(value: Any) -> Markup:
    """JSON that may stand inside a script element: ``<``, ``>``, ``&`` and line separators
    escaped, so that no ``</script>`` or ``<!--`` can end or open anything."""
    raw = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    for character in "<>&\u2028\u2029":
        raw = raw.replace(character, f"\\u{ord(character):04x}")
    return Markup(raw)


@dataclass(frozen=True)
class Head:
    """Head of a column.

    Attributes:
        title, small: the name, and what stands below it.
        numeric: right-aligned.
        sortable: whether it has a button.
        descending: whether the first click puts the largest on top.
        hint: shown on hover.
    """

    title: str
    small: str = ""
    numeric: bool = False
    sortable: bool = True
    descending: bool = False
    hint: str = ""

    def html(self) -> Markup:
        """The ``th`` element."""
        label = [tag("span", self.title)]
        name = tag("button", *label, type="button") if self.sortable else tag("span", *label)
        return tag(
            "th",
            name,
            tag("small", self.small) if self.small else "",
            scope="col",
            class_="num" if self.numeric else None,
            data_first="descending" if self.descending else None,
            title=self.hint or None,
        )


@dataclass(frozen=True)
class Cell:
    """One cell: content, value to sort by (`None`: at the end), class."""

    content: Any
    sort: float | str | None = None
    class_: str = ""
    header: bool = False
    hint: str = ""

    def html(self) -> Markup:
        """The ``td`` or ``th`` element."""
        key = self.sort
        if isinstance(key, float) and not math.isfinite(key):
            key = None
        return tag(
            "th" if self.header else "td",
            self.content,
            scope="row" if self.header else None,
            class_=self.class_ or None,
            data_v=key,
            title=self.hint or None,
        )


@dataclass(frozen=True)
class Row:
    """One row of a table."""

    cells: tuple[Cell, ...]
    class_: str = ""
    headline: bool = False

    def html(self) -> Markup:
        """The ``tr`` element."""
        return tag(
            "tr",
            [cell.html() for cell in self.cells],
            class_=self.class_ or None,
            data_headline="1" if self.headline else None,
        )


def table(
    heads: Sequence[Head],
    rows: Sequence[Row],
    caption: str,
    identifier: str | None = None,
    sticky: bool = False,
) -> Markup:
    """A table that a click on a head sorts, in a box that scrolls sideways."""
    grid = tag(
        "table",
        tag("caption", caption),
        tag("thead", tag("tr", [head.html() for head in heads])),
        tag("tbody", [row.html() for row in rows]),
        class_="sortable sticky" if sticky else "sortable",
        id=identifier,
    )
    return tag("div", grid, class_="scroll", tabindex="0", role="region", aria_label=caption)


def empty(reason: str) -> Markup:
    """Says why a section has nothing to show."""
    return tag("p", reason, class_="empty")


def name_with_swatch(name: str) -> Markup:
    """A contestant's name with its colour, which the page's script fills in."""
    return Markup(tag("span", class_="swatch", data_who=name, aria_hidden="true") + text(name))

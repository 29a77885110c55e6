"""What a section hands to the page: HTML, charts and molecules as JSON-ready values."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from karat.report.tags import Markup, tag


@dataclass(frozen=True, eq=False)
class Section:
    """One part of the page.

    Attributes:
        anchor: its ``id``.
        title: its heading.
        body: HTML below the heading.
        charts: what `assets/charts.js` draws; each has a unique ``id``.
        molecules: what `assets/molecules.js` draws.
        heading: element of the heading.
        nav: its name in the contents list, "" for the heading.
    """

    anchor: str
    title: str
    body: Markup
    charts: tuple[Mapping[str, Any], ...] = ()
    molecules: tuple[Mapping[str, Any], ...] = ()
    heading: str = "h2"
    nav: str = ""

    def html(self) -> Markup:
        """The ``section`` element."""
        link = tag("a", self.title, href=f"#{self.anchor}")
        heading = tag(self.heading, link, id=f"{self.anchor}-title")
        return tag(
            "section", heading, self.body, id=self.anchor, aria_labelledby=f"{self.anchor}-title"
        )


def lede(*content: Any) -> Markup:
    """The sentence below a heading."""
    return tag("p", *content, class_="lede")

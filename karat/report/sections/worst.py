"""The worst structures in 3D."""

import math
from collections.abc import Mapping
from typing import Any

from karat.report.model import View
from karat.report.sections.section import Section, lede
from karat.report.tags import Markup, empty, name_with_swatch, tag
from karat.report.words import in_unit, metric_title, shown_unit
from karat.results.result import Result

TITLE = "Worst structures"
PER_SCORE = 3
MOST_ATOMS = 400


def worst_section(view: View) -> Section:
    """Where each contestant errs most: the first cases to look at, and to label more of."""
    molecules: list[dict[str, Any]] = []
    blocks = []
    for assay in view.assays:
        cards = []
        for score in view.scores_of(assay):
            if score.payload.get("is_reference"):
                continue
            for rank, structure in enumerate(score.payload.get("worst_structures") or ()):
                if rank < PER_SCORE:
                    cards.append(_card(score, structure, rank, molecules))
        if cards:
            blocks.append(tag("h3", view.assay_title(assay)))
            blocks.append(tag("div", cards, class_="mols"))
    if not blocks:
        return Section("worst", TITLE, empty("No score names structures it did badly on."))
    words = lede(
        "Where each contestant errs most: look here for broken bonds, unusual contacts or wrong "
        "labels before trusting a mean. Drag to turn, or focus a picture and use the arrow keys; "
        "+ and − change the size."
    )
    return Section("worst", TITLE, Markup(words + "".join(blocks)), molecules=tuple(molecules))


def _card(
    score: Result, structure: Mapping[str, Any], rank: int, molecules: list[dict[str, Any]]
) -> Markup:
    who = str(score.payload.get("contestant", ""))
    case = str(structure.get("case", ""))
    numbers = [int(z) for z in structure["numbers"]]
    note = str(structure.get("note") or _error(score, case))
    if len(numbers) > MOST_ATOMS:
        picture = tag("p", f"{len(numbers)} atoms: not drawn above {MOST_ATOMS}.", class_="note")
    else:
        molecules.append(_molecule(numbers, structure))
        picture = tag(
            "canvas",
            data_molecule=len(molecules) - 1,
            tabindex="0",
            role="img",
            aria_label=f"{case}, worst case {rank + 1} of {who}: {len(numbers)} atoms. "
            "Arrow keys turn it.",
        )
    caption = tag(
        "figcaption",
        name_with_swatch(who),
        tag("small", f"{rank + 1}. {case}"),
        tag("small", note) if note else "",
    )
    return tag("figure", picture, caption, class_="mol")


def _error(score: Result, case: str) -> str:
    """The headline error of one case, or ""."""
    names = list(score.payload.get("case_names") or ())
    for metric in score.metrics:
        errors = score.arrays.get(f"errors/{metric.name}")
        if metric.headline and errors is not None and len(errors) == len(names) and case in names:
            value = float(errors[names.index(case)])
            if math.isfinite(value):
                unit = shown_unit(metric.unit, [value])
                return f"{metric_title(metric)} {in_unit(value, unit)}"
            return "failed"
    return ""


def _molecule(numbers: list[int], structure: Mapping[str, Any]) -> dict[str, Any]:
    """Centred positions (Å, three digits) with bonds and the radius of the whole."""
    positions = [[float(v) for v in row] for row in structure["positions"]]
    count = max(1, len(positions))
    centre = [sum(p[k] for p in positions) / count for k in range(3)]
    moved = [[round(p[k] - centre[k], 3) for k in range(3)] for p in positions]
    radius = max((sum(v * v for v in p) ** 0.5 for p in moved), default=1.0)
    bonds = [[int(i), int(j)] for i, j, *_ in structure.get("bonds") or ()]
    good = [[i, j] for i, j in bonds if 0 <= i < count and 0 <= j < count]
    return {"numbers": numbers, "positions": moved, "bonds": good, "radius": round(radius, 3)}


def element_looks(molecules: tuple[Mapping[str, Any], ...]) -> dict[str, dict[str, Any]]:
    """Colour and drawn radius (Å) of every element that occurs, Jmol's colours."""
    from ase.data import covalent_radii
    from ase.data.colors import jmol_colors

    looks = {}
    for z in sorted({z for molecule in molecules for z in molecule["numbers"]}):
        known = 0 < z < len(jmol_colors)
        red, green, blue = jmol_colors[z] if known else (1.0, 0.0, 1.0)
        channels = (round(255 * 0.92 * float(c)) for c in (red, green, blue))
        radius = float(covalent_radii[z]) if known and z < len(covalent_radii) else 0.8
        looks[str(z)] = {
            "colour": "#" + "".join(f"{c:02x}" for c in channels),
            "radius": round(0.2 + 0.34 * radius, 3),
        }
    return looks

"""`export`: a potential as a folder for one engine, verified before it is handed over.

Checked: tests/simulation/export/, tests/cli/test_export.py.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import karat
from karat.core.errors import BadInput
from karat.core.files import writable_folder, write_json
from karat.simulation.export.bundle import FILE, component_of, in_float64, write_bundle
from karat.simulation.export.catalogue import CATALOGUE
from karat.simulation.export.verify import Verification, compare, own_labels
from karat.structures.structure import Structure

VERIFICATION = "verification.json"


@dataclass(frozen=True)
class Export:
    """What was written.

    Attributes:
        folder: of the export.
        engine: name and version.
        files: names inside the folder, `verification.json` included.
        verifications: one per route.
    """

    folder: Path
    engine: str
    files: tuple[str, ...]
    verifications: tuple[Verification, ...]

    @property
    def passed(self) -> bool:
        """Whether every route agrees with karat."""
        return all(verification.passed for verification in self.verifications)


def export(
    potential: str,
    to: str,
    folder: Path,
    structures: Sequence[Structure],
    options: Mapping[str, Any] | None = None,
) -> Export:
    """Write an export and compare it, in its engine, with karat's float64 answer.

    Args:
        potential: a ``.karat`` file, a name in the catalogue, or ``module:Class``.
        to: engine, a name of `catalogue.py`.
        folder: new, empty, or an earlier export (which is written again).
        structures: to compare on; at least one.
        options: of the potential.

    Raises:
        BadInput: unknown names, a folder with other files, no structure, a structure that the
            potential or the engine cannot take.
        MissingDependency: the engine is not installed.
        CalculationFailed: the engine could not compute one of the structures.
    """
    exporter = CATALOGUE.resolve(to)()
    engine = exporter.version()
    name, component = component_of(potential, options or {})
    if not structures:
        raise BadInput("export: no structure to compare on. Give --check or --rattle FILE.")
    expected = own_labels(in_float64(component).load(), structures)
    _own_or_refuse(folder)
    writable_folder(folder)
    (folder / VERIFICATION).unlink(missing_ok=True)  # of an earlier export
    files = write_bundle(name, component, folder)
    routes = exporter.write(component, component.load(), folder)
    verifications = tuple(
        compare(route, expected, exporter.evaluate(folder, route.name, structures))
        for route in routes
    )
    files += [file for route in routes for file in route.files]
    document = {
        "karat": karat.__version__,
        "engine": engine,
        "potential": potential,
        "compared_with": "karat, float64",
        "passed": all(v.passed for v in verifications),
        "structures": [
            {"formula": s.formula, "atoms": len(s), "digest": s.digest} for s in structures
        ],
        "routes": [v.as_dict() for v in verifications],
    }
    write_json(folder / VERIFICATION, document)
    return Export(folder, engine, (*dict.fromkeys(files), VERIFICATION), verifications)


def _own_or_refuse(folder: Path) -> None:
    """Refuse a folder that holds something else: files there would be overwritten."""
    if folder.exists() and not folder.is_dir():
        raise BadInput(f"{folder}: is a file. Name a folder with --output.")
    if folder.is_dir() and any(folder.iterdir()) and not (folder / FILE).exists():
        raise BadInput(f"{folder}: holds other files than an export. Name another with --output.")

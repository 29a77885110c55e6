"""`karat export`: a potential for ASE, OpenMM or LAMMPS, compared with karat's own answer.

Checked: tests/cli/test_export.py.
"""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from karat.cli.settings import key_values

if TYPE_CHECKING:
    from karat.simulation.export.write import Export
    from karat.structures.structure import Structure

Potential = Annotated[
    str, typer.Argument(help="A .karat file, or a name (`karat list`), e.g. stillinger_weber.")
]
To = Annotated[str, typer.Option("--to", help="Engine: ase, openmm or lammps.")]
Output = Annotated[Path, typer.Option("--output", "-o", help="Folder of the export.")]
Check = Annotated[
    Path | None, typer.Option("--check", help="Structures to compare on, as they are.")
]
Rattle = Annotated[
    Path | None,
    typer.Option("--rattle", help="Compare on five rattled copies of the first structure here."),
]
Settings = Annotated[
    list[str] | None, typer.Option("--set", help="Of the potential: key=value; may be repeated.")
]
Json = Annotated[bool, typer.Option("--json", help="One JSON document on standard output.")]


def export(
    potential: Potential,
    to: To,
    output: Output,
    check: Check = None,
    rattle: Rattle = None,
    set_: Settings = None,
    as_json: Json = False,
) -> None:
    """Write a folder that the engine can use, and verify it there.

    OUTPUT/verification.json holds the largest deviations from karat's float64 answer. Exit
    status 1 where one is beyond its tolerance: do not use the export then.

    Examples:

        karat export water.karat --to openmm --check test.xyz --output water-openmm

        karat export stillinger_weber --set preset=Si --to lammps --rattle si.cif -o si-lammps
    """
    from karat.campaign.jax_setup import prepare_jax
    from karat.simulation.export.write import export as write_export

    structures = _structures(check, rattle)
    prepare_jax()
    found = write_export(potential, to, output, structures, key_values(set_ or [], "--set"))
    if as_json:
        typer.echo(json.dumps(_document(found), indent=1))
    else:
        _print(found, len(structures))
    if not found.passed:
        raise typer.Exit(1)


def _structures(check: Path | None, rattle: Path | None) -> "list[Structure]":
    from karat.core.errors import BadInput
    from karat.simulation.export.verify import rattled
    from karat.structures.geometry_files import from_file

    if (check is None) == (rattle is None):
        raise BadInput("export: give either --check FILE or --rattle FILE to compare on.")
    if check is not None:
        return list(from_file(check))
    assert rattle is not None
    return rattled(from_file(rattle)[0])


def _document(found: "Export") -> dict:
    return {
        "folder": str(found.folder),
        "engine": found.engine,
        "files": list(found.files),
        "passed": found.passed,
        "routes": [verification.as_dict() for verification in found.verifications],
    }


def _print(found: "Export", structures: int) -> None:
    typer.echo(f"{found.folder}: {', '.join(found.files)}")
    typer.echo(f"{found.engine} against karat in float64, {structures} structures:")
    for verification in found.verifications:
        largest, limit = verification.largest, verification.tolerance
        stress = largest.stress_ev_per_cubic_angstrom
        words = [
            f"energy {largest.energy_mev_per_atom:.2g} meV/atom "
            f"(allowed {limit.energy_mev_per_atom:g})",
            f"forces {largest.forces_ev_per_angstrom:.2g} eV/Å "
            f"(allowed {limit.forces_ev_per_angstrom:g})",
            "stress not compared"
            if stress is None
            else f"stress {stress:.2g} eV/Å³ (allowed {limit.stress_ev_per_cubic_angstrom:g})",
        ]
        verdict = "agrees" if verification.passed else "DOES NOT AGREE"
        typer.echo(f"  {verification.route}: {verdict}: {'; '.join(words)}")

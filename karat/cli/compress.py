"""`karat compress`: tables in place of networks, verified against the original.

Checked: tests/cli/test_compress.py.
"""

import json
from pathlib import Path
from typing import Annotated

import typer

Potential = Annotated[Path, typer.Argument(help="A .karat file of the kind deeppot.")]
Check = Annotated[
    Path,
    typer.Option("--check", help="Structures to compare on: real ones, as the potential meets."),
]
Output = Annotated[Path, typer.Option("--output", "-o", help="The compressed .karat file.")]
Json = Annotated[bool, typer.Option("--json", help="One JSON document on standard output.")]


def compress(potential: Potential, check: Check, output: Output, as_json: Json = False) -> None:
    """Tabulate the embedding networks of a DeepPot-SE with fifth-order polynomials.

    The compressed file is used like any other and is several times faster in dynamics. It is
    written only where no energy of the structures changes by more than 1e-6 eV/atom; the largest
    deviations are printed and kept in the file.

    Examples:

        karat compress silicon.karat --check test.xyz -o silicon-compressed.karat
    """
    from karat.campaign.jax_setup import prepare_jax
    from karat.structures.geometry_files import from_file

    structures = list(from_file(check))
    prepare_jax()
    from karat.potentials.compression import compress as compress_file

    found = compress_file(potential, structures, output)
    if as_json:
        typer.echo(json.dumps({"file": str(output), **found.as_dict()}, indent=1))
        return
    typer.echo(
        f"{output}: {found.functions} functions on {found.intervals} intervals. On "
        f"{found.structures} structures ({found.atoms} atoms) energies differ by at most "
        f"{found.energy_ev_per_atom:.2g} eV/atom (allowed {found.allowed_ev_per_atom:g}), forces "
        f"by {found.forces_ev_per_angstrom:.2g} eV/Å."
    )

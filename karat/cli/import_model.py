"""`karat import`: another package's model file as karat's own potential, compared with the source.

Checked: tests/cli/test_import_model.py.
"""

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from karat.cli import reading

if TYPE_CHECKING:
    from karat.potentials.external.mace_torch.importing import Imported

File = Annotated[Path, typer.Argument(help="Model file of mace-torch (.model).")]
Output = Annotated[Path, typer.Option("--output", "-o", help="The .karat file to write.")]
Trust = Annotated[
    bool, typer.Option("--trust", help="Let the file's code run, in another process.")
]
Head = Annotated[str | None, typer.Option(help="Of a model with several; by default the first.")]
Json = Annotated[bool, typer.Option("--json", help="One JSON document on standard output.")]


def import_model(
    file: File,
    output: Output,
    trust: Trust = False,
    head: Head = None,
    level: reading.Level = None,
    as_json: Json = False,
) -> None:
    """Read a mace-torch model and write it as a .karat file.

    The file is read by mace-torch itself in an isolated environment that is made when it is first
    needed (about 1 GB; `karat environments` lists and removes it). Such files hold code, which
    runs there: --trust says that you trust it. Energies, forces and stress are then compared with
    mace-torch's; nothing is written where they differ by more than 1e-6.

    Examples:

        karat import MACE-OFF23_small.model --trust --level wB97M-D3BJ/def2-TZVPPD -o off.karat

        karat import mine.model --trust --head pbe --output mine.karat
    """
    from karat.cli.train import check_output
    from karat.potentials.precision import enable_float64

    check_output(output)
    theory = reading.level_of(level)
    enable_float64()
    from karat.potentials.external.mace_torch.importing import import_model as run
    from karat.potentials.karat_file import save

    found = run(file, trust, head, theory, report=lambda line: print(line, file=sys.stderr))
    record = _record(file, found)
    rebuilt = found.rebuilt
    save(output, rebuilt.architecture, rebuilt.potential, training={"imported": record})
    if as_json:
        typer.echo(json.dumps({"output": str(output), **record}, indent=1))
        return
    typer.echo(
        f"{output}: {type(rebuilt.architecture).__name__} with {record['parameters']:,} parameters "
        f"for {len(rebuilt.potential.module.species)} elements; largest relative difference from "
        f"mace-torch {found.differences.largest:.1e}"
    )


def _record(file: Path, found: "Imported") -> dict[str, Any]:
    from karat.potentials.model import named_arrays

    differences = found.differences
    arrays = named_arrays(found.rebuilt.potential.module)
    return {
        "source": file.name,
        "head": found.rebuilt.head,
        "parameters": int(sum(array.size for array in arrays.values())),
        "relative_differences": {
            "energy": differences.energy,
            "forces": differences.forces,
            "stress": differences.stress,
        },
    }

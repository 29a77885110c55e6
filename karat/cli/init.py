"""`karat init`: a campaign to start from, by flags or by a few questions.

Checked: tests/cli/test_init.py.
"""

import json
import re
import sys
from pathlib import Path
from typing import Annotated

import typer

from karat.core.errors import BadInput


def init(
    smiles: Annotated[str | None, typer.Option(help="Study this molecule.")] = None,
    crystal: Annotated[
        Path | None, typer.Option(help="Study the structures of this file (CIF, POSCAR, …).")
    ] = None,
    data: Annotated[
        Path | None, typer.Option(help="Labelled structures to train on (extended XYZ, …).")
    ] = None,
    test: Annotated[
        Path | None, typer.Option(help="Labelled structures kept apart; with --data.")
    ] = None,
    level: Annotated[
        str | None, typer.Option(help="Who computed the labels, e.g. PBE; with --data.")
    ] = None,
    engine: Annotated[
        str | None, typer.Option(help="Reference engine; default gfn2_xtb for --smiles.")
    ] = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="File to write; default NAME.yaml.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Overwrite the file.")] = False,
) -> None:
    """Write a campaign file: small, complete, with comments; then change what you like.

    Without flags, on a terminal, it asks. The file is validated before it is written.

    Examples:

        karat init --smiles CCO -o ethanol.yaml

        karat init --data train.xyz --test test.xyz --level PBE -o mine.yaml

        karat init --crystal silicon.cif --engine ase -o silicon.yaml
    """
    from karat.core.files import write_atomic

    if smiles is None and crystal is None and data is None:
        if not sys.stdin.isatty():
            raise BadInput("karat init: give --smiles, --crystal or --data (no terminal to ask).")
        smiles, crystal, data, test, level, engine = _ask()
    if sum(item is not None for item in (smiles, crystal, data)) != 1:
        raise BadInput("karat init: give one of --smiles, --crystal and --data.")
    if smiles is not None:
        name, text = _slug(smiles), molecule(smiles, engine or "gfn2_xtb")
    elif crystal is not None:
        name, text = _slug(crystal.stem), periodic(crystal, engine)
    else:
        assert data is not None
        name, text = _slug(data.name.split(".")[0]), dataset(data, test, level)
    path = output or Path(f"{name}.yaml")
    if path.exists() and not force:
        raise BadInput(f"{path}: exists. Name another file with --output, or give --force.")
    _validate(text, path)
    try:
        write_atomic(path, text.encode())
    except OSError as error:
        raise BadInput(f"{path}: cannot be written ({error.strerror}). Name another.") from error
    typer.echo(f"Written: {path}. Next: karat plan {path}; karat run {path}", err=True)
    typer.echo(str(path))


def _ask() -> tuple[str | None, Path | None, Path | None, Path | None, str | None, str | None]:
    try:
        kind = typer.prompt("What is studied: molecule, crystal or data", default="molecule")
        if kind.startswith("m"):
            smiles = typer.prompt("SMILES of the molecule")
            return smiles, None, None, None, None, typer.prompt("Engine", default="gfn2_xtb")
        if kind.startswith("c"):
            file = Path(typer.prompt("File with the crystal (CIF, POSCAR, …)"))
            return None, file, None, None, None, typer.prompt("Engine", default="ase")
        if kind.startswith("d"):
            train = Path(typer.prompt("Labelled structures to train on"))
            test = typer.prompt("Labelled structures kept apart ('' to part the first)", default="")
            level = typer.prompt("Who computed the labels, e.g. PBE")
            return None, None, train, Path(test) if test else None, level, None
    except typer.Abort as error:
        raise KeyboardInterrupt from error
    raise BadInput(f"'{kind}': answer molecule, crystal or data.")


def _slug(text: str) -> str:
    return re.sub(r"[^A-Za-z0-9]+", "-", text).strip("-")[:40] or "campaign"


def _validate(text: str, path: Path) -> None:
    """The campaign as it would be read from `path`; nothing is written."""
    from karat.campaign.loading import parse_yaml
    from karat.campaign.schema import parse_campaign
    from karat.campaign.validation import validate

    validate(parse_campaign(parse_yaml(text, str(path)), path.resolve().parent, str(path)))


def _quoted(value: str | Path) -> str:
    """A JSON string, which YAML reads as it is; paths absolute, so that the file may move."""
    return json.dumps(str(value.resolve()) if isinstance(value, Path) else value)


TRAIN = """train:
  - {name: bpnn-small, model: bpnn, size: SMALL, settings: {epochs: 150}}
  - {name: bpnn, model: bpnn, size: LARGE, settings: {epochs: 150}}
"""

FORCE_FIELDS = """contestants:
  - {name: MMFF94s, potential: mmff94, options: {variant: MMFF94s}}
  - {name: UFF, potential: uff}
  - {name: GFN1-xTB, potential: gfn1_xtb}
"""


def molecule(smiles: str, engine: str) -> str:
    """A campaign for one molecule; the reference makes the data."""
    return f"""# Which potential can be trusted for this molecule? See `karat schema` for every key.
name: {_quoted(_slug(smiles))}
title: {_quoted(smiles)}
seed: 1

system: {{smiles: {_quoted(smiles)}, conformers: 3}}

# what everything is compared with: karat list engines
reference: {{engine: {_quoted(engine)}}}

data:
  sample: # structures worth labelling: karat list samplers
    - {{sampler: dynamics, options: {{temperature_k: 300, steps: 1500, every: 15}}}}
    - {{sampler: dynamics, options: {{temperature_k: 600, steps: 1500, every: 15}}}}
  split: {{by: time_block, valid: 0.1, test: 0.25}}

# potentials to fit: karat list architectures
{TRAIN.replace("SMALL", "30").replace("LARGE", "120").rstrip()}

# potentials that are there: karat list potentials
{FORCE_FIELDS.rstrip()}

assays: # what is measured: karat list assays
  - assay: energy_forces
  - assay: dynamics
  - assay: torsions
  - assay: modes
  - assay: cost

resources: {{timeout_s: 600, attempts: 2}}
"""


def periodic(file: Path, engine: str | None) -> str:
    """A campaign for a crystal; an engine that can treat crystals has to be completed."""
    from karat.structures.builders import from_file

    species = sorted(set(from_file(file)[0].symbols))
    table = ", ".join(f"{symbol}: 0.01" for symbol in species)
    sizes = ", ".join(f"{symbol}: 2.5" for symbol in species)
    reference = '# reference: {engine: ase, options: {calculator: "module:Class", method: PBE}}\n'
    if engine is not None and engine != "ase":
        reference = f"reference: {{engine: {_quoted(engine)}}}\n"
    return f"""# Which potential can be trusted for this crystal? See `karat schema` for every key.
name: {_quoted(_slug(file.stem))}
seed: 1

system: {{file: {_quoted(file)}}}

# what everything is compared with, e.g. Quantum ESPRESSO through ASE (docs: karat label --help)
{reference}
# potentials that are there: karat list potentials; these parameters are only a start
contestants:
  - name: Lennard-Jones
    potential: lennard_jones
    options:
      epsilon_ev: {{{table}}}
      sigma_angstrom: {{{sizes}}}
      onset_angstrom: 5.0
      cutoff_angstrom: 6.0

assays: # what is measured: karat list assays
  - assay: dynamics
  - assay: cost
"""


def dataset(train: Path, test: Path | None, level: str | None) -> str:
    """A campaign for labelled files."""
    if test is None:
        raise BadInput("karat init: --data needs --test, labelled structures that are kept apart.")
    if level is None:
        from karat.data.files import read_dataset

        found = read_dataset(train).level
        level = found.method
        if level.lower() == "unknown":
            raise BadInput(
                f"{train}: does not say who computed the labels. Name it, e.g. --level PBE."
            )
    return f"""# Which potential can be trusted for these data? See `karat schema` for every key.
name: {_quoted(_slug(train.name.split(".")[0]))}
seed: 1

data:
  train: {_quoted(train)}
  test: {_quoted(test)}
  level: {{method: {_quoted(level)}}} # two levels of theory are never mixed

# potentials to fit: karat list architectures
train:
  - {{name: bpnn, model: bpnn, settings: {{epochs: 150}}}}

# potentials that are there: karat list potentials
contestants:
  - {{name: UFF, potential: uff}}

assays: # what is measured: karat list assays
  - assay: energy_forces
  - assay: dynamics
  - assay: cost
"""

"""`karat split`: labelled structures into train, valid and test files, for several seeds or folds.

Checked: tests/cli/test_split.py.
"""

import json
import os
import shutil
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from karat.cli import reading
from karat.core.errors import BadInput

if TYPE_CHECKING:
    import numpy as np

    from karat.data.dataset import Dataset
    from karat.data.read_options import ReadOptions
    from karat.data.split_ensembles import SplitEnsemble
    from karat.data.split_schemes import AbstractScheme
    from karat.data.splits import Split

SCHEMA_VERSION = 1
PARTS = ("train", "valid", "test")
NOTE = "split.json"


Data = Annotated[Path, typer.Argument(help="Labelled structures (extended XYZ, .gz too, …).")]
Output = Annotated[Path, typer.Option("--output", "-o", help="Folder to write into.")]
How = Annotated[str, typer.Option(help="random, time, group or similarity.")]
Valid = Annotated[float, typer.Option(help="Part to validate with.")]
Test = Annotated[float, typer.Option(help="Part to test with.")]
Seeds = Annotated[str, typer.Option(help="Seeds, one split each: 0,1,2.")]
Folds = Annotated[
    int | None,
    typer.Option(help="Cross-validation: every structure tests once, in one of so many folds."),
]
Clusters = Annotated[int | None, typer.Option(help="similarity: clusters at most; default 20.")]
Blocks = Annotated[int | None, typer.Option(help="time: periods of each trajectory; default 1.")]
Gap = Annotated[int | None, typer.Option(help="time: frames given up between parts; default 1.")]
Json = Annotated[bool, typer.Option("--json", help="One JSON document on standard output.")]


def split(
    data: Data,
    output: Output,
    how: How,
    valid_fraction: Valid = 0.1,
    test_fraction: Test = 0.1,
    seeds: Seeds = "0",
    folds: Folds = None,
    clusters: Clusters = None,
    blocks: Blocks = None,
    gap: Gap = None,
    as_json: Json = False,
    energy_key: reading.EnergyKey = None,
    forces_key: reading.ForcesKey = None,
    stress_key: reading.StressKey = None,
    virial_key: reading.VirialKey = None,
    energy_unit: reading.EnergyUnit = None,
    length_unit: reading.LengthUnit = None,
    forces_unit: reading.ForcesUnit = None,
    stress_unit: reading.StressUnit = None,
    level: reading.Level = None,
) -> None:
    """Split labelled data into train, valid and test; several seeds or folds at once.

    Writes OUTPUT/seed-N/{train,valid,test}.xyz.gz and split.json, which records the indices, the
    way and the digests; with --folds OUTPUT/fold-N (below seed-N where there are several seeds).
    A split that is there already is left as it is; anything else is not overwritten.

    Examples:

        karat split all.xyz --output splits --how similarity --seeds 0,1,2

        karat split md.xyz --output splits --how time --test-fraction 0.25
    """
    keys = (energy_key, forces_key, stress_key, virial_key)
    units = (energy_unit, length_unit, forces_unit, stress_unit)
    options = reading.read_options(*keys, *units, level)
    fields: dict[str, Any] = {"clusters": clusters, "blocks": blocks, "gap": gap}
    fields |= {"valid_fraction": valid_fraction, "test_fraction": test_fraction}
    scheme = make_scheme(how, fields)
    written = write_splits(data, options, output, scheme, read_seeds(seeds), folds)
    _tell(written, output, as_json)


def write_splits(
    data: Path,
    options: "ReadOptions",
    output: Path,
    scheme: "AbstractScheme",
    seeds: list[int],
    folds: int | None,
) -> list[tuple[str, dict[str, Any], bool]]:
    """Place below `output`, content of `split.json` and whether it is new, of each split.

    Raises:
        BadInput: data that cannot be read or split so, or a place that holds something else.
    """
    from karat.core.components import dump
    from karat.core.files import writable_folder
    from karat.data.files import read_dataset

    dataset = read_dataset(data, options=options)
    features = _features(dataset, scheme)
    ensembles = _ensembles(dataset, scheme, seeds, folds, features)
    writable_folder(output)
    source = {
        "file": str(data),
        "sha256": file_digest(data),
        "read": dump(options),
        "structures": len(dataset),
    }
    written = []
    for place, part in _places(ensembles, seeds, folds):
        note = _note(source, scheme, part, dataset, features)
        written.append((place, note, _write(output / place, part, dataset, note)))
        near = neighbours_in_train(dataset, part)
        if near:
            print(
                f"split: {output / place}: {near} of {len(part.test)} test structures are the next "
                "frame to a training frame of the same trajectory, nearly the same structure: "
                "test errors will be too small. Better: --how time or --how group.",
                file=sys.stderr,
            )
    return written


def neighbours_in_train(dataset: "Dataset", part: "Split") -> int:
    """How many test structures follow or precede a training frame of their trajectory."""

    def places(indices: tuple[int, ...]) -> set[tuple[str, int]]:
        records = [dataset.records[index] for index in indices]
        return {(record.group, record.frame) for record in records if record.frame >= 0}

    train = places(part.train)
    tested = places(part.test)
    return sum(bool({(g, f - 1), (g, f + 1)} & train) for g, f in tested)


def make_scheme(how: str, values: dict[str, Any]) -> "AbstractScheme":
    """The way to split of that name; values that are `None` keep their defaults.

    Raises:
        BadInput: unknown way, or a value that it does not have or that does not fit.
    """
    from karat.data.split_ensembles import scheme_of

    given = {key: value for key, value in values.items() if value is not None}
    return scheme_of({"how": how, **given}, f"--how {how}")


def read_seeds(text: str) -> list[int]:
    """Seeds from `0,1,2`.

    Raises:
        BadInput: not whole numbers of at least 0, none, or one twice.
    """
    words = [word.strip() for word in text.split(",") if word.strip()]
    if not words or not all(word.isdecimal() for word in words) or len(set(words)) < len(words):
        raise BadInput(f"--seeds {text}: write whole numbers, none twice, e.g. 0,1,2.")
    return [int(word) for word in words]


def _features(dataset: "Dataset", scheme: "AbstractScheme") -> "np.ndarray | None":
    if scheme.name != "similarity":
        return None
    from karat.data.fingerprint import fingerprints

    return fingerprints(dataset.structures)


def _ensembles(
    dataset: "Dataset",
    scheme: "AbstractScheme",
    seeds: list[int],
    folds: int | None,
    features: "np.ndarray | None",
) -> "list[SplitEnsemble]":
    """One ensemble of all seeds, or one of folds for each seed."""
    from karat.data.split_ensembles import cross_validation, split_ensemble

    if folds is None:
        return [split_ensemble(dataset, scheme, seeds, features)]
    return [cross_validation(dataset, scheme, folds, seed, features) for seed in seeds]


def _places(
    ensembles: "list[SplitEnsemble]", seeds: list[int], folds: int | None
) -> "list[tuple[str, Split]]":
    if folds is None:
        return [(f"seed-{part.seed}", part) for part in ensembles[0]]
    return [
        (f"seed-{seed}/fold-{fold}" if len(seeds) > 1 else f"fold-{fold}", part)
        for seed, ensemble in zip(seeds, ensembles)
        for fold, part in enumerate(ensemble)
    ]


def file_digest(path: Path) -> str:
    """SHA-256 of a file's bytes; of a folder, over names and contents of its files."""
    from karat.campaign.inputs import content_digest
    from karat.core.hashing import digest_json

    if not path.is_dir():
        return content_digest(path)
    files = sorted(item for item in path.rglob("*") if item.is_file())
    return digest_json([[str(item.relative_to(path)), content_digest(item)] for item in files])


def _note(
    source: dict[str, Any],
    scheme: "AbstractScheme",
    part: "Split",
    dataset: "Dataset",
    features: "np.ndarray | None",
) -> dict[str, Any]:
    """What `split.json` says."""
    from karat.data.split_ensembles import scheme_dict
    from karat.data.split_schemes import separation

    present = [name for name in PARTS if getattr(part, name)]
    parts = {
        name: {
            "file": f"{name}.xyz.gz",
            "structures": len(getattr(part, name)),
            "digest": dataset.subset(getattr(part, name)).digest,
        }
        for name in present
    }
    away = None if features is None or not part.test else separation(features, part)
    return {
        "schema": SCHEMA_VERSION,
        "source": source,
        "level": dataset.level.as_dict(),
        "scheme": scheme_dict(scheme),
        "split": part.as_dict(),
        "parts": parts,
        "separation": away,
    }


def _write(folder: Path, part: "Split", dataset: "Dataset", note: dict[str, Any]) -> bool:
    """Whether the split was written: `False` where the same split is there already.

    Raises:
        BadInput: the folder holds something else.
    """
    from karat.core.files import write_json
    from karat.data.files import write_dataset

    if folder.exists():
        _same_or_refuse(folder, note)
        return False
    folder.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    try:
        temporary.chmod(0o755)
        for name in note["parts"]:
            write_dataset(dataset.subset(getattr(part, name)), temporary / f"{name}.xyz.gz")
        write_json(temporary / NOTE, note)
        os.rename(temporary, folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return True


def _same_or_refuse(folder: Path, note: dict[str, Any]) -> None:
    own = {NOTE, *(part["file"] for part in note["parts"].values())}
    try:
        found = json.loads((folder / NOTE).read_text())
        same = found["split"]["digest"] == note["split"]["digest"] and own <= set(
            os.listdir(folder)
        )
    except (OSError, ValueError, KeyError, TypeError):
        same = False
    if not same:
        raise BadInput(
            f"{folder}: is there already and holds something else than this split. "
            "Name another folder with --output, or remove it."
        )


def _tell(written: list[tuple[str, dict[str, Any], bool]], output: Path, as_json: bool) -> None:
    if as_json:
        document = {
            "output": str(output),
            "splits": [
                {
                    "folder": str(output / place),
                    "written": new,
                    "seed": note["split"]["seed"],
                    "how": note["split"]["how"],
                    "digest": note["split"]["digest"],
                    "separation": note["separation"],
                    "parts": note["parts"],
                }
                for place, note, new in written
            ],
        }
        typer.echo(json.dumps(document, indent=1))
        return
    for place, note, new in written:
        sizes = ", ".join(f"{part['structures']} {name}" for name, part in note["parts"].items())
        used = sum(part["structures"] for part in note["parts"].values())
        dropped = note["source"]["structures"] - used
        more = f", {dropped} given up" if dropped else ""
        if note["separation"] is not None:
            more += f"; fingerprint distance of test from train {note['separation']:.3g}"
        known = "" if new else " (was there)"
        typer.echo(f"{output / place}: {sizes}{more}{known}")

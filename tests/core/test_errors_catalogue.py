"""Errors name the value and the next step; catalogues import only on demand."""

import copy
import subprocess
import sys

import pytest

from karat.core.catalogue import Catalogue
from karat.core.errors import (
    BadInput,
    CalculationFailed,
    KaratError,
    MissingDependency,
    UnknownKey,
    suggestion,
    unknown_key,
)

TABLE = Catalogue(
    "tests",
    {
        "fraction": "fractions:Fraction",
        "absent": "no_such_package_at_all.part:Thing",
        "gone": "fractions:Nothing",
    },
)


def test_suggestion_only_where_close():
    assert suggestion("fractoin", ["fraction", "decimal"]) == (
        "did you mean 'fraction'? Allowed: decimal, fraction."
    )
    assert suggestion("xyz", ["fraction", "decimal"]) == "Allowed: decimal, fraction."


def test_unknown_key_is_bad_input_and_names_everything():
    error = unknown_key("campaign.yaml: training", "learning_rte", ["learning_rate", "epochs"])
    assert isinstance(error, BadInput)
    for word in ("campaign.yaml: training", "learning_rte", "'learning_rate'", "epochs"):
        assert word in str(error)


def test_failed_calculation_travels_between_processes():
    error = copy.copy(CalculationFailed("stopped", kind="timeout"))  # by __reduce__, as pickle
    assert (str(error), error.kind) == ("stopped", "timeout")
    assert not isinstance(error, BadInput)
    assert isinstance(error, KaratError)


def test_resolve_by_name_and_by_path():
    from fractions import Fraction

    assert TABLE.resolve("fraction") is Fraction
    assert TABLE.resolve("collections:OrderedDict").__name__ == "OrderedDict"


def test_resolve_says_what_is_wrong():
    with pytest.raises(UnknownKey, match="did you mean 'fraction'"):
        TABLE.resolve("fractions")
    with pytest.raises(MissingDependency, match="no_such_package_at_all"):
        TABLE.resolve("absent")
    with pytest.raises(BadInput, match="has no 'Nothing'"):
        TABLE.resolve("gone")


def test_entry_points_add_names_but_do_not_replace(tmp_path):
    """A package installed elsewhere adds to the group `karat.tests`."""
    folder = tmp_path / "other-1.0.dist-info"
    folder.mkdir()
    (folder / "METADATA").write_text("Metadata-Version: 2.1\nName: other\nVersion: 1.0\n")
    (folder / "entry_points.txt").write_text(
        "[karat.tests]\nfraction = os:sep\nmine = decimal:Decimal\n"
    )
    code = (
        f"import sys; sys.path.insert(0, {str(tmp_path)!r})\n"
        "from karat.core.catalogue import Catalogue\n"
        "table = Catalogue('tests', {'fraction': 'fractions:Fraction'})\n"
        "assert 'fractions' not in sys.modules and 'decimal' not in sys.modules\n"
        "print(table.resolve('mine').__name__, table.resolve('fraction').__name__)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.split() == ["Decimal", "Fraction"], done.stderr

"""Strict YAML, `--set`, variables."""

import pytest

from karat.campaign.loading import load_values, parse_yaml
from karat.core.errors import BadInput, UnknownKey


def write(tmp_path, text):
    path = tmp_path / "c.yaml"
    path.write_text(text)
    return path


def test_plain_scalars_are_those_of_yaml_1_2():
    found = parse_yaml("a: 1e-4\nb: no\nc:\nd: [1, 1.5, true, ~, .inf, -2]\ne: 2020-01-01\n", "x")
    assert found == {
        "a": 1e-4,
        "b": "no",
        "c": None,
        "d": [1, 1.5, True, None, float("inf"), -2],
        "e": "2020-01-01",
    }
    assert type(found["d"][0]) is int


def test_anchors_and_merges_still_work():
    found = parse_yaml("a: &x {k: 1}\nb: {<<: *x, j: 2}\n", "x")
    assert found["b"] == {"k": 1, "j": 2}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a: 1\nb: {c: 1, d: 2, c: 3}", r"x:2:17: the key 'c' was given before in line 2"),
        ("a: [1", r"x:1:\d+: "),
        ("1: 2", r"x:1:1: the key 1 is not text"),
        ("a: !!python/object:os.system {}", r"x:1:4: .*python/object"),
    ],
)
def test_what_is_not_strict_yaml_is_refused_with_line_and_column(text, words):
    with pytest.raises(BadInput, match=words):
        parse_yaml(text, "x")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "empty"),
        (b"# only words\n", "no campaign"),
        (b"- 1\n", "mapping"),
        (b"hello", "mapping"),
        (b"\xff\xfe\x00", "text file"),
    ],
)
def test_files_without_a_campaign(tmp_path, content, words):
    path = tmp_path / "c.yaml"
    path.write_bytes(content)
    with pytest.raises(BadInput, match=words):
        load_values(path)


def test_missing_file(tmp_path):
    with pytest.raises(BadInput, match=r"none\.yaml: no such campaign file"):
        load_values(tmp_path / "none.yaml")


def test_overrides_reach_into_lists_and_make_sections(tmp_path):
    path = write(tmp_path, "train: [{size: 1}, {size: 2}]\nsystem:\n")
    found = load_values(
        path, ["train.1.size=20", "system.smiles='CC(=O)O'", "train.0.settings.epochs=3", "seed=4"]
    )
    assert found == {
        "train": [{"size": 1, "settings": {"epochs": 3}}, {"size": 20}],
        "system": {"smiles": "CC(=O)O"},
        "seed": 4,
    }


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("train", "write key=value"),
        ("train.2.size=1", "no entry '2'. Allowed: 0, 1"),
        ("train.first.size=1", "no entry 'first'"),
        ("name.x=1", "'name' is the single value 'n'"),
        ("seed=[1", "not YAML|expected"),
    ],
)
def test_overrides_that_fit_nowhere(tmp_path, override, words):
    path = write(tmp_path, "name: n\ntrain: [{size: 1}, {size: 2}]\n")
    with pytest.raises(BadInput, match=words):
        load_values(path, [override])


def test_an_override_of_a_missing_list_entry_is_an_unknown_key(tmp_path):
    with pytest.raises(UnknownKey):
        load_values(write(tmp_path, "train: []\n"), ["train.0=1"])


def test_variables(tmp_path, monkeypatch):
    monkeypatch.setenv("KARAT_TEST_DATA", "/data")
    monkeypatch.delenv("KARAT_TEST_NONE", raising=False)
    path = write(tmp_path, "a: ${KARAT_TEST_DATA}/x\nb: ['${KARAT_TEST_NONE:-here}/y']\n")
    assert load_values(path) == {"a": "/data/x", "b": ["here/y"]}
    with pytest.raises(BadInput, match="KARAT_TEST_NONE, which is not set"):
        load_values(write(tmp_path, "a: ${KARAT_TEST_NONE}/x\n"))

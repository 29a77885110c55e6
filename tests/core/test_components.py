"""Components are parsed strictly, written back whole, and named by what they say."""

from dataclasses import dataclass, field
from typing import Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from karat.core import components
from karat.core.errors import BadInput, UnknownKey


@dataclass(frozen=True)
class Inner:
    width: float = 1.0


@dataclass(frozen=True)
class Model:
    name: str
    layers: tuple[int, ...] = (16, 16)
    kind: Literal["a", "b"] = "a"
    inner: Inner = field(default_factory=Inner)
    rate: float | None = None


@dataclass(frozen=True)
class Renamed:
    name: str
    layers: tuple[int, ...] = (16, 16)
    kind: Literal["a", "b"] = "a"
    inner: Inner = field(default_factory=Inner)
    rate: float | None = None


def test_defaults_are_written_out_and_read_back():
    model = components.parse(Model, {"name": "m"}, "here")
    values = components.dump(model)
    assert values == {
        "name": "m",
        "layers": [16, 16],
        "kind": "a",
        "inner": {"width": 1.0},
        "rate": None,
    }
    assert components.parse(Model, values, "here") == model


@settings(max_examples=20, deadline=None)  # each builds a validator, 20 ms
@given(
    name=st.text(max_size=5),
    layers=st.lists(st.integers(1, 9), max_size=3),
    width=st.floats(allow_nan=False, allow_infinity=False),
)
def test_dump_is_the_inverse_of_parse(name, layers, width):
    values = {"name": name, "layers": layers, "inner": {"width": width}}
    model = components.parse(Model, values, "here")
    assert components.parse(Model, components.dump(model), "here") == model


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"name": "m", "layer": [1]}, ["file.yaml: model", "'layer'", "did you mean 'layers'"]),
        ({}, ["file.yaml: model.name"]),
        ({"name": "m", "kind": "c"}, ["model.kind", "'c'"]),
        ({"name": "m", "layers": ["x"]}, ["model.layers.0", "'x'"]),
        ({"name": "m", "inner": {"widht": 2.0}}, ["model.inner", "widht"]),
    ],
)
def test_what_is_wrong_is_named(values, words):
    with pytest.raises(BadInput) as caught:
        components.parse(Model, values, "file.yaml: model")
    for word in words:
        assert word in str(caught.value)


def test_unknown_key_has_its_own_kind():
    with pytest.raises(UnknownKey):
        components.parse(Model, {"name": "m", "nmae": 1}, "here")


def test_digest_depends_on_class_and_values():
    one = Model("m")
    assert components.digest(one) == components.digest(Model("m", inner=Inner(1.0)))
    others = [Model("n"), Model("m", rate=0.0), Model("m", inner=Inner(2.0)), Renamed("m")]
    digests = {components.digest(other) for other in [one, *others]}
    assert len(digests) == 5


def test_only_frozen_dataclasses():
    @dataclass
    class Thawed:
        x: int = 1

    with pytest.raises(TypeError, match="frozen"):
        components.adapter(Thawed)


def test_schema_forbids_further_keys():
    schema = components.schema(Model)
    assert schema["additionalProperties"] is False
    assert schema["required"] == ["name"]

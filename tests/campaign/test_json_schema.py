"""`karat schema`."""

import json

from karat.campaign.json_schema import campaign_schema
from karat.campaign.schema import KEYS, catalogue


def references(value):
    if isinstance(value, dict):
        if "$ref" in value:
            yield value["$ref"]
        for item in value.values():
            yield from references(item)
    elif isinstance(value, list):
        for item in value:
            yield from references(item)


def test_it_has_every_section_and_every_component_and_resolves():
    schema = json.loads(json.dumps(campaign_schema()))
    assert set(schema["properties"]) == set(KEYS)
    for section, key, kind in (
        ("contestants", "potential", "potentials"),
        ("assays", "assay", "assays"),
        ("train", "model", "architectures"),
    ):
        variants = schema["properties"][section]["items"]["oneOf"]
        names = {variant["properties"][key].get("const") for variant in variants}
        assert names - {None} == set(catalogue(kind).names())
    found = set(references(schema))
    assert found  # nested components are there
    assert all(ref.removeprefix("#/$defs/") in schema["$defs"] for ref in found)


def test_options_are_closed_and_say_what_is_required():
    schema = campaign_schema()
    variants = schema["properties"]["contestants"]["items"]["oneOf"]
    one = next(v for v in variants if v["properties"]["potential"].get("const") == "lennard_jones")
    assert one["properties"]["options"]["additionalProperties"] is False
    assert "epsilon_ev" in one["properties"]["options"]["required"]
    assert "options" in one["required"]

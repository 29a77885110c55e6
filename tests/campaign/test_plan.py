"""The plan is pure; a key changes exactly when what goes into the step changes."""

from pathlib import Path

import pytest

from karat.campaign import plan as module
from karat.campaign.inputs import component_digest
from karat.campaign.loading import parse_yaml
from karat.campaign.plan import Step, plan
from karat.campaign.schema import parse_campaign
from karat.potentials.karat_file import KaratFile

TEXT = """
name: water
seed: 3
system: {smiles: "O"}
reference: {engine: gfn2_xtb}
data:
  sample: [{sampler: rattle, options: {copies: 30}}]
  split: {by: random, valid: 0.1, test: 0.3}
train:
  - {name: small, model: bpnn, size: 6}
  - {name: large, model: bpnn, size: 12}
contestants:
  - {name: MMFF94s, potential: mmff94}
  - {name: UFF, potential: uff}
assays:
  - assay: energy_forces
  - assay: torsions
  - assay: cost
"""


def steps(text=TEXT, old="", new=""):
    assert old in text
    return plan(parse_campaign(parse_yaml(text.replace(old, new), "c"), Path("/"), "c"))


def keys(found):
    return {step.name: step.key for step in found}


def changed(old, new):
    before, after = keys(steps()), keys(steps(old=old, new=new))
    return {name for name in before if before[name] != after.get(name)}


def test_each_step_comes_after_those_it_needs_and_no_key_is_twice():
    found = steps()
    seen = set()
    for step in found:
        assert set(step.inputs.values()) <= seen
        assert step.key not in seen
        seen.add(step.key)


def test_it_is_pure_and_survives_json():
    assert steps() == steps()
    assert all(Step.from_dict(step.as_dict()) == step for step in steps())


def test_names_and_resources_are_not_part_of_keys():
    assert changed("name: water", "name: other\ntitle: Other") == set()
    assert changed("seed: 3", "seed: 3\nresources: {workers: 7}") == set()


def test_a_renamed_contestant_is_not_measured_again():
    before, after = steps(), steps(old="name: UFF", new="name: universal")
    heavy = {"structures", "sample", "labels", "split", "fit", "cases", "measure"}
    assert [s.key for s in before if s.kind in heavy] == [s.key for s in after if s.kind in heavy]
    assert changed("name: UFF", "name: universal") == {
        "measure energy_forces UFF",  # renamed, with the same key: see above
        "measure torsions UFF",
        "measure cost UFF",
        "score energy_forces UFF",
        "score torsions UFF",
        "score cost UFF",
    }


def test_another_contestant_changes_no_key():
    more = "  - {name: UFF, potential: uff}\n  - {name: G1, potential: gfn1_xtb}\n"
    assert changed("  - {name: UFF, potential: uff}\n", more) == set()


def test_what_a_change_reaches():
    large = {
        "fit large",
        "train large",
        *(f"{kind} {assay} large" for kind in ("measure", "score") for assay in ASSAYS),
    }
    assert changed("size: 12", "size: 13") == large
    assert changed("potential: uff", "potential: mmff94, options: {variant: MMFF94}") == {
        f"{kind} {assay} UFF" for kind in ("measure", "score") for assay in ASSAYS
    }
    # starts do not depend on how data are parted
    split = changed("test: 0.3", "test: 0.4")
    assert {"split", "check", "fit small", "cases energy_forces"} <= split
    assert not {"structures", "sample rattle 0", "label", "cases torsions"} & split
    assert "measure torsions UFF" not in split
    assert "measure torsions small" in split
    assert {"structures", "sample rattle 0", "label"} <= changed("seed: 3", "seed: 4")


ASSAYS = ("energy_forces", "torsions", "cost")


def test_the_version_of_the_code_is_in_the_key(monkeypatch):
    before = keys(steps())
    monkeypatch.setitem(module.VERSIONS, "fit", 999)
    after = keys(steps())
    assert before["fit small"] != after["fit small"]
    assert before["measure cost small"] != after["measure cost small"]
    assert before["label"] == after["label"]


def test_hardware_is_in_the_key_of_timings_only(monkeypatch):
    before = keys(steps())
    monkeypatch.setattr(module, "hardware", lambda: {"cpu": "another"})
    after = keys(steps())
    different = {name for name in before if before[name] != after[name]}
    assert different == {n for n in before if n.startswith(("measure cost", "score cost"))}
    assert {step.assay for step in steps() if step.exclusive} == {"cost"}


def test_equal_contestants_are_measured_once():
    twice = "  - {name: UFF, potential: uff}\n  - {name: UFF again, potential: uff}\n"
    found = steps(old="  - {name: UFF, potential: uff}\n", new=twice)
    assert sum(step.kind == "measure" for step in found) == 5 * 3  # 2 fitted, 2 given, reference
    assert sum(step.kind == "score" for step in found) == 6 * 3


def test_the_reference_takes_part_once_and_is_marked():
    from karat.campaign.contenders import contenders

    def found(old="", new=""):
        values = parse_yaml(TEXT.replace(old, new), "c")
        return {c.name: c.is_reference for c in contenders(parse_campaign(values, Path("/")))}

    assert found() == {
        "GFN2-xTB": True,
        "MMFF94s": False,
        "UFF": False,
        "small": False,
        "large": False,
    }
    same = found("{name: UFF, potential: uff}", "{name: mine, potential: gfn2_xtb}")
    assert same == {"MMFF94s": False, "mine": True, "small": False, "large": False}
    other = "{name: mine, potential: gfn2_xtb, options: {accuracy: 1.0}}"
    assert found("{name: UFF, potential: uff}", other)["mine"] is False


def test_files_count_by_content_not_by_name(tmp_path):
    def digest(name, content):
        (tmp_path / name).write_bytes(content)
        return component_digest(KaratFile(path=str(tmp_path / name)))

    first = digest("a.karat", b"one")
    assert digest("b.karat", b"one") == first
    assert digest("a.karat", b"two") != first


@pytest.mark.parametrize("depth", [0, 1])
def test_files_of_nested_components_count_too(tmp_path, depth):
    from karat.potentials.sum_potential import SumPotential, Term

    path = tmp_path / "m.karat"
    term = Term("karat_file", {"path": str(path)})
    component = SumPotential((term,)) if depth else KaratFile(str(path))
    path.write_bytes(b"one")
    first = component_digest(component)
    path.write_bytes(b"other")
    assert component_digest(component) != first

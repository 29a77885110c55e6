"""A small campaign with every kind of contestant, run once; and what tests ask of a folder."""

import json
from pathlib import Path
from types import SimpleNamespace

import pytest

from karat.campaign.loading import parse_yaml
from karat.campaign.runner import run_campaign
from karat.campaign.schema import parse_campaign
from karat.results.result import Result

CONTESTANTS = '''
"""Contestants that behave badly, each in its own way."""
import os, signal
from dataclasses import dataclass
from karat.potentials.protocol import AbstractPotential, AbstractPotentialComponent, Traits
from karat.core.errors import CalculationFailed

@dataclass(frozen=True)
class Bad(AbstractPotentialComponent):
    """Behaves badly."""
    how: str
    def load(self):
        return BadPotential(self.how)

class BadPotential(AbstractPotential):
    def __init__(self, how):
        self.how = how
    @property
    def traits(self):
        return Traits(species=None, periodic=True, molecules=self.how != "crystals",
                      quantities=("energy", "forces"))
    def predict(self, structures, want=("energy", "forces")):
        if self.how == "die":
            os.kill(os.getpid(), signal.SIGSEGV)
        if self.how == "raise":
            raise ZeroDivisionError("a fault of the contestant")
        raise CalculationFailed("it exploded", kind="exploded")
'''

MIXED = """
name: mixed
title: Water and its contestants
seed: 3
system: {smiles: "O"}
reference: {engine: gfn2_xtb}
data:
  sample: [{sampler: rattle, options: {copies: 30, amplitude_angstrom: 0.05}}]
  split: {by: random, valid: 0.1, test: 0.3}
train:
  - name: bpnn
    model: bpnn
    size: 12
    options: {hidden: [4], radial: {count: 2}, angular: {count: 0}}
    settings: {epochs: 2}
contestants:
  - {name: MMFF94s, potential: mmff94}
  - {name: dies, potential: "karat_bad_contestants:Bad", options: {how: die}}
  - {name: raises, potential: "karat_bad_contestants:Bad", options: {how: raise}}
  - {name: explodes, potential: "karat_bad_contestants:Bad", options: {how: explode}}
  - {name: crystals, potential: "karat_bad_contestants:Bad", options: {how: crystals}}
assays:
  - assay: energy_forces
  - assay: torsions
"""


class Recorder:
    """A progress that remembers."""

    def __init__(self):
        self.events = []

    def begin(self, steps, done, workers):
        self.events.append(("begin", len(steps), len(done)))

    def started(self, step):
        self.events.append(("started", step.name))

    def inside(self, step, done, total, text):
        self.events.append(("inside", step.name, done, total))

    def finished(self, step, status, reason, seconds):
        self.events.append(("finished", step.name, status))

    def end(self):
        self.events.append(("end",))


def parse(text, folder=Path("/")):
    return parse_campaign(parse_yaml(text, "c.yaml"), folder, "c.yaml")


def log(folder):
    """The events of `log.jsonl`."""
    return [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]


def digests(folder, timing=False):
    """Name → digest of every committed result; those of timings only where asked."""
    index = json.loads((folder / "index.json").read_text())
    return {
        step["name"]: Result.load(folder / step["folder"]).digest
        for step in index["steps"]
        if step["status"] == "done" and (timing or step["assay"] != "cost")
    }


@pytest.fixture(scope="session")
def mixed(tmp_path_factory):
    """The mixed campaign, run once with two workers."""
    folder = tmp_path_factory.mktemp("mixed")
    (folder / "karat_bad_contestants.py").write_text(CONTESTANTS)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(folder))
        campaign = parse(MIXED)
        recorder = Recorder()
        summary = run_campaign(campaign, folder / "out", workers=2, progress=recorder)
        yield SimpleNamespace(
            campaign=campaign, out=folder / "out", summary=summary, events=recorder.events
        )


@pytest.fixture
def tools():
    """Functions for tests of output folders."""
    return SimpleNamespace(parse=parse, log=log, digests=digests, Recorder=Recorder)

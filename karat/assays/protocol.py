"""What an assay is: `cases` once, `measure` for each contestant, `score` as often as one likes.

`cases` may use the reference (relaxed scans, Hessians); what it found travels in the `CaseSet`.
`measure` is the dear part and sees one potential. `score` is cheap, pure and without JAX.

To add one: a folder (or file) of this floor with a frozen dataclass, one line in `catalogue.py`,
and the conformance suite passes.
"""

import abc
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

import numpy as np

from karat.data.dataset import Dataset, Record
from karat.potentials.protocol import AbstractPotential
from karat.results.figure import Figure
from karat.results.metric import Failure, Metric
from karat.structures.labels import LevelOfTheory
from karat.structures.structure import Structure

Need = Literal["starts", "test", "reference"]


@dataclass(frozen=True, eq=False)
class Context:
    """What a campaign can offer to an assay.

    Attributes:
        starts: structures under study (conformers of the molecule, the crystal).
        test: kept-apart labelled structures, or `None`.
        reference: the reference engine as a potential, or `None`.
        level: level of theory of the reference (labels and engine), or `None`.
        seed: for everything random.
    """

    starts: tuple[Structure, ...]
    test: Dataset | None
    reference: AbstractPotential | None
    level: LevelOfTheory | None
    seed: int


@dataclass(frozen=True, eq=False)
class CaseSet:
    """Cases of one assay, with what the reference found for them; serialisable.

    Attributes:
        records: structures, with reference labels where there are some (else empty `Labels`).
        arrays, payload: further reference data.
        failures: what the reference could not do.
        level: level of theory of the reference data, or `None` where none is used.
    """

    records: tuple[Record, ...]
    arrays: Mapping[str, np.ndarray] = field(default_factory=dict)
    payload: Mapping[str, Any] = field(default_factory=dict)
    failures: tuple[Failure, ...] = ()
    level: LevelOfTheory | None = None


@dataclass(frozen=True, eq=False)
class Measurement:
    """What one contestant did on the cases; serialisable.

    Attributes:
        arrays, payload: what was measured; a case that failed is NaN in float arrays *and*
            listed in `failures` (its name in `Failure.case`).
        failures: what was attempted and failed.
        timings: hardware-bound numbers, not part of the result's identity.
    """

    arrays: Mapping[str, np.ndarray] = field(default_factory=dict)
    payload: Mapping[str, Any] = field(default_factory=dict)
    failures: tuple[Failure, ...] = ()
    timings: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Contestant:
    """Who was measured, as far as scoring needs to know.

    Attributes:
        name: as in the campaign.
        level: level of theory it is or was trained to, or `None`.
        is_reference: whether it is the reference itself: shown, never ranked.
        training: what its training cost: ``seconds``, ``labels`` …, or empty.
    """

    name: str
    level: LevelOfTheory | None = None
    is_reference: bool = False
    training: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class Score:
    """Metrics and figures of one contestant in one assay.

    Attributes:
        metrics: with intervals, floors and baselines.
        figures: what to draw.
        case_names: names of the cases behind `errors`, in order.
        errors: metric name → error of each case (NaN where it failed), for paired comparisons.
        groups: group of each case for block resampling (frames of one trajectory block).
        worst: names of the worst cases, worst first.
        weights: metric name → weight of each case in the mean over cases (e.g. its number of
            force components); where a metric is missing here its cases weigh the same.
    """

    metrics: tuple[Metric, ...]
    figures: tuple[Figure, ...] = ()
    case_names: tuple[str, ...] = ()
    errors: Mapping[str, np.ndarray] = field(default_factory=dict)
    groups: tuple[str, ...] = ()
    worst: tuple[str, ...] = ()
    weights: Mapping[str, np.ndarray] = field(default_factory=dict)


class NotApplicable(Exception):
    """The assay cannot be asked of this system (no rotatable bond, no volume, …): missing,
    neither counted nor hidden; the message is shown."""


class AbstractAssay(abc.ABC):
    """A frozen dataclass: its fields are its settings.

    Attributes:
        family: name of the folder, e.g. ``torsions``.
        title: for people.
        version: raised by every change that moves a number.
        needs: what the context must offer, else the assay is "not applicable".
        timing: whether it measures time: then it runs alone and is keyed by hardware.
    """

    family: ClassVar[str]
    title: ClassVar[str]
    version: ClassVar[int]
    needs: ClassVar[tuple[Need, ...]]
    timing: ClassVar[bool] = False

    @abc.abstractmethod
    def cases(self, context: Context) -> CaseSet:
        """The cases, with the reference's own data.

        Raises:
            NotApplicable: with the reason.
        """

    @abc.abstractmethod
    def measure(self, potential: AbstractPotential, cases: CaseSet) -> Measurement:
        """What this potential does on the cases; failures are recorded, not raised.

        Raises:
            NotApplicable: this potential cannot be asked (no stress, unknown element).
        """

    @abc.abstractmethod
    def score(self, cases: CaseSet, measured: Measurement, contestant: Contestant) -> Score:
        """Metrics and figures; pure, without JAX."""

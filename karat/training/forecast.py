"""What a run will take, before its first step: time and memory, from the compiled step itself.

Memory is what XLA says of the compiled programs (`memory_analysis`) on top of what is held
already; time is that of one step on the largest batch, and of one validation batch, measured on
copies, so that the run's numbers do not know of it. JAX keeps what is compiled here: the run does
not compile it again.

Checked: tests/training/test_forecast.py.
"""

import os
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from karat.core.errors import BadInput
from karat.potentials.kernel.packed import available_bytes
from karat.training import committee_step, step
from karat.training.feeding import Feed
from karat.training.members import Members
from karat.training.progress_words import amount, duration
from karat.training.settings import TrainingSettings
from karat.training.step import Micro, Moving, Numbers, Recipe, replicated
from karat.training.validation import Validation

Group = Sequence[Sequence[np.ndarray]]
"""Structures of a step: of each of its batches, on each device."""
SHARE_OF_MEMORY = 0.95
"""Part of the free memory that a run may count on."""
TIMED_STEPS, TIMED_SECONDS = 5, 0.3
"""The step is measured so often, or for so long; at least once."""


@dataclass(frozen=True)
class Room:
    """Memory of where a run computes.

    Attributes:
        held: bytes that this process has there already: data, parameters, validation batches.
        limit: bytes that it could have at most.
        where: for people: ``this machine``, or the device's name.
    """

    held: int
    limit: int
    where: str


@dataclass(frozen=True)
class Forecast:
    """What the rest of a run is expected to take.

    Attributes:
        epochs: left.
        steps: of an epoch.
        step_seconds: of a step with the largest batches.
        train_seconds: of the steps of an epoch.
        valid_seconds: of the validation after it.
        compile_seconds: spent on the programs that were compiled for this.
        compile_seconds_left: expected for those that were not.
        memory_bytes: at the peak, with what is held already.
        limit_bytes: that there are.
        where: whose memory.
    """

    epochs: int
    steps: int
    step_seconds: float
    train_seconds: float
    valid_seconds: float
    compile_seconds: float
    compile_seconds_left: float
    memory_bytes: int
    limit_bytes: int
    where: str

    @property
    def epoch_seconds(self) -> float:
        """Of an epoch, validation included."""
        return self.train_seconds + self.valid_seconds

    @property
    def seconds(self) -> float:
        """Until the last epoch."""
        return self.compile_seconds_left + self.epochs * self.epoch_seconds

    @property
    def words(self) -> str:
        """For people, in a line."""
        return (
            f"about {duration(self.seconds)} for {self.epochs} epochs "
            f"({duration(self.epoch_seconds)} each); "
            f"{amount(self.memory_bytes, self.limit_bytes)} of {self.where}"
        )

    def as_dict(self) -> dict[str, Any]:
        """JSON-ready, with the sums."""
        sums = {"epoch_seconds": self.epoch_seconds, "seconds": self.seconds}
        return {**asdict(self), **sums}


def forecast(
    fixed: Any,
    moving: Moving,
    feed: Feed,
    validation: Validation,
    settings: TrainingSettings,
    epochs_done: int = 0,
    announce: Callable[[str], None] | None = None,
    room: Room | None = None,
    members: Members | None = None,
) -> Forecast:
    """Compile the step for the largest batches of the next epoch and the validation of the
    largest batch; refuse what does not fit into memory; measure what does.

    Args:
        fixed: the module without its trainable arrays.
        moving: parameters, average, memory of the optimiser; they stay as they are.
        feed, validation: of the run.
        epochs_done: by earlier parts of the run.
        announce: told in words before each compilation.
        room: memory that there is; by default it is looked up.
        members: of a committee.

    Raises:
        BadInput: the run needs more memory than there is; with advice. No step was made.
    """
    say = announce or (lambda words: None)
    structures = feed.packing.structures_per_batch
    groups = feed.epoch(epochs_done)
    began = time.monotonic()
    say(f"compiling the training step (1 of {feed.packing.shapes.number} shapes)")
    trial = _StepTrial.prepare(fixed, moving, feed, groups, settings, members)
    shapes = len(set(validation.shapes))
    say(f"compiling the validation (1 of {shapes} shapes)")
    check = _CheckTrial.prepare(fixed, moving[1], validation, settings, members)
    compiled = time.monotonic() - began
    room = room or find_room()  # the compiler's own memory is held from now on
    need = room.held + max(trial.bytes, check.bytes)
    require(need, room, settings, structures)
    say("measuring a step")
    try:
        step_seconds, check_seconds = _measured(trial.run), _measured(check.run)
    except jax.errors.JaxRuntimeError as error:
        if "RESOURCE_EXHAUSTED" in str(error):  # although the programs should fit
            require(room.limit, room, settings, structures)
        raise
    not_compiled = feed.packing.shapes.number + shapes - 2
    return Forecast(
        epochs=settings.epochs - epochs_done,
        steps=len(groups),
        step_seconds=step_seconds,
        train_seconds=step_seconds * _units(feed, groups) / trial.units,
        valid_seconds=check_seconds * sum(s[1] for s in validation.shapes) / check.units,
        compile_seconds=compiled,
        compile_seconds_left=not_compiled * compiled / 2,
        memory_bytes=need,
        limit_bytes=room.limit,
        where=room.where,
    )


def find_room() -> Room:
    """Memory of the first device; of the machine where the device has none of its own."""
    device = jax.devices()[0]
    found = device.memory_stats()
    if found and found.get("bytes_limit"):
        return Room(int(found["bytes_in_use"]), int(found["bytes_limit"]), device.device_kind)
    held = _resident_bytes()
    return Room(held, held + available_bytes(), "this machine")


def require(need: int, room: Room, settings: TrainingSettings, structures: float) -> None:
    """Refuse a run that does not fit.

    Raises:
        BadInput: with what it needs, what there is, and what would help.
    """
    if need <= SHARE_OF_MEMORY * room.limit:
        return
    advice = ["fewer channels, or a shorter cutoff_angstrom"]
    if settings.batch_size > 1:
        half = max(1, settings.batch_size // 2)
        advice.insert(
            0,
            f"a smaller batch_size (now {settings.batch_size}, {structures:.3g} structures in a "
            f"batch), e.g. {half} with accumulate {2 * settings.accumulate}: the same steps",
        )
    if settings.dtype == "float64":
        advice.append("dtype float32")
    raise BadInput(
        f"Training needs {amount(need, room.limit)} of {room.where}; no step was made. "
        f"Choose {'; or '.join(advice)}."
    )


def program_bytes(compiled: Any) -> int:
    """What a compiled program takes beside its arguments that are given away to it."""
    found = compiled.memory_analysis()
    shared = 2 * found.alias_size_in_bytes  # counted as argument and as result
    return int(
        found.argument_size_in_bytes
        + found.output_size_in_bytes
        + found.temp_size_in_bytes
        + found.generated_code_size_in_bytes
        - shared
    )


@dataclass(frozen=True, eq=False)
class _StepTrial:
    """A compiled step on copies.

    Attributes:
        programs: one, or where batches are accumulated two: add, move.
        feed, group: the largest step; all its batches are as the largest of them.
        units: pairs (triplets) that the step computes.
        bytes: that the programs take.
        members: of a committee, or `None`.
    """

    programs: Sequence[Any]
    moving: Moving
    arrays: Any
    numbers: Numbers
    feed: Feed
    group: Group
    units: int
    bytes: int
    members: Members | None

    @classmethod
    def prepare(
        cls,
        fixed: Any,
        moving: Moving,
        feed: Feed,
        groups: Sequence[Group],
        settings: TrainingSettings,
        members: Members | None,
    ) -> "_StepTrial":
        recipe: Recipe = feed.recipe
        row = max((row for group in groups for row in group), key=lambda r: _units(feed, [[r]]))
        group = [row] * max(len(group) for group in groups)
        arrays, static = eqx.partition(fixed, eqx.is_array)
        arrays = replicated(arrays, recipe)
        copies = replicated(jax.tree.map(jnp.copy, moving), recipe)
        counts = feed.counts(group) * (1.0 if members is None else members.shares)
        values = (settings.first_weights, counts, settings.deltas, settings.learning_rate, 0.0)
        numbers = Numbers(*(np.asarray(value, settings.dtype) for value in values))
        micro = next(_micros(feed, [row], members))
        (step, add, move), own = _jitted(members)
        constant = {"static": static, "recipe": recipe, **own}
        if settings.accumulate == 1:
            lowered = [step.lower(copies, arrays, micro, numbers, **constant)]
        else:
            total = _nothing(copies, numbers, recipe)
            lowered = [add.lower(total, copies[0], arrays, micro, numbers, **constant)]
            lowered.append(move.lower(copies, total[0], numbers, recipe=recipe, **own))
        programs = [program.compile() for program in lowered]
        size = max(program_bytes(program) for program in programs)
        if jax.devices()[0].platform == "cpu":  # devices of the host share its memory
            size *= recipe.devices
        units = _units(feed, [group])
        return cls(programs, copies, arrays, numbers, feed, group, units, size, members)

    def run(self) -> Any:
        """A step, its batches put together anew; what comes out is of no use."""
        moving = jax.tree.map(jnp.copy, self.moving)  # given away
        micros = _micros(self.feed, self.group, self.members)
        if len(self.programs) == 1:
            return self.programs[0](moving, self.arrays, next(micros), self.numbers)
        add, move = self.programs
        total = _nothing(moving, self.numbers, self.feed.recipe)
        for micro in micros:
            total = add(total, moving[0], self.arrays, micro, self.numbers)
        return move(moving, total[0], self.numbers)


def _jitted(members: Members | None) -> tuple[tuple[Any, Any, Any], dict[str, bool]]:
    """Step, add and move of a single potential or a committee, and what else they are told."""
    if members is None:
        return (step._step, step._add, step._move), {}
    both = (committee_step._step, committee_step._add, committee_step._move)
    return both, {"own": members.own_trunk}


def _micros(feed: Feed, group: Group, members: Members | None) -> Iterator[Micro]:
    """The batches of a step."""
    if members is None:
        return feed.micros(group)
    return committee_step.member_micros(feed, group, members)


@dataclass(frozen=True, eq=False)
class _CheckTrial:
    """The compiled validation of the largest batch, of `units` pairs."""

    program: Any
    inputs: tuple[Any, ...]
    units: int
    bytes: int

    @classmethod
    def prepare(
        cls,
        fixed: Any,
        parameters: Any,
        validation: Validation,
        settings: TrainingSettings,
        members: Members | None,
    ) -> "_CheckTrial":
        shapes = validation.shapes
        largest = max(range(len(shapes)), key=lambda i: shapes[i][1:3])
        arrays, static = eqx.partition(fixed, eqx.is_array)
        deltas = np.array(settings.deltas, settings.dtype)
        inputs = (parameters, arrays, validation.batches[largest], deltas)
        check = step.evaluate if members is None else committee_step.evaluate_members
        program = check.lower(*inputs, static=static, kinds=settings.kinds).compile()
        return cls(program, inputs, shapes[largest][1], program_bytes(program))

    def run(self) -> Any:
        """Errors and predictions of the batch."""
        return self.program(*self.inputs)


def _nothing(moving: Moving, numbers: Numbers, recipe: Recipe) -> Any:
    """What gradients and terms are added to."""
    terms = jnp.zeros(numbers.counts.shape, numbers.rate.dtype)
    return replicated((jax.tree.map(jnp.zeros_like, moving[0]), terms), recipe)


def _units(feed: Feed, groups: Sequence[Group]) -> int:
    """Pairs (triplets) that are computed in these steps, padding included."""
    rows = [row for group in groups for row in group]
    return sum(feed.packing.size_of_all(row)[feed.packing.unit] for row in rows)


def _measured(work: Callable[[], Any]) -> float:
    """Median seconds of some calls after a first."""
    jax.block_until_ready(work())
    seconds: list[float] = []
    while not seconds or (len(seconds) < TIMED_STEPS and sum(seconds) < TIMED_SECONDS):
        began = time.perf_counter()
        jax.block_until_ready(work())
        seconds.append(time.perf_counter() - began)
    return statistics.median(seconds)


def _resident_bytes() -> int:
    """Memory of this process; elsewhere than on Linux the most that it ever had."""
    try:
        with open("/proc/self/statm") as pages:
            return int(pages.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        import resource

        most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return most if sys.platform == "darwin" else most * 1024

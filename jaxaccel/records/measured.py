"""What opening and running an arm finds out, beside its times."""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field

from jaxaccel.records.case import JAX
from jaxaccel.records.values import (
    Amount,
    Count,
    Device,
    Error,
    Name,
    Number,
    PlainValues,
    Seconds,
    Time,
    Whole,
    Word,
)

PASS_FAILED = "pass failed"  # the flag of a record whose later passes could not be made
# A slowdown that a loaded GPU shows by design; the others mean that something is wrong.
POWER_CAP = "power cap"
# Key of an environment: those of its `packages` that are recorded because own code imports them.
CODE_PACKAGES = "code_packages"
# Prefix of an arm's flags that are settings of JAX made by own code; environment variables are in capitals.
MADE_BY_CODE = "jax_"
# A flag of an unchecked answer that has elements which are no numbers.
NOT_FINITE = "not finite"
# Flags of a carry that changed what the timed calls do.
CARRY_NOT_FINITE, CARRY_ZERO, CARRY_DENORMAL = "carry not finite", "carry zero", "carry denormal"
CARRY_CONVERGED = "carry converged"
LOOP_ENDS_EARLY, LOOP_RUNS_LONGER = "loop ends early", "loop runs longer"
CARRY_FLAGS = (
    CARRY_NOT_FINITE,
    CARRY_ZERO,
    CARRY_DENORMAL,
    CARRY_CONVERGED,
    LOOP_ENDS_EARLY,
    LOOP_RUNS_LONGER,
)
CARRY_UNCHECKED, LOOP_UNCHECKED = "carry unchecked", "loop unchecked"  # why that could not be told
CPU_CORES = "cpu_cores"  # among the flags of an arm that was kept to so many cores
# Flags of JAX's settings that own code or the environment made: one that slows calls down, one that changes
# results or times, one that holds for nothing here.
DEBUG_SETTING, SETTING, SETTING_IGNORED = "debug setting", "setting", "setting ignored"
NOT_ASKED = "not asked for: see `metrics`"  # why a metric, or what comes with it, is null
NOT_OWN = "only own code is called from Python as its author does it"
NO_CODE = "no module of the user's own is in it: the versions, or its file's digest, say what ran"
NOT_NEEDED = "not needed: the search had no question for it at this size"
NO_TRANSFER = "no transfer timed"  # an invariant


@dataclass(frozen=True, kw_only=True)
class Cost(PlainValues):
    """What one call must do at least: floating-point operations, and bytes to and from memory.

    source: who says so: `declared` by the workload, `XLA`, which counts all that the program does, and a
    loop's body once, or which of them says what; or the algorithm whose count it is, where a cleverer one may
    do with less. None where nobody does. steps: of a training, so many are made in one call: cost and times
    are those of all of them together.
    """

    flops: Amount | None
    bytes: Amount | None
    source: str = "declared"
    steps: Count = 1


@dataclass(frozen=True, kw_only=True)
class ArmFacts:
    """The device that really ran, as its framework names it. `flags` are the settings that change its speed.

    variant: the one that ran, which of a case of variant `best` is the one that was chosen. framework: `jax`,
    or the one that jaxaccel.peers measured in its place.
    """

    requested: Device
    platform: str | None = None
    kind: str | None = None
    count: Count | None = None
    variant: str | None = None
    flags: Mapping[Name, str] = field(default_factory=dict)
    framework: Word = JAX


@dataclass(frozen=True, kw_only=True)
class Trial(PlainValues):
    """What became of a variant that `best` tried. time_s: a call's, in a few rounds, before all timing.

    reason: why it is not among those to choose from; time_s may then be that of its first calls, or None.
    """

    time_s: Time | None
    ok: bool
    reason: str | None = None


@dataclass(frozen=True, kw_only=True)
class Problem:
    """Why an arm has no measurement, in one line each: what went wrong, and what to do about it.

    `details` is the traceback or the last words of the worker, for those who ask. `traceback` has of it only
    the frames of a user's own code, where it went wrong in there.
    """

    type: str
    message: str
    hint: str | None = None
    details: str | None = None
    traceback: str | None = None


@dataclass(frozen=True, kw_only=True)
class LeafSketch(PlainValues):
    """One array of an output in a few numbers, by which two devices' outputs are compared.

    projections: of `elements` evenly spread elements, on seeded random signs; norm: theirs, in float64.
    tolerance: what two devices may differ by, relative to the norm; None takes that of the whole answer.
    negligible: the norm of a difference that is rounding beside the larger arrays of the answer.
    not_finite: how many elements of the whole array are NaN or infinite, which count as 0 in the others.
    digest: of an array that has no floating-point numbers, in place of these; of one that has, of where which
    elements are not finite, where some are.
    """

    path: str
    dtype: str
    shape: tuple[Whole, ...]
    elements: Whole = 0
    projections: tuple[float, ...] = ()
    norm: Error | None = None
    tolerance: Error | None = None
    negligible: Error = 0.0
    not_finite: Whole = 0
    digest: str | None = None


@dataclass(frozen=True, kw_only=True)
class Accuracy(PlainValues):
    """The relative error of the timed program's output against `reference`, and what is tolerated.

    Without a reference, error and `ok` are None: nobody has checked the answer. `sketch` is then what it can
    be compared by with that of another device (analyze/agreement). inputs: a digest of the arguments.
    """

    relative_error: Error | None
    tolerance: Error
    ok: bool | None
    reference: str | None
    sketch: tuple[LeafSketch, ...] = ()
    inputs: str = ""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.relative_error is None:
            return
        # A NaN or infinite error is a wrong answer, whatever `ok` says.
        if not math.isfinite(self.relative_error):
            object.__setattr__(self, "relative_error", math.inf)
            object.__setattr__(self, "ok", False)
        elif self.ok is None:
            object.__setattr__(self, "ok", self.relative_error <= self.tolerance)


@dataclass(frozen=True, kw_only=True)
class Memory(PlainValues):
    """Bytes: predicted before allocating, of the compiled program, and what the device offers.

    working_set_bytes: what one call touches, as the workload declares it. peak_bytes: the most that the
    compiled program holds at a time, by XLA's buffer assignment. donated_bytes: outputs that take over the
    memory of an argument.
    """

    predicted_bytes: Whole
    capacity_bytes: Whole
    working_set_bytes: Whole | None = None
    arguments_bytes: Whole | None = None
    outputs_bytes: Whole | None = None
    temporaries_bytes: Whole | None = None
    peak_bytes: Whole | None = None
    donated_bytes: Whole | None = None


@dataclass(frozen=True, kw_only=True)
class Flag:
    """A reason to look twice at a number: its name, the metric it concerns (or all), in words."""

    name: str
    metric: str | None
    message: str


@dataclass(frozen=True, kw_only=True)
class Code:
    """The user's source that was measured.

    modules: those that the function, its arguments and its reference are in, and all that these import, but
    for installed packages. digest: of their names and contents. commit: of the git repository that the
    function's file is in. dirty: whether files differ from that commit. Where one is None, the record's
    `absent` says why.
    """

    digest: str
    modules: tuple[str, ...]
    commit: str | None = None
    dirty: bool | None = None


@dataclass(frozen=True, kw_only=True)
class HostLoad:
    """What else kept the host busy while an arm was measured, in cores' worth of time.

    stolen_cores: what a hypervisor gave to other machines. pressure_percent: share of the last 10 s in which
    some task, ours included, waited for a core. None where the system does not say.
    """

    others_cores: Number
    stolen_cores: Number | None = None
    pressure_percent: Number | None = None


@dataclass(frozen=True, kw_only=True)
class Spent:
    """Where the command's time went for this arm, in seconds.

    inspection: what is found out once, beside the rounds (the loop's slope, energy). ceilings: measuring
    those that it was the first to need. `total` adds to the named parts an even share of what belongs to no
    arm (imports, configuration, output).
    """

    worker: Seconds = 0.0
    data: Seconds = 0.0
    compile: Seconds = 0.0
    warmup: Seconds = 0.0
    sampling: Seconds = 0.0
    reference: Seconds = 0.0
    inspection: Seconds = 0.0
    ceilings: Seconds = 0.0
    total: Seconds = 0.0

    @property
    def accounted(self) -> float:
        """All that is spent on this arm by name."""
        return float(sum(asdict(self).values())) - self.total

    def __add__(self, other: "Spent") -> "Spent":
        return Spent(**{name: value + getattr(other, name) for name, value in asdict(self).items()})

"""The words that every part of jaxaccel shares: cases, timings, records, comparisons.

A record is what users build on: one JSON document an arm. Everything here is immutable data; what the
numbers mean is worked out in `analyze/`, where they go in `publish/`.
"""

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import Annotated, Any

import msgspec
from msgspec import Meta

SCHEMA_VERSION = 1

DEVICES = ("cpu", "gpu")
BEST = "best"  # the variant of a case that takes, on each device, the fastest of its workload's variants
JAX = "jax"  # the framework of all records but those of jaxaccel.peers
PASS_FAILED = "pass failed"  # the flag of a record whose later passes could not be made
# A slowdown that a loaded GPU shows by design; the others mean that something is wrong.
POWER_CAP = "power cap"
# Parameters that name functions of a user's own, as package.module:function.
NAMES_OF_CODE = ("fn", "args", "reference")
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


class Metric(StrEnum):
    """What a timing measures; two of them are never mixed in one ratio, but where that is said.

    latency: one call, blocked on its whole output. throughput: calls queued, one block, time divided by
    their number. device: one call on the device itself, without the host's dispatch; on a CPU also without
    allocating memory, which a loop does once for all its calls. These three have their data resident.
    end_to_end: inputs start on the host, the output ends there. h2d, d2h: those inputs to the device, that
    output to the host. The host's memory is pageable, as NumPy's is, and newly allocated for what comes back;
    or it is pinned.
    """

    latency = "latency"
    throughput = "throughput"
    device = "device"
    end_to_end = "end_to_end"
    end_to_end_pinned = "end_to_end_pinned"
    h2d = "h2d"
    h2d_pinned = "h2d_pinned"
    d2h = "d2h"
    d2h_pinned = "d2h_pinned"


MetricName = Annotated[str, msgspec.Meta(pattern=f"^({'|'.join(Metric)})$(?!\\n)")]
RESIDENT = (Metric.latency, Metric.throughput, Metric.device)


class Status(StrEnum):
    """How an arm ended: measured, broken on the way, or refused because it could not be right."""

    ok = "ok"
    failed = "failed"
    refused = "refused"


class Verdict(StrEnum):
    """Which device a pair's interval speaks for; `undecided` where it speaks for neither."""

    equivalent = "equivalent"
    gpu = "gpu"
    cpu = "cpu"
    undecided = "undecided"


class Limit(StrEnum):
    """What keeps a call with resident data from being faster, as far as measured ceilings tell."""

    memory = "memory"
    compute = "compute"
    dispatch = "dispatch"


class Trend(StrEnum):
    """What became of a time since the baseline; `undecided`: neither a change nor its absence is sure."""

    better = "better"
    worse = "worse"
    same = "same"
    undecided = "undecided"


# --- what values may be ----------------------------------------------------------------------------
#
# msgspec checks these where a record is read, and record.schema.json has them; what holds between several
# values is in jaxaccel/reading.py. They are wide: they keep out what no clock and no machine can have given.
# $ matches before a last end of line, too, in Python's patterns: hence (?!\n).

Name = Annotated[str, Meta(pattern=r"^[A-Za-z_][A-Za-z0-9_.-]{0,99}$(?!\n)")]
# Of a case: it stands in names of files and runs.
Word = Annotated[str, Meta(pattern=r"^[A-Za-z0-9_][A-Za-z0-9_.:+-]{0,99}$(?!\n)")]
Id = Annotated[str, Meta(pattern=r"^[A-Za-z0-9_-]{1,64}$(?!\n)")]
When = Annotated[
    str, Meta(pattern=r"^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9:.]{5,20}(Z|[+-][0-9]{2}:[0-9]{2})?$(?!\n)")
]
Device = Annotated[str, Meta(pattern=r"^(cpu|gpu)$(?!\n)")]
Version = Annotated[str, Meta(pattern=r"^[A-Za-z0-9_.+!-]{1,64}$(?!\n)")]
Time = Annotated[float, Meta(ge=1e-12, le=1e9)]  # in seconds: nothing is over within a picosecond
Seconds = Annotated[float, Meta(ge=-1e9, le=1e9)]  # a sample may be the difference of two times
Spread = Annotated[float, Meta(ge=0, le=1e9)]  # in seconds
Bound = Annotated[float, Meta(ge=0, le=1e18)]  # in seconds: passes that disagree make wide intervals
Whole = Annotated[int, Meta(ge=0, le=2**62)]  # as JSON has no larger ones that everybody reads
Count = Annotated[int, Meta(ge=1, le=2**62)]
Amount = Annotated[float, Meta(ge=0, le=1e30)]  # of FLOPs, bytes, joules
Rate = Annotated[float, Meta(ge=1e-12, le=1e30)]
Number = Annotated[float, Meta(ge=-1e30, le=1e30)]
Error = Annotated[float, Meta(ge=0, le=1e300)]


def digest(value: Any) -> str:
    """Twelve hexadecimal digits that identify a JSON-like value, whatever the order of its keys."""
    canonical = json.dumps(value, sort_keys=True, separators=(",", ":"), default=str)
    return hashlib.sha256(canonical.encode()).hexdigest()[:12]


def plain(value: Any) -> Any:
    """A value with Python's own numbers and truth values in place of NumPy's, JAX's or torch's.

    An array without dimensions is a number, any other a tuple; so too inside of tuples, lists and mappings.
    """
    if hasattr(value, "ndim") and hasattr(value, "tolist"):
        value = value.tolist()
        return tuple(value) if isinstance(value, list) else value
    if type(value) in (tuple, list):
        return type(value)(map(plain, value))
    if isinstance(value, Mapping):
        return {name: plain(entry) for name, entry in value.items()}
    return value


class PlainValues:
    """A dataclass whose fields come from a workload's code: they are made `plain`.

    A NumPy `False` is not `False`, and a NumPy number can't be written as JSON.
    """

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            object.__setattr__(self, name, plain(value))


# --- what is measured ------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Case:
    """One computation at one size, without a device: what is the same on both sides of a pair."""

    workload: Word
    size: Count
    dtype: Word
    precision: Word
    variant: Word
    params: Mapping[Name, Any] = field(default_factory=dict)
    seed: Whole = 0

    @property
    def case_id(self) -> str:
        """Identifies the case: arms of one case pair, whichever command or machine measured them."""
        return digest(asdict(self))

    def __str__(self) -> str:
        return self._in_words(f" {self.size}")

    @property
    def family(self) -> str:
        """The case in words, but for its size."""
        return self._in_words("")

    @property
    def given(self) -> dict[str, Any]:
        """The parameters that have a value: not None, which leaves it to the workload, nor an empty list."""
        return {name: value for name, value in self.params.items() if value is not None and value != []}

    def _in_words(self, size: str) -> str:
        params = "".join(f" {name}={value}" for name, value in self.given.items())
        variant = "" if self.variant == "direct" else f" {self.variant}"
        return f"{self.workload}{variant}{size}{params} {self.dtype} {self.precision}"


@dataclass(frozen=True, kw_only=True)
class Arm:
    """A case on a device. `target` names the workload's class, for the worker to resolve.

    `files` are parameters that say where a file lies on this machine. The case has its contents' digest.
    chosen: what an earlier pass chose for variant=best: all passes are of one program. framework: who
    computes it, and how: see jaxaccel/peers/frameworks.py.
    """

    case: Case
    device: str
    target: str
    files: Mapping[str, str] = field(default_factory=dict)
    chosen: str | None = None
    framework: str = JAX


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


# --- what one arm gave -----------------------------------------------------------------------------


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
class Timing:
    """Statistics of one metric, and every sample behind them, in seconds.

    `rounds` holds [pass, order in that pass, number of samples] for each round, in the order of
    `samples_s`. `depth` is the number of calls that each sample was divided by (1 for latency).
    """

    median_s: Time
    ci95_s: tuple[Bound, Bound] | None
    ci_over: Annotated[str, Meta(pattern=r"^(passes|rounds)$(?!\n)")]
    min_s: Seconds
    mean_s: Seconds
    mad_s: Spread
    iqr_s: Spread
    p5_s: Seconds
    p95_s: Seconds
    p99_s: Seconds | None
    n: Count
    converged: bool
    depth: Count
    samples_s: tuple[Seconds, ...]
    rounds: tuple[tuple[Whole, Whole, Count], ...]

    @property
    def passes(self) -> frozenset[int]:
        """The passes that it has rounds of, by number."""
        return frozenset(pass_index for pass_index, _, _ in self.rounds)


@dataclass(frozen=True, kw_only=True)
class Compile:
    """Seconds from Python function to executable. `cache` is JAX's persistent one: hit, miss or off.

    saved_s: what the cache saved of compiling, where it was hit. callbacks: whether the program calls Python.
    """

    trace_s: Spread
    lower_s: Spread
    compile_s: Spread
    cache: str
    saved_s: Spread = 0.0
    callbacks: bool = False


@dataclass(frozen=True, kw_only=True)
class Rates:
    """The cost over measured time. `metric` names the timing that was divided by.

    of_compute_ceiling, of_memory_ceiling: as shares of the record's `ceilings`. limit: the one it is under.
    """

    metric: MetricName
    flops_per_s: Amount | None
    bytes_per_s: Amount | None
    of_compute_ceiling: Amount | None = None
    of_memory_ceiling: Amount | None = None
    limit: Limit | None = None


@dataclass(frozen=True, kw_only=True)
class Ceiling:
    """The best rate that a workload of jaxaccel's own reached on this device, and which one that was.

    rate_per_s: FLOPs a second (matmul), or bytes a second. working_set_bytes: what one call touches.
    """

    rate_per_s: Rate
    workload: str
    working_set_bytes: Whole


@dataclass(frozen=True, kw_only=True)
class Ceilings:
    """What this device reached: `memory` near a record's working set, `compute` at its dtype and precision.

    `transfers`: bytes a second by metric, h2d to d2h_pinned. measured_at: when the day's first was, in UTC.
    """

    measured_at: When
    memory: Ceiling | None = None
    compute: Ceiling | None = None
    transfers: Mapping[MetricName, Ceiling] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Transfers(PlainValues):
    """What travels between host and device for a call whose data starts and ends on the host.

    A carry (parameters, optimiser state) stays on the device, as in a training loop. h2d, d2h: `copied`, or
    `aliased` where a CPU device shares the host's memory and nothing moves, or `partly aliased`.
    """

    h2d_bytes: Whole
    d2h_bytes: Whole
    h2d: str
    d2h: str


@dataclass(frozen=True, kw_only=True)
class Kernel:
    """One of the kernels of a call: its time and launches a call, and its share of all kernels' times."""

    name: str
    time_s: Spread
    launches: Amount
    share: Amount


@dataclass(frozen=True, kw_only=True)
class DeviceTime:
    """Where the device timing comes from: `profiler` (kernels, the most costly first) or `slope`.

    A slope's samples are differences: noise can make single ones negative, which are kept like all others.
    slope_s: seconds a call by the slope of an in-graph loop, which is the cross-check of a profiler.
    """

    source: str
    kernels: tuple[Kernel, ...] = ()
    slope_s: Seconds | None = None


@dataclass(frozen=True, kw_only=True)
class Energy(PlainValues):
    """What a call costs in energy, by a counter of the hardware, while calls are queued for `duration_s`.

    per_call_j: all that the scope used. above_idle_per_call_j: beyond `idle_w`, its power while it waited
    just before. uncertainty_j: of either, from one tick of the counter (`resolution_s`).
    """

    per_call_j: Number
    above_idle_per_call_j: Number
    uncertainty_j: Amount
    idle_w: Amount
    source: str
    scope: str
    resolution_s: Spread
    calls: Count
    duration_s: Time


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


@dataclass(frozen=True, kw_only=True)
class Record:
    """All that one arm gave. What is unknown is None, and `absent` says why.

    dispatch_floor_s: what a call of a program that does next to nothing took in the same workers, by metric.
    invariants: by name, `passed`, or `skipped: ` and the reason; one that is broken fails the arm.
    variants: of a case of variant `best`, what was tried; `arm.variant` is the one that was chosen.
    as_called_s: of own code, what a call takes as its author makes it in Python; the timings are of the
    compiled program alone. series: of a training, numbers a step or an epoch. results: what came of it, such
    as its accuracy on data that it has not seen. code: the user's own source; None of a workload of
    jaxaccel's.
    """

    schema_version: Count
    jaxaccel_version: Version
    started_at: When
    command: str
    case: Case
    case_id: Id
    arm_id: Id
    pair_id: Id
    sweep_id: Id
    paired: bool
    arm: ArmFacts
    status: Status
    error: Problem | None = None
    timings: Mapping[MetricName, Timing] = field(default_factory=dict)
    compile: Compile | None = None
    first_call_s: Spread | None = None
    as_called_s: Time | None = None
    cost: Cost | None = None
    rates: Rates | None = None
    accuracy: Accuracy | None = None
    memory: Memory | None = None
    transfers: Transfers | None = None
    device_time: DeviceTime | None = None
    energy: Energy | None = None
    ceilings: Ceilings | None = None
    variants: Mapping[Word, Trial] = field(default_factory=dict)
    series: Mapping[Name, tuple[Number, ...]] = field(default_factory=dict)
    results: Mapping[Name, Number] = field(default_factory=dict)
    dispatch_floor_s: Mapping[MetricName, Time] = field(default_factory=dict)
    host_load: HostLoad | None = None
    invariants: Mapping[str, str] = field(default_factory=dict)
    spent_s: Spent = field(default_factory=Spent)
    code: Code | None = None
    environment: Mapping[Name, Any] = field(default_factory=dict)
    warnings: tuple[Flag, ...] = ()
    absent: Mapping[str, str] = field(default_factory=dict)

    @property
    def ok(self) -> bool:
        """Whether there is a measurement to read."""
        return self.status is Status.ok

    @property
    def lacks_passes(self) -> str | None:
        """Why not all passes that were asked for are in it; None where they are."""
        return next((flag.message for flag in self.warnings if flag.name == PASS_FAILED), None)


# --- what a pair gave ------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Speedup:
    """CPU time / GPU time of one metric: above 1 the GPU is faster.

    The verdict is held to a wider interval than `ci95` where it is one of many: of `among` verdicts together,
    at most one in twenty times is any of them wrong. ci_family: that interval, of the ratio itself. reason:
    why two machines have none.
    """

    ratio: float
    ci95: tuple[float, float] | None
    ci_over: str
    verdict: Verdict
    among: int = 1
    ci_family: tuple[float, float] | None = None
    reason: str | None = None


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """The two arms of a case, and the speedup of each metric that both have.

    unmatched: why the two sides did not compute at one precision; such a speedup is never shown without it.
    other_source: why the record of the other device is left out: its source is another.
    interleaved: whether the rounds of both took turns. cpu_machine, gpu_machine: letters that tell machines
    apart among comparisons made together; None where there is no such arm, or it was compared by itself.
    """

    case: Case
    cpu: Record | None
    gpu: Record | None
    speedups: Mapping[str, Speedup] = field(default_factory=dict)
    unmatched: str | None = None
    other_source: str | None = None
    interleaved: bool = False
    two_machines: bool = False
    cpu_machine: str | None = None
    gpu_machine: str | None = None

    @property
    def arms(self) -> tuple[Record, ...]:
        """The records that are there, CPU first."""
        return tuple(record for record in (self.cpu, self.gpu) if record is not None)

    @property
    def among(self) -> int:
        """Of how many verdicts those here are each one."""
        return max((speedup.among for speedup in self.speedups.values()), default=1)

    @property
    def decided(self) -> bool:
        """Whether the verdict on latency names the faster device."""
        latency = self.speedups.get(Metric.latency)
        return latency is not None and latency.verdict in (Verdict.gpu, Verdict.cpu)


# --- as JSON --------------------------------------------------------------------------------------


def encode_record(record: Record) -> bytes:
    """A record as one JSON object, keys in the order of the class."""
    return msgspec.json.encode(record)


def decode_record(text: bytes | str) -> Record:
    """The record that `text` holds.

    **Raises** msgspec.DecodeError (no JSON), msgspec.ValidationError (JSON of another form).
    """
    return msgspec.json.decode(text, type=Record)

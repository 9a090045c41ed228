"""Statistics of one metric, with every sample behind them, and the rates they give."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Annotated

from msgspec import Meta

from jaxaccel.records.case import MetricName
from jaxaccel.records.values import (
    Amount,
    Bound,
    Count,
    Number,
    PlainValues,
    Rate,
    Seconds,
    Spread,
    Time,
    When,
    Whole,
)


class Limit(StrEnum):
    """What keeps a call with resident data from being faster, as far as measured ceilings tell."""

    memory = "memory"
    compute = "compute"
    dispatch = "dispatch"


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

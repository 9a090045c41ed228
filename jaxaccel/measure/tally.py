"""Gathers what one arm gives over the passes, and writes it as a Record at any time."""

import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

from jaxaccel import __version__
from jaxaccel.analyze import stats
from jaxaccel.measure.sampling import Sampled, Stop
from jaxaccel.records import (
    SCHEMA_VERSION,
    Arm,
    ArmFacts,
    Failure,
    Flag,
    Memory,
    Metric,
    Opened,
    Problem,
    Rates,
    Record,
    Spent,
    Status,
    Timing,
    digest,
)

# What of an environment must agree for two timings of an arm to be of the same thing.
FINGERPRINT = ("host_id", "machine", "python", "packages", "cpu", "gpu")


@dataclass(frozen=True, kw_only=True)
class Command:
    """What all records of one command share. `started` is on the clock of time.time()."""

    line: str
    sweep_id: str
    started: float = field(default_factory=time.time)


class Tally:
    """The growing measurement of one arm."""

    def __init__(self, arm: Arm, stop: Stop, command: Command, *, paired: bool) -> None:
        self.arm, self.stop, self.paired = arm, stop, paired
        self.spent = Spent()
        self._command = command
        self._started_at = datetime.now(UTC).isoformat(timespec="seconds")
        self._opened: Opened | None = None
        self._failure: Failure | None = None
        self._peak_bytes: int | None = None
        self._bursts: dict[Metric, list[stats.Burst]] = {}
        self._converged: dict[Metric, bool] = {}
        self._environment: Mapping[str, Any] = {}

    @property
    def failed(self) -> bool:
        """Whether the arm ended without a measurement that can be gone on with."""
        return self._failure is not None

    @property
    def refused(self) -> bool:
        """Whether the request was at fault."""
        return self._failure is not None and self._failure.refused

    def began(self, environment: Mapping[str, Any], start_s: float) -> None:
        """A worker has started for it."""
        self._environment = environment
        self.spent += Spent(worker=start_s)

    def opened(self, facts: Opened) -> None:
        """It is ready in a pass; what was found out in the first one stays."""
        self._opened = self._opened or facts
        self.spent += facts.spent_s

    def sampled(self, metric: Metric, got: Sampled) -> None:
        """A pass gave it these rounds."""
        self._bursts.setdefault(metric, []).extend(got.bursts)
        converged = got.width <= self.stop.relative_ci
        self._converged[metric] = self._converged.get(metric, True) and converged
        self.spent += Spent(sampling=got.sampling_s, warmup=got.warmup_s)
        if got.failure:
            self.ended(got.failure)

    def closed(self, peak_bytes: int | None) -> None:
        """A pass is over for it."""
        self._peak_bytes = max(filter(None, (self._peak_bytes, peak_bytes)), default=None)

    def ended(self, failure: Failure) -> None:
        """It can't be measured, or not any further."""
        self._failure = failure
        self._environment = self._environment or failure.environment

    def record(self, overhead_s: float) -> Record:
        """The Record as things stand. `overhead_s` is its share of the time that belongs to no arm."""
        case, opened = self.arm.case, self._opened
        timings = {
            metric: stats.summarize(bursts, converged=self._converged[metric])
            for metric, bursts in self._bursts.items()
            if bursts
        }
        status, error = Status.ok, None
        if self._failure:
            status, error = (Status.refused if self.refused else Status.failed), self._failure.error
        elif not timings:
            status = Status.failed
            error = Problem(type="Interrupted", message="it was interrupted before its first samples")
        environment = dict(self._environment)
        fingerprint = {key: environment.get(key) for key in FINGERPRINT}
        return Record(
            schema_version=SCHEMA_VERSION,
            jaxaccel_version=__version__,
            started_at=self._started_at,
            command=self._command.line,
            case=case,
            case_id=case.case_id,
            arm_id=digest(
                [case.case_id, self.arm.device, fingerprint, [self.stop.relative_ci, self.stop.limit_s]]
            ),
            pair_id=digest([self._command.sweep_id, case.case_id]),
            sweep_id=self._command.sweep_id,
            paired=self.paired,
            arm=opened.arm if opened else ArmFacts(requested=self.arm.device),
            status=status,
            error=error,
            timings={metric.value: timing for metric, timing in timings.items()},
            compile=opened.compile if opened else None,
            first_call_s=opened.first_call_s if opened else None,
            cost=opened.cost if opened else None,
            rates=_rates(opened, timings),
            accuracy=opened.accuracy if opened else None,
            memory=_memory(opened, self._peak_bytes),
            series=opened.series if opened else {},
            spent_s=_with_total(self.spent, overhead_s),
            environment=environment,
            warnings=tuple(self._flags(timings)),
            absent=_absent(opened, timings, self._peak_bytes, status),
        )

    def _flags(self, timings: Mapping[Metric, Timing]) -> list[Flag]:
        return [
            flag
            for metric, timing in timings.items()
            for flag in stats.flags(metric, timing, relative_ci=self.stop.relative_ci)
        ]


def _rates(opened: Opened | None, timings: Mapping[Metric, Timing]) -> Rates | None:
    # Throughput, for a blocked call's rate would be that of the dispatch as much as of the device.
    timing = timings.get(Metric.throughput)
    if opened is None or timing is None:
        return None
    return Rates(
        metric=Metric.throughput.value,
        flops_per_s=opened.cost.flops / timing.median_s,
        bytes_per_s=opened.cost.bytes / timing.median_s,
    )


def _memory(opened: Opened | None, peak_bytes: int | None) -> Memory | None:
    return replace(opened.memory, peak_bytes=peak_bytes) if opened else None


def _with_total(spent: Spent, overhead_s: float) -> Spent:
    return replace(spent, total=spent.accounted + overhead_s)


def _absent(
    opened: Opened | None, timings: Mapping[Metric, Timing], peak_bytes: int | None, status: Status
) -> dict[str, str]:
    if opened is None:
        return {"timings": f"{status}: see error"}
    absent = dict(opened.absent)
    if peak_bytes is None:
        absent["memory.peak_bytes"] = "this device's allocator does not count"
    for metric in Metric:
        timing = timings.get(metric)
        if timing is None:
            absent[f"timings.{metric}"] = "the arm ended before it"
            continue
        if timing.ci95_s is None:
            absent[f"timings.{metric}.ci95_s"] = (
                f"{timing.n} samples in {len(timing.rounds)} rounds are too few"
            )
        if timing.p99_s is None:
            absent[f"timings.{metric}.p99_s"] = f"needs {stats.P99_SAMPLES} samples, has {timing.n}"
    return absent

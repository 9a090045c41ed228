"""Gathers what one arm gives over the passes, and writes it as a Record at any time."""

import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

import numpy as np

from jaxaccel import __version__
from jaxaccel.analyze import stats
from jaxaccel.analyze.differences import identity
from jaxaccel.config import BadInputError
from jaxaccel.measure.sampling import Sampled, Stop
from jaxaccel.messages import Failure, Opened, Started
from jaxaccel.records import (
    PASS_FAILED,
    POWER_CAP,
    SCHEMA_VERSION,
    Arm,
    ArmFacts,
    Flag,
    HostLoad,
    Metric,
    Problem,
    Rates,
    Record,
    Spent,
    Status,
    Timing,
    digest,
)

# A blocked call can't be shorter than a queued one; how much noise may make it seem so.
LATENCY_MARGIN = 1.25
LATENCY_FIRST = "latency at least throughput"
NOT_YET = {
    "throughput at least device time": "skipped: device time is not measured",
    "rate within the ceiling": "skipped: no ceiling is measured",
}


@dataclass(frozen=True, kw_only=True)
class Command:
    """What all records of one command share. `started` is on the clock of time.time()."""

    line: str
    sweep_id: str
    started: float = field(default_factory=time.time)


class Tally:
    """The growing measurement of one arm. `prior` is its record from an earlier command, to go on with."""

    def __init__(
        self, arm: Arm, stop: Stop, command: Command, *, passes: int = 1, prior: Record | None = None
    ) -> None:
        self.arm, self.stop = arm, stop
        self.spent = Spent()
        self._prior = prior if prior and prior.ok else None
        self._unchanged = False  # since `prior` was made
        self._interleaved = True
        self._passes = passes
        self._command = command
        self._started_at = datetime.now(UTC).isoformat(timespec="seconds")
        self._opened: Opened | None = None
        self._failure: Failure | None = None
        self._bursts: dict[Metric, list[stats.Burst]] = {}
        self._converged: dict[Metric, bool] = {}
        self._environment: Mapping[str, Any] = {}
        self._settings: Mapping[str, str] = {}
        self._warnings: dict[Flag, None] = {}
        self._done: set[int] = set()  # passes
        self._floors: list[Mapping[str, float]] = []
        self._loads: list[HostLoad] = []
        self._slowdowns: set[str] = set()

    @property
    def failed(self) -> bool:
        """Whether the arm ended without a measurement that can be gone on with."""
        return self._failure is not None

    def lacks(self, pass_index: int) -> bool:
        """Whether this pass is still to be made."""
        return pass_index < self._passes and not self.failed and pass_index not in self._done

    def met(self, started: Started | Failure) -> None:
        """A worker has started for it: its environment is known, and `prior` can be gone on with.

        **Raises** BadInputError where `prior` was measured in another environment or with another timing.
        """
        if not self._environment:
            if self._prior and isinstance(started, Failure):
                # It can't go on, and what there is stays.
                self._environment, self._settings = self._prior.environment, self._prior.arm.flags
                self._adopt(self._prior)
                self.ended(started)
                return
            self._environment = started.environment
            self._settings = started.arm.flags if isinstance(started, Started) else {}
            if self._prior and self._prior.arm_id != self.arm_id:
                raise BadInputError(self._difference(self._prior))
            if self._prior:
                self._adopt(self._prior)

    def opened(self, facts: Opened, start_s: float) -> None:
        """It is ready in a pass, its worker having started in `start_s`; what the first found out stays."""
        self._opened = self._opened or facts
        self._floors.append(facts.floor_s)
        self._warnings.update(dict.fromkeys(facts.warnings))
        self.spent += facts.spent_s + Spent(worker=start_s)

    def sampled(self, metric: Metric, got: Sampled, *, interleaved: bool) -> None:
        """A pass gave it these rounds, in turn with those of the case's other arm if `interleaved`."""
        self._unchanged = False
        self._interleaved = self._interleaved and interleaved
        self._bursts.setdefault(metric, []).extend(got.bursts)
        self._converged[metric] = self._converged.get(metric, True) and got.width <= self.stop.relative_ci
        self._slowdowns |= got.slowdowns
        self.spent += Spent(sampling=got.sampling_s, warmup=got.warmup_s)
        if got.failure:
            self.ended(got.failure)

    def closed(self, pass_index: int, load: HostLoad) -> None:
        """A pass is over for it."""
        self._loads.append(load)
        if not self.failed:
            self._done.add(pass_index)

    def ended(self, failure: Failure) -> None:
        """It can't be measured, or not any further."""
        self._failure = failure

    @property
    def arm_id(self) -> str:
        """Identifies what is measured, where and how; known once a worker has told its environment."""
        known = identity(self._environment, self._settings)
        timing = [self.stop.relative_ci, self.stop.limit_s, self.stop.max_rounds]
        return digest([self.arm.case.case_id, self.arm.device, known, timing])

    def record(self, overhead_s: float) -> Record:
        """The Record as things stand. `overhead_s` is its share of the time that belongs to no arm."""
        if self._prior and self._unchanged and not self._failure:
            return self._prior
        opened = self._opened
        timings = {
            metric: stats.summarize(bursts, converged=self._converged[metric])
            for metric, bursts in self._counting().items()
            if bursts
        }
        invariants = self._invariants(timings)
        status, error = self._ending(timings, invariants)
        return Record(
            schema_version=SCHEMA_VERSION,
            jaxaccel_version=__version__,
            started_at=self._started_at,
            command=self._command.line,
            case=self.arm.case,
            case_id=self.arm.case.case_id,
            arm_id=self.arm_id,
            pair_id=digest([self._command.sweep_id, self.arm.case.case_id]),
            sweep_id=self._command.sweep_id,
            paired=self._interleaved and bool(timings),
            arm=opened.arm if opened else ArmFacts(requested=self.arm.device),
            status=status,
            error=error,
            timings={metric.value: timing for metric, timing in timings.items()},
            compile=opened.compile if opened else None,
            first_call_s=opened.first_call_s if opened else None,
            cost=opened.cost if opened else None,
            rates=_rates(opened, timings),
            accuracy=opened.accuracy if opened else None,
            memory=opened.memory if opened else None,
            series=opened.series if opened else {},
            dispatch_floor_s=self._floor_s(),
            host_load=_mean_load(self._loads),
            invariants=invariants,
            spent_s=replace(self.spent, total=self.spent.accounted + overhead_s),
            environment=dict(self._environment),
            warnings=tuple(self._flags(timings, invariants)),
            absent=_absent(opened, timings, status),
        )

    def _adopt(self, prior: Record) -> None:
        """Go on with an earlier record of this very arm, as if its passes had been made now."""
        if not (prior.compile and prior.cost and prior.accuracy and prior.memory):
            return  # no whole record: it is measured again
        self._unchanged, self._interleaved = True, prior.paired
        self._opened = Opened(
            arm=prior.arm,
            compile=prior.compile,
            first_call_s=prior.first_call_s or 0.0,
            cost=prior.cost,
            accuracy=prior.accuracy,
            memory=prior.memory,
            floor_s=prior.dispatch_floor_s,
            spent_s=Spent(),
            series=prior.series,
            invariants={name: said for name, said in prior.invariants.items() if name not in NOT_YET},
            absent={path: why for path, why in prior.absent.items() if not path.startswith("timings.")},
        )
        self._started_at, self.spent = prior.started_at, prior.spent_s
        kept = ("gpu shared", "clock throttled", "power capped")
        self._warnings = dict.fromkeys(flag for flag in prior.warnings if flag.name in kept)
        self._floors = [prior.dispatch_floor_s] if prior.dispatch_floor_s else []
        self._loads = [prior.host_load] if prior.host_load else []
        for name, timing in prior.timings.items():
            self._bursts[Metric(name)] = stats.bursts_of(timing)
            self._converged[Metric(name)] = timing.converged
        passes = [{burst.pass_index for burst in bursts} for bursts in self._bursts.values()]
        self._done = set.intersection(*passes) if len(passes) == len(Metric) else set()

    def _difference(self, prior: Record) -> str:
        here, there = (
            identity(self._environment, self._settings),
            identity(prior.environment, prior.arm.flags),
        )
        differing = [name for name in here if here[name] != there[name]]
        return (
            f"`resume`: {self.arm.case} on the {self.arm.device} was measured there with "
            + (f"another {', '.join(differing)}" if differing else "other timing settings")
            + ": its record would be lost; measure into a new folder"
        )

    def _survives(self) -> bool:
        """Whether whole passes were made before a failure that says nothing against them."""
        broken = self._opened and self._failure and self._failure.error.type in self._opened.invariants
        return bool(self._failure and self._done and not broken)

    def _counting(self) -> dict[Metric, list[stats.Burst]]:
        """The rounds of each metric; without a pass that a failure cut short, where others are whole."""
        if not self._survives():
            return self._bursts
        return {m: [b for b in bursts if b.pass_index in self._done] for m, bursts in self._bursts.items()}

    def _ending(
        self, timings: Mapping[Metric, Timing], invariants: Mapping[str, str]
    ) -> tuple[Status, Problem | None]:
        if self._failure and not self._survives():
            return (Status.refused if self._failure.refused else Status.failed), self._failure.error
        if not timings:
            return Status.failed, Problem(
                type="Interrupted", message="it was interrupted before its first samples"
            )
        broken = next((said for said in invariants.values() if said.startswith("broken")), None)
        if broken:
            return Status.failed, Problem(type=LATENCY_FIRST, message=broken)
        return Status.ok, None

    def _invariants(self, timings: Mapping[Metric, Timing]) -> dict[str, str]:
        if self._opened is None:
            return {}
        found = dict(self._opened.invariants)
        latency, throughput = timings.get(Metric.latency), timings.get(Metric.throughput)
        if latency and throughput:
            fine = latency.median_s * LATENCY_MARGIN >= throughput.median_s
            seems = f"a blocked call took {latency.median_s:.3g} s, a queued one {throughput.median_s:.3g} s"
            # On a CPU, queued calls may overtake and hinder each other.
            broken = "flagged" if self.arm.device == "cpu" else "broken"
            found[LATENCY_FIRST] = "passed" if fine else f"{broken}: {seems}"
        if self._failure and self._failure.error.type in found:
            found[self._failure.error.type] = f"broken: {self._failure.error.message}"
        return found | NOT_YET

    def _flags(self, timings: Mapping[Metric, Timing], invariants: Mapping[str, str]) -> Iterable[Flag]:
        floor_s = self._floor_s()
        for metric, timing in timings.items():
            yield from stats.flags(metric, timing, relative_ci=self.stop.relative_ci)
            if on_floor := stats.floor_flag(metric, timing, floor_s.get(metric.value)):
                yield on_floor
        if invariants.get(LATENCY_FIRST, "").startswith("flagged"):
            yield Flag(
                name="queueing hinders", metric=Metric.throughput.value, message=invariants[LATENCY_FIRST]
            )
        if POWER_CAP in self._slowdowns:
            yield Flag(
                name="power capped", metric=None, message="the driver held the clock to its power limit"
            )
        if reasons := sorted(self._slowdowns - {POWER_CAP}):
            yield Flag(name="clock throttled", metric=None, message=f"the driver says: {', '.join(reasons)}")
        if self._failure and self._survives():
            yield Flag(name=PASS_FAILED, metric=None, message=self._failure.error.message)
        cores = self._environment.get("cpu", {}).get("cores", 1)
        load = _mean_load(self._loads)
        if load and (busy := stats.load_flag(load, cores)):
            yield busy
        yield from self._warnings

    def _floor_s(self) -> dict[str, float]:
        names = {name for floor in self._floors for name in floor}
        return {
            name: float(np.median([floor[name] for floor in self._floors if name in floor]))
            for name in sorted(names)
        }


def _mean_load(loads: Sequence[HostLoad]) -> HostLoad | None:
    if not loads:
        return None
    stolen = [load.stolen_cores for load in loads if load.stolen_cores is not None]
    pressure = [load.pressure_percent for load in loads if load.pressure_percent is not None]
    return HostLoad(
        others_cores=float(np.mean([load.others_cores for load in loads])),
        stolen_cores=float(np.mean(stolen)) if stolen else None,
        pressure_percent=float(np.max(pressure)) if pressure else None,
    )


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


def _absent(opened: Opened | None, timings: Mapping[Metric, Timing], status: Status) -> dict[str, str]:
    if opened is None:
        return {"timings": f"{status}: see error"}
    absent = dict(opened.absent)
    absent["memory.peak_bytes"] = "an allocator counts for all cases of a worker together"
    for metric in Metric:
        timing = timings.get(metric)
        if timing is None:
            absent[f"timings.{metric}"] = "the arm ended before it"
            continue
        if timing.ci95_s is None:
            passes = len({pass_index for pass_index, _, _ in timing.rounds})
            absent[f"timings.{metric}.ci95_s"] = (
                f"{timing.n} samples in {len(timing.rounds)} rounds of {passes} passes are too few"
            )
        if timing.p99_s is None:
            absent[f"timings.{metric}.p99_s"] = f"needs {stats.P99_SAMPLES} samples, has {timing.n}"
    return absent

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
from jaxaccel.records import (
    BEST,
    CARRY_FLAGS,
    CARRY_UNCHECKED,
    CODE_PACKAGES,
    DEBUG_SETTING,
    JAX,
    NOT_ASKED,
    NOT_NEEDED,
    PASS_FAILED,
    POWER_CAP,
    RESIDENT,
    SCHEMA_VERSION,
    SETTING,
    SETTING_IGNORED,
    Arm,
    ArmFacts,
    Ceilings,
    Flag,
    HostLoad,
    Metric,
    Problem,
    Record,
    Spent,
    Status,
    Timing,
    digest,
)
from jaxaccel.records.errors import BadInputError
from jaxaccel.records.messages import Closed, Failure, Inspected, Message, Opened, Started
from jaxaccel.session.ceilings import Found
from jaxaccel.session.evidence import WITHIN_CEILING, Evidence, asked_for, derived, mean_load
from jaxaccel.session.rounds import Sampled, Stop, stop_of
from jaxaccel.session.source import packages_of_code

FEWER_ROUNDS = "fewer rounds"  # a flag: of a metric that could not be had all the time
# Flags that stay when a record is gone on with; all others are found anew.
KEPT_FLAGS = (
    "gpu shared",
    "clock throttled",
    "power capped",
    FEWER_ROUNDS,
    *CARRY_FLAGS,
    DEBUG_SETTING,
    SETTING,
    SETTING_IGNORED,
)


@dataclass(frozen=True, kw_only=True)
class Command:
    """What all records of one command share. `started` is on the clock of time.time()."""

    line: str
    sweep_id: str
    started: float = field(default_factory=time.time)


class Tally:
    """The growing measurement of one arm. `prior` is its record from an earlier command, to go on with.

    `held`: whether it is to be held against ceilings. asked: those of `metrics` that its passes are now of.
    """

    def __init__(
        self,
        arm: Arm,
        stop: Stop,
        command: Command,
        *,
        passes: int = 1,
        metrics: Sequence[Metric] = (Metric.latency, Metric.throughput),
        asked: Sequence[Metric] | None = None,
        energy_s: float = 0.0,
        held: bool = False,
        prior: Record | None = None,
    ) -> None:
        self.arm, self.stop = arm, stop
        self._metrics, self._energy_s, self._held = metrics, energy_s, held
        self._asked = metrics if asked is None else asked
        self._passes = passes
        self._command = command
        self.spent = Spent()  # by this command
        self._environment: Mapping[str, Any] = {}
        self._settings: Mapping[str, str] = {}
        self._begin(prior if prior and prior.ok else None)

    def _begin(self, prior: Record | None) -> None:
        """Nothing has been measured yet, but for `prior`, once it is known that it can be gone on with."""
        self._spent_before = Spent()
        self._prior = prior
        self._unchanged = False  # since `prior` was made
        self._interleaved = True
        self._started_at = datetime.now(UTC).isoformat(timespec="seconds")
        self.facts: Opened | None = None
        self._offered: tuple[Metric, ...] = ()  # in this pass
        self.ceilings: Ceilings | None = None
        self.inspected: Inspected | None = None
        self._times_held = 0  # against ceilings
        self._absent: dict[str, str] = {}
        self._failure: Failure | None = None
        self._bursts: dict[Metric, list[stats.Burst]] = {}
        self._converged: dict[Metric, bool] = {}
        self._warnings: dict[Flag, None] = {}
        self._done: dict[Metric, set[int]] = {metric: set() for metric in self._metrics}  # passes
        self._floors: list[Mapping[str, float]] = []
        self._loads: list[HostLoad] = []
        self._slowdowns: set[str] = set()

    @property
    def prior(self) -> Record | None:
        """The record of an earlier command that it goes on with."""
        return self._prior

    def restart(self) -> None:
        """Measure all anew: `prior` is of another program."""
        self._begin(None)

    @property
    def to_open(self) -> Arm:
        """The arm as a worker is to open it: of variant=best, with what the first pass chose."""
        if self.arm.case.variant != BEST or self.facts is None:
            return self.arm
        return replace(self.arm, chosen=self.facts.arm.variant)

    @property
    def failed(self) -> bool:
        """Whether the arm ended without a measurement that can be gone on with."""
        return self._failure is not None

    def lacks(self, pass_index: int) -> bool:
        """Whether this pass is still to be made."""
        lacking = any(self.lacks_metric(metric, pass_index) for metric in self._asked)
        return pass_index < self._passes and not self.failed and lacking

    def lacks_metric(self, metric: Metric, pass_index: int) -> bool:
        """Whether no such pass has been made of this metric."""
        return pass_index not in self._done[metric]

    @property
    def wants_inspection(self) -> bool:
        """Whether what needs no more than one pass is still to be found out."""
        if self.inspected is None:
            return True
        untold = self._absent.get("device_time", NOT_ASKED) == NOT_ASKED
        return Metric.device in self._asked and self.inspected.device_time is None and untold

    def met(self, started: Started | Failure) -> None:
        """A worker has started for it: its environment is known, and `prior` can be gone on with.

        **Raises** BadInputError where `prior` was measured in another environment or with another timing.
        """
        if not self._environment:
            if self._prior and isinstance(started, Failure):
                # It can't go on, and what there is stays; where that is all, it need not go on.
                self._environment, self._settings = self._prior.environment, self._prior.arm.flags
                self._adopt(self._prior)
                if any(self.lacks(pass_index) for pass_index in range(self._passes)):
                    self.ended(started)
                return
            self._environment = started.environment
            self._settings = started.arm.flags if isinstance(started, Started) else {}
            if self._prior and self._prior.arm_id != self.arm_id:
                raise BadInputError(self._difference(self._prior))
            if self._prior:
                self._adopt(self._prior)

    def offers(self, metric: Metric) -> bool:
        """Whether a round of this metric can be asked for in this pass, for which it has been opened."""
        known = self.facts is not None and metric in self.facts.metrics
        return known and metric in self._offered and f"timings.{metric}" not in self._absent

    def opened(self, facts: Opened, start_s: float) -> None:
        """It is ready in a pass, its worker having started in `start_s`; what the first found out stays."""
        self.facts, self._offered = _with_more(self.facts or facts, facts), facts.metrics
        for metric in self._asked:
            if metric not in facts.metrics and self._bursts.get(metric):
                self._has_fewer_rounds(metric, facts.absent.get(f"timings.{metric}", "it was not offered"))
        self._floors.append(facts.floor_s)
        self._warnings.update(dict.fromkeys(facts.warnings))
        self.spent += facts.spent_s + Spent(worker=start_s)

    def sampled(self, metric: Metric, got: Sampled, *, interleaved: bool) -> None:
        """A pass gave it these rounds, in turn with those of the case's other arm if `interleaved`."""
        self._unchanged = False
        self._interleaved = self._interleaved and interleaved
        bursts = self._bursts.setdefault(metric, [])
        bursts.extend(got.bursts)
        if got.unavailable and bursts:
            self._has_fewer_rounds(metric, got.unavailable)
        elif got.unavailable:
            self._absent[f"timings.{metric}"] = got.unavailable
        self._converged[metric] = self._converged.get(metric, True) and (
            got.width <= stop_of(metric, self.stop).relative_ci
        )
        self._slowdowns |= got.slowdowns
        self.spent += Spent(sampling=got.sampling_s, warmup=got.warmup_s)
        if got.failure:
            self.ended(got.failure)

    def _has_fewer_rounds(self, metric: Metric, why: str) -> None:
        message = f"a pass has fewer rounds of it, or none: {why}"
        self._warnings[Flag(name=FEWER_ROUNDS, metric=metric.value, message=message)] = None

    def found_out(self, found: Inspected) -> None:
        """What needs no more than one pass."""
        self.inspected = found
        self._absent.pop("device_time", None)
        self._absent |= found.absent
        self.spent += Spent(inspection=found.spent_s)

    def lost(self, failure: Failure) -> None:
        """It could not be inspected; its timings stand."""
        why = failure.error.message
        self.found_out(Inspected(absent={"device_time": why, "energy": why, "as_called_s": why}))

    def let_go(self, reply: Message) -> None:
        """Its worker dropped it, and says what the timing did to its carry: once, not after each pass."""
        flags: tuple[Flag, ...] = ()
        if isinstance(reply, Closed):
            flags = reply.warnings
            self.spent += Spent(inspection=reply.spent_s)
        elif isinstance(reply, Failure):
            flags = (Flag(name=CARRY_UNCHECKED, metric=None, message=reply.error.message),)
        known = {flag.name for flag in self._warnings}
        self._warnings.update(dict.fromkeys(flag for flag in flags if flag.name not in known))

    def wants_ceilings(self, again: int) -> bool:
        """Whether it has none yet, or is faster than they say that it can be: they may be too low.

        They are then measured anew `again` times at most.
        """
        if self.ceilings is None:
            return True
        if not (self.ceilings.memory or self.ceilings.compute):  # the worker died of it, say
            return self._times_held <= again
        evidence = self._evidence()
        said = evidence.invariants()[WITHIN_CEILING]
        # A rate by a count of XLA may well be above: part of the bytes that it counts come from caches.
        declared = evidence.facts is not None and evidence.facts.cost.source == "declared"
        return declared and self._times_held <= again and said.startswith(("broken", "flagged"))

    def held_against(self, found: Found) -> None:
        """What its device reached."""
        self.ceilings = found.ceilings
        self._times_held += 1
        kept = {path: why for path, why in self._absent.items() if not path.startswith("ceilings")}
        self._absent = {**kept, **found.absent}
        self.spent += Spent(ceilings=found.spent_s)

    def closed(self, pass_index: int, load: HostLoad) -> None:
        """A pass is over for it."""
        self._loads.append(load)
        if not self.failed:
            for metric in self._asked:
                self._done[metric].add(pass_index)

    def ended(self, failure: Failure) -> None:
        """It can't be measured, or not any further."""
        self._failure = failure

    @property
    def arm_id(self) -> str:
        """Identifies what is measured, where and how; known once a worker has told its environment."""
        known = identity(self._environment, self._settings)
        stop = self.stop
        # As floats: 1 and 1.0 are one setting.
        timing = [float(stop.relative_ci), float(stop.limit_s), stop.max_rounds, float(self._energy_s)]
        others = [self.arm.framework] if self.arm.framework != JAX else []
        return digest([self.arm.case.case_id, self.arm.device, known, timing, list(self._metrics), *others])

    def record(self, overhead_s: float) -> Record:
        """The Record as things stand. `overhead_s` is its share of the time that belongs to no arm."""
        if self._prior and self._unchanged and not self._failure and not self._prior.lacks_passes:
            return self._prior
        opened, evidence = self.facts, self._evidence()
        timings, invariants = evidence.timings, evidence.invariants()
        status, error = self._ending(timings, invariants)
        spent_s = self._spent_before + self.spent
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
            arm=opened.arm if opened else ArmFacts(requested=self.arm.device, framework=self.arm.framework),
            status=status,
            error=error,
            timings={metric.value: timing for metric, timing in timings.items()},
            compile=opened.compile if opened else None,
            first_call_s=opened.first_call_s if opened else None,
            as_called_s=self.inspected.as_called_s if self.inspected else None,
            cost=opened.cost if opened else None,
            rates=evidence.rates(),
            accuracy=opened.accuracy if opened else None,
            memory=opened.memory if opened else None,
            transfers=opened.transfers if opened else None,
            device_time=self.inspected.device_time if self.inspected else None,
            energy=self.inspected.energy if self.inspected else None,
            ceilings=self.ceilings,
            variants=opened.variants if opened else {},
            series=opened.series if opened else {},
            results=opened.results if opened else {},
            dispatch_floor_s=evidence.floor_s,
            host_load=mean_load(self._loads),
            invariants=invariants,
            spent_s=replace(spent_s, total=spent_s.total + self.spent.accounted + overhead_s),
            code=opened.code if opened else None,
            environment=self._whole_environment(),
            warnings=(*evidence.flags(self.stop), *self._flags()),
            absent=evidence.absent(self._metrics, status) | self._absent | self._unneeded(),
        )

    def _whole_environment(self) -> dict[str, Any]:
        """With the packages that own code imports, which are known once it was opened."""
        packages = self.facts.packages if self.facts else {}
        if not packages:
            return dict(self._environment)
        known = self._environment.get("packages", {})
        return {**self._environment, "packages": {**known, **packages}, CODE_PACKAGES: [*packages]}

    def _unneeded(self) -> dict[str, str]:
        """Why metrics are null that no pass has been of yet, and what comes with them."""
        if self.facts is None:
            return {}
        never = [metric for metric, done in self._done.items() if metric not in self._asked and not done]
        places = [f"timings.{metric}" for metric in never]
        if Metric.device in never:
            places.append("device_time")
        if set(never) - {*RESIDENT} and not self.facts.transfers:
            places.append("transfers")
        return dict.fromkeys(places, NOT_NEEDED)

    def _evidence(self) -> Evidence:
        return Evidence(
            arm=self.arm,
            facts=self.facts,
            timings={
                metric: stats.summarize(bursts, converged=self._converged[metric])
                for metric, bursts in self._counting().items()
                if bursts
            },
            ceilings=self.ceilings,
            floor_s=self._floor_s(),
            failure=self._failure,
            inspected=self.inspected,
            held=self._held,
            busy=self._busy() is not None,
        )

    def _busy(self) -> Flag | None:
        load = mean_load(self._loads)
        return stats.load_flag(load, self._environment.get("cpu", {}).get("cores", 1)) if load else None

    def _adopt(self, prior: Record) -> None:
        """Go on with an earlier record of this very arm, as if its passes had been made now."""
        compiled = prior.compile or prior.arm.framework != JAX
        if not (compiled and prior.cost and prior.accuracy and prior.memory):
            return  # no whole record: it is measured again
        self._unchanged, self._interleaved = True, prior.paired
        self.facts = Opened(
            arm=prior.arm,
            compile=prior.compile,
            first_call_s=prior.first_call_s or 0.0,
            cost=prior.cost,
            accuracy=prior.accuracy,
            memory=prior.memory,
            floor_s=prior.dispatch_floor_s,
            spent_s=Spent(),
            variants=prior.variants,
            series=prior.series,
            results=prior.results,
            metrics=tuple(Metric(name) for name in prior.timings),
            transfers=prior.transfers,
            invariants=prior.invariants,
            code=prior.code,
            packages=packages_of_code(prior),
        )
        if prior.device_time or prior.energy or "energy" in prior.absent:
            self.inspected = Inspected(
                device_time=prior.device_time, energy=prior.energy, as_called_s=prior.as_called_s
            )
        self.ceilings = prior.ceilings
        self._absent = {
            path: why
            for path, why in prior.absent.items()
            if not derived(path) and why not in (NOT_ASKED, NOT_NEEDED)
        }
        self._started_at, self._spent_before = prior.started_at, prior.spent_s
        self._warnings = dict.fromkeys(flag for flag in prior.warnings if flag.name in KEPT_FLAGS)
        self._floors = [prior.dispatch_floor_s] if prior.dispatch_floor_s else []
        self._loads = [prior.host_load] if prior.host_load else []
        for name, timing in prior.timings.items():
            self._bursts[Metric(name)] = stats.bursts_of(timing)
            self._converged[Metric(name)] = timing.converged
        made = {m: {burst.pass_index for burst in bursts} for m, bursts in self._bursts.items()}
        # All passes of an ok record are whole; but of a metric that could not be had, they have no rounds.
        fewer = {flag.metric for flag in self._warnings if flag.name == FEWER_ROUNDS}
        for metric in dict.fromkeys((*self._metrics, *made)):  # where no worker starts, it may have others
            if prior.absent.get(f"timings.{metric}") == NOT_NEEDED:
                self._done[metric] = set()
            elif metric in made and metric.value not in fewer:
                self._done[metric] = made[metric]
            else:
                self._done[metric] = set[int]().union(*made.values())

    def _difference(self, prior: Record) -> str:
        here, there = (
            identity(self._environment, self._settings),
            identity(prior.environment, prior.arm.flags),
        )
        differing = [name for name in here if here[name] != there[name]]
        metrics = asked_for(prior)
        if differing:
            what = f"another {', '.join(differing)}"
        elif metrics != list(self._metrics):
            what = f"metrics=[{','.join(metrics)}]"
        else:
            what = "other timing settings"
        return (
            f"`resume`: {self.arm.case} on the {self.arm.device} was measured there with {what}: "
            "its record would be lost; measure into a new folder"
        )

    def _survives(self) -> bool:
        """Whether whole passes were made before a failure that says nothing against them."""
        broken = self.facts and self._failure and self._failure.error.type in self.facts.invariants
        return bool(self._failure and any(self._done.values()) and not broken)

    def _counting(self) -> dict[Metric, list[stats.Burst]]:
        """The rounds of each metric; without a pass that a failure cut short, where others are whole."""
        if not self._survives():
            return self._bursts
        return {m: [b for b in bursts if b.pass_index in self._done[m]] for m, bursts in self._bursts.items()}

    def _ending(
        self, timings: Mapping[Metric, Timing], invariants: Mapping[str, str]
    ) -> tuple[Status, Problem | None]:
        if self._failure and not self._survives():
            return (Status.refused if self._failure.refused else Status.failed), self._failure.error
        if not timings and any(self._done.values()):
            known = {**(self.facts.absent if self.facts else {}), **self._absent}
            reasons = (known.get(f"timings.{metric}") for metric in self._metrics)
            message = "; ".join(dict.fromkeys(filter(None, reasons))) or "none of its metrics can be had here"
            return Status.failed, Problem(type="Unavailable", message=message)
        if not timings:
            return Status.failed, Problem(
                type="Interrupted", message="it was interrupted before its first samples"
            )
        for name, said in invariants.items():
            if said.startswith("broken"):
                return Status.failed, Problem(type=name, message=said)
        return Status.ok, None

    def _flags(self) -> Iterable[Flag]:
        """What the driver, the host and later passes have to say."""
        if POWER_CAP in self._slowdowns:
            yield Flag(
                name="power capped", metric=None, message="the driver held the clock to its power limit"
            )
        if reasons := sorted(self._slowdowns - {POWER_CAP}):
            yield Flag(name="clock throttled", metric=None, message=f"the driver says: {', '.join(reasons)}")
        if self._failure and self._survives():
            yield Flag(name=PASS_FAILED, metric=None, message=self._failure.error.message)
        if busy := self._busy():
            yield busy
        yield from self._warnings

    def _floor_s(self) -> dict[str, float]:
        names = {name for floor in self._floors for name in floor}
        return {
            name: float(np.median([floor[name] for floor in self._floors if name in floor]))
            for name in sorted(names)
        }


def _with_more(first: Opened, later: Opened) -> Opened:
    """What the first opening of an arm found out, and a later one of metrics that the first was not for."""
    new = [m for m in later.metrics if m not in first.metrics and f"timings.{m}" not in first.absent]
    if not new:
        return first
    absent = {path: why for path, why in first.absent.items() if why != NOT_ASKED}
    if not (first.transfers or later.transfers) and "transfers" in later.absent:
        absent["transfers"] = later.absent["transfers"]
    return replace(
        first,
        metrics=(*first.metrics, *new),
        transfers=first.transfers or later.transfers,
        absent=absent,
    )

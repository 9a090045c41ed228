"""What an arm's timings say beside each other: invariants, rates, flags, and what is missing. Pure."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from jaxaccel.analyze import roofline, stats
from jaxaccel.records import (
    NO_CODE,
    NOT_ASKED,
    NOT_OWN,
    Arm,
    Ceilings,
    Flag,
    HostLoad,
    Metric,
    Rates,
    Record,
    Status,
    Timing,
)
from jaxaccel.records.messages import Failure, Inspected, Opened
from jaxaccel.session.rounds import Stop, stop_of

# A blocked call can't be shorter than a queued one, nor a queued one than its work on the device; how much
# noise may make it seem so.
ORDER_MARGIN = 1.25
LATENCY_FIRST = "latency at least throughput"
DEVICE_LAST = "throughput at least device time"
WITHIN_CEILING = "rate within the ceiling"
# Noise, again: ceilings are the best of a few rounds. A CPU shares its memory with the rest of a noisy host:
# there only what no noise explains is called broken, and the rest flagged; on a busy host nothing is, where
# ceilings that were measured between the turns of others came out at a quarter.
CEILING_MARGIN = 1.05
CPU_BROKEN_MARGIN = 2.0

ENDED = "the arm ended before it"

Timings = Mapping[Metric, Timing]


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """All that is known of one arm so far.

    held: whether it was to be held against ceilings. busy: whether others kept the host busy meanwhile.
    """

    arm: Arm
    facts: Opened | None
    timings: Timings
    ceilings: Ceilings | None
    floor_s: Mapping[str, float]
    failure: Failure | None = None
    inspected: Inspected | None = None
    held: bool = False
    busy: bool = False

    def invariants(self) -> dict[str, str]:
        """By name: `passed`, `broken: ` and how, `flagged: ` where it may be noise, or `skipped: `."""
        if self.facts is None:
            return {}
        found = dict(self.facts.invariants)
        found[LATENCY_FIRST] = self._ordered(
            Metric.latency, "a blocked call", Metric.throughput, "a queued one"
        )
        found[DEVICE_LAST] = self._ordered(
            Metric.throughput, "a queued call", Metric.device, "its work on the device"
        )
        found[WITHIN_CEILING] = self._within_ceiling()
        if self.failure and self.failure.error.type in found:
            found[self.failure.error.type] = f"broken: {self.failure.error.message}"
        return found

    def _ordered(self, longer: Metric, its_name: str, shorter: Metric, other: str) -> str:
        first, second = self.timings.get(longer), self.timings.get(shorter)
        if first is None or second is None:
            return f"skipped: there is no {longer if first is None else shorter}"
        if _upper_s(first) * ORDER_MARGIN >= _lower_s(second):
            return "passed"
        # On a CPU, queued calls may overtake and hinder each other. On a GPU, where the host takes longer
        # over a call than the device, it may take longer over many: that of 3,000 arrays did.
        by_host = shorter is Metric.throughput and self._waits_for_host(second)
        how = "flagged" if self.arm.device == "cpu" or by_host else "broken"
        return f"{how}: {its_name} took {first.median_s:.3g} s, {other} {second.median_s:.3g} s"

    def _waits_for_host(self, queued: Timing) -> bool:
        """Whether the device is idle for most of a queued call."""
        device = self.timings.get(Metric.device)
        return device is not None and 2 * device.median_s < queued.median_s

    def _within_ceiling(self) -> str:
        metric = self._rated()
        if self.ceilings is None or not (self.ceilings.memory or self.ceilings.compute):
            return "skipped: no ceiling is measured"
        if self.facts is None or metric is None:
            return "skipped: there is no rate"
        cost, timing = self.facts.cost, self.timings[metric]
        if cost.flops is None and cost.bytes is None:
            return "skipped: what a call must do is not known"
        beyond = roofline.exceeds(cost, timing, self.ceilings, CEILING_MARGIN)
        if beyond is None:
            return "passed"
        if cost.source != "declared":  # caches serve a part of the bytes that XLA counts
            return f"flagged: {beyond}, by a count of {cost.source}"
        on_cpu = self.arm.device == "cpu"
        may_be_noise = self.busy or not roofline.exceeds(cost, timing, self.ceilings, CPU_BROKEN_MARGIN)
        return f"{'flagged' if on_cpu and may_be_noise else 'broken'}: {beyond}"

    def _rated(self) -> Metric | None:
        """What rates are taken of: time on the device, or else that of queued calls.

        Not of a blocked call: its rate would be that of the dispatch as much as of the device.
        """
        able = [m for m in (Metric.device, Metric.throughput) if m in self.timings]
        # Of a long call there are but a few samples, and those of a CPU's slope have the noise of two loops.
        enough = [m for m in able if self.timings[m].n >= stats.MIN_SAMPLES]
        return next(iter(enough or able[::-1]), None)

    def rates(self) -> Rates | None:
        """The cost over measured time, and how much of the ceilings that is."""
        metric = self._rated()
        if self.facts is None or metric is None:
            return None
        cost, time_s = self.facts.cost, self.timings[metric].median_s
        compute, memory = (_possible(share) for share in self._shares())
        # Dispatch is part of a call that one waits for.
        call = self.timings.get(Metric.latency)
        return Rates(
            metric=metric.value,
            flops_per_s=None if cost.flops is None else cost.flops / time_s,
            bytes_per_s=None if cost.bytes is None else cost.bytes / time_s,
            of_compute_ceiling=compute,
            of_memory_ceiling=memory,
            limit=roofline.limit(cost, call.median_s, self.ceilings, self.floor_s.get(Metric.latency.value))
            if call
            else None,
        )

    def _shares(self) -> tuple[float | None, float | None]:
        """The rates as shares of the ceilings of compute and of memory, whatever they come to."""
        metric = self._rated()
        if self.facts is None or metric is None:
            return None, None
        return roofline.shares(self.facts.cost, self.timings[metric].median_s, self.ceilings)

    def flags(self, stop: Stop) -> Iterable[Flag]:
        """Reasons to look twice that the samples themselves give."""
        for metric, timing in self.timings.items():
            yield from stats.flags(metric, timing, relative_ci=stop_of(metric, stop).relative_ci)
            if on_floor := stats.floor_flag(metric, timing, self.floor_s.get(metric.value)):
                yield on_floor
        names = {
            LATENCY_FIRST: ("queueing hinders", Metric.throughput),
            DEVICE_LAST: ("loop slower than calls", Metric.device),
            WITHIN_CEILING: ("above the ceiling", self._rated() or Metric.device),
        }
        for invariant, said in self.invariants().items():
            if said.startswith("flagged"):
                name, metric = names[invariant]
                yield Flag(name=name, metric=metric.value, message=said.removeprefix("flagged: "))

    def absent(self, metrics: Sequence[Metric], status: Status) -> dict[str, str]:
        """Why what is null in the record is null. `metrics` were asked for."""
        if self.facts is None:
            return {"timings": f"{status}: see error"}
        absent = dict(self.facts.absent)
        if self.facts.code is None:
            absent["code"] = NO_CODE
        if self.facts.memory.peak_bytes is None:
            absent.setdefault("memory.peak_bytes", "XLA does not tell")
        for metric in Metric:
            place = f"timings.{metric}"
            timing = self.timings.get(metric)
            if timing is None:
                absent.setdefault(place, ENDED if metric in metrics else NOT_ASKED)
                continue
            if timing.ci95_s is None:
                rounds = f"{len(timing.rounds)} rounds of {len(timing.passes)} passes"
                absent[f"{place}.ci95_s"] = f"{timing.n} samples in {rounds} are too few"
            if timing.p99_s is None:
                absent[f"{place}.p99_s"] = f"needs {stats.P99_SAMPLES} samples, has {timing.n}"
        if self.facts.transfers is None:
            absent.setdefault("transfers", NOT_ASKED)
        if self.inspected is None or self.inspected.device_time is None:
            absent.setdefault("device_time", absent.get(f"timings.{Metric.device}", ENDED))
        if self.inspected is None or self.inspected.energy is None:
            absent.setdefault("energy", ENDED)
        if self.inspected is None or self.inspected.as_called_s is None:
            absent.setdefault("as_called_s", ENDED if self.inspected is None else NOT_OWN)
        return absent | self._absent_rates()

    def _absent_rates(self) -> dict[str, str]:
        absent = {}
        if self.ceilings is None:
            absent["ceilings"] = ENDED if self.held else "not asked for: ceilings=off"
        rates = self.rates()
        if rates is None:
            return absent | {"rates": "neither queued calls nor their work on the device were timed"}
        for name, reached in zip(("compute", "memory"), self._shares(), strict=True):
            if reached is None:
                absent[f"rates.of_{name}_ceiling"] = "there is no such ceiling"
            elif _possible(reached) is None:
                absent[f"rates.of_{name}_ceiling"] = (
                    f"{reached:.0%} of a ceiling is impossible: the ceiling was measured too low, or the "
                    f"work is counted too high ({self.facts.cost.source if self.facts else 'unknown'})"
                )
        known = self.facts.absent if self.facts else {}
        for rate, share, work in (
            ("flops_per_s", "of_compute_ceiling", "cost.flops"),
            ("bytes_per_s", "of_memory_ceiling", "cost.bytes"),
        ):
            if getattr(rates, rate) is None:
                reason = known.get(work, "what a call must do is not known")
                absent |= {f"rates.{rate}": reason, f"rates.{share}": reason}
        if rates.limit is None:
            absent["rates.limit"] = "it takes a latency, and ceilings of memory and of compute"
        return absent


def derived(path: str) -> bool:
    """Whether `absent` says of this place what `Evidence.absent` finds out anew each time."""
    places = ("ceilings", "memory.peak_bytes", "rates")
    return path.endswith((".ci95_s", ".p99_s")) or path in places or path.startswith("rates.")


def asked_for(record: Record) -> list[Metric]:
    """The metrics that the command of a record asked for."""
    return [
        metric
        for metric in Metric
        if metric in record.timings or record.absent.get(f"timings.{metric}", NOT_ASKED) != NOT_ASKED
    ]


def mean_load(loads: Sequence[HostLoad]) -> HostLoad | None:
    """The load over all passes."""
    if not loads:
        return None
    stolen = [load.stolen_cores for load in loads if load.stolen_cores is not None]
    pressure = [load.pressure_percent for load in loads if load.pressure_percent is not None]
    return HostLoad(
        others_cores=float(np.mean([load.others_cores for load in loads])),
        stolen_cores=float(np.mean(stolen)) if stolen else None,
        pressure_percent=float(np.max(pressure)) if pressure else None,
    )


def _possible(share: float | None) -> float | None:
    """A share of a ceiling, unless it is more than any can be."""
    return None if share is None or share > CEILING_MARGIN else share


def _lower_s(timing: Timing) -> float:
    return timing.ci95_s[0] if timing.ci95_s else timing.median_s


def _upper_s(timing: Timing) -> float:
    return timing.ci95_s[1] if timing.ci95_s else timing.median_s

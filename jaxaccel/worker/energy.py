"""Joules a call, from a counter in the hardware, and how far that can be trusted.

A counter moves in ticks (100 ms on an H100), and reading it takes milliseconds in which the device waits: it
is read only between bursts of calls, and a measurement goes from one tick to another.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jaxaccel.records import Energy
from jaxaccel.worker.devices import open_nvml

POWERCAP = Path("/sys/class/powercap")

SETTLE_S, IDLE_S, IDLE_TICKS = 0.3, 0.5, 3
RAMP_S = 0.3  # of load before it counts: the clocks rise, and a counter that lags by a tick has caught up
BURST_S = 0.2  # the load comes in bursts of this, with no more than a look at the clock between them
NEAR_S = 0.01  # and, where the next tick is looked for, of this, with a read of the counter after each
LOAD_TICKS = 5  # of fewer, the counter would tell next to nothing
STILL_S = 0.5  # a counter that has not moved for so long does not count


class NoAnswerError(RuntimeError):
    """The counter could be read before, and cannot any more."""


@dataclass(frozen=True, kw_only=True)
class Counter:
    """Counts the joules that everything in its `scope` uses; only differences of `read_j` mean something.

    `read_j` **raises** NoAnswerError.
    """

    source: str
    scope: str
    read_j: Callable[[], float]


# --- which counter ---------------------------------------------------------------------------------


def counter(device: Any, powercap: Path = POWERCAP) -> Counter | str:
    """What counts the energy of a JAX device, or the reason why nothing does.

    For a GPU its board, other processes on it included; NVML stays open with it. For a CPU all packages of
    the machine, whoever uses them, through Linux's RAPL under `powercap`; memory outside them is not counted.
    """
    return _rapl(powercap) if device.platform == "cpu" else _board(device)


def _board(device: Any) -> Counter | str:
    gpu = open_nvml(device)
    if isinstance(gpu, str):
        return gpu
    if gpu.energy_j() is None:
        gpu.close()
        return "the GPU does not answer for its energy (NVML counts it from Volta on, not for a MIG instance)"

    def read_j() -> float:
        joules = gpu.energy_j()
        if joules is None:
            raise NoAnswerError("the GPU does not answer for its energy any more")
        return joules

    return Counter(source="NVML total energy", scope="GPU board", read_j=read_j)


class _Package:
    """One RAPL domain. `energy_uj` starts again at 0 beyond `max_energy_range_uj`.

    One such wrap between two reads is seen, a second is not: about 20 minutes at 200 W.
    """

    def __init__(self, domain: Path) -> None:
        self._energy = domain / "energy_uj"
        self._range_uj = int((domain / "max_energy_range_uj").read_text())
        self._last_uj, self._total_uj = self._now_uj(), 0

    def read_uj(self) -> int:
        """Microjoules since this object was made."""
        now_uj = self._now_uj()
        self._total_uj += (now_uj - self._last_uj) % self._range_uj
        self._last_uj = now_uj
        return self._total_uj

    def _now_uj(self) -> int:
        return int(self._energy.read_text())


def _rapl(powercap: Path) -> Counter | str:
    # A package's cores and memory are domains of their own, intel-rapl:0:0, and so is psys, which is most of
    # the machine. intel-rapl-mmio:0 is intel-rapl:0 by another way: each joule once. AMD has the same names.
    domains = [
        domain
        for domain in sorted(powercap.glob("intel-rapl:*"))
        if (domain / "name").is_file()  # a container may hide what the link leads to
        and (domain / "name").read_text().startswith("package")
    ]
    if not domains:
        return f"absent: no RAPL counter under {powercap} (virtual machines have none)"
    try:
        packages = [_Package(domain) for domain in domains]
    except OSError as error:
        return (
            f"RAPL is there but may not be read: {str(error.strerror).lower()} "
            f"(as root: chmod a+r {powercap}/intel-rapl:*/energy_uj)"
        )

    def read_j() -> float:
        try:
            return sum(package.read_uj() for package in packages) / 1e6
        except OSError as error:
            raise NoAnswerError(f"RAPL cannot be read any more: {error}") from error

    return Counter(source="RAPL", scope="CPU packages", read_j=read_j)


# --- how much a call uses --------------------------------------------------------------------------


def measure(
    run: Callable[[int], None],
    typical_s: float,
    counter: Counter,
    *,
    at_least_s: float = 2.0,
    clock: Callable[[], float] = time.perf_counter,
    sleep: Callable[[float], None] = time.sleep,
) -> Energy | str:
    """What one call uses, over calls that are queued for `at_least_s`, and on to the counter's next tick.

    `run(n)` queues n calls and waits for the last; one takes about `typical_s`. Returns the reason where the
    counter stands still or answers no more. Takes about 1.5 s more than `at_least_s` (five ticks at
    least), and where calls are long at least two of them.

    Idle is the device just before: 0.3 s after its last call, for at least 0.5 s, as it then waits. Clocks
    that a load has raised may still be up, so idle here can be more than that of a machine left alone, and
    `above_idle_per_call_j` is by so much the smaller.

    Then the load runs, and what counts begins and ends inside it, both times where a burst of 10 ms (or one
    call) had a tick in it. So what a counter lags behind is the same at both ends, and neither the rise of
    the clocks nor their fall is counted. The few reads of the second search are in it, as idle moments of
    about 1% of 2 s, in the energy and in the time from which the idle energy is taken off. A call that
    outlasts a tick is counted whole, between any two readings.

    uncertainty_j is a bound, not a deviation: the load's energy in one tick, which is what two ends that hold
    no more than the last tick can be apart; in the burst that had the tick in it; and that of timing idle_w.

    **Raises** ValueError for a `typical_s` that is not positive.
    """
    if not typical_s > 0:
        raise ValueError(f"`typical_s` must be positive, got {typical_s}")
    meter = _Meter(run, typical_s, counter, clock)
    try:
        sleep(SETTLE_S)
        first = last = meter.wait()
        for _ in range(IDLE_TICKS):
            last = meter.wait(last)
        tick_s = (last.at_s - first.at_s) / IDLE_TICKS
        sleep(max(0.0, first.at_s + IDLE_S - clock()))  # not a spin: on a CPU that would be a load
        last = meter.wait()
        begin = meter.load(RAMP_S, tick_s)
        end = meter.load(max(at_least_s, LOAD_TICKS * tick_s), tick_s)
    except NoAnswerError as error:
        return str(error)
    idle_s = last.at_s - first.at_s
    idle_w = (last.joules - first.joules) / idle_s
    idle_error = (first.slack_s + last.slack_s) / 2 / idle_s
    duration_s, joules = end.at_s - begin.at_s, end.joules - begin.joules
    open_s = tick_s + max(begin.slack_s, end.slack_s)
    most_w = joules / (duration_s - open_s)  # the load's power, if all of that is missing
    uncertain_j = most_w * open_s + idle_w * duration_s * idle_error
    return Energy(
        per_call_j=joules / end.calls,
        above_idle_per_call_j=(joules - idle_w * duration_s) / end.calls,
        uncertainty_j=uncertain_j / end.calls,
        idle_w=idle_w,
        source=counter.source,
        scope=counter.scope,
        resolution_s=tick_s,
        calls=end.calls,
        duration_s=duration_s,
    )


@dataclass(frozen=True, kw_only=True)
class _Reading:
    """What the counter showed by `at_s`, after `calls`; a tick came within `slack_s` before that."""

    joules: float
    at_s: float
    slack_s: float
    calls: int = 0


class _Meter:
    """A load and a counter, taken in turn."""

    def __init__(
        self, run: Callable[[int], None], call_s: float, counter: Counter, clock: Callable[[], float]
    ) -> None:
        self._run, self._call_s, self._counter, self._clock = run, call_s, counter, clock

    def wait(self, seen: _Reading | None = None) -> _Reading:
        """The first reading that is another than `seen`, or than now.

        **Raises** NoAnswerError where there is none.
        """
        return self._search(lambda: 0, seen or self._read())

    def load(self, at_least_s: float, tick_s: float) -> _Reading:
        """Run calls for so long, and on until the counter moves. A burst as long as a tick always moves it.

        **Raises** NoAnswerError where it does not.
        """
        start_s, calls = self._clock(), 0
        while self._clock() - start_s < at_least_s:
            calls += self._burst(BURST_S)
        seen = self._read(calls)
        if max(NEAR_S, self._call_s) >= tick_s:
            return seen
        return self._search(lambda: self._burst(NEAR_S), seen)

    def _search(self, between: Callable[[], int], seen: _Reading) -> _Reading:
        begin_s = seen.at_s
        while True:
            now = self._read(seen.calls + between())
            if now.joules != seen.joules:
                # The tick came after the reading before had begun.
                return _Reading(
                    joules=now.joules,
                    at_s=now.at_s,
                    slack_s=now.at_s - seen.at_s + seen.slack_s,
                    calls=now.calls,
                )
            if now.at_s - begin_s > STILL_S:
                raise NoAnswerError(f"the counter ({self._counter.source}) has not moved for {STILL_S} s")
            seen = now

    def _read(self, calls: int = 0) -> _Reading:
        start_s = self._clock()
        joules = self._counter.read_j()
        now_s = self._clock()
        return _Reading(joules=joules, at_s=now_s, slack_s=now_s - start_s, calls=calls)

    def _burst(self, seconds: float) -> int:
        """As many calls as take about so long, at least one."""
        calls = max(1, round(seconds / self._call_s))
        start_s = self._clock()
        self._run(calls)
        self._call_s = (self._clock() - start_s) / calls
        return calls

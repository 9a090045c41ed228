"""Device time of a GPU from JAX's profiler: the kernels of each call, without the host's dispatch."""

import math
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax

from jaxaccel.process.children import scratch_prefix
from jaxaccel.records import Kernel
from jaxaccel.records.messages import Round, Unavailable
from jaxaccel.worker.timing import LONGEST_CALL_S, Block, Call, quiet

TRIES = 3
TRACED_S, MIN_CALLS, MAX_CALLS = 0.02, 3, 50
WARM_CALLS = 2
LONG_CALLS = 2  # traced of calls of seconds: fewer could not be held against each other
SHOWN = 20  # kernels of a record; the rest are one line


class Event(NamedTuple):
    """A kernel, or a copy within the device, as the profiler saw it run."""

    name: str
    start_ns: float
    duration_ns: float


Trace = Callable[[Callable[[], None]], Sequence[Event]]


class KernelTimer:
    """Rounds of a call's device time: the profiler runs around a few calls, never around a timed one.

    A sample is the time in which at least one of the call's kernels ran. `trace` gives the events of what it
    runs; `profiler` is its name.
    """

    def __init__(
        self, call: Call, block: Block, trace: Trace, *, typical_s: float, profiler: str = "JAX's profiler"
    ) -> None:
        self._call, self._block, self._trace, self._profiler = call, block, trace, profiler
        wanted = math.ceil(TRACED_S / typical_s) if typical_s > 0 else MAX_CALLS
        self._calls = max(MIN_CALLS, min(MAX_CALLS, wanted))
        self._warm_calls = WARM_CALLS
        if typical_s > LONGEST_CALL_S:
            self._calls, self._warm_calls = LONG_CALLS, 0
        self.kernels: tuple[Kernel, ...] = ()

    def round(self) -> Round | Unavailable:
        """A sample for each call of one trace; it says why where the profiler keeps losing events."""
        begin = time.perf_counter()
        for _ in range(TRIES):
            for _ in range(self._warm_calls):
                self._block(self._call())
            start = time.perf_counter()
            with quiet():
                events = self._trace(self._run)
            calls = by_call(events, self._calls)
            if calls:
                self.kernels = summarize(calls)
                return Round(
                    samples_s=tuple(round(busy_ns(call) * 1e-9, 12) for call in calls),
                    depth=1,
                    spent_s=time.perf_counter() - start,
                    warmup_s=start - begin,
                )
        return Unavailable(reason=_why_not(self._profiler, len(events), self._calls))

    def _run(self) -> None:
        for _ in range(self._calls):
            self._block(self._call())


def traced(run: Callable[[], None], *, ordinal: int) -> list[Event]:
    """What ran on a GPU's streams while `run` did. `ordinal` counts the GPUs that this process sees."""
    options = jax.profiler.ProfileOptions()
    options.python_tracer_level = 0
    options.host_tracer_level = 0
    with tempfile.TemporaryDirectory(prefix=scratch_prefix("trace")) as folder:
        with jax.profiler.trace(folder, profiler_options=options):
            run()
        (path,) = Path(folder).rglob("*.xplane.pb")
        profile = jax.profiler.ProfileData.from_file(str(path))
        return [
            Event(event.name, event.start_ns, event.duration_ns)
            for plane in profile.planes
            if plane.name == f"/device:GPU:{ordinal}"
            for line in plane.lines
            if line.name.startswith("Stream")  # the other lines tell the same kernels in other words
            for event in line.events
        ]


def by_call(events: Sequence[Event], calls: int) -> list[list[Event]] | None:
    """The events of each call, which are as many in all of them; None where they can't be.

    Calls were awaited one by one, so that the order of time is the order of calls.
    """
    each, rest = divmod(len(events), calls)
    if rest or not each:
        return None
    ordered = sorted(events, key=lambda event: event.start_ns)
    groups = [ordered[start : start + each] for start in range(0, len(ordered), each)]
    names = [sorted(event.name for event in group) for group in groups]
    return groups if all(other == names[0] for other in names) else None


def busy_ns(events: Sequence[Event]) -> float:
    """How long at least one of the events ran: those of several streams may overlap."""
    total, until = 0.0, -math.inf
    for event in sorted(events, key=lambda event: event.start_ns):
        end = event.start_ns + event.duration_ns
        total += max(0.0, end - max(event.start_ns, until))
        until = max(until, end)
    return total


def summarize(calls: Sequence[Sequence[Event]]) -> tuple[Kernel, ...]:
    """The kernels by name, the most costly first, per call; beyond SHOWN of them the rest as one."""
    times, launches = defaultdict[str, float](float), defaultdict[str, int](int)
    for event in (event for call in calls for event in call):
        times[event.name] += event.duration_ns * 1e-9 / len(calls)
        launches[event.name] += 1
    whole = sum(times.values()) or 1.0
    found = [
        Kernel(name=name, time_s=time_s, launches=launches[name] / len(calls), share=time_s / whole)
        for name, time_s in sorted(times.items(), key=lambda item: -item[1])
    ]
    shown, rest = found[:SHOWN], found[SHOWN:]
    if rest:
        others = Kernel(
            name=f"{len(rest)} others",
            time_s=sum(kernel.time_s for kernel in rest),
            launches=sum(kernel.launches for kernel in rest),
            share=sum(kernel.share for kernel in rest),
        )
        shown = [*shown, others]
    return tuple(shown)


def _why_not(profiler: str, events: int, calls: int) -> str:
    if not events:
        return f"{profiler} saw no kernel on a GPU in {calls} calls, {TRIES} times over"
    return (
        f"{profiler} saw {events} kernels in {calls} calls, not the same in each, {TRIES} times over: "
        "it loses events, or the calls differ"
    )


def make_trace(device: Any) -> Trace:
    """The profiler, listening to one GPU."""
    ordinal = int(getattr(device, "local_hardware_id", None) or 0)
    return lambda run: traced(run, ordinal=ordinal)

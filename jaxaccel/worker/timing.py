"""Timing loops: as little as possible between two readings of the clock, and nothing else running."""

import gc
import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from jaxaccel.messages import Round
from jaxaccel.records import Metric

BLOCKED = (Metric.latency, Metric.throughput)  # timed from Python, around calls that are awaited
AWAITED = "output awaited"

Call = Callable[[], Any]
Block = Callable[[Any], Any]

# A round ends at 20 ms after 15 samples, at 100 samples, or at 0.5 s: short enough to take turns with the
# other arm of a pair before the machine's speed has drifted.
ROUND_S, ROUND_MIN, ROUND_MAX, ROUND_LIMIT_S = 0.020, 15, 100, 0.5

WARMUP_S, WARMUP_CALLS, WARMUP_LIMIT_S, WINDOW_S, AGREE = 0.2, 5, 2.0, 0.02, 0.05
REWARM_S, REWARM_CALLS = 0.001, 2
LONG_CALL_S = 0.05  # beyond this, an idle moment before a round makes no difference to it

BATCH_S, MAX_DEPTH, MIN_DEPTH = 0.005, 256, 2
FLIGHT_BYTES = 256 << 20  # outputs of queued calls that may be alive at once


class InvariantError(RuntimeError):
    """The measurement would not be of what it says. `name` is the invariant that was broken."""

    def __init__(self, name: str, message: str) -> None:
        super().__init__(message)
        self.name = name


class Laps:
    """Seconds since the last lap."""

    def __init__(self, clock: Callable[[], float] = time.perf_counter) -> None:
        self._clock = clock
        self._last = clock()

    def lap(self) -> float:
        """And begin the next."""
        now = self._clock()
        took, self._last = now - self._last, now
        return took


class Stopwatch:
    """Runs one arm's calls and times them.

    `chained` calls each take up what the one before returned. `output_bytes` stay alive for each queued
    call. `ready` says of what `block` returned whether it is really there. `clock` gives seconds.
    `typical_s` is about what a call takes, known once it is warm.
    """

    def __init__(
        self,
        call: Call,
        block: Block,
        *,
        chained: bool,
        output_bytes: int,
        ready: Callable[[Any], bool] = lambda _: True,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self._call, self._block, self._clock, self._chained = call, block, clock, chained
        self._ready, self._last = ready, None
        self._max_depth = max(MIN_DEPTH, min(MAX_DEPTH, FLIGHT_BYTES // max(1, output_bytes)))
        self.typical_s = math.inf

    def warm_up(self) -> None:
        """Call until the time of a call has settled: at least 5 calls and 0.2 s, or one call of over 1 s."""
        start = self._clock()
        previous, window, window_start = math.inf, list[float](), start
        while True:
            took = self._timed()
            window.append(took)
            now = self._clock()
            late = took > 1.0 or now - start > WARMUP_LIMIT_S
            if late or (now - window_start >= WINDOW_S and len(window) >= WARMUP_CALLS):
                self.typical_s = float(np.median(window))
                settled = abs(self.typical_s - previous) <= AGREE * self.typical_s
                if late or (now - start >= WARMUP_S and settled):
                    return
                previous, window, window_start = self.typical_s, [], now

    def round(self, metric: Metric) -> Round:
        """One short burst of samples, after a few untimed calls: the arm may have been idle.

        **Raises** InvariantError where the last sample's result is not there after all.
        """
        blocked = metric is Metric.latency
        depth = 1 if blocked else self._depth()
        found = burst(
            self._timed if blocked else lambda: self._batch(depth),
            depth=depth,
            idle_matters=self.typical_s < LONG_CALL_S,
            clock=self._clock,
        )
        if not self._ready(self._last):
            raise InvariantError(AWAITED, "a timed call had not finished when its time was taken")
        self._last = None
        return found

    def run(self, calls: int) -> None:
        """Queue this many calls, no more at a time than memory allows, and wait for the last; untimed."""
        for done in range(0, calls, self._max_depth):
            self._queue(min(self._max_depth, calls - done))
        self._last = None

    def _depth(self) -> int:
        wanted = math.ceil(BATCH_S / self.typical_s) if self.typical_s > 0 else MAX_DEPTH
        return max(MIN_DEPTH, min(self._max_depth, wanted))

    def _timed(self) -> float:
        self._last = None  # freed before the clock starts, not inside
        start = self._clock()
        result = self._block(self._call())
        took = self._clock() - start
        self._last = result
        return took

    def _batch(self, depth: int) -> float:
        self._last = None
        start = self._clock()
        result = self._queue(depth)
        took = self._clock() - start
        self._last = result
        return took / depth

    def _queue(self, depth: int) -> Any:
        if self._chained:  # the last result needs all before it, whose buffers it has taken over
            for _ in range(depth):
                result = self._call()
        else:  # on a CPU, calls may overtake each other: each is awaited
            result = [self._call() for _ in range(depth)]
        return self._block(result)


def burst(
    sample: Callable[[], float],
    *,
    depth: int = 1,
    least: int = ROUND_MIN,
    idle_matters: bool = True,
    clock: Callable[[], float] = time.perf_counter,
) -> Round:
    """One round: `sample` takes one and returns its seconds. Where an idle moment matters, some go first.

    `least` samples are taken at least, but where half a second is over before.
    """
    begin = clock()
    with quiet():
        if idle_matters:
            for _ in range(REWARM_CALLS):
                sample()
            while clock() - begin < REWARM_S:
                sample()
        start = clock()
        samples: list[float] = []
        while not _over(len(samples), clock() - start, least):
            samples.append(sample())
        end = clock()
    return Round(
        samples_s=tuple(round(value, 12) for value in samples),  # picoseconds: more is noise and bulk
        depth=depth,
        spent_s=end - start,
        warmup_s=start - begin,
    )


def _over(count: int, elapsed_s: float, least: int) -> bool:
    return (
        count >= ROUND_MAX
        or (elapsed_s >= ROUND_S and count >= least)
        or (elapsed_s >= ROUND_LIMIT_S and count >= 1)
    )


@contextmanager
def quiet() -> Iterator[None]:
    """No garbage collection inside: it would land in whichever sample it interrupts."""
    collecting = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collecting:
            gc.enable()

"""Timing loops: as little as possible between two readings of the clock, and nothing else running."""

import gc
import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from jaxaccel.records import Metric
from jaxaccel.records.messages import Round

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
LONGEST_CALL_S = 1.0  # beyond this, no call is made that can be spared

# Throughput is the marginal cost of a call. A batch of calls begins with an idle device and ends with a wait
# (the tail), which its calls share. It is so deep that the tail is about TAIL of it, or as deep as
# BATCH_LIMIT_S allows, and a batch of a quarter (LESS) as many calls is subtracted, unless the tail is below
# NO_TAIL. On an H200 the tail of a product of 4096 was 0.4 ms, and its calls took 2.7 ms each; without the
# subtraction, calls of 0.1 to 3 ms were up to 2% too slow (experiments/probe).
BATCH_S, BATCH_LIMIT_S, MIN_DEPTH, MAX_DEPTH = 0.005, 0.25, 2, 1 << 16
TAIL, NO_TAIL, LESS = 0.004, 0.0005, 4
ENOUGH = 256  # calls of a batch without a tail: on a busy host, a longer one is more often interrupted
PROBES = 3  # batches from which the tail is estimated, by the fastest: noise only ever adds
BATCHES_S, MIN_BATCHES = 0.1, 3  # a round of deep batches ends after so long, with so many at least

FLIGHT_BYTES = 256 << 20  # outputs of queued calls that may be alive at once


class InvariantError(RuntimeError):
    """The measurement would not be of what it says. `name` is the invariant that was broken."""

    def __init__(self, name: str, message: str) -> None:
        super().__init__(message)
        self.name = name


class AbsentError(RuntimeError):
    """A part of an arm can't be had; the message says why, as the record is to say it."""


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
    call. `settle` waits for what earlier calls returned while later ones run; None where nothing is kept of a
    call before the last one is awaited. `ready` says of what `block` returned whether it is really there.
    `clock` gives seconds.

    Once it is warm, `typical_s` is about what a blocked call takes, and throughput is the time of `depth`
    queued calls beyond that of `less` of them.
    """

    def __init__(
        self,
        call: Call,
        block: Block,
        *,
        chained: bool,
        output_bytes: int,
        settle: Callable[[Sequence[Any]], Any] | None,
        ready: Callable[[Any], bool] = lambda _: True,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self._call, self._block, self._clock, self._chained = call, block, clock, chained
        self._settle, self._ready, self._last = settle, ready, None
        # Half of the calls in flight are awaited while the other half runs: the device is never idle.
        self._chunk = max(MIN_DEPTH, FLIGHT_BYTES // max(1, output_bytes)) // 2
        self.typical_s, self.depth, self.less = math.inf, MIN_DEPTH, 0

    def warm_up(self) -> None:
        """Call until the time of a call has settled: at least 5 calls and 0.2 s, or one call of over 1 s."""
        start = self._clock()
        previous, window, window_start = math.inf, list[float](), start
        while True:
            took = self._timed()
            window.append(took)
            now = self._clock()
            late = took > LONGEST_CALL_S or now - start > WARMUP_LIMIT_S
            if late or (now - window_start >= WINDOW_S and len(window) >= WARMUP_CALLS):
                self.typical_s = float(np.median(window))
                settled = abs(self.typical_s - previous) <= AGREE * self.typical_s
                if late or (now - start >= WARMUP_S and settled):
                    break
                previous, window, window_start = self.typical_s, [], now
        self._choose_depth(min(window))
        self._last = None

    def round(self, metric: Metric) -> Round:
        """One short burst of samples, after a few untimed calls: the arm may have been idle.

        **Raises** InvariantError where the last sample's result is not there after all.
        """
        idle_matters = self.typical_s < LONG_CALL_S
        if metric is Metric.latency:
            found = burst(self._timed, idle_matters=idle_matters, clock=self._clock)
        else:
            batch_s = self.depth * self.typical_s
            wanted = BATCHES_S / batch_s if batch_s > 0 else math.inf
            found = burst(
                self._marginal,
                depth=self.depth - self.less,
                least=max(MIN_BATCHES, math.ceil(min(ROUND_MIN, wanted))),
                idle_matters=idle_matters,
                rewarm=self._timed,
                clock=self._clock,
            )
        if not self._ready(self._last):
            raise InvariantError(AWAITED, "a timed call had not finished when its time was taken")
        self._last = None
        return found

    def run(self, calls: int) -> None:
        """Queue this many calls, no more at a time than memory allows, and wait for the last; untimed."""
        if calls:
            self._queue(calls)

    def _choose_depth(self, single_s: float) -> None:
        """Find the depth of a batch, of which a call that is awaited by itself took `single_s` at best."""
        marginal_s, tail_s = self._find_costs(single_s)
        if marginal_s <= 0:
            self.depth = ENOUGH
            return
        wanted = math.ceil(max(min(ENOUGH, BATCH_S / marginal_s), tail_s / (TAIL * marginal_s)))
        self.depth = max(MIN_DEPTH, min(MAX_DEPTH, int(BATCH_LIMIT_S / marginal_s), wanted))
        if self.depth > MIN_DEPTH and tail_s > NO_TAIL * self.depth * marginal_s:
            self.less = max(1, self.depth // LESS)

    def _find_costs(self, single_s: float) -> tuple[float, float]:
        """What one call more costs in a batch, and what a batch costs beside that: the tail."""
        if single_s > LONGEST_CALL_S:  # two of these already make any tail small
            return single_s, 0.0
        wanted = math.ceil(BATCH_S / single_s) if single_s > 0 else ENOUGH
        depth = max(MIN_DEPTH, min(ENOUGH, wanted))
        batches = PROBES if single_s < LONG_CALL_S else 1
        batch_s = min(self._batch(depth) for _ in range(batches))
        # Where queued calls hinder each other, there is no tail to be seen.
        marginal_s = max((batch_s - single_s) / (depth - 1), 0.0) or batch_s / depth
        return marginal_s, max(0.0, single_s - marginal_s)

    def _timed(self) -> float:
        self._last = None  # freed before the clock starts, not inside
        start = self._clock()
        result = self._block(self._call())
        took = self._clock() - start
        self._last = result
        return took

    def _marginal(self) -> float:
        """Seconds of a call among many: what a batch costs beside its calls is in both batches."""
        less_s = self._batch(self.less) if self.less else 0.0
        return (self._batch(self.depth) - less_s) / (self.depth - self.less)

    def _batch(self, depth: int) -> float:
        self._last = None
        start = self._clock()
        result = self._queue(depth)
        took = self._clock() - start
        self._last = result
        return took

    def _queue(self, depth: int) -> Any:
        """Make calls, and wait for all of them. Of those that may overtake each other, each is awaited."""
        earlier: list[Any] = []
        for done in range(0, depth, self._chunk):
            latest = self._several(min(self._chunk, depth - done))
            if earlier and self._settle:
                self._settle(earlier)
            earlier = latest
        # Of calls in order, the last result needs all before it.
        return self._block(earlier[-1] if self._in_order else earlier)

    def _several(self, calls: int) -> list[Any]:
        """What calls returned; of those in order, the last alone: it needs all before it."""
        if not self._in_order:
            return [self._call() for _ in range(calls)]
        for _ in range(calls):
            result = self._call()
        return [result]

    @property
    def _in_order(self) -> bool:
        return self._chained or self._settle is None


def burst(
    sample: Callable[[], float],
    *,
    depth: int = 1,
    least: int = ROUND_MIN,
    idle_matters: bool = True,
    rewarm: Callable[[], float] | None = None,
    clock: Callable[[], float] = time.perf_counter,
) -> Round:
    """One round: `sample` takes one and returns its seconds.

    Where an idle moment before a round matters, `rewarm` (without it, `sample`) is called a few times first.
    `least` samples are taken at least, but where half a second is over before.
    """
    begin = clock()
    with quiet():
        if idle_matters:
            for _ in range(REWARM_CALLS):
                (rewarm or sample)()
            while clock() - begin < REWARM_S:
                (rewarm or sample)()
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

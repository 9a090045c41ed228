import gc
import weakref
from collections.abc import Iterator
from typing import Any

import pytest
from fakes import FakeClock, FakeProgram

from jaxaccel.records import Metric
from jaxaccel.worker.timing import (
    BATCH_LIMIT_S,
    ENOUGH,
    FLIGHT_BYTES,
    MIN_DEPTH,
    InvariantError,
    Laps,
    Stopwatch,
    burst,
    quiet,
)

# Durations are powers of two, in seconds: sums of them are exact.
S = {exponent: 2.0**exponent for exponent in range(-30, 4)}


def stopwatch(program: FakeProgram, clock: FakeClock, **changes: Any) -> Stopwatch:
    settings: dict[str, Any] = {"chained": False, "output_bytes": 8, "settle": program.settle}
    return Stopwatch(program.call, program.block, clock=clock, **(settings | changes))


def warm(*times_s: float, blocking_s: float = 0.0, **changes: Any) -> tuple[Stopwatch, FakeProgram]:
    """A Stopwatch that has warmed up, and its program, whose counts start anew."""
    clock = FakeClock()
    program = FakeProgram(clock, *times_s, blocking_s=blocking_s)
    watch = stopwatch(program, clock, **changes)
    watch.warm_up()
    program.calls, program.blocked, program.settled, program.most = 0, [], [], 0
    return watch, program


# --- warming up ------------------------------------------------------------------------------------


def calls_to_warm_up(*times_s: float) -> int:
    """How many calls were made one by one; batches come after them."""
    clock = FakeClock()
    program = FakeProgram(clock, *times_s)
    stopwatch(program, clock).warm_up()
    return [isinstance(result, int) for result in program.blocked].count(True)


def test_warming_up_takes_two_windows_of_five_calls_that_agree() -> None:
    assert calls_to_warm_up(S[-4]) == 10


def test_warming_up_takes_a_fifth_of_a_second_of_a_fast_call() -> None:
    # A window is 20 ms: 328 calls of 61 µs. After ten of those, 0.2 s have passed.
    assert calls_to_warm_up(S[-14]) == 3280


def test_one_call_of_over_a_second_is_enough() -> None:
    clock = FakeClock()
    program = FakeProgram(clock, S[1])
    stopwatch(program, clock).warm_up()
    assert (program.calls, clock.now_s) == (1, 2.0)


def test_warming_up_goes_on_until_the_time_of_a_call_has_settled() -> None:
    # Windows of five: 0.125 s, 0.0625 s, then twice 0.03125 s.
    settling = [S[-3]] * 5 + [S[-4]] * 5 + [S[-5]] * 5
    assert calls_to_warm_up(*settling, S[-5]) == 20


def test_warming_up_is_not_done_with_a_window_that_differs_by_a_tenth() -> None:
    # Two windows of five differ by a tenth, the third agrees with the second.
    assert calls_to_warm_up(*[S[-4] * 1.1] * 5, S[-4]) == 15


def test_warming_up_gives_up_after_two_seconds_on_what_never_settles() -> None:
    unsettled = [time for _ in range(50) for time in [S[-5]] * 5 + [S[-4]] * 5]
    calls = calls_to_warm_up(*unsettled)
    assert 2.0 < sum(unsettled[:calls]) <= 2.0 + S[-4]


# --- a round of latency ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("time_s", "n"),
    [
        (S[-14], 100),  # 61 µs: at most 100 samples, long before 20 ms
        (S[-10], 21),  # 0.98 ms: 20 ms come after 21
        (S[-9], 15),  # 2 ms: 15 samples, though 20 ms came after 11
        (S[-6], 15),  # 16 ms
        (S[-5], 15),
        (S[-4], 8),  # 62 ms: half a second comes after 8
        (S[-3], 4),
        (S[-1], 1),
        (S[1], 1),  # at least one, however long
    ],
)
def test_a_round_ends_at_20_ms_after_15_samples_at_100_or_at_half_a_second(time_s: float, n: int) -> None:
    watch, _ = warm(time_s)
    found = watch.round(Metric.latency)
    assert found.samples_s == (pytest.approx(time_s, abs=1e-12),) * n
    assert found.spent_s == n * time_s
    assert found.depth == 1


def test_each_sample_is_the_time_of_its_own_call() -> None:
    clock = FakeClock()
    program = FakeProgram(clock, S[-3], S[-2], S[-4], S[-1])
    found = stopwatch(program, clock).round(Metric.latency)
    assert found.samples_s[:2] == (S[-3], S[-2])
    assert len(found.samples_s) == 4  # 0.4375 s after three


def test_latency_waits_for_every_call_before_the_next() -> None:
    watch, program = warm(S[-9])
    watch.round(Metric.latency)
    assert program.blocked == list(range(1, program.calls + 1))


def test_samples_are_in_picoseconds() -> None:
    clock = FakeClock()
    found = stopwatch(FakeProgram(clock, S[-20]), clock).round(Metric.latency)  # 0.95367431640625 µs
    assert set(found.samples_s) == {9.53674e-07}
    assert len(found.samples_s) == 100


@pytest.mark.parametrize(
    ("time_s", "calls"),
    [
        (S[-14], 17),  # 1 ms of 61 µs
        (S[-10], 2),  # at least two
        (S[-5], 2),
        (S[-4], 0),  # of no use to a long call
    ],
)
def test_an_arm_that_may_have_been_idle_is_called_a_few_times_untimed(time_s: float, calls: int) -> None:
    watch, program = warm(time_s)
    found = watch.round(Metric.latency)
    assert program.calls - len(found.samples_s) == calls
    assert found.warmup_s == calls * time_s


# --- a round of throughput -------------------------------------------------------------------------


def test_throughput_is_the_marginal_cost_of_a_call() -> None:
    """The product of 4096 on an H200: a batch of 5 ms, two calls, was 8% off."""
    watch, _ = warm(2.69e-3, blocking_s=0.4e-3)
    found = watch.round(Metric.throughput)
    assert found.samples_s == pytest.approx([2.69e-3] * len(found.samples_s), rel=1e-6)
    assert (2 * 2.69e-3 + 0.4e-3) / 2 > 1.07 * 2.69e-3


@pytest.mark.parametrize("time_s", [20e-6, 0.244e-3, 0.479e-3, 5e-3, 40e-3, 0.3])
@pytest.mark.parametrize("tail_s", [1e-6, 50e-6, 0.4e-3, 1e-3])
def test_what_begins_and_ends_a_batch_is_no_part_of_throughput(time_s: float, tail_s: float) -> None:
    watch, _ = warm(time_s, blocking_s=tail_s)
    found = watch.round(Metric.throughput)
    assert found.samples_s[0] == pytest.approx(time_s, rel=0.0005 if watch.less else 0.004)
    assert watch.depth * found.samples_s[0] < max(1.01 * BATCH_LIMIT_S, 3 * time_s)
    assert found.depth == watch.depth - watch.less


def test_of_a_batch_that_would_take_too_long_the_quarter_is_subtracted_as_well() -> None:
    watch, _ = warm(S[-6], blocking_s=S[-8])
    found = watch.round(Metric.throughput)
    assert (watch.depth, watch.less) == (16, 4)  # 0.25 s
    assert found.samples_s[0] == pytest.approx(S[-6], abs=1e-12)


@pytest.mark.parametrize(
    ("time_s", "depth"),
    [(S[-16], ENOUGH), (S[-14], 82), (S[-10], 6), (S[-9], 3), (S[-8], MIN_DEPTH), (S[1], MIN_DEPTH)],
)
def test_without_a_tail_a_batch_is_as_deep_as_5_ms_hold(time_s: float, depth: int) -> None:
    watch, _ = warm(time_s)
    found = watch.round(Metric.throughput)
    assert found.depth == depth
    assert all(sample == pytest.approx(time_s, abs=1e-12) for sample in found.samples_s)


def test_a_call_that_takes_no_time_has_a_batch_as_well() -> None:
    watch = Stopwatch(int, int, chained=True, output_bytes=8, settle=None, clock=FakeClock())
    watch._choose_depth(0.0)
    assert watch.depth == ENOUGH


@pytest.mark.parametrize(
    ("output_bytes", "in_flight"),
    [
        (0, ENOUGH),
        (FLIGHT_BYTES // 100, 100),
        (FLIGHT_BYTES // 10, 10),
        (FLIGHT_BYTES // 3, MIN_DEPTH),  # in halves
        (FLIGHT_BYTES * 4, MIN_DEPTH),
    ],
)
@pytest.mark.parametrize("chained", [False, True])
def test_no_more_calls_are_in_flight_than_their_outputs_fit_in_memory_however_deep_a_batch_is(
    output_bytes: int, in_flight: int, chained: bool
) -> None:
    watch, program = warm(S[-17], output_bytes=output_bytes, chained=chained)
    assert watch.round(Metric.throughput).depth == ENOUGH
    assert program.most == in_flight


def test_each_result_of_calls_that_may_overtake_each_other_is_awaited_once() -> None:
    watch, program = warm(S[-10], output_bytes=FLIGHT_BYTES // 4)
    watch.run(7)
    assert program.settled == [[1, 2], [3, 4], [5, 6]]
    assert program.blocked == [[7]]
    watch, program = warm(S[-10])
    watch.round(Metric.throughput)
    batches = [results for results in program.blocked if isinstance(results, list)]
    assert [len(results) for results in batches] == [6] * len(batches)
    assert not program.settled


def test_of_calls_in_order_the_last_of_those_in_flight_is_awaited() -> None:
    watch, program = warm(S[-10], output_bytes=FLIGHT_BYTES // 4, chained=True)
    watch.run(7)
    assert program.settled == [[2], [4], [6]]
    assert program.blocked == [7]


def test_where_nothing_is_kept_of_a_call_only_the_last_is_awaited() -> None:
    watch, program = warm(S[-10], settle=None)
    watch.run(700)
    assert program.blocked == [700]


def test_before_a_round_of_throughput_single_calls_are_made_no_batches() -> None:
    watch, _ = warm(S[-9], blocking_s=S[-9])
    found = watch.round(Metric.throughput)
    assert found.depth == 128 - 32  # a quarter of a second, less a quarter of it
    assert found.warmup_s == 2 * S[-8]


@pytest.mark.parametrize(
    ("time_s", "tail_s", "n"),
    [
        (S[-9], 0.0, 15),  # 3 calls a batch, 5.9 ms
        (2.69e-3, 0.4e-3, 3),  # 38 calls, 0.1 s
        (S[-6], S[-8], 3),  # 0.25 s: half a second comes after 2 of them, and a little more
        (S[1], 0.0, 1),
    ],
)
def test_a_round_of_deep_batches_has_fewer_of_them(time_s: float, tail_s: float, n: int) -> None:
    watch, _ = warm(time_s, blocking_s=tail_s)
    assert len(watch.round(Metric.throughput).samples_s) in (n, n - 1)


def test_a_call_of_seconds_is_made_twice_for_its_throughput() -> None:
    watch, program = warm(S[1])
    found = watch.round(Metric.throughput)
    assert (len(found.samples_s), found.samples_s[0], program.calls) == (1, 2.0, 2)


def test_without_a_warm_up_the_shallowest_queue_is_taken() -> None:
    clock = FakeClock()
    assert stopwatch(FakeProgram(clock, S[-14]), clock).round(Metric.throughput).depth == MIN_DEPTH


# --- calls that are not timed one by one -----------------------------------------------------------


def test_a_run_of_no_calls_makes_none() -> None:
    watch, program = warm(S[-14])
    watch.run(0)
    assert (program.calls, program.blocked) == (0, [])


def test_a_run_leaves_no_result_alive() -> None:
    class Result:
        pass

    made: list[weakref.ref[Result]] = []

    def call() -> Result:
        result = Result()
        made.append(weakref.ref(result))
        return result

    watch = Stopwatch(call, lambda result: result, chained=False, output_bytes=8, settle=len)
    watch.run(3)
    assert [reference() for reference in made] == [None] * 3


# --- a burst of anything ---------------------------------------------------------------------------


class Sampler:
    """Each sample takes `time_s` on the clock, and says that it took a thousandth of that."""

    def __init__(self, time_s: float) -> None:
        self.clock, self._time_s, self.taken = FakeClock(), time_s, 0

    def __call__(self) -> float:
        self.clock.advance(self._time_s)
        self.taken += 1
        return self._time_s / 1024


def test_a_burst_holds_what_its_samples_say_not_what_they_took() -> None:
    sampler = Sampler(S[-9])
    found = burst(sampler, depth=7, clock=sampler.clock)
    assert found.samples_s == (pytest.approx(S[-19], abs=1e-12),) * 15
    assert found.depth == 7
    assert found.spent_s == 15 * S[-9]


def test_what_a_burst_takes_before_its_first_sample_is_warm_up() -> None:
    sampler = Sampler(S[-9])
    found = burst(sampler, clock=sampler.clock)
    assert found.warmup_s == 2 * S[-9]
    assert sampler.taken == len(found.samples_s) + 2


@pytest.mark.parametrize(
    ("least", "time_s", "n"), [(5, S[-9], 11), (5, S[-6], 5), (5, S[-3], 4), (30, S[-9], 30), (30, S[-6], 30)]
)
def test_a_burst_ends_at_20_ms_but_not_before_the_least_number_of_samples(
    least: int, time_s: float, n: int
) -> None:
    sampler = Sampler(time_s)
    assert len(burst(sampler, least=least, clock=sampler.clock).samples_s) == n


def test_a_burst_for_which_an_idle_moment_does_not_matter_begins_at_once() -> None:
    sampler = Sampler(S[-4])
    found = burst(sampler, idle_matters=False, clock=sampler.clock)
    assert found.warmup_s == 0
    assert sampler.taken == len(found.samples_s) == 8


@pytest.mark.usefixtures("collector")
def test_no_garbage_is_collected_inside_a_burst_nor_while_it_warms_up() -> None:
    sampler, seen = Sampler(S[-9]), set[bool]()

    def sample() -> float:
        seen.add(gc.isenabled())
        return sampler()

    burst(sample, clock=sampler.clock)
    assert seen == {False}
    assert gc.isenabled()


def test_a_lap_begins_where_the_one_before_it_ended() -> None:
    clock = FakeClock()
    laps = Laps(clock)
    found = []
    for pause_s in (0.5, 0.0, 2.0):
        clock.advance(pause_s)
        found.append(laps.lap())
    assert found == [0.5, 0.0, 2.0]


# --- nothing else runs -----------------------------------------------------------------------------


@pytest.fixture
def collector() -> Iterator[None]:
    """Garbage collection is afterwards as it was before, whatever a test did to it."""
    enabled = gc.isenabled()
    gc.enable()
    yield
    (gc.enable if enabled else gc.disable)()


@pytest.mark.usefixtures("collector")
@pytest.mark.parametrize("metric", [Metric.latency, Metric.throughput])
def test_no_garbage_is_collected_inside_a_round(metric: Metric) -> None:
    clock = FakeClock()
    program = FakeProgram(clock, S[-9])
    seen: set[bool] = set()

    def call() -> int:
        seen.add(gc.isenabled())
        return program.call()

    Stopwatch(call, program.block, chained=True, output_bytes=8, settle=None, clock=clock).round(metric)
    assert seen == {False}
    assert gc.isenabled()


@pytest.mark.usefixtures("collector")
def test_garbage_is_collected_again_after_a_round_that_broke() -> None:
    def call() -> int:
        raise RuntimeError("out of memory")

    watch = Stopwatch(call, int, chained=False, output_bytes=8, settle=None, clock=FakeClock())
    with pytest.raises(RuntimeError, match="out of memory"):
        watch.round(Metric.latency)
    assert gc.isenabled()


@pytest.mark.usefixtures("collector")
def test_a_collector_that_was_off_stays_off() -> None:
    gc.disable()
    with quiet():
        pass
    assert not gc.isenabled()


# --- what was timed had finished -------------------------------------------------------------------


@pytest.mark.parametrize("metric", [Metric.latency, Metric.throughput])
def test_a_result_that_was_not_waited_for_fails_the_round(metric: Metric) -> None:
    watch, _ = warm(S[-9], ready=lambda _: False)
    with pytest.raises(InvariantError, match="not finished"):
        watch.round(metric)


def test_whether_it_was_waited_for_is_asked_of_what_the_call_returned() -> None:
    asked: list[Any] = []
    watch, program = warm(S[-9], ready=lambda result: asked.append(result) or True)
    watch.round(Metric.latency)
    assert asked == [program.calls]

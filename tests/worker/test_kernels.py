"""Device time of a GPU: what is made of the profiler's events, and what happens where it has none."""

import gc
import time
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import jax
import jax.numpy as jnp
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaxaccel.records.messages import Round, Unavailable
from jaxaccel.worker import kernels
from jaxaccel.worker.kernels import (
    LONG_CALLS,
    MAX_CALLS,
    MIN_CALLS,
    SHOWN,
    TRIES,
    WARM_CALLS,
    Event,
    KernelTimer,
    busy_ns,
    by_call,
    make_trace,
    summarize,
    traced,
)


def event(name: str, start_ns: float, duration_ns: float = 1.0) -> Event:
    return Event(name, start_ns, duration_ns)


def calls_of(*names: str, calls: int, gap_ns: float = 1000.0) -> list[Event]:
    """The events of calls, each of which runs the kernels of these names, 10 ns each."""
    return [event(name, call * gap_ns + 20 * i, 10) for call in range(calls) for i, name in enumerate(names)]


# --- which events are of which call ----------------------------------------------------------------


def test_events_are_dealt_out_to_the_calls_in_the_order_of_time() -> None:
    found = by_call(calls_of("a", "b", calls=3), 3)
    assert found is not None
    assert [[e.name for e in call] for call in found] == [["a", "b"]] * 3
    assert [call[0].start_ns for call in found] == [0, 1000, 2000]


def test_events_may_come_stream_by_stream() -> None:
    events = calls_of("a", "b", "c", calls=4)
    streams = sorted(events, key=lambda e: (e.name, e.start_ns))  # all of `a` first, then all of `b`
    assert streams != events
    assert by_call(streams, 4) == by_call(events, 4)


def test_kernels_of_two_streams_may_swap_their_order_from_call_to_call() -> None:
    events = [event("a", 0), event("b", 5), event("b", 1000), event("a", 1005)]
    found = by_call(events, 2)
    assert found is not None
    assert [sorted(e.name for e in call) for call in found] == [["a", "b"]] * 2


@pytest.mark.parametrize("lost", range(6))
def test_a_lost_event_is_noticed_whichever_it_is(lost: int) -> None:
    events = calls_of("a", "b", calls=3)
    del events[lost]
    assert by_call(events, 3) is None


def test_as_many_lost_events_as_there_are_calls_are_noticed_by_their_names() -> None:
    events = calls_of("a", "b", "c", calls=3)
    for gone in (event("a", 0, 10), event("b", 1020, 10), event("c", 2040, 10)):
        events.remove(gone)
    assert len(events) == 6
    assert by_call(events, 3) is None


def test_calls_that_differ_are_noticed() -> None:
    assert by_call([event("a", 0), event("b", 1), event("a", 10), event("c", 11)], 2) is None


def test_no_events_are_no_calls() -> None:
    assert by_call([], 3) is None


def test_fewer_events_than_calls_are_no_calls() -> None:
    assert by_call(calls_of("a", calls=2), 3) is None


# --- how long it was busy --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("spans", "busy"),
    [
        ([], 0),
        ([(0, 10)], 10),
        ([(0, 10), (10, 10)], 20),  # end to end
        ([(0, 10), (90, 10)], 20),  # the gap is not counted
        ([(0, 10), (5, 10)], 15),  # two streams: the overlap counts once
        ([(0, 100), (20, 10), (50, 10)], 100),  # nested
        ([(0, 100), (20, 10), (90, 20)], 110),  # nested, then beyond
        ([(0, 10), (0, 10)], 10),  # at the same time
        ([(0, 10), (0, 30), (40, 5)], 35),
        ([(40, 5), (0, 30), (0, 10)], 35),  # in any order
        ([(7, 0)], 0),
    ],
)
def test_time_counts_once_in_which_at_least_one_kernel_ran(
    spans: list[tuple[float, float]], busy: float
) -> None:
    assert busy_ns([event("k", start, duration) for start, duration in spans]) == busy


@given(st.lists(st.tuples(st.integers(0, 60), st.integers(0, 20)), max_size=12))
def test_busy_time_is_the_number_of_moments_that_some_kernel_covers(spans: list[tuple[int, int]]) -> None:
    covered = {moment for start, duration in spans for moment in range(start, start + duration)}
    assert busy_ns([event("k", start, duration) for start, duration in spans]) == len(covered)


# --- kernels by name -------------------------------------------------------------------------------


def test_kernels_are_told_per_call_the_most_costly_first() -> None:
    call = [event("small", 0, 100), event("large", 200, 700), event("small", 1000, 200)]
    first, second = summarize([call, call])
    assert (first.name, second.name) == ("large", "small")
    assert (first.launches, second.launches) == (1, 2)
    assert (first.time_s, second.time_s) == (pytest.approx(700e-9), pytest.approx(300e-9))
    assert (first.share, second.share) == (pytest.approx(0.7), pytest.approx(0.3))


def test_times_and_launches_of_calls_are_averaged() -> None:
    (kernel,) = summarize([[event("k", 0, 100)], [event("k", 500, 300), event("k", 900, 200)]])
    assert kernel.time_s == pytest.approx(300e-9)
    assert kernel.launches == 1.5
    assert kernel.share == 1.0


@pytest.mark.parametrize("names", [SHOWN - 1, SHOWN, SHOWN + 1, SHOWN + 7])
def test_beyond_those_that_are_shown_kernels_are_one_line(names: int) -> None:
    call = [event(f"k{i:02}", 100 * i, 1 + i) for i in range(names)]
    found = summarize([call])
    assert sum(kernel.share for kernel in found) == pytest.approx(1)
    assert sum(kernel.launches for kernel in found) == names
    assert sum(kernel.time_s for kernel in found) == pytest.approx(sum(e.duration_ns for e in call) * 1e-9)
    if names <= SHOWN:
        assert [kernel.name for kernel in found] == [e.name for e in reversed(call)]
    else:
        assert len(found) == SHOWN + 1
        assert found[0].name == call[-1].name
        assert found[-1].name == f"{names - SHOWN} others"
        assert found[-1].time_s == pytest.approx(sum(1 + i for i in range(names - SHOWN)) * 1e-9)


def test_kernels_that_took_no_time_have_no_share() -> None:
    (kernel,) = summarize([[event("k", 0, 0)]])
    assert (kernel.time_s, kernel.share) == (0, 0)


# --- a round ---------------------------------------------------------------------------------------


class FakeProfiler:
    """A GPU and its profiler: what runs while it traces becomes events, of which `losing` takes some away.

    A call runs kernels `a` (3 µs), then after 1 µs `b` (2 µs); the profiler itself takes `slow_s`.
    """

    def __init__(self, losing: Sequence[int] = (), slow_s: float = 0.0) -> None:
        self._losing, self._slow_s = list(losing), slow_s
        self.traces: list[int] = []  # the number of calls in each
        self.calls = self.awaited = 0
        self.collecting: list[bool] = []

    def call(self) -> int:
        self.collecting.append(gc.isenabled())
        self.calls += 1
        return self.calls

    def block(self, result: int) -> None:
        assert result == self.calls, "a call was queued before the one before it was there"
        self.awaited += 1

    def trace(self, run: Any) -> list[Event]:
        before = self.calls
        time.sleep(self._slow_s)
        run()
        self.traces.append(self.calls - before)
        events = [
            e
            for call in range(before, self.calls)
            for e in (event("a", 1e6 * call, 3000), event("b", 1e6 * call + 4000, 2000))
        ]
        lost = self._losing.pop(0) if self._losing else 0
        return events[lost:]


def timer(profiler: FakeProfiler, typical_s: float = 0.004) -> KernelTimer:
    return KernelTimer(profiler.call, profiler.block, profiler.trace, typical_s=typical_s)


def test_a_round_has_a_sample_for_each_call_of_the_trace() -> None:
    profiler = FakeProfiler()
    found = timer(profiler).round()
    assert isinstance(found, Round)
    assert found.samples_s == (5e-6,) * 5
    assert found.depth == 1
    assert profiler.traces == [5]
    assert profiler.calls == profiler.awaited == 5 + WARM_CALLS


@pytest.mark.parametrize(
    ("typical_s", "calls"),
    [
        (0.0, MAX_CALLS),
        (1e-6, MAX_CALLS),
        (0.00041, 49),
        (0.004, 5),
        (0.0041, 5),
        (0.02, MIN_CALLS),
        (1.0, MIN_CALLS),
        (2.0, LONG_CALLS),
    ],
)
def test_a_trace_holds_about_20_ms_of_calls(typical_s: float, calls: int) -> None:
    profiler = FakeProfiler()
    timer(profiler, typical_s).round()
    assert profiler.traces == [calls]


def test_the_time_of_the_profiler_itself_is_in_no_sample() -> None:
    found = timer(FakeProfiler(slow_s=0.05)).round()
    assert isinstance(found, Round)
    assert max(found.samples_s) == 5e-6
    assert found.spent_s >= 0.05  # but it is told that it was spent


def test_no_garbage_is_collected_while_the_profiler_runs() -> None:
    profiler = FakeProfiler()
    timer(profiler).round()
    assert profiler.collecting == [True] * WARM_CALLS + [False] * 5
    assert gc.isenabled()


def test_a_trace_that_lost_events_is_made_again() -> None:
    profiler = FakeProfiler(losing=[1, 3])
    found = timer(profiler).round()
    assert isinstance(found, Round)
    assert found.samples_s == (5e-6,) * 5
    assert len(profiler.traces) == 3


def test_what_a_trace_that_lost_events_took_is_warm_up() -> None:
    found = timer(FakeProfiler(losing=[1], slow_s=0.02)).round()
    assert isinstance(found, Round)
    assert found.warmup_s >= 0.02
    assert 0.02 <= found.spent_s < 0.04


def test_a_profiler_that_keeps_losing_events_gives_no_timing() -> None:
    profiler = FakeProfiler(losing=[1] * TRIES)
    found = timer(profiler).round()
    assert isinstance(found, Unavailable)
    assert "9 kernels in 5 calls" in found.reason
    assert "loses events" in found.reason
    assert len(profiler.traces) == TRIES


def test_a_profiler_without_any_event_says_that() -> None:
    found = timer(FakeProfiler(losing=[10] * TRIES)).round()
    assert isinstance(found, Unavailable)
    assert "saw no kernel on a GPU in 5 calls" in found.reason


def test_the_kernels_of_the_last_round_are_known() -> None:
    kernel_timer = timer(FakeProfiler())
    assert kernel_timer.kernels == ()
    kernel_timer.round()
    assert [(kernel.name, kernel.launches) for kernel in kernel_timer.kernels] == [("a", 1), ("b", 1)]
    assert sum(kernel.time_s for kernel in kernel_timer.kernels) == pytest.approx(5e-6)


# --- the real profiler, where there is no GPU ------------------------------------------------------


@pytest.fixture(scope="module")
def on_the_cpu() -> Any:
    compiled = jax.jit(lambda x: x @ x).lower(jnp.ones((50, 50))).compile()
    numbers = jax.block_until_ready(jnp.ones((50, 50)))
    return lambda: compiled(numbers)


def test_a_trace_without_a_gpu_has_no_events_but_was_made(on_the_cpu: Any) -> None:
    ran = []
    assert traced(lambda: ran.append(jax.block_until_ready(on_the_cpu())), ordinal=0) == []
    assert len(ran) == 1


def test_only_the_streams_of_the_gpu_that_was_asked_for_count(monkeypatch: pytest.MonkeyPatch) -> None:
    def plane(name: str, **lines: Sequence[str]) -> Any:
        made = [
            SimpleNamespace(
                name=line.replace("_", " "),
                events=[SimpleNamespace(name=name, start_ns=5, duration_ns=7) for name in events],
            )
            for line, events in lines.items()
        ]
        return SimpleNamespace(name=name, lines=made)

    profile = SimpleNamespace(
        planes=[
            plane("/host:CPU", Stream_1=["not on a GPU"]),
            plane("/device:GPU:0", Stream_7=["another GPU's"]),
            plane(
                "/device:GPU:1", Stream_7=["gemm", "add"], XLA_Ops=["dot.1"], Steps=["1"], Stream_8=["copy"]
            ),
        ]
    )
    monkeypatch.setattr(kernels.jax.profiler, "ProfileData", SimpleNamespace(from_file=lambda _: profile))
    assert traced(lambda: None, ordinal=1) == [event(name, 5, 7) for name in ("gemm", "add", "copy")]


def test_without_a_gpu_it_is_told_that_no_kernel_was_seen(on_the_cpu: Any) -> None:
    trace = make_trace(jax.devices()[0])
    found = KernelTimer(on_the_cpu, jax.block_until_ready, trace, typical_s=0.01).round()
    assert isinstance(found, Unavailable)
    assert "no kernel" in found.reason


def test_an_error_of_what_runs_is_not_taken_for_the_profiler_s(on_the_cpu: Any) -> None:
    def run() -> None:
        raise RuntimeError("out of memory")

    with pytest.raises(RuntimeError, match="out of memory"):
        traced(run, ordinal=0)
    assert traced(lambda: None, ordinal=0) == []  # and the next trace can be made

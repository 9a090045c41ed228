"""One arm in this process, on the CPU: what it tells, and that it times nothing that is not what it says."""

import functools
import io
import math
import tracemalloc
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from types import SimpleNamespace
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from fakes import FakeClock, make_case, patiently

from jaxaccel.records import RESIDENT, Accuracy, Arm, ArmFacts, Case, DeviceTime, Energy, Metric, Transfers
from jaxaccel.records.messages import (
    AskRound,
    Close,
    Closed,
    Failure,
    Inspect,
    Inspected,
    Open,
    Opened,
    Round,
    Unavailable,
    decode_message,
    encode_message,
)
from jaxaccel.session.worker_process import Worker
from jaxaccel.worker import __main__ as worker_main
from jaxaccel.worker import arm as worker_arm
from jaxaccel.worker import checks, devices
from jaxaccel.worker.arm import BLOCKED, NOT_ASKED, SERIES_S, SERIES_STEPS, OpenArm, watch_steps
from jaxaccel.worker.checks import RefusedError, check_placed
from jaxaccel.worker.kernels import Event, KernelTimer
from jaxaccel.worker.program import Resident, compile_function, make_call, make_settle
from jaxaccel.worker.slope import LoopError
from jaxaccel.worker.timing import AWAITED, InvariantError
from jaxaccel.worker.transfer import NO_PINNED, PINNED_TRAVELS, Travel
from jaxaccel.workloads.matvec import Matvec
from jaxaccel.workloads.matvec import direct as right

SIZE = 6
NUMBERS = np.arange(SIZE, dtype=np.float32)  # for a function to capture
MATVEC = "jaxaccel.workloads.matvec:Matvec"


def product_of_captured(a: jax.Array, x: jax.Array) -> jax.Array:
    return a @ x + 0 * NUMBERS


def product_of_captured_on_the_device(a: jax.Array, x: jax.Array) -> jax.Array:
    return a @ x + 0 * jnp.asarray(NUMBERS)


def product_of_captured_in_a_loop(a: jax.Array, x: jax.Array) -> jax.Array:
    return jax.lax.fori_loop(0, 2, lambda _, y: a @ x + 0 * NUMBERS * y, x)


@jax.jit
def product_of_captured_in_an_inner_jit(a: jax.Array, x: jax.Array) -> jax.Array:
    return a @ x + 0 * NUMBERS


def product_of_a_captured_number(a: jax.Array, x: jax.Array) -> jax.Array:
    return a @ x * np.float32(1.0)


def product_of_tensorfloat_32(a: jax.Array, x: jax.Array) -> jax.Array:
    narrow = [jax.lax.reduce_precision(side, exponent_bits=8, mantissa_bits=10) for side in (a, x)]
    return narrow[0] @ narrow[1]


def product_off_by_a_thousandth(a: jax.Array, x: jax.Array) -> jax.Array:
    return (a @ x) * np.float32(1.001)


def product_without_the_work(a: jax.Array, x: jax.Array) -> jax.Array:
    return x + x


def product_written_out(a: jax.Array, x: jax.Array) -> jax.Array:
    return functools.reduce(jnp.add, [a[:, i] * x[i] for i in range(SIZE)])


def product_that_is_not_a_number(a: jax.Array, x: jax.Array) -> jax.Array:
    return a @ x / 0.0 * 0.0


@dataclass(frozen=True, kw_only=True)
class Odd(Matvec):
    """Matvec, written in ways that must or must not be caught. The worker finds it by its name."""

    variants: ClassVar[Mapping[str, Callable[..., Any]]] = {
        name.removeprefix("product_"): function
        for name, function in globals().items()
        if name.startswith("product_")
    } | {"direct": right}

    verbosity: int = 0


@dataclass(frozen=True, kw_only=True)
class Huge(Matvec):
    """Must not come to making data."""

    def inputs(self, seed: int) -> Any:
        raise AssertionError("data was made before the size was refused")


def make_energy() -> Energy:
    return Energy(
        per_call_j=2.0,
        above_idle_per_call_j=1.0,
        uncertainty_j=0.1,
        idle_w=50.0,
        source="a meter",
        scope="all",
        resolution_s=0.1,
        calls=3,
        duration_s=2.0,
    )


@pytest.fixture(autouse=True)
def width() -> Iterator[None]:
    yield
    jax.config.update("jax_enable_x64", False)


def case(size: int = SIZE, **changes: Any) -> Case:
    known: dict[str, Any] = {"dtype": "float32", "precision": "highest", "variant": "direct"}
    return Case(workload="matvec", size=size, **known | changes)


def open_arm(target: str = MATVEC, metrics: Sequence[Metric] = BLOCKED, **changes: Any) -> OpenArm:
    arm = Arm(case=case(**changes), device="cpu", target=target)
    return OpenArm(arm, jax.devices()[0], ArmFacts(requested="cpu"), {}, metrics)


def open_odd(variant: str) -> OpenArm:
    return open_arm(f"{__name__}:Odd", variant=variant)


@dataclass(frozen=True, kw_only=True)
class JudgedOddly(Matvec):
    """A right answer that its workload judges in NumPy's or JAX's values; `judgement` says which."""

    judgement: str = ""

    def verify(self, inputs: Any, output: Any, precision: str, run: Any) -> Accuracy:
        error, ok = ODD_JUDGEMENTS[self.judgement]
        return Accuracy(relative_error=error, tolerance=np.float32(1e-3), ok=ok, reference="theirs")


ODD_JUDGEMENTS: dict[str, tuple[Any, Any]] = {
    "NumPy": (np.float64(0.5), np.False_),
    "array": (np.array(0.5), np.array(False)),
    "JAX": (jnp.float32(0.5), jnp.asarray(False)),
    "NaN": (np.float32("nan"), np.True_),
    "no error": (None, np.False_),
}


@pytest.mark.parametrize("judgement", ODD_JUDGEMENTS)
def test_a_wrong_answer_fails_whatever_type_its_judgement_has(judgement: str) -> None:
    with pytest.raises(InvariantError) as caught:
        open_arm(f"{__name__}:JudgedOddly", params={"judgement": judgement})
    assert caught.value.name == "answer right"


# --- a good arm ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def opened() -> OpenArm:
    return open_arm(seed=2)


@pytest.mark.slow
def test_an_open_arm_tells_its_facts(opened: OpenArm) -> None:
    facts = opened.facts
    assert facts.arm.variant == "direct"
    assert facts.cost.flops == 2 * SIZE**2
    assert facts.accuracy.ok
    assert min(facts.compile.trace_s, facts.compile.lower_s, facts.compile.compile_s) > 0
    assert facts.compile.cache in ("hit", "miss", "off")
    assert facts.first_call_s > 0
    assert facts.memory.predicted_bytes == 2 * (SIZE**2 + 2 * SIZE) * 4
    assert facts.memory.capacity_bytes > facts.memory.predicted_bytes
    assert facts.memory.arguments_bytes == (SIZE**2 + SIZE) * 4
    assert facts.memory.outputs_bytes == SIZE * 4
    assert facts.memory.working_set_bytes == (SIZE**2 + 2 * SIZE) * 4
    assert facts.memory.peak_bytes is not None
    assert facts.memory.peak_bytes >= facts.memory.arguments_bytes + facts.memory.outputs_bytes
    assert facts.spent_s.accounted > 0


@pytest.mark.slow
def test_every_invariant_of_a_good_arm_has_passed(opened: OpenArm) -> None:
    assert set(opened.facts.invariants.values()) == {"passed"}
    assert {worker_arm.ARGUMENTS, worker_arm.OPERATIONS, worker_arm.PLACED} <= set(opened.facts.invariants)
    assert {worker_arm.ANSWER, AWAITED, worker_arm.NO_TRANSFER} <= set(opened.facts.invariants)


@pytest.mark.slow
@pytest.mark.parametrize("metric", BLOCKED)
def test_a_round_is_a_burst_of_samples(opened: OpenArm, metric: Metric) -> None:
    burst = opened.round(metric)
    assert 1 <= len(burst.samples_s) <= 100
    assert all(0 < sample < 10 for sample in burst.samples_s)
    assert burst.depth == 1 if metric is Metric.latency else burst.depth > 1
    assert burst.spent_s >= sum(burst.samples_s) * burst.depth * 0.99


def test_a_carrying_workload_can_be_timed_round_after_round() -> None:
    arm = open_arm("jaxaccel.workloads.mlp:Mlp", size=3, params={"batch": 4, "features": 2})
    for metric in (Metric.latency, Metric.throughput, Metric.latency):
        assert arm.round(metric).samples_s


@pytest.mark.slow
def test_float64_is_float64_and_what_comes_after_it_is_float32_again() -> None:
    error = open_arm(dtype="float64", size=50).facts.accuracy.relative_error
    assert error < 1e-15
    assert 1e-15 < open_arm(size=50).facts.accuracy.relative_error < 1e-6


# --- transfers, device time, what is found out once ------------------------------------------------

LARGE = 64  # enough work in a call for the loop whose slope is its device time


@pytest.fixture(scope="module")
def opened_for_all() -> OpenArm:
    return open_arm(metrics=tuple(Metric), size=LARGE)


def test_a_cpu_arm_offers_all_metrics_but_those_of_pinned_memory(opened_for_all: OpenArm) -> None:
    facts = opened_for_all.facts
    assert facts.metrics == tuple(metric for metric in Metric if metric not in PINNED_TRAVELS)
    assert facts.absent == {f"timings.{metric}": NO_PINNED for metric in PINNED_TRAVELS}
    assert facts.transfers == Transfers(
        h2d_bytes=4 * (LARGE**2 + LARGE), d2h_bytes=4 * LARGE, h2d="aliased", d2h="aliased"
    )
    assert facts.spent_s.inspection > 0


@pytest.mark.parametrize("metric", Metric)
def test_a_round_can_be_had_of_each_metric_that_is_offered(opened_for_all: OpenArm, metric: Metric) -> None:
    if metric in PINNED_TRAVELS:
        assert opened_for_all.round(metric) == Unavailable(reason=NO_PINNED)
    else:
        found = patiently(lambda: opened_for_all.round(metric))
        assert float(np.median(found.samples_s)) > 0


@pytest.mark.slow
@pytest.mark.parametrize("metric", [metric for metric in Metric if metric not in BLOCKED])
def test_what_was_not_asked_for_when_it_was_opened_is_not_there(opened: OpenArm, metric: Metric) -> None:
    """And is no other metric under its name."""
    assert opened.round(metric) == Unavailable(reason=NOT_ASKED)
    assert opened.facts.metrics == BLOCKED
    assert opened.facts.transfers is None
    assert opened.facts.absent == {"transfers": NOT_ASKED}


@pytest.mark.slow
def test_a_training_step_offers_all_metrics_too() -> None:
    params = {"batch": 4, "features": 8}
    arm = open_arm("jaxaccel.workloads.mlp:Mlp", tuple(Metric), size=LARGE, params=params)
    assert arm.facts.transfers == Transfers(
        h2d_bytes=4 * (4 * 8 + 4), d2h_bytes=4, h2d="aliased", d2h="aliased"
    )
    for metric in [*arm.facts.metrics, *reversed(arm.facts.metrics)]:  # all hand on one carry
        patiently(functools.partial(arm.round, metric))


def test_a_call_of_too_little_work_has_no_device_time_and_says_why() -> None:
    arm = open_arm(metrics=RESIDENT, size=4)
    assert arm.facts.metrics == BLOCKED
    assert "so little work" in arm.facts.absent["timings.device"]
    found = arm.round(Metric.device)
    assert found == Unavailable(reason=arm.facts.absent["timings.device"])
    inspected = arm.inspect(0.0)
    assert inspected.device_time is None
    assert inspected.absent["device_time"] == arm.facts.absent["timings.device"]


def test_a_second_copy_that_does_not_fit_leaves_the_other_metrics(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker_arm, "Travel", functools.partial(Travel, capacity=lambda _: 0))
    arm = open_arm(metrics=(Metric.latency, Metric.h2d, Metric.d2h, Metric.end_to_end))
    assert arm.facts.metrics == (Metric.latency, Metric.d2h)
    assert arm.facts.transfers is None
    assert set(arm.facts.absent) == {"timings.h2d", "timings.end_to_end", "transfers"}
    assert all("does not fit on the device" in reason for reason in arm.facts.absent.values())
    assert isinstance(arm.round(Metric.d2h), Round)
    assert isinstance(arm.round(Metric.h2d), Unavailable)


def test_an_answer_of_data_that_has_just_arrived_is_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    def make_fed_call(compiled: Any, resident: Resident) -> Any:
        return lambda arrived: compiled(*arrived) + 1

    monkeypatch.setattr(worker_arm, "make_fed_call", make_fed_call)
    with pytest.raises(InvariantError, match="just arrived") as caught:
        open_arm(metrics=(Metric.end_to_end,))
    assert caught.value.name == worker_arm.ANSWER


@pytest.mark.slow
def test_arms_of_different_width_do_not_disturb_each_other() -> None:
    """JAX has one width for a process: numbers that travel or are traced would be cut to float32."""
    wide = open_arm(metrics=tuple(Metric), dtype="float64", size=LONG)
    open_arm(metrics=tuple(Metric), size=LARGE)
    for metric in wide.facts.metrics:
        patiently(functools.partial(wide.round, metric))
    wide._timer = gpu_timer(KERNEL_NS)
    wide.round(Metric.device)
    open_arm(size=LARGE)
    assert with_slope(wide).slope_s is not None


def test_on_a_cpu_device_time_is_the_loop_s_slope(opened_for_all: OpenArm) -> None:
    found = opened_for_all.inspect(0.0)
    assert found.device_time == DeviceTime(source="slope")
    assert found.energy is None
    assert found.absent == {"energy": "not asked for: timing.energy_s is 0"}
    assert 0 <= found.spent_s < 10


@pytest.mark.slow
def test_without_device_time_it_is_told_that_it_was_not_asked_for(opened: OpenArm) -> None:
    found = opened.inspect(0.0)
    assert found.device_time is None
    assert found.absent["device_time"] == NOT_ASKED


@pytest.mark.slow
def test_the_reason_why_nothing_counts_energy_is_told(
    opened: OpenArm, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker_arm.energy, "counter", lambda device: f"absent on {device.platform}")
    found = opened.inspect(2.0)
    assert found.energy is None
    assert found.absent["energy"] == "absent on cpu"


@pytest.mark.slow
@pytest.mark.parametrize("gives", [make_energy(), "the counter stands still"])
def test_energy_is_counted_over_queued_calls_for_as_long_as_was_asked_for(
    opened: OpenArm, gives: Energy | str, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: dict[str, Any] = {}

    def measure(run: Any, typical_s: float, counter: Any, *, at_least_s: float) -> Energy | str:
        run(3)
        asked.update(typical_s=typical_s, counter=counter, at_least_s=at_least_s)
        return gives

    monkeypatch.setattr(worker_arm.energy, "counter", lambda _: "no reason".split)
    monkeypatch.setattr(worker_arm.energy, "measure", measure)
    found = opened.inspect(1.5)
    assert asked["at_least_s"] == 1.5
    assert asked["counter"] == "no reason".split
    assert 0 < asked["typical_s"] < 1
    assert found.energy == (gives if isinstance(gives, Energy) else None)
    assert found.absent.get("energy") == (None if isinstance(gives, Energy) else gives)


# --- the same for a GPU, whose profiler is played ---------------------------------------------------

LONG, KERNEL_NS = 512, 60_000.0  # and about so long does a call of that size take on a CPU


def gpu_timer(kernel_ns: float, lost: int = 0) -> KernelTimer:
    """Of calls with one kernel each, of whose events the profiler loses some."""
    calls: list[int] = []

    def trace(run: Callable[[], None]) -> list[Event]:
        calls.clear()
        run()
        return [Event("gemv", 1e6 * call, kernel_ns) for call in calls][lost:]

    return KernelTimer(lambda: calls.append(len(calls)), lambda _: None, trace, typical_s=1e-3)


def as_on_a_gpu(timer: KernelTimer) -> OpenArm:
    arm = open_arm(metrics=RESIDENT, size=LONG)
    arm._timer, arm._on_gpu = timer, True
    arm.round(Metric.device)
    return arm


def with_slope(arm: OpenArm) -> DeviceTime:
    """Noise can hide a slope for a while."""
    for _ in range(5):
        found = arm.inspect(0.0).device_time
        assert found is not None
        if found.slope_s is not None:
            break
    return found


def test_on_a_gpu_device_time_is_the_profiler_s_with_the_slope_beside_it() -> None:
    found = with_slope(as_on_a_gpu(gpu_timer(KERNEL_NS)))
    assert found.source == "profiler"
    (kernel,) = found.kernels
    assert (kernel.name, kernel.launches, kernel.share) == ("gemv", 1, 1)
    assert kernel.time_s == pytest.approx(60e-6)
    assert found.slope_s is not None
    assert found.slope_s > 0


def test_beside_short_kernels_there_is_no_slope_and_a_reason() -> None:
    found = as_on_a_gpu(gpu_timer(KERNEL_NS / 2)).inspect(0.0)
    assert found.device_time is not None
    assert found.device_time.slope_s is None
    assert "shorter than 50 µs" in found.absent["device_time.slope_s"]


def test_where_the_profiler_saw_nothing_there_is_no_device_time_and_a_reason() -> None:
    found = as_on_a_gpu(gpu_timer(KERNEL_NS, lost=1)).inspect(0.0)
    assert found.device_time is None
    assert "kernels" in found.absent["device_time"]


def test_a_loop_that_tells_nothing_leaves_the_profiler_s_time(monkeypatch: pytest.MonkeyPatch) -> None:
    def make_slope(self: OpenArm, typical_s: float) -> Any:
        raise LoopError("no loop")

    arm = as_on_a_gpu(gpu_timer(KERNEL_NS))
    monkeypatch.setattr(OpenArm, "_make_slope", make_slope)
    found = arm.inspect(0.0)
    assert found.device_time is not None
    assert found.device_time.kernels
    assert found.absent["device_time.slope_s"] == "no loop"


# --- a part that can't be had ----------------------------------------------------------------------


class Trouble(Exception):  # noqa: N818
    """Of a kind that nobody expects."""


@pytest.mark.parametrize(
    ("broken", "places"),
    [
        ("jaxaccel.worker.arm.Slope", ["timings.device"]),
        ("jaxaccel.worker.arm.Travel", ["transfers", "timings.h2d", "timings.d2h", "timings.end_to_end"]),
        ("jaxaccel.worker.arm.with_analysis", ["memory.arguments_bytes"]),
        ("jaxaccel.worker.arm.complete", ["cost.flops", "cost.bytes"]),
    ],
)
def test_a_part_that_fails_is_absent_and_the_rest_stands(
    broken: str, places: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any, **__: Any) -> Any:
        raise Trouble("it broke\nin two lines")

    monkeypatch.setattr(broken, fail)
    metrics = [metric for metric in Metric if metric not in PINNED_TRAVELS]
    arm = open_arm(metrics=metrics, size=LARGE)
    for place in places:
        assert arm.facts.absent[place].endswith("failed with Trouble: it broke")
    missing = {place.removeprefix("timings.") for place in places}
    assert set(arm.facts.metrics) == {metric for metric in metrics if metric not in missing}
    assert isinstance(arm.round(Metric.latency), Round)
    found = arm.inspect(0.0)
    assert (found.device_time is None) is ("device" in missing)


def test_a_part_of_an_inspection_that_fails_is_absent(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any) -> Any:
        raise Trouble("no counter")

    monkeypatch.setattr(worker_arm.energy, "counter", fail)
    found = open_arm(metrics=RESIDENT, size=LARGE).inspect(1.0)
    assert found.absent == {"energy": "measuring energy failed with Trouble: no counter"}
    assert found.device_time == DeviceTime(source="slope")


def test_a_broken_invariant_of_a_part_fails_the_arm(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any, **__: Any) -> Any:
        raise InvariantError(worker_arm.ANSWER, "another answer")

    monkeypatch.setattr(Travel, "facts", fail)
    with pytest.raises(InvariantError, match="another answer"):
        open_arm(metrics=[Metric.h2d])


def test_a_program_that_took_long_to_compile_gets_no_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker_arm, "LOOP_COMPILE_S", -1.0)
    arm = open_arm(metrics=RESIDENT, size=LARGE)
    assert "s to compile: the loop whose slope would tell would take" in arm.facts.absent["timings.device"]


# --- types of elements ------------------------------------------------------------------------------

TYPES = ["int4", "uint2", "float4_e2m1fn", "float8_e4m3fn", "float8_e8m0fnu", "bool", "complex64", "uint8"]


def twice(a: jax.Array) -> jax.Array:
    return a | a if a.dtype == bool else a + a


@dataclass(frozen=True, kw_only=True)
class Typed(Matvec):
    """Twice an array of a type, which is the next one's where it carries."""

    operations: ClassVar[frozenset[str]] = frozenset()
    sketched: ClassVar[bool] = True
    of: str = "int4"
    carrying: bool = False

    @property
    def carries(self) -> bool:
        return self.carrying

    @property
    def function(self) -> Callable[..., Any]:
        return (lambda a: (twice(a), a[:1])) if self.carrying else twice

    def inputs(self, seed: int) -> Any:
        return (np.ones((64, 64)).astype(jnp.dtype(self.of)),)

    def verify(self, inputs: Any, output: Any, precision: str, run: Any) -> Accuracy:
        expected = inputs[0][:1] if self.carrying else np.asarray(run(twice, *inputs))
        same = np.array_equal(np.asarray(output), expected)
        return Accuracy(relative_error=0.0, tolerance=0.0, ok=bool(same), reference="JAX")


@pytest.mark.parametrize("of", TYPES)
@pytest.mark.parametrize("carrying", [False, True])
def test_arrays_of_any_type_are_measured_as_jax_runs_them(of: str, carrying: bool) -> None:
    arm = open_arm(f"{__name__}:Typed", metrics=tuple(Metric), params={"of": of, "carrying": carrying})
    sent = [] if carrying else [Metric.h2d]
    for metric in (Metric.latency, Metric.throughput, Metric.end_to_end, *sent, Metric.d2h):
        assert isinstance(arm.round(metric), Round), arm.facts.absent
    (sketch,) = arm.facts.accuracy.sketch
    assert sketch.dtype == of
    reason = arm.facts.absent.get("timings.device", "so little work")
    assert "so little work" in reason or "noise" in reason


# --- what a program is, beside its text -------------------------------------------------------------


def call_back(a: jax.Array, x: jax.Array) -> jax.Array:
    return jax.pure_callback(np.asarray, jax.ShapeDtypeStruct(x.shape, x.dtype), x)


def test_a_program_that_calls_python_says_so() -> None:
    arguments = jax.device_put(Matvec(size=8).inputs(0))
    assert compile_function(call_back, arguments, "highest")[1].callbacks
    assert not compile_function(right, arguments, "highest")[1].callbacks


def test_earlier_results_are_awaited_but_for_a_carry_that_is_gone() -> None:
    settle = make_settle(carries=True)
    step = jax.jit(lambda carry: (carry + 1, carry[:1] * 2), donate_argnums=0)
    first = step(jnp.zeros(8))
    second = step(first[0])
    assert first[0].is_deleted()
    settle([first])
    settle([second])
    assert make_settle(carries=False) is jax.block_until_ready


# --- from JAX's cache of compiled programs ----------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("workload", ["matvec:Matvec", "mlp:Mlp", "fft:Fft"])
def test_a_program_from_the_cache_is_checked_like_any_other(
    workload: str, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path_factory.mktemp("cache")
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", str(folder))
    monkeypatch.setenv("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")
    monkeypatch.setenv("JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES", "-1")
    arm = Arm(case=case(size=LARGE), device="cpu", target=f"jaxaccel.workloads.{workload}")
    opened = []
    for _ in range(2):
        with Worker("cpu") as worker:
            facts = worker.ask(Open(key="a", arm=arm, metrics=tuple(Metric)))
            assert isinstance(facts, Opened), facts
            opened.append(facts)
    cold, warm = opened
    assert (cold.compile.cache, warm.compile.cache) == ("miss", "hit")
    assert cold.invariants == warm.invariants
    assert (cold.cost, cold.accuracy, cold.absent) == (warm.cost, warm.accuracy, warm.absent)
    assert cold.metrics == warm.metrics
    assert replace(cold.memory, capacity_bytes=0) == replace(warm.memory, capacity_bytes=0)


# --- the same from a worker ------------------------------------------------------------------------


@pytest.mark.slow
def test_a_worker_answers_all_of_it() -> None:
    arm = Arm(case=case(size=LARGE), device="cpu", target=MATVEC)
    with Worker("cpu") as worker:
        facts = worker.ask(Open(key="a", arm=arm, metrics=tuple(Metric)))
        assert isinstance(facts, Opened), facts
        assert Metric.h2d_pinned not in facts.metrics
        assert facts.transfers is not None
        for metric in facts.metrics:
            patiently(functools.partial(worker.ask, AskRound(key="a", metric=metric)))
        refused = worker.ask(AskRound(key="a", metric=Metric.h2d_pinned))
        assert refused == Unavailable(reason=NO_PINNED)
        found = worker.ask(Inspect(key="a"))
        assert isinstance(found, Inspected), found
        assert found.device_time == DeviceTime(source="slope")
        assert found.absent == {"energy": "not asked for: timing.energy_s is 0"}
        assert isinstance(worker.ask(Close(key="a")), Closed)
        assert isinstance(worker.ask(Inspect(key="a")), Failure)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("metric", "error", "answer"),
    [
        (Metric.device, RuntimeError("the profiler broke\nin two lines"), "the profiler broke"),
        (Metric.h2d, MemoryError(), "Memory"),
        (Metric.device, InvariantError("no lie", "it is one"), Failure),
        (Metric.latency, RuntimeError("it broke"), Failure),
        (Metric.throughput, MemoryError(), Failure),
    ],
)
def test_trouble_with_a_metric_costs_that_metric_but_a_call_that_fails_the_arm(
    metric: Metric, error: Exception, answer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def round_(self: OpenArm, metric: Metric) -> Any:
        raise error

    monkeypatch.setattr(OpenArm, "round", round_)
    arm = Arm(case=case(), device="cpu", target=MATVEC)
    asked = [Open(key="a", arm=arm, metrics=(metric,)), AskRound(key="a", metric=metric), Close(key="a")]
    requests = io.BytesIO(b"".join(map(encode_message, asked)))
    replies = io.BytesIO()
    worker_main.serve(requests, replies, jax.devices()[0], ArmFacts(requested="cpu"))
    _, found, closed = map(decode_message, replies.getvalue().splitlines())
    if answer is Failure:
        assert isinstance(found, Failure)
    else:
        assert isinstance(found, Unavailable)
        assert answer in found.reason
        assert "two lines" not in found.reason
    assert isinstance(closed, Closed)


def test_what_only_a_timed_call_can_show_is_skipped_where_none_is_timed() -> None:
    found = open_arm(metrics=(Metric.device,), size=LARGE).facts.invariants
    assert {found[AWAITED], found[worker_arm.NO_TRANSFER]} == {worker_arm.UNTIMED}
    assert worker_arm.UNTIMED.startswith("skipped: ")
    assert found[worker_arm.ANSWER] == "passed"


# --- what is caught --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "variant",
    [
        "of_captured",
        "of_captured_on_the_device",
        "of_captured_in_a_loop",
        "of_captured_in_an_inner_jit",
    ],
)
def test_a_captured_array_is_caught(variant: str) -> None:
    with pytest.raises(InvariantError, match="captured an array of shape") as caught:
        open_odd(variant)
    assert caught.value.name == worker_arm.ARGUMENTS


def test_a_captured_number_does_no_harm() -> None:
    assert open_odd("of_a_captured_number").facts.accuracy.ok


@pytest.mark.parametrize("variant", ["off_by_a_thousandth", "of_tensorfloat_32", "that_is_not_a_number"])
def test_a_wrong_answer_is_caught(variant: str) -> None:
    with pytest.raises(
        InvariantError, match=r"differs from NumPy float64 by \S+, and \S+ is toler|not finite, or far from"
    ) as caught:
        open_odd(variant)
    assert caught.value.name == worker_arm.ANSWER


def test_a_program_without_the_work_is_caught() -> None:
    with pytest.raises(InvariantError, match="XLA left the work out") as caught:
        open_odd("without_the_work")
    assert caught.value.name == worker_arm.OPERATIONS


def test_a_program_that_does_the_work_without_a_product_is_caught_though_it_is_right() -> None:
    with pytest.raises(InvariantError) as caught:
        open_odd("written_out")
    assert caught.value.name == worker_arm.OPERATIONS


@pytest.mark.parametrize("result", [1.0, 3, np.ones(3), [jnp.ones(3), np.float32(1)]])
def test_an_output_that_is_no_jax_array_is_caught(result: Any) -> None:
    with pytest.raises(InvariantError, match=r"returned a \w+, not an array") as caught:
        check_placed(result, jax.devices()[0])
    assert caught.value.name == AWAITED


def test_an_output_on_another_device_is_caught() -> None:
    output = jnp.ones(3)
    check_placed({"all": [output]}, jax.devices()[0])
    with pytest.raises(InvariantError, match="not on another") as caught:
        check_placed(output, "another")
    assert caught.value.name == worker_arm.PLACED


@pytest.mark.slow
@pytest.mark.parametrize(
    ("mutant", "invariant", "size"),
    [
        ("CapturedConstant", worker_arm.ARGUMENTS, 64),
        ("HoistedLoop", worker_arm.OPERATIONS, 64),
        ("DroppedOutput", worker_arm.OPERATIONS, 64),
        ("ReducedPrecision", worker_arm.ANSWER, 64),
        # On the CPU, too: JAX's transfer guard does not look at where the copy goes.
        ("NumpyArgument", worker_arm.NO_TRANSFER, 64),
        ("NoBlock", AWAITED, 4096),  # large enough that it has not finished by chance
    ],
)
def test_a_broken_harness_or_workload_is_caught_by_the_invariant_that_it_breaks(
    mutant: str, invariant: str, size: int
) -> None:
    with pytest.raises(InvariantError) as caught:
        open_arm(f"jaxaccel.selftest.mutants:{mutant}", size=size).round(Metric.latency)
    assert caught.value.name == invariant


@pytest.mark.parametrize("smuggled", [0, 1])
def test_one_numpy_argument_among_others_is_caught(smuggled: int, monkeypatch: pytest.MonkeyPatch) -> None:
    def tamper(self: Matvec, call: Any, block: Any, arguments: Any) -> Any:
        mixed = [np.asarray(side) if i == smuggled else side for i, side in enumerate(arguments)]
        return functools.partial(call.func, *mixed), block

    monkeypatch.setattr(Odd, "tamper", tamper, raising=False)
    arm = open_odd("direct")
    with pytest.raises(InvariantError, match="moves data") as caught:
        arm.round(Metric.latency)
    assert caught.value.name == worker_arm.NO_TRANSFER


def test_another_shape_than_the_compiled_one_is_an_error_and_no_new_compilation() -> None:
    a, x = jax.device_put(Matvec(size=SIZE).inputs(0))
    compiled, _ = compile_function(right, (a, x), "highest")
    with pytest.raises(TypeError, match="compiled"):
        compiled(a[:2], x)


def test_a_carry_is_taken_up_by_the_next_call() -> None:
    total, two = jax.device_put((np.float32(0), np.float32(2)))
    compiled, _ = compile_function(lambda t, x: (t + x, t), (total, two), "highest", carries=True)
    call, block = make_call(compiled, Resident((total, two), carries=True))
    assert [float(block(call())[0]) for _ in range(3)] == [2, 4, 6]


# --- what is refused -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"params": {"bogus": 1}}, ["`workload.bogus`", "matvec has"]),
        ({"variant": "bogus"}, ["`workload.variant`", "direct", "'bogus'"]),
        ({"target": "bogus"}, ["`workload._target_`", "'bogus'"]),
        ({"target": "jaxaccel.bogus:Matvec"}, ["`workload._target_`", "jaxaccel.bogus"]),
        ({"target": "jaxaccel.workloads.matvec:Bogus"}, ["`workload._target_`", "Bogus"]),
        ({"target": "not a name"}, ["`workload._target_`", "'not a name'"]),
        ({"target": f"{__name__}:Odd", "params": {"bogus": 1}}, ["`workload.bogus`", "verbosity"]),
        (
            {"target": "jaxaccel.workloads.mlp:Mlp", "params": {"batch": 0}},
            ["`workload.batch`", "positive whole number", "0"],
        ),
        ({"target": "json:dumps"}, ["`workload._target_`", "json:dumps"]),
    ],
)
def test_what_can_not_be_right_is_refused_by_name(changes: dict[str, Any], words: list[str]) -> None:
    with pytest.raises(RefusedError) as caught:
        open_arm(**changes)
    for word in words:
        assert word in str(caught.value)


def test_only_parameters_are_offered_and_taken_as_parameters() -> None:
    with pytest.raises(RefusedError, match=r"unknown key `workload\.bogus`; matvec has columns"):
        open_arm(params={"bogus": 1})
    with pytest.raises(RefusedError, match=r"`workload\.loops`"):
        open_arm(params={"loops": True})


@pytest.mark.parametrize("size", [10**6, 10**9, 10**12])
def test_more_than_fits_is_refused_with_both_numbers_before_anything_is_made(size: int) -> None:
    tracemalloc.start()
    try:
        with pytest.raises(RefusedError) as caught:
            open_arm(f"{__name__}:Huge", size=size)
        _, peak_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak_bytes < 10_000_000
    assert f"`size`={size} does not fit" in str(caught.value)
    needed, _, free = str(caught.value).partition("needs ")[2].partition(" on the cpu, which has ")
    assert in_bytes(needed) == pytest.approx(2 * 4 * (size**2 + 2 * size), rel=0.1)
    assert 0 < in_bytes(free.removesuffix(" free")) < in_bytes(needed)


def test_memory_that_other_processes_hold_is_no_memory_of_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    gpu = SimpleNamespace(platform="cuda")
    workload = Matvec(size=1 << 14)  # 1 GiB
    monkeypatch.setattr(checks, "capacity_bytes", lambda _: 100 << 30)
    monkeypatch.setattr(checks, "free_bytes", lambda _: 2 << 30)
    case = make_case(1 << 14)
    assert checks.predict_memory(workload, case, gpu).capacity_bytes == 100 << 30
    monkeypatch.setattr(checks, "free_bytes", lambda _: 1 << 29)
    with pytest.raises(RefusedError, match=r"needs 1.0 GiB on the gpu, of whose 100.0 GiB .* 512.0 MiB free"):
        checks.predict_memory(workload, case, gpu)


def test_what_jax_holds_and_does_not_use_is_free(monkeypatch: pytest.MonkeyPatch) -> None:
    class Known(devices.Gpu):
        def __init__(self, free: int | None) -> None:
            self.free = free

        def free_bytes(self) -> int | None:
            return self.free

        def close(self) -> None:
            pass

    stats = {"bytes_limit": 100, "bytes_in_use": 5, "pool_bytes": 15}
    gpu = SimpleNamespace(platform="cuda", memory_stats=lambda: stats)
    for free, expected in ((20, 30), (99, 95), (None, 95)):
        monkeypatch.setattr(devices, "open_nvml", lambda _, free=free: Known(free))
        assert devices.free_bytes(gpu) == expected
    monkeypatch.setattr(devices, "open_nvml", lambda _: "absent")
    assert devices.free_bytes(gpu) == 95


def in_bytes(text: str) -> float:
    number, unit = text.split()
    return float(number) * 1024 ** ("B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB", "ZiB", "YiB").index(unit)


def test_sizes_beyond_the_largest_unit_still_have_words() -> None:
    with pytest.raises(RefusedError, match=r"needs \S+ YiB"):
        open_arm(f"{__name__}:Huge", size=10**20)
    assert math.isfinite(in_bytes("1.0 YiB"))


# --- a training's first steps ----------------------------------------------------------------------


def losses(values: Sequence[float], clock: FakeClock, step_s: float) -> Callable[[], tuple[None, float]]:
    """A training whose next steps give these, each after `step_s`."""
    left = iter(values)

    def step() -> tuple[None, float]:
        clock.advance(step_s)
        return None, next(left)

    return step


@pytest.mark.parametrize(("step_s", "steps"), [(0.0, SERIES_STEPS), (SERIES_S / 4, 5), (10 * SERIES_S, 2)])
def test_a_training_s_first_steps_are_watched_for_so_long(step_s: float, steps: int) -> None:
    clock = FakeClock()
    values = [1 / (k + 2) for k in range(SERIES_STEPS)]
    assert watch_steps(losses(values, clock, step_s), 1.0, clock) == (1.0, *values[: steps - 1])


def test_the_steps_end_before_what_is_no_number() -> None:
    clock = FakeClock()
    assert watch_steps(losses([0.5, math.inf, 0.25], clock, 0.0), 1.0, clock) == (1.0, 0.5)
    assert watch_steps(losses([], clock, 0.0), math.nan, clock) == ()


@pytest.mark.slow
def test_an_mlp_tells_its_loss_by_steps_and_others_tell_nothing() -> None:
    arm = open_arm("jaxaccel.workloads.mlp:Mlp", size=8, params={"batch": 4})
    found = arm.facts.series["loss"]
    assert len(found) > 1
    assert list(found) == sorted(found, reverse=True)  # Adam's first steps on one batch go down
    assert open_arm(MATVEC).facts.series == {}

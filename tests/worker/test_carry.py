"""What becomes of a carry while it is timed: found, at the call at which a plain loop in JAX has it."""

from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest
from fakes import FakeClock, patiently

from jaxaccel.records import (
    CARRY_CONVERGED,
    CARRY_DENORMAL,
    CARRY_NOT_FINITE,
    CARRY_ZERO,
    LOOP_ENDS_EARLY,
    LOOP_RUNS_LONGER,
    LOOP_UNCHECKED,
    Arm,
    ArmFacts,
    Case,
    Metric,
)
from jaxaccel.records.messages import Closed
from jaxaccel.worker import carry_check, leaf_state
from jaxaccel.worker.arm import OpenArm
from jaxaccel.worker.carry_check import SEARCH_S, check_carry
from jaxaccel.worker.leaf_state import State, fingerprint, look
from jaxaccel.worker.program import Resident, compile_function, make_call, make_stopwatch
from jaxaccel.worker.replay import Replay, first_call
from jaxaccel.worker.trips import count_trips, has_while
from jaxaccel.workloads.jaxprs import arguments_read
from jaxaccel.workloads.stream import Stream
from jaxaccel.workloads.training import Training

ONES = np.ones(100, np.float32)


@pytest.fixture(autouse=True)
def width() -> Iterator[None]:
    yield
    jax.config.update("jax_enable_x64", False)


def with_output(step: Callable[..., Any]) -> Callable[..., Any]:
    """A step that returns the next carry alone, as a workload's function: (next carry, output)."""

    def function(carry: Any, *rest: Any) -> Any:
        after = jax.lax.optimization_barrier(step(carry, *rest))
        return after, [jnp.ravel(leaf)[:1] for leaf in jax.tree.leaves(after)]

    return function


def flags_of(
    step: Callable[..., Any], carry: Any, *rest: Any, calls: int = 600, clock: Any = None
) -> dict[str, str]:
    """What is said of a carry after so many calls, by the name of the flag."""
    device, function = jax.devices()[0], with_output(step)
    arguments = jax.device_put((carry, *rest), device, may_alias=False)
    compiled, _ = compile_function(function, arguments, "highest", carries=True)
    resident = Resident(arguments, carries=True)
    call, block = make_call(compiled, resident)
    stopwatch = make_stopwatch(call, block, [], carries=True)
    stopwatch.run(calls)
    more = {} if clock is None else {"clock": clock}
    workload: Any = SimpleNamespace(function=function)
    flags = check_carry(workload, resident, carry, device, stopwatch.run, "highest", **more)
    assert len({flag.name for flag in flags}) == len(flags)
    return {flag.name: flag.message for flag in flags}


def call_at_which(
    holds: Callable[[Any, Any], bool], step: Callable[..., Any], carry: Any, *rest: Any, limit: int = 50_000
) -> int:
    """By a plain loop: the first call at which `holds(before, after)`."""
    program = jax.jit(step)
    for call in range(1, limit):
        after = jax.device_get(program(carry, *rest))
        if holds(carry, after):
            return call
        carry = after
    raise AssertionError(f"not in {limit} calls")


def not_finite(_: Any, after: Any) -> bool:
    return not all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(after))


def all_zeros(_: Any, after: Any) -> bool:
    return not any(np.any(leaf) for leaf in jax.tree.leaves(after))


def grows(x: Any) -> Any:
    return x * 1.5 + 1


def decays(x: Any) -> Any:
    return x * 0.5


# --- numbers -----------------------------------------------------------------------------------------


def test_a_carry_that_overflows_is_told_with_the_call() -> None:
    call = call_at_which(not_finite, grows, ONES)
    assert call == 217
    assert flags_of(grows, ONES) == {CARRY_NOT_FINITE: f"the carry is not finite from call {call} on"}


def test_a_carry_that_vanishes_is_told_with_the_call() -> None:
    call = call_at_which(all_zeros, decays, ONES)
    assert flags_of(decays, ONES) == {CARRY_ZERO: f"the carry is all zeros from call {call} on"}


@pytest.mark.parametrize("call", [1, 2, 3, 37, 64, 65])
def test_a_carry_that_becomes_nan_is_told_with_the_call_and_the_array(call: int) -> None:
    def step(carry: Any) -> Any:
        calls = carry["calls"] + 1
        weights = carry["weights"].at[3].add(jnp.where(calls >= call, jnp.nan, 1.0))
        return {"calls": calls, "weights": weights}

    found = flags_of(step, {"calls": np.int32(0), "weights": ONES}, calls=100)
    assert found == {CARRY_NOT_FINITE: f"the carry['weights'] is not finite from call {call} on"}


def test_where_several_arrays_are_no_numbers_the_first_is_named() -> None:
    def step(carry: Any) -> Any:
        return {"late": carry["late"] * 2, "soon": carry["soon"] * 8}

    (message,) = flags_of(step, {"late": ONES, "soon": ONES}, calls=200).values()
    assert message == (
        "the carry['soon'] is not finite from call 43 on; at the end of the timing, 2 of its 2 arrays are"
    )


def test_a_carry_of_denormal_numbers_is_told() -> None:
    def step(x: Any) -> Any:
        return x * jnp.float16(0.98)

    def mostly_denormal(_: Any, after: Any) -> bool:
        small = np.abs(after) < ml_dtypes.finfo(np.float16).smallest_normal
        return bool(np.mean(small & (after != 0)) > 0.5)

    given = np.linspace(1, 2, 99, dtype=np.float16)
    call = call_at_which(mostly_denormal, step, given)
    found = flags_of(step, given, calls=900)
    assert found[CARRY_DENORMAL] == f"the carry is mostly denormal numbers from call {call} on"


@pytest.mark.parametrize("bad", [np.nan, np.inf, 0.0, 1e-40])
def test_what_was_given_is_no_fault_of_the_timing(bad: float) -> None:
    assert flags_of(lambda x: jnp.roll(x, 1), np.full(100, bad, np.float32)) == {}


def test_a_healthy_carry_is_not_flagged() -> None:
    assert flags_of(lambda x: -jnp.roll(x, 1), np.arange(1, 101, dtype=np.float32)) == {}
    assert flags_of(lambda n: n + 1, np.int32(0)) == {}
    assert flags_of(lambda x: x, ONES) == {}, "each call is the work of the first"


def test_zeros_that_come_and_go_are_not_flagged() -> None:
    def step(carry: Any) -> Any:
        sums, calls = carry
        return jnp.where(calls % 2 == 0, 0.0, sums + 1), calls + 1

    for calls in (600, 601):
        assert flags_of(step, (ONES, np.int32(0)), calls=calls) == {}


# --- finished work -----------------------------------------------------------------------------------


def root(carry: Any, of: Any) -> Any:
    x, calls = carry
    return 0.5 * (x + of / x), calls + 1


def test_a_carry_that_converges_is_told_with_the_call_though_a_counter_goes_on() -> None:
    given = np.full(100, 1e3, np.float32), np.int32(0)
    of = np.linspace(1, 9, 100, dtype=np.float32)
    same = call_at_which(lambda before, after: np.array_equal(before[0], after[0]), root, given, of)
    assert same > 5
    assert flags_of(root, given, of) == {
        CARRY_CONVERGED: f"from call {same} on, each call gives back the carry that it was given: "
        "the work is done"
    }


def test_sorted_numbers_are_sorted_again_from_the_second_call_on() -> None:
    given = np.random.default_rng(0).random(1000, np.float32)
    assert "from call 2 on" in flags_of(lambda x: jnp.sort(x), given)[CARRY_CONVERGED]


def test_one_element_that_still_changes_is_not_finished() -> None:
    large = np.zeros(leaf_state.SMALL + 10, np.float32)
    large[:-1] = np.arange(1, large.size)

    def step(x: Any) -> Any:
        return jnp.maximum(x, 5.0).at[-1].set(x[-1] + 1)

    assert flags_of(step, large, calls=20) == {}
    frozen = flags_of(lambda x: jnp.maximum(x, 5.0), large, calls=20)
    assert "from call 2 on" in frozen[CARRY_CONVERGED]


def test_data_that_stays_in_the_carry_is_not_finished_work() -> None:
    def step(carry: Any) -> Any:
        return {"data": carry["data"], "at": (carry["at"] + 1) % 100}

    assert flags_of(step, {"data": ONES, "at": np.int32(0)}) == {}


def test_a_carry_that_is_only_written_is_not_finished_work() -> None:
    assert flags_of(lambda _, x: x * 2, ONES, ONES) == {}


def test_an_array_that_a_call_hands_to_a_function_is_read_only_where_that_one_reads_it() -> None:
    @jax.jit
    def inner(x: Any, y: Any) -> Any:
        return y + 1

    traced = jax.jit(lambda x, y, z: (inner(x, y), z)).trace(ONES, ONES, ONES)
    assert arguments_read(traced.jaxpr) == [False, True, True]


# --- loops -------------------------------------------------------------------------------------------


def solve(x: Any, a: Any) -> Any:
    """Of the kind of a solver: it goes on until nothing changes any more."""

    def going(state: Any) -> Any:
        return (jnp.max(jnp.abs(state[0] - state[1])) > 1e-6) & (state[2] < 500)

    def step(state: Any) -> Any:
        return jnp.sqrt(jnp.abs(a @ state[0])), state[0], state[2] + 1

    return jax.lax.while_loop(going, step, (x, x + 1.0, 0))[0]


def solver(size: int = 64) -> tuple[Any, Any]:
    a = np.random.default_rng(0).random((size, size)).astype(np.float32)
    return np.full(size, 1e6, np.float32), a / a.sum(1, keepdims=True)


def test_a_solver_that_finds_itself_done_is_told_with_the_call() -> None:
    found = flags_of(solve, *solver(), calls=50)
    trips = trips_of(solve, *solver())
    assert trips > 10
    assert found[LOOP_ENDS_EARLY] == (
        f"its while_loop makes {trips} trips in the first call and 1 from call 2 on: "
        "later calls are not the work of the first"
    )


def test_a_loop_that_runs_longer_is_told_with_its_trips_at_that_call_and_at_the_end() -> None:
    def step(carry: Any) -> Any:
        trips, x = carry
        return jnp.minimum(trips + 1, 60), jax.lax.fori_loop(0, trips, lambda _, x: -x, x)

    (message,) = (flags_of(step, (np.int32(10), ONES)).get(LOOP_RUNS_LONGER),)
    assert message is not None
    assert "10 trips in the first call and 12 from call 3 on, and 60 at the end" in message


def test_a_loop_whose_trips_differ_from_call_to_call_is_not_flagged() -> None:
    def step(carry: Any) -> Any:
        calls, x = carry
        return calls + 1, jax.lax.fori_loop(0, 5 + calls % 3, lambda _, x: jnp.roll(x, 1) * -1, x)

    given = np.int32(1), np.arange(1, 101, dtype=np.float32)
    assert flags_of(step, given) == {}


def test_a_loop_that_can_t_be_counted_within_memory_is_said_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(carry_check, "capacity_bytes", lambda _: -1)
    found = flags_of(solve, *solver(), calls=50)
    assert "on the device" in found[LOOP_UNCHECKED]
    assert LOOP_ENDS_EARLY not in found


def trips_of(function: Callable[..., Any], *arguments: Any) -> int:
    program = jax.jit(function).trace(*arguments).jaxpr
    assert has_while(program)
    return int(jax.jit(count_trips(program))(*jax.tree.leaves(arguments)))


def loop(trips: Any, x: Any) -> Any:
    return jax.lax.while_loop(lambda s: s[0] < trips, lambda s: (s[0] + 1, jnp.sin(s[1])), (0, x))[1]


@jax.custom_jvp
def with_jvp(trips: Any, x: Any) -> Any:
    return loop(trips, x)


@jax.custom_vjp
def with_vjp(trips: Any, x: Any) -> Any:
    return loop(trips, x)


with_jvp.defjvp(lambda primals, tangents: (with_jvp(*primals), tangents[1]))
with_vjp.defvjp(lambda trips, x: (with_vjp(trips, x), None), lambda _, g: (None, g))


LOOPS: dict[str, tuple[Callable[..., Any], int]] = {
    "alone": (loop, 7),
    "jitted": (lambda n, x: jax.jit(loop)(n, x), 7),
    "two": (lambda n, x: loop(n, loop(n + 1, x)), 15),
    "in a scan": (lambda n, x: jax.lax.scan(lambda c, _: (loop(n, c), c), x, None, length=3), 21),
    "in a branch": (lambda n, x: jax.lax.cond(x[0] < 1, lambda: loop(n, x), lambda: x), 7),
    "in a loop": (lambda n, x: jax.lax.fori_loop(0, n - 5, lambda _, x: loop(n, x), x), 16),
    "under vmap": (lambda n, x: jax.vmap(loop, (None, 0))(n, x), 7),
    "of other lengths": (lambda n, x: jax.vmap(loop)(n + jnp.arange(x.size) % 5, x), 11),
    "remade": (lambda n, x: jax.checkpoint(loop)(n, x), 7),
    "with a derivative": (lambda n, x: with_jvp(n, x) + with_vjp(n, x), 14),
    "a solver's": (
        lambda n, x: jax.scipy.sparse.linalg.cg(lambda v: (2.0 + (jnp.arange(x.size) % 5)) * v, x + n)[0],
        5,
    ),
}


@pytest.mark.parametrize("name", LOOPS)
def test_the_trips_of_a_loop_are_counted_wherever_it_is(name: str) -> None:
    function, trips = LOOPS[name]
    assert trips_of(function, np.int32(7), np.zeros(10, np.float32)) == trips


def test_a_loop_of_a_fixed_number_of_trips_needs_no_counting() -> None:
    program = jax.jit(lambda x: jax.lax.fori_loop(0, 5, lambda _, x: x + 1, x)).trace(ONES).jaxpr
    assert not has_while(program)


# --- the search --------------------------------------------------------------------------------------


class Counter:
    """A carry that counts its calls, each of which takes `call_s`."""

    def __init__(self, call_s: float) -> None:
        self.clock, self.call_s, self.calls = FakeClock(), call_s, 0
        self.resident: Any = SimpleNamespace(carry=np.int32(0))
        self.replay = Replay(self.resident, np.int32(0), jax.devices()[0], self.run, self.clock)

    def run(self, calls: int) -> None:
        self.resident.carry = self.resident.carry + calls
        self.calls += calls
        self.clock.advance(calls * self.call_s)

    def first(self, call: int) -> tuple[int, int | None]:
        self.replay.until(SEARCH_S)
        return first_call(self.replay, lambda: int(self.resident.carry) >= call)


@pytest.mark.parametrize("call", [1, 2, 3, 4, 5, 31, 32, 33, 1000])
def test_the_search_finds_the_first_call_in_about_twice_as_many(call: int) -> None:
    counter = Counter(call_s=1e-6)
    assert counter.first(call) == (call - 1, call)
    assert counter.calls <= 3 * call


def test_the_search_ends_in_time_and_says_how_far_it_came() -> None:
    slow = Counter(call_s=0.1)
    low, high = slow.first(10_000)
    assert high is None
    assert 16 <= low < 10_000
    assert slow.clock() < 2 * SEARCH_S
    between = Counter(call_s=SEARCH_S / 40)
    low, high = between.first(30)
    assert high is not None
    assert low < 30 <= high


def test_a_call_that_is_not_found_in_time_is_told_by_those_that_were_tried() -> None:
    clock = FakeClock()

    def ticking() -> float:
        clock.advance(SEARCH_S / 5)
        return clock()

    message = flags_of(grows, ONES, clock=ticking)[CARRY_NOT_FINITE]
    assert message.startswith("the carry is not finite after more than ")


def test_a_large_carry_is_not_kept_on_the_way(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("jaxaccel.worker.replay.KEPT_BYTES", 10)
    assert "from call 217 on" in flags_of(grows, ONES)[CARRY_NOT_FINITE]


# --- arrays ------------------------------------------------------------------------------------------

MIXED = np.linspace(1, 2, 1000)
MIXED[:5], MIXED[5:7], MIXED[7:17], MIXED[10:12] = np.nan, -np.inf, 0.0, -0.0


def of_type(dtype: Any) -> Any:
    array = np.asarray(MIXED.astype(np.float32)).astype(dtype)
    array[20:50] = ml_dtypes.finfo(dtype).smallest_subnormal
    return array


@pytest.mark.parametrize("small", [True, False], ids=["NumPy", "XLA"])
@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "float64"])
def test_the_numbers_of_an_array_are_counted_by_kind(
    dtype: str, small: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    jax.config.update("jax_enable_x64", True)
    monkeypatch.setattr(leaf_state, "SMALL", 1 << 18 if small else 0)
    array = of_type(jnp.dtype(dtype))
    expected = State(size=1000, nan=5, infinite=2, zero=10, denormal=30)
    assert look(jax.device_put(array)) == expected
    pair = np.zeros(1000, np.complex128)
    pair.real, pair.imag = array.astype(np.float64), 1.0
    if dtype == "float64":
        assert look(jax.device_put(pair)) == expected._replace(size=2000)


def test_integers_have_no_kinds_of_numbers() -> None:
    assert look(jnp.arange(3)) is None
    assert look(jnp.zeros((3, 0))) == State(0, 0, 0, 0, 0)
    assert look(jnp.float32(0)) == State(1, 0, 0, 1, 0)


@pytest.mark.parametrize("small", [True, False], ids=["NumPy", "XLA"])
@pytest.mark.parametrize(
    "dtype", ["bool", "int4", "int8", "uint32", "float8_e4m3fn", "bfloat16", "complex64"]
)
def test_fingerprints_tell_arrays_apart_in_a_bit_and_in_their_order(
    dtype: str, small: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(leaf_state, "SMALL", 1 << 18 if small else 0)
    rng = np.random.default_rng(0)
    array = rng.integers(0, 2, 300).astype(jnp.dtype(dtype))
    other = array.copy()
    other[123] = 1 - int(array[123].real)
    swapped = array[::-1].copy()
    prints = [fingerprint(jax.device_put(one), whole=True) for one in (array, other, swapped, array.copy())]
    assert len(set(prints[:3])) == 3
    assert prints[3] == prints[0]
    assert prints[0] == fingerprint(jax.device_put(array), whole=True)


def test_a_sign_that_flips_everywhere_is_another_array() -> None:
    one, other = (fingerprint(sign * jnp.ones(1 << 12), whole=True) for sign in (1, -1))
    assert one[0] != other[0]
    assert one[1] != other[1]


# --- as arms -----------------------------------------------------------------------------------------


def closed(target: str, params: dict[str, Any], *, size: int, metrics: tuple[Metric, ...]) -> Closed:
    case = Case(
        workload="own", size=size, dtype="float32", precision="highest", variant="direct", params=params
    )
    arm = OpenArm(
        Arm(case=case, device="cpu", target=target), jax.devices()[0], ArmFacts(requested="cpu"), {}, metrics
    )
    for metric in arm.facts.metrics:
        patiently(lambda metric=metric: arm.round(metric))  # type: ignore[misc]
    return arm.close()


def overflowing_args() -> tuple[Any, ...]:
    return (np.ones(1000, np.float32),)


@pytest.mark.slow
def test_the_call_is_told_whatever_was_timed_with_the_carry() -> None:
    params = {"fn": "test_carry:grows", "args": "test_carry:overflowing_args", "carry": True}
    metrics = (Metric.latency, Metric.throughput, Metric.device, Metric.end_to_end)
    found = closed("jaxaccel.workloads.custom:Custom", params, size=1, metrics=metrics)
    (flag,) = found.warnings
    assert flag.message.endswith("is not finite from call 217 on")
    assert found.spent_s > 0


def of(kind: type[Any]) -> str:
    return f"{kind.__module__}:{kind.__name__}"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("target", "size", "params"),
    [
        ("jaxaccel.workloads.mlp:Mlp", 16, {}),
        ("jaxaccel.workloads.mlp_article:MlpArticle", 50, {}),
        (of(Training), 8, {"feed": "scan", "epochs": 2}),
        (of(Training), 8, {"feed": "resident", "epochs": 2}),
        (of(Stream), 4096, {"kind": "copy"}),
        (of(Stream), 4096, {"kind": "triad"}),
        ("jaxaccel.workloads.matvec:Matvec", 64, {}),
    ],
)
def test_workloads_of_its_own_are_not_flagged(target: str, size: int, params: dict[str, Any]) -> None:
    assert closed(target, params, size=size, metrics=(Metric.latency,)).warnings == ()

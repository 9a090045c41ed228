"""Device time by the slope of a loop, on the real CPU: the loop does the calls' work, and nothing else."""

import math
import pkgutil
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import yaml
from fakes import patiently
from processes import ROOT

from jaxaccel.records.messages import Round, Unavailable
from jaxaccel.selftest.mutants import SLEEP_S, Sleeper
from jaxaccel.worker import slope as slopes
from jaxaccel.worker.hlo import array_operations, operations
from jaxaccel.worker.program import Resident, compile_function, make_call
from jaxaccel.worker.slope import LONGER_S, MIN_MORE, LoopError, Slope, looped, stays_inside
from jaxaccel.workloads.base import Workload
from jaxaccel.workloads.matmul import Matmul
from jaxaccel.workloads.matvec import Matvec
from jaxaccel.workloads.mlp import Mlp
from jaxaccel.workloads.stream import Stream

SIZES = {"dot": 4096, "stream": 8192, "transfer": 4096, "mlp_article": 50, "conv2d": 8}  # of the others:
SIZE = 64
CONFIGS = {
    path.stem: yaml.safe_load(path.read_text()) for path in sorted((ROOT / "conf/workload").glob("*.yaml"))
}
# A user's own code has no defaults to go by: it has tests of its own.
CONFIGS = {name: config for name, config in CONFIGS.items() if not {"fn", "file"} & config.keys()}
# Each workload as it is shipped, and each kind of pass over memory.
KINDS = [(name, {}) for name in CONFIGS if name != "stream"] + [
    ("stream", {"kind": kind}) for kind in ("read", "copy", "triad")
]
KIND_NAMES = [" ".join([name, *params.values()]) for name, params in KINDS]
CASES = [(name, params, "float32") for name, params in KINDS] + [
    (name, params, "float64") for name, params in KINDS if not name.startswith("mlp")
]
CASE_NAMES = [" ".join([name, *params.values(), dtype]) for name, params, dtype in CASES]


@pytest.fixture(autouse=True)
def width() -> Iterator[None]:
    yield
    jax.config.update("jax_enable_x64", False)


def make(name: str, params: dict[str, Any], dtype: str = "float32") -> Workload:
    """A workload as its YAML describes it, small, where its size is not fixed."""
    config = dict(CONFIGS[name])
    kind = pkgutil.resolve_name(config.pop("_target_"))
    config.pop("name")
    config.pop("default_size")
    config.pop("crossover_range", None)
    config.pop("sizes", None)
    jax.config.update("jax_enable_x64", dtype == "float64")
    return kind(size=SIZES.get(name, SIZE), dtype=dtype, **config | params)


def place(workload: Workload) -> Resident:
    arguments = jax.device_put(workload.inputs(0), jax.devices()[0], may_alias=False)
    return Resident(arguments, carries=workload.carries)


def make_slope(
    workload: Workload,
    resident: Resident | None = None,
    *,
    typical_s: float = 1e-4,
    on_gpu: bool = False,
    compiled: Any = None,
) -> Slope:
    resident, known = resident or place(workload), {"on_gpu": on_gpu, "compiled": compiled}
    return Slope(workload, resident, precision="highest", typical_s=typical_s, **known)


def compile_loop(workload: Workload, resident: Resident) -> Any:
    """(trips, carry, rest) -> (carry, last output), as it is compiled on a CPU."""
    loop = looped(workload.function, carries=workload.carries)
    lowered = jax.jit(loop, keep_unused=True).lower(np.int32(0), resident.carry, resident.rest)
    return lowered.compile()


def median_s(found: Round) -> float:
    return float(np.median(found.samples_s))


# --- each workload's loop --------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "params", "dtype"), CASES, ids=CASE_NAMES)
def test_the_work_is_inside_the_loop_which_copies_no_more_arrays_than_the_program_that_is_called(
    name: str, params: dict[str, Any], dtype: str
) -> None:
    workload = make(name, params, dtype)
    resident = place(workload)
    compiled, _ = compile_function(workload.function, resident.arguments, "highest", carries=workload.carries)
    loop = jax.jit(
        looped(workload.function, carries=workload.carries),
        donate_argnums=(1,) if workload.carries else (),
        keep_unused=True,
    ).lower(np.int32(0), resident.carry, resident.rest)
    program = loop.compile().as_text()
    assert operations(program, inside_loops=True) & workload.operations
    assert copied(program) == copied(compiled.as_text())


def copied(text: str) -> list[str]:
    """The shapes of arrays that are copied; a number is nothing."""
    return sorted(re.findall(r"= (\w+\[\d[\d,]*\])\S* copy\(", text))


@pytest.mark.parametrize(("name", "params"), KINDS, ids=KIND_NAMES)
def test_every_workload_has_a_positive_slope(name: str, params: dict[str, Any]) -> None:
    found = patiently(make_slope(make(name, params)).round)
    assert median_s(found) > 0
    assert found.depth >= MIN_MORE
    assert max(found.samples_s) < 1


# --- what a loop computes --------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "params"), KINDS, ids=KIND_NAMES)
@pytest.mark.parametrize("static", [False, True])
def test_a_loop_of_three_trips_gives_what_three_calls_give(
    name: str, params: dict[str, Any], static: bool
) -> None:
    workload = make(name, params)
    resident = place(workload)
    if static:
        loop = jax.jit(looped(workload.function, carries=workload.carries), static_argnums=0)
        carry, output = loop(3, resident.carry, resident.rest)
    else:
        carry, output = compile_loop(workload, resident)(np.int32(3), resident.carry, resident.rest)
    carry, output = jax.device_get((carry, output))
    compiled, _ = compile_function(workload.function, resident.arguments, "highest", carries=workload.carries)
    call, _ = make_call(compiled, resident)
    for _ in range(3):
        result = jax.device_get(call())
    expected = result if workload.carries else (None, result)
    assert jax.tree.structure((carry, output)) == jax.tree.structure(expected)
    for leaf, other in zip(jax.tree.leaves((carry, output)), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(leaf, other, rtol=1e-4, atol=1e-6)


def test_three_steps_of_training_are_not_one() -> None:
    """Else the test above would show nothing."""
    workload = make("mlp", {})
    resident = place(workload)
    loop = compile_loop(workload, resident)
    losses = [float(loop(np.int32(trips), resident.carry, resident.rest)[1]) for trips in (1, 2, 3)]
    assert losses[0] > losses[1] * 1.001 > losses[2] * 1.001**2


@dataclass(frozen=True, kw_only=True)
class Counting(Matvec):
    """Its carry counts the calls: each sums `size` equal numbers to one."""

    carries: ClassVar[bool] = True

    @property
    def function(self) -> Callable[..., Any]:
        return lambda count, x: (count + jnp.sum(x), count)

    def inputs(self, seed: int) -> Any:
        return np.float32(0), np.full(self.size, 1 / self.size, np.float32)


@pytest.mark.parametrize("on_gpu", [False, True])
def test_a_sample_is_the_difference_of_loops_that_differ_by_depth_calls(on_gpu: bool) -> None:
    workload = Counting(size=4096)
    resident = place(workload)
    slope = make_slope(workload, resident, typical_s=1e-6, on_gpu=on_gpu)
    before = float(resident.carry)
    found = patiently(slope.round)
    short = 2 if on_gpu else 1
    samples = (float(resident.carry) - before) / (found.depth + 2 * short)
    assert samples == int(samples)
    assert len(found.samples_s) <= samples < len(found.samples_s) * 20 + 1000


# --- data that is handed on ------------------------------------------------------------------------


def test_a_donated_carry_is_handed_from_loop_to_call_and_back() -> None:
    workload = Mlp(size=32, batch=16)
    resident = place(workload)
    compiled, _ = compile_function(workload.function, resident.arguments, "highest", carries=True)
    call, block = make_call(compiled, resident)
    first = float(block(call())[1])
    slope = make_slope(workload, resident, typical_s=1e-3)
    for _ in range(2):
        carry = resident.carry
        patiently(slope.round)
        assert all(leaf.is_deleted() for leaf in jax.tree.leaves(carry))  # its memory was taken over
        assert not any(leaf.is_deleted() for leaf in jax.tree.leaves(resident.arguments))
        last = float(block(call())[1])
    assert 0 <= last < first  # it has been trained all the while


def test_a_loop_leaves_the_arguments_of_a_plain_workload_as_they_were() -> None:
    workload = Matvec(size=64)
    resident = place(workload)
    make_slope(workload, resident).round()
    assert resident.carry is None
    for placed, original in zip(resident.arguments, workload.inputs(0), strict=True):
        np.testing.assert_array_equal(placed, original)


# --- what XLA must not take out of the loop --------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Constant(Matvec):
    """Its product depends on no argument."""

    @property
    def function(self) -> Callable[..., Any]:
        def product(a: jax.Array, x: jax.Array) -> jax.Array:
            numbers = jax.lax.broadcasted_iota(jnp.float32, a.shape, 0)
            return x + (numbers @ numbers)[0]

        return product


@dataclass(frozen=True, kw_only=True)
class Frozen(Matvec):
    """Carries a matrix that it does not change, as a model of which only a part is trained."""

    carries: ClassVar[bool] = True

    @property
    def function(self) -> Callable[..., Any]:
        return lambda a, x: (a, jnp.tanh(a @ a)[0] + x)


def test_work_that_xla_takes_out_of_the_loop_is_noticed() -> None:
    with pytest.raises(LoopError, match="out of the loop"):
        make_slope(Constant(size=64))


@pytest.mark.parametrize("on_gpu", [False, True])
@pytest.mark.parametrize("workload", [Matvec(size=64), Frozen(size=64), Matmul(size=32)])
def test_it_is_the_barrier_that_keeps_the_work_in_the_loop(
    workload: Workload, on_gpu: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_slope(workload, on_gpu=on_gpu)
    monkeypatch.setattr(slopes.jax.lax, "optimization_barrier", lambda operands: operands)
    monkeypatch.setattr(slopes, "in_rows", lambda arrays: arrays)  # which happens to do the same
    with pytest.raises(LoopError, match="out of the loop"):
        make_slope(workload, on_gpu=on_gpu)


KINDS_OF_WORK: dict[str, Callable[[jax.Array], Any]] = {
    "compare": lambda x: x > 0.5,
    "add": lambda x: x + x,
    "copy": jnp.copy,
    "transpose": lambda x: x.T,
    "slice": lambda x: x[1:, 2:],
    "reverse": lambda x: x[::-1],
    "convert": lambda x: x.astype(jnp.int8),
    "select": lambda x: jnp.where((x > 0.2) & (x < 0.7) | (x > 0.9), x, 0),
}


@dataclass(frozen=True, kw_only=True)
class Own(Matvec):
    """Work of a kind that is in no list, as user code is."""

    operations: ClassVar[frozenset[str]] = frozenset()
    kind: str

    @property
    def function(self) -> Callable[..., Any]:
        return KINDS_OF_WORK[self.kind]

    def inputs(self, seed: int) -> Any:
        return (np.random.default_rng(seed).random((self.size, self.size), np.float32),)


@pytest.mark.parametrize("kind", KINDS_OF_WORK)
def test_work_of_any_kind_is_seen_in_the_loop(kind: str) -> None:
    workload = Own(size=256, kind=kind)
    resident = place(workload)
    compiled, _ = compile_function(workload.function, resident.arguments, "highest")
    slope = make_slope(workload, resident, compiled=compiled)
    inside = array_operations(slope._loops[1].as_text(), inside_loops=True)
    assert array_operations(compiled.as_text()) <= inside | {"parameter"}


def test_a_loop_that_only_moves_what_it_carries_does_no_work() -> None:
    empty = compile_loop(Own(size=256, kind="copy"), place(Own(size=256, kind="copy"))).as_text()
    workload = Own(size=256, kind="transpose")
    compiled, _ = compile_function(workload.function, place(workload).arguments, "highest")
    assert not stays_inside(empty, frozenset(), compiled)
    assert not stays_inside(empty, frozenset())


@pytest.mark.parametrize("kind", ["transpose", "transposed sum"])
def test_an_array_is_transposed_in_each_trip(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """XLA would have the loop's array in columns, and transpose it once, behind the loop."""
    monkeypatch.setitem(KINDS_OF_WORK, "transposed sum", lambda x: (x + 1).T)
    workload = Own(size=256, kind=kind)

    def shapes() -> set[str]:
        text = compile_loop(workload, place(workload)).as_text()
        return set(re.findall(r"f32\[256,256\]\{\d,\d\} (?:get-tuple-element|parameter)\(", text))

    assert not any("{0,1}" in shape for shape in shapes())
    monkeypatch.setattr(slopes, "in_rows", lambda arrays: arrays)
    assert any("{0,1}" in shape for shape in shapes())


def test_a_loop_has_the_widths_that_the_function_has_whatever_jax_has() -> None:
    @dataclass(frozen=True, kw_only=True)
    class Wide(Own):
        @property
        def function(self) -> Callable[..., Any]:
            def wide(x: jax.Array) -> jax.Array:
                with jax.enable_x64(True):
                    return jnp.cumsum(x.astype(jnp.float64))

            return wide

    workload = Wide(size=64, kind="")
    output = compile_loop(workload, place(workload))(np.int32(2), None, place(workload).rest)[1]
    assert output.dtype == np.float64


def test_around_thousands_of_arrays_no_loop_is_compiled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(slopes, "MAX_ARRAYS", 1)
    with pytest.raises(LoopError, match="would carry 2 arrays"):
        make_slope(Matvec(size=64))


def test_a_call_of_seconds_is_not_tried_out_before_its_slope() -> None:
    workload = Counting(size=4096)
    resident = place(workload)
    make_slope(workload, resident, typical_s=2.0)
    assert float(resident.carry) == 0


@pytest.mark.parametrize("workload", [Matvec(size=4), Stream(size=16, kind="read"), Stream(size=16)])
def test_a_loop_that_the_compiler_sees_through_has_no_slope(workload: Workload) -> None:
    with pytest.raises(LoopError, match="so little work"):
        make_slope(workload)


@dataclass(frozen=True, kw_only=True)
class Repeated(Matvec):
    """`times` products, each of the one before."""

    times: int = 1

    @property
    def function(self) -> Callable[..., Any]:
        def products(a: jax.Array, x: jax.Array) -> jax.Array:
            for _ in range(self.times):
                x = a @ x
            return x

        return products


@pytest.mark.slow
def test_sixteen_times_the_work_takes_more_than_four_times_as_long() -> None:
    sides = [make_slope(Repeated(size=512, times=times)) for times in (1, 16)]
    # In turn, for others have work on this machine, too.
    one, sixteen = np.median([[median_s(patiently(side.round)) for side in sides] for _ in range(7)], axis=0)
    assert sixteen > 4 * one


def test_a_call_of_known_duration_has_its_slope() -> None:
    found = patiently(make_slope(Sleeper(size=8), typical_s=SLEEP_S).round)
    # A difference of two loops: what delays the short one makes it smaller than any call.
    assert 0.8 * SLEEP_S <= median_s(found) < 10 * SLEEP_S


def test_the_slope_of_a_call_of_milliseconds_is_near_its_latency() -> None:
    workload = Matmul(size=512)
    resident = place(workload)
    compiled, _ = compile_function(workload.function, resident.arguments, "highest")
    call, block = make_call(compiled, resident)
    slope = make_slope(workload, resident, typical_s=3e-3)

    def latency_s() -> float:
        start = slopes.time.perf_counter()
        block(call())
        return slopes.time.perf_counter() - start

    found = [
        (median_s(patiently(slope.round)), float(np.median([latency_s() for _ in range(15)])))
        for _ in range(3)
    ]
    by_slope, by_call = np.median(found, axis=0)
    assert by_call / 4 < by_slope < by_call * 4


# --- how long a loop is ----------------------------------------------------------------------------


@pytest.mark.parametrize("typical_s", [1e-4, 1.0])
def test_a_loop_is_long_enough_whatever_dispatch_made_of_the_time_of_a_call(typical_s: float) -> None:
    found = patiently(make_slope(Matvec(size=64), typical_s=typical_s).round)
    assert found.depth * median_s(found) > LONGER_S / 4
    assert found.depth > 1.5 * LONGER_S / typical_s


@pytest.mark.parametrize(
    ("typical_s", "depth"),
    [(1e-4, 500), (1e-3, 50), (2e-3, 25), (0.02, MIN_MORE), (0.04, MIN_MORE), (0.06, 1), (9.0, 1)],
)
def test_a_gpu_s_loops_are_as_long_as_the_time_of_a_call_says(
    typical_s: float, depth: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    slope = make_slope(Counting(size=4096), typical_s=typical_s, on_gpu=True)
    monkeypatch.setattr(slope, "_timed", lambda which: 1.0 + which)
    assert patiently(slope.round).depth == depth


# --- noise -----------------------------------------------------------------------------------------


def noisy(monkeypatch: pytest.MonkeyPatch, *long_s: float) -> tuple[Slope, list[int]]:
    """A Slope whose short loop takes 1 s, and its long loop these times in turn; and the loops it ran."""
    slope = make_slope(Counting(size=4096), typical_s=9.0, on_gpu=True)  # depth 1
    ran: list[int] = []

    def timed(which: int) -> float:
        ran.append(which)
        return 1.0 if which == 0 else long_s[(len(ran) // 2 - 1) % len(long_s)]

    monkeypatch.setattr(slope, "_timed", timed)
    return slope, ran


def test_a_sample_that_noise_made_negative_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    slope, _ = noisy(monkeypatch, 1.5, 0.5, 1.25)
    found = slope.round()
    assert isinstance(found, Round)
    assert set(found.samples_s) == {0.5, -0.5, 0.25}
    assert math.isclose(median_s(found), 0.25)


def test_where_the_longer_loop_is_no_slower_there_is_no_slope(monkeypatch: pytest.MonkeyPatch) -> None:
    slope, ran = noisy(monkeypatch, 0.75, 1.0, 1.25, 1.0)
    found = slope.round()
    assert isinstance(found, Unavailable)
    assert "too much noise" in found.reason
    assert len(ran) == 2 * 100  # not tried again: that would be to choose among results


def test_loops_take_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    slope, ran = noisy(monkeypatch, 2.0)
    slope.round()
    assert ran == [0, 1] * (len(ran) // 2)

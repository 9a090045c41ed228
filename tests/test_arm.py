"""One arm in this process, on the CPU: what it tells, and that it times nothing that is not what it says."""

import functools
import math
import tracemalloc
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxaccel.records import Arm, ArmFacts, Case, Metric
from jaxaccel.worker import arm as worker_arm
from jaxaccel.worker.arm import OpenArm, RefusedError, check_placed, compile_function, make_call
from jaxaccel.worker.timing import AWAITED, InvariantError
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


@pytest.fixture(autouse=True)
def width() -> Iterator[None]:
    yield
    jax.config.update("jax_enable_x64", False)


def case(size: int = SIZE, **changes: Any) -> Case:
    known: dict[str, Any] = {"dtype": "float32", "precision": "highest", "variant": "direct"}
    return Case(workload="matvec", size=size, **known | changes)


def open_arm(target: str = MATVEC, **changes: Any) -> OpenArm:
    device = jax.devices()[0]
    return OpenArm(
        Arm(case=case(**changes), device="cpu", target=target), device, ArmFacts(requested="cpu"), {}
    )


def open_odd(variant: str) -> OpenArm:
    return open_arm(f"{__name__}:Odd", variant=variant)


# --- a good arm ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def opened() -> OpenArm:
    return open_arm(seed=2)


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
    assert facts.spent_s.accounted > 0


def test_every_invariant_of_a_good_arm_has_passed(opened: OpenArm) -> None:
    assert set(opened.facts.invariants.values()) == {"passed"}
    assert {worker_arm.ARGUMENTS, worker_arm.OPERATIONS, worker_arm.PLACED} <= set(opened.facts.invariants)
    assert {worker_arm.ANSWER, AWAITED, worker_arm.NO_TRANSFER} <= set(opened.facts.invariants)


@pytest.mark.parametrize("metric", list(Metric))
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


def test_float64_is_float64_and_what_comes_after_it_is_float32_again() -> None:
    error = open_arm(dtype="float64", size=50).facts.accuracy.relative_error
    assert error < 1e-15
    assert 1e-15 < open_arm(size=50).facts.accuracy.relative_error < 1e-6


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
        InvariantError, match=r"differs from NumPy float64 by \S+, and \S+ is toler"
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
        open_arm(f"jaxaccel.worker.mutants:{mutant}", size=size).round(Metric.latency)
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
    call, block = make_call(compiled, (total, two), carries=True)
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
    with pytest.raises(RefusedError, match="matvec has no parameters"):
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


def in_bytes(text: str) -> float:
    number, unit = text.split()
    return float(number) * 1024 ** ("B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB", "ZiB", "YiB").index(unit)


def test_sizes_beyond_the_largest_unit_still_have_words() -> None:
    with pytest.raises(RefusedError, match=r"needs \S+ YiB"):
        open_arm(f"{__name__}:Huge", size=10**20)
    assert math.isfinite(in_bytes("1.0 YiB"))

"""What every workload owes its protocol, found through the YAML folder; and what each one computes."""

import math
import pkgutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from hashlib import sha256
from itertools import pairwise, product
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import yaml
from processes import ROOT

from jaxaccel.records import Accuracy
from jaxaccel.records.precision import Dtype
from jaxaccel.worker.arm import compile_function
from jaxaccel.worker.hlo import operations
from jaxaccel.workloads import (
    attention,
    base,
    chain,
    conv2d,
    dot,
    fft,
    group_sum,
    heat,
    matmul,
    matvec,
    mlp,
    sort,
    stream,
)
from jaxaccel.workloads.base import (
    Workload,
    aligned_empty,
    elementwise_error,
    itemsize,
    uniform,
    whole_numbers,
)
from jaxaccel.workloads.mlp_article import MlpArticle, breast_cancer
from jaxaccel.workloads.small_loop import SmallLoop
from jaxaccel.workloads.transfer import Transfer

SIZE = 12
CONFIGS = {
    path.stem: yaml.safe_load(path.read_text()) for path in sorted((ROOT / "conf/workload").glob("*.yaml"))
}
# A user's own code has no defaults to go by: it has tests of its own.
CONFIGS = {name: config for name, config in CONFIGS.items() if not {"fn", "file"} & config.keys()}
CONFIGS |= {f"stream-{kind}": CONFIGS["stream"] | {"kind": kind} for kind in ("read", "copy")}  # as the triad
CONFIGS |= {"transfer-parts": CONFIGS["transfer"] | {"parts": 3}}
# XLA has no transform of halves, and a step of heat is lost in their rounding.
WHOLE = {"fft", "heat"}
HALF = {
    "chain",
    "group_sum",
    "rows",
    "sort",
}  # of which bfloat16 stands for float16 too: tests take their time
CASES = [
    (name, dtype)
    for name, dtype in product(CONFIGS, map(str, Dtype))
    if not (name in WHOLE and dtype in ("bfloat16", "float16")) and not (name in HALF and dtype == "float16")
]
# Of an output, and far beyond what each type tolerates.
WRONG_BY = {"float32": 1e-3, "float64": 1e-6, "float16": 0.5, "bfloat16": 0.5}

# The first 16 digits of the SHA-256 of all inputs, seed 3, at the size of `small`. They hold on every
# platform, so that two machines measure one computation on one set of bits.
GOLDEN = {
    ("dot", "float32"): "4879dc461e6a2897",
    ("dot", "bfloat16"): "b69f163c945377e0",
    ("dot", "float16"): "ba58e358c56eba1b",
    ("dot", "float64"): "fcf5dc64da0a5cb7",
    ("matvec", "float32"): "2c6e16a174c43f98",
    ("matvec", "bfloat16"): "9d88bc5caad33726",
    ("matvec", "float16"): "710b3259c900154d",
    ("matvec", "float64"): "2b9213e45e9fd03e",
    ("mlp", "float32"): "8422cc610914005c",
    ("mlp", "bfloat16"): "35de20951219a270",
    ("mlp", "float16"): "6ac6c53374c8c421",
    ("mlp", "float64"): "804b322cf7d44f53",
    ("mlp_article", "float32"): "c44625e37a47a90e",
    ("mlp_article", "bfloat16"): "dc9f1224ea5efb49",
    ("mlp_article", "float16"): "5c34bb809a77a7e7",
    ("mlp_article", "float64"): "28fe3a8204a63948",
    ("matmul", "float32"): "2789a49dbd80ef51",
    ("matmul", "bfloat16"): "7cb7b6119e0b0f4d",
    ("matmul", "float16"): "979b5e146c791efa",
    ("matmul", "float64"): "305c1338a024ef77",
    ("small_loop", "float32"): "60c26d49cd771090",
    ("small_loop", "bfloat16"): "b5cc87e55ba9f5bf",
    ("small_loop", "float16"): "cae01c6888161cbe",
    ("small_loop", "float64"): "caac1698ade3a7c1",
    ("stream", "float32"): "a63a0f0f9534dea8",
    ("stream", "bfloat16"): "487d42709bf6a951",
    ("stream", "float16"): "9a5f643387cc5bab",
    ("stream", "float64"): "0becc978d1c39ef7",
    ("stream-read", "float32"): "c88bccd955376e89",
    ("stream-read", "bfloat16"): "78a082938e76f008",
    ("stream-read", "float16"): "a2acc07e24e833df",
    ("stream-read", "float64"): "7bc61df14c743a3e",
    ("stream-copy", "float32"): "4879dc461e6a2897",
    ("stream-copy", "bfloat16"): "b69f163c945377e0",
    ("stream-copy", "float16"): "ba58e358c56eba1b",
    ("stream-copy", "float64"): "fcf5dc64da0a5cb7",
    ("transfer", "float32"): "c88bccd955376e89",
    ("transfer", "bfloat16"): "78a082938e76f008",
    ("transfer", "float16"): "a2acc07e24e833df",
    ("transfer", "float64"): "7bc61df14c743a3e",
    ("transfer-parts", "float32"): "a63a0f0f9534dea8",
    ("transfer-parts", "bfloat16"): "487d42709bf6a951",
    ("transfer-parts", "float16"): "9a5f643387cc5bab",
    ("transfer-parts", "float64"): "0becc978d1c39ef7",
    ("attention", "float32"): "c48cbe6ab1ee4256",
    ("attention", "bfloat16"): "63c36ee91dd346c6",
    ("attention", "float16"): "0a6f3b831fadfeb8",
    ("attention", "float64"): "20623f628bfd8428",
    ("chain", "float32"): "f75fb04a5987d5db",
    ("chain", "bfloat16"): "18af5aee44604b0f",
    ("chain", "float64"): "308cc884210b1aef",
    ("conv2d", "float32"): "f53c17d665e13a1d",
    ("conv2d", "bfloat16"): "bcaa6a5bd401f0e1",
    ("conv2d", "float16"): "c1bb2915a22b1f16",
    ("conv2d", "float64"): "a9e2b287465bd0a5",
    ("fft", "float32"): "18f56f9471eddf91",
    ("fft", "float64"): "a245496c0513f2ea",
    ("group_sum", "float32"): "fb9f713f4e305e4e",
    ("group_sum", "bfloat16"): "5edd638caa16ff7a",
    ("group_sum", "float64"): "8ab292e1ad94fb0b",
    ("heat", "float32"): "18f56f9471eddf91",
    ("heat", "float64"): "a245496c0513f2ea",
    ("rows", "float32"): "2ca312f77ba5e97f",
    ("rows", "bfloat16"): "fe7e7be063f4f288",
    ("rows", "float64"): "d220318c48ecc9f3",
    ("sort", "float32"): "c88bccd955376e89",
    ("sort", "bfloat16"): "78a082938e76f008",
    ("sort", "float64"): "7bc61df14c743a3e",
    ("training", "float32"): "5d83042dc6402d82",
    ("training", "bfloat16"): "cd07b542ca456ece",
    ("training", "float16"): "34452c1722649513",
    ("training", "float64"): "f71080c1a0b859c7",
}


@pytest.fixture(autouse=True)
def width() -> Iterator[None]:
    """Whatever a test makes of JAX's width of numbers, the next one begins with 32 bits."""
    yield
    jax.config.update("jax_enable_x64", False)


def small(name: str, dtype: str, size: int = SIZE, **params: Any) -> Workload:
    """A workload as its YAML describes it, small; one whose size is fixed has that one."""
    config = dict(CONFIGS[name])
    kind = pkgutil.resolve_name(config.pop("_target_"))
    config.pop("name")
    default = config.pop("default_size")
    config.pop("crossover_range", None)
    config.pop("sizes", None)
    jax.config.update("jax_enable_x64", dtype == "float64")
    try:
        return kind(size=size, dtype=dtype, **config | params)
    except ValueError as error:
        if "fixed" not in str(error):
            raise
        return kind(size=default, dtype=dtype, **config | params)


def arrays(inputs: Any) -> list[np.ndarray]:
    return [np.asarray(leaf) for leaf in jax.tree.leaves(inputs)]


def fingerprint(inputs: Any) -> str:
    whole = sha256()
    for array in arrays(inputs):
        whole.update(f"{array.dtype}{array.shape}".encode())
        whole.update(np.ascontiguousarray(array).tobytes())
    return whole.hexdigest()[:16]


def run(function: Callable[..., Any], *arguments: Any) -> Any:
    """Compile and run at the highest precision, as the worker does it for `verify`."""
    placed = jax.device_put(arguments)
    compiled, _ = compile_function(function, placed, "highest")
    return jax.device_get(compiled(*placed))


def program(workload: Workload, inputs: Any) -> str:
    """The optimised program that the worker would time."""
    compiled, _ = compile_function(
        workload.function, jax.device_put(inputs), "highest", carries=workload.carries
    )
    return str(compiled.as_text())


def repeated(workload: Workload, inputs: Any) -> str:
    """The optimised program of a loop over the workload, with all that keeps its work inside."""

    def call(carry: Any, rest: Any) -> Any:
        return workload.function(carry, *rest) if workload.carries else (carry, workload.function(*rest))

    def loop(trips: Any, carry: Any, rest: Any) -> Any:
        def trip(_: Any, state: Any) -> Any:
            carry, rest, last = state
            rest, last = jax.lax.optimization_barrier((rest, last))
            carry, last = call(carry, rest)
            return carry, rest, last

        last = jax.tree.map(
            lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), jax.eval_shape(call, carry, rest)[1]
        )
        return jax.lax.fori_loop(0, trips, trip, (carry, rest, last))

    carry, rest = (inputs[0], inputs[1:]) if workload.carries else (None, inputs)
    donated = (1,) if workload.carries else ()
    return str(jax.jit(loop, donate_argnums=donated).lower(np.int32(20), carry, rest).compile().as_text())


def output_of(workload: Workload, inputs: Any) -> Any:
    result = run(workload.function, *inputs)
    return result[1] if workload.carries else result


@dataclass(frozen=True, kw_only=True)
class Solved:
    """A workload with its data and right output; `run` gives again what it gave when that was verified."""

    workload: Workload
    inputs: Any
    output: np.ndarray
    accuracy: Accuracy
    run: Callable[..., Any]

    def verify(self, output: Any, precision: str = "highest") -> Accuracy:
        return self.workload.verify(self.inputs, output, precision, self.run)


@cache
def solved(name: str, dtype: str) -> Solved:
    """Compiling is what takes long here: once a process."""
    workload = small(name, dtype)
    inputs = workload.inputs(0)
    output = output_of(workload, inputs)
    known: dict[str, Any] = {}

    def run_once(function: Callable[..., Any], *arguments: Any) -> Any:
        if function.__name__ not in known:
            known[function.__name__] = run(function, *arguments)
        return known[function.__name__]

    accuracy = workload.verify(inputs, output, "highest", run_once)
    return Solved(
        workload=workload,
        inputs=inputs,
        output=np.asarray(output, np.complex128 if np.iscomplexobj(output) else np.float64),
        accuracy=accuracy,
        run=run_once,
    )


# --- the contract, for each workload and type ------------------------------------------------------


@pytest.mark.parametrize(("name", "dtype"), CASES)
def test_inputs_depend_on_the_seed_and_on_nothing_else(name: str, dtype: str) -> None:
    first = fingerprint(small(name, dtype).inputs(3))
    np.random.seed(0)  # a global generator is none of their business
    assert fingerprint(small(name, dtype).inputs(3)) == first
    assert fingerprint(small(name, dtype).inputs(4)) != first


@pytest.mark.parametrize(("name", "dtype"), CASES)
def test_inputs_are_the_same_bits_everywhere(name: str, dtype: str) -> None:
    found = fingerprint(small(name, dtype).inputs(3))
    if (name, dtype) not in GOLDEN:
        pytest.skip(f"no golden hash of {name} in {dtype} yet; here it is {found}")
    assert found == GOLDEN[name, dtype]


@pytest.mark.parametrize(("name", "dtype"), CASES)
def test_inputs_are_host_arrays_of_the_right_type(name: str, dtype: str) -> None:
    workload = small(name, dtype)
    leaves = jax.tree.leaves(workload.inputs(0))
    assert leaves
    assert all(type(leaf) is np.ndarray for leaf in leaves)
    assert all(np.isfinite(leaf.astype(np.float64)).all() for leaf in leaves)
    assert jnp.dtype(dtype) in {leaf.dtype for leaf in leaves}


@pytest.mark.parametrize(("name", "dtype"), CASES)
def test_inputs_are_aligned_so_that_the_cpu_takes_them_without_a_copy(name: str, dtype: str) -> None:
    for leaf in jax.tree.leaves(small(name, dtype).inputs(0)):
        assert leaf.ctypes.data % 64 == 0
        assert jax.device_put(leaf).unsafe_buffer_pointer() == leaf.ctypes.data


@pytest.mark.slow
@pytest.mark.parametrize(("name", "dtype"), CASES)
def test_the_work_is_in_the_program_and_stays_in_a_loop(name: str, dtype: str) -> None:
    workload = small(name, dtype)
    inputs = workload.inputs(0)
    assert workload.operations & operations(program(workload, inputs))
    assert workload.operations & operations(repeated(workload, inputs), inside_loops=True)


@pytest.mark.parametrize(("name", "dtype"), CASES)
def test_cost_and_memory_cover_at_least_the_data(name: str, dtype: str) -> None:
    workload = small(name, dtype)
    held = sum(array.nbytes for array in arrays(workload.inputs(0)))
    cost = workload.cost()
    assert cost.flops > 0 or name == "sort", "only sorting is done without"
    assert math.isfinite(cost.flops)
    assert held <= cost.bytes < math.inf
    assert isinstance(workload.memory_bytes(), int)
    assert workload.memory_bytes() >= held


@pytest.mark.slow
@pytest.mark.parametrize(("name", "dtype"), CASES)
def test_the_right_answer_is_accepted_and_a_wrong_one_is_not(name: str, dtype: str) -> None:
    case = solved(name, dtype)
    assert case.accuracy.ok
    assert 0 <= case.accuracy.relative_error <= case.accuracy.tolerance < 0.2
    assert "float64" in case.accuracy.reference
    right, off = case.output, 1 + WRONG_BY[dtype]
    for wrong in (right * off, right / off, np.zeros_like(right), right * np.nan, right + np.inf):
        assert not case.verify(wrong).ok, f"accepted {wrong} in place of {right}"


@pytest.mark.parametrize("name", CONFIGS)
def test_less_precision_tolerates_tensorfloat_32_and_the_highest_does_not(name: str) -> None:
    case = solved(name, "float32")
    nearly = case.output * (1 + 2.0**-11)  # half a unit of TensorFloat-32's ten bits
    product_of_matrices = "dot" in case.workload.operations  # nothing else runs as TensorFloat-32
    assert not case.verify(nearly).ok
    assert case.verify(nearly, "high").ok == product_of_matrices
    assert case.verify(nearly, "default").ok == product_of_matrices


@pytest.mark.slow
@pytest.mark.parametrize("name", CONFIGS)
def test_each_variant_of_a_workload_gives_the_right_answer(name: str) -> None:
    for variant in set(type(small(name, "float32")).variants) - {"direct"}:  # which the other tests look at
        workload = small(name, "float32", variant=variant)
        inputs = workload.inputs(1)
        assert workload.verify(inputs, output_of(workload, inputs), "highest", run).ok


def test_a_loop_over_rows_has_its_work_in_the_loop() -> None:
    workload = small("matvec", "float32", variant="row_loop")
    assert workload.loops
    assert workload.operations & operations(program(workload, workload.inputs(0)), inside_loops=True)
    assert not small("matvec", "float32").loops
    assert not small("matvec", "float32", size=1, variant="row_loop").loops  # XLA has no loop of one trip


@pytest.mark.parametrize("name", CONFIGS)
def test_an_unknown_variant_is_refused_by_name(name: str) -> None:
    with pytest.raises(ValueError, match=r"`workload.variant` must be one of .*direct.*, got 'nonsense'"):
        small(name, "float32", variant="nonsense")


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in CONFIGS if name != "mlp_article"])
def test_the_smallest_size_works(name: str) -> None:
    workload = small(name, "float32", size=1)
    inputs = workload.inputs(0)
    assert workload.size == 1
    assert workload.verify(inputs, output_of(workload, inputs), "highest", run).ok
    assert workload.operations & operations(program(workload, inputs))


# --- seeded data -----------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", list(map(str, Dtype)))
def test_uniform_data_is_zero_mean_and_never_zero(dtype: str) -> None:
    values = uniform((250, 400), dtype, seed=0, stream=0)
    assert values.shape == (250, 400)
    assert values.dtype == jnp.dtype(dtype)
    exact = values.astype(np.float64)
    assert np.abs(exact).max() <= 1
    assert np.abs(exact).min() > 0
    assert abs(exact.mean()) < 5 / math.sqrt(3 * exact.size)  # five standard deviations
    assert exact.var() == pytest.approx(1 / 3, rel=0.02)


def test_uniform_data_is_of_odd_numbers_over_a_power_of_two() -> None:
    assert np.all((uniform((1000,), "float32", seed=0, stream=0).astype(np.float64) * 2**23) % 2 == 1)
    halves = uniform((1000,), "float64", seed=0, stream=0)
    assert np.all([int(math.ldexp(value, 52)) % 2 == 1 for value in halves])


@pytest.mark.parametrize("dtype", list(map(str, Dtype)))
def test_uniform_data_does_not_depend_on_how_much_of_it_is_made(dtype: str) -> None:
    whole = uniform((100_001,), dtype, seed=5, stream=0)  # several of the blocks that it is made in
    part = uniform((70_000,), dtype, seed=5, stream=0)
    assert whole[:70_000].tobytes() == part.tobytes()
    assert len(np.unique(uniform((100_000,), "float64", seed=5, stream=0))) == 100_000


def test_narrow_types_are_the_float32_data_rounded_once() -> None:
    wide = uniform((1000,), "float32", seed=0, stream=0)
    for dtype in ("bfloat16", "float16"):
        assert np.array_equal(wide.astype(jnp.dtype(dtype)), uniform((1000,), dtype, seed=0, stream=0))


def test_streams_of_one_seed_and_seeds_of_one_stream_differ() -> None:
    made = {uniform((64,), "float32", seed=s, stream=t).tobytes() for s in range(4) for t in range(4)}
    assert len(made) == 16


@pytest.mark.parametrize("shape", [(), (1,), (3, 5), (1 << 20,)])
def test_an_aligned_array_is_one_as_any_other(shape: tuple[int, ...]) -> None:
    for dtype in map(str, Dtype):
        array = aligned_empty(shape, dtype)
        array[...] = 1
        assert (array.shape, array.dtype) == (shape, jnp.dtype(dtype))
        assert array.ctypes.data % 64 == 0
        assert array.flags.c_contiguous


def test_an_elementwise_error_is_relative_to_the_terms(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(base, "_BLOCK", 4)
    a, b = np.full(10, 3.0), np.full(10, -3.0)  # they cancel
    assert elementwise_error(np.add, np.zeros(10), a, b) == 0
    assert elementwise_error(np.add, np.full(10, 0.6), a, b) == pytest.approx(0.1)
    wrong = np.zeros(10)
    wrong[9] = 6
    assert elementwise_error(np.add, wrong, a, b) == pytest.approx(math.sqrt(1 / 10))
    assert elementwise_error(np.add, wrong[:9], a, b) == 0


# --- each workload ---------------------------------------------------------------------------------


def test_the_article_s_matvec_has_its_true_result() -> None:
    # The article prints [17, 33]. Its second row is wrong: 3*5 + 4*6 = 39.
    a, x = np.array([[1, 2], [3, 4]], np.float32), np.array([5, 6], np.float32)
    assert run(matvec.direct, a, x).tolist() == [17, 39]
    assert matvec.reference(a, x).tolist() == [17, 39]


def test_the_article_s_dot_product_has_its_result() -> None:
    a, b = np.array([1, 2], np.float32), np.array([3, 4], np.float32)
    assert run(dot.direct, a, b) == 11
    assert dot.reference(a, b) == 11


@pytest.mark.parametrize("dtype", list(map(str, Dtype)))
@pytest.mark.parametrize("n", [1, 7, 4096])
def test_costs_are_those_of_the_formulas(n: int, dtype: str) -> None:
    size = itemsize(dtype)
    assert size == {"float32": 4, "float64": 8, "float16": 2, "bfloat16": 2}[dtype]
    product_cost = matvec.Matvec(size=n, dtype=dtype).cost()
    assert (product_cost.flops, product_cost.bytes) == (2 * n**2, (n**2 + 2 * n) * size)
    dot_cost = dot.Dot(size=n, dtype=dtype).cost()
    assert (dot_cost.flops, dot_cost.bytes) == (2 * n, (2 * n + 1) * size)
    square = matmul.Matmul(size=n, dtype=dtype)
    assert (square.cost().flops, square.cost().bytes) == (2 * n**3, 3 * n**2 * size)
    assert square.memory_bytes() == 3 * n**2 * size
    for parts in (1, 3):
        moved = Transfer(size=n, dtype=dtype, parts=parts)
        assert (moved.cost().flops, moved.cost().bytes) == (parts * n, 2 * parts * n * size)
        assert moved.memory_bytes() == 2 * parts * n * size
    for kind, vectors, flops in (("read", 1, 1), ("copy", 2, 1), ("triad", 3, 2)):
        passed = stream.Stream(size=n, dtype=dtype, kind=kind)
        assert (passed.cost().flops, passed.cost().bytes) == (flops * n, vectors * n * size)
        assert passed.memory_bytes() == vectors * n * size


def test_the_cost_of_a_training_step_is_its_matrix_products() -> None:
    net = mlp.Mlp(size=5, depth=2, batch=7, features=3)  # 3-5-5-1
    forward = 2 * 7 * (3 * 5 + 5 * 5 + 5 * 1)
    # Each product is made again for the weights' gradient and for the data's, but for the first layer's.
    assert net.cost().flops == 3 * forward - 2 * 7 * 3 * 5
    parameters = (3 + 1) * 5 + (5 + 1) * 5 + (5 + 1)
    assert net.cost().bytes == 6 * 4 * parameters + 7 * (3 + 1) * 4


def test_a_large_matrix_is_checked_on_rows_that_reach_from_the_first_to_the_last(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(matvec, "CHECKED_ELEMENTS", 40)
    workload = matvec.Matvec(size=20)
    inputs = workload.inputs(0)
    right = output_of(workload, inputs)
    assert "2 of 20 rows" in workload.verify(inputs, right, "highest", run).reference
    for row in (0, 19):
        wrong = right.copy()
        wrong[row] += 0.1
        assert not workload.verify(inputs, wrong, "highest", run).ok


@pytest.mark.parametrize("bound", ["CHECKED_ROWS", "CHECKED_FLOPS"])
def test_a_large_product_is_checked_on_rows_that_reach_from_the_first_to_the_last(
    monkeypatch: pytest.MonkeyPatch, bound: str
) -> None:
    monkeypatch.setattr(matmul, bound, 2 if bound == "CHECKED_ROWS" else 2 * 2 * 20 * 20)
    workload = matmul.Matmul(size=20)
    inputs = workload.inputs(0)
    right = output_of(workload, inputs)
    assert "2 of 20 rows" in workload.verify(inputs, right, "highest", run).reference
    assert workload.verify(inputs, right, "highest", run).ok
    for row in (0, 19):
        wrong = right.copy()
        wrong[row, 7] += 0.1
        assert not workload.verify(inputs, wrong, "highest", run).ok


def test_the_reference_of_a_product_is_the_same_in_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    a, b = np.arange(6.0).reshape(2, 3), np.arange(12.0).reshape(3, 4)
    assert matmul.reference(a, b).tolist() == (a @ b).tolist() == [[20, 23, 26, 29], [56, 68, 80, 92]]
    for block in (1, 8):
        monkeypatch.setattr(matmul, "_BLOCK", block)
        assert matmul.reference(a, b).tolist() == (a @ b).tolist()


@pytest.mark.parametrize("dtype", list(map(str, Dtype)))
def test_larger_products_and_sums_are_right_too(dtype: str) -> None:
    for workload in (
        small("matmul", dtype, size=300),
        small("stream-read", dtype, size=300_000),  # one sum
        small("stream-read", dtype, size=19 * stream.ROW),  # of rows, in two blocks of the reference
    ):
        inputs = workload.inputs(0)
        assert workload.verify(inputs, output_of(workload, inputs), "highest", run).ok


def test_a_transfer_s_answer_must_be_exact() -> None:
    case = solved("transfer", "float32")
    assert case.accuracy.relative_error == case.accuracy.tolerance == 0
    nearly = case.output[0].astype(np.float32)
    nearly[-1] = np.nextafter(nearly[-1], np.float32(2))
    assert not case.verify((nearly,)).ok


@pytest.mark.parametrize("wrong", [0.0, np.nan, np.inf])
def test_each_vector_of_a_transfer_is_checked(wrong: float) -> None:
    case = solved("transfer-parts", "float32")
    assert case.accuracy.ok
    for which in range(3):
        output = [vector.copy() for vector in case.output]
        output[which][1] = wrong
        assert not case.verify(tuple(output)).ok


# --- dependent steps -------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", list(map(str, Dtype)))
def test_many_steps_stay_bounded_and_right(dtype: str) -> None:
    workload = small("small_loop", dtype, steps=3000)
    inputs = workload.inputs(0)
    output = output_of(workload, inputs)
    assert workload.verify(inputs, output, "highest", run).ok
    assert 0.1 < np.abs(np.asarray(output, np.float64)).max() < 10


def test_the_cost_of_a_loop_is_that_of_all_its_steps() -> None:
    once, often = SmallLoop(size=5, steps=1).cost(), SmallLoop(size=5, steps=7).cost()
    assert once.flops == 2 * 5**3 + 5**2
    assert often.flops == 7 * once.flops
    assert often.bytes == once.bytes == 3 * 5 * 5 * 4 + 4


def test_a_step_too_few_is_a_wrong_answer() -> None:
    workload = small("small_loop", "float32", steps=5)
    inputs = workload.inputs(0)
    fewer = run(workload.function, *inputs[:2], np.int32(4))
    assert not workload.verify(inputs, fewer, "highest", run).ok


@pytest.mark.parametrize("value", [0, -1, 1.5, "two", True])
def test_steps_must_be_a_positive_whole_number(value: Any) -> None:
    with pytest.raises(ValueError, match=f"`workload.steps` must be a positive whole number, got {value!r}"):
        SmallLoop(size=4, steps=value)


# --- the article's fields --------------------------------------------------------------------------


def exact_conv(images: np.ndarray, kernel: np.ndarray) -> np.ndarray:
    """By the definition: the sum over a window, of which SAME puts the smaller half before a pixel."""
    side = len(kernel)
    before = (side - 1) // 2
    padded = np.pad(images, ((0, 0), (before, side - 1 - before), (before, side - 1 - before), (0, 0)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, (side, side), axis=(1, 2))
    return np.einsum("byxcij,ijco->byxo", windows, kernel)


@pytest.mark.parametrize("side", [1, 2, 3, 4, 7])
def test_the_reference_of_a_convolution_is_its_definition(side: int) -> None:
    rng = np.random.default_rng(0)
    images, kernel = rng.normal(size=(2, 5, 5, 3)), rng.normal(size=(side, side, 3, 3))
    mine = conv2d.reference(images, kernel, np.arange(10)).reshape(images.shape)
    np.testing.assert_allclose(mine, exact_conv(images, kernel), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(("n", "side"), [(1, 3), (2, 4), (5, 1), (5, 3), (5, 7)])
def test_the_cost_of_a_convolution_counts_no_points_beyond_the_edges(n: int, side: int) -> None:
    net = conv2d.Conv2d(size=n, batch=2, channels=3, kernel=side)
    counted = exact_conv(np.ones((2, n, n, 3)), np.ones((side, side, 3, 3))).sum()
    assert net.cost().flops == 2 * counted
    assert net.cost().source == "the plain sum"
    assert net.cost().bytes == net.memory_bytes() == 4 * (2 * 2 * n * n * 3 + side * side * 9)


def test_attention_weighs_values_by_the_softmax_of_scores() -> None:
    q, k, v = (np.random.default_rng(i).normal(size=(2, 5, 4)) for i in range(3))
    weights = np.exp(q @ k.transpose(0, 2, 1) / 2)
    exact = weights / weights.sum(axis=-1, keepdims=True) @ v
    rows = np.array([0, 7, 9])
    np.testing.assert_allclose(attention.reference(q, k, v, rows), exact.reshape(10, 4)[rows], rtol=1e-12)
    cost = attention.Attention(size=5, heads=2, width=4).cost()
    assert (cost.flops, cost.bytes) == (2 * 2 * (2 * 5 * 5 * 4), 4 * 2 * 5 * 4 * 4)


def test_attention_that_takes_the_mean_of_the_values_is_wrong() -> None:
    case = solved("attention", "bfloat16")
    mean = np.broadcast_to(case.inputs[2].astype(np.float64).mean(axis=1, keepdims=True), case.output.shape)
    assert not case.verify(mean).ok


@pytest.mark.parametrize("n", [1, 2, 7, 8])
def test_the_reference_of_a_transform_is_numpy_s(n: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fft, "_BLOCK", 20)
    x = np.random.default_rng(0).normal(size=(n, n))
    np.testing.assert_allclose(fft.reference(x, np.arange(n)), np.fft.rfft2(x), rtol=1e-12, atol=1e-12)


def test_a_transform_that_lost_its_imaginary_part_is_wrong() -> None:
    case = solved("fft", "float32")
    assert case.output.dtype == np.complex128
    assert not case.verify(case.output.real).ok
    assert not case.verify(case.output.conj()).ok


@pytest.mark.parametrize("name", ["fft", "heat"])
@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_halves_are_refused_where_nothing_comes_of_them(name: str, dtype: str) -> None:
    with pytest.raises(ValueError, match=f"`dtype` of {name} must be float32 or float64, got {dtype}"):
        small(name, dtype)


@pytest.mark.parametrize(("n", "steps"), [(1, 3), (2, 1), (9, 40), (5, 400)])
def test_the_closed_form_of_heat_is_what_stepping_gives(n: int, steps: int) -> None:
    first = u = np.random.default_rng(0).normal(size=(n, n))
    for _ in range(steps):
        p = np.pad(u, 1)
        around = p[:-2, 1:-1] + p[2:, 1:-1] + p[1:-1, :-2] + p[1:-1, 2:]
        u = u + heat.RATE * (around - 4 * u) + heat.HEAT
    np.testing.assert_allclose(heat.reference(first, steps), u, rtol=1e-12, atol=1e-13)


def test_the_closed_form_of_a_chain_is_what_stepping_gives() -> None:
    x, a, b = (np.random.default_rng(i).uniform(-1, 1, size=9) for i in range(3))
    stepped = x
    for _ in range(7):
        stepped = a * stepped + b
    np.testing.assert_allclose(chain.reference(x, a, b, 7), stepped, rtol=1e-12)


@pytest.mark.parametrize("name", ["chain", "heat"])
def test_steps_of_a_known_number_are_counted_and_checked(name: str) -> None:
    once, often = (small(name, "float32", steps=steps) for steps in (1, 5))
    assert (once.loops, often.loops) == (False, True)
    assert often.cost().flops == 5 * once.cost().flops
    assert often.cost().bytes == 5 * once.cost().bytes
    inputs = often.inputs(0)
    fewer = small(name, "float32", steps=4)
    assert not often.verify(inputs, output_of(fewer, inputs), "highest", run).ok
    assert once.verify(inputs, output_of(once, inputs), "highest", run).ok


@pytest.mark.parametrize("dtype", ["float32", "float64", "bfloat16", "float16"])
def test_very_many_sorted_numbers_are_checked_without_sorting(
    dtype: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sort, "SORTED_ELEMENTS", 5)
    monkeypatch.setattr(sort, "_BLOCK", 4)
    workload = small("sort", dtype)
    (x,) = inputs = workload.inputs(0)
    right = np.sort(x)

    def verify(output: np.ndarray) -> Accuracy:
        return workload.verify(inputs, output, "highest", run)

    assert verify(right).ok
    assert "order and elements" in str(verify(right).reference)
    swapped = right.copy()
    swapped[[3, 4]] = swapped[[4, 3]]  # where two blocks of the check meet
    doubled = right.copy()
    doubled[0] = doubled[1]
    lost = right.copy()
    lost[-1] = np.nan
    for wrong in (x, swapped, doubled, lost, np.zeros_like(x), right[:-1], right.astype(np.float32) * 2):
        assert not verify(wrong).ok


def test_sorting_has_no_flops_and_sorted_numbers_must_be_exact() -> None:
    case = solved("sort", "float32")
    assert (case.workload.cost().flops, case.workload.cost().bytes) == (0, 2 * 12 * 4)
    nearly = case.output.astype(np.float32)
    nearly[-1] = np.nextafter(nearly[-1], np.float32(2))
    assert not case.verify(nearly).ok


def test_sums_of_groups_are_those_of_their_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(group_sum, "_BLOCK", 2)
    values, keys = np.array([1, 2, 4, 8, 16], np.float32), np.array([0, 2, 0, 3, 2], np.int32)
    assert group_sum.reference(values, keys, 5).tolist() == [5, 0, 18, 8, 0]
    assert run(lambda v, k: group_sum.direct(v, k, 5), values, keys).tolist() == [5, 0, 18, 8, 0]
    workload = group_sum.GroupSum(size=7, dtype="bfloat16", groups=3)
    assert (workload.cost().flops, workload.cost().bytes) == (7, 7 * (2 + 4) + 3 * 4)


def test_halves_are_summed_in_float32() -> None:
    workload = small("group_sum", "bfloat16", size=5000, groups=1)
    inputs = workload.inputs(0)
    output = output_of(workload, inputs)
    assert output.dtype == np.float32
    assert workload.verify(inputs, output, "highest", run).ok


@pytest.mark.parametrize("below", [1, 7, 1 << 20])
def test_whole_numbers_are_below_their_end_and_all_there(below: int) -> None:
    found = whole_numbers(100_001, below, seed=3, stream=0)
    assert found.dtype == np.int32
    assert found.min() >= 0
    assert found.max() < below
    if below == 7:
        assert np.bincount(found) == pytest.approx(np.full(7, 100_001 / 7), rel=0.05)
    assert found[:70_000].tolist() == whole_numbers(70_000, below, seed=3, stream=0).tolist()


def test_rows_of_few_columns_are_a_matrix_that_is_not_square() -> None:
    workload = matvec.Matvec(size=3, columns=5)
    a, x = workload.inputs(0)
    assert (a.shape, x.shape) == ((3, 5), (5,))
    assert (workload.cost().flops, workload.cost().bytes) == (2 * 3 * 5, 4 * (15 + 5 + 3))
    assert workload.verify((a, x), a @ x, "highest", run).ok
    assert not workload.verify((a, x), a[:, :4] @ x[:4], "highest", run).ok
    assert matvec.Matvec(size=3).shape == (3, 3)


@pytest.mark.parametrize(
    ("name", "key"),
    [
        ("attention", "heads"),
        ("attention", "width"),
        ("chain", "steps"),
        ("conv2d", "batch"),
        ("conv2d", "channels"),
        ("conv2d", "kernel"),
        ("group_sum", "groups"),
        ("heat", "steps"),
        ("rows", "columns"),
    ],
)
def test_parameters_of_the_fields_must_be_positive_whole_numbers(name: str, key: str) -> None:
    for value in (0, -1, 1.5, "two", True):
        with pytest.raises(
            ValueError, match=f"`workload.{key}` must be a positive whole number, got {value!r}"
        ):
            small(name, "float32", **{key: value})


@pytest.mark.parametrize(
    ("name", "dtype", "size", "params"),
    [
        ("conv2d", "float32", 33, {"kernel": 4, "channels": 9}),
        ("attention", "float32", 300, {"heads": 2}),
        ("fft", "float64", 97, {}),
        ("heat", "float64", 200, {"steps": 300}),
        ("heat", "float32", 20, {"steps": 3000}),
        ("group_sum", "float32", 200_000, {"groups": 10}),
        ("chain", "bfloat16", 1000, {"steps": 5000}),
        ("sort", "float32", 10_000, {}),
    ],
)
def test_larger_sizes_of_the_fields_are_right_too(
    name: str, dtype: str, size: int, params: dict[str, int]
) -> None:
    workload = small(name, dtype, size=size, **params)
    inputs = workload.inputs(0)
    accuracy = workload.verify(inputs, output_of(workload, inputs), "highest", run)
    assert accuracy.ok, accuracy


# --- passes over memory ----------------------------------------------------------------------------

KINDS = {"stream-read": "read", "stream-copy": "copy", "stream": "triad"}
WRITING = ["stream-copy", "stream"]


def test_each_kind_of_pass_computes_what_it_says() -> None:
    a, b, c = (np.array(values, np.float32) for values in ([1, 2], [5, -7], [10, 20]))
    assert run(stream.read, b).tolist() == [-2]
    rows = np.arange(2 * stream.ROW, dtype=np.float32)
    assert run(stream.read, rows).tolist() == rows.reshape(2, -1).astype(np.float64).sum(axis=1).tolist()
    written, first = run(stream.copy, a, b)
    assert (written.tolist(), float(first)) == ([-5, 7], -5)
    written, first = run(stream.triad, a, b, c)
    assert (written.tolist(), float(first)) == ([35, 53], 35)


def test_the_kind_of_a_pass_decides_whether_it_carries() -> None:
    assert {kind: small(name, "float32").carries for name, kind in KINDS.items()} == {
        "read": False,
        "copy": True,
        "triad": True,
    }


@pytest.mark.parametrize("kind", ["scale", "", None, ["copy"]])
def test_an_unknown_kind_of_pass_is_refused_by_name(kind: Any) -> None:
    with pytest.raises(ValueError, match=r"`workload.kind` must be one of read, copy, triad, got ") as caught:
        stream.Stream(size=4, kind=kind)
    assert str(caught.value).endswith(f"got {kind!r}")


@pytest.mark.parametrize("name", WRITING)
def test_a_pass_writes_over_its_first_vector_and_makes_no_copy(name: str) -> None:
    workload = small(name, "float32", size=100_000)
    carry, *rest = jax.device_put(workload.inputs(0))
    compiled, _ = compile_function(workload.function, (carry, *rest), "highest", carries=True)
    vector_bytes, memory = 4 * workload.size, compiled.memory_analysis()
    assert memory.argument_size_in_bytes == workload.memory_bytes()  # the first one is not dropped as unread
    assert memory.alias_size_in_bytes == vector_bytes
    assert memory.temp_size_in_bytes < vector_bytes
    assert "copy" not in operations(compiled.as_text())
    carry, _ = compiled(carry, *rest)  # the first one is NumPy's memory, which JAX does not write to
    where = carry.unsafe_buffer_pointer()
    after, _ = compiled(carry, *rest)
    assert carry.is_deleted()
    assert after.unsafe_buffer_pointer() == where
    assert not any(vector.is_deleted() for vector in rest)


@pytest.mark.parametrize("name", WRITING)
def test_a_loop_over_passes_makes_no_copy_of_a_vector(name: str) -> None:
    workload = small(name, "float32", size=100_000)
    assert "copy" not in operations(repeated(workload, workload.inputs(0)), inside_loops=True)


@pytest.mark.parametrize("name", WRITING)
def test_no_element_stands_in_for_a_vector_that_the_next_pass_writes_over(name: str) -> None:
    # For a loop that puts several calls into a trip. A GPU's compiler heeds it until all is fused.
    workload = small(name, "float32")
    lowered = jax.jit(workload.function).lower(*workload.inputs(0)).as_text()
    barrier, element = lowered.index("optimization_barrier"), lowered.index("stablehlo.slice")
    assert barrier < element


@pytest.mark.parametrize("name", WRITING)
def test_thousands_of_passes_give_what_one_gives(name: str) -> None:
    workload = small(name, "float16")
    carry, *rest = jax.device_put(workload.inputs(0))
    compiled, _ = compile_function(workload.function, (carry, *rest), "highest", carries=True)
    carry, _ = compiled(carry, *rest)
    once = np.asarray(carry).tobytes()
    for _ in range(3000):
        carry, _ = compiled(carry, *rest)
    assert np.asarray(carry).tobytes() == once


@pytest.mark.parametrize("name", WRITING)
@pytest.mark.parametrize("wrong", [0.0, np.nan, np.inf])
def test_a_wrong_vector_is_rejected_though_its_first_element_is_right(name: str, wrong: float) -> None:
    case = solved(name, "float32")

    def run_wrong(function: Callable[..., Any], *arguments: Any) -> Any:
        written, first = case.run(function, *arguments)
        changed = written.copy()
        changed[-1] = wrong
        return changed, first

    assert case.accuracy.ok
    assert not case.workload.verify(case.inputs, case.output, "highest", run_wrong).ok


@pytest.mark.parametrize("name", WRITING)
def test_of_a_very_large_vector_the_beginning_is_checked(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setattr(stream, "CHECKED_ELEMENTS", 5)
    workload = small(name, "float32")
    inputs = workload.inputs(0)
    accuracy = workload.verify(inputs, output_of(workload, inputs), "highest", run)
    assert accuracy.ok
    assert accuracy.reference == "NumPy float64, 5 of 12 elements"


# --- training steps --------------------------------------------------------------------------------


@pytest.mark.slow
def test_hand_written_backpropagation_agrees_with_jax_grad() -> None:
    jax.config.update("jax_enable_x64", True)
    widths, rows = (4, 6, 5, 1), 9
    rng = np.random.default_rng(0)
    kernels = [rng.normal(size=shape) for shape in pairwise(widths)]
    biases = [rng.normal(size=n) for n in widths[1:]]
    x, y = rng.normal(size=(rows, 4)), (rng.random(rows) > 0.5).astype(np.float64)

    def layers(kernels: list[Any]) -> list[Any]:
        outputs, acts = [], x
        for kernel, bias in zip(kernels, biases, strict=True):
            outputs.append(acts @ kernel + bias)
            acts = jnp.maximum(outputs[-1], 0)
        return outputs

    def loss(kernels: list[Any]) -> Any:
        p = jax.nn.sigmoid(layers(kernels)[-1][:, 0])
        return -jnp.mean(y * jnp.log(p) + (1 - y) * jnp.log(1 - p))

    active = [np.asarray(layer) > 0 for layer in layers(kernels)[:-1]]
    assert any(on.any() and not on.all() for on in active)
    found, gradients, outputs = mlp.reference(kernels, biases, x, y, active)
    assert found == pytest.approx(float(loss(kernels)), rel=1e-12)
    for mine, theirs in zip(gradients, jax.grad(loss)(kernels), strict=True):
        np.testing.assert_allclose(mine, theirs, rtol=1e-10, atol=1e-14)
    for mine, theirs in zip(outputs, layers(kernels), strict=True):
        np.testing.assert_allclose(mine, theirs, rtol=1e-12)


@pytest.mark.parametrize("name", ["mlp", "mlp_article"])
def test_wrong_gradients_are_rejected_though_the_loss_is_right(name: str) -> None:
    case = solved(name, "float32")

    def wrong(function: Callable[..., Any], *arguments: Any) -> Any:
        loss, gradients, layers = case.run(function, *arguments)
        kernel = next(i for i, leaf in enumerate(gradients) if leaf.ndim == 2)
        changed = [leaf * np.float32(1.001) if i == kernel else leaf for i, leaf in enumerate(gradients)]
        return loss, changed, layers

    assert case.accuracy.ok
    assert not case.workload.verify(case.inputs, case.output, "highest", wrong).ok


@pytest.mark.parametrize("name", ["mlp", "mlp_article"])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_training_lowers_the_loss(name: str, dtype: str) -> None:
    workload = small(name, dtype)
    carry, *rest = jax.device_put(workload.inputs(0))
    compiled, _ = compile_function(workload.function, (carry, *rest), "highest", carries=True)
    losses = []
    for _ in range(50):
        carry, loss = compiled(carry, *rest)
        losses.append(float(loss))
    assert losses[0] == pytest.approx(math.log(2), abs=0.5)  # of a coin, at the start
    assert losses[-1] < losses[0] - 0.01
    assert sum(later < earlier for earlier, later in pairwise(losses)) > 40


def test_a_training_step_takes_over_the_buffers_of_the_one_before() -> None:
    workload = small("mlp", "float32")
    carry, *rest = jax.device_put(workload.inputs(0))
    compiled, _ = compile_function(workload.function, (carry, *rest), "highest", carries=True)
    after, _ = compiled(carry, *rest)
    assert all(leaf.is_deleted() for leaf in carry)
    assert not any(leaf.is_deleted() for leaf in jax.tree.leaves((after, rest)))
    assert [(leaf.shape, leaf.dtype) for leaf in after] == [(leaf.shape, leaf.dtype) for leaf in carry]


def test_parameters_and_moments_stay_float32_whatever_the_layers_compute_in() -> None:
    for dtype in map(str, Dtype):
        leaves, x, y = small("mlp", dtype).inputs(0)
        assert {str(leaf.dtype) for leaf in leaves if leaf.ndim} == {"float32"}
        assert (x.dtype, y.dtype) == (jnp.dtype(dtype), np.float32)


@pytest.mark.slow
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_steps_in_a_scan_are_those_of_as_many_calls(dtype: str) -> None:
    one, many = small("mlp", dtype), small("mlp", dtype, variant="scan", steps=3)
    inputs = many.inputs(0)
    losses = output_of(many, inputs)
    carry, *rest = inputs
    singles = []
    for _ in range(3):
        carry, loss = run(one.function, carry, *rest)
        singles.append(float(loss))
    assert losses.shape == (3,)
    assert losses == pytest.approx(singles, rel=1e-2 if dtype == "bfloat16" else 1e-5)
    assert many.verify(inputs, losses, "highest", run).ok
    assert many.operations & operations(program(many, inputs), inside_loops=True)


@pytest.mark.slow
def test_a_scan_that_makes_the_first_step_again_and_again_is_rejected() -> None:
    many = small("mlp", "float32", variant="scan", steps=3)
    inputs = many.inputs(0)
    losses = np.array(output_of(many, inputs))
    for wrong in (np.full(3, losses[0]), losses * np.array([1, 1, np.nan]), losses * 1.001):
        assert not many.verify(inputs, wrong, "highest", run).ok


def test_several_steps_cost_as_much_as_they_do_one_by_one_and_say_how_many() -> None:
    for name in ("mlp", "mlp_article"):
        one, many = small(name, "float32"), small(name, "float32", variant="scan", steps=5)
        assert (one.cost().steps, many.cost().steps) == (1, 5)
        assert many.cost().flops == 5 * one.cost().flops
        assert many.cost().bytes == 5 * one.cost().bytes
        assert (one.loops, small(name, "float32", variant="scan", steps=1).loops, many.loops) == (
            False,
            False,
            True,
        )


def test_several_steps_a_call_are_not_of_the_direct_variant() -> None:
    with pytest.raises(ValueError, match=r"`workload.steps` above 1 needs workload.variant=scan, got 5"):
        mlp.Mlp(size=4, steps=5)
    assert mlp.Mlp(size=4, steps=1).cost() == mlp.Mlp(size=4).cost()


@pytest.mark.parametrize("key", ["depth", "batch", "features", "steps"])
@pytest.mark.parametrize("value", [0, -1, 1.5, "two", True])
def test_counts_of_the_mlp_must_be_positive_whole_numbers(key: str, value: Any) -> None:
    with pytest.raises(ValueError, match=f"`workload.{key}` must be a positive whole number, got {value!r}"):
        mlp.Mlp(size=4, **{key: value})


# --- the article's network -------------------------------------------------------------------------


def test_the_article_s_network_is_10_50_1_with_batches_of_32() -> None:
    net = MlpArticle(size=50)
    assert net.widths == (10, 50, 1)
    assert net.batch == 32
    _, x, y = net.inputs(0)
    assert (x.shape, y.shape) == ((32, 10), (32,))


def test_the_article_s_data_are_standardised_over_all_569_samples() -> None:
    x, y = breast_cancer()
    assert (x.shape, y.shape) == ((569, 10), (569,))
    np.testing.assert_allclose(x.mean(axis=0, dtype=np.float64), 0, atol=1e-6)
    np.testing.assert_allclose(x.std(axis=0, dtype=np.float64), 1, atol=1e-6)
    assert set(y.tolist()) == {0.0, 1.0}
    assert int(y.sum()) == 357  # benign ones, as the data set is documented


def test_the_article_s_batch_is_drawn_without_replacement_from_the_data() -> None:
    x, y = breast_cancer()
    everyone = {(*row, label) for row, label in zip(x.tolist(), y.tolist(), strict=True)}
    chosen_x, chosen_y = MlpArticle(size=50).data(0)
    chosen = {(*row, label) for row, label in zip(chosen_x.tolist(), chosen_y.tolist(), strict=True)}
    assert len(chosen) == 32
    assert chosen <= everyone
    whole_x, _ = MlpArticle(size=50, batch=569).data(0)
    assert sorted(whole_x.tolist()) == sorted(x.tolist())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"size": 60}, "`size` of mlp_article is fixed at 50, got 60"),
        ({"size": 50, "batch": 570}, "`workload.batch` must be at most 569.*got 570"),
        ({"size": 50, "batch": 0}, "`workload.batch` must be a positive whole number, got 0"),
        ({"size": 50, "depth": 2}, "fixed at 10-50-1"),
        ({"size": 50, "features": 4}, "fixed at 10-50-1"),
    ],
)
def test_what_the_article_fixes_is_refused_otherwise(arguments: dict[str, int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        MlpArticle(**arguments)

"""Functions of a user's own: found by name, measured like any workload, and wrong in many ways."""

import io
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest
import wrong_code
from fakes import patiently
from processes import QUICK, ROOT, SUPPORT, RunCli, settings

from jaxaccel.cli.identify import sources
from jaxaccel.records import Arm, ArmFacts, Case, Metric, Problem
from jaxaccel.records.messages import (
    Failure,
    Inspected,
    Open,
    Opened,
    Unavailable,
    decode_message,
    encode_message,
)
from jaxaccel.worker import __main__ as worker_main
from jaxaccel.worker.arm import ANSWER, OPERATIONS, OpenArm
from jaxaccel.worker.problems import CAPTURED, NOT_TRACEABLE, describe
from jaxaccel.worker.program import ARGUMENTS, compile_function
from jaxaccel.worker.transfer import NOTHING_BACK
from jaxaccel.workloads.answer import compare, default_tolerance
from jaxaccel.workloads.custom import Custom
from jaxaccel.workloads.importing import BadCodeError
from jaxaccel.workloads.own import split

TARGET = "jaxaccel.workloads.custom:Custom"
VECTORS = "wrong_code:pair_of_vectors"

OWN = {
    "attention": ("own_code.attention:loss_and_gradients", 16, {}),
    "training": ("own_code.training:step", 32, {"carry": True}),
    "training alone": ("own_code.training:step_alone", 32, {"carry": True}),
    "minimise": ("own_code.minimise:solve", 16, {"reference": "own_code.minimise:exact"}),
    "ode": ("own_code.ode:advance", 64, {"static": [2]}),
}


@pytest.fixture(autouse=True)
def width() -> Iterator[None]:
    wrong_code.kept.clear()
    yield
    jax.config.update("jax_enable_x64", False)


def case(params: dict[str, Any], *, size: int = 1, dtype: str = "float32", seed: int = 0) -> Case:
    return Case(
        workload="custom",
        size=size,
        dtype=dtype,
        precision="highest",
        variant="direct",
        params=params,
        seed=seed,
    )


def open_custom(
    fn: str | None,
    args: str | None = VECTORS,
    *,
    metrics: tuple[Metric, ...] = (Metric.latency, Metric.throughput),
    **params: Any,
) -> OpenArm:
    size, dtype, seed = params.pop("size", 1), params.pop("dtype", "float32"), params.pop("seed", 0)
    if size == 1 and args == VECTORS:
        size = 8
    found = case({"fn": fn, "args": args, **params}, size=size, dtype=dtype, seed=seed)
    return OpenArm(
        Arm(case=found, device="cpu", target=TARGET), jax.devices()[0], ArmFacts(requested="cpu"), {}, metrics
    )


def open_own(name: str, *, metrics: tuple[Metric, ...] = (Metric.latency,), **more: Any) -> OpenArm:
    fn, size, params = OWN[name]
    args = f"{fn.partition(':')[0]}:make_args"
    return open_custom(fn, args, **{"size": size, "metrics": metrics, **params, **more})


def refused(fn: str | None, args: str | None = VECTORS, **params: Any) -> Failure:
    """What a worker answers: by its own edge, where an exception becomes a message."""
    size = params.pop("size", 8 if args == VECTORS else 1)
    arm = Arm(case=case({"fn": fn, "args": args, **params}, size=size), device="cpu", target=TARGET)
    requests, replies = io.BytesIO(encode_message(Open(key="a", arm=arm))), io.BytesIO()
    worker_main.serve(requests, replies, jax.devices()[0], ArmFacts(requested="cpu"))
    (answer,) = map(decode_message, replies.getvalue().splitlines())
    assert isinstance(answer, Failure), answer
    return answer


# --- measured --------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(OWN.keys() - {"attention"}))  # which takes long to compile
def test_code_of_all_kinds_is_measured_by_all_metrics(name: str) -> None:
    arm = open_own(name, metrics=tuple(Metric))
    for metric in (
        Metric.latency,
        Metric.throughput,
        Metric.device,
        Metric.end_to_end,
        Metric.h2d,
        Metric.d2h,
    ):
        if metric is Metric.device:
            found = arm.round(metric)
            # Of little work, a compiler sees through the loop, and noise may hide the slope.
            assert isinstance(found, Unavailable) or found.depth >= 1
        elif metric is Metric.d2h and name == "training alone":
            assert arm.round(metric) == Unavailable(reason=NOTHING_BACK)
        else:
            assert patiently(lambda metric=metric: arm.round(metric)).samples_s
    assert isinstance(arm.inspect(0.0), Inspected)
    assert arm.facts.invariants[ARGUMENTS] == "passed"
    assert arm.facts.invariants[OPERATIONS].startswith("skipped: ")
    assert arm.facts.memory.predicted_bytes > 0


@pytest.mark.slow
@pytest.mark.parametrize(("name", "dtype"), [("training", "bfloat16"), ("minimise", "float64")])
def test_code_is_measured_in_other_types(name: str, dtype: str) -> None:
    arm = open_own(name, dtype=dtype)
    assert arm.facts.accuracy.ok is not False


@pytest.mark.slow
def test_size_key_and_dtype_come_to_those_who_ask_for_them() -> None:
    made = {
        (size, seed): Custom(
            size=size, fn="own_code.ode:advance", args="own_code.ode:make_args", static=[2]
        ).inputs(seed)
        for size in (4, 6)
        for seed in (0, 1)
    }
    assert made[4, 0][0].shape == (4, 3)
    assert made[6, 0][0].shape == (6, 3)
    assert not np.array_equal(made[4, 0][0], made[4, 1][0])
    assert all(type(leaf) is np.ndarray for leaf in jax.tree.leaves(made[4, 0]))
    assert all(leaf.ctypes.data % 64 == 0 for leaf in jax.tree.leaves(made[4, 0]))


@pytest.mark.slow
def test_a_single_argument_need_not_be_a_tuple() -> None:
    arm = open_custom("jax.numpy:tanh", "wrong_code:one_vector")
    assert arm.facts.memory.arguments_bytes == 8 * 4


@pytest.mark.slow
def test_a_random_key_is_one_inside_of_the_function_and_numbers_outside() -> None:
    workload = Custom(size=1, fn="wrong_code:random_of_key", args=f"{__name__}:key_and_vector")
    data, x = workload.inputs(0)
    assert (type(data), data.dtype) == (np.ndarray, np.uint32)
    output = jax.jit(workload.function)(data, x)
    expected = x + jax.random.normal(jax.random.key(7), x.shape)
    np.testing.assert_allclose(output, expected, rtol=1e-6)
    assert open_custom("wrong_code:random_of_key", f"{__name__}:key_and_vector").facts.cost.flops is not None


def key_and_vector() -> Any:
    return jax.random.key(7), np.ones(5, np.float32)


def split_and_draw(key: Any, x: Any) -> Any:
    key, now = jax.random.split(key)
    return key, x + jax.random.normal(now, x.shape)


@pytest.mark.slow
def test_a_random_key_can_be_the_carry() -> None:
    arm = open_custom(f"{__name__}:split_and_draw", f"{__name__}:key_and_vector", carry=True)
    assert patiently(lambda: arm.round(Metric.latency)).samples_s


def numbers() -> Any:
    return jnp.ones(4, jnp.bfloat16), 0.5, 3


@pytest.mark.slow
def test_a_python_number_takes_the_type_of_what_it_meets_as_it_does_in_jax() -> None:
    workload = Custom(size=1, fn=f"{__name__}:weigh", args=f"{__name__}:numbers")
    inputs = workload.inputs(0)
    assert [leaf.dtype.name for leaf in inputs] == ["bfloat16", "float32", "int32"]
    assert jax.jit(workload.function)(*inputs).dtype == jnp.bfloat16


def weigh(x: Any, rate: Any, count: Any) -> Any:
    return x * rate + count


@pytest.mark.slow
def test_a_carry_is_donated_and_goes_on() -> None:
    workload = Custom(size=16, fn="own_code.training:step", args="own_code.training:make_args", carry=True)
    carry, *batch = jax.device_put(workload.inputs(0))
    compiled, _ = compile_function(
        workload.function, (carry, *batch), "highest", carries=True, how=workload.compiling
    )
    losses = []
    for _ in range(20):
        before = carry
        carry, (loss,) = compiled(carry, *batch)
        losses.append(float(loss))
    assert all(leaf.is_deleted() for leaf in jax.tree.leaves(before) if leaf.ndim)
    assert losses[-1] < losses[0]


@pytest.mark.slow
def test_a_carry_alone_has_no_output_beside_it_and_all_of_it_is_checked() -> None:
    workload = Custom(
        size=16, fn="own_code.training:step_alone", args="own_code.training:make_args", carry=True
    )
    inputs = workload.inputs(0)
    result = jax.jit(workload.function)(*inputs)
    assert result[1] == []
    answer = jax.tree.leaves(workload.answer(result))
    assert sorted(leaf.shape for leaf in answer) == sorted(leaf.shape for leaf in inputs[0])


# --- what it must do -------------------------------------------------------------------------------


@pytest.mark.slow
def test_flops_and_bytes_are_xla_s_where_nobody_declares_them() -> None:
    cost = open_custom("wrong_code:good").facts.cost
    assert (cost.flops, cost.source) == (16.0, "XLA")  # a product and a sum of eight
    assert cost.bytes is not None
    assert cost.bytes >= 3 * 8 * 4


@pytest.mark.slow
def test_what_is_declared_is_taken_and_the_rest_is_counted() -> None:
    both = open_custom("wrong_code:good", flops=100, bytes=200.0).facts.cost
    assert (both.flops, both.bytes, both.source) == (100, 200.0, "declared")
    one = open_custom("wrong_code:good", flops=100).facts.cost
    assert (one.flops, one.source) == (100, "XLA, FLOPs declared")


@pytest.mark.slow
def test_a_loop_whose_body_is_counted_once_is_said() -> None:
    facts = open_own("minimise").facts
    assert facts.cost.source == "XLA, loops once"
    (flag,) = [flag for flag in facts.warnings if flag.name == "loop counted once"]
    assert "workload.flops" in flag.message
    assert not [flag for flag in open_own("ode").facts.warnings if flag.name == "loop counted once"]


def invert(x: Any) -> Any:
    return jnp.linalg.inv(x)


def make_matrix() -> Any:
    return np.eye(8, dtype=np.float32) + 0.1


@pytest.mark.slow
def test_what_a_library_does_is_not_counted_and_that_is_said() -> None:
    facts = open_custom(f"{__name__}:invert", f"{__name__}:make_matrix").facts
    assert facts.cost.flops is None
    assert "lapack" in facts.absent["cost.flops"]
    assert "workload.flops" in facts.absent["cost.flops"]
    assert facts.cost.bytes


def noisy(x: Any, key: Any) -> Any:
    return x + jax.random.normal(key, x.shape)


def make_noise(key: Any) -> Any:
    return np.ones(8, np.float32), key


@pytest.mark.slow
def test_a_loop_of_jax_s_own_making_is_none_of_the_program_s() -> None:
    facts = open_custom(f"{__name__}:noisy", f"{__name__}:make_noise").facts
    assert not [flag for flag in facts.warnings if flag.name == "loop counted once"]


@pytest.mark.slow
def test_where_xla_has_no_count_the_cost_is_unknown_with_its_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("jaxaccel.worker.estimate._count", lambda *_: None)
    facts = open_custom("wrong_code:good").facts
    assert (facts.cost.flops, facts.cost.bytes) == (None, None)
    assert "workload.flops" in facts.absent["cost.flops"]
    assert "workload.bytes" in facts.absent["cost.bytes"]


# --- the answer ------------------------------------------------------------------------------------


@pytest.mark.slow
def test_without_a_reference_the_answer_is_unchecked_and_has_a_sketch() -> None:
    facts = open_custom("wrong_code:good").facts
    assert (facts.accuracy.relative_error, facts.accuracy.ok, facts.accuracy.reference) == (None, None, None)
    assert facts.invariants[ANSWER].startswith("skipped: ")
    assert "unchecked" in facts.absent["accuracy.relative_error"]
    (leaf,) = facts.accuracy.sketch
    assert (leaf.shape, leaf.dtype, len(leaf.projections)) == ((8,), "float32", 16)


@pytest.mark.slow
def test_an_answer_is_held_against_the_reference() -> None:
    accuracy = open_custom("wrong_code:good", reference="wrong_code:right").facts.accuracy
    assert accuracy.ok
    assert accuracy.reference == "wrong_code:right"
    assert accuracy.relative_error is not None
    assert (
        accuracy.relative_error <= accuracy.tolerance == default_tolerance(np.float32, "float32", "highest")
    )


@pytest.mark.slow
def test_a_reference_sees_the_carry_and_the_output() -> None:
    arm = open_custom(f"{__name__}:counting", VECTORS, carry=True, reference=f"{__name__}:counted")
    assert arm.facts.accuracy.ok


def counting(x: Any, y: Any) -> Any:
    return x + y, jnp.sum(x)


def counted(x: Any, y: Any) -> Any:
    assert type(x) is np.ndarray
    return x + y, x.sum()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("reference", "words"),
    [
        ("wrong_code:wrong", "the output differs from wrong_code:wrong by 1"),
        ("wrong_code:of_another_shape", "gives arrays of shape (3,), and the function of (8,)"),
    ],
)
def test_a_wrong_answer_is_not_measured(reference: str, words: str) -> None:
    failure = refused("wrong_code:good", reference=reference)
    assert words in failure.error.message


@pytest.mark.slow
def test_a_tolerance_may_be_asked_for() -> None:
    assert open_custom("wrong_code:good", reference="wrong_code:wrong", tolerance=0.1).facts.accuracy.ok


@pytest.mark.slow
def test_an_output_that_is_not_finite_is_wrong_with_a_reference_and_flagged_without() -> None:
    failure = refused("wrong_code:not_a_number", reference="wrong_code:right")
    assert failure.error.type == ANSWER
    assert "not finite" in failure.error.message
    (flag,) = [f for f in open_custom("wrong_code:not_a_number").facts.warnings if f.name == "not finite"]
    assert "8 of 8 elements" in flag.message


# --- wrong -----------------------------------------------------------------------------------------

GOOD = "wrong_code:good"
WRONG: dict[str, tuple[dict[str, Any], list[str]]] = {
    "no function": ({"fn": None}, ["`workload.fn` must be given", "package.module:function"]),
    "no arguments": ({"fn": GOOD, "args": None}, ["`workload.args` must be given"]),
    "no colon": (
        {"fn": "wrong_code.good"},
        [
            "`workload.fn` must be FILE.py:function or package.module",
            "did you mean wrong_code:good?",
        ],
    ),
    "two colons": ({"fn": "wrong_code:good:x"}, ["package.module:function"]),
    "no text": ({"fn": 3}, ["package.module:function, got 3"]),
    "no module": ({"fn": "rong_code:good"}, ["no module 'rong_code'"]),
    "no package": ({"fn": "nowhere.at.all:good"}, ["no module 'nowhere'"]),
    "its import": (
        {"fn": "broken_import:f"},
        ["broken_import needs the module 'a_package_that_is_not_there'"],
    ),
    "its module": ({"fn": "broken_module:f"}, ["importing broken_module failed with KeyError: 'missing'"]),
    "no such name": ({"fn": "wrong_code:goood"}, ["wrong_code has no 'goood'; did you mean good?"]),
    "a class": ({"fn": "wrong_code:Model"}, ["which is a class"]),
    "a number": ({"fn": "wrong_code:A_NUMBER"}, ["must name a function", "which is a int"]),
    "arguments of a number": (
        {"fn": GOOD, "args": "wrong_code:A_NUMBER"},
        ["`workload.args` must name a function"],
    ),
    "too few": ({"fn": GOOD, "args": "wrong_code:one_vector"}, ["gives 1 argument,", "takes (x, y)", "'y'"]),
    "an unknown wish": ({"fn": GOOD, "args": "wrong_code:wants_n"}, ["size, key, dtype", "needs 'n'"]),
    "no size": ({"fn": GOOD, "args": "wrong_code:with_text", "size": 4}, ["`size`=4", "takes no `size`"]),
    "a text": ({"fn": GOOD, "args": "wrong_code:with_text"}, ["argument 1 is a str", "`workload.static`"]),
    "objects": ({"fn": GOOD, "args": "wrong_code:with_objects"}, ["argument 1 is an array of object"]),
    "no arrays": ({"fn": GOOD, "args": "wrong_code:without_arrays"}, ["gives no arrays"]),
    "static beyond": ({"fn": GOOD, "static": [2]}, ["no position 2", "2 arguments"]),
    "static not hashable": (
        {"fn": "wrong_code:scaled", "args": "wrong_code:with_a_list", "static": [1]},
        ["a list"],
    ),
    "static no list": ({"fn": GOOD, "static": 1}, ["list of positions", "got 1"]),
    "static twice": ({"fn": GOOD, "static": [1, 1]}, ["list of positions"]),
    "static negative": ({"fn": GOOD, "static": [-1]}, ["list of positions"]),
    "static carry": ({"fn": GOOD, "static": [0], "carry": True}, ["can't be static"]),
    "carry no truth": (
        {"fn": GOOD, "carry": "maybe"},
        ["`workload.carry` must be true or false, got 'maybe'"],
    ),
    "carry type": (
        {"fn": "wrong_code:carry_of_another_type", "carry": True},
        ["came in as float32[8] and back as float16[8]"],
    ),
    "carry shape": (
        {"fn": "wrong_code:carry_of_another_shape", "carry": True},
        ["came in as float32[8] and back as float32[16]"],
    ),
    "carry structure": (
        {"fn": "wrong_code:carry_of_another_structure", "carry": True},
        ["another structure: * came in, {'x': *} came back"],
    ),
    "carry no output": ({"fn": "wrong_code:carry_without_output", "carry": True}, ["no array in its output"]),
    "returns nothing": ({"fn": "wrong_code:nothing"}, ["returns no arrays"]),
    "draws": ({"fn": "wrong_code:draws"}, ["another program each time", "without a key"]),
    "no reference": (
        {"fn": GOOD, "reference": "wrong_code:nowhere"},
        ["`workload.reference`", "no 'nowhere'"],
    ),
    "tolerance": (
        {"fn": GOOD, "tolerance": -1},
        ["`workload.tolerance` must be a number of at least 0, got -1"],
    ),
    "flops": ({"fn": GOOD, "flops": "many"}, ["`workload.flops` must be a number"]),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", WRONG)
def test_what_is_wrong_is_refused_in_one_line(name: str) -> None:
    params, words = WRONG[name]
    failure = refused(**params)
    assert failure.refused, failure.error.details
    for word in words:
        assert word in failure.error.message, failure.error.message
    assert "\n" not in failure.error.message


FAILING: dict[str, tuple[dict[str, Any], str, str | None, str | None]] = {
    "branches": ({"fn": "wrong_code:branches"}, "boolean conversion", NOT_TRACEABLE, "if x[0] > 0:"),
    "numpy": ({"fn": "wrong_code:helper_of_numpy"}, "array", NOT_TRACEABLE, "np.linalg.norm(x)"),
    "captures": ({"fn": "wrong_code:captures"}, "captured an array of shape (600, 600)", CAPTURED, None),
    "no arguments made": ({"fn": GOOD, "args": "wrong_code:fails_to_make"}, "y", None, '{"x": 1}["y"]'),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", FAILING)
def test_what_fails_in_the_user_s_code_shows_where(name: str) -> None:
    params, words, hint, line = FAILING[name]
    failure = refused(**params)
    assert not failure.refused
    assert words in failure.error.message
    assert failure.error.hint == hint
    if line is None:
        assert failure.error.traceback is None
        return
    assert failure.error.traceback is not None
    assert line in failure.error.traceback
    assert "wrong_code.py" in failure.error.traceback
    assert not [
        part for part in ("jaxaccel/", "jax/_src", "site-packages") if part in failure.error.traceback
    ]


def test_an_import_that_fails_shows_where() -> None:
    failure = refused("broken_module:f")
    assert failure.error.traceback is not None
    assert 'LOOKED_UP = {}["missing"]' in failure.error.traceback


@pytest.mark.slow
def test_a_jitted_function_with_a_side_effect_is_refused_too() -> None:
    failure = refused("wrong_code:random_and_jitted")
    assert "another program each time" in failure.error.message


def test_a_tolerance_of_nothing_is_one() -> None:
    output, other = {"y": np.float32([1, 2])}, {"y": np.float32([1, 2.001])}
    rules: dict[str, Any] = {"case_dtype": "float32", "precision": "highest", "name": "reference"}
    assert compare(output, other, tolerance=0.01, **rules).ok
    assert not compare(output, other, tolerance=0.0, **rules).ok
    assert compare(output, output, tolerance=0.0, **rules).ok


def test_an_array_that_is_zero_but_for_rounding_is_not_wrong() -> None:
    rules: dict[str, Any] = {
        "case_dtype": "float32",
        "precision": "highest",
        "tolerance": None,
        "name": "reference",
    }
    exact = {"large": np.ones(100), "small": np.zeros(3)}
    good = {"large": np.ones(100, np.float32), "small": np.full(3, 1e-8, np.float32)}
    bad = {"large": np.ones(100, np.float32), "small": np.full(3, 1e-3, np.float32)}
    assert compare(good, exact, **rules).ok
    assert not compare(bad, exact, **rules).ok


@pytest.mark.parametrize("precision", ["highest", "default"])
def test_a_wrong_number_beside_a_large_array_is_wrong(precision: str) -> None:
    rules: dict[str, Any] = {"case_dtype": "float32", "precision": precision, "tolerance": None, "name": "r"}
    large = np.ones(1_000_000, np.float32)
    assert not compare((large, np.float32(0)), (large, np.float32(0.5)), **rules).ok


def test_an_edited_function_is_another_case(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    file = tmp_path / "pkg" / "mine.py"
    file.parent.mkdir()
    file.write_text("def step(x): return x")
    first = sources("pkg.mine:step", "pkg.mine:make_args")
    assert first == sources("pkg.mine:step", None)
    file.write_text("def step(x): return 2 * x")
    assert first != sources("pkg.mine:step", None)
    assert sources("numpy:sum", None) is None


@pytest.mark.slow
def test_no_secret_of_the_environment_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOME_TOKEN", "hunter2-hunter2")
    error = refused("wrong_code:raises_a_secret").error
    assert "the token is ***" in error.message
    assert "hunter2" not in json.dumps([error.message, error.traceback, error.details])


class OddError(Exception):
    """Has a name that is no text, and can't say what it is."""

    name = 7

    def __str__(self) -> str:
        raise RuntimeError("no words")


def test_what_an_exception_says_is_clipped_and_nothing_in_it_is_obeyed() -> None:
    for text in ("\x1b[2J\x9b31m\u202e" + "x" * 5_000_000, "a line\x1b[1m\n" * 1_000_000):
        problem = describe(ValueError(text))
        told = [problem.type, problem.message, problem.hint or "", problem.details or ""]
        assert sum(map(len, told)) < 100_000
        assert all(part.isprintable() for part in "\n".join(told).split("\n"))
        assert r"\x1b[" in problem.message
        assert "ValueError: " in (problem.details or "")
    assert describe(OddError()).message == "OddError"
    assert describe(OddError()).type == "Odd"


@pytest.mark.parametrize("place", [0, 100, 340, 460, 14_900, 15_900, 16_300, 20_000, 30_900, 33_000])
def test_a_secret_that_is_cut_off_with_a_long_message_is_not_shown_in_part(
    place: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    secret = "".join(f"q{number}z" for number in range(100))
    monkeypatch.setenv("SOME_TOKEN", secret)
    text = "." * place + secret
    for words in (text + "." * 200_000, "." * 200_000 + text[::-1].replace(secret[::-1], secret)):
        problem = describe(ValueError(words))
        assert "more characters" in problem.message
        assert "q" not in problem.message + (problem.details or "").replace("Traceback", "")


def test_an_error_of_ours_shows_no_traceback_of_theirs() -> None:
    problem = describe(ValueError("as it is"))
    assert problem == Problem(type="Value", message="as it is", details=problem.details)


def test_a_code_error_is_a_value_error() -> None:
    assert issubclass(BadCodeError, ValueError)


# --- by the command line ---------------------------------------------------------------------------


@pytest.fixture
def beside(tmp_path: Path) -> Path:
    """The folder where a command is started, with a user's modules in it, and none of them anywhere else."""
    here = tmp_path / "here"
    own = ROOT / "experiments/own_code"
    shutil.copytree(own, here / "mine", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(SUPPORT / "wrong_code.py", here / "mine/wrong.py")
    return here


def own(module: str, function: str, **params: Any) -> list[str]:
    return [
        "workload=custom",
        f"workload.fn=mine.{module}:{function}",
        f"workload.args=mine.{module}:make_args",
        *(f"workload.{key}={value}" for key, value in params.items()),
    ]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ([*own("attention", "loss_and_gradients"), "size=8"], "custom:loss_and_gr"),
        ([*own("training", "step", carry="true"), "size=16"], "custom:step 16"),
        ([*own("minimise", "solve", reference="mine.minimise:exact"), "size=8"], "custom:solve 8"),
        (["-m", *own("ode", "advance", static="[2]"), "size=4,8"], "custom:advance 8"),
    ],
    ids=["attention", "training", "minimise", "ode"],
)
def test_the_user_s_module_is_found_where_the_command_was_started(
    arguments: list[str], says: str, run_cli: RunCli, beside: Path
) -> None:
    ran = run_cli(*arguments, *QUICK, cwd=beside)
    assert ran.code == 0, ran.said
    assert says in ran.out
    for record in ran.records().values():
        assert record["status"] == "ok"
        assert record["cost"]["source"].startswith("XLA")
        if "reference" in str(arguments):
            assert record["accuracy"]["ok"]
        else:
            assert record["accuracy"]["relative_error"] is None
            assert "unchecked" in record["absent"]["accuracy.relative_error"]


@pytest.mark.slow
def test_both_devices_are_asked_and_the_one_that_is_not_there_says_so(run_cli: RunCli, beside: Path) -> None:
    ran = run_cli(*own("ode", "advance", static="[2]"), "device=both", "size=4", *QUICK, cwd=beside)
    assert ran.code == 1
    records = ran.records()
    assert records["cpu"]["status"] == "ok"
    assert records["gpu"]["error"]["type"] == "NoDevice"
    assert records["cpu"]["case_id"] == records["gpu"]["case_id"]


@pytest.mark.slow
def test_an_error_shows_the_user_s_lines_and_with_debug_all_of_them(run_cli: RunCli, beside: Path) -> None:
    arguments = [
        "workload=custom",
        "workload.fn=mine.wrong:branches",
        "workload.args=mine.wrong:pair_of_vectors",
    ]
    ran = run_cli(*arguments, *QUICK, cwd=beside)
    assert ran.code == 1
    assert 'File "mine/wrong.py", line' in ran.out
    assert "if x[0] > 0:" in ran.out
    assert "jaxaccel/" not in ran.out.replace(str(beside), "")
    (record,) = ran.records().values()
    assert "if x[0] > 0:" in record["error"]["traceback"]
    shutil.rmtree(beside / "outputs")
    assert "jaxaccel/worker" in run_cli(*arguments, "debug=true", *QUICK, cwd=beside).out


@pytest.mark.slow
def test_a_message_of_megabytes_stays_small_on_the_screen_and_in_the_record(
    run_cli: RunCli, beside: Path
) -> None:
    arguments = ["fn=mine.wrong:raises_megabytes", "args=pair_of_vectors", "device=cpu", "debug=true"]
    ran = run_cli(*arguments, *QUICK, cwd=beside)
    assert ran.code == 1
    assert "RuntimeError: begin xxx" in ran.said
    assert "more characters" in ran.said
    assert len(ran.said) < 100_000
    (record,) = ran.records().values()
    assert record["error"]["message"].startswith("begin xxx")
    assert record["error"]["message"].endswith("xxx end")
    assert len(json.dumps(record)) < 100_000


@pytest.mark.slow
def test_a_wrong_name_is_refused_and_leaves_nothing(run_cli: RunCli, beside: Path) -> None:
    fn = "workload.fn=mine.ode:advanc,mine.ode:lorentz"
    ran = run_cli("-m", *settings(*own("ode", "x"), fn), *QUICK, cwd=beside)
    assert ran.code == 2
    assert "did you mean advance?" in ran.out
    assert "did you mean lorenz?" in ran.out
    assert ran.records() == {}


@pytest.mark.slow
def test_a_worker_answers_with_facts_that_can_be_sent() -> None:
    facts = open_custom("wrong_code:not_a_number").facts
    assert isinstance(decode_message(encode_message(facts)), Opened)


@pytest.mark.parametrize("name", ["int1", "float6_e2m3fn"])
def test_a_type_with_which_jax_can_not_compute_is_named(name: str) -> None:
    given = np.zeros(4, getattr(ml_dtypes, name))
    with pytest.raises(BadCodeError, match=f"argument 0 is an array of {name}, which JAX can't compute with"):
        split("workload.args", (given,), ())


@pytest.mark.parametrize("name", ["int2", "int4", "uint4", "float4_e2m1fn", "float8_e8m0fnu", "bfloat16"])
def test_types_of_less_than_a_byte_are_taken(name: str) -> None:
    (array,), _ = split("workload.args", (np.ones(4, getattr(ml_dtypes, name)),), ())
    assert str(array.dtype) == name

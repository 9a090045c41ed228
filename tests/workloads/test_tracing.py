"""Own code as one program: what it changes, keeps, donates, captures and ignores."""

import weakref
from typing import Any

import jax
import numpy as np
import own_kinds
import pytest
from flax import nnx

from jaxaccel.records import Arm, ArmFacts, Case, Metric
from jaxaccel.records.messages import Inspected
from jaxaccel.worker.arm import CARRIED, OpenArm
from jaxaccel.worker.checks import RefusedError
from jaxaccel.worker.program import ARGUMENTS, compile_function
from jaxaccel.worker.timing import InvariantError
from jaxaccel.workloads.custom import Custom
from jaxaccel.workloads.importing import BadCodeError
from jaxaccel.workloads.jaxprs import constant_share

SIZE = 8
NET, OPTAX = "own_kinds:net_and_batch", "own_kinds:params_and_batch"
MATRIX, PAIR = "own_kinds:matrix", "own_kinds:matrix_and_dict"


@pytest.fixture(autouse=True)
def nothing_kept() -> None:
    own_kinds.CACHE.clear()
    own_kinds.KEPT.clear()


def custom(fn: str, args: str, **params: Any) -> Custom:
    return Custom(size=params.pop("size", SIZE), fn=f"own_kinds:{fn}", args=args, **params)


def opened(fn: str, args: str, *, size: int = SIZE, **params: Any) -> OpenArm:
    case = Case(
        workload="custom",
        size=size,
        dtype="float32",
        precision="highest",
        variant="direct",
        params={"fn": f"own_kinds:{fn}", "args": args, **params},
    )
    arm = Arm(case=case, device="cpu", target="jaxaccel.workloads.custom:Custom")
    return OpenArm(arm, jax.devices()[0], ArmFacts(requested="cpu"), {}, (Metric.latency,))


def outputs(workload: Custom, calls: int) -> list[Any]:
    """What the timed program gives in its first calls."""
    inputs = jax.device_put(workload.inputs(0))
    compiled, _ = compile_function(
        workload.function, inputs, "highest", carries=workload.carries, how=workload.compiling
    )
    carry, rest, found = inputs[0], inputs[1:], []
    for _ in range(calls):
        if not workload.carries:
            found.append(compiled(*inputs))
            continue
        carry, output = compiled(carry, *rest)
        found.append(workload.answer((carry, output)))
    return jax.device_get(found)


# --- state that is changed in place ------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("fn", ["in_place", "in_place_donated", "in_place_without_jit"])
def test_a_module_changed_in_place_is_trained_as_its_author_trains_it(fn: str) -> None:
    model, optimizer, x, y = own_kinds.net_and_batch(SIZE, jax.random.key(0))
    with jax.default_matmul_precision("highest"):
        expected = [float(own_kinds.in_place(model, optimizer, x, y)) for _ in range(5)]
    found = outputs(custom(fn, NET), 5)
    assert expected[0] != expected[1]
    np.testing.assert_allclose(found, expected, rtol=1e-5)


@pytest.mark.slow
def test_its_program_has_the_work_of_one_that_returns_its_state() -> None:
    def split(size: int, key: Any) -> tuple[Any, ...]:
        model, optimizer, x, y = own_kinds.net_and_batch(size, key)
        return *nnx.split((model, optimizer)), x, y

    graph, state, x, y = split(SIZE, jax.random.key(0))

    def step(state: Any, x: Any, y: Any) -> Any:
        model, optimizer = nnx.merge(graph, state)
        loss = own_kinds._train(model, optimizer, x, y)
        return nnx.state((model, optimizer)), loss

    with jax.default_matmul_precision("highest"):
        plain = jax.jit(step).lower(state, x, y).compile()
    workload = custom("in_place", NET)
    compiled, _ = compile_function(workload.function, workload.inputs(0), "highest", carries=True)
    assert compiled.cost_analysis()["flops"] == plain.cost_analysis()["flops"]


@pytest.mark.slow
@pytest.mark.parametrize(
    # Beside the carry: nothing; or the loss, and the random key, which is returned as it came.
    ("fn", "beside"),
    [("in_place_alone", 0), ("in_place_and_returned", 2)],
)
def test_what_is_left_in_place_is_one_result_also_where_it_is_returned(fn: str, beside: int) -> None:
    workload, plain = custom(fn, NET), custom("in_place", NET)
    count = len(workload.inputs(0)[0])
    assert count == len(plain.inputs(0)[0])
    compiled, _ = compile_function(workload.function, workload.inputs(0), "highest", carries=True)
    assert len(jax.tree.leaves(compiled.out_info)) == count + beside


@pytest.mark.slow
def test_a_python_number_in_a_dictionary_is_counted_on() -> None:
    found = outputs(custom("counts", "own_kinds:number_and_vector", size=1), 3)
    assert [value[0] for value in found] == [1.0, 2.0, 3.0]


@pytest.mark.slow
def test_that_state_is_carried_is_told() -> None:
    assert opened("in_place", NET).facts.invariants[CARRIED].startswith("passed: arguments 0 and 1, changed")
    assert CARRIED not in opened("captures_few", MATRIX).facts.invariants


@pytest.mark.slow
@pytest.mark.parametrize(
    ("fn", "args", "words"),
    [
        ("keeps_in_a_dict", MATRIX, "in CACHE"),
        ("keeps_in_a_list", MATRIX, "in KEPT"),
        ("keeps_inside_of_its_jit", MATRIX, "in CACHE"),
        ("keeps_in_an_object", MATRIX, "in self.last"),
        ("adds_an_entry", PAIR, "which entries"),
        ("changes_a_type", PAIR, "argument 0['w'] from float32[8, 8] to bfloat16[8, 8]"),
    ],
)
def test_an_effect_that_can_t_be_carried_is_refused(fn: str, args: str, words: str) -> None:
    with pytest.raises(BadCodeError) as refused:
        custom(fn, args).inputs(0)
    assert words in str(refused.value)
    assert "own_kinds:" + fn in str(refused.value)


# --- as its own jit has it ---------------------------------------------------------------------------


@pytest.mark.slow
def test_what_its_own_jit_donates_is_carried_and_donated() -> None:
    workload = custom("donates", OPTAX)
    assert workload.carries
    assert workload.compiling.donates
    losses = [found[2] for found in outputs(workload, 4)]
    assert losses == sorted(losses, reverse=True)
    assert losses[0] > losses[-1]
    assert workload.notes == []


@pytest.mark.slow
def test_a_donated_buffer_is_written_in_place() -> None:
    workload = custom("put", "own_kinds:buffer_and_place", size=1)
    inputs = workload.inputs(0)
    compiled, _ = compile_function(workload.function, inputs, "highest", carries=True, how=workload.compiling)
    memory = compiled.memory_analysis()
    assert memory.alias_size_in_bytes == 4096 * 4
    assert memory.temp_size_in_bytes == 0


@pytest.mark.slow
def test_what_nothing_can_replace_is_not_donated_and_told() -> None:
    (flag,) = custom("donates_the_batch", OPTAX).notes
    assert flag.name == "donation ignored"
    assert "argument 2" in flag.message


@pytest.mark.slow
def test_state_that_is_only_returned_is_no_carry() -> None:
    assert not custom("returns_without_donating", OPTAX).carries


@pytest.mark.slow
def test_a_module_that_is_not_donated_is_carried_without_donation() -> None:
    assert not custom("in_place", NET).compiling.donates
    assert custom("in_place_donated", NET).compiling.donates


@pytest.mark.slow
def test_its_compiler_options_are_those_of_the_program() -> None:
    workload = custom("fast", MATRIX)
    assert workload.compiling.options == {"xla_cpu_enable_fast_math": True}
    assert workload.compiling.donates
    with pytest.raises(
        BadCodeError, match="calls_fast calls a function that is jitted with compiler_options"
    ):
        custom("calls_fast", MATRIX).inputs(0)


@pytest.mark.slow
def test_the_positions_that_its_own_jit_holds_static_are_static() -> None:
    (found,) = outputs(custom("powers", "own_kinds:matrix_and_number"), 1)
    np.testing.assert_array_equal(found, np.ones((SIZE, SIZE), np.float32))


# --- what it depends on ------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("fn", ["only_the_shape", "ignores_inside_of_its_jit"])
def test_a_function_that_reads_none_of_its_arguments_is_refused(fn: str) -> None:
    with pytest.raises(BadCodeError, match=f"{fn} reads none of its arguments"):
        custom(fn, MATRIX).inputs(0)


@pytest.mark.slow
def test_what_xla_finds_to_depend_on_nothing_is_refused() -> None:
    with pytest.raises(RefusedError, match="no result depends on the arguments"):
        opened("folded_away", "own_kinds:whole_numbers", size=1)


@pytest.mark.slow
def test_work_on_constants_alone_is_refused_and_a_part_of_it_told() -> None:
    with pytest.raises(BadCodeError, match="of the work of own_kinds:constants_alone depends on no argument"):
        custom("constants_alone", MATRIX).inputs(0)
    (flag,) = custom("partly_constants", MATRIX, size=20).notes
    assert flag.name == "constant work"


def test_work_is_counted_through_calls_and_loops() -> None:
    def loops(x: Any) -> Any:
        table = jax.jit(lambda: jax.numpy.arange(100.0))()
        return jax.lax.scan(lambda c, _: (c + 1, None), x, None, length=900)[0] + table.sum()

    share = constant_share(jax.make_jaxpr(loops)(np.float32(0)))
    assert 0.05 < share < 0.15  # some hundred of a thousand


@pytest.mark.slow
def test_small_constants_are_held_and_named_and_large_ones_refused() -> None:
    assert opened("captures_few", MATRIX).facts.invariants[ARGUMENTS] == (
        "passed, but for float32[8], 32 bytes in all"
    )
    with pytest.raises(InvariantError, match=r"captured an array of shape \(600, 600\)"):
        opened("captures_many", MATRIX)


@pytest.mark.slow
def test_a_constant_may_be_an_array_of_random_keys() -> None:
    assert opened("captures_keys", MATRIX).facts.invariants[ARGUMENTS] == (
        "passed, but for uint32[4, 2], 32 bytes in all"
    )


@pytest.mark.slow
def test_a_weak_reference_to_what_is_gone_does_not_disturb() -> None:
    gone = weakref.proxy(nnx.Rngs(0))
    assert outputs(custom("passes_none", MATRIX), 1)
    del gone


def test_what_keeps_a_value_is_found_beside_a_dictionary_that_jax_can_not_sort() -> None:
    with pytest.raises(BadCodeError, match="keeps what it computes beyond its call, in KEPT"):
        custom("keeps_beside_unsortable", MATRIX).inputs(0)


@pytest.mark.slow
def test_a_dtype_that_no_array_has_is_told() -> None:
    (flag,) = custom("passes_none", "own_kinds:in_halves").notes
    assert flag.name == "other dtype"
    assert "float32" in flag.message
    assert "bfloat16" in flag.message
    assert custom("passes_none", "own_kinds:in_halves", dtype="bfloat16").notes == []


# --- what it returns, and how it is called -----------------------------------------------------------


def test_a_coroutine_is_refused_in_words() -> None:
    with pytest.raises(BadCodeError, match="waits returns a coroutine"):
        custom("waits", MATRIX).inputs(0)


@pytest.mark.slow
def test_what_is_none_in_a_result_is_nothing() -> None:
    workload = custom("passes_none", MATRIX)
    result = jax.jit(workload.function)(*workload.inputs(0))
    assert jax.tree.structure(workload.answer(result)) == jax.tree.structure({"x": 0, "nothing": None})


@pytest.mark.slow
def test_python_runs_only_while_it_is_traced(capsys: pytest.CaptureFixture[str]) -> None:
    arm = opened("prints", MATRIX)
    assert capsys.readouterr().out == "traced\n" * 2
    for _ in range(3):
        arm.round(Metric.latency)
    assert capsys.readouterr().out == ""


@pytest.mark.slow
def test_the_time_of_a_call_as_its_author_makes_it_stands_beside() -> None:
    found = opened("in_place", NET).inspect(0.0)
    assert isinstance(found, Inspected)
    assert found.as_called_s is not None
    assert found.as_called_s > 0


@pytest.mark.slow
def test_code_that_only_runs_inside_of_a_jit_has_no_such_time_and_says_why() -> None:
    found = opened("donates_the_batch", OPTAX).inspect(0.0)
    assert found.as_called_s is None or "as_called_s" not in found.absent


def test_a_workload_of_jaxaccel_s_is_not_called_so() -> None:
    case = Case(workload="dot", size=8, dtype="float32", precision="highest", variant="direct")
    arm = Arm(case=case, device="cpu", target="jaxaccel.workloads.dot:Dot")
    found = OpenArm(arm, jax.devices()[0], ArmFacts(requested="cpu"), {}, (Metric.latency,)).inspect(0.0)
    assert found.as_called_s is None

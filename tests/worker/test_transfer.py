"""Transfers on the real CPU: what travels, that it is timed each time anew, and that the answer is right."""

import time
import weakref
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxaccel.records import Metric
from jaxaccel.records.messages import Round, Unavailable
from jaxaccel.worker import timing, transfer
from jaxaccel.worker.checks import ANSWER
from jaxaccel.worker.program import Resident, compile_function, make_call, make_fed_call, wait
from jaxaccel.worker.timing import InvariantError
from jaxaccel.worker.transfer import NO_PINNED, PINNED, PINNED_TRAVELS, TRAVELS, Travel, check_same
from jaxaccel.workloads.base import ALIGNMENT_BYTES, Workload, aligned_empty
from jaxaccel.workloads.matvec import Matvec
from jaxaccel.workloads.mlp import Mlp

N = 64
PAGEABLE = [metric for metric in TRAVELS if metric not in PINNED_TRAVELS]
IN = [Metric.h2d, Metric.end_to_end]
PAUSE_S = 0.06  # a call that is so long that an idle moment before a round makes no difference


@dataclass
class Program:
    """A workload's program on the CPU, its arguments resident, and how often each way was taken."""

    resident: Resident
    inputs: tuple[Any, ...]
    carries: bool
    fed: Callable[[tuple[Any, ...]], Any]
    fresh: Callable[[], Any]
    outputs: list[Any]
    pause_s: float = 0.0
    keep: bool = False

    def travel(self, **changes: Any) -> Travel:
        answer = None if self.carries else jax.device_get(self.fresh())
        known: dict[str, Any] = {"inputs": self.inputs, "answer": answer, "device": jax.devices()[0]}
        return Travel(fed=self._fed, fresh=self._fresh, **known | changes)

    def _fed(self, arrived: tuple[Any, ...]) -> Any:
        time.sleep(self.pause_s)
        return self._seen(self.fed(arrived))

    def _fresh(self) -> Any:
        time.sleep(self.pause_s)
        return self._seen(self.fresh())

    def _seen(self, output: Any) -> Any:
        self.outputs.append(output if self.keep else weakref.ref(output))
        return output


def program(workload: Workload | None = None) -> Program:
    workload = workload or Matvec(size=N)
    inputs = workload.inputs(0)
    resident = Resident(jax.device_put(inputs, jax.devices()[0], may_alias=False), carries=workload.carries)
    compiled, _ = compile_function(workload.function, resident.arguments, "highest", carries=workload.carries)
    call, _ = make_call(compiled, resident)
    return Program(
        resident=resident,
        inputs=inputs[1:] if workload.carries else inputs,
        carries=workload.carries,
        fed=make_fed_call(compiled, resident),
        fresh=(lambda: call()[1]) if workload.carries else call,
        outputs=[],
    )


def pinning(travel: Travel) -> Travel:
    """As if its device were a GPU: JAX's CPU device has such memory, too, though it is no other."""
    travel._on_cpu = False
    return travel


def burst(found: Round | Unavailable) -> Round:
    assert isinstance(found, Round), found
    return found


def unaligned(array: np.ndarray) -> np.ndarray:
    memory = np.empty(array.nbytes + ALIGNMENT_BYTES + array.itemsize, np.uint8)
    start = -memory.ctypes.data % ALIGNMENT_BYTES + array.itemsize
    moved = memory[start : start + array.nbytes].view(array.dtype).reshape(array.shape)
    moved[...] = array
    return moved


# --- what travels ----------------------------------------------------------------------------------


def test_aligned_inputs_are_not_copied_on_a_cpu_and_that_is_told() -> None:
    facts = program().travel().facts()
    assert (facts.h2d, facts.d2h) == ("aliased", "aliased")
    assert (facts.h2d_bytes, facts.d2h_bytes) == (4 * (N * N + N), 4 * N)


@pytest.mark.parametrize(
    ("moved", "how"),
    [((), "aliased"), ((0,), "partly aliased"), ((1,), "partly aliased"), ((0, 1), "copied")],
)
def test_inputs_that_are_not_aligned_are_copied_and_that_is_told(moved: tuple[int, ...], how: str) -> None:
    inputs = tuple(unaligned(side) if i in moved else side for i, side in enumerate(Matvec(size=N).inputs(0)))
    assert program().travel(inputs=inputs).facts().h2d == how


def test_only_the_batch_of_a_training_step_travels() -> None:
    workload = Mlp(size=16, batch=4)
    leaves, x, y = workload.inputs(0)
    facts = program(workload).travel().facts()
    assert facts.h2d_bytes == x.nbytes + y.nbytes < sum(leaf.nbytes for leaf in leaves)
    assert facts.d2h_bytes == 4  # the loss


# --- a round ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("metric", PAGEABLE)
def test_a_round_is_a_burst_of_samples(metric: Metric) -> None:
    found = burst(program().travel().round(metric))
    assert 1 <= len(found.samples_s) <= 100
    assert all(0 < sample < 10 for sample in found.samples_s)
    assert found.depth == 1
    assert found.spent_s >= 0.99 * sum(found.samples_s)


@pytest.mark.parametrize("pinned", [False, True])
def test_each_sample_fetches_an_output_that_was_not_fetched_before(
    pinned: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """JAX keeps the host's copy of an array that it has fetched: a second fetch would take no time."""
    prog, fetched = program(), list[Any]()
    get, put = jax.device_get, jax.device_put

    def device_get(output: Any) -> Any:
        fetched.append(output)
        return get(output)

    def device_put(output: Any, where: Any) -> Any:
        if isinstance(output, jax.Array):
            fetched.append(output)
        return put(output, where)

    monkeypatch.setattr(transfer.jax, "device_get", device_get)
    monkeypatch.setattr(transfer.jax, "device_put", device_put)
    travel = pinning(prog.travel())
    found = burst(travel.round(Metric.d2h_pinned if pinned else Metric.d2h))
    assert len(fetched) > len(found.samples_s)
    assert len({id(output) for output in fetched}) == len(fetched)


@pytest.mark.parametrize(
    ("metric", "holds"),
    [(Metric.h2d, {"put"}), (Metric.d2h, {"get"}), (Metric.end_to_end, {"put", "call", "get"})],
)
@pytest.mark.parametrize("slow", ["put", "call", "get"])
def test_each_metric_holds_the_time_of_its_own_parts_and_of_no_other(
    metric: Metric, holds: set[str], slow: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    prog = program()
    travel = prog.travel()
    if slow == "call":
        prog.pause_s = PAUSE_S
    else:
        part = getattr(jax, f"device_{slow}")
        monkeypatch.setattr(
            transfer.jax, f"device_{slow}", lambda *arguments: time.sleep(PAUSE_S) or part(*arguments)
        )
    samples = burst(travel.round(metric)).samples_s
    if slow in holds:
        assert min(samples) >= PAUSE_S
    else:
        assert min(samples) < PAUSE_S


@pytest.mark.slow
def test_the_first_sample_of_all_is_untimed_and_told_as_warm_up() -> None:
    prog = program()
    prog.pause_s = PAUSE_S
    travel = prog.travel()
    first, second = (burst(travel.round(Metric.end_to_end)) for _ in range(2))
    assert len(prog.outputs) == 1 + len(first.samples_s) + len(second.samples_s)
    assert first.warmup_s >= PAUSE_S > second.warmup_s


@pytest.mark.parametrize(
    ("metric", "calls"), [(Metric.h2d, (0, 0)), (Metric.d2h, (1, 1)), (Metric.end_to_end, (1, 2))]
)
def test_a_call_of_seconds_is_made_once_a_round_or_once_for_all(
    metric: Metric, calls: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    prog = program()
    travel = prog.travel(call_s=2.0)
    monkeypatch.setattr(timing, "ROUND_LIMIT_S", 0.0)
    for made in calls:
        burst(travel.round(metric))
        assert len(prog.outputs) == made


def test_facts_take_one_call() -> None:
    prog = program()
    prog.travel().facts()
    assert len(prog.outputs) == 1


def test_of_a_long_call_too_an_output_is_fetched_once(monkeypatch: pytest.MonkeyPatch) -> None:
    prog, fetched = program(), list[Any]()
    get = jax.device_get
    monkeypatch.setattr(transfer.jax, "device_get", lambda output: fetched.append(output) or get(output))
    travel = prog.travel(call_s=2.0)
    fetched.clear()
    found = burst(travel.round(Metric.d2h))
    assert len(fetched) > len(found.samples_s) > 2
    assert len({id(output) for output in fetched}) == len(fetched)
    expected = get(prog.fresh())
    for output in fetched:
        np.testing.assert_array_equal(output, expected)


@pytest.mark.parametrize("metric", PAGEABLE)
def test_nothing_of_a_round_stays_alive(metric: Metric) -> None:
    prog = program()
    travel = prog.travel()
    travel.round(metric)
    assert travel._result is None
    assert not [output for output in prog.outputs if output() is not None]


# --- the answer ------------------------------------------------------------------------------------


@pytest.mark.parametrize("metric", [Metric.end_to_end, Metric.end_to_end_pinned])
def test_the_output_of_a_call_from_host_to_host_is_that_of_resident_data(metric: Metric) -> None:
    prog = program()
    prog.keep = True
    burst(pinning(prog.travel()).round(metric))
    expected = wait(prog.fresh())
    assert len(prog.outputs) > 2
    for output in prog.outputs:
        np.testing.assert_array_equal(output, expected)


def test_a_carry_goes_on_from_round_to_round() -> None:
    prog = program(Mlp(size=16, batch=4))
    prog.keep = True
    travel = prog.travel()
    travel.facts()
    for metric in (Metric.end_to_end, Metric.d2h, Metric.h2d, Metric.end_to_end):
        burst(travel.round(metric))
        assert not any(leaf.is_deleted() for leaf in jax.tree.leaves(prog.resident.arguments))
    losses = [float(output) for output in prog.outputs]
    assert len(losses) > 20
    assert losses == sorted(losses, reverse=True)  # on one batch, each step is an improvement
    assert losses[-1] < 0.9 * losses[0]


def test_a_carry_is_not_touched_by_inputs_that_only_arrive() -> None:
    prog = program(Mlp(size=16, batch=4))
    before = prog.resident.carry
    burst(prog.travel().round(Metric.h2d))
    assert prog.resident.carry is before


def test_another_answer_than_that_of_resident_data_is_caught() -> None:
    prog = program()
    others = Matvec(size=N).inputs(1)
    with pytest.raises(InvariantError, match="another answer than resident data") as caught:
        prog.travel(inputs=others).facts()
    assert caught.value.name == ANSWER


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float64"])
def test_rounding_makes_no_other_answer(dtype: str) -> None:
    numbers = np.array([1.0, -2.0, 0.5]).astype(jnp.dtype(dtype))
    check_same(numbers, numbers)
    check_same({"a": numbers, "b": [numbers]}, {"a": numbers, "b": [numbers * numbers.dtype.type(1.01)]})


@pytest.mark.parametrize("wrong", [[1.0, -2.0, 1.0], [1.0, 2.0, 0.5], [0.0] * 3, [1.0, np.nan, 0.5]])
def test_another_answer_is_no_rounding(wrong: list[float]) -> None:
    with pytest.raises(InvariantError):
        check_same(np.array(wrong), np.array([1.0, -2.0, 0.5]))


# --- what can't be had -----------------------------------------------------------------------------


@pytest.mark.parametrize("metric", PINNED_TRAVELS)
def test_a_cpu_has_nothing_to_pin(metric: Metric) -> None:
    travel = program().travel()
    assert travel.round(metric) == Unavailable(reason=NO_PINNED)
    assert travel.lacks(metric) == NO_PINNED


@pytest.mark.parametrize("metric", PAGEABLE)
def test_where_memory_does_not_suffice_for_a_second_copy_that_is_told(metric: Metric) -> None:
    prog = program()
    asked = []
    travel = prog.travel(capacity=lambda device: asked.append(device) or 4 * N * N)
    found = travel.round(metric)
    if metric is Metric.d2h:  # which needs none
        assert isinstance(found, Round)
        return
    assert isinstance(found, Unavailable)
    assert found.reason == "a second copy of the inputs, 16.2 KiB, does not fit on the device"
    assert asked == jax.devices()[:1]
    assert prog.outputs == []


@pytest.mark.parametrize("metric", PAGEABLE)
def test_memory_that_just_suffices_does(metric: Metric) -> None:
    travel = program().travel(capacity=lambda _: 4 * (N * N + N))
    assert isinstance(travel.round(metric), Round)


def test_a_call_needs_room_beside_its_inputs() -> None:
    held = 4 * (N * N + N)
    assert isinstance(
        program().travel(capacity=lambda _: held, beside_bytes=1).round(Metric.h2d), Unavailable
    )
    assert isinstance(program().travel(capacity=lambda _: held, beside_bytes=1).round(Metric.d2h), Round)


@pytest.mark.parametrize("metric", [Metric.h2d_pinned, Metric.end_to_end_pinned])
def test_where_the_host_has_no_room_to_pin_that_is_told(metric: Metric) -> None:
    found = pinning(program().travel(host_capacity=lambda: 4 * N * N)).round(metric)
    assert isinstance(found, Unavailable)
    assert found.reason == "a pinned copy of the inputs, 16.2 KiB, does not fit in the host's memory"


def test_what_goes_back_needs_no_inputs_to_be_pinned() -> None:
    burst(pinning(program().travel(host_capacity=lambda: 0)).round(Metric.d2h_pinned))


def test_what_is_pinned_already_needs_no_more_room() -> None:
    free = [1 << 20]
    travel = pinning(program().travel(host_capacity=lambda: free[0]))
    burst(travel.round(Metric.h2d_pinned))
    free[0] = 0
    burst(travel.round(Metric.end_to_end_pinned))


# --- pinned memory, of which a CPU device has some, too --------------------------------------------


def test_pinned_inputs_come_from_pinned_memory_and_outputs_go_there(monkeypatch: pytest.MonkeyPatch) -> None:
    put, kinds = jax.device_put, list[tuple[str, str]]()

    def device_put(value: Any, where: Any) -> Any:
        first = jax.tree.leaves(value)[0]
        kinds.append(
            (first.sharding.memory_kind if isinstance(first, jax.Array) else "numpy", where.memory_kind)
        )
        return put(value, where)

    travel = pinning(program().travel())
    monkeypatch.setattr(transfer.jax, "device_put", device_put)
    own = travel._there.memory_kind
    burst(travel.round(Metric.h2d_pinned))
    assert kinds[0] == ("numpy", PINNED)  # once
    assert set(kinds[1:]) == {(PINNED, own)}
    kinds.clear()
    burst(travel.round(Metric.d2h_pinned))
    assert set(kinds) == {(own, PINNED)}
    kinds.clear()
    burst(travel.round(Metric.end_to_end_pinned))
    assert kinds[0:2] == [(PINNED, own), (own, PINNED)]


def test_inputs_of_this_file_are_as_aligned_as_it_says() -> None:
    assert aligned_empty((3,), np.float32).ctypes.data % ALIGNMENT_BYTES == 0
    assert unaligned(np.ones(3, np.float32)).ctypes.data % ALIGNMENT_BYTES == 4

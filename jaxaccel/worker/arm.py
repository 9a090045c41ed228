"""One workload on one device: opened, checked, timed in rounds, closed."""

import dataclasses
import functools
import gc
import math
import pkgutil
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import jax
import numpy as np

from jaxaccel.messages import Opened, Round
from jaxaccel.records import Accuracy, Arm, ArmFacts, Case, Compile, Memory, Metric, Spent
from jaxaccel.worker.conditions import Conditions
from jaxaccel.worker.devices import capacity_bytes, host_available_bytes
from jaxaccel.worker.hlo import operations
from jaxaccel.worker.timing import AWAITED, Block, Call, InvariantError, Stopwatch
from jaxaccel.workloads.base import Workload

# The invariants that a worker holds; one that is broken fails the arm.
ARGUMENTS = "everything an argument"
OPERATIONS = "operations there"
PLACED = "on the device"
ANSWER = "answer right"
NO_TRANSFER = "no transfer timed"


class RefusedError(ValueError):
    """The request can't be measured rightly: a wrong argument, or more memory than there is."""


class OpenArm:
    """An arm that is ready to be timed."""

    def __init__(self, arm: Arm, device: Any, facts: ArmFacts, floor_s: Mapping[str, float]) -> None:
        """Place the data, compile, check the answer, warm up.

        **Raises** RefusedError for what can't be right, InvariantError for a measurement that would lie.
        """
        case = arm.case
        # One width for all that this worker traces from here on; pairs within it share it.
        jax.config.update("jax_enable_x64", case.dtype == "float64")
        workload = make_workload(arm.target, case)
        memory = predict_memory(workload, case, device)
        watch = _Laps()

        inputs = workload.inputs(case.seed)
        # may_alias=False: on a CPU the array would share NumPy's memory where that happens to be aligned.
        arguments = jax.block_until_ready(jax.device_put(inputs, device, may_alias=False))
        data_s = watch.lap()

        compiled, times = compile_function(
            workload.function, arguments, case.precision, carries=workload.carries
        )
        compile_s = watch.lap()
        check_operations(workload, compiled)

        call, block = make_call(compiled, arguments, carries=workload.carries)
        call, block = getattr(workload, "tamper", _as_they_are)(call, block, arguments)
        del arguments
        result = jax.block_until_ready(call())
        first_call_s = watch.lap()
        output = result[1] if workload.carries else result
        check_placed(result, device)

        accuracy = check_answer(workload, case, inputs, output, device)
        del inputs  # the host's copy is not needed any more
        reference_s = watch.lap()

        self._stopwatch = Stopwatch(
            call,
            block,
            # A donated carry is reused; only what comes out beside it piles up.
            output_bytes=sum(leaf.nbytes for leaf in jax.tree.leaves(output)),
            chained=workload.carries,
            ready=is_ready,
        )
        del result, output
        self._stopwatch.warm_up()
        gc.unfreeze()
        gc.collect()
        gc.freeze()  # a later collection then looks only at what is new
        analysis = compiled.memory_analysis()
        self._conditions = Conditions(device)
        self.facts = Opened(
            arm=replace(facts, variant=case.variant),
            floor_s=floor_s,
            compile=times,
            first_call_s=first_call_s,
            cost=workload.cost(),
            accuracy=accuracy,
            memory=replace(
                memory,
                arguments_bytes=int(analysis.argument_size_in_bytes),
                outputs_bytes=int(analysis.output_size_in_bytes),
                temporaries_bytes=int(analysis.temp_size_in_bytes),
            )
            if analysis
            else memory,
            spent_s=Spent(
                data=data_s, compile=compile_s, warmup=first_call_s + watch.lap(), reference=reference_s
            ),
            invariants=dict.fromkeys((ARGUMENTS, OPERATIONS, PLACED, ANSWER, AWAITED, NO_TRANSFER), "passed"),
            warnings=self._conditions.warnings(),
            absent={} if analysis else {"memory.arguments_bytes": "XLA gives no memory analysis here"},
        )

    def round(self, metric: Metric) -> Round:
        """A short burst of samples.

        **Raises** InvariantError for a transfer in a timed region, or a result that was not awaited.
        """
        try:
            with jax.transfer_guard("disallow"):
                samples = self._stopwatch.round(metric)
        except jax.errors.JaxRuntimeError as error:
            if "transfer" not in str(error):
                raise
            raise InvariantError(
                NO_TRANSFER, f"a timed call moves data: {str(error).splitlines()[0]}"
            ) from error
        return replace(samples, slowdowns=self._conditions.slowdowns())


def make_workload(target: str, case: Case) -> Workload:
    """The workload of a case.

    **Raises** RefusedError where `target` names nothing, or it does not take the case's parameters.
    """
    try:
        kind: Any = pkgutil.resolve_name(target)
    except (ImportError, AttributeError, ValueError) as error:
        raise RefusedError(
            f"`workload._target_` must be package.module:Class, got {target!r} ({error})"
        ) from error
    parameters = dataclasses.fields(kind) if dataclasses.is_dataclass(kind) else None
    if parameters is None:
        raise RefusedError(f"`workload._target_` must be a workload's class, got {target!r}, which is none")
    known = [
        entry.name for entry in dataclasses.fields(kind) if entry.name not in ("size", "dtype", "variant")
    ]
    for name in case.params:
        if name not in known:
            raise RefusedError(
                f"unknown key `workload.{name}`; {case.workload} has {', '.join(known) or 'no parameters'}"
            )
    try:
        made: Workload = kind(size=case.size, dtype=case.dtype, variant=case.variant, **case.params)
    except ValueError as error:
        raise RefusedError(str(error)) from error
    return made


def predict_memory(workload: Workload, case: Case, device: Any) -> Memory:
    """What the case will hold, against what there is.

    **Raises** RefusedError, with both numbers, before anything is allocated.
    """
    needed = workload.memory_bytes()
    host = host_available_bytes()
    # The data is made in the host's memory, and placed from there: a CPU holds it twice.
    places = (
        [("cpu", 2 * needed, host)]
        if device.platform == "cpu"
        else [("gpu", needed, capacity_bytes(device)), ("cpu", needed, host)]
    )
    for name, wanted, there in places:
        if wanted > there:
            raise RefusedError(
                f"`size`={case.size} does not fit: {case.workload} in {case.dtype} needs {_binary(wanted)} "
                f"on the {name}, which has {_binary(there)} free"
            )
    _, wanted, there = places[0]
    return Memory(predicted_bytes=wanted, capacity_bytes=there)


def compile_function(
    function: Callable[..., Any], arguments: tuple[Any, ...], precision: str, *, carries: bool = False
) -> tuple[Any, Compile]:
    """The AOT-compiled function, which refuses other shapes, and how long each step took.

    **Raises** InvariantError where the function captured an array: XLA would fold it into the answer.
    """
    jitted = jax.jit(function, donate_argnums=(0,) if carries else ())
    watch = _Laps()
    with cache_events() as events, jax.default_matmul_precision(precision):
        traced = jitted.trace(*arguments)
        trace_s = watch.lap()
        lowered = traced.lower()
        lower_s = watch.lap()
        compiled = lowered.compile()
        compile_s = watch.lap()
    constants = [shape for shape in captured_shapes(traced.jaxpr) if math.prod(shape) > 1]
    if constants:
        raise InvariantError(
            ARGUMENTS,
            f"the timed function captured an array of shape {constants[0]} instead of taking it as an "
            "argument: XLA may compute with it once, at compile time",
        )
    cache = "hit" if "cache_hits" in events else "miss" if "cache_misses" in events else "off"
    return compiled, Compile(trace_s=trace_s, lower_s=lower_s, compile_s=compile_s, cache=cache)


def captured_shapes(closed: Any) -> list[tuple[int, ...]]:
    """Shapes of the arrays that a jaxpr, or one that it calls, holds as constants."""
    found = [np.shape(value) for value in closed.consts]
    for equation in closed.jaxpr.eqns:
        for parameter in jax.tree.leaves(
            list(equation.params.values()), is_leaf=lambda p: hasattr(p, "consts")
        ):
            if hasattr(parameter, "consts"):
                found += captured_shapes(parameter)
    return found


def make_call(
    compiled: Any, arguments: tuple[Any, ...], *, carries: bool
) -> tuple[Callable[[], Any], Callable[[Any], Any]]:
    """A function of no arguments that runs the program once, and one that waits for what it returned.

    Where the workload carries, each call takes up what the one before it returned.
    """
    if not carries:
        return functools.partial(compiled, *arguments), wait
    carry, rest = arguments[0], arguments[1:]

    def step() -> Any:
        nonlocal carry
        carry, output = compiled(carry, *rest)
        return carry, output

    return step, wait


def wait(result: Any) -> Any:
    """Block until every array of a result is there.

    `jax.block_until_ready` walks a pytree, which costs microseconds that a single array need not pay.
    """
    return result.block_until_ready() if isinstance(result, jax.Array) else jax.block_until_ready(result)


def is_ready(result: Any) -> bool:
    """Whether every array of a result is there, without waiting for it."""
    return all(leaf.is_ready() for leaf in jax.tree.leaves(result) if not leaf.is_deleted())


def check_operations(workload: Workload, compiled: Any) -> None:
    """The work is in the optimised program, and inside its loop where it is to be repeated.

    **Raises** InvariantError where XLA found that it need not do it.
    """
    there = operations(compiled.as_text(), inside_loops=workload.loops)
    if not there.intersection(workload.operations):
        where = "its loop's body" if workload.loops else "the optimised program"
        wanted = " or ".join(sorted(workload.operations))
        raise InvariantError(
            OPERATIONS, f"{where} has no {wanted}: XLA left the work out, or does it only once"
        )


def check_placed(result: Any, device: Any) -> None:
    """Every output is an array on the device that was asked for.

    **Raises** InvariantError otherwise; waiting for something else than an array would wait for nothing.
    """
    for leaf in jax.tree.leaves(result):
        if not isinstance(leaf, jax.Array):
            raise InvariantError(
                AWAITED, f"the timed function returned a {type(leaf).__name__}, not an array"
            )
        if leaf.devices() != {device}:
            raise InvariantError(PLACED, f"the output is on {leaf.devices()}, not on {device}")


def check_answer(workload: Workload, case: Case, inputs: Any, output: Any, device: Any) -> Accuracy:
    """Compare with the workload's reference.

    **Raises** InvariantError where the answer is wrong: a time of a wrong answer is no measurement.
    """

    def run(function: Callable[..., Any], *arguments: Any) -> Any:
        placed = jax.device_put(arguments, device)
        compiled, _ = compile_function(function, placed, case.precision)
        return jax.device_get(compiled(*placed))

    accuracy = workload.verify(inputs, jax.device_get(output), case.precision, run)
    if not accuracy.ok:
        raise InvariantError(
            ANSWER,
            f"the output differs from {accuracy.reference} by {accuracy.relative_error:.1e}, "
            f"and {accuracy.tolerance:.1e} is tolerated",
        )
    return accuracy


class cache_events:  # noqa: N801
    """Collects the names of JAX's compile-cache events while it is entered."""

    _listening: set[str] | None = None
    _registered = False

    def __enter__(self) -> set[str]:
        if not cache_events._registered:  # JAX has no public way to take a listener off again
            jax.monitoring.register_event_listener(self._note)
            cache_events._registered = True
        cache_events._listening = set()
        return cache_events._listening

    def __exit__(self, *_: object) -> None:
        cache_events._listening = None

    @staticmethod
    def _note(event: str, **_: object) -> None:
        if cache_events._listening is not None and "compilation_cache" in event:
            cache_events._listening.add(event.rsplit("/", 1)[-1])


def dispatch_floor_s(device: Any) -> dict[str, float]:
    """Median seconds of a call of a program that adds one to a number, by metric: the cost of dispatch."""
    number = jax.device_put(np.float32(0), device)
    compiled = jax.jit(lambda x: x + np.float32(1)).lower(number).compile()
    call, block = make_call(compiled, (number,), carries=False)
    stopwatch = Stopwatch(call, block, chained=False, output_bytes=number.nbytes)
    stopwatch.warm_up()
    return {metric.value: float(np.median(stopwatch.round(metric).samples_s)) for metric in Metric}


def _as_they_are(call: Call, block: Block, arguments: Any) -> tuple[Call, Block]:
    return call, block


class _Laps:
    """Seconds since the last lap."""

    def __init__(self) -> None:
        self._last = time.perf_counter()

    def lap(self) -> float:
        now = time.perf_counter()
        took, self._last = now - self._last, now
        return took


def _binary(count: int) -> str:
    power = max(p for p in range(9) if p == 0 or count >= 1024**p)
    return f"{count / 1024**power:.1f} {('B', 'KiB', 'MiB', 'GiB', 'TiB', 'PiB', 'EiB', 'ZiB', 'YiB')[power]}"

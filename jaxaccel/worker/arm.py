"""One workload on one device: opened, checked, timed in rounds, closed."""

import functools
import gc
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, TypeVar

import jax
import numpy as np

from jaxaccel.records import (
    BEST,
    NO_TRANSFER,
    NOT_ASKED,
    NOT_FINITE,
    Accuracy,
    Arm,
    ArmFacts,
    DeviceTime,
    Energy,
    Flag,
    Memory,
    Metric,
    Spent,
    Transfers,
)
from jaxaccel.records.messages import Closed, Inspected, Opened, Round, Unavailable
from jaxaccel.worker import energy
from jaxaccel.worker.best import Chosen, candidates, choose
from jaxaccel.worker.carry_check import check_carry
from jaxaccel.worker.checks import (
    ANSWER,
    OPERATIONS,
    PLACED,
    UNCHECKED,
    check_answer,
    check_operations,
    check_placed,
    predict_memory,
)
from jaxaccel.worker.conditions import Conditions
from jaxaccel.worker.estimate import complete
from jaxaccel.worker.feeding import COPIES, FED, fed_call, follow, host_work_s, leaves_of, losses_of
from jaxaccel.worker.kernels import KernelTimer, make_trace
from jaxaccel.worker.own_code import OwnCode
from jaxaccel.worker.problems import describe
from jaxaccel.worker.program import (
    ARGUMENTS,
    Resident,
    compile_function,
    compiling,
    make_call,
    make_fed_call,
    make_stopwatch,
    place,
)
from jaxaccel.worker.slope import Slope
from jaxaccel.worker.timing import (
    AWAITED,
    BLOCKED,
    LONGEST_CALL_S,
    AbsentError,
    Block,
    Call,
    InvariantError,
    Laps,
)
from jaxaccel.worker.transfer import TRAVELS, Travel

Asked = TypeVar("Asked")
Answer = TypeVar("Answer")

CARRIED = "state carried on"
OPAQUE = "skipped: an exported program may hold arrays of its own"
UNTIMED = "skipped: no call on resident data is timed from Python"

# Calls of own code from Python: this many at most, within so many seconds, if compiling took no longer.
CALLED, CALLED_S, CALLED_COMPILE_S = 20, 0.5, 20.0

SERIES_STEPS, SERIES_S = 20, 0.5  # of a training's first steps: so many, in so many seconds

SLOPE_FROM_S = 50e-6  # below, what a trip of the loop costs by itself is too much of the slope
LOOP_COMPILE_S = 20.0  # a program that took longer to compile gets no loop, which takes three times as long


def watch_steps(call: Call, first: Any, clock: Callable[[], float] = time.perf_counter) -> tuple[float, ...]:
    """What each of the first steps of a training gives, those of the `first` call among them.

    That is before all timing. Each call is awaited. At least one more is made, then as many as there is time
    for, SERIES_STEPS steps in all. They end before what is no number, which JSON has not.
    """
    found, until, output, calls = list[float](), clock() + SERIES_S, first, 1
    while True:
        for value in map(float, np.ravel(output)):
            if not math.isfinite(value):
                return tuple(found)
            found.append(value)
            if len(found) == SERIES_STEPS:
                return tuple(found)
        if calls > 1 and clock() >= until:
            return tuple(found)
        output, calls = call()[1], calls + 1


def as_called_s(call: Call, clock: Callable[[], float] = time.perf_counter) -> float:
    """Median seconds of a call, after one that compiles."""
    call()
    took, until = list[float](), clock() + CALLED_S
    while not took or (len(took) < CALLED and clock() < until):
        start = clock()
        call()
        took.append(clock() - start)
    return float(np.median(took))


def in_own_settings(method: Callable[["OpenArm", Asked], Answer]) -> Callable[["OpenArm", Asked], Answer]:
    """A method of OpenArm during which the settings of its case hold."""

    @functools.wraps(method)
    def within(self: "OpenArm", asked: Asked) -> Answer:
        with self._own:
            return method(self, asked)

    return within


@contextmanager
def part(absent: dict[str, str], what: str, *places: str) -> Iterator[None]:
    """A step of which a failure leaves the rest of the arm valid: `absent` gets the reason for its `places`.

    `what` names the step in messages.

    **Raises** InvariantError, which makes the whole arm invalid.
    """
    try:
        yield
    except InvariantError:
        raise
    except AbsentError as error:
        absent.update(dict.fromkeys(places, str(error)))
    except Exception as error:  # whatever it raises, the rest can be measured
        reason = f"{what} failed with {type(error).__name__}: {describe(error).message}"
        absent.update(dict.fromkeys(places, reason))


class OpenArm:
    """An arm that is ready to be timed."""

    def __init__(
        self,
        arm: Arm,
        device: Any,
        facts: ArmFacts,
        floor_s: Mapping[str, float],
        metrics: Sequence[Metric] = BLOCKED,
    ) -> None:
        """Place the data, compile, check the answer, warm up, be ready for rounds of `metrics`.

        **Raises** RefusedError or BadCodeError for what can't be right, InvariantError for a measurement that
        would lie.
        """
        self.facts: Opened
        self._own = OwnCode(arm)
        with self._own:
            try:
                self._open(arm, device, facts, floor_s, metrics)
            except Exception:
                self._own.check()  # a setting that is refused may be what it failed of
                raise
            self.facts = self._own.complete(self.facts)

    def _open(
        self,
        arm: Arm,
        device: Any,
        facts: ArmFacts,
        floor_s: Mapping[str, float],
        metrics: Sequence[Metric],
    ) -> None:
        self._case = case = arm.case
        found = candidates(arm)
        self._own.check()
        variant, workload = next(iter(found.workloads.items()))
        memory = predict_memory(workload, case, device)
        self._device, self._on_gpu = device, device.platform != "cpu"
        watch = Laps()

        inputs = workload.inputs(case.seed)
        # may_alias=False: on a CPU the array would share NumPy's memory where that happens to be aligned.
        arguments = jax.block_until_ready(place(inputs, device, may_alias=False))
        data_s = watch.lap()

        chosen: Chosen | None = None
        if case.variant == BEST and not arm.chosen:
            metric = next((metric for metric in BLOCKED if metric in metrics), Metric.throughput)
            chosen = choose(found, case, inputs, arguments, device, metric)
            variant, workload = chosen.variant, found.workloads[chosen.variant]
        self._workload = workload
        trials_s = watch.lap()

        compiled, times = (
            (chosen.compiled, chosen.times)
            if chosen
            else compile_function(
                workload.function,
                arguments,
                case.precision,
                carries=workload.carries,
                how=compiling(workload),
            )
        )
        compile_s = watch.lap()
        operations = check_operations(workload, compiled)
        absent: dict[str, str] = {}
        cost, warnings = workload.cost(), tuple[Flag, ...]()
        with part(absent, "counting its FLOPs and bytes", "cost.flops", "cost.bytes"):
            cost, warnings, uncounted = complete(cost, workload.function, arguments, compiled, case.precision)
            absent |= uncounted

        self._compiled, self._compile_s = compiled, times.compile_s + times.saved_s
        self._resident = resident = Resident(arguments, carries=workload.carries)
        call, block = make_call(compiled, resident)
        fed = fed_call(workload, compiled, resident, device, case.seed)
        if fed:
            call = fed
            absent |= dict.fromkeys((f"timings.{m}" for m in metrics if m not in BLOCKED), FED)
            metrics = [metric for metric in metrics if metric in BLOCKED]
        call, block = getattr(workload, "tamper", _as_they_are)(call, block, arguments)
        del arguments
        result = jax.block_until_ready(call())
        first_call_s = watch.lap()
        output = result[1] if workload.carries else result
        check_placed(result, device)

        # Of user code, more than the output that is awaited may be its answer.
        answer = getattr(workload, "answer", lambda _, output=output: output)(result)
        accuracy = check_answer(workload, case, inputs, answer, device)
        reference_s = watch.lap()
        name = getattr(workload, "series", None)
        series: dict[str, tuple[float, ...]] = {name: watch_steps(call, output)} if name else {}
        results: dict[str, float] = {}
        if hasattr(workload, "outcome"):
            outcome = follow(workload, case, result, call, losses_of=losses_of, leaves_of=leaves_of)
            accuracy, results = outcome.accuracy, dict(outcome.results)
            series = {**outcome.series, **host_work_s(workload, case.seed)}
        series_s = watch.lap()

        # What is not donated is kept beside its successor.
        kept = output if compiling(workload).donates else result
        self._stopwatch = make_stopwatch(call, block, kept, carries=workload.carries)
        returns = bool(jax.tree.leaves(output))
        travels = [metric for metric in metrics if metric in TRAVELS]
        # Where a workload carries, no two outputs need be the same.
        resident_answer = jax.device_get(output) if travels and not workload.carries else None
        del result, output, answer, kept
        self._stopwatch.warm_up()
        gc.unfreeze()
        gc.collect()
        gc.freeze()  # a later collection then looks only at what is new
        warmup_s = watch.lap()

        if accuracy.relative_error is None:
            absent["accuracy.relative_error"] = UNCHECKED
        self._timer: KernelTimer | Slope | None = None
        if Metric.device in metrics:
            with part(absent, "preparing to time the device", f"timings.{Metric.device}"):
                self._timer = self._make_timer(call, block)
        with part(absent, "XLA's memory analysis", "memory.arguments_bytes"):
            memory = with_analysis(memory, compiled.memory_analysis())
        self._travel: Travel | None = None
        transfers: Transfers | None = None
        if travels:
            with part(absent, "moving data", "transfers", *(f"timings.{metric}" for metric in travels)):
                self._travel = Travel(
                    inputs[1:] if workload.carries else inputs,
                    make_fed_call(compiled, resident),
                    (lambda: call()[1]) if workload.carries else call,
                    device,
                    answer=resident_answer,
                    returns=returns,
                    call_s=self._stopwatch.typical_s,
                    beside_bytes=(memory.outputs_bytes or 0) + (memory.temporaries_bytes or 0),
                )
                transfers = _find_transfers(self._travel, travels, absent)
        else:
            absent["transfers"] = FED if fed else NOT_ASKED
        self._given = inputs[0] if workload.carries else None
        del inputs, resident_answer  # but for those that travel, and a carry
        self._conditions = Conditions(device)
        self.facts = Opened(
            arm=replace(facts, variant=variant),
            floor_s=floor_s,
            compile=times,
            first_call_s=chosen.first_call_s if chosen else first_call_s,
            call_s=self._stopwatch.typical_s,
            cost=cost,
            accuracy=accuracy,
            memory=memory,
            metrics=tuple(metric for metric in metrics if f"timings.{metric}" not in absent),
            transfers=transfers,
            variants=chosen.trials if chosen else {},
            series=series,
            results=results,
            spent_s=Spent(
                data=data_s,
                compile=compile_s,
                warmup=first_call_s + series_s + warmup_s,
                reference=reference_s,
                inspection=trials_s + watch.lap(),
            ),
            invariants=dict.fromkeys((ARGUMENTS, PLACED, ANSWER), "passed")
            | {OPERATIONS: operations}
            | ({ARGUMENTS: OPAQUE} if getattr(workload, "opaque", False) else {})
            | ({ARGUMENTS: f"passed, but for {held}"} if (held := getattr(workload, "constants", "")) else {})
            | ({CARRIED: f"passed: {what}"} if (what := getattr(workload, "carried", "")) else {})
            | ({ANSWER: f"skipped: {UNCHECKED}"} if accuracy.ok is None else {})
            | dict.fromkeys((AWAITED, NO_TRANSFER), "passed" if set(metrics) & set(BLOCKED) else UNTIMED)
            | ({NO_TRANSFER: COPIES} if fed and getattr(workload, "sends", False) else {}),
            warnings=(
                *warnings,
                *getattr(workload, "notes", ()),
                *_not_finite(accuracy),
                *self._conditions.warnings(),
            ),
            absent=absent,
        )

    @in_own_settings
    def round(self, metric: Metric) -> Round | Unavailable:
        """A short burst of samples, or why there is none.

        **Raises** InvariantError for a transfer in a timed region, or a result that was not awaited.
        """
        found: Round | Unavailable
        if metric not in self.facts.metrics:
            found = Unavailable(reason=self.facts.absent.get(f"timings.{metric}", NOT_ASKED))
        elif metric in TRAVELS and self._travel:
            found = self._travel.round(metric)
        elif metric is Metric.device and self._timer:
            found = self._timer.round()
        else:
            found = self._without_transfers(metric)
        if not isinstance(found, Round):
            return found
        # Throughput is a difference of two times. Not tried again: that would be to choose among results.
        if metric is Metric.throughput and not np.median(found.samples_s) > 0:
            return Unavailable(reason="more calls took no longer than fewer: there is too much noise")
        return replace(found, slowdowns=self._conditions.slowdowns())

    @in_own_settings
    def inspect(self, energy_s: float) -> Inspected:
        """What is found out once: kernels, the loop's slope beside them, energy over `energy_s`."""
        watch, absent = Laps(), dict[str, str]()
        device_time: DeviceTime | None = None
        used: Energy | None = None
        called_s: float | None = None
        with part(absent, "timing the kernels", "device_time"):
            device_time = self._inspect_device_time(absent)
        with part(absent, "measuring energy", "energy"):
            used = self._inspect_energy(energy_s)
        if caller := getattr(self._workload, "caller", None):
            with part(absent, "calling the function from Python", "as_called_s"):
                called_s = self._time_as_called(caller)
        return Inspected(
            as_called_s=called_s, device_time=device_time, energy=used, spent_s=watch.lap(), absent=absent
        )

    def close(self) -> Closed:
        """What the timing did to a carry. The arm can't be timed afterwards."""
        if not self._workload.carries:
            return Closed()
        watch, run = Laps(), self._stopwatch.run
        with self._own:
            flags = check_carry(
                self._workload, self._resident, self._given, self._device, run, self._case.precision
            )
        return Closed(warnings=flags, spent_s=watch.lap())

    def _without_transfers(self, metric: Metric) -> Round:
        try:
            with jax.transfer_guard("disallow"):
                return self._stopwatch.round(metric)
        except jax.errors.JaxRuntimeError as error:
            if "transfer" not in str(error):
                raise
            raise InvariantError(
                NO_TRANSFER, f"a timed call moves data: {str(error).splitlines()[0]}"
            ) from error

    def _make_timer(self, call: Call, block: Block) -> KernelTimer | Slope:
        if self._on_gpu:
            return KernelTimer(call, block, make_trace(self._device), typical_s=self._stopwatch.typical_s)
        return self._make_slope(self._stopwatch.typical_s)

    def _make_slope(self, typical_s: float) -> Slope:
        if self._compile_s > LOOP_COMPILE_S:
            raise AbsentError(
                f"the program took {self._compile_s:.0f} s to compile: the loop whose slope would tell would "
                "take several times as long"
            )
        return Slope(
            self._workload,
            self._resident,
            precision=self._case.precision,
            typical_s=typical_s,
            on_gpu=self._on_gpu,
            compiled=self._compiled,
        )

    def _inspect_device_time(self, absent: dict[str, str]) -> DeviceTime | None:
        if self._timer is None:
            absent["device_time"] = self.facts.absent.get(f"timings.{Metric.device}", NOT_ASKED)
            return None
        if isinstance(self._timer, Slope):
            return DeviceTime(source="slope")
        kernels = self._timer.kernels
        if not kernels:
            absent["device_time"] = "no round of device time had its kernels"
            return None
        slope_s = None
        with part(absent, "making the loop whose slope would tell", "device_time.slope_s"):
            slope_s = self._check_by_slope(sum(kernel.time_s for kernel in kernels))
        return DeviceTime(source="profiler", kernels=kernels, slope_s=slope_s)

    def _time_as_called(self, caller: Callable[..., Call]) -> float:
        """Median seconds of a call of own code as its author makes it, Python around the program included.

        **Raises** AbsentError where there is none.
        """
        compile_s = self.facts.compile.compile_s if self.facts.compile else 0.0
        if compile_s > CALLED_COMPILE_S:
            raise AbsentError(f"it would be compiled again, which took {compile_s:.0f} s")
        if self._stopwatch.typical_s > LONGEST_CALL_S:
            raise AbsentError("a call takes so long that the Python around it makes no difference")
        with jax.default_matmul_precision(self._case.precision):
            call = caller(self._workload.inputs(self._case.seed), self._device)
            return as_called_s(lambda: jax.block_until_ready(call()))

    def _check_by_slope(self, took_s: float) -> float:
        """The time of a call whose kernels `took_s`, by the slope of a loop.

        **Raises** AbsentError where there is none.
        """
        if took_s < SLOPE_FROM_S:
            raise AbsentError(
                f"of kernels shorter than {1e6 * SLOPE_FROM_S:.0f} µs, the loop's own cost would be too much"
            )
        if took_s > LONGEST_CALL_S:
            raise AbsentError(f"a call takes {took_s:.1f} s, and a loop whose slope would tell makes several")
        found = self._make_slope(took_s).round()
        if isinstance(found, Unavailable):
            raise AbsentError(found.reason)
        return float(np.median(found.samples_s))

    def _inspect_energy(self, energy_s: float) -> Energy:
        if energy_s <= 0:
            raise AbsentError("not asked for: timing.energy_s is 0")
        counter = energy.counter(self._device)
        if isinstance(counter, str):
            raise AbsentError(counter)
        run, typical_s = self._stopwatch.run, self._stopwatch.typical_s
        found = energy.measure(run, typical_s, counter, at_least_s=energy_s)
        if isinstance(found, str):
            raise AbsentError(found)
        return found


def _find_transfers(travel: Travel, asked: Sequence[Metric], absent: dict[str, str]) -> Transfers | None:
    absent |= {f"timings.{metric}": reason for metric in asked if (reason := travel.lacks(metric))}
    if reason := travel.lacks(Metric.h2d):
        absent["transfers"] = reason
        return None
    return travel.facts()


def _not_finite(accuracy: Accuracy) -> Iterator[Flag]:
    """Says of each array of an unchecked answer that it holds what is no number."""
    for leaf in accuracy.sketch:
        if leaf.not_finite:
            message = (
                f"{leaf.not_finite} of {leaf.elements} elements of the output{leaf.path} are NaN or infinite"
            )
            yield Flag(name=NOT_FINITE, metric=None, message=message)


def with_analysis(memory: Memory, analysis: Any) -> Memory:
    """The memory that a compiled program takes, by XLA's own account.

    **Raises** AbsentError where there is none.
    """
    if analysis is None:
        raise AbsentError("XLA gives no memory analysis here")
    return replace(
        memory,
        arguments_bytes=int(analysis.argument_size_in_bytes),
        outputs_bytes=int(analysis.output_size_in_bytes),
        temporaries_bytes=int(analysis.temp_size_in_bytes),
        peak_bytes=int(getattr(analysis, "peak_memory_in_bytes", 0)) or None,
        donated_bytes=int(analysis.alias_size_in_bytes),
    )


def dispatch_floor_s(device: Any) -> dict[str, float]:
    """Median seconds of a call of a program that adds one to a number, by metric: the cost of dispatch."""
    number = jax.device_put(np.float32(0), device)
    compiled = jax.jit(lambda x: x + np.float32(1)).lower(number).compile()
    call, block = make_call(compiled, Resident((number,), carries=False))
    stopwatch = make_stopwatch(call, block, number, carries=False)
    stopwatch.warm_up()
    return {metric.value: float(np.median(stopwatch.round(metric).samples_s)) for metric in BLOCKED}


def _as_they_are(call: Call, block: Block, arguments: Any) -> tuple[Call, Block]:
    return call, block

"""One case in one framework: opened, checked against the workload's reference, timed in rounds, closed."""

import gc
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from jaxaccel.peers.frameworks import FRAMEWORKS, WORKLOADS
from jaxaccel.peers.worker.program import Library, Program
from jaxaccel.records import NOT_ASKED, Arm, ArmFacts, DeviceTime, Memory, Metric, Spent
from jaxaccel.records.messages import Inspected, Opened, Round, Unavailable
from jaxaccel.worker.checks import ANSWER, RefusedError, binary, make_workload
from jaxaccel.worker.conditions import Conditions
from jaxaccel.worker.feeding import follow
from jaxaccel.worker.kernels import KernelTimer
from jaxaccel.worker.timing import AWAITED, BLOCKED, InvariantError, Laps, Stopwatch

NO_LOOP = "a loop around another library's calls would have their dispatch in it"
NO_STEPS = "the library does not tell tracing from compiling: first_call_s has both"
NOT_HERE = "jaxaccel.peers measures it of no framework but JAX"
ENERGY = "jaxaccel.peers counts none"


class Data:
    """The arguments of one case, made once for all arms of it: a gigabyte of them takes seconds."""

    def __init__(self) -> None:
        self._known: dict[str, Any] = {}

    def of(self, case_id: str, make: Callable[[], Any]) -> Any:
        """Those of the case, as they are on the host; nobody changes them."""
        if case_id not in self._known:
            self._known = {case_id: make()}
        return self._known[case_id]

    def forget(self) -> None:
        """Let go of them."""
        self._known = {}


class PeerArm:
    """An arm of another framework that is ready to be timed."""

    def __init__(
        self,
        arm: Arm,
        library: Library,
        facts: ArmFacts,
        floor_s: Mapping[str, float],
        metrics: Sequence[Metric] = BLOCKED,
        data: "Data | None" = None,
    ) -> None:
        """Place the data, compile, check the answer, warm up, be ready for rounds of `metrics`.

        **Raises** RefusedError for what can't be right, InvariantError for a wrong answer.
        """
        case, watch = arm.case, Laps()
        if case.workload not in WORKLOADS:
            raise RefusedError(f"`workload` must be one of {', '.join(WORKLOADS)}, got {case.workload!r}")
        if case.variant == "best":  # JAX's best is held against what each framework does anyway
            case = replace(case, variant="scan" if (case.params.get("steps") or 1) > 1 else "direct")
        self._precision, self._library = case.precision, library
        workload = make_workload(arm.target, case, arm.files)
        feed, feeds = getattr(workload, "feed", None), FRAMEWORKS[arm.framework].feeds
        if feed and feed not in feeds:
            raise RefusedError(
                f"`workload.feed` of {arm.framework} must be one of {', '.join(feeds)}, got {feed!r}"
            )
        memory = Memory(
            predicted_bytes=workload.memory_bytes(),
            capacity_bytes=library.capacity_bytes(),
            working_set_bytes=int(workload.cost().bytes or 0) or None,
        )
        if memory.predicted_bytes > memory.capacity_bytes:
            needed, free = binary(memory.predicted_bytes), binary(memory.capacity_bytes)
            raise RefusedError(f"{case} needs {needed}, and {free} are free: take a smaller size")
        library.prepare(case.precision)
        inputs = (data or Data()).of(arm.case.case_id, lambda: workload.inputs(case.seed))
        data_s = watch.lap()

        self._program = program = library.program(arm.framework, workload, case, inputs)
        made_s = watch.lap()
        result = program.block(program.call())
        output = program.fetch(result)
        first_call_s = made_s + watch.lap()
        accuracy = workload.verify(inputs, output, case.precision, program.run)
        if not accuracy.ok:
            raise InvariantError(
                ANSWER,
                f"the output of {arm.framework} differs from {accuracy.reference} by "
                f"{accuracy.relative_error or math.inf:.1e}, and {accuracy.tolerance:.1e} is tolerated",
            )
        reference_s = watch.lap()
        series: dict[str, tuple[float, ...]] = {}
        results: dict[str, float] = {}
        if leaves := program.leaves:
            outcome = follow(
                workload,
                case,
                result,
                lambda: program.block(program.call()),
                losses_of=program.fetch,
                leaves_of=lambda _: leaves(),
            )
            accuracy, series, results = outcome.accuracy, dict(outcome.series), dict(outcome.results)
        series_s = watch.lap()
        del inputs, result, output
        self._stopwatch = stopwatch_of(program)
        self._stopwatch.warm_up()
        gc.unfreeze()
        gc.collect()
        gc.freeze()
        warmup_s = watch.lap()
        absent = {
            "compile": NO_STEPS,
            "memory.peak_bytes": NOT_HERE,
            **{
                f"timings.{metric}": NOT_HERE for metric in metrics if metric not in (*BLOCKED, Metric.device)
            },
        }
        self._conditions = Conditions(library)
        self._timer: KernelTimer | None = None
        if Metric.device in metrics and library.trace:
            self._timer = KernelTimer(
                program.call,
                program.block,
                library.trace,
                typical_s=self._stopwatch.typical_s,
                profiler="PyTorch's profiler",
            )
        elif Metric.device in metrics:
            absent[f"timings.{Metric.device}"] = NO_LOOP
        self.facts = Opened(
            arm=replace(facts, framework=arm.framework),
            floor_s=floor_s,
            compile=None,
            first_call_s=first_call_s,
            call_s=self._stopwatch.typical_s,
            cost=workload.cost(),
            accuracy=accuracy,
            memory=memory,
            metrics=tuple(metric for metric in metrics if f"timings.{metric}" not in absent),
            series=series,
            results=results,
            spent_s=Spent(data=data_s, compile=made_s, warmup=first_call_s - made_s + series_s + warmup_s)
            + Spent(reference=reference_s),
            invariants={ANSWER: "passed", AWAITED: "passed"},
            warnings=self._conditions.warnings(),
            absent=absent,
        )

    def round(self, metric: Metric) -> Round | Unavailable:
        """A short burst of samples, or why there is none.

        **Raises** InvariantError for a result that was not awaited.
        """
        self._library.prepare(self._precision)
        if metric not in self.facts.metrics:
            return Unavailable(reason=self.facts.absent.get(f"timings.{metric}", NOT_ASKED))
        timer = self._timer if metric is Metric.device else None
        found = timer.round() if timer else self._stopwatch.round(metric)
        return replace(found, slowdowns=self._conditions.slowdowns()) if isinstance(found, Round) else found

    def inspect(self) -> Inspected:
        """The kernels, where there are any."""
        absent = {"energy": ENERGY}
        if self._timer and self._timer.kernels:
            absent["device_time.slope_s"] = NO_LOOP
            return Inspected(
                device_time=DeviceTime(source="profiler", kernels=self._timer.kernels), absent=absent
            )
        reason = self.facts.absent.get(f"timings.{Metric.device}", NOT_ASKED)
        return Inspected(absent=absent | {"device_time": reason})


def stopwatch_of(program: Program) -> Stopwatch:
    """What times a program."""
    return Stopwatch(
        program.call,
        program.block,
        chained=program.chained,
        output_bytes=program.output_bytes,
        settle=None,  # their calls run in order, and their allocators take a dropped result's memory at once
        ready=program.ready,
    )


def empty_call_s(library: Library, framework: str) -> dict[str, float]:
    """Median seconds of a call of a program that adds one to a number, by metric: the cost of dispatch."""
    stopwatch = stopwatch_of(library.empty(framework))
    stopwatch.warm_up()
    return {metric.value: float(np.median(stopwatch.round(metric).samples_s)) for metric in BLOCKED}

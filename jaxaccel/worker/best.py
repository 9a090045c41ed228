"""variant=best: tries all variants of a workload on this device, and keeps the fastest that is right."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import jax
import numpy as np

from jaxaccel.records import BEST, Arm, Case, Compile, Metric, Trial
from jaxaccel.worker.checks import (
    RefusedError,
    check_answer,
    check_operations,
    check_placed,
    find_kind,
    make_workload,
)
from jaxaccel.worker.hlo import outline
from jaxaccel.worker.problems import describe
from jaxaccel.worker.program import (
    Resident,
    compile_function,
    compiling,
    make_call,
    make_stopwatch,
    place,
)
from jaxaccel.worker.timing import Call, Stopwatch
from jaxaccel.workloads.base import Workload

ROUNDS = 3  # of each that is timed, in turn with the others'
# Times the fastest so far, and seconds: nobody waits for the rounds of such a variant. What is over sooner is
# soon timed, and its first calls may be slow for other reasons.
HOPELESS, HOPELESS_S = 10.0, 0.01


@dataclass(frozen=True, kw_only=True)
class Candidates:
    """The variants that can be what a case asks for, as workloads, by name; and why others can't."""

    workloads: Mapping[str, Workload]
    left_out: Mapping[str, Trial]


@dataclass(frozen=True, kw_only=True)
class Chosen:
    """The variant that was chosen, its program, and what became of each."""

    variant: str
    compiled: Any
    times: Compile
    first_call_s: float
    trials: Mapping[str, Trial]


@dataclass(frozen=True, kw_only=True)
class _Ready:
    """A variant that is right, with a stopwatch around its calls. first_s: the faster of its first two."""

    compiled: Any
    times: Compile
    first_call_s: float
    first_s: float
    stopwatch: Stopwatch


def candidates(arm: Arm) -> Candidates:
    """The workload of an arm, or of variant=best as many as there are variants for what it computes.

    **Raises** RefusedError where there is nothing to choose from, or what `make_workload` refuses.
    """
    case = arm.case
    if case.variant != BEST or arm.chosen:
        name = arm.chosen or case.variant
        only = make_workload(arm.target, replace(case, variant=name), arm.files)
        return Candidates(workloads={name: only}, left_out={})
    names = list(find_kind(arm.target).variants)
    if len(names) == 1:
        raise RefusedError(
            f"`workload.variant`=best needs variants to choose from, and {case.workload} has {names[0]} only"
        )
    found: dict[str, Workload] = {}
    refused: dict[str, RefusedError] = {}
    for name in names:
        try:
            found[name] = make_workload(arm.target, replace(case, variant=name), arm.files)
        except RefusedError as error:
            refused[name] = error
    if not found:
        raise next(iter(refused.values()))
    left_out = {name: Trial(time_s=None, ok=False, reason=str(error)) for name, error in refused.items()}
    return Candidates(workloads=found, left_out=left_out)


def choose(
    found: Candidates,
    case: Case,
    inputs: Any,
    arguments: Any,
    device: Any,
    metric: Metric,
    clock: Callable[[], float] = time.perf_counter,
) -> Chosen:
    """Try each: compile, check its answer, time it in a few rounds of `metric`, in turn with the others.

    `arguments` are `inputs` on the device. One that goes wrong is left out, and so is one that is another in
    other words, or takes more than HOPELESS times as long as the fastest before it in its first calls.

    **Raises** what the first variant did, where all went wrong.
    """
    trials, ready = dict(found.left_out), dict[str, _Ready]()
    programs: dict[tuple[str, ...], str] = {}
    errors: list[Exception] = []
    for name, workload in found.workloads.items():
        try:
            placed = _fresh(workload, inputs, arguments, device)
            compiled, times = compile_function(
                workload.function, placed, case.precision, carries=workload.carries, how=compiling(workload)
            )
            program = (*outline(compiled.as_text()),)
            if program in programs:
                reason = f"XLA makes the same program of it as of {programs[program]}"
                trials[name] = Trial(time_s=None, ok=False, reason=reason)
                continue
            made = _prepare(workload, compiled, times, case, inputs, placed, device, clock)
            programs[program] = name
        except Exception as error:  # whatever it raises, the others can be chosen
            errors.append(error)
            trials[name] = Trial(time_s=None, ok=False, reason=describe(error).message)
            continue
        fastest_s = min((other.first_s for other in ready.values()), default=made.first_s)
        if made.first_s > max(HOPELESS * fastest_s, HOPELESS_S):
            reason = f"its first calls took {made.first_s / fastest_s:.0f} times as long as the fastest's"
            trials[name] = Trial(time_s=made.first_s, ok=False, reason=reason)
            continue
        ready[name] = made
    if not ready:
        raise errors[0]
    times_s = _timed({name: made.stopwatch for name, made in ready.items()}, metric)
    trials |= {name: Trial(time_s=took_s, ok=True) for name, took_s in times_s.items()}
    variant = min(times_s, key=times_s.__getitem__)
    best = ready[variant]
    return Chosen(
        variant=variant,
        compiled=best.compiled,
        times=best.times,
        first_call_s=best.first_call_s,
        trials={name: trials[name] for name in (*found.left_out, *found.workloads)},
    )


def _fresh(workload: Workload, inputs: Any, arguments: Any, device: Any) -> Any:
    """Arguments of a first call: a donated carry is gone after it, and the others need it too."""
    if not workload.carries:
        return arguments
    carry = jax.block_until_ready(place(inputs[0], device, may_alias=False))
    return (carry, *arguments[1:])


def _prepare(
    workload: Workload,
    compiled: Any,
    times: Compile,
    case: Case,
    inputs: Any,
    arguments: Any,
    device: Any,
    clock: Callable[[], float],
) -> _Ready:
    check_operations(workload, compiled)
    call, block = make_call(compiled, Resident(arguments, carries=workload.carries))
    result, first_call_s = _clocked(call, clock)
    check_placed(result, device)
    output = result[1] if workload.carries else result
    check_answer(workload, case, inputs, output, device)
    # The second is of no library that is loaded, or memory that is asked for, by the first.
    _, second_s = _clocked(call, clock)
    stopwatch = make_stopwatch(call, block, output, carries=workload.carries, clock=clock)
    return _Ready(
        compiled=compiled,
        times=times,
        first_call_s=first_call_s,
        first_s=min(first_call_s, second_s),
        stopwatch=stopwatch,
    )


def _timed(stopwatches: Mapping[str, Stopwatch], metric: Metric) -> dict[str, float]:
    """Median seconds a call of each, of rounds in turn: so that all meet the same moments."""
    for stopwatch in stopwatches.values():
        stopwatch.warm_up()
    samples: dict[str, list[float]] = {name: [] for name in stopwatches}
    for _ in range(ROUNDS):
        for name, stopwatch in stopwatches.items():
            samples[name] += stopwatch.round(metric).samples_s
    return {name: float(np.median(found)) for name, found in samples.items()}


def _clocked(call: Call, clock: Callable[[], float]) -> tuple[Any, float]:
    start = clock()
    result = jax.block_until_ready(call())
    return result, clock() - start

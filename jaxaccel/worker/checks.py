"""What must be true of an arm before it is timed: it fits, the work is there, on the device, and right."""

import dataclasses
import math
import pkgutil
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

import jax

from jaxaccel.records import Accuracy, Case, Memory
from jaxaccel.worker.devices import capacity_bytes, free_bytes, host_available_bytes
from jaxaccel.worker.hlo import operations, reads_parameters
from jaxaccel.worker.program import compile_function, place
from jaxaccel.worker.sketch import digest_of, sketch
from jaxaccel.worker.timing import AWAITED, InvariantError
from jaxaccel.workloads.answer import negligible_norm, tolerance_of
from jaxaccel.workloads.base import Workload

OPERATIONS = "operations there"
PLACED = "on the device"
ANSWER = "answer right"

UNKNOWN_OPERATIONS = "skipped: which operations do the work of user code is not known"
UNCHECKED = "there is no reference: the answer is unchecked"


class RefusedError(ValueError):
    """The request can't be measured rightly: a wrong argument, or more memory than there is."""


def find_kind(target: str) -> Any:
    """The class of a workload.

    **Raises** RefusedError where `target` names nothing, or no workload's class.
    """
    try:
        kind: Any = pkgutil.resolve_name(target)
    except (ImportError, AttributeError, ValueError) as error:
        raise RefusedError(
            f"`workload._target_` must be package.module:Class, got {target!r} ({error})"
        ) from error
    if not dataclasses.is_dataclass(kind):
        raise RefusedError(f"`workload._target_` must be a workload's class, got {target!r}, which is none")
    return kind


def make_workload(target: str, case: Case, files: Mapping[str, str] | None = None) -> Workload:
    """The workload of a case, whose `files` lie where they lie here.

    **Raises** RefusedError where `target` names nothing, or it does not take the case's parameters.
    """
    kind = find_kind(target)
    names = [entry.name for entry in dataclasses.fields(kind)]
    given = [name for name in ("size", "dtype", "variant", "precision") if name in names]
    known = [name for name in names if name not in given]
    for name in case.params:
        if name not in known:
            raise RefusedError(
                f"unknown key `workload.{name}`; {case.workload} has {', '.join(known) or 'no parameters'}"
            )
    try:
        made: Workload = kind(**{name: getattr(case, name) for name in given}, **case.params, **(files or {}))
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
    if device.platform != "cpu" and needed > (free := free_bytes(device)) and needed <= places[0][2]:
        raise RefusedError(
            f"`size`={case.size} does not fit now: {case.workload} in {case.dtype} needs {binary(needed)} on "
            f"the gpu, of whose {binary(places[0][2])} other processes have left {binary(free)} free"
        )
    for name, wanted, there in places:
        if wanted > there:
            raise RefusedError(
                f"`size`={case.size} does not fit: {case.workload} in {case.dtype} needs {binary(wanted)} "
                f"on the {name}, which has {binary(there)} free"
            )
    _, wanted, there = places[0]
    return Memory(predicted_bytes=wanted, capacity_bytes=there, working_set_bytes=needed)


def check_operations(workload: Workload, compiled: Any) -> str:
    """The work is in the optimised program, and inside its loop where it is to be repeated.

    Returns what came of it, as an invariant says it.

    **Raises** InvariantError where XLA found that it need not do it, RefusedError where it needs no arguments
    for it.
    """
    program = compiled.as_text()
    if not reads_parameters(program):
        raise RefusedError("no result depends on the arguments: XLA computes it all when it compiles")
    if not workload.operations:
        return UNKNOWN_OPERATIONS
    there = operations(program, inside_loops=workload.loops)
    if not there.intersection(workload.operations):
        where = "its loop's body" if workload.loops else "the optimised program"
        wanted = " or ".join(sorted(workload.operations))
        raise InvariantError(
            OPERATIONS, f"{where} has no {wanted}: XLA left the work out, or does it only once"
        )
    return "passed"


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
    """Compare with the workload's reference; where it has none, say what another device is to be compared by.

    **Raises** InvariantError where the answer is wrong: a time of a wrong answer is no measurement.
    """

    def run(function: Callable[..., Any], *arguments: Any) -> Any:
        placed = place(arguments, device)
        compiled, _ = compile_function(function, placed, case.precision)
        return jax.device_get(compiled(*placed))

    found = jax.device_get(output)
    accuracy = workload.verify(inputs, found, case.precision, run)
    refuse_wrong(accuracy)
    if not getattr(workload, "sketched", False):
        return accuracy

    given = getattr(workload, "tolerance", None)
    rules: dict[str, Any] = {"case_dtype": case.dtype, "precision": case.precision}
    tolerance = partial(tolerance_of, tolerance=given, **rules)
    negligible = partial(negligible_norm, **rules) if given is None else None
    sketches = sketch(found, tolerance, negligible)
    return replace(accuracy, sketch=sketches, inputs=digest_of(inputs))


def refuse_wrong(accuracy: Accuracy) -> None:
    """Stop where an answer is known to be wrong.

    **Raises** InvariantError: a time of a wrong answer is no measurement.
    """
    if accuracy.ok is None or accuracy.ok:
        return
    if accuracy.relative_error is None:
        raise InvariantError(ANSWER, f"the output is not that of {accuracy.reference or 'the reference'}")
    if math.isinf(accuracy.relative_error):
        raise InvariantError(ANSWER, f"the output is not finite, or far from {accuracy.reference}")
    raise InvariantError(
        ANSWER,
        f"the output differs from {accuracy.reference} by {accuracy.relative_error:.1e}, "
        f"and {accuracy.tolerance:.1e} is tolerated",
    )


def binary(count: int) -> str:
    """Bytes for people: 1.5 GiB."""
    power = max(p for p in range(9) if p == 0 or count >= 1024**p)
    return f"{count / 1024**power:.1f} {('B', 'KiB', 'MiB', 'GiB', 'TiB', 'PiB', 'EiB', 'ZiB', 'YiB')[power]}"

"""A call that is an epoch, of steps that a loop in Python feeds; and the training that epochs make."""

import time
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import numpy as np

from jaxaccel.records import Case
from jaxaccel.worker.checks import refuse_wrong
from jaxaccel.worker.program import Resident
from jaxaccel.worker.timing import Call, quiet
from jaxaccel.workloads.base import Array, Outcome, Workload

FED = "not of a call that is a loop in Python over steps, whose feed is a part of it: see workload.feed=scan"
COPIES = "skipped: such a call sends its batches by explicit copies, which are timed; any other is refused"

# The host's part by itself: so many epochs, in so many seconds.
PREPARED_EPOCHS, PREPARED_S = 20, 0.5


def fed_call(workload: Workload, compiled: Any, resident: Resident, device: Any, seed: int) -> Call | None:
    """A function of no arguments that makes an epoch; None where one run of the program is a call.

    Its steps are those of the compiled program, and each call takes up what the one before it returned.
    """
    make = getattr(workload, "epoch", None)
    epoch = make(compiled, partial(jax.device_put, device=device), seed) if make else None
    if epoch is None:
        return None

    def call() -> Any:
        resident.carry, output = epoch(resident.carry)
        return resident.carry, output

    return call


def follow(
    workload: Any,
    case: Case,
    first: Any,
    call: Call,
    *,
    losses_of: Callable[[Any], Array],
    leaves_of: Callable[[Any], list[Array]],
) -> Outcome:
    """The training from its start, by the very calls that are timed; `first` is what the first of them gave.

    Of what a call gave, `losses_of` has the loss of each step, `leaves_of` the parameters after it.

    **Raises** InvariantError where its losses are not those of the reference.
    """
    result, losses = first, list[Any]()
    for epoch in range(workload.epochs):
        if epoch:
            result = call()
        losses.append(losses_of(result))
    leaves = leaves_of(result)
    found: Outcome = workload.outcome(case.seed, np.array(losses, np.float64), leaves, case.precision)
    refuse_wrong(found.accuracy)
    return found


def losses_of(result: Any) -> Array:
    """The losses (steps,) of an epoch that JAX made, on the host."""
    return np.concatenate([np.ravel(loss) for loss in jax.device_get(jax.tree.leaves(result[1]))])


def leaves_of(result: Any) -> list[Array]:
    """The leaves after it, on the host."""
    leaves: list[Array] = jax.device_get(result[0])
    return leaves


def host_work_s(
    workload: Any, seed: int, clock: Callable[[], float] = time.perf_counter
) -> dict[str, tuple[float, ...]]:
    """Seconds of preparing an epoch's batches on the host, alone, an epoch at a time; none where none is."""
    work = workload.host_work(seed)
    if work is None:
        return {}
    work()
    found, until = list[float](), clock() + PREPARED_S
    with quiet():
        while len(found) < PREPARED_EPOCHS and (not found or clock() < until):
            start = clock()
            work()
            found.append(clock() - start)
    return {"prepare_s": tuple(found)}

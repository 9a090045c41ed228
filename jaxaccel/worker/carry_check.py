"""What became of a carry while its calls were timed, and at which call.

Each call takes up what the one before returned. A carry may overflow, vanish, or be a finished answer long
before the last timed call: the times are then of other work than that of a call from the given start. It is
looked at once, after all timing. Where something is found, the program that was timed makes its calls again
from the given start, until the same is found there. So no timed call needs to be counted.
"""

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any

import jax
import numpy as np

from jaxaccel.records import LOOP_UNCHECKED, Flag
from jaxaccel.worker.checks import binary
from jaxaccel.worker.devices import capacity_bytes
from jaxaccel.worker.findings import BAD, OTHER, Arrays, Finding, GivesBack, OtherTrips, TurnedBad
from jaxaccel.worker.program import Resident
from jaxaccel.worker.replay import Replay, first_call
from jaxaccel.worker.trips import count_trips, has_while
from jaxaccel.workloads.base import Workload
from jaxaccel.workloads.jaxprs import arguments_read

SEARCH_S = 4.0  # for all that is searched for in a carry
# Calls whose trips are counted: a loop that draws random numbers makes a few more or less by itself.
LATER_CALLS, LATER_S = 5, 1.0  # of calls of seconds, one


def check_carry(
    workload: Workload,
    resident: Resident,
    given: Any,
    device: Any,
    run: Callable[[int], None],
    precision: str,
    clock: Callable[[], float] = time.perf_counter,
) -> tuple[Flag, ...]:
    """Flags for the carry that the timing of a workload left, which is another one afterwards.

    given: the first carry, on the host. `run` makes a number of calls, and waits for the last.
    """
    with jax.default_matmul_precision(precision):
        program = jax.jit(workload.function).trace(*resident.arguments).jaxpr
    read = arguments_read(program)[: len(jax.tree.leaves(given))]
    # An array that is only written, such as the result of a copy, changes nothing for the calls after it.
    places = [at for at, is_read in enumerate(read) if is_read]
    if not places:
        return ()
    replay = Replay(resident, given, device, run, clock)
    count = _trip_counter(program, resident, device)
    counting = count if callable(count) else None
    findings = _findings(
        Arrays(resident, given, getattr(workload, "carry_names", None)), places, replay, counting, clock
    )
    replay.until(SEARCH_S)
    flags = [_flag(finding, replay) for finding in findings]
    if isinstance(count, str):
        flags.append(Flag(name=LOOP_UNCHECKED, metric=None, message=count))
    return tuple(flags)


def _findings(
    arrays: Arrays,
    places: Sequence[int],
    replay: Replay,
    count: Callable[[], int] | None,
    clock: Callable[[], float],
) -> list[Finding]:
    """What is so at the end of the timing, and is not so of what was given."""
    call = partial(replay.make, 1)
    last = _bad(arrays, places)
    kept = _kept(arrays, places, call)
    bad = {name: last[name] & still for name, still in _bad(arrays, set().union(*last.values())).items()}
    trips = _later_trips(count, call, clock) if count else []
    if not (any(bad.values()) or kept or trips):
        return []
    end = arrays.fingerprints(kept, whole=True)

    replay.restart()
    given_so = _bad(arrays, set().union(*bad.values()))
    turned = {name: sorted(bad[name] - given_so[name]) for name in BAD}
    findings: list[Finding] = [
        TurnedBad(name=name, arrays=arrays, places=now) for name, now in turned.items() if now
    ]
    if not findings and (finished := _finished(arrays, places, kept, end)):
        findings.append(GivesBack(arrays=arrays, places=finished, call=call))
    if count:
        first, typical = count(), int(np.median(trips))
        findings += [
            OtherTrips(name=name, count=count, first=first, last=typical)
            for name, is_other in OTHER.items()
            if all(is_other(later, first) for later in trips)
        ]
    return findings


def _bad(arrays: Arrays, places: Iterable[int]) -> dict[str, set[int]]:
    """The arrays with numbers of each bad kind."""
    states = [*arrays.states(places)]
    return {name: {at for at, state in states if is_bad(state)} for name, (is_bad, _) in BAD.items()}


def _kept(arrays: Arrays, places: Sequence[int], call: Callable[[], None]) -> set[int]:
    """The arrays that a call gives back as they were, where all of any size are among them; or none.

    A number by itself may go on where all work is done: a counter, the time.
    """
    changed = set[int]()
    for whole in (False, True):  # of most carries, the beginning tells
        changed |= arrays.changed_by(call, places, whole=whole)
        if any(arrays.sizes[at] > 1 for at in changed):
            return set()
    return {*places} - changed


def _finished(arrays: Arrays, places: Sequence[int], kept: set[int], end: Mapping[int, Any]) -> list[int]:
    """The arrays that calls have changed since the start, and change no more; the carry now is the given one.

    end: fingerprints of those that are `kept` now.
    """
    given = arrays.fingerprints(kept, whole=True)
    moved = [at for at in places if at not in kept or given[at] != end[at]]
    moved = [at for at in moved if arrays.sizes[at] > 1] or moved
    return moved if kept.issuperset(moved) else []


def _later_trips(count: Callable[[], int], call: Callable[[], None], clock: Callable[[], float]) -> list[int]:
    found, until = list[int](), clock() + LATER_S
    while not found or (len(found) < LATER_CALLS and clock() < until):
        found.append(count())
        call()
    return found


def _flag(finding: Finding, replay: Replay) -> Flag:
    low, high = first_call(replay, finding.holds)
    later = 1 if finding.of_next_call else 0
    if high is None:
        when = f"after more than {low + later:,} calls"
    elif high == low + 1:
        when = f"from call {high + later:,} on"
    else:
        when = f"from some call between {low + 1 + later:,} and {high + later:,} on"
    return Flag(name=finding.name, metric=None, message=finding.says(when))


def _trip_counter(program: Any, resident: Resident, device: Any) -> Callable[[], int] | str | None:
    """What counts the trips of the next call; why it can't be had; None where there is no loop to count."""
    if not has_while(program):
        return None
    compiled = jax.jit(count_trips(program)).lower(*jax.tree.leaves(resident.arguments)).compile()
    analysis = compiled.memory_analysis()
    wanted = int(analysis.temp_size_in_bytes) if analysis else 0
    if wanted > capacity_bytes(device):
        return f"its while_loop was not looked at: counting its trips needs {binary(wanted)} on the device"
    return lambda: int(compiled(*jax.tree.leaves(resident.arguments)))

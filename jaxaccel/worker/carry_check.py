"""What became of a carry while its calls were timed, and at which call.

Each call takes up what the one before returned. A carry may overflow, vanish, or be a finished answer long
before the last timed call: the times are then of other work than that of a call from the given start. It is
looked at once, after all timing. Where something is found, the program that was timed makes its calls again
from the given start, until the same is found there. So no timed call needs to be counted.
"""

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import numpy as np

from jaxaccel.records import (
    CARRY_CONVERGED,
    CARRY_DENORMAL,
    CARRY_NOT_FINITE,
    CARRY_ZERO,
    LOOP_ENDS_EARLY,
    LOOP_RUNS_LONGER,
    LOOP_UNCHECKED,
    Flag,
)
from jaxaccel.worker.checks import binary
from jaxaccel.worker.devices import capacity_bytes
from jaxaccel.worker.leaf_state import State, fingerprint, look
from jaxaccel.worker.program import Resident
from jaxaccel.worker.replay import Replay, first_call
from jaxaccel.worker.trips import count_trips, has_while
from jaxaccel.workloads.base import Workload
from jaxaccel.workloads.jaxprs import read_arguments

SEARCH_S = 3.0  # for all that is searched for in a carry
LATER_CALLS = (
    5  # whose trips are counted: a loop that draws random numbers makes a few more or less by itself
)
OTHER_TRIPS = 0.1  # of the trips in the first call

# By the name of a flag: what is wrong with the numbers of an array, and how that is said.
BAD: dict[str, tuple[Callable[[State], bool], str]] = {
    CARRY_NOT_FINITE: (lambda state: state.nan + state.infinite > 0, "not finite"),
    CARRY_ZERO: (lambda state: 0 < state.size == state.zero, "all zeros"),
    CARRY_DENORMAL: (lambda state: 2 * state.denormal > state.size, "mostly denormal numbers"),
}


@dataclass(frozen=True, kw_only=True)
class _Finding:
    """Something that is so since some call. `holds`: whether it is so of the carry on the device.

    `says` makes a message of the words for that call: the one that made the carry, or the one after it.
    """

    name: str
    says: Callable[[str], str]
    holds: Callable[[], bool]
    of_next_call: bool = False


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
    read = read_arguments(program)[: len(jax.tree.leaves(given))]
    # An array that is only written, such as the result of a copy, changes nothing for the calls after it.
    leaves = [at for at, is_read in enumerate(read) if is_read]
    if not leaves:
        return ()
    check = _Check(resident, given, leaves, Replay(resident, given, device, run, clock))
    count = _trip_counter(program, resident, device)
    flags = check.flags(count if callable(count) else None)
    if isinstance(count, str):
        flags = (*flags, Flag(name=LOOP_UNCHECKED, metric=None, message=count))
    return flags


class _Check:
    """`leaves` are the places of the arrays of the carry that a call reads."""

    def __init__(self, resident: Resident, given: Any, leaves: Sequence[int], replay: Replay) -> None:
        self._resident, self._read, self._replay = resident, leaves, replay
        paths = jax.tree_util.tree_leaves_with_path(given)
        self._names = [f"the carry{jax.tree_util.keystr(path)}" for path, _ in paths]
        self._sizes = [np.size(leaf) for _, leaf in paths]

    def flags(self, count: Callable[[], int] | None) -> tuple[Flag, ...]:
        """All of them. `count` gives the trips of the loops in the next call."""
        last = {name: self._bad(name, self._read) for name in BAD}
        finished = self._finished()
        bad = {name: self._bad(name, leaves) for name, leaves in last.items()}
        trips = self._later_trips(count) if count else []
        if not (any(bad.values()) or finished or trips):
            return ()

        self._replay.restart()
        findings = [*self._turned_bad(bad)]
        if finished and not findings:
            findings += self._turned_finished(*finished)
        if count:
            findings += _turned_other(count, trips)
        self._replay.until(SEARCH_S)
        return tuple(self._flag(finding) for finding in findings)

    def _flag(self, finding: _Finding) -> Flag:
        low, high = first_call(self._replay, finding.holds)
        later = 1 if finding.of_next_call else 0
        if high is None:
            when = f"after more than {low + later:,} calls"
        elif high == low + 1:
            when = f"from call {high + later:,} on"
        else:
            when = f"from some call between {low + 1 + later:,} and {high + later:,} on"
        return Flag(name=finding.name, metric=None, message=finding.says(when))

    # --- the numbers of each array ---

    def _bad(self, name: str, leaves: Iterable[int]) -> list[int]:
        """Those of the leaves that are so now."""
        is_so, _ = BAD[name]
        carry = self._leaves()
        return [at for at in leaves if (state := look(carry[at])) and is_so(state)]

    def _turned_bad(self, bad: dict[str, list[int]]) -> Iterable[_Finding]:
        """What is so at the end, and is not so of what was given."""
        for name, leaves in bad.items():
            given_so = self._bad(name, leaves)
            if turned := [at for at in leaves if at not in given_so]:
                yield _Finding(
                    name=name,
                    says=partial(self._says_bad, name, turned),
                    holds=partial(self._any_bad, name, turned),
                )

    def _any_bad(self, name: str, leaves: Sequence[int]) -> bool:
        return bool(self._bad(name, leaves))

    def _says_bad(self, name: str, leaves: Sequence[int], when: str) -> str:
        others = f", and {len(leaves) - 1} more of its arrays later on" if len(leaves) > 1 else ""
        first = next(iter(self._bad(name, leaves)), leaves[0])  # where the search ended
        return f"{self._names[first]} is {BAD[name][1]} {when}{others}"

    # --- a carry that a call gives back ---

    def _finished(self) -> tuple[dict[int, Any], set[int]] | None:
        """Fingerprints of a carry that a call gives back, and what it changes still; None of another carry.

        What changes may be single numbers: a counter, or the time, goes on where all work is done.
        """
        for whole in (False, True):  # of most, the beginning tells
            before = self._fingerprints(self._read, whole=whole)
            self._replay.make(1)
            after = self._fingerprints(self._read, whole=whole)
            changed = {at for at in self._read if before[at] != after[at]}
            if any(self._sizes[at] > 1 for at in changed):
                return None
        return after, changed

    def _turned_finished(self, end: dict[int, Any], changed: set[int]) -> Iterable[_Finding]:
        given = self._fingerprints(self._read, whole=True)
        moved = [at for at in self._read if given[at] != end[at]]
        moved = [at for at in moved if self._sizes[at] > 1] or moved
        if moved and not changed.intersection(moved):
            yield _Finding(
                name=CARRY_CONVERGED,
                says=lambda when: (
                    f"{when}, each call gives back the carry that it was given: the work is done"
                ),
                holds=partial(self._gives_back, moved),
                of_next_call=True,
            )

    def _gives_back(self, leaves: Sequence[int]) -> bool:
        for whole in (False, True):
            before = self._fingerprints(leaves, whole=whole)
            self._replay.make(1)
            if before != self._fingerprints(leaves, whole=whole):
                return False
        return True

    def _fingerprints(self, leaves: Sequence[int], *, whole: bool) -> dict[int, Any]:
        carry = self._leaves()
        return {at: fingerprint(carry[at], whole=whole) for at in leaves}

    # --- loops that end by what the carry is ---

    def _later_trips(self, count: Callable[[], int]) -> list[int]:
        found = list[int]()
        for _ in range(LATER_CALLS):
            found.append(count())
            self._replay.make(1)
        return found

    def _leaves(self) -> list[Any]:
        leaves: list[Any] = jax.tree.leaves(self._resident.carry)
        return leaves


def _turned_other(count: Callable[[], int], later: Sequence[int]) -> Iterable[_Finding]:
    """Loops that make other trips in all later calls than in the first, for which the carry is now."""
    first, seen = count(), list[int]()
    fewer, more = first * (1 - OTHER_TRIPS), first * (1 + OTHER_TRIPS)
    kinds: dict[str, Callable[[int], bool]] = {
        LOOP_ENDS_EARLY: lambda trips: trips < fewer,
        LOOP_RUNS_LONGER: lambda trips: trips > more,
    }

    def holds(is_other: Callable[[int], bool]) -> bool:
        trips = count()
        if is_other(trips):
            seen.append(trips)
        return is_other(trips)

    def says(when: str) -> str:
        last = int(np.median(later))
        then = seen[-1] if seen else last
        end = f", and {last:,} at the end" if then != last else ""
        return (
            f"its while_loop makes {first:,} trips in the first call and {then:,} {when}{end}: "
            "later calls are not the work of the first"
        )

    for name, is_other in kinds.items():
        if all(map(is_other, later)):
            yield _Finding(name=name, says=says, holds=partial(holds, is_other), of_next_call=True)


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

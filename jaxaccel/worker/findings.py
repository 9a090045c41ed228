"""What the timing can do to a carry: each kind says whether it is so now, and tells it in words."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import jax
import numpy as np

from jaxaccel.records import (
    CARRY_CONVERGED,
    CARRY_DENORMAL,
    CARRY_NOT_FINITE,
    CARRY_ZERO,
    LOOP_ENDS_EARLY,
    LOOP_RUNS_LONGER,
)
from jaxaccel.worker.leaf_state import State, fingerprint, look
from jaxaccel.worker.program import Resident

# By the name of a flag: what is wrong with the numbers of an array, and how that is said.
BAD: dict[str, tuple[Callable[[State], bool], str]] = {
    CARRY_NOT_FINITE: (lambda state: state.nan + state.infinite > 0, "not finite"),
    CARRY_ZERO: (lambda state: 0 < state.size == state.zero, "all zeros"),
    CARRY_DENORMAL: (lambda state: 2 * state.denormal > state.size, "mostly denormal numbers"),
}
OTHER_TRIPS = 0.1  # of the trips in the first call
OTHER: dict[str, Callable[[int, int], bool]] = {
    LOOP_ENDS_EARLY: lambda trips, first: trips < first * (1 - OTHER_TRIPS),
    LOOP_RUNS_LONGER: lambda trips, first: trips > first * (1 + OTHER_TRIPS),
}


class Arrays:
    """The arrays of the carry that is on the device now, by their place; `given` is the first carry.

    names: what they are called in messages; by default, their places in the carry.
    """

    def __init__(self, resident: Resident, given: Any, names: Sequence[str] | None = None) -> None:
        self._resident = resident
        paths = jax.tree_util.tree_leaves_with_path(given)
        self.names = names or [f"the carry{jax.tree_util.keystr(path)}" for path, _ in paths]
        self.sizes = [np.size(leaf) for _, leaf in paths]

    def states(self, places: Iterable[int]) -> Iterable[tuple[int, State]]:
        """What numbers they hold, of those that hold floating-point numbers."""
        leaves = jax.tree.leaves(self._resident.carry)
        return ((at, state) for at in places if (state := look(leaves[at])))

    def fingerprints(self, places: Iterable[int], *, whole: bool) -> dict[int, tuple[int, ...]]:
        """Of the first numbers of each, or of the whole."""
        leaves = jax.tree.leaves(self._resident.carry)
        return {at: fingerprint(leaves[at], whole=whole) for at in places}

    def changed_by(self, call: Callable[[], None], places: Sequence[int], *, whole: bool) -> set[int]:
        """Those that a call changes, in their first numbers or in any."""
        before = self.fingerprints(places, whole=whole)
        call()
        after = self.fingerprints(places, whole=whole)
        return {at for at in places if before[at] != after[at]}


class Finding(Protocol):
    """A change that begins at some call: the one that made the carry or, if `of_next_call`, the next one."""

    of_next_call: bool

    @property
    def name(self) -> str:
        """The name of the flag."""

    def holds(self) -> bool:
        """Whether the carry on the device now shows the change."""

    def says(self, when: str) -> str:
        """The message of the flag. `when` names the call at which `holds` was last true."""


@dataclass(kw_only=True)
class TurnedBad:
    """Arrays whose numbers have become of a kind that BAD has."""

    name: str
    arrays: Arrays
    places: Sequence[int]
    of_next_call: bool = False
    _first: int | None = None

    def holds(self) -> bool:
        """Whether one of the arrays has such numbers."""
        is_bad, _ = BAD[self.name]
        bad = next((at for at, state in self.arrays.states(self.places) if is_bad(state)), None)
        self._first = self._first if bad is None else bad
        return bad is not None

    def says(self, when: str) -> str:
        """The first of the arrays, and how many there are at the end."""
        names, many = self.arrays.names, len(self.places)
        first = names[self.places[0] if self._first is None else self._first]
        end = f"; at the end of the timing, {many} of its {len(names)} arrays are" if many > 1 else ""
        return f"{first} is {BAD[self.name][1]} {when}{end}"


@dataclass(kw_only=True)
class GivesBack:
    """Arrays that a call returns as it was given them. `call` makes one."""

    arrays: Arrays
    places: Sequence[int]
    call: Callable[[], None]
    name: str = CARRY_CONVERGED
    of_next_call: bool = True

    def holds(self) -> bool:
        """Whether the next call leaves all of the arrays unchanged."""
        ways = (False, True)
        return not any(self.arrays.changed_by(self.call, self.places, whole=whole) for whole in ways)

    def says(self, when: str) -> str:
        """That the work is done."""
        return f"{when}, each call gives back the carry that it was given: the work is done"


@dataclass(kw_only=True)
class OtherTrips:
    """Loops that make other trips than in the first call. `count` gives those of the next one."""

    name: str
    count: Callable[[], int]
    first: int
    last: int
    of_next_call: bool = True
    _seen: list[int] = field(default_factory=list)

    def holds(self) -> bool:
        """Whether the next call makes another number of trips."""
        trips = self.count()
        is_other = OTHER[self.name](trips, self.first)
        if is_other:
            self._seen.append(trips)
        return is_other

    def says(self, when: str) -> str:
        """The trips of the first call, of that one, and of the last."""
        then = self._seen[-1] if self._seen else self.last
        end = f", and {self.last:,} at the end" if then != self.last else ""
        return (
            f"its while_loop makes {self.first:,} trips in the first call and {then:,} {when}{end}: "
            "later calls are not the work of the first"
        )

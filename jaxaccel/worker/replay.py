"""Calls made again from the given start, and the first call after which something is so."""

import time
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from jaxaccel.worker.program import Resident

BATCH_S = 0.05  # of calls between two looks at the clock
KEPT_BYTES = 1 << 28  # a larger carry is not kept on the way: going back starts from what was given
COPY_BYTES_PER_S = 1e9  # about: memory that is asked for anew is slow, and so is the way from a GPU


class LimitError(RuntimeError):
    """The time for the search is over."""


class Replay:
    """The calls of an arm. given: its first carry, on the host. `run` makes a number of calls and waits."""

    def __init__(
        self,
        resident: Resident,
        given: Any,
        device: Any,
        run: Callable[[int], None],
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self._resident, self._device, self._run, self._clock = resident, device, run, clock
        self._start = self._kept = (0, given)
        self._carry_bytes = sum(leaf.nbytes for leaf in jax.tree.leaves(given))
        self._since_kept_s = 0.0  # in calls
        self._limit_s: float | None = None
        self._batch = 1
        self.made = 0

    def until(self, seconds: float) -> None:
        """Limit all searches from now on to this many seconds together."""
        self._limit_s = self._clock() + seconds

    def restart(self) -> None:
        """Take up the first carry."""
        self._kept = self._start
        self._go_back()

    def go_to(self, calls: int) -> None:
        """Make the carry that so many calls give.

        **Raises** LimitError where there is no time left.
        """
        if calls < self.made:
            self._go_back()
        self.make(calls - self.made)

    def make(self, calls: int) -> None:
        """Make so many more calls.

        **Raises** LimitError where there is no time left.
        """
        while calls > 0:
            start = self._clock()
            if self._limit_s is not None and start > self._limit_s:
                raise LimitError
            batch = min(calls, self._batch)
            self._run(batch)
            self.made += batch
            calls -= batch
            took_s = self._clock() - start
            self._since_kept_s += took_s
            self._batch = 2 * batch if took_s < BATCH_S else max(1, batch // 2)

    def copied(self) -> tuple[int, Any] | None:
        """The present carry on the host; None where making it again is as fast, or where it is large."""
        copying_s = self._carry_bytes / COPY_BYTES_PER_S
        if self._carry_bytes > KEPT_BYTES or self._since_kept_s < copying_s:
            return None
        return self.made, jax.tree.map(np.array, self._resident.carry)

    def keep(self, copied: tuple[int, Any] | None) -> None:
        """Make `copied` the carry to which later searches go back; None changes nothing."""
        if copied:
            self._kept, self._since_kept_s = copied, 0.0

    def _go_back(self) -> None:
        self.made, carry = self._kept
        self._since_kept_s = 0.0
        self._resident.carry = None  # its memory is free for what takes its place
        placed = jax.device_put(carry, self._device, may_alias=False)
        self._resident.carry = jax.block_until_ready(placed)


def first_call(replay: Replay, holds: Callable[[], bool]) -> tuple[int, int | None]:
    """(calls after which it does not hold, calls after which it does), one apart where there is time.

    It does not hold at the start. `holds` may make calls, too. The second is None where it was not seen to
    hold. Of what comes and goes, this is one of the calls at which it comes.
    """
    low, high = 0, None
    try:
        replay.restart()
        while high is None or high - low > 1:
            at = max(1, 2 * low) if high is None else (low + high) // 2
            replay.go_to(at)
            here = replay.copied()
            if holds():
                high = at
            else:
                low = at
                replay.keep(here)
    except LimitError:
        pass
    return low, high

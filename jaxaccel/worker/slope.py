"""Device time from the slope of a loop inside one program: two trip counts differ by calls, not by dispatch.

The operands travel in the loop's carry behind an optimisation barrier that ties them to the last output: XLA
would otherwise compute once what does not change. The barrier copies nothing: on a CPU the loop's body has
the very operations, copies and threads of the program that is called (jax 0.10.2). A trip has one call: of
several equal ones XLA makes one, once it has taken the barriers away. So a trip's own cost is part of the
slope: 1 to 3 µs on a GPU (experiments/clocks: 61.4 against 60.4 for matvec 8192), next to nothing on a CPU.
What a call allocates, the loop allocates once: a CPU's calls that need much new memory take longer than
their slope (a bfloat16 matvec of 16384, which XLA converts whole: 212 ms, and 78 in the loop, 16 Xeon cores).
"""

import math
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental.layout import Layout, with_layout_constraint

from jaxaccel.records.messages import Round, Unavailable
from jaxaccel.worker.hlo import array_operations, operations, operations_outside
from jaxaccel.worker.program import Resident, wait
from jaxaccel.worker.timing import LONG_CALL_S, LONGEST_CALL_S, AbsentError, burst
from jaxaccel.workloads.base import Workload

# By how much the longer loop should take longer: many times what dispatch varies by, which on a GPU is more.
# At 5 ms, slopes there were up to 9.5% off the profiler's times (experiments/accounting), at 50 ms 2.7%
# (experiments/clocks).
LONGER_S, LONGER_ON_GPU_S = 0.005, 0.05
SAMPLES = 5  # of a round: each is of many calls, and a round should be over before the machine has drifted
MAX_TRIPS = 1 << 16
TRIES = 3  # of the longer loop, by the fastest of which its trips are chosen
MAX_ARRAYS = 1000  # of arguments: with 1500 a loop took 7 s to compile, and the program 2
# Of a call shorter than LONG_CALL_S, by so many calls at least: a difference of few has the noise of as many.
MIN_MORE = 3
# XLA's mark on a loop that touches no more than 1 KiB on a CPU. LLVM compiles it as one function, barriers
# forgotten, and leaves calls out: a trip of a sum of 16 numbers "took" 6 picoseconds (jax 0.10.2).
WHOLE = "xla_cpu_small_call"
_HEAVY = frozenset({"dot", "convolution", "custom-call", "fft", "sort", "reduce", "reduce-window", "scatter"})
# What any program has, and what a loop of nothing has beside that: its count, a number, and its carry.
_FREE = frozenset(
    {"parameter", "constant", "tuple", "get-tuple-element", "opt-barrier", "bitcast", "while", "fusion"}
    | {"call", "conditional"}
)
_COUNT, _MOVED = frozenset({"add", "compare"}), frozenset({"copy", "iota", "broadcast"})


class Slope:
    """Rounds of a call's time inside a loop. `typical_s` is about what a call takes, or more.

    A sample is the difference between two loops over their calls: noise can make one negative.
    """

    def __init__(
        self,
        workload: Workload,
        resident: Resident,
        *,
        precision: str,
        typical_s: float,
        on_gpu: bool,
        compiled: Any = None,
    ) -> None:
        """Compile the loop. `compiled` is the program that a call runs.

        **Raises** LoopError where the work may not be done in each trip.
        """
        self._resident = resident
        if (arrays := len(jax.tree.leaves(resident.arguments))) > MAX_ARRAYS:
            raise LoopError(
                f"the loop whose slope would tell would carry {arrays} arrays: XLA takes several times as "
                "long to compile it as to compile the program"
            )
        short = 2 if on_gpu else 1  # XLA does away with a loop of which it knows that it has one trip
        self._idle_matters = typical_s < LONG_CALL_S
        least = MIN_MORE if self._idle_matters else 1
        longer_s = LONGER_ON_GPU_S if on_gpu else LONGER_S
        more = max(least, min(MAX_TRIPS, math.ceil(longer_s / typical_s)))
        loop = looped(workload.function, carries=workload.carries)
        donated = (1,) if workload.carries else ()
        with jax.default_matmul_precision(precision):
            if on_gpu:  # where the count is known, the GPU need not ask the host after each trip
                self._loops = [
                    jax.jit(loop, static_argnums=0, donate_argnums=donated, keep_unused=True)
                    .lower(count, resident.carry, resident.rest)
                    .compile()
                    for count in (short, short + more)
                ]
                self._counts: list[tuple[Any, ...]] = [(), ()]
            else:
                any_count = (
                    jax.jit(loop, donate_argnums=donated, keep_unused=True)
                    .lower(np.int32(0), resident.carry, resident.rest)
                    .compile()
                )
                self._loops = [any_count, any_count]
                self._counts = [self._count(short), self._count(short + more)]
        program = self._loops[1].as_text()
        if not stays_inside(program, workload.operations, compiled):
            raise LoopError("XLA moved the work out of the loop whose slope would tell")
        if WHOLE in program:
            raise LoopError("so little work that the compiler sees through the loop whose slope would tell")
        # Dispatch is in `typical_s`, but not in a trip: of a short call, more trips are needed.
        tries = TRIES if self._idle_matters else 1
        while typical_s <= LONGEST_CALL_S and not on_gpu and more < MAX_TRIPS:
            took_s = min(self._timed(1) for _ in range(tries))
            if took_s > 0.7 * LONGER_S:
                break
            more = min(MAX_TRIPS, math.ceil(more * LONGER_S / took_s))
            self._counts[1] = self._count(short + more)
        self._more = more

    def round(self) -> Round | Unavailable:
        """A sample for each pair of a short and a long loop; it says why where noise hides the slope."""
        found = burst(self._sample, depth=self._more, least=SAMPLES, idle_matters=self._idle_matters)
        # Not tried again: to choose among rounds would be to choose among results.
        if np.median(found.samples_s) > 0:
            return found
        return Unavailable(reason="the longer loop was no slower than the shorter: there is too much noise")

    def _count(self, trips: int) -> tuple[Any]:
        """A number of trips, where the data is."""
        (device,) = jax.tree.leaves(self._resident.arguments)[0].devices()
        with jax.default_device(device):  # not bound to it: what comes out of the loop would be, too
            return (jax.device_put(np.int32(trips)),)

    def _sample(self) -> float:
        short, long = (self._timed(which) for which in (0, 1))
        return (long - short) / self._more

    def _timed(self, which: int) -> float:
        resident = self._resident
        start = time.perf_counter()
        carry, output = self._loops[which](*self._counts[which], resident.carry, resident.rest)
        wait((carry, output))
        took = time.perf_counter() - start
        resident.carry = carry
        return took


class LoopError(AbsentError):
    """A loop does not do what its slope would be taken for."""


def looped(function: Callable[..., Any], *, carries: bool) -> Callable[..., Any]:
    """(trips, carry, rest) -> (carry, last output), calling `function` once a trip."""

    def loop(trips: Any, carry: Any, rest: tuple[Any, ...]) -> tuple[Any, Any]:
        # The output's shapes are found by the same trace of the function that the loop takes its body from.
        call = jax.jit(lambda carry, rest: function(carry, *rest) if carries else (carry, function(*rest)))

        def trip(_: Any, state: Any) -> Any:
            carry, rest, last = state
            # The carry too: a function may leave a part of it as it is.
            carry, rest, last = jax.lax.optimization_barrier((carry, rest, last))
            carry, last = call(carry, in_rows(rest))
            return in_rows(carry), rest, in_rows(last)

        shapes = jax.eval_shape(call, carry, rest)[1]
        carry, _, last = jax.lax.fori_loop(_like(trips, 0), trips, trip, (carry, rest, _zeros(shapes)))
        return carry, last

    return loop


def in_rows(arrays: Any) -> Any:
    """The arrays, laid out in a loop as a program's arguments and results are.

    XLA would else transpose an array once, outside of the loop, and leave it in columns inside.
    """
    return jax.tree.map(
        lambda leaf: with_layout_constraint(leaf, Layout(tuple(range(leaf.ndim)))) if leaf.ndim > 1 else leaf,
        arrays,
    )


def stays_inside(program: str, wanted: frozenset[str], compiled: Any = None) -> bool:
    """Whether a loop's body has one of the operations that do the work.

    Of user code nobody knows these: then nothing that takes long is to be outside, and something is inside:
    an operation on arrays, or one that no loop needs for itself. Where a call does no more than to move data,
    the loop must move it in the same ways. `compiled` is the program of a call.
    """
    inside = operations(program, inside_loops=True)
    if wanted:
        return bool(inside & wanted)
    if _HEAVY & operations_outside(program):
        return False
    on_arrays = array_operations(program, inside_loops=True) - _FREE
    if inside - _FREE - _COUNT - _MOVED or on_arrays - _MOVED:
        return True
    moved = array_operations(compiled.as_text()) - _FREE if compiled else frozenset()
    return bool(moved) and moved <= on_arrays


def _zeros(shapes: Any) -> Any:
    """Arrays of zeros, 64 bits wide where that is their type, whatever JAX's width is at present."""
    with jax.enable_x64(True):
        return jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shapes)


def _like(trips: Any, number: int) -> Any:
    return number if isinstance(trips, int) else jnp.asarray(number, trips.dtype)

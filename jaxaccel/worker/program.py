"""From a workload's function to a compiled program, and the calls that run it on resident data."""

import functools
import math
import time
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxaccel.records import Compile
from jaxaccel.worker.timing import Block, Call, InvariantError, Laps, Stopwatch
from jaxaccel.workloads.base import Compiling, Workload
from jaxaccel.workloads.jaxprs import constants, primitives

USUAL = Compiling()
ARGUMENTS = "everything an argument"
CALLBACKS = frozenset({"pure_callback", "io_callback", "debug_callback", "debug_print"})
ARRAY_BYTES = 4096  # of an array of one element: jax.Array, its buffer and its events


class Resident:
    """A workload's arguments on the device. Where it carries, each call's carry replaces the one before."""

    def __init__(self, arguments: tuple[Any, ...], *, carries: bool) -> None:
        self.carries = carries
        self.carry = arguments[0] if carries else None
        self.rest = arguments[1:] if carries else arguments

    @property
    def arguments(self) -> tuple[Any, ...]:
        """All of them, as the next call takes them."""
        return (self.carry, *self.rest) if self.carries else self.rest


def place(arrays: Any, device: Any, *, may_alias: bool | None = None) -> Any:
    """The arrays, on the device. JAX's own functions take them as they are; a compiled program, not all.

    It refuses an array of less than a byte an element that is bound to a device, for JAX forgets the width of
    the elements of such an array (0.10.2: "input layouts that disagree"). Where there is one, none is bound.
    """
    if any(is_narrow(leaf.dtype) for leaf in jax.tree.leaves(arrays)):
        with jax.default_device(device):
            return jax.device_put(arrays, may_alias=may_alias)
    return jax.device_put(arrays, device, may_alias=may_alias)


def is_narrow(dtype: Any) -> bool:
    """Whether elements of a type take less than a byte."""
    if jnp.issubdtype(dtype, jnp.integer):
        return bool(jnp.iinfo(dtype).bits < 8)
    return bool(jnp.issubdtype(dtype, jnp.floating) and jnp.finfo(dtype).bits < 8)


def compiling(workload: Workload) -> Compiling:
    """How the workload's function is compiled: as it says, or as most are."""
    found: Compiling = getattr(workload, "compiling", USUAL)
    return found


def as_timed(function: Callable[..., Any], *, carries: bool, how: Compiling = USUAL) -> Any:
    """The function, jitted as it is timed: a carry's memory is the next one's, if it is donated."""
    # Kept even where it is not read: JAX would drop such a carry, and the result could not take its memory.
    return jax.jit(
        function,
        donate_argnums=(0,) if carries and how.donates else (),
        keep_unused=carries,
        compiler_options=dict(how.options) or None,
    )


def compile_function(
    function: Callable[..., Any],
    arguments: tuple[Any, ...],
    precision: str,
    *,
    carries: bool = False,
    how: Compiling = USUAL,
) -> tuple[Any, Compile]:
    """The AOT-compiled function, which refuses other shapes, and how long each step took.

    **Raises** InvariantError where the function captured more than `how` allows: XLA would fold it into the
    answer.
    """
    jitted = as_timed(function, carries=carries, how=how)
    watch = Laps()
    with cache_events() as events, jax.default_matmul_precision(precision):
        traced = jitted.trace(*arguments)
        trace_s = watch.lap()
        lowered = traced.lower()
        lower_s = watch.lap()
        compiled = lowered.compile()
        compile_s = watch.lap()
    captured = [np.asarray(value) for value in constants(traced.jaxpr)]
    shapes = [value.shape for value in captured if value.size > 1]
    if shapes and sum(value.nbytes for value in captured) > how.constants_bytes:
        raise InvariantError(
            ARGUMENTS,
            f"the timed function captured an array of shape {max(shapes, key=math.prod)} instead of taking "
            "it as an argument: XLA may compute with it once, at compile time",
        )
    names, computes = events.names, set(primitives(traced.jaxpr))
    cache = "hit" if "cache_hits" in names else "miss" if "cache_misses" in names else "off"
    times = Compile(
        trace_s=trace_s,
        lower_s=lower_s,
        compile_s=compile_s,
        cache=cache,
        saved_s=events.saved_s,
        callbacks=bool(CALLBACKS & computes),
    )
    return compiled, times


def make_call(compiled: Any, resident: Resident) -> tuple[Call, Block]:
    """A function of no arguments that runs the program once, and one that waits for what it returned.

    Where the workload carries, each call takes up what the one before it returned.
    """
    if not resident.carries:
        return functools.partial(compiled, *resident.rest), wait
    rest = resident.rest

    def step() -> Any:
        resident.carry, output = compiled(resident.carry, *rest)
        return resident.carry, output

    return step, wait


def make_fed_call(compiled: Any, resident: Resident) -> Callable[[tuple[Any, ...]], Any]:
    """A function that runs the program on arguments that have just arrived, and gives its output.

    A carry does not travel: it stays on the device, as in a training loop. Where nothing else comes back, it
    is waited for.
    """
    if not resident.carries:
        return lambda arrived: compiled(*arrived)

    def step(arrived: tuple[Any, ...]) -> Any:
        resident.carry, output = compiled(resident.carry, *arrived)
        if isinstance(output, list) and not output:
            wait(resident.carry)
        return output

    return step


def wait(result: Any) -> Any:
    """Block until every array of a result is there.

    `jax.block_until_ready` walks a pytree, which costs microseconds that a single array need not pay.
    """
    return result.block_until_ready() if isinstance(result, jax.Array) else jax.block_until_ready(result)


def make_stopwatch(
    call: Call, block: Block, output: Any, *, carries: bool, clock: Callable[[], float] = time.perf_counter
) -> Stopwatch:
    """A Stopwatch around a program's calls; `output` is what one gave, beside a carry where it `carries`."""
    return Stopwatch(
        call,
        block,
        # A donated carry is reused; only what comes out beside it piles up.
        output_bytes=held_bytes(output),
        chained=carries,
        settle=make_settle(carries=carries),
        ready=is_ready,
        clock=clock,
    )


def make_settle(*, carries: bool) -> Callable[[Sequence[Any]], Any]:
    """A function that blocks on what earlier calls returned, but for a carry that was taken over since."""

    def settle(results: Sequence[Any]) -> None:
        jax.block_until_ready([leaf for leaf in jax.tree.leaves(results) if not leaf.is_deleted()])

    return settle if carries else jax.block_until_ready


def held_bytes(result: Any) -> int:
    """Bytes that a result takes while it is kept, those of its Python objects included."""
    return sum(leaf.nbytes + ARRAY_BYTES for leaf in jax.tree.leaves(result))


def is_ready(result: Any) -> bool:
    """Whether every array of a result is there, without waiting for it."""
    return all(leaf.is_ready() for leaf in jax.tree.leaves(result) if not leaf.is_deleted())


class cache_events:  # noqa: N801
    """Collects the names of JAX's compile-cache events while it is entered, and the seconds that it saved."""

    _listening: "cache_events | None" = None
    _registered = False

    def __init__(self) -> None:
        self.names, self.saved_s = set[str](), 0.0

    def __enter__(self) -> "cache_events":
        if not cache_events._registered:  # JAX has no public way to take a listener off again
            jax.monitoring.register_event_listener(self._note)
            jax.monitoring.register_event_duration_secs_listener(self._note)
            cache_events._registered = True
        cache_events._listening = self
        return self

    def __exit__(self, *_: object) -> None:
        cache_events._listening = None

    @staticmethod
    def _note(event: str, duration_s: float = 0.0, **_: object) -> None:
        listening = cache_events._listening
        if listening is not None and "compilation_cache" in event:
            listening.names.add(event.rsplit("/", 1)[-1])
            if event.endswith("compile_time_saved_sec"):
                listening.saved_s += max(0.0, duration_s)

"""What it costs to bring a call's inputs to the device and its output back, alone and around the call."""

import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import jax
import numpy as np

from jaxaccel.records import Metric, Transfers
from jaxaccel.records.messages import Round, Unavailable
from jaxaccel.worker.checks import ANSWER, binary
from jaxaccel.worker.devices import capacity_bytes, host_available_bytes
from jaxaccel.worker.program import is_narrow, place, wait
from jaxaccel.worker.timing import LONG_CALL_S, LONGEST_CALL_S, InvariantError, burst

PINNED = "pinned_host"  # JAX's name for host memory that a device copies from and to by itself
NOTHING_SENT = "all arguments stay on the device from call to call: nothing is sent"
NOTHING_BACK = "all results stay on the device from call to call: nothing comes back"
NO_PINNED = "a CPU reads the host's memory as it is: there is nothing to pin"
# One program on the same bits may sum in another order, which is far from summing something else.
SAME = 0.05

TRAVELS = (
    Metric.end_to_end,
    Metric.end_to_end_pinned,
    Metric.h2d,
    Metric.h2d_pinned,
    Metric.d2h,
    Metric.d2h_pinned,
)
PINNED_TRAVELS = (Metric.end_to_end_pinned, Metric.h2d_pinned, Metric.d2h_pinned)
UP = (Metric.h2d, Metric.h2d_pinned)
BACK = (Metric.d2h, Metric.d2h_pinned)  # need no inputs but those that are resident
WHOLE_CALLS = (Metric.end_to_end, Metric.end_to_end_pinned)


class Travel:
    """Rounds of transfers. `inputs` are those that travel, on the host.

    `fed` runs the program on what has arrived, `fresh` on resident data; both give the output. answer: what
    resident data gave, on the host; None where no two outputs need be the same. returns: whether there is any
    output. call_s: about what a call takes. beside_bytes: what a call holds beside its inputs. `capacity`
    gives the bytes that are free on a device.
    """

    def __init__(
        self,
        inputs: tuple[Any, ...],
        fed: Callable[[tuple[Any, ...]], Any],
        fresh: Callable[[], Any],
        device: Any,
        *,
        answer: Any = None,
        returns: bool = True,
        call_s: float = 0.0,
        beside_bytes: int = 0,
        capacity: Callable[[Any], int] = capacity_bytes,
        host_capacity: Callable[[], int] = host_available_bytes,
    ) -> None:
        self._inputs, self._fed, self._fresh, self._device = inputs, fed, fresh, device
        self._capacity, self._host_capacity = capacity, host_capacity
        self._answer, self._beside_bytes = answer, beside_bytes
        self._returns, self._is_long = returns, call_s > LONGEST_CALL_S
        self._on_cpu = device.platform == "cpu"
        self._narrow = any(is_narrow(leaf.dtype) for leaf in jax.tree.leaves(inputs))
        self._there = jax.sharding.SingleDeviceSharding(device)
        self._pinned: tuple[Any, ...] | None = None
        self._typical_s: dict[Metric, float] = {}
        self._result: Any = None  # of the last sample: freed before the next clock starts
        self._kept: Any = None  # an output of a long call, never fetched itself

    def lacks(self, metric: Metric) -> str | None:
        """Why no round of a metric can be had; None where it can."""
        wanted = _nbytes(self._inputs)
        if not self._inputs and (metric in UP or (metric not in BACK and not self._returns)):
            return NOTHING_SENT
        if metric in BACK and not self._returns:
            return NOTHING_BACK
        if metric in PINNED_TRAVELS:
            if self._on_cpu:
                return NO_PINNED
            if metric not in BACK and self._pinned is None and wanted > self._host_capacity():
                return f"a pinned copy of the inputs, {binary(wanted)}, does not fit in the host's memory"
        if metric not in BACK and wanted + self._beside_bytes > self._capacity(self._device):
            return f"a second copy of the inputs, {binary(wanted)}, does not fit on the device"
        return None

    def facts(self) -> Transfers:
        """What travels, and whether anything moves at all. Needs room for a second copy of the inputs.

        **Raises** InvariantError where data that has just arrived gives another answer than resident data.
        """
        arrived = self._put(self._inputs)
        up = _how(self._inputs, arrived)
        output = wait(self._fed(arrived))
        back = jax.device_get(output)
        if self._answer is not None:
            check_same(back, self._answer)
            self._answer = None
        return Transfers(
            h2d_bytes=_nbytes(self._inputs), d2h_bytes=_nbytes(back), h2d=up, d2h=_how(back, output)
        )

    def round(self, metric: Metric) -> Round | Unavailable:
        """A short burst of samples; or why there is none."""
        if reason := self.lacks(metric):
            return Unavailable(reason=reason)
        if metric in PINNED_TRAVELS and metric not in BACK and self._pinned is None:
            self._pinned = jax.block_until_ready(jax.device_put(self._inputs, self._host_side()))
        begin, before_s = time.perf_counter(), 0.0
        unfetched = self._outputs() if metric in BACK else self._fresh
        samples: dict[Metric, Callable[[], float]] = {
            Metric.h2d: lambda: self._h2d(self._inputs),
            Metric.h2d_pinned: lambda: self._h2d(self._pinned),
            Metric.d2h: lambda: self._d2h(unfetched, jax.device_get),
            Metric.d2h_pinned: lambda: self._d2h(unfetched, self._get_pinned),
            Metric.end_to_end: lambda: self._end_to_end(self._inputs, jax.device_get),
            Metric.end_to_end_pinned: lambda: self._end_to_end(self._pinned, self._get_pinned),
        }
        sample, spared = samples[metric], self._is_long and metric in WHOLE_CALLS
        if metric not in self._typical_s and not spared:
            self._typical_s[metric] = sample()
        before_s = time.perf_counter() - begin
        found = burst(sample, idle_matters=not spared and self._typical_s[metric] < LONG_CALL_S)
        self._result = None
        return replace(found, warmup_s=found.warmup_s + before_s)

    def _h2d(self, inputs: Any) -> float:
        self._result = None
        start = time.perf_counter()
        arrived = self._put(inputs)
        took = time.perf_counter() - start
        self._result = arrived
        return took

    def _outputs(self) -> Callable[[], Any]:
        """A function that gives an output that was never fetched: JAX keeps the host's copy of one that was.

        It is that of another call, or, where a call takes long, a copy that the device makes.
        """
        if not self._is_long:
            return self._fresh
        if self._kept is None:
            self._kept = wait(self._fresh())
        return lambda: jax.tree.map(lambda leaf: leaf.copy(), self._kept)

    def _d2h(self, unfetched: Callable[[], Any], get: Callable[[Any], Any]) -> float:
        self._result = None
        output = wait(unfetched())
        start = time.perf_counter()
        back = get(output)
        took = time.perf_counter() - start
        self._result = back, output
        return took

    def _end_to_end(self, inputs: Any, get: Callable[[Any], Any]) -> float:
        self._result = None
        start = time.perf_counter()
        arrived = self._send(inputs)
        output = self._fed(arrived)
        back = get(output)
        took = time.perf_counter() - start
        self._result = back, output, arrived
        return took

    def _put(self, inputs: Any) -> Any:
        return jax.block_until_ready(self._send(inputs))

    def _send(self, inputs: Any) -> Any:
        return place(inputs, self._device) if self._narrow else jax.device_put(inputs, self._there)

    def _get_pinned(self, output: Any) -> Any:
        return jax.block_until_ready(jax.device_put(output, self._host_side()))

    def _host_side(self) -> Any:
        return jax.sharding.SingleDeviceSharding(self._device, memory_kind=PINNED)


def check_same(output: Any, other: Any) -> None:
    """Two outputs of one program on the same data are the same.

    **Raises** InvariantError where they differ by more than rounding.
    """
    for value, expected in zip(jax.tree.leaves(output), jax.tree.leaves(other), strict=True):
        if np.array_equal(value, expected):
            continue
        complex_ = np.iscomplexobj(value)
        one, two = (np.asarray(side, np.complex128 if complex_ else np.float64) for side in (value, expected))
        known = np.isfinite(one)
        if np.array_equal(known, np.isfinite(two)):  # user code may give what is no number, each time
            one, two = (np.where(known, side, 0) for side in (one, two))
        off, scale = float(np.max(np.abs(one - two))), float(np.max(np.abs(two)))
        if not off <= SAME * scale:
            raise InvariantError(
                ANSWER,
                f"data that has just arrived gives another answer than resident data: {off:.1e} off, "
                f"where the largest number is {scale:.1e}",
            )


def _nbytes(tree: Any) -> int:
    return sum(leaf.nbytes for leaf in jax.tree.leaves(tree))


def _how(host: Any, device: Any) -> str:
    """Whether arrays on the device share the memory of those on the host."""
    shared = [
        array.devices().pop().platform == "cpu"
        and array.unsafe_buffer_pointer() == np.asarray(other).ctypes.data
        for other, array in zip(jax.tree.leaves(host), jax.tree.leaves(device), strict=True)
    ]
    return "aliased" if shared and all(shared) else "partly aliased" if any(shared) else "copied"

"""What a blocked call takes beyond its time on the device, by cause, as far as that is known. Pure."""

from dataclasses import dataclass
from enum import StrEnum

from jaxaccel.analyze.stats import ON_FLOOR
from jaxaccel.records import NO_TRANSFER, Metric, Record

# New memory below this comes from what the allocator keeps; beyond, the system gives each page anew. A page
# took 3 to 9 µs on two busy cores: what takes longer has another cause.
FRESH_BYTES, PAGE_BYTES, PAGE_S = 1 << 20, 4096, 10e-6


class Cause(StrEnum):
    """Why a call takes longer than its work on the device.

    dispatch: Python, JAX and the wait, as an empty call has them. fresh_memory: pages of outputs and
    temporaries that a CPU's call is given anew, where a loop on the device takes the same ones again.
    callbacks: Python functions that the program calls. transfers: copies that are part of the call.
    """

    dispatch = "dispatch"
    fresh_memory = "fresh memory"
    callbacks = "host callbacks"
    transfers = "transfers"
    other = "other"


@dataclass(frozen=True, kw_only=True)
class Part:
    """Seconds of a call that have one cause."""

    cause: Cause
    time_s: float


def beyond_device(record: Record) -> tuple[Part, ...] | None:
    """Latency beyond device time: dispatch, then what is left; None where one of the two was not measured.

    Dispatch is no more than the same workers took for an empty call. What is left has one cause, the
    likeliest of those that the record knows. Nothing is left where the device takes as long as the call.
    """
    latency, device = record.timings.get(Metric.latency), record.timings.get(Metric.device)
    if latency is None or device is None:
        return None
    gap_s = latency.median_s - device.median_s
    if gap_s <= 0:
        return ()
    floor_s = record.dispatch_floor_s.get(Metric.latency, 0.0)
    dispatch_s = gap_s if gap_s <= ON_FLOOR * floor_s else floor_s
    rest_s = gap_s - dispatch_s
    parts = [
        Part(cause=Cause.dispatch, time_s=dispatch_s),
        Part(cause=_cause(record, rest_s), time_s=rest_s),
    ]
    return tuple(part for part in parts if part.time_s > 0)


def _cause(record: Record, rest_s: float) -> Cause:
    """What is likeliest to take so long of a call where neither the device nor dispatch does."""
    if record.compile and record.compile.callbacks:
        return Cause.callbacks
    if record.invariants.get(NO_TRANSFER, "").startswith("skipped: such a call sends"):
        return Cause.transfers
    fresh_bytes = _fresh_bytes(record) if record.arm.platform == "cpu" else 0
    if fresh_bytes >= FRESH_BYTES and rest_s <= PAGE_S * fresh_bytes / PAGE_BYTES:
        return Cause.fresh_memory
    return Cause.other


def _fresh_bytes(record: Record) -> int:
    """What a call allocates: outputs that take over no argument's memory, and temporaries."""
    memory = record.memory
    if memory is None:
        return 0
    return (memory.outputs_bytes or 0) - (memory.donated_bytes or 0) + (memory.temporaries_bytes or 0)

"""How close a time comes to what the device can do, by ceilings that were measured on it.

The roofline: a call takes at least its FLOPs over the ceiling of compute, and its bytes over that of memory
(Williams, Waterman, Patterson: Roofline, CACM 52(4), 2009). A ceiling that was not measured bounds nothing.
"""

from collections.abc import Sequence

from jaxaccel.analyze.stats import ON_FLOOR
from jaxaccel.records import Ceiling, Ceilings, Cost, Limit, Timing


def shares(cost: Cost, time_s: float, ceilings: Ceilings | None) -> tuple[float | None, float | None]:
    """The rates of a call as shares of the ceilings of compute and of memory; None where there is none.

    **Raises** ValueError where `time_s` is not above 0.
    """
    if not time_s > 0:
        raise ValueError(f"`time_s` must be above 0, got {time_s}")
    compute_s, memory_s = _bounds_s(cost, ceilings)
    return (
        None if compute_s is None else compute_s / time_s,
        None if memory_s is None else memory_s / time_s,
    )


def limit(cost: Cost, time_s: float, ceilings: Ceilings | None, floor_s: float | None) -> Limit | None:
    """What keeps a call that takes `time_s` from being faster; None where that can't be said.

    Dispatch where the time is near `floor_s`, that of an empty call by the same metric (None for device time,
    which has none). Else compute from the ridge point on, and memory below it, however far it is from either.
    """
    if floor_s is not None and time_s <= ON_FLOOR * floor_s:
        return Limit.dispatch
    compute_s, memory_s = _bounds_s(cost, ceilings)
    # Of a side without any work, no ceiling is needed.
    compute_s = 0.0 if cost.flops == 0 else compute_s
    memory_s = 0.0 if cost.bytes == 0 else memory_s
    if compute_s is None or memory_s is None or compute_s == memory_s == 0:
        return None
    return Limit.compute if compute_s >= memory_s else Limit.memory


def ridge_flops_per_byte(ceilings: Ceilings | None) -> float | None:
    """The arithmetic intensity from which on compute is the limit; None where a ceiling is missing."""
    if ceilings is None or ceilings.compute is None or ceilings.memory is None:
        return None
    return ceilings.compute.rate_per_s / ceilings.memory.rate_per_s


def exceeds(cost: Cost, timing: Timing, ceilings: Ceilings | None, margin: float) -> str | None:
    """How the rate is above `margin` times a ceiling, which no rate can be, in words; None where it isn't.

    The rate is the one at the slow end of the timing's interval, or that of its median where it has none.
    """
    time_s = timing.ci95_s[1] if timing.ci95_s else timing.median_s
    parts = zip(
        ("compute", "memory"),
        (cost.flops, cost.bytes),
        ("FLOP/s", "bytes/s"),
        (ceilings.compute, ceilings.memory) if ceilings else (None, None),
        shares(cost, time_s, ceilings),
        strict=True,
    )
    found = [
        f"{work / time_s:.3g} {unit} is {share:.1%} of the {name} ceiling, {ceiling.rate_per_s:.3g} {unit} "
        f"by {ceiling.workload}"
        for name, work, unit, ceiling, share in parts
        if ceiling is not None and work is not None and share is not None and share > margin
    ]
    return "; ".join(found) or None


def near(points: Sequence[Ceiling], working_set_bytes: int) -> Ceiling | None:
    """The ceiling that holds for a working set, of those measured over a ladder of them; None without any.

    It is the best of the two measured working sets that enclose it, for nobody knows where between them a
    cache ends; outside the ladder, the best of the nearest.
    """
    if not points:
        return None
    sizes = {point.working_set_bytes for point in points}
    below = max((size for size in sizes if size <= working_set_bytes), default=min(sizes))
    above = min((size for size in sizes if size >= working_set_bytes), default=max(sizes))
    enclosing = [point for point in points if point.working_set_bytes in (below, above)]
    return max(enclosing, key=lambda point: point.rate_per_s)


def _bounds_s(cost: Cost, ceilings: Ceilings | None) -> tuple[float | None, float | None]:
    """The least seconds that compute and memory allow; None where a ceiling or the work is not known."""
    compute, memory = (ceilings.compute, ceilings.memory) if ceilings else (None, None)
    return (
        None if compute is None or cost.flops is None else cost.flops / compute.rate_per_s,
        None if memory is None or cost.bytes is None else cost.bytes / memory.rate_per_s,
    )

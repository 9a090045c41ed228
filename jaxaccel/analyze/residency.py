"""Where the data lives decides who wins: resident, moved once for many calls, or moved for every call.

All of it is derived from the two records of a pair. Resident is the speedup of latency, every call that of
end_to_end. Only a GPU has timings with pinned host memory: a CPU reads the host's memory as it is.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction

from jaxaccel.analyze.compare import in_turn, require_one_case, speedup, speedup_of_passes
from jaxaccel.analyze.differences import one_machine
from jaxaccel.analyze.stats import medians_by_pass
from jaxaccel.records import Metric, Record, Speedup


@dataclass(frozen=True, kw_only=True)
class BreakEven:
    """How many calls it takes until the GPU is at most as long as the CPU. One of the four is given.

    calls: for so many calls and any more. until: for up to so many, as its calls take longer and its start
    is cheaper. never: for no number of calls. reason: why it is not known.
    """

    calls: int | None = None
    until: int | None = None
    never: bool = False
    reason: str | None = None


def once_s(record: Record, calls: int, pinned: bool = False) -> float | None:
    """Seconds of `calls` calls on data that comes in once and whose last output goes out.

    None where one of the timings is missing. `pinned` is the host memory of a GPU.

    **Raises** ValueError where `calls` is below 1.
    """
    spent = _once(record, calls, pinned=pinned)
    return None if spent is None else float(spent)


def once_speedup(cpu: Record, gpu: Record, calls: int, pinned: bool = False) -> float | None:
    """CPU time / GPU time of `calls` calls on data that comes in once; None where it is not known.

    **Raises** ValueError where `calls` is below 1, or the records are not of one case.
    """
    require_one_case(cpu, gpu)
    sides = _once(cpu, calls, pinned=pinned), _once(gpu, calls, pinned=pinned)
    return float(sides[0] / sides[1]) if sides[0] is not None and sides[1] else None


def pinned_speedup(cpu: Record, gpu: Record, *, among: int = 1) -> Speedup | None:
    """The speedup of every call with the GPU's host memory pinned; None where a timing is missing.

    Rounds of two metrics are never in turn with each other, so the sides are compared as independent.

    **Raises** ValueError where the records are not of one case.
    """
    require_one_case(cpu, gpu)
    ours, theirs = cpu.timings.get(Metric.end_to_end), gpu.timings.get(Metric.end_to_end_pinned)
    if not (cpu.ok and gpu.ok and ours and theirs):
        return None
    apart = not one_machine(cpu, gpu)
    return speedup(ours, theirs, interleaved=False, among=among, two_machines=apart)


def once_pair(cpu: Record, gpu: Record, calls: int, *, among: int = 1) -> Speedup | None:
    """The speedup of `calls` calls on data that comes in once, with an interval over passes; None if unknown.

    A pass's time is the sum of its medians: of coming in, of `calls` calls, and of going out.

    **Raises** ValueError where `calls` is below 1, or the records are not of one case.
    """
    ratio = once_speedup(cpu, gpu, calls)
    if ratio is None:
        return None
    sides = [once_by_pass(record, calls) for record in (cpu, gpu)]
    return speedup_of_passes(ratio, *sides, interleaved=in_turn(cpu, gpu), among=among)


def break_even(cpu: Record, gpu: Record, *, pinned: bool = False, compiling: bool = False) -> BreakEven:
    """From how many calls on, with data that comes in once, the GPU takes at most as long as the CPU.

    With `compiling`, both begin by tracing, lowering and compiling, which is not known where JAX's cache was
    hit. It goes by medians; where the verdict on latency is undecided, so is this.

    **Raises** ValueError where the records are not of one case.
    """
    require_one_case(cpu, gpu)
    lacking = [_lacking(record, pinned=pinned, compiling=compiling) for record in (cpu, gpu)]
    if any(lacking):
        return BreakEven(reason="; ".join(filter(None, lacking)))
    saved = _call(cpu) - _call(gpu)
    extra = _fixed(gpu, pinned=pinned, compiling=compiling) - _fixed(cpu, pinned=pinned, compiling=compiling)
    # k calls are at most as long on the GPU where extra <= k saved.
    if saved > 0:
        return BreakEven(calls=max(1, math.ceil(extra / saved)))
    if extra > saved:
        return BreakEven(never=True)
    return BreakEven(calls=1) if saved == 0 else BreakEven(until=math.floor(extra / saved))


# --- one side --------------------------------------------------------------------------------------

# Sums and quotients are those of fractions, which floats are: a rounded one could be a call off.


def _once(record: Record, calls: int, *, pinned: bool) -> Fraction | None:
    if calls < 1:
        raise ValueError(f"`calls` must be at least 1, got {calls}")
    if _lacking(record, pinned=pinned, compiling=False):
        return None
    return _fixed(record, pinned=pinned, compiling=False) + calls * _call(record)


def once_by_pass(record: Record, calls: int) -> Mapping[int, float]:
    """Seconds by pass, of those that have a median of each part."""
    parts = [(metric, 1) for metric in _transfers(record, pinned=False)] + [(Metric.latency, calls)]
    by_pass = [(medians_by_pass(record.timings[metric]), times) for metric, times in parts]
    shared = set.intersection(*(set(medians) for medians, _ in by_pass))
    return {p: sum(times * medians[p] for medians, times in by_pass) for p in sorted(shared)}


def _call(record: Record) -> Fraction:
    return Fraction(record.timings[Metric.latency].median_s)


def _fixed(record: Record, *, pinned: bool, compiling: bool) -> Fraction:
    seconds = [record.timings[metric].median_s for metric in _transfers(record, pinned=pinned)]
    if compiling and record.compile:
        seconds += [record.compile.trace_s, record.compile.lower_s, record.compile.compile_s]
    return sum(map(Fraction, seconds), Fraction(0))


def _transfers(record: Record, *, pinned: bool) -> tuple[Metric, Metric]:
    if pinned and record.arm.requested == "gpu":
        return Metric.h2d_pinned, Metric.d2h_pinned
    return Metric.h2d, Metric.d2h


def _lacking(record: Record, *, pinned: bool, compiling: bool) -> str | None:
    """What this side has not, in words."""
    device = record.arm.requested.upper()
    if not record.ok:
        return f"{record.status} on the {device}"
    needed = (Metric.latency, *_transfers(record, pinned=pinned))
    missing = [metric.value for metric in needed if metric not in record.timings]
    missing += ["compile"] if compiling and record.compile is None else []
    if missing:
        return f"no {', '.join(missing)} on the {device}"
    cached = compiling and record.compile is not None and record.compile.cache == "hit"
    return f"compiled from the cache on the {device}" if cached else None

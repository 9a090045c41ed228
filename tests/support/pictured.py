"""Records with known crossings for the tests of figures, sentences and the page."""

from typing import Any

from fakes import make_case, make_record, make_timing

from jaxaccel.records import Case, Metric, Record, Timing

SIZES = (256, 1024, 4096, 16384)


def steady_timing(median_s: float, passes: int = 3, depth: int = 1) -> Timing:
    """A timing whose passes agree within 1%, with its median in the middle."""
    steps = [(index - (passes - 1) / 2) * 0.002 for index in range(passes)]
    return make_timing(*[[[median_s * (1 + step)] * 6] * 2 for step in steps], depth=depth)


def timings(device: str, latency_s: float, *, moved_s: float, passes: int = 3) -> dict[str, Timing]:
    """A timing of each metric: transfers take `moved_s` on a GPU, and next to nothing on a CPU."""
    moved_s = moved_s if device == "gpu" else 1e-7
    seconds = {
        Metric.latency: latency_s,
        Metric.throughput: 0.9 * latency_s,
        Metric.device: 0.75 * latency_s,
        Metric.end_to_end: latency_s + 1.25 * moved_s,
        Metric.h2d: moved_s,
        Metric.d2h: 0.25 * moved_s,
    }
    return {str(metric): steady_timing(value, passes) for metric, value in seconds.items()}


def arm(device: str, size: int, latency_s: float, *, moved_s: float = 1e-2, **changes: Any) -> Record:
    """A measured arm of matvec, or of the case in `changes`; `passes` of it."""
    passes = changes.pop("passes", 3)
    case: Case = changes.pop("case", None) or make_case(size)
    defaults = {"timings": timings(device, latency_s, moved_s=moved_s, passes=passes), "warnings": ()}
    return make_record(device, case=case, **(defaults | changes))


def pairs(
    speedups: dict[int, float], *, gpu_s: float = 1e-4, moved_s: float = 1e-2, **changes: Any
) -> list[Record]:
    """Both arms of matvec at each size, with the given resident speedups."""
    case_changes = changes.pop("case", {})
    return [
        arm(device, size, seconds, moved_s=moved_s, case=make_case(size, **case_changes), **changes)
        for size, ratio in speedups.items()
        for device, seconds in (("cpu", gpu_s * ratio), ("gpu", gpu_s))
    ]

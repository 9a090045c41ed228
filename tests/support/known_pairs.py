"""Records of both devices whose times are known, for the tests of advice, criteria, claims and trainings."""

import math
from typing import Any

from fakes import make_case, make_record, make_timing, noisy_timing

from jaxaccel.records import Metric, Record

EPOCH_S = {"copied": 4e-3, "serial": 7e-3, "queued": 5.5e-3, "overlapped": 4.3e-3}


def training_record(
    device: str, feed: str, *, factor: float = 1.0, apart: float = 0.0, **changes: Any
) -> Record:
    """In one pass; or in three, each of which takes so much longer than the one before, relatively."""
    case = make_case(50, workload="training", params={"batch": 32, "feed": feed})
    epoch_s = factor * EPOCH_S[feed]
    timings = {Metric.latency: noisy_timing(epoch_s, spread=0.0)}
    if apart:
        passes = [[[epoch_s * (1 + apart) ** step] * 15] * 8 for step in (-1, 0, 1)]
        timings = {Metric.latency: make_timing(*passes)}
    series: dict[str, Any] = {"loss": (0.5, 0.25)}
    if feed != "copied":
        series["prepare_s"] = (3e-3, 3e-3, 9e-3)
    known: dict[str, Any] = {
        "case": case,
        "case_id": case.case_id,
        "timings": timings,
        "series": series,
        "results": {"held_out_accuracy": 0.9},
    }
    return make_record(device, **(known | changes))


def side(
    device: str, size: int, call_s: float, *, moved_s: float = 1e-9, passes: int = 5, **changes: Any
) -> Record:
    """Its passes differ by half a percent, those of a GPU the other way round."""
    by = 0.005 if device == "cpu" else -0.005
    medians = {"latency": call_s, "end_to_end": call_s + moved_s, "h2d": moved_s, "d2h": 1e-9}
    steps = [math.exp(by * (step - passes // 2)) for step in range(passes)]
    timings = {
        metric: make_timing(*[[[median * step] * 3] * 6 for step in steps])
        for metric, median in medians.items()
    }
    return make_record(device, case=changes.pop("case", make_case(size=size)), timings=timings, **changes)


def pairs(*sizes: int, passes: int = 5, moved_s: float = 1e-9) -> list[Record]:
    """A CPU that takes 1 µs times the size; a GPU that takes 1 ms whatever the size."""
    return [
        record
        for size in sizes
        for record in (
            side("cpu", size, 1e-6 * size, passes=passes),
            side("gpu", size, 1e-3, passes=passes, moved_s=moved_s),
        )
    ]

"""Which device, from records that are there: how much faster, how sure, and why.

Between two measured sizes of one case, times are interpolated as straight lines in the logarithms; outside of
what was measured nothing is said.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any, NamedTuple

from jaxaccel.analyze.compare import MIN_PASSES, pair, verdict
from jaxaccel.analyze.differences import one_machine
from jaxaccel.analyze.questions import EVERY_CALL, QUESTIONS, SURE_AT_ONCE, answer, passes_of
from jaxaccel.analyze.ranges import SIZE, alike, ranges, value_at
from jaxaccel.records import RESIDENT, Limit, Metric, Record, Speedup, Verdict

# How far off a straight line between two sizes may be that are a factor of two apart, in the logarithm of the
# ratio: caches end somewhere, and kernels change.
BENT = 0.1
FEW_PASSES = math.log(SURE_AT_ONCE)  # half an interval of the logarithm of a ratio that few passes gave
DATA = ("device", "host")


@dataclass(frozen=True, kw_only=True)
class Ask:
    """What is asked. data: `device` where the inputs are resident, `host` where they come from the host.

    calls: so many calls on data that comes in once. over: what `size` is of; `size`, or a parameter. metric:
    by which time of resident data: of a call that is awaited, of queued ones, or of the work alone.
    """

    size: int
    over: str = SIZE
    calls: int = 1
    data: str = "device"
    metric: str = str(Metric.latency)

    def __post_init__(self) -> None:
        for name, value in ((self.over, self.size), ("calls", self.calls)):
            if value < 1:
                raise ValueError(f"`{name}` must be at least 1, got {value}")
        if self.data not in DATA:
            raise ValueError(f"`data` must be one of {', '.join(DATA)}, got {self.data!r}")
        if self.data == "device" and self.calls != 1:
            raise ValueError(f"`calls` is for data=host: resident data comes in no more, got {self.calls}")
        if self.metric not in RESIDENT:
            raise ValueError(f"`metric` must be one of {', '.join(RESIDENT)}, got {self.metric!r}")
        if self.data != "device" and self.metric != Metric.latency:
            raise ValueError(f"`metric` is for data=device: what comes in is awaited, got {self.metric!r}")

    @property
    def question(self) -> str:
        """By its name in analyze.questions."""
        if self.data == "device":
            return self.metric
        return EVERY_CALL if self.calls == 1 else f"once_{self.calls}"


@dataclass(frozen=True, kw_only=True)
class Measured:
    """A pair at a size, of one case but for the size. machines: whose, where records are of several.

    over: what `size` is of, and its cases differ in; `size`, or a parameter of the workload.
    """

    size: int
    over: str = SIZE
    cpu: Record
    gpu: Record
    machines: str | None = None


@dataclass(frozen=True, kw_only=True)
class Advice:
    """Which device. ratio: CPU time / GPU time; a rerun's would land between `low` and `high`.

    itself: the narrower interval of the ratio itself, by which `device` goes as a table's verdicts do: it is
    undecided where that holds both sides. between: the measured sizes on either side, one where the size
    itself was. limits: what keeps each device from being faster there, where ceilings tell.
    """

    device: Verdict
    ratio: float
    low: float
    high: float
    itself: tuple[float, float]
    between: tuple[int, ...]
    limits: dict[str, Limit | None]


class OutsideError(ValueError):
    """The size is outside of what was measured."""


def families(records: Sequence[Record]) -> list[list[Measured]]:
    """Pairs that differ in one number only (`ranges`), in its order; those of other machines are another."""
    found: dict[tuple[str, str], list[Measured]] = {}
    comparisons = [one for one in pair(records) if one.cpu and one.gpu and one.cpu.ok and one.gpu.ok]
    overs = ranges(comparison.case for comparison in comparisons)
    for comparison in comparisons:
        cpu, gpu, case = comparison.cpu, comparison.gpu, comparison.case
        if cpu and gpu:
            over = overs[case.case_id]
            machines = f"CPU on {comparison.cpu_machine}, GPU on {comparison.gpu_machine}"
            one = Measured(size=value_at(case, over), over=over, cpu=cpu, gpu=gpu, machines=machines)
            found.setdefault((alike(case, over), machines), []).append(one)
    if len({machines for _, machines in found}) == 1:
        found = {key: [replace(one, machines=None) for one in pairs] for key, pairs in found.items()}
    return [sorted(pairs, key=lambda one: one.size) for pairs in found.values()]


def priced(advice: Advice, price_ratio: float) -> Advice:
    """Which device is cheaper, at GPU price / CPU price: `ratio` is then CPU cost / GPU cost."""
    halves = _Halves(*(_half(interval) for interval in ((advice.low, advice.high), advice.itself)))
    return replace(advice, **_told(math.log(advice.ratio / price_ratio), halves))


def advise(pairs: Sequence[Measured], ask: Ask) -> Advice:
    """Which device for a size, from pairs of one case at other sizes, or at that one.

    **Raises** OutsideError where the size is not within those that were measured for the question, or these
    are of something else than what is asked.
    """
    if pairs[0].over != ask.over:
        raise OutsideError(f"`{pairs[0].over}` must be given: several were measured")
    known = [(one, found) for one in pairs if (found := answer(ask.question, one.cpu, one.gpu))]
    if not known:
        told = [name for name in QUESTIONS if any(answer(name, one.cpu, one.gpu) for one in pairs)]
        others = f", only of {', '.join(told)}: a table without `{ask.over}` has them" if told else ""
        raise OutsideError(f"no measured pair tells of {ask.question}{others}")
    low, high = known[0][0].size, known[-1][0].size
    if not low <= ask.size <= high:
        raise OutsideError(f"outside the measured range [{low}, {high}]")
    (left, at_left), (right, at_right) = next(
        (one, other)
        for one, other in pairwise([*known, known[-1]])
        if one[0].size <= ask.size <= other[0].size
    )
    if ask.size in (left.size, right.size):
        here, found = (left, at_left) if ask.size == left.size else (right, at_right)
        return _advice(math.log(found.ratio), _halves(here, found, ask.question), (here,), here)
    octaves = math.log2(right.size / left.size)
    share = math.log2(ask.size / left.size) / octaves
    log_ratio = (1 - share) * math.log(at_left.ratio) + share * math.log(at_right.ratio)
    bent = BENT * octaves * 4 * share * (1 - share)
    ends = (_halves(left, at_left, ask.question), _halves(right, at_right, ask.question))
    halves = _Halves(*(max(both) + bent for both in zip(*ends, strict=True)))
    return _advice(log_ratio, halves, (left, right), left if share < 0.5 else right)


class _Halves(NamedTuple):
    """Half the intervals of the logarithm of a ratio: of a rerun's, and of the ratio itself."""

    rerun: float
    itself: float


def _halves(pair: Measured, found: Speedup, question: str) -> _Halves:
    """Those of a measured pair; of few passes, at least what processes differ by."""
    passes = min(passes_of(record, question) for record in (pair.cpu, pair.gpu))
    few = not found.ci95 or passes < MIN_PASSES
    if few and not one_machine(pair.cpu, pair.gpu):
        return _Halves(math.inf, math.inf)  # not even the moment was the same
    least = FEW_PASSES if few else 0.0
    return _Halves(*(max(_half(known or (1.0, 1.0)), least) for known in (found.ci95, found.ci_family)))


def _half(interval: tuple[float, float]) -> float:
    low, high = interval
    return math.log(high / low) / 2 if low else math.inf


def _advice(log_ratio: float, halves: _Halves, between: Sequence[Measured], nearest: Measured) -> Advice:
    return Advice(
        **_told(log_ratio, halves),
        between=tuple(one.size for one in between),
        limits={
            name: record.rates.limit if record.rates else None
            for name, record in (("cpu", nearest.cpu), ("gpu", nearest.gpu))
        },
    )


def _told(log_ratio: float, halves: _Halves) -> dict[str, Any]:
    (low, high), itself = (
        (math.exp(log_ratio - half), math.exp(log_ratio + half)) if half < math.inf else (0.0, math.inf)
        for half in halves
    )
    return {
        "device": verdict(itself),
        "ratio": math.exp(log_ratio),
        "low": low,
        "high": high,
        "itself": itself,
    }

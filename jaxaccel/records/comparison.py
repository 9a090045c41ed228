"""What two arms of a case give, held beside each other."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from jaxaccel.records.case import Case, Metric
from jaxaccel.records.record import Record


class Verdict(StrEnum):
    """Which device a pair's interval speaks for; `undecided` where it speaks for neither."""

    equivalent = "equivalent"
    gpu = "gpu"
    cpu = "cpu"
    undecided = "undecided"


class Trend(StrEnum):
    """What became of a time since the baseline; `undecided`: neither a change nor its absence is sure."""

    better = "better"
    worse = "worse"
    same = "same"
    undecided = "undecided"


@dataclass(frozen=True, kw_only=True)
class Speedup:
    """CPU time / GPU time of one metric: above 1 the GPU is faster.

    The verdict is held to a wider interval than `ci95` where it is one of many: of `among` verdicts together,
    at most one in twenty times is any of them wrong. ci_family: that interval, of the ratio itself. reason:
    why two machines have none.
    """

    ratio: float
    ci95: tuple[float, float] | None
    ci_over: str
    verdict: Verdict
    among: int = 1
    ci_family: tuple[float, float] | None = None
    reason: str | None = None


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """The two arms of a case, and the speedup of each metric that both have.

    unmatched: why the two sides did not compute at one precision; such a speedup is never shown without it.
    other_source: why the record of the other device is left out: its source is another.
    interleaved: whether the rounds of both took turns. cpu_machine, gpu_machine: letters that tell machines
    apart among comparisons made together; None where there is no such arm, or it was compared by itself.
    """

    case: Case
    cpu: Record | None
    gpu: Record | None
    speedups: Mapping[str, Speedup] = field(default_factory=dict)
    unmatched: str | None = None
    other_source: str | None = None
    interleaved: bool = False
    two_machines: bool = False
    cpu_machine: str | None = None
    gpu_machine: str | None = None

    @property
    def arms(self) -> tuple[Record, ...]:
        """The records that are there, CPU first."""
        return tuple(record for record in (self.cpu, self.gpu) if record is not None)

    @property
    def among(self) -> int:
        """Of how many verdicts those here are each one."""
        return max((speedup.among for speedup in self.speedups.values()), default=1)

    @property
    def decided(self) -> bool:
        """Whether the verdict on latency names the faster device."""
        latency = self.speedups.get(Metric.latency)
        return latency is not None and latency.verdict in (Verdict.gpu, Verdict.cpu)

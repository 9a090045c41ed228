"""What records of workload=training say beside each other: feeds, losses, what overlapping hides. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from statistics import median

from jaxaccel.analyze.compare import speedup
from jaxaccel.analyze.differences import one_machine
from jaxaccel.analyze.ranges import alike
from jaxaccel.records import DEVICES, Case, Comparison, Metric, Record, Speedup, Verdict

WORKLOAD, FEED = "training", "feed"
SERIAL, COPIED, PREPARE_S = "serial", "copied", "prepare_s"
HIDING = ("queued", "overlapped")  # feeds that prepare a batch while the device works
LOSS, HELD_OUT = "loss", "held_out_accuracy"


@dataclass(frozen=True, kw_only=True)
class Training:
    """The comparisons of one training that differ only in how it is fed, by feed, on the same machines."""

    feeds: Mapping[str, Comparison]

    @property
    def case(self) -> Case:
        """Its case, of whichever feed is first."""
        return next(iter(self.feeds.values())).case

    def record(self, feed: str, device: str) -> Record | None:
        """What was measured of a feed on a device; None where nothing was."""
        row = self.feeds.get(feed)
        found = None if row is None else row.cpu if device == "cpu" else row.gpu
        return found if found is not None and found.ok else None

    def epoch_s(self, feed: str, device: str) -> float | None:
        """Seconds of an epoch that is awaited, the median."""
        record = self.record(feed, device)
        timing = record.timings.get(Metric.latency) if record else None
        return timing.median_s if timing else None


@dataclass(frozen=True, kw_only=True)
class Curves:
    """How far the losses of two devices are apart, at most, relative to the larger one, and in which epoch.

    tolerance: each device's own against the reference, added. reference: what that was, and of how many of
    the steps; of those after them, in which rounding may decide, nothing is known to be right or wrong.
    """

    difference: float
    epoch: int
    tolerance: float
    reference: str

    @property
    def agree(self) -> bool:
        """Whether they are within the tolerance all along, beyond the steps that were checked too."""
        return self.difference <= self.tolerance


@dataclass(frozen=True, kw_only=True)
class Overlap:
    """What preparing batches beside the device's work hides on a device, of an epoch, by feed in `hiding_s`.

    prepare_s: the host's part by itself. work_s: copies and steps of batches that are ready. gains: serial_s
    over each of `hiding_s`, with verdicts that hold together.
    """

    device: str
    prepare_s: float
    work_s: float
    serial_s: float
    hiding_s: Mapping[str, float]
    gains: Mapping[str, Speedup] = field(default_factory=dict)

    @property
    def shorter_s(self) -> float:
        """The shorter part: all that can be hidden."""
        return min(self.prepare_s, self.work_s)

    @property
    def left_over(self) -> float:
        """By how much the whole is longer than its parts, of the shorter: so far `hidden` may be off."""
        return (self.serial_s - self.prepare_s - self.work_s) / self.shorter_s

    @property
    def adds_up(self) -> bool:
        """Whether the parts make up the whole, within half of the shorter: else shares would be noise."""
        return abs(self.left_over) <= 0.5

    def hidden(self, feed: str) -> float:
        """The share of the shorter part that is hidden behind the longer; below 0 where hiding costs more."""
        return (self.serial_s - self.hiding_s[feed]) / self.shorter_s

    def tells(self, feed: str) -> bool:
        """Whether `hidden` is more than noise: the parts make up the whole, and the difference is sure."""
        gain = self.gains.get(feed)
        return self.adds_up and gain is not None and gain.verdict is not Verdict.undecided


def trainings(comparisons: Sequence[Comparison]) -> list[Training]:
    """The trainings among comparisons, each with its feeds."""
    found: dict[tuple[str, str, str], dict[str, Comparison]] = {}
    for row in comparisons:
        if row.case.workload == WORKLOAD and FEED in row.case.params:
            cpu, gpu = row.cpu_machine or "", row.gpu_machine or ""
            key = alike(row.case, FEED), cpu or gpu, gpu or cpu
            found.setdefault(key, {})[row.case.params[FEED]] = row
    return [Training(feeds=feeds) for feeds in found.values()]


def curves(cpu: Record | None, gpu: Record | None) -> Curves | None:
    """How the losses of one training on two devices agree, epoch by epoch; None where one has none."""
    sides = [record for record in (cpu, gpu) if record and record.series.get(LOSS) and record.accuracy]
    if len(sides) < len(DEVICES):
        return None
    losses = zip(*(record.series[LOSS] for record in sides), strict=False)
    apart = [abs(one - other) / max(abs(one), abs(other), 1e-300) for one, other in losses]
    worst = max(range(len(apart)), key=apart.__getitem__)
    checks = [record.accuracy for record in sides if record.accuracy]
    return Curves(
        difference=apart[worst],
        epoch=worst + 1,
        tolerance=sum(check.tolerance for check in checks),
        reference="; ".join(dict.fromkeys(check.reference or "no reference" for check in checks)),
    )


def overlap(training: Training, device: str) -> Overlap | None:
    """What is hidden on a device; None where a feed that tells of it was not measured."""
    record = training.record(SERIAL, device)
    if record is None or not (prepared := record.series.get(PREPARE_S)):
        return None
    serial_s, work_s = training.epoch_s(SERIAL, device), training.epoch_s(COPIED, device)
    hiding = {feed: training.epoch_s(feed, device) for feed in HIDING}
    known = {feed: epoch_s for feed, epoch_s in hiding.items() if epoch_s is not None}
    if serial_s is None or work_s is None or not known:
        return None
    gains = {
        feed: feed_speedup(record, other, among=len(known))
        for feed in known
        if (other := training.record(feed, device))
    }
    return Overlap(
        device=device,
        prepare_s=median(prepared),
        work_s=work_s,
        serial_s=serial_s,
        hiding_s=known,
        gains=gains,
    )


def feed_speedup(base: Record, other: Record, *, among: int = 1) -> Speedup:
    """An epoch of one training as `base` is fed / as `other` is: above 1 the other is faster.

    Two feeds are two cases, whose rounds take no turns: they are compared as independent. `Verdict.gpu` is
    that the second of the two sides is faster.

    **Raises** ValueError where they differ in more than the feed: in the case, device, framework or machine.
    """
    sides = [(alike(one.case, FEED), one.arm.requested, one.arm.framework) for one in (base, other)]
    if sides[0] != sides[1] or not one_machine(base, other):
        told = " and ".join(f"{one.case}, {one.arm.framework}, {one.arm.requested}" for one in (base, other))
        raise ValueError(f"these differ in more than the feed, or are of two machines: {told}")
    return speedup(
        base.timings[Metric.latency], other.timings[Metric.latency], interleaved=False, among=among
    )

"""A measurement beside an earlier one: how each arm's times changed, and which changes are sure.

A ratio is new time / base time: above 1 it became slower. What varies between processes is all that an
interval here knows: the passes of one command are made in one stretch of time, and how that stretch differs
from another one is not in them. The limit from which on a change counts is there for that.
"""

import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from jaxaccel.analyze.compare import EQUIVALENT, geometric_mean, welch_half_width
from jaxaccel.analyze.differences import Aspect, Difference, differences
from jaxaccel.analyze.machines import latest
from jaxaccel.analyze.stats import bursts_of, pass_medians, severe
from jaxaccel.records import Case, Metric, Record, Trend
from jaxaccel.records.source import without_source

# What a change is looked for in. Device time would tell of the same change again, and each further ratio
# takes from the chance of finding any; transfers, and calls that they are part of, are the machine's.
JUDGED = (Metric.latency, Metric.throughput)

FALSE_ALARMS = 0.01  # the most whole comparisons in which a change may be told where there is none

ONE_PASS = "one pass: how processes differ is unknown"
NOT_SURE = "neither a change nor its absence is sure"

NEW, BASE = "NEW", "BASE"


@dataclass(frozen=True, kw_only=True)
class Judged:
    """What two lists of pass medians say of the change between them.

    ratio: new / base. ci95: of this ratio alone. ci_family: at a confidence at which all intervals of the
    comparison hold together, in 99 of 100 comparisons. beyond: surely worse, and by more than the limit.
    reason: why it is undecided.
    """

    ratio: float
    ci95: tuple[float, float] | None
    ci_family: tuple[float, float] | None
    verdict: Trend
    beyond: bool
    reason: str | None = None


@dataclass(frozen=True, kw_only=True)
class Change:
    """One metric of an arm that both sides measured.

    `case` is the new one's, `base_case` another only where precisions differ, or the source that earlier
    cases have. `differs`: the aspects in which the two records differ. `doubts`: their severe flags, with the
    side that has them.
    """

    case: Case
    base_case: Case
    device: str
    metric: Metric
    base_s: float
    new_s: float
    base_passes: int
    new_passes: int
    judged: Judged
    differs: tuple[Aspect, ...] = ()
    doubts: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Unmatched:
    """An arm, or a metric of one, that was not compared, and why."""

    case: Case
    device: str
    metric: Metric | None
    reason: str


@dataclass(frozen=True, kw_only=True)
class BaselineComparison:
    """All that NEW and BASE have in common, and all that they have not.

    fail_over: the limit, as a share (0.05 is 5%). among: how many ratios share the chance of a false alarm.
    """

    fail_over: float
    among: int
    changes: tuple[Change, ...]
    unmatched: tuple[Unmatched, ...]
    differences: tuple[Difference, ...]

    @property
    def failed(self) -> bool:
        """Whether anything is surely worse, beyond the limit."""
        return any(change.judged.beyond for change in self.changes)


def compare_with_baseline(
    new: Iterable[Record], base: Iterable[Record], *, fail_over: float = 0.05
) -> BaselineComparison:
    """JUDGED metrics of every arm that both sides measured; of several records of one the last ok one counts.

    It compares what differs in machine, versions or precision too, and tells: refusing is up to the caller.

    **Raises** ValueError where `fail_over` is no share of at least 0.
    """
    if not 0 <= fail_over < math.inf:
        raise ValueError(f"`fail_over` must be a share of at least 0, got {fail_over}")
    pairs, unmatched = match(new, base)
    measured = [entry for pair in pairs for entry in _measured(*pair)]
    for entry in measured:
        if entry.lacking:
            reason = f"no usable samples in {' and '.join(entry.lacking)}"
            unmatched.append(_unmatched(entry.records[0], reason, entry.metric))
    usable = [entry for entry in measured if not entry.lacking]
    # A ratio with one pass on a side is never told to have changed, so it takes no share of the chance.
    among = sum(min(len(entry.new), len(entry.base)) > 1 for entry in usable)
    changes = [
        _change(entry, judge(entry.new, entry.base, among=max(1, among), fail_over=fail_over))
        for entry in usable
    ]
    found = [difference for pair in pairs for difference in differences(*pair)]
    return BaselineComparison(
        fail_over=fail_over,
        among=among,
        changes=tuple(changes),
        unmatched=tuple(unmatched),
        differences=tuple(dict.fromkeys(found)),
    )


def judge(new: Sequence[float], base: Sequence[float], *, among: int, fail_over: float) -> Judged:
    """What the pass medians of two sides, in seconds, say of the change between them.

    Intervals are Welch's t over logarithms. `worse` and `better` need one of 1 - 1% / `among` that excludes 1
    (Bonferroni; no correlation of cases or metrics breaks it): one comparison in a hundred, at most, tells
    either without its being so. `same` is no alarm, and goes by the 95% interval: inside ±2%. In this order:
    worse beyond the limit, same, worse, better, undecided.

    **Raises** ValueError where a side has no medians, or one that is not above 0.
    """
    if not new or not base or not all(median > 0 for median in (*new, *base)):
        raise ValueError(f"pass medians must be times above 0 s, got {list(new)} and {list(base)}")
    logs = [float(value) for value in np.log(new)], [float(value) for value in np.log(base)]
    center = float(np.mean(logs[0]) - np.mean(logs[1]))
    ratio = math.exp(center)
    if min(len(new), len(base)) < 2:
        return Judged(
            ratio=ratio, ci95=None, ci_family=None, verdict=Trend.undecided, beyond=False, reason=ONE_PASS
        )
    # Sides of unequal length make Welch's freedom too hopeful, the more so the higher the confidence: of 2
    # passes against 10, in 40 ratios without any change, 11% of comparisons had a false `worse`. With no more
    # freedom than two sides of the shorter length could have, 0.0%; equal lengths are as Welch has them.
    cap = 2.0 * (min(len(new), len(base)) - 1)
    halves = [
        welch_half_width(*logs, confidence, max_freedom=cap)
        for confidence in (0.95, 1 - FALSE_ALARMS / among)
    ]
    # Two passes may be so far apart that the bound is beyond what a float holds.
    ci95, family = ((_exp(center - half), _exp(center + half)) for half in halves)
    beyond = family[0] > 1 and ratio > 1 + fail_over
    verdict = _verdict(ci95, family, beyond=beyond)
    return Judged(
        ratio=ratio,
        ci95=ci95,
        ci_family=family,
        verdict=verdict,
        beyond=beyond,
        reason=NOT_SURE if verdict is Trend.undecided else None,
    )


def match(
    new: Iterable[Record], base: Iterable[Record]
) -> tuple[list[tuple[Record, Record]], list[Unmatched]]:
    """The records of both sides that are of one arm and ok, as (new, base), and the arms that have none.

    What is left then meets its counterpart of another source, which earlier records have in their case, and
    then that of another precision, where each side has but one left.
    """
    sides = latest(new), latest(base)
    twins = {arm: arm for arm in sides[0] if arm in sides[1]}
    for but_for in (without_source, _without_precision):
        twins |= _but_for(but_for, *(_left(side, met) for side, met in zip(sides, _met(twins), strict=True)))
    pairs, unmatched = [], []
    for arm, record in sides[0].items():
        if arm not in twins:
            unmatched.append(_alone(record, NEW))
            continue
        other = sides[1][twins[arm]]
        if record.ok and other.ok:
            pairs.append((record, other))
            continue
        reasons = [_ending(r, side) for r, side in ((record, NEW), (other, BASE)) if not r.ok]
        unmatched.append(_unmatched(record, "; ".join(reasons)))
    found = set(twins.values())
    unmatched += [_alone(record, BASE) for arm, record in sides[1].items() if arm not in found]
    return pairs, unmatched


# --- one arm ---------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class _Measured:
    """A metric that both records of an arm have: its pass medians in seconds."""

    records: tuple[Record, Record]
    metric: Metric
    new: list[float]
    base: list[float]

    @property
    def lacking(self) -> list[str]:
        """The sides that have no times above 0 of it."""
        return [
            side
            for side, medians in ((NEW, self.new), (BASE, self.base))
            if not medians or not all(median > 0 for median in medians)
        ]


def _measured(new: Record, base: Record) -> Iterator[_Measured]:
    for metric in JUDGED:
        if metric in new.timings or metric in base.timings:
            medians = [
                pass_medians(bursts_of(record.timings[metric])) if metric in record.timings else []
                for record in (new, base)
            ]
            yield _Measured(records=(new, base), metric=metric, new=medians[0], base=medians[1])


def _change(entry: _Measured, judged: Judged) -> Change:
    new, base = entry.records
    return Change(
        case=new.case,
        base_case=base.case,
        device=new.arm.requested,
        metric=entry.metric,
        base_s=geometric_mean(entry.base),
        new_s=geometric_mean(entry.new),
        base_passes=len(entry.base),
        new_passes=len(entry.new),
        judged=judged,
        differs=tuple(dict.fromkeys(difference.aspect for difference in differences(new, base))),
        doubts=tuple(
            f"{side}: {flag.name}"
            for side, record in ((NEW, new), (BASE, base))
            for flag in severe(record.warnings, entry.metric)
        ),
    )


def _verdict(ci95: tuple[float, float], family: tuple[float, float], *, beyond: bool) -> Trend:
    if beyond:  # first, so that a limit below 2% is one
        return Trend.worse
    if ci95[0] >= 1 / EQUIVALENT and ci95[1] <= EQUIVALENT:
        return Trend.same
    if family[0] > 1:
        return Trend.worse
    return Trend.better if family[1] < 1 else Trend.undecided


def _exp(value: float) -> float:
    return math.exp(min(value, 700.0))


# --- arms that don't meet --------------------------------------------------------------------------


Arms = Mapping[tuple[str, str], Record]


def _met(twins: Mapping[tuple[str, str], tuple[str, str]]) -> tuple[set[tuple[str, str]], ...]:
    """The arms of each side that have a counterpart."""
    return set(twins), set(twins.values())


def _left(arms: Arms, met: set[tuple[str, str]]) -> Arms:
    return {arm: record for arm, record in arms.items() if arm not in met}


def _but_for(same: Callable[[Case], Case], new: Arms, base: Arms) -> dict[tuple[str, str], tuple[str, str]]:
    """Arms of one side to those of the other whose cases are the `same`, where each has but one such."""
    sides = _by_case(same, new), _by_case(same, base)
    return {
        arms[0]: sides[1][key][0]
        for key, arms in sides[0].items()
        if len(arms) == 1 and len(sides[1].get(key, [])) == 1
    }


def _by_case(same: Callable[[Case], Case], arms: Arms) -> dict[tuple[str, str], list[tuple[str, str]]]:
    found = defaultdict(list)
    for arm, record in arms.items():
        found[same(record.case).case_id, arm[1]].append(arm)
    return found


def _without_precision(case: Case) -> Case:
    return replace(without_source(case), precision="")


def _alone(record: Record, side: str) -> Unmatched:
    return _unmatched(record, f"only in {side}" if record.ok else f"only in {side}; {_ending(record, side)}")


def _ending(record: Record, side: str) -> str:
    return f"{record.status} in {side}" + (f": {record.error.message}" if record.error else "")


def _unmatched(record: Record, reason: str, metric: Metric | None = None) -> Unmatched:
    return Unmatched(case=record.case, device=record.arm.requested, metric=metric, reason=reason)

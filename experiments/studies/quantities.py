"""Numbers that one tells of records: each function gives one, of the records that it is given.

They are the words in which experiments/claims.yaml asks for its figures. Each refuses records that are not
those of one arm, or one pair, or one kind of case, as it needs them: nothing is picked or averaged.
"""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import numpy as np

from jaxaccel.analyze.advice import Measured, families
from jaxaccel.analyze.crossover import Answer, conclude
from jaxaccel.analyze.machines import standing
from jaxaccel.analyze.questions import answer, family_size, point, tells
from jaxaccel.analyze.training import FEED, curves, feed_speedup
from jaxaccel.records import Metric, Record, Verdict, escape
from studies.rules import held_cases, inner, rules, score

LARGEST = 1e30  # of a number in a file, as in records

_T = TypeVar("_T")


@dataclass(frozen=True, kw_only=True)
class Quantity:
    """A number with its unit, or what is no single number.

    unit: SI, or `x` of CPU time / GPU time, `times` of another ratio, `share` of a part. sure: false where
    the interval holds both sides of 1. within: `passes`, or `rounds` of one pass. out_of: of a count. answer:
    of a search for crossings. text: of what is neither, as Markdown.
    """

    value: float | None = None
    unit: str = ""
    interval: tuple[float, float] | None = None
    within: str | None = None
    sure: bool = True
    out_of: int | None = None
    answer: Answer | None = None
    text: str | None = None


# --- of a pair, or of pairs ------------------------------------------------------------------------


def speedup(records: Sequence[Record], *, question: str = "latency") -> Quantity:
    """CPU time / GPU time of the one pair that there is, by a question of analyze.questions."""
    pair = _one([one for family in families(records) for one in family], "pair")
    found = answer(question, pair.cpu, pair.gpu)
    if found is None:
        raise ValueError(f"the pair does not tell of {question}")
    return Quantity(
        value=found.ratio,
        unit="x",
        interval=found.ci95,
        within=found.ci_over,
        sure=found.verdict is not Verdict.undecided,
    )


def crossing(records: Sequence[Record], *, question: str) -> Quantity:
    """Where the winner changes over the sizes of the one kind of case that there is."""
    family = _one(families(records), "kind of pairs")
    among = family_size([(one.cpu, one.gpu) for one in family], question)
    points = [point(question, one.size, one.cpu, one.gpu, among=among) for one in family]
    return Quantity(answer=conclude(question, [one for one in points if one]))


def wins(records: Sequence[Record], *, device: str, question: str = "latency") -> Quantity:
    """At how many of the pairs a device surely wins, all these verdicts being right together.

    Sure is what a report calls so: a search goes by a large ratio of a single pass, too, which is no figure.
    """
    pairs: list[Measured] = [one for family in families(records) for one in family]
    among = family_size([(one.cpu, one.gpu) for one in pairs], question)
    found = [answer(question, one.cpu, one.gpu, among=among) for one in pairs]
    told = [one for one in found if one and tells(one)]
    return Quantity(value=sum(one.verdict is Verdict(device) for one in told), out_of=len(told))


def losses_apart(records: Sequence[Record]) -> Quantity:
    """How far the losses of two devices are apart at most, of one training, relative to the larger one."""
    pair = _one([one for family in families(records) for one in family], "pair")
    found = curves(pair.cpu, pair.gpu)
    if found is None:
        raise ValueError("the pair has no losses")
    return Quantity(value=found.difference)


def right_choices(records: Sequence[Record], *, rule: str, data: str | None = None) -> Quantity:
    """How often a way to choose a device is right, of the cases with other sizes on either side."""
    held = [one for one in held_cases(families(records)) if data in (None, one.ask.data)]
    known = {one.name: one for one in rules(held)}
    if rule not in known:
        raise ValueError(f"`rule` must be one of {', '.join(known)}, got {rule!r}")
    shared = inner(held)
    return Quantity(value=score(shared, known[rule].choose).right, out_of=len(shared))


# --- of one record ---------------------------------------------------------------------------------


def time(records: Sequence[Record], *, metric: str = "latency") -> Quantity:
    """The median of a metric, with its interval."""
    timing = _timed(records, metric).timings[Metric(metric)]
    return Quantity(value=timing.median_s, unit="s", interval=timing.ci95_s, within=timing.ci_over)


def feed_gain(records: Sequence[Record], *, feed: str, over: str) -> Quantity:
    """How many times as fast as by `over` an epoch is by `feed`, of one training on one device."""
    base, other = (
        _timed([one for one in records if one.case.params.get(FEED) == name], "latency")
        for name in (over, feed)
    )
    found = feed_speedup(base, other)
    sure = found.verdict is not Verdict.undecided
    return Quantity(value=found.ratio, unit="times", interval=found.ci95, within=found.ci_over, sure=sure)


def transfer_rate(records: Sequence[Record], *, metric: str) -> Quantity:
    """Bytes a second between host and device, by the median of h2d or d2h, pinned or not."""
    way = metric.removesuffix("_pinned")
    if way not in (Metric.h2d, Metric.d2h):
        raise ValueError(f"`metric` must be h2d or d2h, or one of them with _pinned, got {metric!r}")
    record, taken = _timed(records, metric), time(records, metric=metric).value
    moved = record.transfers
    if moved is None or not taken:
        raise ValueError("the record does not say what was moved")
    size_bytes, how = getattr(moved, f"{way}_bytes"), getattr(moved, way)
    if how != "copied":
        raise ValueError(f"{way} is {how}: nothing moves")
    return Quantity(value=size_bytes / taken, unit="B/s")


def memory_rate(records: Sequence[Record]) -> Quantity:
    """Bytes a second that a call reads and writes, as the record has it."""
    return _rate(records, "bytes_per_s", "B/s")


def compute_rate(records: Sequence[Record]) -> Quantity:
    """FLOPs a second of a call, as the record has it."""
    return _rate(records, "flops_per_s", "FLOP/s")


def ceiling_share(records: Sequence[Record], *, ceiling: str) -> Quantity:
    """The share that a call reaches of a measured ceiling, `memory` or `compute`."""
    if ceiling not in ("memory", "compute"):
        raise ValueError(f"`ceiling` must be memory or compute, got {ceiling!r}")
    return _rate(records, f"of_{ceiling}_ceiling", "share")


def capacity(records: Sequence[Record]) -> Quantity:
    """The memory that a device offers: the least of what the records say, for a host's varies."""
    if not all(record.memory for record in records):
        raise ValueError("a record does not tell of memory")
    return Quantity(value=min(record.memory.capacity_bytes for record in records if record.memory), unit="B")


def joules(records: Sequence[Record]) -> Quantity:
    """What a call costs in energy, all that the counter's scope used, within a tick of that counter."""
    energy = _record(records).energy
    if energy is None:
        raise ValueError("the record has no energy")
    ends = energy.per_call_j - energy.uncertainty_j, energy.per_call_j + energy.uncertainty_j
    return Quantity(value=energy.per_call_j, unit="J", interval=ends, within="ticks")


def error(records: Sequence[Record]) -> Quantity:
    """The relative error against the reference."""
    return _known(_record(records).accuracy, "relative_error", "")


def result(records: Sequence[Record], *, key: str) -> Quantity:
    """What a workload found beside its output, a share: of the samples held out, those told rightly."""
    found = _record(records).results
    if key not in found:
        raise ValueError(f"`key` must be one of {', '.join(found) or 'none'} here, got {key!r}")
    return Quantity(value=found[key], unit="share")


def spent(records: Sequence[Record], *, part: str) -> Quantity:
    """Seconds that a part of measuring took, over all passes: `reference`, to work out the right answer."""
    return _known(_record(records).spent_s, part, "s")


def kernel_share(records: Sequence[Record], *, match: str) -> Quantity:
    """The share of the kernels' time that those have whose names hold `match`, a regular expression."""
    ran = _record(records).device_time
    if ran is None or not ran.kernels:
        raise ValueError("the record has no kernels")
    return Quantity(value=sum(one.share for one in ran.kernels if re.search(match, one.name)), unit="share")


# --- of a file, of other figures, of nothing -------------------------------------------------------


def number(file: Any, *, key: Sequence[str], unit: str) -> Quantity:
    """A number of a published file, by the keys that lead to it."""
    return Quantity(value=_number_at(file, key), unit=unit)


def count(file: Any, *, key: Sequence[str], out_of: Sequence[str]) -> Quantity:
    """How many of how many, both numbers of a published file."""
    found, among = _number_at(file, key), _number_at(file, out_of)
    if not (found.is_integer() and among.is_integer() and 0 <= found <= among):
        raise ValueError(f"{' / '.join(key)} must be a count of {' / '.join(out_of)}, got {found} of {among}")
    return Quantity(value=found, out_of=int(among))


def text(file: Any, *, key: Sequence[str]) -> Quantity:
    """What a published file has in words."""
    found = _at(file, key)
    if not isinstance(found, str) or not found.strip():
        raise ValueError(f"{' / '.join(key)} must be a text that is not empty, got {found!r}")
    return Quantity(text=escape.markdown(escape.clip(found)))


def factor(of: Sequence[Quantity]) -> Quantity:
    """The first of two numbers of one unit, over the second."""
    first, second = _two(of)
    if first.unit != second.unit or not first.value or not second.value:
        raise ValueError(f"two numbers of one unit are needed, got {first} and {second}")
    return Quantity(value=first.value / second.value, unit="times")


def product(*, matrix: Sequence[Sequence[float]], vector: Sequence[float]) -> Quantity:
    """A matrix-vector product, worked out here."""
    found = np.asarray(matrix) @ np.asarray(vector)
    return Quantity(text=f"[{', '.join(f'{one:g}' for one in found)}]")


def _at(file: Any, key: Sequence[str]) -> Any:
    """What the keys lead to."""
    found = file
    for name in key:
        if not isinstance(found, Mapping) or name not in found:
            raise ValueError(f"the file has no {' / '.join(key)}")
        found = found[name]
    return found


def _number_at(file: Any, key: Sequence[str]) -> float:
    found = _at(file, key)
    if isinstance(found, bool) or not isinstance(found, (int, float)) or not abs(found) <= LARGEST:
        got = escape.clip(repr(found), 80)
        raise ValueError(f"{' / '.join(key)} must be a number up to {LARGEST:g}, got {got}")
    return float(found)


def _two(of: Sequence[Quantity]) -> tuple[Quantity, Quantity]:
    if len(of) != 2:
        raise ValueError(f"`of` must name two figures, got {len(of)}")
    return of[0], of[1]


def _timed(records: Sequence[Record], metric: str) -> Record:
    """The one record that has a metric: a study may time others of the same case in another run."""
    having = [record for record in records if Metric(metric) in record.timings]
    if records and not having:
        raise ValueError(f"the record has no {metric}")
    return _record(having)


def _record(records: Sequence[Record]) -> Record:
    """The record that counts, of the one arm that there is."""
    return _one([placed.record for placed in standing(records)], "record")


def _one(found: Sequence[_T], what: str) -> _T:
    if len(found) != 1:
        raise ValueError(f"one {what} must be chosen, got {len(found)}")
    return found[0]


def _rate(records: Sequence[Record], name: str, unit: str) -> Quantity:
    """A rate, or its share of a ceiling, with the interval of the time that it is by."""
    record = _record(records)
    found = _known(record.rates, name, unit)
    timing = record.timings.get(Metric(record.rates.metric)) if record.rates else None
    if timing is None or timing.ci95_s is None or found.value is None or min(timing.ci95_s) <= 0:
        return found
    fast_s, slow_s = timing.ci95_s
    worked = found.value * timing.median_s
    return replace(found, interval=(worked / slow_s, worked / fast_s), within=timing.ci_over)


def _known(block: Any, name: str, unit: str) -> Quantity:
    found = block and getattr(block, name)
    if found is None or not math.isfinite(found):
        raise ValueError(f"the record has no {name}")
    return Quantity(value=found, unit=unit)

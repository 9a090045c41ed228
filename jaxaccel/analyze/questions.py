"""Who wins a pair depends on what is asked: of which metric, and where the data lives. A name for each."""

import math
import re
from collections.abc import Iterable, Sequence

from jaxaccel.analyze.compare import MIN_PASSES, in_turn, require_one_case, speedup
from jaxaccel.analyze.crossover import Point
from jaxaccel.analyze.differences import one_machine
from jaxaccel.analyze.residency import once_by_pass, once_pair, pinned_speedup
from jaxaccel.analyze.stats import medians_by_pass
from jaxaccel.records import RESIDENT, Metric, Record, Speedup, Verdict

EVERY_CALL, EVERY_CALL_PINNED = "every_call", "every_call_pinned"
QUESTIONS = (*map(str, RESIDENT), "once_10", "once_100", EVERY_CALL, EVERY_CALL_PINNED)
_ONCE = re.compile(r"once_([1-9][0-9]*)")
# From fewer passes than an interval takes, a device is called the winner only from this ratio on: processes
# and moments made medians differ by up to 1.6 times on the machines that we had (of eight: 55.9 to 85.5 µs).
SURE_AT_ONCE = 2.0


def check_question(name: str) -> None:
    """Refuse what is no question.

    **Raises** ValueError with those that there are.
    """
    if name not in QUESTIONS and not _ONCE.fullmatch(name):
        choices = ", ".join([*map(str, RESIDENT), "once_K (K calls)", EVERY_CALL, EVERY_CALL_PINNED])
        raise ValueError(f"must be of {choices}, got {name!r}")


def metrics_for(questions: Sequence[str]) -> tuple[Metric, ...]:
    """The metrics that their answers need, in the order in which they are measured."""
    needed = set[str]()
    for name in questions:
        if name in (EVERY_CALL, EVERY_CALL_PINNED):
            needed |= {Metric.end_to_end} | (
                {Metric.end_to_end_pinned} if name == EVERY_CALL_PINNED else set()
            )
        elif _ONCE.fullmatch(name):
            needed |= {Metric.latency, Metric.h2d, Metric.d2h}
        else:
            needed.add(name)
    return tuple(metric for metric in Metric if metric in needed)


def answer(question: str, cpu: Record, gpu: Record, *, among: int = 1) -> Speedup | None:
    """The speedup that a question is about, with its verdict as one of `among`; None where it is not known.

    **Raises** ValueError for what is no question, or records of two cases.
    """
    check_question(question)
    require_one_case(cpu, gpu)
    if not (cpu.ok and gpu.ok):
        return None
    if once := _ONCE.fullmatch(question):
        return once_pair(cpu, gpu, int(once[1]), among=among)
    if question == EVERY_CALL_PINNED:
        return pinned_speedup(cpu, gpu, among=among)
    metric = Metric.end_to_end if question == EVERY_CALL else Metric(question)
    ours, theirs = cpu.timings.get(metric), gpu.timings.get(metric)
    if ours is None or theirs is None:
        return None
    return speedup(
        ours,
        theirs,
        interleaved=in_turn(cpu, gpu),
        among=among,
        two_machines=not one_machine(cpu, gpu),
    )


def point(question: str, at: int, cpu: Record, gpu: Record, *, among: int = 1) -> Point | None:
    """What a pair tells at a size; None where it does not tell, or a time is none. See `point_of`."""
    found = answer(question, cpu, gpu, among=among)
    return None if found is None or not tells(found) else point_of(question, found, at, cpu, gpu)


def tells(found: Speedup) -> bool:
    """Whether a ratio is one: of times, of which the slope of a loop can come out at nothing, or below."""
    return 0 < found.ratio < math.inf


def point_of(question: str, found: Speedup, at: int, cpu: Record, gpu: Record) -> Point:
    """What the speedup of a pair, which a question is about, tells at a size.

    Of fewer than MIN_PASSES passes, only a ratio of SURE_AT_ONCE is sure. Of two machines nothing is then:
    not even the moment was the same.
    """
    log_ratio, verdict = math.log(found.ratio), found.verdict
    if min(passes_of(cpu, question), passes_of(gpu, question)) < MIN_PASSES and one_machine(cpu, gpu):
        sure = abs(log_ratio) >= math.log(SURE_AT_ONCE)
        verdict = (Verdict.gpu if log_ratio > 0 else Verdict.cpu) if sure else Verdict.undecided
    return Point(size=at, verdict=verdict, log_ratio=log_ratio, by_pass=by_pass(question, cpu, gpu))


def by_pass(question: str, cpu: Record, gpu: Record) -> dict[int, float]:
    """log(CPU time / GPU time) of each pass that both have, by its number; none if they took no turns.

    **Raises** ValueError for what is no question.
    """
    check_question(question)
    if not in_turn(cpu, gpu):
        return {}
    times = [
        # The slope of a loop can come out at nothing, or below.
        {number: time_s for number, time_s in _times(question, record).items() if 0 < time_s < math.inf}
        for record in (cpu, gpu)
    ]
    shared = times[0].keys() & times[1].keys()
    return {number: math.log(times[0][number] / times[1][number]) for number in sorted(shared)}


def _times(question: str, record: Record) -> dict[int, float]:
    """What a question is about took, by pass."""
    if once := _ONCE.fullmatch(question):
        return dict(once_by_pass(record, int(once[1])))
    pinned = question == EVERY_CALL_PINNED and record.arm.requested != "cpu"
    if question in (EVERY_CALL, EVERY_CALL_PINNED):
        metric = Metric.end_to_end_pinned if pinned else Metric.end_to_end
    else:
        metric = Metric(question)
    timing = record.timings.get(metric)
    return {} if timing is None else dict(medians_by_pass(timing))


def family_size(pairs: Iterable[tuple[Record, Record]], question: str) -> int:
    """How many verdicts are to be right all together: pairs of one pass have none by an interval."""
    fewest = (min(passes_of(record, question) for record in pair) for pair in pairs)
    return max(1, sum(passes >= MIN_PASSES for passes in fewest))


def passes_of(record: Record, question: str | None = None) -> int:
    """The passes that a record has, of any of its metrics or of those that a question is about.

    Of any: that one of them has fewer, no pass will mend.
    """
    metrics = record.timings if question is None else metrics_for([question])
    timings = (record.timings.get(metric) for metric in metrics)
    return len(frozenset[int]().union(*(timing.passes for timing in timings if timing)))

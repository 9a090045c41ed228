"""Does an interval cover what a rerun finds? What every user does next, and what tools get wrong."""

from collections.abc import Iterable, Iterator, Sequence

from jaxaccel.analyze import stats
from jaxaccel.records import Metric, Record, Timing
from jaxaccel.records.errors import BadInputError
from jaxaccel.selftest.check import Check, Outcome, share


def checks(first: Iterable[Record], second: Iterable[Record]) -> Iterator[Check]:
    """How often the intervals of the first run hold the medians of the second, case by case.

    Told per device and metric, for all passes of the first run, and beside it for its first pass alone: that
    is what a tool that trusts one process would have claimed.

    **Raises** BadInputError where they have no measured case in common.
    """
    again = {(record.case_id, record.arm.requested): record for record in second if record.ok}
    pairs = [
        (record, again[record.case_id, record.arm.requested])
        for record in first
        if record.ok and (record.case_id, record.arm.requested) in again
    ]
    if not pairs:
        raise BadInputError("the two runs have no measured case in common")
    for device in dict.fromkeys(record.arm.requested for record, _ in pairs):
        for metric in Metric:
            chosen = [
                (a.timings[metric], b.timings[metric])
                for a, b in pairs
                if a.arm.requested == device and metric in a.timings and metric in b.timings
            ]
            yield from _coverage(device, metric, chosen)


def _coverage(device: str, metric: Metric, pairs: Sequence[tuple[Timing, Timing]]) -> Iterator[Check]:
    if not pairs:
        return
    passes = max(len({index for index, _, _ in timing.rounds}) for timing, _ in pairs)
    held = sum(_holds(timing, later) for timing, later in pairs)
    yield share(f"{device} {metric}: {passes} passes cover a rerun", held, len(pairs), at_least=0.90)
    single = [(only_pass(a, 0), only_pass(b, 0)) for a, b in pairs]
    share_of_one = sum(_holds(timing, later) for timing, later in single) / len(pairs)
    yield Check(
        name=f"{device} {metric}: one pass covers a rerun",
        expected="not claimed",
        found=f"{share_of_one:.1%}",
        outcome=Outcome.inconclusive,
    )


def _holds(timing: Timing, later: Timing) -> bool:
    return timing.ci95_s is not None and timing.ci95_s[0] <= later.median_s <= timing.ci95_s[1]


def only_pass(timing: Timing, pass_index: int) -> Timing:
    """The Timing that one pass alone would have given."""
    bursts = [burst for burst in stats.bursts_of(timing) if burst.pass_index == pass_index]
    return stats.summarize(bursts, converged=timing.converged)

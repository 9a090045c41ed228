"""The answer in a sentence for each kind of case, and how sure it is."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from jaxaccel.analyze.agreement import of_pair
from jaxaccel.analyze.compare import MIN_PASSES
from jaxaccel.analyze.crossover import SURE, Bracket
from jaxaccel.analyze.findings import Family, Finding
from jaxaccel.analyze.questions import EVERY_CALL
from jaxaccel.records import Case, Comparison, Metric, Record, Verdict
from jaxaccel.render.words.names import family_name, workload_name

ASKED = {
    str(Metric.latency): "with data resident",
    "once_100": "when data is moved once for 100 calls",
    EVERY_CALL: "when it travels for every call",
}
# Asked where the latency was not measured.
INSTEAD = {
    str(Metric.throughput): "with calls queued and data resident",
    str(Metric.device): "by the work on the device alone",
}
_NAMES = {Verdict.cpu: "the CPU", Verdict.gpu: "the GPU"}
_MOST = 4  # sizes that are named one by one


@dataclass(frozen=True, kw_only=True)
class Headline:
    """What is said of a kind of case: the answer in a sentence, the detail of it, and how sure that is.

    answered: whether both devices were measured.
    """

    case: Case
    name: str
    answer: str
    detail: str
    sure: str
    answered: bool


def headlines(families: Sequence[Family]) -> list[Headline]:
    """One for each kind of case, in order of appearance; those that have an answer first."""
    found = [_headline(family) for family in families]
    return sorted(found, key=lambda headline: not headline.answered)


def _headline(family: Family) -> Headline:
    machines = family.machines
    where = None
    if machines:
        same = machines[0] == machines[1]
        where = f"machine {machines[0]}" if same else f"CPU on {machines[0]}, GPU on {machines[1]}"
    asked = ASKED if family.findings.keys() & ASKED.keys() else INSTEAD
    known = {words: family.findings.get(question) for question, words in asked.items()}
    answered = any(known.values())
    brief = ", ".join(f"{_brief(finding)} {words}" for words, finding in known.items() if finding)
    unknown = [words for words, finding in known.items() if not finding]
    brief += f"; not measured {' and '.join(unknown)}" if unknown else ""
    details = "; ".join(f"{words}, {_clause(finding)}" for words, finding in known.items() if finding)
    place = "On this machine" if machines is None else "Here"
    return Headline(
        case=family.case,
        name=family_name(family.case, where),
        answer=(
            f"{place} the GPU wins {workload_name(family.case)} {brief}." if answered else _unanswered(family)
        ),
        detail=f"{details[:1].upper()}{details[1:]}." if details else "",
        sure=_sure(family) if answered else "",
        answered=answered,
    )


def in_text(headline: Headline) -> str:
    """All of it as one paragraph."""
    return " ".join(filter(None, (headline.answer, headline.detail, headline.sure)))


# --- one question ----------------------------------------------------------------------------------


def _brief(finding: Finding) -> str:
    """Where the GPU wins, in a few words: from n = 4096."""
    answer, points = finding.answer, finding.points
    if len(answer.brackets) > 1:
        return f"in parts (the winner changes {len(answer.brackets)} times)"
    won = [point.size for point in points if point.verdict is Verdict.gpu]
    if answer.brackets and (answer.brackets[0].at or not _outside(finding)):
        (one,) = answer.brackets
        side = "from" if one.above is Verdict.gpu else "up to"
        return f"{side} somewhere between n = {one.low} and {one.high}"
    if not won:
        if all(point.verdict is Verdict.equivalent for point in points):
            return "nowhere (within 2% at every size)"
        return "nowhere" if answer.sure == answer.sizes else "nowhere surely"
    if len(won) == len(points):
        return f"at every size from n = {answer.low}" if len(points) > 1 else f"at n = {answer.low}"
    if won == [point.size for point in points if point.size >= min(won)]:
        return f"from n = {min(won)}"
    if won == [point.size for point in points if point.size <= max(won)]:
        return f"up to n = {max(won)}"
    return f"at {_sizes(won)}"


def _clause(finding: Finding) -> str:
    """Who wins where, all of it."""
    answer = finding.answer
    unsure = [point.size for point in finding.points if point.verdict is Verdict.undecided]
    equal = [point.size for point in finding.points if point.verdict is Verdict.equivalent]
    if answer.brackets:
        said = _changes(answer.brackets)
        apart = _outside(finding)
        return said + (f" (unsure or within 2% at {_sizes(apart)})" if apart else "")
    winner = answer.throughout
    if winner in SURE:
        if answer.sure == answer.sizes:
            return f"{_NAMES[winner]} wins at {_all(finding)}"
        won = [point.size for point in finding.points if point.verdict is winner]
        never = "the GPU never surely wins: " if winner is Verdict.cpu else ""
        return f"{never}{_NAMES[winner]} wins at {_sizes(won)}{_rest(unsure, equal)}{_leaning(finding)}"
    if len(equal) == len(finding.points):
        return f"both are within 2% at {_all(finding)}"
    ahead = {point.log_ratio > 0 for point in finding.points}
    medians = ""
    if len(ahead) == 1:
        medians = f" (the medians are for {_NAMES[Verdict.gpu if ahead.pop() else Verdict.cpu]})"
    return f"nobody surely wins at {_all(finding)}{medians}{_leaning(finding)}"


def _changes(brackets: Sequence[Bracket]) -> str:
    if len(brackets) == 1:
        (one,) = brackets
        if one.at:
            return (
                f"{_NAMES[one.above]} wins above n = {one.at:.0f}, {_NAMES[one.below]} below: by a line "
                f"through the sizes around, the change is between n = {one.low} and {one.high}"
            )
        tied = f", with nobody surely ahead at {_sizes(one.ties)}" if one.ties else ""
        return (
            f"{_NAMES[one.above]} wins from n = {one.high} on, {_NAMES[one.below]} up to n = {one.low}: "
            f"the change is between n = {one.low} and {one.high}{tied}"
        )
    steps = [f"{_NAMES[brackets[0].below]} up to n = {brackets[0].low}"]
    for one, after in pairwise(brackets):
        where = f"at n = {one.high}" if one.high == after.low else f"from n = {one.high} to {after.low}"
        steps.append(f"{_NAMES[one.above]} {where}")
    steps.append(f"{_NAMES[brackets[-1].above]} from n = {brackets[-1].high} on")
    return f"the winner changes {len(brackets)} times: {', '.join(steps)}"


def _outside(finding: Finding) -> list[int]:
    """The sizes where nobody surely wins that are not between two winners."""
    tied = {size for bracket in finding.answer.brackets for size in bracket.ties}
    return [point.size for point in finding.points if point.verdict not in SURE and point.size not in tied]


def _all(finding: Finding) -> str:
    answer = finding.answer
    if answer.sizes == 1:
        return f"n = {answer.low}, the only size measured"
    return f"all {answer.sizes} sizes measured, n = {answer.low} to {answer.high}"


def _rest(unsure: Sequence[int], equal: Sequence[int]) -> str:
    words = [f"unsure at {_sizes(unsure)}"] if unsure else []
    words += [f"within 2% at {_sizes(equal)}"] if equal else []
    return f" ({', '.join(words)})" if words else ""


def _leaning(finding: Finding) -> str:
    """Where the medians alone change sides, which is all that there is to say where nothing is sure."""
    changes = [f"n = {bracket.low} and {bracket.high}" for bracket in finding.leaning]
    return f"; by medians alone the winner changes between {' and between '.join(changes)}" if changes else ""


def _sizes(sizes: Sequence[int]) -> str:
    ordered = sorted(sizes)
    if len(ordered) > _MOST:
        return f"{len(ordered)} sizes, n = {ordered[0]} to {ordered[-1]}"
    return f"n = {', '.join(map(str, ordered))}"


# --- how sure --------------------------------------------------------------------------------------


def _sure(family: Family) -> str:
    count = max(finding.answer.sizes for finding in family.findings.values())
    most, least = max(family.passes.values()), min(family.passes.values())
    passes = _count(most)
    if family.few_passes:
        apart = family.machines is not None and family.machines[0] != family.machines[1]
        said = (
            f"How sure: {passes} only, and two machines: nothing is"
            if apart
            else f"How sure: {passes} only, so that a device is named from a ratio of 2 on; read it as a size"
        )
    else:
        sizes = f"for its {count} sizes together" if count > 1 else "for this one size"
        said = f"How sure: 95%, {sizes}, over {passes} in fresh processes"
        if least < MIN_PASSES:
            few = [size for size, made in family.passes.items() if made < MIN_PASSES]
            said += f"; {_count(least)} only at {_sizes(few)}, where a device is named from a ratio of 2 on"
        if any(bracket.at for finding in family.findings.values() for bracket in finding.answer.brackets):
            said += "; a line's interval is 95% by itself"
    lacking = [c.case.size for c in family.comparisons if not _whole(c)]
    words = [said]
    if unmatched := [c.case.size for c in family.comparisons if c.unmatched]:
        words.append(f"at {_sizes(unmatched)} the two sides did not compute at one precision")
    if differing := [c.case.size for c in family.comparisons if (found := of_pair(c)) and not found.agrees]:
        words.append(f"at {_sizes(differing)} the two devices do not compute the same")
    if lacking:
        words.append(f"no pair at {_sizes(lacking)}")
    return f"{'; '.join(words)}."


def _count(passes: int) -> str:
    return f"{passes} pass{'es' if passes != 1 else ''}"


def _whole(comparison: Comparison) -> bool:
    return bool(comparison.cpu and comparison.gpu and comparison.cpu.ok and comparison.gpu.ok)


def _unanswered(family: Family) -> str:
    arms = [record for comparison in family.comparisons for record in comparison.arms]
    words = [_side(device, [r for r in arms if r.arm.requested == device]) for device in ("cpu", "gpu")]
    return f"No comparison: {', '.join(words)}."


def _side(device: str, records: Sequence[Record]) -> str:
    name = device.upper()
    measured = [record.case.size for record in records if record.ok]
    if measured:
        return f"the {name} was measured at {_sizes(measured)}"
    if records:
        error = records[0].error
        return f"the {name} {records[0].status}{f' ({error.message})' if error else ''}"
    return f"the {name} was not measured"

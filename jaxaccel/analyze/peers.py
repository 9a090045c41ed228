"""JAX beside other frameworks: a ratio of times a case, device and metric, and who is ahead. Pure.

The ratio is the peer's time / JAX's time: above 1, JAX is faster. A metric is only ever held against the same
metric, and a call of k steps against a call of as many.
"""

from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum

from jaxaccel.analyze.compare import in_turn, speedup
from jaxaccel.analyze.machines import latest, place
from jaxaccel.analyze.stats import floor_flag
from jaxaccel.records import JAX, RESIDENT, Case, Metric, Record, Speedup, Verdict

FAR_BEHIND = 1.25  # a JAX that takes this many times as long is marked, and is to be explained


class Standing(StrEnum):
    """Where JAX stands beside a peer; `equal` within 2%, `undecided` where the interval does not say."""

    ahead = "ahead"
    behind = "behind"
    equal = "equal"
    undecided = "undecided"


_STANDINGS = {
    Verdict.gpu: Standing.ahead,  # the second of the two sides is faster
    Verdict.cpu: Standing.behind,
    Verdict.equivalent: Standing.equal,
    Verdict.undecided: Standing.undecided,
}


@dataclass(frozen=True, kw_only=True)
class Beside:
    """One metric of JAX beside that of a peer, both of one case on one device of one machine.

    judged.ratio: the peer's time / JAX's. machine: a letter. interleaved: whether their rounds took turns.
    """

    machine: str
    device: str
    case: Case
    metric: Metric
    ours: Record
    peer: Record
    judged: Speedup
    interleaved: bool

    @property
    def framework(self) -> str:
        """The peer."""
        return self.peer.arm.framework

    @property
    def standing(self) -> Standing:
        """Who is ahead, allowing for how many cases this was asked of."""
        return _STANDINGS[self.judged.verdict]

    @property
    def far_behind(self) -> bool:
        """Whether JAX takes more than FAR_BEHIND times as long, and that is no matter of noise."""
        return self.standing is Standing.behind and self.judged.ratio * FAR_BEHIND < 1

    @property
    def steps(self) -> int:
        """How many training steps a call makes."""
        steps = self.case.params.get("steps")
        return steps if isinstance(steps, int) else 1

    @property
    def ours_s(self) -> float:
        """JAX's time of a call, or of a step where a call makes several."""
        return self.ours.timings[self.metric].median_s / self.steps

    @property
    def peer_s(self) -> float:
        """The peer's."""
        return self.peer.timings[self.metric].median_s / self.steps

    @property
    def on_floor(self) -> tuple[bool, bool]:
        """Whether JAX, and the peer, take little longer than an empty call does."""
        return _on_floor(self.ours, self.metric), _on_floor(self.peer, self.metric)


def beside(records: Iterable[Record]) -> list[Beside]:
    """Every metric of JAX beside that of every peer that has it: by machine, device, case, metric, peer.

    A peer and a metric on a device are a question of their own: a verdict allows for the cases that it was
    asked of.
    """
    found: list[Beside] = []
    for machine, device, of_case in _cases(records):
        ours = of_case.get(JAX)
        if ours is None or not ours.ok:
            continue
        for metric in RESIDENT:
            for peer in of_case.values():
                if peer is not ours and peer.ok and metric in ours.timings and metric in peer.timings:
                    found.append(_beside(machine, device, ours, peer, metric))
    return _allowing(found, lambda one: (one.machine, one.device, one.metric, one.framework))


def fastest(found: Sequence[Beside]) -> list[Beside]:
    """Of each machine, device, case and metric the peer that is fastest there.

    The fastest one is the question then, a metric and device.
    """
    best: dict[tuple[str, str, str, Metric], Beside] = {}
    for one in found:
        key = (one.machine, one.device, one.ours.case_id, one.metric)
        if key not in best or one.peer_s < best[key].peer_s:
            best[key] = one
    return _allowing(list(best.values()), lambda one: (one.machine, one.device, one.metric))


def _allowing(found: Sequence[Beside], question: Callable[[Beside], Hashable]) -> list[Beside]:
    """The same, each verdict allowing for all that answer the same question."""
    among = Counter(map(question, found))
    return [
        _beside(one.machine, one.device, one.ours, one.peer, one.metric, among=among[question(one)])
        for one in found
    ]


def _cases(records: Iterable[Record]) -> Iterable[tuple[str, str, dict[str, Record]]]:
    """The records that count, by framework, of each machine, device and case."""
    records = list(records)
    by_framework: dict[tuple[str, str], list[Record]] = {}
    for letter, record in zip(place(records), records, strict=True):
        by_framework.setdefault((letter, record.arm.framework), []).append(record)
    found: dict[tuple[str, str, str], dict[str, Record]] = {}
    for (letter, framework), theirs in by_framework.items():
        for (case_id, device), record in latest(theirs).items():
            found.setdefault((letter, device, case_id), {})[framework] = record
    order = sorted(found, key=lambda key: key[:2])  # stable: cases in order of appearance
    return [(letter, device, found[letter, device, case_id]) for letter, device, case_id in order]


def _beside(
    machine: str, device: str, ours: Record, peer: Record, metric: Metric, *, among: int = 1
) -> Beside:
    interleaved = in_turn(peer, ours)
    judged = speedup(peer.timings[metric], ours.timings[metric], interleaved=interleaved, among=among)
    return Beside(
        machine=machine,
        device=device,
        case=ours.case,
        metric=metric,
        ours=ours,
        peer=peer,
        judged=judged,
        interleaved=interleaved,
    )


def _on_floor(record: Record, metric: Metric) -> bool:
    floor_s = record.dispatch_floor_s.get(metric)
    return floor_flag(metric, record.timings[metric], floor_s) is not None

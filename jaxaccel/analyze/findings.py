"""What a set of records answers: for each kind of case, and each place where data may live, who wins where.

Verdicts allow for the sizes of one kind of case, as those of a search for crossovers do; those of
`compare.pair`, which allow for all cases together, are stricter.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from jaxaccel.analyze.compare import MIN_PASSES
from jaxaccel.analyze.crossover import Answer, Bracket, Point, brackets, conclude, leaning
from jaxaccel.analyze.questions import QUESTIONS, answer, family_size, passes_of, point_of, tells
from jaxaccel.analyze.ranges import SIZE, alike
from jaxaccel.records import Case, Comparison, Record, Speedup


@dataclass(frozen=True, kw_only=True)
class Finding:
    """The answer to one question about a kind of case.

    speedups: those that are known, by size. leaning: where the medians alone change sides, sure or not.
    """

    answer: Answer
    points: tuple[Point, ...]
    speedups: Mapping[int, Speedup]
    leaning: tuple[Bracket, ...]


@dataclass(frozen=True, kw_only=True)
class Family:
    """The comparisons of cases that differ only in size, smallest first, on the same machines.

    machines: the letters of the CPU's and of the GPU's, None where all records are of one machine. findings:
    by question of analyze.questions, those that some pair tells of. passes: by size, the fewest of an arm.
    """

    comparisons: tuple[Comparison, ...]
    machines: tuple[str, str] | None = None
    findings: Mapping[str, Finding] = field(default_factory=dict)
    passes: Mapping[int, int] = field(default_factory=dict)

    @property
    def case(self) -> Case:
        """Its smallest case."""
        return self.comparisons[0].case

    @property
    def few_passes(self) -> bool:
        """Whether no size has enough for an interval over passes: only a large ratio is sure then."""
        return max(self.passes.values(), default=0) < MIN_PASSES


def families(comparisons: Sequence[Comparison]) -> list[Family]:
    """Comparisons that differ only in size, together; those of other machines are another family."""
    found: dict[tuple[str, str, str], list[Comparison]] = {}
    for comparison in comparisons:
        kind = alike(comparison.case, SIZE)
        cpu, gpu = comparison.cpu_machine or "", comparison.gpu_machine or ""
        found.setdefault((kind, cpu or gpu, gpu or cpu), []).append(comparison)
    several = len({letter for _, *letters in found for letter in letters}) > 1
    return [
        _family(sorted(its, key=lambda comparison: comparison.case.size), (cpu, gpu) if several else None)
        for (_, cpu, gpu), its in found.items()
    ]


def _family(comparisons: Sequence[Comparison], machines: tuple[str, str] | None) -> Family:
    pairs = [(c.cpu, c.gpu) for c in comparisons if c.cpu and c.gpu and c.cpu.ok and c.gpu.ok]
    among = {question: family_size(pairs, question) for question in QUESTIONS}
    # Pair by pair, for all questions about one ask for the same medians.
    answers = [
        {question: answer(question, *pair, among=among[question]) for question in QUESTIONS} for pair in pairs
    ]
    known = {question: _find([its[question] for its in answers], question, pairs) for question in QUESTIONS}
    return Family(
        comparisons=tuple(comparisons),
        machines=machines,
        findings={question: finding for question, finding in known.items() if finding},
        passes={pair[0].case.size: min(map(passes_of, pair)) for pair in pairs},
    )


def _find(
    answers: Sequence[Speedup | None], question: str, pairs: Sequence[tuple[Record, Record]]
) -> Finding | None:
    known = [
        (cpu, gpu, found) for (cpu, gpu), found in zip(pairs, answers, strict=True) if found and tells(found)
    ]
    speedups = {cpu.case.size: found for cpu, _, found in known}
    points = [point_of(question, found, cpu.case.size, cpu, gpu) for cpu, gpu, found in known]
    if not points:
        return None
    return Finding(
        answer=conclude(question, points),
        points=tuple(points),
        speedups=speedups,
        leaning=brackets(leaning(points)),
    )

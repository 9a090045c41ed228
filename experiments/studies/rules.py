"""The article's criteria for choosing a device (its section 9.3) as rules, and how often each is right.

The article names what to look at (the type of the task, resources, the need of performance, software), and no
numbers. Where a rule needs one, it is a round one of ours; each is also tried with the number that would
have been best for the very cases that it is judged by, which is more than a rule can hope for.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum

from jaxaccel.analyze.advice import Ask, Measured, advise
from jaxaccel.analyze.questions import answer, tells
from jaxaccel.records import Case, Metric, Verdict

LARGE_BYTES = float(2**20)
HEAVY_FLOPS = 1e6
LIMITS = tuple(2.0**power for power in range(10, 44))  # of which one is best in hindsight
CLOSE = 1.05  # who loses no more than that has not chosen wrongly


class Task(StrEnum):
    """The types of task that the article tells apart."""

    training = "training"
    sequential = "sequential"
    parallel = "parallel"


# By workload, or by the function that a user's own workload calls. All others are parallel work.
TASKS = {
    "mlp": Task.training,
    "mlp_article": Task.training,
    "training": Task.training,
    "step": Task.training,
    "loss_and_gradients": Task.training,
    "chain": Task.sequential,
    "small_loop": Task.sequential,
    "solve": Task.sequential,  # an optimiser's steps
    "advance": Task.sequential,  # a differential equation's
}


@dataclass(frozen=True, kw_only=True)
class Facts:
    """What one knows of a task and of a machine before anything is measured."""

    task: Task
    touched_bytes: float | None
    flops: float | None
    needed_bytes: int | None
    gpu_bytes: int | None


@dataclass(frozen=True, kw_only=True)
class Held:
    """A recorded case, and what is asked about it. ratio: CPU time / GPU time, by medians.

    others: the pairs of its kind without it; none where it is at an end, beyond which nothing is advised.
    """

    facts: Facts
    ask: Ask
    ratio: float
    others: tuple[Measured, ...]


@dataclass(frozen=True, kw_only=True)
class Score:
    """How often a rule was right. wrong: its device took more than CLOSE times as long as the other.

    lost: how many times as long its answers took as the faster device, as a geometric mean; None without any.
    """

    right: int
    wrong: int
    no_answer: int
    lost: float | None


Choose = Callable[[Held], Verdict | None]


@dataclass(frozen=True, kw_only=True)
class Rule:
    """A way to choose, in words; `choose` gives a device, or None where it has no answer.

    needs_others: whether it goes by other sizes of the kind, so that it has no answer at an end.
    """

    name: str
    words: str
    choose: Choose
    needs_others: bool = False


# --- the criteria ----------------------------------------------------------------------------------


def by_task(facts: Facts, large_bytes: float = LARGE_BYTES) -> Verdict | None:
    """Training: the GPU. Steps that wait for each other: the CPU. Else the GPU for much data (3.3, 3.4)."""
    if facts.task is Task.training:
        return Verdict.gpu
    if facts.task is Task.sequential:
        return Verdict.cpu
    if facts.touched_bytes is None:
        return None
    return Verdict.gpu if facts.touched_bytes >= large_bytes else Verdict.cpu


def by_resources(facts: Facts) -> Verdict | None:
    """The GPU where its memory holds what the task needs; else the CPU."""
    if facts.needed_bytes is None or facts.gpu_bytes is None:
        return None
    return Verdict.gpu if facts.needed_bytes <= facts.gpu_bytes else Verdict.cpu


def by_speed(facts: Facts, heavy_flops: float = HEAVY_FLOPS) -> Verdict | None:
    """The GPU for much arithmetic; the CPU for little, which is to be there soon."""
    if facts.flops is None:
        return None
    return Verdict.gpu if facts.flops >= heavy_flops else Verdict.cpu


def by_software(facts: Facts) -> Verdict | None:
    """The GPU for what its software supports: JAX compiles every workload here for it."""
    return Verdict.gpu


def together(facts: Facts) -> Verdict | None:
    """The GPU unless one of the four says CPU."""
    said = [by_task(facts), by_resources(facts), by_speed(facts), by_software(facts)]
    return Verdict.cpu if Verdict.cpu in said else Verdict.gpu


# --- judged ----------------------------------------------------------------------------------------


def facts_of(pair: Measured) -> Facts:
    """What was to be known of a pair before it was measured."""
    cost, memory = pair.gpu.cost, pair.gpu.memory
    return Facts(
        task=task_of(pair.gpu.case),
        touched_bytes=cost.bytes if cost else None,
        flops=cost.flops if cost else None,
        needed_bytes=memory.predicted_bytes if memory else None,
        gpu_bytes=memory.capacity_bytes if memory else None,
    )


def task_of(case: Case) -> Task:
    """The type of a case's task."""
    own = case.params.get("fn")
    name = own.rpartition(":")[2] if isinstance(own, str) else case.workload
    return TASKS.get(name, Task.parallel)


def held_cases(families: Iterable[Sequence[Measured]]) -> list[Held]:
    """All recorded cases, each asked about with its data on the device, and from the host for 1 or 100 calls.

    Where a call that one waits for was not measured, it is asked about by throughput, on the device alone.
    """
    found = []
    for family in families:
        for at, pair in enumerate(family):
            others = [*family[:at], *family[at + 1 :]] if 0 < at < len(family) - 1 else []
            for ask in _asks(pair):
                truth = answer(ask.question, pair.cpu, pair.gpu)
                if truth and tells(truth):
                    found.append(Held(facts=facts_of(pair), ask=ask, ratio=truth.ratio, others=tuple(others)))
    return found


def _asks(pair: Measured) -> list[Ask]:
    if Metric.latency not in pair.cpu.timings or Metric.latency not in pair.gpu.timings:
        return [Ask(size=pair.size, over=pair.over, metric=str(Metric.throughput))]
    places = (("device", 1), ("host", 1), ("host", 100))
    return [Ask(size=pair.size, over=pair.over, data=data, calls=calls) for data, calls in places]


def advised(held: Held) -> Verdict | None:
    """What `advise` says from the other sizes; None where it is unsure, or either will do."""
    device = advise(held.others, held.ask).device
    return device if device in (Verdict.gpu, Verdict.cpu) else None


def leaning(held: Held) -> Verdict:
    """The device that `advise` estimates to be faster, sure of it or not."""
    return Verdict.gpu if advise(held.others, held.ask).ratio > 1 else Verdict.cpu


def score(held: Sequence[Held], choose: Choose) -> Score:
    """How often a rule is right on these cases."""
    losses = []
    for one in held:
        device = choose(one)
        if device is not None:
            slower = 1 / one.ratio if device is Verdict.gpu else one.ratio
            losses.append(max(slower, 1.0))
    wrong = sum(loss > CLOSE for loss in losses)
    return Score(
        right=len(losses) - wrong,
        wrong=wrong,
        no_answer=len(held) - len(losses),
        lost=math.exp(sum(map(math.log, losses)) / len(losses)) if losses else None,
    )


def best_limit(held: Sequence[Held], by: Callable[[Facts, float], Verdict | None]) -> float:
    """The limit with which a rule is right most often on these cases; of several the smallest."""
    return max(LIMITS, key=lambda limit: score(held, lambda one: by(one.facts, limit)).right)


def rules(held: Sequence[Held]) -> list[Rule]:
    """The criteria, with limits set beforehand and with those best for these cases; then `advise`."""
    criteria = {
        "task type": (
            by_task,
            f"GPU: training, or {mib(LARGE_BYTES)} and more; CPU: sequential, or less",
        ),
        "resources": (by_resources, "GPU where its memory holds it"),
        "speed": (by_speed, f"GPU from {HEAVY_FLOPS:,.0f} FLOPs a call on"),
        "software": (by_software, "GPU where JAX supports it"),
        "together": (together, "GPU unless one of these four says CPU"),
    }
    found = [
        Rule(name=name, words=words, choose=_by(criterion)) for name, (criterion, words) in criteria.items()
    ]
    tuned = {
        "task type": (by_task, mib),
        "speed": (by_speed, lambda flops: f"{flops:,.0f} FLOPs"),
    }
    for name, (criterion, in_words) in tuned.items():
        limit = best_limit(held, criterion)
        words = f"with {in_words(limit)}, in hindsight the best limit of all"
        found.append(Rule(name=f"{name}, tuned", words=words, choose=_by(criterion, limit)))
    return [
        *found,
        Rule(name="advise, leaning", words="its estimate, sure or not", choose=leaning, needs_others=True),
        Rule(name="advise", words="where it is sure", choose=advised, needs_others=True),
    ]


def mib(size_bytes: float) -> str:
    """A size in words: 1 MiB, 0.25 MiB."""
    return f"{size_bytes / 2**20:g} MiB"


def _by(criterion: Callable[..., Verdict | None], *limits: float) -> Choose:
    return lambda held: criterion(held.facts, *limits)


def inner(held: Iterable[Held]) -> list[Held]:
    """Those that can be held out: between other sizes of their kind."""
    return [one for one in held if one.others]

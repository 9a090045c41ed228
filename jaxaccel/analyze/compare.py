"""CPU beside GPU: pairs of records, their speedup with its interval, and a verdict.

Speedup is CPU time / GPU time. Rounds that were interleaved are compared one by one, which takes out what
both arms suffered at that moment; records made apart are compared as independent, and those of two machines
over passes alone. Who meets whom is in machines.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from scipy.special import stdtrit

from jaxaccel.analyze.differences import one_machine, other_source
from jaxaccel.analyze.machines import meetings
from jaxaccel.analyze.stats import (
    EARLY_STOP,
    RERUN,
    bursts_of,
    median,
    medians_by_pass,
    t_half_width,
)
from jaxaccel.records import Comparison, Record, Speedup, Timing, Verdict

EQUIVALENT = 1.02  # a ratio inside 1/1.02 .. 1.02 makes no difference to anybody

# Errors further apart are of two precisions: TensorFloat-32 errs by 3e-4 where float32 does by 2e-6.
UNMATCHED = 10.0
# In epsilons. An error below may be luck, zero included, or the order of a sum: at one precision, a matvec of
# 32768 erred by 10 epsilons on a CPU and by 1 on a GPU (experiments/accounting).
LUCK = 16.0
_LARGEST_LOG = 700.0
MIN_PASSES = 3  # of two, Student's t would make an interval a hundred times as wide as they differ


def pair(records: Iterable[Record]) -> list[Comparison]:
    """One Comparison a case, in order of appearance; of several records of an arm the last ok one counts.

    Where there are several machines, or sources, a case may have several: see `machines.meetings`. Verdicts
    are corrected for the number of comparisons that have any; each metric is a question of its own.
    """
    found = list(meetings(records))
    among = sum(
        bool(met.cpu.timings.keys() & met.gpu.timings.keys())
        for met in found
        if met.cpu and met.gpu and met.cpu.ok and met.gpu.ok
    )
    return [
        replace(
            compare(met.cpu, met.gpu, among=max(1, among)),
            cpu_machine=met.cpu_machine,
            gpu_machine=met.gpu_machine,
            other_source=met.other_source,
        )
        for met in found
    ]


def compare(cpu: Record | None, gpu: Record | None, *, among: int = 1) -> Comparison:
    """The Comparison of two records of one case, either of which may be missing or failed.

    `among` is of how many comparisons it is one.

    **Raises** ValueError where both are there and are not of one case, or where both are missing.
    """
    record = cpu or gpu
    if record is None:
        raise ValueError("a comparison needs at least one record")
    if cpu and gpu:
        require_one_case(cpu, gpu)
    apart = cpu is not None and gpu is not None and not one_machine(cpu, gpu)
    if not (cpu and gpu and cpu.ok and gpu.ok):
        return Comparison(case=record.case, cpu=cpu, gpu=gpu, two_machines=apart)
    interleaved = in_turn(cpu, gpu)
    speedups = {
        metric: speedup(
            cpu.timings[metric],
            gpu.timings[metric],
            interleaved=interleaved,
            among=among,
            two_machines=apart,
        )
        for metric in cpu.timings
        if metric in gpu.timings
    }
    return Comparison(
        case=record.case,
        cpu=cpu,
        gpu=gpu,
        speedups=speedups,
        unmatched=unmatched_precision(cpu, gpu),
        interleaved=interleaved,
        two_machines=apart,
    )


def in_turn(cpu: Record, gpu: Record) -> bool:
    """Whether the rounds of a pair were interleaved."""
    together = cpu.paired and gpu.paired and cpu.pair_id == gpu.pair_id
    return together and one_machine(cpu, gpu)


def require_one_case(cpu: Record, gpu: Record) -> None:
    """Refuse two records that are not of one case, or not of one source of it.

    **Raises** ValueError, naming both.
    """
    if cpu.case_id != gpu.case_id:
        raise ValueError(f"these records are of different cases: {cpu.case} and {gpu.case}")
    if reason := other_source(cpu, gpu):
        raise ValueError(f"these records of {cpu.case} are of different programs: {reason}")


def unmatched_precision(cpu: Record, gpu: Record) -> str | None:
    """How the errors of both sides tell that they did not compute at one precision, in words, or None.

    It goes by the errors that were found, not by what a device is known to do with a setting.
    """
    if cpu.accuracy is None or gpu.accuracy is None:
        return None
    if cpu.accuracy.relative_error is None or gpu.accuracy.relative_error is None:
        return None  # without a reference: agreement.py tells
    errors = cpu.accuracy.relative_error, gpu.accuracy.relative_error
    # Products of narrower types are summed up in float32.
    epsilon = float(np.finfo(np.float64 if cpu.case.dtype == "float64" else np.float32).eps)
    if max(errors) <= UNMATCHED * max(min(errors), LUCK * epsilon):
        return None
    return f"precision={cpu.case.precision}: error {errors[1]:.0e} on the GPU, {errors[0]:.0e} on the CPU"


def speedup(
    cpu: Timing, gpu: Timing, *, interleaved: bool, among: int = 1, two_machines: bool = False
) -> Speedup:
    """The ratio of the medians, with a 95% interval over passes, or over rounds where there is one pass.

    Over passes, `ci95` says where a rerun's ratio would land. The verdict is about the ratio itself, whose
    interval is narrower by RERUN; but it is taken at 1 - 5% / `among` (Bonferroni). Between two machines it
    takes passes on both sides: rounds of one pass have nothing in common there, not even the moment.
    """
    ratio = cpu.median_s / gpu.median_s
    over = "passes" if two_machines or cpu.ci_over == gpu.ci_over == "passes" else "rounds"
    # One pass tells nothing of how processes differ, and can't be set against several.
    lacking = cpu.ci95_s is None or gpu.ci95_s is None or cpu.ci_over != gpu.ci_over
    if lacking or (two_machines and cpu.ci_over == "rounds"):
        return Speedup(
            ratio=ratio,
            ci95=None,
            ci_over=over,
            verdict=Verdict.undecided,
            among=among,
            reason=_too_few_passes(cpu, gpu) if two_machines else None,
        )
    confidences = (0.95, 1 - 0.05 / among)
    half, strict_half = log_half_widths(cpu, gpu, over, interleaved=interleaved, confidences=confidences)
    return _judged(ratio, half, strict_half, over, among)


def speedup_of_passes(
    ratio: float,
    cpu_s: Mapping[int, float],
    gpu_s: Mapping[int, float],
    *,
    interleaved: bool,
    among: int = 1,
) -> Speedup:
    """A ratio of times, one a pass; undecided below three passes, which both must have if interleaved."""
    shared = cpu_s.keys() & gpu_s.keys()
    passes = [shared, shared] if interleaved else [cpu_s.keys(), gpu_s.keys()]
    cpu, gpu = (
        [float(np.log(side[p])) for p in sorted(its)]
        for side, its in zip((cpu_s, gpu_s), passes, strict=True)
    )
    fewest = min(len(cpu), len(gpu))
    if fewest < MIN_PASSES:
        return Speedup(ratio=ratio, ci95=None, ci_over="passes", verdict=Verdict.undecided, among=among)
    half, strict_half = (
        t_half_width([c - g for c, g in zip(cpu, gpu, strict=True)], confidence)
        if interleaved
        else welch_half_width(cpu, gpu, confidence, max_freedom=2.0 * (fewest - 1))
        for confidence in (0.95, 1 - 0.05 / among)
    )
    return _judged(ratio, half, strict_half, "passes", among)


def _judged(ratio: float, half: float, strict_half: float, over: str, among: int) -> Speedup:
    """A ratio with half its interval, and half the wider one that its verdict is held to, as logarithms."""
    strict = _interval(ratio, strict_half)
    return Speedup(
        ratio=ratio,
        ci95=_interval(ratio, half * RERUN if over == "passes" else half),
        ci_over=over,
        verdict=Verdict.undecided if strict is None else verdict(strict),
        among=among,
        ci_family=strict,
    )


def _too_few_passes(cpu: Timing, gpu: Timing) -> str:
    """Why two machines have no interval: one pass on the CPU: how processes differ is unknown."""
    words = {1: "one pass", 2: "two passes"}
    passes = [len(timing.passes) for timing in (cpu, gpu)]
    if passes[0] == passes[1]:
        few = [f"{words.get(passes[0], f'{passes[0]} passes')} on each side"]
    else:
        few = [
            f"{words[count]} on the {side}"
            for side, count in zip(("CPU", "GPU"), passes, strict=True)
            if count in words
        ]
    why = "how processes differ is unknown" if 1 in passes else "too few for an interval"
    return f"{' and '.join(few)}: {why}"


def log_half_width(
    first: Timing, second: Timing, over: str, *, interleaved: bool, confidence: float
) -> float:
    """Half the interval of log(first / second), over `passes` or `rounds`; infinite where it is unknown."""
    (half,) = log_half_widths(first, second, over, interleaved=interleaved, confidences=(confidence,))
    return half


def log_half_widths(
    first: Timing, second: Timing, over: str, *, interleaved: bool, confidences: Sequence[float]
) -> list[float]:
    """`log_half_width` for several confidences, which go through the samples once."""
    if interleaved:
        differences = _paired_logs(first, second, over)
        halves = [t_half_width(differences, confidence) for confidence in confidences]
    else:
        logs = _logs(first, over), _logs(second, over)
        # Sides of unequal length make Welch's freedom too hopeful: see baseline.judge.
        cap = 2.0 * (min(map(len, logs)) - 1) if over == "passes" else float("inf")
        halves = [welch_half_width(*logs, confidence, max_freedom=cap) for confidence in confidences]
    return [half if over == "passes" else EARLY_STOP * half for half in halves]


def _interval(ratio: float, half: float) -> tuple[float, float] | None:
    # A factor that is no number any more says as little as an infinite one.
    return (ratio / float(np.exp(half)), ratio * float(np.exp(half))) if half < _LARGEST_LOG else None


def verdict(interval: tuple[float, float]) -> Verdict:
    """What an interval of a speedup says, in this order: equivalent, gpu, cpu, undecided."""
    low, high = interval
    if low >= 1 / EQUIVALENT and high <= EQUIVALENT:
        return Verdict.equivalent
    if low > 1:
        return Verdict.gpu
    if high < 1:
        return Verdict.cpu
    return Verdict.undecided


def geometric_mean(ratios: Sequence[float]) -> float:
    """The mean for ratios: over cases, never over metrics."""
    return float(np.exp(np.mean(np.log(ratios))))


def _logs(timing: Timing, over: str) -> list[float]:
    """The logarithm of the median of each pass, or round."""
    medians = (
        medians_by_pass(timing).values()
        if over == "passes"
        else [median(burst.samples_s) for burst in bursts_of(timing)]
    )
    return [float(np.log(one)) for one in medians]


def _paired_logs(cpu: Timing, gpu: Timing, over: str) -> list[float]:
    """The logarithm of the ratio of each pass, or round, that both sides have."""
    sides: list[Mapping[Any, float]]
    if over == "passes":
        sides = [medians_by_pass(side) for side in (cpu, gpu)]
    else:
        # Rounds of one number ran right after each other, unless one arm had already used up its time.
        sides = [
            {(burst.pass_index, burst.order): median(burst.samples_s) for burst in bursts_of(side)}
            for side in (cpu, gpu)
        ]
    shared = sides[0].keys() & sides[1].keys()
    return [float(np.log(sides[0][key] / sides[1][key])) for key in sorted(shared)]


def welch_half_width(
    first: Sequence[float], second: Sequence[float], confidence: float, *, max_freedom: float = float("inf")
) -> float:
    """Half the interval of the difference of two means, by Welch's t; infinite for fewer than two values.

    It takes at most `max_freedom` degrees of freedom, for those who know Welch's estimate to be too hopeful.
    """
    if min(len(first), len(second)) < 2:
        return float("inf")
    errors = [float(np.var(side, ddof=1)) / len(side) for side in (first, second)]
    total = sum(errors)
    if total == 0:
        return 0.0
    freedom = total**2 / sum(e**2 / (len(s) - 1) for e, s in zip(errors, (first, second), strict=True))
    return float(stdtrit(min(freedom, max_freedom), (1 + confidence) / 2) * np.sqrt(total))

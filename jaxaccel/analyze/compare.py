"""CPU beside GPU: pairs of records, their speedup with its interval, and a verdict.

Speedup is CPU time / GPU time. Rounds that were interleaved are compared one by one, which takes out what
both arms suffered at that moment; records made apart are compared as independent.
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence

import numpy as np
from scipy.special import stdtrit

from jaxaccel.analyze.stats import EARLY_STOP, RERUN, Burst, bursts_of, pass_medians, t_half_width
from jaxaccel.records import Comparison, Record, Speedup, Timing, Verdict

EQUIVALENT = 1.02  # a ratio inside 1/1.02 .. 1.02 makes no difference to anybody

# Errors further apart are of two precisions: TensorFloat-32 errs by 3e-4 where float32 does by 2e-6.
UNMATCHED = 10.0
# In epsilons. An error below may be luck, zero included, or the order of a sum: at one precision, a matvec of
# 32768 erred by 10 epsilons on a CPU and by 1 on a GPU (experiments/accounting).
LUCK = 16.0


def pair(records: Iterable[Record]) -> list[Comparison]:
    """One Comparison a case, in order of appearance; of several records of an arm the last ok one counts.

    Verdicts are corrected for the number of cases that have any; each metric is a question of its own.
    """
    cases: dict[str, dict[str, Record]] = defaultdict(dict)
    for (case_id, device), record in latest(records).items():
        cases[case_id][device] = record
    among = sum(
        bool(arms["cpu"].timings.keys() & arms["gpu"].timings.keys())
        for arms in cases.values()
        if len(arms) == 2 and all(record.ok for record in arms.values())
    )
    return [compare(arms.get("cpu"), arms.get("gpu"), among=max(1, among)) for arms in cases.values()]


def latest(records: Iterable[Record]) -> dict[tuple[str, str], Record]:
    """The record that counts of each case_id and device: the latest ok one, or else the latest.

    Of two states of one measurement, as a resumed command that was killed leaves them, it is the fuller one.
    In order of appearance: an arm stands where its first record does.
    """
    arms: dict[tuple[str, str], Record] = {}
    for record in sorted(records, key=lambda record: record.started_at):
        known = arms.get((record.case_id, record.arm.requested))
        if known is None or ((record.ok or not known.ok) and not _less_of(record, known)):
            arms[record.case_id, record.arm.requested] = record
    return arms


def _less_of(record: Record, known: Record) -> bool:
    """Whether both are of one measurement, of which `known` has seen more."""
    samples, known_samples = (sum(t.n for t in side.timings.values()) for side in (record, known))
    return record.started_at == known.started_at and samples < known_samples


def compare(cpu: Record | None, gpu: Record | None, *, among: int = 1) -> Comparison:
    """The Comparison of two records of one case, either of which may be missing or failed.

    `among` is of how many cases it is one.

    **Raises** ValueError where both are there and are not of one case, or where both are missing.
    """
    record = cpu or gpu
    if record is None:
        raise ValueError("a comparison needs at least one record")
    if cpu and gpu:
        require_one_case(cpu, gpu)
    speedups, unmatched = {}, None
    if cpu and gpu and cpu.ok and gpu.ok:
        interleaved = cpu.paired and gpu.paired and cpu.pair_id == gpu.pair_id
        speedups = {
            metric: speedup(cpu.timings[metric], gpu.timings[metric], interleaved=interleaved, among=among)
            for metric in cpu.timings
            if metric in gpu.timings
        }
        unmatched = unmatched_precision(cpu, gpu)
    return Comparison(case=record.case, cpu=cpu, gpu=gpu, speedups=speedups, unmatched=unmatched)


def require_one_case(cpu: Record, gpu: Record) -> None:
    """Refuse two records that are not of one case.

    **Raises** ValueError, naming both cases.
    """
    if cpu.case_id != gpu.case_id:
        raise ValueError(f"these records are of different cases: {cpu.case} and {gpu.case}")


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


def speedup(cpu: Timing, gpu: Timing, *, interleaved: bool, among: int = 1) -> Speedup:
    """The ratio of the medians, with a 95% interval over passes, or over rounds where there is one pass.

    Over passes, `ci95` says where a rerun's ratio would land. The verdict is about the ratio itself, whose
    interval is narrower by RERUN; but it is taken at 1 - 5% / `among` (Bonferroni).
    """
    ratio = cpu.median_s / gpu.median_s
    over = "passes" if cpu.ci_over == gpu.ci_over == "passes" else "rounds"
    # One pass tells nothing of how processes differ, and can't be set against several.
    if cpu.ci95_s is None or gpu.ci95_s is None or cpu.ci_over != gpu.ci_over:
        return Speedup(ratio=ratio, ci95=None, ci_over=over, verdict=Verdict.undecided, among=among)
    half, strict_half = (
        log_half_width(cpu, gpu, over, interleaved=interleaved, confidence=confidence)
        for confidence in (0.95, 1 - 0.05 / among)
    )
    interval = _interval(ratio, half * RERUN if over == "passes" else half)
    strict = _interval(ratio, strict_half)
    return Speedup(
        ratio=ratio,
        ci95=interval,
        ci_over=over,
        verdict=Verdict.undecided if strict is None else verdict(strict),
        among=among,
    )


def log_half_width(
    first: Timing, second: Timing, over: str, *, interleaved: bool, confidence: float
) -> float:
    """Half the interval of log(first / second), over `passes` or `rounds`; infinite where it is unknown."""
    sides = bursts_of(first), bursts_of(second)
    if interleaved:
        half = _paired_half_width(*sides, over, confidence)
    else:
        half = welch_half_width(_logs(sides[0], over), _logs(sides[1], over), confidence)
    return half if over == "passes" else EARLY_STOP * half


def _interval(ratio: float, half: float) -> tuple[float, float] | None:
    return (ratio / float(np.exp(half)), ratio * float(np.exp(half))) if np.isfinite(half) else None


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


def _logs(bursts: Sequence[Burst], over: str) -> list[float]:
    medians = pass_medians(bursts) if over == "passes" else [np.median(burst.samples_s) for burst in bursts]
    return [float(np.log(median)) for median in medians]


def _paired_half_width(cpu: Sequence[Burst], gpu: Sequence[Burst], over: str, confidence: float) -> float:
    if over == "passes":
        shared_passes = {b.pass_index for b in cpu} & {b.pass_index for b in gpu}
        logs = [_logs([b for b in side if b.pass_index in shared_passes], over) for side in (cpu, gpu)]
        return t_half_width([c - g for c, g in zip(*logs, strict=True)], confidence)
    # Rounds of one number ran right after each other, unless one arm had already used up its time.
    medians = [{(b.pass_index, b.order): float(np.median(b.samples_s)) for b in side} for side in (cpu, gpu)]
    shared = medians[0].keys() & medians[1].keys()
    return t_half_width([float(np.log(medians[0][key] / medians[1][key])) for key in shared], confidence)


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

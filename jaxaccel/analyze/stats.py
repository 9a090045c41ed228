"""Statistics of timing samples: medians with intervals, and reasons not to believe them.

Samples within a round resemble each other more than rounds do, and rounds of one process more than
processes do. So an interval is never taken over samples: over round medians where there is one pass (then
it speaks for this process only), over pass medians where there are several (then for a rerun).
"""

import weakref
from collections.abc import Iterable, Mapping, Sequence
from itertools import groupby
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtrit

from jaxaccel.records import (
    CARRY_FLAGS,
    DEBUG_SETTING,
    NOT_FINITE,
    PASS_FAILED,
    SETTING_IGNORED,
    Flag,
    HostLoad,
    Metric,
    Timing,
)

MIN_SAMPLES = 6  # fewer say nothing about their own spread
MIN_ROUNDS = 5
FEW = 200  # values that Python sorts before NumPy has begun
P99_SAMPLES = 500  # below that the 99th percentile is one of the five slowest samples

# Sampling stops at a moment when the interval happens to look narrow. That alone took the coverage of nominal
# 95% intervals down to 92%, in the self-test's simulations; this factor brings it back.
EARLY_STOP = 1.1

# A rerun of as many passes errs as much as this run did: their difference has twice the variance.
RERUN = 2**0.5

# Flags that say that the median itself may mislead; the others tell what kind of noise there was.
NOISE_FLAGS = (
    "not converged",
    "passes disagree",
    PASS_FAILED,
    "very noisy",
    "bimodal",
    "clock throttled",
    "host busy",
    "gpu shared",
)
# Severe, too, but rare: a legend names those of them that occur.
RARE_FLAGS = (NOT_FINITE, *CARRY_FLAGS, DEBUG_SETTING, SETTING_IGNORED)
SEVERE_FLAGS = (*NOISE_FLAGS, *RARE_FLAGS)

DISAGREE = 0.25  # half an interval over passes, relative to the median
ON_FLOOR = 1.5  # times the dispatch floor: below, a timing tells of dispatch more than of the workload
BUSY_SHARE, BUSY_CORES = 0.10, 1.0  # of the host, by others: more of either is told

Floats = NDArray[np.float64]


def severe(flags: Iterable[Flag], metric: str) -> list[Flag]:
    """Those that say that the median of a metric may mislead: about it, or about all of the record."""
    return [flag for flag in flags if flag.name in SEVERE_FLAGS and flag.metric in (metric, None)]


class Burst(NamedTuple):
    """The samples of one round: of which pass, as which round of that pass, how many calls a sample."""

    pass_index: int
    order: int
    samples_s: tuple[float, ...]
    depth: int = 1


def t_half_width(values: Sequence[float] | Floats, confidence: float = 0.95) -> float:
    """Half of Student's t interval of the mean of `values`; infinite for fewer than two."""
    array = np.asarray(values, dtype=np.float64)
    if array.size < 2:
        return float("inf")
    return float(stdtrit(array.size - 1, (1 + confidence) / 2) * array.std(ddof=1) / np.sqrt(array.size))


def relative_half_width(round_medians: Sequence[float]) -> float:
    """How far off the median of one pass may be, relative to it: what decides whether to go on sampling."""
    if len(round_medians) < MIN_ROUNDS:
        return float("inf")
    return EARLY_STOP * t_half_width(round_medians) / float(np.median(round_medians))


def pass_medians(bursts: Sequence[Burst]) -> list[float]:
    """The median of all samples of each pass, in the order of the passes."""
    return list(_by_pass(bursts).values())


def medians_by_pass(timing: Timing) -> Mapping[int, float]:
    """The median of all samples of each pass, in the order of the passes."""
    # Every question about a pair asks for these again. A timing is never changed; once it is gone, so are
    # these, before another can have its id.
    key = id(timing)
    if key not in _KNOWN:
        medians = _by_pass(bursts_of(timing))
        _KNOWN[key] = weakref.ref(timing, lambda _: _KNOWN.pop(key, None)), medians
    return _KNOWN[key][1]


_KNOWN: dict[int, tuple[weakref.ref[Timing], Mapping[int, float]]] = {}


def median(values: Sequence[float]) -> float:
    """As np.median gives it, which takes longer to begin than a few samples take to sort."""
    if len(values) > FEW:
        return float(np.median(values))
    ordered, half = sorted(values), len(values) // 2
    return float(ordered[half] if len(ordered) % 2 else (ordered[half - 1] + ordered[half]) / 2)


def _by_pass(bursts: Sequence[Burst]) -> dict[int, float]:
    ordered = sorted(bursts, key=lambda burst: burst.pass_index)
    return {
        pass_index: median([sample for burst in group for sample in burst.samples_s])
        for pass_index, group in groupby(ordered, key=lambda burst: burst.pass_index)
    }


def summarize(bursts: Sequence[Burst], *, converged: bool) -> Timing:
    """The Timing of all rounds of one metric on one arm, which need not be empty.

    With one pass the median is that of the samples, and its interval a t interval over round medians. With
    several it is the geometric mean of the passes' medians, and its interval says where the same figure of a
    rerun would land, which is what its readers will do: a t interval over the logarithms, times RERUN.
    """
    samples = np.concatenate([burst.samples_s for burst in bursts])
    medians = pass_medians(bursts)
    interval: tuple[float, float] | None
    if len(medians) > 1:
        center = float(np.exp(np.mean(np.log(medians))))
        factor = float(np.exp(RERUN * t_half_width(np.log(medians))))
        interval, over = (center / factor, center * factor), "passes"
    else:
        center, over = medians[0], "rounds"
        half = EARLY_STOP * t_half_width([float(np.median(burst.samples_s)) for burst in bursts])
        interval = (max(center - half, 0.0), center + half)
    # Of two passes, the interval would be a hundred times as wide as they differ: no information.
    few = len(medians) == 2 if over == "passes" else samples.size < MIN_SAMPLES
    if few or not np.isfinite(interval).all():
        interval = None
    p5, q1, q3, p95, p99 = np.percentile(samples, [5, 25, 75, 95, 99])
    return Timing(
        median_s=center,
        ci95_s=interval,
        ci_over=over,
        min_s=float(samples.min()),
        mean_s=float(samples.mean()),
        mad_s=float(np.median(np.abs(samples - np.median(samples)))),
        iqr_s=float(q3 - q1),
        p5_s=float(p5),
        p95_s=float(p95),
        p99_s=float(p99) if samples.size >= P99_SAMPLES else None,
        n=samples.size,
        converged=converged,
        depth=max(burst.depth for burst in bursts),
        samples_s=tuple(float(sample) for sample in samples),
        rounds=tuple((burst.pass_index, burst.order, len(burst.samples_s)) for burst in bursts),
    )


def bursts_of(timing: Timing) -> list[Burst]:
    """The rounds of a Timing again: the inverse of `summarize`, but for the depth of each."""
    ends = np.cumsum([n for _, _, n in timing.rounds])
    return [
        Burst(pass_index, order, timing.samples_s[end - n : end], timing.depth)
        for (pass_index, order, n), end in zip(timing.rounds, ends, strict=True)
    ]


# --- flags -----------------------------------------------------------------------------------------


def flags(metric: Metric, timing: Timing, *, relative_ci: float) -> list[Flag]:
    """Reasons to look twice at a timing, in words. Nothing is dropped because of one.

    They tell of the noise within passes; how passes differ is what the interval tells.
    """
    bursts = bursts_of(timing)
    samples = _leveled(bursts)
    found: list[tuple[str, str]] = []
    if timing.ci_over == "passes" and timing.ci95_s is not None:
        width = timing.ci95_s[1] / timing.median_s - 1
        if width > DISAGREE:
            found.append(
                ("passes disagree", f"the interval over passes reaches {width:.0%} above the median")
            )
    elif not timing.converged:
        found.append(("not converged", f"sampling ended before an interval of ±{relative_ci:.1%}"))
    if samples.size >= MIN_SAMPLES:
        q1, q3 = np.percentile(samples, [25, 75])
        spread = float(q3 - q1)  # of samples around 1
        if spread > 0.25:
            found.append(("very noisy", f"the middle half of the samples spans {spread:.0%} of the median"))
        elif spread > 0.10:
            found.append(("noisy", f"the middle half of the samples spans {spread:.0%} of the median"))
        outliers = outlier_share(samples)
        if outliers > 0.05:
            found.append(("outliers", f"{outliers:.0%} of the samples lie far above the rest"))
    correlation = lag1_autocorrelation(bursts)
    if correlation > 0.3:
        found.append(
            ("autocorrelated", f"a sample resembles the one before it (lag-1 r = {correlation:.2f})")
        )
    change = drift(bursts)
    if abs(change) > 0.02:
        found.append(("drifting", f"the last third of the samples differs from the first by {change:+.1%}"))
    if bimodal(samples):
        found.append(("bimodal", "the samples fall into two groups: a median describes neither"))
    return [Flag(name=name, metric=metric.value, message=message) for name, message in found]


def floor_flag(metric: Metric, timing: Timing, floor_s: float | None) -> Flag | None:
    """Whether a timing sits on the dispatch floor, the time of a call that computes next to nothing."""
    if floor_s is None or timing.median_s > ON_FLOOR * floor_s:
        return None
    message = (
        f"{timing.median_s / floor_s:.2f} times the time of an empty call: it tells of dispatch, not of work"
    )
    return Flag(name="on the dispatch floor", metric=metric.value, message=message)


def load_flag(load: HostLoad, cores: int) -> Flag | None:
    """Whether others kept so much of the host busy that a timing may have suffered."""
    busy = load.others_cores + (load.stolen_cores or 0.0)
    if busy <= min(BUSY_CORES, BUSY_SHARE * cores):
        return None
    stolen = f", {load.stolen_cores:.1f} of them taken by the hypervisor" if load.stolen_cores else ""
    return Flag(name="host busy", metric=None, message=f"others used {busy:.1f} of {cores} cores{stolen}")


def outlier_share(samples: Floats) -> float:
    """The share of samples above Q3 + 3 IQR."""
    q1, q3 = np.percentile(samples, [25, 75])
    return float(np.mean(samples > q3 + 3 * (q3 - q1)))


def lag1_autocorrelation(bursts: Sequence[Burst]) -> float:
    """Rank correlation of each sample with the one before it; 0 where chance could explain it."""
    levels = dict(zip(_pass_indices(bursts), pass_medians(bursts), strict=True))
    pairs = [
        np.stack([burst.samples_s[:-1], burst.samples_s[1:]]) / levels[burst.pass_index]
        for burst in bursts
        if len(burst.samples_s) > 1
    ]
    if not pairs or sum(pair.shape[1] for pair in pairs) < 20:
        return 0.0
    # Ranks, for one stray sample would otherwise decide the correlation.
    before, after = (_ranks(side) for side in np.concatenate(pairs, axis=1))
    if before.std() == 0 or after.std() == 0:
        return 0.0
    found = float(np.corrcoef(before, after)[0, 1])
    return found if abs(found) > 3 / np.sqrt(before.size) else 0.0


def drift(bursts: Sequence[Burst]) -> float:
    """Relative change from the first third of each pass to its last; 0 where noise could explain it."""
    passes = [_leveled([b for b in bursts if b.pass_index == index]) for index in _pass_indices(bursts)]
    first = np.concatenate([samples[: samples.size // 3] for samples in passes])
    last = np.concatenate([samples[samples.size - samples.size // 3 :] for samples in passes])
    third = first.size
    if third < 10:
        return 0.0
    change = float(np.median(last) - np.median(first))
    # The standard error of a median of normal samples is 1.25 sigma / sqrt(n), and sigma 1.48 MAD.
    error = 1.25 * 1.48 * np.hypot(_mad(first), _mad(last)) / np.sqrt(third)
    return change / float(np.median(first)) if abs(change) > 3 * error else 0.0


def bimodal(samples: Floats) -> bool:
    """Whether the samples fall into two groups, each of at least a tenth, with few between them.

    The split is the one of least variance within the groups (Otsu's method).
    """
    values = np.sort(samples)
    n = values.size
    if n < 60:  # fewer fall into two groups by chance
        return False
    values = values[: int(np.ceil(0.98 * n))]  # a few slow outliers are no group
    n = values.size
    sums = np.cumsum(values)
    k = np.arange(1, n)
    between = k * (n - k) * (sums[:-1] / k - (sums[-1] - sums[:-1]) / (n - k)) ** 2
    split = int(np.argmax(between)) + 1
    low, high = values[:split], values[split:]
    gap = float(np.median(high) - np.median(low))
    if min(low.size, high.size) < 0.1 * n or gap < 0.05 * float(np.median(low)):
        return False
    width = gap / 5
    middle = (np.median(low) + np.median(high)) / 2
    near = [
        int(np.sum(np.abs(values - center) <= width / 2))
        for center in (np.median(low), middle, np.median(high))
    ]
    return near[1] < 0.5 * min(near[0], near[2])


def _leveled(bursts: Sequence[Burst]) -> Floats:
    """All samples, in units of the median of their pass."""
    levels = dict(zip(_pass_indices(bursts), pass_medians(bursts), strict=True))
    return np.concatenate([np.asarray(burst.samples_s) / levels[burst.pass_index] for burst in bursts])


def _pass_indices(bursts: Sequence[Burst]) -> list[int]:
    return sorted({burst.pass_index for burst in bursts})


def _ranks(values: Floats) -> Floats:
    """Ranks from 0; equal values share their mean rank."""
    _, where, counts = np.unique(values, return_inverse=True, return_counts=True)
    ends = np.cumsum(counts)
    ranks: Floats = (ends - (counts + 1) / 2)[where]
    return ranks


def _mad(samples: Floats) -> float:
    return float(np.median(np.abs(samples - np.median(samples))))

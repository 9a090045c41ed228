"""The statistics on noise of known making: the very loop and intervals that real measurements go through."""

import math
import random
from collections.abc import Callable, Iterator
from dataclasses import replace

import numpy as np

from jaxaccel.analyze import compare, stats
from jaxaccel.analyze.differences import Aspect, differences
from jaxaccel.records import SCHEMA_VERSION, ArmFacts, Case, Metric, Record, Status, Timing, Verdict
from jaxaccel.records.messages import Round
from jaxaccel.selftest.check import Check, holds, share
from jaxaccel.session.rounds import Sampled, Stop, sample

TYPICAL_S = 1e-3
PER_ROUND = 20
STOP = Stop(relative_ci=0.01, limit_s=1.0)
PASSES = 5

Noise = Callable[[np.random.Generator, int], np.ndarray]  # n factors around 1, whose true median is 1


def normal(rng: np.random.Generator, n: int) -> np.ndarray:
    """Independent, symmetric: 5%."""
    return 1 + 0.05 * rng.standard_normal(n)


def lognormal(rng: np.random.Generator, n: int) -> np.ndarray:
    """Independent, skewed to the slow side, as timings are: 10%."""
    return np.exp(0.1 * rng.standard_normal(n))


def autocorrelated(rng: np.random.Generator, n: int) -> np.ndarray:
    """Each sample resembles the one before it (r = 0.5): 5%."""
    values = rng.standard_normal(n)
    for i in range(1, n):
        values[i] = 0.5 * values[i - 1] + math.sqrt(0.75) * values[i]
    return 1 + 0.05 * values


def bimodal(rng: np.random.Generator, n: int) -> np.ndarray:
    """Two groups, 20% apart."""
    return np.where(rng.random(n) < 0.5, 0.9, 1.1) * (1 + 0.01 * rng.standard_normal(n))


class FakeArm:
    """An arm whose samples come from `noise` around a known time; `drift` is its growth over 1000 samples."""

    def __init__(
        self, noise: Noise, rng: np.random.Generator, *, scale: float = 1.0, drift: float = 0.0
    ) -> None:
        self._noise, self._rng, self._scale, self._drift = noise, rng, scale, drift
        self._count = 0

    def round(self, metric: Metric) -> Round:
        """PER_ROUND samples."""
        growth = 1 + self._drift * (self._count + np.arange(PER_ROUND)) / 1000
        self._count += PER_ROUND
        values = TYPICAL_S * self._scale * growth * self._noise(self._rng, PER_ROUND)
        return Round(samples_s=tuple(values.tolist()), depth=1, spent_s=float(values.sum()), warmup_s=0.0)


def checks(trials: int, seed: int = 0) -> Iterator[Check]:
    """All checks that need no hardware, `trials` each."""
    rng, order = np.random.default_rng(seed), random.Random(seed)
    for noise, least in ((normal, 0.93), (lognormal, 0.93), (autocorrelated, 0.90)):
        yield _coverage(noise, least, trials, rng, order)
    yield _rerun_coverage(trials, rng)
    yield from _flagged(max(20, trials // 10), rng, order)
    yield from _found_slowdown(trials, rng, order)
    yield from _comparing(rng, order)


def _timing(got: Sampled) -> Timing:
    return stats.summarize(got.bursts, converged=got.width <= STOP.relative_ci)


def _one(arm: FakeArm, order: random.Random) -> Timing:
    return _timing(sample({"it": arm}, Metric.latency, STOP, pass_index=0, rng=order)["it"])


def _coverage(
    noise: Noise, least: float, trials: int, rng: np.random.Generator, order: random.Random
) -> Check:
    covered, widths = 0, []
    for _ in range(trials):
        timing = _one(FakeArm(noise, rng), order)
        low, high = timing.ci95_s or (math.nan, math.nan)
        covered += low <= TYPICAL_S <= high
        widths.append((high - low) / 2 / timing.median_s)
    note = f"half as wide as {np.median(widths):.2%}"
    return share(
        f"interval covers the truth, {noise.__name__} noise", covered, trials, at_least=least, note=note
    )


def _rerun_coverage(trials: int, rng: np.random.Generator) -> Check:
    """Passes that differ by 10%, rounds by 1%: the interval over passes against the next run's figure."""
    covered = 0

    def run() -> Timing:
        bursts = []
        for index in range(PASSES):
            level = TYPICAL_S * math.exp(0.10 * rng.standard_normal())
            rounds = level * np.exp(0.01 * rng.standard_normal((stats.MIN_ROUNDS, PER_ROUND)))
            bursts += [stats.Burst(index, number, tuple(row)) for number, row in enumerate(rounds.tolist())]
        return stats.summarize(bursts, converged=True)

    for _ in range(trials):
        low, high = run().ci95_s or (math.nan, math.nan)
        covered += low <= run().median_s <= high
    return share("interval over passes covers a rerun", covered, trials, at_least=0.93)


def _flagged(trials: int, rng: np.random.Generator, order: random.Random) -> Iterator[Check]:
    arms: dict[str, Callable[[], FakeArm]] = {
        "bimodal": lambda: FakeArm(bimodal, rng),
        "drifting": lambda: FakeArm(normal, rng, drift=0.5),
        "autocorrelated": lambda: FakeArm(autocorrelated, rng),
    }
    for name, arm in arms.items():
        found = sum(name in _flag_names(_one(arm(), order)) for _ in range(trials))
        yield share(f"flagged: {name}", found, trials, at_least=0.95)
    honest = sum(not _flag_names(_one(FakeArm(normal, rng), order)) for _ in range(trials))
    yield share("honest noise is not flagged", honest, trials, at_least=0.95)


def _flag_names(timing: Timing) -> set[str]:
    return {flag.name for flag in stats.flags(Metric.latency, timing, relative_ci=STOP.relative_ci)}


def _found_slowdown(trials: int, rng: np.random.Generator, order: random.Random) -> Iterator[Check]:
    """Pairs as a session samples them: equal arms, and one that is 3% slower."""

    def verdict(scale: float) -> Verdict:
        arms = {"cpu": FakeArm(lognormal, rng, scale=scale), "gpu": FakeArm(lognormal, rng)}
        got = sample(arms, Metric.latency, STOP, pass_index=0, rng=order)
        return compare.speedup(_timing(got["cpu"]), _timing(got["gpu"]), interleaved=True).verdict

    equal = sum(verdict(1.0) not in (Verdict.gpu, Verdict.cpu) for _ in range(trials))
    yield share("equal arms: no false verdict", equal, trials, at_least=0.95)
    slower = sum(verdict(1.03) is Verdict.gpu for _ in range(trials))
    yield share("a 3% slower arm is found", slower, trials, at_least=0.80)


def _comparing(rng: np.random.Generator, order: random.Random) -> Iterator[Check]:
    burst = stats.Burst(0, 0, FakeArm(normal, rng).round(Metric.latency).samples_s[: stats.MIN_SAMPLES - 1])
    few = stats.summarize([burst], converged=False)
    many = _one(FakeArm(normal, rng, scale=2.0), order)
    found = compare.speedup(many, few, interleaved=False).verdict
    yield holds(
        "too few samples on one side",
        found is Verdict.undecided,
        expected="undecided",
        found=str(found),
    )
    try:
        compare.compare(None, None)
        said = "accepted"
    except ValueError:
        said = "refused"
    yield holds("both arms missing", said == "refused", expected="refused", found=said)
    case = Case(workload="matvec", size=8, dtype="float32", precision="highest", variant="direct")
    other = replace(case, precision="default")
    yield holds(
        "another precision is another case",
        case.case_id != other.case_id,
        expected="not paired",
        found="not paired" if case.case_id != other.case_id else "paired",
    )
    here, there = _record(case, host="here"), _record(case, host="there")
    told = ", ".join(str(found.aspect) for found in differences(here, there)) or "nothing"
    yield holds("another host", told == Aspect.machine, expected="told: machine", found=f"told: {told}")


def _record(case: Case, *, host: str) -> Record:
    """A record without a measurement, made on `host`."""
    return Record(
        schema_version=SCHEMA_VERSION,
        jaxaccel_version="0",
        started_at="",
        command="",
        case=case,
        case_id=case.case_id,
        arm_id="",
        pair_id="",
        sweep_id="",
        paired=False,
        arm=ArmFacts(requested="cpu"),
        status=Status.failed,
        environment={"host_id": host},
    )

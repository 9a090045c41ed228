"""Brackets around crossings that are known, with and without noise."""

import math
import random
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from itertools import pairwise
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import numpy as np
import pytest
from fakes import make_case, make_failed, make_record, make_timing

from jaxaccel import crossover
from jaxaccel.analyze.crossover import (
    Bracket,
    Point,
    brackets,
    crossings,
    ladder,
    leaning,
    next_sizes,
    rounded,
)
from jaxaccel.analyze.crossover_config import CrossoverConfig
from jaxaccel.analyze.questions import by_pass
from jaxaccel.cli.compose import Job
from jaxaccel.cli.config import ResumeChanged, RunConfig, TimingConfig, WorkloadConfig
from jaxaccel.crossover import Search, prepare
from jaxaccel.crossover import search as search_records
from jaxaccel.records import NOT_NEEDED, Arm, Code, Record, Timing, Verdict
from jaxaccel.records.errors import BadInputError
from jaxaccel.records.precision import Dtype, Precision
from jaxaccel.records.store import load_records
from jaxaccel.session.session import Group
from jaxaccel.wandb.config import WandbConfig, WandbMode

CPU, GPU, EQUAL, OPEN = Verdict.cpu, Verdict.gpu, Verdict.equivalent, Verdict.undecided


def points(*known: tuple[int, Verdict]) -> list[Point]:
    signs = {CPU: -1.0, GPU: 1.0, EQUAL: 0.0, OPEN: 0.0}
    return [Point(size=size, verdict=verdict, log_ratio=signs[verdict]) for size, verdict in known]


# --- sizes -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("low", "high"), [(1, 1), (1, 2), (256, 8192), (100, 30000), (7, 1 << 30)])
@pytest.mark.parametrize("steps", [0.5, 1, 8])
def test_a_ladder_goes_from_end_to_end_in_steps_that_are_no_larger_than_asked_for(
    low: int, high: int, steps: float
) -> None:
    sizes = ladder(low, high, steps)
    assert (sizes[0], sizes[-1]) == (low, high)
    assert all(small < large for small, large in pairwise(sizes))
    widest = 1.03 * 2 ** (1 / steps)  # sizes are rounded
    assert all(large <= max(small + 3, widest * small) for small, large in pairwise(sizes))


def test_a_ladder_of_powers_of_two_stays_one() -> None:
    assert ladder(256, 8192) == (256, 512, 1024, 2048, 4096, 8192)


@pytest.mark.parametrize(("low", "high"), [(0, 4), (-1, 4), (5, 4)])
def test_a_ladder_that_goes_nowhere_is_refused(low: int, high: int) -> None:
    with pytest.raises(ValueError, match=f"got {low} and {high}"):
        ladder(low, high)


@pytest.mark.parametrize(
    ("size", "near"), [(1, 1), (127, 127), (128, 128), (129, 128), (2897, 2912), (1e6, 999424)]
)
def test_sizes_have_seven_significant_bits(size: float, near: int) -> None:
    assert rounded(size) == near


# --- brackets --------------------------------------------------------------------------------------


def test_a_bracket_is_where_the_sure_winner_changes() -> None:
    (found,) = brackets(points((512, GPU), (128, CPU), (256, CPU), (1024, GPU)))
    assert found == Bracket(low=256, high=512, below=CPU, above=GPU)
    assert found.width == 1.0


def test_what_nobody_surely_wins_is_a_tie_inside() -> None:
    (found,) = brackets(points((64, OPEN), (128, CPU), (256, OPEN), (300, EQUAL), (512, GPU), (600, OPEN)))
    assert (found.low, found.ties, found.high) == (128, (256, 300), 512)


def test_several_crossings_are_several_brackets() -> None:
    found = brackets(points((1, CPU), (2, GPU), (4, OPEN), (8, GPU), (16, OPEN), (32, CPU)))
    assert [(b.low, b.ties, b.high, b.above) for b in found] == [(1, (), 2, GPU), (8, (16,), 32, CPU)]


@pytest.mark.parametrize("verdicts", [(), (CPU,), (GPU, GPU), (OPEN, EQUAL), (CPU, OPEN, CPU)])
def test_without_a_change_there_is_no_bracket(verdicts: tuple[Verdict, ...]) -> None:
    known = points(*((2**i, verdict) for i, verdict in enumerate(verdicts)))
    assert brackets(known) == ()
    assert next_sizes(known, 0.05) == ()


# --- what to measure next --------------------------------------------------------------------------


def test_a_wide_bracket_is_halved_by_ratio() -> None:
    assert next_sizes(points((256, CPU), (1024, GPU)), 0.05) == (512,)


def test_a_narrow_one_is_left_and_so_are_neighbouring_sizes() -> None:
    assert next_sizes(points((1000, CPU), (1040, GPU)), 0.05) == ()
    assert next_sizes(points((2, CPU), (3, GPU)), 0.05) == ()


def test_the_ends_of_a_bracket_come_near_its_ties() -> None:
    assert next_sizes(points((256, CPU), (512, OPEN), (560, OPEN), (1024, GPU)), 0.05) == (364, 760)


def test_an_advantage_that_shrinks_and_grows_is_looked_into() -> None:
    def known(*ratios: float) -> list[Point]:
        return [Point(size=64 * 2**i, verdict=GPU, log_ratio=ratio) for i, ratio in enumerate(ratios)]

    assert next_sizes(known(1.0, 0.3, 0.2, 0.9), 0.05) == (182,)
    assert next_sizes(known(1.0, 0.8, 0.7, 0.9), 0.05) == ()
    assert next_sizes(known(0.1, 0.3, 0.2, 0.1), 0.05) == ()
    assert next_sizes(known(1.0, 0.3, 0.2), 0.05) == ()


# --- whole searches --------------------------------------------------------------------------------

Curve = Callable[[float], float]  # log(CPU time / GPU time) by size


def search(measure: Callable[[int], Point], low: int, high: int, within: float = 0.05) -> list[Point]:
    known = {size: measure(size) for size in ladder(low, high)}
    while new := next_sizes(leaning(list(known.values())), within) or next_sizes(
        list(known.values()), within
    ):
        known |= {size: measure(size) for size in new}
        assert len(known) < 100
    return list(known.values())


def exactly(curve: Curve) -> Callable[[int], Point]:
    def measure(size: int) -> Point:
        ratio = curve(size)
        verdict = EQUAL if abs(ratio) < math.log(1.02) else GPU if ratio > 0 else CPU
        return Point(size=size, verdict=verdict, log_ratio=ratio)

    return measure


def noisily(curve: Curve, rng: random.Random, by: float, confidence: float) -> Callable[[int], Point]:
    """A ratio with normal noise of a known spread; sure beyond `confidence` spreads."""

    def measure(size: int) -> Point:
        ratio = rng.gauss(curve(size), by)
        sure = abs(ratio) > confidence * by
        return Point(size=size, verdict=(GPU if ratio > 0 else CPU) if sure else OPEN, log_ratio=ratio)

    return measure


CURVES: dict[str, tuple[Curve, list[float]]] = {
    "never": (lambda n: -1.0 - 0.1 * math.log(n), []),
    "once": (lambda n: 0.8 * math.log(n / 2900), [2900]),
    "steep": (lambda n: math.copysign(1.0, n - 1000.5), [1000.5]),
    "flat": (lambda n: 0.2 * math.log(n / 700), [700]),
    "twice": (
        lambda n: 1.0 - 0.9 * math.log(n / 1500) ** 2,
        [1500 / math.exp(1.0541), 1500 * math.exp(1.0541)],
    ),
    "dip": (lambda n: 2.0 * abs(math.log(n / 1500)) - 0.4, [1500 / math.exp(0.2), 1500 * math.exp(0.2)]),
}


@pytest.mark.parametrize("name", CURVES)
def test_without_noise_each_crossing_is_bracketed(name: str) -> None:
    curve, crossings = CURVES[name]
    known = search(exactly(curve), 64, 32768)
    found = brackets(known)
    assert len(found) == len(crossings)
    for bracket, crossing in zip(found, crossings, strict=True):
        assert bracket.low <= crossing <= bracket.high
    if name in ("once", "steep", "twice", "dip"):
        assert all(bracket.width <= 0.12 for bracket in found)  # 5% on each side of what is equal
    assert len(known) <= len(ladder(64, 32768)) + 12 * max(1, len(crossings))


@pytest.mark.parametrize("name", [name for name, (_, crossings) in CURVES.items() if crossings])
def test_with_noise_the_true_crossings_are_inside_in_95_of_100_searches(name: str) -> None:
    curve, crossings = CURVES[name]
    rng, inside = random.Random(0), 0
    for _ in range(200):
        found = brackets(search(noisily(curve, rng, by=0.03, confidence=3.0), 64, 32768))
        inside += len(found) == len(crossings) and all(
            bracket.low <= crossing <= bracket.high
            for bracket, crossing in zip(found, crossings, strict=True)
        )
    assert inside >= 190


# --- searches by records ---------------------------------------------------------------------------


@dataclass(kw_only=True)
class Machine:
    """Measures groups as a session would, by known times of a call; counts passes by size."""

    cpu_s: Curve
    gpu_s: Curve
    noise: float = 0.0
    transfer_s: Curve = lambda n: 0.0
    rng: np.random.Generator = field(default_factory=lambda: np.random.default_rng(0))
    passes: dict[int, int] = field(default_factory=dict)
    failing: tuple[int, ...] = ()
    interrupt_after: int = 10**9
    sampled: int = 0  # passes, of every metric on every device

    def measure(self, groups: list[Group]) -> Iterator[tuple[tuple[int, str], Record]]:
        for index, group in enumerate(groups):
            at = group.arms["cpu"].case.size
            self.passes[at] = max(self.passes.get(at, 0), group.passes)
            if len(self.passes) > self.interrupt_after:
                raise KeyboardInterrupt
            for device, arm in group.arms.items():
                yield (index, device), self.record(group, arm)

    def record(self, group: Group, arm: Arm) -> Record:
        at, device = arm.case.size, arm.device
        if at in self.failing and device == "gpu":
            return make_failed("gpu", case=arm.case, message="out of memory")
        medians = self.medians(at, device)
        factors = np.exp(self.noise * self.rng.standard_normal(group.passes))
        timings = {
            metric.value: make_timing(*[[[medians[metric.value] * factor] * 3] * 6 for factor in factors])
            for metric in group.asked
        }
        return self.gone_on_with(group, arm, timings)

    def medians(self, at: int, device: str) -> dict[str, float]:
        """What a call takes, by metric."""
        call_s = (self.cpu_s if device == "cpu" else self.gpu_s)(at)
        moved_s = self.transfer_s(at) if device == "gpu" else 0.0
        return {
            "latency": call_s,
            "throughput": call_s,
            "device": call_s,
            "end_to_end": call_s + moved_s,
            "h2d": moved_s + 1e-9,
            "d2h": 1e-9,
        }

    def gone_on_with(self, group: Group, arm: Arm, timings: dict[str, Timing]) -> Record:
        """The record of an arm with what it has already of other metrics, as a session makes it."""
        prior = group.prior[arm.device].timings if arm.device in group.prior else {}
        for name, timing in timings.items():
            self.sampled += len(timing.passes) - (len(prior[name].passes) if name in prior else 0)
        timings = {**prior, **timings}
        absent = {f"timings.{m}": NOT_NEEDED for m in group.metrics if m.value not in timings}
        return make_record(arm.device, case=arm.case, timings=timings, warnings=(), absent=absent)


def make_search(folder: Path, *questions: str, passes: int = 5, **settings: Any) -> Search:
    known = {
        "over": "size",
        "low": 64,
        "high": 16384,
        "per_octave": 1,
        "within": 0.05,
        "budget_s": 100.0,
        "questions": list(questions) or ["latency"],
    }
    config = RunConfig(
        workload=WorkloadConfig(name="matvec", target="fakes:None"),
        devices=("cpu", "gpu"),
        size=64,
        dtype=Dtype.float32,
        precision=Precision.highest,
        seed=0,
        timing=TimingConfig(relative_ci=0.01, limit_s=1.0, passes=passes),
        passes=passes,
        wandb=WandbConfig(mode=WandbMode.disabled, project="none"),
        crossover=CrossoverConfig(**(known | settings)),
    )
    assert config.crossover
    return Search(config=config, settings=config.crossover, folder=folder)


def crossing(n0: float, slope: float = 1.0) -> dict[str, Curve]:
    """A CPU that takes longer with the size, and a GPU that only dispatches, up to `n0` the longer one."""
    return {"cpu_s": lambda n: 1e-4 * (n / n0) ** slope, "gpu_s": lambda n: 1e-4}


def test_a_search_finds_a_crossing_with_a_fraction_of_all_passes(tmp_path: Path) -> None:
    machine, found = Machine(**crossing(2900), noise=0.02), make_search(tmp_path)
    assert search_records(found, machine.measure)
    (answer,) = found.answers()
    (bracket,) = answer.brackets
    assert bracket.low <= 2900 <= bracket.high
    assert bracket.width < 0.35
    assert sum(machine.passes.values()) < 0.4 * 5 * len(ladder(64, 16384, 8))
    assert {record.case.size for record in found.records.values()} == set(machine.passes)


def test_each_question_has_a_crossing_of_its_own(tmp_path: Path) -> None:
    machine = Machine(**crossing(500), transfer_s=lambda n: 1e-7 * n)
    found = make_search(tmp_path, "latency", "once_10", "every_call")
    assert search_records(found, machine.measure)
    expected = {"latency": 500, "once_10": 500 / (1 - 0.005 * 10), "every_call": 1000}
    for answer in found.answers():
        (bracket,) = answer.brackets
        assert bracket.below is CPU
        assert bracket.low <= expected[answer.question] <= bracket.high
        assert bracket.width < 0.2  # some of it is equal within 2%


@pytest.mark.parametrize(("n0", "winner"), [(1e6, CPU), (1.0, GPU)])
def test_without_a_crossing_the_winner_throughout_is_told(tmp_path: Path, n0: float, winner: Verdict) -> None:
    machine, found = Machine(**crossing(n0)), make_search(tmp_path)
    assert search_records(found, machine.measure)
    (answer,) = found.answers()
    assert (answer.brackets, answer.throughout) == ((), winner)
    assert set(machine.passes.values()) == {1}


def test_an_interrupted_search_goes_on_with_its_records(tmp_path: Path) -> None:
    machine, found = Machine(**crossing(2900), interrupt_after=6), make_search(tmp_path)
    with pytest.raises(KeyboardInterrupt):
        search_records(found, machine.measure)
    known = load_records([tmp_path])
    assert len(known) == 12
    going_on = make_search(tmp_path)
    going_on.records = {(record.case.size, record.arm.requested): record for record in known}
    rest = Machine(**crossing(2900))
    assert search_records(going_on, rest.measure)
    assert not set(rest.passes) & {64, 128, 256}
    whole = make_search(tmp_path / "whole")
    assert search_records(whole, Machine(**crossing(2900)).measure)
    assert going_on.answers() == whole.answers()


def test_a_spent_budget_ends_it_and_says_so(tmp_path: Path) -> None:
    machine, found = Machine(**crossing(2900)), make_search(tmp_path, budget_s=10.0)
    ticks = iter(range(0, 1000, 6))
    assert not search_records(found, machine.measure, clock=lambda: next(ticks))
    assert set(machine.passes) < set(ladder(64, 16384))


def test_a_size_that_fails_is_left_out_and_makes_it_incomplete(tmp_path: Path) -> None:
    machine, found = Machine(**crossing(2900), failing=(16384,)), make_search(tmp_path)
    assert not search_records(found, machine.measure)
    (answer,) = found.answers()
    assert answer.high == 8192
    assert answer.brackets[0].low <= 2900 <= answer.brackets[0].high


def test_equal_devices_do_not_eat_the_budget(tmp_path: Path) -> None:
    machine = Machine(cpu_s=lambda n: 1e-4, gpu_s=lambda n: 1e-4, noise=0.005)
    found = make_search(tmp_path)
    assert search_records(found, machine.measure)
    (answer,) = found.answers()
    assert (answer.brackets, answer.throughout) == ((), Verdict.undecided)
    assert sum(machine.passes.values()) < 40


def test_what_lacks_passes_for_ever_is_asked_for_once(tmp_path: Path) -> None:
    @dataclass(kw_only=True)
    class Tired(Machine):
        """Never makes more than two passes."""

        sessions: int = 0

        def measure(self, groups: list[Group]) -> Iterator[tuple[tuple[int, str], Record]]:
            self.sessions += 1
            return super().measure([replace(group, passes=min(2, group.passes)) for group in groups])

    machine, found = Tired(**crossing(2900)), make_search(tmp_path)
    assert not search_records(found, machine.measure)
    assert machine.sessions < 30


def test_what_a_device_does_not_have_at_a_size_is_nothing_that_is_left_to_do(tmp_path: Path) -> None:
    @dataclass(kw_only=True)
    class Noisy(Machine):
        """Has no device time of the smallest calls on the CPU."""

        def gone_on_with(self, group: Group, arm: Arm, timings: dict[str, Timing]) -> Record:
            lost = arm.device == "cpu" and arm.case.size == 64 and timings.pop("device", None)
            record = super().gone_on_with(group, arm, timings)
            return replace(record, absent={**record.absent, "timings.device": "noise"}) if lost else record

    found = make_search(tmp_path, "device", "throughput")
    assert search_records(found, Noisy(**crossing(2900)).measure)
    assert {answer.question: answer.low for answer in found.answers()} == {"device": 128, "throughput": 64}


# --- lines and sizes together ----------------------------------------------------------------------


def known(*sizes: tuple[int, Verdict, float], passes: int = 5) -> list[Point]:
    """Points of sizes with their winner and log-ratio, all passes but for a little alike."""
    return [
        Point(
            size=at,
            verdict=verdict,
            log_ratio=ratio,
            by_pass={p: ratio + 0.01 * (p - 2) for p in range(passes)},
        )
        for at, verdict, ratio in sizes
    ]


AROUND = ((800, CPU, -0.4), (900, OPEN, -0.2), (1100, OPEN, 0.2), (1250, GPU, 0.44))


def test_a_line_gives_the_bracket_where_sizes_alone_are_not_sure() -> None:
    (found,) = crossings(known(*AROUND))
    assert found.at == pytest.approx(1000, rel=0.02)
    assert 960 < found.low <= found.high < 1040
    assert (found.below, found.above, found.ties) == (CPU, GPU, ())


def test_a_line_does_not_hide_another_change() -> None:
    (first, second) = crossings(known(*AROUND, (4096, CPU, -1.0)))
    assert (first.below, first.above, second.above) == (CPU, GPU, CPU)
    assert first.high <= second.low


def test_a_line_that_a_sure_size_denies_is_none() -> None:
    unsure = [(at, OPEN, ratio) for at, _, ratio in AROUND]
    assert crossings(known((200, CPU, -2.0), *unsure, (8192, CPU, -1.2))) == ()


def test_a_line_alone_is_none_without_a_size_that_is_sure_on_either_side() -> None:
    assert crossings(known(*((at, OPEN, ratio) for at, _, ratio in AROUND))) == ()


def test_one_change_is_told_once() -> None:
    found = crossings(known((3, CPU, -1.0), (4, GPU, -0.2), (5, OPEN, 0.1), (6, GPU, 0.4)))
    assert len(found) <= 1


def test_brackets_follow_each_other_whatever_the_points() -> None:
    rng = random.Random(3)
    for _ in range(400):
        sizes = sorted({int(math.exp(rng.uniform(0, 7))) + 1 for _ in range(rng.randrange(3, 14))})
        points = known(
            *((at, rng.choice((CPU, GPU, OPEN, EQUAL)), rng.gauss(math.log(at / 60), 0.5)) for at in sizes),
            passes=rng.choice((1, 5)),
        )
        found = crossings(points)
        assert all(one.above is after.below and one.high <= after.low for one, after in pairwise(found))
        for bracket in found:
            assert sizes[0] <= bracket.low < bracket.high <= sizes[-1]


@pytest.mark.slow
def test_equal_devices_have_no_crossing(tmp_path: Path) -> None:
    told = 0
    for seed in range(30):
        rng = np.random.default_rng(seed)
        machine = Moody(cpu_s=lambda n: 1e-4, gpu_s=lambda n: 1e-4, shared=0.05, own=0.03, rng=rng)
        found = make_search(tmp_path / str(seed), low=16, high=16384)
        search_records(found, machine.measure)
        told += any(answer.brackets for answer in found.answers())
    assert told <= 3


def test_a_slope_of_nothing_is_no_ratio() -> None:
    good = make_timing(*[[[1e-6] * 3] * 2] * 3)
    part = replace(good, samples_s=(*good.samples_s[:6], *[-1e-9] * 6, *good.samples_s[12:]))
    sides = [make_record(device, timings={"device": part}) for device in ("cpu", "gpu")]
    assert set(by_pass("device", *sides)) == {0, 2}


@dataclass(kw_only=True)
class Moody(Machine):
    """A machine whose passes differ as a whole, and for each size; more passes keep the ones before."""

    shared: float = 0.0
    own: float = 0.0
    drawn: dict[tuple[object, ...], float] = field(default_factory=dict)

    def factor(self, by: float, *what: object) -> float:
        return math.exp(by * self.drawn.setdefault(what, float(self.rng.standard_normal())))

    def record(self, group: Group, arm: Arm) -> Record:
        at, device = arm.case.size, arm.device
        timings = {}
        for metric in group.asked:
            medians = [
                self.medians(at, device)[metric.value]
                * self.factor(self.shared, metric, device, p)
                * self.factor(self.own, metric, device, p, at)
                for p in range(group.passes)
            ]
            timings[metric.value] = make_timing(*[[[median] * 3] * 2 for median in medians])
        return self.gone_on_with(group, arm, timings)


@pytest.mark.slow
@pytest.mark.parametrize("slope", [1.0, 2.0])
def test_where_passes_disagree_by_a_fifth_a_quarter_of_a_sweep_s_passes_is_enough(
    tmp_path: Path, slope: float
) -> None:
    inside, widths, passes, trials = 0, [], [], 40
    for seed in range(trials):
        rng = np.random.default_rng(seed)
        n0 = float(np.exp(rng.uniform(np.log(100), np.log(1200))))
        machine = Moody(**crossing(n0, slope), shared=0.03, own=0.15, rng=rng)
        found = make_search(tmp_path / str(seed), low=32, high=2048)
        assert search_records(found, machine.measure)
        (answer,) = found.answers()
        (bracket,) = answer.brackets
        inside += bracket.low <= n0 <= bracket.high
        widths.append(bracket.width)
        passes.append(sum(machine.passes.values()))
    assert inside >= 0.95 * trials
    assert np.median(widths) < 0.6 / slope
    assert np.mean(passes) <= 0.25 * 5 * len(ladder(32, 2048, 8))


def test_passes_that_agree_give_a_bracket_of_5_percent(tmp_path: Path) -> None:
    machine = Moody(**crossing(700, 2.0), shared=0.01, own=0.02)
    found = make_search(tmp_path, low=32, high=2048)
    assert search_records(found, machine.measure)
    (bracket,) = found.answers()[0].brackets
    assert bracket.low <= 700 <= bracket.high
    assert bracket.width <= 0.05
    assert bracket.at == pytest.approx(700, rel=0.03)


def test_a_size_is_measured_only_by_the_metrics_whose_questions_it_can_tell_of(tmp_path: Path) -> None:
    """By latency the devices change sides at 100, by every_call at 1000."""
    machine = Moody(**crossing(100, 2.0), transfer_s=lambda n: 9.9e-6 * n, shared=0.02, own=0.05)
    found = make_search(tmp_path, "latency", "every_call", low=32, high=2048)
    assert search_records(found, machine.measure)
    timed = {at: set(record.timings) for (at, _), record in found.records.items()}
    assert all(timed[at] == {"latency", "end_to_end"} for at in ladder(32, 2048))
    assert {"latency"} in timed.values()
    assert {"end_to_end"} in timed.values()
    for answer, n0 in zip(found.answers(), (100, 1000), strict=True):
        (bracket,) = answer.brackets
        assert bracket.low <= n0 <= bracket.high
    assert machine.sampled <= 0.25 * 5 * 2 * 2 * len(ladder(32, 2048, 8))
    again = prepare(job(found))
    assert (again.records, again.wanted()) == (found.records, {})


def job(found: Search, *, resume: bool = True) -> Job:
    config = replace(found.config, resume=found.folder if resume else None)
    return Job(config=config, folder=found.folder)


def test_a_folder_is_gone_on_with_and_one_of_another_search_is_refused(tmp_path: Path) -> None:
    machine, found = Machine(**crossing(2900)), make_search(tmp_path)
    search_records(found, machine.measure)
    again = prepare(job(found))
    assert again.records == found.records
    assert again.wanted() == {}
    assert prepare(job(found, resume=False)).records == {}
    with pytest.raises(BadInputError, match="was measured for other crossover"):
        prepare(job(make_search(tmp_path, "latency", "device")))
    other = make_search(tmp_path)
    other.config = replace(other.config, dtype=Dtype.float64)
    with pytest.raises(BadInputError, match="which is not of this search"):
        prepare(job(other))


def test_a_line_goes_through_sizes_of_one_source(tmp_path: Path) -> None:
    found = make_search(tmp_path)
    known = {
        at: make_record("cpu", case=make_case(at), code=Code(digest=digest, modules=("mine",)))
        for at, digest in ((64, "old"), (128, "new"), (256, "new"))
    }
    found.records = {(at, "cpu"): record for at, record in known.items()}
    with pytest.raises(BadInputError, match=r"matvec 64 .*its source was old, and is new"):
        found.forget_other_sources(known[256])
    found.config = replace(found.config, resume_changed=ResumeChanged.restart)
    found.forget_other_sources(known[256])
    assert set(found.records) == {(128, "cpu"), (256, "cpu")}


def test_a_record_that_can_not_be_read_is_passed_over_and_its_size_measured_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    machine, found = Machine(**crossing(2900)), make_search(tmp_path)
    search_records(found, machine.measure)
    (torn, *_) = sorted(tmp_path.rglob("record.json"))
    torn.write_bytes(torn.read_bytes()[:200])
    again = prepare(job(found))
    assert len(again.records) == len(found.records) - 1
    said = capsys.readouterr().err
    assert said.startswith(f"jaxaccel: passed over a record that can't be read: {torn}: ")
    assert said.count("\n") == 1
    assert again.wanted() != {}


def test_without_a_gpu_one_size_is_tried_and_no_more(tmp_path: Path) -> None:
    machine, found = Machine(**crossing(2900), failing=ladder(64, 16384)), make_search(tmp_path)
    assert not search_records(found, machine.measure)
    assert set(machine.passes) == {64}


def test_another_parameter_than_the_size_can_be_searched_over(tmp_path: Path) -> None:
    found = make_search(tmp_path, over="batch")
    assert found.arm(32, "cpu").case.params == {"batch": 32}
    assert found.arm(32, "cpu").case.size == 64
    assert found.place(32, "gpu") == tmp_path / "batch-32" / "gpu"


@pytest.mark.slow
def test_the_true_crossing_is_inside_in_95_of_100_searches_of_five_noisy_passes(tmp_path: Path) -> None:
    inside, searches = 0, 40
    for seed in range(searches):
        rng = np.random.default_rng(seed)
        found = make_search(tmp_path / str(seed), per_octave=0.5)
        found.folder = tmp_path  # records of one search over another's: nobody reads them
        search_records(found, Machine(**crossing(2900), noise=0.02, rng=rng).measure)
        (answer,) = found.answers()
        inside += all(b.low <= 2900 <= b.high for b in answer.brackets) and len(answer.brackets) == 1
    assert inside >= 0.95 * searches


# --- the command, on a machine without a GPU ------------------------------------------------------


WORDS = ("wandb=disabled", "ceilings=off", "timing=quick")


def command(folder: Path, environment: dict[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "jaxaccel.crossover", *WORDS, *arguments],
        capture_output=True,
        text=True,
        cwd=folder,
        env=environment,
        timeout=120,
        check=False,
    )


@pytest.mark.slow
def test_without_a_gpu_the_command_says_so_after_one_size(
    tmp_path: Path, environment: dict[str, str]
) -> None:
    done = command(tmp_path, environment, "crossover.questions=[latency]", "crossover.high=1024")
    assert done.returncode == 1
    assert "failed on the gpu: matvec 64 float32 highest" in done.stdout
    records = load_records([tmp_path])
    assert {(record.case.size, record.arm.requested, record.ok) for record in records} == {
        (64, "cpu", True),
        (64, "gpu", False),
    }
    (page,) = tmp_path.rglob("report.html")
    assert f"Page: {page}" in done.stdout.splitlines()


@pytest.mark.parametrize(
    ("argument", "told"),
    [
        ("size=3", "`size=3` is for jaxaccel.run"),
        ("device=cpu", "`device=cpu` is for jaxaccel.run"),
        ("workload=stream", "`crossover.low` must be set: there is no usual range of this"),
        ("crossover.low=0", "`crossover.low` must be from 1 to below `crossover.high`, got 0 and 16384"),
        ("crossover.questions=[lat]", "`crossover.questions` must be of latency, throughput, device, once_K"),
        ("crossover.within=-1", "`crossover.within` must be a number above 0, got -1"),
        ("crossover.budge=1", "unknown key `crossover.budge`"),
        ("crossover.over=bogus", "`crossover.over` must be one of size of this workload, got 'bogus'"),
        ("crossover.low=1.5", "`crossover.low` must be a whole number, got 1.5"),
    ],
)
def test_what_can_not_be_searched_for_is_refused(
    argument: str,
    told: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(sys, "argv", ["crossover"])
    monkeypatch.setenv("HYDRA_FULL_ERROR", "1")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(crossover, "Launcher", lambda *_: Mock())  # whose workers would start early
    monkeypatch.setattr(crossover.Sessions, "measure", lambda *_: pytest.fail("this was to be refused"))
    code = crossover.main([*WORDS, argument])
    said = capsys.readouterr()
    assert (code, said.out) == (2, "")
    assert told in said.err
    assert not [path for path in tmp_path.rglob("*") if path.suffix in (".json", ".yaml")]

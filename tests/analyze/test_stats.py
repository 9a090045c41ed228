import math
import random
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from fakes import Behaviour, FakeArm, bursts, make_record, make_timing, noisy, noisy_timing
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from jaxaccel.analyze import stats
from jaxaccel.analyze.stats import (
    Burst,
    bimodal,
    bursts_of,
    drift,
    flags,
    lag1_autocorrelation,
    median,
    medians_by_pass,
    outlier_share,
    pass_medians,
    relative_half_width,
    summarize,
    t_half_width,
)
from jaxaccel.records import NOT_FINITE, Flag, Metric, Timing
from jaxaccel.render.page import rows
from jaxaccel.session.rounds import Stop, sample

Floats = NDArray[np.float64]
Noise = Callable[[np.random.Generator, tuple[int, ...]], Floats]

# --- known numbers ---------------------------------------------------------------------------------


def test_statistics_of_known_samples_are_known() -> None:
    # 1 .. 101 in an order of no importance: every percentile is a whole number
    samples = np.random.default_rng(0).permutation(np.arange(1.0, 102.0)).tolist()
    timing = make_timing([samples[:50], samples[50:]])
    assert timing.median_s == 51
    assert timing.mean_s == 51
    assert timing.min_s == 1
    assert timing.p5_s == 6
    assert timing.p95_s == 96
    assert timing.iqr_s == 50
    assert timing.mad_s == 25
    assert timing.n == 101
    assert timing.samples_s == tuple(samples)
    assert timing.rounds == ((0, 0, 50), (0, 1, 51))


def test_the_median_of_one_pass_is_that_of_its_samples_not_of_its_rounds() -> None:
    assert make_timing([[1, 1, 1, 1, 1], [9], [9]]).median_s == 1


def test_the_99th_percentile_needs_500_samples() -> None:
    samples = list(np.linspace(1.0, 2.0, 501))
    assert make_timing([samples[:499]]).p99_s is None
    assert make_timing([samples]).p99_s == pytest.approx(1.99)
    assert make_timing([samples[:500]]).p99_s is not None


def test_the_interval_needs_six_samples() -> None:
    assert make_timing([[1.0], [1.1], [1.2], [1.3], [1.4]]).ci95_s is None
    assert make_timing([[1.0], [1.1], [1.2], [1.3], [1.4], [1.5]]).ci95_s is not None


def test_one_round_has_no_interval_however_long_it_is() -> None:
    assert make_timing([[1.0, 1.1] * 50]).ci95_s is None


def test_one_pass_has_a_t_interval_over_the_medians_of_its_rounds() -> None:
    # Round medians 9, 10, 11: standard error 1/√3, and t(0.975, 2) = 4.302653.
    timing = make_timing([[8, 9, 10], [9, 10, 11], [10, 11, 12]])
    half = stats.EARLY_STOP * 4.302653 / math.sqrt(3)
    assert timing.median_s == 10
    assert timing.ci_over == "rounds"
    assert timing.ci95_s == pytest.approx((10 - half, 10 + half), rel=1e-6)


def test_no_interval_goes_below_zero() -> None:
    timing = make_timing([[1, 1, 1], [100, 100, 100]])
    assert timing.ci95_s is not None
    assert timing.ci95_s[0] == 0


def test_several_passes_have_a_geometric_mean_and_an_interval_for_the_one_of_a_rerun() -> None:
    # Pass medians 1, 2, 4: logarithms 0, ln 2, 2 ln 2, of standard error ln 2 / √3. A rerun errs as much.
    timing = make_timing([[1] * 5, [1]], [[2] * 3] * 2, [[4] * 90])
    factor = math.exp(stats.RERUN * 4.302653 * math.log(2) / math.sqrt(3))
    assert timing.median_s == pytest.approx(2)
    assert timing.ci_over == "passes"
    assert timing.ci95_s == pytest.approx((2 / factor, 2 * factor), rel=1e-6)


def test_passes_are_told_apart_even_when_their_rounds_are_mixed() -> None:
    mixed = [Burst(1, 0, (4.0, 4.0)), Burst(0, 0, (1.0, 1.0)), Burst(1, 1, (4.0,)), Burst(0, 1, (1.0,))]
    assert pass_medians(mixed) == [1, 4]


def test_the_depth_is_that_of_the_deepest_round() -> None:
    assert summarize([Burst(0, 0, (1.0,), 4), Burst(0, 1, (1.0,), 8)], converged=True).depth == 8


@pytest.mark.parametrize("converged", [True, False])
def test_whether_it_converged_is_told_as_it_was_given(converged: bool) -> None:
    assert make_timing([[1.0] * 6], converged=converged).converged is converged


def test_the_t_half_width_of_known_values_is_known() -> None:
    assert t_half_width([9, 10, 11]) == pytest.approx(4.302653 / math.sqrt(3))
    assert t_half_width([5, 5, 5, 5]) == 0
    assert t_half_width([5]) == math.inf
    assert t_half_width([]) == math.inf


def test_fewer_than_five_rounds_say_nothing_about_when_to_stop() -> None:
    assert relative_half_width([1.0] * 4) == math.inf
    assert relative_half_width([1.0] * 5) == 0


def test_the_width_that_decides_is_relative_to_the_median() -> None:
    values = [9.0, 9.5, 10.0, 10.5, 11.0]
    width = stats.EARLY_STOP * t_half_width(values) / 10
    assert relative_half_width(values) == pytest.approx(width)
    assert relative_half_width([v * 1e-6 for v in values]) == pytest.approx(width)


def test_the_width_that_decides_is_that_of_the_interval_that_is_shown() -> None:
    medians = [9.0, 9.5, 10.0, 10.5, 11.0]
    low, high = make_timing([[m] * 3 for m in medians]).ci95_s or (0, 0)
    assert relative_half_width(medians) == pytest.approx((high - low) / 2 / 10)


# --- properties ------------------------------------------------------------------------------------

times = st.floats(min_value=1e-9, max_value=1e3)
rounds_of_samples = st.lists(st.lists(times, min_size=1, max_size=8), min_size=1, max_size=6)
passes_of_rounds = st.lists(rounds_of_samples, min_size=1, max_size=4)
examples = settings(derandomize=True, deadline=None, max_examples=60)
NEARLY = 1e-9


@examples
@given(passes_of_rounds)
def test_the_median_lies_among_the_samples(passes: list[list[list[float]]]) -> None:
    timing = make_timing(*passes)
    low, high = min(timing.samples_s), max(timing.samples_s)
    assert low * (1 - NEARLY) <= timing.median_s <= high * (1 + NEARLY)
    assert timing.min_s <= timing.p5_s <= timing.p95_s <= high


@examples
@given(passes_of_rounds)
def test_an_interval_contains_the_median(passes: list[list[list[float]]]) -> None:
    timing = make_timing(*passes)
    if timing.ci95_s is not None:
        low, high = timing.ci95_s
        assert 0 <= low <= timing.median_s <= high < math.inf


@examples
@given(passes_of_rounds, st.sampled_from([1e-6, 0.5, 3.0, 1e3]))
def test_in_another_unit_the_statistics_are_the_same(passes: list[list[list[float]]], factor: float) -> None:
    def numbers(timing: Timing) -> list[float]:
        plain = [timing.median_s, timing.mean_s, timing.min_s, timing.p5_s, timing.p95_s]
        return [*plain, timing.mad_s, timing.iqr_s, *(timing.ci95_s or ())]

    scaled = make_timing(*[[[s * factor for s in samples] for samples in rounds] for rounds in passes])
    timing = make_timing(*passes)
    size = max(timing.samples_s)  # differences of large numbers are only as exact as these
    expected = [number * factor for number in numbers(timing)]
    assert numbers(scaled) == pytest.approx(expected, rel=1e-6, abs=1e-9 * size * factor)


@examples
@given(passes_of_rounds, st.integers(1, 256))
def test_the_rounds_can_be_had_back_from_a_timing(passes: list[list[list[float]]], depth: int) -> None:
    everything = [b for i, rounds in enumerate(passes) for b in bursts(rounds, pass_index=i, depth=depth)]
    assert bursts_of(summarize(everything, converged=True)) == everything


@examples
@given(rounds_of_samples, st.randoms(use_true_random=False))
def test_the_order_of_rounds_changes_no_statistic(rounds: list[list[float]], rng: random.Random) -> None:
    mixed = list(rounds)
    rng.shuffle(mixed)
    first, second = make_timing(rounds), make_timing(mixed)
    assert second.median_s == first.median_s
    if first.ci95_s is None:
        assert second.ci95_s is None
    else:
        assert second.ci95_s == pytest.approx(first.ci95_s, rel=1e-6, abs=1e-12)


# --- does the interval hold what it promises? ------------------------------------------------------

TRIALS, ROUNDS, SAMPLES = 1000, 10, 15


def normal(rng: np.random.Generator, shape: tuple[int, ...]) -> Floats:
    return 1 + 0.05 * rng.standard_normal(shape)


def lognormal(rng: np.random.Generator, shape: tuple[int, ...]) -> Floats:
    return np.exp(0.3 * rng.standard_normal(shape))


@pytest.mark.parametrize("noise", [normal, lognormal])
def test_the_interval_of_one_pass_covers_the_true_median(noise: Noise) -> None:
    trials = noise(np.random.default_rng(2026), (TRIALS, ROUNDS, SAMPLES))
    covered, widths = 0, []
    for rounds in trials:
        low, high = make_timing(rounds.tolist()).ci95_s or (math.nan, math.nan)
        covered += low <= 1 <= high
        widths.append(high - low)
    assert covered >= 0.93 * TRIALS
    assert covered < TRIALS  # one that is too wide would always cover
    # A median of normal samples has a standard error of 1.25 sigma / √n: an honest interval is near 4 of it.
    spread = 0.05 if noise is normal else 0.3
    assert np.mean(widths) < 1.5 * 4 * 1.25 * spread / math.sqrt(ROUNDS * SAMPLES)


@pytest.mark.slow
def test_the_interval_covers_the_true_median_though_sampling_stops_when_it_looks_narrow() -> None:
    stop, covered, rounds = Stop(relative_ci=0.01, limit_s=math.inf), 0, []
    for seed in range(TRIALS):
        arm = FakeArm(Behaviour(draw=noisy(1.0, 0.05)), seed=seed)
        found = sample({"cpu": arm}, Metric.latency, stop, pass_index=0, rng=random.Random(0))["cpu"]
        low, high = summarize(found.bursts, converged=True).ci95_s or (math.nan, math.nan)
        covered += low <= 1 <= high
        rounds.append(len(found.bursts))
    assert 0.93 * TRIALS <= covered < TRIALS
    assert len(set(rounds)) > 5  # it did stop at different moments


def test_the_interval_of_several_passes_covers_the_median_of_a_rerun() -> None:
    rng = np.random.default_rng(2026)

    def runs() -> Floats:
        processes = np.exp(0.05 * rng.standard_normal((TRIALS, 5, 1, 1)))  # each process is off by 5%
        return processes * normal(rng, (TRIALS, 5, 2, 15))

    covered = 0
    for passes, again in zip(runs(), runs(), strict=True):
        low, high = make_timing(*passes.tolist()).ci95_s or (math.nan, math.nan)
        covered += low <= make_timing(*again.tolist()).median_s <= high
    assert 0.93 * TRIALS <= covered < TRIALS


# --- flags -----------------------------------------------------------------------------------------


def names(timing: Timing) -> list[str]:
    return [flag.name for flag in flags(Metric.latency, timing, relative_ci=0.01)]


def rounds_of(samples: Floats, n: int = 20) -> Timing:
    """A Timing of one pass, with rounds of `n` samples."""
    return make_timing(samples.reshape(-1, n).tolist())


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(7)


def test_noise_beyond_a_tenth_is_flagged(rng: np.random.Generator) -> None:
    found = names(rounds_of(rng.uniform(0.85, 1.15, 400)))
    assert "noisy" in found
    assert "very noisy" not in found


def test_noise_beyond_a_quarter_is_flagged_as_severe_and_once(rng: np.random.Generator) -> None:
    found = names(rounds_of(rng.uniform(0.5, 1.5, 400)))
    assert "very noisy" in found
    assert "noisy" not in found
    assert "very noisy" in stats.SEVERE_FLAGS


def test_many_outliers_are_flagged_and_a_few_are_not(rng: np.random.Generator) -> None:
    samples = 1 + 0.01 * rng.standard_normal(400)
    few, many = samples.copy(), samples.copy()
    few[::50] *= 3
    many[::10] *= 3
    assert "outliers" not in names(rounds_of(few))
    assert "outliers" in names(rounds_of(many))
    assert outlier_share(few) == pytest.approx(0.02, abs=0.005)
    assert outlier_share(many) == pytest.approx(0.10, abs=0.005)


def autoregressive(rng: np.random.Generator, r: float, shape: tuple[int, int]) -> Floats:
    """Rows of normal noise of unit variance in which each value resembles the one before by `r`."""
    noise = rng.standard_normal(shape)
    for k in range(1, shape[1]):
        noise[:, k] = r * noise[:, k - 1] + math.sqrt(1 - r * r) * noise[:, k]
    return noise


def test_samples_that_resemble_their_predecessors_are_flagged(rng: np.random.Generator) -> None:
    timing = make_timing((1 + 0.02 * autoregressive(rng, 0.6, (20, 20))).tolist())
    assert "autocorrelated" in names(timing)
    assert lag1_autocorrelation(bursts_of(timing)) == pytest.approx(0.6, abs=0.1)


def test_one_stray_sample_does_not_decide_the_autocorrelation(rng: np.random.Generator) -> None:
    noise = autoregressive(rng, 0.6, (20, 20))
    noise[10, 10] = 1e6
    assert lag1_autocorrelation(bursts(noise.tolist())) > 0.4


def test_the_last_sample_of_a_round_and_the_first_of_the_next_are_no_pair() -> None:
    # Each round is one high and one low sample: inside a round the next is always the other.
    assert lag1_autocorrelation(bursts([[1.0 + k / 1000, 2.0 + k / 1000] for k in range(5)])) == 0
    rounds = [[1.0 + k / 1000, 2.0 - k / 1000] for k in range(40)]
    assert lag1_autocorrelation(bursts(rounds)) == pytest.approx(-1)


def test_equal_samples_are_not_autocorrelated() -> None:
    assert lag1_autocorrelation(bursts([[1e-5] * 15] * 4)) == 0


def test_passes_that_differ_are_no_autocorrelation(rng: np.random.Generator) -> None:
    # That processes differ is what the interval over passes tells: within each, noise is independent.
    levels = np.array([1.0, 1.05, 0.97, 1.02, 1.08]).reshape(5, 1, 1)
    samples = levels * (1 + 0.01 * rng.standard_normal((5, 10, 20)))
    assert "autocorrelated" not in names(make_timing(*samples.tolist()))


def test_passes_that_differ_are_no_drift(rng: np.random.Generator) -> None:
    levels = np.array([1.0, 1.05, 0.97, 1.02, 1.08]).reshape(5, 1, 1)
    samples = levels * (1 + 0.01 * rng.standard_normal((5, 10, 20)))
    assert "drifting" not in names(make_timing(*samples.tolist()))


@pytest.mark.parametrize("change", [0.05, -0.05])
def test_a_steady_change_is_flagged_as_drift(rng: np.random.Generator, change: float) -> None:
    samples = np.linspace(1, 1 + change, 400) * (1 + 0.01 * rng.standard_normal(400))
    assert "drifting" in names(rounds_of(samples))
    # From the middle of the first third to the middle of the last are two thirds of the way.
    assert drift([Burst(0, 0, tuple(samples))]) == pytest.approx(change * 2 / 3, abs=0.01)


def test_a_drift_that_noise_could_explain_is_none(rng: np.random.Generator) -> None:
    samples = np.linspace(1, 1.05, 45) * (1 + 0.2 * rng.standard_normal(45))
    assert drift([Burst(0, 0, tuple(samples))]) == 0


def test_two_groups_are_flagged(rng: np.random.Generator) -> None:
    samples = np.where(rng.random(400) < 0.3, 1.3, 1.0) * (1 + 0.01 * rng.standard_normal(400))
    assert "bimodal" in names(rounds_of(samples))


def test_two_groups_are_found_behind_a_few_stray_samples(rng: np.random.Generator) -> None:
    samples = np.where(rng.random(400) < 0.3, 1.3, 1.0) * (1 + 0.01 * rng.standard_normal(400))
    samples[::100] = 100.0
    assert bimodal(samples)


@pytest.mark.parametrize("share", [0.0, 0.02, 1.0])
def test_one_group_is_not_bimodal_with_or_without_stray_samples(
    rng: np.random.Generator, share: float
) -> None:
    samples = np.where(rng.random(400) < share, 1.3, 1.0) * (1 + 0.01 * rng.standard_normal(400))
    assert not bimodal(samples)


def test_two_groups_a_hair_apart_are_one() -> None:
    samples = np.tile([1.0, 1.01], 200)
    assert not bimodal(samples)


def test_what_did_not_converge_is_flagged_with_the_target() -> None:
    timing = noisy_timing(1e-4, spread=0.01)
    assert names(timing) == []
    unsure = make_timing([list(timing.samples_s)], converged=False)
    (flag,) = flags(Metric.throughput, unsure, relative_ci=0.005)
    assert (flag.name, flag.metric) == ("not converged", "throughput")
    assert "±0.5%" in flag.message


def honest(rounds: int, n: int) -> list[list[str]]:
    """The flags of each of 50 timings with independent normal noise of 3%."""
    timings = (noisy_timing(1e-4, spread=0.03, rounds=rounds, n=n, seed=seed) for seed in range(50))
    return [names(timing) for timing in timings]


@pytest.mark.parametrize(("rounds", "n"), [(10, 15), (20, 20), (10, 100)])
def test_no_flag_is_raised_on_honest_noise(rounds: int, n: int) -> None:
    assert honest(rounds, n) == [[]] * 50


@pytest.mark.parametrize(("rounds", "n"), [(6, 1), (30, 1), (50, 1), (20, 2), (10, 3), (5, 15)])
def test_the_few_samples_of_a_slow_call_seldom_raise_a_flag(rounds: int, n: int) -> None:
    assert sum(bool(raised) for raised in honest(rounds, n)) <= 5


def test_few_samples_are_summarised_and_not_judged() -> None:
    assert names(make_timing([[1.0], [2.0], [3.0]])) == []


def test_flags_drop_nothing(rng: np.random.Generator) -> None:
    samples = 1 + 0.01 * rng.standard_normal(400)
    samples[::10] *= 50
    timing = rounds_of(samples)
    assert "outliers" in names(timing)
    assert timing.samples_s == tuple(samples.tolist())


@given(st.lists(st.floats(1e-9, 1e3), min_size=1, max_size=250))
def test_a_median_is_that_of_numpy(values: list[float]) -> None:
    assert median(values) == np.median(values)


def test_medians_by_pass_are_those_of_each_timing() -> None:
    timings = [make_timing([[float(k), k + 1.0, k + 2.0]], [[2.0 * k] * 3]) for k in range(1, 100)]
    for _ in range(2):  # the second time after those that are remembered
        for k, timing in enumerate(timings, start=1):
            assert medians_by_pass(timing) == {0: k + 1.0, 1: 2.0 * k}


def test_an_answer_that_is_not_finite_puts_every_median_in_doubt() -> None:
    """So that all tables mark it, as a single run's flags do."""
    flag = Flag(name=NOT_FINITE, metric=None, message="8 of 8 elements of the output are NaN or infinite")
    assert stats.severe([flag], "latency") == [flag]
    record = replace(make_record("cpu"), warnings=(flag,))
    assert all(words.endswith("!") for _, words in rows._times(record).values())

import random
from collections.abc import Mapping
from itertools import pairwise

import pytest
from fakes import Behaviour, FakeArm, failure, noisy, shaken, steady

from jaxaccel.analyze.stats import MIN_ROUNDS, summarize
from jaxaccel.records import Metric
from jaxaccel.records.messages import Closed, Message, Round, Unavailable
from jaxaccel.session.rounds import Sampled, Stop, as_round, sample, stop_of

PRECISE = Stop(relative_ci=0.01, limit_s=1000.0)
NEVER_SURE = Stop(relative_ci=1e-9, limit_s=1000.0)


def run(
    stop: Stop, *, seed: int = 0, log: list[str] | None = None, **arms: Behaviour
) -> tuple[dict[str, Sampled], dict[str, FakeArm]]:
    """Sample the latency of arms that behave so."""
    fakes = {
        name: FakeArm(behaviour, seed=number, name=name, log=log)
        for number, (name, behaviour) in enumerate(arms.items())
    }
    return sample(fakes, Metric.latency, stop, pass_index=3, rng=random.Random(seed)), fakes


# --- when to stop ----------------------------------------------------------------------------------


def test_an_arm_without_noise_is_known_after_the_least_number_of_rounds() -> None:
    found, arms = run(PRECISE, cpu=Behaviour(draw=steady(1e-4)))
    assert arms["cpu"].rounds == MIN_ROUNDS
    assert found["cpu"].width == 0


def test_sampling_stops_as_soon_as_the_target_is_met() -> None:
    found, _ = run(PRECISE, cpu=Behaviour(draw=shaken(1e-4, 0.02)))
    got = found["cpu"]
    assert MIN_ROUNDS < len(got.bursts) < Stop.max_rounds
    assert got.width <= PRECISE.relative_ci
    before = Sampled(bursts=got.bursts[:-1], medians=got.medians[:-1])
    assert before.width > PRECISE.relative_ci


def test_both_arms_go_on_until_each_is_known() -> None:
    found, arms = run(PRECISE, cpu=Behaviour(draw=steady(1e-4)), gpu=Behaviour(draw=shaken(1e-5, 0.02)))
    assert arms["cpu"].rounds == arms["gpu"].rounds > MIN_ROUNDS
    assert all(got.width <= PRECISE.relative_ci for got in found.values())


def test_sampling_stops_at_the_time_limit_and_has_not_converged() -> None:
    stop = Stop(relative_ci=1e-9, limit_s=1.0)
    found, arms = run(stop, cpu=Behaviour(draw=noisy(1e-4, 0.05), round_s=0.125))
    assert arms["cpu"].rounds == 8
    assert found["cpu"].sampling_s == 1.0
    assert found["cpu"].width > stop.relative_ci


def test_one_round_is_made_however_short_the_time() -> None:
    _, arms = run(Stop(relative_ci=0.01, limit_s=1e-9), cpu=Behaviour(round_s=60.0))
    assert arms["cpu"].rounds == 1


def test_time_for_warming_up_is_counted_apart_from_the_limit() -> None:
    stop = Stop(relative_ci=1e-9, limit_s=1.0)
    found, _ = run(stop, cpu=Behaviour(draw=noisy(1e-4, 0.05), round_s=0.125, warmup_s=0.5))
    assert (found["cpu"].sampling_s, found["cpu"].warmup_s) == (1.0, 4.0)


def test_sampling_stops_at_the_greatest_number_of_rounds() -> None:
    found, arms = run(
        NEVER_SURE, cpu=Behaviour(draw=noisy(1e-4, 0.05)), gpu=Behaviour(draw=noisy(1e-4, 0.05))
    )
    assert arms["cpu"].rounds == arms["gpu"].rounds == Stop.max_rounds
    assert len(found["cpu"].bursts) == Stop.max_rounds


def test_an_arm_whose_time_is_up_leaves_the_other_to_go_on() -> None:
    stop = Stop(relative_ci=1e-9, limit_s=1.0)
    slow, fast = (
        Behaviour(draw=noisy(1e-2, 0.05), round_s=0.25),
        Behaviour(draw=noisy(1e-4, 0.05), round_s=0.125),
    )
    _, arms = run(stop, slow=slow, fast=fast)
    assert arms["slow"].rounds == 4
    assert arms["fast"].rounds == 8


def test_an_arm_whose_time_is_up_does_not_keep_a_known_one_going() -> None:
    slow = Behaviour(draw=noisy(1e-2, 0.5), round_s=0.25)
    _, arms = run(Stop(relative_ci=0.01, limit_s=1.0), slow=slow, known=Behaviour(draw=steady(1e-4)))
    assert arms["slow"].rounds == 4
    assert arms["known"].rounds == MIN_ROUNDS


# --- taking turns ----------------------------------------------------------------------------------


def test_each_round_has_every_arm_once_in_an_order_that_is_drawn() -> None:
    log: list[str] = []
    noise = Behaviour(draw=noisy(1e-4, 0.05))
    run(NEVER_SURE, log=log, cpu=noise, gpu=noise)
    rounds = list(zip(log[::2], log[1::2], strict=True))
    assert len(rounds) == Stop.max_rounds
    assert {frozenset(names) for names in rounds} == {frozenset({"cpu", "gpu"})}
    first = [names[0] for names in rounds]
    assert 5 < first.count("cpu") < Stop.max_rounds - 5
    assert any(earlier == later for earlier, later in pairwise(first))


def test_the_same_seed_gives_the_same_order() -> None:
    def order(seed: int) -> list[str]:
        log: list[str] = []
        noise = Behaviour(draw=noisy(1e-4, 0.05))
        run(NEVER_SURE, seed=seed, log=log, cpu=noise, gpu=noise)
        return log

    assert order(1) == order(1)
    assert order(1) != order(2)


def test_rounds_of_both_arms_carry_the_same_numbers() -> None:
    found, _ = run(PRECISE, cpu=Behaviour(), gpu=Behaviour())
    numbers = [(burst.pass_index, burst.order) for burst in found["cpu"].bursts]
    assert numbers == [(3, order) for order in range(len(numbers))]
    assert [(burst.pass_index, burst.order) for burst in found["gpu"].bursts] == numbers


@pytest.mark.parametrize(("metric", "depth"), [(Metric.latency, 1), (Metric.throughput, 8)])
def test_every_sample_and_the_depth_of_each_round_are_kept(metric: Metric, depth: int) -> None:
    arms = {"cpu": FakeArm(Behaviour(draw=noisy(1e-4, 0.005, n=17)))}
    got = sample(arms, metric, PRECISE, pass_index=0, rng=random.Random(0))["cpu"]
    again = FakeArm(Behaviour(draw=noisy(1e-4, 0.005, n=17)))
    assert [burst.depth for burst in got.bursts] == [depth] * len(got.bursts)
    assert [burst.samples_s for burst in got.bursts] == [again.round(metric).samples_s for _ in got.bursts]


def test_what_slowed_the_device_is_kept_once() -> None:
    found, _ = run(PRECISE, gpu=Behaviour(slowdowns=("sw_thermal", "hw_power_brake")))
    assert found["gpu"].slowdowns == {"sw_thermal", "hw_power_brake"}


# --- between rounds --------------------------------------------------------------------------------


def test_the_watcher_is_called_after_each_round_when_both_arms_are_done_with_it() -> None:
    seen: list[tuple[int, int]] = []

    def between(found: Mapping[str, Sampled]) -> None:
        seen.append((len(found["cpu"].bursts), len(found["gpu"].bursts)))

    arms = {"cpu": FakeArm(Behaviour()), "gpu": FakeArm(Behaviour())}
    found = sample(arms, Metric.latency, PRECISE, pass_index=0, rng=random.Random(0), between=between)
    assert seen == [(k, k) for k in range(1, len(found["cpu"].bursts) + 1)]


# --- failing ---------------------------------------------------------------------------------------


def test_an_arm_that_fails_drops_out_and_keeps_what_it_gave() -> None:
    noise = noisy(1e-4, 0.05)
    found, arms = run(NEVER_SURE, cpu=Behaviour(draw=noise), gpu=Behaviour(draw=noise, fails_in_round=3))
    assert arms["gpu"].rounds == 4  # the last of which it failed
    assert len(found["gpu"].bursts) == 3
    assert found["gpu"].failure is not None
    assert summarize(found["gpu"].bursts, converged=False).n == 45
    assert arms["cpu"].rounds == Stop.max_rounds
    assert found["cpu"].failure is None


def test_an_arm_that_fails_at_once_gave_nothing() -> None:
    found, arms = run(PRECISE, cpu=Behaviour(fails_in_round=0))
    assert (found["cpu"].bursts, arms["cpu"].rounds) == ([], 1)
    assert found["cpu"].failure is not None


def test_a_failed_arm_does_not_keep_a_known_one_going() -> None:
    _, arms = run(PRECISE, cpu=Behaviour(draw=steady(1e-4)), gpu=Behaviour(fails_in_round=2))
    assert arms["cpu"].rounds == MIN_ROUNDS


def test_no_arms_give_nothing() -> None:
    assert run(PRECISE)[0] == {}


# --- a metric that can't be had --------------------------------------------------------------------


def test_an_arm_that_can_not_give_a_metric_drops_out_and_has_not_failed() -> None:
    lacking = Behaviour(unavailable={Metric.latency: "too much noise"})
    found, arms = run(PRECISE, cpu=Behaviour(draw=steady(1e-4)), gpu=lacking)
    got = found["gpu"]
    assert (got.unavailable, got.failure, got.bursts, got.over) == ("too much noise", None, [], True)
    assert arms["gpu"].rounds == 1
    assert arms["cpu"].rounds == MIN_ROUNDS
    assert not found["cpu"].over


def test_what_was_had_of_a_metric_before_stays() -> None:
    reasons: dict[Metric, str] = {}
    arm = FakeArm(Behaviour(draw=noisy(1e-4, 0.05), unavailable=reasons))

    def between(found: Mapping[str, Sampled]) -> None:
        if len(found["gpu"].bursts) == 3:
            reasons[Metric.device] = "too much noise"

    found = sample(
        {"gpu": arm}, Metric.device, NEVER_SURE, pass_index=0, rng=random.Random(0), between=between
    )
    assert len(found["gpu"].bursts) == 3
    assert found["gpu"].unavailable == "too much noise"
    assert arm.rounds == 4


ROUND = Round(samples_s=(1e-4,), depth=1, spent_s=0.1, warmup_s=0.0)


@pytest.mark.parametrize("reply", [ROUND, Unavailable(reason="none"), failure("Runtime", "it broke")])
def test_an_answer_to_a_request_for_a_round_is_passed_on(reply: Message) -> None:
    assert as_round(reply) is reply


def test_an_answer_to_something_else_is_an_error() -> None:
    with pytest.raises(TypeError, match="answered with Closed"):
        as_round(Closed())


# --- what each metric gets -------------------------------------------------------------------------


def test_calls_get_all_of_the_time_device_time_half_and_transfers_less_at_twice_the_width() -> None:
    stop = Stop(relative_ci=0.01, limit_s=10.0, max_rounds=7)
    for metric in (Metric.latency, Metric.throughput):
        assert stop_of(metric, stop) == stop
    assert stop_of(Metric.device, stop) == Stop(relative_ci=0.01, limit_s=5.0, max_rounds=7)
    transfers = [m for m in Metric if m not in (Metric.latency, Metric.throughput, Metric.device)]
    assert len(transfers) == 6
    for metric in transfers:
        assert stop_of(metric, stop) == Stop(relative_ci=0.02, limit_s=3.0, max_rounds=7)

import json
import random
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import cycle, pairwise
from typing import Any

import pytest
from fakes import (
    FLOOR_S,
    Behaviour,
    FakeLab,
    FakeMeter,
    FakeWatcher,
    FakeWorker,
    failure,
    make_case,
    make_failed,
    make_group,
    noisy,
    opened,
    shaken,
    steady,
)

from jaxaccel.analyze.compare import compare, pair
from jaxaccel.analyze.differences import identity
from jaxaccel.analyze.stats import relative_half_width, severe
from jaxaccel.records import (
    CARRY_NOT_FINITE,
    CARRY_UNCHECKED,
    NOT_ASKED,
    NOT_NEEDED,
    SCHEMA_VERSION,
    Arm,
    Case,
    Ceiling,
    Ceilings,
    Code,
    DeviceTime,
    Energy,
    Flag,
    Metric,
    Record,
    Status,
    decode_record,
    encode_record,
)
from jaxaccel.records.errors import BadInputError
from jaxaccel.records.messages import (
    AskRound,
    Close,
    Closed,
    Failure,
    Inspect,
    Inspected,
    Message,
    Open,
    Opened,
    Started,
)
from jaxaccel.session.arm_run import Command
from jaxaccel.session.ceilings import Found
from jaxaccel.session.evidence import asked_for
from jaxaccel.session.rounds import Stop
from jaxaccel.session.session import CeilingsOf, Group, Place, Plan, WorkerLike, measure

SMALL, MIDDLE, LARGE = make_case(256), make_case(1024), make_case(4096)
TWO = (Metric.latency, Metric.throughput)
PINNED = (Metric.end_to_end_pinned, Metric.h2d_pinned, Metric.d2h_pinned)
ALL = tuple(Metric)
UNPINNED = tuple(metric for metric in ALL if metric not in PINNED)


class FakeBook:
    """Ceilings of one rate for all, at the cost of `spent_s`. Notes who asked."""

    def __init__(
        self, *, spent_s: float = 8.0, absent: dict[str, str] | None = None, better: Ceilings | None = None
    ) -> None:
        self.spent_s, self.absent, self.better = spent_s, absent or {}, better
        self.times_again = 0
        self.asked: list[tuple[str, Case]] = []
        self.lab: FakeLab | None = None

    def ceilings(
        self, worker: WorkerLike, started: Started, opened: Opened, case: Case, *, again: bool = False
    ) -> Found:
        device = started.arm.requested
        if again:
            self.times_again += 1
            return Found(ceilings=self.better or CEILINGS, absent=self.absent, spent_s=self.spent_s)
        self.asked.append((device, case))
        assert worker.alive
        if self.lab:
            last = [request for asked, request in self.lab.requests if asked == device][-1]
            assert isinstance(last, Close), "memory of the arm was not free"
        return Found(ceilings=CEILINGS, absent=self.absent, spent_s=self.spent_s)


CEILINGS = Ceilings(
    measured_at="2026-01-02T03:04:05+00:00",
    memory=Ceiling(rate_per_s=1e11, workload="stream", working_set_bytes=4 << 20),
    compute=Ceiling(rate_per_s=1e12, workload="matmul", working_set_bytes=12 << 20),
)


def make_plan(
    *groups: Group,
    seed: int = 0,
    others_cores: float = 0.0,
    ago_s: float = 0.0,
    book: CeilingsOf | None = None,
    restart: bool = False,
) -> Plan:
    command = Command(line="python -m jaxaccel.run -m", sweep_id="5eed", started=time.time() - ago_s)
    rng, meter = random.Random(seed), FakeMeter(others_cores)
    return Plan(groups=groups, command=command, rng=rng, meter=meter, book=book, restart=restart)


def run(
    lab: FakeLab,
    *groups: Group,
    seed: int = 0,
    others_cores: float = 0.0,
    ago_s: float = 0.0,
    watcher: FakeWatcher | None = None,
    book: FakeBook | None = None,
    restart: bool = False,
) -> list[tuple[Place, Record]]:
    """All records that a session yields, with their places."""
    plan = make_plan(*groups, seed=seed, others_cores=others_cores, ago_s=ago_s, book=book, restart=restart)
    if book:
        book.lab = lab
    return list(measure(plan, lab.launch, watcher or FakeWatcher()))


def of_device(**behaviours: Behaviour) -> Callable[[Arm], Behaviour]:
    return lambda arm: behaviours.get(arm.device, Behaviour())


def of_size(**behaviours: Behaviour) -> Callable[[Arm], Behaviour]:
    """By size, as `s256`, on the GPU; all is well on the CPU."""
    return lambda arm: (
        behaviours.get(f"s{arm.case.size}", Behaviour()) if arm.device == "gpu" else Behaviour()
    )


def assert_all_stopped(lab: FakeLab) -> None:
    assert lab.workers
    assert all(worker.stopped for worker in lab.workers)


def numbers(record: Record) -> set[int]:
    """The passes that gave a record its samples."""
    return {pass_index for timing in record.timings.values() for pass_index, _, _ in timing.rounds}


# --- pairs -----------------------------------------------------------------------------------------


def test_the_arms_of_a_case_are_a_pair() -> None:
    found = dict(run(FakeLab(), make_group(SMALL, "cpu", "gpu")))
    cpu, gpu = found[0, "cpu"], found[0, "gpu"]
    assert cpu.ok
    assert gpu.ok
    assert cpu.paired
    assert gpu.paired
    assert cpu.case_id == gpu.case_id == SMALL.case_id
    assert cpu.pair_id == gpu.pair_id
    assert cpu.arm_id != gpu.arm_id
    assert cpu.sweep_id == gpu.sweep_id == "5eed"
    assert (cpu.arm.kind, gpu.arm.kind) == ("AMD EPYC", "NVIDIA H200")
    assert pair([cpu, gpu])[0].speedups.keys() == {"latency", "throughput"}


def test_pairs_of_different_cases_have_different_ids() -> None:
    found = dict(run(FakeLab(), make_group(SMALL, "cpu", "gpu"), make_group(LARGE, "cpu", "gpu")))
    assert found[0, "cpu"].pair_id != found[1, "cpu"].pair_id


def test_one_device_alone_is_no_pair() -> None:
    ((place, record),) = run(FakeLab(), make_group(SMALL, "cpu"))
    assert place == (0, "cpu")
    assert record.ok
    assert not record.paired


def test_the_arms_of_a_pair_take_turns_round_by_round() -> None:
    lab = FakeLab(of_device(cpu=Behaviour(draw=shaken(1e-4, 0.02)), gpu=Behaviour(draw=shaken(1e-5, 0.02))))
    run(lab, make_group(SMALL, "cpu", "gpu"))
    for metric in (Metric.latency, Metric.throughput):
        turns = [d for d, r in lab.requests if isinstance(r, AskRound) and r.metric is metric]
        assert len(turns) >= 10
        assert all({one, other} == {"cpu", "gpu"} for one, other in zip(turns[::2], turns[1::2], strict=True))


def test_both_arms_are_open_before_the_first_round_and_closed_after_the_last() -> None:
    lab = FakeLab()
    run(lab, make_group(SMALL, "cpu", "gpu"))
    kinds = [type(request) for _, request in lab.requests]
    assert kinds[:2] == [Open, Open]
    assert kinds[-4:] == [Inspect, Inspect, Close, Close]
    assert set(kinds[2:-4]) == {AskRound}


def test_an_arm_whose_other_failed_to_open_was_not_interleaved() -> None:
    lab = FakeLab(of_device(gpu=Behaviour(on_open=failure("Runtime", "out of memory"))))
    found = dict(run(lab, make_group(SMALL, "cpu", "gpu")))
    assert found[0, "cpu"].ok
    assert not found[0, "cpu"].paired
    assert not found[0, "gpu"].paired


def test_arms_are_closed_before_the_next_case_opens() -> None:
    lab = FakeLab()
    run(lab, make_group(SMALL, "cpu", "gpu"), make_group(LARGE, "cpu", "gpu"))
    kinds = [type(request) for _, request in lab.requests if not isinstance(request, AskRound)]
    assert kinds == [Open, Open, Inspect, Inspect, Close, Close] * 2


# --- what a record holds ---------------------------------------------------------------------------


def test_a_record_holds_what_the_worker_said() -> None:
    ((_, record),) = run(FakeLab(), make_group(SMALL, "cpu"))
    facts = opened("cpu")
    assert record.schema_version == SCHEMA_VERSION
    assert record.command == "python -m jaxaccel.run -m"
    assert record.arm == facts.arm
    assert record.compile == facts.compile
    assert record.cost == facts.cost
    assert record.accuracy == facts.accuracy
    assert record.first_call_s == facts.first_call_s
    assert record.dispatch_floor_s == FLOOR_S
    assert record.environment["cpu"]["cores"] == 8
    assert record.memory is not None
    assert record.memory.peak_bytes is None
    assert record.memory.predicted_bytes == facts.memory.predicted_bytes
    assert record.invariants["answer"] == "passed"


def test_rates_are_declared_work_over_the_time_of_a_queued_call() -> None:
    lab = FakeLab(of_device(cpu=Behaviour(draw=steady(2e-4), queued=steady(1e-4))))
    ((_, record),) = run(lab, make_group(SMALL, "cpu"))
    assert record.rates is not None
    assert record.rates.metric == "throughput"
    assert record.rates.flops_per_s == pytest.approx(2e6 / 1e-4)
    assert record.rates.bytes_per_s == pytest.approx(4e6 / 1e-4)


def test_what_is_not_known_has_a_reason() -> None:
    lab = FakeLab(of_device(cpu=Behaviour(draw=steady(1.0, n=1), round_s=1e9)))
    ((_, record),) = run(lab, make_group(SMALL, "cpu"))
    assert record.timings["latency"].ci95_s is None
    assert "1 samples in 1 rounds" in record.absent["timings.latency.ci95_s"]
    assert "500 samples" in record.absent["timings.latency.p99_s"]
    assert "XLA" in record.absent["memory.peak_bytes"]


def test_a_worker_s_own_reasons_are_kept() -> None:
    lab = FakeLab(of_device(cpu=Behaviour(absent={"memory.arguments_bytes": "no analysis"})))
    ((_, record),) = run(lab, make_group(SMALL, "cpu"))
    assert record.absent["memory.arguments_bytes"] == "no analysis"


def test_an_arm_that_did_not_converge_in_time_says_so() -> None:
    lab = FakeLab(of_device(cpu=Behaviour(draw=shaken(1e-4, 0.1), round_s=0.25)))
    ((_, record),) = run(lab, make_group(SMALL, "cpu", limit_s=1.0, relative_ci=1e-3))
    assert record.ok
    assert not record.timings["latency"].converged
    assert len(record.timings["latency"].rounds) == 4
    assert "not converged" in {flag.name for flag in record.warnings}


def test_a_slowed_clock_is_flagged_with_its_reasons() -> None:
    lab = FakeLab(of_device(gpu=Behaviour(slowdowns=("sw_thermal",))))
    ((_, record),) = run(lab, make_group(SMALL, "gpu"))
    (flag,) = [flag for flag in record.warnings if flag.name == "clock throttled"]
    assert "sw_thermal" in flag.message


@pytest.mark.parametrize(("others_cores", "flagged"), [(0.0, False), (0.5, False), (4.0, True)])
def test_load_by_others_is_kept_and_flagged(others_cores: float, flagged: bool) -> None:
    ((_, record),) = run(FakeLab(), make_group(SMALL, "cpu"), others_cores=others_cores)
    assert record.host_load is not None
    assert record.host_load.others_cores == others_cores
    assert ("host busy" in {flag.name for flag in record.warnings}) is flagged


def test_a_timing_on_the_dispatch_floor_is_flagged() -> None:
    lab = FakeLab(of_device(cpu=Behaviour(draw=steady(FLOOR_S["latency"] * 1.2))))
    ((_, record),) = run(lab, make_group(SMALL, "cpu"))
    assert ("on the dispatch floor", "latency") in {(flag.name, flag.metric) for flag in record.warnings}


@pytest.mark.parametrize(("device", "status"), [("cpu", Status.ok), ("gpu", Status.failed)])
def test_a_blocked_call_that_is_faster_than_a_queued_one_fails_a_gpu_and_flags_a_cpu(
    device: str, status: Status
) -> None:
    lab = FakeLab(lambda _: Behaviour(draw=steady(1e-4), queued=steady(2e-4)))
    ((_, record),) = run(lab, make_group(SMALL, device))
    assert record.status is status
    assert record.invariants["latency at least throughput"] != "passed"
    assert ("queueing hinders" in {flag.name for flag in record.warnings}) is (device == "cpu")


# --- failing ---------------------------------------------------------------------------------------


def test_a_worker_that_dies_fails_its_case_only_and_a_new_one_takes_the_next() -> None:
    lab = FakeLab(of_size(s1024=Behaviour(dies_in_round=2)))
    groups = [make_group(case, "cpu", "gpu") for case in (SMALL, MIDDLE, LARGE)]
    found = dict(run(lab, *groups))
    assert [found[k, "gpu"].status for k in range(3)] == [Status.ok, Status.failed, Status.ok]
    assert all(found[k, "cpu"].ok for k in range(3))
    broken = found[1, "gpu"]
    assert broken.error is not None
    assert (broken.error.type, broken.error.hint) == ("WorkerDied", "a smaller size")
    assert len(lab.of("gpu")) == 2
    assert len(lab.of("cpu")) == 1
    assert_all_stopped(lab)


def test_what_an_arm_gave_before_its_worker_died_stays() -> None:
    lab = FakeLab(of_device(gpu=Behaviour(draw=noisy(1e-4, 0.05, n=15), dies_in_round=4)))
    record = dict(run(lab, make_group(SMALL, "cpu", "gpu", relative_ci=1e-6)))[0, "gpu"]
    assert record.status is Status.failed
    assert record.timings["latency"].n == 60
    assert "throughput" not in record.timings
    assert record.absent["timings.throughput"] == "the arm ended before it"


def test_a_worker_that_dies_of_opening_fails_its_case_only() -> None:
    lab = FakeLab(of_size(s256=Behaviour(dies_in_round=-1)))
    found = dict(run(lab, make_group(SMALL, "cpu", "gpu"), make_group(LARGE, "cpu", "gpu")))
    assert not found[0, "gpu"].ok
    assert found[0, "gpu"].timings == {}
    assert "see error" in found[0, "gpu"].absent["timings"]
    assert found[1, "gpu"].ok


def test_a_dead_worker_is_asked_nothing_more() -> None:
    lab = FakeLab(of_device(gpu=Behaviour(dies_in_round=2)))
    run(lab, make_group(SMALL, "cpu", "gpu"))
    asked = [request for device, request in lab.requests if device == "gpu"]
    assert isinstance(asked[-1], AskRound)
    assert len(asked) == 4  # one to open, three rounds


def test_a_round_that_fails_fails_its_arm_and_the_worker_goes_on() -> None:
    lab = FakeLab(of_size(s256=Behaviour(fails_in_round=2)))
    found = dict(run(lab, make_group(SMALL, "cpu", "gpu"), make_group(LARGE, "cpu", "gpu")))
    assert found[0, "gpu"].status is Status.failed
    assert found[1, "gpu"].ok
    assert len(lab.of("gpu")) == 1
    closed = [request for device, request in lab.requests if device == "gpu" and isinstance(request, Close)]
    assert len(closed) == 2


NO_GPU = failure("NoDevice", "JAX finds no GPU here", hint="pip install")


def test_a_device_that_never_starts_fails_all_its_arms_and_the_other_s_stand() -> None:
    lab = FakeLab(broken={"gpu": replace(NO_GPU, environment={"host_id": "abc"})})
    groups = [make_group(case, "cpu", "gpu") for case in (SMALL, MIDDLE, LARGE)]
    found = dict(run(lab, *groups))
    for index in range(3):
        assert found[index, "cpu"].ok
        assert found[index, "gpu"].status is Status.failed
        assert found[index, "gpu"].error == NO_GPU.error
        assert found[index, "gpu"].environment == {"host_id": "abc"}
        assert found[index, "gpu"].arm.kind is None
    assert len(lab.of("gpu")) == 1  # it would not start the next time either
    assert_all_stopped(lab)


def test_a_device_that_never_starts_is_not_tried_again_in_the_next_pass() -> None:
    lab = FakeLab(broken={"gpu": NO_GPU})
    found = dict(run(lab, make_group(SMALL, "cpu", "gpu", passes=3)))
    assert numbers(found[0, "cpu"]) == {0, 1, 2}
    assert not found[0, "gpu"].ok
    assert len(lab.of("gpu")) == 1


def test_what_was_refused_is_refused_and_not_asked_again() -> None:
    lab = FakeLab(of_size(s256=Behaviour(on_open=failure("Refused", "does not fit", refused=True))))
    found = dict(run(lab, make_group(SMALL, "gpu", passes=3), make_group(LARGE, "gpu", passes=3)))
    assert found[0, "gpu"].status is Status.refused
    assert found[0, "gpu"].error is not None
    assert found[0, "gpu"].error.message == "does not fit"
    assert found[1, "gpu"].ok
    assert lab.opened("gpu").count(SMALL) == 1
    assert lab.opened("gpu").count(LARGE) == 3


# --- metrics ---------------------------------------------------------------------------------------


def medians(record: Record) -> dict[str, float]:
    return {name: timing.median_s for name, timing in record.timings.items()}


def rounds_of(lab: FakeLab, device: str, metric: Metric) -> int:
    return sum(isinstance(r, AskRound) and r.metric is metric for d, r in lab.requests if d == device)


@pytest.mark.parametrize("metrics", [TWO, (Metric.latency,), (Metric.device, Metric.d2h), ALL])
def test_the_metrics_that_are_asked_for_are_those_that_are_measured(metrics: tuple[Metric, ...]) -> None:
    lab = FakeLab()
    ((_, record),) = run(lab, make_group(SMALL, "gpu", metrics=metrics))
    assert tuple(record.timings) == metrics
    (asked,) = [request for _, request in lab.requests if isinstance(request, Open)]
    assert asked.metrics == metrics
    for metric in set(ALL) - set(metrics):
        assert record.absent[f"timings.{metric}"] == "not asked for: see `metrics`"


def test_metrics_are_measured_one_after_the_other_in_their_order() -> None:
    lab = FakeLab()
    run(lab, make_group(SMALL, "cpu", "gpu", metrics=ALL))
    turns = [request.metric for _, request in lab.requests if isinstance(request, AskRound)]
    assert tuple(dict.fromkeys(turns)) == ALL
    assert sum(one != other for one, other in pairwise(turns)) == len(ALL) - 1


@pytest.mark.parametrize(
    "less",
    [
        Behaviour(offers=TWO, absent={"timings.device": "the work left the loop"}),
        Behaviour(unavailable={Metric.device: "the work left the loop"}),
    ],
    ids=["not offered", "unavailable"],
)
def test_a_metric_that_one_arm_can_not_give_costs_that_arm_this_metric_only(less: Behaviour) -> None:
    lab = FakeLab(of_device(cpu=less))
    metrics = (*TWO, Metric.device)
    found = dict(run(lab, make_group(SMALL, "cpu", "gpu", metrics=metrics), book=FakeBook()))
    cpu, gpu = found[0, "cpu"], found[0, "gpu"]
    assert cpu.ok
    assert gpu.ok
    assert tuple(cpu.timings) == TWO
    assert tuple(gpu.timings) == metrics
    assert cpu.absent["timings.device"] == "the work left the loop"
    assert "timings.device" not in gpu.absent
    assert pair([cpu, gpu])[0].speedups.keys() == set(TWO)


@pytest.mark.parametrize(
    "lacking", [Behaviour(offers=UNPINNED), Behaviour(unavailable=dict.fromkeys(PINNED, "no"))]
)
def test_what_only_one_device_has_leaves_a_pair_a_pair(lacking: Behaviour) -> None:
    lab = FakeLab(of_device(cpu=lacking))
    found = dict(run(lab, make_group(SMALL, "cpu", "gpu", metrics=ALL, passes=2)))
    assert found[0, "cpu"].paired
    assert found[0, "gpu"].paired
    assert set(found[0, "cpu"].timings) == set(UNPINNED)
    assert set(found[0, "gpu"].timings) == set(ALL)


def test_what_goes_on_alone_after_the_other_failed_was_not_interleaved() -> None:
    behaviours = iter([Behaviour(), Behaviour(fails_in_round=7)])  # it fails in the second pass

    def behave(arm: Arm) -> Behaviour:
        return next(behaviours) if arm.device == "gpu" else Behaviour(draw=steady(1e-4))

    found = dict(run(FakeLab(behave), make_group(SMALL, "cpu", "gpu", metrics=ALL, passes=2)))
    assert found[0, "cpu"].ok
    assert found[0, "gpu"].lacks_passes
    assert not found[0, "cpu"].paired


def test_what_is_unavailable_is_not_asked_for_again() -> None:
    lab = FakeLab(of_device(gpu=Behaviour(unavailable={Metric.h2d_pinned: "no memory to pin"})))
    record = run(lab, make_group(SMALL, "gpu", metrics=ALL, passes=3))[-1][1]
    assert rounds_of(lab, "gpu", Metric.h2d_pinned) == 1
    assert numbers(record) == {0, 1, 2}
    assert record.absent["timings.h2d_pinned"] == "no memory to pin"


def test_a_metric_that_was_there_and_is_not_in_a_later_pass_keeps_its_passes_and_is_asked_for_again() -> None:
    noise = Behaviour(unavailable={Metric.device: "too much noise"})
    behaviours = iter([Behaviour(), noise, Behaviour()])
    record = run(
        FakeLab(lambda _: next(behaviours)),
        make_group(SMALL, "gpu", metrics=(Metric.latency, Metric.device), passes=3),
    )[-1][1]
    assert {pass_index for pass_index, _, _ in record.timings["device"].rounds} == {0, 2}
    assert {pass_index for pass_index, _, _ in record.timings["latency"].rounds} == {0, 1, 2}
    assert "timings.device" not in record.absent
    (flag,) = [flag for flag in record.warnings if flag.name == "fewer rounds"]
    assert flag.metric == "device"
    assert "too much noise" in flag.message


def test_what_a_pass_does_not_offer_is_not_asked_for_in_it() -> None:
    behaviours = iter([Behaviour(), Behaviour(offers=TWO)])
    lab = FakeLab(lambda _: next(behaviours))
    record = run(lab, make_group(SMALL, "gpu", metrics=(*TWO, Metric.device), passes=2))[-1][1]
    assert {pass_index for pass_index, _, _ in record.timings["device"].rounds} == {0}


def test_what_the_first_pass_does_not_offer_is_not_asked_for_in_a_later_one() -> None:
    less = Behaviour(offers=TWO, absent={"timings.device": "the work left the loop"})
    behaviours = iter([less, Behaviour()])
    lab = FakeLab(lambda _: next(behaviours))
    record = run(lab, make_group(SMALL, "gpu", metrics=(*TWO, Metric.device), passes=2))[-1][1]
    assert rounds_of(lab, "gpu", Metric.device) == 0
    assert record.absent["timings.device"] == "the work left the loop"


def test_an_arm_that_has_none_of_the_metrics_fails_with_the_reason() -> None:
    lab = FakeLab(of_device(cpu=Behaviour(unavailable=dict.fromkeys(PINNED, "nothing to pin"))))
    found = dict(run(lab, make_group(SMALL, "cpu", "gpu", metrics=PINNED)))
    cpu = found[0, "cpu"]
    assert cpu.status is Status.failed
    assert cpu.error is not None
    assert (cpu.error.type, cpu.error.message) == ("Unavailable", "nothing to pin")
    assert found[0, "gpu"].ok


def test_device_time_gets_half_of_the_time_limit_and_a_transfer_less() -> None:
    noise = Behaviour(draw=noisy(1e-4, 0.05), round_s=0.125)
    lab = FakeLab(of_device(gpu=noise))
    run(lab, make_group(SMALL, "gpu", metrics=ALL, relative_ci=1e-9, limit_s=1.0))
    asked = {metric: rounds_of(lab, "gpu", metric) for metric in ALL}
    assert {asked[metric] for metric in TWO} == {8}
    assert asked[Metric.device] == 4
    assert {asked[m] for m in ALL if m not in (*TWO, Metric.device)} == {3}


def test_a_transfer_has_converged_at_twice_the_width() -> None:
    medians = [0.99e-4, 1.0e-4, 1.0e-4, 1.0e-4, 1.02e-4]
    assert 0.01 < relative_half_width(medians) < 0.02
    rounds = cycle(medians)
    group = make_group(SMALL, "gpu", metrics=(Metric.latency, Metric.h2d))
    group.stop = replace(group.stop, max_rounds=5)
    ((_, record),) = run(FakeLab(lambda _: Behaviour(draw=lambda _: [next(rounds)] * 15)), group)
    assert [len(timing.rounds) for timing in record.timings.values()] == [5, 5]
    assert [timing.converged for timing in record.timings.values()] == [False, True]


# --- what is found out once ------------------------------------------------------------------------


def inspections(lab: FakeLab, device: str) -> list[Inspect]:
    return [request for asked, request in lab.requests if asked == device and isinstance(request, Inspect)]


def test_an_arm_is_inspected_once_in_the_first_pass() -> None:
    energy = Energy(
        per_call_j=0.5,
        above_idle_per_call_j=0.25,
        uncertainty_j=0.01,
        idle_w=100.0,
        source="a meter",
        scope="board",
        resolution_s=0.1,
        calls=10,
        duration_s=2.0,
    )
    told = Inspected(device_time=None, energy=energy, spent_s=3.0, absent={"device_time": "no profiler"})
    lab = FakeLab(of_device(gpu=Behaviour(inspected=told)))
    groups = [make_group(case, "gpu", passes=3, energy_s=2.0) for case in (SMALL, LARGE)]
    found = dict(run(lab, *groups))
    assert [request.energy_s for request in inspections(lab, "gpu")] == [2.0, 2.0]
    for index in range(2):
        record = found[index, "gpu"]
        assert record.energy == energy
        assert "energy" not in record.absent
        assert record.device_time is None
        assert record.absent["device_time"] == "no profiler"
        assert record.spent_s.inspection == 3.0


def test_an_inspection_comes_when_all_arms_of_a_case_are_timed() -> None:
    lab = FakeLab()
    run(lab, make_group(SMALL, "cpu", "gpu", metrics=ALL))
    kinds = [type(request) for _, request in lab.requests]
    assert AskRound not in kinds[kinds.index(Inspect) :]


def test_an_inspection_that_fails_costs_only_what_it_would_have_found() -> None:
    lab = FakeLab(of_size(s256=Behaviour(inspected=failure("Runtime", "the counter is gone"))))
    found = dict(run(lab, *(make_group(case, "cpu", "gpu", passes=2) for case in (SMALL, LARGE))))
    record = found[0, "gpu"]
    assert record.ok
    assert numbers(record) == {0, 1}
    assert record.absent["energy"] == record.absent["device_time"] == "the counter is gone"
    assert all(found[place].ok for place in found)
    assert len(inspections(lab, "gpu")) == 2  # one a case, none again
    assert len(lab.of("gpu")) == 2  # one a pass


def test_an_inspection_that_kills_its_worker_costs_neither_timings_nor_the_next_case() -> None:
    lab = FakeLab(of_size(s256=Behaviour(dies_in_inspection=True)))
    groups = [make_group(case, "cpu", "gpu", passes=2, metrics=ALL) for case in (SMALL, LARGE)]
    watcher = FakeWatcher()
    last = dict(run(lab, *groups, book=FakeBook(), watcher=watcher))
    first = watcher.records[0][1]
    assert all(record.ok for record in last.values())
    assert numbers(last[0, "gpu"]) == {0, 1}
    assert set(last[0, "gpu"].timings) == set(ALL)
    assert "signal 9" in last[0, "gpu"].absent["energy"]
    assert len(inspections(lab, "gpu")) == 2
    # Nobody was there to be asked for ceilings; the next pass asks for them.
    assert (first.case, first.arm.requested) == (SMALL, "gpu")
    assert first.ceilings is None
    assert first.absent["ceilings"] == "the arm ended before it"
    assert last[0, "gpu"].ceilings == CEILINGS
    assert "ceilings" not in last[0, "gpu"].absent
    assert_all_stopped(lab)


def test_a_watcher_is_told_what_begins_and_how_long_a_call_takes() -> None:
    lab = FakeLab(of_size())
    watcher = FakeWatcher()
    run(lab, make_group(SMALL, "cpu", "gpu", metrics=ALL), watcher=watcher)
    assert watcher.opening == ["opening on the cpu", "opening on the gpu"]
    assert watcher.calls_s.keys() == {"cpu", "gpu"}
    assert watcher.metrics == list(ALL)


def test_an_answer_to_something_else_than_an_inspection_is_an_error() -> None:
    lab = FakeLab(lambda _: Behaviour(inspected=opened("cpu")))  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="answered with Opened"):
        run(lab, make_group(SMALL, "cpu"))
    assert_all_stopped(lab)


def test_an_arm_that_failed_is_not_inspected_and_not_held_against_anything() -> None:
    lab, book = FakeLab(of_device(gpu=Behaviour(fails_in_round=2))), FakeBook()
    record = dict(run(lab, make_group(SMALL, "cpu", "gpu"), book=book))[0, "gpu"]
    assert not record.ok
    assert inspections(lab, "gpu") == []
    assert [device for device, _ in book.asked] == ["cpu"]
    for place in ("device_time", "energy", "ceilings"):
        assert record.absent[place], place


# --- ceilings --------------------------------------------------------------------------------------


def test_ceilings_are_asked_for_once_an_arm_when_its_memory_is_free() -> None:
    lab, book = FakeLab(), FakeBook(absent={"ceilings.transfers.h2d": "no time"})
    groups = [make_group(case, "cpu", "gpu", passes=3) for case in (SMALL, LARGE)]
    found = dict(run(lab, *groups, book=book))
    assert sorted(book.asked, key=str) == sorted(
        [(device, case) for device in ("cpu", "gpu") for case in (SMALL, LARGE)], key=str
    )
    for record in found.values():
        assert record.ceilings == CEILINGS
        assert record.spent_s.ceilings == 8.0
        assert record.absent["ceilings.transfers.h2d"] == "no time"
        assert record.rates is not None
        assert record.rates.of_memory_ceiling == pytest.approx(record.rates.bytes_per_s / 1e11)
        assert record.rates.of_compute_ceiling == pytest.approx(record.rates.flops_per_s / 1e12)
        assert record.invariants["rate within the ceiling"] == "passed"


def test_both_arms_are_closed_before_the_first_ceiling() -> None:
    lab = FakeLab()

    class Noting(FakeBook):
        def ceilings(self, *arguments: object, again: bool = False) -> Found:
            kinds = [type(request) for _, request in lab.requests]
            assert kinds.count(Open) == kinds.count(Close) == 2
            return super().ceilings(*arguments, again=again)  # type: ignore[arg-type]

    run(lab, make_group(SMALL, "cpu", "gpu"), book=Noting())


def test_whoever_interrupts_the_ceilings_has_the_timings() -> None:
    class Interrupted(FakeBook):
        def ceilings(self, *_: object, again: bool = False) -> Found:
            raise KeyboardInterrupt

    lab, found = FakeLab(), dict[Place, Record]()
    plan = make_plan(make_group(SMALL, "cpu", "gpu"), make_group(LARGE, "cpu"), book=Interrupted())
    with pytest.raises(KeyboardInterrupt):
        found.update(measure(plan, lab.launch, FakeWatcher()))
    assert set(found) == {(0, "cpu"), (0, "gpu")}
    assert all(record.ok and record.ceilings is None for record in found.values())
    assert_all_stopped(lab)


def test_without_ceilings_there_are_none_and_the_record_says_why() -> None:
    ((_, record),) = run(FakeLab(), make_group(SMALL, "cpu"))
    assert record.ceilings is None
    assert record.absent["ceilings"] == "not asked for: ceilings=off"
    assert record.rates is not None
    assert record.rates.of_memory_ceiling is record.rates.of_compute_ceiling is None
    assert record.invariants["rate within the ceiling"].startswith("skipped")
    assert record.spent_s.ceilings == 0


def test_a_rate_above_the_ceiling_fails_a_gpu() -> None:
    # 4 MB in 20 µs are 200 GB/s, of 100 GB/s.
    lab = FakeLab(lambda _: Behaviour(draw=steady(2e-5)))
    book = FakeBook()
    record = run(lab, make_group(SMALL, "gpu"), book=book)[-1][1]
    assert record.status is Status.failed
    assert book.times_again == 2
    assert record.error is not None
    assert record.error.type == "rate within the ceiling"
    assert "200.0% of the memory ceiling" in record.error.message


def test_a_ceiling_that_a_rate_exceeds_is_measured_again_before_anybody_is_accused() -> None:
    lab = FakeLab(lambda _: Behaviour(draw=steady(2e-5)))
    higher = replace(CEILINGS, memory=Ceiling(rate_per_s=2e11, workload="s", working_set_bytes=4 << 20))
    book = FakeBook(better=higher)
    record = run(lab, make_group(SMALL, "gpu"), book=book)[-1][1]
    assert record.ok
    assert record.ceilings == higher
    assert book.times_again == 1
    assert record.spent_s.ceilings == 16.0


def leaves(value: object, path: str = "") -> dict[str, object]:
    """All that a record holds, by path."""
    if isinstance(value, dict) and value:
        return {p: v for name, item in value.items() for p, v in leaves(item, f"{path}.{name}").items()}
    return {path.removeprefix("."): value}


@pytest.mark.parametrize("book", [None, FakeBook()])
@pytest.mark.parametrize("metrics", [TWO, (Metric.latency,), (Metric.device,), PINNED, ALL])
def test_whatever_is_null_has_a_reason_and_nothing_else_has(
    metrics: tuple[Metric, ...], book: FakeBook | None
) -> None:
    lab = FakeLab(of_device(gpu=Behaviour(unavailable={Metric.h2d_pinned: "too little memory"})))
    record = run(lab, make_group(SMALL, "gpu", metrics=metrics, passes=2), book=book)[-1][1]
    held = leaves(json.loads(encode_record(record)))
    nulls = {path for path, value in held.items() if value is None}
    nulls -= {"error", "host_load.stolen_cores", "host_load.pressure_percent"}  # of no worker
    nulls -= {path for path in nulls if path.startswith("memory.") and path != "memory.peak_bytes"}
    nulls |= {f"timings.{metric}" for metric in ALL if metric not in record.timings}
    assert set(record.absent) == nulls
    assert all(record.absent.values())


# --- passes ----------------------------------------------------------------------------------------


def test_each_pass_has_fresh_workers_and_gives_a_fuller_record() -> None:
    lab = FakeLab()
    found = run(lab, make_group(SMALL, "cpu", "gpu", passes=3))
    assert len(lab.of("cpu")) == len(lab.of("gpu")) == 3
    assert [place for place, _ in found] == [(0, "cpu"), (0, "gpu")] * 3
    for device in ("cpu", "gpu"):
        records = [record for (_, d), record in found if d == device]
        assert [numbers(record) for record in records] == [{0}, {0, 1}, {0, 1, 2}]
        overs = [{timing.ci_over for timing in record.timings.values()} for record in records]
        assert overs == [{"rounds"}, {"passes"}, {"passes"}]
        assert all(record.ok for record in records)
        counts = [record.timings["latency"].n for record in records]
        assert all(one < next_one for one, next_one in pairwise(counts))
    assert_all_stopped(lab)


def test_the_medians_of_a_record_are_over_its_passes() -> None:
    levels = iter([1.0, 2.0, 4.0])  # a process is as fast as it is

    def behave(_: Arm) -> Behaviour:
        return Behaviour(draw=steady(next(levels)))

    record = run(FakeLab(behave), make_group(SMALL, "cpu", passes=3))[-1][1]
    assert record.timings["latency"].median_s == pytest.approx(2.0)
    assert record.timings["latency"].min_s == 1.0


def test_the_time_limit_is_one_of_each_pass() -> None:
    lab = FakeLab(of_device(cpu=Behaviour(draw=noisy(1e-4, 0.05), round_s=0.25)))
    record = run(lab, make_group(SMALL, "cpu", passes=3, limit_s=1.0, relative_ci=1e-6))[-1][1]
    assert [order for _, order, _ in record.timings["latency"].rounds] == [0, 1, 2, 3] * 3


def test_every_case_has_its_record_after_the_first_pass() -> None:
    groups = [make_group(case, "cpu", passes=2) for case in (SMALL, MIDDLE, LARGE)]
    places = [place for place, _ in run(FakeLab(), *groups)]
    assert places[:3] == [(0, "cpu"), (1, "cpu"), (2, "cpu")]
    assert sorted(places[3:]) == places[:3]


def test_the_first_pass_goes_in_the_order_that_was_asked_for_and_the_others_in_one_that_is_drawn() -> None:
    cases = [make_case(size) for size in range(1, 9)]

    def order(seed: int) -> list[list[int]]:
        lab = FakeLab(of_device(cpu=Behaviour(draw=steady(1e-4))))
        run(lab, *(make_group(case, "cpu", passes=3) for case in cases), seed=seed)
        sizes = [case.size for case in lab.opened("cpu")]
        return [sizes[:8], sizes[8:16], sizes[16:]]

    first, second, third = order(1)
    assert first == list(range(1, 9))
    assert sorted(second) == sorted(third) == first
    assert first != second != third != first
    assert order(1) == [first, second, third]
    assert order(2)[1] != second


def test_groups_may_have_different_numbers_of_passes() -> None:
    lab = FakeLab()
    found = dict(run(lab, make_group(SMALL, "cpu", passes=1), make_group(LARGE, "cpu", passes=3)))
    assert numbers(found[0, "cpu"]) == {0}
    assert numbers(found[1, "cpu"]) == {0, 1, 2}


def test_a_failure_in_a_later_pass_is_told_and_leaves_the_earlier_ones() -> None:
    behaviours = iter([Behaviour(), Behaviour(fails_in_round=0)])
    found = run(FakeLab(lambda _: next(behaviours)), make_group(SMALL, "cpu", passes=3))
    record = found[-1][1]
    assert record.status is Status.ok
    assert record.lacks_passes
    assert numbers(record) == {0}
    assert set(record.timings) == {"latency", "throughput"}


def test_a_broken_invariant_in_a_later_pass_fails_the_arm() -> None:
    broken = Behaviour(fails_in_round=0, failing=failure("answer", "it is wrong"))
    behaviours = iter([Behaviour(), broken])
    record = run(FakeLab(lambda _: next(behaviours)), make_group(SMALL, "cpu", passes=2))[-1][1]
    assert record.status is Status.failed
    assert record.invariants["answer"].startswith("broken")


def test_the_first_compilation_is_the_one_that_is_told() -> None:
    behaviours = iter([Behaviour(cache=cache) for cache in ("miss", "hit", "hit")])
    record = run(FakeLab(lambda _: next(behaviours)), make_group(SMALL, "cpu", passes=3))[-1][1]
    assert record.compile is not None
    assert record.compile.cache == "miss"


def test_an_arm_is_the_same_arm_whatever_the_number_of_passes() -> None:
    (one,) = run(FakeLab(), make_group(SMALL, "cpu"))
    three = run(FakeLab(), make_group(SMALL, "cpu", passes=3))
    assert {record.arm_id for _, record in three} == {one[1].arm_id}


def test_another_timing_makes_another_arm() -> None:
    (one,) = run(FakeLab(), make_group(SMALL, "cpu"))
    (other,) = run(FakeLab(), make_group(SMALL, "cpu", limit_s=1.0))
    (precise,) = run(FakeLab(), make_group(SMALL, "cpu", relative_ci=0.001))
    assert len({one[1].arm_id, other[1].arm_id, precise[1].arm_id}) == 3


def test_the_watcher_is_told_of_every_case_pass_and_round() -> None:
    lab, watcher = FakeLab(), FakeWatcher()
    groups = [make_group(SMALL, "cpu", "gpu", passes=2), make_group(LARGE, "cpu", "gpu", passes=2)]
    run(lab, *groups, watcher=watcher)
    assert watcher.steps[:2] == [(str(SMALL), 0, 0, 2), (str(LARGE), 0, 1, 2)]
    assert [step[1:] for step in watcher.steps[2:]] == [(1, 0, 2), (1, 1, 2)]
    assert watcher.passes == [(0, 2, 4), (1, 2, 4)]
    rounds = [request for _, request in lab.requests if isinstance(request, AskRound)]
    assert watcher.rounds == len(rounds) / 2


# --- going on with earlier records -----------------------------------------------------------------


def prior(
    passes: int, *devices: str, lab: FakeLab | None = None, book: FakeBook | None = None, **settings: Any
) -> dict[str, Record]:
    """The last records of a session over one case, by device, as a file would have them."""
    found = run(lab or FakeLab(seed=100), make_group(SMALL, *devices, passes=passes, **settings), book=book)
    return {device: decode_record(encode_record(record)) for (_, device), record in found}


def resumed(passes: int, earlier: dict[str, Record], *devices: str, **settings: Any) -> Group:
    group = make_group(SMALL, *devices, passes=passes, **settings)
    group.prior.update(earlier)
    return group


def test_only_the_passes_that_are_lacking_are_made() -> None:
    earlier = prior(2, "cpu", "gpu")
    lab = FakeLab()
    found = dict(run(lab, resumed(4, earlier, "cpu", "gpu")))
    for device in ("cpu", "gpu"):
        record, before = found[0, device], earlier[device]
        assert numbers(record) == {0, 1, 2, 3}
        assert record.arm_id == before.arm_id
        assert record.started_at == before.started_at
        assert record.paired
        n = before.timings["latency"].n
        assert record.timings["latency"].samples_s[:n] == before.timings["latency"].samples_s
        assert len(lab.opened(device)) == 2


def test_a_record_that_lacks_nothing_is_yielded_as_it_was() -> None:
    earlier = prior(2, "cpu")
    lab = FakeLab()
    assert run(lab, resumed(2, earlier, "cpu")) == [((0, "cpu"), earlier["cpu"])]
    assert lab.requests == []
    assert_all_stopped(lab)


def test_a_failed_record_is_measured_anew() -> None:
    lab = FakeLab()
    found = dict(run(lab, resumed(1, {"cpu": make_failed("cpu", case=SMALL)}, "cpu")))
    assert found[0, "cpu"].ok


def test_a_record_of_another_environment_is_not_mixed_with_this_one() -> None:
    earlier = prior(1, "cpu")
    moved = {"cpu": replace(earlier["cpu"], arm_id="elsewhere", environment={"host_id": "elsewhere"})}
    lab = FakeLab()
    with pytest.raises(BadInputError, match=r"`resume`.*host_id"):
        run(lab, resumed(2, moved, "cpu"))
    assert_all_stopped(lab)


def test_a_record_of_other_timing_settings_is_not_mixed_with_this_one() -> None:
    group = make_group(SMALL, "cpu", passes=2, limit_s=1.0)
    group.prior.update(prior(1, "cpu"))
    with pytest.raises(BadInputError, match=r"`resume`.*timing"):
        run(FakeLab(), group)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"metrics": (Metric.latency,)}, r"with metrics=\[latency,throughput\]"),
        ({"metrics": ALL}, r"with metrics=\[latency,throughput\]"),
        ({"energy_s": 2.0}, "with other timing settings"),
    ],
)
def test_a_record_of_other_metrics_or_another_count_of_energy_is_not_mixed_with_this_one(
    settings: dict[str, Any], words: str
) -> None:
    with pytest.raises(BadInputError, match=f"^`resume`: matvec 256 .* {words}: .* new folder$") as caught:
        run(FakeLab(), resumed(2, prior(1, "cpu"), "cpu", **settings))
    assert "\n" not in str(caught.value)


def test_what_was_not_to_be_had_is_no_other_metric() -> None:
    less = FakeLab(lambda _: Behaviour(offers=UNPINNED), seed=100)
    earlier = prior(1, "cpu", lab=less, metrics=ALL)
    with pytest.raises(BadInputError, match="with other timing settings"):
        run(FakeLab(), resumed(2, earlier, "cpu", metrics=ALL, limit_s=1.0))


def test_seconds_may_be_written_as_a_whole_number() -> None:
    earlier = prior(1, "cpu", energy_s=2.0, limit_s=1.0)
    record = run(FakeLab(), resumed(2, earlier, "cpu", energy_s=2, limit_s=1))[-1][1]
    assert numbers(record) == {0, 1}


def passes_of(record: Record, metric: Metric) -> set[int]:
    return {pass_index for pass_index, _, _ in record.timings[metric].rounds}


def test_all_metrics_are_gone_on_with_and_keep_their_samples() -> None:
    earlier = prior(2, "cpu", "gpu", metrics=ALL)
    found = dict(run(FakeLab(), resumed(3, earlier, "cpu", "gpu", metrics=ALL)))
    for device in ("cpu", "gpu"):
        record = found[0, device]
        assert record.paired
        assert record.transfers == earlier[device].transfers
        for metric in ALL:
            assert passes_of(record, metric) == {0, 1, 2}
            before = earlier[device].timings[metric].samples_s
            assert record.timings[metric].samples_s[: len(before)] == before


@pytest.mark.parametrize(
    "less",
    [
        Behaviour(offers=UNPINNED, absent=dict.fromkeys(map("timings.{}".format, PINNED), "nothing to pin")),
        Behaviour(unavailable=dict.fromkeys(PINNED, "nothing to pin")),
    ],
    ids=["not offered", "unavailable"],
)
def test_a_metric_that_was_not_to_be_had_stays_so_and_costs_no_pass(less: Behaviour) -> None:
    earlier = prior(2, "cpu", lab=FakeLab(lambda _: less, seed=100), metrics=ALL)
    assert run(FakeLab(), resumed(2, earlier, "cpu", metrics=ALL)) == [((0, "cpu"), earlier["cpu"])]
    lab = FakeLab(lambda _: less)
    record = run(lab, resumed(3, earlier, "cpu", metrics=ALL))[-1][1]
    assert set(record.timings) == set(UNPINNED)
    assert {metric: passes_of(record, metric) for metric in UNPINNED} == {
        metric: {0, 1, 2} for metric in UNPINNED
    }
    for metric in PINNED:
        assert rounds_of(lab, "cpu", metric) == 0
        assert record.absent[f"timings.{metric}"] == "nothing to pin"
    assert len(lab.opened("cpu")) == 1


def test_a_pass_that_lacks_one_metric_is_whole_and_is_not_made_twice() -> None:
    noise = Behaviour(unavailable={Metric.device: "too much noise"})
    behaviours = iter([Behaviour(), noise])
    metrics = (Metric.latency, Metric.device)
    earlier = prior(2, "gpu", lab=FakeLab(lambda _: next(behaviours), seed=100), metrics=metrics)
    lab = FakeLab()
    record = run(lab, resumed(3, earlier, "gpu", metrics=metrics))[-1][1]
    assert len(lab.opened("gpu")) == 1
    assert passes_of(record, Metric.device) == {0, 2}
    assert passes_of(record, Metric.latency) == {0, 1, 2}
    n = earlier["gpu"].timings["latency"].n
    assert sum(count for index, _, count in record.timings["latency"].rounds if index < 2) == n
    assert "fewer rounds" in {flag.name for flag in record.warnings}


@pytest.mark.parametrize(
    "told",
    [Inspected(absent={"device_time": "none", "energy": "none"}), failure("Runtime", "it broke"), None],
)
def test_what_an_earlier_command_found_out_is_not_asked_for_again(told: Inspected | None) -> None:
    behaviour = Behaviour(inspected=told) if told else Behaviour()
    book = FakeBook()
    earlier = prior(1, "cpu", "gpu", lab=FakeLab(lambda _: behaviour, seed=100), book=book)
    lab, again = FakeLab(), FakeBook()
    found = dict(run(lab, resumed(2, earlier, "cpu", "gpu"), book=again))
    for device in ("cpu", "gpu"):
        record, before = found[0, device], earlier[device]
        assert inspections(lab, device) == []
        assert again.asked == []
        assert (record.device_time, record.energy) == (before.device_time, before.energy)
        assert record.ceilings == before.ceilings == CEILINGS
        for place in ("device_time", "energy"):
            assert record.absent.get(place) == before.absent.get(place)


def test_a_record_without_ceilings_gets_them_with_its_next_pass() -> None:
    earlier = prior(1, "cpu")
    book = FakeBook()
    record = run(FakeLab(), resumed(2, earlier, "cpu"), book=book)[-1][1]
    assert record.ceilings == CEILINGS
    assert "ceilings" not in record.absent
    assert book.asked == [("cpu", SMALL)]


def test_a_record_with_ceilings_keeps_them_where_none_are_asked_for() -> None:
    earlier = prior(1, "cpu", book=FakeBook())
    record = run(FakeLab(), resumed(2, earlier, "cpu"))[-1][1]
    assert record.ceilings == CEILINGS
    assert "ceilings" not in record.absent


def test_a_record_that_was_gone_on_with_has_the_time_of_both_commands() -> None:
    _, (_, earlier) = run(FakeLab(seed=100), make_group(SMALL, "cpu"), ago_s=100.0, book=FakeBook())
    watcher = FakeWatcher()
    groups = resumed(2, {"cpu": earlier}, "cpu"), make_group(LARGE, "cpu", passes=2)
    run(FakeLab(), *groups, ago_s=50.0, watcher=watcher)
    record, other = watcher.records[-1]
    assert earlier.spent_s.ceilings == record.spent_s.ceilings == 8.0
    here_s = record.spent_s.accounted - earlier.spent_s.accounted
    assert here_s > 0
    # The share in what belongs to no arm of this command is as large as the other's.
    share_s = other.spent_s.total - other.spent_s.accounted
    assert record.spent_s.total == pytest.approx(earlier.spent_s.total + here_s + share_s)
    assert 50.0 <= here_s + other.spent_s.accounted + 2 * share_s < 100.0


def test_a_device_that_does_not_start_any_more_leaves_its_earlier_timings() -> None:
    earlier = prior(1, "cpu", "gpu")
    found = dict(run(FakeLab(broken={"gpu": NO_GPU}), resumed(2, earlier, "cpu", "gpu")))
    assert found[0, "gpu"].timings == earlier["gpu"].timings
    assert numbers(found[0, "cpu"]) == {0, 1}


def test_a_finished_record_is_not_flagged_because_its_device_does_not_start_today() -> None:
    earlier = prior(2, "gpu")
    away = dict(run(FakeLab(broken={"gpu": NO_GPU}), resumed(2, earlier, "gpu")))[0, "gpu"]
    assert away == earlier["gpu"]
    # Where more was asked for, the flag goes once the device is back.
    lacking = dict(run(FakeLab(broken={"gpu": NO_GPU}), resumed(3, earlier, "gpu")))[0, "gpu"]
    assert lacking.lacks_passes
    back = dict(run(FakeLab(), resumed(2, {"gpu": lacking}, "gpu")))[0, "gpu"]
    assert back.ok
    assert back.lacks_passes is None
    assert back.timings == earlier["gpu"].timings


def test_flags_of_earlier_passes_stay() -> None:
    slow = FakeLab(of_device(gpu=Behaviour(slowdowns=("sw_thermal",))))
    earlier = prior(1, "gpu", lab=slow)
    assert "clock throttled" in {flag.name for flag in earlier["gpu"].warnings}
    record = run(FakeLab(), resumed(2, earlier, "gpu"))[-1][1]
    assert "clock throttled" in {flag.name for flag in record.warnings}


# --- what the timing did to a carry, which a worker says when an arm closes -------------------------


def carry_flag(call: int) -> Flag:
    return Flag(name=CARRY_NOT_FINITE, metric=None, message=f"the carry is not finite from call {call} on")


def carry_flags(record: Record) -> list[str]:
    return [flag.message for flag in record.warnings if flag.name in (CARRY_NOT_FINITE, CARRY_UNCHECKED)]


def closing_in_turn(*replies: Closed | Failure) -> FakeLab:
    turns = cycle(replies)
    return FakeLab(lambda _: Behaviour(closed=next(turns)))


def test_what_became_of_a_carry_is_in_the_record() -> None:
    lab = closing_in_turn(Closed(warnings=(carry_flag(217),), spent_s=0.75))
    record = run(lab, make_group(SMALL, "cpu"))[-1][1]
    assert carry_flags(record) == ["the carry is not finite from call 217 on"]
    assert severe(record.warnings, "latency") == [carry_flag(217)]
    without = run(FakeLab(), make_group(SMALL, "cpu"))[-1][1]
    assert record.spent_s.inspection == pytest.approx(without.spent_s.inspection + 0.75)


def test_later_passes_do_not_say_the_same_of_a_carry_again() -> None:
    lab = closing_in_turn(Closed(), Closed(warnings=(carry_flag(217),)), Closed(warnings=(carry_flag(219),)))
    record = run(lab, make_group(SMALL, "cpu", passes=3))[-1][1]
    assert carry_flags(record) == ["the carry is not finite from call 217 on"]


def test_a_resumed_record_keeps_what_became_of_its_carry() -> None:
    earlier = prior(1, "cpu", lab=closing_in_turn(Closed(warnings=(carry_flag(217),))))
    lab = closing_in_turn(Closed(warnings=(carry_flag(219),)))
    record = run(lab, resumed(2, earlier, "cpu"))[-1][1]
    assert carry_flags(record) == ["the carry is not finite from call 217 on"]


def test_a_carry_that_could_not_be_looked_at_is_said_so_and_its_timings_stand() -> None:
    lab = closing_in_turn(failure("XlaRuntimeError", "out of memory"))
    record = run(lab, make_group(SMALL, "cpu"))[-1][1]
    assert record.ok
    assert carry_flags(record) == ["out of memory"]
    assert severe(record.warnings, "latency") == []


# --- nothing is left running -----------------------------------------------------------------------


def test_workers_are_stopped_when_all_is_measured() -> None:
    lab = FakeLab()
    run(lab, make_group(SMALL, "cpu", "gpu", passes=2))
    assert len(lab.workers) == 4
    assert_all_stopped(lab)


def test_workers_are_stopped_when_the_consumer_stops_early() -> None:
    lab = FakeLab()
    plan = make_plan(make_group(SMALL, "cpu", "gpu"), make_group(LARGE, "cpu", "gpu"))
    found = measure(plan, lab.launch, FakeWatcher())
    _, record = next(found)
    assert record.ok
    assert all(worker.alive for worker in lab.workers)
    found.close()  # type: ignore[attr-defined]
    assert_all_stopped(lab)


@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError])
def test_workers_are_stopped_when_something_is_raised_between_rounds(error: type[BaseException]) -> None:
    class Breaking(FakeWatcher):
        def sampled(self, *_: object) -> None:
            raise error

    lab = FakeLab()
    with pytest.raises(error):
        run(lab, make_group(SMALL, "cpu", "gpu"), watcher=Breaking())
    assert_all_stopped(lab)


@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError])
def test_workers_are_stopped_when_asking_one_raises(error: type[BaseException]) -> None:
    def behave(arm: Arm) -> Behaviour:
        raise error

    lab = FakeLab(behave)
    with pytest.raises(error):
        run(lab, make_group(SMALL, "cpu", "gpu"))
    assert_all_stopped(lab)


def test_workers_are_stopped_when_one_is_interrupted_while_it_starts() -> None:
    lab = FakeLab()

    def launch(device: str) -> FakeWorker:
        worker = lab.launch(device)
        if device == "gpu":
            worker.ready = interrupted  # type: ignore[method-assign]
        return worker

    def interrupted() -> Started:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        list(measure(make_plan(make_group(SMALL, "cpu", "gpu")), launch, FakeWatcher()))
    assert_all_stopped(lab)


def test_workers_are_stopped_when_the_next_cannot_be_launched() -> None:
    lab = FakeLab()

    def launch(device: str) -> FakeWorker:
        if device == "gpu":
            raise OSError("no more processes")
        return lab.launch(device)

    with pytest.raises(OSError, match="no more processes"):
        list(measure(make_plan(make_group(SMALL, "cpu", "gpu")), launch, FakeWatcher()))
    assert_all_stopped(lab)


def test_an_answer_to_another_question_is_an_error_that_leaves_nothing_running() -> None:
    lab = FakeLab()

    def launch(device: str) -> FakeWorker:
        worker = lab.launch(device)
        worker.ask = echo  # type: ignore[method-assign]
        return worker

    def echo(request: Message) -> Message:
        return request

    with pytest.raises(TypeError, match="answered with Open"):
        list(measure(make_plan(make_group(SMALL, "cpu")), launch, FakeWatcher()))
    assert_all_stopped(lab)


# --- where the time went ---------------------------------------------------------------------------


def test_the_parts_of_the_time_are_those_that_were_told() -> None:
    lab = FakeLab(of_device(cpu=Behaviour(draw=steady(1e-4), round_s=0.5, warmup_s=0.25)), start_s=3.0)
    ((_, record),) = run(lab, make_group(SMALL, "cpu"))
    rounds = sum(len(timing.rounds) for timing in record.timings.values())
    spent, facts = record.spent_s, opened("cpu").spent_s
    assert rounds == 10
    assert spent.worker == 3.0
    assert (spent.data, spent.compile, spent.reference) == (facts.data, facts.compile, facts.reference)
    assert spent.sampling == 0.5 * rounds
    assert spent.warmup == facts.warmup + 0.25 * rounds


def test_the_start_of_a_worker_is_told_once() -> None:
    lab = FakeLab(start_s=3.0)
    found = dict(run(lab, *(make_group(case, "cpu", passes=2) for case in (SMALL, MIDDLE, LARGE))))
    assert sum(record.spent_s.worker for record in found.values()) == 3.0 * len(lab.workers) == 6.0


def test_the_start_of_a_worker_in_place_of_a_dead_one_is_told_too() -> None:
    lab = FakeLab(of_size(s1024=Behaviour(dies_in_round=0)), start_s=3.0)
    found = dict(run(lab, *(make_group(case, "gpu") for case in (SMALL, MIDDLE, LARGE))))
    assert [found[k, "gpu"].spent_s.worker for k in range(3)] == [3.0, 0.0, 3.0]


@pytest.mark.parametrize("ago_s", [0.0, 1000.0])
def test_the_total_is_never_below_its_parts(ago_s: float) -> None:
    groups: Sequence[Group] = [make_group(case, "cpu", "gpu", passes=2) for case in (SMALL, LARGE)]
    for _, record in run(FakeLab(of_size(s256=Behaviour(fails_in_round=3))), *groups, ago_s=ago_s):
        assert record.spent_s.total >= record.spent_s.accounted > 0


def test_totals_add_up_to_the_time_of_the_command() -> None:
    groups = [make_group(case, "cpu", "gpu") for case in (SMALL, LARGE)]
    plan = make_plan(*groups, ago_s=1000.0)
    records = dict(measure(plan, FakeLab().launch, FakeWatcher()))
    # The last two are of the end of the command, and each got an even share of what belongs to none.
    shares = [
        records[1, device].spent_s.total - records[1, device].spent_s.accounted for device in ("cpu", "gpu")
    ]
    parts = sum(record.spent_s.accounted for record in records.values())
    assert shares[0] == pytest.approx(shares[1])
    assert 1000.0 <= parts + 4 * shares[0] <= time.time() - plan.command.started


def test_an_arm_is_sampled_up_to_the_greatest_number_of_rounds_a_metric_and_pass() -> None:
    lab = FakeLab(of_device(cpu=Behaviour(draw=noisy(1e-4, 0.05))))
    run(lab, make_group(SMALL, "cpu", passes=2, relative_ci=1e-9))
    asked = [request for _, request in lab.requests if isinstance(request, AskRound)]
    assert len(asked) == 2 * 2 * Stop.max_rounds  # passes, metrics


def test_a_session_of_flags_gives_each_its_metric() -> None:
    lab = FakeLab(of_device(cpu=Behaviour(draw=steady(1e-4), queued=noisy(1e-4, 0.5, n=50))))
    ((_, record),) = run(lab, make_group(SMALL, "cpu"))
    severe: list[Flag] = [flag for flag in record.warnings if flag.name == "very noisy"]
    assert [flag.metric for flag in severe] == ["throughput"]


# --- passes of some metrics only --------------------------------------------------------------------


def test_passes_may_be_of_some_of_the_metrics_and_the_record_keeps_the_others() -> None:
    first = run(FakeLab(seed=100), make_group(SMALL, "cpu", "gpu", metrics=ALL, needed=TWO))
    earlier = {device: decode_record(encode_record(record)) for (_, device), record in first}
    for record in earlier.values():
        assert set(record.timings) == set(TWO)
        assert record.absent[f"timings.{Metric.device}"] == NOT_NEEDED
        assert asked_for(record) == list(ALL)
    lab = FakeLab()
    for_device = run(lab, resumed(3, earlier, "cpu", "gpu", metrics=ALL, needed=(Metric.device,)))
    known = {device: decode_record(encode_record(record)) for (_, device), record in for_device}
    for device, record in known.items():
        assert passes_of(record, Metric.device) == {0, 1, 2}
        assert rounds_of(lab, device, Metric.latency) == 0
        assert record.timings[Metric.latency] == earlier[device].timings[Metric.latency]
        assert f"timings.{Metric.device}" not in record.absent
        assert record.absent[f"timings.{Metric.h2d}"] == NOT_NEEDED
        assert record.arm_id == earlier[device].arm_id
        assert record.lacks_passes is None
    last = dict(run(FakeLab(), resumed(3, known, "cpu", "gpu", metrics=ALL)))
    for device in ("cpu", "gpu"):
        assert {metric: passes_of(last[0, device], metric) for metric in ALL} == {
            metric: {0, 1, 2} for metric in ALL
        }
        assert last[0, device].transfers
        assert not [path for path, why in last[0, device].absent.items() if why in (NOT_ASKED, NOT_NEEDED)]


def test_an_arm_is_inspected_again_once_its_device_time_is_needed() -> None:
    kernels = DeviceTime(source="slope", slope_s=1e-6)
    untold = Inspected(absent={"device_time": NOT_ASKED, "energy": "none"})
    told = Inspected(device_time=kernels, absent={"energy": "none"})
    metrics = (Metric.latency, Metric.device)
    lab = FakeLab(lambda _: Behaviour(inspected=untold), seed=100)
    ((_, first),) = run(lab, make_group(SMALL, "gpu", metrics=metrics, needed=(Metric.latency,)))
    lab = FakeLab(lambda _: Behaviour(inspected=told))
    record = run(lab, resumed(2, {"gpu": first}, "gpu", metrics=metrics))[-1][1]
    assert record.device_time == kernels
    assert "device_time" not in record.absent
    assert len(inspections(lab, "gpu")) == 1


def test_a_pass_that_some_metrics_have_already_is_made_of_the_others_only() -> None:
    first = run(FakeLab(seed=100), make_group(SMALL, "cpu", "gpu", metrics=ALL, needed=(Metric.latency,)))
    earlier = {device: record for (_, device), record in first}
    lab = FakeLab()
    found = dict(run(lab, resumed(2, earlier, "cpu", "gpu", metrics=ALL, needed=TWO)))
    for device, record in earlier.items():
        before = record.timings[Metric.latency]
        after = found[0, device].timings[Metric.latency]
        assert [made for made in after.rounds if made[0] == 0] == list(before.rounds)
        assert passes_of(found[0, device], Metric.latency) == {0, 1}
        assert passes_of(found[0, device], Metric.throughput) == {0, 1}


def test_what_a_search_had_no_need_of_is_said_to_be_that_in_all_its_places() -> None:
    untold = Inspected(absent={"device_time": NOT_ASKED, "energy": "none"})
    metrics = (Metric.latency, Metric.device, Metric.h2d)
    known: dict[str, Record] = {}
    for passes in (1, 2):
        lab = FakeLab(lambda _: Behaviour(inspected=untold))
        group = resumed(passes, known, "gpu", metrics=metrics, needed=(Metric.latency,))
        known = {"gpu": decode_record(encode_record(run(lab, group)[-1][1]))}
        absent = known["gpu"].absent
        for place in ("timings.device", "timings.h2d", "device_time", "transfers"):
            assert absent[place] == NOT_NEEDED, place
        assert absent["timings.throughput"] == NOT_ASKED


def test_a_device_that_does_not_start_any_more_leaves_timings_of_other_metrics_too() -> None:
    earlier = prior(1, "gpu", metrics=TWO)
    lab = FakeLab(broken={"gpu": failure("NoDevice", "there is no GPU")})
    ((_, record),) = run(lab, resumed(2, earlier, "gpu", metrics=(Metric.latency,)))
    assert record.timings == earlier["gpu"].timings
    assert record.lacks_passes == "there is no GPU"


# --- the source ------------------------------------------------------------------------------------


OWN = {"workload": "custom", "params": {"fn": "mine:step", "args": "mine:make_args"}}
MINE, MINE_LARGE = make_case(256, **OWN), make_case(4096, **OWN)
OTHER = make_case(256, workload="custom", params={"fn": "mine:other", "args": "mine:make_args"})


def of_source(*digests: str, **packages: str) -> FakeLab:
    """Own code whose source is another each time that a case is opened; the last stays."""
    left = [*digests]

    def behave(arm: Arm) -> Behaviour:
        digest = left.pop(0) if len(left) > 1 else left[0]
        return Behaviour(code=Code(digest=digest, modules=("mine",)), packages=packages)

    return FakeLab(behave)


def earlier_of(
    passes: int, *devices: str, case: Case = MINE, lab: FakeLab | None = None
) -> dict[str, Record]:
    found = run(lab or of_source("old"), make_group(case, *devices, passes=passes))
    return {device: decode_record(encode_record(record)) for (_, device), record in found}


def resumed_mine(passes: int, earlier: dict[str, Record], case: Case = MINE) -> Group:
    group = make_group(case, *earlier, passes=passes)
    group.prior.update(earlier)
    return group


def test_the_source_is_in_the_record_and_the_packages_do_not_tell_arms_apart() -> None:
    record = run(of_source("old", some_package="1.2"), make_group(MINE, "cpu"))[-1][1]
    assert record.code == Code(digest="old", modules=("mine",))
    assert record.environment["packages"]["some_package"] == "1.2"
    bare = run(of_source("old"), make_group(MINE, "cpu"))[-1][1]
    assert record.arm_id == bare.arm_id
    identities = [identity(each.environment, each.arm.flags) for each in (record, bare)]
    assert identities[0] == identities[1]


def test_a_record_of_the_same_source_is_gone_on_with() -> None:
    earlier = earlier_of(2, "cpu", lab=of_source("old", some_package="1.2"))
    record = run(of_source("old", some_package="1.2"), resumed_mine(3, earlier))[-1][1]
    assert numbers(record) == {0, 1, 2}
    assert record.environment["packages"]["some_package"] == "1.2"
    assert record.arm_id == earlier["cpu"].arm_id


@pytest.mark.parametrize(
    ("lab", "words"),
    [
        (of_source("new", some_package="1.2"), "its source was old, and is new"),
        (of_source("old", some_package="1.3"), r"some_package was 1\.2, and is 1\.3"),
    ],
)
def test_a_record_of_another_source_is_not_gone_on_with(lab: FakeLab, words: str) -> None:
    earlier = earlier_of(2, "cpu", lab=of_source("old", some_package="1.2"))
    match = rf"`resume`: custom 256 fn=mine:step .* on the cpu .*{words}.*resume_changed=restart"
    with pytest.raises(BadInputError, match=match):
        run(lab, resumed_mine(3, earlier))
    assert not [request for _, request in lab.requests if isinstance(request, AskRound)]
    assert_all_stopped(lab)


def test_where_another_size_was_measured_before_an_edit_the_sweep_is_not_gone_on_with() -> None:
    earlier = earlier_of(1, "cpu")
    groups = resumed_mine(1, earlier), make_group(MINE_LARGE, "cpu")
    with pytest.raises(BadInputError, match=r"custom 256 .*its source was old, and is new"):
        run(of_source("new"), *groups)
    other = dict(run(of_source("new"), resumed_mine(1, earlier), make_group(OTHER, "cpu")))
    assert other[1, "cpu"].ok  # a function of another name may well have another source


def test_a_restart_measures_all_of_the_function_anew_in_all_passes() -> None:
    earlier, large = earlier_of(2, "cpu", "gpu"), earlier_of(3, "cpu", case=MINE_LARGE)
    groups = resumed_mine(3, earlier), resumed_mine(3, large, MINE_LARGE)
    found = dict(run(of_source("new"), *groups, restart=True))
    assert set(found) == {(0, "cpu"), (0, "gpu"), (1, "cpu")}
    for record in found.values():
        assert record.ok
        assert record.code
        assert record.code.digest == "new"
        assert numbers(record) == {0, 1, 2}
        assert record.started_at >= earlier["cpu"].started_at
        assert record.timings["latency"].samples_s != earlier["cpu"].timings["latency"].samples_s


def test_an_edit_between_passes_ends_the_later_one_in_words() -> None:
    record = run(of_source("one", "two"), make_group(MINE, "cpu", passes=2))[-1][1]
    assert record.ok
    assert numbers(record) == {0}
    assert record.code
    assert record.code.digest == "one"
    assert record.lacks_passes == "edited while it was measured: its source was one, and is two"


def test_an_edit_between_two_cases_ends_the_second() -> None:
    groups = make_group(MINE, "cpu"), make_group(MINE_LARGE, "cpu")
    found = dict(run(of_source("one", "two"), *groups))
    assert found[0, "cpu"].ok
    error = found[1, "cpu"].error
    assert error
    assert error.type == "Edited"


def test_a_pair_of_two_sources_is_not_compared() -> None:
    both = run(of_source("one"), make_group(MINE, "cpu", "gpu"))
    cpu, gpu = (record for _, record in both)
    assert pair([cpu, gpu])[0].speedups
    assert gpu.code
    edited = replace(gpu, code=replace(gpu.code, digest="two"))
    found = pair([cpu, edited])
    assert [(one.cpu, one.gpu) for one in found] == [(cpu, None), (None, edited)]
    assert {one.other_source for one in found} == {"the source is one on the CPU, and two on the GPU"}
    with pytest.raises(ValueError, match="different programs"):
        compare(cpu, edited)

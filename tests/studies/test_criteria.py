"""The article's criteria as rules, judged by cases of which the faster device is known."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from fakes import make_case, make_record
from known_pairs import pairs
from studies import rules as module
from studies.criteria import main
from studies.rules import Facts, Held, Task, best_limit, held_cases, inner, rules, score

from jaxaccel.analyze.advice import Measured, families
from jaxaccel.records import Metric, Verdict, store

CPU, GPU = Verdict.cpu, Verdict.gpu


def facts(task: Task = Task.parallel, **changes: Any) -> Facts:
    known = {"touched_bytes": 1e9, "flops": 1e9, "needed_bytes": 100, "gpu_bytes": 1000}
    return Facts(task=task, **known | changes)


def held(ratio: float, **changes: Any) -> Held:
    return Held(facts=facts(**changes), ask=module.Ask(size=1), ratio=ratio, others=())


@pytest.mark.parametrize(
    ("known", "device"),
    [
        (facts(Task.training, touched_bytes=1), GPU),
        (facts(Task.sequential), CPU),
        (facts(touched_bytes=2**20), GPU),
        (facts(touched_bytes=2**20 - 1), CPU),
        (facts(touched_bytes=None), None),
    ],
)
def test_the_type_of_a_task_goes_before_its_size(known: Facts, device: Verdict | None) -> None:
    assert module.by_task(known) is device


def test_each_other_criterion_looks_at_one_thing() -> None:
    assert [module.by_resources(facts(needed_bytes=n)) for n in (1000, 1001, None)] == [GPU, CPU, None]
    assert [module.by_speed(facts(flops=n)) for n in (1e6, 999_999, None)] == [GPU, CPU, None]
    assert module.by_software(facts()) is GPU


@pytest.mark.parametrize(
    "against", [{"task": Task.sequential}, {"needed_bytes": 2000}, {"flops": 1.0}, {"touched_bytes": 1.0}]
)
def test_one_criterion_for_the_cpu_is_enough(against: dict[str, Any]) -> None:
    assert module.together(facts()) is GPU
    assert module.together(facts(**against)) is CPU


@pytest.mark.parametrize(
    ("workload", "params", "task"),
    [
        ("mlp", {}, Task.training),
        ("training", {"feed": "serial"}, Task.training),
        ("chain", {}, Task.sequential),
        ("matvec", {}, Task.parallel),
        ("custom", {"fn": "a.module:step"}, Task.training),
        ("custom", {"fn": "a.module:solve"}, Task.sequential),
        ("custom", {"fn": "a.module:other"}, Task.parallel),
    ],
)
def test_the_type_of_a_task_is_told_by_its_name(workload: str, params: dict[str, Any], task: Task) -> None:
    assert module.task_of(replace(make_case(), workload=workload, params=params)) is task


def test_a_rule_is_wrong_where_its_device_takes_more_than_5_percent_longer() -> None:
    found = score([held(4.0), held(1 / 1.04), held(1 / 4.0)], lambda _: GPU)
    assert (found.right, found.wrong, found.no_answer) == (2, 1, 0)
    assert found.lost == pytest.approx((1.04 * 4) ** (1 / 3))
    silent = score([held(4.0)], lambda _: None)
    assert (silent.right, silent.wrong, silent.no_answer, silent.lost) == (0, 0, 1, None)


def test_the_best_limit_in_hindsight_is_the_one_that_is_right_most_often() -> None:
    known = [
        held(2.0 if flops > 2**20 else 0.5, flops=flops) for flops in (2.0**15, 2.0**19, 2.0**21, 2.0**30)
    ]
    assert best_limit(known, module.by_speed) == 2.0**20
    assert "with 1,048,576 FLOPs" in next(one for one in rules(known) if one.name == "speed, tuned").words


def test_every_case_is_asked_about_three_times_and_those_inside_a_range_are_held_out() -> None:
    known = held_cases(families(pairs(100, 1000, 10000)))
    assert [(one.ask.size, one.ask.data, one.ask.calls) for one in known[:3]] == [
        (100, "device", 1),
        (100, "host", 1),
        (100, "host", 100),
    ]
    assert len(known) == 9
    assert [one.ask.size for one in inner(known)] == [1000] * 3
    assert [other.size for other in inner(known)[0].others] == [100, 10000]


def test_advice_does_not_know_the_case_that_it_is_asked_about() -> None:
    # Of 10 µs times the size on the CPU and 1 ms on the GPU, one size in the middle is not so.
    (family,) = families(pairs(100, 8000, 1000000))
    odd = make_record("gpu", case=family[1].cpu.case, timings=family[1].cpu.timings)
    slow = {name: replace(t, median_s=100 * t.median_s) for name, t in odd.timings.items()}
    changed: list[Measured] = [family[0], replace(family[1], gpu=replace(odd, timings=slow)), family[2]]
    (asked, *_) = inner(held_cases([changed]))
    assert asked.ratio == pytest.approx(0.01)
    assert module.leaning(asked) is GPU


def test_where_no_call_was_awaited_it_is_asked_about_queued_ones() -> None:
    records = [
        replace(record, timings={Metric.throughput: record.timings[Metric.latency]})
        for record in pairs(100, 1000, 10000)
    ]
    known = held_cases(families(records))
    assert [(one.ask.size, one.ask.metric) for one in known] == [
        (size, "throughput") for size in (100, 1000, 10000)
    ]


def test_the_command_prints_how_often_each_is_right(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store.save_all(pairs(10, 100, 10000, 100000), tmp_path)
    assert main([str(tmp_path)]) == 0
    said = capsys.readouterr().out
    assert "6 cases held out, 12 in all" in said
    rows = {line[:18].strip(): line.split() for line in said.splitlines()}
    assert rows["advise, leaning"][-5:] == ["6", "0", "0", "1.00x", "–"]
    assert rows["software"][-5:-3] == ["3", "3"]  # always the GPU
    assert main([str(tmp_path), "data=device"]) == 0
    assert "2 cases held out, 4 in all" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["data=disk"], "`data` must be one of device, host, got 'disk'"),
        (["data=device,host"], "`data` must be one of device, host, got 'device,host'"),
        (["size=100"], "`DIR` must hold three sizes of a case, got fewer of each"),
        (["colour=red"], "`KEY=` must name some of"),
    ],
)
def test_what_can_not_be_judged_exits_with_2(
    words: list[str], told: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store.save_all(pairs(100, 1000, 10000), tmp_path)
    assert main([str(tmp_path), *words]) == 2
    assert told in capsys.readouterr().err

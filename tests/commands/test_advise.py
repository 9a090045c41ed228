"""Advice from records whose times are known, and from published ones that it has not seen."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from fakes import CPU_ENVIRONMENT, make_case, make_failed, make_record
from known_pairs import pairs, side
from processes import ROOT

from jaxaccel.advise import main
from jaxaccel.analyze.advice import Ask, Measured, OutsideError, advise, families, priced
from jaxaccel.analyze.questions import answer
from jaxaccel.records import Metric, Record, Verdict, store
from jaxaccel.records.store import load_records

ACCOUNTING = ROOT / "experiments/accounting"


def known(*sizes: int, **changes: Any) -> Sequence[Measured]:
    (family,) = families(pairs(*sizes, **changes))
    return family


@pytest.mark.parametrize(
    "words",
    [
        ["workload=custom", "workload.fn=m:f", "size=200"],
        ["fn=m:f", "args=make_args", "size=200"],
        ["fn=m.py:f", "size=2e2", "carry=true", "static=[1,2]", "flops=1e9", "workload.reference=null"],
    ],
)
def test_own_code_is_asked_about_as_it_was_measured(
    words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "m.py").touch()
    own = {"args": "m:make_args", "static": [1, 2], "carry": True, "reference": None, "flops": 1e9}
    records = [
        side(device, 200, 1e-3, case=make_case(workload="custom", size=200, params={"fn": fn, **own}))
        for fn in ("m:f", "m:other")
        for device in ("cpu", "gpu")
    ]
    store.save_all(records, tmp_path)
    assert main([str(tmp_path), *words]) == 0
    said = capsys.readouterr().out
    assert "fn=m:f" in said
    assert "m:other" not in said
    assert main([str(tmp_path), "fn=nowhere.py:f", "size=200"]) == 2
    assert "`fn`: there is no Python file 'nowhere.py' here" in capsys.readouterr().err
    assert main([str(tmp_path), "workload.fn=m:g", "size=200"]) == 2
    assert "must be of m:f, m:other here, got 'm:g'" in capsys.readouterr().err


# --- pure ------------------------------------------------------------------------------------------


def test_a_measured_size_is_answered_by_what_was_measured() -> None:
    found = advise(known(100, 10000), Ask(size=10000))
    assert (found.device, found.between) == (Verdict.gpu, (10000,))
    assert found.ratio == pytest.approx(10)
    assert 9.5 < found.low < 10 < found.high < 10.5


def test_between_two_sizes_times_lie_on_a_line_and_the_doubt_grows() -> None:
    at, between = (advise(known(4000, 8000), Ask(size=size)) for size in (4000, 5657))
    assert between.between == (4000, 8000)
    assert between.ratio == pytest.approx(5.657, rel=1e-3)
    assert between.high / between.low > 1.1 * at.high / at.low


def test_near_the_crossing_it_is_unsure_and_beyond_it_is_not() -> None:
    found = {
        size: advise(known(250, 500, 1000, 2000, 4000), Ask(size=size)).device for size in (600, 1030, 1700)
    }
    assert found == {600: Verdict.cpu, 1030: Verdict.undecided, 1700: Verdict.gpu}


def test_a_device_goes_by_the_ratio_itself_and_the_brackets_by_a_rerun() -> None:
    found = advise(known(1025), Ask(size=1025))
    assert found.low < 1 < found.itself[0] < found.ratio < found.itself[1] < found.high
    assert found.device is Verdict.gpu


def test_one_pass_is_trusted_only_where_the_ratio_is_large() -> None:
    found = {size: advise(known(1700, 3000, passes=1), Ask(size=size)).device for size in (1700, 3000)}
    assert found == {1700: Verdict.undecided, 3000: Verdict.gpu}


def test_one_pass_on_two_machines_decides_nothing_and_machines_are_told_apart() -> None:
    def box(name: str, **changes: Any) -> dict[str, Any]:
        return {"environment": {**CPU_ENVIRONMENT, "host_id": name}, "pair_id": name, **changes}

    for passes, device in ((1, Verdict.undecided), (5, Verdict.gpu)):
        records = [
            side("cpu", 10000, 1e-2, passes=passes, **box("one")),
            side("cpu", 10000, 2e-2, passes=passes, **box("two")),
            side("gpu", 10000, 1e-3, passes=passes, **box("three")),
        ]
        found = families(records)
        assert [pairs[0].machines for pairs in found] == ["CPU on A, GPU on C", "CPU on B, GPU on C"]
        assert [advise(pairs, Ask(size=10000)).device for pairs in found] == [device, device]


def test_data_from_the_host_counts_its_transfers_once_for_all_calls() -> None:
    family = known(1000, 10000, moved_s=0.09)
    ratios = [advise(family, Ask(size=10000, data="host", calls=k)).ratio for k in (1, 10, 1000)]
    assert ratios == pytest.approx([0.01 / 0.091, 0.1 / 0.1, 10 / 1.09], rel=1e-3)


@pytest.mark.parametrize("size", [1, 99, 10001])
def test_outside_of_what_was_measured_nothing_is_said(size: int) -> None:
    with pytest.raises(OutsideError, match=r"outside the measured range \[100, 10000\]"):
        advise(known(100, 10000), Ask(size=size))


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"size": 0}, "`size`"),
        ({"calls": 0}, "`calls`"),
        ({"data": "disk"}, "`data` must be one of device, host"),
        ({"metric": "h2d"}, "`metric` must be one of latency, throughput, device"),
        ({"data": "host", "metric": "device"}, "`metric` is for data=device"),
    ],
)
def test_what_can_not_be_asked_is_refused(wrong: dict[str, Any], told: str) -> None:
    with pytest.raises(ValueError, match=told):
        Ask(**{"size": 1} | wrong)


def test_prices_shift_the_ratio() -> None:
    found = advise(known(100, 10000), Ask(size=10000))
    assert priced(found, 5.0).ratio == pytest.approx(2)
    assert priced(found, 5.0).device is Verdict.gpu
    assert priced(found, 50.0).device is Verdict.cpu
    assert priced(found, 10.0).device is Verdict.equivalent
    assert priced(found, 10.15).device is Verdict.undecided


def test_cases_that_differ_in_more_than_size_are_not_mixed() -> None:
    records = pairs(100, 10000)
    for device in ("cpu", "gpu"):
        records.append(side(device, 500, 1.0, case=make_case(size=500, dtype="float64")))
    assert [[one.size for one in family] for family in families(records)] == [[100, 10000], [500]]
    assert families([make_failed("gpu"), side("cpu", 1, 1.0)]) == []


def test_what_was_not_measured_is_told_with_what_was() -> None:
    with pytest.raises(OutsideError, match="tells of every_call, only of latency"):
        advise(
            [replace(one, cpu=_resident(one.cpu), gpu=_resident(one.gpu)) for one in known(100)],
            Ask(size=100, data="host"),
        )


def _resident(record: Record) -> Record:
    return replace(record, timings={"latency": record.timings["latency"]})


def by_batch(*batches: int, size: int = 50) -> list[Record]:
    """A CPU that takes 1 µs times the batch, beside the GPU of `pairs`."""
    return [
        replace(record, case=case, case_id=case.case_id, arm_id=f"{case.case_id}-{record.arm.requested}")
        for batch in batches
        for record in pairs(batch)
        for case in [replace(record.case, size=size, params={"batch": batch, "adam": 1e-3})]
    ]


def test_of_cases_of_one_size_a_parameter_may_be_the_range() -> None:
    (family,) = families(by_batch(100, 500, 10000))
    assert [(one.over, one.size) for one in family] == [("batch", 100), ("batch", 500), ("batch", 10000)]
    assert advise(family, Ask(over="batch", size=10000)).ratio == pytest.approx(10)
    with pytest.raises(OutsideError, match="`batch` must be given"):
        advise(family, Ask(size=50))


@pytest.mark.parametrize(
    "records", [by_batch(100, 500), [*by_batch(100, 500, 900), *by_batch(100, 500, 900, size=60)]]
)
def test_two_values_are_no_range_and_a_size_goes_first(records: list[Record]) -> None:
    assert {one.over for family in families(records) for one in family} == {"size"}


def test_it_is_asked_about_by_what_was_measured(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    records = [
        replace(record, timings={Metric.device: record.timings[Metric.latency]})
        for record in pairs(100, 500, 10000)
    ]
    store.save_all(records, tmp_path)
    assert main([str(tmp_path), "size=10000"]) == 2
    assert "no measured pair tells of latency, only of device" in capsys.readouterr().err
    assert main([str(tmp_path), "size=10000", "metric=device"]) == 0
    assert "data on the device, by device: the GPU, 10x as fast" in capsys.readouterr().out


def test_it_is_asked_about_by_its_name(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    store.save_all(by_batch(100, 500, 10000), tmp_path)
    assert main([str(tmp_path), "size=50", "batch=10000"]) == 0
    assert "batch 10000, data on the device: the GPU, 10x as fast" in capsys.readouterr().out
    assert main([str(tmp_path), "size=50"]) == 2
    assert "`batch` must be given: several were measured" in capsys.readouterr().err
    assert main([str(tmp_path)]) == 0
    assert "by batch" in " ".join(capsys.readouterr().out.split())
    assert main([str(tmp_path), "batch=0"]) == 2
    assert "`batch` must be at least 1, got 0" in capsys.readouterr().err


def test_a_size_is_asked_about_where_sizes_were_measured_at_that_value(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sizes = [record for size in (40, 60) for record in by_batch(900, size=size)]
    store.save_all([*by_batch(100, 300, 500, 700), *by_batch(900, size=50), *sizes], tmp_path)
    assert main([str(tmp_path), "size=55", "batch=900"]) == 0
    assert "size 55, data on the device" in capsys.readouterr().out
    assert main([str(tmp_path), "size=50", "batch=400"]) == 0
    assert "batch 400, data on the device" in capsys.readouterr().out


def test_held_out_cases_of_the_published_study_are_advised_well() -> None:
    """Each case inside a range is held out in turn; the sizes beside it are a factor of 4 to 16 away."""
    good = wrong = unsure = decided = missed = 0
    for family in families(load_records([ACCOUNTING])):
        for at in range(1, len(family) - 1):
            held = family[at]
            for data, calls in (("device", 1), ("host", 1), ("host", 100)):
                ask = Ask(size=held.size, data=data, calls=calls)
                truth = answer(ask.question, held.cpu, held.gpu)
                assert truth is not None
                advice = advise([*family[:at], *family[at + 1 :]], ask)
                decided += truth.verdict is not Verdict.undecided
                if advice.device is Verdict.undecided:
                    unsure += 1
                    missed += truth.verdict is not Verdict.undecided
                    continue
                loss = 1 / truth.ratio if advice.device is Verdict.gpu else truth.ratio
                good, wrong = good + (loss <= 1.05), wrong + (loss > 1.05)
    assert good + wrong + unsure == 144
    assert wrong == 0
    assert unsure <= 0.15 * 144
    assert missed <= 0.15 * decided  # of some even the measurement itself does not decide


# --- the command -----------------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path: Path) -> str:
    rates = make_record("gpu").rates  # its limit is memory
    assert rates is not None
    records = [
        side("cpu", 100, 1e-4, rates=None),
        side("gpu", 100, 1e-3, rates=None),
        side("cpu", 10000, 1e-2, rates=replace(rates, limit=None)),
        side("gpu", 10000, 1e-3, rates=rates),
    ]
    store.save_all(records, tmp_path)
    return str(tmp_path)


def test_it_says_which_device_how_much_how_sure_and_why(
    folder: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([folder, "size=10000"]) == 0
    said = capsys.readouterr().out
    assert "matvec float32 highest, size 10000, data on the device: the GPU, 10x as fast [" in said
    assert "(measured; memory limits the GPU)" in said
    assert main([folder, "size=100", "--price", "cpu=1", "--price", "gpu=2"]) == 0
    said = capsys.readouterr().out
    assert "the CPU, 10x as fast [" in said
    assert "cheaper at these prices: the CPU, 20x as cheap [" in said


def test_without_a_size_there_is_a_table(folder: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([folder]) == 0
    said = capsys.readouterr().out
    assert "cpu up to 100, gpu from 10000 on" in said
    assert "100 to 10000" in said
    assert "pinned" not in said  # which was not measured


def test_the_table_tells_of_pinned_memory_where_it_was_measured(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    records = [
        replace(one, timings={**one.timings, Metric.end_to_end_pinned: one.timings[Metric.latency]})
        if one.arm.requested == "gpu"
        else one
        for one in pairs(100, 10000, moved_s=1.0)
    ]
    store.save_all(records, tmp_path)
    assert main([str(tmp_path)]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "every call cpu throughout every call pinned cpu up to 100, gpu from 10000 on" in said


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["size=20000"], "outside the measured range [100, 10000]"),
        (["size=x"], "`size` must be a whole number, got 'x'"),
        (["size=1,2"], "`size` must be one value, got '1,2'"),
        (["calls=2"], "`size` must be given with `calls`"),
        (["size=200", "calls=5"], "`calls` is for data=host"),
        (["size=200", "data=disk"], "`data` must be one of device, host, got 'disk'"),
        (["size=200", "metric=h2d"], "`metric` must be one of latency, throughput, device, got 'h2d'"),
        (["size=200", "dtype=float16"], "`dtype=` must be of float32 here, got 'float16'"),
        (["size=200", "--price", "cpu=1"], "`--price` must be given for cpu and for gpu"),
        (["--price", "cpu=1", "--price", "gpu=1"], "`size` must be given with `--price`"),
    ],
)
def test_what_can_not_be_answered_exits_with_2(
    folder: str, words: list[str], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([folder, *words]) == 2
    assert told in capsys.readouterr().err


def test_records_without_a_pair_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    store.save_all([side("cpu", 100, 1.0)], tmp_path)
    assert main([str(tmp_path), "size=100"]) == 2
    assert "there is no pair" in capsys.readouterr().err
    assert main(["size=100"]) == 2
    assert "DIR is missing" in capsys.readouterr().err

from dataclasses import replace

import pytest
from fakes import make_case, make_failed
from pictured import arm, pairs
from processes import ROOT

from jaxaccel.analyze.compare import pair
from jaxaccel.analyze.findings import families
from jaxaccel.records import Record, Verdict
from jaxaccel.records.store import load_records
from jaxaccel.render.words.findings import Headline, headlines

ELSEWHERE = {"host_id": "far", "python": "3.12.4", "cpu": {"model": "Xeon", "cores": 64}}


def told(records: list[Record]) -> list[Headline]:
    return headlines(families(pair(records)))


def answer(records: list[Record]) -> str:
    (one,) = told(records)
    return one.answer


def test_a_crossing_is_told_as_what_lies_between_two_sizes() -> None:
    said = answer(pairs({256: 0.25, 1024: 0.5, 4096: 4.0, 16384: 16.0}))
    assert said.startswith(
        "On this machine the GPU wins matvec from somewhere between n = 1024 and 4096 with data resident, "
    )
    assert said.endswith("nowhere when it travels for every call.")


def test_the_detail_names_who_wins_where_and_the_ties_between() -> None:
    (one,) = told(pairs({256: 0.25, 1024: 1.0, 4096: 4.0}))
    assert (
        "the GPU wins from n = 4096 on, the CPU up to n = 256: the change is between n = 256 and 4096, with "
        "nobody surely ahead at n = 1024"
    ) in one.detail


def test_a_device_may_win_everywhere_or_nowhere() -> None:
    assert "wins matvec at every size from n = 256 with data resident" in answer(pairs({256: 3.0, 1024: 4.0}))
    assert "wins matvec nowhere with data resident" in answer(pairs({256: 0.3, 1024: 0.4}))
    assert "nowhere (within 2% at every size) with data resident" in answer(pairs({256: 1.0, 1024: 1.001}))


def test_several_crossings_are_all_told() -> None:
    (one,) = told(pairs({256: 0.5, 512: 2.0, 1024: 0.5, 2048: 2.0}))
    assert "wins matvec in parts (the winner changes 3 times) with data resident" in one.answer
    assert (
        "the winner changes 3 times: the CPU up to n = 256, the GPU at n = 512, the CPU at n = 1024, "
        "the GPU from n = 2048 on"
    ) in one.detail


def test_a_crossing_by_a_line_says_so() -> None:
    (family,) = families(pair(pairs({256: 0.5, 1024: 1.0, 4096: 4.0})))
    found = family.findings["latency"]
    line = replace(found.answer.brackets[0], low=980, high=1100, at=1031.4)
    fitted = replace(found, answer=replace(found.answer, brackets=(line,)))
    (one,) = headlines([replace(family, findings={"latency": fitted})])
    assert "wins matvec from somewhere between n = 980 and 1100 with data resident" in one.answer
    assert (
        "the GPU wins above n = 1031, the CPU below: by a line through the sizes around, the change is "
        "between n = 980 and 1100"
    ) in one.detail


def test_the_winner_may_change_to_the_cpu() -> None:
    said = answer(pairs({256: 4.0, 1024: 0.25}))
    assert "wins matvec up to somewhere between n = 256 and 1024 with data resident" in said


def test_what_was_not_measured_is_said() -> None:
    records = pairs({256: 4.0})
    bare = [_only(record, "latency") for record in records]
    (one,) = told(bare)
    assert one.answer == (
        "On this machine the GPU wins matvec at n = 256 with data resident; not measured when data is moved "
        "once for 100 calls and when it travels for every call."
    )


def _only(record: Record, *metrics: str) -> Record:
    return replace(record, timings={name: record.timings[name] for name in metrics})


def test_how_sure_it_is_depends_on_passes() -> None:
    (sure,) = told(pairs({256: 0.5, 1024: 4.0}))
    assert sure.sure == "How sure: 95%, for its 2 sizes together, over 3 passes in fresh processes."
    (rough,) = told(pairs({256: 0.6, 1024: 4.0}, passes=1))
    assert rough.sure.startswith("How sure: 1 pass only, so that a device is named from a ratio of 2 on")
    assert "from n = 1024 with data resident" in rough.answer
    assert "by medians alone the winner changes between n = 256 and 1024" in rough.detail


def test_one_arm_is_no_comparison() -> None:
    assert answer([arm("cpu", 256, 1e-4), arm("cpu", 512, 1e-4)]) == (
        "No comparison: the CPU was measured at n = 256, 512, the GPU was not measured."
    )


def test_a_failure_is_told_in_its_words() -> None:
    case = make_case(256)
    said = answer([arm("cpu", 256, 1e-4), make_failed("gpu", case=case, message="no such GPU")])
    assert said == "No comparison: the CPU was measured at n = 256, the GPU failed (no such GPU)."


def test_kinds_of_cases_are_never_thrown_together() -> None:
    records = pairs({256: 0.5, 1024: 4.0}) + pairs({256: 4.0}, case={"dtype": "float64"})
    assert [one.name for one in told(records)] == ["matvec float32 highest", "matvec float64 highest"]


def test_machines_are_never_averaged() -> None:
    records = pairs({256: 0.5, 1024: 4.0})
    records += pairs({256: 4.0, 1024: 8.0}, environment=ELSEWHERE, sweep_id="far", pair_id="far")
    found = told(records)
    assert [one.name for one in found] == [
        "matvec float32 highest (machine A)",
        "matvec float32 highest (machine B)",
    ]
    assert "from somewhere between n = 256 and 1024" in found[0].answer
    assert "at every size from n = 256" in found[1].answer
    assert all(one.answer.startswith("Here the GPU wins") for one in found)


def test_verdicts_allow_for_the_sizes_of_one_kind_of_case() -> None:
    few = families(pair(pairs({256: 4.0, 1024: 4.0})))[0].findings["latency"]
    assert {found.among for found in few.speedups.values()} == {2}
    assert few.answer.throughout is Verdict.gpu


@pytest.mark.parametrize("low", [256, 100_000])
def test_sizes_are_told_in_full(low: int) -> None:
    assert f"from n = {low}" in answer(pairs({low: 4.0, 2 * low: 4.0}))


def test_without_latencies_the_sentence_is_about_what_was_measured() -> None:
    records = [
        replace(record, timings={"throughput": record.timings["latency"]})
        for record in pairs({256: 0.25, 1024: 0.5, 4096: 4.0})
    ]
    said = answer(records)
    assert "from somewhere between n = 1024 and 4096 with calls queued and data resident" in said
    assert "with data resident, " not in said


def test_published_searches_are_told_by_their_crossings() -> None:
    found = {one.case.workload: one for one in told(load_records([ROOT / "experiments/crossover"]))}
    assert "from somewhere between n = 744 and 987 with calls queued" in found["matvec"].answer
    assert "1 pass only at" in found["matvec"].sure
    assert "5 passes in fresh processes" in found["matvec"].sure

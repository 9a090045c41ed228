"""The article's claims: every number in their table comes from a record, by a function that is named."""

import json
import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import pytest
from fakes import make_case, make_record, make_timing
from known_pairs import pairs, side, training_record
from studies import quantities
from studies.claim import Published, quantities_of, read_claim, selected
from studies.claims import CLAIMS, main, published, read_claims
from studies.claims_text import PLACEHOLDER, in_text, markdown

from jaxaccel.records import Energy, Memory, Metric, store

EXPERIMENTS = CLAIMS.parent
BLOCK = re.compile(r"<!-- claims -->\n(.*?)\n<!-- end -->", re.DOTALL)
TOKEN = re.compile(r"(?<![A-Za-z0-9_.])\d[\d.]*")


def claim(**changes: Any) -> dict[str, Any]:
    figure = {"name": "big", "value": "speedup", "records": "alpha", "select": {"size": 10000}}
    return {
        "section": 3.3,
        "claim": "large is fast",
        "verdict": True,
        "why": "It is {big}.",
        "study": "alpha",
        "figures": [figure],
    } | changes


def figure(**changes: Any) -> dict[str, Any]:
    return claim(figures=[{**claim()["figures"][0], **changes}])


def shown(raw: Mapping[str, Any], **records: Any) -> str:
    return markdown([read_claim(raw, {"dtype": "float32"})], Published(records=records, files={}))


# --- the article's ---------------------------------------------------------------------------------


@pytest.mark.slow
def test_the_table_of_claims_is_what_the_records_give(capsys: pytest.CaptureFixture[str]) -> None:
    """Should it fail, paste what the command prints between the marks of experiments/README.md."""
    assert main([]) == 0
    told = capsys.readouterr().out.strip()
    (block,) = BLOCK.findall((EXPERIMENTS / "README.md").read_text())
    assert block.splitlines() == told.splitlines()


@pytest.mark.slow
def test_no_number_in_an_argument_is_written_by_hand() -> None:
    """But those that say which case a figure of the same claim is of, or which section is meant."""
    for one in read_claims(CLAIMS):
        cases = msgspec.json.encode([one.claim, one.figures]).decode()
        allowed = {*TOKEN.findall(cases), *(found.section for found in read_claims(CLAIMS))}
        written = {token.rstrip(".") for token in TOKEN.findall(PLACEHOLDER.sub("", one.why))}
        # `2^29` and the like are in names; a size such as 16 x 16 is that of a figure.
        assert written - {token.rstrip(".") for token in allowed} == set(), one.title
        assert not TOKEN.search(one.depends_on or "")


def test_every_claim_names_studies_that_exist_or_are_still_to_be_made() -> None:
    for one in read_claims(CLAIMS):
        for study in one.study.split(", "):
            assert (EXPERIMENTS / study).is_dir() or study == "none is needed", one.title


def test_what_an_argument_calls_not_measured_yet_is_not() -> None:
    for one in read_claims(CLAIMS):
        if "not measured yet" in one.why:
            studies = [EXPERIMENTS / study for study in one.study.split(", ")]
            assert not all(any(study.glob("**/*.json*")) for study in studies), one.title


@pytest.mark.slow
def test_figures_that_are_not_measured_yet_will_be_by_their_studies() -> None:
    """Their workloads are those of the experiment: a wrong name would else be seen with the records."""
    claims = read_claims(CLAIMS)
    there = published(claims, EXPERIMENTS).records
    for one in claims:
        for found in one.figures:
            for study in {*found.records} - {*there}:
                experiment = (EXPERIMENTS.parent / f"conf/experiment/{study}.yaml").read_text()
                definition = (EXPERIMENTS / study / "study.yaml").read_text()
                assert found.select["workload"] in experiment + definition, found.name


# --- how numbers come about ------------------------------------------------------------------------


def test_a_number_is_in_the_table_and_in_the_argument() -> None:
    said = shown(claim(), alpha=pairs(100, 10000))
    assert "| 1 | 3.3 | large is fast | true | big: 10x [9.86, 10.1] | alpha |" in re.sub(
        r"\[[\d., ]+\]", "[9.86, 10.1]", said
    )
    assert re.search(r"^1\. It is 10x \[", said, re.MULTILINE)
    assert "Not measured yet" not in said


def test_what_has_no_records_is_not_measured_yet_and_has_no_verdict() -> None:
    pending = claim(verdict="not measured yet", why="Nobody knows.")
    assert "| not measured yet | not measured yet | alpha |" in shown(pending)
    with pytest.raises(ValueError, match="`verdict` must be not measured yet, for no figure is there"):
        shown(claim(why="It is."))
    with pytest.raises(ValueError, match="`verdict` is needed now that there is big"):
        shown(pending, alpha=pairs(100, 10000))


def test_figures_of_a_study_to_come_stand_beside_those_that_are_there() -> None:
    later = {"name": "later", "value": "time", "records": "beta"}
    hidden = {"name": "hidden", "value": "time", "records": "beta", "shown": False}
    said = shown(claim(figures=[*claim()["figures"], later, hidden]), alpha=pairs(100, 10000))
    assert re.search(r"big: 10x \[[^<]*<br>not measured yet: later \|", said)
    assert "\nNot measured yet: that study has no records.\n" in said
    with pytest.raises(ValueError, match="`why` names 'later', which is no figure that was measured"):
        shown(claim(why="{later}", figures=[*claim()["figures"], later]), alpha=pairs(100, 10000))


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        (claim(verdict="maybe"), "'maybe' is not a valid Judgement"),
        (claim(verdict="depends"), "`depends_on` is for the verdict `depends`, which must have it"),
        (claim(extra=1), "got `extra`"),
        ({"section": 1}, "a claim must have `claim`"),
        (claim(figures=claim()["figures"] * 2), "figures must have names of their own"),
        (figure(value="guess"), "`value` of big must be one of speedup, crossing"),
        (figure(records=[]), "speedup takes `records`"),
        (figure(of=["big"]), "speedup takes `records`"),
        (figure(metric="latency"), "speedup takes question, got `metric`"),
        (figure(value="crossing"), "crossing needs `question`"),
    ],
)
def test_what_is_no_claim_is_refused(wrong: dict[str, Any], told: str) -> None:
    with pytest.raises(ValueError, match=re.escape(told)):
        read_claim(wrong, {})


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        (figure(select={"size": 7}), "3.3, big: no record has dtype=float32 size=7"),
        (figure(select={}), "3.3, big: one pair must be chosen, got 2"),
        (figure(question="every_call_pinned"), "the pair does not tell of every_call_pinned"),
        (figure(value="time"), "one record must be chosen, got 2"),
        (figure(value="joules", select={"size": 100, "device": "cpu"}), "the record has no energy"),
    ],
)
def test_a_number_that_the_records_do_not_have_is_refused(wrong: dict[str, Any], told: str) -> None:
    with pytest.raises(ValueError, match=re.escape(told)):
        shown(wrong, alpha=pairs(100, 10000))


def test_records_are_chosen_by_case_device_parameters_and_flags() -> None:
    records = pairs(100, 10000)
    one_core = replace(records[0], arm=replace(records[0].arm, flags={"cpu_cores": "1"}))
    batch = side("cpu", 5, 1.0, case=replace(make_case(size=5), params={"batch": 8}))
    known = [one_core, *records, batch]
    assert selected(known, {"cpu_cores": "1"}) == [one_core]
    assert selected(known, {"cpu_cores": None, "device": "cpu", "size": [100, 10000]}) == [
        records[0],
        records[2],
    ]
    assert selected(known, {"batch": 8}) == [batch]


def test_each_function_tells_its_number_in_words() -> None:
    known = pairs(100, 1000, 10000, 100000, moved_s=0.5)
    gpu = replace(known[1], transfers=make_record("gpu").transfers)
    energy = Energy(
        per_call_j=0.002,
        above_idle_per_call_j=0.001,
        uncertainty_j=0.0001,
        idle_w=1.0,
        source="a counter",
        scope="board",
        resolution_s=0.1,
        calls=9,
        duration_s=1.0,
    )
    memory = Memory(predicted_bytes=1, capacity_bytes=8 * 10**9)
    assert gpu.transfers
    rate = gpu.transfers.h2d_bytes / 0.5
    told = {
        in_text(quantities.crossing(known, question="latency")): "cpu up to 100, gpu from 10000 on",
        in_text(quantities.wins(known, device="gpu")): "2 of 4",
        in_text(quantities.time([known[1]])): "1.00 ms",
        in_text(quantities.joules([replace(gpu, energy=energy)])): "2.00 ± 0.1 mJ",
        in_text(quantities.capacity([replace(gpu, memory=memory)])): "8.00 GB",
        in_text(quantities.product(matrix=[[1, 2], [3, 4]], vector=[5, 6])): "[17, 39]",
        in_text(
            quantities.right_choices(known, rule="software", data="device")
        ): "2 of 2",  # of 1000 both take 1 ms
        in_text(quantities.number({"a": {"b": 2.5e12}}, key=["a", "b"], unit="B/s")): "2.50 TB/s",
        in_text(quantities.count({"a": {"b": 2, "all": 10}}, key=["a", "b"], out_of=["a", "all"])): "2 of 10",
        in_text(quantities.text({"a": {"b": "it failed"}}, key=["a", "b"])): "it failed",
    }
    assert list(told) == list(told.values())
    assert quantities.transfer_rate([gpu], metric="h2d").value == pytest.approx(rate)
    halves = [quantities.Quantity(value=value, unit="s") for value in (3.0, 2.0)]
    assert in_text(quantities.factor(halves)) == "1.5 times"
    with pytest.raises(ValueError, match="two numbers of one unit"):
        quantities.factor([halves[0], quantities.Quantity(value=1.0, unit="B")])
    with pytest.raises(ValueError, match="the file has no a / c"):
        quantities.number({"a": {}}, key=["a", "c"], unit="B/s")
    with pytest.raises(ValueError, match=r"a must be a count of b, got 3.0 of 2.0"):
        quantities.count({"a": 3, "b": 2}, key=["a"], out_of=["b"])
    with pytest.raises(ValueError, match=r"a must be a number up to 1e\+30, got True"):
        quantities.count({"a": True, "b": 2}, key=["a"], out_of=["b"])
    for nothing in (None, "", 2):
        with pytest.raises(ValueError, match="a must be a text that is not empty"):
            quantities.text({"a": nothing}, key=["a"])


def test_of_two_passes_no_win_is_sure_however_large_it_is() -> None:
    """Though a search for crossings goes on from it."""
    known = [
        make_record(device, timings={"latency": make_timing([[time_s] * 9], [[1.1 * time_s] * 9])})
        for device, time_s in (("cpu", 1e-3), ("gpu", 1e-4))
    ]
    assert in_text(quantities.wins(known, device="gpu")) == "0 of 1"


def test_a_metric_is_that_of_the_run_that_has_it() -> None:
    first, *_ = pairs(100)
    later = replace(first, started_at="2027-01-01T00:00:00+00:00")
    latency = {name: timing for name, timing in first.timings.items() if name == "latency"}
    moved = {name: timing for name, timing in first.timings.items() if name != "latency"}
    known = [replace(first, timings=latency), replace(later, timings=moved)]
    assert quantities.time(known).value == first.timings[Metric.latency].median_s
    with pytest.raises(ValueError, match="the record has no device"):
        quantities.time(known, metric="device")


def test_the_share_of_kernels_and_of_ceilings_is_that_of_the_record() -> None:
    record = make_record("gpu")
    assert record.device_time
    assert record.rates
    names = [kernel.name for kernel in record.device_time.kernels]
    share = quantities.kernel_share([record], match=re.escape(names[0])).value
    assert share == record.device_time.kernels[0].share
    assert quantities.ceiling_share([record], ceiling="memory").value == record.rates.of_memory_ceiling


def test_a_share_of_a_ceiling_has_the_interval_of_the_time_that_it_is_by() -> None:
    record = make_record("cpu")
    assert record.rates
    by = Metric(record.rates.metric)
    timing = replace(record.timings[by], median_s=8e-5, ci95_s=(4e-5, 1.6e-4), ci_over="passes")
    wide = replace(record, timings={**record.timings, by: timing})
    assert in_text(quantities.ceiling_share([wide], ceiling="memory")) == "50% [25%, 100%]"
    assert quantities.memory_rate([wide]).interval == pytest.approx((2.5e10, 1e11))
    alone = replace(wide, timings={**wide.timings, by: replace(timing, ci95_s=None)})
    assert in_text(quantities.ceiling_share([alone], ceiling="memory")) == "50%"


def test_what_a_training_came_to_is_that_of_its_records() -> None:
    cpu, gpu = (
        replace(one, series={"loss": losses}, results={"held_out_accuracy": 0.9})
        for one, losses in zip(pairs(100), ((0.5, 0.2), (0.5, 0.25)), strict=True)
    )
    assert in_text(quantities.losses_apart([cpu, gpu])) == "0.20"
    assert in_text(quantities.result([gpu], key="held_out_accuracy")) == "90%"
    with pytest.raises(ValueError, match="`key` must be one of held_out_accuracy here, got 'luck'"):
        quantities.result([gpu], key="luck")
    with pytest.raises(ValueError, match="the pair has no losses"):
        quantities.losses_apart([cpu, replace(gpu, series={})])


def test_how_much_faster_a_feed_is_has_the_interval_of_both() -> None:
    known = [training_record("gpu", feed, apart=0.01) for feed in ("serial", "queued")]
    assert re.fullmatch(
        r"1.27 times \[1.2\d, 1.3\d\]",
        in_text(quantities.feed_gain(known, feed="queued", over="serial")) or "",
    )
    noisy = [training_record("gpu", feed, apart=0.3) for feed in ("serial", "queued")]
    assert (in_text(quantities.feed_gain(noisy, feed="queued", over="serial")) or "").endswith("]?")
    both = [*known, training_record("cpu", "queued")]
    with pytest.raises(ValueError, match="one record must be chosen, got 2"):
        quantities.feed_gain(both, feed="queued", over="serial")


def test_what_a_part_of_measuring_took_is_that_of_the_record() -> None:
    record = make_record("cpu")
    assert quantities.spent([record], part="reference").value == record.spent_s.reference


def test_the_rate_of_what_is_no_transfer_is_refused() -> None:
    with pytest.raises(ValueError, match=r"`metric` must be h2d or d2h, .* got 'latency'"):
        quantities.transfer_rate([make_record("gpu")], metric="latency")


# --- the command -----------------------------------------------------------------------------------


def test_a_file_of_ones_own_is_read_with_the_records_beside_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store.save_all(pairs(100, 10000), tmp_path / "alpha")
    (tmp_path / "alpha/README.md").touch()
    (tmp_path / "rates.json").write_text('{"h2d": 2e9}')
    number = {"name": "h2d", "value": "number", "file": "rates.json", "key": ["h2d"], "unit": "B/s"}
    file = tmp_path / "claims.yaml"
    file.write_text(
        json.dumps({"claims": [claim(figures=[*claim()["figures"], number])]})
    )  # JSON is YAML too
    assert main([str(file)]) == 0
    said = capsys.readouterr().out
    assert "h2d: 2.00 GB/s | [alpha](alpha/README.md) |" in said


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("[]", "it must have `claims`"),
        ("claims: [{section: 1}]", "a claim must have `claim`"),
        (json.dumps({"claims": [claim()]}), "`verdict` must be not measured yet"),
    ],
)
def test_what_can_not_be_told_is_one_line_and_exits_with_2(
    tmp_path: Path, text: str, told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "claims.yaml"
    file.write_text(text)
    assert main([str(file)]) == 2
    err = capsys.readouterr().err
    assert err.startswith(f"jaxaccel: {file}: ")
    assert told in err
    assert err.count("\n") == 1
    assert main([str(tmp_path / "none.yaml")]) == 2


def test_quantities_are_of_the_claim_alone() -> None:
    first = read_claim(claim(), {})
    found = quantities_of(first, Published(records={"alpha": pairs(100, 10000)}, files={}))
    assert [*found] == ["big"]

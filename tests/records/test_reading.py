"""One file that holds no record costs that file, and nothing else of what is read."""

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import pytest
from crafted import encoded, full_record, is_record, put, unreadable
from fakes import make_case, make_record, make_timing
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from processes import ROOT

from jaxaccel import advise, report
from jaxaccel.records import decode_record, encode_record, reading, store
from jaxaccel.records.reading import NoRecordError, read_record
from jaxaccel.render.page import content
from jaxaccel.wandb.layout import runs_of

SCHEMA = ROOT / "jaxaccel/records/record.schema.json"


@pytest.fixture
def received(tmp_path: Path) -> Path:
    """A folder with two sizes of a pair, and all that is no record."""
    folder = tmp_path / "received"
    for size in (256, 1024):
        for device, time_s in (("cpu", 1e-3), ("gpu", 1e-4)):
            timings = {"latency": make_timing(*[[[time_s * (1 + step / 100)] * 3] for step in range(3)])}
            record = make_record(device, case=make_case(size), timings=timings)
            store.save(record, folder / "good" / f"{size}-{device}")
    unreadable(folder)
    return folder


def told_once(said: str, count: int) -> bool:
    return said.count("\n") == 1 and said.startswith(
        f"jaxaccel: passed over {count} records that can't be read: "
    )


def test_each_of_them_is_named_and_the_others_are_read(received: Path, tmp_path: Path) -> None:
    bad = unreadable(tmp_path / "more")
    skipped: list[str] = []
    assert len(store.load_records([received], skipped)) == 4
    assert len(skipped) == len(bad)
    for name, path in bad.items():
        near = path.relative_to(tmp_path / "more")
        (line,) = [line for line in skipped if f"/{near}" in line]
        assert "\n" not in line
        assert len(line) < 700, name


def test_why_is_said() -> None:
    good = full_record()
    for at, value, why in (
        (("timings", "latency", "median_s"), -1.0, "$.timings[...].median_s"),
        (("case", "size"), -1, "$.case.size"),
        (("case_id",), "0123456789ab", "case_id is 0123456789ab, and that of its case is"),
        (("timings", "latency", "rounds"), [], "its rounds have 0"),
        (("environment", "cpu"), "x", "environment.cpu must have names and values"),
        (("arm", "flags"), {"cpu_cores": "x"}, "arm.flags.cpu_cores must be a number of cores, got 'x'"),
        (("case", "params"), {"file": "/etc/passwd"}, "a case has the digest of a file, never its place"),
    ):
        with pytest.raises(NoRecordError) as raised:
            read_record(encoded(put(good, at, value)))
        assert why in str(raised.value)


@pytest.mark.parametrize("options", [[], ["--format", "csv"], ["--format", "markdown"]])
def test_report_tells_of_the_rest(
    received: Path, options: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert report.main([str(received), *options]) == 0
    said = capsys.readouterr()
    assert told_once(said.err, 32), said.err
    assert "1024" in said.out


def test_a_baseline_is_compared_with_the_rest(received: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert report.main([str(received), "--baseline", str(received / "good")]) == 0
    said = capsys.readouterr()
    assert told_once(said.err, 32)
    assert "0 worse" in said.out


def test_advise_answers_from_the_rest(received: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert advise.main([str(received), "size=512"]) == 0
    said = capsys.readouterr()
    assert told_once(said.err, 32)
    assert "the GPU" in said.out


def test_a_place_that_holds_nothing_else_is_refused(
    received: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.rmtree(received / "good")
    assert report.main([str(received)]) == 2
    said = capsys.readouterr().err
    assert said.startswith("jaxaccel: `NEW`: ")
    assert said.endswith("; and 31 more\n")
    assert report.main([str(received / "a-FIFO" / "record.json")]) == 2
    assert "it is a FIFO, not a file" in capsys.readouterr().err
    assert report.main(["/dev/zero"]) == 2
    assert "it is a device, not a file" in capsys.readouterr().err


def test_a_cut_off_line_costs_that_line(tmp_path: Path) -> None:
    records = [make_record("cpu"), make_record("gpu"), make_record("cpu", case=make_case(7))]
    path = store.save_all(records, tmp_path)
    lines = path.read_bytes().splitlines()
    path.write_bytes(b"\n".join([lines[0], lines[1][:99], lines[2][:-100] + b"x" * 9]))
    skipped: list[str] = []
    assert store.load_records([path], skipped) == records[:1]
    assert [line.removeprefix(f"{path}, ").partition(":")[0] for line in skipped] == ["record 2", "record 3"]


def test_a_line_that_is_too_long_costs_that_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "RECORD_BYTES", 20_000)
    record = make_record("gpu")
    path = tmp_path / "records.jsonl"
    path.write_bytes(b'"' + b"x" * 70_000 + b'"\n' + encode_record(record) + b"\n" + b"y" * 30_000)
    skipped: list[str] = []
    assert store.load_records([path], skipped) == [record]
    assert [line.rpartition(", ")[2] for line in skipped] == [
        "record 1: it has more than 0 MiB",
        "record 3: it has more than 0 MiB",
    ]


def test_folders_may_lie_in_each_other_however_deep(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    store.save(make_record(), tmp_path / "a")
    os.chdir("a")
    for _ in range(1500):
        os.mkdir("b")  # noqa: PTH102
        os.chdir("b")
    os.chdir(tmp_path)
    found = store.load_records(["a"])
    subprocess.run(["rm", "-rf", "a/b"], check=True)  # Python's own way is by recursion
    assert len(found) == 1


def test_a_link_to_another_folder_is_not_followed_and_one_inside_is(tmp_path: Path) -> None:
    store.save(make_record(), tmp_path / "received" / "real")
    (tmp_path / "received" / "again").mkdir()
    (tmp_path / "received" / "again" / "record.json").symlink_to("../real/record.json")
    store.save(make_record("gpu"), tmp_path / "private")
    (tmp_path / "received" / "out").mkdir()
    (tmp_path / "received" / "out" / "record.json").symlink_to(tmp_path / "private" / "record.json")
    skipped: list[str] = []
    assert [r.arm.requested for r in store.load_records([tmp_path / "received"], skipped)] == ["cpu"]
    assert ["a link that leads out of the folder" in line for line in skipped] == [True]
    (tmp_path / "latest").symlink_to("received")
    assert len(store.load_records([tmp_path / "latest"], [])) == 1


@pytest.mark.parametrize("back", [True, False])
def test_a_file_that_becomes_a_link_once_it_has_been_looked_at_is_not_read(
    back: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever shares the folder may put one in its place, before it is opened, and take it away again."""
    path = tmp_path / "received" / "record.json"
    store.save(make_record(), path.parent)
    store.save(make_record("gpu"), tmp_path / "private")
    really = os.open

    def swapped(name: Any, *how: Any) -> int:
        path.rename(path.with_name("kept"))
        path.symlink_to(tmp_path / "private" / "record.json")
        handle = really(name, *how)
        if back:
            path.unlink()
            path.with_name("kept").rename(path)
        return handle

    with monkeypatch.context() as patched:
        patched.setattr(os, "open", swapped)
        assert list(reading.records_in(path.parent, skipped := [])) == []
    assert ["a link that leads out of the folder" in line for line in skipped] == [True]


def test_what_can_not_be_read_is_no_reason_to_refuse_and_stays(tmp_path: Path) -> None:
    for name in ("a FIFO", "a folder", "torn"):
        path = unreadable(tmp_path / name / "run")[name]
        assert store.load_if_there(path.parent) is None
        store.save(make_record(), path.parent)
        assert store.load_if_there(path.parent) == make_record()
        assert os.path.lexists(f"{path}.unreadable")
        assert store.load_records([path.parent], skipped := []) == [make_record()]
        assert skipped == []


# --- what a record may be --------------------------------------------------------------------------

EXTREME = [
    *(-1, 0, 1, -1.0, 5e-324, 1e-300, 1e300, 1.7e308, 2**63, -(2**70), 10**400, None, True),
    *("", "x", [], {}, [None], [[]], {"": 1}, [1, 2, 3], {"a": "b"}, "\x1b", "1e5"),
]


@pytest.mark.slow
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_whatever_else_a_record_says_it_is_refused_or_all_can_be_made_of_it(
    data: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    document = full_record(data.draw(st.sampled_from(["cpu", "gpu"])))
    for _ in range(data.draw(st.integers(1, 2))):
        at = data.draw(st.sampled_from(list(everywhere_in(document))))
        document = put(document, at, data.draw(st.sampled_from(EXTREME)))
    other = full_record("gpu" if document["arm"] == full_record("cpu")["arm"] else "cpu")
    path = tmp_path / "records.jsonl"
    path.write_bytes(encoded(document) + b"\n" + encoded(other) + b"\n")
    prices = ["--price", "cpu=1", "--price", "gpu=2"]
    for command in (["--format", "table"], ["--format", "markdown", *prices], ["--format", "csv", *prices]):
        assert report.main([str(path), *command]) == 0
    records = store.load_records([path], [])
    assert len(msgspec.json.encode(content(records))) > 1000  # of the page
    assert runs_of(records)
    report.main([str(path), "--baseline", str(path)])
    advise.main([str(path)])
    if is_record(document):
        record = read_record(encoded(document))
        assert decode_record(encode_record(record)) == record
    capsys.readouterr()


def everywhere_in(value: Any, at: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """All places of a document, but for all but the first of its samples."""
    for name, entry in value.items() if isinstance(value, dict) else enumerate(value[:1]):
        yield (*at, name)
        if isinstance(entry, dict | list):
            yield from everywhere_in(entry, (*at, name))


def test_the_schema_that_is_shipped_is_that_of_the_code() -> None:
    renew = "python -m jaxaccel.records.reading > jaxaccel/records/record.schema.json"
    assert json.loads(SCHEMA.read_text()) == json.loads(json.dumps(reading.schema())), renew


def published() -> list[bytes]:
    paths = [path for name in ("record.json", "records.jsonl") for path in (ROOT / "experiments").rglob(name)]
    return [line for path in paths for line in path.read_bytes().split(b"\n") if line.strip()]


@pytest.mark.slow
def test_all_published_records_are_read_as_they_are() -> None:
    documents = published()
    assert len(documents) >= 2025
    for document in documents:
        assert read_record(document) == decode_record(document)


def test_the_schema_admits_published_records_and_not_those_that_are_none() -> None:
    validator = pytest.importorskip("jsonschema").Draft202012Validator(json.loads(SCHEMA.read_text()))
    for document in published()[::40]:
        found = json.loads(document)
        for timing in found["timings"].values():  # all are of one kind, and there are many
            timing["samples_s"] = timing["samples_s"][:3]
        validator.validate(found)
    good = full_record()
    validator.validate(good)
    for at, value in (
        (("case", "size"), -1),
        (("arm", "requested"), "tpu"),
        (("timings", "latency", "median_s"), 5e-324),
        (("ceilings", "memory", "rate_per_s"), 0),
        (("environment", "packages"), "x"),
        (("environment", "cpu"), {"cores": -1}),
    ):
        assert not validator.is_valid(put(good, at, value)), at


def test_what_is_made_here_can_be_read(tmp_path: Path) -> None:
    """Equal samples of several passes have a median that is a rounding beside them."""
    timing = make_timing(*[[[1e-4] * 3]] * 3)
    record = make_record(timings={"latency": replace(timing, median_s=1e-4 * (1 + 1e-15))})
    assert read_record(encode_record(record)) == record


@pytest.mark.parametrize(
    ("case", "why"),
    [
        ({"size": 2**63}, "$.size"),
        (
            {"params": {"file": "step.bin"}},
            "case.params.file: a case has the digest of a file, never its place",
        ),
        ({"params": {"root": "/tmp"}}, "case.params.root: a case has the digest of a file, never its place"),
        ({"params": {"kind": "a\x1b"}}, "case.params.kind: a text with control characters"),
        ({"params": {"kind": "x" * 2000}}, "a text of more than 1000 characters"),
    ],
)
def test_a_case_whose_record_could_not_be_read_is_not_measured(case: Any, why: str) -> None:
    assert why in str(reading.refused_case(make_case(**case)))

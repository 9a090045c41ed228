"""What a call takes beyond the device, by cause."""

from dataclasses import replace
from typing import Any

import pytest
from fakes import make_record, make_timing

from jaxaccel.analyze.overhead import Cause, beyond_device
from jaxaccel.records import NO_TRANSFER, Record

MILLI = 1e-3


def record(
    latency_s: float, device_s: float, device: str = "cpu", *, floor_s: float = 1e-5, **memory: Any
) -> Record:
    timings = {"latency": make_timing([[latency_s] * 15] * 6), "device": make_timing([[device_s] * 15] * 6)}
    known = make_record(device, timings=timings, dispatch_floor_s={"latency": floor_s})
    assert known.memory
    small = {"outputs_bytes": 4096, "temporaries_bytes": 0, "donated_bytes": 0}
    return replace(known, memory=replace(known.memory, **small | memory))


def parts(given: Record) -> dict[str, float]:
    found = beyond_device(given)
    assert found is not None
    return {part.cause.value: part.time_s for part in found}


def test_what_an_empty_call_takes_as_well_is_dispatch() -> None:
    assert parts(record(1.014 * MILLI, MILLI)) == pytest.approx({"dispatch": 1.4e-5})


def test_dispatch_is_no_more_than_an_empty_call_and_the_rest_is_other() -> None:
    found = record(2 * MILLI, MILLI)
    assert parts(found) == pytest.approx({"dispatch": 1e-5, "other": 0.99 * MILLI})
    assert sum(parts(found).values()) == pytest.approx(MILLI)


def test_64_mib_of_new_output_are_fresh_memory_on_a_cpu() -> None:
    found = record(0.18, 0.039, outputs_bytes=64 << 20)
    assert parts(found) == pytest.approx({"dispatch": 1e-5, "fresh memory": 0.141 - 1e-5})
    assert set(parts(record(0.18, 0.039, temporaries_bytes=64 << 20))) == {"dispatch", "fresh memory"}


@pytest.mark.parametrize(
    ("device", "memory"),
    [
        ("gpu", {"outputs_bytes": 64 << 20}),  # its allocator keeps what it has
        ("cpu", {"outputs_bytes": 64 << 20, "donated_bytes": 64 << 20}),
        ("cpu", {"outputs_bytes": 1 << 20}),  # 256 pages don't take 0.14 s
        ("cpu", {"outputs_bytes": None, "temporaries_bytes": None, "donated_bytes": None}),
    ],
)
def test_what_can_not_be_fresh_memory_is_other(device: str, memory: dict[str, Any]) -> None:
    assert set(parts(record(0.18, 0.039, device, **memory))) == {"dispatch", "other"}


def test_a_program_that_calls_python_and_a_call_that_copies_say_so() -> None:
    slow = record(0.18, 0.039, outputs_bytes=64 << 20)
    assert slow.compile
    calls = replace(slow, compile=replace(slow.compile, callbacks=True))
    assert set(parts(calls)) == {"dispatch", "host callbacks"}
    copies = replace(slow, invariants={NO_TRANSFER: "skipped: such a call sends its batches by copies"})
    assert set(parts(copies)) == {"dispatch", "transfers"}


def test_where_the_device_takes_as_long_nothing_is_left() -> None:
    assert beyond_device(record(MILLI, MILLI)) == ()
    assert beyond_device(record(MILLI, 2 * MILLI)) == ()


def test_without_device_time_nothing_is_known() -> None:
    assert beyond_device(make_record()) is None


def test_without_a_floor_nobody_knows_what_is_dispatch() -> None:
    known = replace(record(2 * MILLI, MILLI), dispatch_floor_s={})
    assert [part.cause for part in beyond_device(known) or ()] == [Cause.other]

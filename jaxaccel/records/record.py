"""All that one arm gave, and its JSON."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

import msgspec

from jaxaccel.records.case import Case, MetricName
from jaxaccel.records.measured import (
    PASS_FAILED,
    Accuracy,
    ArmFacts,
    Code,
    Cost,
    Flag,
    HostLoad,
    Memory,
    Problem,
    Spent,
    Trial,
)
from jaxaccel.records.timing import Ceilings, Compile, DeviceTime, Energy, Rates, Timing, Transfers
from jaxaccel.records.values import Count, Id, Name, Number, Spread, Time, Version, When, Word

SCHEMA_VERSION = 1


class Status(StrEnum):
    """How an arm ended: measured, broken on the way, or refused because it could not be right."""

    ok = "ok"
    failed = "failed"
    refused = "refused"


@dataclass(frozen=True, kw_only=True)
class Record:
    """All that one arm gave. What is unknown is None, and `absent` says why.

    dispatch_floor_s: what a call of a program that does next to nothing took in the same workers, by metric.
    invariants: by name, `passed`, or `skipped: ` and the reason; one that is broken fails the arm.
    variants: of a case of variant `best`, what was tried; `arm.variant` is the one that was chosen.
    as_called_s: of own code, what a call takes as its author makes it in Python; the timings are of the
    compiled program alone. series: of a training, numbers a step or an epoch. results: what came of it, such
    as its accuracy on data that it has not seen. code: the user's own source; None of a workload of
    jaxaccel's.
    """

    schema_version: Count
    jaxaccel_version: Version
    started_at: When
    command: str
    case: Case
    case_id: Id
    arm_id: Id
    pair_id: Id
    sweep_id: Id
    paired: bool
    arm: ArmFacts
    status: Status
    error: Problem | None = None
    timings: Mapping[MetricName, Timing] = field(default_factory=dict)
    compile: Compile | None = None
    first_call_s: Spread | None = None
    as_called_s: Time | None = None
    cost: Cost | None = None
    rates: Rates | None = None
    accuracy: Accuracy | None = None
    memory: Memory | None = None
    transfers: Transfers | None = None
    device_time: DeviceTime | None = None
    energy: Energy | None = None
    ceilings: Ceilings | None = None
    variants: Mapping[Word, Trial] = field(default_factory=dict)
    series: Mapping[Name, tuple[Number, ...]] = field(default_factory=dict)
    results: Mapping[Name, Number] = field(default_factory=dict)
    dispatch_floor_s: Mapping[MetricName, Time] = field(default_factory=dict)
    host_load: HostLoad | None = None
    invariants: Mapping[str, str] = field(default_factory=dict)
    spent_s: Spent = field(default_factory=Spent)
    code: Code | None = None
    environment: Mapping[Name, Any] = field(default_factory=dict)
    warnings: tuple[Flag, ...] = ()
    absent: Mapping[str, str] = field(default_factory=dict)

    @property
    def ok(self) -> bool:
        """Whether there is a measurement to read."""
        return self.status is Status.ok

    @property
    def lacks_passes(self) -> str | None:
        """Why not all passes that were asked for are in it; None where they are."""
        return next((flag.message for flag in self.warnings if flag.name == PASS_FAILED), None)


def encode_record(record: Record) -> bytes:
    """A record as one JSON object, keys in the order of the class."""
    return msgspec.json.encode(record)


def decode_record(text: bytes | str) -> Record:
    """The record that `text` holds.

    **Raises** msgspec.DecodeError (no JSON), msgspec.ValidationError (JSON of another form).
    """
    return msgspec.json.decode(text, type=Record)

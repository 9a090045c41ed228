"""What a session and its workers say to each other: one JSON object a line, over pipes."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, get_args

import msgspec

from jaxaccel.records import (
    RESIDENT,
    Accuracy,
    Arm,
    ArmFacts,
    Code,
    Compile,
    Cost,
    DeviceTime,
    Energy,
    Flag,
    Memory,
    Metric,
    PlainValues,
    Problem,
    Spent,
    Transfers,
    Trial,
)

COMPANIONS = "JAXACCEL_COMPANIONS"  # a worker's variable: how many of its session share its device with it


@dataclass(frozen=True, kw_only=True)
class Started:
    """Worker -> parent, first of all: the worker has its device.

    `ready_at` is when, on the clock of time.time(), which both share.
    """

    arm: ArmFacts
    ready_at: float
    environment: Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class Open:
    """Parent -> worker: place the data, compile, check the answer, warm up, be ready for `metrics`."""

    key: str
    arm: Arm
    metrics: tuple[Metric, ...] = RESIDENT


@dataclass(frozen=True, kw_only=True)
class Opened(PlainValues):
    """Worker -> parent: the facts of an arm that is ready to be timed.

    `floor_s` is what a call of a program that does next to nothing takes in this worker, by metric. `metrics`
    are those of which rounds can be had; `absent` says why the others can't. `variants`: those that were
    tried, where the fastest was asked for. compile: None of a framework that does not tell its steps apart.
    code, packages: the user's source, and the versions of installed packages that it imports. call_s: about
    what a call takes once it is warm.
    """

    arm: ArmFacts
    floor_s: Mapping[str, float]
    compile: Compile | None
    first_call_s: float
    cost: Cost
    accuracy: Accuracy
    memory: Memory
    spent_s: Spent
    metrics: tuple[Metric, ...] = (Metric.latency, Metric.throughput)
    call_s: float | None = None
    transfers: Transfers | None = None
    variants: Mapping[str, Trial] = field(default_factory=dict)
    series: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    results: Mapping[str, float] = field(default_factory=dict)
    invariants: Mapping[str, str] = field(default_factory=dict)
    code: Code | None = None
    packages: Mapping[str, str] = field(default_factory=dict)
    warnings: tuple[Flag, ...] = ()
    absent: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class AskRound:
    """Parent -> worker: one short burst of samples of a metric."""

    key: str
    metric: Metric


@dataclass(frozen=True, kw_only=True)
class Round:
    """Worker -> parent: the burst. `warmup_s` went into untimed calls before it.

    `slowdowns` are the reasons for which the device ran slower than it can, as its driver names them.
    """

    samples_s: tuple[float, ...]
    depth: int
    spent_s: float
    warmup_s: float
    slowdowns: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Unavailable:
    """Worker -> parent, in place of a Round: this metric can't be had here; the others can."""

    reason: str


@dataclass(frozen=True, kw_only=True)
class Inspect:
    """Parent -> worker: what is found out once, beside the rounds. energy_s: for how long to count energy."""

    key: str
    energy_s: float = 0.0


@dataclass(frozen=True, kw_only=True)
class Inspected:
    """Worker -> parent: it; `absent` says why something is None.

    as_called_s: of own code, what a call takes as its author makes it, in Python.
    """

    as_called_s: float | None = None
    device_time: DeviceTime | None = None
    energy: Energy | None = None
    spent_s: float = 0.0
    absent: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Dump:
    """Parent -> worker: write what a bug report needs of an arm's program into `folder`, which is there."""

    arm: Arm
    folder: str


@dataclass(frozen=True, kw_only=True)
class Dumped:
    """Worker -> parent: it is written. `absent` says why a file is not there, `notes` what else needs a word.

    takes: type and shape of each array that the program reads. code: the user's source, as it is now.
    """

    takes: tuple[str, ...]
    code: Code | None = None
    notes: tuple[str, ...] = ()
    absent: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Close:
    """Parent -> worker: drop an arm and its data."""

    key: str


@dataclass(frozen=True, kw_only=True)
class Closed:
    """Worker -> parent: it is dropped. `warnings`: what the timing did to its carry."""

    warnings: tuple[Flag, ...] = ()
    spent_s: float = 0.0


@dataclass(frozen=True, kw_only=True)
class Failure:
    """Worker -> parent, in place of any answer. `refused`: the request was at fault, not the run."""

    error: Problem
    refused: bool = False
    environment: Mapping[str, Any] = field(default_factory=dict)


Message = (
    Started
    | Open
    | Opened
    | AskRound
    | Round
    | Unavailable
    | Inspect
    | Inspected
    | Dump
    | Dumped
    | Close
    | Closed
    | Failure
)

_KINDS: dict[str, type[Any]] = {kind.__name__: kind for kind in get_args(Message)}


@dataclass(frozen=True, kw_only=True)
class _Envelope:
    kind: str
    body: dict[str, Any]


def encode_message(message: Message) -> bytes:
    """One JSON line, for the pipe between parent and worker."""
    return msgspec.json.encode({"kind": type(message).__name__, "body": message}) + b"\n"


def decode_message(line: bytes) -> Message:
    """The message of one line.

    **Raises** msgspec.DecodeError or msgspec.ValidationError where the line holds none.
    """
    try:
        envelope = msgspec.json.decode(line, type=_Envelope)
    except UnicodeDecodeError as error:
        raise msgspec.DecodeError(f"no UTF-8: {line[:200]!r}") from error
    kind = _KINDS.get(envelope.kind)
    if kind is None:
        raise msgspec.ValidationError(f"no message of jaxaccel's: {line[:200]!r}")
    message: Message = msgspec.convert(envelope.body, kind)
    return message

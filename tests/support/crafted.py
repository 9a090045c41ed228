"""Records as somebody might craft them who means harm, and files that are no records."""

import json
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec
from fakes import make_failed, make_record

from jaxaccel.records import Case, Record, encode_record
from jaxaccel.records.reading import NoRecordError, read_record

PWNED = "pwned"  # the file that exists once something of a record was executed
# What terminals, spreadsheets, browsers, shells, Python, Rich, Markdown and Hydra would obey.
HOSTILE = (
    "\x1b[2J\x1b[31mred\x1b]0;title\x07",
    "\x1b]8;;https://example.org\x1b\\link\x1b]8;;\x1b\\",
    "\x9b31mC1\x90\x9c\x7f",
    "\u202eevil\u2066\u200f\u061c",
    "line\njaxaccel: all is well\r\x0b\x0c\x85\u2028\u2029",
    "e" + "\u0301" * 50 + "\u200b\ufeff\U000e0041",
    '=HYPERLINK("https://example.org")',
    "+1+1",
    "-2+3",
    "@SUM(1)",
    "\t=1+1",
    "\r=1+1",
    "x;=1+1",
    "</script><script>alert(1)</script><img src=x onerror=alert(1)>",
    "%%DATA%% {0.__class__} {words} %s",
    "[red]x[/red][link=https://example.org]y[/link] :skull:",
    "[x](https://example.org) ![y](z.png) <b>z</b> | a | `b` @someone www.example.org",
    f"$(touch {PWNED}) `touch {PWNED}`; touch {PWNED} #",
    f"'; touch {PWNED}; '",
    f'"""\n__import__("os").system("touch {PWNED}")\n"""',
    f"\", __import__('os').system('touch {PWNED}'), \"",
    "${oc.env:HOME} ${hydra:runtime.cwd}",
    "../../../etc/passwd",
    "\\",
    "x" * 7_000,
)


def full_record(device: str = "cpu") -> dict[str, Any]:
    """A record with every block filled in, as plain data."""
    record: dict[str, Any] = json.loads(msgspec.json.encode(make_record(device)))
    record["environment"] = {"host_id": "h", "os": "o", "python": "3", "machine": "m"} | record["environment"]
    record["environment"].setdefault("packages", {"jax": "1"})
    record["error"] = msgspec.to_builtins(make_failed(device).error) | {"details": "d", "traceback": "t"}
    record["warnings"] = [{"name": "n", "metric": "latency", "message": "m"}]
    record["variants"] = {"direct": {"time_s": 1e-4, "ok": True, "reason": "r"}}
    record["arm"]["flags"] = {"XLA_FLAGS": "--xla_cpu_multi_thread_eigen=true", "JAX_PLATFORMS": device}
    record["case"]["params"] = {}
    return record


def places(value: Any, at: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Where text stands in a document."""
    if isinstance(value, str):
        yield at
    elif isinstance(value, dict):
        for name, entry in value.items():
            yield from places(entry, (*at, name))
    elif isinstance(value, list):
        for index, entry in enumerate(value):
            yield from places(entry, (*at, index))


def put(document: dict[str, Any], at: Sequence[Any], value: Any) -> dict[str, Any]:
    """A copy of a document with another value in one place."""
    copy: Any = json.loads(json.dumps(document))
    inside = copy
    for step in at[:-1]:
        inside = inside[step]
    inside[at[-1]] = value
    return copy  # type: ignore[no-any-return]


def encoded(document: dict[str, Any]) -> bytes:
    """As a file has it."""
    return json.dumps(document).encode()


def is_record(document: dict[str, Any]) -> bool:
    """Whether it can be read."""
    try:
        read_record(encoded(document))
    except NoRecordError:
        return False
    return True


def free_places(device: str = "cpu") -> list[tuple[Any, ...]]:
    """Where a record may have any text at all."""
    record = full_record(device)
    return [at for at in places(record) if is_record(put(record, at, "\x1b[31m =x\n"))]


FREE = free_places()


def with_text(text: str, device: str = "cpu", **changes: Any) -> dict[str, Any]:
    """A record that says the same in all places where it may say that."""
    record = full_record(device) | changes
    named = put(record, ("case", "params"), {"kind": text})
    named["case_id"] = Case(**named["case"]).case_id
    for at, said in [((), named), *((at, None) for at in FREE)]:
        tried = said or put(record, at, text)
        record = tried if is_record(tried) else record
    return record


def hostile_records(text: str) -> list[Record]:
    """A measured pair and a failed arm that say something, as they are after reading."""
    failed = with_text(text, "cpu", status="failed", timings={}, arm_id="failed")
    return [read_record(encoded(one)) for one in (with_text(text), with_text(text, "gpu"), failed)]


NONE: dict[str, Any] = {"n": 0, "samples_s": [], "rounds": []}


def unreadable(folder: Path) -> dict[str, Path]:
    """Files and folders below `folder` that are named like records and hold none, by what is wrong."""
    good = full_record()
    latency = ("timings", "latency")
    contents: dict[str, bytes] = {
        "empty": b"",
        "torn": encoded(good)[:300],
        "a list": b"[]",
        "no UTF-8": b'{"command": "\xff"}',
        "nested": b'{"environment": ' + b'{"a":' * 3000 + b"1" + b"}" * 3001,
        "nested a little": encoded(put(good, ("environment", "x"), json.loads("[" * 40 + "]" * 40))),
        "negative median": encoded(put(good, (*latency, "median_s"), -1.0)),
        "no median": encoded(put(good, (*latency, "median_s"), 0)),
        "denormal median": encoded(put(good, (*latency, "median_s"), 5e-324)),
        "not a number": encoded(put(good, (*latency, "median_s"), float("nan"))),
        "beyond floats": encoded(good).replace(b'"first_call_s": 0.01', b'"first_call_s": 1e999'),
        "beyond integers": encoded(good).replace(b'"size": 1024', b'"size": 1' + b"0" * 400),
        "median outside": encoded(put(good, (*latency, "median_s"), 1e-3)),
        "negative samples": encoded(
            put(good, (*latency, "samples_s"), [-1e-4 for _ in good["timings"]["latency"]["samples_s"]])
        ),
        "no rounds": encoded(put(good, (*latency, "rounds"), [])),
        "other rounds": encoded(put(good, (*latency, "rounds"), [[0, 0, 3]])),
        "no samples": encoded(
            good
            | {"timings": {"latency": good["timings"]["latency"] | {"n": 0, "samples_s": [], "rounds": []}}}
        ),
        "size": encoded(put(good, ("case", "size"), -1)),
        "no rate": encoded(put(good, ("ceilings", "memory", "rate_per_s"), 0)),
        "case_id": encoded(put(good, ("case_id",), "0123456789ab")),
        "device": encoded(put(good, ("arm", "requested"), "../../x")),
        "workload": encoded(put(good, ("case", "workload"), "=1+1")),
        "cores": encoded(put(good, ("environment", "cpu"), ["x"])),
        "packages": encoded(put(good, ("environment", "packages"), "x")),
        "code packages": encoded(put(good, ("environment", "code_packages"), None)),
        "a code package": encoded(put(good, ("environment", "code_packages"), [["x"]])),
        "cpu_cores": encoded(put(good, ("arm", "flags"), {"cpu_cores": "x"})),
    }
    found = {}
    for name, content in contents.items():
        found[name] = folder / name.replace(" ", "-") / "record.json"
        found[name].parent.mkdir(parents=True)
        found[name].write_bytes(content)
    for name in ("a folder", "a FIFO", "a device", "a link", "huge"):
        found[name] = folder / name.replace(" ", "-") / "record.json"
        found[name].parent.mkdir(parents=True)
    found["a folder"].mkdir()
    os.mkfifo(found["a FIFO"])
    found["a device"].symlink_to("/dev/zero")
    outside = folder.parent / "outside.json"
    outside.write_bytes(encode_record(make_record()))
    found["a link"].symlink_to(outside)
    with found["huge"].open("wb") as file:
        file.truncate(1 << 40)
    return found

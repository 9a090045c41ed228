"""Records from files, which anybody may have written: data that is checked, and never obeyed.

A file that holds no record is passed over, and what is wrong with it is said in one line. What the types of
jaxaccel.records don't say is checked in `wrong`; record.schema.json has both, for others who read records.
"""

import os
import stat
import sys
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from statistics import median
from typing import Any, cast
from unicodedata import category

import msgspec

from jaxaccel.records import CODE_PACKAGES, CPU_CORES, Case, Record, Timing, decode_record, escape

RECORD = "record.json"
RECORDS = "records.jsonl"
RECORD_BYTES = 32 << 20  # the largest published one has a quarter of a megabyte
FILE_BYTES = 2 << 30
DEPTH = 8  # of what an environment or a parameter may hold
PLACES = ("file", "root")  # what workloads take beside a case's parameters: where files lie on one machine
WORDS = 1_000  # characters of a parameter, and of a case in words
LEAST, MOST = 1e-12, 1e9  # seconds, as records.Time has them
ROUNDED = 1e-9  # a median of several passes is worked out by logarithms

# Parts of an environment that the code looks into, and what their values are.
_BLOCKS = ("cpu", "gpu", "packages", "framework")
_TEXTS = ("host_id", "os", "machine", "python")
_TEXTS_OF = {"cpu": ("model",), "gpu": ("name", "kind", "driver"), "framework": ("library", "version")}

LEADS_OUT = "a link that leads out of the folder"


class NoRecordError(ValueError):
    """A document is no record; the message is one line that says why."""


# --- one document ----------------------------------------------------------------------------------


def read_record(document: bytes) -> Record:
    """The record that a document holds, all of its text inert.

    **Raises** NoRecordError where it holds none.
    """
    if len(document) > RECORD_BYTES:
        raise NoRecordError(f"it has more than {RECORD_BYTES >> 20} MiB")
    try:
        record = decode_record(document)
        problem = wrong(record)
    except RecursionError as error:
        raise NoRecordError("it is nested too deep") from error
    except UnicodeDecodeError as error:
        raise NoRecordError(f"it is not UTF-8: {error.reason}") from error
    except (msgspec.DecodeError, ValueError, OverflowError) as error:
        raise NoRecordError(escape.inert(str(error), 300)) from error
    if problem:
        raise NoRecordError(escape.inert(problem, 300))
    if _is_plain(document.decode().rstrip("\n")):
        return record
    return cast("Record", escape.everywhere(record, escape.MULTILINE))


def _is_plain(document: str) -> bool:
    """Whether all text is inert as it is, which spares most records a walk through all that they hold."""
    text = document.replace("\\\\", "").replace('\\"', "")
    if "\\" in text or not text.isprintable() or max(map(len, text.split('"')[1::2])) > escape.LINE:
        return False
    return text.isascii() or not any(category(letter).startswith("M") for letter in {*text})


def wrong(record: Record) -> str | None:
    """What of a record can't be, beyond what its types say; None where nothing is."""
    return (
        wrong_case(record.case)
        or _wrong_id(record)
        or _wrong_environment(record.environment)
        or _wrong_cores(record.arm.flags)
        or next(
            (f"timings.{name}: {why}" for name, timing in record.timings.items() if (why := _wrong(timing))),
            None,
        )
    )


def refused_case(case: Case) -> str | None:
    """Why a record of this case could not be read back, or None. Such a case must not be measured."""
    try:
        msgspec.convert(asdict(case), Case)
    except (msgspec.ValidationError, OverflowError) as error:
        return escape.inert(str(error), 300)
    return wrong_case(case)


def wrong_case(case: Case) -> str | None:
    """What of a case, beyond its types, can't stand in a record: names of tables and runs are made of it."""
    for name in PLACES:
        if name in case.params:
            return f"case.params.{name}: a case has the digest of a file, never its place"
    for name, value in case.params.items():
        if problem := _wrong_value(value, DEPTH):
            return f"case.params.{name}: {problem}"
    length = sum(len(str(value)) for value in case.params.values())
    return f"case.params: more than {4 * WORDS} characters" if length > 4 * WORDS else None


def _wrong_value(value: Any, depth: int) -> str | None:
    """Why something is not plain data; all that is nested in it is looked at."""
    if value is None or isinstance(value, bool | float):
        return None
    if isinstance(value, int):
        return None if abs(value) <= 2**63 else "a whole number beyond 64 bits"
    if isinstance(value, str):
        if len(value) > WORDS:
            return f"a text of more than {WORDS} characters"
        return None if value == escape.inert(value) else "a text with control characters"
    if depth == 0:
        return "it is nested too deep"
    if isinstance(value, Mapping):
        parts = [*value, *value.values()]
    elif isinstance(value, list | tuple):
        parts = [*value]
    else:
        return f"a {type(value).__name__}, which JSON does not have"
    return next((found for part in parts if (found := _wrong_value(part, depth - 1))), None)


def _wrong_id(record: Record) -> str | None:
    if record.case_id == record.case.case_id:
        return None
    return f"case_id is {record.case_id}, and that of its case is {record.case.case_id}"


def _wrong_cores(flags: Mapping[str, str]) -> str | None:
    cores = flags.get(CPU_CORES, "1")
    right = cores.isascii() and cores.isdecimal() and len(cores) < 6 and int(cores) > 0
    return None if right else f"arm.flags.{CPU_CORES} must be a number of cores, got {cores!r}"


def _wrong_environment(environment: Mapping[str, Any]) -> str | None:
    for name in _BLOCKS:
        if not isinstance(environment.get(name, {}), Mapping):
            return f"environment.{name} must have names and values"
    known = {name: environment.get(name) for name in _TEXTS}
    for block, names in _TEXTS_OF.items():
        known |= {f"{block}.{name}": environment.get(block, {}).get(name) for name in names}
    known |= {f"packages.{name}": value for name, value in environment.get("packages", {}).items()}
    for name, value in known.items():
        if value is not None and not (isinstance(value, str) and len(value) <= WORDS):
            return f"environment.{name} must be a text of at most {WORDS} characters"
    names = environment.get(CODE_PACKAGES, [])
    if not (isinstance(names, list) and all(isinstance(name, str) and len(name) <= WORDS for name in names)):
        return f"environment.{CODE_PACKAGES} must be a list of texts of at most {WORDS} characters"
    cores = environment.get("cpu", {}).get("cores")
    if cores is not None and not (type(cores) is int and 0 < cores < 1_000_000):
        return f"environment.cpu.cores must be a positive whole number, got {cores!r}"
    return _too_deep(environment, DEPTH)


def _too_deep(value: Any, depth: int) -> str | None:
    parts = value.values() if isinstance(value, Mapping) else value if isinstance(value, list) else ()
    if parts and depth == 0:
        return "environment is nested too deep"
    return next((found for part in parts if (found := _too_deep(part, depth - 1))), None)


def _wrong(timing: Timing) -> str | None:
    """What of a timing's numbers can't be together. Its statistics are not worked out anew."""
    counted = sum(n for _, _, n in timing.rounds)
    if not timing.n == len(timing.samples_s) == counted:
        return f"n is {timing.n}, of {len(timing.samples_s)} samples, and its rounds have {counted}"
    ends = [
        (min(timing.samples_s), max(timing.samples_s), "samples from"),
        (*(timing.ci95_s or (0, MOST)), "the interval"),
    ]
    for low, high, what in ends:
        if not low * (1 - ROUNDED) <= timing.median_s <= high * (1 + ROUNDED):
            return f"a median of {timing.median_s} s, and {what} {low} to {high} s"
    by_pass: dict[int, list[float]] = {}
    start = 0
    for index, _, n in timing.rounds:
        by_pass.setdefault(index, []).extend(timing.samples_s[start : start + n])
        start += n
    for index, samples in by_pass.items():
        if not LEAST <= median(samples) <= MOST:
            return f"a median of {median(samples)} s in pass {index}"
    return None


# --- files -----------------------------------------------------------------------------------------


def records_in(place: Path, skipped: list[str]) -> Iterator[Record]:
    """The records of a file, or of all record.json and records.jsonl below a folder.

    What can't be read is added to `skipped`, a line each, and passed over. Nothing outside of the folder is
    opened: no link leads out of it.

    **Raises** FileNotFoundError for a place that is neither a file nor a folder.
    """
    for path in _files(place, skipped):
        shown = escape.inert(str(path), 300)
        try:
            for number, document in _documents(path, place):
                try:
                    yield read_record(document)
                except NoRecordError as error:
                    where = f", record {number}" if number else ""
                    skipped.append(f"{shown}{where}: {error}")
        except (OSError, NoRecordError) as error:
            skipped.append(f"{shown}: {getattr(error, 'strerror', None) or error}")


def read_json(path: Path, place: Path) -> Any:
    """What a JSON file below a folder holds that is no record: its text is not made inert.

    **Raises** NoRecordError, in one line that names the file, where none is there to be read.
    """
    try:
        ((_, document),) = _documents(path, place)
        return msgspec.json.decode(document)
    except RecursionError as error:
        raise NoRecordError(f"{path}: it is nested too deep") from error
    except (OSError, ValueError, msgspec.DecodeError) as error:
        raise NoRecordError(f"{path}: {getattr(error, 'strerror', None) or error}") from error


def way_out(folder: Path) -> Path | None:
    """A link, FIFO or device below a folder, by which writing there would write elsewhere; None if none is.

    Records are not written to in place: what has their name is set aside.
    """

    def leads_out(entry: os.DirEntry[str]) -> bool:
        if entry.is_symlink():
            return not _inside(Path(entry.path), folder)
        plain = entry.is_dir() or entry.is_file()
        return not plain and entry.name not in (RECORD, RECORDS)

    return next((Path(entry.path) for entry in _below(folder, []) if leads_out(entry)), None)


def _files(place: Path, skipped: list[str]) -> list[Path]:
    if place.is_dir():
        return sorted(Path(entry.path) for entry in _below(place, skipped) if entry.name in (RECORD, RECORDS))
    if not os.path.lexists(place):
        raise FileNotFoundError(place)
    return [place]


def _below(folder: Path, skipped: list[str]) -> Iterator[os.DirEntry[str]]:
    """All that is in a folder and in those below it, however deep; links are not followed."""
    folders = [str(folder)]
    while folders:
        try:
            entries = list(os.scandir(folders.pop()))
        except OSError as error:
            skipped.append(escape.inert(f"{error.filename}: {error.strerror}", 300))
            continue
        folders += [entry.path for entry in entries if entry.is_dir(follow_symlinks=False)]
        yield from entries


def _inside(path: Path, place: Path) -> bool:
    # Not Path.resolve, which raises RuntimeError where links lead in a circle.
    return path == place or Path(os.path.realpath(path)).is_relative_to(os.path.realpath(place))


def _documents(path: Path, place: Path) -> Iterator[tuple[int, bytes]]:
    """The documents of a file, those of .jsonl with their line numbers, from 1; of others with 0.

    **Raises** NoRecordError for what is no plain file, without waiting for it, for one that is too large, and
    for one outside of `place`, to which a link leads.
    """
    if not _inside(path, place):
        raise NoRecordError(LEADS_OUT)
    if not stat.S_ISREG(mode := path.stat().st_mode):
        raise NoRecordError(f"it is {_kind(mode)}, not a file")
    handle = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    with os.fdopen(handle, "rb") as file:
        found = os.fstat(handle)
        if not stat.S_ISREG(found.st_mode):
            raise NoRecordError(f"it is {_kind(found.st_mode)}, not a file")
        # It may have become a link meanwhile: the file that is open must be one that is inside.
        if not _inside(path, place) or not os.path.samestat(found, os.lstat(os.path.realpath(path))):
            raise NoRecordError(LEADS_OUT)
        whole = path.suffix != ".jsonl"
        most = RECORD_BYTES if whole else FILE_BYTES
        if found.st_size > most:
            raise NoRecordError(f"it has {found.st_size / (1 << 20):.0f} MiB, and {most >> 20} are read")
        if whole:
            yield 0, file.read(RECORD_BYTES + 1)
            return
        number = 0
        while line := file.readline(RECORD_BYTES + 1):
            number += 1
            if line.strip():
                yield number, line
            while line and not line.endswith(b"\n"):  # the rest of one that is too long
                line = file.readline(RECORD_BYTES)


def _kind(mode: int) -> str:
    kinds = {stat.S_IFIFO: "a FIFO", stat.S_IFSOCK: "a socket", stat.S_IFDIR: "a folder"}
    return kinds.get(stat.S_IFMT(mode), "a device")


# --- for others who read records -------------------------------------------------------------------


def schema() -> dict[str, Any]:
    """The JSON Schema of a record: what jaxaccel.records says by types, and what it does not in words."""
    made = msgspec.json.schema(Record)
    for kind in made["$defs"].values():  # docstrings are indented, or not, by Python's version
        kind["description"] = " ".join(str(kind["description"]).split())
    packages = {"type": "object", "additionalProperties": {"type": ["string", "null"], "maxLength": WORDS}}
    block = {"type": "object"}
    environment = made["$defs"]["Record"]["properties"]["environment"]
    environment["properties"] = {
        **{name: {"type": ["string", "null"], "maxLength": WORDS} for name in _TEXTS},
        CODE_PACKAGES: {"type": "array", "items": {"type": "string", "maxLength": WORDS}},
        "gpu": block,
        "framework": block,
        "packages": packages,
        "cpu": {**block, "properties": {"cores": {"type": ["integer", "null"], "minimum": 1}}},
    }
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": "record.schema.json",
        "$comment": "Written by `python -m jaxaccel.records.reading`. Beyond this: case_id is that of the "
        "case; a timing has as many samples as `n` and its rounds say; its median is among them, and inside "
        "its interval; the median of each pass is above 0; texts of a case have no control characters; "
        f"an environment is nested at most {DEPTH} deep.",
        **made,
    }


if __name__ == "__main__":
    sys.stdout.buffer.write(msgspec.json.format(msgspec.json.encode(schema()), indent=2) + b"\n")

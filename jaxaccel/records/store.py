"""Records as files: written whole or not at all, before anything is sent anywhere."""

import os
import tempfile
from collections.abc import Iterable
from itertools import count
from pathlib import Path

from jaxaccel.records import JAX, Record, encode_record, escape
from jaxaccel.records.errors import BadInputError
from jaxaccel.records.reading import RECORD, RECORDS, records_in
from jaxaccel.records.redact import all_without_secrets
from jaxaccel.records.redact.outlets import document
from jaxaccel.records.source import source_digest, without_source


def save(record: Record, folder: Path) -> Path:
    """Write `folder`/record.json. A record of another source, or what is no record, keeps another name."""
    path = folder / RECORD
    set_aside(path)
    _keep_other_source(path, record)
    write_whole(path, encode_record(record) + b"\n")
    return path


def _keep_other_source(path: Path, record: Record) -> None:
    """Rename the record of the same arm that a file holds, if it is of another source."""
    if record.code is None or not path.exists():
        return
    before = next(records_in(path, []), None)
    digest = before and source_digest(before)
    if before is None or digest in (None, record.code.digest) or before.arm.requested != record.arm.requested:
        return
    stem = escape.file_name([path.stem, str(digest)])  # which the record says, and anybody may have written
    names = (f"{stem}{number}{path.suffix}" for number in ("", *(f"-{n}" for n in range(2, 1000))))
    path.rename(next(kept for name in names if not (kept := path.with_name(name)).exists()))


def save_all(records: Iterable[Record], folder: Path) -> Path:
    """Write `folder`/records.jsonl, a record a line. What is there and can't be read stays, as in `save`."""
    path = folder / RECORDS
    set_aside(path)
    write_whole(path, b"".join(encode_record(record) + b"\n" for record in records))
    return path


def set_aside(path: Path) -> None:
    """Rename a file that holds anything but records, so that writing to its path loses nothing."""
    if not os.path.lexists(path):
        return
    skipped = [f"{path} is a folder"] if path.is_dir() else []
    for _ in records_in(path, skipped):
        pass
    if skipped:
        free = (path.with_name(f"{path.name}.unreadable{number or ''}") for number in count())
        path.rename(next(name for name in free if not os.path.lexists(name)))


def load_records(
    places: Iterable[Path | str], skipped: list[str] | None = None, *, peers: bool = False
) -> list[Record]:
    """The records of files (.json, .jsonl) and of all record.json and records.jsonl below folders.

    They are without the secrets of this process, which an earlier jaxaccel may have let into them. A record
    that a sweep wrote twice, alone and in records.jsonl, is there once. What can't be read is passed over and
    added to `skipped`, a line each. Records of other frameworks than JAX, which only jaxaccel.peers can read,
    are included only with `peers`.

    **Raises** BadInputError for a place that does not exist, and, without `skipped`, for what can't be read.
    """
    found: dict[tuple[str, str, str], Record] = {}
    unreadable: list[str] = []
    for place in map(Path, places):
        try:
            for record in map(all_without_secrets, records_in(place, unreadable)):
                if peers or record.arm.framework == JAX:
                    found[record.arm_id, record.sweep_id, record.started_at] = record
        except FileNotFoundError as error:
            raise BadInputError(f"no such file or folder: {place}") from error
    if skipped is not None:
        skipped += unreadable
    elif unreadable:
        raise BadInputError(f"can't be read: {'; '.join(unreadable)}")
    return list(found.values())


def load_if_there(folder: Path) -> Record | None:
    """The record of a folder; None where it has none that can be read."""
    path = folder / RECORD
    return next(iter(load_records([path], [], peers=True)), None) if os.path.lexists(path) else None


def others(folder: Path, records: Iterable[Record]) -> list[Record]:
    """What `folder`/records.jsonl has of other arms than those of `records`."""
    path = folder / RECORDS

    def arm(record: Record) -> tuple[str, str]:
        return without_source(record.case).case_id, record.arm.requested

    known = {arm(record) for record in records}
    before = load_records([path], []) if path.exists() else []
    return [record for record in before if arm(record) not in known]


def write_whole(path: Path, content: bytes) -> None:
    """Write a file so that nobody, whatever breaks, ever sees half of it, nor any secret."""
    content = document(path.name, content)
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        Path(name).chmod(0o644)  # mkstemp's files are for their owner only
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise

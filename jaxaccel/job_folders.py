"""The folders of jobs: none of them holds a record that would be lost, and refused jobs leave none behind."""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from jaxaccel.config import BadInputError
from jaxaccel.reading import RECORD, RECORDS
from jaxaccel.records import DEVICES

# What Hydra writes: of each job, and of a sweep.
CONFIGS, SWEEP = ".hydra", "multirun.yaml"


@contextmanager
def noting_folders() -> Iterator[list[Path]]:
    """The folders that are made meanwhile, parents first.

    Hydra makes folders before a job can be refused, and does not say which of them were there before.
    """
    made: list[Path] = []
    mkdir = os.mkdir

    def noting(path: Any, *arguments: Any, **named: Any) -> None:
        mkdir(path, *arguments, **named)
        made.append(Path(path).absolute())

    os.mkdir = noting
    try:
        yield made
    finally:
        os.mkdir = mkdir


def discard(made: Sequence[Path], folders: Sequence[Path] = ()) -> None:
    """Remove the folders that were `made` for jobs that came to nothing, where only Hydra wrote into them.

    `folders` are the jobs' and the sweep's: of those that were there before, what Hydra wrote is removed
    where nothing else is in them.
    """
    for folder in dict.fromkeys([*reversed(made), *folders]):
        with suppress(OSError):  # it is gone, or can't be written to any more
            if folder.name == CONFIGS and folder in made:
                for path in folder.glob("*.yaml"):
                    path.unlink()
            if [entry.name for entry in folder.iterdir()] == [SWEEP]:
                (folder / SWEEP).unlink()
            if folder in made and not any(folder.iterdir()):
                folder.rmdir()


def is_resumable(folder: Path) -> bool:
    """Whether a folder is empty, or a command has left something in it, were it only its configs."""
    if not any(folder.iterdir()):
        return True
    names = (CONFIGS, SWEEP, RECORD, RECORDS, *(f"{device}/{RECORD}" for device in DEVICES))
    return any((folder / name).exists() for name in names) or any(
        any(folder.glob(f"{below}/{RECORD}")) for below in ("*", "*/*")
    )


def require_no_records(key: str, folder: Path) -> None:
    """Refuse a folder, which `key` names, that holds a record.

    **Raises** BadInputError, with the record's case.
    """
    from jaxaccel.publish.store import load_records

    paths = [folder / RECORDS, *(folder / device / RECORD for device in ("", *DEVICES))]
    for path in filter(Path.is_file, paths):
        held = [f"the record of {record.case}" for record in load_records([path], peers=True)] or ["one"]
        raise BadInputError(
            f"`{key}`: {folder} holds {held[0]} already: choose another folder, or resume={folder}, "
            "which goes on with it"
        )

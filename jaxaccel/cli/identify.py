"""What identifies the files that a case is of."""

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jaxaccel.records import NAMES_OF_CODE
from jaxaccel.records.errors import BadInputError


def contents(path: str, argument: str = "workload.file") -> str:
    """Sixteen hexadecimal digits that identify what is in a file.

    **Raises** BadInputError, naming the argument and the file, where it can't be read.
    """
    try:
        with Path(path).open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()[:16]
    except OSError as error:  # one that comes of reading does not name the file
        raise BadInputError(f"`{argument}`: {path!r} can't be read: {error.strerror or error}") from error


def sources(*functions: Any) -> str | None:
    """Sixteen hexadecimal digits that identify the files of package.module:function below this folder.

    None where there is none of them. What those files import from others is not looked at.
    """
    found = hashlib.sha256()
    paths = set[Path]()
    for function in functions:
        parts = str(function).partition(":")[0].split(".")
        module = Path(*parts)
        paths |= {path for path in (module.with_suffix(".py"), module / "__init__.py") if path.is_file()}
    for path in sorted(paths):
        found.update(path.read_bytes())
    return found.hexdigest()[:16] if paths else None


def own_functions(params: Mapping[str, Any]) -> list[str]:
    """The keys of a workload's parameters that name the user's own functions."""
    own = {"fn", "file", "sha256"} & params.keys()
    return [key for key in NAMES_OF_CODE if own and params.get(key) is not None]

"""What identifies the files that a case is of."""

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jaxaccel.records import NAMES_OF_CODE


def contents(path: str) -> str:
    """Sixteen hexadecimal digits that identify what is in a file."""
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:16]


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

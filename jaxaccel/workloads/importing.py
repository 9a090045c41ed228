"""A person's own function, imported by its name; and what is wrong with that name, in one line."""

import importlib
import inspect
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from jaxaccel.records.function_names import (
    FORMS,
    MAKER,
    Named,
    file_of,
    folders_of,
    locate,
    near,
    usual_folders,
)


class BadCodeError(ValueError):
    """A user's code, or what names it, can't be measured as it is; the message is one line for its author."""


def find(key: str, name: Any, root: str | None = None) -> Callable[..., Any]:
    """The function of that name; `key` is the setting that has it.

    root: the folder that comes first on the import path (see `function_names.Named`).

    **Raises** BadCodeError where there is none, or its module can't be imported.
    """
    if name is None:
        raise BadCodeError(f"`{key}` must be given, as {FORMS}")
    try:
        named = locate(key, name)
    except ValueError as error:
        raise BadCodeError(str(error)) from error
    attribute = named.name.partition(":")[2]
    found: Any = _module(key, named, root or named.root)
    for part in attribute.split("."):
        if not hasattr(found, part):
            others = [other for other in dir(found) if not other.startswith("__")]
            raise BadCodeError(f"`{key}`: {named.module} has no {attribute!r}{_instead(key, part, others)}")
        found = getattr(found, part)
    if inspect.isclass(found):
        raise BadCodeError(f"`{key}` must name a function, got {name!r}, which is a class: call it in one")
    if not callable(found):
        raise BadCodeError(f"`{key}` must name a function, got {name!r}, which is a {type(found).__name__}")
    return found  # type: ignore[no-any-return]


def first_line(error: BaseException) -> str:
    """What an exception says, first of all."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def _instead(key: str, part: str, others: list[str]) -> str:
    close = near(part, others)
    if part == MAKER and not close:
        return f": write it, to return the arguments, or name the function that does: `{key}=NAME`"
    return close


def _module(key: str, named: Named, root: str | None) -> Any:
    name, folders = named.module, folders_of(root)
    _import_from(folders)
    expected = file_of(name, folders)
    try:
        module = importlib.import_module(name)
    except ModuleNotFoundError as error:
        missing = error.name or ""
        if not (name == missing or name.startswith(f"{missing}.")):
            raise BadCodeError(
                f"`{key}`: {name} needs the module {missing!r}, which is not installed"
            ) from error
        if expected is None:
            there = [path.stem for folder in usual_folders() for path in folder.glob("*")]
            raise BadCodeError(
                f"`{key}`: there is no module {missing!r} in {Path.cwd().name}/, nor is one installed"
                f"{near(missing, there)}"
            ) from error
        imported = None
    except (Exception, SystemExit) as error:
        raise BadCodeError(
            f"`{key}`: importing {name} failed with {type(error).__name__}: {first_line(error)}"
        ) from error
    else:
        imported = getattr(module, "__file__", None)
    if expected and not (imported and expected.samefile(imported)):
        raise BadCodeError(
            f"`{key}`: {expected.name} can't be imported as {name!r}: Python has another module of that "
            "name already; rename the file"
        )
    return module


def _import_from(folders: Sequence[Path]) -> None:
    """Put these folders first on the import path."""
    first = [str(folder) for folder in folders]
    sys.path[:] = [*first, *(entry for entry in sys.path if entry not in first)]
    importlib.invalidate_caches()  # a file may be newer than what Python knows of its folder

"""Text and data without secrets: those that this process knows (`values`), and those of a form (`formats`).

Whatever leaves the process passes through here: files and folders in `outlets`, text in
`jaxaccel.process.streams`.
"""

import os
import re
import sys
from collections.abc import Mapping
from dataclasses import fields, is_dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

from jaxaccel.records.redact import formats, values
from jaxaccel.records.redact.formats import HIDDEN
from jaxaccel.records.redact.names import is_secret
from jaxaccel.records.redact.values import Secrets, learn

__all__ = [
    "HIDDEN",
    "all_without_secrets",
    "holds_secret",
    "is_secret",
    "learn",
    "secret_in",
    "without_places",
    "without_secrets",
]
T = TypeVar("T")


def without_secrets(text: str, *, numbers: bool = True) -> str:
    """The text with `***` in place of each secret.

    numbers: also of passwords that look like numbers, which a table may hold by chance.
    """
    return values.known().hide(text, numbers=numbers)


def holds_secret(text: str) -> bool:
    """Whether a text holds a secret. One that looks like a number does not count: a size may be the same."""
    return without_secrets(text, numbers=False) != text


def secret_in(text: str) -> str | None:
    """What secret a text holds, in words; None where it holds none."""
    if not holds_secret(text):
        return None
    for name, value in os.environ.items():
        if is_secret(name) and value in text and values.kind_of(value) is not values.Kind.never:
            return f"the value of {name}"
    return next((name for name, _, _ in formats.spans(text)), "a secret")


def all_without_secrets(value: T) -> T:
    """The same of every text in nested lists, mappings (their names too) and dataclasses; all else as it is.

    The same object where nothing had to be hidden.
    """
    hidden: T = _hidden(value, values.known())
    return hidden


def _hidden(value: Any, secrets: Secrets) -> Any:
    if isinstance(value, str):
        # Of an enumeration, it is a word of ours.
        hidden = secrets.hide(value) if type(value) is str else value
        return value if hidden == value else hidden
    if isinstance(value, Mapping):
        entries: dict[Any, Any] = {}
        for name, entry in value.items():
            shown = secrets.hide_name(name) if type(name) is str else name
            while shown in entries or (shown != name and shown in value):  # two names that are hidden alike
                shown += "_"
            entries[shown] = _entry(name, entry, secrets)
        same = all(new is old for new, old in zip(entries.values(), value.values(), strict=True))
        return value if same and entries.keys() == value.keys() else entries
    if isinstance(value, list | tuple):
        if {*map(type, value)} <= {int, float}:  # of which records have thousands
            return value
        new = [_hidden(entry, secrets) for entry in value]
        if all(one is other for one, other in zip(new, value, strict=True)):
            return value
        return new if isinstance(value, list) else tuple(new)
    if is_dataclass(value) and not isinstance(value, type):
        before = {entry.name: getattr(value, entry.name) for entry in fields(value)}
        after = {name: _hidden(entry, secrets) for name, entry in before.items()}
        changed = {name: entry for name, entry in after.items() if entry is not before[name]}
        return replace(value, **changed) if changed else value
    return value


def _entry(name: Any, value: Any, secrets: Secrets) -> Any:
    """The value of a name, which may be a label such as `password`."""
    if isinstance(value, str) and formats.is_label(name) and values.kind_of(value) is not values.Kind.never:
        return HIDDEN
    return _hidden(value, secrets)


def without_places(text: str) -> str:
    """The text without secrets, and without the folders that lead to people's files.

    These are home, the folder one is in, Python's own, and that of caches, where XDG_CACHE_HOME names one.
    """
    text = without_secrets(text)  # first: a secret may hold one of the folders
    folders = {str(Path.home()): "~", str(Path.cwd()): ".", sys.prefix: "PYTHON", sys.base_prefix: "PYTHON"}
    caches = Path(os.environ.get("XDG_CACHE_HOME", ""))
    if caches.is_absolute():  # else it is to be ignored, says the XDG Base Directory Specification
        folders.setdefault(str(caches), "CACHE")
    for folder in sorted(folders, key=len, reverse=True):  # the longest first, for one may hold another
        if Path(folder).name:  # not the root of all folders
            text = re.sub(rf"{re.escape(folder)}(?![\w.-])", folders[folder], text)
    return text

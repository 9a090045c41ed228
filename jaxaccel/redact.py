"""Text without secrets: no value of a secret environment variable, no credentials in a URL."""

import os
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

HIDDEN = "***"
# PWD itself is the folder one is in. A shortest value, for "1" or "true" would spoil every text.
_SECRET = re.compile(
    r"KEY|TOKEN|SECRET|PASS|CREDENTIAL|AUTH(?!OR(?!IZ))|JWT|COOKIE|WEBHOOK|(^|_)PW$|(^|_)PAT$|.PWD$|DSN$|DATABASE_URL|CONNECTION_STRING",
    re.IGNORECASE,
)
_NOT_SECRET = frozenset({"PWD", "OLDPWD"})
_SHORTEST = 6
_LONG = 16  # as real keys are: a shorter value may be a word that means something else elsewhere
# user:password@ of a URL, or user@
_IN_URL = re.compile(r"(?<=://)[^/\s\"'<>]+@")


def is_secret(name: str) -> bool:
    """Whether an environment variable is named like one that holds a secret."""
    return name.upper() not in _NOT_SECRET and _SECRET.search(name) is not None


def holds_secret(text: str) -> bool:
    """Whether a long value of a secret environment variable is in the text, or credentials in a URL."""
    return bool(_IN_URL.search(text)) or any(
        value in text for name, value in os.environ.items() if len(value) >= _LONG and is_secret(name)
    )


def without_secrets(text: str) -> str:
    """The text, in which no value stands of an environment variable that is named like a secret.

    Nor do the user and password of any URL.
    """
    return _hide(text, _secrets())


def all_without_secrets(value: Any) -> Any:
    """The same of every text in nested lists and mappings; all else as it is."""
    secrets = _secrets()

    def hide(value: Any) -> Any:
        if isinstance(value, str):
            return _hide(value, secrets)
        if isinstance(value, Mapping):
            return {name: hide(entry) for name, entry in value.items()}
        if isinstance(value, list | tuple):
            return [hide(entry) for entry in value]
        return value

    return hide(value)


def without_places(text: str) -> str:
    """The text without secrets, and without the folders that lead to people's files.

    These are home, the folder one is in, Python's own, and that of caches, where XDG_CACHE_HOME names one.
    """
    folders = {str(Path.home()): "~", str(Path.cwd()): ".", sys.prefix: "PYTHON", sys.base_prefix: "PYTHON"}
    caches = Path(os.environ.get("XDG_CACHE_HOME", ""))
    if caches.is_absolute():  # else it is to be ignored, says the XDG Base Directory Specification
        folders.setdefault(str(caches), "CACHE")
    for folder in sorted(folders, key=len, reverse=True):  # the longest first, for one may hold another
        if Path(folder).name:  # not the root of all folders
            text = re.sub(rf"{re.escape(folder)}(?![\w.-])", folders[folder], text)
    return without_secrets(text)


def _secrets() -> list[str]:
    """The longest first, for one may hold another."""
    found = {value for name, value in os.environ.items() if len(value) >= _SHORTEST and is_secret(name)}
    return sorted(found, key=len, reverse=True)


def _hide(text: str, secrets: Sequence[str]) -> str:
    for secret in secrets:
        text = text.replace(secret, HIDDEN)
    return _IN_URL.sub(f"{HIDDEN}@", text)

"""Text without secrets: no value of a secret environment variable, no credentials in a URL."""

import os
import re
from collections.abc import Mapping
from typing import Any

HIDDEN = "***"
# PWD itself is the folder one is in. A shortest value, for "1" or "true" would spoil every text.
_SECRET = re.compile(
    r"KEY|TOKEN|SECRET|PASS|CREDENTIAL|AUTH(?!OR)|(^|_)PAT$|.PWD$|DSN$|DATABASE_URL|CONNECTION_STRING",
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
    secrets = {value for name, value in os.environ.items() if len(value) >= _SHORTEST and is_secret(name)}
    for value in sorted(secrets, key=len, reverse=True):  # one may hold another
        text = text.replace(value, HIDDEN)
    return _IN_URL.sub(f"{HIDDEN}@", text)


def all_without_secrets(value: Any) -> Any:
    """The same of every text in nested lists and mappings; all else as it is."""
    if isinstance(value, str):
        return without_secrets(value)
    if isinstance(value, Mapping):
        return {name: all_without_secrets(entry) for name, entry in value.items()}
    if isinstance(value, list | tuple):
        return [all_without_secrets(entry) for entry in value]
    return value

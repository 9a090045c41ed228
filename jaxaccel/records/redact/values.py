"""The secrets that this process knows: values of its environment, and those of .netrc.

Not every value of a variable that is named like a secret can be hidden: `true` or `/usr/lib` would blank out
half of what is said. `kind_of` decides.
"""

import base64
import enum
import html
import json
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, fields, is_dataclass
from functools import cache, lru_cache
from itertools import pairwise
from pathlib import Path
from typing import Any
from urllib.parse import quote, quote_plus, unquote

from jaxaccel import records
from jaxaccel.records.redact import formats
from jaxaccel.records.redact.formats import HIDDEN
from jaxaccel.records.redact.names import is_password, is_secret

SHORTEST = 6
LONG = 16  # no word of a text is so long
_PART = 8  # of a value that is a list
_SHORT, _REMEMBERED = 500, 20_000  # records say the same in many texts: characters of those, and how many
_WORD = re.compile(r"[A-Z]?[a-z]+|[A-Z]+")
_NUMBER = re.compile(r"[\d.,:+\-eE_ ]+")
# Values of settings that say nothing.
_SETTINGS = frozenset(
    {
        *(
            "disabled",
            "enabled",
            "default",
            "defaults",
            "required",
            "optional",
            "always",
            "never",
            "automatic",
        ),
        *("secret", "secrets", "password", "bearer", "basic", "sha256", "ed25519", "oauth2", "keyring"),
        *("production", "development", "testing", "staging", "localhost", "anonymous", "public", "private"),
        *("github", "google", "amazon", "system", "changeme"),
    }
)


class Kind(enum.Enum):
    """How a value is hidden: wherever it is, where it is a word, where it is a number in words, or not."""

    anywhere = enum.auto()
    word = enum.auto()
    number = enum.auto()
    never = enum.auto()


@cache
def our_words() -> frozenset[str]:
    """The words that records are made of: names of fields, and what some of them may be.

    A value that is one of them, as PASSWORD=latency, is not hidden: records could not be read any more.
    """
    words = {*_SETTINGS, "jaxaccel"}
    for name, found in vars(records).items():
        if isinstance(found, str) and name.isupper():
            words.add(found)
        elif isinstance(found, type) and issubclass(found, enum.Enum):
            words |= {str(member) for member in found}
        elif isinstance(found, type) and is_dataclass(found):
            words |= {entry.name for entry in fields(found)}
    folder = Path(records.__file__).parent.parent / "workloads"
    words |= {path.stem for path in folder.glob("*.py")}
    words |= {"float32", "float64", "float16", "bfloat16", "highest", "direct", "declared", "profiler"}
    return frozenset(words)


def kind_of(value: str) -> Kind:
    """How a value of a variable that is named like a secret is to be hidden."""
    if len(value) < SHORTEST or len(set(value)) < 3 or not re.search(r"\w", value):
        return Kind.never
    if value in our_words() or value.lower() in _SETTINGS or _is_path(value):
        return Kind.never
    if len(value) >= LONG:
        return Kind.anywhere
    if _NUMBER.fullmatch(value):
        return Kind.number
    return Kind.word if _WORD.fullmatch(value) else Kind.anywhere


def is_setting(value: str) -> bool:
    """Whether a value is that of a setting about secrets, however it is named: a switch, a number, a path."""
    small = value.strip().lower()
    short = {"", "0", "1", "true", "false", "yes", "no", "on", "off", "none", "null", "auto"}
    return small in short | _SETTINGS or bool(_NUMBER.fullmatch(value)) or _is_path(value)


def _is_path(value: str) -> bool:
    """Whether it is the path of something, or a list of them. Random text may begin with a slash, too."""
    return all(
        part.startswith(("/", "~/", "./", "../")) and _is_there(part) for part in value.split(os.pathsep)
    )


def _is_there(name: str) -> bool:
    try:
        path = Path(name).expanduser()
        return path.exists() or (len(path.parts) > 2 and path.parent.is_dir())
    except (OSError, ValueError, RuntimeError):
        return False


@dataclass(frozen=True, kw_only=True)
class Secrets:
    """Texts to be hidden, the longest first, for one may hold another: anywhere, as words, as numbers."""

    anywhere: tuple[str, ...]
    words: tuple[re.Pattern[str], ...]
    numbers: tuple[re.Pattern[str], ...]
    _seen: dict[tuple[str, bool], str] = field(default_factory=dict)

    def hide(self, text: str, *, numbers: bool = True) -> str:
        """The text with `***` in place of each secret; `numbers`: also of those that look like one."""
        if len(text) > _SHORT:
            return self._hide(text, numbers)
        if (text, numbers) not in self._seen:
            if len(self._seen) > _REMEMBERED:
                self._seen.clear()
            self._seen[text, numbers] = self._hide(text, numbers)
        return self._seen[text, numbers]

    def hide_name(self, name: str) -> str:
        """The name of a value, with `hidden`, which may stand in a name, in place of what is surely a secret.

        A password that is a word may be a name of ours, without which a record could not be read.
        """
        found = formats.without(name)
        for secret in self.anywhere:
            found = found.replace(secret, HIDDEN)
        return name if found == name else found.replace(HIDDEN, "hidden")

    def _hide(self, text: str, numbers: bool) -> str:
        for secret in self.anywhere:
            if secret in text:
                text = text.replace(secret, HIDDEN)
        for pattern in (*self.words, *(self.numbers if numbers else ())):
            text = pattern.sub(HIDDEN, text)
        return formats.without(text)


def secrets_of(values: Iterable[str]) -> Secrets:
    """What is to be hidden of these values."""
    found: dict[str, Kind] = {value: kind for value in values if (kind := kind_of(value)) is not Kind.never}
    anywhere = {value for value, kind in found.items() if kind is Kind.anywhere}
    for value, kind in found.items():
        if kind is not Kind.number:
            anywhere |= {form for form in written(value) if len(form) >= SHORTEST and form != value}
    return Secrets(
        anywhere=tuple(sorted(anywhere, key=lambda text: (-len(text), text))),
        words=tuple(
            re.compile(rf"(?<![A-Za-z0-9]){re.escape(value)}(?![A-Za-z0-9])")
            for value, kind in sorted(found.items())
            if kind is Kind.word
        ),
        numbers=tuple(
            re.compile(rf"(?<![\w.]){re.escape(value)}(?![\w.]*\w)")
            for value, kind in sorted(found.items())
            if kind is Kind.number
        ),
    )


def written(value: str) -> Iterator[str]:
    """How a value stands in outputs that encode it: JSON, Python, a shell, a URL, HTML, base64."""
    yield json.dumps(value)[1:-1]
    yield json.dumps(value, ensure_ascii=False)[1:-1]
    yield repr(value)[1:-1]
    yield ascii(value)[1:-1]
    yield value.replace("'", "'\"'\"'")
    for safe in ("", "/"):
        yield quote(value, safe=safe)
    yield quote_plus(value)
    yield html.escape(value)
    yield html.escape(value, quote=False)
    yield from _in_base64(value.encode(errors="surrogateescape"))


def _in_base64(content: bytes) -> Iterator[str]:
    """What does not depend on the text around it, for each place at which it may begin."""
    for before in range(3):
        told = base64.b64encode(bytes(before) + content).decode().rstrip("=")
        first, last = (before * 8 + 5) // 6, (before + len(content)) * 8 // 6
        part = told[first:last]
        yield part
        yield part.translate(str.maketrans("+/", "-_"))


# --- where they come from --------------------------------------------------------------------------

_learned: set[str] = set()


def learn(environment: Mapping[str, str]) -> None:
    """Remember the secrets of an environment that will be another one: own code may set variables."""
    _learned.update(values_in(environment))


def known() -> Secrets:
    """The secrets of this process now."""
    return _known(tuple(os.environ.items()), netrc_path(), frozenset(_learned))


@lru_cache(maxsize=4)
def _known(environment: tuple[tuple[str, str], ...], netrc: Path, learned: frozenset[str]) -> Secrets:
    return secrets_of({*values_in(dict(environment)), *values_in_netrc(netrc), *learned})


def values_in(environment: Mapping[str, str]) -> Iterator[str]:
    """The secret values in an environment: of variables that are named so, and within other ones."""
    for name, value in environment.items():
        if is_secret(name) and (is_password(name) or kind_of(value) is not Kind.number):
            yield from _parts(value)
        yield from formats.labelled(value)
        for credentials in formats.in_urls(value):
            password = credentials.partition(":")[2] or credentials
            yield from (password, unquote(password))


def _parts(value: str) -> Iterator[str]:
    """A value, its lines, and what it is a list of: several keys, a user and a password, JSON."""
    text = value.strip().strip("\"'")
    yield from (value, text)
    if text.startswith(("{", "[")):
        try:
            yield from _leaves(json.loads(text), named=False)
        except ValueError:
            pass
        else:
            return
    if "://" in text:
        return
    for line in text.splitlines() if "\n" in text else ():
        if len(line.strip()) >= LONG and not line.startswith("-----"):
            yield line.strip()
    for part in re.split(r"[\s,;:]+", text):
        if len(part) >= _PART and kind_of(part) is Kind.anywhere and not part.startswith("-----"):
            yield part
    user, colon, password = text.partition(":")
    if colon and re.fullmatch(r"[\w.@-]+", user) and "\n" not in password:
        yield password


def _leaves(value: Any, *, named: bool) -> Iterator[str]:
    """The texts in JSON that are named like a secret."""
    if isinstance(value, str) and named:
        yield from (value, *(line for line in value.splitlines() if len(line) >= LONG))
    elif isinstance(value, Mapping):
        for name, entry in value.items():
            yield from _leaves(entry, named=named or is_secret(name))
    elif isinstance(value, list):
        for entry in value:
            yield from _leaves(entry, named=named)


def netrc_path() -> Path:
    """Where passwords of hosts are, W&B's key among them."""
    named = os.environ.get("NETRC")
    if named:
        return Path(named)
    home = Path(os.environ.get("HOME") or "~").expanduser()
    usual = home / ".netrc"
    return usual if usual.exists() else home / "_netrc"


@lru_cache(maxsize=4)
def values_in_netrc(path: Path) -> tuple[str, ...]:
    """The passwords in such a file; none where it can't be read."""
    try:
        words = path.read_text(errors="replace").split() if path.is_file() else []
    except OSError:
        return ()
    pairs = pairwise(words)
    return tuple(value.strip('"') for key, value in pairs if key in ("password", "account"))

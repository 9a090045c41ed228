"""Checks of single values, which name the argument, the value and what is allowed."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, fields
from typing import Any

# More than these is a slip of the hand: nobody waits for it.
DAY_S = 86_400
MONTH_S = 30 * DAY_S
MOST_SIZE = 2**62  # that a record can hold


def _require(group: str, values: Mapping[str, Any], names: Sequence[str]) -> None:
    """Refuse a mapping that lacks one of these."""
    for name in names:
        if name not in values:
            raise ValueError(f"`{f'{group}.' * bool(group)}{name}` is missing")


def only_known(kind: type[Any], group: str, values: Mapping[str, Any]) -> Any:
    """A `kind` made from `values`, refusing keys that it does not have, and the lack of those it needs."""
    if not isinstance(values, Mapping):
        raise ValueError(f"`{group}` must be a group of keys and values, got {values!r}")
    known = [entry.name for entry in fields(kind)]
    for key in values:
        if key not in known:
            raise ValueError(f"unknown key `{group}.{key}`; `{group}` has {', '.join(known)}")
    needed = [entry.name for entry in fields(kind) if entry.default is entry.default_factory is MISSING]
    _require(group, values, needed)
    return kind(**values)


def choice(kind: type[Any], name: str, value: Any) -> Any:
    """The member of the enumeration `kind` that `value` names."""
    choices = [str(member) for member in kind]
    if str(value) not in choices:
        raise ValueError(f"`{name}` must be one of {', '.join(choices)}, got {value!r}")
    return kind(str(value))


def whole_number(name: str, value: Any) -> int:
    """An integer from what Hydra parsed: 4096, or 1e6, but not 1.5, nan or text."""
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    if isinstance(value, float) and math.isfinite(value) and value == int(value):
        return int(value)
    raise ValueError(f"`{name}` must be a whole number, got {value!r}")


def require_positive(name: str, value: Any, most: float = MONTH_S) -> None:
    """Refuse anything but a finite number above zero, of at most `most`."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < math.inf:
        raise ValueError(f"`{name}` must be a number above 0, got {_shown(value)}")
    _require_at_most(name, value, most)


def require_whole(
    name: str, value: Any, most: int, least: int = 1, allowed: str = "a positive whole number"
) -> None:
    """Refuse anything but a whole number from `least` to `most`; `allowed` says which may be."""
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise ValueError(f"`{name}` must be {allowed}, got {_shown(value)}")
    _require_at_most(name, value, most)


def _require_at_most(name: str, value: float, most: float) -> None:
    if value > most:
        raise ValueError(f"`{name}` must be at most {most}, got {_shown(value)}")


def _shown(value: Any) -> str:
    """A value in a message; a whole number of many digits by the first of them."""
    text = repr(value)
    many = isinstance(value, int) and len(text) > 25
    return f"{text[:15]}… ({len(text.lstrip('-'))} digits)" if many else text


def require_texts(name: str, values: Any, or_else: str = "") -> None:
    """Refuse anything but a list of texts that has at least one."""
    if not isinstance(values, list | tuple) or not values or not all(isinstance(v, str) for v in values):
        raise ValueError(f"`{name}` must be a list of at least one{or_else}, got {values!r}")


def require_text(name: str, value: Any) -> None:
    """Refuse anything but a text that is not empty."""
    if not isinstance(value, str) or not value:
        raise ValueError(f"`{name}` must be a text that is not empty, got {value!r}")

"""What the commands that only read records share: which records, which cases, which prices and project."""

import math
import re
from collections.abc import Callable, Mapping, Sequence
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING

from jaxaccel.cli.spelling import plain_values, split_values
from jaxaccel.process.saying import warn
from jaxaccel.records import JAX, escape
from jaxaccel.records.errors import BadInputError
from jaxaccel.wandb.config import PROJECT, WandbConfig, WandbMode

if TYPE_CHECKING:
    from jaxaccel.analyze.money import Prices
    from jaxaccel.records import Record


def load_and_tell(places: "Sequence[Path | str]", *, peers: bool = False) -> "list[Record]":
    """The records of files and folders; what can't be read is passed over, and named on standard error.

    **Raises** BadInputError for a place that does not exist.
    """
    from jaxaccel.records.store import load_records

    skipped: list[str] = []
    records = load_records(places, skipped, peers=peers)
    tell_skipped(skipped)
    return records


def tell_skipped(skipped: Sequence[str], at_most: int = 3) -> None:
    """Say in one line what could not be read, and how much."""
    if not skipped:
        return
    more = len(skipped) - at_most
    named = "; ".join(skipped[:at_most]) + (f"; and {more} more" if more > 0 else "")
    what = f"{len(skipped)} records" if len(skipped) > 1 else "a record"
    warn(f"passed over {what} that can't be read: {named}")


def load(argument: str, places: Sequence[str], skipped: list[str] | None = None) -> "list[Record]":
    """The records of files and folders.

    What can't be read is passed over, named in one line on standard error, and added to `skipped`. Records of
    other frameworks than JAX are left out: those who ask which device should run JAX ask nothing about them.

    **Raises** BadInputError, naming the argument, for a place without records of JAX.
    """
    from jaxaccel.records.store import load_records

    found: list[Record] = []
    unreadable: list[str] = []
    for place in places:
        before = len(unreadable)
        try:
            records = load_records([place], unreadable, peers=True)
        except (OSError, ValueError) as error:
            raise BadInputError(f"`{argument}`: {str(error).splitlines()[0]}") from error
        if not records and (why := unreadable[before:]):
            more = f"; and {len(why) - 1} more" if len(why) > 1 else ""
            raise BadInputError(f"`{argument}`: {why[0]}{more}")
        if not records:
            raise BadInputError(f"`{argument}` must hold record.json or records.jsonl, got {place!r}")
        found += _of_jax(argument, place, records)
    tell_skipped(unreadable)
    if skipped is not None:
        skipped += unreadable
    return found


def _of_jax(argument: str, place: str, records: "Sequence[Record]") -> "Sequence[Record]":
    """Those of JAX; how many others there are is said."""
    ours = [record for record in records if record.arm.framework == JAX]
    if len(ours) < len(records):
        others = ", ".join(dict.fromkeys(r.arm.framework for r in records if r.arm.framework != JAX))
        command = escape.shell(["python", "-m", "jaxaccel.peers", "report", place])
        said = f"{len(records) - len(ours)} records of {others}: see {command}"
        if not ours:
            raise BadInputError(f"`{argument}` must hold records of JAX, got {said}")
        warn(f"left out: {said}")
    return ours


def choose(
    sides: "Sequence[Sequence[Record]]", only: Mapping[str, tuple[str, ...]], option: str = "--only "
) -> "list[Sequence[Record]]":
    """Of each side, the records of cases that have one of the values asked for, of each key in `only`.

    `option` is what stands before KEY=VALUE on the command line.

    **Raises** BadInputError for a key or value that no case of any side has.
    """
    if not only:
        return [*sides]
    from jaxaccel.render.files import case_columns

    def columns(record: "Record") -> dict[str, str]:
        found = case_columns(record.case) | dict(record.case.params)
        return {name: str(value) for name, value in found.items() if name != "params"}

    known_of = [[(record, columns(record)) for record in side] for side in sides]
    everything = [column for side in known_of for _, column in side]
    for name, values in only.items():
        known = dict.fromkeys(column[name] for column in everything if name in column)
        if not known:
            names = ", ".join(dict.fromkeys(key for column in everything for key in column))
            raise BadInputError(f"`{option}KEY=` must name some of {names}, got {name!r}")
        if unknown := [value for value in values if _same(value) not in map(_same, known)]:
            raise BadInputError(f"`{option}{name}=` must be of {', '.join(known)} here, got {unknown[0]!r}")
    chosen = [
        [record for record, column in side if all(chooses(only[name], column.get(name)) for name in only)]
        for side in known_of
    ]
    if not any(chosen):
        raise BadInputError(f"`{option}KEY=` must leave some cases; none has {' '.join(words_of(only))}")
    return [*chosen]


def chooses(values: Sequence[str], value: str | None) -> bool:
    """Whether a case's value is among those asked for."""
    return value is not None and _same(value) in map(_same, values)


def _same(text: str) -> str | float:
    """What two spellings of one value have in common: 1e3 and 1000.0, true and True, [1,2] and [1, 2]."""
    try:
        number = float(text)
    except ValueError:
        plain = text.casefold().replace("none", "null")
        return plain if plain in ("true", "false", "null") else text.replace(" ", "")
    return number if math.isfinite(number) else text  # 12e345678901 is a case's id


def words_of(only: Mapping[str, tuple[str, ...]]) -> list[str]:
    """What was asked for, as on the command line."""
    return [f"{name}={','.join(values)}" for name, values in only.items()]


def given_prices(
    texts: Sequence[str], day: str | None, currency: str | None, today: Callable[[], date]
) -> "Prices":
    """The prices that --price, --price-date and --currency give.

    **Raises** ValueError, naming the option, for what is none, and for a device that has two.
    """
    from jaxaccel.analyze.money import Prices, check_currency, check_date, read_price

    per_hour: dict[str, float] = {}
    for text in texts:
        device, price = read_price("--price", text)
        if device in per_hour:
            raise ValueError(
                f"`--price` must be given once a device, got {text!r} beside another of {device}"
            )
        per_hour[device] = price
    if day is not None:
        check_date("--price-date", day)
    if currency is not None:
        check_currency("--currency", currency)
    return Prices(per_hour=per_hour, date=day or today().isoformat(), currency=currency)


def given_project(name: str, text: str | None) -> WandbConfig:
    """The W&B project that PROJECT or ENTITY/PROJECT names; the usual one where `text` is None.

    **Raises** ValueError where it is neither.
    """
    entity, slash, project = (PROJECT if text is None else text).rpartition("/")
    if not project or (slash and not entity) or re.search(r"[\\/#?%:\s]", f"{entity}{project}"):
        raise ValueError(f"`{name}` must be PROJECT or ENTITY/PROJECT, got {text!r}")
    return WandbConfig(mode=WandbMode.online, project=project, entity=entity or None)


def parse_only(name: str, words: Sequence[str]) -> Mapping[str, tuple[str, ...]]:
    """Which values are wanted of each key, from words such as size=256,1024 and fn=FILE.py:NAME.

    **Raises** ValueError for a word without a key, or without a value, and a file that is not there.
    """
    found: dict[str, tuple[str, ...]] = {}
    for word in words:
        key, _, text = word.partition("=")
        values = tuple(map(str.strip, split_values(text)))
        if not key or not all(values):
            raise ValueError(f"`{name}` must be KEY=VALUE, or KEY=VALUE,VALUE, got {word!r}")
        found[key] = (*found.get(key, ()), *values)
    return plain_values(found)

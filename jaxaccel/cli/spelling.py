"""Own code on the command line: `fn=FILE.py:NAME` is short for `workload=custom workload.fn=FILE.py:NAME`.

Arguments are written out before Hydra reads them (`expand`); messages name them as typed (`as_typed`).
"""

import functools
import os
import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from jaxaccel.cli.identify import own_functions
from jaxaccel.hardware.nvml import open_gpu
from jaxaccel.records import NAMES_OF_CODE, Record
from jaxaccel.records.errors import BadInputError
from jaxaccel.records.function_names import Named, common_root, locate
from jaxaccel.session.worker_process import gpu_plugins

SHORT = (*NAMES_OF_CODE, "carry", "static", "tolerance", "flops", "bytes")
MULTIRUN = ("-m", "--multirun")
_LONG = "workload."
_OF_OWN_CODE = ("custom", "exported")
# What Hydra is to read as it is: an interpolation, a text in quotes, nothing, or a function over a sweep.
_HYDRA_S = re.compile(r"""\s*(|null|["'].*|.*\$\{.*|\w+\(.*\))\s*""", re.DOTALL)


def expand(arguments: Sequence[str]) -> list[str]:
    """The arguments as Hydra reads them: own code in full, with the names of functions in quotes.

    With `fn`, the device is both where there is a GPU that JAX could use.

    **Raises** BadInputError for what can't go together.
    """
    _check(arguments)
    found, added = list[str](), list[str]()
    if _value("fn", arguments) is not None:
        added = ["workload=custom"] if _value("workload", arguments) is None else []
        added += [f"device={device}"] if (device := device_of(arguments)) else []
    for argument in arguments:
        found.append(_expanded(argument))
        if argument.startswith("fn="):  # beside it: Hydra takes KEY=VALUE from one place
            found, added = [*found, *added], []
    return found


def device_of(arguments: Sequence[str]) -> str | None:
    """The default `device` of own code; None where the arguments or an experiment name one."""
    said = ("device", "device.arms", "experiment")
    if _value("fn", arguments) is None or any(_value(key, arguments) is not None for key in said):
        return None
    return "both" if has_gpu() else "cpu"


@functools.cache
def has_gpu() -> bool:
    """Whether there seems to be a GPU that JAX could use, found out without importing JAX."""
    wanted = os.environ.get("JAX_PLATFORMS", "")
    for platform in gpu_plugins():
        if wanted and not {platform, "gpu"} & set(wanted.split(",")):
            continue
        if platform == "cuda":
            gpu = open_gpu()
            if not isinstance(gpu, str):
                gpu.close()
                return True
        elif platform != "rocm" or Path("/dev/kfd").exists():  # where AMD's driver is
            return True
    return False


def as_typed(text: str, arguments: Sequence[str]) -> str:
    """The text, with own code's arguments and files named as they are in `arguments`."""
    for argument in arguments:
        if (written := _expanded(argument)) != argument:
            text = text.replace(written, argument)
    short = [key for key in SHORT if _value(key, arguments) is not None]
    if short:
        keys = "|".join(key for key in SHORT if _value(_LONG + key, arguments) is None)
        text = re.sub(rf"(?<![\w.]){re.escape(_LONG)}({keys})\b", r"\1", text)
    for name, typed in _files(arguments):  # not those of a case, whose key stands before it
        text = re.sub(rf"(?<![\w.:/=-]){re.escape(name)}(?!\w)", lambda _, typed=typed: typed, text)  # type: ignore[misc]
    return text


def words_of(record: Record) -> list[str]:
    """The words of a record's command; none where that is no command line."""
    try:
        return shlex.split(record.command)
    except ValueError:
        return []


def in_words_typed(record: Record) -> Record:
    """The record, with its errors, flags and reasons in the words of its command."""
    arguments = words_of(record)

    def said(text: str | None) -> str | None:
        return text and as_typed(text, arguments)

    error = record.error and replace(
        record.error, message=as_typed(record.error.message, arguments), hint=said(record.error.hint)
    )
    flags = [replace(flag, message=as_typed(flag.message, arguments)) for flag in record.warnings]
    return replace(
        record,
        error=error,
        warnings=tuple(dict.fromkeys(flags)),
        absent={name: as_typed(reason, arguments) for name, reason in record.absent.items()},
    )


def root_of(record: Record) -> str | None:
    """The folder from which the functions of a record's case were imported first, by its command.

    None where the usual folders do, or a file is not there any more.
    """
    words = words_of(record)
    named: list[Named] = []
    for key in own_functions(record.case.params):
        texts = [text for long in ("", _LONG) for text in split_values(_value(long + key, words) or "")]
        for text in texts:
            with suppress(ValueError):
                named.append(locate(key, text.strip(" '\"")))
    with suppress(ValueError):
        return common_root("fn", [one for one in named if one.name in record.case.params.values()])
    return None


def plain_values(only: Mapping[str, tuple[str, ...]]) -> dict[str, tuple[str, ...]]:
    """Of keys and values that choose cases: the names that cases have for own code, and for `workload.KEY`.

    **Raises** ValueError for a file that is not there.
    """
    found: dict[str, tuple[str, ...]] = {}
    modules = {locate("fn", value).module for value in (*only.get("fn", ()), *only.get(f"{_LONG}fn", ()))}
    beside = modules.pop() if len(modules) == 1 else None
    for key, values in only.items():
        name = key.removeprefix(_LONG)
        if name in NAMES_OF_CODE:
            named = [value if value == "null" else locate(key, value, beside=beside).name for value in values]
            values = tuple(named)
        found[name] = (*found.get(name, ()), *values)
    return found


def split_values(text: str) -> list[str]:
    """The values of a list of them: at each comma that is in no brackets and no quotes."""
    parts, depth, quote = [""], 0, ""
    for sign in text:
        if quote:
            quote = "" if sign == quote else quote
        elif sign in "'\"":
            quote = sign
        depth += (sign in "([{") - (sign in ")]}") if not quote else 0
        if sign == "," and not depth and not quote:
            parts.append("")
        else:
            parts[-1] += sign
    return parts


def _check(arguments: Sequence[str]) -> None:
    short = [key for key in SHORT if _value(key, arguments) is not None]
    for key in short:
        if _value(_LONG + key, arguments) is not None:
            raise BadInputError(f"`{key}` is short for `{_LONG}{key}`: give one of them, not both")
    workload = _value("workload", arguments)
    if "fn" in short and workload not in (None, "custom"):
        raise BadInputError(
            f"`workload` must be left out beside `fn`, which is a function of your own, got {workload!r}"
        )
    given = any(_value(key, arguments) is not None for key in ("workload", f"{_LONG}fn", "experiment"))
    if short and "fn" not in short and not given:
        raise BadInputError(
            f"`{short[0]}` belongs to a function of your own: add fn=FILE.py:NAME or fn=module:NAME"
        )


def _expanded(argument: str) -> str:
    key, equals, value = argument.partition("=")
    name = key.removeprefix(_LONG)
    if not equals or name not in SHORT:
        return argument
    return f"{_LONG}{name}={_quoted(value) if name in NAMES_OF_CODE else value}"


def _quoted(value: str) -> str:
    """Names in quotes, each of a list: Hydra would make a number of one, and can't read a ~ or a blank."""
    return ",".join(
        part if _HYDRA_S.fullmatch(part) else "'" + part.strip().replace("'", r"\'") + "'"
        for part in split_values(value)
    )


def _value(key: str, arguments: Sequence[str]) -> str | None:
    """The last value given for a key; None where the key is not given."""
    found = [argument.partition("=")[2] for argument in arguments if argument.startswith(f"{key}=")]
    return found[-1] if found else None


def _files(arguments: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Each function that was named by its file, as cases have it and as it was typed."""
    for argument in arguments:
        key, equals, value = argument.partition("=")
        if equals and key.removeprefix(_LONG) in NAMES_OF_CODE:
            for typed in map(str.strip, split_values(value)):
                try:
                    name = locate(key, typed).name
                except ValueError:
                    continue
                if name != typed:
                    yield name, typed

"""Which settings of a record a worker may be given: those that change speed, with values that can't do more.

A record may come from anybody. An environment variable can name code that Python imports (PYTHONPATH), and
a flag of XLA a file that it reads or writes (--xla_dump_to), so both are let in by name and by value.
"""

import re
from collections.abc import Mapping

_SWITCH = r"true|false|True|False|0|1"
_WORD = r"[A-Za-z][A-Za-z0-9_]{0,40}"
_WHOLE = r"[1-9][0-9]{0,3}"
VARIABLES = {
    "JAX_DEFAULT_MATMUL_PRECISION": _WORD,
    "JAX_CPU_ENABLE_ASYNC_DISPATCH": _SWITCH,
    "JAX_NUM_CPU_DEVICES": _WHOLE,
    "JAX_DEBUG_NANS": _SWITCH,
    "JAX_DEBUG_INFS": _SWITCH,
    "JAX_CHECK_TRACER_LEAKS": _SWITCH,
    "XLA_PYTHON_CLIENT_PREALLOCATE": _SWITCH,
    "XLA_PYTHON_CLIENT_MEM_FRACTION": r"0?\.[0-9]{1,6}|1(\.0*)?",
    "XLA_PYTHON_CLIENT_ALLOCATOR": _WORD,
    "CUDA_LAUNCH_BLOCKING": _SWITCH,
    "NVIDIA_TF32_OVERRIDE": _SWITCH,
    "OMP_NUM_THREADS": _WHOLE,
}
PLATFORMS = "JAX_PLATFORMS"  # which a worker gets by its device, and repro.py from here
_PLATFORMS = rf"{_WORD}(,{_WORD})*"
XLA_FLAGS = "XLA_FLAGS"
_FLAG = re.compile(rf"--(xla_[a-z0-9_]+)(=(true|false|-?[0-9.]{{1,20}}|{_WORD}(,{_WORD})*))?")
# Parts of the names of flags that read or write files, or that hand text on to another compiler.
_REACHES_OUT = re.compile(
    r"_(to|from)$|_(dump|path|dir|file|cache|log|extra|option|flag|profil|trac|url|output|load|save|hook)"
)


def speed_settings(flags: Mapping[str, str]) -> dict[str, str]:
    """Those of a record's `arm.flags` that may be set again, XLA's flags without any that may not."""
    kept = {name: text for name, text in flags.items() if _fits(VARIABLES.get(name), text)}
    if _fits(_PLATFORMS, flags.get(PLATFORMS, "")):
        kept[PLATFORMS] = flags[PLATFORMS]
    if words := [word for word in flags.get(XLA_FLAGS, "").split(" ") if _harmless(word)]:
        kept[XLA_FLAGS] = " ".join(words)
    return kept


def left_out(flags: Mapping[str, str], kept: Mapping[str, str]) -> list[str]:
    """What of a record's settings is not set again, as NAME=VALUE."""
    xla = kept.get(XLA_FLAGS, "").split(" ")
    dropped = [word for word in flags.get(XLA_FLAGS, "").split() if word not in xla]
    found = [f"{name}={text}" for name, text in flags.items() if name not in kept and name != XLA_FLAGS]
    return [*found, *(f"{XLA_FLAGS}={word}" for word in dropped)]


def _harmless(word: str) -> bool:
    found = _FLAG.fullmatch(word)
    return found is not None and not _REACHES_OUT.search(found.group(1))


def _fits(pattern: str | None, text: str) -> bool:
    return pattern is not None and re.fullmatch(pattern, text) is not None

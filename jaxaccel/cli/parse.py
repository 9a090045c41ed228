"""What Hydra composed, as a RunConfig."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from jaxaccel.analyze.crossover_config import CrossoverConfig
from jaxaccel.cli.config import (
    CeilingsMode,
    PeersConfig,
    ResumeChanged,
    RunConfig,
    TimingConfig,
    WorkloadConfig,
)
from jaxaccel.cli.identify import contents, own_functions
from jaxaccel.records import DEVICES, NAMES_OF_CODE, Metric
from jaxaccel.records.checks import _require, choice, only_known, require_text, whole_number
from jaxaccel.records.function_names import FORMS, MAKER, Named, common_root, locate
from jaxaccel.records.precision import Dtype, Precision
from jaxaccel.wandb.config import WandbConfig, WandbMode

# Parameters that workloads have got since there are records. Where they are null they are no part of a case,
# so that it is still the one that was measured before.
ADDED = ("steps",)

_NUMBER = re.compile(r"[+-]?(\d+(\.\d*)?|\.\d+)(e[+-]?\d+)?", re.IGNORECASE | re.ASCII)

# Keys whose values stay texts, even where they look like numbers.
_TEXTS = ("wandb", "resume", "file", "variant", *NAMES_OF_CODE)


def parse(raw: Mapping[str, Any]) -> RunConfig:
    """The RunConfig that Hydra's composed mapping describes.

    **Raises** ValueError, naming the argument, the value and what is allowed.
    """
    raw = dict(_with_numbers(raw))
    workload, device, wandb = (_group(raw, name) for name in ("workload", "device", "wandb"))
    timing = _group(raw, "timing")
    _require("workload", workload, ("name", "_target_", "variant"))
    _require("device", device, ("arms",))
    required = ("size", "dtype", "precision", "seed", "passes", "metrics", "ceilings", "resume", "wait_s")
    _require("", raw, required)
    for name in ("max_rounds", "passes"):
        if name in timing:
            timing[name] = whole_number(f"timing.{name}", timing[name])
    # These are read through interpolation, or not at all.
    workload.pop("sizes", None)
    if (usual_size := workload.pop("default_size", None)) is not None:
        whole_number("workload.default_size", usual_size)
    if (called := device.pop("name", None)) is not None and not re.fullmatch(r"[\w+-]+", str(called)):
        raise ValueError(f"`device.name` must be a word, for it names folders, got {called!r}")
    usual = _range(workload.pop("crossover_range", None))
    crossover = raw.pop("crossover", None)
    cpu_cores = device.pop("cpu_cores", None)
    peers = raw.pop("peers", None)
    debug = raw.pop("debug", False)  # looked for among the arguments, too: they may be refused before this
    root = _with_modules(workload)
    files = _files(workload)
    config = RunConfig(
        workload=WorkloadConfig(
            name=workload.pop("name"),
            target=workload.pop("_target_"),
            variant=workload.pop("variant"),
            params={name: value for name, value in workload.items() if value is not None or name not in ADDED}
            | {digest: contents(path) for digest, path in files.values()},
            files={key: path for key, (_, path) in files.items()} | ({"root": root} if root else {}),
        ),
        devices=_devices(device.pop("arms")),
        flags=_flags(device.pop("flags", None)),
        size=whole_number("size", raw.pop("size")),
        dtype=choice(Dtype, "dtype", raw.pop("dtype")),
        precision=choice(Precision, "precision", raw.pop("precision")),
        seed=whole_number("seed", raw.pop("seed")),
        timing=only_known(TimingConfig, "timing", timing),
        passes=whole_number("passes", raw.pop("passes")),
        metrics=_metrics(raw.pop("metrics")),
        ceilings=choice(CeilingsMode, "ceilings", raw.pop("ceilings")),
        resume=_resumed(raw.pop("resume")),
        resume_changed=choice(
            ResumeChanged, "resume_changed", raw.pop("resume_changed", ResumeChanged.refuse)
        ),
        wait_s=raw.pop("wait_s"),
        debug=bool(debug),
        cpu_cores=None if cpu_cores is None else whole_number("device.cpu_cores", cpu_cores),
        wandb=only_known(
            WandbConfig, "wandb", wandb | {"mode": choice(WandbMode, "wandb.mode", wandb.get("mode"))}
        ),
        crossover=_crossover(crossover, usual, workload) if crossover else None,
        peers=only_known(PeersConfig, "peers", peers) if peers else None,
    )
    unknown = [*raw, *(f"device.{key}" for key in device)]
    if unknown:
        raise ValueError(f"unknown key `{unknown[0]}`: nothing reads it")
    return config


def _resumed(value: Any) -> Path | None:
    if value is None:
        return None
    require_text("resume", value)
    return Path(value)


def _group(raw: dict[str, Any], name: str) -> dict[str, Any]:
    """Takes a group out of the composed mapping.

    **Raises** ValueError for one that is not there, or is none.
    """
    value = raw.pop(name, None)
    if not isinstance(value, Mapping):
        raise ValueError(f"`{name}` must be a group of keys and values, got {value!r}")
    return dict(value)


def _range(value: Any) -> Sequence[int] | None:
    """The sizes between which a workload's crossover is looked for, if its config has some."""
    if value is None:
        return None
    if not isinstance(value, list | tuple) or len(value) != 2:
        raise ValueError(f"`workload.crossover_range` must be a list of two sizes, got {value!r}")
    return [whole_number("workload.crossover_range", size) for size in value]


def _with_modules(workload: dict[str, Any]) -> str | None:
    """Rewrite the names of the user's own functions as module:NAME; return the folder to import them from.

    A name without a module is in the module of `fn`. `args` is `make_args` by default.

    **Raises** ValueError where a name is malformed, its file does not exist, or the functions can't be
    imported together.
    """
    if "fn" in workload:
        if workload["fn"] is None:
            raise ValueError(f"`workload.fn` must be given, as {FORMS}")
        workload["args"] = workload["args"] or MAKER
    found: dict[str, Named] = {}
    for key in own_functions(workload):
        beside = found["fn"].module if "fn" in found else None
        found[key] = locate(f"workload.{key}", workload[key], beside=beside)
    workload |= {key: named.name for key, named in found.items()}
    return common_root("workload.fn", list(found.values()))


def _files(workload: dict[str, Any]) -> dict[str, tuple[str, str]]:
    """Takes `file` out of a workload's keys: the parameter that gets its digest, and its path.

    Two machines that measure one file have it in different places: the path must not tell their cases apart.

    **Raises** ValueError where there is no such file.
    """
    if "file" not in workload:
        return {}
    path = workload.pop("file")
    if path is None:
        raise ValueError("`workload.file` must name a file: workload.file=step.bin")
    require_text("workload.file", path)
    if not Path(path).is_file():
        raise ValueError(f"`workload.file`: there is no file {path!r}")
    return {"file": ("sha256", str(Path(path).absolute()))}


def _crossover(
    values: Mapping[str, Any], usual: Sequence[int] | None, params: Mapping[str, Any]
) -> CrossoverConfig:
    """The search's settings; its ends are the workload's `usual` ones where sizes are searched over."""
    if not isinstance(values, Mapping):
        raise ValueError(f"`crossover` must be a group of keys and values, got {values!r}")
    over = values.get("over")
    if over not in ("size", *params):
        known = ", ".join(["size", *params])
        raise ValueError(f"`crossover.over` must be one of {known} of this workload, got {over!r}")
    ends = usual if usual and over == "size" else (None, None)
    found = dict(values)
    for name, end in zip(("low", "high"), ends, strict=True):
        if found.get(name) is None and end is None:
            raise ValueError(f"`crossover.{name}` must be set: there is no usual range of this")
        found[name] = whole_number(f"crossover.{name}", end if found.get(name) is None else found[name])
    made: CrossoverConfig = only_known(CrossoverConfig, "crossover", found)
    return made


def _devices(value: Any) -> tuple[str, ...]:
    if not isinstance(value, list | tuple) or not all(isinstance(name, str) for name in value):
        raise ValueError(f"`device.arms` must be a list of {' or '.join(DEVICES)}, got {value!r}")
    return tuple(value)


def _flags(value: Any) -> dict[str, tuple[str, ...]]:
    """XLA's flags by device, as its environment variable has them; of devices that have some."""
    given = {} if value is None else value
    if not isinstance(given, Mapping) or not set(given) <= set(DEVICES):
        raise ValueError(f"`device.flags` must have flags for {' or '.join(DEVICES)}, got {value!r}")
    read = {
        device: xla_flags(f"device.flags.{device}", flags)
        for device, flags in given.items()
        if flags is not None
    }
    return {device: flags for device, flags in read.items() if flags}


def xla_flags(name: str, value: Any) -> tuple[str, ...]:
    """--name=value texts, from a mapping of flags or a list of such texts. Which there are, XLA says.

    **Raises** ValueError for what XLA would read as something else than was meant.
    """
    if isinstance(value, Mapping):
        texts = [
            f"--{str(key).removeprefix('--')}={str(found).lower() if isinstance(found, bool) else found}"
            if isinstance(found, str | bool | int | float)  # no null, nor a list
            else f"{key}: {found}"
            for key, found in value.items()
        ]
    else:
        texts = list(value) if isinstance(value, list | tuple) else [value]
    for text in texts:
        if not isinstance(text, str) or not re.fullmatch(r"--\w+(=[^\s'\"]+)?", text):
            raise ValueError(
                f"`{name}` must be XLA flags, as '{{xla_cpu_multi_thread_eigen: false}}' or "
                f"[--xla_cpu_multi_thread_eigen=false], got {text!r}"
            )
    return tuple(texts)


def _metrics(value: Any) -> tuple[Metric, ...]:
    """All metrics, one, or several, in the order in which they are measured."""
    if value == "all":
        return tuple(Metric)
    names = list(value) if isinstance(value, list | tuple) else [value]
    if not names:
        raise ValueError("`metrics` must be all, or a list of at least one, got []")
    for name in names:
        if str(name) not in tuple(Metric):
            raise ValueError(f"`metrics` must be all, or some of {', '.join(Metric)}, got {name!r}")
    return tuple(metric for metric in Metric if metric in [str(name) for name in names])


def _with_numbers(value: Any) -> Any:
    """The value, with texts that look like numbers made numbers: ${oc.env:NAME} always gives a text."""
    if isinstance(value, Mapping):
        return {key: entry if key in _TEXTS else _with_numbers(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_with_numbers(entry) for entry in value]
    if not isinstance(value, str) or not _NUMBER.fullmatch(value):
        return value
    whole = (
        value.lstrip("+-").isdecimal() and len(value) < 300
    )  # of one with more digits, a float is infinite
    return int(value) if whole else float(value)

"""What a command was asked to do, as frozen dataclasses that refuse what cannot be right.

Values arrive as Hydra composed them, in plain containers; unknown keys are refused here.
"""

import argparse
import hashlib
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, dataclass, field, fields
from enum import StrEnum
from pathlib import Path
from typing import Any, NoReturn

from jaxaccel.function_names import FORMS, MAKER, Named, common_root, locate
from jaxaccel.reading import refused_case
from jaxaccel.records import DEVICES, NAMES_OF_CODE, Arm, Case, Metric


class BadInputError(ValueError):
    """The command asks for what can't be; the message is one line for its author."""


class Parser(argparse.ArgumentParser):
    """Says what is wrong in one line, as every command here does."""

    def error(self, message: str) -> NoReturn:
        """Stop.

        **Raises** BadInputError.
        """
        raise BadInputError(f"{message} (see --help)")


def parser_with_examples(*, prog: str, description: str, examples: str) -> Parser:
    """A parser whose help ends with `examples` as they are, and that takes no option by its beginning."""
    return Parser(
        prog=prog,
        description=description,
        epilog=examples,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )


# More than these is a slip of the hand: nobody waits for it.
DAY_S = 86_400
MONTH_S = 30 * DAY_S
MOST_PASSES = 1_000
MOST_ROUNDS = 1_000_000
MOST_CORES = 1_000_000
MOST_SIZE = 2**62  # that a record can hold
MOST_SEED = 2**32 - 1  # that JAX tells apart


class Dtype(StrEnum):
    """Floating-point type of a workload's data."""

    float32 = "float32"
    bfloat16 = "bfloat16"
    float16 = "float16"
    float64 = "float64"


class Precision(StrEnum):
    """Matrix-product precision in JAX's words; on recent GPUs only `highest` computes float32 as float32."""

    highest = "highest"
    high = "high"
    default = "default"


class CeilingsMode(StrEnum):
    """What a result is held against: this day's ceilings, ones measured anew, or none."""

    auto = "auto"
    fresh = "fresh"
    off = "off"


class ResumeChanged(StrEnum):
    """What becomes of a record to be resumed whose source was edited since: refused, or measured anew."""

    refuse = "refuse"
    restart = "restart"


class WandbMode(StrEnum):
    """Where Weights & Biases runs go; `auto` is online for those who are logged in, else offline."""

    auto = "auto"
    online = "online"
    offline = "offline"
    disabled = "disabled"


@dataclass(frozen=True, kw_only=True)
class WorkloadConfig:
    """What to compute: `target` is the class, as `package.module:Name`; `params` are its own settings.

    `files` are those that say where a file lies here; what is in it identifies the case (see `contents`).
    """

    name: str
    target: str
    variant: str = "direct"
    params: Mapping[str, Any] = field(default_factory=dict)
    files: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name, key in (("name", "name"), ("target", "_target_"), ("variant", "variant")):
            require_text(f"workload.{key}", getattr(self, name))


@dataclass(frozen=True, kw_only=True)
class TimingConfig:
    """How surely to measure: see conf/timing/."""

    relative_ci: float
    limit_s: float
    passes: int
    max_rounds: int = 30
    energy_s: float = 0.0

    def __post_init__(self) -> None:
        energy_s = self.energy_s
        if isinstance(energy_s, bool) or not isinstance(energy_s, int | float) or not 0 <= energy_s < 600:
            raise ValueError(f"`timing.energy_s` must be seconds from 0 to below 600, got {energy_s!r}")
        require_positive("timing.relative_ci", self.relative_ci, 1)
        require_positive("timing.limit_s", self.limit_s, DAY_S)
        for name, most in (("max_rounds", MOST_ROUNDS), ("passes", MOST_PASSES)):
            require_whole(f"timing.{name}", getattr(self, name), most)


# Parameters that workloads have got since there are records. Where they are null they are no part of a case,
# so that it is still the one that was measured before.
ADDED = ("steps",)

_NUMBER = re.compile(r"[+-]?(\d+(\.\d*)?|\.\d+)(e[+-]?\d+)?", re.IGNORECASE | re.ASCII)

# Keys whose values stay texts, even where they look like numbers.
_TEXTS = ("wandb", "resume", "file", "variant", *NAMES_OF_CODE)
PROJECT = "jaxaccel"  # of W&B, as in conf/wandb


@dataclass(frozen=True, kw_only=True)
class WandbConfig:
    """Which Weights & Biases project gets the runs, and how."""

    mode: WandbMode
    project: str
    entity: str | None = None

    def __post_init__(self) -> None:
        require_text("wandb.project", self.project)
        if self.entity is not None:
            require_text("wandb.entity", self.entity)


@dataclass(frozen=True, kw_only=True)
class CrossoverConfig:
    """Where to look for the sizes at which the winner changes, and how closely: see conf/crossover/."""

    over: str
    low: int
    high: int
    per_octave: float
    within: float
    budget_s: float
    questions: Sequence[str]

    def __post_init__(self) -> None:
        require_text("crossover.over", self.over)
        if not 1 <= self.low < self.high:
            raise ValueError(
                f"`crossover.low` must be from 1 to below `crossover.high`, got {self.low} and {self.high}"
            )
        require_whole("crossover.high", self.high, MOST_SIZE)
        for name, most in (("per_octave", 100), ("within", 10), ("budget_s", MONTH_S)):
            require_positive(f"crossover.{name}", getattr(self, name), most)
        require_texts("crossover.questions", self.questions)


@dataclass(frozen=True, kw_only=True)
class PeersConfig:
    """Which frameworks jaxaccel.peers measures beside JAX, by name; None: all that there are of a device."""

    frameworks: Sequence[str] | None = None

    def __post_init__(self) -> None:
        if self.frameworks is not None:
            require_texts("peers.frameworks", self.frameworks, or_else=", or null")


@dataclass(frozen=True, kw_only=True)
class RunConfig:
    """One Hydra job: a case, the devices to measure it on, and how. flags: XLA's, by device."""

    workload: WorkloadConfig
    devices: tuple[str, ...]
    size: int
    dtype: Dtype
    precision: Precision
    seed: int
    timing: TimingConfig
    passes: int
    wandb: WandbConfig
    flags: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    metrics: tuple[Metric, ...] = tuple(Metric)
    ceilings: CeilingsMode = CeilingsMode.auto
    resume: Path | None = None
    resume_changed: ResumeChanged = ResumeChanged.refuse
    wait_s: float = 600.0
    crossover: CrossoverConfig | None = None
    peers: PeersConfig | None = None
    debug: bool = False
    cpu_cores: int | None = None

    def __post_init__(self) -> None:
        if self.cpu_cores is not None:
            require_whole("device.cpu_cores", self.cpu_cores, MOST_CORES)
        names = self.devices
        if not names or not set(names) <= set(DEVICES) or len(set(names)) < len(names):
            raise ValueError(f"`device.arms` must name {' or '.join(DEVICES)}, each once, got {list(names)}")
        require_whole("size", self.size, MOST_SIZE)
        require_whole("passes", self.passes, MOST_PASSES, allowed="a whole number of at least 1")
        require_positive("wait_s", self.wait_s, MONTH_S)
        require_whole("seed", self.seed, MOST_SEED, 0, "a whole number of at least 0")
        if problem := refused_case(self.case):
            raise ValueError(f"no record could hold this case: {problem}")

    @property
    def case(self) -> Case:
        """What is measured, without a device."""
        return Case(
            workload=self.workload.name,
            size=self.size,
            dtype=str(self.dtype),
            precision=str(self.precision),
            variant=self.workload.variant,
            params=dict(self.workload.params),
            seed=self.seed,
        )

    @property
    def arms(self) -> tuple[Arm, ...]:
        """The case on each device that was asked for."""
        return tuple(
            Arm(case=self.case, device=device, target=self.workload.target, files=self.workload.files)
            for device in self.devices
        )


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


def _require(group: str, values: Mapping[str, Any], names: Sequence[str]) -> None:
    """Refuse a mapping that lacks one of these."""
    for name in names:
        if name not in values:
            raise ValueError(f"`{f'{group}.' * bool(group)}{name}` is missing")


def _range(value: Any) -> Sequence[int] | None:
    """The sizes between which a workload's crossover is looked for, if its config has some."""
    if value is None:
        return None
    if not isinstance(value, list | tuple) or len(value) != 2:
        raise ValueError(f"`workload.crossover_range` must be a list of two sizes, got {value!r}")
    return [whole_number("workload.crossover_range", size) for size in value]


def contents(path: str) -> str:
    """Sixteen hexadecimal digits that identify what is in a file."""
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:16]


def sources(*functions: Any) -> str | None:
    """Sixteen hexadecimal digits that identify the files of package.module:function below this folder.

    None where there is none of them. What those files import from others is not looked at.
    """
    found = hashlib.sha256()
    paths = set[Path]()
    for function in functions:
        parts = str(function).partition(":")[0].split(".")
        module = Path(*parts)
        paths |= {path for path in (module.with_suffix(".py"), module / "__init__.py") if path.is_file()}
    for path in sorted(paths):
        found.update(path.read_bytes())
    return found.hexdigest()[:16] if paths else None


def own_functions(params: Mapping[str, Any]) -> list[str]:
    """The keys of a workload's parameters that name the user's own functions."""
    own = {"fn", "file", "sha256"} & params.keys()
    return [key for key in NAMES_OF_CODE if own and params.get(key) is not None]


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

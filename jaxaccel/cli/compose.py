"""Hydra, which only this module imports: arguments and configs become frozen RunConfigs.

Their import and composing take half a second, so `run` starts its workers before it calls this.
"""

import io
import os
import re
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import redirect_stderr
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import hydra
from hydra.core.config_store import ConfigStore
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException, MissingConfigException, OverrideParseException
from hydra.types import RunMode
from omegaconf import MISSING, DictConfig, OmegaConf, resolvers
from omegaconf.errors import OmegaConfBaseException

from jaxaccel.cli.conf_folder import config_folder, renamed
from jaxaccel.cli.config import RunConfig
from jaxaccel.cli.identify import own_functions
from jaxaccel.cli.job_folders import Made, discard, noting_what_is_made, require_no_records
from jaxaccel.cli.overrides import ASK_HYDRA, CONFIG_DIR, KEPT, RUN_DIR, SUBDIR, SWEEP_DIR, check_arguments
from jaxaccel.cli.parse import parse
from jaxaccel.cli.spelling import MULTIRUN, SHORT, expand
from jaxaccel.process.saying import tell
from jaxaccel.records import escape
from jaxaccel.records.errors import BadInputError
from jaxaccel.records.function_names import Named, near, require_a_file_each
from jaxaccel.records.precision import Dtype, Precision
from jaxaccel.records.redact import is_secret, secret_in, without_secrets
from jaxaccel.records.redact.values import is_setting

_ENV = "oc.env"  # OmegaConf's resolver of ${oc.env:NAME}
# What all jobs of a command share, and what it is called on the command line.
_OF_THE_COMMAND = {
    "ceilings": "ceilings",
    "wait_s": "wait_s",
    "resume_changed": "resume_changed",
    "flags": "device.flags",
    "cpu_cores": "device.cpu_cores",
}


@dataclass
class Schema:
    """What Hydra checks while it composes. Mutable, as Hydra needs it; config.py has the real one."""

    workload: dict[str, Any] = MISSING
    device: dict[str, Any] = MISSING
    timing: dict[str, Any] = MISSING
    wandb: dict[str, Any] = MISSING
    size: Any = MISSING  # 1e6 is a whole number too: config.py decides
    dtype: Dtype = MISSING
    precision: Precision = MISSING
    seed: Any = MISSING
    passes: Any = MISSING
    metrics: Any = MISSING
    ceilings: Any = MISSING
    resume: Any = None
    resume_changed: Any = MISSING
    wait_s: Any = MISSING
    crossover: Any = None
    peers: Any = None
    debug: bool = False


@dataclass(frozen=True, kw_only=True)
class Job:
    """One Hydra job: what it asked for, and the folder that Hydra gave it."""

    config: RunConfig
    folder: Path


@dataclass(frozen=True, kw_only=True)
class Composed:
    """All jobs of a command, and the sweep's folder if it is one. No jobs: Hydra was only asked something."""

    jobs: Sequence[Job]
    sweep_folder: Path | None
    made: Sequence[Made] = ()  # what Hydra made of folders and files

    @property
    def folder(self) -> Path:
        """Where the command's results are."""
        return self.sweep_folder or self.jobs[0].folder

    @property
    def cpu_cores(self) -> int | None:
        """How many cores the CPU's arms run on; None: all that there are."""
        return next((job.config.cpu_cores for job in self.jobs if "cpu" in job.config.devices), None)

    def discard(self) -> None:
        """Leave the folders as they were before Hydra wrote to them."""
        discard(self.made)


def compose(arguments: Sequence[str], command_id: str, groups: Sequence[str] = ()) -> Composed:
    """Let Hydra read the arguments and the configs. Jobs are composed one after the other, and not yet run.

    `groups` are config groups that the command needs beside the usual ones: crossover=default.

    **Raises** BadInputError, in one line, for whatever is wrong with them; nothing is left behind then.
    """
    raw: list[tuple[Mapping[str, Any], Path]] = []
    problems: list[str] = []
    sweep_folders: list[Path] = []
    errors: list[OmegaConfBaseException] = []  # Hydra would print some, and in a sweep lose them

    def collect(config: Any) -> None:
        settings = HydraConfig.get()
        if settings.mode is RunMode.MULTIRUN:
            sweep_folders.append(Path(os.path.normpath(Path(settings.sweep.dir).absolute())))
        try:
            container = OmegaConf.to_container(config, resolve=True, enum_to_str=True)
        except OmegaConfBaseException as error:
            container = {}
            errors.append(error)
        raw.append((container, Path(settings.runtime.output_dir)))
        folders = [source.path for source in settings.runtime.config_sources if source.schema == "file"]
        if container and (
            problem := renamed(container["workload"], settings.runtime.choices.workload, folders)
        ):
            problems.append(problem)

    ConfigStore.instance().store(name="schema", node=Schema)
    OmegaConf.register_new_resolver("command_id", lambda: command_id, replace=True)
    # A resumed run goes on in its own folder. Hydra names the folder before `resume` can be asked for.
    resumed = [argument.partition("=")[2] for argument in arguments if argument.startswith("resume=")]
    OmegaConf.register_new_resolver(
        "resume_or", lambda fresh: resumed[-1] if resumed else fresh, replace=True
    )
    OmegaConf.register_new_resolver(_ENV, variable, replace=True)
    os.environ["HYDRA_FULL_ERROR"] = "1"  # raise, instead of printing and exiting
    with noting_what_is_made() as made:
        try:
            check_arguments(arguments)
            run_hydra([*expand(arguments), *groups], collect)
            if errors:
                raise errors[0]
            if not raw and not any(argument.partition("=")[0] in ASK_HYDRA for argument in arguments):
                raise BadInputError("these arguments describe a sweep of 0 jobs")
            if problems:
                raise BadInputError(problems[0])
            for container, _ in raw:
                refuse_secrets(container)
            jobs = [Job(config=parse_job(container), folder=folder) for container, folder in raw]
            require_same(jobs)
            check_functions(jobs)
            check_folders(jobs, next(iter(sweep_folders), None), resumed=bool(resumed))
        except (HydraException, OmegaConfBaseException, ValueError, OSError, KeyboardInterrupt) as error:
            discard(made)
            if isinstance(error, KeyboardInterrupt):
                raise
            raise BadInputError(in_one_line(error, arguments)) from error
        finally:
            OmegaConf.register_new_resolver(_ENV, resolvers.oc.env, replace=True)
    return Composed(jobs=jobs, sweep_folder=next(iter(sweep_folders), None), made=made)


def run_hydra(words: Sequence[str], collect: Callable[[Any], None]) -> None:
    """Let Hydra compose what the words ask for, and call `collect` with the config of each job.

    **Raises** BadInputError for what Hydra ends with in any other way than by an exception of its own.
    """
    # argparse, which Hydra uses, takes all KEY=VALUE arguments from one place: behind the options.
    options = [word for word in words if word in MULTIRUN or word.startswith(f"{CONFIG_DIR}=")]
    sys.argv = [sys.argv[0], *options, *(word for word in words if word not in options)]
    said = io.StringIO()  # on stderr: which job failed, which we say, or how Hydra is used
    try:
        with redirect_stderr(said):
            hydra.main(version_base="1.3", config_path=str(config_folder()), config_name="config")(collect)()
    except SystemExit as error:
        if error.code:
            last = said.getvalue().strip().splitlines()[-1:] or ["these arguments can't be read"]
            raise BadInputError(f"{last[0].partition('error: ')[2] or last[0]} (see --help)") from error
    except (HydraException, OmegaConfBaseException, ValueError, OSError):
        raise
    except Exception as error:  # by what Hydra does not check
        first = (str(error).strip().splitlines() or [""])[0]
        raise BadInputError(
            f"Hydra can't read these arguments: {type(error).__name__}: {first} {_among(words)}"
        ) from error
    if warned := said.getvalue().strip():
        tell(warned)


def require_same(jobs: Sequence[Job]) -> None:
    """Refuse jobs that differ in what is of the command: it has one worker a device, which serves them all.

    **Raises** BadInputError.
    """
    for name, called in _OF_THE_COMMAND.items():
        with_it = [job.config for job in jobs if name != "cpu_cores" or "cpu" in job.config.devices]
        values = dict.fromkeys(str(getattr(config, name)) for config in with_it)
        if len(values) > 1:
            raise BadInputError(f"`{called}` must be the same for all jobs, got {', '.join(values)}")


def variable(*named: str) -> Any:
    """What ${oc.env:NAME} or ${oc.env:NAME,DEFAULT} stands for.

    **Raises** BadInputError where that is a secret: Hydra is not to write it anywhere, nor name a folder so.
    """
    name = named[0]
    value = os.environ.get(name)
    if value is not None and ((is_secret(name) and not is_setting(value)) or secret_in(value)):
        raise BadInputError(f"`${{{_ENV}:{name}}}` holds a secret, {KEPT}")
    return resolvers.oc.env(*named)


def refuse_secrets(value: Any, key: str = "") -> None:
    """Refuse a composed value that holds a secret, wherever it comes from.

    **Raises** BadInputError.
    """
    if isinstance(value, str) and (secret := secret_in(value)):
        raise BadInputError(f"`{key}={without_secrets(value)}` holds a secret ({secret}), {KEPT}")
    if isinstance(value, Mapping):
        for name, entry in value.items():
            refuse_secrets(entry, f"{key}.{name}" if key else str(name))
    if isinstance(value, list):
        for entry in value:
            refuse_secrets(entry, key)


def check_functions(jobs: Sequence[Job]) -> None:
    """Refuse functions of two files that are one module to Python: their cases would be one.

    **Raises** BadInputError.
    """
    named = [
        Named(name=job.config.workload.params[key], root=job.config.workload.files.get("root"))
        for job in jobs
        for key in own_functions(job.config.workload.params)
    ]
    try:
        require_a_file_each("workload.fn", named)
    except ValueError as error:
        raise BadInputError(str(error)) from error


def check_folders(jobs: Sequence[Job], sweep_folder: Path | None, *, resumed: bool) -> None:
    """Refuse to write over a record: of an earlier command, unless it is resumed, or of another of the jobs.

    **Raises** BadInputError.
    """
    first: dict[Path, Job] = {}
    for job in jobs:
        if sweep_folder and sweep_folder not in job.folder.parents:
            raise BadInputError(
                f"`{SUBDIR}` must name a folder in the sweep's, {sweep_folder}, got {job.folder} for "
                f"{job.config.case}"
            )
        if (other := first.setdefault(job.folder, job)) is not job:
            raise BadInputError(
                f"`{SUBDIR}` gives one folder, {job.folder.name}, to {other.config.case} and "
                f"{job.config.case}: leave it out, or let it name what they differ in"
            )
    if not resumed:
        for folder in [*first, *filter(None, [sweep_folder])]:
            require_no_records(SWEEP_DIR if sweep_folder else RUN_DIR, folder)


def parse_job(container: Mapping[str, Any]) -> RunConfig:
    """The RunConfig of one job.

    **Raises** BadInputError, naming the argument, the value and what is allowed.
    """
    try:
        return parse(container)
    except ValueError as error:
        raise BadInputError(str(error)) from error


def in_one_line(error: BaseException, arguments: Sequence[str]) -> str:
    """What is wrong with the arguments, naming the argument, the value and the choices."""
    for found in causes(error):
        if isinstance(found, BadInputError):
            return str(found)
    if isinstance(error, MissingConfigException) and error.missing_cfg_file:
        group, _, value = error.missing_cfg_file.rpartition("/")
        if not error.options:
            return f"there is no config {error.missing_cfg_file!r} {_among(arguments)}"
        return f"`{group}` must be one of {', '.join(error.options)}, got {value!r}"
    if isinstance(error, OverrideParseException):
        return (
            f"can't read the argument `{error.override}`: it must be KEY=VALUE, and a VALUE with signs such "
            "as = or { must be in quotes of its own: 'KEY=\"VALUE\"'"
        )
    if isinstance(error, OSError) and error.filename:
        return f"can't write to {error.filename}: {error.strerror}"
    cause = error.__cause__ if isinstance(error.__cause__, OmegaConfBaseException) else error
    first = (str(cause).strip().splitlines() or [type(cause).__name__])[0]
    key = getattr(cause, "full_key", None)
    if re.search(r"is not in struct|not in '\w+'$", first):
        return f"unknown key `{key}`{_meant(cause, str(key))}: see --help for the keys that there are"
    if ambiguous := re.match(r"Ambiguous value for argument '(.*)'$", first):
        return f"`{ambiguous[1]}` is a list of values, which is a sweep: add -m"
    # Hydra does not always say which argument it means.
    return f"`{key}`: {first}" if key else f"{first} {_among(arguments)}"


def _among(arguments: Sequence[str]) -> str:
    """The arguments, for a message that can't say which of them is wrong."""
    return f"(among: {escape.clip(' '.join(arguments), 500)})"


def causes(error: BaseException | None) -> Iterator[BaseException]:
    """The exception, that which it came from, and so on."""
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _meant(error: BaseException, key: str) -> str:
    """Which key may have been meant in place of one that is not there."""
    parent, _, name = key.rpartition(".")
    beside = getattr(error, "parent_node", None)
    names = map(str, beside) if isinstance(beside, DictConfig) else ()
    return near(name, [*names, *([] if parent else SHORT)]).rstrip("?")

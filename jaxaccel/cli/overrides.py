"""Arguments that Hydra would take in another sense, or in silence, are refused before it reads them."""

import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from jaxaccel.cli.job_folders import is_resumable, require_no_records
from jaxaccel.cli.spelling import MULTIRUN, split_values
from jaxaccel.records.errors import BadInputError
from jaxaccel.records.reading import way_out
from jaxaccel.records.redact import secret_in, without_secrets

ASK_HYDRA = {
    "--help",
    "-h",
    "--hydra-help",
    "--version",
    "--cfg",
    "-c",
    "--info",
    "-i",
    "--shell-completion",
    "-sc",
}
CONFIG_DIR = "--config-dir"
_OPTIONS = {*ASK_HYDRA, *MULTIRUN, "--run", "-r", CONFIG_DIR, "-cd", "--resolve", "--package", "-p"}
# Groups of conf/ from which one config is chosen by its name.
_GROUPS = ("workload", "device", "timing", "wandb", "crossover", "peers", "experiment")
_NAME = re.compile(r"""(['"]?)(?!null$|true$|false$)[A-Za-z_][\w.-]*\1""", re.IGNORECASE)
_FUNCTION = re.compile(r"\w+\(.*\)")
# Hydra's groups of which no other config may be chosen, and why.
_JOBS = (
    "Hydra only reads the jobs, and jaxaccel measures them by itself, one at a time, so that none disturbs "
    "another"
)
_LOGS = "nothing here logs"
_HYDRA_GROUPS = {
    "hydra/launcher": (("letting_go", "basic"), _JOBS),
    "hydra/sweeper": (("one_by_one", "basic"), _JOBS),
    "hydra/job_logging": (("none", "disabled"), _LOGS),
    "hydra/hydra_logging": (("none", "disabled"), _LOGS),
}
FOLDERS = RUN_DIR, SWEEP_DIR = "hydra.run.dir", "hydra.sweep.dir"
SUBDIR = "hydra.sweep.subdir"
# Hydra's settings that have an effect: Hydra only reads the arguments, and jaxaccel runs the jobs.
_HYDRA_KEYS = (*FOLDERS, SUBDIR, "hydra.mode", "hydra.searchpath")
KEPT = "which records and config dumps would keep: let your code read it from the environment"


def check_arguments(arguments: Sequence[str]) -> None:
    """Refuse arguments that can't be meant as they are written.

    **Raises** BadInputError.
    """
    for argument in arguments:
        if secret := secret_in(argument):
            raise BadInputError(f"`{without_secrets(argument)}` holds a secret ({secret}), {KEPT}")
    given = [argument.partition("=")[0] for argument in arguments if not argument.startswith("-")]
    keys = [key for key in given if key]
    if again := [key for key, times in Counter(keys).items() if times > 1]:
        values = [argument for argument in arguments if argument.partition("=")[0] == again[0]]
        raise BadInputError(
            f"`{again[0]}` is given {len(values)} times, {' '.join(values)}: give it once, or -m "
            f"{again[0]}=A,B for a sweep"
        )
    resumed = "resume" in keys
    for argument in arguments:
        if argument.startswith("-"):
            _check_option(argument)
            continue
        key, equals, value = argument.partition("=")
        _check_key(argument, key)
        if not equals:
            continue
        if key == "resume":
            _check_resume(value)
        elif key in _GROUPS:
            _check_choice(key, value, arguments)
        elif key == "hydra" or key.startswith(("hydra.", "hydra/", "hydra@")):
            _check_hydra(key, value, resumed=resumed)


def _check_option(argument: str) -> None:
    name, equals, value = argument.partition("=")
    if name not in _OPTIONS:
        raise BadInputError(f"unknown option `{name}`: see --help for what there is")
    if name == CONFIG_DIR and equals and not Path(value or " ").is_dir():
        raise BadInputError(f"`{CONFIG_DIR}` must be a folder of configs, got {value!r}")


def _check_key(argument: str, key: str) -> None:
    if key.lstrip("+").startswith("hydra.job.env_set"):
        raise BadInputError(
            "`hydra.job.env_set` would set nothing where the code is measured: set variables in the "
            "environment of the command"
        )
    if argument.startswith("device=["):  # Hydra would take the last of the list, in silence
        raise BadInputError(f"`{argument}` is a list: use device=both, or -m device=cpu,gpu")
    if argument.startswith("+"):
        raise BadInputError(
            f"`{argument}` would add a key, which nothing reads: write {argument.lstrip('+')}, without the +"
        )
    if argument.startswith("~"):
        raise BadInputError(
            f"`{argument}` would remove a key, which something reads: write key=value, or nothing"
        )
    if "@" in key:
        raise BadInputError(f"unknown key `{key}`: see --help for the keys that there are")


def _check_resume(value: str) -> None:
    folder = Path(value)
    if not value or not folder.is_dir() or not is_resumable(folder):  # Hydra would make it
        raise BadInputError(f"`resume` must be the folder of an earlier run, got {value!r}")
    try:
        found = way_out(folder)  # through which Hydra, say, would write elsewhere
    except OSError as error:
        raise BadInputError(f"`resume`: can't read {error.filename}: {error.strerror}") from error
    if found:
        raise BadInputError(f"`resume`: {found} leads out of the folder: remove it, or resume another one")


def _check_choice(group: str, value: str, arguments: Sequence[str]) -> None:
    """Refuse what is no config's name: Hydra would take a path, a list or a mapping for something else."""
    listed = group == "experiment" and value.startswith("[") and value.endswith("]")
    for part in map(str.strip, split_values(value[1:-1] if listed else value)):
        plain = not part or _NAME.fullmatch(part) or _FUNCTION.fullmatch(part) or part == "???"
        if not plain and not ("${" in part and "/" not in part):
            names = ", ".join(_choices(group, arguments))
            raise BadInputError(f"`{group}` must be one of {names}, got {part!r}")


def _choices(group: str, arguments: Sequence[str]) -> list[str]:
    from jaxaccel.cli.conf_folder import config_folder

    own = [argument.partition("=")[2] for argument in arguments if argument.startswith(f"{CONFIG_DIR}=")]
    folders = [config_folder(), *map(Path, own)]
    return sorted({path.stem for folder in folders for path in (folder / group).glob("*.yaml")})


def _check_hydra(key: str, value: str, *, resumed: bool) -> None:
    if key in _HYDRA_GROUPS:
        allowed, why = _HYDRA_GROUPS[key]
        if value not in allowed:
            raise BadInputError(f"`{key}` must be one of {', '.join(allowed)}, got {value!r}: {why}")
    elif key not in _HYDRA_KEYS:
        raise BadInputError(
            f"`{key}` can't be set: of Hydra's settings, only {', '.join(_HYDRA_KEYS)} can be; jaxaccel uses "
            "Hydra to read arguments and runs the jobs itself, so the others would have no effect"
        )
    elif key in (*FOLDERS, SUBDIR):
        named = value.strip().strip("'\"")
        if named in ("", "null") or named.startswith(("[", "{")):
            raise BadInputError(f"`{key}` must name a folder, got {value!r}")
        if key in FOLDERS and Path(named).absolute() == Path(named).absolute().parent:
            raise BadInputError(f"`{key}` must name a folder for results, got {value!r}")
        if key in FOLDERS and not resumed and "${" not in value:
            require_no_records(key, Path(named))  # or Hydra would write its configs there

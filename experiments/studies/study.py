"""`scripts/study`: run studies of experiments/ from their definitions, in one go or in several.

Each run of a study is a command of its own, `python -m jaxaccel.run ... resume=FOLDER`,
`python -m jaxaccel.crossover ...` or `python -m jaxaccel.peers ...`, which measures only what its folder
lacks: a study that was interrupted goes on, and one that is complete is only looked through.
"""

import re
import shlex
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from jaxaccel.cli.exit import BAD_INPUT, INCOMPLETE, INTERRUPTED, OK, command, in_a_line
from jaxaccel.cli.parser import Parser, parser_with_examples
from jaxaccel.process import signals
from jaxaccel.process.saying import say, tell, warn
from jaxaccel.records import DEVICES, JAX, escape
from jaxaccel.records.checks import require_positive, require_text
from jaxaccel.records.errors import BadInputError

if TYPE_CHECKING:
    from jaxaccel.records import Record

DEFINITION = "study.yaml"
QUICK = "+quick"  # after the name of a study, that of its quick form
OTHERS = ("crossover", "peers")  # the first word of a run that is of another command than run
EXPERIMENTS = Path(__file__).parent.parent
OUTPUTS = Path("outputs/studies")

EXAMPLES = """\
examples:
  scripts/study --list
  scripts/study accounting                     begin it, or go on with it: the same command
  scripts/study accounting passes=10           go on to ten passes
  scripts/study accounting device=cpu          on a machine without a GPU, into a folder of its own,
                                               without the runs that name the GPU
  scripts/study all --budget 3600              begin no further run after an hour
  scripts/study sequential --quick             its quick form: on a CPU alone, in half a minute
  scripts/study accounting --publish           once complete, copy its records to experiments/accounting

A study is experiments/NAME/study.yaml. Its records come into outputs/studies/NAME/RUN, and once it is
complete all together into outputs/studies/NAME/records.jsonl. Of a GPU that JAX does not find there are
failed records, as with jaxaccel.run. A quick form has a folder of its own, NAME+quick.

exit code: 0 complete, 1 something remains (failed, or the budget was spent), 2 bad input,
128 + N ended by signal N (130 for Ctrl-C); the worst where there are several
"""

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*")
# Which folder a run goes on in is for the study to say.
_OURS = ("resume", "hydra.run.dir", "hydra.sweep.dir")
# What changes neither what is measured nor how. More passes go on where fewer ended.
_ASIDE = ("wandb", "wait_s", "debug")
_ENDED = {INCOMPLETE: "incomplete", BAD_INPUT: "bad input", INTERRUPTED: "interrupted", None: "not begun"}

Run = Callable[[Sequence[str]], int]


@dataclass(frozen=True, kw_only=True)
class Study:
    """A question, the devices that its answer needs, and runs: a name and the arguments of jaxaccel.run.

    In study.yaml the arguments are one text, as at the command line: `experiment=NAME passes=5`. Where its
    first word is `crossover` or `peers`, they are those of jaxaccel.crossover or jaxaccel.peers.

    `quick` are runs in place of `runs`, on a CPU alone, that are over within half a minute: they show how the
    study goes, and answer no question. None are there where there is no quick form.
    """

    name: str
    question: str
    needs: Sequence[str]
    runs: Mapping[str, str]
    quick: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        _require_name("the folder's name", self.name.removesuffix(QUICK))
        require_text("question", self.question)
        if "\n" in self.question.strip():
            raise ValueError(f"`question` must be one line, got {self.question!r}")
        needs = self.needs
        if not isinstance(needs, list) or not needs or not all(need in DEVICES for need in needs):
            raise ValueError(f"`needs` must be a list of {' or '.join(DEVICES)}, got {needs!r}")
        if not isinstance(self.runs, dict) or not self.runs:
            raise ValueError(f"`runs` must have a name and arguments for each run, got {self.runs!r}")
        if not isinstance(self.quick, dict):
            raise ValueError(f"`quick` must have a name and arguments for each run, got {self.quick!r}")
        for key, runs in (("runs", self.runs), ("quick", self.quick)):
            for run, text in runs.items():
                _require_name(key, run)
                for argument in _split(f"{key}.{run}", text):
                    if argument.partition("=")[0] in _OURS:
                        raise ValueError(
                            f"`{key}.{run}` must leave its folder to the study, got {argument!r}"
                        )

    def arguments(self, run: str) -> list[str]:
        """What a run hands to jaxaccel.run, or, after its name, to another command."""
        return _split(f"runs.{run}", self.runs[run])

    @property
    def in_short(self) -> "Study":
        """Its quick form, as a study of its own that needs only a CPU.

        **Raises** BadInputError where it has none.
        """
        if not self.quick:
            raise BadInputError(f"`--quick`: {self.name} has no quick form")
        return replace(self, name=f"{self.name}{QUICK}", needs=["cpu"], runs=self.quick, quick={})

    def runs_on(self, device: str | None) -> Mapping[str, str]:
        """Its runs without those that name another of DEVICES; all where it is none of them, and in short."""
        if device not in DEVICES or self.name.endswith(QUICK):  # of a CPU because it is quick
            return self.runs
        others = {f"device={other}" for other in DEVICES if other != device}
        return {name: text for name, text in self.runs.items() if others.isdisjoint(self.arguments(name))}


@dataclass(frozen=True, kw_only=True)
class Went:
    """How far a study came: its folder, and the exit code of each run that was begun."""

    study: Study
    folder: Path
    codes: Mapping[str, int]

    @property
    def complete(self) -> bool:
        """Whether all runs have all that they were asked for."""
        return not self.left

    @property
    def left(self) -> list[str]:
        """The runs that have not, and why."""
        ended = {run: self.codes.get(run) for run in self.study.runs}
        return [f"{self.study.name}/{run} ({_ENDED[code]})" for run, code in ended.items() if code != OK]

    @property
    def code(self) -> int:
        """The worst exit code."""
        return max(self.codes.values(), default=OK)


@dataclass(frozen=True, kw_only=True)
class Arguments:
    """The command, read and checked."""

    names: tuple[str, ...]
    overrides: tuple[str, ...]
    budget_s: float | None
    publish: bool
    quick: bool
    list: bool


@command
def main(
    argv: Sequence[str],
    *,
    experiments: Path = EXPERIMENTS,
    outputs: Path = OUTPUTS,
    run: Run | None = None,
    clock: Callable[[], float] = time.monotonic,
) -> int:
    """Go over the studies that are asked for. Returns the exit code."""
    again = escape.shell(["scripts/study", *argv])
    asked = read(argv)
    studies = choose(asked, experiments)
    if asked.list:
        for study in studies:
            show(study, outputs)
        return OK
    if asked.publish:
        from jaxaccel.cli.keeping import require_room

        require_room(experiments / study.name for study in studies)
    start_s, code, left = clock(), OK, []

    def go_on() -> bool:
        in_time = asked.budget_s is None or clock() - start_s < asked.budget_s
        return in_time and code != INTERRUPTED and not signals.stopped()

    with signals.caught():
        for study in on_its_device(studies, asked):
            folder = folder_of(study, asked.overrides, outputs)
            went = go_over(study, folder, asked.overrides, run or run_to_its_end, go_on)
            left += went.left
            code = max(code, went.code, conclude(went, experiments if asked.publish else None))
    if left:
        tell(f"Remaining: {', '.join(left)}. Resume with: {again}")
    elif signals.stopped():  # between two runs
        how = signals.how()
        tell(f"{how[0].upper()}{how[1:]}. Resume with: {again}")
    return signals.exit_code() or code


def go_over(
    study: Study,
    folder: Path,
    overrides: Sequence[str],
    run: Run,
    go_on: Callable[[], bool],
) -> Went:
    """Run what the study consists of, until one is refused or interrupted, or `go_on` says no."""
    from jaxaccel.records.reading import RECORDS

    codes: dict[str, int] = {}
    for number, name in enumerate(study.runs, start=1):
        if any(code in (BAD_INPUT, INTERRUPTED) for code in codes.values()) or not go_on():
            break
        (folder / name).mkdir(parents=True, exist_ok=True)
        (folder / RECORDS).unlink(missing_ok=True)  # it is there while the study is complete, and only then
        ours = [*overrides, f"resume={(folder / name).as_posix()}"]
        arguments = changed(study.arguments(name), ours)
        line = escape.shell(["python", *command_of(arguments)])
        tell(f"{study.name}, {number} of {len(study.runs)}: {line}")
        codes[name] = run(arguments)
    return Went(study=study, folder=folder, codes=codes)


def conclude(went: Went, experiments: Path | None) -> int:
    """Gather the records of a study that is complete, and publish them if `experiments` is given.

    Returns 1 where it is not complete, or not fit to be published, else 0.
    """
    from jaxaccel.records import store

    study, folder = went.study, went.folder
    readable = [name for name, code in went.codes.items() if code in (OK, INCOMPLETE)]
    records = [record for name in readable for record in records_of(folder / name)]
    if "gpu" in study.needs and any(r.error and r.error.type == "NoDevice" for r in records if not r.ok):
        tell(f"{study.name} needs a GPU, and JAX finds none: device=cpu would measure the CPU alone")
    if BAD_INPUT in went.codes.values():
        tell(f"where earlier records stand in the way, move {folder} away")
    if not went.complete:
        if experiments:
            tell(f"{study.name} is not published: it is not complete")
        return INCOMPLETE
    try:
        path = store.save_all(records, folder)
    except OSError as error:  # the records themselves are in the folders of the runs
        warn(f"the records of {study.name} could not be put together: {in_a_line(error)}")
        return INCOMPLETE
    say(f"{study.name}: complete, {len(records)} records in {path}")
    if experiments:
        if doubts := [f"{r.case} on the {r.arm.requested}" for r in records if not r.ok or r.lacks_passes]:
            tell(f"{study.name} is not published: failed or lacking passes: {'; '.join(doubts)}")
            return INCOMPLETE
        say(f"Published: {store.save_all(records, experiments / study.name)}")
    peers = any(record.arm.framework != JAX for record in records)
    words = ["peers", "report"] if peers else ["report"]
    say("The table: " + escape.shell(["python", "-m", f"jaxaccel.{words[0]}", *words[1:], str(folder)]))
    return OK


def run_to_its_end(arguments: Sequence[str]) -> int:
    """A command in a process of its own; its exit code, 1 where it ended in another way.

    A signal that comes to this process is sent on to it; this process waits while it saves its records.
    """
    process: subprocess.Popen[bytes] | None = None
    with signals.caught(), signals.held():
        process = subprocess.Popen([sys.executable, *command_of(arguments)])
    code = None
    while process and code is None:
        if signals.stopped():
            process.send_signal(signals.number())
        with signals.caught():
            code = process.wait()
    if signals.stopped() or (code is not None and signals.is_of_signal(code)):
        return INTERRUPTED
    return code if code in (OK, BAD_INPUT) else INCOMPLETE


def command_of(arguments: Sequence[str]) -> list[str]:
    """Python's arguments for a run: the module of its command, and the run's own arguments."""
    if arguments[0] in OTHERS:
        return ["-m", f"jaxaccel.{arguments[0]}", *arguments[1:]]
    return ["-m", "jaxaccel.run", *arguments]


def show(study: Study, outputs: Path) -> None:
    """A study's question, and what of it has been measured, in each folder that it has."""
    from jaxaccel.records.reading import RECORDS

    say(f"{study.name}: {study.question.strip()}\n  needs {', '.join(study.needs)}")
    places = [outputs / study.name, *sorted(outputs.glob(f"{study.name}+*"))]
    quick = f"{study.name}{QUICK}"  # and what is changed of it: a study of its own, in --list --quick
    places = [place for place in places if place.name != quick and not place.name.startswith(f"{quick}+")]
    for place in filter(Path.is_dir, places):
        tags = place.name.split("+")  # as folder_of made them
        device = next((device for device in DEVICES if f"device-{device}" in tags), None)
        said = "; ".join(f"{run} {_state_of(place / run)}" for run in study.runs_on(device))
        say(f"  {escape.inert(str(place))}: {'complete: ' if (place / RECORDS).exists() else ''}{said}")
    if not any(map(Path.is_dir, places)):
        say(f"  {', '.join(study.runs)}: not begun")


def _state_of(folder: Path) -> str:
    """How many arms of a run have been measured, in words; one unreadable record hides no other study."""
    broken: list[str] = []
    records = records_of(folder, broken)
    lacking = sum(bool(record.lacks_passes) for record in records)
    failed = sum(not record.ok for record in records)
    doubts = [f"{failed} failed"] * bool(failed) + [f"{lacking} lacking passes"] * bool(lacking)
    measured = f"{len(records) - failed} measured" + f" ({', '.join(doubts)})" * bool(doubts)
    if broken:
        return f"{measured}, {len(broken)} unreadable"
    return measured if records else "not begun"


def records_of(folder: Path, broken: list[str] | None = None) -> list["Record"]:
    """The records of a run that count; none where it has not begun.

    What can't be read is passed over: it is added to `broken`, a line each, or else named on standard error.
    """
    from jaxaccel.analyze.machines import latest_by_framework
    from jaxaccel.cli.record_arguments import load_and_tell
    from jaxaccel.records.store import load_records

    if not folder.is_dir():
        return []
    if broken is None:
        records = load_and_tell([folder], peers=True)
    else:
        records = load_records([folder], broken, peers=True)
    return list(latest_by_framework(records).values())


def folder_of(study: Study, overrides: Iterable[str], outputs: Path) -> Path:
    """Where the records go: overrides that make it another study have a folder of their own."""
    settings = sorted(_settings(overrides).items())
    changed = [f"{key}={value}" for key, value in settings if _changes(key)]
    # Hydra must be able to read the path in an argument.
    tags = ["+" + re.sub(r"[^A-Za-z0-9_.]+", "-", tag) for tag in changed if not tag.startswith("passes=")]
    return outputs / "".join([study.name, *tags])


def changed(arguments: Sequence[str], overrides: Sequence[str]) -> list[str]:
    """The arguments, without those whose keys the overrides set; then these, of two of a key the later."""
    last = {override.partition("=")[0]: override for override in overrides}
    return [word for word in arguments if word.partition("=")[0] not in last] + list(last.values())


def _settings(overrides: Iterable[str]) -> dict[str, str]:
    """What they set: of two of one key the later counts, as with Hydra."""
    return dict(override.split("=", 1) for override in overrides)


def _changes(key: str) -> bool:
    return key.partition(".")[0] not in _ASIDE


# --- definitions -----------------------------------------------------------------------------------


def choose(asked: Arguments, experiments: Path) -> list[Study]:
    """The studies that are asked for, by name or all in alphabetical order.

    **Raises** BadInputError for a name that is none, or a definition that can't be.
    """
    known = {path.parent.name: path for path in sorted(experiments.glob(f"*/{DEFINITION}"))}
    if not known:
        raise BadInputError(f"{experiments} has no studies: they are in a checkout of jaxaccel")
    everything = "all" in asked.names or (asked.list and not asked.names)
    names = list(known) if everything else list(dict.fromkeys(asked.names))
    for name in asked.names:
        if name not in [*known, "all"]:
            raise BadInputError(f"NAME must be one of {', '.join([*known, 'all'])}, got {name!r}")
    if not names:
        raise BadInputError(f"NAME is missing: one of {', '.join([*known, 'all'])} (see --help)")
    studies = [read_study(known[name]) for name in names]
    if not asked.quick:
        return studies
    # `all` is of those that have a quick form; one that is named must have it.
    return [study.in_short for study in studies if study.quick or study.name in asked.names]


def on_its_device(studies: Iterable[Study], asked: Arguments) -> list[Study]:
    """The studies as `device=cpu` or `device=gpu` leaves them; of `all`, those that have such a run.

    **Raises** BadInputError for a study that is named and has none.
    """
    device = _settings(asked.overrides).get("device")
    left = []
    for study in studies:
        if runs := study.runs_on(device):
            left.append(replace(study, runs=runs))
        elif study.name in asked.names:
            raise BadInputError(f"`device={device}`: all runs of {study.name} name another device")
        else:
            tell(f"{study.name} is left out: all its runs name another device")
    return left


def read_study(path: Path) -> Study:
    """The study that a file defines.

    **Raises** BadInputError, in one line: the file, the key, the value and what is allowed.
    """
    try:
        raw: Any = msgspec.yaml.decode(path.read_bytes())
        keys = [entry.name for entry in fields(Study) if entry.name != "name"]
        needed = [key for key in keys if key != "quick"]
        if not isinstance(raw, dict):
            raise ValueError(f"it must have the keys {', '.join(needed)}, got {raw!r}")
        if unknown := [key for key in raw if key not in keys]:
            raise ValueError(f"unknown key `{unknown[0]}`; a study has {', '.join(keys)}")
        if missing := [key for key in needed if key not in raw]:
            raise ValueError(f"`{missing[0]}` is missing; a study has {', '.join(keys)}")
        return Study(name=path.parent.name, **raw)
    except ValueError as error:  # that of YAML is one too
        raise BadInputError(f"{path}: {' '.join(str(error).split())}") from error


def _split(name: str, text: Any) -> list[str]:
    """The arguments that a text holds.

    **Raises** ValueError for anything but a text with closed quotes.
    """
    require_text(name, text)
    try:
        return shlex.split(text)
    except ValueError as error:
        raise ValueError(
            f"`{name}` must be arguments as a shell reads them ({error}), got {text!r}"
        ) from error


def _require_name(what: str, name: Any) -> None:
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise ValueError(f"`{what}` must be of letters, digits, _ and -, got {name!r}")


# --- arguments -------------------------------------------------------------------------------------


def make_parser() -> Parser:
    """The command line, without what `read` checks by itself."""
    parser = parser_with_examples(
        prog="scripts/study",
        description="Run studies of experiments/ from their definitions, in one go or in several.",
        examples=EXAMPLES,
    )
    parser.add_argument(
        "words",
        metavar="NAME|all|KEY=VALUE",
        nargs="*",
        help="the studies; and settings of jaxaccel.run that replace those of all their runs",
    )
    parser.add_argument(
        "--budget", metavar="SECONDS", help="once that much time has passed, begin no further run"
    )
    parser.add_argument(
        "--publish", action="store_true", help="copy the records of a complete study to experiments/NAME"
    )
    parser.add_argument(
        "--quick", action="store_true", help="the quick forms, on a CPU alone: half a minute each, no answers"
    )
    parser.add_argument(
        "--list", action="store_true", help="the studies, and what of them has been measured here"
    )
    return parser


def read(argv: Sequence[str]) -> Arguments:
    """The command that `argv` describes.

    **Raises** BadInputError, naming the argument, the value and what is allowed.
    """
    raw = make_parser().parse_intermixed_args(argv)
    overrides = tuple(word for word in raw.words if "=" in word)
    for override in overrides:
        key = override.partition("=")[0]
        if key in _OURS:
            raise BadInputError(f"`{key}` is for the study to set, got {override!r}")
        if raw.publish and _changes(key):
            raise BadInputError(
                f"`--publish` is for a study as {DEFINITION} defines it, got {override!r}: set it there"
            )
    if raw.publish and raw.quick:
        raise BadInputError("`--publish` is for a whole study, got `--quick` beside it")
    return Arguments(
        names=tuple(word for word in raw.words if "=" not in word),
        overrides=overrides,
        budget_s=None if raw.budget is None else _seconds("--budget", raw.budget),
        publish=raw.publish,
        quick=raw.quick,
        list=raw.list,
    )


def _seconds(name: str, text: str) -> float:
    try:
        value = float(text)
        require_positive(name, value)
    except ValueError as error:
        raise BadInputError(f"`{name}` must be a number of seconds above 0, got {text!r}") from error
    return value


if __name__ == "__main__":
    sys.exit(main())

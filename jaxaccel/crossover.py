"""`python -m jaxaccel.crossover`: the sizes at which the winner changes, found adaptively.

A coarse ladder of sizes, then sizes between those where the winner changes, each measured as `run` measures:
in fresh processes, the arms of a pair in turn. All that it knows is in the records of its folder, so that an
interrupted search goes on with `resume=FOLDER`.
"""

import sys
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from jaxaccel.analyze.crossover_config import CrossoverConfig
from jaxaccel.cli.commands import (
    Launcher,
    command_line,
    costs_a_warning,
    last_lines,
    leave_page,
    open_book,
    process_start,
    ready_to_write,
    send,
    stop_by,
    to_its_end,
)
from jaxaccel.cli.config import CeilingsMode, ResumeChanged, RunConfig
from jaxaccel.cli.exit import BAD_INPUT, INCOMPLETE, OK, command
from jaxaccel.cli.keeping import Keeper
from jaxaccel.cli.spelling import in_words_typed
from jaxaccel.process import signals
from jaxaccel.process.early import NO_RESULT
from jaxaccel.process.saying import say, tell, warn
from jaxaccel.records import NOT_NEEDED, Arm, Record
from jaxaccel.records.errors import BadInputError

if TYPE_CHECKING:
    from jaxaccel.analyze.crossover import Answer, Point
    from jaxaccel.cli.compose import Composed, Job
    from jaxaccel.session.ceilings import Book
    from jaxaccel.session.session import Group, Place, Watcher

HELP = """\
jaxaccel.crossover finds the sizes at which the faster device changes.

Usage: python -m jaxaccel.crossover [-m] [KEY=VALUE ...]     (-m: a search each for workload=a,b,c)

  workload=matvec|dot|mlp|...      what is computed; its keys, dtype, precision, seed: as in jaxaccel.run
  fn=FILE.py:NAME args=NAME        your own function, with crossover.low and crossover.high
  crossover.low=N crossover.high=N the sizes that are looked at      (matvec, dot, mlp, matmul have a range)
  crossover.over=batch             look at this parameter of the workload in place of the size
  crossover.questions=[latency,throughput,device,once_100,every_call,every_call_pinned]
                                   by which metric, and where the data lives: resident; once, for K calls
                                   (once_K); moved for every call
  crossover.within=0.05            how narrow a bracket is to be: 5%
  crossover.per_octave=1           sizes to look at first, where the size doubles
  crossover.budget_s=900           look at no further sizes after so many seconds
  timing=quick|default|thorough    how surely: passes near the crossings (elsewhere one)
  resume=FOLDER                    go on with an interrupted search of the same arguments

Examples:
  python -m jaxaccel.crossover workload=matvec
  python -m jaxaccel.crossover workload=mlp crossover.questions=[latency,every_call] crossover.high=1024
  python -m jaxaccel.crossover fn=src/train.py:step crossover.low=64 crossover.high=4096
  python -m jaxaccel.crossover workload=mlp_article crossover.over=batch crossover.low=1 crossover.high=512

Exit code: 0 nothing more can be told, 1 something was left (a budget, a failure), 2 bad input.
"""
BOTH = ("cpu", "gpu")


@command
def main(arguments: Sequence[str]) -> int:
    """Compose, search, save, show, publish. Returns the exit code."""
    if {"--help", "-h"} & set(arguments):
        say(HELP, end="")
        return OK
    line = command_line("jaxaccel.crossover", arguments)
    with ExitStack() as workers:
        launcher = Launcher(BOTH, workers)
        from jaxaccel.cli.compose import compose

        for argument in arguments:
            if argument.partition("=")[0] in ("device", "size", "metrics"):
                raise BadInputError(
                    f"`{argument}` is for jaxaccel.run: both devices are compared here, at sizes from "
                    "crossover.low to crossover.high, by crossover.questions"
                )
        command_id = uuid.uuid4().hex[:8]
        composed = compose([*arguments, "device=both"], command_id, ["crossover=default"])
        return search_all(composed, line, command_id, launcher) if composed.jobs else OK


def search_all(composed: "Composed", line: str, command_id: str, launcher: Launcher) -> int:
    """One search a job, one after the other; what was found is shown and saved however it ends.

    **Raises** BadInputError for what `prepare` refuses.
    """
    from jaxaccel.render.terminal import make_console
    from jaxaccel.render.terminal.progress import ShowProgress
    from jaxaccel.session.device_locks import hold_devices

    config = composed.jobs[0].config
    with ready_to_write(composed):
        launcher.use(config.flags)
        launcher.keep_cpu_to(composed.cpu_cores)
        searches = [prepare(job) for job in composed.jobs]
    sessions = Sessions(
        line=line,
        sweep_id=command_id,
        launch=launcher,
        mode=config.ceilings,
        restart=config.resume_changed is ResumeChanged.restart,
    )
    code = INCOMPLETE
    with ExitStack() as keepers:
        for found in searches:
            keepers.enter_context(found.keeper)
        try:
            with (
                to_its_end(composed, lambda: any(found.records for found in searches)),
                hold_devices(BOTH, wait_s=config.wait_s, waiting=launcher.make_way),
                ShowProgress(make_console()) as sessions.watcher,
            ):
                ended = [search(found, sessions.measure) for found in searches]
                code = OK if all(ended) else INCOMPLETE
        except BadInputError as error:
            warn(str(error))
            code = BAD_INPUT
        told = [finish(found, command_id) for found in searches if found.records]
    if not told and signals.stopped():
        warn(f"{signals.how()} {NO_RESULT}")
    elif code == INCOMPLETE:
        tell("the search is not complete; resume it with the same command and resume=FOLDER")
    return signals.exit_code() or (code if code != OK or all(told) else INCOMPLETE)


@dataclass(kw_only=True)
class Sessions:
    """Measures groups, a session at a time, with what all sessions of a command share."""

    line: str
    sweep_id: str
    launch: Launcher
    mode: CeilingsMode
    restart: bool
    watcher: "Watcher | None" = None
    began: float = field(default_factory=process_start)
    _book: "Book | None" = None

    def measure(self, groups: "list[Group]") -> "Iterator[tuple[Place, Record]]":
        """A session: the records of its groups, each as soon as it is there."""
        from jaxaccel.session.arm_run import Command
        from jaxaccel.session.session import Plan, measure

        assert self.watcher is not None
        self._book = self._book or open_book(self.mode)
        # What no arm accounts for is that of this session alone.
        command = Command(line=self.line, sweep_id=self.sweep_id, started=self.began)
        try:
            plan = Plan(groups=groups, command=command, book=self._book, restart=self.restart)
            for place, record in measure(plan, self.launch, self.watcher):
                yield place, in_words_typed(record)
        finally:
            self.began = time.time()


def finish(found: "Search", sweep_id: str) -> bool:
    """Show, save and publish what a search found; whether each question has an answer."""
    from jaxaccel.records import store
    from jaxaccel.render import terminal
    from jaxaccel.render.words.crossover import save_crossovers
    from jaxaccel.render.words.names import family_name

    screen, records, settings = terminal.make_console(), list(found.records.values()), found.settings
    answers, case, config = found.answers(), found.config.case, found.config
    unknown = [name for name in settings.questions if name not in {answer.question for answer in answers}]
    with signals.caught(), signals.held():
        found.keeper.settle()
        with costs_a_warning(f"can't write to {found.folder}"):  # each record is kept by itself
            store.save_all(records, found.folder)
            save_crossovers(case, settings, answers, found.folder)
    with costs_a_warning("the answers could not be shown"):
        if answers:
            title = f"{family_name(case)}, {settings.over} {settings.low} to {settings.high}"
            terminal.show_crossovers(screen, title, answers)
        if unknown and found.pairs():
            say(f"not known: {', '.join(unknown)} (`absent` in the records says why)")
        terminal.show_failures(screen, records)
    leave_page(records, found.folder)
    send(records, config.wandb, found.folder, sweep_id=sweep_id, keeper=found.keeper)
    last_lines(found.keeper, found.folder, made=len(records))
    return not unknown and found.keeper.complete


def prepare(job: "Job") -> "Search":
    """The search that a job describes, with the records that its folder has already.

    **Raises** BadInputError for a question that is none, and for records of something else in its folder.
    """
    from jaxaccel.analyze.machines import latest
    from jaxaccel.analyze.questions import check_question, metrics_for
    from jaxaccel.cli.record_arguments import load_and_tell
    from jaxaccel.session.evidence import asked_for

    settings = job.config.crossover
    assert settings is not None
    for question in settings.questions:
        try:
            check_question(question)
        except ValueError as error:
            raise BadInputError(f"`crossover.questions` {error}") from error
    found = Search(config=job.config, settings=settings, folder=job.folder)
    if not job.config.resume:
        return found
    for record in latest(load_and_tell([job.folder])).values():
        case, device = record.case, record.arm.requested
        at = case.size if settings.over == "size" else case.params.get(settings.over)
        if not isinstance(at, int) or found.arm(at, device).case != case:
            raise BadInputError(f"`resume`: {job.folder} holds {case}, which is not of this search")
        if record.ok and asked_for(record) != list(metrics_for(settings.questions)):
            raise BadInputError(f"`resume`: {job.folder} was measured for other crossover.questions")
        found.records[at, device] = record
    return found


@dataclass(frozen=True, kw_only=True)
class Need:
    """How many passes of a size are wanted, and for which questions."""

    passes: int = 0
    questions: tuple[str, ...] = ()

    def and_of(self, question: str, passes: int) -> "Need":
        """The same, and what another question wants."""
        return Need(passes=max(self.passes, passes), questions=(*self.questions, question))


@dataclass(kw_only=True)
class Search:
    """What one search looks for, and the records that it has, by size and device.

    failed: the questions and sizes of which passes were asked for that could not be made. keeper: has the
    records that this command made.
    """

    config: RunConfig
    settings: CrossoverConfig
    folder: Path
    records: dict[tuple[int, str], Record] = field(default_factory=dict)
    failed: set[tuple[str, int]] = field(default_factory=set)
    keeper: Keeper = field(default_factory=Keeper)

    def arm(self, at: int, device: str) -> Arm:
        """The case at a size, or at another value of what is searched over, on a device."""
        config, over = self.config, self.settings.over
        if over == "size":
            config = replace(config, size=at)
        else:
            params = {**config.workload.params, over: at}
            config = replace(config, workload=replace(config.workload, params=params))
        return next(arm for arm in config.arms if arm.device == device)

    def place(self, at: int, device: str) -> Path:
        """Where the record of an arm is."""
        return self.folder / f"{self.settings.over}-{at}" / device

    def forget_other_sources(self, now: Record) -> None:
        """A line goes through sizes of one program: records of another are measured anew.

        **Raises** BadInputError where that was not asked for.
        """
        from jaxaccel.session.source import of_other_source, resumed_after_edit, source_of

        others, source = of_other_source(self.records.values(), now), source_of(now)
        if others and source and self.config.resume_changed is not ResumeChanged.restart:
            raise BadInputError(resumed_after_edit(others[0], source))
        self.records = {at: record for at, record in self.records.items() if record not in others}

    def pairs(self) -> dict[int, tuple[Record, Record]]:
        """The sizes of which both arms were measured."""
        sizes = sorted({at for at, _ in self.records})
        found = {at: tuple(self.records.get((at, device)) for device in BOTH) for at in sizes}
        return {at: (cpu, gpu) for at, (cpu, gpu) in found.items() if cpu and gpu and cpu.ok and gpu.ok}

    def passes(self, question: str) -> dict[int, int]:
        """How many passes a question has of each size; of one that failed, as many as there could be."""
        from jaxaccel.analyze.questions import passes_of

        made = {at: min(passes_of(record, question) for record in pair) for at, pair in self.pairs().items()}
        failed = [at for name, at in self.failed if name == question]
        made = {at: passes for at, passes in made.items() if passes}
        return made | dict.fromkeys(failed, self.config.passes)

    def can_have(self, question: str, at: int) -> bool:
        """Whether its metrics can be had at a size; False where a record says why one can't."""
        from jaxaccel.analyze.questions import metrics_for

        absent = (record.absent for record in self.pairs().get(at, ()))
        places = [f"timings.{metric}" for metric in metrics_for([question])]
        return not any(why.get(place, NOT_NEEDED) != NOT_NEEDED for why in absent for place in places)

    def points(self, question: str) -> "list[Point]":
        """What is known of a question."""
        from jaxaccel.analyze.questions import family_size, point

        pairs = self.pairs()
        among = family_size(pairs.values(), question)
        known = (point(question, at, *pair, among=among) for at, pair in pairs.items())
        return [found for found in known if found]

    def answers(self) -> "list[Answer]":
        """What was found out, by question."""
        from jaxaccel.analyze.crossover import conclude

        known = {question: self.points(question) for question in self.settings.questions}
        return [conclude(question, points) for question, points in known.items() if points]

    def wanted(self) -> "dict[int, Need]":
        """The sizes to be measured next, each for the questions that it can tell something of."""
        from jaxaccel.analyze.crossover import ladder
        from jaxaccel.analyze.search import plan

        settings, found = self.settings, dict[int, Need]()
        rungs = ladder(settings.low, settings.high, settings.per_octave)
        for question in settings.questions:
            passes = self.passes(question)
            lacking = dict.fromkeys((at for at in rungs if at not in passes), 1)
            sizes = lacking or plan(
                self.points(question), passes, full=self.config.passes, within=settings.within
            )
            for at, wanted in sizes.items():
                found[at] = found.get(at, Need()).and_of(question, wanted)
        return dict(sorted(found.items()))

    def groups(self, wanted: "Mapping[int, Need]") -> "list[Group]":
        """What a session measures of it."""
        from jaxaccel.analyze.questions import metrics_for
        from jaxaccel.session.session import Group

        return [
            Group(
                stop=stop_by(self.config.timing),
                passes=need.passes,
                metrics=metrics_for(self.settings.questions),
                needed=metrics_for(need.questions),
                arms={device: self.arm(at, device) for device in BOTH},
                prior={device: self.records[at, device] for device in BOTH if (at, device) in self.records},
            )
            for at, need in wanted.items()
        ]


def search(
    found: Search,
    measure: "Callable[[list[Group]], Iterator[tuple[Place, Record]]]",
    clock: Callable[[], float] = time.monotonic,
) -> bool:
    """Measure until nothing more can be told; False where the budget, or failures, end it before.

    The budget is looked at between sessions: one that has begun is finished.

    `measure` is a session: it yields the records of groups, each as soon as it is there.
    """
    end_s = clock() + found.settings.budget_s
    while wanted := found.wanted():
        if clock() >= end_s:
            return False
        if not found.pairs():  # one alone, first: where there is no GPU, say, all others would be in vain
            wanted = dict([next(iter(wanted.items()))])
        sizes = list(wanted)
        for (index, device), record in measure(found.groups(wanted)):
            found.forget_other_sources(record)
            found.records[sizes[index], device] = record
            found.keeper.keep(record, [found.place(sizes[index], device)])
        if not found.pairs():
            return False
        # What still lacks passes that were asked for would be asked for again, for ever.
        for question in found.settings.questions:
            made = found.passes(question)
            found.failed |= {
                (question, at)
                for at, need in wanted.items()
                if question in need.questions and made.get(at, 0) < need.passes
            }
    return not any(found.can_have(question, at) for question, at in found.failed)


if __name__ == "__main__":
    sys.exit(main())

"""All cases of a command, in passes: fresh workers, cases in random order, the arms of a case interleaved.

After the first pass every arm has a record; each further pass narrows it. Whatever happens in between, what
was measured is there.
"""

import random
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Protocol

from jaxaccel.hardware.host import LoadMeter
from jaxaccel.records import Arm, Case, HostLoad, Metric, Problem, Record, Spent
from jaxaccel.records.errors import BadInputError
from jaxaccel.records.messages import Close, Failure, Inspect, Inspected, Message, Open, Opened, Started
from jaxaccel.session.arm_run import Command, Tally
from jaxaccel.session.ceilings import Found
from jaxaccel.session.rounds import OpenArm, Sampled, Stop, sample, stop_of
from jaxaccel.session.source import Named, Source, edited, named, resumed_after_edit, source_of


class WorkerLike(Protocol):
    """What a session needs of a worker."""

    @property
    def start_s(self) -> float:
        """What its start took."""

    @property
    def alive(self) -> bool:
        """Whether it can still be asked."""

    def ready(self) -> Started | Failure:
        """Wait for its start."""

    def ask(self, request: Message) -> Message:
        """Its answer."""

    def stop(self) -> None:
        """End it."""


# How often an arm's ceilings are measured anew where its rate is above them, before it is accused.
AGAIN = 2
EDITED = "Edited"  # a problem: a later pass would have been of another program

Launch = Callable[[str], WorkerLike]
Place = tuple[int, str]  # index of a group, device of an arm


class Watcher(Protocol):
    """Who is told how it goes; always between rounds, when nothing is being timed."""

    def doing(self, case: str, pass_index: int, done: int, total: int) -> None:
        """A case begins: `done` of the `total` cases of this pass are behind it."""

    def beside(self, what: str) -> None:
        """Something begins that takes a while, beside the rounds."""

    def opened(self, device: str, call_s: float) -> None:
        """An arm is ready to be timed, whose calls take about so long."""

    def sampling(self, metric: Metric) -> None:
        """The rounds of a metric begin."""

    def sampled(self, metric: Metric, found: Mapping[str, Sampled]) -> None:
        """A round is over."""

    def passed(self, pass_index: int, passes: int, records: Sequence[Record]) -> None:
        """A pass is over; `records` are all that there are."""


class CeilingsOf(Protocol):
    """Knows what holds for an arm, or measures it on the arm's worker."""

    def ceilings(
        self, worker: WorkerLike, started: Started, opened: Opened, case: Case, *, again: bool = False
    ) -> Found:
        """The ceilings; measured `again`, for the ones there are seem too low."""


class Meter(Protocol):
    """Tells the load by others since it last told."""

    def read(self) -> HostLoad:
        """The load."""


@dataclass(kw_only=True)
class Group:
    """The arms of one case, by device: they are interleaved, and sampled equally long, in `passes`.

    `prior` are records of these arms that an earlier command made. energy_s: how long to count energy.
    needed: those of `metrics` that these passes are of, where it is not all; the records keep the others.
    """

    stop: Stop
    passes: int = 1
    metrics: tuple[Metric, ...] = (Metric.latency, Metric.throughput)
    energy_s: float = 0.0
    arms: dict[str, Arm] = field(default_factory=dict)
    prior: dict[str, Record] = field(default_factory=dict)
    needed: tuple[Metric, ...] | None = None

    @property
    def asked(self) -> tuple[Metric, ...]:
        """The metrics that its passes are of."""
        return self.metrics if self.needed is None else self.needed


@dataclass(kw_only=True)
class Plan:
    """What to measure. `book` has the ceilings; None: results are held against none.

    restart: earlier records of another source are measured anew, in place of being refused.
    """

    groups: Sequence[Group]
    command: Command
    rng: random.Random = field(default_factory=random.Random)
    meter: Meter = field(default_factory=LoadMeter)
    book: CeilingsOf | None = None
    restart: bool = False


def measure(plan: Plan, launch: Launch, watcher: Watcher) -> Iterator[tuple[Place, Record]]:
    """Measure all arms; yields the place of an arm and its record whenever a pass has gone over it.

    An arm's last record is the fullest: where it gets energy or ceilings, a pass yields it again. One that an
    earlier command has measured already is yielded too.

    **Raises** BadInputError where an earlier record is not of the arm that would go on, or of another source.
    """
    session = _Session(plan, watcher)
    order = list(range(len(plan.groups)))
    passes = max(group.passes for group in plan.groups)
    for turn, pass_index in enumerate(session.turns(passes)):
        if turn:  # the first goes in the order that was asked for, so that a reader can follow
            plan.rng.shuffle(order)
            if not session.lacking(order, pass_index):
                continue
        devices = session.devices(order, pass_index)
        with _Crew(launch, devices) as crew:
            session.meet(crew)
            lacking = session.lacking(order, pass_index)
            if turn == 0:
                yield from session.records(index for index in order if index not in lacking)
            for done, index in enumerate(lacking):
                opened = session.go_over(index, pass_index, crew, done=done, of=len(lacking))
                # Energy and ceilings take a while: whoever interrupts them keeps the timings.
                if plan.groups[index].energy_s:
                    yield from session.records([index])
                session.find_out_once(index, opened, crew)
                yield from session.records([index])
                if session.hold_against_ceilings(index, opened, crew):
                    yield from session.records([index])
        watcher.passed(pass_index, passes, [record for _, record in session.records(range(len(order)))])


class _Session:
    """The tallies of all arms, and one pass over a group of them."""

    def __init__(self, plan: Plan, watcher: Watcher) -> None:
        self._plan, self._watcher = plan, watcher
        self._tallies = [
            {
                device: Tally(
                    arm,
                    group.stop,
                    plan.command,
                    passes=group.passes,
                    metrics=group.metrics,
                    asked=group.asked,
                    energy_s=group.energy_s,
                    held=plan.book is not None,
                    prior=group.prior.get(device),
                )
                for device, arm in group.arms.items()
            }
            for group in plan.groups
        ]
        self._sources: dict[Named, Source] = {}  # what was opened by this command
        self._restarted = False

    def turns(self, passes: int) -> Iterator[int]:
        """The passes to be made, and from the first on again where an arm was restarted on the way."""
        yield from range(passes)
        while self._restarted:
            self._restarted = False
            yield from range(passes)

    def devices(self, order: Iterable[int], pass_index: int) -> list[str]:
        """The devices that a pass needs."""
        needed = (
            device
            for index in order
            for device, tally in self._tallies[index].items()
            if pass_index == 0 or tally.lacks(pass_index)
        )
        return list(dict.fromkeys(needed))

    def lacking(self, order: Iterable[int], pass_index: int) -> list[int]:
        """The groups that have an arm for which this pass is still to be made."""
        return [i for i in order if any(tally.lacks(pass_index) for tally in self._tallies[i].values())]

    def meet(self, crew: "_Crew") -> None:
        """Tell each arm of the worker that has started for it."""
        for arms in self._tallies:
            for device, tally in arms.items():
                if device in crew.devices:
                    tally.met(crew.worker(device).ready())

    def records(self, indices: Iterable[int]) -> Iterator[tuple[Place, Record]]:
        """The records of some groups, as things stand."""
        everyone = [tally for arms in self._tallies for tally in arms.values()]
        overhead = _overhead_s(self._plan.command, everyone)
        for index in indices:
            for device, tally in self._tallies[index].items():
                yield (index, device), tally.record(overhead)

    def go_over(
        self, index: int, pass_index: int, crew: "_Crew", *, done: int, of: int
    ) -> dict[str, "_OpenArm"]:
        """One pass over the arms of a case; returns those that could be opened, and still are, by device.

        They open one by one: a compilation beside another is slower.
        """
        tallies = {d: tally for d, tally in self._tallies[index].items() if tally.lacks(pass_index)}
        self._watcher.doing(str(next(iter(tallies.values())).arm.case), pass_index, done, of)
        group = self._plan.groups[index]
        opened: dict[str, _OpenArm] = {}
        for device, tally in tallies.items():
            worker, start_s = crew.working(device)
            arm = _OpenArm(worker, f"{tally.arm.case.case_id}-{device}")
            self._watcher.beside(f"opening on the {device}")
            reply = arm.open(tally.to_open, group.asked)
            if isinstance(reply, Opened):
                opened[device] = arm
                self._watcher.opened(device, reply.call_s or 0.0)
                if why := self._edited(tally.arm.case, reply):
                    tally.ended(why)
                else:
                    tally.opened(reply, start_s)
            else:
                tally.ended(_failure(reply))
        self._plan.meter.read()
        for metric in group.asked:
            going = {device: arm for device, arm in opened.items() if not tallies[device].failed}
            # A pass is of one process: a metric that has it from an earlier session is not sampled again.
            able = {
                device: arm
                for device, arm in going.items()
                if tallies[device].offers(metric) and tallies[device].lacks_metric(metric, pass_index)
            }
            if able:
                self._watcher.sampling(metric)
            found = sample(
                able,
                metric,
                stop_of(metric, group.stop),
                pass_index=pass_index,
                rng=self._plan.rng,
                between=lambda state, metric=metric: self._watcher.sampled(metric, state),  # type: ignore[misc]
            )
            for device, got in found.items():
                tallies[device].sampled(metric, got, interleaved=len(going) > 1)
        load = self._plan.meter.read()
        for device in opened:
            tallies[device].closed(pass_index, load)
        return opened

    def _edited(self, case: Case, opened: Opened) -> Failure | None:
        """Why what was opened is not of the source that this command began with; None where it is.

        **Raises** BadInputError where records that were to be gone on with are of another source. Or these
        are measured anew, all those of the same functions: they stand in one table.
        """
        source, key = source_of(opened), named(case)
        if source is None:
            return None
        if key in self._sources:
            before = self._sources[key]
            if before == source:
                return None
            message = f"edited while it was measured: {edited(before, source)}"
            return Failure(error=Problem(type=EDITED, message=message))
        self._sources[key] = source
        for tally in (tally for arms in self._tallies for tally in arms.values()):
            prior = tally.prior
            if prior and named(prior.case) == key and source_of(prior) not in (None, source):
                if not self._plan.restart:
                    raise BadInputError(resumed_after_edit(prior, source))
                tally.restart()
                self._restarted = True
        return None

    def find_out_once(self, index: int, opened: Mapping[str, "_OpenArm"], crew: "_Crew") -> None:
        """What needs no more than one pass (kernels, the loop's slope, energy); then the arms close."""
        for device, arm in opened.items():
            tally = self._tallies[index][device]
            if tally.failed or not tally.wants_inspection:
                continue
            self._watcher.beside(f"{device} kernels, loop, energy")
            reply = arm.inspect(self._plan.groups[index].energy_s)
            if isinstance(reply, Inspected):
                tally.found_out(reply)
            else:
                tally.lost(_failure(reply))
        for device, arm in opened.items():
            if crew.worker(device).alive:
                self._tallies[index][device].let_go(arm.close())

    def hold_against_ceilings(self, index: int, devices: Iterable[str], crew: "_Crew") -> bool:
        """Give arms their ceilings, from their workers, whose memory is free again; whether any were new."""
        book, news = self._plan.book, False
        for device in devices:
            tally, worker = self._tallies[index][device], crew.worker(device)
            started, facts = worker.ready(), tally.facts
            if book is None or facts is None or not isinstance(started, Started):
                continue
            while worker.alive and not tally.failed and tally.wants_ceilings(AGAIN):
                self._watcher.beside(f"{device} ceilings")
                again = tally.ceilings is not None
                tally.held_against(book.ceilings(worker, started, facts, tally.arm.case, again=again))
                news = True
        return news


class _OpenArm(OpenArm):
    """What else a session asks of an arm."""

    def open(self, arm: Arm, metrics: tuple[Metric, ...]) -> Message:
        return self._worker.ask(Open(key=self._key, arm=arm, metrics=metrics))

    def inspect(self, energy_s: float) -> Message:
        return self._worker.ask(Inspect(key=self._key, energy_s=energy_s))

    def close(self) -> Message:
        return self._worker.ask(Close(key=self._key))


class _Crew:
    """The workers of one pass: at most one alive a device, a new one where one has died."""

    def __init__(self, launch: Launch, devices: Sequence[str]) -> None:
        self.devices = devices
        self._launch = launch
        self._stack = ExitStack()
        self._untold = set(devices)
        self._workers: dict[str, WorkerLike] = {}

    def __enter__(self) -> "_Crew":
        with ExitStack() as undo:
            undo.callback(self._stack.close)
            # All at once: nothing is timed yet, and each takes seconds.
            self._workers = {device: self._start(device) for device in self.devices}
            # One that is starting would disturb the other's compilation.
            for worker in self._workers.values():
                worker.ready()
            undo.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def worker(self, device: str) -> WorkerLike:
        """The device's worker, alive or not."""
        return self._workers[device]

    def working(self, device: str) -> tuple[WorkerLike, float]:
        """The device's worker, a new one if it died; and the seconds of its start, told once."""
        worker = self._workers[device]
        # One that never started won't the next time; one that died of a case may serve the next case.
        if not worker.alive and isinstance(worker.ready(), Started):
            worker = self._workers[device] = self._start(device)
            self._untold.add(device)
        untold = device in self._untold
        self._untold.discard(device)
        return worker, worker.start_s if untold else 0.0

    def _start(self, device: str) -> WorkerLike:
        worker = self._launch(device)
        self._stack.callback(worker.stop)
        return worker


def _failure(reply: Message) -> Failure:
    if isinstance(reply, Failure):
        return reply
    raise TypeError(f"a worker answered with {type(reply).__name__}")


def _overhead_s(command: Command, tallies: Sequence[Tally]) -> float:
    """The share of each arm in what the command has spent on no arm in particular."""
    accounted = sum((tally.spent for tally in tallies), Spent()).accounted
    busy = [tally for tally in tallies if tally.spent.accounted]
    return max(0.0, time.time() - command.started - accounted) / max(1, len(busy))

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

from jaxaccel.measure.sampling import Sampled, Stop, sample
from jaxaccel.measure.tally import Command, Tally
from jaxaccel.records import (
    Arm,
    AskRound,
    Close,
    Closed,
    Failure,
    Message,
    Metric,
    Open,
    Opened,
    Record,
    Round,
    Spent,
    Started,
)


class WorkerLike(Protocol):
    """What a session needs of a worker."""

    @property
    def alive(self) -> bool:
        """Whether it can still be asked."""

    def ready(self) -> Started | Failure:
        """Wait for its start."""

    def ask(self, request: Message) -> Message:
        """Its answer."""

    def stop(self) -> None:
        """End it."""


Launch = Callable[[str], WorkerLike]


class Watcher(Protocol):
    """Who is told how it goes; always between rounds, when nothing is being timed."""

    def doing(self, case: str, what: str, done: int, total: int) -> None:
        """A step begins: `done` of `total` cases are behind it."""

    def sampled(self, metric: Metric, found: Mapping[str, Sampled]) -> None:
        """A round is over."""


@dataclass(kw_only=True)
class Group:
    """The arms of one case, by device: they are interleaved, and sampled equally long."""

    stop: Stop
    arms: dict[str, Arm] = field(default_factory=dict)


@dataclass(kw_only=True)
class Plan:
    """What to measure. The `limit_s` of a group is for all passes together."""

    groups: Sequence[Group]
    command: Command
    passes: int = 1
    rng: random.Random = field(default_factory=random.Random)


def measure(plan: Plan, launch: Launch, watcher: Watcher) -> Iterator[tuple[tuple[int, str], Record]]:
    """Measure all arms; after each pass over a group, yield where each of its arms stands, and its record.

    Where it stands is the index of its group, and its device. An arm's last record is the fullest.
    """
    tallies = [_tallies(group, plan) for group in plan.groups]
    order = list(range(len(tallies)))
    done, total = 0, len(tallies) * plan.passes
    for pass_index in range(plan.passes):
        if pass_index:  # the first goes in the order that was asked for, so that a reader can follow
            plan.rng.shuffle(order)
        with _Crew(launch, (device for group in plan.groups for device in group.arms)) as crew:
            for index in order:
                group = tallies[index]
                watcher.doing(str(next(iter(group.values())).arm.case), "opening", done, total)
                _measure_group(group, crew, pass_index, plan.rng, watcher)
                done += 1
                overhead = _overhead_s(plan.command, (tally for arms in tallies for tally in arms.values()))
                for device, tally in group.items():
                    yield (index, device), tally.record(overhead)


def _tallies(group: Group, plan: Plan) -> dict[str, Tally]:
    stop = Stop(relative_ci=group.stop.relative_ci, limit_s=group.stop.limit_s / plan.passes)
    paired = len(group.arms) > 1
    return {device: Tally(arm, stop, plan.command, paired=paired) for device, arm in group.arms.items()}


def _measure_group(
    group: Mapping[str, Tally], crew: "_Crew", pass_index: int, rng: random.Random, watcher: Watcher
) -> None:
    """One pass over the arms of a case. One after the other opens: a compilation beside another is slower."""
    opened: dict[str, _OpenArm] = {}
    tallies = {device: tally for device, tally in group.items() if not tally.failed}
    for device, tally in tallies.items():
        worker = crew.worker(device, tally)
        key = f"{tally.arm.case.case_id}-{device}"
        reply = worker.ask(Open(key=key, arm=tally.arm))
        if isinstance(reply, Opened):
            tally.opened(reply)
            opened[device] = _OpenArm(worker, key)
        else:
            tally.ended(_failure(reply))
    for metric in Metric:
        able = {device: arm for device, arm in opened.items() if not tallies[device].failed}
        if not able:
            break
        found = sample(
            able,
            metric,
            tallies[next(iter(able))].stop,
            pass_index=pass_index,
            rng=rng,
            between=lambda state, metric=metric: watcher.sampled(metric, state),  # type: ignore[misc]
        )
        for device, got in found.items():
            tallies[device].sampled(metric, got)
    for device, arm in opened.items():
        if crew.worker(device).alive:
            reply = arm.close()
            tallies[device].closed(reply.peak_bytes if isinstance(reply, Closed) else None)


class _OpenArm:
    """An arm in its worker, as the sampling loop sees it."""

    def __init__(self, worker: WorkerLike, key: str) -> None:
        self._worker, self._key = worker, key

    def round(self, metric: Metric) -> Round | Failure:
        reply = self._worker.ask(AskRound(key=self._key, metric=metric))
        return reply if isinstance(reply, Round) else _failure(reply)

    def close(self) -> Message:
        return self._worker.ask(Close(key=self._key))


class _Crew:
    """The workers of one pass: at most one alive a device, a new one where one has died."""

    def __init__(self, launch: Launch, devices: Iterable[str]) -> None:
        self._launch = launch
        self._stack = ExitStack()
        # All at once: nothing is timed yet, and each takes seconds.
        self._workers = {device: self._start(device) for device in dict.fromkeys(devices)}
        self._reported: set[WorkerLike] = set()

    def __enter__(self) -> "_Crew":
        for (
            worker
        ) in self._workers.values():  # a process that is starting would disturb the other's compilation
            worker.ready()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def worker(self, device: str, tally: Tally | None = None) -> WorkerLike:
        worker = self._workers[device]
        # One that never started won't the next time; one that died of a case may serve the next case.
        if tally and not worker.alive and isinstance(worker.ready(), Started):
            worker = self._workers[device] = self._start(device)
        started = worker.ready()
        if tally:
            fresh = worker not in self._reported
            self._reported.add(worker)
            tally.began(
                started.environment, started.start_s if fresh and isinstance(started, Started) else 0.0
            )
        return worker

    def _start(self, device: str) -> WorkerLike:
        worker = self._launch(device)
        self._stack.callback(worker.stop)
        return worker


def _failure(reply: Message) -> Failure:
    if isinstance(reply, Failure):
        return reply
    raise TypeError(f"a worker answered with {type(reply).__name__}")


def _overhead_s(command: Command, tallies: Iterable[Tally]) -> float:
    """The share of each arm in what the command has spent on no arm in particular."""
    everyone = list(tallies)
    accounted = sum((tally.spent for tally in everyone), Spent()).accounted
    busy = [tally for tally in everyone if tally.spent.accounted]
    return max(0.0, time.time() - command.started - accounted) / max(1, len(busy))

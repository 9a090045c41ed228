"""`python -m jaxaccel.wandb.sender FOLDER`: sends an order's runs, and tells how that went.

It runs in a process of its own (see `process`), and asks W&B what it has before and after.
"""

import contextlib
import os
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import msgspec
import psutil

from jaxaccel.process.children import keep
from jaxaccel.records.redact import all_without_secrets
from jaxaccel.records.redact.outlets import scrub
from jaxaccel.wandb.client import Asking, core_lives, in_words, log, not_whole, resolve_mode, set_up
from jaxaccel.wandb.config import WandbMode
from jaxaccel.wandb.runs import Run, lacks
from jaxaccel.wandb.send_job import EVENTS, ORDER, Event, Kind, Order

AT_ONCE = 8  # runs that are on their way to W&B: one alone takes a second, most of it waiting
RESERVE_S = 8.0  # of the time that there is, for what comes after the last run
WRITTEN_S = 3.0  # until the last of what was written is in its file: a run's end does not wait for that
AFTER_FAULT_S = 5.0  # for an answer, once W&B has failed
Tell = Callable[[Event], None]


def main(folder: Path) -> None:
    """Do what folder/order.json says, a line in folder/events.jsonl for each thing that happens."""
    order = msgspec.json.decode((folder / ORDER).read_bytes(), type=Order)
    order = replace(order, folder=order.folder or str(folder))
    with (folder / EVENTS).open("ab", buffering=0) as events:

        def tell(event: Event) -> None:
            events.write(msgspec.json.encode(all_without_secrets(event)) + b"\n")

        try:
            send(order, tell)
        except Exception as error:  # the edge of this process: whatever W&B does becomes a line
            tell(Event(kind=Kind.fault, words=in_words(error)))
        tell(Event(kind=Kind.done))
    with contextlib.suppress(psutil.Error):
        for child in psutil.Process().children():  # wandb-core: all that it had to do is done, or has failed
            child.kill()
    with contextlib.suppress(OSError):
        scrub_logs(Path(order.folder))
    os._exit(0)  # wandb would wait at its exit for uploads that have been given up


def scrub_logs(folder: Path) -> None:
    """Take the secrets out of what wandb has logged below a folder, beside the runs."""
    for path in folder.glob("wandb/*run-*/logs"):
        scrub(path)


def send(order: Order, tell: Tell) -> None:
    """Send what W&B has not, and ask what has arrived; or keep it offline."""
    sending = _Sending(order, tell)
    set_up()
    if resolve_mode(order.mode) == "online":
        sending.online()
        return
    tell(Event(kind=Kind.offline, words="" if order.mode == WandbMode.offline else "nobody is logged in"))
    if order.keep:
        sending.offline()


class _Sending:
    """One order: its clock, and what has been sent."""

    def __init__(self, order: Order, tell: Tell) -> None:
        self._order, self._tell, self._limits = order, tell, order.limits
        self._began = time.monotonic()
        self._asking = Asking(order)

    def online(self) -> None:
        """Send all that W&B has not.

        **Raises** what wandb raises where W&B can't be asked: it would not take runs either.
        """
        there = self._asking.ask(self._order.runs, self._limits.ask_s)
        lacking = [run for run in self._order.runs if lacks(run, there.get(run.id))]
        had = tuple(run.id for run in self._order.runs if run not in lacking)
        self._tell(Event(kind=Kind.online, words=self._asking.address()))
        if had:
            self._tell(Event(kind=Kind.there, ids=had))
        until = self._began + min(self._limits.online_s, self._limits.total_s - RESERVE_S)
        sent, fault = self._log_all(lacking, "online", until)
        if sent and core_lives():
            self._confirm([run for run, _ in sent], hurry=fault)

    def offline(self) -> None:
        """Keep all as files, and look whether they are whole."""
        until = self._began + self._limits.total_s - WRITTEN_S - 1
        written, _ = self._log_all(self._order.runs, "offline", until)
        self._look(written)

    def _look(self, written: Sequence[tuple[Run, Path]]) -> None:
        """Tell which of the runs that were written are whole: the client calls them finished either way."""
        until, told = time.monotonic() + WRITTEN_S, False
        for run, folder in written:
            while (problem := not_whole(folder, run)) and time.monotonic() < until:
                time.sleep(0.05)
            if problem is None:
                self._tell(Event(kind=Kind.kept, ids=(run.id,)))
            elif not told:
                self._tell(Event(kind=Kind.fault, words=problem))
                told = True

    def _log_all(self, runs: Sequence[Run], mode: str, until: float) -> tuple[list[tuple[Run, Path]], bool]:
        """Several at a time, none begun after `until` or an error, which is told: those done, with folders.

        And whether there was an error.
        """
        going: dict[Future[Path], Run] = {}
        done, waiting, words = list[tuple[Run, Path]](), list(runs), ""
        with ThreadPoolExecutor(AT_ONCE) as pool:
            while going or waiting:
                while waiting and len(going) < AT_ONCE and not words and time.monotonic() < until:
                    run = waiting.pop(0)
                    going[pool.submit(log, run, self._order, mode, *self._share(mode))] = run
                if not going:
                    break
                for future in [future for future in going if future.done()]:
                    run = going.pop(future)
                    if (failed := future.exception()) is None:
                        done.append((run, future.result()))
                        if mode == "online":
                            self._tell(Event(kind=Kind.sent, ids=(run.id,)))
                    else:
                        words = words or in_words(failed)
                time.sleep(0.002)
        if words:
            self._tell(Event(kind=Kind.fault, words=words))
        elif waiting:
            self._tell(Event(kind=Kind.fault, words=f"{until - self._began:.0f} s were up"))
        return done, bool(words)

    def _share(self, mode: str) -> tuple[float, float]:
        """How long the begin and the end of a run may take, of the time that is left."""
        limits = self._limits
        if mode == "offline":
            return limits.init_s, limits.finish_s
        share = max(1.0, (self._began + limits.total_s - RESERVE_S - time.monotonic()) / 2)
        return min(limits.init_s, share), min(limits.finish_s, share)

    def _confirm(self, sent: Sequence[Run], *, hurry: bool) -> None:
        """Ask until all that was sent is seen there, or time is up."""
        until = time.monotonic() + (AFTER_FAULT_S if hurry else self._limits.settle_s)
        patience_s = AFTER_FAULT_S if hurry else self._limits.ask_s
        lacking, pause_s = list(sent), 0.25
        while lacking:
            try:
                there = self._asking.ask(lacking, min(self._limits.ask_s, patience_s))
            except Exception as error:
                words = f"what has arrived is not known: {in_words(error)}"
                self._tell(Event(kind=Kind.fault, words=words))
                return
            arrived = [run for run in lacking if lacks(run, there.get(run.id)) is None]
            if arrived:
                self._tell(Event(kind=Kind.confirmed, ids=tuple(run.id for run in arrived)))
            lacking = [run for run in lacking if run not in arrived]
            if lacking and time.monotonic() + pause_s > until:
                first = lacking[0]
                words = f"of {first.name}, for one, {lacks(first, there.get(first.id))} did not arrive"
                self._tell(Event(kind=Kind.fault, words=words))
                return
            time.sleep(pause_s if lacking else 0)
            pause_s *= 2


if __name__ == "__main__":
    keep(scratch=Path(sys.argv[1]))
    main(Path(sys.argv[1]))

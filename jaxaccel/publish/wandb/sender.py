"""`python -m jaxaccel.publish.wandb.sender FOLDER`: sends an order's runs, and tells how that went.

The one module that imports wandb. It runs in a process of its own (see `process`), asks W&B what it has
before and after, and believes no success that the client prints.
"""

import json
import os
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, Literal, cast

import msgspec
import psutil

from jaxaccel.config import WandbMode
from jaxaccel.publish.wandb.logfile import TruncatedError, entries
from jaxaccel.publish.wandb.order import EVENTS, ORDER, Event, Kind, Order
from jaxaccel.publish.wandb.runs import CONTENT, Run, There, lacks
from jaxaccel.redact import without_secrets

AT_ONCE = 8  # runs that are on their way to W&B: one alone takes a second, most of it waiting
PAGE = 100
RESERVE_S = 8.0  # of the time that there is, for what comes after the last run
ABANDONED = ("HandleAbandonedError", "MailboxClosedError")  # what wandb raises once wandb-core has gone
AFTER_FAULT_S = 5.0  # for an answer, once W&B has failed
WRITTEN_S = 3.0  # until the last of what was written is in its file: a run's end does not wait for that
Tell = Callable[[Event], None]


def main(folder: Path) -> None:
    """Do what folder/order.json says, a line in folder/events.jsonl for each thing that happens."""
    order = msgspec.json.decode((folder / ORDER).read_bytes(), type=Order)
    with (folder / EVENTS).open("ab", buffering=0) as events:

        def tell(event: Event) -> None:
            events.write(msgspec.json.encode(event) + b"\n")

        try:
            send(order, tell)
        except Exception as error:  # the edge of this process: whatever W&B does becomes a line
            tell(Event(kind=Kind.fault, words=in_words(error)))
        tell(Event(kind=Kind.done))
    for child in psutil.Process().children():  # wandb-core: all that it had to do is done, or has failed
        child.kill()
    os._exit(0)  # wandb would wait at its exit for uploads that have been given up


def send(order: Order, tell: Tell) -> None:
    """Send what W&B has not, and ask what has arrived; or keep it offline."""
    import wandb

    sending = _Sending(order, tell)
    wandb.setup(settings=wandb.Settings(**known(_quiet())))
    if resolve_mode(order.mode) == "online":
        sending.online()
        return
    tell(Event(kind=Kind.offline, words="" if order.mode == WandbMode.offline else "nobody is logged in"))
    if order.keep:
        sending.offline()


def resolve_mode(mode: str) -> str:
    """`auto` and `online` are online for those who are logged in, else offline.

    **Raises** whatever W&B says of a key that can't be one.
    """
    if mode not in (WandbMode.auto, WandbMode.online):
        return mode
    import wandb

    # Asked here, for wandb.init would prompt who is not logged in.
    return "online" if wandb.login(prompt=False, verify=False) else "offline"


class _Sending:
    """One order: its clock, and what has been sent."""

    def __init__(self, order: Order, tell: Tell) -> None:
        self._order, self._tell, self._limits = order, tell, order.limits
        self._began = time.monotonic()
        self._api: Any = None

    def left_s(self) -> float:
        """Until this process is ended, less what must still be done then."""
        return self._limits.total_s - RESERVE_S - (time.monotonic() - self._began)

    def online(self) -> None:
        """Send all that W&B has not.

        **Raises** what wandb raises where W&B can't be asked: it would not take runs either.
        """
        there = self._ask(self._order.runs, self._limits.ask_s)
        lacking = [run for run in self._order.runs if lacks(run, there.get(run.id))]
        had = tuple(run.id for run in self._order.runs if run not in lacking)
        self._tell(Event(kind=Kind.online, words=self._address()))
        if had:
            self._tell(Event(kind=Kind.there, ids=had))
        sent, untried, fault = self._send_all(lacking)
        if fault is not None:
            self._tell(Event(kind=Kind.fault, words=in_words(fault)))
        elif untried:
            self._tell(Event(kind=Kind.fault, words=f"{self._limits.online_s:.0f} s were up"))
        if sent and core_lives():
            self._confirm(sent, hurry=fault is not None)

    def offline(self) -> None:
        """Keep all as files, and look whether they are whole."""
        written: list[tuple[Run, Path]] = []
        try:
            for run in self._order.runs:
                path = log(run, self._order, "offline", self._limits.init_s, self._limits.finish_s)
                written.append((run, path))
        finally:
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

    def _send_all(self, runs: Sequence[Run]) -> tuple[list[Run], list[Run], Exception | None]:
        """Several at a time: those sent, those not begun, and the error that was the end of it."""
        going: dict[Future[Path], Run] = {}
        sent, waiting = list[Run](), list(runs)
        fault: Exception | None = None
        until = self._began + self._limits.online_s
        with ThreadPoolExecutor(AT_ONCE) as pool:
            while going or waiting:
                while waiting and len(going) < AT_ONCE and fault is None and time.monotonic() < until:
                    run = waiting.pop(0)
                    share = max(1.0, self.left_s() / 2)
                    limits = min(self._limits.init_s, share), min(self._limits.finish_s, share)
                    going[pool.submit(log, run, self._order, "online", *limits)] = run
                if not going:
                    break
                for future in [future for future in going if future.done()]:
                    run = going.pop(future)
                    if (failed := future.exception()) is None:
                        sent.append(run)
                        self._tell(Event(kind=Kind.sent, ids=(run.id,)))
                    else:
                        waiting.append(run)
                        fault = fault or cast("Exception", failed)
                time.sleep(0.005)
        return sent, waiting, fault

    def _confirm(self, sent: Sequence[Run], *, hurry: bool) -> None:
        """Ask until all that was sent is seen there, or time is up."""
        until = time.monotonic() + (AFTER_FAULT_S if hurry else self._limits.settle_s)
        lacking, pause_s = list(sent), 0.25
        while lacking:
            try:
                there = self._ask(lacking, min(self._limits.ask_s, AFTER_FAULT_S))
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

    def _ask(self, runs: Sequence[Run], within_s: float) -> dict[str, There]:
        """What W&B has of these runs, by id.

        **Raises** what wandb raises where nobody answers, or not in time, or with a refusal.
        """
        import wandb

        self._api = self._api or wandb.Api(timeout=max(1, round(within_s)))
        self._api.flush()  # it remembers what it was told before
        found: dict[str, There] = {}
        ids = [run.id for run in runs]
        with_files = {run.id for run in runs if run.tables or run.figures}
        for start in range(0, len(ids), PAGE):
            wanted = {"name": {"$in": ids[start : start + PAGE]}}
            entity = self._order.entity or self._api.default_entity
            asked = self._api.runs(
                f"{entity}/{self._order.project}", filters=wanted, per_page=PAGE, lazy=False
            )
            try:
                for run in asked:
                    files = [file.name for file in run.files() if file.size] if run.id in with_files else []
                    found[run.id] = There(
                        id=run.id,
                        finished=run.state == "finished",
                        summary=_summary(run),
                        rows=int(getattr(run, "historyLineCount", None) or 0),
                        files=frozenset(files),
                    )
            except ValueError as error:
                if "Could not find project" not in str(error):
                    raise
                return {}  # it comes into being with its first run
        return found

    def _address(self) -> str:
        entity = self._order.entity or self._api.default_entity
        return without_secrets(f"{_app_url(self._api)}/{entity}/{self._order.project}")


def log(run: Run, order: Order, mode: str, init_s: float, finish_s: float) -> Path:
    """One run through the client, to its end. Returns the folder of its files.

    **Raises** whatever wandb raises, and TimeoutError where the end took longer than `finish_s`.
    """
    import wandb

    settings = _lean() | {"init_timeout": init_s, "finish_timeout": finish_s}
    with wandb.init(
        project=order.project,
        entity=order.entity,
        id=run.id,
        name=run.name,
        group=run.group,
        job_type=run.job_type,
        tags=list(run.tags),
        config=dict(run.config),
        dir=order.folder,
        mode=cast("Literal['online', 'offline']", mode),
        reinit="create_new",  # runs of other threads are none of its business
        settings=wandb.Settings(**known(settings)),
    ) as began:
        if run.step:
            began.define_metric(run.step)
            began.define_metric("*", step_metric=run.step)
        for row in run.rows:
            began.log(dict(row))
        if media := _media(run):
            began.log(media)
        began.summary.update({**run.summary, CONTENT: run.content_id})
        return Path(began.dir).parent


def not_whole(folder: Path, run: Run) -> str | None:
    """What is wrong with a run that was kept below `folder`; None where all of it is there."""
    from wandb.proto.wandb_internal_pb2 import Record

    kinds = []
    try:
        for path in folder.glob("*.wandb"):
            for entry in entries(path):
                record = Record()
                record.ParseFromString(entry)
                kinds.append(record.WhichOneof("record_type"))
    except (TruncatedError, ValueError) as error:
        return f"{error}: is the disk full?"
    rows = len(run.rows) + bool(run.tables or run.figures)
    if kinds.count("history") < rows or "exit" not in kinds:
        return f"{folder} is not whole: is the disk full?"
    return None


def core_lives() -> bool:
    """Whether W&B's own process, through which all is sent and written, still runs."""
    return any(
        child.is_running() and child.status() != psutil.STATUS_ZOMBIE
        for child in psutil.Process().children()
        if "wandb-core" in child.name() or child.name() == "wandb-core"
    )


def in_words(error: BaseException) -> str:
    """An exception of wandb's in one true line, without secrets."""
    text = next(iter(str(error).strip().splitlines()), "") or type(error).__name__
    if "service process is busy" in text:  # what it says when nobody has answered in time
        text = "no answer in time"
    elif isinstance(error, ConnectionError) or type(error).__name__ in ABANDONED:
        text = f"wandb-core, its own process, has ended ({text})"
    return without_secrets(text)


def known(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Those settings that this version of wandb has: names that begin with x_ come and go."""
    import wandb

    return {name: value for name, value in settings.items() if name in wandb.Settings.model_fields}


def _quiet() -> dict[str, Any]:
    return {"silent": True, "console": "off", "disable_git": True, "save_code": False}


def _lean() -> dict[str, Any]:
    """Lean, quiet, and flushed at once."""
    return _quiet() | {
        "finish_timeout_raises": True,
        # Without it, a killed process loses everything of its first 15 s.
        "x_transaction_log_flush_interval": 1,
        "x_disable_stats": True,
        "x_disable_meta": True,
        "x_save_requirements": False,
    }


def _media(run: Run) -> dict[str, Any]:
    import wandb

    found: dict[str, Any] = {
        name: wandb.Table(columns=list(t.columns), data=[list(row) for row in t.rows], allow_mixed_types=True)
        for name, t in run.tables.items()
    }
    if run.figures:
        from plotly.io import from_json

        found |= {name: wandb.Plotly(from_json(text)) for name, text in run.figures.items()}
    return found


def _summary(run: Any) -> dict[str, Any]:
    found = run.summary_metrics
    return dict(json.loads(found) if isinstance(found, str) else found)


def _app_url(api: Any) -> str:
    from wandb.util import app_url

    return str(app_url(api.settings["base_url"])).rstrip("/")


if __name__ == "__main__":
    main(Path(sys.argv[1]))

"""Starts the process that sends, gives it so much time and no more, and reads what became of the runs."""

import contextlib
import os
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec

from jaxaccel.process.children import Child
from jaxaccel.records.redact import without_secrets
from jaxaccel.wandb.send_job import EVENTS, ORDER, WORDS, Event, Kind, Order

# What a user's environment may say of a run of theirs, and not of these.
FOREIGN = ("WANDB_MODE", "WANDB_RESUME", "WANDB_RUN_ID", "WANDB_NAME", "WANDB_NOTES", "WANDB_SWEEP_ID")


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What became of an order's runs, by number; `missing` are the ids of which nothing became.

    faults: what went wrong, in words. offline: why nothing was sent, if it is so.
    there: W&B had them already. confirmed: W&B has them now. sent: the client sent them, W&B has not
    confirmed it. kept: offline. complete: W&B has all.
    """

    asked: int
    missing: frozenset[str] = frozenset()
    address: str = ""
    offline: str | None = None
    there: int = 0
    confirmed: int = 0
    sent: int = 0
    kept: int = 0
    faults: tuple[str, ...] = ()

    @property
    def complete(self) -> bool:
        """Whether W&B has said that it has all of the runs."""
        return self.there + self.confirmed == self.asked


def carry_out(order: Order) -> Outcome:
    """Have the order carried out by a process of its own, which is ended where it takes too long.

    **Raises** OSError where it can't be started, for want of disk space, say.
    """
    with tempfile.TemporaryDirectory(prefix="jaxaccel-wandb-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        (folder / ORDER).write_bytes(msgspec.json.encode(order))
        with (folder / WORDS).open("wb") as words:
            process = Child(
                [sys.executable, "-m", "jaxaccel.wandb.sender", str(folder)],
                variables=environment() | {"TMPDIR": name},  # wandb leaves its temporary folders behind
                stdin=subprocess.DEVNULL,
                stdout=words,
                stderr=words,
            )
        ended = f"it took longer than {order.limits.total_s:.0f} s"
        try:
            if (code := process.wait(order.limits.total_s)) is not None:
                ended = f"its client ended with code {code}: {last_words(folder)}"
        finally:
            process.end()
        return outcome_of([run.id for run in order.runs], list(_events(folder)), ended)


def environment() -> dict[str, str]:
    """The variables of this process, without those about another run."""
    kept = {name: value for name, value in os.environ.items() if name not in FOREIGN}
    # Its reports of its own errors go to a third party, and take time.
    return {"WANDB_ERROR_REPORTING": "false", **kept}


def outcome_of(asked: Sequence[str], events: list[Event], ended: str) -> Outcome:
    """What the events say; `ended` is why there are no more of them, if they break off."""
    ids = {kind: {name for event in events if event.kind is kind for name in event.ids} for kind in Kind}
    count = Counter({kind: len(names) for kind, names in ids.items()})
    faults = [event.words for event in events if event.kind is Kind.fault]
    done = any(event.kind is Kind.done for event in events)
    offline = [event.words for event in events if event.kind is Kind.offline]
    address = [event.words for event in events if event.kind is Kind.online]
    reached = ids[Kind.there] | ids[Kind.confirmed] | ids[Kind.sent] | ids[Kind.kept]
    return Outcome(
        asked=len(asked),
        missing=frozenset(asked) - reached,
        address=address[-1] if address else "",
        offline=offline[-1] if offline else None,
        there=count[Kind.there],
        confirmed=count[Kind.confirmed],
        sent=len(ids[Kind.sent] - ids[Kind.confirmed]),
        kept=count[Kind.kept],
        faults=tuple(dict.fromkeys(faults if done else [*faults, ended])),
    )


def _events(folder: Path) -> Iterator[Event]:
    path = folder / EVENTS
    for line in path.read_bytes().split(b"\n") if path.exists() else []:
        if line.strip():
            with contextlib.suppress(msgspec.DecodeError):  # the last one of a process that was ended
                yield msgspec.json.decode(line, type=Event)


def last_words(folder: Path) -> str:
    """The last line that the process printed."""
    lines = (folder / WORDS).read_text(errors="replace").strip().splitlines()
    return without_secrets(lines[-1]) if lines else ""

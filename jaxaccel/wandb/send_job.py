"""What the command and the process that sends say to each other: an order, and events; JSON in files.

W&B's client can hang in ways that no setting bounds, so it runs in a process that can be ended.
"""

from dataclasses import dataclass, field
from enum import StrEnum

from jaxaccel.wandb.runs import Run

ORDER, EVENTS, WORDS = "order.json", "events.jsonl", "words.txt"


@dataclass(frozen=True, kw_only=True)
class Limits:
    """How long W&B may take, in seconds.

    ask_s: an answer to what it has. init_s, finish_s: the begin and the end of a run. settle_s: until what
    was sent is seen there. online_s: from the start, after which no run is begun online any more. total_s:
    from the start until the process is ended, whatever it is doing. offline_s: the same of the one that
    keeps offline what was not sent. The last two are all that W&B adds to a command.
    """

    ask_s: float = 15.0
    init_s: float = 15.0
    finish_s: float = 25.0
    settle_s: float = 8.0
    online_s: float = 30.0
    total_s: float = 44.0
    offline_s: float = 12.0


@dataclass(frozen=True, kw_only=True)
class Order:
    """Runs to be sent to a project, their files below `folder`/wandb. Without a folder, they do not last.

    mode: auto, online or offline. keep: whether they are kept offline where nobody is logged in.
    """

    runs: tuple[Run, ...]
    project: str
    entity: str | None
    folder: str
    mode: str
    keep: bool
    limits: Limits = field(default_factory=Limits)


class Kind(StrEnum):
    """What has happened."""

    online = "online"  # somebody is logged in; `words` is the project's address
    offline = "offline"  # from here on; `words` says why
    there = "there"  # W&B has all of these runs already
    sent = "sent"  # the client took it to its end, which proves nothing
    kept = "kept"  # offline, and read back
    confirmed = "confirmed"  # W&B has all of these runs
    fault = "fault"  # `words` says what
    done = "done"


@dataclass(frozen=True, kw_only=True)
class Event:
    """A line of what the sender tells; `ids` are of the runs that it is about."""

    kind: Kind
    ids: tuple[str, ...] = ()
    words: str = ""

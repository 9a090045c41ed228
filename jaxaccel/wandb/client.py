"""W&B's client: the one module that imports wandb. It begins and ends runs, and asks what W&B has of them.

It believes no success that wandb prints: what W&B has is asked, and what is on disk is read back.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, cast

import psutil

from jaxaccel.records.redact import without_secrets
from jaxaccel.wandb.config import WandbMode
from jaxaccel.wandb.logfile import TruncatedError, entries
from jaxaccel.wandb.runs import CONTENT, Run, There, clean
from jaxaccel.wandb.send_job import Order

PAGE = 100
ABANDONED = ("HandleAbandonedError", "MailboxClosedError")  # what wandb raises once wandb-core has gone


def set_up() -> None:
    """Make wandb quiet, before anything else is asked of it."""
    import wandb

    wandb.setup(settings=wandb.Settings(**known(_quiet())))


def resolve_mode(mode: str) -> str:
    """`auto` and `online` are online for those who are logged in, else offline.

    **Raises** whatever W&B says of a key that can't be one.
    """
    if mode not in (WandbMode.auto, WandbMode.online):
        return mode
    import wandb

    # Asked here, for wandb.init would prompt who is not logged in.
    return "online" if wandb.login(prompt=False, verify=False) else "offline"


class Asking:
    """Questions to W&B about the runs of an order."""

    def __init__(self, order: Order) -> None:
        self._order = order
        self._api: Any = None
        self._within_s = 0.0

    def ask(self, runs: Sequence[Run], within_s: float) -> dict[str, There]:
        """What W&B has of these runs, by id; each answer (there are several) within so many seconds.

        **Raises** what wandb raises where nobody answers, or not in time, or with a refusal.
        """
        import wandb

        if self._within_s != within_s:
            self._api, self._within_s = wandb.Api(timeout=max(1, round(within_s))), within_s
        self._api.flush()  # it remembers what it was told before
        found: dict[str, There] = {}
        ids = [run.id for run in runs]
        with_files = {run.id for run in runs if run.tables or run.figures}
        for start in range(0, len(ids), PAGE):
            wanted = {"name": {"$in": ids[start : start + PAGE]}}
            entity = self._entity()
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

    def _entity(self) -> Any:
        """Where wandb.init sends runs: WANDB_ENTITY and W&B's own settings come before one's own account."""
        return self._order.entity or self._api.settings.get("entity") or self._api.default_entity

    def address(self) -> str:
        """Where people find the project."""
        from wandb.util import app_url

        entity = self._entity()
        site = str(app_url(self._api.settings["base_url"])).rstrip("/")
        return without_secrets(f"{site}/{entity}/{self._order.project}")


def log(run: Run, order: Order, mode: str, init_s: float, finish_s: float) -> Path:
    """One run through the client, to its end. Returns the folder of its files.

    **Raises** whatever wandb raises, and TimeoutError where the end took longer than `finish_s`.
    """
    import wandb

    run = clean(run)
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
    from google.protobuf.message import DecodeError
    from wandb.proto.wandb_internal_pb2 import Record

    kinds = []
    try:
        for path in folder.glob("*.wandb"):
            for entry in entries(path):
                record = Record()
                record.ParseFromString(entry)
                kinds.append(record.WhichOneof("record_type"))
    except (TruncatedError, ValueError, DecodeError) as error:
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

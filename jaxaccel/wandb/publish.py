"""Records to Weights & Biases, once all is on disk: after a measurement, or later, or again.

W&B decides nothing here: whatever it does costs a line and at most a minute, never a measurement.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from jaxaccel.records import Record, escape
from jaxaccel.records.redact import without_secrets
from jaxaccel.wandb.config import PROJECT, WandbConfig, WandbMode
from jaxaccel.wandb.layout import Draw, drawn, runs_of
from jaxaccel.wandb.process import Outcome, carry_out
from jaxaccel.wandb.send_job import Limits, Order

ON_DISK = "all records are on disk"


@dataclass(frozen=True, kw_only=True)
class Published:
    """What became of the runs, and a line about it (none where nothing was to be done).

    complete: W&B has said that it has all of them.
    """

    message: str
    outcome: Outcome | None = None

    @property
    def complete(self) -> bool:
        """Whether W&B has all of the runs."""
        return self.outcome is not None and self.outcome.complete


def publish(
    records: Sequence[Record],
    config: WandbConfig,
    folder: Path,
    *,
    sweep_id: str | None = None,
    figures: Draw = drawn,
    limits: Limits | None = None,
    on_disk: bool = True,
) -> Published:
    """Send the runs that records make, and keep offline, below `folder`/wandb, what can't be sent.

    sweep_id: of which sweep, where the records are of several. figures: draws those of
    comparison runs. on_disk: whether the records are in `folder`, which a message then says.
    Never prompts, never raises for what W&B does, takes at most
    `limits.total_s` and `limits.offline_s`.
    """
    mode = os.environ.get("WANDB_MODE") or str(config.mode)
    safe = f"; {ON_DISK}" if on_disk else ""
    if mode == WandbMode.disabled or not records:
        return Published(message="")
    if mode not in tuple(WandbMode):
        problem = f"WANDB_MODE must be one of {', '.join(WandbMode)}, got {mode!r}"
        return Published(message=f"W&B: {problem}{safe}")
    try:
        runs = runs_of(records, sweep_id=sweep_id, figures=figures)
    except Exception as error:  # whatever is odd about them, the measurement stands
        return Published(message=f"W&B: these records make no runs: {_words(error)}{safe}")
    if not runs:
        return Published(message="")
    order = Order(
        runs=tuple(runs),
        project=config.project,
        entity=config.entity,
        folder=str(folder.absolute()),
        mode=mode,
        keep=True,
        limits=limits or Limits(),
    )
    try:
        outcome = carry_out(order)
        if outcome.missing and outcome.offline is None:
            outcome = with_kept(outcome, keep_offline(order, outcome.missing))
    except OSError as error:
        return Published(message=f"W&B: its client can't be started: {error.strerror or error}{safe}")
    return Published(
        message=closing_line(outcome, order, later(config, folder), on_disk=on_disk), outcome=outcome
    )


def keep_offline(order: Order, ids: frozenset[str]) -> Outcome:
    """Keep those runs offline: in a process of its own, for the other's client may be past use."""
    limits = order.limits
    return carry_out(
        replace(
            order,
            runs=tuple(run for run in order.runs if run.id in ids),
            mode=WandbMode.offline,
            limits=replace(limits, total_s=limits.offline_s),
        )
    )


def with_kept(outcome: Outcome, kept: Outcome) -> Outcome:
    """An outcome, and that of keeping offline what it had missing."""
    return replace(
        outcome,
        kept=kept.kept,
        missing=kept.missing,
        faults=tuple(dict.fromkeys([*outcome.faults, *kept.faults])),
        offline="",
    )


def publish_later(
    records: Sequence[Record],
    config: WandbConfig,
    *,
    figures: Draw = drawn,
    limits: Limits | None = None,
) -> Published:
    """Send what W&B has not of the runs that records make. It goes on for as long as more arrives.

    Nothing is kept offline. Never prompts, never raises for what W&B does.
    """
    mode = os.environ.get("WANDB_MODE") or WandbMode.online
    if mode not in (WandbMode.auto, WandbMode.online):
        return Published(message=f"W&B: nothing is sent, for WANDB_MODE is {mode!r}")
    try:
        runs = runs_of(records, figures=figures)
    except Exception as error:
        return Published(message=f"W&B: these records make no runs: {_words(error)}")
    before = -1
    had: int | None = None
    try:
        while True:
            order = Order(
                runs=tuple(runs),
                project=config.project,
                entity=config.entity,
                folder="",
                mode=WandbMode.online,
                keep=False,
                limits=limits or Limits(),
            )
            outcome = carry_out(order)
            had = outcome.there if had is None else had
            arrived = outcome.there + outcome.confirmed
            if outcome.complete or arrived <= before or not outcome.confirmed:
                break
            before = arrived
    except OSError as error:
        return Published(message=f"W&B: its client can't be started: {error.strerror or error}")
    return Published(message=later_line(outcome, had), outcome=outcome)


def _words(error: Exception) -> str:
    return without_secrets(f"{type(error).__name__}: {error}")


def later(config: WandbConfig, folder: Path) -> str:
    """The command that sends what is missing."""
    words = ["python", "-m", "jaxaccel.report", str(folder), "--wandb"]
    project = f"{config.entity}/{config.project}" if config.entity else config.project
    words += ["--wandb-project", project] if project != PROJECT else []
    return escape.shell(words)


def closing_line(outcome: Outcome, order: Order, command: str, *, on_disk: bool = True) -> str:
    """What became of the runs, in one line, with the command that sends those that are missing."""
    arrived = outcome.there + outcome.confirmed
    parts = list(outcome.faults)
    if arrived:
        parts.append(f"{_runs(arrived)} sent{' of ' + str(outcome.asked) if arrived < outcome.asked else ''}")
        parts[-1] += f" to {outcome.address}" if outcome.address else ""
    if outcome.sent:
        parts.append(f"{_runs(outcome.sent)} sent, which W&B does not confirm")
    if outcome.kept:
        reason = f" ({outcome.offline})" if outcome.offline else ""
        parts.append(f"{_runs(outcome.kept)} kept offline{reason}")
        parts.append(f"to look at: wandb leet {escape.shell([str(Path(order.folder) / 'wandb')])}")
    if not outcome.complete:
        if outcome.faults and on_disk:
            parts.append(ON_DISK)
        login = "wandb login && " if outcome.offline == "nobody is logged in" else ""
        what = "what is missing" if arrived or outcome.sent else "them"
        parts.append(f"to send {what}: {login}{command}")
    return without_secrets("W&B: " + "; ".join(parts))


def later_line(outcome: Outcome, had: int) -> str:
    """What a later publish came to, in one line."""
    arrived = outcome.there + outcome.confirmed
    parts = list(outcome.faults)
    if outcome.offline is not None:
        parts.append(f"{outcome.offline}: wandb login, or WANDB_API_KEY")
    parts.append(f"{_runs(arrived - had)} sent")
    if had:
        parts.append(f"{had} {'was' if had == 1 else 'were'} there already")
    if outcome.complete:
        parts[-1] += f": {outcome.address}"
    else:
        missing = outcome.asked - arrived
        parts.append(f"{missing} of {outcome.asked} {'is' if missing == 1 else 'are'} not there")
    return without_secrets("W&B: " + "; ".join(parts))


def _runs(count: int) -> str:
    return f"{count} run{'s' if count != 1 else ''}"

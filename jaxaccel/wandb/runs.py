"""What one W&B run is to hold, in plain values, and how to tell whether it is there."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any, cast

from jaxaccel.records import digest, escape
from jaxaccel.records.redact import all_without_secrets
from jaxaccel.records.redact.outlets import document

CONTENT = "content_id"  # the summary key by which what W&B has is held against what it should have


@dataclass(frozen=True, kw_only=True)
class Table:
    """Rows under names, as a wandb.Table: a list of values a row, None where one is not known."""

    columns: tuple[str, ...]
    rows: tuple[tuple[Any, ...], ...]


@dataclass(frozen=True, kw_only=True)
class Run:
    """One W&B run, whose `id` comes from the records: to send it again is an update, and no double.

    config: flat. summary: flat, units in the names. rows: its history, over `step`, which is one of their
    keys. figures: Plotly figures as JSON, by name.
    """

    id: str
    name: str
    group: str
    job_type: str
    tags: tuple[str, ...] = ()
    config: Mapping[str, Any] = field(default_factory=dict)
    summary: Mapping[str, Any] = field(default_factory=dict)
    step: str | None = None
    rows: tuple[Mapping[str, Any], ...] = ()
    tables: Mapping[str, Table] = field(default_factory=dict)
    figures: Mapping[str, str] = field(default_factory=dict)

    @property
    def content_id(self) -> str:
        """Identifies all that it holds: a run that W&B has with another one is out of date."""
        return digest(asdict(self))


@dataclass(frozen=True, kw_only=True)
class There:
    """What W&B says that it has of a run: whether it came to its end, and what it holds."""

    id: str
    finished: bool
    summary: Mapping[str, Any]
    rows: int
    files: frozenset[str]


def lacks(run: Run, there: There | None) -> str | None:
    """What W&B has not of a run, in a word; None where it has all of it."""
    if there is None:
        return "all"
    if there.summary.get(CONTENT) != run.content_id:
        return "its summary"
    if there.rows < len(run.rows):
        return "its history"
    for name in (*run.tables, *run.figures):
        file = there.summary.get(name)
        if not isinstance(file, Mapping) or file.get("path") not in there.files:
            return f"its {name}"
    return None if there.finished else "its end"


def clean(run: Run) -> Run:
    """The run without secrets in any text of it, and of the JSON that its figures are; its text is inert."""
    figures = {name: document(f"{name}.json", text.encode()).decode() for name, text in run.figures.items()}
    cleaned = replace(all_without_secrets(replace(run, figures={})), figures=figures)
    return cast("Run", escape.everywhere(cleaned))


def row_of(values: Mapping[str, Any]) -> dict[str, Any]:
    """The values that are known: no None, and no number that JSON has not."""
    return {
        name: value
        for name, value in values.items()
        if value is not None and not (isinstance(value, float) and not math.isfinite(value))
    }


def table_of(rows: Iterable[Mapping[str, Any]], columns: Sequence[str]) -> Table:
    """Rows with these columns, in this order."""
    return Table(columns=tuple(columns), rows=tuple(tuple(row.get(name) for name in columns) for row in rows))

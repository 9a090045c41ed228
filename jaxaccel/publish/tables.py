"""Rows and documents as text: what every file format here shares."""

import csv
import io
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from jaxaccel.records import Case


def csv_text(rows: Sequence[Mapping[str, Any]]) -> str:
    """Rows under a line of all their columns' names; nothing where there are none."""
    if not rows:
        return ""
    text = io.StringIO()
    names = list(dict.fromkeys(name for row in rows for name in row))
    writer = csv.DictWriter(text, names, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def json_text(value: Any) -> str:
    """JSON that people can read too."""
    return msgspec.json.format(msgspec.json.encode(value), indent=2).decode() + "\n"


def case_columns(case: Case) -> dict[str, Any]:
    """What tells a case from others, as columns of a row."""
    return {
        "case_id": case.case_id,
        "workload": case.workload,
        "size": case.size,
        "dtype": case.dtype,
        "precision": case.precision,
        "variant": case.variant,
        "params": " ".join(f"{name}={value}" for name, value in case.params.items()),
        "seed": case.seed,
    }

"""Rows and documents as text: what every file format here shares."""

from typing import Any

import msgspec

from jaxaccel.records import Case, escape

csv_text = escape.csv_table


def json_text(value: Any) -> str:
    """JSON that people can read too."""
    return escape.json_text(msgspec.json.format(msgspec.json.encode(value), indent=2).decode() + "\n")


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

"""Prints the table of README.md from the records.

python experiments/field/table.py
"""

import json
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
# What is said of how samples spread is in the records; here stands what is said of the code.
OF_SAMPLES = {
    "autocorrelated",
    "bimodal",
    "drifting",
    "noisy",
    "not converged",
    "on the dispatch floor",
    "outliers",
    "very noisy",
}


def seconds(value: float | None) -> str:
    """Three digits and a unit."""
    if value is None:
        return "–"
    for scale, unit in ((1, "s"), (1e3, "ms"), (1e6, "µs"), (1e9, "ns")):
        if value * scale >= 1:
            return f"{value * scale:.3g} {unit}"
    return f"{value:.3g} s"


def typed(record: dict[str, Any]) -> str:
    """The command's arguments, without those that all cases share."""
    words = record["command"].replace("'", "").split()[3:]
    shared = ("wandb=", "timing=", "ceilings=", "hydra.run.dir=")
    return " ".join(word for word in words if not word.startswith(shared))


def row(record: dict[str, Any]) -> str:
    """A device's record, as a row of Markdown."""
    median = {metric: timing["median_s"] for metric, timing in record["timings"].items()}
    names = dict.fromkeys(warning["name"] for warning in record["warnings"])
    cells = [
        f"`{typed(record)}`",
        record["arm"]["requested"],
        record["status"],
        seconds(median.get("latency")),
        seconds(median.get("device")),
        seconds(record["as_called_s"]),
        ", ".join(name for name in names if name not in OF_SAMPLES),
    ]
    return f"| {' | '.join(cells)} |"


def main() -> None:
    """The table, by file."""
    records = [json.loads(path.read_text()) for path in HERE.rglob("record.json")]
    records.sort(key=lambda one: (typed(one), one["arm"]["requested"]))
    print("| arguments | device | status | latency | device time | as called | flags |")
    print("|---|---|---|---|---|---|---|")
    print("\n".join(row(record) for record in records))


if __name__ == "__main__":
    main()

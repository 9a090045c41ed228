"""What the commands say about every published folder of records, and digests that tell when that changes.

    python tests/support/golden.py --texts FOLDER   writes the outputs as text, to compare two checkouts
    python tests/support/golden.py --write          accepts the outputs of this checkout as golden.json

golden.json holds a digest a line. So a test can name the first line that changed without keeping megabytes.
"""

import contextlib
import io
import json
import os
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from hashlib import sha256
from pathlib import Path
from typing import Any

os.environ |= {"COLUMNS": "200", "NO_COLOR": "1", "WANDB_MODE": "disabled"}

from processes import ROOT, SUPPORT

from jaxaccel import advise, report
from jaxaccel.peers.reporting import report as peers_report
from jaxaccel.records import encode_record
from jaxaccel.records.store import load_records
from jaxaccel.render.page import content
from jaxaccel.wandb.layout import runs_of

EXPERIMENTS = ROOT / "experiments"
GOLDEN = SUPPORT / "golden.json"
# The last digits of a figure differ between processors, and say nothing.
DIGITS = re.compile(r"-?\d+\.\d{9,}(e[+-]?\d+)?")


def folders() -> list[str]:
    """The folders of experiments/ that hold records."""
    holding = {path.relative_to(EXPERIMENTS).parts[0] for path in EXPERIMENTS.rglob("record*.json*")}
    return sorted(holding)


def outputs(folder: str) -> dict[str, list[str]]:
    """The lines of each output about one folder."""
    place = str(EXPERIMENTS / folder)
    loaded = load_records([place], [], peers=True)
    ours = [record for record in loaded if record.arm.framework == "jax"]
    found = {
        "records": [encode_record(record).decode() for record in loaded],
        "table": _said(report.main, [place, "--format", "table"]),
        "markdown": _said(report.main, [place, "--format", "markdown"]),
        "csv": _said(report.main, [place, "--format", "csv"]),
        "priced": _said(report.main, [place, "--format", "csv", "--price", "cpu=0.4", "--price", "gpu=2"]),
        "advise": _said(advise.main, [place]),
        "page": list(_document(content(ours))) if ours else [],
        "wandb": [json.dumps(asdict(run), default=str) for run in runs_of(ours)],
    }
    if len(ours) < len(loaded):
        found["peers"] = _said(peers_report, ["--every", place])
    return {name: [_rounded(line.replace(place, folder)) for line in lines] for name, lines in found.items()}


def _said(command: Callable[[Sequence[str]], int], arguments: Sequence[str]) -> list[str]:
    """What a command wrote, and its exit code."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = command(arguments)
    return [*out.getvalue().splitlines(), *err.getvalue().splitlines(), f"exit code {code}"]


def _document(data: dict[str, Any]) -> Iterator[str]:
    """A line for each member of a document, and for each member of a list or an object in it."""
    for name, value in data.items():
        members = (
            value.items()
            if isinstance(value, dict)
            else enumerate(value)
            if isinstance(value, list | tuple)
            else None
        )
        if members is None:
            yield f"{name}: {json.dumps(value)}"
        else:
            yield from (f"{name}.{key}: {json.dumps(member, default=str)}" for key, member in members)


def _rounded(line: str) -> str:
    return DIGITS.sub(lambda number: f"{float(number[0]):.8g}", line)


def digests(lines: Sequence[str]) -> str:
    """A digest for each line, in one text."""
    return " ".join(sha256(line.encode()).hexdigest()[:6] for line in lines)


def first_difference(lines: Sequence[str], golden: str) -> str | None:
    """Where lines differ from those that were accepted; None where they do not."""
    before, now = golden.split(), digests(lines).split()
    for at, line in enumerate(lines):
        if before[at : at + 1] != now[at : at + 1]:
            return f"line {at + 1} is new or changed: {line[:600]}"
    return None if len(before) == len(now) else f"{len(before) - len(now)} lines are missing at the end"


def main(arguments: Sequence[str]) -> int:
    """Write texts, or accept what is said now."""
    match arguments:
        case ["--texts", folder]:
            for name in folders():
                for kind, lines in outputs(name).items():
                    path = Path(folder) / name / kind
                    path.parent.mkdir(parents=True, exist_ok=True)
                    path.write_text("\n".join([*lines, ""]))
        case ["--write"]:
            accepted = {
                name: {kind: digests(lines) for kind, lines in outputs(name).items()} for name in folders()
            }
            GOLDEN.write_text(json.dumps(accepted, indent=1) + "\n")
        case _:
            print(__doc__)
            return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

"""One HTML page of records that opens from disk: nothing on it asks a network for anything.

The figures are those of `publish.figures`, the sentences those of `publish.findings`; what a reader chooses
is done by page.js, from one JSON document. Whatever comes from a record is text, and never markup. Plotly's
script and the document are packed: a page is 2 MB in place of 6.
"""

import base64
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from jaxaccel import __version__
from jaxaccel.analyze.compare import pair
from jaxaccel.analyze.findings import families
from jaxaccel.analyze.machines import standing
from jaxaccel.records import SCHEMA_VERSION, Comparison, Metric, Record, escape
from jaxaccel.records.redact import all_without_secrets
from jaxaccel.records.store import write_whole
from jaxaccel.render.figures import draw
from jaxaccel.render.figures.drawing import Drawing, layout
from jaxaccel.render.figures.samples import DRAWN, doubtful_metric, draw_record
from jaxaccel.render.figures.times import TITLES
from jaxaccel.render.page.rows import Details, rows_of
from jaxaccel.render.words import machines, money
from jaxaccel.render.words.findings import headlines
from jaxaccel.render.words.names import device_name, workload_name

if TYPE_CHECKING:
    from jaxaccel.analyze.money import Prices

PAGE = "report.html"
_FILES = Path(__file__).parent
_EFFORT = 6  # zlib's: 9 takes twice as long for 1%
_SHARED = layout("").keys()
_ALL_SAMPLES = 60_000  # points of samples on a page, at most about so many


def write_page(
    records: Sequence[Record],
    path: Path,
    prices: "Prices | None" = None,
    notes: Sequence[str] = (),
    comparisons: Sequence[Comparison] | None = None,
) -> Path:
    """Write the page of records to a file.

    `notes` are lines that stand at its top; `comparisons` those of the records, where they are known already.

    **Raises** OSError where the file can't be written.
    """
    write_whole(path, page(records, prices, notes, comparisons).encode())
    return path


def page(
    records: Sequence[Record],
    prices: "Prices | None" = None,
    notes: Sequence[str] = (),
    comparisons: Sequence[Comparison] | None = None,
) -> str:
    """The page as text."""
    from plotly.offline import get_plotlyjs

    # Once it is packed, nobody can look into it.
    told = escape.everywhere(all_without_secrets(content(records, prices, notes, comparisons)))
    parts = {
        "STYLE": (_FILES / "page.css").read_text(encoding="utf-8"),
        "DATA": _packed(msgspec.json.encode(told)),
        "PLOTLY": _packed(get_plotlyjs().encode()),
        "SCRIPT": (_FILES / "page.js").read_text(encoding="utf-8"),
    }
    # One pass over the template: what is put in is never looked at again.
    pieces = (_FILES / "page.html").read_text(encoding="utf-8").split("%%")
    return "".join(parts[piece] if index % 2 else piece for index, piece in enumerate(pieces))


def content(
    records: Sequence[Record],
    prices: "Prices | None" = None,
    notes: Sequence[str] = (),
    comparisons: Sequence[Comparison] | None = None,
) -> dict[str, Any]:
    """All that the page shows, as JSON-like data."""
    comparisons = pair(records) if comparisons is None else comparisons
    found = families(comparisons)
    placed = standing(records)
    measured = [arm.record for arm in placed if arm.record.ok]
    details = Details()
    rows = rows_of(comparisons, details, prices)
    metrics = [metric for metric in Metric if any(metric in record.timings for record in measured)]
    return {
        "version": __version__,
        "notes": [*notes, *_notes(records, comparisons)],
        "devices": _devices(comparisons),
        "prices": money.heading(prices) if prices else None,
        "among": max((comparison.among for comparison in comparisons), default=1),
        "headlines": [
            {
                "workload": workload_name(headline.case),
                "dtype": headline.case.dtype,
                "precision": headline.case.precision,
                "name": headline.name,
                "answer": headline.answer,
                "detail": headline.detail,
                "sure": headline.sure,
            }
            for headline in headlines(found)
        ],
        "metrics": [[str(metric), f"{metric}: {TITLES[metric]}"] for metric in metrics],
        "layout": {name: value for name, value in layout("").items() if name not in ("title", "template")},
        "figures": [_plain(drawing) for drawing in draw(records, found, prices)],
        "samples": _samples(comparisons, details),
        "rows": rows,
        "records": details.records,
        "shared": details.shared,
        "absent": _absent([arm.record for arm in placed], priced=prices is not None),
    }


def _plain(drawing: Drawing) -> dict[str, Any]:
    # asdict would copy every number. What all layouts share stands on the page once.
    own = {name: value for name, value in drawing.layout.items() if name not in _SHARED}
    return {**vars(drawing), "layout": own}


def _samples(comparisons: Sequence[Comparison], details: Details) -> list[dict[str, Any]]:
    """The samples of all flagged arms that stand in a row, with the record that each is of."""
    arms = list({id(record): record for c in comparisons for record in c.arms if record.ok}.values())
    doubtful = [(record, metric) for record in arms if (metric := doubtful_metric(record))]
    points = max(40, min(DRAWN, _ALL_SAMPLES // max(1, len(doubtful))))
    found = []
    for record, metric in sorted(doubtful, key=lambda one: -len(one[0].warnings)):
        found.append(_plain(draw_record(record, metric, points)) | {"record": details.index(record)})
    return found


def _devices(comparisons: Sequence[Comparison]) -> list[str]:
    """The devices, each with its machine where there are several."""
    several = len(machines.letters(comparisons)) > 1
    sides = [
        (record, letter)
        for c in comparisons
        for record, letter in ((c.cpu, c.cpu_machine), (c.gpu, c.gpu_machine))
        if record and record.arm.kind
    ]
    named = [
        f"{device_name(record)}{f', machine {letter}' if several else ''}"
        for record, letter in sorted(sides, key=lambda side: (side[1] or "", side[0].arm.requested))
    ]
    return list(dict.fromkeys(named))


def _notes(records: Sequence[Record], comparisons: Sequence[Comparison]) -> list[str]:
    """What one has to know of all of it."""
    notes = []
    others = sorted({r.schema_version for r in records if r.schema_version != SCHEMA_VERSION})
    for version in others:
        count = sum(record.schema_version == version for record in records)
        notes.append(
            f"{count} record{'s are' if count != 1 else ' is'} of schema version {version}, and this "
            f"jaxaccel writes {SCHEMA_VERSION}: what it does not know there is not shown"
        )
    letters = machines.letters(comparisons)
    if len(letters) > 1:
        notes.append(
            f"records of {len(letters)} machines ({', '.join(letters)}): each is shown by itself, "
            "nothing is averaged over them"
        )
    for words in dict.fromkeys(map(machines.versions, comparisons)):
        if words:
            notes.append(f"{words}: the speedup is of these versions too")
    return notes


def _absent(records: Sequence[Record], *, priced: bool) -> dict[str, str]:
    """By kind of figure, why there is none."""
    reasons = {
        "energy": next((r.absent["energy"] for r in records if "energy" in r.absent), "not measured"),
        "speedup": "no case has the latency, or the time with its transfers, of both devices",
        "roofline": "no case has FLOPs, bytes and a rate",
        "parts": "no case has both latency and device time",
        "samples": "no arm has a flag that says to look twice",
        "cost": "no prices were given (--price cpu=0.40 --price gpu=2.10)",
    }
    if priced:
        reasons["cost"] = "no device that has a price was measured"
    return reasons


def _packed(content: bytes) -> str:
    """What the browser unpacks, in a third of the room. In base64 nothing can end an element."""
    return base64.b64encode(zlib.compress(content, _EFFORT)).decode()

"""The samples of a flagged arm in the order in which they were taken, by pass."""

from collections.abc import Sequence
from itertools import groupby

from jaxaccel.analyze.stats import SEVERE_FLAGS, bursts_of
from jaxaccel.records import Metric, Record, Timing
from jaxaccel.render.figures.drawing import COLOURS, Drawing, layout, meta_of, rounded, text
from jaxaccel.render.words import numbers
from jaxaccel.render.words.names import case_name, workload_name

SHAPES = ("circle", "square", "diamond", "cross", "triangle-up", "x", "star", "hexagon")
DRAWN = 200  # points a figure; records keep every sample


def flagged(records: Sequence[Record]) -> list[Record]:
    """The measured records with a flag that says to look twice, at a metric that they have."""
    return [record for record in records if record.ok and doubtful_metric(record)]


def doubtful_metric(record: Record) -> str | None:
    """The first metric that a severe flag is about, latency first; None where there is none."""
    named = {flag.metric or Metric.latency for flag in record.warnings if flag.name in SEVERE_FLAGS}
    return next((str(metric) for metric in Metric if metric in named and metric in record.timings), None)


def draw_samples(records: Sequence[Record], points: int = DRAWN) -> list[Drawing]:
    """A figure for each record, of the metric in doubt, with about `points` samples at most."""
    found: dict[str, Drawing] = {}
    for record in records:
        metric = doubtful_metric(record)
        if metric:
            drawing = draw_record(record, metric, points)
            name, number = drawing.name, 2
            while name in found:  # of several machines, say
                name, number = f"{drawing.name} ({number})", number + 1
            found[name] = Drawing(**{**vars(drawing), "name": name})
    return list(found.values())


def draw_record(record: Record, metric: str, points: int = DRAWN) -> Drawing:
    """The samples of one timing of a record, thinned to about `points`."""
    timing, device = record.timings[metric], record.arm.requested
    where = f"{case_name(record.case)} on the {device}"
    flags = ", ".join(dict.fromkeys(f.name for f in record.warnings if f.metric in (metric, None)))
    title = f"{where}: samples of {metric}"
    data = []
    for index, (pass_index, numbered) in enumerate(_by_pass(timing, points).items()):
        data.append(
            {
                "type": "scatter",
                "mode": "markers",
                "name": f"pass {pass_index + 1}",
                "x": [number for number, _ in numbered],
                "y": [rounded(value, 3) for _, value in numbered],
                "marker": {
                    "color": COLOURS[device],
                    "symbol": SHAPES[index % len(SHAPES)],
                    "size": 5,
                    "opacity": 1.0 if index % 2 == 0 else 0.55,
                },
                "hovertemplate": "sample %{x}: %{y:.4s}s<extra></extra>",
                "meta": meta_of(record.case),
            }
        )
    drawn = sum(len(trace["x"]) for trace in data)
    thinned = f" Drawn: {drawn} of {timing.n}, the ends of each stretch." if drawn < timing.n else ""
    return Drawing(
        kind="samples",
        name=f"samples/{where}",
        title=title,
        workload=workload_name(record.case),
        data=data,
        layout=layout(
            title,
            xaxis={"title": {"text": "sample, in order"}, "automargin": True, "zeroline": False},
            yaxis={
                "title": {"text": "time of a call", "standoff": 10},
                "tickformat": "~s",
                "ticksuffix": "s",
                "automargin": True,
                "rangemode": "tozero",
            },
            shapes=[_median(timing)],
        ),
        note=text(
            f"Flags: {flags or 'none'}. Line: the median, {numbers.seconds(timing.median_s)}.{thinned}"
        ),
    )


def _median(timing: Timing) -> dict[str, object]:
    at = rounded(timing.median_s)
    line = {"color": "#808080", "width": 1.5, "dash": "dash"}
    return {"type": "line", "xref": "paper", "x0": 0, "x1": 1, "y0": at, "y1": at, "line": line}


def _by_pass(timing: Timing, points: int) -> dict[int, list[tuple[int, float]]]:
    """Numbered samples by pass, thinned to the lowest and highest of each stretch, so that none hides."""
    stretch = -(-2 * timing.n // points) if timing.n > points else 1
    found: dict[int, list[tuple[int, float]]] = {}
    number = 1
    for pass_index, bursts in groupby(bursts_of(timing), key=lambda burst: burst.pass_index):
        values = [value for burst in bursts for value in burst.samples_s]
        found.setdefault(pass_index, []).extend(_thinned(values, number, stretch))
        number += len(values)
    return found


def _thinned(values: Sequence[float], first: int, stretch: int) -> list[tuple[int, float]]:
    """Values with their numbers, from `first` on: of each stretch its ends."""
    if stretch <= 1:
        return list(enumerate(values, start=first))
    kept = []
    for start in range(0, len(values), stretch):
        part = values[start : start + stretch]
        ends = {part.index(min(part)), part.index(max(part))}
        kept += [(first + start + offset, part[offset]) for offset in sorted(ends)]
    return kept

"""Where the time of a call goes whose data is on the host: in, dispatch, compute, out, as stacked bars."""

from collections.abc import Sequence

from jaxaccel.analyze.machines import Placed
from jaxaccel.analyze.overhead import Cause, beyond_device
from jaxaccel.records import Metric, Record
from jaxaccel.render.figures.drawing import (
    COLOURS,
    GREEN,
    GREY,
    ORANGE,
    PURPLE,
    Drawing,
    Line,
    Trace,
    kin,
    layout,
    lines_of,
    meta_of,
    rounded,
    text,
)
from jaxaccel.render.words import numbers
from jaxaccel.render.words.names import family_name

BEYOND = "beyond dispatch"
# By part: colour and pattern.
PARTS = {
    "transfer in": (ORANGE, "/"),
    "dispatch": (GREY, "."),
    BEYOND: (GREY, "x"),
    "compute": (GREEN, ""),
    "transfer out": (PURPLE, "\\"),
}
_ROW_PX = 21
_MARKS = {"cpu": "●", "gpu": "■"}
_OVER = {"fillmode": "overlay", "fgcolor": "#000000", "fgopacity": 0.45}


def draw_parts(placed: Sequence[Placed]) -> list[Drawing]:
    """A figure for each kind of case of which latency and device time were measured, a bar an arm."""
    found = []
    for workload, lines in lines_of(placed).items():
        kinds: dict[str, list[Line]] = {}
        for line in lines:
            kinds.setdefault(kin(line.case), []).append(line)
        for its in kinds.values():
            bars = sorted(
                (
                    (arm.record.case.size, line.device, line.machine, arm.record)
                    for line in its
                    for arm in line.arms
                    if {Metric.latency, Metric.device} <= arm.record.timings.keys()
                ),
                key=lambda bar: (bar[0], bar[1], bar[2] or ""),
            )
            if bars:
                found.append(_figure(workload, bars))
    return found


def parts_of(record: Record) -> dict[str, float]:
    """Seconds by part, of those that were measured. It takes a record that has latency and device time."""
    medians = {metric: timing.median_s for metric, timing in record.timings.items()}
    parts = {"dispatch": 0.0, "compute": min(medians[Metric.device], medians[Metric.latency])}
    for part in beyond_device(record) or ():
        parts["dispatch" if part.cause is Cause.dispatch else BEYOND] = part.time_s
    if Metric.h2d in medians:
        parts["transfer in"] = medians[Metric.h2d]
    if Metric.d2h in medians:
        parts["transfer out"] = medians[Metric.d2h]
    return parts


def _figure(workload: str, bars: Sequence[tuple[int, str, str | None, Record]]) -> Drawing:
    case = bars[0][3].case
    labels = [
        f"{size} {device.upper()}{f' ({machine})' if machine else ''}" for size, device, machine, _ in bars
    ]
    parts = [parts_of(record) for *_, record in bars]
    totals = [sum(its.values()) for its in parts]
    data: list[Trace] = [
        {
            "type": "bar",
            "orientation": "h",
            "name": part,
            "y": labels,
            "x": [
                rounded(100 * its.get(part, 0.0) / total, 4) for its, total in zip(parts, totals, strict=True)
            ],
            "marker": {"color": colour, "pattern": {"shape": shape, "size": 6, "solidity": 0.3, **_OVER}},
            "hovertext": [
                f"<b>{label}: {part}</b><br>"
                + (
                    f"{numbers.seconds(its[part])}, {100 * its[part] / total:.3g}% of "
                    f"{numbers.seconds(total)}"
                    if part in its
                    else "not measured"
                )
                for label, its, total in zip(labels, parts, totals, strict=True)
            ],
            "hoverinfo": "text",
            "meta": meta_of(case),
        }
        for part, (colour, shape) in PARTS.items()
        if any(part in its for its in parts)
    ]
    data.append(
        {
            "type": "scatter",
            "mode": "text",
            "x": [101] * len(bars),
            "y": labels,
            "text": [numbers.seconds(total) for total in totals],
            "textposition": "middle right",
            "textfont": {"size": 11},
            "hoverinfo": "skip",
            "showlegend": False,
            "cliponaxis": False,
            "meta": meta_of(case, "total"),
        }
    )
    name = family_name(case)
    title = f"{name}: where the time goes"
    return Drawing(
        kind="parts",
        name=f"parts/{name}",
        title=title,
        workload=workload,
        data=data,
        layout=layout(
            title,
            barmode="stack",
            bargap=0.25,
            height=130 + _ROW_PX * len(bars),
            xaxis={
                "title": {"text": "% of the sum"},
                "range": [0, 118],
                "tickvals": [0, 25, 50, 75, 100],
                "automargin": True,
                "zeroline": False,
            },
            yaxis={
                "type": "category",
                "showgrid": False,
                "categoryorder": "array",
                "categoryarray": labels,
                "autorange": "reversed",
                "automargin": True,
                "tickvals": labels,
                "ticktext": [
                    _coloured(label, device) for label, (_, device, *_) in zip(labels, bars, strict=True)
                ],
            },
        ),
        note="Medians, each part measured by itself; at the end of a bar, their sum. Dispatch: as an empty "
        "call has it; beyond it: the rest of latency that is not device time, such as fresh memory, host "
        "callbacks or copies. Host memory: pageable.",
    )


def _coloured(label: str, device: str) -> str:
    """A label in which the device has its colour and shape."""
    size, _, name = label.partition(" ")
    return f'{size} <span style="color:{COLOURS[device]}">{_MARKS[device]}</span> {text(name)}'

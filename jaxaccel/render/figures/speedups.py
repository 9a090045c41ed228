"""How many times as fast the GPU is against size, for each place where the data may live."""

from collections.abc import Sequence

from jaxaccel.analyze.findings import Family
from jaxaccel.analyze.questions import EVERY_CALL, EVERY_CALL_PINNED
from jaxaccel.records import Metric, Verdict
from jaxaccel.render.figures.drawing import (
    GREEN,
    GREY,
    ORANGE,
    PURPLE,
    SKY,
    Drawing,
    Trace,
    error_bars,
    layout,
    log_axis,
    meta_of,
    rounded,
    size_axis,
)
from jaxaccel.render.words import numbers
from jaxaccel.render.words.names import family_name, workload_name

# By question: its words, colour, dash and shape.
LINES = {
    str(Metric.latency): ("resident", GREEN, "solid", "circle"),
    "once_100": ("once for 100 calls", SKY, "dash", "diamond"),
    "once_10": ("once for 10 calls", ORANGE, "dot", "triangle-up"),
    EVERY_CALL_PINNED: ("every call, pinned", GREY, "longdash", "star"),
    EVERY_CALL: ("every call", PURPLE, "dashdot", "x"),
}
_SAYS = {
    Verdict.gpu: "the GPU is surely faster",
    Verdict.cpu: "the CPU is surely faster",
    Verdict.equivalent: "no more than 2% apart",
    Verdict.undecided: "not sure",
}


def machines_words(family: Family) -> str | None:
    """CPU on A, GPU on B; None where all records are of one machine."""
    return family.machines and f"CPU on {family.machines[0]}, GPU on {family.machines[1]}"


def draw_speedups(families: Sequence[Family]) -> list[Drawing]:
    """A figure for each kind of case that has pairs; the line at 1 is where both take as long."""
    found = []
    for family in families:
        data, ends = list[Trace](), [1.0]
        for question in LINES:
            trace, its_ends = _trace(family, question)
            if trace:
                data.append(trace)
                ends += its_ends
        if not data:
            continue
        name = family_name(family.case, machines_words(family))
        title = f"{name}: speedup by where the data lives"
        found.append(
            Drawing(
                kind="speedup",
                name=f"speedup/{name}",
                title=title,
                workload=workload_name(family.case),
                data=data,
                layout=layout(
                    title,
                    xaxis=size_axis(size for trace in data for size in trace["x"]),
                    yaxis=log_axis(ends, "CPU time / GPU time", lambda value: f"{numbers.plain(value)}x"),
                    shapes=[_LINE_AT_1],
                ),
                note="Above 1x the GPU is faster. Bars: 95% intervals. Filled shapes: a device is surely "
                "faster; open ones: not sure, or equal.",
            )
        )
    return found


_LINE_AT_1 = {
    "type": "line",
    "xref": "paper",
    "x0": 0,
    "x1": 1,
    "y0": 1,
    "y1": 1,
    "line": {"color": GREY, "width": 2},
}


def _trace(family: Family, question: str) -> tuple[Trace | None, list[float]]:
    """One line of a figure, and the ends of its intervals."""
    finding = family.findings.get(question)
    if finding is None:
        return None, []
    words, colour, dash, symbol = LINES[question]
    values = [finding.speedups[point.size].ratio for point in finding.points]
    intervals = [finding.speedups[point.size].ci95 for point in finding.points]
    hovers = []
    for point, value, interval in zip(finding.points, values, intervals, strict=True):
        between = f" [{numbers.brief(interval[0])}, {numbers.brief(interval[1])}]" if interval else ""
        hovers.append(f"{numbers.ratio(value)}{between}<br>{_SAYS[point.verdict]}")
    sure = [point.verdict in (Verdict.cpu, Verdict.gpu) for point in finding.points]
    trace = {
        "type": "scatter",
        "mode": "lines+markers",
        "name": words,
        "x": [point.size for point in finding.points],
        "y": [rounded(value) for value in values],
        "error_y": error_bars(values, intervals),
        "line": {"color": colour, "dash": dash, "width": 2},
        "marker": {
            "color": colour,
            "symbol": [symbol if its else f"{symbol}-open" for its in sure],
            "size": 9,
        },
        "hovertext": hovers,
        "hovertemplate": "<b>%{fullData.name}, n = %{x}</b><br>%{hovertext}<extra></extra>",
        "meta": meta_of(family.case),
    }
    ends = [end for value, interval in zip(values, intervals, strict=True) for end in (interval or (value,))]
    return trace, ends

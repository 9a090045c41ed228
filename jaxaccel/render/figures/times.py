"""What a call takes against its size, a line a device: in seconds, in joules, or in money."""

from collections.abc import Callable, Mapping, Sequence
from itertools import chain

from jaxaccel.analyze.crossover import Bracket
from jaxaccel.analyze.findings import Family
from jaxaccel.analyze.machines import Placed
from jaxaccel.analyze.money import CallsCost, Prices, calls_cost
from jaxaccel.analyze.questions import EVERY_CALL
from jaxaccel.records import RESIDENT, Metric, Record
from jaxaccel.render.figures.drawing import (
    COLOURS,
    DASHES,
    GREY,
    SYMBOLS,
    Drawing,
    Line,
    Trace,
    device_label,
    error_bars,
    kin,
    kinds_of,
    layout,
    lines_of,
    log_axis,
    meta_of,
    neat,
    rounded,
    seconds_tick,
    size_axis,
    text,
    time_words,
)
from jaxaccel.render.words import money, numbers
from jaxaccel.render.words.names import workload_name

TITLES = {
    Metric.latency: "time of a call, awaited, data resident",
    Metric.throughput: "time of a queued call, data resident",
    Metric.device: "time on the device itself, without dispatch",
    Metric.end_to_end: "time of a call with its transfers",
    Metric.end_to_end_pinned: "time of a call with its transfers, pinned host memory",
    Metric.h2d: "time of the inputs to the device",
    Metric.h2d_pinned: "time of the inputs to the device, pinned host memory",
    Metric.d2h: "time of the output to the host",
    Metric.d2h_pinned: "time of the output to the host, pinned host memory",
}
# The question whose crossing is the crossing of the lines.
_QUESTION = {**{metric: str(metric) for metric in RESIDENT}, Metric.end_to_end: EVERY_CALL}
_INTERVALS = (
    "Bars: 95% intervals. Shaded: between its edges the faster device surely changes; outlined: by medians."
)


def draw_times(placed: Sequence[Placed], families: Sequence[Family]) -> list[Drawing]:
    """For each metric and workload, median and interval of a call against size, with the crossing marked."""
    found = []
    for workload, lines in lines_of(placed).items():
        for metric in Metric:
            timed = [_with(line, lambda record, m=metric: m in record.timings) for line in lines]  # type: ignore[misc]
            kept = [line for line in timed if line.arms]
            if kept:
                its = [family for family in families if workload_name(family.case) == workload]
                found.append(_time(workload, metric, kept, its))
    return found


def _time(workload: str, metric: Metric, lines: Sequence[Line], families: Sequence[Family]) -> Drawing:
    kinds = kinds_of(line.case for line in lines)
    data, ends_of = list[Trace](), dict[str, list[float]]()
    for line in lines:
        timings = [arm.record.timings[metric] for arm in line.arms]
        intervals = [timing.ci95_s for timing in timings]
        ends = [end for timing in timings for end in (timing.ci95_s or (timing.median_s,))]
        ends_of.setdefault(kin(line.case), []).extend(ends)
        hovers = [
            f"{time_words(timing)}<br>{len(timing.passes)} pass{'es' if len(timing.passes) != 1 else ''}, "
            f"{timing.n} samples"
            for timing in timings
        ]
        data.append(_trace(line, kinds, [timing.median_s for timing in timings], intervals, hovers))
    data += _crossings(metric, families, ends_of)
    sizes = [arm.record.case.size for line in lines for arm in line.arms]
    return Drawing(
        kind=str(metric),
        name=f"{metric}/{workload}",
        title=f"{workload}: {TITLES[metric]}",
        workload=workload,
        data=data,
        layout=layout(
            f"{workload}: {TITLES[metric]}",
            xaxis=size_axis(sizes),
            yaxis=log_axis(chain(*ends_of.values()), "time of a call", seconds_tick),
        ),
        note=_INTERVALS if metric in _QUESTION else "Bars: 95% intervals.",
    )


def draw_energy(placed: Sequence[Placed]) -> list[Drawing]:
    """For each workload with a counter of energy, joules of a call against size, gross and above idle."""
    found = []
    for workload, lines in lines_of(placed).items():
        measured = [_with(line, lambda record: record.energy is not None) for line in lines]
        kept = [line for line in measured if line.arms]
        if not kept:
            continue
        kinds = kinds_of(line.case for line in kept)
        data, known = list[Trace](), list[float]()
        for line in kept:
            energies = [arm.record.energy for arm in line.arms if arm.record.energy]
            for gross in (True, False):
                values = [e.per_call_j if gross else e.above_idle_per_call_j for e in energies]
                bars = [
                    (value - e.uncertainty_j, value + e.uncertainty_j)
                    for value, e in zip(values, energies, strict=True)
                ]
                what = "all" if gross else "above idle"
                hovers = [
                    f"{numbers.joules(value)} ± {numbers.joules(e.uncertainty_j)}, {what}<br>{text(e.scope)}"
                    for value, e in zip(values, energies, strict=True)
                ]
                trace = _trace(line, kinds, values, bars, hovers)
                trace["name"] += f", {what}"
                trace["meta"]["short"] += f", {what}"
                trace["marker"]["symbol"] += "" if gross else "-open"
                data.append(trace)
                known += values
        title = f"{workload}: energy of a call"
        data = [trace for trace in data if any(value > 0 for value in trace["y"])]
        found.append(
            Drawing(
                kind="energy",
                name=f"energy/{workload}",
                title=title,
                workload=workload,
                data=data,
                layout=layout(
                    title,
                    xaxis=size_axis(arm.record.case.size for line in kept for arm in line.arms),
                    yaxis=log_axis(known, "energy of a call", lambda value: neat(numbers.joules(value))),
                ),
                note="By the hardware's counter while calls are queued. Bars: one tick of the counter.",
            )
        )
    return found


def draw_costs(placed: Sequence[Placed], prices: Prices) -> list[Drawing]:
    """For each workload, what a million calls cost against size, at the user's prices."""
    found = []
    for workload, lines in lines_of(placed).items():
        priced = [_with(line, lambda record: calls_cost(record, prices) is not None) for line in lines]
        kept = [line for line in priced if line.arms]
        if not kept:
            continue
        kinds = kinds_of(line.case for line in kept)
        data, known = list[Trace](), list[float]()
        unit = f" {text(prices.currency)}" if prices.currency else ""
        for line in kept:
            costs: list[CallsCost] = [
                cost for arm in line.arms if (cost := calls_cost(arm.record, prices)) is not None
            ]
            values = [cost.per_million_calls for cost in costs]
            known += values
            hovers = [f"{numbers.amount(c.per_million_calls)}{unit}<br>by {c.metric}" for c in costs]
            data.append(_trace(line, kinds, values, [cost.ci95 for cost in costs], hovers))
        title = f"{workload}: what 10⁶ calls cost"
        found.append(
            Drawing(
                kind="cost",
                name=f"cost/{workload}",
                title=title,
                workload=workload,
                data=data,
                layout=layout(
                    title,
                    xaxis=size_axis(arm.record.case.size for line in kept for arm in line.arms),
                    yaxis=log_axis(known, f"cost of 10⁶ calls{unit and f' ({unit.strip()})'}", numbers.plain),
                ),
                note=f"Price of an hour times time of a call, data resident; {money.heading(prices)}. "
                "Bars: 95% intervals.",
            )
        )
    return found


# --- parts of a figure -----------------------------------------------------------------------------


def _with(line: Line, wanted: Callable[[Record], bool]) -> Line:
    return Line(
        device=line.device, machine=line.machine, arms=tuple(a for a in line.arms if wanted(a.record))
    )


def _trace(
    line: Line,
    kinds: dict[str, str],
    values: Sequence[float],
    intervals: Sequence[tuple[float, float] | None],
    hovers: Sequence[str],
) -> Trace:
    """A line of one device, dashed by kind of case."""
    words = kinds[kin(line.case)]
    label = device_label(line, words)
    shade = list(kinds).index(kin(line.case))
    sizes = [arm.record.case.size for arm in line.arms]
    return {
        "type": "scatter",
        "mode": "lines+markers",
        "name": label,
        "x": sizes,
        "y": [rounded(value) for value in values],
        "error_y": error_bars(values, intervals),
        "line": {"color": COLOURS[line.device], "dash": DASHES[shade % len(DASHES)], "width": 2},
        "marker": {"color": COLOURS[line.device], "symbol": SYMBOLS[line.device], "size": 8},
        "hovertext": list(hovers),
        "hovertemplate": "<b>%{fullData.name}, n = %{x}</b><br>%{hovertext}<extra></extra>",
        "meta": meta_of(line.case) | {"short": device_label(line, "")},
    }


def _crossings(
    metric: Metric, families: Sequence[Family], ends_of: Mapping[str, Sequence[float]]
) -> list[Trace]:
    """Where the faster device changes: shaded where that is sure, outlined where only the medians say so."""
    question = _QUESTION.get(metric)
    found = list[Trace]()
    for family in families if question else []:
        finding = family.findings.get(question or "")
        if finding is None:
            continue
        sure, ends = finding.answer.brackets, ends_of[kin(family.case)]
        for bracket in sure or finding.leaning:
            band = _band(bracket, family, min(ends), max(ends), sure=bool(sure))
            told = band["name"] in {other["name"] for other in found}
            found.append(band | {"showlegend": not told})
    return found


def _band(bracket: Bracket, family: Family, low: float, high: float, *, sure: bool) -> Trace:
    words = f"{bracket.below.upper()} → {bracket.above.upper()}"
    doubt = "" if sure else " by medians only"
    left, right = bracket.low, bracket.high
    return {
        "type": "scatter",
        "mode": "lines",
        "name": f"{words}{doubt}",
        "legendgroup": f"{words}{doubt}",
        "x": [left, right, right, left, left],
        "y": [rounded(value) for value in (low, low, high, high, low)],
        "fill": "toself",
        "fillcolor": "rgba(128,128,128,0.18)" if sure else "rgba(128,128,128,0.04)",
        "line": {"color": GREY, "width": 1, "dash": "solid" if sure else "dot"},
        "hoveron": "fills",
        "hoverinfo": "text",
        "text": f"{words}{doubt}: between n = {left} and {right}",
        "meta": meta_of(family.case, "crossing"),
    }

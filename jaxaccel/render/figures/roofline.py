"""The roofline of each device: every case under the ceilings that were measured beside it."""

from collections.abc import Sequence

from jaxaccel.analyze.machines import Placed
from jaxaccel.analyze.roofline import ridge_flops_per_byte
from jaxaccel.records import Ceiling, Limit, Record
from jaxaccel.render.figures.drawing import (
    COLOURS,
    DASHES,
    GREY,
    Drawing,
    Trace,
    layout,
    log_axis,
    meta_of,
    neat,
    rounded,
    text,
)
from jaxaccel.render.words import numbers
from jaxaccel.render.words.names import case_name, workload_name

SHAPES = ("circle", "square", "diamond", "triangle-up", "cross", "star", "hexagon", "pentagon")


def draw_rooflines(placed: Sequence[Placed]) -> list[Drawing]:
    """A figure a device of a machine: FLOPs a second against FLOPs a byte, of cases that declare both."""
    several = len({arm.machine for arm in placed}) > 1
    devices: dict[tuple[str, str], list[Record]] = {}
    for arm in placed:
        record = arm.record
        if record.ok and record.rates and record.rates.flops_per_s and intensity(record):
            devices.setdefault((record.arm.requested, arm.machine), []).append(record)
    return [
        _figure(device, machine if several else None, records)
        for (device, machine), records in sorted(devices.items(), key=lambda item: item[0])
    ]


def intensity(record: Record) -> float | None:
    """FLOPs a byte; None where one of them is not known, or is 0."""
    cost = record.cost
    return cost.flops / cost.bytes if cost and cost.flops and cost.bytes else None


def _figure(device: str, machine: str | None, records: Sequence[Record]) -> Drawing:
    kind = next((record.arm.kind for record in records if record.arm.kind), device.upper())
    where = f"{device} on {machine}" if machine else device
    title = f"{device.upper()}{f' ({machine})' if machine else ''}, {kind}: roofline"
    xs = [x for record in records if (x := intensity(record))]
    ridges = [x for record in records if (x := ridge_flops_per_byte(record.ceilings))]
    span = (min([*xs, *ridges]) / 4, max([*xs, *ridges]) * 4)
    data = _ceilings(records, span) + _points(device, records)
    ys = [y for trace in data for y in trace["y"]]
    return Drawing(
        kind="roofline",
        name=f"roofline/{where}",
        title=title,
        workload=None,
        data=data,
        layout=layout(
            title,
            xaxis=log_axis([*xs, *span], "arithmetic intensity (FLOP/byte)", numbers.plain),
            yaxis=log_axis(ys, "FLOPs a second", lambda value: neat(numbers.rate(value, "FLOP/s"))),
        ),
        note="Lines: the best that was reached on this device, flat by matmul, rising by stream at a working "
        "set. Open shapes: mostly dispatch. A case in a cache may lie above the line of large working sets.",
    )


def _ceilings(records: Sequence[Record], span: tuple[float, float]) -> list[Trace]:
    """A horizontal line for each dtype and precision; rising ones for large and for cached working sets."""
    compute: dict[tuple[str, str], Record] = {}
    memory: list[Ceiling] = []
    for record in records:
        if record.ceilings and (found := record.ceilings.compute):
            key = record.case.dtype, record.case.precision
            known = compute.get(key)
            if not (known and known.ceilings and known.ceilings.compute) or (
                found.rate_per_s > known.ceilings.compute.rate_per_s
            ):
                compute[key] = record
        if record.ceilings and record.ceilings.memory:
            memory.append(record.ceilings.memory)
    lines = []
    for index, ((dtype, precision), record) in enumerate(compute.items()):
        rate = record.ceilings.compute.rate_per_s if record.ceilings and record.ceilings.compute else 0.0
        words = f"{dtype} {precision}: {numbers.rate(rate, 'FLOP/s')}"
        trace = _line(words, span, (rate, rate), DASHES[index % len(DASHES)])
        # A ceiling belongs to its dtype and precision, whatever the workload.
        lines.append(trace | {"meta": {"dtype": dtype, "precision": precision, "role": "ceiling"}})
    if memory:
        largest = max(memory, key=lambda ceiling: (ceiling.working_set_bytes, ceiling.rate_per_s))
        best = max(memory, key=lambda ceiling: ceiling.rate_per_s)
        top = max((y for trace in lines for y in trace["y"]), default=None)
        for ceiling, dash in ((largest, "solid"), *(((best, "dot"),) if best != largest else ())):
            size = numbers.volume(ceiling.working_set_bytes)
            words = f"{size}: {numbers.rate(ceiling.rate_per_s, 'B/s')}"
            end = min(span[1], top / ceiling.rate_per_s) if top else span[1]
            ends = (span[0], max(end, span[0]))
            rates = ceiling.rate_per_s * ends[0], ceiling.rate_per_s * ends[1]
            lines.append(_line(words, ends, rates, dash) | {"meta": {"role": "memory"}})
    return lines


def _line(words: str, xs: tuple[float, float], ys: tuple[float, float], dash: str) -> Trace:
    return {
        "type": "scatter",
        "mode": "lines",
        "name": text(words),
        "x": [rounded(x) for x in xs],
        "y": [rounded(y) for y in ys],
        "line": {"color": GREY, "dash": dash, "width": 2},
        "hoverinfo": "name",
    }


def _points(device: str, records: Sequence[Record]) -> list[Trace]:
    """A trace for each workload, dtype and precision. A workload has a shape, and is in the legend once."""
    groups: dict[tuple[str, str, str], list[Record]] = {}
    for record in records:
        case = record.case
        groups.setdefault((workload_name(case), case.dtype, case.precision), []).append(record)
    workloads = list(dict.fromkeys(workload for workload, *_ in groups))
    told = set[str]()
    traces = []
    for (workload, *_), its in groups.items():
        shape = SHAPES[workloads.index(workload) % len(SHAPES)]
        points = [
            (record, x, rates) for record in its if (x := intensity(record)) and (rates := record.rates)
        ]
        traces.append(
            {
                "type": "scatter",
                "mode": "markers",
                "name": text(workload),
                "legendgroup": text(workload),
                "showlegend": workload not in told,
                "x": [rounded(x) for _, x, _ in points],
                "y": [rounded(rates.flops_per_s) for *_, rates in points],
                "marker": {
                    "color": COLOURS[device],
                    "symbol": [f"{shape}-open" if r.limit is Limit.dispatch else shape for *_, r in points],
                    "size": 9,
                    "line": {"width": 1.2, "color": COLOURS[device]},
                },
                "hovertext": [_hover(record) for record, *_ in points],
                "hoverinfo": "text",
                "meta": meta_of(its[0].case),
            }
        )
        told.add(workload)
    return traces


def _hover(record: Record) -> str:
    rates = record.rates
    if rates is None:
        return ""
    shares = {Limit.compute: rates.of_compute_ceiling, Limit.memory: rates.of_memory_ceiling}
    share = shares.get(rates.limit) if rates.limit else None
    limit = f"<br>limit: {rates.limit}" if rates.limit else ""
    return (
        f"<b>{text(case_name(record.case))}</b><br>{numbers.rate(rates.flops_per_s, 'FLOP/s')}, "
        f"{numbers.rate(rates.bytes_per_s, 'B/s')} by {rates.metric}{limit}"
        + (f", {100 * share:.0f}% of its ceiling" if share is not None else "")
    )

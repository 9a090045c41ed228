"""The table of a sweep: a row a case, in at most 100 columns, and a legend of what appears in it.

What no case has is no column. Below 100 columns the cells are folded, and nothing of them is lost.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from rich import box
from rich.console import Console, ConsoleOptions, JustifyMethod, RenderResult
from rich.table import Table
from rich.text import Text

from jaxaccel.analyze.residency import break_even
from jaxaccel.analyze.stats import SEVERE_FLAGS
from jaxaccel.publish.names import cores, device_name, told_apart
from jaxaccel.publish.numbers import brief, count, interval, seconds
from jaxaccel.records import DEVICES, Comparison, Limit, Metric, Record, Speedup, Timing, Verdict

WIDTH = 100
LOOK_TWICE = "! look twice: not converged, very noisy or bimodal (the record's `warnings`)"
UNMATCHED = "†"
STYLES = {
    Verdict.gpu: "green",
    Verdict.cpu: "cyan",
    Verdict.equivalent: "white",
    Verdict.undecided: "yellow",
}
UNKNOWN = "–"

_SURE = (Verdict.gpu, Verdict.cpu)
_VERDICTS = {Verdict.gpu: "gpu", Verdict.cpu: "cpu", Verdict.equivalent: "equal", Verdict.undecided: "?"}
_SHOWN_UNMATCHED = 3  # cases whose errors are told; of all others their number


@dataclass(frozen=True, kw_only=True)
class _Column:
    """`legend` says what the numbers are; an optional one is left out where no case has any."""

    title: str
    cell: Callable[[Comparison], Text]
    optional: bool = True
    left: bool = False
    legend: str | None = None


class SweepTable:
    """The devices; then a row a case: what it takes on each device, who wins, and how near a ceiling it is.

    The cores stand beside every speedup: "the CPU" is two cores for some and 128 for others. The error is the
    larger of the two.
    """

    def __init__(self, comparisons: Sequence[Comparison]) -> None:
        workloads = list(dict.fromkeys(comparison.case.workload for comparison in comparisons))
        self._rows = sorted(comparisons, key=lambda c: workloads.index(c.case.workload))
        self._devices = [d for d in DEVICES if any(getattr(comparison, d) for comparison in comparisons)]
        columns = _pair_columns(self._rows) if len(self._devices) == 2 else _single_columns(self._devices[0])
        cells = [[column.cell(row) for row in self._rows] for column in columns]
        kept = [
            (column, found)
            for column, found in zip(columns, cells, strict=True)
            if not column.optional or any(cell.plain.strip(f" {UNKNOWN}") for cell in found)
        ]
        self._columns = [column for column, _ in kept]
        self._cells = list(zip(*(found for _, found in kept), strict=True))

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        yield from map(Text, _device_names(self._rows, self._devices))
        yield self._table(rigid=options.max_width >= WIDTH)
        for line in self._legend():
            yield Text(line, style="yellow" if line[0] in f"!{UNMATCHED} " else "dim")

    def _table(self, *, rigid: bool) -> Table:
        table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 0, 0, 1))
        first = "latency of\na call,\nresident" if len(self._devices) == 2 else "case"
        lines = max(title.count("\n") for title in (first, *(column.title for column in self._columns)))
        table.add_column(Text("\n" * (lines - first.count("\n")) + first), overflow="fold")
        for column in self._columns:
            title = Text("\n" * (lines - column.title.count("\n")) + column.title)
            justify: JustifyMethod = "left" if column.left else "right"
            table.add_column(title, justify=justify, no_wrap=rigid, overflow="fold")
        cases = [row.case for row in self._rows]
        before = None
        for row, cells in zip(self._rows, self._cells, strict=True):
            if before and before.case.workload != row.case.workload:
                table.add_section()
            before = row
            table.add_row(Text(told_apart(row.case, cases)), *cells)
        return table

    def _legend(self) -> list[str]:
        shown = "".join(cell.plain for cells in self._cells for cell in cells)
        lines = [column.legend for column in self._columns if column.legend]
        if "±" in shown or "[" in shown:
            lines.append(_interval_legend(self._rows))
        if "equal" in shown:
            lines.append("equal: surely no more than 2% apart")
        if "?" in shown:
            lines.append(_undecided_legend(self._rows))
        if UNMATCHED in shown:
            lines += _unmatched_legend(self._rows)
        if "!" in shown:
            lines.append(LOOK_TWICE)
        return lines


# --- columns ---------------------------------------------------------------------------------------


def _pair_columns(rows: Sequence[Comparison]) -> list[_Column]:
    return [
        _Column(title=_cpu_title(rows), cell=lambda row: _latency(row.cpu), optional=False),
        _Column(title="GPU", cell=lambda row: _latency(row.gpu), optional=False),
        _Column(
            title="speedup [95%]",
            cell=_resident,
            optional=False,
            legend="speedup: CPU time / GPU time, with the data resident on each; above 1x the GPU is faster",
        ),
        _Column(title="faster", cell=_faster, optional=False, left=True),
        _Column(
            title="end\nto\nend",
            cell=_every_call,
            legend="end to end: the speedup with each call's inputs from the host and its output back to it",
        ),
        _Column(
            title="break\neven",
            cell=_break_even,
            legend="break even: calls on data brought in once until the GPU has made up for the transfers",
        ),
        _Column(
            title="% ceiling\n CPU  GPU",
            cell=lambda row: Text(f"{_ceiling(row.cpu):>4} {_ceiling(row.gpu):>4}"),
            legend="% ceiling: of this device's best measured rate of memory (m) or compute (c); "
            "disp: dispatch limits",
        ),
        _ERROR,
    ]


def _single_columns(device: str) -> list[_Column]:
    def timing(row: Comparison, metric: Metric) -> Text:
        record = getattr(row, device)
        found: Timing | None = record.timings.get(metric) if record.ok else None
        return Text(seconds(found.median_s if found else None))

    return [
        _Column(title="latency", cell=lambda row: _latency(getattr(row, device), width=True), optional=False),
        _Column(title="throughput", cell=lambda row: timing(row, Metric.throughput)),
        _Column(
            title="device",
            cell=lambda row: timing(row, Metric.device),
            legend="throughput: of queued calls, each; device: without the host's dispatch",
        ),
        _Column(
            title="end to end",
            cell=lambda row: timing(row, Metric.end_to_end),
            legend="end to end: with each call's inputs from the host, and its output back",
        ),
        _Column(
            title="% of ceiling",
            cell=lambda row: Text(_ceiling_words(getattr(row, device))),
            legend="% of ceiling: of the rate measured as this device's best, and what that is of: the limit",
        ),
        _ERROR,
    ]


def _latency(record: Record | None, *, width: bool = False) -> Text:
    """The median, with its interval where asked for; how it ended where there is none."""
    if record is None:
        return Text(UNKNOWN)
    timing = record.timings.get(Metric.latency)
    if not record.ok:
        return Text(str(record.status), style="red")
    words = seconds(timing.median_s if timing else None)
    words += f" {interval(timing)}" if width and timing else ""
    return Text.assemble(words, ("!", "yellow") if _marked(record) else "")


def _marked(record: Record) -> bool:
    return any(
        flag.name in SEVERE_FLAGS and flag.metric in (Metric.latency, None) for flag in record.warnings
    )


def _resident(row: Comparison) -> Text:
    found = row.speedups.get(Metric.latency)
    if found is None:
        return Text(UNKNOWN)
    within = f" [{brief(found.ci95[0])}, {brief(found.ci95[1])}]" if found.ci95 else ""
    return Text(_marked_ratio(found, row) + within)


def _faster(row: Comparison) -> Text:
    found = row.speedups.get(Metric.latency)
    return Text(_VERDICTS[found.verdict], style=STYLES[found.verdict]) if found else Text(UNKNOWN)


def _every_call(row: Comparison) -> Text:
    found = row.speedups.get(Metric.end_to_end)
    if found is None:
        return Text(UNKNOWN)
    doubt = "?" if found.verdict is Verdict.undecided else ""
    return Text(_marked_ratio(found, row) + doubt, style=STYLES[found.verdict])


def _marked_ratio(found: Speedup, row: Comparison) -> str:
    return f"{brief(found.ratio)}x{UNMATCHED if row.unmatched else ''}"


def _break_even(row: Comparison) -> Text:
    if row.cpu is None or row.gpu is None:
        return Text(UNKNOWN)
    found = break_even(row.cpu, row.gpu)
    if found.reason is not None:
        return Text(UNKNOWN)
    latency = row.speedups.get(Metric.latency)
    doubt = "" if latency and latency.verdict in _SURE else "?"
    if found.calls is not None:
        return Text(count(found.calls) + doubt)
    return Text(("never" if found.until is None else f"≤{count(found.until)}") + doubt)


def _ceiling(record: Record | None) -> str:
    """The share of the ceiling that limits it in at most five characters: 82m, 64c; disp."""
    share, limit = _share(record)
    if limit is Limit.dispatch:
        return "disp"
    return UNKNOWN if share is None or limit is None else f"{_percent(share)}{limit.value[0]}"


def _ceiling_words(record: Record) -> str:
    share, limit = _share(record)
    if limit is Limit.dispatch:
        return "dispatch"
    return UNKNOWN if share is None else f"{_percent(share)}% {limit}"


def _share(record: Record | None) -> tuple[float | None, Limit | None]:
    rates = record.rates if record and record.ok else None
    if rates is None:
        return None, None
    shares = {Limit.compute: rates.of_compute_ceiling, Limit.memory: rates.of_memory_ceiling}
    return (shares.get(rates.limit) if rates.limit else None), rates.limit


def _percent(share: float) -> str:
    return "<1" if 0 < share < 0.005 else f"{100 * share:.0f}"


def _worse_error(row: Comparison) -> Text:
    errors = [record.accuracy.relative_error for record in row.arms if record.accuracy]
    return Text(f"{max(errors):.0e}" if errors else UNKNOWN)


_ERROR = _Column(title="error", cell=_worse_error, optional=False)


# --- what stands around it -------------------------------------------------------------------------


def _device_names(rows: Sequence[Comparison], devices: Sequence[str]) -> list[str]:
    """All devices that the records are of, CPUs first: several of a kind where there are several hosts."""
    known = [device_name(r) for d in devices for r in _records(rows, d) if r.arm.kind]
    return list(dict.fromkeys(known)) or [device_name(_records(rows, d)[0]) for d in devices]


def _cpu_title(rows: Sequence[Comparison]) -> str:
    found = {cores(record) for record in _records(rows, "cpu") if record.arm.kind} or {"?"}
    words = " or ".join(map(str, sorted(found, key=lambda known: (isinstance(known, str), known))))
    return f"CPU,\n{words} cores" if len(found) == 1 else f"CPU,\n{words}\ncores"


def _records(rows: Sequence[Comparison], device: str) -> list[Record]:
    return [record for row in rows for record in row.arms if record.arm.requested == device]


def _interval_legend(rows: Sequence[Comparison]) -> str:
    timings = [record.timings.get(Metric.latency) for row in rows for record in row.arms]
    scopes = {timing.ci_over for timing in timings if timing and timing.ci95_s}
    if scopes == {"passes"}:
        return "intervals: 95%, over passes: where a rerun would land"
    if scopes == {"rounds"}:
        return "intervals: 95%, within one process: a rerun may land further off"
    return "intervals: 95%, some over passes, some within one process (`latency_ci_over` in CSV and JSON)"


def _undecided_legend(rows: Sequence[Comparison]) -> str:
    among = max((speedup.among for row in rows for speedup in row.speedups.values()), default=1)
    if among == 1:
        return "?: undecided, for the interval allows for either device"
    return f"?: undecided: not sure enough for the verdicts on {among} cases to be right all together"


def _unmatched_legend(rows: Sequence[Comparison]) -> list[str]:
    cases = [row.case for row in rows]
    found = [f"  {told_apart(row.case, cases)}: {row.unmatched}" for row in rows if row.unmatched]
    left = len(found) - _SHOWN_UNMATCHED
    return [
        f"{UNMATCHED} no one speedup, as the two sides did not compute at one precision:",
        *found[:_SHOWN_UNMATCHED],
        *([f"  and {left} more: `unmatched` in CSV and JSON"] if left > 0 else []),
    ]

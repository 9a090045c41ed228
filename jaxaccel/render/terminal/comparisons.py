"""The table of a sweep: a row a case, in at most 100 columns, and a legend of what appears in it.

What no case has is no column. Of records without a latency the first metric that there is stands in its
place. Rows of the same machines stand together, under a title where there are several machines. Below 100
columns the cells are folded, and nothing of them is lost.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from textwrap import wrap

from rich import box
from rich.console import Console, ConsoleOptions, JustifyMethod, RenderResult
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from jaxaccel.analyze.agreement import DIFFERENT, of_pair
from jaxaccel.analyze.residency import break_even
from jaxaccel.analyze.stats import NOISE_FLAGS, RARE_FLAGS, severe
from jaxaccel.records import (
    DEVICES,
    RESIDENT,
    Comparison,
    Limit,
    Metric,
    Record,
    Speedup,
    Timing,
    Verdict,
)
from jaxaccel.render.words.machines import blocks
from jaxaccel.render.words.names import cores, device_name, in_cores, told_apart
from jaxaccel.render.words.numbers import brief, count, interval, seconds
from jaxaccel.render.words.variants import legend as variants_legend

WIDTH = 100
UNMATCHED = "†"
TWO_MACHINES = (
    "two machines: measured apart, CPU of one against GPU of the other: intervals are over the passes of\n"
    "  each; end to end, break even and % ceiling are what each side has on its own machine"
)
DIFFERENT_MARK = "‡"
ONE_PROCESS = "¹"
STYLES = {
    Verdict.gpu: "green",
    Verdict.cpu: "cyan",
    Verdict.equivalent: "white",
    Verdict.undecided: "yellow",
}
UNKNOWN = "–"
VERDICTS = {Verdict.gpu: "gpu", Verdict.cpu: "cpu", Verdict.equivalent: "equal", Verdict.undecided: "?"}
_TITLES = {metric: str(metric).replace("_", " ") for metric in Metric}
_MEANS = {
    Metric.latency: "of one call, with its data resident on the device",
    Metric.throughput: "of queued calls, each, with their data resident on the device",
    Metric.device: "of a call on the device alone, without the host's dispatch",
    Metric.end_to_end: "of a call with its inputs from the host and its output back to it",
    Metric.end_to_end_pinned: "the same, with pinned host memory",
    Metric.h2d: "of the inputs from the host to the device",
    Metric.h2d_pinned: "of the inputs to the device, from pinned host memory",
    Metric.d2h: "of the output to the host",
    Metric.d2h_pinned: "of the output to pinned host memory",
}
# What else stands in the table of one device, and what is said below it.
_BESIDE = {
    Metric.throughput: None,
    Metric.device: "throughput: of queued calls, each; device: without the host's dispatch",
    Metric.end_to_end: "end to end: with each call's inputs from the host, and its output back",
}
_SHOWN_UNMATCHED = 3  # cases whose errors are told; of all others their number


@dataclass(frozen=True, kw_only=True)
class _Column:
    """`legend` says what the numbers are; an optional one is left out where no case has any."""

    title: str
    cell: Callable[[Comparison], Text]
    optional: bool = True
    left: bool = False
    legend: str | None = None


@dataclass(frozen=True, kw_only=True)
class _Block:
    """Rows of the same machines, and a list of cells a row."""

    title: str | None
    rows: Sequence[Comparison]
    columns: Sequence[_Column]
    cells: Sequence[Sequence[Text]]


class SweepTable:
    """The devices; then a row a case: what it takes on each device, who wins, and how near a ceiling it is.

    The cores stand beside every speedup: "the CPU" is two cores for some and 128 for others. The error is the
    larger of the two.
    """

    def __init__(self, comparisons: Sequence[Comparison]) -> None:
        workloads = list(dict.fromkeys(comparison.case.workload for comparison in comparisons))
        self._rows = sorted(comparisons, key=lambda c: workloads.index(c.case.workload))
        self._devices = [d for d in DEVICES if any(getattr(comparison, d) for comparison in comparisons)]
        self._metric = _first_metric(self._rows)
        self._scopes = _scopes(self._rows, self._metric, both=len(self._devices) == 2)
        self._blocks = [self._block(title, rows) for title, rows in blocks(self._rows)]

    def _block(self, title: str | None, rows: Sequence[Comparison]) -> _Block:
        mixed, rated_by = len(self._scopes) > 1, _rated_by(self._rows)
        columns = (
            _pair_columns(rows, self._metric, mixed=mixed, rated_by=rated_by)
            if len(self._devices) == 2
            else _single_columns(self._devices[0], self._metric, mixed=mixed, rated_by=rated_by)
        )
        cells = [[column.cell(row) for row in rows] for column in columns]
        kept = [
            (column, found)
            for column, found in zip(columns, cells, strict=True)
            if not column.optional or any(cell.plain.strip(f" {UNKNOWN}") for cell in found)
        ]
        return _Block(
            title=title,
            rows=rows,
            columns=[column for column, _ in kept],
            cells=list(zip(*(found for _, found in kept), strict=True)),
        )

    @property
    def plain(self) -> list[tuple[str | None, list[str], list[list[str]]]]:
        """Title, head and rows of each block, as text that stands in no terminal."""
        cases = [row.case for row in self._rows]
        return [
            (
                block.title,
                ["case", *(" ".join(column.title.split()) for column in block.columns)],
                [
                    [told_apart(row.case, cases), *(cell.plain.strip() for cell in cells)]
                    for row, cells in zip(block.rows, block.cells, strict=True)
                ],
            )
            for block in self._blocks
        ]

    @property
    def devices(self) -> list[str]:
        """The devices that the rows are of."""
        return _device_names(self._rows, self._devices)

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        if self._blocks[0].title is None:  # or else they are in the table of machines
            yield from map(Text, _device_names(self._rows, self._devices))
        for block in self._blocks:
            if block.title:
                yield Text(f"\n{block.title}", style="bold")
            yield self._table(block, rigid=options.max_width >= WIDTH)
        for line in self.legend():
            yield Text(line, style="yellow" if line[0] in f"!{UNMATCHED}{DIFFERENT_MARK} " else "dim")

    def _table(self, block: _Block, *, rigid: bool) -> Table:
        table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 0, 0, 1))
        lines = max(column.title.count("\n") for column in block.columns)
        table.add_column(Text("\n" * lines + "case"), overflow="fold")
        for column in block.columns:
            title = Text("\n" * (lines - column.title.count("\n")) + column.title)
            justify: JustifyMethod = "left" if column.left else "right"
            table.add_column(title, justify=justify, no_wrap=rigid, overflow="fold")
        cases = [row.case for row in self._rows]
        before = None
        for row, cells in zip(block.rows, block.cells, strict=True):
            if before and before.case.workload != row.case.workload:
                table.add_section()
            before = row
            table.add_row(_Name(told_apart(row.case, cases)), *cells)
        return table

    def legend(self) -> list[str]:
        """What the cells mean, of those that there are: lines, of which some go on in the next."""
        shown = "".join(cell.plain for block in self._blocks for cells in block.cells for cell in cells)
        titles = [column.legend for block in self._blocks for column in block.columns if column.legend]
        lines = list(dict.fromkeys(titles))
        if any(row.two_machines for row in self._rows):
            lines.append(TWO_MACHINES)
        if "never" in shown:
            lines.append("never: the GPU is ahead for no number of calls")
        if "≤" in shown:
            lines.append("≤N: the GPU is ahead for up to N calls, and behind from there on")
        if "±" in shown or "[" in shown:
            lines.append(interval_legend(self._scopes))
        if "equal" in shown:
            lines.append("equal: surely no more than 2% apart")
        if "?" in shown:
            lines.append(undecided_legend(self._rows))
        for line in variants_legend(self._rows):
            lines += wrap(line, WIDTH, subsequent_indent="  ", break_on_hyphens=False)
        lines += no_interval_lines(self._rows, self._metric)
        lines += other_source_lines(self._rows)
        if UNMATCHED in shown:
            lines += _unmatched_legend(self._rows)
        if DIFFERENT_MARK in shown:
            lines += wrap(f"{DIFFERENT_MARK} {DIFFERENT}, by more than is tolerated", WIDTH)
        if "!" in shown:
            arms = (record for row in self._rows for record in row.arms)
            lines.append(look_twice(flag.name for record in arms for flag in record.warnings))
        return lines


class _Name:
    """A case's name, in which a setting that is wider than its column is broken after its sign."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        words = self._name.split(" ")
        yield Text(
            " ".join(word.replace("=", "=\n", 1) if len(word) > options.max_width else word for word in words)
        )

    def __rich_measure__(self, console: Console, options: ConsoleOptions) -> Measurement:
        return Measurement.get(console, options, Text(self._name))


# --- columns ---------------------------------------------------------------------------------------


def _first_metric(rows: Sequence[Comparison]) -> Metric:
    """The first that any record has: the latency, but where only others were asked for."""
    known = {name for row in rows for record in row.arms for name in record.timings}
    return next((metric for metric in Metric if metric in known), Metric.latency)


def _pair_columns(rows: Sequence[Comparison], metric: Metric, *, mixed: bool, rated_by: str) -> list[_Column]:
    """`mixed`: not all intervals are of one kind, and those of one process are marked."""
    return [
        _Column(
            title=_cpu_title(rows, metric),
            cell=lambda row: _time(row.cpu, metric),
            optional=False,
            legend=f"{_TITLES[metric]}: {_MEANS[metric]}",
        ),
        _Column(title=f"GPU\n{_TITLES[metric]}", cell=lambda row: _time(row.gpu, metric), optional=False),
        _Column(
            title="speedup [95%]",
            cell=lambda row: _speedup(row, metric, mixed=mixed),
            optional=False,
            legend="speedup: CPU time / GPU time"
            + (", with the data resident on each" if metric in RESIDENT else "")
            + "; above 1x the GPU is faster",
        ),
        _Column(title="faster", cell=lambda row: _faster(row, metric), optional=False, left=True),
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
            legend="% ceiling: of the best rate of stream (m) near this size, or of matmul (c) at this dtype"
            f", here;\n  of the work by {rated_by}, not latency; disp: the call is mostly dispatch",
        ),
        _ERROR,
    ]


def _single_columns(device: str, metric: Metric, *, mixed: bool, rated_by: str) -> list[_Column]:
    def timing(row: Comparison, metric: Metric) -> Text:
        record = getattr(row, device)
        found: Timing | None = record.timings.get(metric) if record.ok else None
        return Text(seconds(found.median_s if found else None))

    others = (m for m in _BESIDE if m is not metric)
    return [
        _Column(
            title=_TITLES[metric],
            cell=lambda row: _time(getattr(row, device), metric, width=True, mixed=mixed),
            optional=False,
            legend=None if metric is Metric.latency else f"{_TITLES[metric]}: {_MEANS[metric]}",
        ),
        *(
            _Column(
                title=_TITLES[other],
                cell=lambda row, other=other: timing(row, other),  # type: ignore[misc]
                legend=_BESIDE[other],
            )
            for other in others
        ),
        _Column(
            title="% of ceiling",
            cell=lambda row: Text(_ceiling_words(getattr(row, device))),
            legend="% of ceiling: of the best rate of stream (memory) or matmul (compute) here, by "
            f"{rated_by}",
        ),
        _ERROR,
    ]


def _time(record: Record | None, metric: Metric, *, width: bool = False, mixed: bool = False) -> Text:
    """The median, with its interval where asked for; how it ended where there is none."""
    if record is None:
        return Text(UNKNOWN)
    timing = record.timings.get(metric)
    if not record.ok:
        return Text(str(record.status), style="red")
    words = seconds(timing.median_s if timing else None)
    if width and timing:
        words += f" {interval(timing)}"
        words += _scope_mark(timing.ci_over) if mixed and timing.ci95_s else ""
    return Text.assemble(words, ("!", "yellow") if severe(record.warnings, metric) else "")


def _speedup(row: Comparison, metric: Metric, *, mixed: bool) -> Text:
    found = row.speedups.get(metric)
    if found is None:
        return Text(UNKNOWN)
    words = _marked_ratio(found, row)
    if found.ci95:
        words += f" [{brief(found.ci95[0])}, {brief(found.ci95[1])}]"
        words += _scope_mark(found.ci_over) if mixed else ""
    return Text(words)


def _scope_mark(ci_over: str) -> str:
    """As wide as none, so that the digits of all rows stay in line."""
    return ONE_PROCESS if ci_over == "rounds" else " "


def _faster(row: Comparison, metric: Metric) -> Text:
    found = row.speedups.get(metric)
    return Text(VERDICTS[found.verdict], style=STYLES[found.verdict]) if found else Text(UNKNOWN)


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
    doubt = "" if row.decided else "?"
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
    """The larger of the two; without a reference, by how much the two devices differ."""
    known = [record.accuracy.relative_error for record in row.arms if record.accuracy]
    errors = [error for error in known if error is not None]
    found = of_pair(row)
    if found and (not errors or not found.agrees):
        apart = found.relative_difference
        mark = "" if found.agrees else DIFFERENT_MARK
        return Text.assemble(UNKNOWN if apart is None else f"{apart:.0e}", (mark, "red"))
    return Text(f"{max(errors):.0e}" if errors else UNKNOWN)


_ERROR = _Column(title="error", cell=_worse_error, optional=False)


# --- what stands around it -------------------------------------------------------------------------


def _device_names(rows: Sequence[Comparison], devices: Sequence[str]) -> list[str]:
    """All devices that the records are of, CPUs first: several of a kind where there are several hosts."""
    known = [device_name(r) for d in devices for r in _records(rows, d) if r.arm.kind]
    return list(dict.fromkeys(known)) or [device_name(_records(rows, d)[0]) for d in devices]


def _cpu_title(rows: Sequence[Comparison], metric: Metric) -> str:
    found = {cores(record) for record in _records(rows, "cpu") if record.arm.kind} or {"?"}
    words = " or ".join(map(str, sorted(found, key=lambda known: (isinstance(known, str), known))))
    name = _TITLES[metric]
    return f"CPU\n{name},\n{in_cores(words)}" if len(found) == 1 else f"CPU {name},\n{words}\ncores"


def _records(rows: Sequence[Comparison], device: str) -> list[Record]:
    return [record for row in rows for record in row.arms if record.arm.requested == device]


def _rated_by(rows: Sequence[Comparison]) -> str:
    """The timings that rates are of, in words."""
    found = dict.fromkeys(r.rates.metric for row in rows for r in row.arms if r.ok and r.rates)
    return " or ".join("device time" if metric == Metric.device else metric for metric in found)


def _scopes(rows: Sequence[Comparison], metric: Metric, *, both: bool) -> set[str]:
    """What the intervals that are shown are over: passes, rounds of one process, or some this, some that."""
    if both:
        speedups = [row.speedups.get(metric) for row in rows]
        return {speedup.ci_over for speedup in speedups if speedup and speedup.ci95}
    timings = [record.timings.get(metric) for row in rows for record in row.arms]
    return {timing.ci_over for timing in timings if timing and timing.ci95_s}


def interval_legend(scopes: set[str]) -> str:
    """What the intervals that are shown speak for."""
    if scopes == {"passes"}:
        return "intervals: 95%, over passes: where a rerun would land"
    if scopes == {"rounds"}:
        return "intervals: 95%, within one process: a rerun may land further off"
    return (
        "intervals: 95%, over passes: where a rerun would land\n"
        f"{ONE_PROCESS} within one process: a rerun may land further off"
    )


def undecided_legend(rows: Sequence[Comparison]) -> str:
    """Why a verdict may be missing."""
    among = max((row.among for row in rows), default=1)
    if among == 1:
        return "?: undecided: no interval, or one that allows for either device"
    what = "comparisons" if len(blocks(rows)) > 1 else "cases"
    doubt = f"no interval, or one too wide for the verdicts on {among} {what} to be right all together"
    return f"?: undecided: {doubt}"


def no_interval_lines(rows: Sequence[Comparison], metric: Metric = Metric.latency) -> list[str]:
    """Why speedups between two machines have no interval: a line for each reason."""
    reasons: dict[tuple[str, str], int] = {}
    for row in rows:
        found = row.speedups.get(metric)
        if found and found.reason:
            pair = f"{row.cpu_machine or 'one machine'} and {row.gpu_machine or 'another'}"
            reasons[pair, found.reason] = reasons.get((pair, found.reason), 0) + 1
    return [
        f"! no interval between {pair} ({count} case{'s' if count != 1 else ''}): {reason}"
        for (pair, reason), count in reasons.items()
    ]


def look_twice(flags: Iterable[str]) -> str:
    """What a mark may stand for: all kinds of noise, and the rare reasons that are among the flags."""
    names = [*NOISE_FLAGS, *filter({*flags}.__contains__, RARE_FLAGS)]
    return "\n".join(
        wrap(f"! look twice: {', '.join(names)} (see `warnings`)", WIDTH, subsequent_indent="  ")
    )


def other_source_lines(rows: Sequence[Comparison]) -> list[str]:
    """Why the CPU and the GPU of a case stand apart, a line for each reason."""
    reasons: dict[str, list[str]] = {}
    for row in rows:
        if row.other_source and row.cpu:
            reasons.setdefault(row.other_source, []).append(told_apart(row.case, [row.case]))
    return [f"! not compared, {reason}: {'; '.join(names)}" for reason, names in reasons.items()]


def _unmatched_legend(rows: Sequence[Comparison]) -> list[str]:
    cases = [row.case for row in rows]
    found = [_unmatched_line(row, told_apart(row.case, cases)) for row in rows if row.unmatched]
    left = len(found) - _SHOWN_UNMATCHED
    return [
        f"{UNMATCHED} no one speedup, as the two sides did not compute at one precision:",
        *found[:_SHOWN_UNMATCHED],
        *([f"  and {left} more: `unmatched` in CSV and JSON"] if left > 0 else []),
    ]


def _unmatched_line(row: Comparison, name: str) -> str:
    """What sets the sides apart, without the precision where the name has it already."""
    precision = f"precision={row.case.precision}"
    reason = row.unmatched or ""
    return f"  {name}: {reason.removeprefix(f'{precision}: ') if precision in name else reason}"

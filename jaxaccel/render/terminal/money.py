"""The table of what calls cost: a row a case, under the prices that it comes from, in 100 columns."""

from collections.abc import Sequence

from rich import box
from rich.console import Console, ConsoleOptions, RenderResult
from rich.table import Table
from rich.text import Text

from jaxaccel.analyze.money import BY, Bill, CallsCost, Prices, bill, metrics_of
from jaxaccel.records import DEVICES, Comparison, Metric, Verdict
from jaxaccel.render.terminal.comparisons import (
    ONE_PROCESS,
    STYLES,
    UNKNOWN,
    UNMATCHED,
    VERDICTS,
    WIDTH,
    interval_legend,
    no_interval_lines,
    undecided_legend,
)
from jaxaccel.render.words.machines import blocks
from jaxaccel.render.words.money import heading
from jaxaccel.render.words.names import told_apart
from jaxaccel.render.words.numbers import amount, brief

_WORDS = {
    Metric.throughput: "throughput (calls are queued)",
    Metric.latency: "latency (one waits for each call)",
}
_BY_LATENCY = "²"


class BillTable:
    """The prices; then a row a case: a million calls on each device, which is cheaper, where that flips."""

    def __init__(self, comparisons: Sequence[Comparison], prices: Prices) -> None:
        workloads = list(dict.fromkeys(comparison.case.workload for comparison in comparisons))
        rows = sorted(comparisons, key=lambda c: workloads.index(c.case.workload))
        self._prices = prices
        self._cases = [row.case for row in rows]
        self._rows = [(row, found) for row in rows if (found := bill(row, prices))]
        self._bills = [found for _, found in self._rows]
        self._devices = [device for device in DEVICES if any(getattr(found, device) for found in self._bills)]
        self._pairs = any(found.verdict for found in self._bills)
        scopes = {found.ci_over for found in self._bills if found.flip_ci95 and found.ci_over}
        sides = [getattr(found, device) for found in self._bills for device in self._devices]
        self._scopes = scopes | {side.ci_over for side in sides if side and side.ci95}
        self._metrics = metrics_of(self._bills)

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        yield Text(heading(self._prices), style="bold")
        if not self._rows:
            priced = " or ".join(self._prices.per_hour)
            yield Text(f"no cost: nothing here was measured on the {priced}", style="yellow")
            return
        bills = dict(zip((id(row) for row, _ in self._rows), self._bills, strict=True))
        for title, rows in blocks([row for row, _ in self._rows]):
            if title:
                yield Text(f"\n{title}", style="bold")
            yield self._table([(row, bills[id(row)]) for row in rows], rigid=options.max_width >= WIDTH)
        for line in self._legend():
            yield Text(line, style="yellow" if line[0] in f"!{UNMATCHED}" else "dim")

    def _table(self, rows: Sequence[tuple[Comparison, Bill]], *, rigid: bool) -> Table:
        table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 0, 0, 1))
        table.add_column("\ncase", overflow="fold")
        for device in self._devices:
            table.add_column(
                Text(f"{device.upper()}: cost of\n10⁶ calls [95%]"),
                justify="right",
                no_wrap=rigid,
                overflow="fold",
            )
        if self._pairs:
            table.add_column("\ncheaper", no_wrap=rigid, overflow="fold")
            table.add_column(
                Text("flips at GPU/CPU\nprice [95%]"), justify="right", no_wrap=rigid, overflow="fold"
            )
        before = None
        for row, found in rows:
            if before and before.case.workload != row.case.workload:
                table.add_section()
            before = row
            cells = [self._cost(getattr(found, device)) for device in self._devices]
            if self._pairs:
                cells += [_cheaper(found), self._flip(found, row)]
            table.add_row(Text(told_apart(row.case, self._cases)), *cells)
        return table

    def _cost(self, cost: CallsCost | None) -> Text:
        if cost is None:
            return Text(UNKNOWN)
        mark = _BY_LATENCY if len(self._metrics) > 1 and cost.metric is Metric.latency else ""
        words = amount(cost.per_million_calls)
        if cost.ci95:
            words += f" ±{(cost.ci95[1] - cost.ci95[0]) / 2 / cost.per_million_calls:.1%}"
            words += self._scope_mark(cost.ci_over)
        return Text(words + mark)

    def _flip(self, found: Bill, row: Comparison) -> Text:
        if found.flip is None:
            return Text(UNKNOWN)
        words = f"{brief(found.flip)}{UNMATCHED if row.unmatched else ''}"
        if found.flip_ci95:
            words += f" [{brief(found.flip_ci95[0])}, {brief(found.flip_ci95[1])}]"
            words += self._scope_mark(found.ci_over)
        return Text(words)

    def _scope_mark(self, ci_over: str | None) -> str:
        return (ONE_PROCESS if ci_over == "rounds" else " ") if len(self._scopes) > 1 else ""

    def _legend(self) -> list[str]:
        verdicts = {found.verdict for found in self._bills}
        rows = [row for row, _ in self._rows]
        by = [_WORDS[metric] for metric in BY if metric in self._metrics]
        lines = [
            f"cost: price of an hour x time of a call by {by[0]}, with its data resident;",
            "  without compiling, transfers, and hours that nobody uses",
        ]
        if len(by) > 1:
            lines.append(f"{_BY_LATENCY} by {by[1]}, as one side has no throughput")
        lines += [
            f"one price for all: the {device}s of {len(machines)} machines are taken to cost the same"
            for device in self._devices
            if len(machines := {getattr(row, f"{device}_machine") for row in rows} - {None}) > 1
        ]
        if self._pairs:
            ratio = f"; here it is {brief(self._prices.ratio)}" if self._prices.ratio else ""
            lines.append(f"flips at: the GPU is cheaper below this GPU price / CPU price{ratio}")
        if self._scopes:
            lines.append(interval_legend(self._scopes))
        if Verdict.equivalent in verdicts:
            lines.append("equal: costs are surely no more than 2% apart")
        if Verdict.undecided in verdicts:
            lines.append(undecided_legend(rows))
        if self._pairs:
            lines += [line for metric in self._metrics for line in no_interval_lines(rows, metric)]
        if any(row.unmatched and found.verdict for row, found in self._rows):
            lines.append(f"{UNMATCHED} the sides did not compute at one precision: see the table of times")
        return lines


def _cheaper(found: Bill) -> Text:
    """The cheaper side, and how many times the other's cost is of its own."""
    if found.verdict is None or found.ratio is None:
        return Text(UNKNOWN)
    words = VERDICTS[found.verdict]
    if found.verdict in (Verdict.gpu, Verdict.cpu):
        words += f" {brief(max(found.ratio, 1 / found.ratio))}x"
    return Text(words, style=STYLES[found.verdict])

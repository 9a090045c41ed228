"""The table of how times changed since a baseline: a row a case, device and metric."""

from collections.abc import Sequence

from rich import box
from rich.table import Table
from rich.text import Text

from jaxaccel.analyze.baseline import BaselineComparison, Change
from jaxaccel.records import Trend
from jaxaccel.render.words import baseline as words
from jaxaccel.render.words.names import told_apart
from jaxaccel.render.words.numbers import seconds

_STYLES = {
    Trend.better: "green",
    Trend.worse: "red",
    Trend.same: "white",
    Trend.undecided: "yellow",
}


def baseline_table(comparison: BaselineComparison) -> Table:
    """A row a case, device and metric; the interval is that of its ratio alone."""
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False)
    table.add_column("case", overflow="fold")
    for title in ("device", "metric"):
        table.add_column(title, no_wrap=True)
    for title in ("base", "new", "ratio [95%]"):
        table.add_column(title, justify="right", no_wrap=True)
    table.add_column("verdict", no_wrap=True)
    workloads = list(dict.fromkeys(change.case.workload for change in comparison.changes))
    before = None
    for change in sorted(comparison.changes, key=lambda change: workloads.index(change.case.workload)):
        if before and before.case.workload != change.case.workload:
            table.add_section()
        before = change
        table.add_row(
            Text(_changed_name(change, comparison.changes)),
            change.device,
            change.metric,
            seconds(change.base_s),
            seconds(change.new_s),
            _change_cell(change),
            _trend_cell(change, comparison.fail_over),
        )
    return table


def _changed_name(change: Change, changes: Sequence[Change]) -> str:
    """The case's name, and the base's precision where it is another."""
    name = told_apart(change.case, [other.case for other in changes])
    if change.base_case.precision != change.case.precision:
        name += f" (base {change.base_case.precision})"
    return name


def _change_cell(change: Change) -> str:
    """The ratio with its interval, finer than a speedup's, for most are close to 1."""

    def fine(value: float) -> str:
        return f"{value:.3f}" if 0.01 <= value < 10 else f"{value:.3g}"

    judged = change.judged
    within = "" if judged.ci95 is None else f" [{fine(judged.ci95[0])}, {fine(judged.ci95[1])}]"
    return f"{fine(judged.ratio)}x{within}"


def _trend_cell(change: Change, fail_over: float) -> Text:
    judged, text = change.judged, str(change.judged.verdict)
    if judged.verdict is Trend.worse:
        text += f" {'>' if judged.beyond else '≤'}{words.percent(fail_over)}"
    mark = (" !", "yellow") if change.doubts else ""
    return Text.assemble((text, _STYLES[judged.verdict]), mark)

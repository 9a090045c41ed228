"""Results in the terminal: tables that fit 100 columns, and progress drawn between rounds only."""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from jaxaccel.analyze.baseline import FALSE_ALARMS, BaselineComparison, Change
from jaxaccel.analyze.compare import pair
from jaxaccel.publish import baseline as words
from jaxaccel.publish.console.job import flag_lines, job_table, verdict_lines
from jaxaccel.publish.console.sweep import LOOK_TWICE, WIDTH, SweepTable
from jaxaccel.publish.names import told_apart
from jaxaccel.publish.numbers import seconds
from jaxaccel.records import Comparison, Problem, Record, Trend

_STYLES = {
    Trend.better: "green",
    Trend.worse: "red",
    Trend.same: "white",
    Trend.undecided: "yellow",
}


def make_console() -> Console:
    """Standard output, at most 100 columns wide where it is a terminal and exactly so where it is not."""
    console = Console(emoji=False, highlight=False)
    if not console.is_terminal or console.width > WIDTH:
        console = Console(emoji=False, highlight=False, width=WIDTH)
    return console


# --- tables ----------------------------------------------------------------------------------------


def show_records(console: Console, records: Sequence[Record]) -> None:
    """What one job measured: a column a record, so that a pair stands side by side."""
    if not any(record.timings for record in records):
        return  # the list of failures says it all
    console.print()
    console.print(job_table(records))
    for line in flag_lines(records):
        console.print(line, style="yellow", markup=False)
    for text in [line for comparison in pair(records) for line in verdict_lines(comparison)]:
        console.print(text)


def show_comparisons(console: Console, comparisons: Sequence[Comparison]) -> None:
    """What a sweep measured."""
    console.print()
    console.print(SweepTable(comparisons))


def show_failures(console: Console, records: Iterable[Record]) -> None:
    """Every arm without a measurement, or without all its passes, and what to do; each reason once."""
    reasons: dict[tuple[str, str, Problem], list[str]] = {}
    for record in records:
        error = None if record.ok else record.error
        if record.lacks_passes:
            error = Problem(type="pass failed", message=record.lacks_passes)
        if error:
            status = "a pass failed" if record.ok else str(record.status)
            key = (status, record.arm.requested, replace(error, details=None))
            reasons.setdefault(key, []).append(str(record.case))
    for (status, device, error), cases in reasons.items():
        console.print(
            f"{status} on the {device}: {'; '.join(cases)}", style="red", markup=False, soft_wrap=True
        )
        for line in filter(None, (error.message, error.hint)):
            console.print(f"  {line}", markup=False, soft_wrap=True)


def show_places(console: Console, folder: Path, *, found: int, asked: int, interrupted: bool) -> None:
    """Where the results are, and how many of those that were asked for."""
    if interrupted:
        console.print(f"interrupted: {found} of {asked} results are there", style="yellow")
    console.print(f"Records: {folder}", soft_wrap=True, markup=False)


def show_baseline(console: Console, comparison: BaselineComparison) -> None:
    """How times changed since a baseline: a row a case, device and metric; then what was not compared.

    The interval shown is that of its ratio alone; verdicts go by a wider one, for there are many.
    """
    console.print()
    for label in words.labels(comparison.differences):
        console.print(Text(f"! {label}", style="yellow"), soft_wrap=True)
    if comparison.changes:
        console.print(_baseline_table(comparison))
        console.print(
            f"ratio: new / base time; worse and better allow for {comparison.among} ratios: false in at most "
            f"{words.percent(FALSE_ALARMS)} of tables"
        )
    if any(change.doubts for change in comparison.changes):
        console.print(LOOK_TWICE, style="yellow")
    for line in [*words.undecided_lines(comparison), *words.unmatched_lines(comparison.unmatched)]:
        console.print(Text(line, style="yellow"), soft_wrap=True)
    console.print(words.summary(comparison), style="red" if comparison.failed else "")


def _baseline_table(comparison: BaselineComparison) -> Table:
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False)
    table.add_column("case", overflow="fold")
    for title in ("device", "metric"):
        table.add_column(title, no_wrap=True)
    for title in ("base", "new", "ratio \\[95%]"):
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
    within = "" if judged.ci95 is None else f" \\[{fine(judged.ci95[0])}, {fine(judged.ci95[1])}]"
    return f"{fine(judged.ratio)}x{within}"


def _trend_cell(change: Change, fail_over: float) -> str:
    judged, text = change.judged, str(change.judged.verdict)
    if judged.verdict is Trend.worse:
        text += f" {'>' if judged.beyond else '≤'}{words.percent(fail_over)}"
    return f"[{_STYLES[judged.verdict]}]{text}[/]{' [yellow]![/yellow]' if change.doubts else ''}"

"""Results in the terminal: tables that fit 100 columns, and the lines around them."""

from collections.abc import Iterable, Sequence
from dataclasses import replace

from rich.console import Console
from rich.text import Text

from jaxaccel.analyze.baseline import FALSE_ALARMS, BaselineComparison
from jaxaccel.analyze.compare import pair
from jaxaccel.analyze.crossover import Answer
from jaxaccel.analyze.money import Prices
from jaxaccel.records import Comparison, Problem, Record
from jaxaccel.render.terminal.baseline import baseline_table
from jaxaccel.render.terminal.comparisons import WIDTH, SweepTable, look_twice
from jaxaccel.render.terminal.crossover import LEGEND, crossover_table, winners_table
from jaxaccel.render.terminal.machines import machine_lines
from jaxaccel.render.terminal.money import BillTable
from jaxaccel.render.terminal.one_case import flag_lines, job_table, verdict_lines
from jaxaccel.render.terminal.screen import Screen
from jaxaccel.render.words import baseline as words


def make_console() -> Console:
    """Standard output, at most 100 columns wide where it is a terminal and exactly so where it is not."""
    console = Screen()
    if not console.is_terminal or console.width > WIDTH:
        console = Screen(width=WIDTH)
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
    for line in machine_lines(comparisons):
        console.print(line)
    console.print(SweepTable(comparisons))


def show_bills(console: Console, comparisons: Sequence[Comparison], prices: Prices) -> None:
    """What their calls cost, at the user's prices."""
    console.print()
    console.print(BillTable(comparisons, prices))


def show_failures(console: Console, records: Iterable[Record], *, details: bool = False) -> None:
    """Every arm without a measurement, or without all its passes, and what to do; each reason once.

    It tells of what `standing` gives: failures stand in no table where another machine has measured. Of an
    error in a user's own code its frames are shown; with `details`, those of everybody.
    """
    reasons: dict[tuple[str, str, Problem], list[str]] = {}
    for record in records:
        error = None if record.ok else record.error
        if record.lacks_passes:
            error = Problem(type="pass failed", message=record.lacks_passes)
        if error:
            status = "a pass failed" if record.ok else str(record.status)
            key = (status, record.arm.requested, error if details else replace(error, details=None))
            reasons.setdefault(key, []).append(str(record.case))
    for (status, device, error), cases in reasons.items():
        console.print(
            f"{status} on the {device}: {'; '.join(cases)}", style="red", markup=False, soft_wrap=True
        )
        for line in filter(None, (error.message, error.hint)):
            console.print(f"  {line}", markup=False, soft_wrap=True)
        for line in (error.details or error.traceback or "").rstrip().splitlines():
            console.print(f"    {line}", style="dim", markup=False, soft_wrap=True)


def show_crossovers(console: Console, title: str, answers: Sequence[Answer]) -> None:
    """Where the winner changes, by question."""
    console.print()
    console.print(crossover_table(title, answers))
    console.print(LEGEND, style="dim")


def show_winners(console: Console, rows: Sequence[tuple[str, Answer]]) -> None:
    """Who wins which sizes, of all kinds of cases that there are."""
    console.print()
    console.print(winners_table(rows))
    console.print(LEGEND, style="dim")


def show_baseline(console: Console, comparison: BaselineComparison) -> None:
    """How times changed since a baseline: a row a case, device and metric; then what was not compared.

    The interval shown is that of its ratio alone; verdicts go by a wider one, for there are many.
    """
    console.print()
    for label in words.labels(comparison.differences):
        console.print(Text(f"! {label}", style="yellow"), soft_wrap=True)
    if comparison.changes:
        console.print(baseline_table(comparison))
        console.print(
            f"ratio: new / base time; worse and better allow for {comparison.among} ratios: false in at most "
            f"{words.percent(FALSE_ALARMS)} of tables"
        )
    if doubts := [doubt for change in comparison.changes for doubt in change.doubts]:
        # With the side that has it: see `Change`.
        console.print(look_twice(doubt.split(": ")[-1] for doubt in doubts), style="yellow")
    for line in [*words.undecided_lines(comparison), *words.unmatched_lines(comparison.unmatched)]:
        console.print(Text(line, style="yellow"), soft_wrap=True)
    console.print(words.summary(comparison), style="red" if comparison.failed else "")

"""Results in the terminal: tables that fit 100 columns, and progress drawn between rounds only."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console, Group, RenderableType
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from jaxaccel.analyze.baseline import FALSE_ALARMS, BaselineComparison, Change
from jaxaccel.analyze.stats import SEVERE_FLAGS
from jaxaccel.publish import baseline as words
from jaxaccel.publish.numbers import interval, plain, rate, ratio, seconds
from jaxaccel.records import (
    DEVICES,
    Case,
    Comparison,
    Flag,
    Metric,
    Problem,
    Record,
    Speedup,
    Timing,
    Trend,
)

WIDTH = 100
_STYLES = {"gpu": "green", "cpu": "cyan", "equivalent": "white", "undecided": "yellow"} | {
    "better": "green",
    "worse": "red",
    "same": "white",
}
LOOK_TWICE = "! look twice: not converged, very noisy or bimodal (the record's `warnings`)"


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
    first = records[0]
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False)
    table.add_column(escape(case_name(first.case)), overflow="fold")
    for record in records:
        table.add_column(escape(device_name(record)), overflow="fold")
    for name, cells in _record_rows(records):
        table.add_row(name, *map(escape, cells))
    console.print()
    console.print(table)
    for record in records:
        for flag in record.warnings:
            mark = "!" if flag.name in SEVERE_FLAGS else " "
            line = f"{mark} {record.arm.requested}, {_about(flag)}: {flag.message}"
            console.print(line, style="yellow", markup=False)
    for metric, speedup in _only_speedups(records).items():
        console.print(f"  {metric}: {speedup_words(speedup)}", style=_STYLES[speedup.verdict], markup=False)


def show_comparisons(console: Console, comparisons: Sequence[Comparison]) -> None:
    """What a sweep measured."""
    console.print()
    console.print(comparisons_table(comparisons))


def comparisons_table(comparisons: Sequence[Comparison]) -> RenderableType:
    """The devices; then a row a case: the latency on each device, the speedup and who wins.

    The cores stand beside every speedup: "the CPU" is two cores for some and 128 for others. The error is the
    larger of the two.
    """
    devices = [d for d in DEVICES if any(getattr(comparison, d) for comparison in comparisons)]
    both = len(devices) == 2
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False)
    table.add_column(f"latency of a call,\n{_scope_of(comparisons)}", overflow="fold")
    for device in devices:
        table.add_column(_column_title(comparisons, device), justify="right", overflow="fold")
    if both:
        table.add_column("speedup \\[95%]", justify="right", overflow="fold")
        table.add_column("faster", no_wrap=True)
    table.add_column("error", justify="right", no_wrap=True)
    before = None
    cases = [comparison.case for comparison in comparisons]
    workloads = list(dict.fromkeys(case.workload for case in cases))
    for comparison in sorted(comparisons, key=lambda comparison: workloads.index(comparison.case.workload)):
        if before and before.case.workload != comparison.case.workload:
            table.add_section()
        before = comparison
        cells = [
            escape(_told_apart(comparison.case, cases)),
            *(_arm_cell(getattr(comparison, device)) for device in devices),
        ]
        if both:
            speedup = comparison.speedups.get(Metric.latency)
            cells += [_speedup_cell(speedup), _verdict_cell(speedup)]
        table.add_row(*cells, _worse_error(comparison))
    marked = any(_marked(record) for comparison in comparisons for record in comparison.arms)
    legend = [Text(LOOK_TWICE, style="yellow")] if marked else []
    return Group(*map(Text, _device_names(comparisons, devices)), table, *legend)


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
    name = _told_apart(change.case, [other.case for other in changes])
    if change.base_case.precision != change.case.precision:
        name += f" (base {change.base_case.precision})"
    return name


def _told_apart(case: Case, cases: Sequence[Case]) -> str:
    """The case's name, with what else it takes to tell it from the others."""
    name = case_name(case)
    others = [other for other in cases if case_name(other) == name]
    if any(other.params != case.params for other in others):
        name += "".join(f" {key}={value}" for key, value in case.params.items())
    if any(other.seed != case.seed for other in others):
        name += f" seed={case.seed}"
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


def device_name(record: Record) -> str:
    """The device that ran, with the cores that a CPU had."""
    kind = record.arm.kind or "–"
    cores = f", {_cores(record)} cores" if record.arm.requested == "cpu" else ""
    return f"{record.arm.requested}: {kind}{cores}"


def speedup_words(speedup: Speedup) -> str:
    """A speedup in a sentence."""
    low, high = speedup.ci95 or (None, None)
    within = "" if low is None or high is None else f" [{ratio(low)}, {ratio(high)}]"
    scope = " within one process" if speedup.ci_over == "rounds" else ""
    match speedup.verdict:
        case "gpu":
            return f"the GPU is {ratio(speedup.ratio)} as fast as the CPU{within}{scope}"
        case "cpu":
            return f"the CPU is faster: speedup of the GPU {ratio(speedup.ratio)}{within}{scope}"
        case "equivalent":
            return f"no difference that matters: speedup of the GPU {ratio(speedup.ratio)}{within}{scope}"
        case _:
            return f"undecided: speedup of the GPU {ratio(speedup.ratio)}{within}{scope}"


def _record_rows(records: Sequence[Record]) -> list[tuple[str, list[str]]]:
    def cells(get: Any) -> list[str]:
        return [get(record) if record.ok or record.timings else "–" for record in records]

    rows = [("status", [_status_cell(record) for record in records])]
    rows.append(("compile", cells(_compile_cell)))
    rows.append(("first call", cells(lambda r: seconds(r.first_call_s))))
    for metric in Metric:
        rows.append((metric.value, cells(lambda r, m=metric: _timing_cell(r.timings.get(m)))))
    rows.append(("dispatch floor", cells(_floor_cell)))
    rows.append(("compute rate", cells(lambda r: rate(r.rates and r.rates.flops_per_s, "FLOP/s"))))
    rows.append(("memory rate", cells(lambda r: rate(r.rates and r.rates.bytes_per_s, "B/s"))))
    rows.append(("error", cells(_error_cell)))
    rows.append(("flags", cells(lambda r: ", ".join(dict.fromkeys(f.name for f in r.warnings)) or "none")))
    return rows


def _status_cell(record: Record) -> str:
    return str(record.status) if record.error is None else f"{record.status}: {record.error.message}"


def _compile_cell(record: Record) -> str:
    made = record.compile
    return f"{seconds(made.compile_s)} (cache {made.cache})" if made else "–"


def _floor_cell(record: Record) -> str:
    """What a call that does next to nothing took in the same workers."""
    floor = record.dispatch_floor_s
    names = {Metric.latency: "blocked", Metric.throughput: "queued"}
    return ", ".join(f"{seconds(floor[m])} {word}" for m, word in names.items() if m in floor) or "–"


def _timing_cell(timing: Timing | None) -> str:
    if timing is None:
        return "–"
    scope = "within one process" if timing.ci_over == "rounds" else f"over {_passes(timing)} passes"
    depth = f", {timing.depth} calls queued" if timing.depth > 1 else ""
    return f"{seconds(timing.median_s)} {interval(timing)} {scope}, n={timing.n}{depth}"


def _passes(timing: Timing) -> int:
    return len({pass_index for pass_index, _, _ in timing.rounds})


def _error_cell(record: Record) -> str:
    found = record.accuracy
    return f"{found.relative_error:.1e} of {found.tolerance:.1e} tolerated" if found else "–"


def _arm_cell(record: Record | None) -> str:
    if record is None:
        return "not asked for"
    timing = record.timings.get(Metric.latency)
    if not record.ok or timing is None:
        reason = f": {escape(record.error.type)}" if record.error else ""
        return f"[red]{record.status}{reason}[/red]"
    return f"{seconds(timing.median_s)} {interval(timing)}{' [yellow]![/yellow]' if _marked(record) else ''}"


def _marked(record: Record) -> bool:
    return any(
        flag.name in SEVERE_FLAGS and flag.metric in (Metric.latency, None) for flag in record.warnings
    )


def _speedup_cell(speedup: Speedup | None) -> str:
    if speedup is None:
        return "–"
    if speedup.ci95 is None:
        return ratio(speedup.ratio)
    return f"{ratio(speedup.ratio)} \\[{plain(speedup.ci95[0])}, {plain(speedup.ci95[1])}]"


def _verdict_cell(speedup: Speedup | None) -> str:
    return "–" if speedup is None else f"[{_STYLES[speedup.verdict]}]{speedup.verdict}[/]"


def _worse_error(comparison: Comparison) -> str:
    errors = [record.accuracy.relative_error for record in comparison.arms if record.accuracy]
    return f"{max(errors):.0e}" if errors else "–"


def _device_names(comparisons: Sequence[Comparison], devices: Sequence[str]) -> list[str]:
    """All devices that the records are of, CPUs first: several of a kind where there are several hosts."""
    records = [record for c in comparisons for record in c.arms]
    known = [device_name(r) for d in devices for r in records if r.arm.requested == d and r.arm.kind]
    return list(dict.fromkeys(known)) or [device_name(_best_known(comparisons, d)) for d in devices]


def _best_known(comparisons: Sequence[Comparison], device: str) -> Record:
    """A record of the device: one that ran there, where there is one."""
    records = [record for c in comparisons for record in c.arms if record.arm.requested == device]
    return next((record for record in records if record.arm.kind), records[0])


def _column_title(comparisons: Sequence[Comparison], device: str) -> str:
    records = [record for c in comparisons for record in c.arms if record.arm.requested == device]
    cores = {_cores(record) for record in records if record.arm.kind} or {"?"}
    return f"CPU, {' or '.join(map(str, sorted(cores, key=str)))} cores" if device == "cpu" else "GPU"


def _scope_of(comparisons: Sequence[Comparison]) -> str:
    scopes = {
        t.ci_over for c in comparisons for r in c.arms for m, t in r.timings.items() if m == Metric.latency
    }
    return "over passes" if scopes == {"passes"} else "within one process"


def case_name(case: Case) -> str:
    """Workload and size, and what of the rest is not the default."""
    extras = [case.variant, case.dtype, case.precision]
    shown = [value for value in extras if value not in ("direct", "float32", "highest")]
    return " ".join([case.workload, str(case.size), *shown])


def _cores(record: Record) -> int | str:
    return record.environment.get("cpu", {}).get("cores", "?")  # type: ignore[no-any-return]


def _about(flag: Flag) -> str:
    return f"{flag.metric} {flag.name}" if flag.metric else flag.name


def _only_speedups(records: Sequence[Record]) -> Mapping[str, Speedup]:
    from jaxaccel.analyze.compare import pair

    return {} if len(records) < 2 else pair(records)[0].speedups

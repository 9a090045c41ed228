"""Results in the terminal: tables that fit 100 columns, and progress drawn between rounds only."""

import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn
from rich.table import Table

from jaxaccel.analyze.stats import SEVERE_FLAGS
from jaxaccel.records import DEVICES, Case, Comparison, Flag, Metric, Problem, Record, Speedup, Timing

WIDTH = 100
_STYLES = {"gpu": "green", "cpu": "cyan", "equivalent": "white", "undecided": "yellow"}


def make_console() -> Console:
    """Standard output, at most 100 columns wide where it is a terminal and exactly so where it is not."""
    console = Console(highlight=False)
    if not console.is_terminal or console.width > WIDTH:
        console = Console(highlight=False, width=WIDTH)
    return console


# --- numbers for people ----------------------------------------------------------------------------


def seconds(value: float | None) -> str:
    """Three digits and a unit: 18.1 µs."""
    return "–" if value is None else _scaled(value, ((1, "s"), (1e-3, "ms"), (1e-6, "µs"), (1e-9, "ns")))


def rate(value: float | None, unit: str) -> str:
    """Three digits and a decimal prefix: 38.2 GFLOP/s."""
    return (
        "–" if value is None else _scaled(value, ((1e12, f"T{unit}"), (1e9, f"G{unit}"), (1e6, f"M{unit}")))
    )


def interval(timing: Timing | None) -> str:
    """How far off the median may be, in percent; what little is known where there is no interval."""
    if timing is None:
        return ""
    if timing.ci95_s is None:
        return f"(n={timing.n})"
    low, high = timing.ci95_s
    return f"±{(high - low) / 2 / timing.median_s:.1%}"


def ratio(value: float) -> str:
    """A speedup: 0.031x, 1.27x, 59x."""
    return f"{value:.3g}x" if value < 1000 else f"{value:.0f}x"


def _scaled(value: float, units: Sequence[tuple[float, str]]) -> str:
    size, unit = next(((size, unit) for size, unit in units if abs(value) >= size), units[-1])
    scaled = value / size
    digits = 0 if scaled >= 99.95 else 1 if scaled >= 9.995 else 2
    return f"{scaled:.{digits}f} {unit}"


# --- tables ----------------------------------------------------------------------------------------


def show_records(console: Console, records: Sequence[Record]) -> None:
    """What one job measured: a column a record, so that a pair stands side by side."""
    if not any(record.timings for record in records):
        return  # the list of failures says it all
    first = records[0]
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False)
    table.add_column(case_name(first.case), no_wrap=True)
    for record in records:
        table.add_column(device_name(record), overflow="fold")
    for name, cells in _record_rows(records):
        table.add_row(name, *cells)
    console.print()
    console.print(table)
    for record in records:
        for flag in record.warnings:
            mark = "!" if flag.name in SEVERE_FLAGS else " "
            console.print(f"{mark} {record.arm.requested}, {_about(flag)}: {flag.message}", style="yellow")
    for metric, speedup in _only_speedups(records).items():
        console.print(f"  {metric}: {speedup_words(speedup)}", style=_STYLES[speedup.verdict])


def show_comparisons(console: Console, comparisons: Sequence[Comparison]) -> None:
    """What a sweep measured: a row a case, the latency on each device, the speedup and who wins.

    The cores stand beside every speedup: "the CPU" is two cores for some and 128 for others. The error is the
    larger of the two.
    """
    devices = [d for d in DEVICES if any(getattr(comparison, d) for comparison in comparisons)]
    both = len(devices) == 2
    console.print()
    for device in devices:
        console.print(device_name(_best_known(comparisons, device)), markup=False)
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False)
    table.add_column(f"latency of a call,\n{_scope_of(comparisons)}", overflow="fold")
    for device in devices:
        table.add_column(_column_title(comparisons, device), justify="right", overflow="fold")
    if both:
        table.add_column("speedup \\[95%]", justify="right", overflow="fold")
        table.add_column("faster", no_wrap=True)
    table.add_column("error", justify="right", no_wrap=True)
    before = None
    workloads = list(dict.fromkeys(comparison.case.workload for comparison in comparisons))
    for comparison in sorted(comparisons, key=lambda comparison: workloads.index(comparison.case.workload)):
        if before and before.case.workload != comparison.case.workload:
            table.add_section()
        before = comparison
        cells = [case_name(comparison.case), *(_arm_cell(getattr(comparison, device)) for device in devices)]
        if both:
            speedup = comparison.speedups.get(Metric.latency)
            cells += [_speedup_cell(speedup), _verdict_cell(speedup)]
        table.add_row(*cells, _worse_error(comparison))
    console.print(table)
    if any(_marked(record) for comparison in comparisons for record in comparison.arms):
        console.print(
            "! look twice: not converged, very noisy or bimodal (the record's `warnings`)", style="yellow"
        )


def show_failures(console: Console, records: Iterable[Record]) -> None:
    """Every arm that was asked for and has no measurement, with what to do about it; each reason once."""
    reasons: dict[tuple[str, str, Problem], list[str]] = {}
    for record in records:
        if not record.ok and record.error:
            key = (str(record.status), record.arm.requested, replace(record.error, details=None))
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
        return f"[red]{record.status}[/red]"
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
    return f"{ratio(speedup.ratio)} \\[{speedup.ci95[0]:.3g}, {speedup.ci95[1]:.3g}]"


def _verdict_cell(speedup: Speedup | None) -> str:
    return "–" if speedup is None else f"[{_STYLES[speedup.verdict]}]{speedup.verdict}[/]"


def _worse_error(comparison: Comparison) -> str:
    errors = [record.accuracy.relative_error for record in comparison.arms if record.accuracy]
    return f"{max(errors):.0e}" if errors else "–"


def _best_known(comparisons: Sequence[Comparison], device: str) -> Record:
    """A record of the device: one that ran there, where there is one."""
    records = [record for c in comparisons for record in c.arms if record.arm.requested == device]
    return next((record for record in records if record.arm.kind), records[0])


def _column_title(comparisons: Sequence[Comparison], device: str) -> str:
    record = _best_known(comparisons, device)
    return f"CPU, {_cores(record)} cores" if device == "cpu" else "GPU"


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


# --- progress --------------------------------------------------------------------------------------


class ShowProgress:
    """Tells how far the session is: a bar in a terminal, a line a case elsewhere.

    Rich's refresh thread stays off: drawing happens here, between rounds, when nothing is being timed.
    """

    def __init__(self, console: Console) -> None:
        self._live = console.is_terminal
        self._console = Console(stderr=True, highlight=False) if not self._live else console
        self._bar = Progress(
            SpinnerColumn(),
            BarColumn(bar_width=20),
            MofNCompleteColumn(),
            TextColumn("{task.description}"),
            console=self._console,
            auto_refresh=False,
            transient=True,
        )
        self._task = self._bar.add_task("starting", total=None)
        self._case = ""

    def __enter__(self) -> "ShowProgress":
        if self._live:
            self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._live:
            self._bar.stop()

    def doing(self, case: str, pass_index: int, done: int, total: int) -> None:
        """A case begins."""
        self._case = f"pass {pass_index + 1}: {case}" if pass_index else case
        if self._live:
            self._bar.update(self._task, completed=done, total=total, description=f"{self._case}: opening")
            self._bar.refresh()
        elif pass_index == 0:
            print(f"[{done + 1}/{total}] {case}", file=sys.stderr, flush=True)

    def passed(self, pass_index: int, passes: int, records: Sequence[Record]) -> None:
        """A pass is over: how narrow the intervals are by now."""
        timings = [timing for record in records for timing in record.timings.values()]
        widths = [(t.ci95_s[1] - t.ci95_s[0]) / 2 / t.median_s for t in timings if t.ci95_s]
        if passes > 1 and widths:
            line = f"pass {pass_index + 1} of {passes}: intervals of ±{min(widths):.1%} to ±{max(widths):.1%}"
            self._console.print(line, markup=False)

    def sampled(self, metric: Metric, found: Mapping[str, Any]) -> None:
        """A round is over."""
        if self._live:
            widths = "  ".join(
                f"{device} ±{got.width:.1%}" if got.width < 10 else f"{device} …"
                for device, got in found.items()
            )
            self._bar.update(self._task, description=f"{self._case}: {metric}  {widths}")
            self._bar.refresh()

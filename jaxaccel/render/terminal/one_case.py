"""What one job measured: a column a record, its flags, and who wins depending on where the data lives."""

from collections.abc import Callable, Sequence
from textwrap import wrap

from rich import box
from rich.table import Table
from rich.text import Text

from jaxaccel.analyze.agreement import agreement, of_pair
from jaxaccel.analyze.overhead import Cause, Part, beyond_device
from jaxaccel.analyze.residency import BreakEven, break_even, pinned_speedup
from jaxaccel.analyze.stats import SEVERE_FLAGS
from jaxaccel.records import (
    RESIDENT,
    Ceiling,
    Comparison,
    Flag,
    Metric,
    Record,
    Speedup,
    Timing,
)
from jaxaccel.render.terminal.comparisons import STYLES, UNKNOWN, UNMATCHED, WIDTH
from jaxaccel.render.words import variants
from jaxaccel.render.words.names import case_name, device_name
from jaxaccel.render.words.numbers import count, interval, joules, rate, ratio, seconds, volume

FIRST_WIDTH = 18
TOP_KERNELS = 3
ERROR = "error"
UNCHECKED = "unchecked: no reference"
FLAG_LINES = 12
NAME_LENGTH = 28  # of a kernel: C++ gives them hundreds of characters


def job_table(records: Sequence[Record]) -> Table:
    """A column a record, so that a pair stands side by side; without the rows that none has anything for."""
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 0, 0, 1))
    table.add_column(Text(case_name(records[0].case)), overflow="fold", max_width=FIRST_WIDTH)
    for record in records:
        table.add_column(Text(device_name(record)), overflow="fold")
    table.add_row("status", *(Text(_status(record)) for record in records))
    for name, cell in _ROWS.items():
        cells = [cell(record) if record.ok or record.timings else UNKNOWN for record in records]
        if name == ERROR:
            cells = _between(records)
        if any(text != UNKNOWN for text in cells):
            table.add_row(name, *map(Text, cells))
    return table


def flag_lines(records: Sequence[Record]) -> list[str]:
    """A line a device and flag: the metrics that have it, and what it says of the first.

    Where that is too much to read, the flags that are not severe are named, and share a line.
    """
    lines = _all_flags(records)
    return lines if len(lines) <= FLAG_LINES else _severe_flags(records)


def verdict_lines(comparison: Comparison) -> list[Text]:
    """Who wins with resident data, who end to end, and from how many calls on that differs."""
    cpu, gpu, mark = comparison.cpu, comparison.gpu, f" {UNMATCHED}" if comparison.unmatched else ""
    lines = [
        Text(f"  {metric}: {speedup_words(speedup)}{mark}", style=STYLES[speedup.verdict])
        for metric in RESIDENT
        if (speedup := comparison.speedups.get(metric))
    ]
    every_call = {"end to end": comparison.speedups.get(Metric.end_to_end)}
    if cpu and gpu:
        every_call["end to end, pinned"] = pinned_speedup(cpu, gpu, among=comparison.among)
    lines += [
        Text(f"  {name}: {speedup_words(speedup)}{mark}", style=STYLES[speedup.verdict])
        for name, speedup in every_call.items()
        if speedup
    ]
    if cpu and gpu and (words := _break_even_words(comparison, cpu, gpu)):
        lines += map(Text, _hanging(f"  data brought in once: {words}"))
    if (found := of_pair(comparison)) and found.words:
        lines += (Text(line, style="red") for line in _hanging(f"! {found.words}"))
    if comparison.other_source and comparison.cpu:
        lines.append(Text(f"! not compared: {comparison.other_source}", style="yellow"))
    if comparison.unmatched:
        text = (
            f"{UNMATCHED} no one speedup: the sides did not compute at one precision; {comparison.unmatched}"
        )
        lines.append(Text(text, style="yellow"))
    return lines


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


# --- rows ------------------------------------------------------------------------------------------


def _status(record: Record) -> str:
    return str(record.status) if record.error is None else f"{record.status}: {record.error.message}"


def _compile(record: Record) -> str:
    made = record.compile
    return f"{seconds(made.compile_s)} (cache {made.cache})" if made else UNKNOWN


def _scope(record: Record) -> str:
    """What the intervals of most timings speak for."""
    scopes = [_scope_of(timing) for timing in record.timings.values()]
    return max(scopes, key=scopes.count, default=UNKNOWN)


def _scope_of(timing: Timing) -> str:
    return "within one process" if timing.ci_over == "rounds" else f"over {len(timing.passes)} passes"


def _time(record: Record, metric: Metric) -> str:
    timing = record.timings.get(metric)
    if timing is None:
        return UNKNOWN
    width = f" {interval(timing)}" if timing.ci95_s else ""
    scope = f" {_scope_of(timing)}" if _scope_of(timing) != _scope(record) else ""
    return f"{seconds(timing.median_s)}{width}{scope}, n={timing.n}"


def _queued(record: Record) -> str:
    timing = record.timings.get(Metric.throughput)
    depth = f", {timing.depth} calls queued" if timing and timing.depth > 1 else ""
    return _time(record, Metric.throughput) + depth


def _device(record: Record) -> str:
    text, found = _time(record, Metric.device), record.device_time
    if text == UNKNOWN or found is None:
        return text
    if found.slope_s is None or found.source == "slope":
        return f"{text}, by {found.source}"
    return f"{text}, by {found.source}\n{seconds(found.slope_s)} by slope"


def _step(record: Record) -> str:
    words = variants.a_step(record)
    return f"{words}: {record.cost.steps} a call" if words and record.cost else UNKNOWN


def _dispatch(record: Record) -> str:
    """Of what a blocked call takes beyond its time on the device, the part that an empty call takes too."""
    parts = beyond_device(record)
    if parts is None:
        return UNKNOWN
    if not parts:
        return "none: the device takes as long"
    return ", ".join(_share(part, record) for part in parts if part.cause is Cause.dispatch) or UNKNOWN


def _beyond(record: Record) -> str:
    """What a blocked call takes beyond its time on the device and dispatch, by cause."""
    parts = [part for part in beyond_device(record) or () if part.cause is not Cause.dispatch]
    return ", ".join(f"{part.cause} {_share(part, record)}" for part in parts) or UNKNOWN


def _share(part: Part, record: Record) -> str:
    return f"{seconds(part.time_s)}, {part.time_s / record.timings[Metric.latency].median_s:.0%} of latency"


def _as_called(record: Record) -> str:
    """What a call of own code takes with the Python around its program, which no timing holds."""
    if record.as_called_s is None:
        return UNKNOWN
    return f"{seconds(record.as_called_s)}, with the Python around the program"


def _floor(record: Record) -> str:
    """What a call that does next to nothing took in the same workers."""
    floor = record.dispatch_floor_s
    names = {Metric.latency: "blocked", Metric.throughput: "queued"}
    return ", ".join(f"{seconds(floor[m])} {word}" for m, word in names.items() if m in floor) or UNKNOWN


def _travel(pageable: Metric, pinned: Metric) -> Callable[[Record], str]:
    def cell(record: Record) -> str:
        both = [(record.timings.get(metric), word) for metric, word in ((pageable, ""), (pinned, "pinned "))]
        parts = [f"{word}{seconds(t.median_s)} {interval(t)}" for t, word in both if t]
        how: str = getattr(record.transfers, pageable, "copied")
        if parts and how != "copied":
            parts.append("aliased: no copy" if how == "aliased" else how)
        return ", ".join(parts) or UNKNOWN

    return cell


def _moved(record: Record) -> str:
    moved = record.transfers
    return f"{volume(moved.h2d_bytes)} in, {volume(moved.d2h_bytes)} out" if moved else UNKNOWN


def _rate(value: float | None, share: float | None, ceiling: Ceiling | None, unit: str) -> str:
    if value is None:
        return UNKNOWN
    of = f", {share:.0%} of {rate(ceiling.rate_per_s, unit)}" if share and ceiling else ""
    return rate(value, unit) + of


def _compute_rate(record: Record) -> str:
    rates, ceiling = record.rates, record.ceilings.compute if record.ceilings else None
    return _rate(rates.flops_per_s, rates.of_compute_ceiling, ceiling, "FLOP/s") if rates else UNKNOWN


def _memory_rate(record: Record) -> str:
    rates, ceiling = record.rates, record.ceilings.memory if record.ceilings else None
    return _rate(rates.bytes_per_s, rates.of_memory_ceiling, ceiling, "B/s") if rates else UNKNOWN


def _limit(record: Record) -> str:
    rates = record.rates
    return f"{rates.limit} (rates by {rates.metric})" if rates and rates.limit else UNKNOWN


def _memory(record: Record) -> str:
    found = record.memory
    if found is None:
        return UNKNOWN
    parts = {
        "arguments": found.arguments_bytes,
        "temporaries": found.temporaries_bytes,
        "output": found.outputs_bytes,
        "peak": found.peak_bytes,
    }
    known = [f"{name} {volume(value)}" for name, value in parts.items() if value is not None]
    return ", ".join([*known, f"of {volume(found.capacity_bytes)}"])


def _energy(record: Record) -> str:
    found = record.energy
    if found is None:
        reason = record.absent.get("energy", "")
        return UNKNOWN if not reason or reason.startswith("not asked for") else _short_reason(reason)
    doubt = f"±{found.uncertainty_j / found.per_call_j:.1%}" if found.per_call_j > 0 else ""
    above = f"{joules(found.above_idle_per_call_j)} above idle"
    return f"{joules(found.per_call_j)} {doubt} a call, {above} ({found.source}, {found.scope})"


def _short_reason(reason: str) -> str:
    return reason.removeprefix("absent: ").partition(" (")[0]


def _kernels(record: Record) -> str:
    kernels = record.device_time.kernels if record.device_time else ()
    lines = [f"{kernel.share:.0%} {_clipped(kernel.name)}" for kernel in kernels[:TOP_KERNELS]]
    more = len(kernels) - TOP_KERNELS
    return "\n".join([*lines, *([f"and {more} more"] if more > 0 else [])]) or UNKNOWN


def _clipped(name: str) -> str:
    return name if len(name) <= NAME_LENGTH else f"{name[: NAME_LENGTH - 1]}…"


def _error(record: Record) -> str:
    found = record.accuracy
    if found is None:
        return UNKNOWN
    if found.relative_error is None:
        return UNCHECKED
    return f"{found.relative_error:.1e} of {found.tolerance:.1e} tolerated"


def _between(records: Sequence[Record]) -> list[str]:
    """The errors; where nothing is there to compare with, the difference between the devices of a pair."""
    cells = [_error(record) if record.ok or record.timings else UNKNOWN for record in records]
    if len(records) == 2 and UNCHECKED in cells and (found := agreement(*records)):
        apart = "not comparable" if found.relative_difference is None else f"{found.relative_difference:.1e}"
        words = f"{apart} between the devices, of {found.tolerance:.1e} tolerated"
        return [words if cell == UNCHECKED else cell for cell in cells]
    return cells


def _work(record: Record) -> str:
    """Where FLOPs and bytes come from, where nobody has declared them."""
    cost = record.cost
    if cost is None or cost.source == "declared":
        return UNKNOWN
    flops = "–" if cost.flops is None else f"{cost.flops:.3g} FLOP"
    moved = "–" if cost.bytes is None else volume(int(cost.bytes))
    return f"{flops}, {moved} (by {cost.source})"


def _flags(record: Record) -> str:
    return ", ".join(dict.fromkeys(flag.name for flag in record.warnings)) or "none"


_ROWS: dict[str, Callable[[Record], str]] = {
    "variant": lambda record: variants.choice(record) or UNKNOWN,
    "XLA flags": lambda record: variants.xla_flags(record) or UNKNOWN,
    "compile": _compile,
    "first call": lambda record: seconds(record.first_call_s),
    "95% intervals": _scope,
    "latency": lambda record: _time(record, Metric.latency),
    "throughput": _queued,
    "device": _device,
    "a step": _step,
    "as you call it": _as_called,
    "dispatch": _dispatch,
    "beyond dispatch": _beyond,
    "dispatch floor": _floor,
    "end to end": _travel(Metric.end_to_end, Metric.end_to_end_pinned),
    "h2d": _travel(Metric.h2d, Metric.h2d_pinned),
    "d2h": _travel(Metric.d2h, Metric.d2h_pinned),
    "data moved": _moved,
    "work": _work,
    "compute rate": _compute_rate,
    "memory rate": _memory_rate,
    "limit": _limit,
    "memory": _memory,
    "energy": _energy,
    "kernels": _kernels,
    ERROR: _error,
    "flags": _flags,
}


# --- lines below -----------------------------------------------------------------------------------


def _by_name(record: Record) -> dict[str, list[Flag]]:
    flags: dict[str, list[Flag]] = {}
    for flag in record.warnings:
        flags.setdefault(flag.name, []).append(flag)
    return flags


def _all_flags(records: Sequence[Record]) -> list[str]:
    lines = []
    for record in records:
        for name, found in _by_name(record).items():
            mark = "!" if name in SEVERE_FLAGS else " "
            lines += _hanging(f"{mark} {record.arm.requested}, {name}{_said(found, record)}")
    return lines


def _severe_flags(records: Sequence[Record]) -> list[str]:
    lines = []
    for record in records:
        device, flags = record.arm.requested, _by_name(record)
        for name in filter(SEVERE_FLAGS.__contains__, flags):
            lines += _hanging(f"! {device}, {name}{_said(flags[name], record)}")
        if mild := [name for name in flags if name not in SEVERE_FLAGS]:
            named = [f"{name} ({_metrics_of(flags[name], record) or 'all timings'})" for name in mild]
            lines += _hanging(f"  {device}, also {', '.join(named)}")
    return lines


def _hanging(text: str) -> list[str]:
    return wrap(text, WIDTH, subsequent_indent="    ", break_on_hyphens=False)


def _said(flags: Sequence[Flag], record: Record) -> str:
    """The metrics that have a flag, and in brackets its words of the first."""
    metrics, first = _metrics_of(flags, record), flags[0]
    where = f"{first.metric}: " if len(flags) > 1 and first.metric else ""
    return f": {metrics} ({where}{first.message})" if metrics else f" ({first.message})"


def _metrics_of(flags: Sequence[Flag], record: Record) -> str:
    metrics = list(dict.fromkeys(flag.metric for flag in flags if flag.metric))
    everywhere = len(metrics) > 2 and set(metrics) == set(record.timings)
    return "all timings" if everywhere else ", ".join(metrics)


def _break_even_words(comparison: Comparison, cpu: Record, gpu: Record) -> str:
    """From how many calls on data that comes in once the GPU is ahead; nothing where it is not known."""
    found = break_even(cpu, gpu)
    if found.reason is not None:
        return ""
    others = {
        "pinned": break_even(cpu, gpu, pinned=True),
        "compilation included": break_even(cpu, gpu, compiling=True),
    }
    more = "; ".join(f"{name}: {_calls(other)}" for name, other in others.items() if not other.reason)
    doubt = "" if comparison.decided else ", by medians that decide nothing"
    return f"the GPU is {_ahead(found)}{f' ({more})' if more else ''}{doubt}"


def _ahead(found: BreakEven) -> str:
    if found.never:
        return "never ahead"
    calls = "call" if found.calls == 1 else "calls"
    return f"ahead {_calls(found)} {calls}{'' if found.calls is None else ' on'}"


def _calls(found: BreakEven) -> str:
    """From how many calls on, or up to how many, the GPU is ahead."""
    if found.calls is not None:
        return f"from {count(found.calls)}"
    return "never" if found.until is None else f"up to {count(found.until)}"

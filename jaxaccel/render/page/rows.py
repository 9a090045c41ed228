"""The page's table: a row a comparison, each cell with what it sorts by; and the record behind each side."""

import json
import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from jaxaccel.analyze.agreement import of_pair
from jaxaccel.analyze.questions import passes_of
from jaxaccel.analyze.residency import break_even
from jaxaccel.analyze.stats import SEVERE_FLAGS
from jaxaccel.records import Case, Comparison, Limit, Record, Speedup, Timing, Verdict, escape
from jaxaccel.render.figures.drawing import rounded, time_words
from jaxaccel.render.words import money, numbers, variants
from jaxaccel.render.words.machines import letters, title
from jaxaccel.render.words.names import cores, told_apart, workload_name

if TYPE_CHECKING:
    from jaxaccel.analyze.money import Prices

Cell = tuple[float | None, str]  # what it sorts by, and what is shown
UNKNOWN: Cell = (None, "–")
VERDICTS = {Verdict.gpu: "gpu", Verdict.cpu: "cpu", Verdict.equivalent: "equal", Verdict.undecided: "?"}
_PLAIN = re.compile(r"[\w.:+/-]*")  # what Hydra takes as it is
_BY_CONTENT = ("sha256",)  # parameters that no command line takes: the file that they are of is needed


class Details:
    """What rows open to: the records, each once, and what many of them share, once too."""

    def __init__(self) -> None:
        self.records: list[dict[str, Any]] = []
        self.shared: list[Any] = []
        self._index_of: dict[int, int] = {}
        self._shared_of: dict[str, int] = {}

    def index(self, record: Record) -> int:
        """Where the record is among `records`."""
        if id(record) not in self._index_of:
            self._index_of[id(record)] = len(self.records)
            self.records.append(self._told(record))
        return self._index_of[id(record)]

    def _share(self, value: Any) -> int:
        key = json.dumps(value, sort_keys=True, default=str)
        if key not in self._shared_of:
            self._shared_of[key] = len(self.shared)
            self.shared.append(value)
        return self._shared_of[key]

    def _told(self, record: Record) -> dict[str, Any]:
        error = record.error
        return {
            "device": record.arm.requested,
            "kind": record.arm.kind,
            "cores": cores(record) if record.arm.requested == "cpu" else None,
            "case": str(record.case),
            "seed": record.case.seed,
            "status": str(record.status),
            "error": error and [error.type, error.message, error.hint],
            "ids": [record.case_id, record.arm_id, record.sweep_id],
            "started_at": record.started_at,
            "version": record.jaxaccel_version,
            "command": self._share(escape.command(record.command)),
            "again": command_of(record),
            "flags": self._share(dict(record.arm.flags)),
            "environment": self._share(flat(record.environment)),
            "timings": [_timing_row(name, timing) for name, timing in record.timings.items()],
            "facts": _facts(record),
            "warnings": _flags(record),
            "invariants": self._share(dict(record.invariants)),
            # That a p99 needs more samples is no news, nine times a record.
            "absent": self._share({k: v for k, v in record.absent.items() if not k.endswith(".p99_s")}),
        }


def command_of(record: Record) -> str | None:
    """A command that measures this arm again; None where a command line can't name its case."""
    case = record.case
    if any(name in case.params for name in _BY_CONTENT):
        return None
    words = [f"workload={case.workload}", f"device={record.arm.requested}", f"size={case.size}"]
    words += [f"dtype={case.dtype}", f"precision={case.precision}", f"seed={case.seed}"]
    if case.variant != "direct":
        words.append(f"workload.variant={case.variant}")
    words += [f"workload.{name}={_value(value)}" for name, value in case.params.items() if value is not None]
    if passes := passes_of(record):
        words.append(f"passes={passes}")
    return escape.shell(["python", "-m", "jaxaccel.run", *words])


def _value(value: Any) -> str:
    """As Hydra reads it: text that is no plain word stands in quotes, in which `${` means nothing to it."""
    if isinstance(value, str) and _PLAIN.fullmatch(value):
        return value
    if isinstance(value, str):
        return "'" + value.replace("\\", "\\\\").replace("'", "\\'").replace("${", "\\${") + "'"
    return json.dumps(value, separators=(",", ":")).replace("${", "\\${")


def flat(block: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """A block of blocks as one: cpu.cores."""
    found: dict[str, Any] = {}
    for name, value in block.items():
        if isinstance(value, Mapping):
            found |= flat(value, f"{prefix}{name}.")
        else:
            found[f"{prefix}{name}"] = value
    return found


# --- rows ------------------------------------------------------------------------------------------


def rows_of(
    comparisons: Sequence[Comparison], details: Details, prices: "Prices | None" = None
) -> list[dict[str, Any]]:
    """A row for each comparison. Cells that depend on the metric are by metric."""
    several = len(letters(comparisons)) > 1
    names: dict[str, list[Case]] = {}
    for comparison in comparisons:
        names.setdefault(f"{comparison.case.workload} {comparison.case.size}", []).append(comparison.case)
    return [
        {
            "name": told_apart(c.case, names[f"{c.case.workload} {c.case.size}"]),
            "workload": workload_name(c.case),
            "dtype": c.case.dtype,
            "precision": c.case.precision,
            "size": c.case.size,
            "machines": title(c) if several else None,
            "cpu": _times(c.cpu),
            "gpu": _times(c.gpu),
            "speedup": {str(metric): _ratio(found, c) for metric, found in c.speedups.items()},
            "faster": {metric: VERDICTS[found.verdict] for metric, found in c.speedups.items()},
            "break_even": _break_even(c),
            "ceiling": [_ceiling(c.cpu), _ceiling(c.gpu)],
            "error": _error(c),
            "cost": [*_costs(c, prices)] if prices else None,
            "unmatched": c.unmatched,
            "records": [details.index(record) for record in c.arms],
        }
        for c in comparisons
    ]


def _times(record: Record | None) -> Any:
    """Cells by metric; the status where there is no measurement, None where there is no record."""
    if record is None:
        return None
    if not record.ok:
        return str(record.status)
    doubtful = {flag.metric for flag in record.warnings if flag.name in SEVERE_FLAGS}
    return {
        name: (
            rounded(timing.median_s, 4),
            numbers.seconds(timing.median_s) + ("!" if {name, None} & doubtful else ""),
        )
        for name, timing in record.timings.items()
    }


def _ratio(found: Speedup, row: Comparison) -> Cell:
    words = f"{numbers.brief(found.ratio)}x{'†' if row.unmatched else ''}"
    if found.ci95:
        words += f" [{numbers.brief(found.ci95[0])}, {numbers.brief(found.ci95[1])}]"
    return rounded(found.ratio, 4), words


def _break_even(row: Comparison) -> Cell:
    if row.cpu is None or row.gpu is None:
        return UNKNOWN
    found = break_even(row.cpu, row.gpu)
    doubt = "" if row.decided else "?"
    if found.reason is not None:
        return UNKNOWN
    if found.calls is not None:
        return float(found.calls), numbers.count(found.calls) + doubt
    if found.until is not None:
        return 1e15, f"≤{numbers.count(found.until)}{doubt}"
    return 1e16, f"never{doubt}"


def _ceiling(record: Record | None) -> Cell:
    rates = record.rates if record and record.ok else None
    if rates is None or rates.limit is None:
        return UNKNOWN
    if rates.limit is Limit.dispatch:
        return 0.0, "dispatch"
    share = {"compute": rates.of_compute_ceiling, "memory": rates.of_memory_ceiling}.get(rates.limit)
    if share is None:
        return UNKNOWN
    return rounded(share, 3), f"{100 * share:.0f}% {rates.limit}"


def _error(row: Comparison) -> Cell:
    known = [record.accuracy.relative_error for record in row.arms if record.accuracy]
    errors = [error for error in known if error is not None]
    found = of_pair(row)
    if found and (not errors or not found.agrees):
        apart = found.relative_difference
        return apart, ("–" if apart is None else f"{apart:.0e}") + ("" if found.agrees else "‡")
    return (max(errors), f"{max(errors):.0e}") if errors else UNKNOWN


def _costs(row: Comparison, prices: "Prices") -> Sequence[Cell]:
    """CPU's and GPU's of a million calls, and how many times as cheap the GPU is."""
    columns = money.columns(row, prices)
    sides = [columns[f"{device}_cost_per_million_calls"] for device in ("cpu", "gpu")]
    ratio, cheaper = columns["cost_ratio_cpu_over_gpu"], columns["cheaper"]
    cells: list[Cell] = [(rounded(c, 4), numbers.amount(c)) if c is not None else UNKNOWN for c in sides]
    word = VERDICTS[Verdict(cheaper)] if cheaper else ""
    cells.append((rounded(ratio, 4), f"{word} {numbers.ratio(max(ratio, 1 / ratio))}") if ratio else UNKNOWN)
    return cells


# --- what a row opens to ---------------------------------------------------------------------------


def _timing_row(name: str, timing: Timing) -> list[Any]:
    return [
        name,
        time_words(timing),
        numbers.seconds(timing.min_s),
        numbers.seconds(timing.p95_s),
        timing.n,
        len(timing.passes),
        timing.ci_over if timing.ci95_s else "",
        timing.converged,
    ]


def _flags(record: Record) -> list[tuple[str, str, str]]:
    """Name, metrics and message of each flag; what is said of several metrics alike stands once."""
    found: dict[tuple[str, str], list[str]] = {}
    for flag in record.warnings:
        found.setdefault((flag.name, flag.message), []).append(flag.metric or "all")
    return [(name, ", ".join(metrics), message) for (name, message), metrics in found.items()]


def _facts(record: Record) -> list[tuple[str, str]]:
    """What else is known, in words."""
    found: list[tuple[str, str]] = []
    if record.accuracy:
        error = record.accuracy.relative_error
        said = "not checked" if error is None else f"{error:.2g} of {record.accuracy.tolerance:.2g} tolerated"
        found.append(("relative error", f"{said}, against {record.accuracy.reference or 'nothing'}"))
    if rates := record.rates:
        words = f"{numbers.rate(rates.flops_per_s, 'FLOP/s')}, {numbers.rate(rates.bytes_per_s, 'B/s')}"
        found.append(("rates", f"{words}, by {rates.metric}; limit: {rates.limit or 'unknown'}"))
    if record.ceilings:
        for name, ceiling, unit in (
            ("memory ceiling", record.ceilings.memory, "B/s"),
            ("compute ceiling", record.ceilings.compute, "FLOP/s"),
        ):
            if ceiling:
                found.append((name, f"{numbers.rate(ceiling.rate_per_s, unit)} by {ceiling.workload}"))
    if record.transfers:
        t = record.transfers
        found.append(
            (
                "transfers",
                f"in {numbers.volume(t.h2d_bytes)}, {t.h2d}; out {numbers.volume(t.d2h_bytes)}, {t.d2h}",
            )
        )
    if record.compile:
        c = record.compile
        found.append(
            (
                "compilation",
                (
                    f"trace {numbers.seconds(c.trace_s)}, lower {numbers.seconds(c.lower_s)}, "
                    f"compile {numbers.seconds(c.compile_s)}, cache: {c.cache}"
                ),
            )
        )
    if record.as_called_s is not None:
        found.append(("as you call it", f"{numbers.seconds(record.as_called_s)}, with the Python around it"))
    if record.memory:
        peak, working = record.memory.peak_bytes, record.memory.working_set_bytes
        found.append(("memory", f"peak {numbers.volume(peak)}, working set {numbers.volume(working)}"))
    for name, told in (("variant", variants.choice(record)), ("a step", variants.a_step(record))):
        if told:
            found.append((name, "; ".join(told.splitlines())))
    if record.device_time:
        kernels = ", ".join(f"{k.name} {k.share:.0%}" for k in record.device_time.kernels[:4])
        found.append(("device time", f"by {record.device_time.source}{f': {kernels}' if kernels else ''}"))
    if record.energy:
        e = record.energy
        found.append(
            (
                "energy of a call",
                (
                    f"{numbers.joules(e.per_call_j)} ± {numbers.joules(e.uncertainty_j)}, "
                    f"{numbers.joules(e.above_idle_per_call_j)} above idle ({e.source}, {e.scope})"
                ),
            )
        )
    found.append(("time spent", numbers.seconds(record.spent_s.total)))
    return found

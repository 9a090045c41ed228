"""What records tell beside the times of a sweep, in tables of their own: rates and joules.

Each stands where it is what the records are about: rates of transfers where nothing resident was timed, those
of memory where only the work on the device was, joules where every case of a device has them. A metric is
that of the latest record that has it, for a study may time others of the same case in another run.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from jaxaccel.analyze.machines import latest, place
from jaxaccel.analyze.stats import severe
from jaxaccel.records import DEVICES, JAX, RESIDENT, Case, Metric, Record
from jaxaccel.render.words.names import case_name, parameters
from jaxaccel.render.words.numbers import brief, joules, volume
from jaxaccel.render.words.sections import Section

UNKNOWN = "–"
TRAVELS = (Metric.h2d, Metric.h2d_pinned, Metric.d2h, Metric.d2h_pinned)
HALF = "±: half of the 95% interval of the time, {}"
OVER = {"passes": "over passes", "rounds": "within one process"}
FEW = "(n=...): so many samples, too few for an interval"
LOOK_TWICE = "!: look twice (see `warnings`)"
ENERGY = (
    "power: of the load; above idle: a call's without what the device takes as it waits, just before",
    "±: of either, at most, by the counter's ticks",
)


@dataclass(frozen=True, kw_only=True)
class _Row:
    """A case on a machine, whose letter is told where there are several; and its records by device."""

    case: Case
    machine: str
    sides: dict[str, Record]


def sections(records: Sequence[Record]) -> list[Section]:
    """Those of the three that records are about."""
    known = [record for record in records if record.arm.framework == JAX]
    return [found for found in (_transfers(known), _memory(known), _energy(known)) if found]


# --- the three -------------------------------------------------------------------------------------


def _transfers(records: Sequence[Record]) -> Section | None:
    """Bytes a second by metric, of GPUs: what a CPU device may copy goes nowhere."""
    if _timed(records, *RESIDENT):
        return None
    found = {
        metric: {
            (row.machine, row.case.case_id): record
            for row in _rows(records, lambda record, metric=metric: metric in record.timings)  # type: ignore[misc]
            if (record := row.sides.get("gpu")) and _moved(record, metric)
        }
        for metric in TRAVELS
    }
    moving = _rows(
        records, lambda r: r.arm.requested == "gpu" and any(_moved(r, metric) for metric in TRAVELS)
    )
    if not moving:
        return None
    rows, shown = [], []
    for row, name in zip(moving, _names(moving), strict=True):
        cells = []
        for metric in TRAVELS:
            record = found[metric].get((row.machine, row.case.case_id))
            cells.append(_rate(record, metric, _moved(record, metric)) if record else UNKNOWN)
            shown += [(record, metric)] if record else []
        rows.append(
            (name, volume(max(_moved(one, m) for one in row.sides.values() for m in TRAVELS)), *cells)
        )
    return Section(
        title="transfers to the GPU (h2d) and back (d2h), GB/s",
        head=("case", "each way", *(str(metric).replace("_", " ") for metric in TRAVELS)),
        rows=tuple(rows),
        lines=_legend(rows, shown),
    )


def _memory(records: Sequence[Record]) -> Section | None:
    """Bytes a second that a call reads and writes, by its time on the device, over working sets."""
    if _timed(records, Metric.latency, Metric.throughput):
        return None
    found = _rows(records, lambda record: bool(_moved(record, Metric.device)))
    if not found:
        return None
    devices = [device for device in DEVICES if any(device in row.sides for row in found)]
    rows, shown = [], []
    for row, name in zip(found, _names(found), strict=True):
        working_set = next((r.memory.working_set_bytes for r in row.sides.values() if r.memory), None)
        sides = [row.sides.get(device) for device in devices]
        cells = [_rate(r, Metric.device, _moved(r, Metric.device)) if r else UNKNOWN for r in sides]
        shown += [(record, Metric.device) for record in row.sides.values()]
        rows.append((name, volume(working_set), *cells))
    return Section(
        title="memory, GB/s by device time",
        head=("case", "working set", *(device.upper() for device in devices)),
        rows=tuple(rows),
        lines=_legend(rows, shown),
    )


def _energy(records: Sequence[Record]) -> Section | None:
    """Joules a call of each arm that has them, and why others have none."""
    found = _rows(records)
    arms = [(row, device, row.sides[device]) for row in found for device in DEVICES if device in row.sides]
    whole = [device for device in DEVICES if (its := [r for _, d, r in arms if d == device]) and _whole(its)]
    if not whole:
        return None
    names = dict(zip(map(id, found), _names(found), strict=True))
    rows = tuple(
        (
            names[id(row)],
            device.upper(),
            joules(energy.per_call_j),
            joules(energy.above_idle_per_call_j),
            joules(energy.uncertainty_j),
            f"{energy.per_call_j * energy.calls / energy.duration_s:.0f} W",
            f"{energy.idle_w:.0f} W",
        )
        for row, device, record in arms
        if (energy := record.energy)
    )
    said = [
        f"{device.upper()}: {r.energy.source}, {r.energy.scope}"
        if r.energy
        else f"{device.upper()}: none: {r.absent.get('energy', 'unknown').removeprefix('absent: ')}"
        for _, device, r in arms
    ]
    return Section(
        title="energy, while calls are queued",
        head=("case", "device", "a call", "above idle", "±", "power", "idle"),
        rows=rows,
        lines=(*dict.fromkeys(said), *ENERGY),
    )


def _whole(records: Sequence[Record]) -> bool:
    """Whether each record has its energy."""
    return all(record.energy for record in records)


# --- which records ---------------------------------------------------------------------------------


def _timed(records: Sequence[Record], *metrics: Metric) -> bool:
    return any(metric in record.timings for record in records for metric in metrics)


def _rows(records: Sequence[Record], wanted: Callable[[Record], bool] = lambda _: True) -> list[_Row]:
    """The records that count among those wanted: by kind of case as they appear, then by size.

    Letters are of all records, failed ones too: a machine has the one that it has in every other table.
    """
    letters = place(records)
    found: list[_Row] = []
    for letter in dict.fromkeys(letters):
        ours = (r for r, its in zip(records, letters, strict=True) if its == letter and r.ok and wanted(r))
        sides: dict[str, dict[str, Record]] = {}
        for (case_id, device), record in latest(ours).items():
            sides.setdefault(case_id, {})[device] = record
        found += [
            _Row(case=next(iter(its.values())).case, machine=letter, sides=its) for its in sides.values()
        ]
    families = list(dict.fromkeys(row.case.family for row in found))
    return sorted(found, key=lambda row: (families.index(row.case.family), row.case.size, row.machine))


def _names(rows: Sequence[_Row]) -> list[str]:
    """With all parameters of a workload that has several, and the machine where there are several."""
    machines = len({row.machine for row in rows}) > 1
    names = []
    for row in rows:
        others = [other.case for other in rows if other.case.workload == row.case.workload]
        several = any(other.params != row.case.params for other in others)
        names.append(
            case_name(row.case)
            + (parameters(row.case, others) if several else "")
            + (f" ({row.machine})" if machines else "")
        )
    return names


def _moved(record: Record, metric: Metric) -> int:
    """Bytes that a metric's time is of; 0 where nothing moves, or nobody knows."""
    if metric not in record.timings:
        return 0
    if metric is Metric.device:
        rates = record.rates
        known = rates.bytes_per_s if rates and rates.metric == metric else None
        return round(known * record.timings[metric].median_s) if known else 0
    up = metric in (Metric.h2d, Metric.h2d_pinned)
    moved = record.transfers
    if moved is None or (moved.h2d if up else moved.d2h) != "copied":
        return 0
    return moved.h2d_bytes if up else moved.d2h_bytes


# --- words -----------------------------------------------------------------------------------------


def _rate(record: Record, metric: Metric, moved_bytes: int) -> str:
    timing = record.timings[metric]
    if not timing.median_s > 0:
        return UNKNOWN
    half = f"(n={timing.n})"
    if timing.ci95_s:
        share = (timing.ci95_s[1] - timing.ci95_s[0]) / 2 / timing.median_s
        half = "±<1%" if share < 0.005 else f"±{share:.0%}"
    mark = "!" if severe(record.warnings, metric) else ""
    return f"{brief(moved_bytes / timing.median_s / 1e9)} {half}{mark}"


def _legend(rows: Sequence[Sequence[str]], shown: Sequence[tuple[Record, Metric]]) -> tuple[str, ...]:
    cells = "".join(cell for row in rows for cell in row)
    timings = [record.timings[metric] for record, metric in shown]
    scopes = dict.fromkeys(timing.ci_over for timing in timings if timing.ci95_s)
    lines = [HALF.format(" or ".join(OVER[scope] for scope in scopes))] if scopes else []
    lines += [FEW] if "(n=" in cells else []
    lines += [LOOK_TWICE] if "!" in cells else []
    return tuple(lines)

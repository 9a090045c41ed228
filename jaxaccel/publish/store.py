"""Records as files: written whole or not at all, before anything is sent anywhere."""

import os
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from itertools import count
from pathlib import Path
from typing import Any

from jaxaccel import foreign
from jaxaccel.analyze.agreement import of_pair
from jaxaccel.analyze.differences import source_digest, without_source
from jaxaccel.analyze.residency import BreakEven, break_even, once_speedup, pinned_speedup
from jaxaccel.config import BadInputError
from jaxaccel.publish import machines
from jaxaccel.publish.tables import case_columns, csv_text
from jaxaccel.reading import RECORD, RECORDS, records_in
from jaxaccel.records import JAX, Comparison, Metric, Record, Speedup, encode_record
from jaxaccel.redact import all_without_secrets
from jaxaccel.redact.outlets import document
from jaxaccel.saying import warn

COMPARISON = "comparison.csv"
ONCE_CALLS = (10, 100, 1000)  # on data that comes in once
PINNED = (Metric.end_to_end_pinned, Metric.h2d_pinned, Metric.d2h_pinned)  # a GPU's alone
ON_BOTH = tuple(metric for metric in Metric if metric not in PINNED)


def save(record: Record, folder: Path) -> Path:
    """Write `folder`/record.json. A record of another source, or what is no record, keeps another name."""
    path = folder / RECORD
    set_aside(path)
    _keep_other_source(path, record)
    write_whole(path, encode_record(record) + b"\n")
    return path


def _keep_other_source(path: Path, record: Record) -> None:
    """Rename the record of the same arm that a file holds, if it is of another source."""
    if record.code is None or not path.exists():
        return
    before = next(records_in(path, []), None)
    digest = before and source_digest(before)
    if before is None or digest in (None, record.code.digest) or before.arm.requested != record.arm.requested:
        return
    stem = foreign.file_name([path.stem, str(digest)])  # which the record says, and anybody may have written
    names = (f"{stem}{number}{path.suffix}" for number in ("", *(f"-{n}" for n in range(2, 1000))))
    path.rename(next(kept for name in names if not (kept := path.with_name(name)).exists()))


def save_all(records: Iterable[Record], folder: Path) -> Path:
    """Write `folder`/records.jsonl, a record a line. What is there and can't be read stays, as in `save`."""
    path = folder / RECORDS
    set_aside(path)
    write_whole(path, b"".join(encode_record(record) + b"\n" for record in records))
    return path


def set_aside(path: Path) -> None:
    """Rename a file that holds anything but records, so that writing to its path loses nothing."""
    if not os.path.lexists(path):
        return
    skipped = [f"{path} is a folder"] if path.is_dir() else []
    for _ in records_in(path, skipped):
        pass
    if skipped:
        free = (path.with_name(f"{path.name}.unreadable{number or ''}") for number in count())
        path.rename(next(name for name in free if not os.path.lexists(name)))


def save_comparisons(comparisons: Iterable[Comparison], folder: Path) -> Path:
    """Write `folder`/comparison.csv, a case a row."""
    path = folder / COMPARISON
    write_whole(path, csv_text([row(comparison) for comparison in comparisons]).encode())
    return path


def load_records(
    places: Iterable[Path | str], skipped: list[str] | None = None, *, peers: bool = False
) -> list[Record]:
    """The records of files (.json, .jsonl) and of all record.json and records.jsonl below folders.

    They are without the secrets of this process, which an earlier jaxaccel may have let into them. A record
    that a sweep wrote twice, alone and in records.jsonl, is there once. What can't be read is passed over and
    added to `skipped`, a line each; without that, it is named on standard error. Records of other frameworks
    than JAX, which nothing but jaxaccel.peers knows how to read, are there only with `peers`.

    **Raises** BadInputError for a place that does not exist.
    """
    found: dict[tuple[str, str, str], Record] = {}
    unreadable: list[str] = []
    for place in map(Path, places):
        try:
            for record in map(all_without_secrets, records_in(place, unreadable)):
                if peers or record.arm.framework == JAX:
                    found[record.arm_id, record.sweep_id, record.started_at] = record
        except FileNotFoundError as error:
            raise BadInputError(f"no such file or folder: {place}") from error
    if skipped is None:
        tell_skipped(unreadable)
    else:
        skipped += unreadable
    return list(found.values())


def tell_skipped(skipped: Sequence[str], at_most: int = 3) -> None:
    """Say in one line what could not be read, and how much."""
    if not skipped:
        return
    more = len(skipped) - at_most
    named = "; ".join(skipped[:at_most]) + (f"; and {more} more" if more > 0 else "")
    what = f"{len(skipped)} records" if len(skipped) > 1 else "a record"
    warn(f"passed over {what} that can't be read: {named}")


def load_if_there(folder: Path) -> Record | None:
    """The record of a folder; None where it has none that can be read."""
    path = folder / RECORD
    return next(iter(load_records([path], [], peers=True)), None) if os.path.lexists(path) else None


def others(folder: Path, records: Iterable[Record]) -> list[Record]:
    """What `folder`/records.jsonl has of other arms than those of `records`."""
    path = folder / RECORDS

    def arm(record: Record) -> tuple[str, str]:
        return without_source(record.case).case_id, record.arm.requested

    known = {arm(record) for record in records}
    before = load_records([path], []) if path.exists() else []
    return [record for record in before if arm(record) not in known]


def row(comparison: Comparison) -> dict[str, Any]:
    """A comparison as one flat row, SI units in the names. Every column is there, whatever is not known."""
    entry = case_columns(comparison.case)
    pair = comparison.cpu is not None and comparison.gpu is not None
    entry |= {
        "machines": ("two machines" if comparison.two_machines else "one machine") if pair else None,
        "cpu_machine": comparison.cpu_machine,
        "gpu_machine": comparison.gpu_machine,
        "interleaved": comparison.interleaved if pair else None,
        "other_versions": machines.versions(comparison),
    }
    for metric in ON_BOTH:
        entry |= _speedup_columns(str(metric), comparison.speedups.get(metric))
    entry["unmatched"] = comparison.unmatched
    entry["other_source"] = comparison.other_source
    apart = of_pair(comparison)
    entry["between_devices"] = apart and apart.relative_difference
    entry["different"] = apart and apart.words
    entry |= _residency_columns(comparison)
    for device, record in (("cpu", comparison.cpu), ("gpu", comparison.gpu)):
        entry |= {f"{device}_{name}": value for name, value in _arm_columns(device, record).items()}
    return entry


def _speedup_columns(name: str, speedup: Speedup | None) -> Mapping[str, Any]:
    low, high = speedup.ci95 if speedup and speedup.ci95 else (None, None)
    return {
        f"{name}_speedup": speedup and speedup.ratio,
        f"{name}_speedup_ci95_low": low,
        f"{name}_speedup_ci95_high": high,
        f"{name}_verdict": speedup and str(speedup.verdict),
        f"{name}_ci_over": speedup and speedup.ci_over,
        f"{name}_reason": speedup and speedup.reason,
    }


def _residency_columns(comparison: Comparison) -> Mapping[str, Any]:
    """What depends on where the data lives."""
    cpu, gpu = comparison.cpu, comparison.gpu
    pair = (cpu, gpu) if cpu and gpu else None
    columns: dict[str, Any] = {
        "break_even_calls": pair and _calls(break_even(*pair)),
        "break_even_calls_pinned": pair and _calls(break_even(*pair, pinned=True)),
        "break_even_calls_with_compile": pair and _calls(break_even(*pair, compiling=True)),
    }
    for calls in ONCE_CALLS:
        columns[f"once_{calls}_speedup"] = pair and once_speedup(*pair, calls)
    every_call = pinned_speedup(*pair, among=comparison.among) if pair else None
    return {**columns, **_speedup_columns(str(Metric.end_to_end_pinned), every_call)}


def _calls(found: BreakEven) -> int | str | None:
    """The calls from which on the GPU is ahead; `never`, or `up to N`, where that is so; None if unknown."""
    if found.never:
        return "never"
    return found.calls if found.until is None else f"up to {found.until}"


def _arm_columns(device: str, record: Record | None) -> Mapping[str, Any]:
    """What one arm puts into a row. Every column is there even where the arm is not."""
    columns: dict[str, Any] = {
        "kind": record and record.arm.kind,
        "variant": record and record.arm.variant,
        **_machine_columns(device, record),
        "status": record and str(record.status),
        "error": record and record.error and record.error.message,
    }
    for metric in Metric if device == "gpu" else ON_BOTH:
        timing = record.timings.get(metric) if record else None
        low, high = timing.ci95_s if timing and timing.ci95_s else (None, None)
        columns |= {
            f"{metric}_median_s": timing and timing.median_s,
            f"{metric}_ci95_low_s": low,
            f"{metric}_ci95_high_s": high,
            f"{metric}_n": timing and timing.n,
            f"{metric}_converged": timing and timing.converged,
        }
    ceilings = record.ceilings if record else None
    memory, compute = (ceilings.memory, ceilings.compute) if ceilings else (None, None)
    return columns | {
        "device_source": record and record.device_time and record.device_time.source,
        "device_slope_s": record and record.device_time and record.device_time.slope_s,
        "h2d_bytes": record and record.transfers and record.transfers.h2d_bytes,
        "d2h_bytes": record and record.transfers and record.transfers.d2h_bytes,
        "h2d_how": record and record.transfers and record.transfers.h2d,
        "d2h_how": record and record.transfers and record.transfers.d2h,
        "flops": record and record.cost and record.cost.flops,
        "bytes": record and record.cost and record.cost.bytes,
        "steps": record and record.cost and record.cost.steps,
        "cost_source": record and record.cost and record.cost.source,
        "as_called_s": record and record.as_called_s,
        "compile_s": record and record.compile and record.compile.compile_s,
        "flops_per_s": record and record.rates and record.rates.flops_per_s,
        "bytes_per_s": record and record.rates and record.rates.bytes_per_s,
        "of_compute_ceiling": record and record.rates and record.rates.of_compute_ceiling,
        "of_memory_ceiling": record and record.rates and record.rates.of_memory_ceiling,
        "limit": record and record.rates and record.rates.limit and str(record.rates.limit),
        "compute_ceiling_flops_per_s": compute and compute.rate_per_s,
        "memory_ceiling_bytes_per_s": memory and memory.rate_per_s,
        "peak_bytes": record and record.memory and record.memory.peak_bytes,
        "energy_per_call_j": record and record.energy and record.energy.per_call_j,
        "energy_above_idle_per_call_j": record and record.energy and record.energy.above_idle_per_call_j,
        "energy_uncertainty_j": record and record.energy and record.energy.uncertainty_j,
        "relative_error": record and record.accuracy and record.accuracy.relative_error,
        "flags": record and "; ".join(f"{flag.metric or 'all'}: {flag.name}" for flag in record.warnings),
    }


def _machine_columns(device: str, record: Record | None) -> Mapping[str, Any]:
    """What is known of the machine and its software."""
    names = ("cores", "host_id", "os", "python", "jax", "jaxlib", *(["driver"] if device == "gpu" else []))
    known = machines.facts(record) if record else {}
    return {name: known.get(name) for name in names}


def write_whole(path: Path, content: bytes) -> None:
    """Write a file so that nobody, whatever breaks, ever sees half of it, nor any secret."""
    content = document(path.name, content)
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        Path(name).chmod(0o644)  # mkstemp's files are for their owner only
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise

"""A comparison as one flat row: the columns of comparison.csv."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from jaxaccel.analyze.agreement import of_pair
from jaxaccel.analyze.residency import BreakEven, break_even, once_speedup, pinned_speedup
from jaxaccel.records import Comparison, Metric, Record, Speedup
from jaxaccel.records.store import write_whole
from jaxaccel.render.files import case_columns, csv_text
from jaxaccel.render.words import machines

COMPARISON = "comparison.csv"
ONCE_CALLS = (10, 100, 1000)  # on data that comes in once
PINNED = (Metric.end_to_end_pinned, Metric.h2d_pinned, Metric.d2h_pinned)  # a GPU's alone
ON_BOTH = tuple(metric for metric in Metric if metric not in PINNED)


def save_comparisons(comparisons: Iterable[Comparison], folder: Path) -> Path:
    """Write `folder`/comparison.csv, a case a row."""
    path = folder / COMPARISON
    write_whole(path, csv_text([row(comparison) for comparison in comparisons]).encode())
    return path


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

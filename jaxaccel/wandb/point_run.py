"""A record as a point run: flat config to filter and group by, flat summary of headline numbers.

Every key is in README.md's table, which a test holds against this. Units are in the names, SI.
"""

from dataclasses import asdict
from typing import Any

from jaxaccel.records import Case, Ceilings, Record, digest
from jaxaccel.wandb.runs import Run, row_of

POINT = "point"
STEP = "step"


def point(record: Record, line: str) -> Run:
    """The run of a record. Its history is what the workload gave a step at a time: an mlp's loss."""
    case, device = record.case, record.arm.requested
    length = max(map(len, record.series.values()), default=0)
    rows = [
        {STEP: step + 1}
        | {
            f"{case.workload}/{name}": values[step]
            for name, values in record.series.items()
            if step < len(values)
        }
        for step in range(length)
    ]
    return Run(
        id=f"{POINT}-{digest([record.arm_id, record.started_at])}",
        name=f"{run_name(case)}-{case.size}-{device}",
        group=record.sweep_id,
        job_type=POINT,
        tags=(case.workload, device),
        config=point_config(record) | {"line": line},
        summary=point_summary(record),
        step=STEP if rows else None,
        rows=tuple(map(row_of, rows)),
    )


def machine_name(record: Record) -> str | None:
    """The device and the first digits of the host's id: what tells machines of one project apart."""
    host = record.environment.get("host_id")
    kind = record.arm.kind
    return f"{kind or record.arm.requested} ({host[:6]})" if host else kind


def case_config(record: Record) -> dict[str, Any]:
    """What points and curves have in their config alike: the case but for its size, and the device."""
    case = record.case
    cpu, gpu = (record.environment.get(name) or {} for name in ("cpu", "gpu"))
    return {
        "workload": case.workload,
        "device": record.arm.requested,
        "dtype": case.dtype,
        "precision": case.precision,
        "variant": case.variant,
        "seed": case.seed,
        **{f"param_{name}": value for name, value in case.params.items()},
        "device_kind": record.arm.kind,
        "machine": machine_name(record),
        "host_id": record.environment.get("host_id"),
        "cpu_model": cpu.get("model"),
        "cpu_cores": cpu.get("cores"),
        "cpu_threads": cpu.get("threads"),
        "gpu_model": gpu.get("name"),
        "gpu_driver": gpu.get("driver"),
        "os": record.environment.get("os"),
        "python": record.environment.get("python"),
        "sweep_id": record.sweep_id,
        "jaxaccel_version": record.jaxaccel_version,
        **{f"version_{name}": value for name, value in record.environment.get("packages", {}).items()},
    }


def run_name(case: Case) -> str:
    """The workload, and its variant where that is not `direct`: how the names of runs begin."""
    return case.workload if case.variant == "direct" else f"{case.workload}-{case.variant}"


def point_config(record: Record) -> dict[str, Any]:
    """The flat config of a point run: what to filter and group by."""
    return case_config(record) | {
        "size": record.case.size,
        "variant_run": record.arm.variant,
        "xla_flags": record.arm.flags.get("XLA_FLAGS"),
        "case_id": record.case_id,
        "arm_id": record.arm_id,
        "pair_id": record.pair_id,
        "paired": record.paired,
        "started_at": record.started_at,
    }


def point_summary(record: Record) -> dict[str, Any]:
    """The flat summary of a point run: headline numbers, SI units in their names; unknown ones left out."""
    found: dict[str, Any] = {
        "status": str(record.status),
        "flags": ", ".join(f.name for f in record.warnings),
    }
    for metric, timing in record.timings.items():
        low, high = timing.ci95_s or (None, None)
        found |= {
            f"{metric}/median_s": timing.median_s,
            f"{metric}/ci95_low_s": low,
            f"{metric}/ci95_high_s": high,
            f"{metric}/min_s": timing.min_s,
            f"{metric}/p95_s": timing.p95_s,
            f"{metric}/n": timing.n,
            f"{metric}/converged": timing.converged,
        }
    if record.compile:
        found |= {"compile/compile_s": record.compile.compile_s, "compile/cache": record.compile.cache}
    if record.rates:
        found |= {f"rate/{name}": value for name, value in asdict(record.rates).items() if name != "limit"}
        found["limit"] = record.rates.limit and str(record.rates.limit)
    if record.cost:
        found |= {f"cost/{name}": value for name, value in asdict(record.cost).items()}
    if record.ceilings:
        found |= _ceiling_summary(record.ceilings)
    if record.accuracy:
        found |= {
            "accuracy/relative_error": record.accuracy.relative_error,
            "accuracy/tolerance": record.accuracy.tolerance,
        }
    if record.memory:
        found |= {f"memory/{name}": value for name, value in asdict(record.memory).items()}
    if record.transfers:
        found |= {f"transfer/{name}": value for name, value in asdict(record.transfers).items()}
    if record.device_time:
        found |= {"device/source": record.device_time.source, "device/slope_s": record.device_time.slope_s}
    if record.energy:
        found |= {f"energy/{name}": value for name, value in asdict(record.energy).items()}
    found |= {f"result/{name}": value for name, value in record.results.items()}
    found |= {"first_call_s": record.first_call_s, "spent/total_s": record.spent_s.total}
    if record.as_called_s is not None:
        found["as_called_s"] = record.as_called_s
    if record.error:
        found["error"] = record.error.message
    return row_of(found)


def _ceiling_summary(ceilings: Ceilings) -> dict[str, Any]:
    named = {
        "memory_bytes_per_s": ceilings.memory,
        "compute_flops_per_s": ceilings.compute,
        **{f"{metric}_bytes_per_s": ceiling for metric, ceiling in ceilings.transfers.items()},
    }
    return {f"ceiling/{name}": ceiling.rate_per_s for name, ceiling in named.items() if ceiling}

"""Lines by size: a curve run a workload, device and pass, and a speedup run a workload.

W&B draws the x of a line from history, and bands over runs that are grouped: hence a run a line, a row a
size, and a run a pass where there are several.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from jaxaccel.analyze.stats import medians_by_pass
from jaxaccel.records import Case, Comparison, Metric, Record, digest
from jaxaccel.wandb.point_run import case_config, machine_name, run_name
from jaxaccel.wandb.runs import Run, row_of

CURVE, SPEEDUP = "curve", "speedup"
SIZE = "size"
FEWEST = 2  # sizes that make a line


def lines(records: Sequence[Record]) -> dict[int, str]:
    """The name of each record's line in a chart, by its place: device, and what else sets it apart here.

    Of dtype, precision and variant what is not the default, of parameters what differs in its workload.
    """
    return {at: line_name(record.case, record.arm.requested, records) for at, record in enumerate(records)}


def line_name(case: Case, device: str, among: Iterable[Record]) -> str:
    """The name of a case's line on a device, among records."""
    words = [device, *(value for value in (case.variant, case.dtype) if value not in ("direct", "float32"))]
    words += [f"precision={case.precision}"] if case.precision != "highest" else []
    others = [other.case.params for other in among if other.case.workload == case.workload]
    words += [
        f"{name}={value}"
        for name, value in case.params.items()
        if any(other.get(name) != value for other in others)
    ]
    return " ".join(words)


def curves(records: Sequence[Record]) -> list[Run]:
    """The curve runs of one sweep's records: each a workload, a device, a pass, over two sizes or more.

    Rows hold `size` and the median of each metric in that pass, in seconds.
    """
    families: dict[tuple[Any, ...], list[Record]] = {}
    for record in records:
        if record.ok and record.timings:
            key = (
                record.case.family,
                record.case.seed,
                record.arm.requested,
                record.environment.get("host_id"),
            )
            families.setdefault(key, []).append(record)
    found = []
    for key, family in families.items():
        by_pass: dict[int, dict[int, dict[str, Any]]] = {}
        for record in family:
            for metric in Metric:
                if timing := record.timings.get(metric):
                    for number, median_s in medians_by_pass(timing).items():
                        row = by_pass.setdefault(number, {}).setdefault(record.case.size, {})
                        row[f"{record.case.workload}/{metric}_median_s"] = median_s
        for number, rows in sorted(by_pass.items()):
            if len(rows) >= FEWEST:
                line = line_name(family[0].case, family[0].arm.requested, records)
                found.append(_curve(key, family[0], number, rows, line))
    return found


def _curve(
    key: tuple[Any, ...], first: Record, number: int, rows: Mapping[int, Mapping[str, Any]], line: str
) -> Run:
    case, device = first.case, first.arm.requested
    return Run(
        id=f"{CURVE}-{digest([first.sweep_id, *key, number])}",
        name=f"{run_name(case)}-{device}-pass{number}",
        group=first.sweep_id,
        job_type=CURVE,
        tags=(case.workload, device),
        config=case_config(first) | {"line": line, "pass": number},
        summary={"sizes": len(rows)},
        step=SIZE,
        rows=tuple(row_of({SIZE: size, **rows[size]}) for size in sorted(rows)),
    )


def speedups(sweep_id: str, comparisons: Sequence[Comparison]) -> list[Run]:
    """The speedup runs of a sweep: each a workload on a pair of devices, over two sizes or more.

    Rows hold `size`, each metric's CPU time / GPU time and its interval; the summary's `speedup/...` is that
    of the largest size.
    """
    families: dict[tuple[Any, ...], list[Comparison]] = {}
    for comparison in comparisons:
        if comparison.speedups:
            case = comparison.case
            key = (case.family, case.seed, *(record.environment.get("host_id") for record in comparison.arms))
            families.setdefault(key, []).append(comparison)
    records = [record for comparison in comparisons for record in comparison.arms]
    found = []
    for key, family in families.items():
        by_size = {comparison.case.size: comparison for comparison in family}
        if len(by_size) < FEWEST:
            continue
        largest = by_size[max(by_size)]
        case, gpu, cpu = largest.case, largest.gpu, largest.cpu
        assert cpu is not None  # a speedup has both sides
        assert gpu is not None
        last = {f"speedup/{metric}": speedup.ratio for metric, speedup in largest.speedups.items()}
        pair = {
            "device": "cpu/gpu",
            "device_kind": f"{cpu.arm.kind} / {gpu.arm.kind}",
            "machine": f"{machine_name(cpu)} / {machine_name(gpu)}",
        }
        found.append(
            Run(
                id=f"{SPEEDUP}-{digest([sweep_id, *key])}",
                name=f"{run_name(case)}-speedup",
                group=sweep_id,
                job_type=SPEEDUP,
                tags=(case.workload, "cpu/gpu"),
                config=case_config(gpu)
                | pair
                | {"sweep_id": sweep_id, "line": line_name(case, "cpu/gpu", records)},
                summary=row_of({**last, "speedup/at_size": case.size, "sizes": len(by_size)}),
                step=SIZE,
                rows=tuple(_speedup_row(by_size[size]) for size in sorted(by_size)),
            )
        )
    return found


def _speedup_row(comparison: Comparison) -> dict[str, Any]:
    row: dict[str, Any] = {SIZE: comparison.case.size}
    for metric, speedup in comparison.speedups.items():
        low, high = speedup.ci95 or (None, None)
        name = f"{comparison.case.workload}/{metric}_speedup"
        row |= {name: speedup.ratio, f"{name}_ci95_low": low, f"{name}_ci95_high": high}
    return row_of(row)

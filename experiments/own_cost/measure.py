"""What jaxaccel itself costs: help, a run, sweeps of 10 to 300 jobs, a report of 1,000 records.

    python experiments/own_cost/measure.py experiments/own_cost/results.json

Each command is a process of its own. What it spends on no worker's start, data, compilation, warm-up,
sampling or reference is what is left of its wall time, W&B (offline) included. Memory is that of the command
itself, without its workers, by the high-water mark of the kernel.
"""

import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path

from jaxaccel.records import Record
from jaxaccel.records.store import load_records, save_all

ROOT = Path(__file__).parent.parent.parent
COMMANDS = ("run", "crossover", "report", "advise", "peers", "study", "dashboard", "export", "selftest")
HELP_TIMES = 5
JOBS = (1, 10, 100, 300)
BRIEF = (
    "workload=dot",
    "device=cpu",
    "passes=1",
    "metrics=[latency]",
    "ceilings=off",
    "timing.limit_s=0.02",
    "timing.energy_s=0",
    "wandb=offline",
)
RECORDS = 1000
LOOK_S = 0.05  # between two looks at the memory of a command


@dataclass(frozen=True, kw_only=True)
class Spent:
    """The wall time of a command, and the most memory that it had."""

    wall_s: float
    peak_bytes: int | None


def main(target: str) -> None:
    """Measure all of it, and write `target`."""
    with tempfile.TemporaryDirectory() as folder:
        found = {
            "command": "python experiments/own_cost/measure.py",
            "cpu": _cpu_model(),
            "cores": len(os.sched_getaffinity(0)),
            "python": platform.python_version(),
            "load_before": os.getloadavg()[0],
            "help_s": {name: _help_s(name) for name in COMMANDS},
            "sweeps": [_sweep(jobs, Path(folder) / str(jobs)) for jobs in JOBS],
            "report": _report(Path(folder) / str(JOBS[-1]), Path(folder) / "many"),
        }
    Path(target).write_text(json.dumps(found, indent=1) + "\n")


def _help_s(name: str) -> list[float]:
    return [_spent("-m", f"jaxaccel.{name}", "--help").wall_s for _ in range(HELP_TIMES)]


def _sweep(jobs: int, folder: Path) -> dict[str, float | int | None]:
    """A job is one size: sizes are neighbours, so that a job of one sweep is as large as one of another."""
    sizes = ",".join(str(1024 + 8 * job) for job in range(jobs))
    kind = ["-m", f"hydra.sweep.dir={folder}"] if jobs > 1 else [f"hydra.run.dir={folder}"]
    spent = _spent("-m", "jaxaccel.run", *kind, *BRIEF, f"size={sizes}")
    records = load_records([folder])
    accounted_s = sum(record.spent_s.accounted for record in records)
    return {
        "jobs": jobs,
        "records": len(records),
        "wall_s": spent.wall_s,
        "accounted_s": accounted_s,
        "own_s_per_job": (spent.wall_s - accounted_s) / jobs,
        # Of one job, its record tells what has passed until its table is shown.
        "own_s_to_table": records[0].spent_s.total - accounted_s if jobs == 1 else None,
        "peak_bytes": spent.peak_bytes,
    }


def _report(measured: Path, folder: Path) -> dict[str, float | int | None]:
    """The page of records that were measured, each several times over as one of another size."""
    records = load_records([measured])
    save_all((_as_another(records[i % len(records)], 10_000 + i) for i in range(RECORDS)), folder)
    spent = _spent("-m", "jaxaccel.report", str(folder))
    return {
        "records": RECORDS,
        "wall_s": spent.wall_s,
        "peak_bytes": spent.peak_bytes,
        "page_bytes": (folder / "report.html").stat().st_size,
    }


def _as_another(record: Record, size: int) -> Record:
    case = replace(record.case, size=size)
    return replace(record, case=case, case_id=case.case_id, arm_id=f"{record.arm_id}-{size}")


def _spent(*words: str) -> Spent:
    begin = time.perf_counter()
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    with (
        tempfile.TemporaryDirectory() as here,
        subprocess.Popen(
            [sys.executable, *words],
            env=environment,
            cwd=here,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        ) as process,
    ):
        peak = None
        while process.poll() is None:
            peak = _high_water_bytes(process.pid) or peak
            time.sleep(LOOK_S)
        wall_s = time.perf_counter() - begin
        if process.returncode:
            raise SystemExit(f"{' '.join(words)} exited with code {process.returncode}")
    return Spent(wall_s=wall_s, peak_bytes=peak)


def _high_water_bytes(pid: int) -> int | None:
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:  # it has just ended
        return None
    return next((1024 * int(line.split()[1]) for line in lines if line.startswith("VmHWM")), None)


def _cpu_model() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    return next(line.partition(": ")[2] for line in lines if line.startswith("model name"))


if __name__ == "__main__":
    main(sys.argv[1])

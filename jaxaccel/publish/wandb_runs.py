"""Records as Weights & Biases runs: one point run an arm, sent after everything is on disk.

W&B decides nothing here: a run that can't be logged costs a line of warning, never a measurement.
"""

import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, cast

from jaxaccel.config import WandbConfig, WandbMode
from jaxaccel.records import Ceilings, Record

INIT_TIMEOUT_S = 15.0
FINISH_TIMEOUT_S = 30.0


@dataclass(frozen=True, kw_only=True)
class Published:
    """What became of the runs: the mode that was used, how many were logged, and a line about it."""

    mode: str
    logged: int
    message: str


def log(records: Sequence[Record], config: WandbConfig, folder: Path) -> Published:
    """Log a point run for each record, the files of all below `folder`/wandb.

    Offline where nobody is logged in, or where the server does not answer. Never prompts, never raises for
    what W&B does.
    """
    mode = os.environ.get("WANDB_MODE") or str(config.mode)
    if mode == WandbMode.disabled or not records:
        return Published(mode=mode, logged=0, message="")
    import wandb

    wanted = mode
    try:
        mode = resolve_mode(mode)
    except Exception as error:
        return Published(mode=mode, logged=0, message=f"W&B: {_first_line(error)}; the records are on disk")
    sent: dict[str, int] = {}
    reason = "" if mode == wanted or wanted == WandbMode.auto else "nobody is logged in"
    for record in records:
        try:
            try:
                _log_point(record, folder, config, mode)
            except wandb.errors.CommError as error:
                if mode != "online":
                    raise
                # The server is out of reach, and will be for the other runs.
                mode, reason = "offline", _first_line(error)
                _log_point(record, folder, config, mode)
            sent[mode] = sent.get(mode, 0) + 1
        except Exception as error:  # whatever W&B does, the measurement stands
            logged = sum(sent.values())
            return Published(
                mode=mode,
                logged=logged,
                message=f"W&B took {logged} of {len(records)} runs, then: {_first_line(error)}; "
                "all records are on disk",
            )
    return Published(mode=mode, logged=sum(sent.values()), message=_closing_line(sent, folder, reason))


def resolve_mode(mode: str) -> str:
    """online, offline or disabled: `auto` and `online` are online for those who are logged in, else offline.

    **Raises** ValueError for another mode, and whatever W&B says of a key that can't be one.
    """
    if mode not in tuple(WandbMode):
        raise ValueError(f"WANDB_MODE must be one of {', '.join(WandbMode)}, got {mode!r}")
    if mode not in (WandbMode.auto, WandbMode.online):
        return mode
    import wandb

    # Asked here, for wandb.init would prompt who is not logged in.
    return "online" if wandb.login(prompt=False, verify=False) else "offline"


def point_config(record: Record) -> dict[str, Any]:
    """The flat config of a point run: what to filter and group by."""
    case = record.case
    cpu = record.environment.get("cpu", {})
    return {
        "workload": case.workload,
        "size": case.size,
        "device": record.arm.requested,
        "dtype": case.dtype,
        "precision": case.precision,
        "variant": case.variant,
        "seed": case.seed,
        **{f"param_{name}": value for name, value in case.params.items()},
        "device_kind": record.arm.kind,
        "cpu_model": cpu.get("model"),
        "cpu_cores": cpu.get("cores"),
        "cpu_threads": cpu.get("threads"),
        "case_id": record.case_id,
        "arm_id": record.arm_id,
        "pair_id": record.pair_id,
        "sweep_id": record.sweep_id,
        "paired": record.paired,
        "jaxaccel_version": record.jaxaccel_version,
        **{f"version_{name}": value for name, value in record.environment.get("packages", {}).items()},
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
    found |= {"first_call_s": record.first_call_s, "spent/total_s": record.spent_s.total}
    if record.error:
        found["error"] = record.error.message
    return {name: value for name, value in found.items() if value is not None}


def _ceiling_summary(ceilings: Ceilings) -> dict[str, Any]:
    named = {
        "memory_bytes_per_s": ceilings.memory,
        "compute_flops_per_s": ceilings.compute,
        **{f"{metric}_bytes_per_s": ceiling for metric, ceiling in ceilings.transfers.items()},
    }
    return {f"ceiling/{name}": ceiling.rate_per_s for name, ceiling in named.items() if ceiling}


def _log_point(record: Record, folder: Path, config: WandbConfig, mode: str) -> None:
    import wandb

    case, device = record.case, record.arm.requested
    with wandb.init(
        project=config.project,
        entity=config.entity,
        name=f"{case.workload}-{case.size}-{device}",
        group=record.sweep_id,
        job_type="point",
        tags=[case.workload, device],
        config=point_config(record),
        dir=str(folder),
        mode=cast("Literal['online', 'offline']", mode),
        settings=wandb.Settings(**_settings()),
    ) as run:
        run.summary.update(point_summary(record))


def _settings() -> dict[str, Any]:
    """Lean, quiet, bounded in time, and flushed at once. Names that this wandb does not know are left out."""
    import wandb

    wanted = {
        "init_timeout": INIT_TIMEOUT_S,
        "finish_timeout": FINISH_TIMEOUT_S,
        "finish_timeout_raises": True,
        # Without it, a killed process loses everything of its first 15 s.
        "x_transaction_log_flush_interval": 1,
        "x_disable_stats": True,
        "x_disable_meta": True,
        "x_save_requirements": False,
        "disable_git": True,
        "console": "off",
        "silent": True,
        "save_code": False,
    }
    return {name: value for name, value in wanted.items() if name in wandb.Settings.model_fields}


def _closing_line(sent: Mapping[str, int], folder: Path, reason: str) -> str:
    parts = []
    if online := sent.get("online"):
        parts.append(f"{_runs(online)} sent")
    if offline := sent.get("offline"):
        because = f" ({reason})" if reason else ""
        publish = f"to publish: wandb login && wandb sync {folder}/wandb/offline-run-*"
        parts.append(f"{_runs(offline)} kept offline{because}; {publish}")
    return "W&B: " + "; ".join(parts)


def _runs(count: int) -> str:
    return f"{count} run{'s' if count != 1 else ''}"


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]

"""Faults that need a GPU: signals while a kernel spins, two TMPDIRs, memory that others hold, 3,000 arrays.

    python experiments/faults/faults.py --out faults.json

Needs an NVIDIA GPU with at least 100 GB; it takes three minutes. Prints a line a fault; writes them as JSON.
"""

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import psutil

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
IDLE = tuple(f"{percent} %" for percent in range(50))  # as nvidia-smi writes it
SIGNALS = ("SIGTERM", "SIGINT", "SIGHUP", "SIGQUIT", "SIGKILL")
COMMON = ("device=gpu", "timing=quick", "wandb=disabled", "ceilings=off")
SHORT = (*COMMON, "timing.limit_s=0.2", "metrics=[latency]")


def start(*arguments: str, cwd: Path | None = None, **variables: str) -> subprocess.Popen[str]:
    """jaxaccel.run in a folder of its own."""
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    return subprocess.Popen(
        [sys.executable, "-m", "jaxaccel.run", *arguments],
        cwd=cwd or tempfile.mkdtemp(),
        env=os.environ | {"PYTHONPATH": path} | variables,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def asked(query: str) -> list[str]:
    """What nvidia-smi answers, a line each."""
    command = ["nvidia-smi", f"--query-{query}", "--format=csv,noheader"]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()


def left() -> int:
    """How many processes of jaxaccel's commands and workers there are."""
    running = psutil.process_iter(["cmdline"])
    return sum(any(word.startswith("jaxaccel.") for word in p.info["cmdline"] or []) for p in running)


def signalled(name: str) -> dict[str, Any]:
    """A signal to the command while its kernel spins, for ever if nobody ends it."""
    process = start(f"fn={HERE / 'hang.py'}:forever", "args=make_args", "size=2048", *SHORT)
    deadline = time.monotonic() + 90
    while (busy := asked("gpu=utilization.gpu")[0]) in IDLE and time.monotonic() < deadline:
        time.sleep(0.5)
    time.sleep(5)
    sent = time.monotonic()
    process.send_signal(getattr(signal, name))
    said, _ = process.communicate(timeout=60)
    ended = time.monotonic()
    while left() and time.monotonic() < ended + 20:
        time.sleep(0.1)
    return {
        "gpu_busy_before": busy,
        "exit_code": process.returncode,
        "seconds_to_end": round(ended - sent, 1),
        "processes_left": left(),
        "processes_on_the_gpu": len(asked("compute-apps=pid")),
        "last_line": said.strip().splitlines()[-1],
    }


def two_folders_for_temporary_files() -> dict[str, Any]:
    """A second command with another TMPDIR, while the first measures."""
    first = start(
        "workload=matmul",
        "size=4096",
        *COMMON,
        "timing.limit_s=2",
        "metrics=[latency]",
        TMPDIR=tempfile.mkdtemp(),
    )
    time.sleep(6)
    second = start("workload=dot", "size=1024", *SHORT, TMPDIR=tempfile.mkdtemp())
    said, _ = second.communicate(timeout=300)
    first.communicate(timeout=300)
    waited = [line for line in said.splitlines() if "waiting" in line]
    return {"exit_codes": [first.returncode, second.returncode], "the_second_said": waited}


def memory_held(share: str) -> dict[str, Any]:
    """Another process holds a share of the GPU's memory."""
    holder = (
        "import sys, jax.numpy as jnp\n"
        "jnp.ones(8).block_until_ready()\n"
        "print('held', flush=True)\n"
        "sys.stdin.read()"
    )
    variables = {"XLA_PYTHON_CLIENT_PREALLOCATE": "true", "XLA_PYTHON_CLIENT_MEM_FRACTION": share}
    found: dict[str, Any] = {}
    with subprocess.Popen(
        [sys.executable, "-c", holder],
        env=os.environ | variables,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        process.stdout.readline()
        for size in (4096, 60000, 150000):
            run = start("workload=matvec", f"size={size}", *SHORT)
            said, _ = run.communicate(timeout=300)
            refused = [line.strip() for line in said.splitlines() if "does not fit" in line]
            found[f"matvec {size}"] = {"exit_code": run.returncode, "refused": refused}
        process.stdin.close()
    return found


def many_leaves(size: int) -> dict[str, Any]:
    """A function of so many small arrays."""
    folder = Path(tempfile.mkdtemp())
    run = start(f"fn={ROOT / 'tests/field/22-many-leaves.py'}:fn", f"size={size}", *COMMON, cwd=folder)
    run.communicate(timeout=300)
    (path,) = folder.rglob("record.json")
    record: Mapping[str, Any] = json.loads(path.read_text())
    timings = {metric: timing["median_s"] for metric, timing in record["timings"].items()}
    return {"exit_code": run.returncode, "status": record["status"], "median_s": timings}


def main() -> int:
    """All faults, one after the other."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    found = {
        **{name: signalled(name) for name in SIGNALS},
        "two TMPDIRs": two_folders_for_temporary_files(),
        **{f"others hold {share}": memory_held(share) for share in ("0.5", "0.95")},
        **{f"{size} arrays": many_leaves(size) for size in (300, 3000)},
    }
    for name, result in found.items():
        print(f"{name}: {json.dumps(result)}")
    options.out.write_text(json.dumps(found, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())

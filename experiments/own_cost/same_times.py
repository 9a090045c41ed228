"""Do two checkouts of jaxaccel measure the same times? Nine cases, the checkouts in turn, three times.

    python experiments/own_cost/same_times.py OLD NEW --device gpu --out times.json
    python experiments/own_cost/same_times.py --show experiments/own_cost/same_times.json

OLD and NEW are folders. Prints the ratio of the medians for each case and metric. Exit code 1 where a device
time differs by more than 1%.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

CASES = {"matvec": "1024,4096,16384", "dot": "524288,8388608,134217728", "mlp": "512,2048,8192"}
TURNS = 3
WITHIN = 0.01
COMMON = ("timing=quick", "timing.limit_s=0.6", "passes=1", "ceilings=off", "wandb=disabled")
Times = dict[str, dict[str, list[float]]]


def measured(tree: Path, workload: str, device: str) -> dict[str, float]:
    """The median of each case and metric, in seconds, as this checkout measures them."""
    here = Path(tempfile.mkdtemp())
    path = os.pathsep.join(filter(None, [str(tree.resolve()), os.environ.get("PYTHONPATH")]))
    arguments = ["-m", f"workload={workload}", f"size={CASES[workload]}", f"device={device}", *COMMON]
    subprocess.run(
        [sys.executable, "-m", "jaxaccel.run", *arguments, "metrics=[latency,throughput,device]"],
        cwd=here,
        env=os.environ | {"PYTHONPATH": path},
        stdout=subprocess.DEVNULL,
        check=True,
    )
    (file,) = here.glob("multirun/*/*/records.jsonl")
    records = map(json.loads, file.read_text().splitlines())
    return {
        f"{workload} {record['case']['size']} {metric}": timing["median_s"]
        for record in records
        for metric, timing in record["timings"].items()
    }


def compared(trees: dict[str, Path], device: str) -> Times:
    """The medians of each turn, by case and metric, and by checkout."""
    found: Times = {}
    for turn in range(TURNS):
        for workload in CASES:
            for name in sorted(trees, reverse=turn % 2 == 0):
                for case, median_s in measured(trees[name], workload, device).items():
                    found.setdefault(case, {}).setdefault(name, []).append(median_s)
        print(f"turn {turn + 1} of {TURNS}: done", file=sys.stderr, flush=True)
    return found


def show(found: Times) -> int:
    """Print a line a case and metric. Returns the exit code."""
    worst = 0.0
    for case in sorted(found, key=lambda case: (case.split()[-1], case)):
        old, new = (statistics.median(found[case][name]) for name in ("old", "new"))
        print(f"{case:28} old {1e6 * old:9.3f} µs  new {1e6 * new:9.3f} µs  ratio {new / old:.4f}")
        if case.endswith(" device"):
            worst = max(worst, abs(new / old - 1))
    print(f"device times differ by at most {worst:.2%}")
    return int(worst > WITHIN)


def main() -> int:
    """Measure or show."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("trees", metavar="OLD NEW", nargs="*", type=Path)
    parser.add_argument("--device", choices=["cpu", "gpu"], default="gpu")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--show", type=Path)
    options = parser.parse_args()
    if options.show:
        return show(json.loads(options.show.read_text()))
    if len(options.trees) != 2:
        parser.error(f"OLD and NEW must be two folders, got {len(options.trees)}")
    found = compared(dict(zip(("old", "new"), options.trees, strict=True)), options.device)
    if options.out:
        options.out.write_text(json.dumps(found, indent=1) + "\n")
    return show(found)


if __name__ == "__main__":
    sys.exit(main())

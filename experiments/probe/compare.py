"""jaxaccel beside probe.py: the same cases, in processes that do not know of each other.

    python experiments/probe/compare.py --device gpu --out results.json
    python experiments/probe/compare.py --show experiments/probe/h200.json    # the table again

Half of the probe's eight processes run before jaxaccel's five passes, half after. jaxaccel agrees where its
device time and throughput are within 1% of the probe's medians. Where the probe's own processes differ by
more than 1%, it is enough that they lie inside the spread of these. Latency must lie inside the spread of the
eight. Prints a table; exit code 1 where one does not agree.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
sys.path.insert(0, str(HERE))

from probe import CASES  # noqa: E402

WITHIN = 0.01
METRICS = ("device", "throughput", "latency")
WITH_THROUGHPUT = 4  # of the probe's processes: it takes two seconds a case


def probed(options: argparse.Namespace, index: int, cache: str) -> dict[str, Any]:
    """What a fresh process of the probe measures. The first one compiles for all."""
    command = [sys.executable, str(HERE / "probe.py"), "--device", options.device]
    command += ["--small"] if options.small else []
    command += [] if index % 2 == 0 or options.processes <= WITH_THROUGHPUT else ["--no-throughput"]
    variables = {
        "JAX_COMPILATION_CACHE_DIR": cache,
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
    }
    done = subprocess.run(
        [*command, *options.cases],
        env=os.environ | variables,
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    print(f"probe {index + 1} of {options.processes}: done", file=sys.stderr, flush=True)
    return dict(json.loads(done.stdout.splitlines()[-1]))


def arguments_of(case: str, options: argparse.Namespace) -> list[str]:
    """What jaxaccel is asked for a case."""
    kind, size, small = CASES[case]
    words = [f"workload={kind}"]
    if kind == "own":
        words = ["workload=custom", "workload.fn=own_step:step", "workload.args=own_step:make_args"]
        words.append("workload.carry=true")
    # On a CPU the probe has no device time to compare with.
    metrics = "latency,throughput,device" if options.device == "gpu" else "latency,throughput"
    return [
        *words,
        f"size={small if options.small else size}",
        f"device={options.device}",
        f"passes={options.passes}",
        f"timing.limit_s={options.limit_s}",
        f"metrics=[{metrics}]",
        "ceilings=off",
        "wandb=disabled",
    ]


def measured(options: argparse.Namespace) -> dict[str, Any]:
    """Records of jaxaccel's by case, all of one session."""
    with tempfile.TemporaryDirectory() as folder:
        jobs = [
            [*arguments_of(case, options), f"hydra.run.dir=results/{index}"]
            for index, case in enumerate(options.cases)
        ]
        (Path(folder) / "jobs.json").write_text(json.dumps(jobs))
        path = os.pathsep.join(filter(None, [str(HERE), str(ROOT), os.environ.get("PYTHONPATH")]))
        subprocess.run(
            [sys.executable, str(ROOT / "tests/support/several.py"), "jobs.json", options.device],
            cwd=folder,
            env=os.environ | {"PYTHONPATH": path},
            stdout=subprocess.DEVNULL,
            check=False,
        )
        found = {}
        for index, case in enumerate(options.cases):
            record = Path(folder) / "results" / str(index) / "record.json"
            found[case] = json.loads(record.read_text()) if record.exists() else None
        return found


def judge(metric: str, ours: float, theirs: list[float]) -> bool:
    """Whether a median of jaxaccel's agrees with those of the probe's processes."""
    inside = min(theirs) <= ours <= max(theirs)
    if metric == "latency":
        return inside
    spread = max(theirs) / min(theirs) - 1
    return abs(ours / statistics.median(theirs) - 1) <= WITHIN or (spread > WITHIN and inside)


def rows(records: dict[str, Any], probes: list[dict[str, Any]], *, small: bool) -> list[dict[str, Any]]:
    """A case and metric each: both sides' seconds, and whether they agree; None where one has nothing."""
    found = []
    for case, record in records.items():
        kind, size, small_size = CASES[case]
        for metric in METRICS:
            theirs = [value for probe in probes if (value := probe[case].get(metric)) is not None]
            timing = record and record["timings"].get(metric)
            reason = (record or {}).get("error") or (record or {}).get("absent", {}).get(f"timings.{metric}")
            found.append(
                {
                    "case": f"{kind} {small_size if small else size}",
                    "metric": metric,
                    "jaxaccel_s": timing["median_s"] if timing else None,
                    "jaxaccel_ci95_s": timing["ci95_s"] if timing else None,
                    "probe_s": statistics.median(theirs) if theirs else None,
                    "probe_processes_s": theirs,
                    "agrees": judge(metric, timing["median_s"], theirs) if timing and theirs else None,
                    "reason": None if timing else reason,
                }
            )
    return found


def table(found: list[dict[str, Any]]) -> list[str]:
    """As Markdown, in microseconds."""
    lines = ["| case | metric | jaxaccel, µs | probe, µs | ratio | probe's processes, µs | agrees |"]
    lines.append("|---|---|---|---|---|---|---|")
    for row in found:
        ours, theirs, each = row["jaxaccel_s"], row["probe_s"], row["probe_processes_s"]
        ratio = f"{ours / theirs:.3f}" if ours and theirs else ""
        spread = f"{1e6 * min(each):.5g} to {1e6 * max(each):.5g}" if each else ""
        numbers = ["" if value is None else f"{1e6 * value:.5g}" for value in (ours, theirs)]
        agrees = {True: "yes", False: "**no**", None: ""}[row["agrees"]]
        lines.append("| " + " | ".join([row["case"], row["metric"], *numbers, ratio, spread, agrees]) + " |")
    return lines


def summary(found: list[dict[str, Any]]) -> list[str]:
    """The table, how many agree, and why some can't be compared."""
    answers = [row["agrees"] for row in found]
    lines = [*table(found), ""]
    lines.append(
        f"{answers.count(True)} agree, {answers.count(False)} do not, {answers.count(None)} can't be compared"
    )
    for row in found:
        if row["agrees"] is None:
            lines.append(f"  {row['case']}, {row['metric']}: {row['reason'] or 'the probe has none'}")
    return lines


def exit_code(found: list[dict[str, Any]]) -> int:
    """1 where a number does not agree."""
    return int(any(row["agrees"] is False for row in found))


def main() -> int:
    """Both, the table, and the JSON behind it."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--device", choices=["cpu", "gpu"], default="gpu")
    parser.add_argument("--small", action="store_true", help="small sizes, to try it out")
    parser.add_argument("--processes", type=int, default=8, help="of the probe (8)")
    parser.add_argument("--passes", type=int, default=5, help="of jaxaccel (5)")
    parser.add_argument(
        "--limit-s", type=float, default=2.0, help="of sampling a metric, over all passes (2)"
    )
    parser.add_argument("--out", type=Path, default=Path("probe.json"))
    parser.add_argument("--show", type=Path, help="print the table of earlier results; measure nothing")
    parser.add_argument("cases", nargs="*", help="by name; none: all")
    options = parser.parse_args()
    if options.show:
        earlier = json.loads(options.show.read_text())
        found = rows(earlier["records"], earlier["probes"], small=options.small)
        print("\n".join(summary(found)))
        return exit_code(found)
    options.cases = options.cases or list(CASES)
    start = time.monotonic()
    before = options.processes // 2
    with tempfile.TemporaryDirectory() as cache:
        probes = [probed(options, index, cache) for index in range(before)]
        records = measured(options)
        probes += [probed(options, index, cache) for index in range(before, options.processes)]
    found = rows(records, probes, small=options.small)
    options.out.write_text(json.dumps({"rows": found, "probes": probes, "records": records}, indent=1))
    print("\n".join(summary(found)))
    print(f"{time.monotonic() - start:.0f} s")
    return exit_code(found)


if __name__ == "__main__":
    sys.exit(main())

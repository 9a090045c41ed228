"""A table of the steps in tests/libraries: measured by jaxaccel, and by plain JAX in fresh processes.

Values and FLOPs must be equal. jaxaccel's median time must lie between the shortest and the longest median of
the plain processes, or their intervals must meet.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from importlib.util import find_spec
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
TESTS = ROOT / "tests"
sys.path[:0] = [str(ROOT), str(TESTS)]

from jaxaccel.worker.sketch import sketch_leaf  # noqa: E402

# By the library: module:function:what makes its arguments:size. Larger than in the tests.
STEPS = {
    "equinox": ["equinox_step:step:make_args:512"],
    "diffrax": ["diffrax_solve:solve:make_args:4096"],
    "optimistix": ["optimistix_solve:root:root_args:256", "optimistix_solve:minimum:minimum_args:64"],
    "numpyro": ["numpyro_steps:update:update_args:512", "numpyro_steps:gradient:gradient_args:512"],
    "flax": ["nnx_step:train_step:make_args:512", "linen_step:train_step:make_args:512"],
}


def environment(device: str, **more: str) -> dict[str, str]:
    """In which both sides run: on one device, without JAX's other settings."""
    path = os.pathsep.join(filter(None, [str(TESTS / "libraries"), str(ROOT), os.environ.get("PYTHONPATH")]))
    platforms = {"JAX_PLATFORMS": "cpu" if device == "cpu" else "cuda,cpu"}
    kept = {name: value for name, value in os.environ.items() if not name.startswith("JAX_")}
    return kept | platforms | {"PYTHONPATH": path, "XLA_PYTHON_CLIENT_PREALLOCATE": "false"} | more


def plain(step: str, device: str, for_s: float) -> dict[str, Any]:
    """What a fresh process without jaxaccel says of a step."""
    command = [sys.executable, str(TESTS / "libraries" / "plain.py"), str(for_s), step]
    matched = environment(device, JAX_DEFAULT_MATMUL_PRECISION="highest")  # as jaxaccel has it
    done = subprocess.run(command, env=matched, capture_output=True, text=True, check=True)
    return json.loads(done.stdout)


def measured(steps: list[str], device: str, passes: int) -> list[dict[str, Any] | None]:
    """Records of all steps, made in one session; None where there is none."""
    with tempfile.TemporaryDirectory() as folder:
        jobs = []
        for index, step in enumerate(steps):
            module, fn, args, size = step.split(":")
            jobs.append(
                [
                    "workload=custom",
                    f"workload.fn={module}:{fn}",
                    f"workload.args={module}:{args}",
                    f"size={size}",
                    f"device={device}",
                    f"passes={passes}",
                    "metrics=[latency,throughput]",
                    "ceilings=off",
                    "wandb=disabled",
                    f"hydra.run.dir=results/{index}",
                ]
            )
        (Path(folder) / "jobs.json").write_text(json.dumps(jobs))
        command = [sys.executable, str(TESTS / "support/several.py"), "jobs.json", device]
        subprocess.run(command, cwd=folder, env=environment(device), stdout=subprocess.DEVNULL, check=False)
        paths = [Path(folder) / "results" / str(index) / "record.json" for index in range(len(steps))]
        return [json.loads(path.read_text()) if path.exists() else None for path in paths]


def same_values(record: dict[str, Any], results: list[list[Any]]) -> str:
    """Whether each array that jaxaccel saw is one that plain JAX gives: exactly, or how nearly."""
    import ml_dtypes  # noqa: F401  # NumPy then knows bfloat16 by name
    import numpy as np

    expected = [
        sketch_leaf(np.frombuffer(bytes.fromhex(content), dtype).reshape(shape))
        for dtype, shape, content in results
    ]
    worst = 0.0
    for leaf in record["accuracy"]["sketch"]:
        alike = [one for one in expected if (one.dtype, list(one.shape)) == (leaf["dtype"], leaf["shape"])]
        if any((one.digest, list(one.projections)) == (leaf["digest"], leaf["projections"]) for one in alike):
            continue
        errors = [
            float(np.linalg.norm(np.subtract(one.projections, leaf["projections"]))) / 4 / one.norm
            for one in alike
            if one.norm
        ]
        worst = max(worst, min(errors, default=float("inf")))
    return "equal" if worst == 0 else f"{worst:.0e} apart"


def microseconds(*times_s: float | None) -> str:
    """Times as the table has them."""
    return " to ".join("" if value is None else f"{1e6 * value:.4g}" for value in times_s)


def main() -> int:
    """Print the table. Returns 1 where a step differs."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", default="cpu", choices=["cpu", "gpu"])
    parser.add_argument("--processes", type=int, default=5, help="of plain JAX, a step (5)")
    parser.add_argument("--passes", type=int, default=5, help="of jaxaccel (5)")
    parser.add_argument(
        "--seconds", type=float, default=0.5, help="of sampling, a plain process and time (0.5)"
    )
    parser.add_argument("--out", type=Path, help="a JSON file for the figures behind the table")
    options = parser.parse_args()
    steps = [step for library, several in STEPS.items() if find_spec(library) for step in several]
    half = options.processes // 2  # before and after jaxaccel: a machine changes with time
    times = {step: [plain(step, options.device, options.seconds) for _ in range(half)] for step in steps}
    records = measured(steps, options.device, options.passes)
    for step in steps:
        times[step] += [plain(step, options.device, options.seconds) for _ in range(options.processes - half)]
    print("| step | values | FLOPs | plain JAX | program, µs | plain JAX | as called, µs | plain JAX | |")
    print("|---|---|---|---|---|---|---|---|---|")
    rows, bad = [], 0
    for step, record in zip(steps, records, strict=True):
        name = " ".join(step.split(":")[:2]) + f" {step.split(':')[3]}"
        if record is None or record["status"] != "ok":
            print(f"| {name} | {record['error']['message'] if record else 'not measured'} |")
            bad += 1
            continue
        programs = [one["program_s"] for one in times[step]]
        called = statistics.median(one["as_called_s"] for one in times[step])
        latency = record["timings"]["latency"]
        low, high = latency["ci95_s"] or (latency["median_s"], latency["median_s"])
        inside = low <= max(programs) and high >= min(programs)
        values = same_values(record, times[step][0]["results"])
        flops = record["cost"]["flops"], times[step][0]["flops"]
        uncounted = flops[0] is None and times[step][0]["libraries"]
        good = inside and values == "equal" and (uncounted or flops[0] == flops[1])
        bad += not good
        cells = [
            name,
            values,
            f"calls {' and '.join(uncounted)}" if uncounted else str(flops[0]),
            f"{flops[1]:.0f}",
            f"{microseconds(latency['median_s'])} [{microseconds(low, high)}]",
            microseconds(min(programs), max(programs)),
            microseconds(record.get("as_called_s")),
            microseconds(called),
            "ok" if good else "differs",
        ]
        print("| " + " | ".join(cells) + " |")
        rows.append(
            {
                "step": step,
                "values": values,
                "plain": [{k: v for k, v in one.items() if k != "results"} for one in times[step]],
                "latency": {k: latency[k] for k in ("median_s", "ci95_s")},
                "as_called_s": record.get("as_called_s"),
                "flops": flops[0],
            }
        )
    if options.out:
        options.out.write_text(json.dumps(rows, indent=1))
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())

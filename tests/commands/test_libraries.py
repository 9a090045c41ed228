"""Steps of libraries that people use, with at most four lines added: measured, and as in plain JAX."""

import json
import math
import re
import subprocess
import sys
from collections.abc import Callable, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import ml_dtypes  # noqa: F401  # NumPy then knows bfloat16 by name
import numpy as np
import pytest
from filelock import FileLock
from processes import ROOT, SUPPORT, TESTS, clean_environment, python_path

from jaxaccel.worker.sketch import sketch_leaf

FOLDER = TESTS / "libraries"
# By the library: module:function:what makes its arguments:size.
STEPS = {
    "equinox": ["equinox_step:step:make_args:64"],
    "diffrax": ["diffrax_solve:solve:make_args:64"],
    "optimistix": ["optimistix_solve:root:root_args:32", "optimistix_solve:minimum:minimum_args:16"],
    "numpyro": ["numpyro_steps:update:update_args:32", "numpyro_steps:gradient:gradient_args:32"],
    "flax": ["nnx_step:train_step:make_args:64", "linen_step:train_step:make_args:64"],
}
THERE = [step for library, steps in STEPS.items() if find_spec(library) for step in steps]
CASES = [
    pytest.param(
        step,
        id=step.partition(":")[0] + "-" + step.split(":")[1],
        marks=[] if step in THERE else pytest.mark.skip(f"{library} is not installed: see pyproject.toml"),
    )
    for library, steps in STEPS.items()
    for step in steps
]
QUICKLY = ("device=cpu", "timing=quick", "timing.limit_s=0.05", "wandb=disabled", "ceilings=off")


def process(folder: Path, *command: str) -> str:
    """What a process of Python prints that finds the libraries' steps."""
    path = python_path(FOLDER, ROOT)
    done = subprocess.run(
        [sys.executable, *command],
        cwd=folder,
        env=clean_environment(folder / "tmp") | {"PYTHONPATH": path, "JAX_PLATFORMS": "cpu"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.stdout, done.stderr
    return done.stdout


def once(folder: Path, make: Callable[[], None]) -> Path:
    """The folder, in which `make` has been called: once for all processes of pytest-xdist."""
    with FileLock(f"{folder}.lock"):
        if not folder.exists():
            folder.mkdir()
            make()
    return folder


@pytest.fixture(scope="session")
def plain(shared_folder: Path) -> Mapping[str, Any]:
    """By step: its FLOPs and results in a process without jaxaccel."""
    folder = shared_folder / "plain"
    once(
        folder,
        lambda: (folder / "told").write_text(process(folder, str(FOLDER / "plain.py"), "0", *THERE)) and None,
    )
    lines = (folder / "told").read_text().splitlines()
    return dict(zip(THERE, map(json.loads, lines), strict=True))


@pytest.fixture(scope="session")
def records(shared_folder: Path) -> Mapping[str, Any]:
    """By step: its record. All are measured in one session."""
    folder = shared_folder / "measured"
    jobs = []
    for index, step in enumerate(THERE):
        module, fn, args, size = step.split(":")
        own = [
            "workload=custom",
            f"workload.fn={module}:{fn}",
            f"workload.args={module}:{args}",
            f"size={size}",
        ]
        jobs.append([*QUICKLY, *own, "metrics=[latency,throughput]", f"hydra.run.dir=results/{index}"])

    def measure() -> None:
        (folder / "jobs.json").write_text(json.dumps(jobs))
        process(folder, str(SUPPORT / "several.py"), "jobs.json")

    once(folder, measure)
    found = {step: folder / "results" / str(index) / "record.json" for index, step in enumerate(THERE)}
    return {step: json.loads(path.read_text()) for step, path in found.items() if path.exists()}


def measured(records: Mapping[str, Any], step: str) -> Any:
    record = records[step]
    assert record["status"] == "ok", record["error"]
    return record


@pytest.mark.slow
@pytest.mark.parametrize("step", CASES)
def test_a_step_does_as_much_as_in_plain_jax(
    step: str, records: Mapping[str, Any], plain: Mapping[str, Any]
) -> None:
    record = measured(records, step)
    flops, libraries = record["cost"]["flops"], plain[step]["libraries"]
    if flops is None:  # of a program that calls LAPACK, say
        assert any(name in record["absent"]["cost.flops"] for name in libraries)
    else:
        assert flops == plain[step]["flops"]
    assert record["timings"]["latency"]["median_s"] > 0


@pytest.mark.parametrize("step", CASES)
def test_a_step_computes_what_it_does_in_plain_jax(
    step: str, records: Mapping[str, Any], plain: Mapping[str, Any]
) -> None:
    expected = [
        sketch_leaf(np.frombuffer(bytes.fromhex(content), dtype=dtype).reshape(shape))
        for dtype, shape, content in plain[step]["results"]
    ]
    computed = measured(records, step)["accuracy"]["sketch"]
    assert computed
    for leaf in computed:
        alike = [one for one in expected if (one.dtype, list(one.shape)) == (leaf["dtype"], leaf["shape"])]
        assert any(
            one.digest == leaf["digest"] and list(one.projections) == leaf["projections"] for one in alike
        ), f"{leaf['path']}: {leaf['norm']}, not one of {[one.norm for one in alike]}"
        assert leaf["norm"] is None or math.isfinite(leaf["norm"])


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*_s*.py")), ids=lambda path: path.stem)
def test_few_lines_are_added(path: Path) -> None:
    added = [line for line in path.read_text().splitlines() if line.endswith("# added")]
    assert 2 <= len(added) <= 4
    assert all(re.match(r"def \w+\((size|key|size, key)\):|    return ", line) for line in added)

"""The published studies: their records can be read, and the tables in the texts are made from them."""

import json
import math
import os
import re
import subprocess
import sys
import tarfile
from itertools import product
from pathlib import Path

import numpy as np
import pytest
from processes import ROOT

from jaxaccel.analyze.agreement import of_pair
from jaxaccel.analyze.compare import pair
from jaxaccel.analyze.crossover import Point, conclude
from jaxaccel.analyze.peers import beside, fastest
from jaxaccel.analyze.questions import family_size, point
from jaxaccel.analyze.ranges import value_at
from jaxaccel.cli.identify import contents
from jaxaccel.records import DEVICES, Comparison, Metric, Verdict, decode_record
from jaxaccel.records.store import load_records

TEXTS = [ROOT / "README.md", *sorted(ROOT.glob("experiments/**/README.md"))]
KINDS = "report|rerun|advise|criteria|peers"
BLOCK = re.compile(rf"<!-- ({KINDS}): ([^>]*?) -->\n```\n(.*?)```\n<!-- end -->", re.DOTALL)
BLOCKS = [(text, *found) for text in TEXTS for found in BLOCK.findall(text.read_text())]


@pytest.mark.parametrize(
    "path", sorted(ROOT.glob("experiments/**/records.jsonl")), ids=lambda p: p.parent.name
)
def test_published_records_can_be_read_and_are_accurate(path: Path) -> None:
    records = load_records([path], peers=True)
    assert records
    for record in records:
        assert record.ok, record.error
        assert record.accuracy is not None
        assert record.accuracy.ok is not False
        assert record.accuracy.ok or record.accuracy.sketch  # by which another device's is held against it


def test_accounting_has_each_case_with_all_timings() -> None:
    records = load_records([ROOT / "experiments/accounting"])
    found = {
        (r.case.workload, r.case.size, r.case.dtype, r.case.precision, r.arm.requested): r for r in records
    }
    sizes = {
        "matvec": (256, 1024, 4096, 8192, 16384, 32768),
        "dot": (1 << 15, 1 << 19, 1 << 23, 1 << 25, 1 << 27, 1 << 29),
        "mlp": (256, 512, 1024, 2048, 4096, 8192),
    }
    kinds = [("float32", "highest"), ("float32", "default"), ("bfloat16", "highest"), ("float64", "highest")]
    for workload, (dtype, precision), device in product(sizes, kinds, DEVICES):
        for size in sizes[workload]:
            record = found[workload, size, dtype, precision, device]
            passes = {len({p for p, _, _ in timing.rounds}) for timing in record.timings.values()}
            assert passes == {3 if dtype == "float32" else 1}
            assert set(record.timings) == {m for m in Metric if device == "gpu" or not m.endswith("_pinned")}
    energy = found["matmul", 8192, "bfloat16", "highest", "gpu"].energy
    assert energy is not None
    assert 0 < energy.uncertainty_j < 0.05 * energy.per_call_j


@pytest.mark.parametrize("folder", ["own_code", "two_machines"])
def test_both_devices_computed_the_same_of_the_same_numbers(folder: str) -> None:
    pairs = pair(load_records([ROOT / "experiments" / folder]))
    assert len(pairs) == {"own_code": 16, "two_machines": 2}[folder]
    for comparison in pairs:
        found = of_pair(comparison)
        assert comparison.speedups
        # small_loop has a reference, and needs no other device.
        assert found.agrees if found else comparison.case.workload == "small_loop", comparison.case


def test_two_machines_ran_the_very_same_programs() -> None:
    folder = ROOT / "experiments/two_machines"
    digests = {contents(str(path)) for path in folder.glob("*.bin")}
    assert len(digests) == 2
    for box, device in (("cpu_box", "cpu"), ("gpu_box", "gpu")):
        records = load_records([folder / box])
        assert {record.case.params["sha256"] for record in records} == digests
        assert {record.arm.requested for record in records} == {device}


def measured(folder: str, workload: str) -> list[Comparison]:
    records = load_records([ROOT / "experiments" / folder])
    return [p for p in pair(records) if p.case.workload == workload and p.cpu and p.gpu]


def points(pairs: list[Comparison], question: str) -> list[Point]:
    over = "batch" if pairs[0].case.workload == "mlp_article" else "size"
    known = [(value_at(p.case, over), p.cpu, p.gpu) for p in pairs if p.cpu and p.gpu]
    among = family_size([(cpu, gpu) for _, cpu, gpu in known], question)
    found = (point(question, at, cpu, gpu, among=among) for at, cpu, gpu in known)
    return [one for one in found if one]


def sampling_s(pairs: list[Comparison]) -> float:
    return sum(arm.spent_s.sampling for p in pairs for arm in p.arms)


# How many changes of the winner the searches tell of.
SEARCHES = {
    ("crossover", "matvec"): {"device": 1, "throughput": 1},
    ("crossover", "dot"): {"device": 0, "throughput": 1},
    ("crossover", "matmul"): {"device": 0, "throughput": 1},
    ("crossover", "mlp"): {"device": 0, "throughput": 1},
    ("crossover", "mlp_article"): {"device": 1, "throughput": 0},
    ("crossover_again", "matvec"): {"device": 1, "throughput": 1},
    ("crossover_again", "dot"): {"device": 0, "throughput": 0},
    ("crossover_again", "mlp"): {"device": 0, "throughput": 0},
    ("crossover_near/first", "matvec"): {"throughput": 1},
    ("crossover_near/second", "matvec"): {"throughput": 1},
}


@pytest.mark.slow
@pytest.mark.parametrize(("folder", "workload"), SEARCHES)
def test_searches_on_a_gpu_found_what_a_sweep_found_with_a_fifth_of_its_sampling(
    folder: str, workload: str
) -> None:
    """Where a line through the sizes of the sweep within a factor of the square root of 2 crosses."""
    sweep = "crossover_near/sweep" if folder.startswith("crossover_near") else "crossover_sweep"
    searched, swept = measured(folder, workload), measured(sweep, workload)
    sizes = [one.size for one in points(swept, "throughput")]
    assert len(sizes) >= 8 * math.log2(max(sizes) / min(sizes))
    assert sampling_s(searched) <= 0.2 * sampling_s(swept)
    for question, changes in SEARCHES[folder, workload].items():
        found, every = conclude(question, points(searched, question)), points(swept, question)
        assert len(found.brackets) == changes, question
        for bracket in found.brackets:
            assert bracket.at
            near = [p for p in every if abs(math.log(p.size / bracket.at)) < math.log(2) / 2]
            slope, height = np.polyfit([math.log(p.size) for p in near], [p.log_ratio for p in near], 1)
            assert bracket.low <= math.exp(-height / slope) <= bracket.high, question
            assert slope > 0
        if not found.brackets:
            assert {p.verdict for p in every} & {Verdict.cpu, Verdict.gpu} <= {found.throughout}, question


def test_slope_and_profiler_agree_within_3_percent_above_50_microseconds() -> None:
    records = [r for r in load_records([ROOT / "experiments/clocks"]) if r.timings["device"].median_s > 50e-6]
    assert len(records) == 37
    for record in records:
        assert record.device_time is not None
        assert record.device_time.slope_s == pytest.approx(record.timings["device"].median_s, rel=0.03), (
            record.case
        )


def test_there_are_tables_in_the_texts() -> None:
    assert {text.relative_to(ROOT).as_posix() for text, *_ in BLOCKS} >= {
        "README.md",
        "experiments/accounting/README.md",
        "experiments/rerun/README.md",
    }


@pytest.mark.slow
@pytest.mark.parametrize(("text", "kind", "places", "table"), BLOCKS, ids=lambda value: str(value)[-40:])
def test_a_table_in_a_text_is_what_the_records_give(text: Path, kind: str, places: str, table: str) -> None:
    """Should it fail, paste what the command prints between the marks."""
    command = {
        "report": ["jaxaccel.report"],
        "rerun": ["jaxaccel.selftest", "--rerun"],
        "advise": ["jaxaccel.advise"],
        "criteria": ["studies.criteria"],
        "peers": ["jaxaccel.peers", "report"],
    }[kind]
    # By itself, report would also write its page into the folder of the study.
    plain = ["--format", "table"] if kind == "report" else []
    told = subprocess.run(
        [sys.executable, "-m", *command, *places.split(), *plain],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT / "experiments")},
        check=False,
    )
    lines = [line.rstrip() for line in told.stdout.strip("\n").splitlines()]
    assert table.splitlines() == lines


@pytest.mark.parametrize("path", sorted(ROOT.glob("experiments/**/*.json*")), ids=lambda p: p.name)
def test_no_path_of_a_machine_is_in_a_published_file(path: Path) -> None:
    assert not re.search(r'"(/home|/root|/work|/tmp|/Users)[/"]', path.read_text())


# --- ceilings beside PyTorch's ---------------------------------------------------------------------

CEILINGS = ROOT / "experiments/ceilings"


def reached() -> dict[str, tuple[float, float]]:
    """By what PyTorch was asked for: jaxaccel's best rate, and PyTorch's."""
    torch = json.loads((CEILINGS / "torch.json").read_text())["rates_per_s"]
    ours: dict[str, float] = {}
    for name, ceiling in json.loads((CEILINGS / "gpu.json").read_text())["ceilings"].items():
        if name.startswith("stream ") and ceiling["working_set_bytes"] < 0.99 * 2**30:
            continue
        words = name.split()
        key = {
            "matmul": " ".join(words[:1] + words[2:4]),
            "stream": f"stream {words[2].removeprefix('kind=')}",
            "transfer": words[-1],
        }[words[0]]
        ours[key] = max(ceiling["rate_per_s"], ours.get(key, 0.0))
    return {name: (ours[name], rate) for name, rate in torch.items()}


def test_ceilings_reach_what_pytorch_reaches_within_3_percent() -> None:
    assert len(reached()) == 11
    for name, (ours, theirs) in reached().items():
        assert ours > 0.97 * theirs, name


def test_the_table_of_ceilings_has_the_figures_of_its_records() -> None:
    """Should it fail, paste these rows."""

    def told(rate: float, unit: str) -> str:
        scale, prefix = (1e12, "T") if rate >= 1e12 else (1e9, "G")
        return f"{rate / scale:.3g} {prefix}{unit}"

    rows = []
    for name, (ours, theirs) in reached().items():
        unit = "FLOP/s" if name.startswith("matmul") else "B/s"
        rows.append(f"| {name} | {told(ours, unit)} | {told(theirs, unit)} | {ours / theirs:.2f} |")
    assert "\n".join(rows) in (CEILINGS / "README.md").read_text()


@pytest.mark.slow
def test_the_advice_in_the_readme_is_what_the_records_give() -> None:
    words = ["experiments/accounting", "workload=matvec", "size=3000", "dtype=float32", "precision=highest"]
    told = subprocess.run(
        [sys.executable, "-m", "jaxaccel.advise", *words],
        capture_output=True,
        text=True,
        cwd=ROOT,
        check=True,
    )
    readme = " ".join((ROOT / "README.md").read_text().split())
    assert " ".join(told.stdout.split()) in readme


@pytest.mark.parametrize(
    "path", sorted(ROOT.glob("experiments/frameworks/as_printed_*.json")), ids=lambda p: p.stem
)
def test_what_came_of_the_articles_code_is_counted_of_its_trainings(path: Path) -> None:
    found = json.loads(path.read_text())
    for kind in ("as_printed", "with_sigmoid"):
        each = found[kind]["each"]
        assert found[kind]["trainings"] == len(each) == len({one["seed"] for one in each})
        assert found[kind]["finished"] == sum(one["error"] is None for one in each)
        stopped = sum(one["error"] is not None and one["updates"] == 0 for one in each)
        assert found[kind]["stopped_before_an_update"] == stopped
        for one in each:  # a loss that is a number is that of a training that came to its end
            assert (one["loss"] is None) == (one["error"] is not None)
            assert one["error"] is None or one["error"] in found[kind]["errors"]
    assert all(one["outside"] == 0 for one in found["with_sigmoid"]["each"])


def test_what_jaxaccel_costs_is_told_as_it_was_measured() -> None:
    folder = ROOT / "experiments/own_cost"
    found, text = json.loads((folder / "results.json").read_text()), (folder / "README.md").read_text()
    for sweep in found["sweeps"]:
        wall, own, memory = sweep["wall_s"], sweep["own_s_per_job"], sweep["peak_bytes"] / 1e6
        assert f"| {sweep['jobs']} | {wall:.1f} s | {own:.2f} s | {memory:.0f} MB |" in text
        assert sweep["records"] == sweep["jobs"]
    medians = {name: float(np.median(times)) for name, times in found["help_s"].items()}
    run = medians.pop("run")
    assert f"`--help` is {run:.2f} s for run and {max(medians.values()):.2f} s at most" in text
    report = found["report"]
    assert f"took {report['wall_s']:.1f} s and {report['peak_bytes'] / 1e6:.0f} MB" in text


@pytest.mark.parametrize("name", ["peers", "peers_two_cores"])
def test_a_case_that_jax_is_far_behind_in_ships_a_bundle_with_its_record(name: str) -> None:
    folder = ROOT / "experiments" / name
    found = beside(load_records([folder / "records.jsonl"], peers=True))
    cases = {(b.case.case_id, b.device) for b in found}
    behind = {(b.case.case_id, b.device) for b in found if b.far_behind}
    shipped = set()
    for archive in folder.glob("bundle-*.tar.gz"):
        with tarfile.open(archive) as whole:
            files = {Path(name).name: name for name in whole.getnames()}
            assert {"repro.py", "program.bin", "hlo_before.txt", "hlo_after.txt", "trace"} <= files.keys()
            told = whole.extractfile(files["record.json"])
            assert told
            record = decode_record(told.read())
            shipped.add((record.case.case_id, record.arm.requested))
    assert behind
    assert behind <= shipped <= cases


def test_where_the_time_goes_is_told_by_the_traces() -> None:
    folders = ("experiments/peers", "experiments/variants")
    told = subprocess.run(
        [sys.executable, "experiments/peers/traces.py", *folders],
        capture_output=True,
        text=True,
        cwd=ROOT,
        check=True,
    ).stdout
    readme = (ROOT / "experiments/peers/README.md").read_text()
    assert f"<!-- traces -->\n```\n{told}```\n" in readme


def test_what_the_bundles_came_to_without_jaxaccel_is_counted() -> None:
    said = (ROOT / "experiments/peers/repro.txt").read_text()
    inside, outside = len(re.findall(r"\binside\b", said)), len(re.findall(r"\bOUTSIDE\b", said))
    readme = " ".join((ROOT / "experiments/peers/README.md").read_text().split())
    told = f"of {inside + outside} medians, with those in [variants](../variants/README.md), {inside} lie"
    assert told in readme


# --- targets ---------------------------------------------------------------------------------------


@pytest.mark.slow
def test_the_table_of_targets_says_what_the_records_say() -> None:
    def near_read_ceiling(folder: str, workload: str, size: int, device: str, variant: str) -> str:
        (record,) = (
            r
            for r in load_records([ROOT / "experiments" / folder])
            if (r.case.workload, r.case.size, r.case.dtype, r.case.precision, r.case.variant)
            == (workload, size, "float32", "highest", variant)
            and r.arm.requested == device
        )
        assert record.rates.metric == "device"
        return f"{record.rates.of_memory_ceiling:.0%}"

    def behind(
        workload: str,
        size: int,
        metric: str,
        *,
        device: str = "gpu",
        steps: int = 1,
        variant: str = "direct",
        interval: bool = False,
    ) -> list[str]:
        """JAX beside the fastest peer."""
        found = fastest(beside(load_records([ROOT / "experiments/peers/records.jsonl"], peers=True)))
        (one,) = (
            b
            for b in found
            if (b.case.workload, b.case.size, b.metric, b.device, b.steps, b.case.variant)
            == (workload, size, metric, device, steps, variant)
        )
        assert one.judged.ci95 or not interval
        told = [one.judged.ratio, *(one.judged.ci95 or ())] if interval else [one.judged.ratio]
        return [f"{value:.2f}" for value in told]

    (products,) = load_records([ROOT / "experiments/targets/records.jsonl"])
    assert products.device_time
    assert products.rates.of_compute_ceiling
    in_products = sum(k.share for k in products.device_time.kernels if k.name.startswith("nvjet"))
    rows = (ROOT / "experiments/targets/README.md").read_text().splitlines()
    products_of_vectors = [("matvec", 8192), ("matvec", 16384), ("dot", 1 << 24), ("dot", 1 << 28)]
    on_the_gpu = [*products_of_vectors, ("mlp", 512), ("mlp", 4096), ("mlp_article", 50)]
    matvec, dot = ("accounting", "matvec"), ("accounting", "dot")
    for start, figures in {
        "| GPU, matvec": [
            *(near_read_ceiling(*matvec, size, "gpu", "direct") for size in (8192, 16384, 32768)),
            near_read_ceiling("variants", "matvec", 16384, "gpu", "direct"),
        ],
        "| GPU, dot": [
            *(near_read_ceiling(*dot, 1 << n, "gpu", "direct") for n in (25, 27, 29)),
            near_read_ceiling("variants", "dot", 1 << 28, "gpu", "direct"),
        ],
        "| CPU of 16 cores, best variant from": [
            near_read_ceiling("variants", "dot", 1 << 28, "cpu", "direct"),
            near_read_ceiling("variants", "dot", 1 << 24, "cpu", "direct"),
            near_read_ceiling("variants", "matvec", 4096, "cpu", "multiply_reduce"),
            near_read_ceiling("variants", "matvec", 16384, "cpu", "multiply_reduce"),
            near_read_ceiling("variants", "dot", 1 << 28, "cpu", "best"),
            near_read_ceiling("variants", "dot", 1 << 24, "cpu", "best"),
            near_read_ceiling("variants", "matvec", 4096, "cpu", "best"),
            near_read_ceiling("variants", "matvec", 16384, "cpu", "best"),
        ],
        "| CPU of 2 cores": [
            near_read_ceiling("variants_two_cores", workload, size, "cpu", variant)
            for workload, size, variant in (
                ("matvec", 8192, "direct"),
                ("matvec", 16384, "direct"),
                ("matvec", 4096, "direct"),
                ("dot", 1 << 24, "direct"),
                ("dot", 1 << 26, "direct"),
                ("matvec", 4096, "best"),
                ("matvec", 8192, "best"),
                ("matvec", 16384, "best"),
            )
        ],
        "| GPU, bfloat16 MLP": [
            f"{products.rates.of_compute_ceiling:.0%}",
            f"{in_products:.0%}",
            f"{products.rates.of_compute_ceiling / in_products:.2f}",
        ],
        "| GPU, the work itself": [
            *behind("mlp", 4096, "device", interval=True),
            *behind("mlp", 512, "device"),
            *behind("mlp_article", 50, "device"),
        ],
        "| GPU, single calls": [
            figure for workload, size in on_the_gpu for figure in behind(workload, size, "latency")
        ],
        "| GPU, queued calls": [
            figure for workload, size in on_the_gpu for figure in behind(workload, size, "throughput")
        ],
        "| CPU of 16 cores, best variant no slower": [
            *behind("matvec", 1024, "latency", device="cpu"),
            *behind("dot", 1 << 20, "latency", device="cpu"),
            *behind("matvec", 8192, "latency", device="cpu", variant="best"),
            *behind("matvec", 8192, "throughput", device="cpu", variant="best"),
            *behind("matvec", 16384, "latency", device="cpu", variant="best"),
            *behind("matvec", 16384, "throughput", device="cpu", variant="best"),
            *behind("dot", 1 << 24, "latency", device="cpu"),
            *behind("dot", 1 << 24, "throughput", device="cpu"),
            *behind("mlp", 512, "latency", device="cpu"),
            *behind("mlp", 512, "throughput", device="cpu"),
        ],
        "| GPU, training": [
            figure
            for metric in ("latency", "throughput")
            for figure in behind("mlp_article", 50, metric, steps=100, variant="scan", interval=True)
        ],
    }.items():
        (row,) = (line for line in rows if line.startswith(start))
        told = re.findall(r"\d+%|\b\d+\.\d\d\b", row.split("|")[2])
        assert told == figures, start

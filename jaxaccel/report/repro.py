"""The text of repro.py: a record's program, timed as it was, by JAX and NumPy alone."""

from collections.abc import Mapping, Sequence
from statistics import median
from typing import Any

from jaxaccel.records import CPU_CORES, Metric, Record, Timing
from jaxaccel.records.escape import docstring, python
from jaxaccel.records.redact import without_places
from jaxaccel.report.settings import speed_settings

TIMED = (Metric.latency, Metric.throughput)
# No variables of whoever runs it: which GPU it was is a matter of that machine, and cores are no variable.
NOT_SET = ("CUDA_VISIBLE_DEVICES", CPU_CORES)


def repro(record: Record, takes: Sequence[str]) -> str:
    """The script, of at most 40 lines. `takes`: type and shape of each array that the program reads.

    What a record says stands in it as literals, or inside the docstring, which it can't end.
    """
    version = (record.environment.get("packages") or {}).get("jax") or "of unknown version"
    # What own code set as it was imported has a variable of its name.
    flags = {name.upper(): text for name, text in record.arm.flags.items() if name not in NOT_SET}
    # A record has the flags that were set: whoever runs the script may have set others.
    settings = {
        "XLA_FLAGS": "",
        **speed_settings(flags),
        "JAX_ENABLE_X64": str(record.case.dtype == "float64"),
        "JAX_DEFAULT_MATMUL_PRECISION": record.case.precision,
    }
    known = timed(record)
    told = (f"{python(str(metric))}: {python(_told(timing))}" for metric, timing in known.items())
    words = f"{record.case} of {_clipped(takes)}, by {record.arm.requested} ({record.arm.kind})"
    return TEMPLATE.format(
        words=docstring(without_places(words)),
        jax=docstring(version),
        passes=max(len(timing.passes) for timing in known.values()),
        record=",\n          ".join(told),
        settings=python(settings),
        platform=python(record.arm.platform),
        kept=KEPT.format(cores=int(record.arm.flags[CPU_CORES])) if CPU_CORES in record.arm.flags else "",
    )


def timed(record: Record) -> Mapping[Metric, Timing]:
    """What of a record the script times again."""
    return {metric: record.timings[metric] for metric in TIMED if metric in record.timings}


def _told(timing: Timing) -> Mapping[str, Any]:
    """What the script holds its own time against, and how it is to sample it."""
    return {
        "median_s": timing.median_s,
        # Of one pass, the interval is of that process.
        "ci95_s": list(timing.ci95_s) if timing.ci95_s and timing.ci_over == "passes" else None,
        "depth": timing.depth,
        "rounds": round(len(timing.rounds) / len(timing.passes)),
        "samples": round(median(n for _, _, n in timing.rounds)),
    }


def _clipped(takes: Sequence[str], most: int = 3) -> str:
    more = len(takes) - most
    return ", ".join(takes[:most]) + (f" and {more} more" if more > 0 else "")


# The worker's own way (worker/devices.py), before JAX makes its threads; passes inherit it.
KEPT = "; os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:{cores}])"

TEMPLATE = '''\
"""{words}.
With jax {jax}: python repro.py, beside program.bin, program.json and exact.npz."""
import dataclasses, gc, json, os, pathlib, statistics, subprocess, sys, time
RECORD = {{{record}}}
SETTINGS = {settings}{kept}
if sys.argv[1:] != ["pass"]:  # a pass of the record was a process of its own, and so it is here
    start = dict(args=[sys.executable, __file__, "pass"], env=os.environ | SETTINGS, stdout=-1, check=True)
    runs = [[float(word) for word in subprocess.run(**start).stdout.split()] for _ in range({passes})]
    for (metric, told), here in zip(RECORD.items(), map(statistics.geometric_mean, zip(*runs))):
        recorded, (low, high) = told["median_s"], told["ci95_s"] or (0, 0)
        where = ("inside" if low <= here <= high else "OUTSIDE") + f" {{low:.4g}} to {{high:.4g}}"
        print(f"{{metric}} {{here:.4g}} s, recorded {{recorded:.4g}},", where if high else "too few passes")
    sys.exit()
import jax, jax.export, numpy as np
assert jax.devices()[0].platform == {platform}, jax.devices()
folder, rng, leaf = pathlib.Path(__file__).parent, np.random.default_rng(0), lambda one: isinstance(one, dict)
facts, exact = json.loads((folder / "program.json").read_text()), np.load(folder / "exact.npz")
def make(one):  # the measured numbers, or random ones of their mean and deviation
    some = exact[one["exact"]] if "exact" in one else rng.normal(one["mean"], one["deviation"], one["shape"])
    return some.astype(jax.numpy.dtype(one["dtype"]))
arguments = jax.device_put(jax.tree.map(make, facts["arguments"], is_leaf=leaf), may_alias=False)
stand_in = lambda *_: jax.tree.map(lambda one: jax.numpy.zeros(**one), facts["results"], is_leaf=leaf)
exported = jax.export.export(jax.jit(stand_in, keep_unused=True))(*arguments)
exported = dataclasses.replace(exported, mlir_module_serialized=(folder / "program.bin").read_bytes())
run = jax.jit(exported.call, donate_argnums=(0,) if facts["carries"] else ()).lower(*arguments).compile()
def sample(depth):
    begin, made = time.perf_counter(), []
    for _ in range(depth):
        made.append(run(*arguments))
        if facts["carries"]: arguments[0] = made[-1][0]
    last = made[-1] if facts["carries"] or depth == 1 else made
    last.block_until_ready() if isinstance(last, jax.Array) else jax.block_until_ready(last)
    return (time.perf_counter() - begin) / depth
def burst(depth, samples, warm_s=0.001):
    while warm_s > 0: warm_s -= sample(1)
    return [sample(depth) for _ in range(samples)]
gc.disable(), burst(1, 1, warm_s=0.5)
for told in RECORD.values():
    print(statistics.median(sum((burst(told["depth"], told["samples"]) for _ in range(told["rounds"])), [])))
'''

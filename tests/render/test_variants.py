"""What ran, in words: the variants that were chosen, the steps of a call, XLA's flags; in every table."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from fakes import make_case, make_record, make_timings
from rich.console import Console

from jaxaccel.analyze.advice import families
from jaxaccel.analyze.compare import pair
from jaxaccel.analyze.differences import Aspect, differences
from jaxaccel.records import BEST, Cost, Record, Trial
from jaxaccel.render import rows
from jaxaccel.render.terminal import show_comparisons, show_records
from jaxaccel.render.words import variants
from jaxaccel.render.words.names import family_name
from jaxaccel.wandb.point_run import point

TRIALS = {
    "direct": Trial(time_s=2e-4, ok=True),
    "multiply_reduce": Trial(time_s=1e-4, ok=True),
    "row_loop": Trial(time_s=0.5, ok=False, reason="its first calls took 2500 times as long"),
}


def chosen(device: str, variant: str, size: int = 1024) -> Record:
    record = make_record(
        device,
        case=make_case(size, variant=BEST),
        variants=TRIALS,
        timings=make_timings(device, 1e-3, transfer_s=1e-3),
    )
    return replace(record, arm=replace(record.arm, variant=variant))


def stepping(device: str, latency_s: float, steps: int = 100) -> Record:
    case = make_case(50, workload="mlp_article", variant="scan", params={"steps": steps})
    cost = Cost(flops=1e6, bytes=1e6, steps=steps)
    return make_record(device, case=case, cost=cost, timings=make_timings(device, latency_s, transfer_s=1e-3))


def shown(show: Any, argument: Sequence[Any]) -> str:
    console = Console(width=100, record=True, quiet=True, emoji=False)
    with console.capture() as captured:
        console.quiet = False
        show(console, argument)
    return " ".join(captured.get().split())


def test_a_job_tells_what_was_chosen_from_what_and_what_was_left_out() -> None:
    text = shown(show_records, [chosen("cpu", "multiply_reduce")])
    assert "multiply_reduce, the best of 3" in text
    assert "direct 200 µs, multiply_reduce 100 µs" in text
    assert "not row_loop: its first calls took 2500 times as long" in text
    assert variants.choice(make_record("cpu")) is None


def test_a_table_says_best_against_best_and_what_ran_on_each_device() -> None:
    records = [
        chosen("cpu", "multiply_reduce"),
        chosen("gpu", "direct"),
        chosen("cpu", "multiply_reduce", 4096),
        chosen("gpu", "direct", 4096),
    ]
    text = shown(show_comparisons, pair(records))
    names = "(matvec 1024 best, matvec 4096 best)"
    assert f"best against best: CPU multiply_reduce, GPU direct {names}" in text
    assert "best against" not in shown(show_comparisons, pair([make_record("cpu"), make_record("gpu")]))


def test_best_meets_best_and_never_direct() -> None:
    records = [chosen("cpu", "direct"), make_record("gpu"), make_record("cpu"), chosen("gpu", "direct")]
    pairs = pair(records)
    assert len(pairs) == 2
    for comparison in pairs:
        assert comparison.cpu is not None
        assert comparison.gpu is not None
        assert comparison.cpu.case.variant == comparison.gpu.case.variant
    assert len(families(records)) == 2
    named = {family_name(found[0].cpu.case) for found in families(records)}
    assert named == {"matvec float32 highest", "matvec best float32 highest, best against best"}


def test_a_step_is_told_where_a_call_makes_several() -> None:
    one, other = stepping("cpu", 1e-3), stepping("gpu", 2e-3)
    assert (variants.a_step(one) or "").startswith("10.0 µs latency")
    assert "a step" in shown(show_records, [one])
    assert ": 100 a call" in shown(show_records, [one])
    text = shown(show_comparisons, pair([one, other]))
    assert "a step of mlp_article 50 scan, which makes 100 a call: CPU 10.0 µs latency, GPU 20.0 µs" in text
    assert variants.a_step(stepping("cpu", 1e-3, steps=1)) is None
    assert "a step" not in shown(show_records, [stepping("cpu", 1e-3, steps=1)])


def test_xla_s_flags_are_in_both_tables() -> None:
    record = make_record("cpu")
    flags = {"XLA_FLAGS": "--xla_cpu_multi_thread_eigen=false"}
    flagged = replace(record, arm=replace(record.arm, flags=flags))
    assert "XLA flags --xla_cpu_multi_thread_eigen=false" in shown(show_records, [flagged])
    table = shown(show_comparisons, pair([flagged, make_record("gpu")]))
    assert "XLA flags of the cpu: --xla_cpu_multi_thread_eigen=false" in table
    assert "XLA flags" not in shown(show_records, [record])


def test_rows_and_runs_name_what_ran() -> None:
    (comparison,) = pair([chosen("cpu", "multiply_reduce"), chosen("gpu", "direct")])
    row = rows.row(comparison)
    assert (row["variant"], row["cpu_variant"], row["gpu_variant"]) == (BEST, "multiply_reduce", "direct")
    (stepped,) = pair([stepping("cpu", 1e-3)])
    assert rows.row(stepped)["cpu_steps"] == 100
    run = point(chosen("cpu", "multiply_reduce"), "cpu best")
    assert run.name == "matvec-best-1024-cpu"
    assert (run.config["variant"], run.config["variant_run"]) == (BEST, "multiply_reduce")
    assert point(make_record("cpu"), "cpu").name == "matvec-1024-cpu"


def test_another_best_than_the_baseline_s_is_told() -> None:
    found = differences(chosen("cpu", "direct"), chosen("cpu", "multiply_reduce"))
    assert [(d.aspect, d.name, d.base, d.new) for d in found] == [
        (Aspect.variant, "best", "multiply_reduce", "direct")
    ]
    assert differences(chosen("cpu", "direct"), chosen("cpu", "direct")) == []

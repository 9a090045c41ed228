"""The self-test: it passes what is sound, and fails what is not."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
from fakes import make_record, make_timing

from jaxaccel.analyze import stats
from jaxaccel.config import BadInputError
from jaxaccel.measure.client import Worker
from jaxaccel.publish import store
from jaxaccel.selftest import __main__ as selftest
from jaxaccel.selftest import hardware, rerun, simulated
from jaxaccel.selftest.check import Check, Outcome, share


@pytest.mark.parametrize(
    ("successes", "outcome"), [(95, "passed"), (93, "passed"), (90, "inconclusive"), (80, "failed")]
)
def test_a_share_fails_only_where_chance_can_not_explain_it(successes: int, outcome: str) -> None:
    assert share("x", successes, 100, at_least=0.93).outcome == outcome


def test_simulations_pass_on_sound_statistics() -> None:
    found = list(simulated.checks(200))
    assert len(found) == 14
    assert not [check for check in found if check.outcome is Outcome.failed]


def test_simulations_fail_where_intervals_are_too_narrow(monkeypatch: pytest.MonkeyPatch) -> None:
    honest = stats.t_half_width
    monkeypatch.setattr(stats, "t_half_width", lambda *arguments: honest(*arguments) / 3)
    failed = {check.name for check in simulated.checks(200) if check.outcome is Outcome.failed}
    assert any(name.startswith("interval covers the truth") for name in failed)
    assert "interval over passes covers a rerun" in failed


@pytest.fixture(scope="module")
def worker() -> Worker:
    with Worker("cpu", variables={"JAX_NUM_CPU_DEVICES": "2"}) as fresh:
        yield fresh


@pytest.mark.parametrize("name", hardware.MUTANTS)
def test_each_mutant_is_caught_by_the_invariant_meant_for_it(name: str, worker: Worker) -> None:
    found = hardware._mutant(worker, "cpu", name, hardware.MUTANTS[name])
    assert found.outcome is Outcome.passed, found


def test_an_honest_workload_passes_for_no_mutant(worker: Worker) -> None:
    failure, rounds = hardware._measure(
        worker, hardware._arm("cpu", "jaxaccel.worker.mutants:Matvec", size=64)
    )
    assert failure is None
    assert len(rounds) == 2


def test_a_call_of_known_duration_never_takes_less(worker: Worker) -> None:
    assert hardware._known_duration(worker, "cpu").outcome is Outcome.passed


def test_a_rerun_inside_the_interval_is_covered_and_one_outside_is_not() -> None:
    passes = [[[level * factor] * 20 for factor in (1.0, 1.01, 0.99)] for level in (1e-4, 1.1e-4, 0.9e-4)]
    bursts = [
        stats.Burst(index, order, tuple(samples))
        for index, rounds in enumerate(passes)
        for order, samples in enumerate(rounds)
    ]
    timing = stats.summarize(bursts, converged=True)
    first = replace(make_record("cpu"), timings={"latency": timing})
    near = replace(first, timings={"latency": replace(timing, median_s=1.05e-4)})
    far = replace(first, timings={"latency": replace(timing, median_s=5e-4)})
    assert next(iter(rerun.checks([first], [near]))).found == "100.0%"
    assert next(iter(rerun.checks([first], [far]))).found == "0.0%"
    with pytest.raises(BadInputError, match="no measured case in common"):
        list(rerun.checks([first], []))


def test_one_pass_is_what_that_pass_alone_had_given() -> None:
    timing = make_timing([[1.0] * 10, [1.0] * 10], [[2.0] * 10, [2.0] * 10])
    assert rerun.only_pass(timing, 0).median_s == 1.0
    assert rerun.only_pass(timing, 1).median_s == 2.0
    assert rerun.only_pass(timing, 0).ci_over == "rounds"


def checked(outcome: Outcome) -> Check:
    return Check(name="it [red]", expected="this", found="that", outcome=outcome)


@pytest.mark.parametrize(
    ("outcome", "code"),
    [(Outcome.passed, 0), (Outcome.inconclusive, 0), (Outcome.skipped, 0), (Outcome.failed, 1)],
)
def test_only_a_failure_makes_the_command_fail(
    outcome: Outcome,
    code: int,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(selftest, "_all", lambda *_, **__: [checked(outcome)])
    path = tmp_path / "out.json"
    assert selftest.main(["--quick", "--output", str(path)]) == code
    assert "it [red]" in capsys.readouterr().out
    (written,) = json.loads(path.read_text())["checks"]
    assert written["outcome"] == outcome.value


def test_rerun_reads_two_folders(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("first", "second"):
        store.save_all([make_record("cpu")], tmp_path / name)
    assert selftest.main(["--rerun", str(tmp_path / "first"), str(tmp_path / "second")]) == 0
    assert "cover a rerun" in capsys.readouterr().out
    assert selftest.main(["--rerun", str(tmp_path / "none"), str(tmp_path / "second")]) == 2
    assert "no such file or folder" in capsys.readouterr().err

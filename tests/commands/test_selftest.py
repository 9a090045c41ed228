"""The self-test: it passes what is sound, and fails what is not."""

import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest
from fakes import FakeMeter, failure, make_failed, make_record, make_timing, opened

from jaxaccel.analyze import stats
from jaxaccel.records import DeviceTime, Metric, Problem, Status, store
from jaxaccel.records.errors import BadInputError
from jaxaccel.records.messages import (
    AskRound,
    Close,
    Closed,
    Inspect,
    Inspected,
    Message,
    Open,
    Round,
    Unavailable,
)
from jaxaccel.selftest import __main__ as selftest
from jaxaccel.selftest import clocks, hardware, rerun, simulated
from jaxaccel.selftest.check import Check, Outcome, share
from jaxaccel.session import ceilings, session
from jaxaccel.session.device_locks import DeviceBusyError
from jaxaccel.session.worker_process import Worker


@pytest.mark.parametrize(
    ("successes", "outcome"), [(95, "passed"), (93, "passed"), (90, "inconclusive"), (80, "failed")]
)
def test_a_share_fails_only_where_chance_can_not_explain_it(successes: int, outcome: str) -> None:
    assert share("x", successes, 100, at_least=0.93).outcome == outcome


@pytest.mark.slow
def test_simulations_pass_on_sound_statistics() -> None:
    found = list(simulated.checks(200))
    assert len(found) == 14
    assert not [check for check in found if check.outcome is Outcome.failed]


@pytest.mark.slow
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


@pytest.mark.slow
@pytest.mark.parametrize("name", hardware.MUTANTS)
def test_each_mutant_is_caught_by_the_invariant_meant_for_it(name: str, worker: Worker) -> None:
    found = hardware._mutant(worker, "cpu", name, hardware.MUTANTS[name])
    assert found.outcome is Outcome.passed, found


@pytest.mark.slow
def test_an_honest_workload_passes_for_no_mutant(worker: Worker) -> None:
    failure, rounds = hardware._measure(
        worker, hardware._arm("cpu", "jaxaccel.selftest.mutants:Matvec", size=64)
    )
    assert failure is None
    assert len(rounds) == 2


@pytest.mark.slow
def test_a_cost_that_is_overstated_is_caught_by_no_other_invariant(worker: Worker) -> None:
    arm = hardware._arm("cpu", "jaxaccel.selftest.mutants:OverstatedCost", size=256)
    failure, rounds = hardware._measure(worker, arm)
    assert failure is None
    assert set(rounds) == set(hardware.TIMED)


@pytest.mark.slow
def test_a_session_catches_an_overstated_cost_by_the_ceiling_and_lets_an_honest_one_pass(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(ceilings, "MATMULS", {"cpu": (512,)})  # larger ones take long to open
    monkeypatch.setattr(hardware, "MUTANT_SIZE", 1024)
    monkeypatch.setattr(session, "AGAIN", 1)  # the second time tells no more than the first
    for _ in range(
        3
    ):  # where others keep the machine busy while the ceilings are measured, these are too low
        honest, overstated = hardware._rates("cpu", Worker, FakeMeter())
        assert overstated.outcome is Outcome.passed, overstated
        if honest.outcome is Outcome.passed:
            break
    assert honest.outcome is Outcome.passed, honest


BROKEN = {
    "status": Status.failed,
    "error": Problem(type="rate within the ceiling", message="broken: 9e9 is 900%"),
}


@pytest.mark.parametrize(
    ("honest", "overstated", "changes", "outcomes"),
    [
        ("passed", "broken: 9e9 is 900%", BROKEN, ["passed", "passed"]),
        ("flagged: 110%", "broken: 9e9 is 900%", BROKEN, ["passed", "passed"]),
        ("broken: 200%", "passed", {}, ["failed", "failed"]),
        ("passed", "flagged: 900%", {}, ["passed", "inconclusive"]),  # the host was busy
        ("skipped: no ceiling is measured", "skipped: no ceiling is measured", {}, ["failed", "failed"]),
    ],
)
def test_a_rate_s_verdict_becomes_a_check(
    honest: str, overstated: str, changes: dict[str, Any], outcomes: list[str]
) -> None:
    records = [
        make_record(invariants={"rate within the ceiling": honest}),
        make_record(invariants={"rate within the ceiling": overstated}, **changes),
    ]
    found = list(hardware._within_ceilings("cpu", *records))
    assert [check.outcome for check in found] == outcomes
    assert found[0].found == honest
    assert found[1].found == (
        "caught by “rate within the ceiling”" if outcomes[1] == "passed" else overstated
    )


def test_an_overstated_cost_that_something_else_catches_is_not_caught_by_the_ceiling() -> None:
    other = make_failed("gpu", message="no GPU")
    assert [check.outcome for check in hardware._within_ceilings("gpu", other, other)] == ["failed"] * 2


@pytest.mark.slow
def test_a_call_of_known_duration_never_takes_less(worker: Worker) -> None:
    assert hardware._known_duration(worker, "cpu").outcome is Outcome.passed


# --- the slope, the profiler and CUPTI -------------------------------------------------------------


class ScriptedWorker:
    """Says of each round what the profiler saw, and of the loop what `slope` is: seconds, or why not."""

    def __init__(self, profiler_s: float, slope: float | str, on_round: Message | None = None) -> None:
        self._profiler_s, self._slope, self._on_round = profiler_s, slope, on_round
        self.asked: list[Message] = []

    def ask(self, request: Message) -> Message:
        self.asked.append(request)
        match request:
            case Open():
                return opened("gpu")
            case AskRound():
                samples = (0.5 * self._profiler_s, self._profiler_s, 9 * self._profiler_s)
                return self._on_round or Round(samples_s=samples, depth=1, spent_s=1.0, warmup_s=0.0)
            case Inspect():
                known = not isinstance(self._slope, str)
                return Inspected(
                    device_time=DeviceTime(source="profiler", slope_s=self._slope if known else None),
                    absent={} if known else {"device_time.slope_s": self._slope},
                )
        return Closed()


def on_the_clocks(worker: ScriptedWorker, cupti: list[float] | str, device: str = "gpu") -> list[Check]:
    arm = hardware._arm(device, hardware.MATVEC, size=clocks.SIZE)
    return list(clocks.checks(worker, device, arm, lambda: cupti))


@pytest.mark.parametrize(
    ("slope_s", "cupti_s", "outcomes"),
    [
        (85e-6, 85e-6, ["passed", "passed"]),
        (87e-6, 83e-6, ["passed", "passed"]),
        (88e-6, 85e-6, ["failed", "passed"]),
        (82e-6, 85e-6, ["failed", "passed"]),
        (85e-6, 80e-6, ["passed", "failed"]),
        (21e-6, 340e-6, ["failed", "failed"]),
    ],
)
def test_those_who_time_a_kernel_agree_within_three_percent(
    slope_s: float, cupti_s: float, outcomes: list[str]
) -> None:
    found = on_the_clocks(ScriptedWorker(85e-6, slope_s), [1.0, cupti_s, 0.0])
    assert [check.outcome for check in found] == outcomes


def test_the_kernel_is_timed_in_several_rounds_and_then_inspected() -> None:
    worker = ScriptedWorker(85e-6, 85e-6)
    on_the_clocks(worker, [85e-6])
    kinds = [type(request) for request in worker.asked]
    assert kinds == [Open, *[AskRound] * clocks.ROUNDS, Inspect, Close]
    assert worker.asked[0].metrics == (Metric.device,)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("worker", "cupti", "reasons"),
    [
        (ScriptedWorker(85e-6, "noise"), "no CUPTI", ["noise", "no CUPTI"]),
        (ScriptedWorker(40e-6, 40e-6), [40e-6], ["takes 40.0 µs", "takes 40.0 µs"]),
        (ScriptedWorker(85e-6, 0, Unavailable(reason="lost events")), [85e-6], ["lost events"] * 2),
        (ScriptedWorker(85e-6, 0, failure("Runtime", "it broke")), [85e-6], ["it broke"] * 2),
    ],
)
def test_where_one_of_them_can_not_be_had_that_is_told(
    worker: ScriptedWorker, cupti: list[float] | str, reasons: list[str]
) -> None:
    found = on_the_clocks(worker, cupti)
    assert [check.outcome for check in found] == [Outcome.skipped] * 2
    for check, reason in zip(found, reasons, strict=True):
        assert reason in check.found
    assert isinstance(worker.asked[-1], Close)


def test_a_cpu_is_not_asked() -> None:
    worker = ScriptedWorker(85e-6, 85e-6)
    found = on_the_clocks(worker, [85e-6], device="cpu")
    assert [check.outcome for check in found] == [Outcome.skipped] * 2
    assert all("its device time is the slope" in check.found for check in found)
    assert worker.asked == []


@pytest.mark.slow
@pytest.mark.parametrize(
    ("script", "found"),
    [
        ("import sys; print('noise'); print([8.5e-05, 8.6e-05])", [8.5e-05, 8.6e-05]),
        ("print([])", "CUPTI saw no kernel"),
        ("raise SystemExit('records were dropped')", "CUPTI can't be had: records were dropped"),
        ("import os; os.abort()", "CUPTI can't be had: exit code -6"),
        ("import time; time.sleep(60)", "CUPTI gave no answer within 1 s"),
    ],
)
def test_cupti_s_process_may_end_as_it_likes(
    script: str, found: list[float] | str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    program = tmp_path / "python"
    program.write_text(f"#!{sys.executable}\n{script}\n")
    program.chmod(0o755)
    monkeypatch.setattr(clocks.sys, "executable", str(program))
    monkeypatch.setattr(clocks, "CUPTI_TIMEOUT_S", 1.0)
    assert clocks.cupti() == found


# --- reruns ----------------------------------------------------------------------------------------


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


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--nonsense"], "unrecognized arguments: --nonsense (see --help)"),
        (["--output", "."], "`--output` must be a file, got the folder '.'"),
    ],
)
def test_bad_arguments_are_refused_in_a_line_before_anything_is_measured(
    arguments: list[str],
    message: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(selftest, "_all", lambda *_, **__: pytest.fail("it measures"))
    assert selftest.main(arguments) == 2
    assert capsys.readouterr().err == f"jaxaccel: {message}\n"


def test_checks_that_can_not_be_written_are_shown_and_make_the_command_fail(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "out.json"

    def checks(*_: object, **__: object) -> list[Check]:
        path.mkdir()
        return [checked(Outcome.passed)]

    monkeypatch.setattr(selftest, "_all", checks)
    assert selftest.main(["--quick", "--output", str(path)]) == 1
    said = capsys.readouterr()
    assert "1 passed" in said.out
    assert "jaxaccel: the checks could not be written: " in said.err


def test_a_device_that_others_measure_on_is_not_bad_input(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    busy = Mock(side_effect=DeviceBusyError("another jaxaccel has been measuring on the cpu"))
    monkeypatch.setattr("jaxaccel.session.device_locks.hold_devices", busy)
    assert selftest.main(["--quick"]) == 1


def test_rerun_reads_two_folders(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("first", "second"):
        store.save_all([make_record("cpu")], tmp_path / name)
    assert selftest.main(["--rerun", str(tmp_path / "first"), str(tmp_path / "second")]) == 0
    assert "cover a rerun" in capsys.readouterr().out
    assert selftest.main(["--rerun", str(tmp_path / "none"), str(tmp_path / "second")]) == 2
    assert "no such file or folder" in capsys.readouterr().err

"""The parent's side of a worker: real ones on the CPU, and scripts in place of one that misbehave."""

import ctypes
import io
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from processes import python_path

from jaxaccel.records import CPU_CORES, Arm, Case, Metric, Problem
from jaxaccel.records.messages import (
    AskRound,
    Close,
    Closed,
    Failure,
    Inspect,
    Inspected,
    Open,
    Opened,
    Round,
    Started,
    Unavailable,
    decode_message,
    encode_message,
)
from jaxaccel.session import worker_process
from jaxaccel.session.worker_process import Worker, worker_variables
from jaxaccel.worker.serving import send
from jaxaccel.workloads.matvec import Matvec

# For a worker to find the workloads of this file.
HERE = {"PYTHONPATH": python_path(Path(__file__).parent)}
FAILURE = Failure(error=Problem(type="Known", message="as it was told to"))


@dataclass(frozen=True, kw_only=True)
class Chatty(Matvec):
    """Writes to standard output from Python and from C, as libraries do."""

    def inputs(self, seed: int) -> Any:
        print('{"kind": "Closed", "body": {}}', flush=True)
        os.write(1, b"no message at all\n")
        ctypes.CDLL(None).puts(b"from C")
        ctypes.CDLL(None).fflush(None)
        return super().inputs(seed)


@dataclass(frozen=True, kw_only=True)
class Slow(Matvec):
    """Never comes to an answer."""

    def inputs(self, seed: int) -> Any:
        time.sleep(600)


@dataclass(frozen=True, kw_only=True)
class Aborting(Matvec):
    """Dies as a library does that calls abort()."""

    def inputs(self, seed: int) -> Any:
        os.write(2, b"last words of a library\x1b[2J\n")
        os.abort()


@dataclass(frozen=True, kw_only=True)
class Raising(Matvec):
    """Fails in a way that nobody thought of."""

    def inputs(self, seed: int) -> Any:
        raise KeyError("what nobody thought of\nand a second line")


@pytest.fixture(autouse=True)
def no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("CUDA_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES"):
        monkeypatch.setenv(name, "-1")


@pytest.fixture(scope="module")
def worker() -> Iterator[Worker]:
    with Worker("cpu", variables=HERE) as one:
        assert isinstance(one.ready(), Started)
        yield one


@pytest.fixture
def pretend(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    """pretend(TEXT) is a worker whose process runs the shell script TEXT; `$1` is a file for its messages."""

    def make(script: str, message: bytes = encode_message(FAILURE)) -> Worker:
        (tmp_path / "message").write_bytes(message)
        program = tmp_path / "pretender"
        program.write_text(f"#!/bin/sh\nset -- {tmp_path / 'message'}\n{script}\n")
        program.chmod(0o755)
        monkeypatch.setattr(sys, "executable", str(program))
        return Worker("cpu")

    return make


def request(target: str = "jaxaccel.workloads.matvec:Matvec", *, key: str = "a", **changes: Any) -> Open:
    known: dict[str, Any] = {"size": 5, "dtype": "float32", "precision": "highest", "variant": "direct"}
    return Open(
        key=key, arm=Arm(case=Case(workload="matvec", **known | changes), device="cpu", target=target)
    )


def mine(name: str) -> Open:
    return request(f"{__name__}:{name}")


def failure_of(answer: Any) -> Problem:
    assert isinstance(answer, Failure), answer
    return answer.error


# --- a real worker ---------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_worker_starts_on_one_platform_and_tells_its_device(worker: Worker) -> None:
    started = worker.ready()
    assert isinstance(started, Started)
    assert (started.arm.requested, started.arm.platform) == ("cpu", "cpu")
    assert started.arm.flags["JAX_PLATFORMS"] == "cpu"
    assert CPU_CORES not in started.arm.flags
    assert worker.start_s > 0
    assert {"jax", "numpy"} <= set(started.environment["packages"])
    assert "gpu" not in started.environment


@pytest.mark.slow
def test_a_worker_may_be_kept_to_one_core() -> None:
    before = os.sched_getaffinity(0)
    with Worker("cpu", cores=1) as kept:
        started = kept.ready()
    assert isinstance(started, Started)
    assert started.environment["cpu"]["cores"] == started.environment["cpu"]["threads"] == 1
    assert started.arm.flags[CPU_CORES] == "1"
    assert os.sched_getaffinity(0) == before


@pytest.mark.slow
def test_a_worker_s_start_took_no_longer_than_it_was_waited_for() -> None:
    begin_s = time.monotonic()
    with Worker("cpu") as fresh:
        start_s = fresh.start_s
        waited_s = time.monotonic() - begin_s
    assert 0 < start_s <= waited_s + 0.02


@pytest.mark.slow
def test_a_worker_opens_gives_rounds_and_closes(worker: Worker) -> None:
    opened = worker.ask(replace(request(key="whole"), metrics=tuple(Metric)))
    assert isinstance(opened, Opened)
    assert {Metric.latency, Metric.throughput, Metric.d2h} <= set(opened.metrics)
    assert {f"timings.{metric}" for metric in Metric if metric not in opened.metrics} <= set(opened.absent)
    for metric in opened.metrics:
        burst = worker.ask(AskRound(key="whole", metric=metric))
        if metric is Metric.device and isinstance(burst, Unavailable):
            assert "noise" in burst.reason  # on a busy machine
            continue
        assert isinstance(burst, Round)
        assert burst.samples_s
    found = worker.ask(Inspect(key="whole"))
    assert isinstance(found, Inspected)
    assert (found.energy is None) == ("energy" in found.absent)
    assert isinstance(worker.ask(Close(key="whole")), Closed)


@pytest.mark.slow
def test_a_worker_holds_several_arms_at_once(worker: Worker) -> None:
    for key in ("first", "second"):
        assert isinstance(worker.ask(request(key=key, size=3)), Opened)
    for key in ("second", "first", "second"):
        assert isinstance(worker.ask(AskRound(key=key, metric=Metric.latency)), Round)
    for key in ("first", "second"):
        assert isinstance(worker.ask(Close(key=key)), Closed)


@pytest.mark.slow
def test_what_a_workload_prints_does_not_come_between_the_messages(worker: Worker) -> None:
    assert isinstance(worker.ask(mine("Chatty")), Opened)
    assert isinstance(worker.ask(Close(key="a")), Closed)


@pytest.mark.slow
def test_an_exception_is_an_answer_in_one_line_and_the_worker_goes_on(worker: Worker) -> None:
    problem = failure_of(worker.ask(mine("Raising")))
    assert problem.type == "Key"
    assert "what nobody thought of" in problem.message
    assert "\n" not in problem.message
    assert "Traceback" in (problem.details or "")
    assert isinstance(worker.ask(request(key="after")), Opened)
    assert isinstance(worker.ask(Close(key="after")), Closed)


@pytest.mark.slow
def test_what_a_worker_refuses_says_so(worker: Worker) -> None:
    answer = worker.ask(request(size=10**12))
    assert isinstance(answer, Failure)
    assert answer.refused
    assert "does not fit" in answer.error.message
    broken = worker.ask(mine("Raising"))
    assert isinstance(broken, Failure)
    assert not broken.refused


@pytest.mark.slow
def test_an_arm_that_was_never_opened_is_an_error_and_no_death(worker: Worker) -> None:
    assert failure_of(worker.ask(AskRound(key="nobody", metric=Metric.latency))).type == "Key"
    assert worker.alive


@pytest.mark.slow
def test_a_gpu_that_is_not_there_is_a_failure_with_what_jax_found_and_a_hint() -> None:
    with Worker("gpu") as absent:
        answer = absent.ready()
        problem = failure_of(answer)
        assert problem.type == "NoDevice"
        assert "found no GPU" in problem.message
        assert "JAX 0." in problem.message or "JAX 1." in problem.message
        assert problem.hint
        assert isinstance(answer, Failure)
        assert "packages" in answer.environment
        assert absent.ask(request()) == answer


# --- death -----------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_worker_that_is_killed_in_between_is_a_failure_and_no_hang() -> None:
    with Worker("cpu", variables=HERE) as victim:
        assert isinstance(victim.ready(), Started)
        threading.Timer(0.5, victim.kill).start()
        problem = failure_of(victim.ask(mine("Slow")))
        assert problem.type == "WorkerDied"
        assert f"signal {int(signal.SIGKILL)}" in problem.message
        assert "memory" in (problem.hint or "")
        assert not victim.alive
        assert failure_of(victim.ask(request())).type == "WorkerDied"


def test_whatever_a_worker_says_is_inert() -> None:
    said = io.BytesIO()
    send(said, Unavailable(reason="no \x1b[2Jkernels\n" + "x" * 100_000))
    found = decode_message(said.getvalue())
    assert isinstance(found, Unavailable)
    assert found.reason.startswith(r"no \x1b[2Jkernels\n")
    assert len(found.reason) < 10_000


@pytest.mark.slow
def test_a_worker_that_aborts_leaves_its_last_words() -> None:
    with Worker("cpu", variables=HERE) as victim:
        problem = failure_of(victim.ask(mine("Aborting")))
        assert problem.type == "WorkerDied"
        assert f"signal {int(signal.SIGABRT)}" in problem.message
        assert r"last words of a library\x1b[2J" in (problem.details or "")


def test_a_value_that_xla_can_not_read_is_a_failure_that_names_its_flag() -> None:
    """XLA lists all flags that there are behind it: the last words are not enough."""
    with Worker("cpu", flags=["--xla_cpu_multi_thread_eigen=maybe"]) as ended:
        problem = failure_of(ended.ready())
    assert problem.type == "XlaFlags"
    assert "'maybe' of its flag --xla_cpu_multi_thread_eigen" in problem.message
    assert "device.flags" in (problem.hint or "")


def test_flags_come_after_those_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XLA_FLAGS", "--xla_a=1")
    flags = worker_process.with_flags(["--xla_b=2", "--xla_a=3"])
    assert flags == {"XLA_FLAGS": "--xla_a=1 --xla_b=2 --xla_a=3"}
    assert worker_process.with_flags([]) == {}  # the environment's own are inherited
    monkeypatch.delenv("XLA_FLAGS")
    assert worker_process.with_flags(["--xla_b=2"]) == {"XLA_FLAGS": "--xla_b=2"}


@pytest.mark.slow
def test_a_worker_ends_when_its_parent_leaves() -> None:
    with Worker("cpu") as left:
        left.ready()
        assert left.alive
    assert not left.alive
    left.stop()  # twice does no harm


def test_a_worker_that_never_becomes_ready_is_still_ended(pretend: Any) -> None:
    with pretend("exec cat >/dev/null") as silent:
        assert silent.alive
    assert not silent.alive


# --- a worker that misbehaves ----------------------------------------------------------------------


@pytest.mark.slow
def test_waiting_for_a_slow_answer_costs_the_parent_no_processor_time(pretend: Any) -> None:
    with pretend('sleep 1; cat "$1"') as slow:
        before_s, start_s = time.process_time(), time.monotonic()
        assert slow.ready() == FAILURE
        waited_s = time.monotonic() - start_s
        assert waited_s > 0.5
        assert time.process_time() - before_s < 0.2 * waited_s


def test_silence_ends_in_a_failure(pretend: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker_process, "START_TIMEOUT_S", 0.3)
    with pretend("echo still thinking >&2; exec sleep 600") as silent:
        problem = failure_of(silent.ready())
        assert problem.type == "Timeout"
        assert "no answer within" in problem.message
        assert "still thinking" in (problem.details or "")
    assert not silent.alive


def test_an_answer_may_come_in_pieces_and_be_longer_than_a_pipe_holds(pretend: Any) -> None:
    long = Failure(error=Problem(type="Long", message="x" * 1_000_000))
    with pretend('head -c 10 "$1"; sleep 0.1; tail -c +11 "$1"', encode_message(long)) as talkative:
        assert talkative.ready() == long


@pytest.mark.parametrize(
    "line",
    [b"not json\n", b"{}\n", b'{"kind": "Nonsense", "body": {}}\n', b'{"kind": "Started", "body": 3}\n'],
)
def test_an_answer_that_is_no_message_is_a_failure(pretend: Any, line: bytes) -> None:
    with pretend('cat "$1"; exec sleep 5', line) as babbling:
        assert failure_of(babbling.ready()).type == "Protocol"
        babbling.kill()


def test_a_worker_that_begins_with_something_else_is_a_failure(pretend: Any) -> None:
    with pretend('cat "$1"', encode_message(Closed())) as confused:
        problem = failure_of(confused.ready())
        assert problem.type == "Protocol"
        assert "Closed" in problem.message


def test_a_worker_that_dies_at_once_says_how(pretend: Any) -> None:
    with pretend("echo no module of that name >&2; exit 7") as dead:
        problem = failure_of(dead.ready())
        assert problem.type == "WorkerDied"
        assert "exited with code 7" in problem.message
        assert "no module of that name" in problem.message


# --- its environment -------------------------------------------------------------------------------


def test_a_worker_s_first_platform_is_its_device_s(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JAX_PLATFORMS", "cuda,cpu")
    assert worker_variables("cpu")["JAX_PLATFORMS"] == "cpu"
    first, beside = worker_variables("gpu")["JAX_PLATFORMS"].split(",")
    assert first not in ("", "cpu")
    assert beside == "cpu"  # where own code makes its arguments


def test_the_gpu_s_platform_is_that_of_the_plugin(monkeypatch: pytest.MonkeyPatch) -> None:
    @dataclass
    class Plugin:
        name: str

    for names, platform in {
        (): "cuda",
        ("xla_cuda13",): "cuda",
        ("xla_rocm7",): "rocm",
        ("tpu", "xla_cuda12"): "cuda",
    }.items():
        plugins = [Plugin(name) for name in names]
        monkeypatch.setattr("importlib.metadata.entry_points", lambda group, found=plugins: found)
        assert worker_process.gpu_platform() == platform


def test_what_the_user_has_set_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    name = "XLA_PYTHON_CLIENT_PREALLOCATE"
    monkeypatch.delenv(name, raising=False)
    assert worker_variables("gpu")[name] == "false"
    monkeypatch.setenv(name, "true")
    assert name not in worker_variables("gpu")


def test_the_compile_cache_is_in_the_user_s_cache_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("JAX_COMPILATION_CACHE_DIR", raising=False)
    assert "jaxaccel" in worker_variables("cpu")["JAX_COMPILATION_CACHE_DIR"]

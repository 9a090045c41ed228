"""No process outlives its command: whatever own code starts, and however worker, keeper or command end."""

import os
import signal
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from textwrap import dedent
from typing import IO, cast

import psutil
import pytest
from own_request import request
from processes import LEAN, QUICK, RunCli, settings

from jaxaccel.process.children import MARK, Child, scratch_prefix
from jaxaccel.records import Problem
from jaxaccel.records.messages import Failure, Opened, encode_message
from jaxaccel.session import device_locks, worker_process
from jaxaccel.session.worker_process import Worker

DEADLINE_S = 60.0
Start = Callable[[str], Child]
ANSWER = encode_message(Failure(error=Problem(type="Known", message="as it was told to")))
# Starts processes that stay, each in another way, and returns once all of them run.
STRAY = """
import os, signal, subprocess, sys, time
from pathlib import Path

def stray():
    marker, folder = os.environ["STRAY_MARKER"], Path(os.environ["STRAY_FOLDER"])

    def stay(name):
        for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
            signal.signal(number, signal.SIG_IGN)
        (folder / name).write_text(str(os.getpid()))
        while True:
            time.sleep(600)

    if os.fork() == 0:
        stay("forked")
    if os.fork() == 0:
        os.setpgid(0, 0)
        stay("in-a-group-of-its-own")
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            stay("daemon")
        os._exit(0)
    text = f"import signal, time; signal.signal(15, signal.SIG_IGN); open({str(folder / 'bare')!r}, 'w'); "
    # Nothing but its parents tells where it comes from.
    subprocess.Popen([sys.executable, "-c", text + "time.sleep(600)", marker], env={}, start_new_session=True)
    while len(list(folder.iterdir())) < 4:
        time.sleep(0.01)
"""
STRAYING = "from jaxaccel.process.children import keep\nkeep()\n" + STRAY + "stray()\n"
PROGRAM = STRAYING + "print('ready', flush=True)\n"
HANGS = "signal.signal(signal.SIGTERM, signal.SIG_IGN)\nwhile True: time.sleep(600)\n"
OWN_CODE = (
    STRAY
    + """
def make_args(size, dtype, key):
    import jax
    stray()
    Path(os.environ["STRAY_READY"]).touch()
    while os.environ["STRAY_HANGS"] == "1":
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        time.sleep(600)
    return (jax.random.normal(key, (size, size), dtype),)

def fn(x):
    return x @ x
"""
)
pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="how it is on Linux")


@pytest.fixture
def marker(tmp_path: Path) -> Iterator[str]:
    """A text in the environment or command line of all processes of this test. None is left after it."""
    text = f"stray-{uuid.uuid4().hex}"
    yield text
    for process in running(text):
        process.kill()


@pytest.fixture
def variables(marker: str, tmp_path: Path, environment: dict[str, str]) -> dict[str, str]:
    (tmp_path / "strays").mkdir()
    (tmp_path / "straying.py").write_text(OWN_CODE)
    path = os.pathsep.join(filter(None, [str(tmp_path), os.environ.get("PYTHONPATH")]))
    return {
        **environment,
        "PYTHONPATH": path,
        "STRAY_MARKER": marker,
        "STRAY_FOLDER": str(tmp_path / "strays"),
        "STRAY_READY": str(tmp_path / "ready"),
        "STRAY_HANGS": "1",
    }


def running(marker: str) -> list[psutil.Process]:
    """The processes with this text, but for those that have ended and only wait to be waited for."""
    found = []
    for process in psutil.process_iter():
        try:
            texts = [*process.cmdline(), process.environ().get("STRAY_MARKER")]
            if marker in texts and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
        except psutil.Error:
            continue
    return found


def wait_for(what: Callable[[], object], words: str) -> None:
    until = time.monotonic() + DEADLINE_S
    while not what():
        assert time.monotonic() < until, words
        time.sleep(0.02)


def none_left(marker: str) -> None:
    wait_for(lambda: not running(marker), f"left behind: {running(marker)}")


@pytest.fixture
def start(variables: dict[str, str]) -> Iterator[Start]:
    """start(PROGRAM) is a child that runs it, and has said that it is ready."""
    with ExitStack() as stack:

        def begin(text: str) -> Child:
            child = Child(
                [sys.executable, "-c", text],
                variables=variables,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
            )
            for pipe in (child.stdin, child.stdout):
                stack.callback(cast("IO[bytes]", pipe).close)
            stack.callback(child.end)
            assert cast("IO[bytes]", child.stdout).readline() == b"ready\n"
            return child

        yield begin


# --- a child ---------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize(
    ("end", "code"),
    [
        ("sys.exit(0)", 0),
        ("os._exit(7)", 7),
        ("raise SystemExit('words')", 1),
        ("os.abort()", -signal.SIGABRT),
        ("os.kill(os.getpid(), signal.SIGKILL)", -signal.SIGKILL),
        ("os.kill(os.getpid(), signal.SIGSEGV)", -signal.SIGSEGV),
        ("os.killpg(0, signal.SIGTERM)", -signal.SIGTERM),
        ("os.killpg(0, signal.SIGKILL)", -signal.SIGKILL),
        ("os.kill(os.getppid(), signal.SIGKILL); time.sleep(600)", -signal.SIGKILL),
    ],
)
def test_what_a_child_started_ends_with_it_however_it_ends(
    end: str, code: int, variables: dict[str, str], marker: str, start: Start
) -> None:
    keeper_dies = "getppid" in end
    text = PROGRAM.replace("env={}", "env=dict(os.environ)") if keeper_dies else PROGRAM
    child = start(text + "sys.stdin.read()\n" + end)
    assert len(running(marker)) >= 6  # keeper, child, four strays
    assert child.stdin is not None
    child.stdin.close()
    assert child.wait(DEADLINE_S) == code
    assert running(marker) == []


@pytest.mark.slow
def test_a_child_that_hangs_and_takes_no_signal_is_ended_with_all_that_it_started(
    variables: dict[str, str], marker: str, start: Start
) -> None:
    child = start(PROGRAM + HANGS)
    assert child.wait(0.0) is None
    assert child.end() == -signal.SIGKILL
    assert running(marker) == []
    assert child.end() == -signal.SIGKILL  # twice does no harm


@pytest.mark.slow
def test_a_keeper_that_is_stopped_does_not_help(variables: dict[str, str], marker: str, start: Start) -> None:
    child = start(PROGRAM.replace("env={}", "env=dict(os.environ)") + HANGS)
    child._process.send_signal(signal.SIGSTOP)
    assert child.end() == -signal.SIGKILL
    none_left(marker)


@pytest.mark.slow
def test_a_child_without_a_keeper_is_ended_by_its_parent(
    variables: dict[str, str], marker: str, start: Start
) -> None:
    """As one is that has not come to `keep` yet."""
    text = PROGRAM.replace("keep()\n", "", 1).replace("env={}", "env=dict(os.environ)")
    child = start(text + HANGS)
    assert len(running(marker)) >= 5
    child.end()
    none_left(marker)


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGQUIT])
@pytest.mark.parametrize("when", ["ready", "starting"])
def test_a_child_ends_when_its_parent_is_gone(
    number: int, when: str, variables: dict[str, str], marker: str, tmp_path: Path
) -> None:
    folder = tmp_path / "scratch"
    folder.mkdir()
    child = PROGRAM.replace("keep()\n", f"from pathlib import Path\nkeep(Path({str(folder)!r}))\n", 1) + HANGS
    text = f"""
        import os, subprocess, sys, time
        from jaxaccel.process.children import Child
        child = Child([sys.executable, "-c", {child!r}], variables=os.environ, stdin=subprocess.PIPE,
                      stdout=subprocess.PIPE, stderr=None)
        {"child.stdout.readline()" if when == "ready" else ""}
        print("ready", flush=True)
        time.sleep(600)
    """
    with subprocess.Popen(
        [sys.executable, "-c", dedent(text)], env=variables, stdout=subprocess.PIPE, text=True
    ) as parent:
        assert parent.stdout is not None
        assert parent.stdout.readline() == "ready\n"
        parent.send_signal(number)
        assert parent.wait(DEADLINE_S) == -number
        none_left(marker)
        if when == "ready":
            wait_for(lambda: not folder.exists(), "the keeper left its parent's folder")


@pytest.mark.slow
def test_a_child_ends_when_its_parent_and_its_keeper_are_killed_at_once(
    variables: dict[str, str], marker: str
) -> None:
    child = "from jaxaccel.process.children import keep\nkeep()\nimport os, signal, time\n"
    child += "print(os.getppid(), flush=True)\n" + HANGS
    text = f"""
        import os, subprocess, sys, time
        from jaxaccel.process.children import Child
        child = Child([sys.executable, "-c", {child!r}], variables=os.environ, stdin=subprocess.PIPE,
                      stdout=None, stderr=None)
        time.sleep(600)
    """
    with subprocess.Popen(
        [sys.executable, "-c", dedent(text)], env=variables, stdout=subprocess.PIPE, text=True
    ) as parent:
        assert parent.stdout is not None
        keeper = psutil.Process(int(parent.stdout.readline()))
        assert len(running(marker)) == 3
        keeper.suspend()
        parent.kill()
        parent.wait()
        keeper.kill()
        none_left(marker)


@pytest.mark.slow
def test_the_thread_that_started_a_child_may_end(
    variables: dict[str, str], marker: str, start: Start
) -> None:
    """The kernel takes a thread that forked for the parent, and its end for the parent's."""
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(1) as pool:
        child = pool.submit(start, PROGRAM + "print(sys.stdin.readline(), flush=True)\n").result()
    assert child.stdin is not None
    assert child.stdout is not None
    assert child.wait(0.5) is None
    child.stdin.write(b"alive\n")
    child.stdin.flush()
    assert child.stdout.readline() == b"alive\n"
    child.end()
    none_left(marker)


@pytest.mark.slow
def test_what_code_starts_on_purpose_works_while_its_process_lives(
    variables: dict[str, str], marker: str, tmp_path: Path, start: Start
) -> None:
    text = """
        from jaxaccel.process.children import keep
        if __name__ == "__main__":
            keep()
        import multiprocessing, os, subprocess, sys
        from multiprocessing import shared_memory

        def square(number):
            return number * number

        if __name__ == "__main__":
            for method in ("fork", "spawn", "forkserver"):
                with multiprocessing.get_context(method).Pool(2) as pool:
                    assert pool.map(square, range(5)) == [0, 1, 4, 9, 16]
            shared_memory.SharedMemory(create=True, size=8).unlink()
            assert subprocess.run(["sh", "-c", "exit 3"]).returncode == 3
            child = os.fork() or os._exit(5)
            assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 5
            print("ready", flush=True)
    """
    (tmp_path / "pools.py").write_text(dedent(text))
    with tempfile.TemporaryDirectory() as short:  # the path of a forkserver's socket is limited
        variables["TMPDIR"] = short
        child = start("import runpy; runpy.run_module('pools', run_name='__main__', alter_sys=True)")
        assert child.wait(DEADLINE_S) == 0
    none_left(marker)


@pytest.mark.slow
def test_temporary_folders_of_a_child_that_is_killed_are_removed_and_no_others(
    variables: dict[str, str], marker: str, start: Start
) -> None:
    text = """
        import sys, tempfile, time
        from jaxaccel.process.children import keep, scratch_prefix
        keep()
        tempfile.mkdtemp(prefix=scratch_prefix("trace"))
        print("ready", flush=True)
        time.sleep(600)
    """
    place = Path(variables["TMPDIR"])
    first, second = (start(dedent(text)) for _ in range(2))
    assert len(list(place.glob("jaxaccel-trace-*"))) == 2
    first.end()
    (left,) = place.glob("jaxaccel-trace-*")
    assert second._mark in left.name
    second.end()
    assert list(place.glob("jaxaccel-trace-*")) == []


@pytest.mark.parametrize(
    "module", ["jaxaccel.worker.__main__", "jaxaccel.peers.worker.__main__", "jaxaccel.wandb.sender"]
)
def test_a_program_that_is_kept_has_one_thread_before_it_is_split(module: str) -> None:
    text = f"import os, {module}; print(len(os.listdir('/proc/self/task')))"
    done = subprocess.run([sys.executable, "-c", text], capture_output=True, text=True, check=True)
    assert done.stdout == "1\n"


def test_a_process_that_nobody_keeps_goes_on_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    text = "import os; from jaxaccel.process.children import keep\n"
    text += "p = os.getpid(); keep(); print(p == os.getpid())"
    environment = {name: value for name, value in os.environ.items() if name != MARK}
    for variables in (environment, {**environment, MARK: f"{os.getpid()}-inherited"}):
        done = subprocess.run(
            [sys.executable, "-c", text], env=variables, capture_output=True, text=True, check=True
        )
        assert done.stdout == "True\n"
    monkeypatch.delenv(MARK, raising=False)
    assert scratch_prefix("trace") == f"jaxaccel-trace-{os.getpid()}-"


# --- a worker --------------------------------------------------------------------------------------


def light(tmp_path: Path, said: bytes) -> tuple[str]:
    """A worker's command without JAX, which says this and then hangs."""
    (tmp_path / "light.py").write_text(f"{STRAYING}os.write(1, {said!r})\n{HANGS}")
    return ("light",)


@pytest.mark.slow
def test_a_worker_ends_before_its_device_s_lock_is_free(
    variables: dict[str, str], marker: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    saw = []
    lock = tmp_path / "jaxaccel-cpu.lock"
    ended = worker_process.end_workers

    def end_workers(devices: list[str], *, now: bool) -> None:
        ended(devices, now=now)
        saw.append((now, running(marker), device_locks._lock(lock)))

    monkeypatch.setattr(device_locks, "end_workers", end_workers)
    command = light(tmp_path, ANSWER)
    with (  # noqa: PT012
        pytest.raises(KeyboardInterrupt),
        device_locks.hold_devices(["cpu"], wait_s=0, waiting=print, folder=tmp_path),
    ):
        worker = Worker("cpu", variables=variables, command=command)
        assert isinstance(worker.ready(), Failure)
        assert running(marker)
        raise KeyboardInterrupt
    assert saw == [(True, [], None)]
    assert not worker.alive
    with device_locks.hold_devices(["cpu"], wait_s=0, waiting=print, folder=tmp_path):
        pass


@pytest.mark.slow
def test_a_worker_that_takes_too_long_says_what_to_do(
    variables: dict[str, str], marker: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker_process, "START_TIMEOUT_S", 3.0)
    command = light(tmp_path, b"")
    with Worker("cpu", variables=variables, command=command) as worker:
        answer = worker.ready()
        assert isinstance(answer, Failure)
        assert answer.error.type == "Timeout"
        assert "busy" in (answer.error.hint or "")
        none_left(marker)


@pytest.mark.slow
def test_a_worker_that_crashes_is_noticed_though_its_children_hold_its_pipes(
    variables: dict[str, str], marker: str, tmp_path: Path
) -> None:
    text = OWN_CODE.replace(
        "Path(os.environ[", "os.write(2, b'its last words'); os.abort(); Path(os.environ["
    )
    (tmp_path / "straying.py").write_text(text)
    with Worker("cpu", variables=variables) as worker:
        answer = worker.ask(request("straying"))
        assert isinstance(answer, Failure)
        assert (
            answer.error.message
            == f"the cpu worker was ended by signal {int(signal.SIGABRT)}: "
            + (answer.error.details or "").strip().splitlines()[-1]
        )
        assert "its last words" in (answer.error.details or "")
        assert running(marker) == []


@pytest.mark.slow
def test_a_worker_measures_code_that_leaves_processes_running(variables: dict[str, str], marker: str) -> None:
    with Worker("cpu", variables={**variables, "STRAY_HANGS": "0"}) as worker:
        assert isinstance(worker.ask(request("straying")), Opened)
        assert len(running(marker)) >= 6
    assert running(marker) == []


# --- a command -------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize(
    "number", [signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT, signal.SIGINT, signal.SIGKILL]
)
def test_a_signal_to_the_command_leaves_nothing_running(
    number: int, variables: dict[str, str], marker: str, tmp_path: Path
) -> None:
    own = ["workload=custom", "workload.fn=straying:fn", "workload.args=straying:make_args", "size=8"]
    with subprocess.Popen(
        [sys.executable, "-m", "jaxaccel.run", *own, "timing=quick", "wandb=disabled", *LEAN],
        cwd=tmp_path,
        env=variables,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as command:
        wait_for(
            lambda: (tmp_path / "ready").exists() or command.poll() is not None, "own code was never called"
        )
        assert command.poll() is None, command.communicate()[0]
        assert len(running(marker)) >= 7
        command.send_signal(number)
        command.communicate(timeout=DEADLINE_S)
    none_left(marker)
    # Its lock is free again.
    with device_locks.hold_devices(
        ["cpu"], wait_s=0, waiting=print, folder=Path(variables[device_locks.LOCKS])
    ):
        pass
    assert list(Path(variables["TMPDIR"]).glob("jaxaccel-trace*")) == []


# --- W&B's client ----------------------------------------------------------------------------------


@pytest.mark.slow
def test_keeping_runs_offline_leaves_nothing_among_the_temporary_files(run_cli: RunCli) -> None:
    ran = run_cli(*settings("size=8", *QUICK, "wandb=offline"))
    assert "1 run kept offline" in ran.out, ran.said
    place = ran.cwd.with_name(f"{ran.cwd.name}-tmp")
    assert [path.name for path in place.iterdir()] == ["jaxaccel-cpu.lock"]


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_a_command_that_is_ended_while_it_publishes_leaves_no_client_and_no_file(
    number: int, variables: dict[str, str], marker: str, tmp_path: Path
) -> None:
    (tmp_path / "wandb").mkdir()
    hangs = STRAY + "stray()\nPath(os.environ['STRAY_READY']).touch()\n" + HANGS
    (tmp_path / "wandb" / "__init__.py").write_text(hangs)
    text = """
        from jaxaccel.wandb.send_job import Order
        from jaxaccel.wandb.process import carry_out
        carry_out(Order(runs=(), project="p", entity=None, folder="", mode="online", keep=False))
    """
    with subprocess.Popen(
        [sys.executable, "-c", dedent(text)], env=variables, stderr=subprocess.DEVNULL
    ) as command:
        wait_for((tmp_path / "ready").exists, "W&B was never asked")
        assert len(running(marker)) >= 7
        command.send_signal(number)
        assert command.wait(DEADLINE_S) == -number
    none_left(marker)
    wait_for(lambda: not list(Path(variables["TMPDIR"]).iterdir()), "temporary files were left behind")

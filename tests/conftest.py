"""Fixtures for all rooms of tests."""

import gc
import json
import os
import signal
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from hashlib import sha256
from pathlib import Path

import pytest
from filelock import FileLock
from processes import Ran, RunCli, clean_environment, run_in

from jaxaccel.session.device_locks import LOCKS
from jaxaccel.session.worker_process import worker_variables

# Tests that compute in this process do so as a worker on the CPU does, on a machine with a GPU too.
os.environ |= {name: value for name, value in worker_variables("cpu").items() if name.startswith("JAX_")}
# Under nohup, or in the background of a script, these are ignored, and so they would be in each command.
signal.signal(signal.SIGHUP, signal.SIG_DFL)
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True)
def thawed() -> Iterator[None]:
    """An arm freezes what is there before it is timed: others in this process are to see it again."""
    yield
    gc.unfreeze()


@pytest.fixture(autouse=True)
def own_locks(
    tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No test waits for another, nor for somebody who measures on this machine."""
    name = sha256(request.node.nodeid.encode()).hexdigest()[:12]
    monkeypatch.setenv(LOCKS, str(tmp_path_factory.getbasetemp() / f"locks-{name}"))


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """For processes that a test starts by itself."""
    return clean_environment(tmp_path / "nowhere")


@pytest.fixture
def run_cli(tmp_path: Path) -> RunCli:
    """run_cli(*arguments, cwd=tmp_path / "here", env={}) runs the command line."""

    def run(*arguments: str, cwd: Path = tmp_path / "here", env: Mapping[str, str] | None = None) -> Ran:
        return run_in(cwd, arguments, env or {})

    return run


@pytest.fixture(scope="session")
def shared_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder for all processes of pytest-xdist."""
    base = tmp_path_factory.getbasetemp()
    return base.parent if "PYTEST_XDIST_WORKER" in os.environ else base


@pytest.fixture(scope="session")
def run_once(shared_folder: Path) -> RunCli:
    """run_once(*arguments) runs a command once for all tests that only look at what it gave.

    Once for all processes of pytest-xdist too: a lock and a file carry the result from one to the other.
    """

    def run(*arguments: str, env: Mapping[str, str] | None = None) -> Ran:
        key = sha256(json.dumps([arguments, dict(env or {})]).encode()).hexdigest()[:12]
        saved = shared_folder / f"once-{key}.json"
        with FileLock(f"{saved}.lock"):
            if not saved.exists():
                ran = run_in(shared_folder / f"once-{key}", arguments, env or {})
                saved.write_text(json.dumps(asdict(ran), default=str))
        fields = json.loads(saved.read_text())
        return Ran(**fields | {"cwd": Path(fields["cwd"])})

    return run

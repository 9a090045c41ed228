"""Shared by the tests: the command line in a process of its own, without a GPU and without W&B's account."""

import gc
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import platformdirs
import pytest
from filelock import FileLock

from jaxaccel.measure.client import worker_variables
from jaxaccel.measure.host import LOCKS

# Tests that compute in this process do so as a worker on the CPU does, on a machine with a GPU too.
os.environ |= {name: value for name, value in worker_variables("cpu").items() if name.startswith("JAX_")}

ROOT = Path(__file__).resolve().parent.parent
# The least that is a measurement: what is measured beside it has tests of its own, and one run of all.
LEAN = ("ceilings=off", "metrics=[latency,throughput]")
QUICK = ("timing=quick", "timing.limit_s=0.1", "wandb=disabled", *LEAN)
TIMEOUT_S = 180


@pytest.fixture(autouse=True)
def thawed() -> Iterator[None]:
    """An arm freezes what is there before it is timed: others in this process are to see it again."""
    yield
    gc.unfreeze()


@pytest.fixture(autouse=True)
def own_locks(
    tmp_path_factory: pytest.TempPathFactory, request: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No test waits for another, nor for somebody who measures on this machine."""
    name = sha256(request.node.nodeid.encode()).hexdigest()[:12]
    monkeypatch.setenv(LOCKS, str(tmp_path_factory.getbasetemp() / f"locks-{name}"))


@dataclass(frozen=True, kw_only=True)
class Ran:
    """What a command gave. `cwd` is where it ran, `wall_s` how long."""

    code: int
    out: str
    err: str
    cwd: Path
    wall_s: float

    @property
    def said(self) -> str:
        return self.out + self.err

    @property
    def folder(self) -> Path:
        """The one folder of results that the command left."""
        (folder,) = [*self.cwd.glob("outputs/*/*"), *self.cwd.glob("multirun/*/*")]
        return folder

    def records(self) -> dict[str, dict[str, Any]]:
        """All record.json, by the name of their folder."""
        return {
            path.parent.name: json.loads(path.read_text()) for path in sorted(self.cwd.rglob("record.json"))
        }


RunCli = Callable[..., Ran]


def clean_environment(nowhere: Path) -> dict[str, str]:
    """This process's environment, without anybody's W&B account, and with the GPUs out of sight.

    `nowhere` becomes its folder for temporary files, and for the locks that keep two commands from measuring
    at once: these tests do not time anything.
    """
    nowhere.mkdir(parents=True, exist_ok=True)
    environment = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("WANDB_", "HYDRA_", "JAX_", "PYTEST_"))
    }
    return environment | {
        "TMPDIR": str(nowhere),
        LOCKS: str(nowhere),
        "NETRC": str(nowhere / "netrc"),
        "WANDB_CONFIG_DIR": str(nowhere / "wandb"),
        # Where the compile cache is: the tests share the user's, which is warm.
        "XDG_CACHE_HOME": platformdirs.user_cache_dir(),
        "CUDA_VISIBLE_DEVICES": "-1",
        "HIP_VISIBLE_DEVICES": "-1",
        "ROCR_VISIBLE_DEVICES": "-1",
    }


def run_in(
    cwd: Path, arguments: tuple[str, ...], env: Mapping[str, str], timeout_s: float = TIMEOUT_S
) -> Ran:
    """`python -m jaxaccel.run` with the arguments, in a folder, to its end."""
    cwd.mkdir(parents=True, exist_ok=True)
    start_s = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-m", "jaxaccel.run", *arguments],
        cwd=cwd,
        env={**clean_environment(cwd.with_name(f"{cwd.name}-tmp")), **env},
        capture_output=True,
        text=True,
        timeout=timeout_s,
        check=False,
    )
    wall_s = time.monotonic() - start_s
    return Ran(code=done.returncode, out=done.stdout, err=done.stderr, cwd=cwd, wall_s=wall_s)


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

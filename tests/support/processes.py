"""The command line in a process of its own, without a GPU and without a W&B account; and where files are."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import platformdirs

from jaxaccel.session.device_locks import LOCKS

SUPPORT = Path(__file__).resolve().parent
TESTS = SUPPORT.parent
ROOT = TESTS.parent
# The least that is a measurement: what is measured beside it has tests of its own, and one run of all.
LEAN = ("ceilings=off", "metrics=[latency,throughput]")
QUICK = ("timing=quick", "timing.limit_s=0.1", "wandb=disabled", *LEAN)
TIMEOUT_S = 180


def settings(*arguments: str) -> tuple[str, ...]:
    """Arguments of which the last one of a key stands: a command refuses a key that is given twice."""
    return tuple({argument.partition("=")[0]: argument for argument in arguments}.values())


def python_path(*folders: Path) -> str:
    """PYTHONPATH for a process that imports modules of these folders, and of tests/support."""
    return os.pathsep.join([*map(str, folders), str(SUPPORT), *filter(None, [os.environ.get("PYTHONPATH")])])


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

"""`--help` of each command: what it must not wait for. A test of seconds would fail on a busy machine."""

import subprocess
import sys
from pathlib import Path

import pytest
from processes import TIMEOUT_S, RunCli

from jaxaccel.cli.conf_folder import target_of, usage

COMMANDS = ("run", "crossover", "advise", "report", "dashboard", "export", "selftest")
# Each takes a good part of the 0.8 s that --help may take, or all of it.
HEAVY = ("jax", "jaxlib", "flax", "optax", "scipy", "sklearn", "plotly", "wandb", "wandb_workspaces", "hydra")


@pytest.mark.slow
@pytest.mark.parametrize("command", COMMANDS)
def test_help_waits_for_no_heavy_import(command: str, environment: dict[str, str], tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", f"jaxaccel.{command}", "--help"],
        env=environment,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "usage:" in done.stdout.lower()
    loaded = {line.rpartition("|")[2].strip().partition(".")[0] for line in done.stderr.splitlines()}
    assert "jaxaccel" in loaded, "no list of imports"
    assert loaded.isdisjoint(HEAVY)


@pytest.mark.slow
def test_help_of_run_is_the_one_that_hydra_gives(run_cli: RunCli) -> None:
    # With an argument beside it, Hydra composes it: here of a value that is the default.
    by_hydra = run_cli("seed=0", "--help")
    assert by_hydra.code == 0, by_hydra.err
    assert by_hydra.out.rstrip("\n") == usage().rstrip("\n")
    assert "${" not in usage()


def test_workloads_are_found_by_their_name() -> None:
    assert target_of("matvec") == "jaxaccel.workloads.matvec:Matvec"
    assert target_of("nothing") is None

"""`jaxaccel COMMAND`: which command a line means, and what it hands on."""

import subprocess
import sys
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest
from fakes import make_record, make_timing
from processes import TIMEOUT_S

from jaxaccel import __version__, report, run
from jaxaccel.__main__ import HELP, main
from jaxaccel.process.early import COMMANDS
from jaxaccel.records import store


@pytest.fixture
def ran(monkeypatch: pytest.MonkeyPatch) -> Mock:
    """What `run` was called with."""
    called = Mock(return_value=0)
    monkeypatch.setattr(run, "main", called)
    monkeypatch.setattr("jaxaccel.__main__.leave_on_signals", lambda: None)
    return called


@pytest.mark.parametrize("words", [[], ["--help"], ["-h"]])
def test_alone_it_is_the_help_on_one_screen(words: list[str], ran: Mock, capsys: Any) -> None:
    assert main(words) == 0
    assert capsys.readouterr().out == HELP
    assert len(HELP.splitlines()) <= 24
    assert max(map(len, HELP.splitlines())) <= 110
    assert HELP.partition("Examples:")[2].count("  jaxaccel ") == 3
    assert not ran.called


def test_the_help_names_every_command(ran: Mock) -> None:
    named = [line.split()[0] for line in HELP.splitlines() if line.startswith("  ") and "  " in line.strip()]
    assert {*COMMANDS, "compare"} <= {*named}


def test_the_version_is_told(ran: Mock, capsys: Any) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"jaxaccel {__version__}\n"


@pytest.mark.parametrize(
    ("words", "arguments"),
    [
        (["size=16"], ["size=16"]),
        (["run", "size=16"], ["size=16"]),
        (["-m", "size=16,32"], ["-m", "size=16,32"]),
        (["size=16,32", "device=cpu"], ["-m", "size=16,32", "device=cpu"]),
        (["run", "device=cpu,gpu"], ["-m", "device=cpu,gpu"]),
        (["--multirun", "size=16,32"], ["--multirun", "size=16,32"]),
        (["metrics=[latency,device]"], ["metrics=[latency,device]"]),
        (["device.flags.cpu={a: 1, b: 2}"], ["device.flags.cpu={a: 1, b: 2}"]),
        (["--cfg", "job", "size=16,32"], ["--cfg", "job", "size=16,32"]),
        (["+experiment=x"], ["+experiment=x"]),
        (["run"], []),
        (["run", "--help"], ["--help"]),
    ],
)
def test_what_is_no_command_belongs_to_run_and_a_list_is_a_sweep(
    words: list[str], arguments: list[str], ran: Mock
) -> None:
    assert main(words) == 0
    ran.assert_called_once_with(arguments)


def test_a_word_that_is_no_command_is_refused_with_those_that_are(ran: Mock, capsys: Any) -> None:
    assert main(["reprot", "out"]) == 2
    assert not ran.called
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("jaxaccel: there is no command 'reprot': it must be one of run, crossover, ")
    assert "; did you mean report" in line


@pytest.mark.parametrize(("factor", "code"), [(1.0, 0), (2.0, 3)])
def test_compare_is_report_with_a_baseline_and_says_worse_by_its_exit_code(
    factor: float, code: int, tmp_path: Path, ran: Mock, capsys: Any
) -> None:
    for name, call_s in (("old", 1e-3), ("new", 1e-3 * factor)):
        passes = [[[call_s * (1 + step / 1000)] * 6] * 4 for step in range(-2, 3)]
        timings = {"latency": make_timing(*passes)}
        store.save_all([make_record("cpu", timings=timings)], tmp_path / name)
    places = [str(tmp_path / name) for name in ("old", "new")]
    assert main(["compare", *places]) == code
    told = capsys.readouterr().out
    assert report.main([places[1], "--baseline", places[0]]) == bool(code)
    assert capsys.readouterr().out == told


def test_compare_needs_two_places(ran: Mock, capsys: Any) -> None:
    assert main(["compare", "old", "--format", "csv"]) == 2
    assert capsys.readouterr().err == "jaxaccel: `compare` must be given OLD and NEW, got old --format csv\n"


@pytest.mark.slow
@pytest.mark.parametrize("name", [*COMMANDS, "compare"])
def test_every_command_has_a_help(name: str, environment: dict[str, str], tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "jaxaccel", name, "--help"],
        env=environment,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert "usage:" in done.stdout.lower()
    assert list(tmp_path.glob("outputs")) == []

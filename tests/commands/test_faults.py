"""Faults from outside: consoles that break, folders that can't be written, signals to the command."""

import contextlib
import errno
import os
import resource
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest.mock import Mock, call

import pytest
from fakes import make_record
from processes import ROOT
from studies import study

from jaxaccel import crossover, run
from jaxaccel.cli import commands, keeping
from jaxaccel.cli.exit import command
from jaxaccel.cli.keeping import Keeper, require_room
from jaxaccel.peers import __main__ as peers
from jaxaccel.peers import measuring
from jaxaccel.process import early, signals
from jaxaccel.process.saying import say
from jaxaccel.process.streams import SafeStream, safe_streams
from jaxaccel.records import ArmFacts, Record, decode_record, store
from jaxaccel.records.errors import BadInputError
from jaxaccel.records.messages import Started
from jaxaccel.session.session import Plan
from jaxaccel.session.worker_process import Worker
from jaxaccel.wandb.config import WandbConfig, WandbMode

FULL = OSError(errno.ENOSPC, "No space left on device")
STOPS = (signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT, signal.SIGINT, signal.SIGUSR1)


@pytest.fixture(autouse=True)
def clean(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """No signal is left over from a test, and rescued records come into its folder."""
    (tmp_path / "tmp").mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "tmp"))
    yield
    signals._state.reset()


# --- streams ---------------------------------------------------------------------------------------


@dataclass
class Broken:
    """A stream that fails, in one way; what it took before is `text`."""

    error: Exception
    encoding: str = "utf-8"

    def write(self, text: str) -> int:
        raise self.error

    def flush(self) -> None:
        raise self.error

    def isatty(self) -> bool:
        raise self.error

    def fileno(self) -> int:
        raise self.error


@pytest.mark.parametrize(
    "error", [FULL, BrokenPipeError(), OSError(errno.EIO, "gone"), ValueError("I/O on closed file")]
)
def test_a_stream_that_fails_is_lost_and_nothing_else(error: Exception) -> None:
    stream = SafeStream(Broken(error))
    assert not stream.lost
    assert stream.write("some words\n") == 11
    stream.flush()
    stream.settle()
    assert stream.isatty() is False
    assert stream.lost


def test_a_reader_that_is_slow_does_not_lose_the_stream() -> None:
    stream = SafeStream(Broken(BlockingIOError()))
    stream.write("some words\n")
    stream.flush()
    assert not stream.lost


def test_a_stream_that_was_closed_before_python_started_takes_everything() -> None:
    stream = SafeStream(None)
    print("words", file=stream, flush=True)
    assert stream.lost
    assert stream.isatty() is False


@pytest.mark.parametrize("text", ["±5% …\n", "a file called caf\udce9\n"])
def test_what_an_encoding_has_no_letter_for_is_shown_as_an_escape(text: str, tmp_path: Path) -> None:
    with (tmp_path / "out").open("w", encoding="ascii") as file:
        SafeStream(file).write(text)
    assert (tmp_path / "out").read_text() == text.encode("ascii", "backslashreplace").decode()


def test_python_has_nothing_left_to_fail_with_once_a_stream_is_lost() -> None:
    with open("/dev/full", "w") as full:  # noqa: PTH123
        SafeStream(full).write("words\n" * 100_000)
        full.write("more, which would fail as the file is closed")


CONSOLES = {
    "stdout closed": ">&-",
    "stderr closed": "2>&-",
    "stdin closed": "<&-",
    "all closed": "<&- >&- 2>&-",
    "stdout full": ">/dev/full",
    "both full": ">/dev/full 2>/dev/full",
    "stderr full, stdout closed": ">&- 2>/dev/full",
    "a reader that leaves": "| head -c 1 >/dev/null",
    "both to a reader that leaves": "2>&1 | true",
    "ASCII": ">out 2>err",
}


@pytest.mark.slow
@pytest.mark.parametrize("console", CONSOLES)
def test_a_console_changes_neither_exit_code_nor_files(
    console: str, environment: dict[str, str], tmp_path: Path
) -> None:
    """`report` stands for all commands, which share one way in: it prints a table, and writes a page."""
    store.save(make_record("gpu"), tmp_path / "records")
    if console == "ASCII":
        environment |= {"PYTHONIOENCODING": "ascii", "LC_ALL": "C"}
    words = f"{sys.executable} -m jaxaccel.report records"
    script = f"{words} {CONSOLES[console]}; exit ${{PIPESTATUS[0]}}"
    environment |= {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        ["bash", "-c", script], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "records/report.html").stat().st_size > 10_000
    assert decode_record((tmp_path / "records/record.json").read_bytes())
    assert "Traceback" not in done.stdout + done.stderr
    assert "Exception ignored" not in done.stderr


@pytest.mark.slow
def test_a_terminal_that_vanishes_changes_nothing(environment: dict[str, str], tmp_path: Path) -> None:
    store.save(make_record("gpu"), tmp_path / "records")
    master, slave = os.openpty()
    os.close(master)
    done = subprocess.run(
        [sys.executable, "-m", "jaxaccel.report", "records"],
        cwd=tmp_path,
        env=environment | {"PYTHONPATH": str(ROOT)},
        stdin=slave,
        stdout=slave,
        stderr=slave,
        check=False,
    )
    os.close(slave)
    assert done.returncode == 0
    assert (tmp_path / "records/report.html").exists()


def test_the_next_file_does_not_take_the_place_of_a_closed_standard_output(tmp_path: Path) -> None:
    program = (
        "import os, sys\n"
        "from jaxaccel.process.streams import safe_streams\n"
        "with safe_streams():\n"
        f"    file = open({str(tmp_path / 'record')!r}, 'w')\n"
        "    os.system('echo a child speaks')\n"
        "    sys.exit(file.fileno() < 3)\n"
    )
    (tmp_path / "program.py").write_text(program)
    words = f"{sys.executable} {tmp_path / 'program.py'} <&- >&- 2>&-"
    done = subprocess.run(["bash", "-c", words], env={**os.environ, "PYTHONPATH": str(ROOT)}, check=False)
    assert done.returncode == 0
    assert (tmp_path / "record").read_text() == ""


# --- records ---------------------------------------------------------------------------------------


def records_in(place: Path) -> list[Record]:
    return store.load_records([place])


def file_in_the_way(folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    folder.parent.mkdir(parents=True, exist_ok=True)
    folder.write_text("a file where a folder should be")


def test_a_record_that_was_rescued_comes_to_its_folder_at_the_end(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, record = tmp_path / "out/a", make_record()
    file_in_the_way(folder)
    with Keeper() as keeper:
        keeper.keep(record, [folder])
        assert not keeper.complete
        assert records_in(tmp_path / "tmp") == [record]
        folder.unlink()
    assert keeper.complete
    assert records_in(folder) == [record]
    assert keeper.where(tmp_path / "out") == f"Records: {tmp_path / 'out'}"
    assert list((tmp_path / "tmp").iterdir()) == [], "no copy is left"
    assert "the record is in" in capsys.readouterr().err


def test_a_folder_that_was_removed_is_written_again(tmp_path: Path) -> None:
    record = make_record()
    with Keeper() as keeper:
        keeper.keep(record, [tmp_path / "out/a"])
        shutil.rmtree(tmp_path / "out")
    assert records_in(tmp_path / "out") == [record]
    assert keeper.complete


def test_of_several_passes_the_last_record_is_kept(tmp_path: Path) -> None:
    folder, first, last = tmp_path / "out", make_record(first_call_s=1.0), make_record(first_call_s=2.0)
    file_in_the_way(folder)
    with Keeper() as keeper:
        keeper.keep(first, [folder])
        keeper.keep(last, [folder])
    assert records_in(tmp_path / "tmp") == [last]
    (root,) = (tmp_path / "tmp").iterdir()
    assert keeper.where(folder) == f"0 of 1 records are in {folder}; 1 in {root}"


def test_where_nothing_can_be_written_records_are_printed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(store, "write_whole", Mock(side_effect=FULL))
    records = [make_record("cpu"), make_record("gpu")]
    with Keeper() as keeper:
        for record in records:
            keeper.keep(record, [tmp_path / record.arm.requested])
    said = capsys.readouterr()
    assert [decode_record(line.encode()) for line in said.out.splitlines()] == records
    assert said.err.count("No space left on device; the record is held in memory, and is written again") == 2
    assert keeper.where(tmp_path) == (f"0 of 2 records are in {tmp_path}; 2 printed above as lines of JSON")
    keeper.settle()
    assert capsys.readouterr().out == "", "it is printed once"


def test_where_standard_output_is_lost_records_are_printed_on_standard_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(store, "write_whole", Mock(side_effect=FULL))
    monkeypatch.setattr(sys, "stdout", Broken(FULL))
    with safe_streams(), Keeper() as keeper:
        keeper.keep(make_record(), [tmp_path / "out"])
    assert decode_record(capsys.readouterr().err.splitlines()[-1].encode()) == make_record()
    assert "printed" in keeper.where(tmp_path)
    monkeypatch.setattr(sys, "stderr", Broken(FULL))
    with safe_streams(), Keeper() as keeper:
        keeper.keep(make_record(), [tmp_path / "out"])
    assert keeper.where(tmp_path).endswith("1 lost")


@contextlib.contextmanager
def files_up_to(size: int) -> Iterator[None]:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_limit_to_the_size_of_files_is_found_before_and_survived_after(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with files_up_to(1000):
        with pytest.raises(BadInputError, match=r"can't write to .*out: File too large"):
            require_room([tmp_path / "out"])
        with Keeper() as keeper:
            keeper.keep(make_record(), [tmp_path / "out"])
    assert decode_record(capsys.readouterr().out.encode()) == make_record()
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_room_is_looked_for_in_every_folder_and_leaves_nothing(tmp_path: Path) -> None:
    folders = [tmp_path / "a/b", tmp_path / "c"]
    require_room(folders)
    assert [list(folder.iterdir()) for folder in folders] == [[], []]
    file_in_the_way(tmp_path / "c")
    with pytest.raises(BadInputError, match=r"can't write to .*/c: "):
        require_room(folders)
    with pytest.raises(BadInputError, match=r"the output folder must be UTF-8, got '.*caf\\udce9'"):
        require_room([tmp_path / "caf\udce9"])


# --- whole commands, without workers ---------------------------------------------------------------


@dataclass
class Stage:
    """A command in this process, of which the session is made up: `before` is called before each record."""

    capsys: pytest.CaptureFixture[str]
    before: Callable[[int], None] = lambda _: None
    measured: int = 0
    mains: dict[str, Any] = field(
        default_factory=lambda: {
            "run": lambda: run.main(["-m", "size=16,32,64", "wandb=disabled", "hydra.sweep.dir=out"]),
            "peers": lambda: peers.main(
                ["-m", "size=16,32,64", "device=cpu", "peers.frameworks=[numpy]", "hydra.sweep.dir=out"]
            ),
            "crossover": lambda: crossover.main(
                [
                    "crossover.low=16",
                    "crossover.high=32",
                    "crossover.questions=[latency]",
                    "timing=quick",
                    "wandb=disabled",
                    "hydra.run.dir=out",
                ]
            ),
        }
    )

    def measure(self, plan: Plan, *_: object) -> Iterator[tuple[tuple[int, str], Record]]:
        for index, group in enumerate(plan.groups):
            for name, arm in group.arms.items():
                self.before(self.measured)
                self.measured += 1
                record = make_record(
                    arm.device,
                    case=arm.case,
                    sweep_id=plan.command.sweep_id,
                    arm_id=f"{arm.case.case_id[:8]}-{name.replace(':', '-')}",
                )
                yield (index, name), record

    def __call__(self, name: str) -> tuple[int, str, str]:
        code = self.mains[name]()
        said = self.capsys.readouterr()
        assert "Traceback" not in said.out + said.err
        return code, said.out, said.err


@pytest.fixture
def stage(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Stage:
    made = Stage(capsys)
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.setattr(sys, "argv", ["jaxaccel"])
    monkeypatch.setenv("HYDRA_FULL_ERROR", "1")
    for module in (run, crossover):
        monkeypatch.setattr(module, "Launcher", lambda *_: Mock())
    monkeypatch.setattr("jaxaccel.session.session.measure", made.measure)
    monkeypatch.setattr("jaxaccel.render.page.write_page", lambda _, path, *__: path)
    return made


MEASURING = ("run", "peers", "crossover")


@pytest.mark.slow
@pytest.mark.parametrize("name", MEASURING)
def test_records_that_are_where_they_belong_are_told_in_the_last_line(stage: Stage, name: str) -> None:
    code, out, _ = stage(name)
    assert out.splitlines()[-1] == f"Records: {Path('out').absolute()}"
    assert len(records_or_peers(Path("out"))) == stage.measured > 1
    assert code == 0


def records_or_peers(place: Path) -> list[Record]:
    return store.load_records([place], peers=True)


@pytest.mark.slow
@pytest.mark.parametrize("name", MEASURING)
def test_a_folder_that_is_replaced_by_a_file_costs_no_record(stage: Stage, name: str, tmp_path: Path) -> None:
    stage.before = lambda number: file_in_the_way(Path("out")) if number == 1 else None
    code, out, err = stage(name)
    last = out.splitlines()[-1]
    assert code == 1
    assert last.startswith(f"0 of {stage.measured} records are in {Path('out').absolute()}; ")
    assert last.split("; ")[1].startswith(f"{stage.measured} in {tmp_path / 'tmp'}/jaxaccel-")
    assert len(records_or_peers(tmp_path / "tmp")) == stage.measured
    assert "can't write to" in err


@pytest.mark.slow
@pytest.mark.parametrize("name", MEASURING)
def test_where_every_disk_is_full_records_are_printed(
    stage: Stage, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fill(number: int) -> None:
        if number == 1:
            monkeypatch.setattr(store, "write_whole", Mock(side_effect=FULL))

    stage.before = fill
    code, out, _ = stage(name)
    assert code == 1
    printed = [line for line in out.splitlines() if line.startswith('{"')]
    assert len(printed) == stage.measured - 1
    assert {decode_record(line.encode()).schema_version for line in printed} == {make_record().schema_version}
    total = stage.measured
    assert out.splitlines()[-1] == (
        f"1 of {total} records are in {Path('out').absolute()}; {total - 1} printed above as lines of JSON"
    )


@pytest.mark.slow
@pytest.mark.parametrize("name", MEASURING)
def test_what_can_not_be_written_is_found_before_anything_is_measured(
    stage: Stage, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "fsync", Mock(side_effect=FULL))
    code, out, err = stage(name)
    assert (code, out, stage.measured) == (2, "", 0)
    assert err == f"jaxaccel: can't write to {Path('out').absolute()}: No space left on device\n"
    assert not Path("out").exists()


@pytest.mark.parametrize("main", [run.main, peers.main, crossover.main])
def test_arguments_that_no_record_can_hold_are_refused(
    main: Any, stage: Stage, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["hydra.run.dir=caf\udce9"]) == 2
    assert (
        capsys.readouterr().err == r"jaxaccel: arguments must be UTF-8, got 'hydra.run.dir=caf\udce9'" + "\n"
    )
    assert list(Path().iterdir()) == []


@pytest.mark.slow
@pytest.mark.parametrize("name", MEASURING)
@pytest.mark.parametrize("sent", STOPS)
def test_a_signal_leaves_a_true_last_line_and_its_exit_code(stage: Stage, name: str, sent: int) -> None:
    def stop(number: int) -> None:
        if number == 2:
            os.kill(os.getpid(), sent)
            time.sleep(5)

    stage.before = stop
    code, out, _ = stage(name)
    assert code == 128 + sent
    how = "interrupted" if sent == signal.SIGINT else f"interrupted by {signal.Signals(sent).name}"
    *_, told, places = out.splitlines()
    of = {"run": " of 3", "peers": " of 6", "crossover": ""}[name]
    assert (told, places) == (f"{how}: 2{of} results are there", f"Records: {Path('out').absolute()}")
    assert len(records_or_peers(Path("out"))) == 2


@pytest.mark.slow
@pytest.mark.parametrize("name", MEASURING)
def test_a_signal_just_after_measuring_has_a_true_last_line(
    stage: Stage, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = {"run": run, "peers": measuring, "crossover": crossover}[name]
    finish = module.finish

    def signalled(*arguments: Any, **named: Any) -> Any:
        os.kill(os.getpid(), signal.SIGTERM)
        return finish(*arguments, **named)

    monkeypatch.setattr(module, "finish", signalled)
    code, out, _ = stage(name)
    assert code == 143
    assert out.splitlines()[-1] == f"Records: {Path('out').absolute()}"
    assert len(records_or_peers(Path("out"))) >= 2


@pytest.mark.slow
@pytest.mark.parametrize("name", MEASURING)
def test_a_signal_before_the_first_record_leaves_no_folder(stage: Stage, name: str) -> None:
    stage.before = lambda _: os.kill(os.getpid(), signal.SIGTERM)
    code, out, err = stage(name)
    assert code == 143
    assert "interrupted by SIGTERM" in (out + err).splitlines()[-1]
    assert "Records:" not in out
    assert not Path("out").exists()


@pytest.mark.parametrize("name", MEASURING)
def test_a_signal_while_arguments_are_read_leaves_no_folder(
    stage: Stage, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("jaxaccel.cli.compose.check_functions", lambda _: os.kill(os.getpid(), signal.SIGHUP))
    code, _, err = stage(name)
    assert (code, err) == (129, "jaxaccel: interrupted by SIGHUP before there was a result\n")
    assert not Path("out").exists()


@pytest.mark.slow
@pytest.mark.parametrize("name", MEASURING)
def test_a_device_that_can_not_be_locked_leaves_no_folder(
    stage: Stage, name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "locks").write_text("a file where a folder should be")
    monkeypatch.setenv("JAXACCEL_LOCKS", str(tmp_path / "locks"))
    code, out, err = stage(name)
    assert (code, out) == (2, "")
    assert err.startswith("jaxaccel: no lock can be taken at ")
    assert err.count("\n") == 1
    assert not Path("out").exists()


def test_a_signal_while_records_are_sent_has_a_line_that_tells_how_to_send_the_rest(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def stop(*_: object, **__: object) -> None:
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(5)

    monkeypatch.delenv("WANDB_MODE", raising=False)
    monkeypatch.setattr("jaxaccel.wandb.publish.publish", stop)
    config = WandbConfig(mode=WandbMode.auto, project="jaxaccel")
    with signals.listening():
        commands.send([make_record()], config, Path("out"), sweep_id="", keeper=Keeper())
    assert capsys.readouterr().out == (
        "W&B: interrupted by SIGTERM before all was sent; "
        "to send the rest: python -m jaxaccel.report out --wandb\n"
    )


def test_further_signals_lose_no_record(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    save = store.save

    def slowly(record: Record, folder: Path) -> Path:
        for sent in (signal.SIGTERM, signal.SIGINT, signal.SIGTERM):
            os.kill(os.getpid(), sent)
        return save(record, folder)

    monkeypatch.setattr(signals, "AT_ONCE_S", 0.0)
    monkeypatch.setattr(store, "save", slowly)
    code, out, _ = stage("run")
    assert code == 143
    assert out.splitlines()[-2] == "interrupted by SIGTERM: 1 of 3 results are there"
    assert len([*Path("out").rglob("record.json")]) == 1


def test_a_signal_skips_what_is_done_with_records_that_are_kept(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent = Mock(side_effect=lambda *_, **__: os.kill(os.getpid(), signal.SIGTERM))
    monkeypatch.setattr("jaxaccel.render.page.write_page", sent)
    code, out, _ = stage("run")
    assert (code, sent.call_count) == (143, 1)
    assert out.splitlines()[-2] == "interrupted by SIGTERM: 3 of 3 results are there"


@pytest.mark.parametrize("where", ["render.page.write_page", "render.terminal.show_comparisons"])
def test_what_goes_wrong_with_records_that_are_kept_costs_a_warning(
    where: str, stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(f"jaxaccel.{where}", Mock(side_effect=RuntimeError("a bug")))
    code, out, err = stage("run")
    assert code == 0
    assert err.splitlines()[-1].endswith(" could not be shown: a bug") or "written: a bug" in err
    assert out.splitlines()[-1].startswith("Records: ")


@pytest.mark.slow
def test_what_the_machine_refuses_in_between_ends_the_command_in_order(stage: Stage) -> None:
    def fail(number: int) -> None:
        if number == 2:
            raise FileNotFoundError(errno.ENOENT, "No usable temporary directory")

    stage.before = fail
    code, out, err = stage("run")
    assert code == 1
    assert "jaxaccel: not everything was measured: No usable temporary directory" in err
    assert out.splitlines()[-1].startswith("Records: ")
    assert len(records_in(Path("out"))) == 2


# --- signals ---------------------------------------------------------------------------------------


def test_a_signal_that_was_ignored_stays_so(monkeypatch: pytest.MonkeyPatch) -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with signals.listening():
            os.kill(os.getpid(), signal.SIGHUP)
            assert not signals.stopped()
            assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


def test_signals_that_come_together_stop_a_command_once() -> None:
    with signals.listening():
        with signals.caught():
            os.kill(os.getpid(), signal.SIGHUP)
        os.kill(os.getpid(), signal.SIGTERM)
        assert signals.exit_code() == 128 + signal.SIGHUP


def test_a_command_in_another_thread_leaves_signals_alone() -> None:
    before, during = signal.getsignal(signal.SIGTERM), []

    def look() -> None:
        with signals.listening():
            during.append(signal.getsignal(signal.SIGTERM))

    thread = threading.Thread(target=look)
    thread.start()
    thread.join()
    assert during == [before]


def test_what_a_library_makes_of_an_interrupt_is_one_all_the_same(capsys: pytest.CaptureFixture[str]) -> None:
    @command
    def main(argv: object) -> int:
        try:
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(5)
        except BaseException as error:
            raise ImportError("a part of it could not be loaded") from error
        return 0

    assert main([]) == 143
    assert capsys.readouterr().err == "jaxaccel: interrupted by SIGTERM before there was a result\n"


@pytest.mark.slow
@pytest.mark.parametrize("module", ["psutil", "msgspec", "hydra", "tempfile"])
@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_while_a_command_is_imported_has_a_last_line(
    module: str, sent: int, environment: dict[str, str], tmp_path: Path
) -> None:
    """The first of these is imported before `main` begins, Hydra once workers have started."""
    fakes = tmp_path / "fakes"
    fakes.mkdir()
    (fakes / f"{module}.py").write_text(
        f"import os, time\nos.kill(os.getpid(), {int(sent)})\ntime.sleep(9)\n"
    )
    done = subprocess.run(
        [sys.executable, "-m", "jaxaccel.run", "size=16"],
        cwd=tmp_path,
        env=environment | {"PYTHONPATH": f"{fakes}:{ROOT}"},
        capture_output=True,
        text=True,
        check=False,
    )
    how = "interrupted" if sent == signal.SIGINT else "interrupted by SIGTERM"
    assert done.stderr == f"jaxaccel: {how} before there was a result\n"
    assert done.returncode == 128 + sent
    assert not (tmp_path / "outputs").exists()


def test_a_signal_while_python_shuts_down_changes_no_exit_code(tmp_path: Path) -> None:
    program = (
        "import os, signal, sys\n"
        "from jaxaccel.process import early\n"
        "early.leave_on_signals()\n"
        "from jaxaccel.cli.exit import command\n"
        "class Last:\n"
        "    def __del__(self, kill=os.kill, own=os.getpid(), sent=signal.SIGTERM):\n"
        "        kill(own, sent)\n"
        "last = Last()\n"
        "sys.exit(command(lambda arguments: 3)([]))\n"
    )
    (tmp_path / "program.py").write_text(program)
    done = subprocess.run(
        [sys.executable, tmp_path / "program.py"], env={**os.environ, "PYTHONPATH": str(ROOT)}, check=False
    )
    assert done.returncode == 3


def test_the_program_jaxaccel_listens_before_it_imports() -> None:
    """Its script imports the module and calls `main`, which has imported nothing yet."""
    look = "import jaxaccel.__main__, sys; print(*sorted(sys.modules))"
    done = subprocess.run([sys.executable, "-c", look], capture_output=True, text=True, check=True)
    assert not {"msgspec", "psutil", "jaxaccel.run"} & set(done.stdout.split())
    assert 'jaxaccel = "jaxaccel.__main__:main"' in (ROOT / "pyproject.toml").read_text()


def test_only_commands_leave_on_a_signal() -> None:
    assert early.is_command(["python", "-m", "jaxaccel.run", "size=16"])
    assert early.is_command(["python", "-mjaxaccel.report", "out"])
    assert not early.is_command(["python", "-m", "jaxaccel.worker", "cpu"])
    assert not early.is_command(["python", "-m", "pytest"])
    mains = {
        path.parent.name if path.stem in ("__init__", "__main__") else path.stem for path in commands_of()
    }
    assert mains == set(early.COMMANDS)


def commands_of() -> list[Path]:
    return [path for path in (ROOT / "jaxaccel").rglob("*.py") if "\n@command\ndef main(" in path.read_text()]


def test_a_worker_gets_no_moment_where_a_signal_has_ended_the_command(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    worker = Worker("cpu", command=("timeit", "-s", "import time", "time.sleep(99)"))
    # One that nobody waited for gets none anyway.
    worker._started = Started(arm=ArmFacts(requested="cpu"), ready_at=0.0, environment={})
    steps = Mock()
    monkeypatch.setattr(worker._child, "end", steps.end)
    monkeypatch.setattr(worker._child, "wait", steps.wait)
    signals.note(signals.Stopped(signal.SIGTERM))
    worker.stop()
    assert steps.mock_calls == [call.end()]
    monkeypatch.undo()
    worker.kill()
    assert not worker.alive


def test_a_study_sends_a_signal_on_and_waits(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    child = (
        "import signal, sys, time\n"
        "signal.signal(15, lambda *_: sys.exit(143))\n"
        "print('up', flush=True)\n"
        "time.sleep(60)"
    )
    popen, processes = subprocess.Popen, list[Any]()

    def start(_: object) -> Any:
        processes.append(popen([sys.executable, "-c", child], stdout=subprocess.PIPE))
        processes[0].stdout.readline()
        threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGTERM)).start()
        return processes[0]

    monkeypatch.setattr(study.subprocess, "Popen", start)
    with signals.listening():
        assert study.run_to_its_end(["size=16"]) == study.INTERRUPTED
        assert signals.exit_code() == 143
    assert processes[0].returncode == 143
    processes[0].stdout.close()


# --- last lines ------------------------------------------------------------------------------------


def test_a_folder_is_told_as_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    for folder in (Path("/a/[red]/a[/b]"), Path("/a") / ("b" * 200)):
        commands.last_lines(Keeper(), folder, made=1, asked=1)
        assert capsys.readouterr().out == f"Records: {folder}\n"


def test_last_lines_are_on_standard_error_where_standard_output_is_lost(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "stdout", Broken(FULL))
    with safe_streams():
        say("a table")
        commands.last_lines(Keeper(), Path("out"), made=1)
    assert capsys.readouterr().err == "Records: out\n"


def test_rescue_has_several_places(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "not there"))
    (tmp_path / "home").mkdir()
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert list(keeping._bases())[:3] == [tmp_path / "not there", tmp_path / "home", Path("/var/tmp")]
    file_in_the_way(tmp_path / "out")
    with Keeper() as keeper:
        keeper.keep(make_record(), [tmp_path / "out"])
    assert len(records_in(tmp_path / "home")) == 1

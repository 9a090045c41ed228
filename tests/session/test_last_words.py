"""What a worker wrote to standard error: kept in memory, bounded, and without secrets."""

import hashlib
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from jaxaccel.records.redact import values
from jaxaccel.session.last_words import KEPT_BYTES, SECRET_BYTES, LastWords

SECRET = hashlib.sha512(b"a secret").hexdigest()


@pytest.fixture(autouse=True)
def secret(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(values, "_learned", set())
    monkeypatch.setenv("A_TEST_TOKEN", SECRET)


@pytest.fixture
def words() -> Iterator[LastWords]:
    one = LastWords()
    yield one
    one.close()
    one.close()  # twice does no harm


def write(words: LastWords, text: str) -> None:
    """As a process does that writes this and ends."""
    with os.fdopen(os.dup(words.writing), "wb") as pipe:
        words.listen()
        pipe.write(text.encode())


def test_little_is_kept_as_it_is(words: LastWords) -> None:
    write(words, f"one\n{SECRET}\nthree \x1b[2J\n")
    assert words.first() == words.last() == "one\n***\nthree \\x1b[2J\n"


def test_of_much_the_beginning_and_the_end_are_kept_in_little_memory(words: LastWords) -> None:
    write(words, "begin\n" + "x" * 5_000_000 + "\nend\n")
    first, last = words.first(), words.last()
    assert first.startswith("begin\nxxx")
    assert last.endswith("xxx\nend\n")
    assert len(first) == len(last) == KEPT_BYTES
    assert len(words._begin) + len(words._end) < 10 * (KEPT_BYTES + SECRET_BYTES)


@pytest.mark.parametrize("shift", range(0, len(SECRET), 7))
@pytest.mark.parametrize("between", ["", " ", "\n" + "-" * 50 + "\n"])
def test_no_part_of_a_secret_is_shown_where_the_text_is_cut(
    shift: int, between: str, words: LastWords
) -> None:
    """However short the text becomes once its secrets are hidden."""
    many = (SECRET + between) * (60_000 // len(SECRET + between))
    write(words, "<" * shift + many + ">" * shift)
    for shown in (words.first(), words.last()):
        assert shown
        assert not [at for at in range(len(SECRET) - 8) if SECRET[at : at + 8] in shown]


@pytest.mark.slow
def test_who_holds_the_pipe_open_is_not_waited_for(words: LastWords) -> None:
    holder = subprocess.Popen(
        [sys.executable, "-c", "import sys, time; print('words', file=sys.stderr); time.sleep(600)"],
        stderr=words.writing,
    )
    words.listen()
    try:
        until = time.monotonic() + 60
        while "words" not in words.last():
            assert time.monotonic() < until
        words.close()
        assert holder.poll() is None
    finally:
        holder.kill()
        holder.wait()


def test_closing_leaves_no_thread_and_no_descriptor() -> None:
    threads, descriptors = threading.active_count(), len([*Path("/dev/fd").iterdir()])
    for _ in range(3):
        one = LastWords()
        one.listen()
        one.close()
    assert (threading.active_count(), len([*Path("/dev/fd").iterdir()])) == (threads, descriptors)


@pytest.mark.slow
def test_a_worker_needs_no_folder_for_its_last_words(environment: dict[str, str], tmp_path: Path) -> None:
    text = """
import os, sys, tempfile
from jaxaccel.session.worker_process import Worker
def full(*_, **__):
    raise OSError(28, "No space left on device")
for name in ("TemporaryFile", "NamedTemporaryFile", "TemporaryDirectory", "mkstemp", "mkdtemp", "gettempdir"):
    setattr(tempfile, name, full)
with Worker("cpu", command=("no_such_module",)) as worker:
    print(worker.ready().error.message)
"""
    done = subprocess.run(
        [sys.executable, "-c", text],
        env=environment | {"TMPDIR": str(tmp_path / "nothing")},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    assert "No module named no_such_module" in done.stdout
    assert sorted(path.name for path in tmp_path.iterdir()) == ["nowhere"]

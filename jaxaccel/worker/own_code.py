"""Keeps the settings that a user's code makes to its own cases.

They hold while a case of that code is opened, timed or inspected. Afterwards the worker undoes what the code
has set for the process (JAX's settings, environment variables, the current folder, signal handlers, ...), and
sets it again before the next request of the case.
"""

import os
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import cached_property
from importlib import metadata
from pathlib import Path
from typing import Any

from jaxaccel.records import NAMES_OF_CODE, Arm, Code
from jaxaccel.records.messages import Opened
from jaxaccel.records.redact import learn
from jaxaccel.worker import process_state, settings
from jaxaccel.worker.devices import PACKAGES
from jaxaccel.worker.imports import Imports, top
from jaxaccel.worker.process_state import ABSENT, ENVIRONMENT, JAX, Channels, Key, State

GIT_S = 5.0  # a repository that takes longer to answer is not waited for
NO_GIT = "git is not installed"
NO_REPOSITORY = "the function's file is in no git repository"
IGNORED = "git ignores the function's file"
NO_ANSWER = f"git gave no answer within {GIT_S:.0f} s"

# The modules of cases that share them, and those whose modules can be looked up now.
_known: dict[tuple[bool, str | None], Imports] = {}
_present: list[Imports] = []


class OwnCode:
    """The state of the process that belongs to one case. A context manager: its settings hold inside.

    For a workload of jaxaccel's own that is the width of numbers alone.
    """

    def __init__(self, arm: Arm) -> None:
        self._case = case = arm.case
        names = [arm.target, *(case.params.get(name) for name in NAMES_OF_CODE)]
        modules = (str(name).partition(":")[0] for name in names if name)
        self._roots = [name for name in dict.fromkeys(modules) if top(name) != "jaxaccel"]
        wide = case.dtype == "float64"
        self._imports = _known.setdefault((wide, arm.files.get("root")), Imports())
        self._width: dict[Key, Any] = {(JAX, settings.X64): wide}
        self._kept: State | None = None  # what holds inside and not outside, once it is known
        self._outside: State = {}
        self._channels: Channels | None = None

    def __enter__(self) -> "OwnCode":
        self._channels = Channels()
        self._outside = process_state.read()
        if self._roots:
            for others in _present:
                if others is not self._imports:
                    others.hide()
            _present[:] = [self._imports]
            self._imports.enter(self._roots)
        kept = self._kept
        try:
            process_state.write(self._at_first() if kept is None else kept)
        except BaseException:  # such as a folder that is gone: leave nothing of this case behind
            self.__exit__()
            self._kept = kept
            raise
        return self

    def _at_first(self) -> State:
        """What holds before own code runs, or again, for it was imported by another case."""
        if not self._roots:
            return self._width
        argv = {("process", "argv"): (self._imports.script(self._roots),)}
        return {**self._width, **argv, **self._imports.set_by(self._roots)}

    def __exit__(self, *_: object) -> None:
        inside = process_state.read()
        made = process_state.changes(self._outside, inside)
        # An exception may tell of what the code has set, as load_dotenv() does.
        learn(
            {
                name: value
                for (kind, name), value in made.items()
                if kind == ENVIRONMENT and value is not ABSENT
            }
        )
        self._kept = {**self._width, **process_state.lasting(made)}
        if self._roots:
            self._imports.leave()
        if self._channels:
            self._channels.put_back()
        process_state.write(process_state.changes(inside, self._outside))

    def check(self) -> None:
        """Refuse a setting of the user's with which the case is not what its label says.

        **Raises** BadCodeError.
        """
        settings.refuse(self._case.dtype, self._setter)

    def complete(self, facts: Opened) -> Opened:
        """What an arm tells of itself, with the source that was measured and the settings that held.

        **Raises** BadCodeError, as `check`.
        """
        self.check()
        made = process_state.changes(self._outside, process_state.read())
        warnings = (*facts.warnings, *settings.flags(self._case.dtype, made, self._setter))
        code, absent = self.code
        return replace(
            facts,
            arm=replace(facts.arm, flags={**facts.arm.flags, **settings.recorded(made)}),
            code=code,
            packages=self._packages(),
            warnings=warnings,
            absent={**facts.absent, **absent},
        )

    @cached_property
    def code(self) -> tuple[Code | None, Mapping[str, str]]:
        """The user's source, and why what is None of it is."""
        modules = self._imports.closure(self._roots)
        if not modules:
            return None, {}
        digest = self._imports.digest(modules)
        files = [file for name in modules if (file := self._imports.file(name))]
        found = repository(self._file() or files[0], files)
        if isinstance(found, str):
            told = Code(digest=digest, modules=tuple(modules))
            return told, dict.fromkeys(("code.commit", "code.dirty"), found)
        commit, dirty = found
        return Code(digest=digest, modules=tuple(modules), commit=commit, dirty=dirty), {}

    def _setter(self, key: Key) -> str | None:
        return self._imports.setter(key, self._roots)

    def _packages(self) -> dict[str, str]:
        """Versions of the installed packages that the user's modules import, but for those told anyway."""
        return dict(versions(self._imports.packages(self._roots)))

    def _file(self) -> Path | None:
        """The file that the measured function is in."""
        named = self._case.params.get(NAMES_OF_CODE[0])
        return self._imports.file(str(named).partition(":")[0]) if named else None


def refuse_environment() -> None:
    """Refuse a setting of the environment with which nothing can be measured.

    **Raises** BadCodeError.
    """
    settings.refuse(None, lambda _: None)


def versions(names: list[str]) -> Iterator[tuple[str, str]]:
    """The distributions that installed packages are of, and their versions."""
    found: Mapping[str, list[str]] | None = None
    for name in names:
        try:  # mostly it has the name of the package
            distribution = metadata.distribution(name)
            yield from _told(distribution)
        except metadata.PackageNotFoundError:
            if found is None:
                found = metadata.packages_distributions()  # which reads what all distributions consist of
            for other in sorted({*found.get(name, ())}):
                yield from _told(metadata.distribution(other))


def _told(distribution: metadata.Distribution) -> Iterator[tuple[str, str]]:
    name = distribution.metadata["Name"]
    if name not in PACKAGES:
        yield name, distribution.version


def repository(file: Path, files: list[Path]) -> tuple[str, bool] | str:
    """The commit of the git repository that a file is in, and whether the source differs from it.

    The source differs where any tracked file of the repository was edited, or one of the `files` is not
    tracked. Where there is no commit, the reason. The name and the address of the repository are not read.
    """
    try:
        commit = _git(file.parent, "rev-parse", "--verify", "HEAD")
        if commit is None:
            return NO_REPOSITORY
        if _git(file.parent, "check-ignore", "--quiet", file.name) is not None:
            return IGNORED
        edited = _git(file.parent, "status", "--porcelain", "--untracked-files=no")
        names = [os.path.relpath(path, file.parent) for path in files]
        tracked = _git(file.parent, "ls-files", "--error-unmatch", "--", *names)
    except FileNotFoundError:
        return NO_GIT
    except subprocess.TimeoutExpired:
        return NO_ANSWER
    return commit.strip(), bool(edited is None or edited.strip() or tracked is None)


def _git(folder: Path, *words: str) -> str | None:
    """What git says about a folder; None where it fails."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    done = subprocess.run(
        ["git", "-C", str(folder), *words],
        env=environment | {"GIT_OPTIONAL_LOCKS": "0"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        errors="replace",
        timeout=GIT_S,
        check=False,
    )
    return done.stdout if done.returncode == 0 else None

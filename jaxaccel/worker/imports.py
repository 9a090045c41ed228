"""The modules of a user's own code: which they are, what is in them, and what each set when it was imported.

A module is imported once, however many cases are of it. So what it sets is remembered, to hold for each of
them. Modules are found by the import statements in their sources: which of them were imported before, by
another case, must make no difference.
"""

import ast
import hashlib
import importlib.abc
import importlib.machinery
import sys
import sysconfig
from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property
from pathlib import Path
from types import ModuleType
from typing import Any

from jaxaccel.worker import process_state
from jaxaccel.worker.process_state import Key, State

# Their versions are in every record, and say what their source is.
_NOBODYS = ("jaxaccel", "jax", "jaxlib", "numpy", "scipy")
INSTALLED = frozenset({"site-packages", "dist-packages"})  # folders of installed packages
_OURS = Path(__file__).resolve().parent.parent
_STANDARD = tuple(Path(sysconfig.get_path(name)) for name in ("stdlib", "platstdlib"))


def top(name: str) -> str:
    """The package that a module is in, as it is imported."""
    return name.partition(".")[0]


class Imports:
    """The modules that some cases share: those of one root folder, at one width of JAX's numbers.

    Cases of another width have modules of their own: a module's constants have the width of its import.
    """

    def __init__(self) -> None:
        self._modules: dict[str, ModuleType] = {}
        self._set: list[tuple[str, State]] = []  # which module set what, in order
        self._caused: dict[str, set[str]] = {}  # what a module imported first, however it did
        self._digests: dict[str, str] = {}
        self._specs: dict[str, importlib.machinery.ModuleSpec] = {}
        self._statements: dict[str, tuple[str, ...]] = {}
        self._tops: frozenset[str] = frozenset()
        self._open: list[tuple[str, State]] = []  # modules that are being imported, innermost last

    def enter(self, roots: Iterable[str]) -> None:
        """These modules are the ones that can be imported, and each that is imported is watched."""
        self._tops = frozenset(map(top, roots))
        sys.modules.update(self._modules)
        sys.meta_path.insert(0, self._watch)

    def leave(self) -> None:
        """No longer watch. What was imported can still be looked up, until others `enter`."""
        sys.meta_path.remove(self._watch)

    def hide(self) -> None:
        """Others have modules of the same names."""
        for name, module in self._modules.items():
            if sys.modules.get(name) is module:
                del sys.modules[name]

    def script(self, roots: Iterable[str]) -> str:
        """What sys.argv[0] is: the file of the first of these modules, as if that had been started."""
        name = next(iter(roots))
        return str(self.file(name) if name in self._modules else f"{name.replace('.', '/')}.py")

    # --- what modules set --------------------------------------------------------------------------

    def set_by(self, roots: Iterable[str]) -> State:
        """What these modules, and all that they import, have set when they were imported."""
        among = self._reached(roots) if self._modules else ()
        found: dict[Key, Any] = {}
        for name, state in self._set:
            found |= state if name in among else {}
        return found

    def setter(self, key: Key, roots: Iterable[str]) -> str | None:
        """The module among these that set it last; None where none did."""
        among = self._reached(roots)
        return next((name for name, state in reversed(self._set) if key in state and name in among), None)

    def _reached(self, roots: Iterable[str]) -> set[str]:
        """The user's modules, the packages that they import, and what those imported first."""
        found, left = set[str](), [*self.closure(roots), *self.packages(roots)]
        while left:
            name = left.pop()
            if name not in found:
                found.add(name)
                left += self._caused.get(name, ())
        return found

    # --- which modules -----------------------------------------------------------------------------

    def closure(self, roots: Iterable[str]) -> list[str]:
        """The user's modules among these and all that they import, sorted."""
        found, left = set[str](), [parent for name in roots for parent in _with_parents(name)]
        while left:
            name = left.pop()
            if name not in found and self.is_users(name):
                found.add(name)
                left += [*self._imported(name), *self._caused.get(name, ())]
        return sorted(found)

    def packages(self, roots: Iterable[str]) -> list[str]:
        """The installed packages that the user's modules import, as they import them, sorted."""
        named = {top(other) for name in self.closure(roots) for other in self._imported(name)}
        standard = {*_NOBODYS, *sys.stdlib_module_names}
        return sorted(n for n in named - standard if self.file(n) and not self.is_users(n))

    def digest(self, names: Sequence[str]) -> str:
        """Sixteen hexadecimal digits that identify what is in the files of some modules."""
        found = hashlib.sha256()
        for name in sorted(names):
            found.update(f"{name}\0{self._digest(name)}\0".encode())
        return found.hexdigest()[:16]

    def is_users(self, name: str) -> bool:
        """Whether a module is of the user's code: of the measured function's package, or not installed."""
        file = None if top(name) in _NOBODYS else self.file(name)
        if file is None:
            return False
        if not INSTALLED.isdisjoint(file.parts):
            return top(name) in self._tops
        return not any(file.is_relative_to(place) for place in (_OURS, *_STANDARD))

    def file(self, name: str) -> Path | None:
        """The file of a module, None where it has none, or there is no such module."""
        spec = self._spec(name)
        return Path(spec.origin) if spec and spec.has_location and spec.origin else None

    def _digest(self, name: str) -> str:
        """Of the file as it was when it was imported."""
        if name not in self._digests:
            file = self.file(name)
            self._digests[name] = hashlib.sha256(file.read_bytes() if file else b"").hexdigest()
        return self._digests[name]

    def _spec(self, name: str) -> importlib.machinery.ModuleSpec | None:
        """Where a module is found, without importing it or what it is in."""
        if name not in self._specs and (spec := self._found(name)) is not None:
            self._specs[name] = spec
        return self._specs.get(name)

    def _found(self, name: str) -> importlib.machinery.ModuleSpec | None:
        parent = name.rpartition(".")[0]
        places = None
        if parent:
            of = self._spec(parent)
            if of is None or of.submodule_search_locations is None:
                return None
            places = list(of.submodule_search_locations)
        spec = found_elsewhere(name, places, but=self._watch)
        return spec or getattr(sys.modules.get(name), "__spec__", None)

    def _imported(self, name: str) -> tuple[str, ...]:
        """The modules that the import statements of one of the user's modules name, wherever they stand."""
        if name not in self._statements:
            self._statements[name] = tuple(dict.fromkeys(self._read_imports(name)))
        return self._statements[name]

    def _read_imports(self, name: str) -> Iterator[str]:
        spec = self._spec(name)
        if spec is None or not str(spec.origin).endswith(".py"):
            return
        try:
            tree = ast.parse(Path(str(spec.origin)).read_bytes())
        except (SyntaxError, ValueError, OSError):
            return
        package = name if spec.submodule_search_locations is not None else name.rpartition(".")[0]
        for node in ast.walk(tree):
            if isinstance(node, ast.Import):
                for alias in node.names:
                    yield from _with_parents(alias.name)
            elif isinstance(node, ast.ImportFrom):
                parts = package.split(".") if node.level else []
                parts = parts[: len(parts) - node.level + 1]
                base = ".".join([*parts, *([node.module] if node.module else [])])
                if base:
                    yield from _with_parents(base)
                    if self.is_users(base) or self._is_namespace(base):
                        yield from (f"{base}.{alias.name}" for alias in node.names if alias.name != "*")

    def _is_namespace(self, name: str) -> bool:
        spec = self._spec(name)
        return spec is not None and spec.origin is None

    # --- watching ----------------------------------------------------------------------------------

    @cached_property
    def _watch(self) -> "_Watch":
        return _Watch(self)

    def watches(self, name: str) -> bool:
        """Whether a module is watched: of a package that is installed, the import of all of it at once."""
        package = top(name)
        if package in _NOBODYS or package in sys.stdlib_module_names:
            return False
        return name == package or ((not self.file(package) or self.is_users(package)) and self.is_users(name))

    def begin(self, name: str) -> None:
        """A module is about to be executed; what another has set so far, which imports it, is that one's."""
        if self.is_users(name):
            self._digest(name)
            if not self._open:  # as in a script of that name without options
                sys.argv = [str(self.file(name))]
        now = process_state.read()
        if self._open:
            importer, before = self._open[-1]
            self._caused.setdefault(importer, set()).add(name)
            self._note(importer, before, now)
        self._open.append((name, now))

    def end(self, name: str) -> None:
        """It has been executed, or has failed."""
        now = process_state.read()
        _, before = self._open.pop()
        self._note(name, before, now)
        if self._open:
            self._open[-1] = (self._open[-1][0], now)

    def keep(self, name: str, module: ModuleType) -> None:
        """It is there, for the cases of these imports."""
        if self.is_users(name):
            self._modules[name] = module

    def _note(self, name: str, before: State, now: State) -> None:
        if change := process_state.lasting(process_state.changes(before, now)):
            self._set.append((name, change))


class _Watch(importlib.abc.MetaPathFinder):
    """Finds nothing by itself: it tells when a module that others find is executed."""

    def __init__(self, imports: Imports) -> None:
        self._imports = imports

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if not self._imports.watches(fullname):
            return None
        spec = found_elsewhere(fullname, path, but=self)
        if spec is not None and hasattr(spec.loader, "exec_module"):
            spec.loader = _Loader(spec.loader, self._imports)
        return spec


class _Loader(importlib.abc.Loader):
    """Loads as another loader does, which the module then has as its own."""

    def __init__(self, loader: Any, imports: Imports) -> None:
        self._loader, self._imports = loader, imports

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> ModuleType | None:
        made: ModuleType | None = self._loader.create_module(spec)
        return made

    def exec_module(self, module: ModuleType) -> None:
        name = module.__name__
        module.__loader__ = self._loader
        if module.__spec__ is not None:
            module.__spec__.loader = self._loader
        self._imports.begin(name)
        try:
            self._loader.exec_module(module)
        finally:
            self._imports.end(name)
        self._imports.keep(name, sys.modules.get(name, module))


def found_elsewhere(
    name: str, path: Sequence[str] | None, *, but: Any
) -> importlib.machinery.ModuleSpec | None:
    """Where the other finders find a module."""
    for finder in sys.meta_path:
        find = None if finder is but else getattr(finder, "find_spec", None)
        if find is not None and (spec := find(name, path)) is not None:
            return spec  # type: ignore[no-any-return]
    return None


def _with_parents(name: str) -> Iterator[str]:
    """The module and its parent packages, outermost first: importing a module imports those."""
    parts = name.split(".")
    return (".".join(parts[: count + 1]) for count in range(len(parts)))

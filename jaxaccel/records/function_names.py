"""Names of a person's own functions: FILE.py:NAME and module:NAME become module:NAME and a folder.

Nothing is imported here: the command reads names so, and the workers import them (workloads/importing.py).
"""

import difflib
import os
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

FORMS = "FILE.py:function or package.module:function"
MAKER = "make_args"  # makes the arguments where no other function is named


@dataclass(frozen=True, kw_only=True)
class Named:
    """A function as module:NAME. root: the folder that must come first on the import path, if any must.

    Without one, the module is looked for in `usual_folders`, then among those that are installed.
    """

    name: str
    root: str | None = None

    @property
    def module(self) -> str:
        """What is to be imported."""
        return self.name.partition(":")[0]


def locate(key: str, text: Any, *, beside: str | None = None) -> Named:
    """The function that `text` names; `key` is the argument that has it.

    beside: the module of a name that comes without one.

    **Raises** ValueError where it is no name, or names a file that is not there or can't be imported.
    """
    head, colon, attribute = text.rpartition(":") if isinstance(text, str) else ("", "", "")
    if not colon and isinstance(text, str) and text and beside and not _is_file(text):
        return Named(name=f"{beside}:{text}")
    if not (head and attribute):
        raise ValueError(f"`{key}` must be {FORMS}, got {text!r}{_meant(text)}")
    if _is_file(head):
        return _in_file(key, head, attribute)
    if ":" in head or not all(head.split(".")):
        raise ValueError(f"`{key}` must be {FORMS}, got {text!r}")
    return Named(name=text)


def usual_folders() -> list[Path]:
    """Where modules are looked for before the installed ones: the folder of the start, and its src/."""
    here = Path.cwd()
    return [here, *filter(Path.is_dir, [here / "src"])]


def folders_of(root: str | None) -> list[Path]:
    """All folders in which a module of this root is looked for; `root` may join several, as PATH does."""
    return [*map(Path, root.split(os.pathsep) if root else []), *usual_folders()]


def file_of(module: str, folders: Iterable[Path]) -> Path | None:
    """The file that Python would import for a module from these folders; None where they have none."""
    *packages, last = module.split(".")
    for folder in folders:
        inside = folder.joinpath(*packages)
        for path in (inside / last / "__init__.py", inside / f"{last}.py"):
            if path.is_file():
                return path
    return None


def near(name: str, others: Iterable[str], written: str = "{}") -> str:
    """A question after names that are much like this one, for the end of a message; each is `written` so."""
    close = [written.replace("{}", other) for other in difflib.get_close_matches(name, list(others), n=3)]
    return f"; did you mean {' or '.join(close)}?" if close else ""


def common_root(key: str, names: Sequence[Named]) -> str | None:
    """One root for functions that are imported together; None where the usual folders do.

    **Raises** ValueError where from that one a function would be imported of another file.
    """
    root = os.pathsep.join(dict.fromkeys(named.root for named in names if named.root)) or None
    require_a_file_each(key, [*names, *(replace(named, root=root) for named in names)])
    return root


def require_a_file_each(key: str, names: Sequence[Named]) -> None:
    """Refuse functions of two files that are one module to Python, which would be taken for one another.

    **Raises** ValueError.
    """
    files: dict[str, Path] = {}
    for named in names:
        path = file_of(named.module, folders_of(named.root))
        if path and (other := files.setdefault(named.module, path)) != path:
            here = Path.cwd()
            two = [str(p.relative_to(here) if p.is_relative_to(here) else p) for p in (other, path)]
            raise ValueError(
                f"`{key}`: {' and '.join(two)} are both the module {named.module!r} to Python, which one "
                "command can import once: rename one of them, or measure each by a command of its own"
            )


def _is_file(text: str) -> bool:
    return text.endswith(".py") or "/" in text or os.sep in text


def _in_file(key: str, text: str, attribute: str) -> Named:
    """As pytest imports a test file: from the lowest folder above it that is not a package."""
    path = Path(os.path.abspath(Path(text).expanduser()))  # noqa: PTH100  # resolve() would follow links
    if not path.is_file() or path.suffix != ".py":
        there = [other.stem for other in path.parent.glob("*.py")]
        meant = near(path.stem, there, str(Path(text).parent / "{}.py"))
        raise ValueError(f"`{key}`: there is no Python file {text!r} here{meant}")
    if "." in path.stem:
        raise ValueError(f"`{key}`: Python can't import {text!r}: its name has a dot; rename the file")
    root, parts = path.parent, [] if path.stem == "__init__" else [path.stem]
    while (root / "__init__.py").is_file() and root.name.isidentifier():
        parts.insert(0, root.name)
        root = root.parent
    if not parts:
        raise ValueError(
            f"`{key}`: Python can't import {text!r}: the name of its folder is not an identifier"
        )
    if parts[0] in sys.stdlib_module_names:
        raise ValueError(
            f"`{key}`: {text!r} would be the module {parts[0]!r}, which is one of Python's own: "
            "rename the file"
        )
    module = ".".join(parts)
    usual = file_of(module, usual_folders()) == path
    return Named(name=f"{module}:{attribute}", root=None if usual else str(root))


def _meant(text: Any) -> str:
    """What may have been meant by a text that is no name of a function."""
    if not isinstance(text, str) or not text.strip(":"):
        return ""
    if _is_file(text := text.strip(":")):
        return f": add the function, {text}:NAME"
    module, _, name = text.rpartition(".")
    return f"; did you mean {module}:{name}?" if module else f": add its file or module, FILE.py:{text}"

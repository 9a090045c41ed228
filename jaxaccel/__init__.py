"""jaxaccel: should this JAX workload run on the CPU or the GPU, from which size on, and how well?"""

import sys

if getattr(sys, "argv", [])[:1] == ["-m"]:  # while Python looks for a module of this package
    # `python -m jaxaccel...` puts the folder of the start before Python's own modules: a random.py there
    # would be imported in place of the library's. Where own code is imported, it is first
    # (workloads/importing.py).
    if not sys.flags.safe_path:
        sys.path.append(sys.path.pop(0))
    # First of all imports: a signal while the others go on, which take long, has a last line, too.
    from jaxaccel.process.early import is_command, leave_on_signals

    if is_command(sys.orig_argv):
        leave_on_signals()

from importlib import import_module
from typing import Any

__version__ = "0.1.0"

_HOMES = {
    "Case": "records",
    "Comparison": "records",
    "Record": "records",
    "load_records": "records.store",
    "pair": "analyze.compare",
    "save_exported": "workloads.saving",
}
__all__ = [*_HOMES, "__version__"]


def __getattr__(name: str) -> Any:
    # Lazy, so that importing jaxaccel costs nothing and has no effect.
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)

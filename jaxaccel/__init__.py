"""jaxaccel: should this JAX workload run on the CPU or the GPU, from which size on, and how well?"""

from importlib import import_module
from typing import Any

__version__ = "0.1.0"

_HOMES = {
    "Case": "records",
    "Comparison": "records",
    "Record": "records",
    "load_records": "publish.store",
    "pair": "analyze.compare",
    "save_exported": "workloads.saving",
}
__all__ = [*_HOMES, "__version__"]


def __getattr__(name: str) -> Any:
    # Lazy, so that importing jaxaccel costs nothing and has no effect.
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)

"""What a call must do, by XLA's count, where nobody has declared it."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import jax

from jaxaccel.records import Cost, Flag

LOOP_ONCE = "loop counted once"
NO_COUNT = "XLA gives no count of it; declare it as `workload.{}`"


def complete(
    cost: Cost, function: Callable[..., Any], arguments: tuple[Any, ...], compiled: Any, precision: str
) -> tuple[Cost, tuple[Flag, ...], dict[str, str]]:
    """The cost with what was left open, what to think of it, and why what is missing still is.

    FLOPs are counted before XLA optimises: it is one program on every device, with nothing hidden in a
    library's call. Bytes are those of the optimised program, in which fused operations share their reading.
    """
    if cost.flops is not None and cost.bytes is not None:
        return cost, (), {}
    with jax.default_matmul_precision(precision):
        lowered = jax.jit(function).lower(*arguments)
    flops = _count(lowered, "flops") if cost.flops is None else cost.flops
    moved = _count(compiled, "bytes accessed") if cost.bytes is None else cost.bytes
    absent = {
        f"cost.{name}": NO_COUNT.format(name)
        for name, value in (("flops", flops), ("bytes", moved))
        if value is None
    }
    declared = [name for name, value in (("FLOPs", cost.flops), ("bytes", cost.bytes)) if value is not None]
    source = "XLA" if not declared else f"XLA, {declared[0]} declared"
    flags: tuple[Flag, ...] = ()
    if "stablehlo.while" in lowered.as_text():
        missing = " and ".join(name for name in ("flops", "bytes") if getattr(cost, name) is None)
        message = f"XLA counts the body of the program's loop as if it ran once: declare workload.{missing}"
        flags = (Flag(name=LOOP_ONCE, metric=None, message=message),)
        source += ", loops once"
    return replace(cost, flops=flops, bytes=moved, source=source), flags, absent


def _count(stage: Any, name: str) -> float | None:
    """A number of XLA's cost analysis; None where there is none, or it says nothing."""
    try:
        found = stage.cost_analysis()
    except (NotImplementedError, jax.errors.JaxRuntimeError):
        return None
    found = found[0] if isinstance(found, list) and found else found
    value = found.get(name) if isinstance(found, Mapping) else None
    return float(value) if value is not None and value > 0 else None

"""What a call must do, by XLA's count, where nobody has declared it."""

import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import jax

from jaxaccel.records import Cost, Flag
from jaxaccel.workloads.jaxprs import primitives

LOOP_ONCE = "loop counted once"
NO_COUNT = "XLA gives no count of it; declare it as `workload.{}`"
IN_A_LIBRARY = "it calls a library, {}, whose work XLA does not count; declare it as `workload.flops`"
_CUSTOM_CALL = re.compile(r'custom_call @"?([\w.$]+)')
# Those that compute nothing, or that XLA itself writes out.
_HARMLESS = re.compile(r"Sharding|SPMD|annotate|shape_assertion|xla\.|mhlo\.|chlo\.|TopK|ApproxTopK")
_LOOPS = {"while", "scan"}


def complete(
    cost: Cost, function: Callable[..., Any], arguments: tuple[Any, ...], compiled: Any, precision: str
) -> tuple[Cost, tuple[Flag, ...], dict[str, str]]:
    """The cost with what was left open, what to think of it, and why what is missing still is.

    FLOPs are counted in the program for a CPU, before XLA optimises it: one number for every device, with no
    fast library's call that hides them. Bytes are those of the optimised program, in which fused operations
    share their reading.
    """
    if cost.flops is not None and cost.bytes is not None:
        return cost, (), {}
    with jax.default_matmul_precision(precision):
        traced = jax.jit(function).trace(*arguments)
        lowered = _for_cpu(function, arguments) or traced.lower()
    program = lowered.as_text()
    libraries = sorted(name for name in set(_CUSTOM_CALL.findall(program)) if not _HARMLESS.match(name))
    counted = None if libraries else _count(lowered, "flops")
    flops = counted if cost.flops is None else cost.flops
    moved = _count(compiled, "bytes accessed") if cost.bytes is None else cost.bytes
    absent = {
        f"cost.{name}": NO_COUNT.format(name)
        for name, value in (("flops", flops), ("bytes", moved))
        if value is None
    }
    if libraries and flops is None:
        absent["cost.flops"] = IN_A_LIBRARY.format(libraries[0])
    declared = [name for name, value in (("FLOPs", cost.flops), ("bytes", cost.bytes)) if value is not None]
    source = "XLA" if not declared else f"XLA, {declared[0]} declared"
    flags: tuple[Flag, ...] = ()
    names = set(primitives(traced.jaxpr))
    # What an exported program holds, only its text tells. Elsewhere the text has loops of JAX's own making
    # too, as that of a random number on a CPU.
    if names & _LOOPS or ("call_exported" in names and "stablehlo.while" in program):
        missing = " and ".join(name for name in ("flops", "bytes") if getattr(cost, name) is None)
        message = f"XLA counts the body of the program's loop as if it ran once: declare workload.{missing}"
        flags = (Flag(name=LOOP_ONCE, metric=None, message=message),)
        source += ", loops once"
    return replace(cost, flops=flops, bytes=moved, source=source), flags, absent


def _for_cpu(function: Callable[..., Any], arguments: tuple[Any, ...]) -> Any:
    """The program for a CPU, in whose terms XLA can count it; None where it can't be one."""
    here = jax.sharding.SingleDeviceSharding(jax.devices("cpu")[0])
    shapes = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=here), arguments)
    try:
        return jax.jit(function).lower(*shapes)
    except Exception:  # a kernel written for GPUs, say: whatever it raises, the arm itself can be measured
        return None


def _count(stage: Any, name: str) -> float | None:
    """A number of XLA's cost analysis; None where there is none, or it says nothing."""
    try:
        found = stage.cost_analysis()
    except (NotImplementedError, jax.errors.JaxRuntimeError):
        return None
    found = found[0] if isinstance(found, list) and found else found
    value = found.get(name) if isinstance(found, Mapping) else None
    return float(value) if value is not None and value > 0 else None

"""What a traced program holds: what it computes, what it calls, what it captured."""

import math
import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import numpy as np
from jax.extend.core import jaxpr_as_fun
from jax.interpreters.partial_eval import dce_jaxpr

from jaxaccel.workloads.own import plain

JITS = ("jit", "pjit")  # what JAX calls the call of a jitted function, by version
# Equations that call a program on just what they are given.
CALLS = (
    *JITS,
    "closed_call",
    "core_call",
    "remat2",
    "checkpoint",
    "custom_jvp_call",
    "custom_vjp_call",
)

_ADDRESS = re.compile(r"0x[0-9a-f]+")


def called_programs(equation: Any) -> Iterator[Any]:
    """The programs that an equation of a jaxpr calls: bodies of loops, branches, inner jits."""

    def is_program(parameter: Any) -> bool:
        return hasattr(parameter, "eqns") or hasattr(parameter, "jaxpr")

    for parameter in jax.tree.leaves(list(equation.params.values()), is_leaf=is_program):
        if is_program(parameter):
            yield parameter


def opened(program: Any) -> Any:
    """The jaxpr of a program, closed or not."""
    return getattr(program, "jaxpr", program)


def primitives(program: Any) -> Iterator[str]:
    """Names of what a program computes, and those that it calls."""
    for equation in opened(program).eqns:
        yield equation.primitive.name
        for called in called_programs(equation):
            yield from primitives(called)


def constants(program: Any) -> list[Any]:
    """The arrays that a program, or one that it calls, holds as constants. XLA may compute with them once.

    Typed random keys are given as their numbers.
    """
    found = [plain(value) for value in getattr(program, "consts", ()) if np.shape(value)]
    for equation in opened(program).eqns:
        for called in called_programs(equation):
            found += constants(called)
    return found


def captured_shapes(program: Any) -> list[tuple[int, ...]]:
    """Shapes of the constants of two elements or more."""
    return [np.shape(value) for value in constants(program) if np.size(value) > 1]


def outline(jaxpr: Any, numbers: dict[Any, int] | None = None) -> list[Any]:
    """What a program computes from what, without the addresses of the Python functions that it came from."""
    numbers = {} if numbers is None else numbers
    found: list[Any] = [[numbers.setdefault(v, len(numbers)) for v in (*jaxpr.invars, *jaxpr.constvars)]]
    for equation in jaxpr.eqns:
        operands = [
            _ADDRESS.sub("", str(v.val)) if hasattr(v, "val") else (str(v.aval), numbers.get(v))
            for v in equation.invars
        ]
        results = [(str(v.aval), numbers.setdefault(v, len(numbers))) for v in equation.outvars]
        found.append((equation.primitive.name, operands, results))
        found += [outline(opened(program)) for program in called_programs(equation)]
    return found


def only_jit(program: Any) -> Any | None:
    """The one equation of a program that does nothing but call a function that is jitted already."""
    equations = opened(program).eqns
    return equations[0] if len(equations) == 1 and equations[0].primitive.name in JITS else None


def jits(program: Any) -> Iterator[Any]:
    """All equations of a program, and of those that it calls, that call a jitted function."""
    for equation in opened(program).eqns:
        if equation.primitive.name in JITS:
            yield equation
        for called in called_programs(equation):
            yield from jits(called)


def without_jit(program: Any) -> Callable[..., list[Any]]:
    """A function of the program's arguments that does what its only jitted function does, without the jit."""
    equation, jaxpr = only_jit(program), opened(program)
    inner = jaxpr_as_fun(equation.params["jaxpr"])  # type: ignore[union-attr]

    def called(*arguments: Any) -> list[Any]:
        known = dict(zip((*jaxpr.invars, *jaxpr.constvars), (*arguments, *program.consts), strict=True))

        def value(variable: Any) -> Any:
            return variable.val if hasattr(variable, "val") else known[variable]

        results = inner(*map(value, equation.invars))  # type: ignore[union-attr]
        known.update(zip(equation.outvars, results, strict=True))  # type: ignore[union-attr]
        return [value(variable) for variable in jaxpr.outvars]

    return called


def arguments_read(program: Any) -> list[bool]:
    """Of each argument, whether any result depends on it."""
    jaxpr = opened(program)
    return list(dce_jaxpr(jaxpr, [True] * len(jaxpr.outvars))[1])


def device_count(program: Any) -> int:
    """How many devices a program names in its shardings and meshes."""
    found = [1]
    for equation in opened(program).eqns:
        for parameter in jax.tree.leaves(list(equation.params.values()), is_leaf=_is_placement):
            if _is_placement(parameter):
                found.append(_devices_of(parameter))
        found += [device_count(called) for called in called_programs(equation)]
    return max(found)


def _is_placement(parameter: Any) -> bool:
    return isinstance(parameter, jax.sharding.Sharding | jax.sharding.Mesh | jax.sharding.AbstractMesh)


def _devices_of(parameter: Any) -> int:
    if isinstance(parameter, jax.sharding.Sharding):
        return int(parameter.num_devices)
    return int(parameter.size)


def constant_share(program: Any) -> float:
    """The share of a program's work that depends on no argument, which XLA may do once, when it compiles.

    Work is counted roughly: the multiplications of products and convolutions, and the elements of all other
    results; a loop's body as often as it says that it runs.
    """
    whole, constant = _work(opened(program), [True] * len(opened(program).invars))
    return constant / whole if whole else 0.0


def _work(jaxpr: Any, depends: Sequence[bool]) -> tuple[float, float]:
    """The work of a program, and the part that depends on none of those arguments that `depends` marks."""
    dependent = {variable for variable, does in zip(jaxpr.invars, depends, strict=True) if does}
    whole = constant = 0.0
    for equation in jaxpr.eqns:
        marks = [not hasattr(v, "val") and v in dependent for v in equation.invars]
        called = [opened(program) for program in called_programs(equation)]
        if equation.primitive.name in JITS:
            done, folded = _work(called[0], marks)
        else:
            trips = equation.params.get("length", 1) if equation.primitive.name == "scan" else 1
            done = float(trips * sum(_work(c, [True] * len(c.invars))[0] for c in called)) or _size(equation)
            folded = 0.0 if any(marks) else done
        whole, constant = whole + done, constant + folded
        if any(marks):
            dependent.update(equation.outvars)
    return whole, constant


def _size(equation: Any) -> float:
    elements = float(sum(math.prod(getattr(v.aval, "shape", ())) for v in equation.outvars))
    shapes = [getattr(v.aval, "shape", ()) for v in equation.invars]
    if equation.primitive.name == "dot_general":
        (contracted, _), _ = equation.params["dimension_numbers"]
        return elements * float(math.prod(shapes[0][axis] for axis in contracted))
    if equation.primitive.name == "conv_general_dilated":
        # Each output element takes one product a weight of its output feature.
        features = shapes[1][equation.params["dimension_numbers"].rhs_spec[0]]
        return elements * float(math.prod(shapes[1]) / max(1, features))
    return elements

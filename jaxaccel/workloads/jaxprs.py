"""What a traced program holds: what it computes, what it calls, what it captured."""

import math
from collections.abc import Iterator
from typing import Any

import jax
import numpy as np
from jax.extend.core import Literal

# Equations that call a program on just what they are given.
CALLS = (
    "jit",
    "pjit",
    "closed_call",
    "core_call",
    "remat2",
    "checkpoint",
    "custom_jvp_call",
    "custom_vjp_call",
)


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


def captured_shapes(program: Any) -> list[tuple[int, ...]]:
    """Shapes of the arrays of two elements or more that a program, or one that it calls, holds as constants.

    XLA may compute with them once, at compile time.
    """
    shapes = [np.shape(value) for value in getattr(program, "consts", ())]
    found = [shape for shape in shapes if math.prod(shape) > 1]
    for equation in opened(program).eqns:
        for called in called_programs(equation):
            found += captured_shapes(called)
    return found


def read_arguments(program: Any) -> list[bool]:
    """Of each argument of a traced program, whether anything in it is computed from it, or returns it."""
    jaxpr = opened(program)
    read = {atom for atom in jaxpr.outvars if not isinstance(atom, Literal)}
    for equation in jaxpr.eqns:
        inner = next(called_programs(equation), None) if equation.primitive.name in CALLS else None
        reads = read_arguments(inner) if inner is not None else [True] * len(equation.invars)
        pairs = zip(equation.invars, reads, strict=True)
        read |= {atom for atom, is_read in pairs if is_read and not isinstance(atom, Literal)}
    return [argument in read for argument in jaxpr.invars]

"""What a traced program holds: what it computes, what it calls, what it captured."""

import math
from collections.abc import Iterator
from typing import Any

import jax
import numpy as np


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

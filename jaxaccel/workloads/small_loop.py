"""Many small dependent steps in one program: a `while_loop` of products, (m, m) @ (m, m) -> (m, m).

No step can begin before the one before it has ended, and each is over sooner than a GPU can be given it.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import jax
import numpy as np

from jaxaccel.records import Accuracy, Cost
from jaxaccel.workloads.base import (
    Array,
    Plain,
    aligned_empty,
    check_arguments,
    itemsize,
    judged,
    norm_error,
    sum_tolerance,
    uniform,
)

# A random matrix of entries in (-1, 1) stretches no vector by more than about 2 √(m/3): scaled so, it halves
# them, and with them the errors of earlier steps.
_SCALE = math.sqrt(3) / 4


def direct(a: jax.Array, b: jax.Array, steps: jax.Array) -> jax.Array:
    """Map x to a x + b, `steps` times from b on: (m, m), (m, m), () -> (m, m).

    How many steps is an argument, as in a loop that goes on until it has converged: a device that knows the
    number beforehand need not ask for it.
    """

    def again(state: tuple[jax.Array, jax.Array]) -> jax.Array:
        return state[1] < steps

    def step(state: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        x, i = state
        return a @ x + b, i + 1

    return jax.lax.while_loop(again, step, (b, steps * 0))[0]


def reference(a: Array, b: Array, steps: int) -> Array:
    """The same in float64."""
    exact, x = a.astype(np.float64), b.astype(np.float64)
    added = x
    for _ in range(steps):
        x = exact @ x + added
    return x


@dataclass(frozen=True, kw_only=True)
class SmallLoop(Plain):
    """`steps` dependent steps x -> a x + b, of matrices that keep x bounded. `size` is m."""

    variants: ClassVar[Mapping[str, Callable[..., Any]]] = {"direct": direct}

    steps: int = 100

    def __post_init__(self) -> None:
        check_arguments(self, steps=self.steps)

    @property
    def loops(self) -> bool:
        """Yes."""
        return True

    def cost(self) -> Cost:
        """Of all steps: 2m³ of the product and m² of the sum. Matrices that small stay near the processor."""
        m = self.size
        flops = self.steps * (2 * m**3 + m**2)
        return Cost(flops=float(flops), bytes=float(3 * m * m * itemsize(self.dtype) + 4))

    def memory_bytes(self) -> int:
        """Two matrices, x and the next one."""
        return 4 * self.size**2 * itemsize(self.dtype) + 4

    def inputs(self, seed: int) -> tuple[Array, Array, Array]:
        """Two matrices (m, m), the first scaled, and the number of steps."""
        m = self.size
        a = uniform((m, m), self.dtype, seed=seed, stream=0)
        a[...] = (a.astype(np.float64) * (_SCALE / math.sqrt(m))).astype(a.dtype)
        steps = aligned_empty((), np.int32)
        steps[...] = self.steps
        return a, uniform((m, m), self.dtype, seed=seed, stream=1), steps

    def verify(
        self, inputs: tuple[Array, Array, Array], output: Array, precision: str, run: Callable[..., Any]
    ) -> Accuracy:
        """Norm-wise against float64. Each step halves the errors before it: they add up to twice one."""
        a, b, _ = inputs
        error = norm_error(np.asarray(output), reference(a, b, self.steps))
        tolerance = 2 * sum_tolerance(self.dtype, precision, self.size)
        return judged(error, tolerance)

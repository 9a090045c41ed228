"""Dependent steps on a vector in one program, as in a recurrence: x -> a x + b, (n,) -> (n,).

No step can begin before the one before it has ended; within a step, the elements are independent. Unlike
small_loop, the number of steps is known beforehand, so that no device need ask for it.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np

from jaxaccel.records import Accuracy, Cost
from jaxaccel.workloads.base import (
    Array,
    Stepped,
    elementwise_error,
    itemsize,
    judged,
    uniform,
)

CHECKED_ELEMENTS = 1 << 23  # at a vector's beginning: bounds what checking takes


def direct(x: jax.Array, a: jax.Array, b: jax.Array, steps: int) -> jax.Array:
    """`steps` times x -> a x + b: (n,), (n,), (n,) -> (n,)."""
    return jax.lax.fori_loop(0, steps, lambda _, x: a * x + b, x)


def reference(x: Array, a: Array, b: Array, steps: int) -> Array:
    """The same in closed form, aˢ x + b (1 - aˢ) / (1 - a): (n,), (n,), (n,) -> (n,)."""
    power = a**steps
    return np.asarray(power * x + b * (1 - power) / (1 - a))


@dataclass(frozen=True, kw_only=True)
class Chain(Stepped):
    """`steps` dependent steps x -> a x + b on zero-mean random vectors, |a| < 1/2. `size` is their length."""

    variants: ClassVar[Mapping[str, Callable[..., Any]]] = {"direct": direct}

    def cost(self) -> Cost:
        """Of each step a multiplication and an addition an element; it reads three vectors and writes one.

        Short vectors stay near the processor from step to step.
        """
        elements = self.steps * self.size
        moved = 4 * elements * itemsize(self.dtype)
        return Cost(flops=2.0 * elements, bytes=float(moved), source="steps one by one")

    def memory_bytes(self) -> int:
        """Three vectors, x after a step and before it."""
        return 5 * self.size * itemsize(self.dtype)

    def inputs(self, seed: int) -> tuple[Array, Array, Array]:
        """Three vectors (n,), the second one of which is halved."""
        x, a, b = (uniform((self.size,), self.dtype, seed=seed, stream=stream) for stream in range(3))
        a *= a.dtype.type(0.5)  # exact
        return x, a, b

    def verify(
        self, inputs: tuple[Array, Array, Array], output: Array, precision: str, run: Callable[..., Any]
    ) -> Accuracy:
        """Against the closed form in float64, relative to the terms; of a very long vector, its beginning.

        A step rounds a product and a sum, an epsilon together, and halves the errors before it: they add up
        to two epsilons. Twice that is granted. No product of matrices is in it.
        """
        found = np.asarray(output)[:CHECKED_ELEMENTS]
        error = elementwise_error(lambda x, a, b: reference(x, a, b, self.steps), found, *inputs)
        sampled = "" if found.size == self.size else f", {found.size} of {self.size} elements"
        return judged(error, 4 * float(jnp.finfo(self.dtype).eps), f"NumPy float64{sampled}")

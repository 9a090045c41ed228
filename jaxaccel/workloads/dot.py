"""Dot product of two vectors: (n,) . (n,) -> a scalar."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import jax
import jax.numpy as jnp

from jaxaccel.records import Accuracy, Cost
from jaxaccel.workloads.base import (
    Array,
    Plain,
    blocks,
    itemsize,
    judged,
    sum_tolerance,
    uniform,
)

SPREAD_ELEMENTS = 1 << 20  # at a vector's beginning: they tell its norm nearly enough, and take no time


def direct(a: jax.Array, b: jax.Array) -> jax.Array:
    """As anyone would write it: (n,), (n,) -> ()."""
    return jnp.dot(a, b)


def reference(a: Array, b: Array) -> float:
    """The dot product in float64, block by block: (n,), (n,) -> ()."""
    return float(sum(part @ other for part, other in blocks(a, b)))


@dataclass(frozen=True, kw_only=True)
class Dot(Plain):
    """The dot product of two zero-mean random vectors. `size` is n.

    Products by element and their sum, as a variant, won nowhere: on an H100 they took the same time to a
    thousandth, and XLA:CPU makes the very same program of them (JAX 0.10.2; experiments/variants).
    """

    variants: ClassVar[Mapping[str, Callable[..., Any]]] = {"direct": direct}

    def cost(self) -> Cost:
        """N multiplications and as many additions; both vectors are read once, one number is written."""
        return Cost(flops=2.0 * self.size, bytes=float((2 * self.size + 1) * itemsize(self.dtype)))

    def memory_bytes(self) -> int:
        """The two vectors and the result."""
        return (2 * self.size + 1) * itemsize(self.dtype)

    def inputs(self, seed: int) -> tuple[Array, Array]:
        """Two vectors (n,)."""
        return (
            uniform((self.size,), self.dtype, seed=seed, stream=0),
            uniform((self.size,), self.dtype, seed=seed, stream=1),
        )

    def verify(
        self, inputs: tuple[Array, Array], output: Array, precision: str, run: Callable[..., Any]
    ) -> Accuracy:
        """The error in units of the result's own spread, ‖a‖ ‖b‖ / √n.

        A dot product of random vectors lands anywhere near zero, where relative to itself honest rounding
        would look like a wrong answer.
        """
        a, b = inputs
        parts = [side[:SPREAD_ELEMENTS] for side in inputs]
        spread = math.sqrt(self.size * math.prod(reference(part, part) / part.size for part in parts))
        error = abs(float(output) - reference(a, b)) / spread
        # The result may be a few times its spread, and is rounded to `dtype` where it lands.
        tolerance = 2 * sum_tolerance(self.dtype, precision, self.size)
        return judged(error, tolerance)

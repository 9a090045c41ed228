"""Next to no computation on a vector: (n,) -> (n,). What its data takes to travel is all there is to time."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import jax
import numpy as np

from jaxaccel.records import Accuracy, Cost
from jaxaccel.workloads.base import Array, Plain, elementwise_error, itemsize, uniform


def direct(x: jax.Array) -> jax.Array:
    """The least that is not nothing, which XLA would do without: (n,) -> (n,)."""
    return -x


@dataclass(frozen=True, kw_only=True)
class Transfer(Plain):
    """A zero-mean random vector that goes to the device, and comes back negated. `size` is n.

    As many bytes travel each way: those of the vector.
    """

    variants: ClassVar[Mapping[str, Callable[..., Any]]] = {"direct": direct}

    @property
    def operations(self) -> frozenset[str]:
        """The negation."""
        return frozenset({"negate"})

    def cost(self) -> Cost:
        """N negations; on the device, the vector is read and the result is written."""
        return Cost(flops=float(self.size), bytes=float(self.memory_bytes()))

    def memory_bytes(self) -> int:
        """The vector and the result."""
        return 2 * self.size * itemsize(self.dtype)

    def inputs(self, seed: int) -> tuple[Array]:
        """A vector (n,)."""
        return (uniform((self.size,), self.dtype, seed=seed, stream=0),)

    def verify(
        self, inputs: tuple[Array], output: Array, precision: str, run: Callable[..., Any]
    ) -> Accuracy:
        """Exact, whatever the precision: only a sign changes."""
        error = elementwise_error(np.negative, np.asarray(output), *inputs)
        return Accuracy(
            relative_error=error, tolerance=0.0, ok=error == 0.0, reference="NumPy float64, exact"
        )

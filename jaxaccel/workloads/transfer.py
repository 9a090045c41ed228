"""Next to no computation on vectors, (n,) -> (n,): what they take to travel is all there is to time."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import jax
import numpy as np

from jaxaccel.records import Accuracy, Cost
from jaxaccel.workloads.base import (
    Array,
    Plain,
    check_arguments,
    elementwise_error,
    itemsize,
    judged,
    largest,
    uniform,
)


def direct(*vectors: jax.Array) -> tuple[jax.Array, ...]:
    """The least that is not nothing, which XLA would do without: (n,), ... -> (n,), ..."""
    return tuple(-x for x in vectors)


@dataclass(frozen=True, kw_only=True)
class Transfer(Plain):
    """Zero-mean random vectors that go to the device, and come back negated. `size` is n, that of each.

    There are `parts` of them: JAX brings several arrays from pageable memory side by side, which is faster
    (experiments/ceilings: 8.6 GB/s as one, 23 as eight). As many bytes travel each way: those of the vectors.
    """

    variants: ClassVar[Mapping[str, Callable[..., Any]]] = {"direct": direct}

    parts: int = 1

    def __post_init__(self) -> None:
        check_arguments(self, parts=self.parts)

    @property
    def operations(self) -> frozenset[str]:
        """The negation."""
        return frozenset({"negate"})

    def cost(self) -> Cost:
        """A negation an element; on the device, the vectors are read and the results are written."""
        return Cost(flops=float(self.parts * self.size), bytes=float(self.memory_bytes()))

    def memory_bytes(self) -> int:
        """The vectors and the results."""
        return 2 * self.parts * self.size * itemsize(self.dtype)

    def inputs(self, seed: int) -> tuple[Array, ...]:
        """Vectors (n,)."""
        return tuple(
            uniform((self.size,), self.dtype, seed=seed, stream=stream) for stream in range(self.parts)
        )

    def verify(
        self, inputs: tuple[Array, ...], output: tuple[Array, ...], precision: str, run: Callable[..., Any]
    ) -> Accuracy:
        """Exact, whatever the precision: only a sign changes."""
        error = largest(
            elementwise_error(np.negative, np.asarray(back), sent)
            for back, sent in zip(output, inputs, strict=True)
        )
        return judged(error, 0.0, "NumPy float64, exact")

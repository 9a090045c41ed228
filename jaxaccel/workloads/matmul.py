"""Matrix product: (n, n) @ (n, n) -> (n, n). Its rate is the measured ceiling of a device's arithmetic."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import jax
import numpy as np

from jaxaccel.records import Accuracy, Cost
from jaxaccel.workloads.base import (
    Array,
    Plain,
    itemsize,
    judged_by_rows,
    sum_tolerance,
    uniform,
)

# Of the reference: they bound its time to a second or so.
CHECKED_ROWS = 64
CHECKED_FLOPS = 2e10

_BLOCK = 1 << 20  # elements of the right matrix that are in float64 at a time


def direct(a: jax.Array, b: jax.Array) -> jax.Array:
    """As anyone would write it: (m, k), (k, n) -> (m, n)."""
    return a @ b


def reference(a: Array, b: Array) -> Array:
    """The product in float64, a block of rows of `b` at a time: (m, k), (k, n) -> (m, n)."""
    rows = max(1, _BLOCK // b.shape[1])
    total = np.zeros((a.shape[0], b.shape[1]))
    for start in range(0, b.shape[0], rows):
        part = slice(start, start + rows)
        total += a[:, part].astype(np.float64) @ b[part].astype(np.float64)
    return total


@dataclass(frozen=True, kw_only=True)
class Matmul(Plain):
    """The product of two square matrices, both zero-mean random. `size` is n."""

    variants: ClassVar[Mapping[str, Callable[..., Any]]] = {"direct": direct}

    def cost(self) -> Cost:
        """n³ multiplications and as many additions; three matrices pass memory once."""
        n = self.size
        return Cost(flops=2.0 * n**3, bytes=float(3 * n * n * itemsize(self.dtype)))

    def memory_bytes(self) -> int:
        """Three matrices."""
        return 3 * self.size**2 * itemsize(self.dtype)

    def inputs(self, seed: int) -> tuple[Array, Array]:
        """Two matrices (n, n)."""
        n = self.size
        return (
            uniform((n, n), self.dtype, seed=seed, stream=0),
            uniform((n, n), self.dtype, seed=seed, stream=1),
        )

    def verify(
        self, inputs: tuple[Array, Array], output: Array, precision: str, run: Callable[..., Any]
    ) -> Accuracy:
        """Norm-wise against float64, on all rows or, of a large product, on evenly spread ones."""
        a, b = inputs
        n = self.size
        count = min(n, CHECKED_ROWS, max(1, int(CHECKED_FLOPS / (2 * n * n))))
        tolerance = sum_tolerance(self.dtype, precision, n)
        return judged_by_rows(np.asarray(output), lambda rows: reference(a[rows], b), count, tolerance)

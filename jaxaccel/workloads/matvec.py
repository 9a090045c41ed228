"""Matrix-vector product: (m, n) @ (n,) -> (m,)."""

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
    itemsize,
    judged_by_rows,
    product_operations,
    sum_tolerance,
    uniform,
)

CHECKED_ELEMENTS = 1 << 25  # of the matrix: bounds the reference's time to a fraction of a second


def direct(a: jax.Array, x: jax.Array) -> jax.Array:
    """As anyone would write it: (m, n), (n,) -> (m,)."""
    return a @ x


def reference(a: Array, x: Array) -> Array:
    """The product in float64, row by row as dot products: (m, n), (n,) -> (m,)."""
    exact = x.astype(np.float64)
    return np.array([row.astype(np.float64) @ exact for row in a])


@dataclass(frozen=True, kw_only=True)
class Matvec(Plain):
    """A matrix times a vector, both zero-mean random. `size` is m, the rows; `columns` n, as many if None.

    Its rows are independent dot products: with few columns, `size` is how much can be done side by side.
    """

    variants: ClassVar[Mapping[str, Callable[..., Any]]] = {"direct": direct}

    columns: int | None = None

    def __post_init__(self) -> None:
        check_arguments(self, **({} if self.columns is None else {"columns": self.columns}))

    @property
    def shape(self) -> tuple[int, int]:
        """(m, n) of the matrix."""
        return self.size, self.columns or self.size

    @property
    def operations(self) -> frozenset[str]:
        """A product."""
        return product_operations(min(self.shape))

    def cost(self) -> Cost:
        """Two operations an element of the matrix; it and both vectors pass memory once."""
        m, n = self.shape
        return Cost(flops=2.0 * m * n, bytes=float(self.memory_bytes()))

    def memory_bytes(self) -> int:
        """The matrix and two vectors."""
        m, n = self.shape
        return (m * n + m + n) * itemsize(self.dtype)

    def inputs(self, seed: int) -> tuple[Array, Array]:
        """The matrix (m, n) and the vector (n,)."""
        m, n = self.shape
        return (
            uniform((m, n), self.dtype, seed=seed, stream=0),
            uniform((n,), self.dtype, seed=seed, stream=1),
        )

    def verify(
        self, inputs: tuple[Array, Array], output: Array, precision: str, run: Callable[..., Any]
    ) -> Accuracy:
        """Norm-wise against float64, on all rows or, of a large matrix, on evenly spread ones."""
        a, x = inputs
        m, n = self.shape
        count = min(m, max(1, CHECKED_ELEMENTS // n))
        return judged_by_rows(
            np.asarray(output),
            lambda rows: reference(a[rows] if count < m else a, x),
            count,
            sum_tolerance(self.dtype, precision, n),
        )

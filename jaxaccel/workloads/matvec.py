"""Matrix-vector product: (m, n) @ (n,) -> (m,)."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
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


def multiply_reduce(a: jax.Array, x: jax.Array) -> jax.Array:
    """Product by element, then the sum of each row, which XLA makes one pass: (m, n), (n,) -> (m,).

    On a CPU, YNNPACK does it in place of Eigen (jax 0.10.2: a fusion `__ynn_fusion`).
    """
    return (a * x).sum(axis=1)


def row_loop(a: jax.Array, x: jax.Array) -> jax.Array:
    """The article's algorithm for a CPU, kept for teaching: one row after the other: (m, n), (n,) -> (m,).

    As slow as it looks: each row's dot product is begun once the one before it has ended.
    """
    return jax.lax.map(lambda row: jnp.dot(row, x), a)


def row_parallel(a: jax.Array, x: jax.Array) -> jax.Array:
    """The article's algorithm for a GPU, kept for teaching: an instance a row: (m, n), (n,) -> (m,).

    To XLA the instances are one product, the very one of `direct`.
    """
    return jax.vmap(jnp.dot, in_axes=(0, None))(a, x)


def reference(a: Array, x: Array) -> Array:
    """The product in float64, row by row as dot products: (m, n), (n,) -> (m,)."""
    exact = x.astype(np.float64)
    return np.array([row.astype(np.float64) @ exact for row in a])


@dataclass(frozen=True, kw_only=True)
class Matvec(Plain):
    """A matrix times a vector, both zero-mean random. `size` is m, the rows; `columns` n, as many if None.

    Its rows are independent dot products: with few columns, `size` is how much can be done side by side.
    """

    variants: ClassVar[Mapping[str, Callable[..., Any]]] = {
        "direct": direct,
        "multiply_reduce": multiply_reduce,
        "row_loop": row_loop,
        "row_parallel": row_parallel,
    }

    columns: int | None = None

    def __post_init__(self) -> None:
        check_arguments(self, **({} if self.columns is None else {"columns": self.columns}))

    @property
    def loops(self) -> bool:
        """Over the rows, where the variant does and there is more than one."""
        return self.variant == "row_loop" and self.size > 1

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

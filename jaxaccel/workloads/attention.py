"""Scaled dot-product attention, the core of a transformer: three arrays (heads, n, width) -> one of them.

Vaswani et al.: Attention is all you need, NeurIPS 2017, without a mask.
"""

import math
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
    sum_tolerance,
    uniform,
)

CHECKED_ELEMENTS = 1 << 25  # of keys that the reference goes through: they bound its time to half a second


def direct(q: jax.Array, k: jax.Array, v: jax.Array) -> jax.Array:
    """As anyone would write it: (heads, n, width) of queries, keys and values -> (heads, n, width)."""
    scores = jnp.einsum("hqw,hkw->hqk", q, k) * (1 / math.sqrt(q.shape[-1]))
    return jnp.einsum("hqk,hkw->hqw", jax.nn.softmax(scores, axis=-1), v)


def reference(q: Array, k: Array, v: Array, rows: Array) -> Array:
    """Rows of the output in float64, counted through all heads: (heads, n, width), (r,) -> (r, width)."""
    _, n, width = q.shape
    found = np.empty((len(rows), width))
    for row, (head, query) in enumerate(zip(rows // n, rows % n, strict=True)):
        scores = k[head].astype(np.float64) @ q[head, query].astype(np.float64) / math.sqrt(width)
        weights = np.exp(scores - scores.max())
        found[row] = weights @ v[head].astype(np.float64) / weights.sum()
    return found


@dataclass(frozen=True, kw_only=True)
class Attention(Plain):
    """Zero-mean random queries, keys and values. `size` is n, the length of the sequence."""

    variants: ClassVar[Mapping[str, Callable[..., Any]]] = {"direct": direct}

    heads: int = 8
    width: int = 64

    def __post_init__(self) -> None:
        check_arguments(self, heads=self.heads, width=self.width)

    @property
    def operations(self) -> frozenset[str]:
        """A product of matrices, or a library's; of one position, of vectors."""
        alone = {"multiply"} if min(self.size, self.width) == 1 else set[str]()
        return frozenset({"dot", "custom-call", "convolution"} | alone)

    def cost(self) -> Cost:
        """Two products of 2 n² width a head; queries, keys and values are read once, one array is written.

        As usual the softmax, some n² operations a head, is not counted. The scores need not pass memory (Dao
        et al.: FlashAttention, NeurIPS 2022).
        """
        flops = 4.0 * self.heads * self.size**2 * self.width
        return Cost(flops=flops, bytes=float(self._array_bytes * 4))

    def memory_bytes(self) -> int:
        """Three arrays, the output, and as `direct` is written, the scores and what softmax makes of them."""
        return 4 * self._array_bytes + 2 * self.heads * self.size**2 * itemsize(self.dtype)

    @property
    def _array_bytes(self) -> int:
        return self.heads * self.size * self.width * itemsize(self.dtype)

    def inputs(self, seed: int) -> tuple[Array, ...]:
        """Queries, keys and values, (heads, n, width)."""
        shape = self.heads, self.size, self.width
        return tuple(uniform(shape, self.dtype, seed=seed, stream=stream) for stream in range(3))

    def verify(
        self, inputs: tuple[Array, ...], output: Array, precision: str, run: Callable[..., Any]
    ) -> Accuracy:
        """Norm-wise against float64, on all rows or evenly spread ones.

        Scores are about 1/3 in size, so that rounding one changes its weight by no more than as much,
        relatively. That of both products is granted, of sums over the width and over the sequence, and two
        epsilons for the softmax between them.
        """
        q, k, v = inputs
        rows = np.asarray(output).reshape(-1, self.width)
        count = min(len(rows), max(8, CHECKED_ELEMENTS // (self.size * self.width)))
        tolerance = (
            sum_tolerance(self.dtype, precision, self.width)
            + sum_tolerance(self.dtype, precision, self.size)
            + 2 * float(jnp.finfo(self.dtype).eps)
        )
        return judged_by_rows(rows, lambda index: reference(q, k, v, index), count, tolerance)

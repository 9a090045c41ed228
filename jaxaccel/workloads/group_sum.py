"""Sums of the rows of each group, as SQL's GROUP BY gives them: (n,), (n,) -> (groups,)."""

import math
from collections.abc import Callable, Iterator, Mapping
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
    judged,
    sum_tolerance,
    uniform,
    whole_numbers,
)

_BLOCK = 1 << 20  # rows that the reference has in float64 at a time


def direct(values: jax.Array, keys: jax.Array, groups: int) -> jax.Array:
    """As anyone would write it, sums in float32 at least, as databases do: (n,), (n,) -> (groups,)."""
    wide = values.astype(jnp.promote_types(values.dtype, jnp.float32))
    return jax.ops.segment_sum(wide, keys, num_segments=groups)


def reference(values: Array, keys: Array, groups: int) -> Array:
    """The same in float64, a block of rows at a time: (n,), (n,) -> (groups,)."""
    total = np.zeros(groups)
    for part, where in _blocks(values, keys):
        total += np.bincount(where, weights=part.astype(np.float64), minlength=groups)
    return total


def _blocks(values: Array, keys: Array) -> Iterator[tuple[Array, Array]]:
    for start in range(0, values.size, _BLOCK):
        yield values[start : start + _BLOCK], keys[start : start + _BLOCK]


@dataclass(frozen=True, kw_only=True)
class GroupSum(Plain):
    """Zero-mean random values, each in one of `groups` at random, unordered. `size` is how many rows."""

    variants: ClassVar[Mapping[str, Callable[..., Any]]] = {"direct": direct}

    groups: int = 1024

    def __post_init__(self) -> None:
        check_arguments(self, groups=self.groups)

    @property
    def operations(self) -> frozenset[str]:
        """An addition to wherever the key says; of a single row, what puts it there."""
        alone = {"dynamic-update-slice", "select"} if self.size == 1 else set[str]()
        return frozenset({"scatter", "custom-call"} | alone)

    @property
    def function(self) -> Callable[..., Any]:
        """(n,), (n,) -> (groups,): how many groups there are is known beforehand."""

        def group_sum(values: jax.Array, keys: jax.Array) -> jax.Array:
            summed: jax.Array = self.variants[self.variant](values, keys, self.groups)
            return summed

        return group_sum

    @property
    def sums(self) -> str:
        """The type of the sums: float32 at least."""
        return "float64" if self.dtype == "float64" else "float32"

    def cost(self) -> Cost:
        """One addition a row; values and keys are read once, sums are written once."""
        return Cost(flops=float(self.size), bytes=float(self.memory_bytes()))

    def memory_bytes(self) -> int:
        """Values, keys of four bytes, and sums."""
        return self.size * (itemsize(self.dtype) + 4) + self.groups * itemsize(self.sums)

    def inputs(self, seed: int) -> tuple[Array, Array]:
        """Values (n,) and keys (n,), int32."""
        return (
            uniform((self.size,), self.dtype, seed=seed, stream=0),
            whole_numbers(self.size, self.groups, seed=seed, stream=1),
        )

    def verify(
        self, inputs: tuple[Array, Array], output: Array, precision: str, run: Callable[..., Any]
    ) -> Accuracy:
        """Norm-wise, in units of the sums' spread: a sum of random numbers lands anywhere near zero.

        As in `dot`, twice what is tolerated of one sum, of as many rows as the largest group has: a result
        may be a few times its spread. Values are taken as they are: only the type of the sums rounds.
        """
        values, keys = inputs
        exact = reference(values, keys, self.groups)
        spread = math.sqrt(
            math.fsum(float(np.sum(part.astype(np.float64) ** 2)) for part, _ in _blocks(values, keys))
        )
        error = float(np.linalg.norm(np.asarray(output, np.float64) - exact)) / spread
        largest = int(np.bincount(keys).max())
        return judged(error, 2 * sum_tolerance(self.sums, "highest", largest))

"""Sorting a vector: (n,) -> (n,). No floating-point operation is in it, only comparisons and moves."""

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np

from jaxaccel.records import Accuracy, Cost
from jaxaccel.workloads.base import Array, Plain, itemsize, judged, norm_error, uniform

SORTED_ELEMENTS = 1 << 23  # that NumPy sorts too, in about a second; more are checked in linear time
_BLOCK = 1 << 20


def direct(x: jax.Array) -> jax.Array:
    """As anyone would write it: (n,) -> (n,), ascending."""
    return jnp.sort(x)


def fingerprint(x: Array) -> int:
    """A number that any order of the same elements has, and other elements next to never: (n,) -> ().

    The sum, modulo 2^64, of the elements' bits after the mixing steps of SplitMix64 (Steele, Lea, Flood: Fast
    splittable pseudorandom number generators, OOPSLA 2014).
    """
    total = 0
    for part in _blocks(x):
        mixed = part.view(f"u{part.dtype.itemsize}").astype(np.uint64) + np.uint64(0x9E3779B97F4A7C15)
        for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
            mixed = (mixed ^ (mixed >> np.uint64(shift))) * np.uint64(factor)
        mixed ^= mixed >> np.uint64(31)
        total += int(np.sum(mixed, dtype=np.uint64))
    return total % 2**64


def ascending(x: Array) -> bool:
    """Whether no element is below the one before it; what is no number is in no order."""
    return all(bool(np.all(part[1:] >= part[:-1])) for part in _blocks(x, overlap=1))


def _blocks(x: Array, overlap: int = 0) -> Iterator[Array]:
    for start in range(0, x.size, _BLOCK):
        yield x[start : start + _BLOCK + overlap]


@dataclass(frozen=True, kw_only=True)
class Sort(Plain):
    """Zero-mean random numbers, put in ascending order. `size` is how many."""

    variants: ClassVar[Mapping[str, Callable[..., Any]]] = {"direct": direct}

    @property
    def operations(self) -> frozenset[str]:
        """A sort, or a library's; a single element is in order."""
        alone = {"copy", "parameter"} if self.size == 1 else set[str]()
        return frozenset({"sort", "custom-call"} | alone)

    def cost(self) -> Cost:
        """No FLOPs. Every element is read once and written once at least; sorts pass over them many times."""
        return Cost(flops=0.0, bytes=float(2 * self.size * itemsize(self.dtype)))

    def memory_bytes(self) -> int:
        """The elements, the sorted ones, and a third array that sorts that do not work in place need."""
        return 3 * self.size * itemsize(self.dtype)

    def inputs(self, seed: int) -> tuple[Array]:
        """A vector (n,)."""
        return (uniform((self.size,), self.dtype, seed=seed, stream=0),)

    def verify(
        self, inputs: tuple[Array], output: Array, precision: str, run: Callable[..., Any]
    ) -> Accuracy:
        """Exact: nothing is rounded, whatever the precision.

        Of very many elements NumPy would take minutes to sort: the output must be in order, and hold the
        elements of the input. What is wrong there has no size, and counts as infinite.
        """
        (x,), found = inputs, np.asarray(output)
        if self.size <= SORTED_ELEMENTS:
            exact = np.sort(x.astype(np.float64))
            return judged(norm_error(found, exact), 0.0, "NumPy float64, exact")
        same = found.dtype == x.dtype and fingerprint(found) == fingerprint(x)
        right = same and ascending(found)
        return judged(0.0 if right else math.inf, 0.0, "order and elements, as exact as NumPy float64")

"""A pass over vectors, bound by memory, after McCalpin's STREAM: its rate is a device's measured bandwidth.

J. D. McCalpin, "Memory Bandwidth and Machine Balance in Current High Performance Computers", 1995. As there,
only bytes that the program names are counted: a CPU also reads the lines that it is about to overwrite.
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
    blocks,
    check_arguments,
    elementwise_error,
    itemsize,
    judged,
    largest,
    sum_tolerance,
    uniform,
)

SCALE = 3.0  # STREAM's own
CHECKED_ELEMENTS = 1 << 25  # of the vector that is written: bounds what checking takes
# Elements that are summed into one. One sum of all takes a GPU a second kernel: in its cache, a matvec was
# 11% faster than that (experiments/selftest/earlier_gpu.json).
ROW = 4096


def read(x: jax.Array) -> jax.Array:
    """The sum of each row of 4096: (n,) -> (n / 4096,); of a length that is no multiple, one sum: (1,)."""
    return jnp.sum(_rows(x), axis=1)


def copy(c: jax.Array, a: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Overwrite `c` with -a: (n,), (n,) -> (next c, its first element).

    A plain copy is nothing to XLA, which hands over the buffer. In place, c = -c would be less still: two
    calls that follow each other in a loop cancel.
    """
    return _written(-a)


def triad(a: jax.Array, b: jax.Array, c: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Overwrite `a` with b + 3c: (n,), (n,), (n,) -> (next a, its first element)."""
    return _written(b + SCALE * c)


def _written(new: jax.Array) -> tuple[jax.Array, jax.Array]:
    """The vector that takes the place of the donated one, which is never read, and its first element.

    New memory at each call instead would cost a CPU page faults, which take longer than the pass (x4, 2-core
    EPYC). The barrier keeps the element from standing in for the vector in a loop.
    """
    new = jax.lax.optimization_barrier(new)
    return new, new[0]


def _rows(x: Any) -> Any:
    return x.reshape(-1, ROW if x.size % ROW == 0 else x.size)


def reference_read(x: Array) -> Array:
    """What `read` gives, in float64: (n,) -> (n / 4096,) or (1,)."""
    return np.asarray(np.sum(_rows(x), axis=1, dtype=np.float64))


def reference_copy(a: Array) -> Array:
    """What `copy` writes: (n,) -> (n,)."""
    return -a


def reference_triad(b: Array, c: Array) -> Array:
    """What `triad` writes: (n,), (n,) -> (n,)."""
    return b + SCALE * c


@dataclass(frozen=True, kw_only=True)
class Kind:
    """What one kind of pass does with `vectors`, each of which it moves once; `flops` are an element's."""

    function: Callable[..., Any]
    vectors: int
    flops: int
    operation: str


KINDS: Mapping[str, Kind] = {
    "read": Kind(function=read, vectors=1, flops=1, operation="reduce"),
    "copy": Kind(function=copy, vectors=2, flops=1, operation="negate"),
    "triad": Kind(function=triad, vectors=3, flops=2, operation="multiply"),
}


@dataclass(frozen=True, kw_only=True)
class Stream:
    """A pass over zero-mean random vectors, which `kind` tells. `size` is the elements of one vector."""

    variants: ClassVar[Mapping[str, Any]] = {"direct": None}
    loops: ClassVar[bool] = False

    size: int
    dtype: str = "float32"
    variant: str = "direct"
    kind: str = "triad"

    def __post_init__(self) -> None:
        check_arguments(self)
        if self.kind not in tuple(KINDS):  # which a list may be asked of too
            raise ValueError(f"`workload.kind` must be one of {', '.join(KINDS)}, got {self.kind!r}")

    @property
    def carries(self) -> bool:
        """Whether a vector is written: into the memory of the one that the call before wrote."""
        return self.kind != "read"

    @property
    def operations(self) -> frozenset[str]:
        """The pass's arithmetic; the sum of a single element is that element."""
        alone = {"bitcast", "copy", "reshape"} if self.kind == "read" and self.size == 1 else set[str]()
        return frozenset({KINDS[self.kind].operation} | alone)

    @property
    def function(self) -> Callable[..., Any]:
        """Of vectors (n,): `read`, `copy` or `triad`."""
        return KINDS[self.kind].function

    def cost(self) -> Cost:
        """Each vector passes memory once; the few sums of a `read` are not counted."""
        kind = KINDS[self.kind]
        return Cost(flops=float(kind.flops * self.size), bytes=float(self.memory_bytes()))

    def memory_bytes(self) -> int:
        """The vectors; the result takes the memory of one of them."""
        return KINDS[self.kind].vectors * self.size * itemsize(self.dtype)

    def inputs(self, seed: int) -> tuple[Array, ...]:
        """One to three vectors (n,); the first is the one that is overwritten, where one is."""
        return tuple(
            uniform((self.size,), self.dtype, seed=seed, stream=stream)
            for stream in range(KINDS[self.kind].vectors)
        )

    def verify(
        self, inputs: tuple[Array, ...], output: Array, precision: str, run: Callable[..., Any]
    ) -> Accuracy:
        """The sums, or the vector that is written; of a very large vector, its beginning.

        No product of matrices is in it: lower precisions tolerate no more.
        """
        if self.kind == "read":
            return self._verify_sums(inputs[0], output)
        written, _ = run(self.function, *(vector[:CHECKED_ELEMENTS] for vector in inputs))
        return self._verify_vector(inputs[1:], output, written)

    def _verify_sums(self, x: Array, output: Array) -> Accuracy:
        """In units of their spread: a sum of random numbers lands anywhere near zero (as in `dot`)."""
        exact = reference_read(x)
        spread = math.sqrt(math.fsum(float(part @ part) for (part,) in blocks(x)))
        error = float(np.linalg.norm(np.asarray(output, np.float64) - exact)) / spread
        # A result may be a few times its spread, and is rounded to `dtype` where it lands.
        tolerance = 2 * sum_tolerance(self.dtype, "highest", x.size // exact.size)
        return judged(error, tolerance)

    def _verify_vector(self, sources: tuple[Array, ...], output: Array, written: Array) -> Accuracy:
        """`output` is only the vector's first element, `written` what a further run gave."""
        exact = reference_copy if self.kind == "copy" else reference_triad
        error = largest(elementwise_error(exact, part, *sources) for part in (np.ravel(output), written))
        tolerance = 0.0 if self.kind == "copy" else 2 * float(jnp.finfo(self.dtype).eps)
        sampled = "" if len(written) == self.size else f", {len(written)} of {self.size} elements"
        return judged(error, tolerance, f"NumPy float64{sampled}")

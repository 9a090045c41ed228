"""Two-dimensional Fourier transform of a real grid: (n, n) -> (n, n // 2 + 1), complex."""

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
    require_dtype,
    uniform,
)

CHECKED_FLOPS = 1e9  # of the reference: they bound its time to a second or so
DTYPES = ("float32", "float64")  # XLA has no transform of others

_BLOCK = 1 << 20  # elements of the grid that are in float64 at a time


def direct(x: jax.Array) -> jax.Array:
    """As anyone would write it: (n, n) -> (n, n // 2 + 1)."""
    return jnp.fft.rfft2(x)


def reference(x: Array, rows: Array) -> Array:
    """Some rows of the transform in float64: (n, n), (k,) -> (k, n // 2 + 1).

    Along the columns by the definition, sums of n terms each, so that no row needs the others; NumPy's
    transform only along a row.
    """
    n = len(x)
    along = np.zeros((len(rows), n), np.complex128)
    step = max(1, _BLOCK // n)
    for start in range(0, n, step):
        part = np.arange(start, min(n, start + step))
        turns = np.outer(rows, part) % n / n  # exact, before the angle is rounded
        block = x[part].astype(np.float64)
        along += np.cos(2 * np.pi * turns) @ block - 1j * (np.sin(2 * np.pi * turns) @ block)
    return np.fft.rfft(along.real)[:, : n // 2 + 1] + 1j * np.fft.rfft(along.imag)[:, : n // 2 + 1]


@dataclass(frozen=True, kw_only=True)
class Fft(Plain):
    """The transform of a grid of zero-mean random numbers. `size` is n, its side."""

    variants: ClassVar[Mapping[str, Callable[..., Any]]] = {"direct": direct}

    def __post_init__(self) -> None:
        check_arguments(self)
        require_dtype("fft", self.dtype, DTYPES)

    @property
    def operations(self) -> frozenset[str]:
        """A transform, or a library's."""
        return frozenset({"fft", "custom-call"})

    def cost(self) -> Cost:
        """2.5 N log2 N of N = n² real points, the radix-2 count by which transforms are compared.

        The convention is FFTW's (Frigo, Johnson: The design and implementation of FFTW3, Proc. IEEE 93(2),
        2005); better algorithms take up to a fifth less. The grid is read and the spectrum written once.
        """
        points = self.size**2
        return Cost(flops=2.5 * points * math.log2(points), bytes=float(self._held_bytes), source="radix 2")

    def memory_bytes(self) -> int:
        """The grid, its spectrum, and the spectrum after one of the two directions."""
        return self._held_bytes + self._spectrum_bytes

    @property
    def _spectrum_bytes(self) -> int:
        return self.size * (self.size // 2 + 1) * 2 * itemsize(self.dtype)

    @property
    def _held_bytes(self) -> int:
        return self.size**2 * itemsize(self.dtype) + self._spectrum_bytes

    def inputs(self, seed: int) -> tuple[Array]:
        """A grid (n, n)."""
        return (uniform((self.size, self.size), self.dtype, seed=seed, stream=0),)

    def verify(
        self, inputs: tuple[Array], output: Array, precision: str, run: Callable[..., Any]
    ) -> Accuracy:
        """Norm-wise, on all rows or, of a large grid, on evenly spread ones.

        With well-rounded factors the root mean square of the error grows as 0.6 eps √(log2 N) (Schatzman:
        Accuracy of the discrete Fourier transform and the fast Fourier transform, SIAM J. Sci. Comput. 17,
        1996). Sides with large prime factors go through three transforms of twice the length, and libraries'
        factors are a bit worse: four eps times log2 of 2N are granted. No product of matrices is in it.
        """
        (x,), n = inputs, self.size
        count = min(n, max(1, int(CHECKED_FLOPS / (4 * n * n))))
        eps = float(jnp.finfo(self.dtype).eps)
        tolerance = 4 * eps * math.log2(2 * n * n)
        return judged_by_rows(np.asarray(output), lambda rows: reference(x, rows), count, tolerance)

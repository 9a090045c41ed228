"""Heat on a square plate with cold edges: explicit steps of the five-point stencil, (n, n) -> (n, n).

Written for any number of steps, all in one call: each needs the whole plate of the one before it, and within
a step all points can be computed side by side.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
import scipy.fft

from jaxaccel.records import Accuracy, Cost
from jaxaccel.workloads.base import (
    Array,
    Stepped,
    itemsize,
    judged,
    norm_error,
    require_dtype,
    uniform,
)

RATE = 0.2  # of what flows to a neighbour in a step; from 0.25 on, explicit steps blow up
HEAT = 0.1  # that every point is given in a step
DTYPES = ("float32", "float64")  # in half of their digits, what a step adds would be rounded away


def direct(u: jax.Array, steps: int) -> jax.Array:
    """`steps` explicit steps, with zeros beyond the edges: (n, n) -> (n, n)."""

    def step(_: Any, u: jax.Array) -> jax.Array:
        p = jnp.pad(u, 1)
        around = p[:-2, 1:-1] + p[2:, 1:-1] + p[1:-1, :-2] + p[1:-1, 2:]
        return (1 - 4 * RATE) * u + RATE * around + HEAT

    return jax.lax.fori_loop(0, steps, step, u)


def reference(u: Array, steps: int) -> Array:
    """The same in float64, in closed form, whatever the number of steps: (n, n) -> (n, n).

    Products of sines are what a step only scales, by 1 - 4 RATE (sin² + sin²); of them a discrete sine
    transform makes any plate.
    """
    n = len(u)
    curve = 4 * RATE * np.sin(np.pi * np.arange(1, n + 1) / (2 * (n + 1))) ** 2
    lost = curve[:, None] + curve  # of each product of sines, in a step
    kept = (1 - lost) ** steps
    # 1 - kept, of which little is left where a step loses next to nothing
    gone = np.where(lost < 0.5, -np.expm1(steps * np.log1p(-np.minimum(lost, 0.5))), 1 - kept)
    source = scipy.fft.dst(np.ones(n), type=1, norm="ortho")
    waves = scipy.fft.dstn(u.astype(np.float64), type=1, norm="ortho", workers=-1) * kept
    waves += HEAT * np.outer(source, source) * gone / lost
    return np.asarray(scipy.fft.idstn(waves, type=1, norm="ortho", workers=-1))


@dataclass(frozen=True, kw_only=True)
class Heat(Stepped):
    """`steps` steps from a plate of zero-mean random temperatures. `size` is n, its side in points."""

    variants: ClassVar[Mapping[str, Callable[..., Any]]] = {"direct": direct}

    def __post_init__(self) -> None:
        super().__post_init__()
        require_dtype("heat", self.dtype, DTYPES)

    def cost(self) -> Cost:
        """Of each step two multiplications and five additions a point; it reads the plate and writes one.

        Caches may hold a small plate from step to step, and cleverer programs make several steps of a part
        of a large one: the count is that of steps as they are written.
        """
        points = self.steps * self.size**2
        moved = 2 * points * itemsize(self.dtype)
        return Cost(flops=7.0 * points, bytes=float(moved), source="steps one by one")

    def memory_bytes(self) -> int:
        """The plate, the one before a step and the one after it, and one with its rim."""
        return (3 * self.size**2 + (self.size + 2) ** 2) * itemsize(self.dtype)

    def inputs(self, seed: int) -> tuple[Array]:
        """A plate (n, n)."""
        return (uniform((self.size, self.size), self.dtype, seed=seed, stream=0),)

    def verify(
        self, inputs: tuple[Array], output: Array, precision: str, run: Callable[..., Any]
    ) -> Accuracy:
        """Norm-wise against the closed form in float64.

        A step makes no error larger, for its weights are positive and add up to one at most; each adds less
        than an epsilon of its own. They are granted in full, as if all had one sign: near the plate's final
        state each step rounds as the one before it did. No product of matrices is in it.
        """
        error = norm_error(np.asarray(output), reference(inputs[0], self.steps))
        return judged(error, float(jnp.finfo(self.dtype).eps) * (2 + self.steps))

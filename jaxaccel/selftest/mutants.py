"""Deliberately broken workloads: each breaks one invariant, and must be caught by it. For the self-test only.

`tamper(call, block, arguments)`, where a workload has it, puts another call or another wait in place of the
harness's own: some of the mistakes are ones of a harness, not of a workload.
"""

import functools
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np

from jaxaccel.records import Accuracy, Cost
from jaxaccel.worker.timing import Block, Call
from jaxaccel.workloads.base import Array
from jaxaccel.workloads.matvec import Matvec

LOOPS = 50
SLEEP_S = 0.005


@dataclass(frozen=True, kw_only=True)
class NoBlock(Matvec):
    """Takes the time before the result is there: JAX returns long before the device has finished."""

    def tamper(self, call: Call, block: Block, arguments: Any) -> tuple[Call, Block]:
        """Wait for nothing."""
        return call, lambda result: result


@dataclass(frozen=True, kw_only=True)
class CapturedConstant(Matvec):
    """Holds the matrix in a closure: XLA may do work on it when it compiles."""

    @property
    def function(self) -> Callable[..., Any]:
        """(n, n), (n,) -> (n,), looking at the first argument's shape only."""
        matrix = jnp.asarray(self.inputs(0)[0])
        return lambda a, x: matrix @ x


@dataclass(frozen=True, kw_only=True)
class HoistedLoop(Matvec):
    """Says that it repeats a product, but that stands outside the loop, where XLA may move it itself."""

    loops: ClassVar[bool] = True

    @property
    def function(self) -> Callable[..., Any]:
        """(n, n), (n,) -> (n,)."""

        def once(a: jax.Array, x: jax.Array) -> jax.Array:
            product = a @ x
            return jax.lax.fori_loop(0, LOOPS, lambda _, y: y + product, jnp.zeros_like(x))

        return once


@dataclass(frozen=True, kw_only=True)
class DroppedOutput(Matvec):
    """Computes the product and returns something else: XLA leaves the product out."""

    @property
    def function(self) -> Callable[..., Any]:
        """(n, n), (n,) -> (n,)."""

        def dropping(a: jax.Array, x: jax.Array) -> jax.Array:
            _ = a @ x
            return x + x

        return dropping


@dataclass(frozen=True, kw_only=True)
class NumpyArgument(Matvec):
    """Passes NumPy arrays: each call first moves them to the device."""

    def tamper(self, call: Call, block: Block, arguments: Any) -> tuple[Call, Block]:
        """The same program, fed from the host."""
        compiled = call.func  # type: ignore[attr-defined]  # a functools.partial
        return functools.partial(compiled, *jax.device_get(arguments)), block


@dataclass(frozen=True, kw_only=True)
class WrongDevice(Matvec):
    """Runs on another device than the one that was asked for. Needs a worker that has two."""

    def tamper(self, call: Call, block: Block, arguments: Any) -> tuple[Call, Block]:
        """The same function, elsewhere."""
        (home,) = arguments[0].devices()
        other = next(d for d in [*jax.devices(), *jax.devices("cpu")] if d != home)
        elsewhere = jax.device_put(arguments, other)
        return functools.partial(jax.jit(self.function), *elsewhere), block


@dataclass(frozen=True, kw_only=True)
class ReducedPrecision(Matvec):
    """Computes float32 with TensorFloat-32's ten bits of mantissa, as a GPU does below precision=highest."""

    @property
    def function(self) -> Callable[..., Any]:
        """(n, n), (n,) -> (n,)."""

        def rounded(value: jax.Array) -> jax.Array:
            return jax.lax.reduce_precision(value, exponent_bits=8, mantissa_bits=10)

        return lambda a, x: rounded(a) @ rounded(x)


@dataclass(frozen=True, kw_only=True)
class OverstatedCost(Matvec):
    """Says that it does ten times the work that it does: its rates are beyond what the device can reach."""

    def cost(self) -> Cost:
        """Ten times that of the product."""
        right = super().cost()
        return Cost(flops=10 * (right.flops or 0), bytes=10 * (right.bytes or 0))


@dataclass(frozen=True, kw_only=True)
class Sleeper(Matvec):
    """No mutant: a call of known duration. A host callback sleeps for SLEEP_S."""

    @property
    def operations(self) -> frozenset[str]:
        """The callback."""
        return frozenset({"custom-call"})

    @property
    def function(self) -> Callable[..., Any]:
        """(n, n), (n,) -> (n,), the second argument after a while."""

        def nap(x: Array) -> Array:
            time.sleep(SLEEP_S)
            return np.asarray(x)

        return lambda a, x: jax.pure_callback(nap, jax.ShapeDtypeStruct(x.shape, x.dtype), x)

    def verify(self, inputs: Any, output: Array, precision: str, run: Callable[..., Any]) -> Accuracy:
        """The second argument itself."""
        error = float(np.max(np.abs(np.asarray(output) - inputs[1])))
        return Accuracy(relative_error=error, tolerance=0.0, ok=error == 0.0, reference="the argument")

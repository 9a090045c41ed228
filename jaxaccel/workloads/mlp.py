"""Training steps of a multilayer perceptron: forward, backward, Adam update; buffers donated.

One step a call, or several in a call as a scan, which a device need not be told of one by one.

The model is Flax NNX, optimiser and loss are Optax. What is timed is a plain jitted function over the
model's split state: the Python overhead of NNX's own transforms, paid per call, stays outside.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

from jaxaccel.records import Accuracy, Cost
from jaxaccel.workloads.base import (
    Array,
    Inputs,
    aligned_empty,
    check_arguments,
    itemsize,
    judged,
    largest,
    norm_error,
    product_operations,
    sum_tolerance,
    uniform,
)

LEARNING_RATE = 1e-3
CHAINED_STEPS = 2  # of several in a call: those that are compared with calls of one
CHECKED_FLOPS = 2e10  # of the float64 reference: bounds its time to a second or so

# Adam reads and writes each parameter and its two moments.
_ADAM_PASSES = 6


class Perceptron(nnx.Module):  # type: ignore[misc]  # Flax is not typed
    """Linear layers of `widths`, ReLU between them: (batch, widths[0]) -> (batch, widths[-1])."""

    def __init__(self, widths: tuple[int, ...], dtype: str, rngs: nnx.Rngs) -> None:
        self.layers = nnx.List(
            nnx.Linear(i, o, dtype=jnp.dtype(dtype), param_dtype=jnp.float32, rngs=rngs)
            for i, o in pairwise(widths)
        )

    def preactivations(self, x: jax.Array) -> list[jax.Array]:
        """What each layer gives before its ReLU; the last are the logits."""
        outputs = [self.layers[0](x)]
        for layer in self.layers[1:]:
            outputs.append(layer(nnx.relu(outputs[-1])))
        return outputs

    def __call__(self, x: jax.Array) -> jax.Array:
        """The logits."""
        return self.preactivations(x)[-1]


def reference(
    kernels: list[Array], biases: list[Array], x: Array, y: Array, active: list[Array]
) -> tuple[float, list[Array], list[Array]]:
    """Loss, kernel gradients and preactivations in float64, by hand-written backpropagation.

    `active` says of each hidden layer which units passed their ReLU. Where rounding decides the sign of a
    preactivation near zero, a whole gradient term comes or goes; taking that decision from the device
    keeps the comparison about arithmetic. `x` is (rows, features), `y` (rows,).
    """
    weights = [kernel.astype(np.float64) for kernel in kernels]
    acts, outputs = [x.astype(np.float64)], []
    for i, (w, b) in enumerate(zip(weights, biases, strict=True)):
        outputs.append(acts[-1] @ w + b.astype(np.float64))
        if i < len(active):
            acts.append(np.where(active[i], outputs[-1], 0.0))
    z, target = outputs[-1][:, 0], y.astype(np.float64)
    # Binary cross-entropy on logits, in the form that does not overflow.
    loss = float(np.mean(np.maximum(z, 0) - z * target + np.log1p(np.exp(-np.abs(z)))))
    delta = ((1 / (1 + np.exp(-z)) - target) / z.size)[:, None]
    gradients: list[Array] = []
    for i in reversed(range(len(weights))):
        gradients.insert(0, acts[i].T @ delta)
        if i:
            delta = np.where(active[i - 1], delta @ weights[i].T, 0.0)
    return loss, gradients, outputs


@dataclass(frozen=True, kw_only=True)
class Mlp:
    """`depth` hidden layers of `size` units, one logit; `features` defaults to `size`.

    `dtype` is the type that the layers compute in; parameters and Adam's moments stay float32. steps: how
    many a call makes, on one batch; None: one. More than one takes the variant `scan`. Its times and its
    cost are those of the whole call.
    """

    variants: ClassVar[Mapping[str, Any]] = {"direct": None, "scan": None}
    carries: ClassVar[bool] = True
    series: ClassVar[str] = "loss"

    size: int
    dtype: str = "float32"
    variant: str = "direct"
    depth: int = 2
    batch: int = 256
    features: int | None = None
    steps: int | None = None

    def __post_init__(self) -> None:
        given = {name: getattr(self, name) for name in ("features", "steps")}
        given = {name: value for name, value in given.items() if value is not None}
        check_arguments(self, depth=self.depth, batch=self.batch, **given)
        if self.variant == "direct" and self.steps_a_call > 1:
            raise ValueError(
                f"`workload.steps` above 1 needs workload.variant=scan, got {self.steps} with direct"
            )

    @property
    def steps_a_call(self) -> int:
        """How many training steps one call makes."""
        return 1 if self.steps is None else self.steps

    @property
    def loops(self) -> bool:
        """Where a call makes several steps."""
        return self.steps_a_call > 1

    @property
    def widths(self) -> tuple[int, ...]:
        """Units of each layer, from the features to the one logit."""
        return (self.features or self.size, *(self.size,) * self.depth, 1)

    @property
    def operations(self) -> frozenset[str]:
        """A product."""
        return product_operations(self.size)

    @property
    def function(self) -> Callable[..., Any]:
        """(leaves, x, y) -> (next leaves, loss): leaves are those of the parameters and Adam's state.

        Of the variant `scan`, the loss of each step: (steps,).
        """
        step, count = self._step, self.steps_a_call
        if self.variant == "direct":
            return step

        def scan(leaves: list[jax.Array], x: jax.Array, y: jax.Array) -> tuple[list[jax.Array], jax.Array]:
            after, losses = jax.lax.scan(lambda leaves, _: step(leaves, x, y), leaves, None, length=count)
            return after, losses

        return scan

    @property
    def _step(self) -> Callable[..., Any]:
        """Of leaves, for a list costs less to pass per call than NNX's and Optax's own containers."""
        adam, structure = optax.adam(LEARNING_RATE), jax.tree.structure(self._shapes)

        def step(leaves: list[jax.Array], x: jax.Array, y: jax.Array) -> tuple[list[jax.Array], jax.Array]:
            params, moments = jax.tree.unflatten(structure, leaves)
            loss, gradients = jax.value_and_grad(self._loss)(params, x, y)
            updates, moments = adam.update(gradients, moments, params)
            return jax.tree.leaves((optax.apply_updates(params, updates), moments)), loss

        return step

    def cost(self) -> Cost:
        """The matrix products: one forward, two backward a layer, but none for the gradient of the data.

        Element-wise work is not counted, as is usual for training steps. Bytes are those that no
        implementation avoids: parameters and Adam's moments read and written, data read. Of several steps
        it is so many times that of one, though what is small may stay in a cache from step to step.
        """
        moved = 4 * _ADAM_PASSES * self._parameters()
        data = self.batch * (self.widths[0] * itemsize(self.dtype) + 4)
        steps = self.steps_a_call
        return Cost(flops=steps * self._flops(), bytes=float(steps * (moved + data)), steps=steps)

    def memory_bytes(self) -> int:
        """Parameters, gradients, two moments, a copy of the parameters in `dtype`, activations, data."""
        held = self._parameters() * (4 * 4 + itemsize(self.dtype))
        return held + 2 * self.batch * sum(self.widths) * itemsize(self.dtype)

    def inputs(self, seed: int) -> tuple[list[Array], Array, Array]:
        """Leaves of parameters and Adam's state, features (batch, features), labels (batch,).

        Kernels are He-uniform: ±sqrt(6 / fan-in). The label is the sign of the first feature.
        """
        x, y = self.data(seed)
        params, moments = self._shapes
        leaves: list[Array] = []
        for stream, leaf in enumerate(jax.tree.leaves(params), start=1):
            if len(leaf.shape) == 2:
                bound = np.float32(math.sqrt(6 / leaf.shape[0]))
                leaves.append(uniform(leaf.shape, "float32", seed=seed, stream=stream))
                leaves[-1] *= bound
            else:
                leaves.append(_zeros(leaf.shape, np.float32))
        leaves += [_zeros(leaf.shape, leaf.dtype) for leaf in jax.tree.leaves(moments)]
        return leaves, x, y

    def data(self, seed: int) -> tuple[Array, Array]:
        """The batch: features (batch, features) and labels (batch,)."""
        x = uniform((self.batch, self.widths[0]), self.dtype, seed=seed, stream=0)
        y = aligned_empty((self.batch,), np.float32)
        y[:] = x[:, 0] > 0
        return x, y

    def verify(
        self, inputs: tuple[list[Array], Array, Array], output: Any, precision: str, run: Callable[..., Any]
    ) -> Accuracy:
        """Loss and gradients against float64; not the updated weights.

        Adam's first update is nearly the sign of the gradient, which would turn rounding near zero into
        large errors. Of a large step only some rows of the batch are checked. Of several steps, the losses
        of the first ones are also held against as many calls of a single step on the same device.
        """
        leaves, x, y = inputs
        losses = np.ravel(np.asarray(output, np.float64))
        chained = self._chained(inputs, min(len(losses), CHAINED_STEPS), run) if self.loops else []
        rows = min(self.batch, max(1, int(CHECKED_FLOPS / self._flops() * self.batch)))
        x, y = x[:rows], y[:rows]
        params = leaves[: len(jax.tree.leaves(self._shapes[0]))]
        loss, gradients, layers = run(self._checked, params, x, y)
        kernels = [leaf for leaf in params if leaf.ndim == 2]
        biases = [leaf for leaf in params if leaf.ndim == 1]
        active = [np.asarray(layer) > 0 for layer in layers[:-1]]
        exact_loss, exact, exact_layers = reference(kernels, biases, x, y, active)
        computed = [leaf for leaf in gradients if leaf.ndim == 2]
        errors = [abs(float(loss) - exact_loss) / abs(exact_loss)]
        errors += [norm_error(leaf, other) for leaf, other in zip(computed, exact, strict=True)]
        # A unit on the wrong side of its ReLU must lie within rounding of zero.
        for on, layer in zip(active, exact_layers, strict=False):
            wrong = np.abs(layer[on != (layer > 0)])
            errors.append(float(wrong.max() / np.sqrt(np.mean(layer**2))) if wrong.size else 0.0)
        if rows == self.batch:
            errors.append(abs(losses[0] - exact_loss) / abs(exact_loss))
        errors += [abs(found - loss) / abs(loss) for found, loss in zip(losses, chained, strict=False)]
        error = largest(errors) if np.isfinite(losses).all() else math.inf
        rounding = len(self.widths) * sum_tolerance(self.dtype, precision, max(*self.widths, rows))
        tolerance = max(rounding, float(jnp.finfo("float32").eps))  # the type that gradients come in
        return judged(error, tolerance, f"NumPy float64, loss and gradients, {rows} of {self.batch} rows")

    def _chained(self, inputs: Inputs, count: int, run: Callable[..., Any]) -> list[float]:
        """The losses of `count` calls of a single step, each of which takes up what the one before gave."""
        leaves, x, y = inputs
        losses = []
        for _ in range(count):
            leaves, loss = run(self._step, leaves, x, y)
            losses.append(float(loss))
        return losses

    def _loss(self, params: Any, x: jax.Array, y: jax.Array) -> jax.Array:
        return self._loss_and_layers(params, x, y)[0]

    def _loss_and_layers(self, params: Any, x: jax.Array, y: jax.Array) -> tuple[jax.Array, list[jax.Array]]:
        layers = nnx.merge(self._split[0], params).preactivations(x)
        # At least float32, as mixed-precision training does: a float16 mean loses the loss.
        logits = layers[-1][:, 0].astype(jnp.promote_types(self.dtype, jnp.float32))
        return optax.sigmoid_binary_cross_entropy(logits, y).mean(), layers

    def _checked(self, leaves: list[jax.Array], x: jax.Array, y: jax.Array) -> Any:
        params = jax.tree.unflatten(jax.tree.structure(self._shapes[0]), leaves)
        (loss, layers), gradients = jax.value_and_grad(self._loss_and_layers, has_aux=True)(params, x, y)
        return loss, jax.tree.leaves(gradients), layers

    @cached_property
    def _split(self) -> tuple[Any, Any]:
        """The model's structure, and the shapes of its parameters: no array is made."""
        graph, shapes = nnx.split(nnx.eval_shape(lambda: Perceptron(self.widths, self.dtype, nnx.Rngs(0))))
        return graph, shapes

    @cached_property
    def _shapes(self) -> tuple[Any, Any]:
        """Shapes of parameters and of Adam's state."""
        params = self._split[1]
        return params, jax.eval_shape(optax.adam(LEARNING_RATE).init, params)

    def _flops(self) -> float:
        products = [i * o for i, o in pairwise(self.widths)]
        return 2.0 * self.batch * (3 * sum(products) - products[0])

    def _parameters(self) -> int:
        return sum((i + 1) * o for i, o in pairwise(self.widths))


def _zeros(shape: tuple[int, ...], dtype: Any) -> Array:
    zeros = aligned_empty(shape, dtype)
    zeros.fill(0)
    return zeros

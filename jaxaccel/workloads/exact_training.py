"""Training in float64, by NumPy alone: what the losses of a training on a device are held against."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np

from jaxaccel.workloads.base import Array

# Adam's, as Optax has them: Kingma and Ba, Adam: a method for stochastic optimization, 2015.
BETA_1, BETA_2, EPSILON = 0.9, 0.999, 1e-8
# Multiplications of a product that is done without BLAS: its threads, beside those of others, took 50 ms
# for a step that takes 2 ms of one core (a hidden layer of 2048, busy 2-core EPYC).
_SMALL = 1 << 22


def product(a: Array, b: Array) -> Array:
    """(m, k) @ (k, n) -> (m, n)."""
    small = a.shape[0] * a.shape[1] * b.shape[1] <= _SMALL
    result: Array = np.einsum("ij,jk->ik", a, b) if small else a @ b
    return result


def forward(weights: Sequence[Array], biases: Sequence[Array], x: Array) -> list[Array]:
    """The features, what each hidden layer gives after its ReLU, and the logits: (rows, width) each."""
    acts = [x]
    for w, b in zip(weights[:-1], biases[:-1], strict=True):
        acts.append(np.maximum(product(acts[-1], w) + b, 0.0))
    return [*acts, product(acts[-1], weights[-1]) + biases[-1]]


def loss_and_gradients(
    weights: Sequence[Array], biases: Sequence[Array], x: Array, y: Array
) -> tuple[float, list[Array], list[Array]]:
    """Binary cross-entropy on logits, and its gradients by kernels and biases: backpropagation by hand."""
    *acts, logits = forward(weights, biases, x)
    z = logits[:, 0]
    loss = float(np.mean(np.logaddexp(0, z) - z * y))  # in the form that does not overflow
    sigmoid = np.exp(-np.logaddexp(0, -z))
    delta = ((sigmoid - y) / z.size)[:, None]
    by_weights, by_biases = list[Array](), list[Array]()
    for w, act in zip(reversed(weights), reversed(acts), strict=True):
        by_weights.insert(0, product(act.T, delta))
        by_biases.insert(0, delta.sum(axis=0))
        delta = np.where(act > 0, product(delta, w.T), 0.0)
    return loss, by_weights, by_biases


def losses(
    kernels: Sequence[Array],
    biases: Sequence[Array],
    batches: Iterable[tuple[Array, Array]],
    rate: float,
    corrected_in: Callable[[float], Any] = np.float64,
) -> list[float]:
    """The loss of each step of a training with Adam on batches in turn: that before the step's update.

    corrected_in: the type of what corrects the moments for having begun with nothing. Optax has it in
    float32, in which 1 - 0.999^t is at first up to 6e-5 off.
    """
    betas = corrected_in(BETA_1), corrected_in(BETA_2)
    many = len(kernels)
    held = [leaf.astype(np.float64) for leaf in (*kernels, *biases)]
    first, second = [np.zeros_like(leaf) for leaf in held], [np.zeros_like(leaf) for leaf in held]
    found = []
    for step, (x, y) in enumerate(batches, start=1):
        loss, *gradients = loss_and_gradients(
            held[:many], held[many:], x.astype(np.float64), y.astype(np.float64)
        )
        found.append(loss)
        unseen = [float(1 - beta ** corrected_in(step)) for beta in betas]
        for at, gradient in enumerate((*gradients[0], *gradients[1])):
            first[at] = BETA_1 * first[at] + (1 - BETA_1) * gradient
            second[at] = BETA_2 * second[at] + (1 - BETA_2) * gradient**2
            mean, spread = first[at] / unseen[0], second[at] / unseen[1]
            held[at] = held[at] - rate * mean / (np.sqrt(spread) + EPSILON)
    return found

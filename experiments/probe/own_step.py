"""Own code with a carry: a step of gradient descent with momentum on a least-squares problem.

size: the unknowns; there are 256 right-hand sides.
"""

import jax
import jax.numpy as jnp

SIDES = 256


def step(state, a, b):
    """(state, a, b) -> (next state, mean square of the residual)."""
    residual = a @ state["x"] - b
    gradient = a.T @ residual / a.shape[0]
    momentum = 0.9 * state["momentum"] - 0.1 * gradient
    return {"x": state["x"] + momentum, "momentum": momentum}, jnp.mean(residual**2)


def make_args(size, key):
    """The first state, the matrix and the right-hand sides."""
    first, second = jax.random.split(key)
    a = jax.random.normal(first, (size, size)) / jnp.sqrt(size)
    b = jax.random.normal(second, (size, SIDES))
    return {"x": jnp.zeros((size, SIDES)), "momentum": jnp.zeros((size, SIDES))}, a, b

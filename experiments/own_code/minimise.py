"""Gradient descent with momentum to a given precision, in one while_loop: how many steps depends on the data.

    python -m jaxaccel.run workload=custom workload.fn=experiments.own_code.minimise:solve \
        workload.args=experiments.own_code.minimise:make_args \
        workload.reference=experiments.own_code.minimise:exact size=64
"""

import jax
import jax.numpy as jnp
import numpy as np

CONDITION, MOST_STEPS = 10.0, 500


def solve(a, b, precision):
    """Minimise x.a.x / 2 - b.x, a symmetric, by heavy-ball steps: (n, n), (n,), () -> (n,)."""
    root = np.sqrt(CONDITION)
    rate, momentum = 4 / (1 + root) ** 2, ((root - 1) / (root + 1)) ** 2

    def goes_on(state):
        _, _, gradient, i = state
        return (jnp.linalg.norm(gradient) > precision * jnp.linalg.norm(b)) & (i < MOST_STEPS)

    def step(state):
        x, before, gradient, i = state
        after = x - rate * gradient + momentum * (x - before)
        return after, x, a @ after - b, i + 1

    zero = jnp.zeros_like(b)
    return jax.lax.while_loop(goes_on, step, (zero, zero, -b, 0))[0]


def exact(a, b, precision):
    """The minimum, by solving for it in float64."""
    return np.linalg.solve(a.astype(np.float64), b.astype(np.float64))


def make_args(size, dtype):
    """A matrix with eigenvalues from 1 to 10, a vector, and the gradient at which to stop."""
    rng = np.random.default_rng(0)
    basis = np.linalg.qr(rng.normal(size=(size, size)))[0]
    a = (basis * np.linspace(1, CONDITION, size)) @ basis.T
    return (a + a.T).astype(dtype) / 2, rng.normal(size=size).astype(dtype), np.sqrt(np.finfo(dtype).eps) / 30

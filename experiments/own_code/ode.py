"""Runge-Kutta steps of many Lorenz systems side by side, by vmap. size: how many systems.

    python -m jaxaccel.run workload=custom workload.fn=experiments.own_code.ode:advance \
        workload.args=experiments.own_code.ode:make_args 'workload.static=[2]' size=4096
"""

import jax
import jax.numpy as jnp

SIGMA, RHO, BETA = 10.0, 28.0, 8 / 3


def lorenz(state):
    """The derivative of one system: (3,) -> (3,)."""
    x, y, z = state
    return jnp.stack([SIGMA * (y - x), x * (RHO - z) - y, x * y - BETA * z])


def rk4(state, dt):
    """One classical Runge-Kutta step of one system: (3,), () -> (3,)."""
    k1 = lorenz(state)
    k2 = lorenz(state + dt / 2 * k1)
    k3 = lorenz(state + dt / 2 * k2)
    k4 = lorenz(state + dt * k3)
    return state + dt / 6 * (k1 + 2 * k2 + 2 * k3 + k4)


def advance(states, dt, steps):
    """All systems by a few steps: (n, 3), () -> (n, 3)."""
    for _ in range(steps):
        states = jax.vmap(rk4, in_axes=(0, None))(states, dt)
    return states


def make_args(size, key, dtype):
    """Where the systems begin, the length of a step, and how many steps there are."""
    return jax.random.uniform(key, (size, 3), dtype, -10, 10), 0.01, 4

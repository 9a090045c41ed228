"""Own code whose kernel never ends."""

import jax
import jax.numpy as jnp


def forever(x):
    """Spins on the device until the process ends."""
    return jax.lax.while_loop(lambda s: s[0, 0] < 3e38, lambda s: jnp.tanh(s @ s) * 0.5, x)


def make_args(size, key):
    """A square matrix of that size."""
    return (jax.random.uniform(key, (size, size)) * 0.1,)

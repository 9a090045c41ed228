"""A root and a minimum by Optimistix. Lines that jaxaccel needs are marked `# added`."""

import jax
import jax.numpy as jnp
import optimistix as optx


def residual(y, args):
    return y - jnp.tanh(args @ y + 1.0) / 2


def rosenbrock(y, args):
    return jnp.sum(100.0 * (y[1:] - y[:-1] ** 2) ** 2 + (args - y[:-1]) ** 2)


@jax.jit
def root(y0, matrix):
    return optx.root_find(residual, optx.Newton(rtol=1e-5, atol=1e-5), y0, matrix).value


@jax.jit
def minimum(y0, one):
    return optx.minimise(rosenbrock, optx.BFGS(rtol=1e-4, atol=1e-4), y0, one, throw=False).value


def root_args(size, key):  # added
    matrix = jax.random.normal(key, (size, size)) / size
    return jnp.zeros(size), matrix  # added


def minimum_args(size):  # added
    return jnp.linspace(-0.5, 0.5, size), jnp.float32(1.0)  # added

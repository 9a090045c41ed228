"""A step of variational inference, and the gradient of a potential, in NumPyro: a logistic regression.

Lines that jaxaccel needs are marked `# added`.
"""

import jax
import jax.numpy as jnp
import numpyro
import numpyro.distributions as dist
from numpyro.infer import SVI, Trace_ELBO
from numpyro.infer.autoguide import AutoNormal
from numpyro.infer.util import potential_energy


def model(x, y):
    weights = numpyro.sample("weights", dist.Normal(0.0, 1.0).expand([x.shape[1]]).to_event(1))
    with numpyro.plate("data", x.shape[0]):
        numpyro.sample("y", dist.Bernoulli(logits=x @ weights), obs=y)


svi = SVI(model, AutoNormal(model), numpyro.optim.Adam(1e-2), Trace_ELBO())


@jax.jit
def update(state, x, y):
    return svi.update(state, x, y)


@jax.jit
def gradient(values, x, y):
    return jax.value_and_grad(lambda values: potential_energy(model, (x, y), {}, values))(values)


def data(size, key):
    x = jax.random.normal(key, (256, size))
    return x, (x[:, 0] > 0).astype(jnp.float32)


def update_args(size, key):  # added
    x, y = data(size, key)
    return svi.init(key, x, y), x, y  # added


def gradient_args(size, key):  # added
    return {"weights": jax.random.normal(key, (size,))}, *data(size, key)  # added

"""A training step in Equinox. Lines that jaxaccel needs are marked `# added`."""

import equinox as eqx
import jax
import jax.numpy as jnp
import optax

optimizer = optax.adamw(1e-3)


def mean_square(model, x, y):
    return jnp.mean((jax.vmap(model)(x) - y) ** 2)


@eqx.filter_jit
def step(model, opt_state, x, y):
    loss, grads = eqx.filter_value_and_grad(mean_square)(model, x, y)
    updates, opt_state = optimizer.update(grads, opt_state, eqx.filter(model, eqx.is_array))
    return eqx.apply_updates(model, updates), opt_state, loss


def make_args(size, key):  # added
    model = eqx.nn.MLP(in_size=size, out_size=1, width_size=size, depth=2, key=key)
    opt_state = optimizer.init(eqx.filter(model, eqx.is_array))
    x = jax.random.normal(key, (128, size))
    y = jnp.sin(x[:, :1])
    return model, opt_state, x, y  # added

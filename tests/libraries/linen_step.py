"""A training step in Flax Linen with a TrainState. Lines that jaxaccel needs are marked `# added`."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax
from flax.training.train_state import TrainState


class Network(nn.Module):
    width: int

    @nn.compact
    def __call__(self, x):
        x = nn.relu(nn.Dense(self.width)(x))
        return nn.Dense(10)(x)


@jax.jit
def train_step(state, x, labels):
    def cross_entropy(params):
        logits = state.apply_fn({"params": params}, x)
        return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()

    loss, grads = jax.value_and_grad(cross_entropy)(state.params)
    return state.apply_gradients(grads=grads), loss


def make_args(size, key):  # added
    model = Network(size)
    x = jax.random.normal(key, (128, size))
    labels = jnp.argmax(x[:, :10], axis=1)
    params = model.init(key, x)["params"]
    state = TrainState.create(apply_fn=model.apply, params=params, tx=optax.adam(1e-3))
    return state, x, labels  # added

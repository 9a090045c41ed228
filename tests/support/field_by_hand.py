"""Two functions of tests/field as they are written where nothing may change in place."""

import jax
import jax.numpy as jnp
import optax
from flax import nnx


class Net(nnx.Module):
    def __init__(self, width, rngs):
        self.a = nnx.Linear(width, width, rngs=rngs)
        self.b = nnx.Linear(width, 1, rngs=rngs)

    def __call__(self, x):
        return self.b(nnx.relu(self.a(x)))


def _model_and_optimizer(size):
    model = Net(size, nnx.Rngs(0))
    return model, nnx.Optimizer(model, optax.adam(1e-3), wrt=nnx.Param)


def _merged(state, size):
    graph, _ = nnx.split(nnx.eval_shape(lambda: _model_and_optimizer(size)))
    return nnx.merge(graph, state)


def train_step(state, x, y):
    model, optimizer = _merged(state, x.shape[1])
    loss, grads = nnx.value_and_grad(lambda m: jnp.mean((m(x) - y) ** 2))(model)
    optimizer.update(model, grads)
    return nnx.state((model, optimizer)), loss


def forward(state, x, y):
    model, _ = _merged(state, x.shape[1])
    return jnp.mean((model(x) - y) ** 2)


def make_training(size, key):
    x = jax.random.normal(key, (128, size))
    return nnx.state(_model_and_optimizer(size)), x, x[:, :1]


def step(state, x):
    g = jax.grad(lambda w: jnp.mean((x @ w) ** 2))(state["w"])
    return {"w": state["w"] - 0.1 * g}, jnp.mean(x)


def make_dict(size, key):
    return {"w": jnp.eye(size)}, jax.random.normal(key, (size, size))

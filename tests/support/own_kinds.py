"""Own code that keeps state, donates, captures or ignores: what the tests of tracing measure."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

CACHE: dict = {}
KEPT: list = []
UNSORTABLE = {1: 2, "a": 3}
KEYS = jax.random.split(jax.random.key(0), 4)
FEW, MANY = np.arange(8, dtype=np.float32), np.ones((600, 600), np.float32)


class Net(nnx.Module):
    """State of three kinds: parameters, batch statistics, a random stream."""

    def __init__(self, width, rngs):
        self.inner = nnx.Linear(width, width, rngs=rngs)
        self.norm = nnx.BatchNorm(width, rngs=rngs)
        self.drop = nnx.Dropout(0.5, rngs=rngs)
        self.outer = nnx.Linear(width, 1, rngs=rngs)

    def __call__(self, x):
        return self.outer(self.drop(nnx.relu(self.norm(self.inner(x)))))


def _train(model, optimizer, x, y):
    loss, gradients = nnx.value_and_grad(lambda m: jnp.mean((m(x) - y) ** 2))(model)
    optimizer.update(model, gradients)
    return loss


def net_and_batch(size, key):
    model = Net(size, nnx.Rngs(0))
    optimizer = nnx.Optimizer(model, optax.adam(1e-3), wrt=nnx.Param)
    x = jax.random.normal(key, (16, size))
    return model, optimizer, x, x[:, :1]


in_place = nnx.jit(_train)
in_place_donated = nnx.jit(_train, donate_argnums=(0, 1))


def in_place_without_jit(model, optimizer, x, y):
    return _train(model, optimizer, x, y)


@nnx.jit
def in_place_and_returned(model, optimizer, x, y):
    return model, optimizer, _train(model, optimizer, x, y)


@nnx.jit
def in_place_alone(model, optimizer, x, y):
    _train(model, optimizer, x, y)


def counts(state, x):
    state["n"] += 1
    return x * state["n"]


def number_and_vector():
    return {"n": 0}, np.ones(8, np.float32)


OPTIMIZER = optax.adam(1e-3)


def _optax(params, state, x):
    loss, gradients = jax.value_and_grad(lambda p: jnp.mean((x @ p["w"]) ** 2))(params)
    updates, state = OPTIMIZER.update(gradients, state)
    return optax.apply_updates(params, updates), state, loss


donates = jax.jit(_optax, donate_argnums=(0, 1))
donates_the_batch = jax.jit(_optax, donate_argnums=(0, 1, 2))
returns_without_donating = jax.jit(_optax)


def params_and_batch(size, key):
    params = {"w": jnp.eye(size)}
    return params, OPTIMIZER.init(params), jax.random.normal(key, (4, size))


@functools.partial(jax.jit, donate_argnums=0)
def put(buffer, i):
    return buffer.at[i].set(1.0)


def buffer_and_place():
    return np.zeros(4096, np.float32), 5


@functools.partial(jax.jit, compiler_options={"xla_cpu_enable_fast_math": True}, donate_argnums=0)
def fast(x):
    return x + jnp.sum(x * x)


def calls_fast(x):
    return fast(x) * 2


@functools.partial(jax.jit, static_argnums=1)
def powers(x, n):
    return x**n


def matrix_and_number(size):
    return np.ones((size, size), np.float32), 3


def matrix(size):
    return np.full((size, size), 0.5, np.float32)


def matrix_and_dict(size):
    return {"w": matrix(size)}, matrix(size)


def keeps_in_a_dict(x):
    if "sum" not in CACHE:
        CACHE["sum"] = jnp.sum(x)
    return x * 2


def keeps_in_a_list(x):
    KEPT.append(x * 2)
    return x + 1


def keeps_beside_unsortable(x):
    KEPT.append(x * UNSORTABLE["a"])
    return x + 1


@jax.jit
def keeps_inside_of_its_jit(x):
    CACHE["y"] = x * 3
    return x + 1


class Holder:
    def step(self, x):
        self.last = x * 2
        return x + 1


keeps_in_an_object = Holder().step


def adds_an_entry(state, x):
    state["new"] = x * 2
    return jnp.sum(x @ state["w"])


def changes_a_type(state, x):
    state["w"] = state["w"].astype(jnp.bfloat16)
    return jnp.sum(x)


def only_the_shape(x):
    return jnp.ones(x.shape) * 2


@jax.jit
def ignores_inside_of_its_jit(x):
    return jnp.arange(10.0)


def whole_numbers():
    return np.arange(8, dtype=np.int32)


def folded_away(x):
    return x * 0 + jnp.arange(8)


def constants_alone(x):
    a = jnp.ones((64, 64))
    return x + (a @ a)[0, 0]


def partly_constants(x):
    a = jnp.ones((16, 16))
    return x @ x + (a @ a)[0, 0]


def captures_few(x):
    return x * FEW


def captures_keys(x):
    return x + jax.random.normal(jax.random.fold_in(KEYS[1], x.sum().astype(int)), x.shape)


def captures_many(x):
    return x + jnp.asarray(MANY)[0, 0]


def in_halves(size):
    return jnp.ones((size, size), jnp.bfloat16)


async def waits(x):
    return x


def passes_none(x):
    return {"x": x * 2, "nothing": None}


def prints(x):
    print("traced")
    return x * 2

"""A training step with Optax, its state donated: the next takes the memory of the one before. size: width.

    python -m jaxaccel.run workload=custom workload.fn=experiments.own_code.training:step \
        workload.args=experiments.own_code.training:make_args workload.carry=true size=256
"""

import jax
import jax.numpy as jnp
import numpy as np
import optax

BATCH, CLASSES = 64, 10
OPTIMISER = optax.chain(optax.clip_by_global_norm(1.0), optax.adamw(1e-3))


def step(state, batch):
    """(state, batch) -> (next state, loss)."""
    params, moments = state["params"], state["moments"]
    loss, gradients = jax.value_and_grad(cross_entropy)(params, *batch)
    updates, moments = OPTIMISER.update(gradients, moments, params)
    return {"params": optax.apply_updates(params, updates), "moments": moments}, loss


def step_alone(state, batch):
    """The same, for those who do not look at the loss: state, batch -> next state."""
    return step(state, batch)[0]


def cross_entropy(params, x, labels):
    """Of a network with one hidden layer."""
    hidden = jax.nn.gelu(x @ params["in"] + params["bias"])
    logits = (hidden @ params["out"]).astype(jnp.float32)
    return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()


def make_args(size, dtype):
    """The first state, and a batch of features and labels."""
    rng = np.random.default_rng(0)
    params = {
        "in": jnp.asarray(rng.normal(size=(size, size)) / np.sqrt(size), dtype),
        "bias": jnp.zeros(size, dtype),
        "out": jnp.asarray(rng.normal(size=(size, CLASSES)) / np.sqrt(size), dtype),
    }
    batch = jnp.asarray(rng.normal(size=(BATCH, size)), dtype), rng.integers(0, CLASSES, BATCH)
    return {"params": params, "moments": OPTIMISER.init(params)}, batch

"""A causal self-attention block of Flax NNX, forward and backward. size: the length of the sequence.

    python -m jaxaccel.run workload=custom workload.fn=experiments.own_code.attention:loss_and_gradients \
        workload.args=experiments.own_code.attention:make_args size=128
"""

import jax
import jax.numpy as jnp
from flax import nnx

BATCH, WIDTH, HEADS = 4, 64, 4


class Block(nnx.Module):
    """Normalisation, causal attention and a residual connection: (batch, length, width) -> the same."""

    def __init__(self, dtype, rngs):
        self.norm = nnx.LayerNorm(WIDTH, dtype=dtype, rngs=rngs)
        self.attention = nnx.MultiHeadAttention(
            HEADS, WIDTH, dtype=dtype, decode=False, deterministic=True, rngs=rngs
        )

    def __call__(self, x):
        mask = nnx.make_causal_mask(x[..., 0])
        return x + self.attention(self.norm(x), mask=mask)


def loss_and_gradients(params, x, target):
    """The mean squared error of a block, and its gradients: what a training step computes of it."""

    def loss(params):
        y = nnx.merge(STRUCTURE[str(x.dtype)], params)(x)
        return jnp.mean((y.astype(jnp.float32) - target.astype(jnp.float32)) ** 2)

    return jax.value_and_grad(loss)(params)


def make_args(size, key, dtype):
    """Parameters, a batch of sequences, and what the block is to make of them."""
    for_data, for_target = jax.random.split(key)
    params = nnx.state(Block(dtype, nnx.Rngs(key)), nnx.Param)
    shape = (BATCH, size, WIDTH)
    return params, jax.random.normal(for_data, shape, dtype), jax.random.normal(for_target, shape, dtype)


# Structures hold no arrays: the parameters are arguments, as they change from step to step.
STRUCTURE = {
    name: nnx.split(nnx.eval_shape(lambda name=name: Block(jnp.dtype(name), nnx.Rngs(0))))[0]
    for name in ("float32", "bfloat16", "float16")
}

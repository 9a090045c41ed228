"""Code that can't be measured, each piece in its own way; and what is right, to go with it."""

import os

import jax
import jax.numpy as jnp
import numpy as np

A_NUMBER = 3
NUMBERS = np.arange(8, dtype=np.float32)
MANY_NUMBERS = np.ones((600, 600), np.float32)  # more than a program may hold
kept = []


class Model:
    """A class, where a function is wanted."""


def good(x, y):
    return x * y + 1


def pair_of_vectors(size=8):
    return np.arange(1, size + 1, dtype=np.float32), np.ones(size, np.float32)


def one_vector():
    return np.arange(8, dtype=np.float32)


def nothing(x, y):
    x + y


def branches(x, y):
    if x[0] > 0:
        return x
    return y


def helper_of_numpy(x, y):
    return np.linalg.norm(x) + y


def captures(x, y):
    return x + y + jnp.asarray(MANY_NUMBERS)[0, :8]


def leaks(x, y):
    kept.append(x)
    return kept[0] + y


def draws(x, y):
    return x + y + np.random.default_rng().random()


def raises_a_secret(x, y):
    raise RuntimeError(f"the token is {os.environ.get('SOME_TOKEN', 'unknown')}")


def raises_megabytes(x, y):
    raise RuntimeError("begin " + "x" * 5_000_000 + " end")


def not_a_number(x, y):
    return x / (y - 1) - x / (y - 1)


def scaled(x, how):
    return x * len(how)


def with_text():
    return one_vector(), "a text"


def with_a_list():
    return one_vector(), [1, 2]


def with_objects():
    return one_vector(), np.array([None, "x"])


def without_arrays():
    return (None, {})


def wants_n(n):
    return np.ones(n)


def fails_to_make():
    return {"x": 1}["y"]


def carry_of_another_type(x, y):
    return (x + y).astype(jnp.float16)


def carry_of_another_shape(x, y):
    return jnp.concatenate([x, y]), x


def carry_of_another_structure(x, y):
    return {"x": x}, x


def carry_without_output(x, y):
    return x + y, None


def right(x, y):
    return x.astype(np.float64) * y + 1


def wrong(x, y):
    return x * y + 1.01


def of_another_shape(x, y):
    return np.zeros(3)


def random_of_key(key, x):
    return x + jax.random.normal(key, x.shape)


@jax.jit
def random_and_jitted(x, y):
    return x * y * np.random.rand()

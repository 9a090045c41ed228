"""Steps of libraries in a process without jaxaccel: `python plain.py SECONDS MODULE:FN:ARGS:SIZE ...`.

Prints a line of JSON each: FLOPs of the program as XLA counts them before it optimises, the libraries that it
calls (whose work XLA does not count), every array that a call returns or leaves changed in its arguments (as
bytes in hexadecimal), and, where SECONDS is above 0, the median time of a call of the program and of one as
it is written, each sampled for so long.
"""

import importlib
import inspect
import json
import re
import statistics
import sys
import time

import jax
import numpy as np


def array(leaf):
    return isinstance(leaf, jax.Array | np.ndarray)


def is_key(leaf):
    return array(leaf) and jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key)


def numbers(leaf):
    """A random key as the numbers that it is made of."""
    return jax.random.key_data(leaf) if is_key(leaf) else leaf


def as_program(function, arguments):
    """The function over the arrays among its arguments, and these. It returns what it changes, too.

    Random keys come to it and go as numbers.
    """
    leaves, structure = jax.tree.flatten(arguments)
    places = [place for place, leaf in enumerate(leaves) if array(leaf)]

    def program(*arrays):
        mine = list(leaves)
        for place, value in zip(places, arrays, strict=True):
            mine[place] = jax.random.wrap_key_data(value) if is_key(leaves[place]) else value
        given = jax.tree.unflatten(structure, mine)
        result = function(*given)
        after = jax.tree.leaves(given)
        changed = [after[place] for place in places if after[place] is not mine[place]]
        return [numbers(leaf) for leaf in (*jax.tree.leaves(result), *changed) if array(leaf)]

    return program, [numbers(leaves[place]) for place in places]


def lowered(function, arguments):
    """By the library's own way to lower it.

    XLA's count of a program that takes keys as such is two FLOPs less: there they are numbers.
    """
    if any(map(is_key, jax.tree.leaves(arguments))):
        program, arrays = as_program(function, arguments)
        return jax.jit(program).lower(*arrays)
    found = function.lower(*arguments)
    return getattr(found, "lowered", found)


def median_s(call, for_s):
    jax.block_until_ready(call())
    took, end = [], time.perf_counter() + for_s
    while len(took) < 5 or time.perf_counter() < end:
        start = time.perf_counter()
        jax.block_until_ready(call())
        took.append(time.perf_counter() - start)
    return statistics.median(took)


def measure(module, fn, args, size, for_s):
    """What is said of one step."""
    found = importlib.import_module(module)
    function, make = getattr(found, fn), getattr(found, args)
    given = {"size": int(size), "key": jax.random.key(0)}
    wanted = inspect.signature(make).parameters
    asked = {name: value for name, value in given.items() if name in wanted}
    # On the CPU, in whose terms XLA counts FLOPs, and where jaxaccel makes arguments.
    with jax.default_device(jax.devices("cpu")[0]):
        made = make(**asked)
        untouched = lowered(function, made)
    arguments = jax.tree.map(lambda leaf: jax.device_put(leaf) if array(leaf) else leaf, made)
    told = {"flops": float(untouched.cost_analysis()["flops"])}
    told["libraries"] = sorted(set(re.findall(r'custom_call @"?([\w.$]+)', untouched.as_text())))
    program, arrays = as_program(function, arguments)
    compiled = jax.jit(program).lower(*arrays).compile()
    results = compiled(*arrays)
    told["results"] = [[str(leaf.dtype), leaf.shape, np.asarray(leaf).tobytes().hex()] for leaf in results]
    if for_s > 0:
        told["program_s"] = median_s(lambda: compiled(*arrays), for_s)
        told["as_called_s"] = median_s(lambda: function(*arguments), for_s)
    return told


if __name__ == "__main__":
    for step in sys.argv[2:]:
        print(json.dumps(measure(*step.split(":"), float(sys.argv[1]))), flush=True)

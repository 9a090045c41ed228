"""What the workloads of a user's own code share: its arguments, and what it may be told."""

import functools
import inspect
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxaccel.workloads.base import Array, Inputs, aligned_empty
from jaxaccel.workloads.importing import BadCodeError, find, first_line

GIVEN = ("size", "key", "dtype")  # what `make_args` may ask for, by these names


# --- arguments -------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Signature:
    """How the positional arguments of a user's function are made of a flat list of arrays, and back.

    structure: of the arguments that are traced. fixed: their leaves that are not arrays, by index among all
    leaves. Per array: `positions` has the argument that it is in, `places` its name in messages; `keys` the
    implementation of a typed random key, `numbers` whether it was a Python number. static: whole arguments
    that are settings, by position.
    """

    structure: Any
    positions: tuple[int, ...]
    places: tuple[str, ...]
    keys: Mapping[int, str]
    numbers: frozenset[int]
    fixed: Mapping[int, Any]
    static: Mapping[int, Any]

    def arguments(self, arrays: Sequence[Any]) -> tuple[Any, ...]:
        """The positional arguments, with `arrays` (or anything else in their place) at their places."""
        left = iter(arrays)
        count = len(arrays) + len(self.fixed)
        leaves = [self.fixed[index] if index in self.fixed else next(left) for index in range(count)]
        full = list(jax.tree.unflatten(self.structure, leaves))
        for position in sorted(self.static):
            full.insert(position, self.static[position])
        return tuple(full)

    def traced(self, arguments: Sequence[Any]) -> tuple[Any, ...]:
        """Of all positional arguments, those that are not static."""
        return tuple(value for position, value in enumerate(arguments) if position not in self.static)

    def avals(self, arrays: Sequence[Any]) -> list[jax.ShapeDtypeStruct]:
        """What JAX traces in place of the arrays: typed keys, and numbers of any width as Python's are."""
        typed = jax.eval_shape(lambda leaves: wrap_keys(leaves, self.keys), shapes_of(list(arrays)))
        return [
            jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, weak_type=index in self.numbers)
            for index, leaf in enumerate(typed)
        ]

    def as_given(self, arrays: Sequence[Any]) -> tuple[Any, ...]:
        """The positional arguments as the user gave them: keys are typed ones, numbers those of Python."""
        leaves = wrap_keys(list(arrays), self.keys)
        for index in self.numbers:
            leaves[index] = leaves[index].item()
        return self.arguments(leaves)


def wrap_keys(leaves: Sequence[Any], keys: Mapping[int, str]) -> list[Any]:
    """The leaves, with the numbers of typed random keys made keys again."""
    return [
        jax.random.wrap_key_data(jnp.asarray(leaf), impl=keys[index]) if index in keys else leaf
        for index, leaf in enumerate(leaves)
    ]


def make_arguments(
    key: str, name: Any, *, size: int, dtype: str, seed: int, root: str | None = None
) -> tuple[Any, ...]:
    """What the function that makes the arguments gives: a tuple of them, or the only one.

    It computes on the CPU, in a GPU's worker too: random numbers of two devices may differ in the last bit.

    **Raises** BadCodeError where it asks for what is not given, or takes no size and one is asked for.
    """
    function = find(key, name, root)
    values = {"size": size, "key": None, "dtype": jnp.dtype(dtype)}
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):
        parameters = {}.values()
    asked = [p.name for p in parameters if p.name in GIVEN and p.kind is not p.POSITIONAL_ONLY]
    for parameter in parameters:
        needed = parameter.default is parameter.empty and parameter.kind in (
            parameter.POSITIONAL_ONLY,
            parameter.POSITIONAL_OR_KEYWORD,
            parameter.KEYWORD_ONLY,
        )
        if needed and parameter.name not in asked:
            raise BadCodeError(
                f"`{key}`: {name} may take {', '.join(GIVEN)}, by name, but needs {parameter.name!r}"
            )
    if "size" not in asked and size != 1:
        raise BadCodeError(f"`size`={size}: {name} takes no `size`, so there is only size 1")
    # The arguments are no part of what `precision` is asked of: both devices are to have the same.
    with jax.default_device(jax.devices("cpu")[0]), jax.default_matmul_precision("highest"):
        if "key" in asked:
            values["key"] = jax.random.key(seed)
        made = function(**{parameter: values[parameter] for parameter in asked})
    return made if type(made) is tuple else (made,)


def check_call(name: str, function: Callable[..., Any], arguments: Sequence[Any]) -> None:
    """Refuse arguments that are too many or too few.

    **Raises** BadCodeError, with what the function takes.
    """
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):
        return
    try:
        signature.bind(*arguments)
    except TypeError as error:
        count = f"{len(arguments)} argument{'' if len(arguments) == 1 else 's'}"
        needed = [
            parameter.name
            for parameter in signature.parameters.values()
            if parameter.kind is parameter.KEYWORD_ONLY and parameter.default is parameter.empty
        ]
        hint = ""
        if needed:
            hint = f"; arguments are given by position: wrap {name} in a function that gives `{needed[0]}`"
        elif len(arguments) == 1 and isinstance(arguments[0], list):
            hint = "; a list is one argument: return a tuple"
        raise BadCodeError(
            f"`workload.args` gives {count}, and {name} takes {signature}: {first_line(error)}{hint}"
        ) from None


def split(
    key: str, arguments: tuple[Any, ...], static: Sequence[int], *, fixes: bool = False
) -> tuple[Inputs, Signature]:
    """The arrays of the arguments, flat and on the host, and the Signature that makes arguments of them.

    fixes: leaves that are not arrays stay fixed, as `equinox.filter_jit` has it; so they do, in any case,
    inside of Equinox's modules.

    **Raises** BadCodeError for a leaf that is no array, and static positions that are none.
    """
    for position in static:
        if position >= len(arguments):
            raise BadCodeError(
                f"`workload.static`: there is no position {position}: `{key}` gives {len(arguments)} "
                f"argument{'' if len(arguments) == 1 else 's'}, from 0 on"
            )
        try:
            hash(arguments[position])
        except TypeError:
            raise BadCodeError(
                f"`workload.static`: argument {position} is a {type(arguments[position]).__name__}, which "
                "can't be hashed: a static argument is a setting, such as a number, a text or a tuple of them"
            ) from None
    traced = tuple(value for i, value in enumerate(arguments) if i not in static)
    traced_positions = [i for i in range(len(arguments)) if i not in static]
    paths, structure = jax.tree_util.tree_flatten_with_path(traced)
    in_modules = jax.tree.leaves(_in_equinox_modules(traced))
    leaves: list[Array] = []
    positions, places, keys, numbers, fixed = list[int](), list[str](), {}, set(), {}
    for number, (path, leaf) in enumerate(paths):
        if (fixes or in_modules[number]) and not isinstance(leaf, jax.Array | np.ndarray | np.generic):
            fixed[number] = leaf
            continue
        index = len(leaves)
        position = traced_positions[path[0].idx]
        place = f"argument {position}{jax.tree_util.keystr(path[1:])}"
        if isinstance(leaf, jax.Array) and jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
            keys[index] = str(jax.random.key_impl(leaf))
            leaf = jax.random.key_data(leaf)
        elif isinstance(leaf, bool | int | float | complex) and not isinstance(leaf, np.generic):
            numbers.add(index)
        leaves.append(_host(key, place, leaf))
        positions.append(position)
        places.append(place)
    if not leaves:
        raise BadCodeError(f"`{key}` gives no arrays: with nothing to compute from, XLA computes it once")
    signature = Signature(
        structure=structure,
        positions=tuple(positions),
        places=tuple(places),
        keys=keys,
        numbers=frozenset(numbers),
        fixed=fixed,
        static={i: arguments[i] for i in sorted(static)},
    )
    return tuple(leaves), signature


def _in_equinox_modules(tree: Any) -> Any:
    """For each leaf, whether it lies inside of a module of Equinox: there, what is no array is a setting."""

    def is_module(node: Any) -> bool:
        bases = type(node).__mro__
        return any(base.__module__.startswith("equinox") and base.__name__ == "Module" for base in bases)

    def flags(node: Any) -> Any:
        inside = is_module(node)
        return jax.tree.map(lambda _: inside, node)

    return jax.tree.map(flags, tree, is_leaf=is_module)


def _host(key: str, place: str, leaf: Any) -> Array:
    """A leaf as an array on the host, of a type that JAX has at its present width, aligned."""
    if not isinstance(leaf, jax.Array | np.ndarray | np.generic | bool | int | float | complex):
        raise BadCodeError(
            f"`{key}`: {place} is a {type(leaf).__name__}, not an array or a number; a setting goes into "
            "`workload.static`"
        )
    if isinstance(leaf, jax.Array) and len(leaf.devices()) > 1:
        raise BadCodeError(
            f"`{key}`: {place} is spread over {len(leaf.devices())} devices, and one device is measured"
        )
    array = np.asarray(leaf)
    numeric = jnp.issubdtype(array.dtype, np.number) or array.dtype == np.bool_
    if not (numeric and (array.dtype.type.__module__ == "numpy" or _runs(array.dtype))):
        raise BadCodeError(f"`{key}`: {place} is an array of {array.dtype}, which JAX can't compute with")
    made = aligned_empty(array.shape, jax.dtypes.canonicalize_dtype(array.dtype))
    made[...] = array
    return made


@functools.cache
def _runs(dtype: Any) -> bool:
    """Whether JAX computes with a type of ml_dtypes: it has names for some with which it does not."""
    try:
        jax.block_until_ready(jax.jit(lambda array: array[::-1])(np.zeros(2, dtype)))
    except Exception:  # each of them fails in its own way
        return False
    return True


def plain(result: Any) -> Any:
    """A result in which typed random keys have become their numbers."""
    return jax.tree.map(
        lambda leaf: (
            jax.random.key_data(leaf)
            if isinstance(leaf, jax.Array) and jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)
            else leaf
        ),
        result,
    )


def shapes_of(arguments: Any) -> Any:
    """Shapes and types in place of arrays."""
    return jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype), arguments)


def nbytes(*trees: Any) -> int:
    """Bytes of all arrays, or of arrays of such shapes."""
    return sum(math.prod(leaf.shape) * leaf.dtype.itemsize for leaf in jax.tree.leaves(trees))


# --- settings --------------------------------------------------------------------------------------


def check_counts(*, flops: Any, bytes_: Any, tolerance: Any) -> None:
    """Refuse a cost or a tolerance that is no number.

    **Raises** ValueError, naming the argument and the value.
    """
    for name, value in (("flops", flops), ("bytes", bytes_), ("tolerance", tolerance)):
        known = isinstance(value, int | float) and not isinstance(value, bool)
        if value is not None and not (known and 0 <= value < math.inf):
            raise ValueError(f"`workload.{name}` must be a number of at least 0, got {value!r}")

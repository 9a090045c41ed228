"""What the workloads of a user's own code share: finding it by name, and its arguments."""

import difflib
import functools
import importlib
import inspect
import math
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core.primitives import convert_element_type_p

from jaxaccel.workloads.base import Array, Inputs, aligned_empty

GIVEN = ("size", "key", "dtype")  # what `make_args` may ask for, by these names


class BadCodeError(ValueError):
    """A user's code, or what names it, can't be measured as it is; the message is one line for its author."""


# --- by name ---------------------------------------------------------------------------------------


def find(key: str, name: Any) -> Callable[..., Any]:
    """The function that `name`, as package.module:function, is the name of; `key` is the setting that has it.

    A module is looked for in the folder where the command was started, too.

    **Raises** BadCodeError in each of the many ways in which it may not be one.
    """
    if name is None:
        raise BadCodeError(f"`{key}` must be given, as my_package.my_module:function")
    module_name, colon, attribute = name.partition(":") if isinstance(name, str) else ("", "", "")
    if not (colon and module_name and attribute) or ":" in attribute:
        raise BadCodeError(f"`{key}` must be package.module:function, got {name!r}")
    found: Any = _module(key, module_name)
    for part in attribute.split("."):
        if not hasattr(found, part):
            near = _near(part, [other for other in vars(found) if not other.startswith("__")])
            raise BadCodeError(f"`{key}`: {module_name} has no {attribute!r}{near}")
        found = getattr(found, part)
    if inspect.isclass(found):
        raise BadCodeError(f"`{key}` must name a function, got {name!r}, which is a class: call it in one")
    if not callable(found):
        raise BadCodeError(f"`{key}` must name a function, got {name!r}, which is a {type(found).__name__}")
    return found  # type: ignore[no-any-return]


def _module(key: str, name: str) -> Any:
    here = str(Path.cwd())
    if here not in sys.path:  # as `python -m` has it, unless it was told to be safe
        sys.path.insert(0, here)
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        missing = error.name or ""
        if name == missing or name.startswith(f"{missing}."):
            near = _near(missing, [path.stem for path in Path().glob("*") if path.suffix in (".py", "")])
            raise BadCodeError(
                f"`{key}`: there is no module {missing!r} in {Path.cwd().name}/, nor is one installed{near}"
            ) from error
        raise BadCodeError(f"`{key}`: {name} needs the module {missing!r}, which is not there") from error
    except (Exception, SystemExit) as error:
        raise BadCodeError(
            f"`{key}`: importing {name} failed with {type(error).__name__}: {first_line(error)}"
        ) from error


def _near(name: str, others: Iterable[str]) -> str:
    close = difflib.get_close_matches(name, list(others), n=3)
    return f"; did you mean {' or '.join(close)}?" if close else ""


def first_line(error: BaseException) -> str:
    """What an exception says, first of all."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


# --- arguments -------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Signature:
    """What the leaves of the arguments are to the user's function, which gets them as arrays of numbers.

    keys: the implementation of typed random keys, by leaf; numbers: the leaves that were Python numbers.
    static: arguments that are no arrays, by position.
    """

    keys: Mapping[int, str]
    numbers: frozenset[int]
    static: Mapping[int, Any]

    def restored(self, arguments: Sequence[Any]) -> tuple[Any, ...]:
        """The positional arguments as the user's function takes them, in place of arrays that are traced."""
        leaves, structure = jax.tree.flatten(tuple(arguments))
        for index, implementation in self.keys.items():
            leaves[index] = jax.random.wrap_key_data(leaves[index], impl=implementation)
        for index in self.numbers:  # JAX takes a Python number as one of any width
            leaves[index] = convert_element_type_p.bind(
                leaves[index], new_dtype=leaves[index].dtype, weak_type=True, sharding=None
            )
        full = list(jax.tree.unflatten(structure, leaves))
        for position in sorted(self.static):
            full.insert(position, self.static[position])
        return tuple(full)

    def typed(self, arguments: Sequence[Any]) -> tuple[Any, ...]:
        """The arguments that are traced, with their keys typed ones."""
        leaves, structure = jax.tree.flatten(tuple(arguments))
        for index, implementation in self.keys.items():
            leaves[index] = jax.random.wrap_key_data(jnp.asarray(leaves[index]), impl=implementation)
        return tuple(jax.tree.unflatten(structure, leaves))

    def for_numpy(self, arguments: Sequence[Any]) -> tuple[Any, ...]:
        """The same for a reference in NumPy: keys are typed ones, numbers those of Python."""
        leaves, structure = jax.tree.flatten(self.typed(arguments))
        for index in self.numbers:
            leaves[index] = leaves[index].item()
        full = list(jax.tree.unflatten(structure, leaves))
        for position in sorted(self.static):
            full.insert(position, self.static[position])
        return tuple(full)


def make_arguments(key: str, name: Any, *, size: int, dtype: str, seed: int) -> tuple[Any, ...]:
    """What the function that makes the arguments gives: a tuple of them, or the only one.

    It computes on the CPU, in a GPU's worker too: random numbers of two devices may differ in the last bit.

    **Raises** BadCodeError where it asks for what is not given, or takes no size and one is asked for.
    """
    function = find(key, name)
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
        raise BadCodeError(
            f"`workload.args` gives {count}, and {name} takes {signature}: {first_line(error)}"
        ) from None


def split(key: str, arguments: tuple[Any, ...], static: Sequence[int]) -> tuple[Inputs, Signature]:
    """The arguments that are traced, as host arrays, and what they stand for.

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
    positions = [i for i in range(len(arguments)) if i not in static]
    paths, structure = jax.tree_util.tree_flatten_with_path(traced)
    leaves, keys, numbers = [], {}, set()
    for index, (path, leaf) in enumerate(paths):
        if isinstance(leaf, jax.Array) and jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
            keys[index] = str(jax.random.key_impl(leaf))
            leaf = jax.random.key_data(leaf)
        elif isinstance(leaf, bool | int | float | complex) and not isinstance(leaf, np.generic):
            numbers.add(index)
        place = f"argument {positions[path[0].idx]}{jax.tree_util.keystr(path[1:])}"
        leaves.append(_host(key, place, leaf))
    if not leaves:
        raise BadCodeError(f"`{key}` gives no arrays: with nothing to compute from, XLA computes it once")
    signature = Signature(
        keys=keys, numbers=frozenset(numbers), static={i: arguments[i] for i in sorted(static)}
    )
    return tuple(jax.tree.unflatten(structure, leaves)), signature


def _host(key: str, place: str, leaf: Any) -> Array:
    """A leaf as an array on the host, of a type that JAX has at its present width, aligned."""
    if not isinstance(leaf, jax.Array | np.ndarray | np.generic | bool | int | float | complex):
        raise BadCodeError(
            f"`{key}`: {place} is a {type(leaf).__name__}, not an array or a number; a setting goes into "
            "`workload.static`"
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

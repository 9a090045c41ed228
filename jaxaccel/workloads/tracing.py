"""Traces a user's function into one program of flat arrays. Arguments changed in place become results.

The function runs in Python only here. The program is what is compiled, timed and counted afterwards.
"""

import functools
import gc
import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np
from jax.extend.core import jaxpr_as_fun

from jaxaccel.workloads.importing import BadCodeError, first_line
from jaxaccel.workloads.jaxprs import (
    arguments_read,
    constant_share,
    constants,
    device_count,
    jits,
    only_jit,
    outline,
    without_jit,
)
from jaxaccel.workloads.own import Signature

# A share of work that depends on no argument: XLA may do it once. Above the first it is told, above the
# second there is too little left to measure.
CONSTANT_TOLD, CONSTANT_REFUSED = 0.1, 0.5


@dataclass(frozen=True, kw_only=True)
class Fixed:
    """A leaf of a result that is no array: it is the same object in the arguments."""

    value: Any


@dataclass(frozen=True, kw_only=True)
class Program:
    """A traced function. `jaxpr` takes the arrays of a Signature and returns arrays.

    result: what the function returns, with the index of an array of the jaxpr's results in place of each
    leaf. changed: of arguments that are changed in place, the index of the array and that of the result which
    is left there. donated: indices of the arrays whose memory the function's own jit gives to its results.
    options: that jit's compiler options. nested_donation: whether a jitted function that it calls among other
    things donates, which JAX leaves out there.
    """

    jaxpr: Any
    result: Any
    changed: Mapping[int, int]
    donated: frozenset[int]
    options: Mapping[str, Any]
    nested_donation: bool
    constant_share: float

    def __call__(self, *arrays: Any) -> list[Any]:
        """Run it."""
        return list(jaxpr_as_fun(self.jaxpr)(*arrays))

    def shape(self, index: int) -> Any:
        """Shape and type of a result."""
        aval = self.jaxpr.out_avals[index]
        return jax.ShapeDtypeStruct(aval.shape, aval.dtype)

    def same_result(self, index: int) -> int:
        """The first result that is the very array of this one."""
        return self._firsts[id(self.jaxpr.jaxpr.outvars[index])]

    @functools.cached_property
    def _firsts(self) -> dict[int, int]:
        variables = self.jaxpr.jaxpr.outvars
        return {id(variable): index for index, variable in reversed(list(enumerate(variables)))}


def trace(name: str, function: Callable[..., Any], signature: Signature, arrays: Sequence[Any]) -> Program:
    """Trace a function of the arguments that `signature` makes of `arrays`. `name` is the function's.

    **Raises** BadCodeError for what can't be measured as it is: see the messages.
    """
    avals = signature.avals(arrays)
    traced = _Traced(name, function, signature)
    jaxpr = traced.jaxpr(avals)
    if (count := device_count(jaxpr)) > 1:
        raise BadCodeError(
            f"`workload.fn`: {name} is spread over {count} devices, and one device is measured"
        )
    # Traced twice: what differs comes from outside of the arguments, and would be frozen by the first.
    jax.clear_caches()  # or a function that is jitted already would be looked up, not traced again
    again = _Traced(name, function, signature)
    if _identity(jaxpr) != _identity(again.jaxpr(avals)):
        raise BadCodeError(
            f"`workload.fn`: {name} is another program each time JAX traces it: it has a side effect, "
            "or draws random numbers without a key"
        )
    donated = traced.donated
    if (call := only_jit(jaxpr)) is not None:
        gives = {id(v) for v, does in zip(call.invars, call.params["donated_invars"], strict=True) if does}
        donated |= {index for index, v in enumerate(jaxpr.jaxpr.invars) if id(v) in gives}
        jaxpr = jax.make_jaxpr(without_jit(jaxpr))(*avals)
    if not jaxpr.out_avals:
        raise BadCodeError(f"`workload.fn`: {name} returns no arrays: XLA would leave all of its work out")
    if not any(arguments_read(jaxpr)):
        raise BadCodeError(
            f"`workload.fn`: {name} reads none of its arguments: XLA would compute it once, when it compiles"
        )
    if (share := constant_share(jaxpr)) > CONSTANT_REFUSED:
        raise BadCodeError(
            f"`workload.fn`: {share:.0%} of the work of {name} depends on no argument: XLA may compute it "
            "once, when it compiles; let `workload.args` give what it computes with"
        )
    ends, begins = jaxpr.jaxpr.outvars, jaxpr.jaxpr.invars
    # Flax puts back all of a module's arrays, also those that it has not changed.
    kept = {argument for argument, result in traced.changed.items() if ends[result] is begins[argument]}
    changed = {argument: result for argument, result in traced.changed.items() if argument not in kept}
    return Program(
        jaxpr=jaxpr,
        result=traced.result,
        changed=changed,
        donated=donated - kept,
        options=traced.options,
        nested_donation=any(any(call.params["donated_invars"]) for call in jits(jaxpr)),
        constant_share=share,
    )


def constants_in_words(program: Program) -> str:
    """The arrays that a program captured, by shape, and their bytes; empty where there are none."""
    found = [np.asarray(value) for value in constants(program.jaxpr)]
    if not found:
        return ""
    shapes = list(dict.fromkeys(f"{value.dtype}{list(value.shape)}" for value in found))
    more = f" and {len(shapes) - 3} more" if len(shapes) > 3 else ""
    return f"{', '.join(shapes[:3])}{more}, {sum(value.nbytes for value in found)} bytes in all"


def declared_static(function: Callable[..., Any]) -> tuple[int, ...]:
    """The positions that a jitted function itself takes as static; of one that is not jitted, none.

    JAX has no public way to ask for them.
    """
    for candidate in (function, getattr(function, "jitted_fn", None)):  # the latter is that of nnx.jit
        if (info := getattr(candidate, "_jit_info", None)) is not None:
            return tuple(sorted(position for position in info.static_argnums if position >= 0))
    return ()


def holds_settings(function: Callable[..., Any]) -> bool:
    """Whether a function holds fixed what is no array, as those of `equinox.filter_jit` do."""
    return type(function).__module__.startswith("equinox")


class _Traced:
    """Traces a function once. Keeps the structure of its result, and which arguments it changed in place."""

    def __init__(self, name: str, function: Callable[..., Any], signature: Signature) -> None:
        self._name, self._signature = name, signature
        self.donated, self.options = frozenset[int](), dict[str, Any]()
        info = getattr(function, "_jit_info", None)
        if info is not None and info.compiler_options_kvs:
            # JAX takes options of the outermost jit only, which here is that of the tracing.
            self.options = dict(info.compiler_options_kvs)
            given = set(info.donate_argnums)
            self.donated = frozenset(i for i, at in enumerate(signature.positions) if at in given)
            function = inspect.unwrap(function)
        self._function = function
        self.result: Any = None
        self.changed: dict[int, int] = {}

    def jaxpr(self, avals: Sequence[Any]) -> Any:
        """Trace it.

        **Raises** BadCodeError where a traced value is kept beyond the call: its work would be left out.
        """
        before = _live_tracers()
        try:
            jaxpr = jax.make_jaxpr(self._flat)(*avals)
        except Exception as error:
            if type(error).__name__ == "TraceContextError":  # Flax's
                raise BadCodeError(
                    f"`workload.fn`: {self._name} changes a Flax object that it does not take as an "
                    f"argument: let `workload.args` give the model and the optimizer ({first_line(error)})"
                ) from error
            if "compiler_options" in str(error):  # of a jit within, which JAX refuses
                raise BadCodeError(
                    f"`workload.fn`: {self._name} calls a function that is jitted with compiler_options, "
                    "which JAX takes of the outermost jit only: name that function, or give its options to a "
                    "jit around this one"
                ) from error
            raise
        kept = [tracer for tracer in _live_tracers().values() if id(tracer) not in before]
        if kept:
            places = ", ".join(_places(self._function, kept)) or "a variable outside of it"
            raise BadCodeError(
                f"`workload.fn`: {self._name} keeps what it computes beyond its call, in {places}; XLA would "
                "leave that work out: return it"
            )
        return jaxpr

    def _flat(self, *arrays: Any) -> list[Any]:
        arguments = self._signature.arguments(arrays)
        result = self._function(*arguments)
        outputs: list[Any] = []
        self.result = self._indexed(result, outputs)
        self.changed = self._changes(arguments, arrays, outputs)
        return outputs

    def _indexed(self, result: Any, outputs: list[Any]) -> Any:
        """The result with an index in place of each array, which is put among the outputs."""
        if inspect.isgenerator(result) or inspect.iscoroutine(result):
            what = "a generator: it yields" if inspect.isgenerator(result) else "a coroutine: it is async"
            result.close()
            raise BadCodeError(f"`workload.fn`: {self._name} returns {what}; let it return arrays")
        paths, structure = jax.tree_util.tree_flatten_with_path(result)
        fixed = list(self._signature.fixed.values())
        found: list[Any] = []
        for path, leaf in paths:
            if isinstance(leaf, jax.Array | np.ndarray | np.generic | bool | int | float | complex):
                found.append(len(outputs))
                outputs.append(leaf)
            elif any(leaf is value for value in fixed):
                found.append(Fixed(value=leaf))
            else:
                place = jax.tree_util.keystr(path)
                raise BadCodeError(
                    f"`workload.fn`: {self._name} returns a {type(leaf).__name__}"
                    f"{f' at {place}' if place else ''}: it must return arrays, or containers of arrays"
                )
        return jax.tree.unflatten(structure, found)

    def _changes(self, arguments: Sequence[Any], arrays: Sequence[Any], outputs: list[Any]) -> dict[int, int]:
        """What the function has put in place of arrays in its arguments, which goes among the outputs."""
        signature = self._signature
        leaves, structure = jax.tree.flatten(signature.traced(arguments))
        if structure != signature.structure:
            raise BadCodeError(
                f"`workload.fn`: {self._name} changes which entries its arguments have: return what it adds, "
                "for the next call would be another program"
            )
        after = [leaf for number, leaf in enumerate(leaves) if number not in signature.fixed]
        changed = dict[int, int]()
        for index, (came, left) in enumerate(zip(arrays, after, strict=True)):
            if left is came:
                continue
            shape, dtype = np.shape(left), getattr(left, "dtype", None) or jax.dtypes.result_type(left)
            if (shape, dtype) != (came.shape, came.dtype):
                raise BadCodeError(
                    f"`workload.fn`: {self._name} changes {signature.places[index]} from "
                    f"{came.dtype}{list(came.shape)} to {dtype}{list(shape)}: the next call would be another "
                    "program"
                )
            changed[index] = len(outputs)
            outputs.append(left)
        return changed


def _identity(jaxpr: Any) -> Any:
    """What two tracings of one program have in common."""
    return outline(jaxpr.jaxpr), [np.asarray(value).tobytes() for value in constants(jaxpr)]


def _live_tracers() -> dict[int, Any]:
    """All values of a tracing that are still referred to, by id."""
    gc.collect()
    # By its type alone: isinstance would ask a weak reference to an object that is gone, which raises.
    return {id(found): found for found in gc.get_objects() if issubclass(type(found), jax.core.Tracer)}


def _places(function: Callable[..., Any], tracers: Sequence[Any]) -> list[str]:
    """Names, as the function sees them, of what holds any of these values."""
    wanted = {id(tracer) for tracer in tracers}
    plain = inspect.unwrap(function)
    plain = plain.func if isinstance(plain, functools.partial) else plain
    owner = getattr(plain, "__self__", None)
    names = {} if owner is None else {f"self.{name}": value for name, value in vars(owner).items()}
    try:
        seen = inspect.getclosurevars(getattr(plain, "__func__", plain))
        names |= {**seen.globals, **seen.nonlocals}
    except TypeError:  # not a Python function
        pass
    return [name for name, value in names.items() if wanted & set(map(id, _held(value)))]


def _held(value: Any) -> list[Any]:
    """What a container, or an object with attributes, holds."""
    held = [value, *_leaves(value)]
    return [*held, *_leaves(dict(vars(value)))] if hasattr(value, "__dict__") else held


def _leaves(value: Any) -> list[Any]:
    """The leaves of a pytree; none of a dictionary whose keys JAX can't sort."""
    try:
        return [*jax.tree.leaves(value)]
    except ValueError:
        return []

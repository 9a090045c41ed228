"""Which results of a user's program are arguments of its next call."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import jax

from jaxaccel.workloads.base import Inputs
from jaxaccel.workloads.importing import BadCodeError
from jaxaccel.workloads.own import Signature
from jaxaccel.workloads.tracing import Fixed, Program


@dataclass(frozen=True, kw_only=True)
class Plan:
    """The program of a call, and which of its results are arguments of the next call.

    shapes: of the arrays of `signature`. carried: by index of the array, that of the result. fed_back: the
    same for the function as its author calls it: by position of the argument, the place in what it returns,
    None for all of it. own: the results that are not carried.
    """

    program: Program
    signature: Signature
    shapes: Sequence[Any]
    carried: Mapping[int, int]
    fed_back: Mapping[int, int | None]
    own: tuple[int, ...]

    @property
    def order(self) -> list[int]:
        """Indices of the arrays as the program is called with them: what is carried comes first."""
        return [*self.carried, *(i for i in range(len(self.shapes)) if i not in self.carried)]

    @property
    def result_shapes(self) -> list[Any]:
        """Shapes and types of what a call gives: what is carried, then the rest."""
        return [self.program.shape(index) for index in (*self.carried.values(), *self.own)]

    def call_inputs(self, arrays: Sequence[Any]) -> Inputs:
        """The arguments of a call: a list of what is carried, if anything is, then the other arrays."""
        ordered = [arrays[index] for index in self.order]
        count = len(self.carried)
        return (ordered[:count], *ordered[count:]) if count else tuple(ordered)

    def arrays(self, inputs: Inputs) -> list[Any]:
        """The arrays, as the signature has them, of the arguments of a call."""
        return [leaf for _, leaf in sorted(zip(self.order, jax.tree.leaves(inputs), strict=True))]


def make_plan(
    name: str, program: Program, signature: Signature, shapes: Sequence[Any], *, carry: bool
) -> Plan:
    """What the next call takes from the one before: what the function changed in place, and its `carry`.

    Without a `carry` that is asked for, it is what the function's own jit donates, if the function returns
    it. `name` is the function's.

    **Raises** BadCodeError where a carry that is asked for does not come back.
    """
    result = jax.tree.map(
        lambda place: place if _fixed(place) else plain_shape(program.shape(place)),
        program.result,
        is_leaf=_fixed,
    )
    arguments = signature.arguments(shapes)
    returned = (
        _first_argument(name, arguments, result)
        if carry
        else _donated_arguments(signature, program, arguments, result)
    )
    carried = {index: program.same_result(place) for index, place in program.changed.items()}
    for position, place in returned.items():
        part = program.result if place is None else program.result[place]
        places = [leaf for leaf in jax.tree.leaves(part, is_leaf=_fixed) if not _fixed(leaf)]
        arrays = [index for index, at in enumerate(signature.positions) if at == position]
        carried |= zip(arrays, map(program.same_result, places), strict=True)
    everything = [leaf for leaf in jax.tree.leaves(program.result, is_leaf=_fixed) if not _fixed(leaf)]
    distinct = dict.fromkeys(map(program.same_result, everything))
    return Plan(
        program=program,
        signature=signature,
        shapes=shapes,
        carried=dict(sorted(carried.items())),
        fed_back=returned,
        own=tuple(index for index in distinct if index not in carried.values()),
    )


def _first_argument(name: str, arguments: Sequence[Any], result: Any) -> dict[int, int | None]:
    """Where in the result the next first argument is."""
    # A carry may be a tuple of two itself.
    two = isinstance(result, tuple) and len(result) == 2
    pair = two and difference(arguments[0], result) is not None
    if (wrong := difference(arguments[0], result[0] if pair else result)) is not None:
        raise BadCodeError(
            f"`workload.carry`: {name} must return the next first argument, or (next, output); "
            f"of what it returns, {wrong}"
        )
    if pair and not jax.tree.leaves(result[1]):
        raise BadCodeError(
            f"`workload.carry`: {name} returns (next, output) with no array in its output: let it "
            "return the next first argument alone"
        )
    return {0: 0 if pair else None}


def _donated_arguments(
    signature: Signature, program: Program, arguments: Sequence[Any], result: Any
) -> dict[int, int | None]:
    """For each argument that the function's own jit donates, the place of its next value in the result.

    It is the whole result, or the first entry of a tuple that is such as the argument, in their order.
    """
    found: dict[int, int | None] = {}
    donated = [
        position
        for position in dict.fromkeys(signature.positions)
        if all(i in program.donated for i, at in enumerate(signature.positions) if at == position)
    ]
    entries = list(enumerate(result)) if isinstance(result, tuple | list) else []
    for position in donated:
        if not found and difference(arguments[position], result) is None:
            return {position: None}
        for place, entry in entries:
            if place not in found.values() and difference(arguments[position], entry) is None:
                found[position] = place
                break
    return found


def _fixed(node: Any) -> bool:
    return isinstance(node, Fixed)


def plain_shape(shape: Any) -> Any:
    """Shape and type of an array. Of a typed random key, those of the numbers that it is made of."""
    if jax.numpy.issubdtype(shape.dtype, jax.dtypes.prng_key):
        return jax.eval_shape(jax.random.key_data, shape)
    return shape


def difference(before: Any, after: Any) -> str | None:
    """How the carry that comes back differs in structure, shape or type; None where it does not."""
    structures = [jax.tree.structure(side, is_leaf=_fixed) for side in (before, after)]
    if structures[0] != structures[1]:
        came, back = (_clipped(str(structure)) for structure in structures)
        return f"the carry has another structure: {came} came in, {back} came back"
    leaves = jax.tree_util.tree_leaves_with_path(before), jax.tree.leaves(after, is_leaf=_fixed)
    for (path, leaf), other in zip(*leaves, strict=True):
        if isinstance(other, Fixed):
            continue  # the same object as in the arguments
        if not hasattr(leaf, "shape") or (leaf.shape, leaf.dtype) != (other.shape, other.dtype):
            came = f"{leaf.dtype}{list(leaf.shape)}" if hasattr(leaf, "shape") else repr(leaf)
            back = f"{other.dtype}{list(other.shape)}"
            return f"the carry's {jax.tree_util.keystr(path) or 'array'} came in as {came} and back as {back}"
    return None


def _clipped(text: str, length: int = 120) -> str:
    text = text.removeprefix("PyTreeDef(").removesuffix(")")
    return text if len(text) <= length else f"{text[: length - 1]}…"

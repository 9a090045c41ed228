"""A function of the user's own: any that JAX can jit, over any pytree."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, ClassVar

import jax

from jaxaccel.records import Accuracy, Cost
from jaxaccel.workloads.answer import verify_own
from jaxaccel.workloads.base import Inputs, check_arguments
from jaxaccel.workloads.jaxprs import called_programs, opened
from jaxaccel.workloads.own import (
    BadCodeError,
    Signature,
    check_call,
    check_counts,
    find,
    make_arguments,
    nbytes,
    plain,
    shapes_of,
    split,
)

_ADDRESS = re.compile(r"0x[0-9a-f]+")


@dataclass(frozen=True, kw_only=True)
class _Plan:
    """What the function's arguments stand for, and what it returns. pair: (next carry, output), not one.

    `inputs` are of `seed`, until they are asked for: some take long to make.
    """

    signature: Signature
    arguments: Inputs  # shapes
    result: Any  # shapes
    pair: bool
    seed: int
    inputs: list[Inputs] = field(default_factory=list)


@dataclass(frozen=True, kw_only=True)
class Custom:
    """`fn` of the arguments that `args` makes, both as package.module:function. What `size` is, `args` says.

    static: positions of arguments that are settings. carry: the first argument is donated, and `fn` returns
    the next one, alone or with an output: (next, output). reference: gives, of the same arguments as NumPy
    arrays, what `fn` returns. flops, bytes: of one call, in place of XLA's count.
    """

    variants: ClassVar[Mapping[str, Any]] = {"direct": None}
    loops: ClassVar[bool] = False
    operations: ClassVar[frozenset[str]] = frozenset()
    sketched: ClassVar[bool] = True

    size: int
    dtype: str = "float32"
    variant: str = "direct"
    fn: str | None = None
    args: str | None = None
    static: Sequence[int] = ()
    carry: bool = False
    reference: str | None = None
    tolerance: float | None = None
    flops: float | None = None
    bytes: float | None = None

    def __post_init__(self) -> None:
        check_arguments(self)
        check_counts(flops=self.flops, bytes_=self.bytes, tolerance=self.tolerance)
        if not isinstance(self.carry, bool):
            raise BadCodeError(f"`workload.carry` must be true or false, got {self.carry!r}")
        positions = list(self.static) if isinstance(self.static, list | tuple) else [None]
        right = all(isinstance(p, int) and not isinstance(p, bool) and p >= 0 for p in positions)
        if not right or len(set(positions)) < len(positions):
            raise BadCodeError(f"`workload.static` must be a list of positions, as [2], got {self.static!r}")
        if self.carry and 0 in positions:
            raise BadCodeError("`workload.static`: the first argument is the carry, which can't be static")
        find("workload.fn", self.fn)
        find("workload.args", self.args)
        if self.reference is not None:
            find("workload.reference", self.reference)

    @property
    def carries(self) -> bool:
        """Whether `carry` says so."""
        return self.carry

    @cached_property
    def function(self) -> Callable[..., Any]:
        """`fn`, of arrays only: keys are wrapped again, static arguments closed over.

        Of a carry that is all that `fn` returns, the output is the first element of each array.
        """
        plan = self._plan
        called = find("workload.fn", self.fn)

        def timed(*arguments: Any) -> Any:
            result = plain(called(*plan.signature.restored(arguments)))
            if not self.carry or plan.pair:
                return tuple(result) if plan.pair else result
            # The barrier keeps the elements from standing in for the arrays in a loop.
            after = jax.lax.optimization_barrier(result)
            return after, [leaf.ravel()[:1] for leaf in jax.tree.leaves(after)]

        return timed

    def cost(self) -> Cost:
        """What is declared; the rest is for XLA to count."""
        return Cost(flops=self.flops, bytes=self.bytes)

    def memory_bytes(self) -> int:
        """Arguments and results; nobody knows the temporaries before the program is compiled."""
        plan = self._plan
        # A donated carry's memory is the next one's.
        return nbytes(plan.arguments, plan.result) - (nbytes(plan.arguments[0]) if self.carry else 0)

    def inputs(self, seed: int) -> Inputs:
        """The arguments that are traced."""
        plan = self._plan
        if plan.inputs and plan.seed == seed:
            return plan.inputs.pop()
        return self._make(seed)[0]

    def answer(self, result: Any) -> Any:
        """Of what a call returned, that which is checked: all of it, or without a reference no pair's carry.

        What an optimiser makes of a gradient near zero depends on rounding.
        """
        if self.carry and self.reference is None:
            return result[1] if self._plan.pair else result[0]
        return result[0] if self.carry and not self._plan.pair else result

    def verify(self, inputs: Inputs, output: Any, precision: str, run: Callable[..., Any]) -> Accuracy:
        """Against `reference`, where there is one. `output` is what `answer` gave."""
        return verify_own(self, lambda: self._plan.signature.for_numpy(inputs), output, precision)

    def _make(self, seed: int) -> tuple[Inputs, Signature]:
        made = make_arguments("workload.args", self.args, size=self.size, dtype=self.dtype, seed=seed)
        check_call(str(self.fn), find("workload.fn", self.fn), made)
        return split("workload.args", made, self.static)

    @cached_property
    def _plan(self) -> _Plan:
        seed = 0  # the default: a case of another makes its arguments twice
        inputs, signature = self._make(seed)
        shapes = shapes_of(inputs)
        called = find("workload.fn", self.fn)

        def once(*arguments: Any) -> Any:
            return plain(called(*signature.restored(arguments)))

        # Traced twice: what differs comes from outside of the arguments, and would be frozen by the first.
        program, result = jax.make_jaxpr(lambda *a: once(*a), return_shape=True)(*shapes)
        jax.clear_caches()  # or a function that is jitted already would be looked up, not traced again
        again = jax.make_jaxpr(lambda *a: once(*a))(*shapes)
        if _outline(program.jaxpr) != _outline(again.jaxpr):
            raise BadCodeError(
                f"`workload.fn`: {self.fn} is another program each time JAX traces it: it has a side effect, "
                "or draws random numbers without a key"
            )
        if not jax.tree.leaves(result):
            raise BadCodeError(
                f"`workload.fn`: {self.fn} returns no arrays: XLA would leave all of its work out"
            )
        pair = False
        if self.carry:
            # A carry may be a tuple of two itself.
            two = isinstance(result, tuple) and len(result) == 2
            pair = two and difference(shapes[0], result) is not None
            after = result[0] if pair else result
            if (wrong := difference(shapes[0], after)) is not None:
                raise BadCodeError(
                    f"`workload.carry`: {self.fn} must return the next first argument, or (next, output); "
                    f"of what it returns, {wrong}"
                )
            if pair and not jax.tree.leaves(result[1]):
                raise BadCodeError(
                    f"`workload.carry`: {self.fn} returns (next, output) with no array in its output: let it "
                    "return the next first argument alone"
                )
        return _Plan(
            signature=signature, arguments=shapes, result=result, pair=pair, seed=seed, inputs=[inputs]
        )


def difference(before: Any, after: Any) -> str | None:
    """Where what comes back is not such as came in, in words; None where it is. Both are of shapes."""
    structures = [jax.tree.structure(side) for side in (before, after)]
    if structures[0] != structures[1]:
        came, back = (_clipped(str(structure)) for structure in structures)
        return f"the carry has another structure: {came} came in, {back} came back"
    for (path, leaf), other in zip(
        jax.tree_util.tree_leaves_with_path(before), jax.tree.leaves(after), strict=True
    ):
        if (leaf.shape, leaf.dtype) != (other.shape, other.dtype):
            came, back = (f"{side.dtype}{list(side.shape)}" for side in (leaf, other))
            return f"the carry's {jax.tree_util.keystr(path) or 'array'} came in as {came} and back as {back}"
    return None


def _outline(jaxpr: Any, numbers: dict[Any, int] | None = None) -> list[Any]:
    """What a program computes from what, without the addresses of the Python functions that it came from."""
    numbers = {} if numbers is None else numbers
    found: list[Any] = [[numbers.setdefault(v, len(numbers)) for v in (*jaxpr.invars, *jaxpr.constvars)]]
    for equation in jaxpr.eqns:
        operands = [
            _ADDRESS.sub("", str(v.val)) if hasattr(v, "val") else (str(v.aval), numbers.get(v))
            for v in equation.invars
        ]
        results = [(str(v.aval), numbers.setdefault(v, len(numbers))) for v in equation.outvars]
        found.append((equation.primitive.name, operands, results))
        found += [_outline(opened(program)) for program in called_programs(equation)]
    return found


def _clipped(text: str, length: int = 120) -> str:
    text = text.removeprefix("PyTreeDef(").removesuffix(")")
    return text if len(text) <= length else f"{text[: length - 1]}…"

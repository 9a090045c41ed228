"""A function of the user's own: any that JAX can jit, over any pytree."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar

import jax

from jaxaccel.records import Accuracy, Cost, Flag
from jaxaccel.workloads.answer import verify_own
from jaxaccel.workloads.base import Compiling, Inputs, check_arguments
from jaxaccel.workloads.call_plan import Plan, make_plan, plain_shape
from jaxaccel.workloads.importing import BadCodeError, find
from jaxaccel.workloads.own import (
    Signature,
    check_call,
    check_counts,
    make_arguments,
    nbytes,
    plain,
    shapes_of,
    split,
    wrap_keys,
)
from jaxaccel.workloads.tracing import (
    CONSTANT_TOLD,
    Fixed,
    constants_in_words,
    declared_static,
    holds_settings,
    trace,
)

FIRST_SEED = 0  # the default: a case of another makes its arguments twice
CONSTANTS_BYTES = 1 << 20  # what a program may hold in place of taking it as an argument


@dataclass(frozen=True, kw_only=True)
class Custom:
    """`fn` of the arguments that `args` makes, both as package.module:function. What `size` is, `args` says.

    What is timed is the compiled program of one call of `fn`, with flat arrays in and out. Arguments that
    `fn` changes in place (Flax NNX modules, dictionaries) are results of the program, and the next call takes
    them as the last one left them. So it is with arguments that the function's own jit donates, if the
    function returns them, and with the first argument if `carry` is true: then `fn` returns the next one,
    alone or as (next, output), and its memory is reused.

    static: positions of arguments that are settings, beside those that the function's own jit declares.
    reference: gives, of the same arguments as NumPy arrays, what `fn` returns. flops, bytes: of one call, in
    place of XLA's count. root: the folder from which `fn` and `args` are imported first. precision: of matrix
    products, as the case has it.
    """

    variants: ClassVar[Mapping[str, Any]] = {"direct": None}
    loops: ClassVar[bool] = False
    operations: ClassVar[frozenset[str]] = frozenset()
    sketched: ClassVar[bool] = True

    size: int
    dtype: str = "float32"
    variant: str = "direct"
    precision: str = "highest"
    fn: str | None = None
    args: str | None = None
    static: Sequence[int] = ()
    carry: bool = False
    reference: str | None = None
    tolerance: float | None = None
    flops: float | None = None
    bytes: float | None = None
    root: str | None = None

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
        find("workload.fn", self.fn, self.root)
        find("workload.args", self.args, self.root)
        if self.reference is not None:
            find("workload.reference", self.reference, self.root)

    @property
    def carries(self) -> bool:
        """Whether a call takes what the one before it left."""
        return bool(self._plan.carried)

    @cached_property
    def compiling(self) -> Compiling:
        """As the function's own jit has it; a `carry` that is asked for is donated."""
        plan = self._plan
        donates = self.carry or any(index in plan.program.donated for index in plan.carried)
        return Compiling(donates=donates, options=plan.program.options, constants_bytes=CONSTANTS_BYTES)

    @cached_property
    def function(self) -> Callable[..., Any]:
        """The program, of arrays only. Where it carries: (carry, ...) -> (next carry, output).

        Where all that it returns is carried, the output is empty: an element of the carry would be more work
        than its author's program does.
        """
        plan, keys = self._plan, self._plan.signature.keys

        def timed(*inputs: Any) -> Any:
            results = [plain(found) for found in plan.program(*wrap_keys(plan.arrays(inputs), keys))]
            output: Any = [results[index] for index in plan.own]
            if not plan.carried:
                return output[0] if len(output) == 1 else output
            return [results[index] for index in plan.carried.values()], output

        return timed

    @property
    def notes(self) -> Sequence[Flag]:
        """What is to be known of the program that was made of the function."""
        plan, program = self._plan, self._plan.program
        found: dict[str, str] = {}
        if program.constant_share > CONSTANT_TOLD:
            found["constant work"] = (
                f"{program.constant_share:.0%} of the work depends on no argument: XLA may do it once, when "
                "it compiles"
            )
        if left := sorted(program.donated - set(plan.carried)):
            found["donation ignored"] = (
                f"the function's own jit donates {plan.signature.places[left[0]]}, which no result can "
                "replace for the next call: it is not donated here"
            )
        elif program.nested_donation:
            found["donation ignored"] = (
                "a jitted function that it calls donates an argument, which JAX ignores inside of a jit"
            )
        if self.compiling.donates and not self.carry and not set(plan.carried) <= program.donated:
            found["donation differs"] = (
                "all that is carried is donated here; the function's own jit donates a part of it"
            )
        if kinds := self._other_types():
            found["other dtype"] = (
                f"`dtype` is {self.dtype}, and no argument or result is of it: they are {', '.join(kinds)}"
            )
        return [Flag(name=name, metric=None, message=message) for name, message in found.items()]

    @property
    def constants(self) -> str:
        """The arrays that the program holds as constants, in words; empty where there are none."""
        return constants_in_words(self._plan.program)

    @property
    def carried(self) -> str:
        """Which arguments a call takes as the one before left them, in words; empty where `carry` says so."""
        plan = self._plan
        positions = sorted({plan.signature.positions[index] for index in plan.carried})
        if not positions or self.carry:
            return ""
        named = f"argument{'s' if len(positions) > 1 else ''} {' and '.join(map(str, positions))}"
        how = "changed in place" if plan.program.changed else "donated"
        return f"{named}, {how}: each call takes what the one before left there"

    @property
    def carry_names(self) -> list[str]:
        """What the arrays of the carry are called in messages."""
        plan = self._plan
        return [plan.signature.places[index] for index in plan.carried]

    def cost(self) -> Cost:
        """What is declared; the rest is for XLA to count."""
        return Cost(flops=self.flops, bytes=self.bytes)

    def memory_bytes(self) -> int:
        """Arguments and results; nobody knows the temporaries before the program is compiled."""
        plan = self._plan
        reused = [plan.shapes[index] for index in plan.carried] if self.compiling.donates else []
        return nbytes(plan.shapes, [plain_shape(result) for result in plan.result_shapes]) - nbytes(reused)

    def inputs(self, seed: int) -> Inputs:
        """The arguments of a call, as host arrays."""
        plan = self._plan
        held = self._held.pop(seed, None)
        return plan.call_inputs(self._make(seed)[0] if held is None else held)

    def answer(self, result: Any) -> Any:
        """What `fn` returned, of a call's result; without a reference, what is carried is left out.

        What an optimiser makes of a gradient near zero depends on rounding. Where nothing else is returned,
        what is carried is the answer.
        """
        plan = self._plan
        after, output = result if plan.carried else ((), result)
        if not plan.carried:
            output = [output] if len(plan.own) == 1 else output
        known = dict(zip(plan.carried.values(), after, strict=True))
        if plan.own:
            shown = dict(zip(plan.own, output, strict=True))
            known = known | shown if self.reference is not None else shown

        def leaf(place: Any) -> Any:
            if isinstance(place, Fixed):
                return place.value if self.reference is not None else None
            return known.get(plan.program.same_result(place))

        returned = jax.tree.map(leaf, plan.program.result, is_leaf=lambda node: isinstance(node, Fixed))
        # A function that only changes its arguments in place may return nothing.
        return returned if jax.tree.leaves(returned) else list(after)

    def verify(self, inputs: Inputs, output: Any, precision: str, run: Callable[..., Any]) -> Accuracy:
        """Against `reference`, where there is one. `output` is what `answer` gave."""
        plan = self._plan
        return verify_own(self, lambda: plan.signature.as_given(plan.arrays(inputs)), output, precision)

    def caller(self, inputs: Inputs, device: Any) -> Callable[[], Any]:
        """A call of `fn` as its author makes it, in Python, on arguments that lie on the device.

        Each call takes what the one before left, where the program does.
        """
        plan, called = self._plan, self._called
        signature = plan.signature
        hosts = plan.arrays(inputs)
        placed = wrap_keys(jax.device_put(hosts, device, may_alias=False), signature.keys)
        for index in signature.numbers:
            placed[index] = hosts[index].item()
        arguments = list(signature.arguments(placed))

        def call() -> Any:
            result = called(*arguments)
            for position, place in plan.fed_back.items():
                arguments[position] = result if place is None else result[place]
            return result

        return call

    def _other_types(self) -> list[str]:
        """The types of the arguments and results, where none of them is that of the case."""
        plan = self._plan
        shapes = [s for i, s in enumerate(plan.shapes) if i not in plan.signature.keys]
        shapes += plan.result_shapes
        kinds = dict.fromkeys(str(shape.dtype) for shape in shapes)
        # Complex numbers are two of the type.
        named = {"complex64": "float32", "complex128": "float64"}
        return [] if self.dtype in {named.get(kind, kind) for kind in kinds} else list(kinds)

    def _make(self, seed: int) -> tuple[Inputs, Signature]:
        made = make_arguments(
            "workload.args", self.args, size=self.size, dtype=self.dtype, seed=seed, root=self.root
        )
        called = self._called
        check_call(str(self.fn), called, made)
        static = sorted({*self.static, *(p for p in declared_static(called) if p < len(made))})
        return split("workload.args", made, static, fixes=holds_settings(called))

    @property
    def _called(self) -> Callable[..., Any]:
        return find("workload.fn", self.fn, self.root)

    @cached_property
    def _held(self) -> dict[int, Inputs]:
        """Arguments by seed, until they are asked for: some take long to make."""
        return {}

    @cached_property
    def _plan(self) -> Plan:
        inputs, signature = self._make(FIRST_SEED)
        self._held[FIRST_SEED] = inputs
        name = str(self.fn)
        with jax.default_matmul_precision(self.precision):
            program = trace(name, self._called, signature, inputs)
        return make_plan(name, program, signature, shapes_of(list(inputs)), carry=self.carry)

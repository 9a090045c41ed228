"""How many trips the while loops of a program make, by a program that counts them.

Loops are counted wherever they are in the program: in jitted functions, in branches, in scans, in each other.
Not in a kernel of the program's own, an exported program, or the condition of another loop.
"""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax.extend.core import ClosedJaxpr, Literal, jaxpr_as_fun

from jaxaccel.workloads.jaxprs import CALLS, called_programs, opened, primitives

Counted = tuple[Sequence[Any], Any]  # what was computed, and trips


def has_while(program: Any) -> bool:
    """Whether a traced program has a loop whose trips depend on its data."""
    return "while" in primitives(program)


def count_trips(program: Any) -> Callable[..., Any]:
    """A function of a traced program's flat arguments that gives the trips of all its while loops together.

    XLA leaves out of it what no loop needs.
    """
    return lambda *arguments: _run(program.jaxpr, program.consts, arguments)[1]


def _run(jaxpr: Any, consts: Sequence[Any], arguments: Sequence[Any]) -> Counted:
    values = dict(zip((*jaxpr.constvars, *jaxpr.invars), (*consts, *arguments), strict=True))

    def value(atom: Any) -> Any:
        return values[atom] if _is_variable(atom) else atom.val

    trips = jnp.int32(0)
    for equation in jaxpr.eqns:
        operands = [*map(value, equation.invars)]
        count = _counting(equation)
        results, more = count(equation, operands) if count else (_alone(jaxpr, equation, operands), 0)
        trips += more
        values |= zip(equation.outvars, results, strict=True)
    return [*map(value, jaxpr.outvars)], trips


def _counting(equation: Any) -> Callable[[Any, list[Any]], Counted] | None:
    """What counts the trips in an equation; None where it has no loop."""
    name = equation.primitive.name
    loops = name == "while" or any(map(has_while, called_programs(equation)))
    return _COUNTING.get(name) if loops else None


def _alone(jaxpr: Any, equation: Any, operands: list[Any]) -> Sequence[Any]:
    """The results of one equation of a jaxpr, as JAX itself runs it."""
    given = {atom: value for atom, value in zip(equation.invars, operands, strict=True) if _is_variable(atom)}
    one = jaxpr.replace(constvars=[], invars=[*given], outvars=equation.outvars, eqns=[equation])
    results: Sequence[Any] = jaxpr_as_fun(ClosedJaxpr(one, ()))(*given.values())
    return results


def _is_variable(atom: Any) -> bool:
    return not isinstance(atom, Literal)


def _program(program: Any, operands: Sequence[Any]) -> Counted:
    return _run(opened(program), getattr(program, "consts", ()), operands)


def _call(equation: Any, operands: list[Any]) -> Counted:
    params = equation.params
    return _program(params["jaxpr"] if "jaxpr" in params else params["call_jaxpr"], operands)


def _while(equation: Any, operands: list[Any]) -> Counted:
    params = equation.params
    cond_consts, body_consts, start = _cut(operands, params["cond_nconsts"], params["body_nconsts"])

    def goes_on(values: list[Any]) -> Any:
        return jaxpr_as_fun(params["cond_jaxpr"])(*cond_consts, *values)[0]

    def trip(state: Any) -> Any:
        before, trips = state
        after, inner = _program(params["body_jaxpr"], (*body_consts, *before))
        goes = goes_on(before)
        if goes.ndim:  # under vmap: a loop that is over keeps its values until the last one is
            after = [_chosen(goes, *pair) for pair in zip(after, before, strict=True)]
        return after, trips + 1 + inner

    found: Counted = jax.lax.while_loop(lambda state: goes_on(state[0]).any(), trip, (start, jnp.int32(0)))
    return found


def _chosen(which: Any, yes: Any, no: Any) -> Any:
    return jnp.where(which.reshape(which.shape + (1,) * (yes.ndim - which.ndim)), yes, no)


def _scan(equation: Any, operands: list[Any]) -> Counted:
    params = equation.params
    consts, start, rows = _cut(operands, params["num_consts"], params["num_carry"])

    def step(state: Any, row: Any) -> Any:
        found, inner = _program(params["jaxpr"], (*consts, *state[0], *row))
        after, out = found[: len(start)], found[len(start) :]
        return (after, state[1] + inner), out

    settings = {name: params[name] for name in ("length", "reverse", "unroll")}
    (after, trips), out = jax.lax.scan(step, (start, jnp.int32(0)), rows, **settings)
    return [*after, *out], trips


def _cond(equation: Any, operands: list[Any]) -> Counted:
    branches = [
        lambda *given, branch=branch: _typed(_program(branch, given))
        for branch in equation.params["branches"]
    ]
    found: Counted = jax.lax.switch(operands[0], branches, *operands[1:])
    return found


def _typed(counted: Counted) -> Counted:
    return counted[0], jnp.int32(counted[1])


def _solve(equation: Any, operands: list[Any]) -> Counted:
    lengths, programs = equation.params["const_lengths"], equation.params["jaxprs"]
    _, consts, rest = _cut(operands, lengths.matvec + lengths.vecmat, lengths.solve)
    return _program(programs.solve, (*consts, *rest[lengths.transpose_solve :]))


def _cut(operands: list[Any], first: int, second: int) -> tuple[list[Any], list[Any], list[Any]]:
    return operands[:first], operands[first : first + second], operands[first + second :]


_COUNTING: dict[str, Callable[[Any, list[Any]], Counted]] = {
    "while": _while,
    "scan": _scan,
    "cond": _cond,
    "custom_linear_solve": _solve,
    **dict.fromkeys(CALLS, _call),
}

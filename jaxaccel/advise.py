"""`python -m jaxaccel.advise`: which device, from records that are there. It measures nothing."""

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import TYPE_CHECKING

from jaxaccel.cli.exit import BAD_INPUT, OK, command
from jaxaccel.cli.parser import Parser, parser_with_examples
from jaxaccel.cli.record_arguments import choose, given_prices, load, parse_only
from jaxaccel.process.saying import say, tell
from jaxaccel.records.checks import whole_number
from jaxaccel.records.errors import BadInputError

if TYPE_CHECKING:
    from jaxaccel.analyze.advice import Ask, Measured
    from jaxaccel.analyze.money import Prices

EXAMPLES = """\
examples:
  python -m jaxaccel.advise experiments/accounting
  python -m jaxaccel.advise experiments/accounting workload=matvec size=5000 dtype=float32
  python -m jaxaccel.advise DIR workload=mlp_article batch=100
  python -m jaxaccel.advise DIR fn=src/train.py:step size=300
  python -m jaxaccel.advise DIR workload=mlp size=1024 data=host calls=100 --price cpu=0.40 --price gpu=2.10
  python -m jaxaccel.advise experiments/crossover workload=mlp_article batch=100 metric=device

In place of the size it may be a parameter that was measured in several values, such as batch.
data=device (the inputs are resident) or data=host: they come in once for so many `calls`, and the last
output goes back. Of resident data metric=throughput tells of queued calls, metric=device of the work alone.
Times at sizes that were not measured lie on a line between those that were.

exit code: 0 there is an answer, 2 bad input, or a size outside of what was measured
"""
ASKED = ("size", "calls", "data", "metric")


@dataclass(frozen=True, kw_only=True)
class Arguments:
    """The command, read and checked. asked: nothing where nothing but a table is asked for."""

    places: tuple[str, ...]
    only: Mapping[str, tuple[str, ...]]
    asked: Mapping[str, str]
    prices: "Prices | None"


@command
def main(argv: Sequence[str]) -> int:
    """Load, interpolate, say. Returns the exit code."""
    arguments = read(argv)
    from jaxaccel.analyze.advice import families

    records = load("DIR", arguments.places)
    known = families(records)
    only, ask = asked_of(arguments, known)
    if only:
        (chosen,) = choose([records], only, option="")
        known = families(chosen)
    if not known:
        raise BadInputError("`DIR` must hold records of a CPU and a GPU of one case: there is no pair")
    if ask is None:
        show_all(known)
        return OK
    return answer_all(known, ask, arguments.prices)


def answer_all(known: "Sequence[Sequence[Measured]]", ask: "Ask", prices: "Prices | None") -> int:
    """One answer for each kind of case. Returns 2 where none of them has been measured around that size."""
    from jaxaccel.analyze.advice import OutsideError, advise, priced
    from jaxaccel.render.words.advice import in_words, title

    answered = False
    for pairs in known:
        name = title(pairs[0], ask)
        try:
            advice = advise(pairs, ask)
        except OutsideError as error:
            tell(f"{name}: {error}")
            continue
        answered = True
        say(f"{name}: {in_words(advice)}")
        if prices and prices.ratio is not None:
            say(f"  cheaper at these prices: {in_words(priced(advice, prices.ratio), 'cheap')}")
    return OK if answered else BAD_INPUT


def show_all(known: "Sequence[Sequence[Measured]]") -> None:
    """A table: who wins in which range of sizes, for each kind of case."""
    from jaxaccel.analyze.crossover import conclude
    from jaxaccel.analyze.questions import EVERY_CALL, EVERY_CALL_PINNED, family_size, point
    from jaxaccel.records import RESIDENT
    from jaxaccel.render.terminal import make_console, show_winners
    from jaxaccel.render.words.names import family_name

    rows = []
    for pairs in known:
        for question in (*map(str, RESIDENT), "once_100", EVERY_CALL, EVERY_CALL_PINNED):
            among = family_size([(one.cpu, one.gpu) for one in pairs], question)
            points = [
                found for one in pairs if (found := point(question, one.size, one.cpu, one.gpu, among=among))
            ]
            if points:
                first = pairs[0]
                name = family_name(first.cpu.case, first.machines, first.over)
                name += f", by {first.over}" if first.over != "size" else ""
                rows.append((name, conclude(question, points)))
    show_winners(make_console(), rows)


# --- arguments -------------------------------------------------------------------------------------


def make_parser() -> Parser:
    """The command line, without what `read` checks by itself."""
    parser = parser_with_examples(
        prog="python -m jaxaccel.advise",
        description="Which device, how much faster, how sure and why, from records already there.",
        examples=EXAMPLES,
    )
    parser.add_argument(
        "words",
        metavar="DIR|KEY=VALUE",
        nargs="+",
        help="records; and what of them: size, calls, data, metric, dtype",
    )
    parser.add_argument(
        "--price", metavar="DEVICE=PRICE", action="append", help="what an hour costs: cpu=0.40"
    )
    return parser


def read(argv: Sequence[str], today: Callable[[], date] = date.today) -> Arguments:
    """The command that `argv` describes.

    **Raises** BadInputError, naming the argument, the value and what is allowed.
    """
    raw = make_parser().parse_intermixed_args(argv)

    places = tuple(word for word in raw.words if "=" not in word)
    if not places:
        raise BadInputError("DIR is missing: a folder or file of records (see --help)")
    try:
        only = dict(parse_only("KEY=VALUE", [word for word in raw.words if "=" in word]))
        asked = {name: _one(name, only.pop(name)) for name in ASKED if name in only}
        prices = given_prices(raw.price, None, None, today) if raw.price else None
    except ValueError as error:
        raise BadInputError(str(error)) from error
    if prices and prices.ratio is None:
        raise BadInputError("`--price` must be given for cpu and for gpu")
    return Arguments(places=places, only=only, asked=asked, prices=prices)


def asked_of(
    arguments: Arguments, known: "Sequence[Sequence[Measured]]" = ()
) -> "tuple[Mapping[str, tuple[str, ...]], Ask | None]":
    """What is asked, and of which records. A parameter may stand for the size where `known` have it so.

    Where a size is asked about too, and was measured at that value of the parameter, it is the size.

    **Raises** BadInputError, naming the argument, the value and what is allowed.
    """
    from jaxaccel.analyze.advice import Ask

    only, asked = dict(arguments.only), dict(arguments.asked)
    overs = {pairs[0].over for pairs in known} - {"size"}
    if "size" in asked:
        cases = [pairs[0].cpu.case for pairs in known if pairs[0].over == "size"]
        overs -= {name for name in only for case in cases if str(case.params.get(name)) in only[name]}
    over = next((name for name in only if name in overs), "size")
    try:
        if over != "size":
            if "size" in asked:
                only["size"] = (asked["size"],)
            asked["size"] = _one(over, only.pop(over))
        if "size" not in asked:
            if left := [*asked, *(["--price"] if arguments.prices else [])]:
                raise ValueError(f"`size` must be given with `{left[0]}`")
            return only, None
        numbers = {"size": _number(over, asked["size"])}
        if "calls" in asked:
            numbers["calls"] = _number("calls", asked["calls"])
        words = {name: asked[name] for name in ("data", "metric") if name in asked}
        return only, Ask(over=over, **numbers, **words)  # type: ignore[arg-type]
    except ValueError as error:
        raise BadInputError(str(error)) from error


def _one(name: str, values: Sequence[str]) -> str:
    if len(values) != 1:
        raise ValueError(f"`{name}` must be one value, got {','.join(values)!r}")
    return values[0]


def _number(name: str, text: str) -> int:
    try:
        return whole_number(name, float(text))
    except ValueError as error:
        raise ValueError(f"`{name}` must be a whole number, got {text!r}") from error


if __name__ == "__main__":
    sys.exit(main())

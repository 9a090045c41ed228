"""`python -m jaxaccel.advise`: which device, from records that are there. It measures nothing."""

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import TYPE_CHECKING

from jaxaccel.arguments import choose, given_prices, load, parse_only
from jaxaccel.config import BadInputError, Parser, parser_with_examples, whole_number

if TYPE_CHECKING:
    from jaxaccel.analyze.advice import Ask, Measured
    from jaxaccel.analyze.money import Prices

OK, BAD_INPUT = 0, 2

EXAMPLES = """\
examples:
  python -m jaxaccel.advise experiments/accounting
  python -m jaxaccel.advise experiments/accounting workload=matvec size=5000 dtype=float32
  python -m jaxaccel.advise DIR workload=mlp size=1024 data=host calls=100 --price cpu=0.40 --price gpu=2.10

data=device (the inputs are resident) or data=host: they come in once for so many `calls`, and the last
output goes back. Times at sizes that were not measured lie on a line between those that were.

exit code: 0 there is an answer, 2 bad input, or a size outside of what was measured
"""
ASKED = ("size", "calls", "data")


@dataclass(frozen=True, kw_only=True)
class Arguments:
    """The command, read and checked. ask: None where nothing but a table is asked for."""

    places: tuple[str, ...]
    only: Mapping[str, tuple[str, ...]]
    ask: "Ask | None"
    prices: "Prices | None"


def main(argv: Sequence[str] | None = None) -> int:
    """Load, interpolate, say. Returns the exit code."""
    try:
        arguments = read(sys.argv[1:] if argv is None else argv)
        from jaxaccel.analyze.advice import families

        (records,) = choose([load("DIR", arguments.places)], arguments.only, option="")
        known = families(records)
        if not known:
            raise BadInputError("`DIR` must hold records of a CPU and a GPU of one case: there is no pair")
        if arguments.ask is None:
            show_all(known)
            return OK
        return answer_all(known, arguments.ask, arguments.prices)
    except BadInputError as error:
        print(f"jaxaccel: {error}", file=sys.stderr)
        return BAD_INPUT


def answer_all(known: "Sequence[Sequence[Measured]]", ask: "Ask", prices: "Prices | None") -> int:
    """One answer for each kind of case. Returns 2 where none of them has been measured around that size."""
    from jaxaccel.analyze.advice import OutsideError, advise, priced
    from jaxaccel.publish.advice import in_words, title

    answered = False
    for pairs in known:
        name = title(pairs[0], ask)
        try:
            advice = advise(pairs, ask)
        except OutsideError as error:
            print(f"{name}: {error}", file=sys.stderr)
            continue
        answered = True
        print(f"{name}: {in_words(advice)}")
        if prices and prices.ratio is not None:
            print(f"  cheaper at these prices: {in_words(priced(advice, prices.ratio), 'cheap')}")
    return OK if answered else BAD_INPUT


def show_all(known: "Sequence[Sequence[Measured]]") -> None:
    """A table: who wins in which range of sizes, for each kind of case."""
    from jaxaccel.analyze.crossover import conclude
    from jaxaccel.analyze.questions import EVERY_CALL, family_size, point
    from jaxaccel.publish.console import make_console, show_winners
    from jaxaccel.publish.names import family_name
    from jaxaccel.records import RESIDENT

    rows = []
    for pairs in known:
        among = family_size((one.cpu, one.gpu) for one in pairs)
        for question in (*map(str, RESIDENT), "once_100", EVERY_CALL):
            points = [
                found for one in pairs if (found := point(question, one.size, one.cpu, one.gpu, among=among))
            ]
            if points:
                rows.append((family_name(pairs[0].cpu.case, pairs[0].machines), conclude(question, points)))
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
        help="records; and what of them: size, calls, data, dtype",
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
    from jaxaccel.analyze.advice import Ask  # and SciPy with it, for which help need not wait

    places = tuple(word for word in raw.words if "=" not in word)
    if not places:
        raise BadInputError("DIR is missing: a folder or file of records (see --help)")
    try:
        only = dict(parse_only("KEY=VALUE", [word for word in raw.words if "=" in word]))
        asked = {name: _one(name, only.pop(name)) for name in ASKED if name in only}
        if asked and "size" not in asked:
            raise ValueError(f"`size` must be given with `{next(iter(asked))}`")
        numbers = {name: _number(name, asked[name]) for name in ("size", "calls") if name in asked}
        data = {"data": asked["data"]} if "data" in asked else {}
        ask = Ask(**numbers, **data) if asked else None  # type: ignore[arg-type]
        prices = given_prices(raw.price, None, None, today) if raw.price else None
    except ValueError as error:
        raise BadInputError(str(error)) from error
    if prices and (prices.ratio is None or ask is None):
        raise BadInputError("`--price` must be given for cpu and for gpu, with a size to be asked about")
    return Arguments(places=places, only=only, ask=ask, prices=prices)


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

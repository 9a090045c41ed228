"""`scripts/criteria`: how often the article's criteria, and advice, choose the right device."""

import sys
from collections.abc import Sequence

from rich import box
from rich.table import Table

from jaxaccel.analyze.advice import DATA, families
from jaxaccel.cli.exit import OK, command
from jaxaccel.cli.parser import parser_with_examples
from jaxaccel.cli.record_arguments import choose, load, parse_only
from jaxaccel.records.errors import BadInputError
from jaxaccel.render.terminal import make_console
from studies.rules import CLOSE, Held, Score, held_cases, inner, rules, score

EXAMPLES = """\
examples:
  scripts/criteria experiments/accounting experiments/own_code
  scripts/criteria experiments/accounting data=host

Each case that has other sizes on either side is held out in turn, and asked about. data=device: resident data
alone; data=host: data that comes in once, or for each call. Other KEY=VALUE choose cases.

exit code: 0 there is a table, 2 bad input
"""

LEGEND = f"""\
right: its device takes at most {CLOSE - 1:.0%} longer than the other, by medians; none: no answer
lost: how many times as long as the faster device its answers take, as a geometric mean
of all: right, of all cases; the other columns are of those that have other sizes on either side
a case: a size, with its data on the device, from the host for each call, and once for 100 calls; or
queued calls with data on the device, where no others were measured"""


def criteria_table(held: Sequence[Held]) -> Table:
    """Who is right how often; `advise` has not seen what it is asked about."""
    shared = inner(held)
    table = Table(
        title=f"{len(shared)} cases held out, {len(held)} in all",
        title_justify="left",
        box=box.SIMPLE_HEAD,
        pad_edge=False,
        show_edge=False,
    )
    for name in ("way to choose", "rule"):
        table.add_column(name)
    for name in ("right", "wrong", "none", "lost", "of all"):
        table.add_column(name, justify="right", no_wrap=True)
    for rule in rules(held):
        found = score(shared, rule.choose)
        everywhere = "–" if rule.needs_others else str(score(held, rule.choose).right)
        table.add_row(rule.name, rule.words, *_cells(found), everywhere)
    return table


def _cells(found: Score) -> tuple[str, ...]:
    lost = "–" if found.lost is None else f"{found.lost:.2f}x"
    return str(found.right), str(found.wrong), str(found.no_answer), lost


@command
def main(argv: Sequence[str]) -> int:
    """Load, hold out, judge, show. Returns the exit code."""
    parser = parser_with_examples(
        prog="scripts/criteria",
        description="How often the article's criteria and jaxaccel.advise choose the right device.",
        examples=EXAMPLES,
    )
    parser.add_argument("words", metavar="DIR|KEY=VALUE", nargs="+", help="records; and which of their cases")
    words = parser.parse_args(argv).words
    held = held_out([word for word in words if "=" not in word], [word for word in words if "=" in word])
    console = make_console()
    console.print()
    console.print(criteria_table(held))
    console.print(LEGEND, style="dim")
    return OK


def held_out(places: Sequence[str], words: Sequence[str]) -> list[Held]:
    """The cases in these folders that match the KEY=VALUE words, each with its measured answer.

    **Raises** BadInputError where a word is wrong, or no case is between two others.
    """
    try:
        only = dict(parse_only("KEY=VALUE", words))
    except ValueError as error:
        raise BadInputError(str(error)) from error
    data = only.pop("data", None)
    if data is not None and (len(data) != 1 or data[0] not in DATA):
        raise BadInputError(f"`data` must be one of {', '.join(DATA)}, got {','.join(data)!r}")
    (chosen,) = choose([load("DIR", places)], only, option="")
    held = [one for one in held_cases(families(chosen)) if data is None or one.ask.data == data[0]]
    if not inner(held):
        raise BadInputError("`DIR` must hold three sizes of a case, got fewer of each")
    return held


if __name__ == "__main__":
    sys.exit(main())

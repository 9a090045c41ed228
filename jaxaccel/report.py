"""`python -m jaxaccel.report`: what records say, by themselves or beside a baseline. It measures nothing.

By themselves they are shown as a table, and written as a page that opens from disk.
"""

import math
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING

from jaxaccel.arguments import choose, given_prices, load, parse_only
from jaxaccel.config import BadInputError, Parser, choice, parser_with_examples

if TYPE_CHECKING:
    from jaxaccel.analyze.baseline import BaselineComparison
    from jaxaccel.analyze.money import Prices
    from jaxaccel.records import Comparison, Record

OK, WORSE, INCOMPLETE, BAD_INPUT = 0, 1, 1, 2
FAIL_OVER = 0.05

EXAMPLES = """\
examples:
  python -m jaxaccel.report multirun/2026-01-02/03-04-05          # the table, and report.html in there
  python -m jaxaccel.report outputs/new --format markdown          # to be pasted in a pull request
  python -m jaxaccel.report experiments/accounting --only dtype=float32 precision=highest workload=matvec,dot
  python -m jaxaccel.report cpu_box/ gpu_box/ --price cpu=0.40 --price gpu=2.10 --currency EUR
  python -m jaxaccel.report outputs/new --baseline baseline/records.jsonl --fail-over 10%
  python -m jaxaccel.report outputs/new --baseline outputs/old --allow versions --format json

exit code: 0 nothing is worse beyond the limit; 1 something surely is, or what can't be read was skipped;
2 bad input, or sides that can't be compared
"""


class Format(StrEnum):
    """How a report is written: `html` is the table, and a page."""

    html = "html"
    markdown = "markdown"
    table = "table"
    csv = "csv"
    json = "json"


OF_BASELINES = (Format.table, Format.csv, Format.json)


class Allowed(StrEnum):
    """What may differ between the two sides, where the command says so."""

    machine = "machine"
    versions = "versions"
    precision = "precision"


@dataclass(frozen=True, kw_only=True)
class Arguments:
    """The command, read and checked. `fail_over` is a share: 0.05 is 5%. `prices` are None if not given.

    output: where the page, or the text, is written to; None for where it usually is.
    """

    new: tuple[str, ...]
    baseline: tuple[str, ...]
    fail_over: float
    allow: tuple[Allowed, ...]
    format: Format
    output: Path | None
    only: Mapping[str, tuple[str, ...]]
    prices: "Prices | None"


def main(argv: Sequence[str] | None = None) -> int:
    """Load, compare and show. Returns the exit code."""
    try:
        arguments = read(sys.argv[1:] if argv is None else argv)
        if arguments.baseline:
            places = {"NEW": arguments.new, "--baseline": arguments.baseline}
            sides = choose([load(name, there) for name, there in places.items()], arguments.only)
            return beside_baseline(sides[0], sides[1], arguments)
        broken: list[str] = []
        (records,) = choose([load("NEW", arguments.new, broken)], arguments.only)
        for line in broken:
            print(f"jaxaccel: skipped: {line}", file=sys.stderr)
        show(records, arguments, broken)
        return INCOMPLETE if broken else OK
    except BadInputError as error:
        print(f"jaxaccel: {error}", file=sys.stderr)
        return BAD_INPUT


def beside_baseline(new: "Sequence[Record]", base: "Sequence[Record]", arguments: Arguments) -> int:
    """Show how times changed since `base`. Returns the exit code.

    **Raises** BadInputError where the sides differ in what is not allowed to, or have nothing in common.
    """
    from jaxaccel.analyze.baseline import compare_with_baseline

    comparison = compare_with_baseline(new, base, fail_over=arguments.fail_over)
    refuse_what_differs(comparison, arguments.allow)
    show_baseline(comparison, arguments)
    if not comparison.changes:
        raise BadInputError(
            "`--baseline` must have a measured case and device in common with NEW: there is none to compare"
        )
    return WORSE if comparison.failed else OK


def refuse_what_differs(comparison: "BaselineComparison", allow: Sequence[Allowed]) -> None:
    """Stop where what differs between the sides could explain a change, and nobody said that it may.

    **Raises** BadInputError, with what differs and which value of --allow permits it.
    """
    from jaxaccel.publish.baseline import labels

    forbidden = {str(aspect) for aspect in Allowed if aspect not in allow}
    refused = [found for found in comparison.differences if str(found.aspect) in forbidden]
    if refused:
        needed = dict.fromkeys(map(str, [*allow, *(found.aspect for found in refused)]))
        raise BadInputError(
            f"NEW and `--baseline` can't be compared as they are: {'; '.join(labels(refused))} "
            f"(to compare them all the same: --allow {','.join(needed)})"
        )


def show_baseline(comparison: "BaselineComparison", arguments: Arguments) -> None:
    """The comparison on standard output, or in the file that was asked for."""
    from jaxaccel.publish import baseline, console

    match arguments.format:
        case Format.csv:
            say(baseline.as_csv(comparison), arguments.output)
        case Format.json:
            say(baseline.as_json(comparison), arguments.output)
        case _:
            console.show_baseline(console.make_console(), comparison)


def show(records: "Sequence[Record]", arguments: Arguments, skipped: Sequence[str] = ()) -> None:
    """The records by themselves, CPU beside GPU; with prices also what calls cost.

    **Raises** BadInputError where the file that was asked for can't be written.
    """
    from jaxaccel.analyze.compare import pair
    from jaxaccel.publish import money, store, tables

    comparisons, prices = pair(records), arguments.prices
    match arguments.format:
        case Format.html | Format.table:
            show_table(records, comparisons, prices)
            if arguments.format is Format.html:
                leave_page(records, arguments, skipped)
        case Format.markdown:
            from jaxaccel.publish.markdown import markdown

            say(markdown(records, comparisons, prices, skipped), arguments.output)
        case Format.csv | Format.json:
            rows = [
                store.row(comparison) | (money.columns(comparison, prices) if prices else {})
                for comparison in comparisons
            ]
            as_text = tables.csv_text if arguments.format is Format.csv else tables.json_text
            say(as_text(rows), arguments.output)


def show_table(
    records: "Sequence[Record]", comparisons: "Sequence[Comparison]", prices: "Prices | None"
) -> None:
    """The tables of the terminal."""
    from jaxaccel.analyze.machines import standing
    from jaxaccel.publish import console

    screen = console.make_console()
    console.show_comparisons(screen, comparisons)
    if prices:
        console.show_bills(screen, comparisons, prices)
    console.show_failures(screen, [placed.record for placed in standing(records)])


def leave_page(records: "Sequence[Record]", arguments: Arguments, skipped: Sequence[str]) -> None:
    """Write the page where it was asked for, or else beside the first of the records; say where.

    **Raises** BadInputError where it can't be written.
    """
    from jaxaccel.publish.page import PAGE, write_page

    first = Path(arguments.new[0])
    path = arguments.output or (first if first.is_dir() else first.parent) / PAGE
    notes = [f"skipped, as it can't be read: {line}" for line in skipped]
    try:
        write_page(records, path, arguments.prices, notes)
    except OSError as error:
        raise unwritable(path, error) from error
    print(f"Page: {path}")


def say(text: str, output: Path | None) -> None:
    """Text on standard output, or in a file.

    **Raises** BadInputError where the file can't be written.
    """
    from jaxaccel.publish.store import write_whole

    if output is None:
        print(text, end="")
        return
    try:
        write_whole(output, text.encode())
    except OSError as error:
        raise unwritable(output, error) from error


def unwritable(path: Path, error: OSError) -> BadInputError:
    """What to say where a file can't be written."""
    return BadInputError(
        f"`--output` must be a file that can be written, got {str(path)!r}: {error.strerror or error}"
    )


# --- arguments -------------------------------------------------------------------------------------


def make_parser() -> Parser:
    """The command line, without what `read` checks by itself."""
    parser = parser_with_examples(
        prog="python -m jaxaccel.report",
        description="What records say: a table of cases, or with --baseline how their times changed. "
        "Records of several machines pair by case.",
        examples=EXAMPLES,
    )
    parser.add_argument("new", metavar="NEW", nargs="+", help="files of records, or folders that have some")
    parser.add_argument(
        "--baseline", metavar="BASE", nargs="+", default=[], help="the records to compare with"
    )
    parser.add_argument(
        "--fail-over", metavar="SHARE", help="slower by more than this, surely, is a failure: 5%% or 0.05"
    )
    parser.add_argument(
        "--allow", metavar="WHAT", help=f"what may differ, of {','.join(Allowed)}; it is told in the output"
    )
    parser.add_argument(
        "--only",
        metavar="KEY=VALUE",
        nargs="+",
        action="extend",
        default=[],
        help="only such cases: size=256,1024 dtype=float32; verdicts then allow for these alone",
    )
    parser.add_argument(
        "--price",
        metavar="DEVICE=PRICE",
        action="append",
        help="what an hour costs, cpu=0.40 or gpu=2.10: what calls cost stands in a table of its own",
    )
    parser.add_argument("--price-date", metavar="DATE", help="when prices were so: 2026-11-26; or else today")
    parser.add_argument("--currency", metavar="WORD", help="what prices are in, as it is to be shown: EUR")
    parser.add_argument(
        "--format",
        metavar="FORMAT",
        help=f"one of {', '.join(Format)}; html, a page beside the table, unless there is a baseline: table",
    )
    parser.add_argument(
        "--output",
        metavar="FILE",
        help="where to write it: or else a page is report.html beside the records, and text is printed",
    )
    return parser


def read(argv: Sequence[str], today: Callable[[], date] = date.today) -> Arguments:
    """The command that `argv` describes.

    **Raises** BadInputError, naming the argument, the value and what is allowed.
    """
    raw = make_parser().parse_args(argv)
    for name, value in (("--fail-over", raw.fail_over), ("--allow", raw.allow)):
        if value is not None and not raw.baseline:
            raise BadInputError(f"`{name}` is for comparing with a `--baseline`, and there is none")
    if raw.price and raw.baseline:
        raise BadInputError(f"`--price` is not for comparing with a `--baseline`, got {raw.price[0]!r}")
    if raw.output is not None and (not raw.output or Path(raw.output).is_dir()):
        raise BadInputError(f"`--output` must be a file, got {raw.output!r}")
    for name, value in (("--price-date", raw.price_date), ("--currency", raw.currency)):
        if value is not None and not raw.price:
            raise BadInputError(f"`{name}` is for a `--price`, and there is none; got {value!r}")
    usual = Format.table if raw.baseline else Format.html
    try:
        form: Format = choice(Format, "--format", usual if raw.format is None else raw.format)
        if raw.baseline and form not in OF_BASELINES:
            choices = ", ".join(OF_BASELINES)
            raise ValueError(f"`--format` must be one of {choices} with a `--baseline`, got {str(form)!r}")
        if raw.output is not None and form is Format.table:
            raise ValueError(f"`--output` is not for `--format table`, got {raw.output!r}")
        return Arguments(
            new=tuple(raw.new),
            baseline=tuple(raw.baseline),
            fail_over=FAIL_OVER if raw.fail_over is None else share("--fail-over", raw.fail_over),
            allow=() if raw.allow is None else allowed("--allow", raw.allow),
            format=form,
            output=None if raw.output is None else Path(raw.output),
            only=parse_only("--only", raw.only),
            prices=given_prices(raw.price, raw.price_date, raw.currency, today) if raw.price else None,
        )
    except ValueError as error:
        raise BadInputError(str(error)) from error


def allowed(name: str, text: str) -> tuple[Allowed, ...]:
    """What may differ, from names with commas between them.

    **Raises** ValueError for another name, or none.
    """
    return tuple(choice(Allowed, name, word.strip()) for word in text.split(","))


def share(name: str, text: str) -> float:
    """A share that is written as 5% or as 0.05.

    **Raises** ValueError for anything else, and for a number of 1 or more without %, which may mean either.
    """
    number, sign, rest = text.strip().partition("%")
    try:
        value = float(number) / (100 if sign else 1)
    except ValueError:
        value = math.nan
    if rest or not 0 <= value < (math.inf if sign else 1):
        raise ValueError(
            f"`{name}` must be a percentage such as 5%, or a share from 0 to below 1, got {text!r}"
        )
    return value


if __name__ == "__main__":
    sys.exit(main())

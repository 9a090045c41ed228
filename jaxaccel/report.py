"""`python -m jaxaccel.report`: what records say, alone, beside a baseline, or to W&B. It measures nothing."""

import math
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from enum import StrEnum
from typing import TYPE_CHECKING

from jaxaccel.arguments import choose, given_prices, given_project, load, parse_only
from jaxaccel.config import BadInputError, Parser, WandbConfig, choice, parser_with_examples

if TYPE_CHECKING:
    from jaxaccel.analyze.baseline import BaselineComparison
    from jaxaccel.analyze.money import Prices
    from jaxaccel.records import Record

OK, WORSE, BAD_INPUT = 0, 1, 2
NOT_PUBLISHED = 1
FAIL_OVER = 0.05

EXAMPLES = """\
examples:
  python -m jaxaccel.report multirun/2026-01-02/03-04-05
  python -m jaxaccel.report experiments/accounting --only dtype=float32 precision=highest workload=matvec,dot
  python -m jaxaccel.report cpu_box/ gpu_box/ --price cpu=0.40 --price gpu=2.10 --currency EUR
  python -m jaxaccel.report outputs/new --baseline baseline/records.jsonl --fail-over 10%
  python -m jaxaccel.report outputs/new --baseline outputs/old --allow versions --format json
  python -m jaxaccel.report multirun/2026-01-02/03-04-05 --wandb --wandb-project our-team/gpus

exit code: 0 nothing is worse beyond the limit (with --wandb: W&B has all), 1 something surely is (or
W&B has not), 2 bad input or sides that can't be compared
"""


class Format(StrEnum):
    """How a report is written."""

    table = "table"
    csv = "csv"
    json = "json"


class Allowed(StrEnum):
    """What may differ between the two sides, where the command says so."""

    machine = "machine"
    versions = "versions"
    precision = "precision"


@dataclass(frozen=True, kw_only=True)
class Arguments:
    """The command, read and checked. `fail_over` is a share: 0.05 is 5%.

    `prices` and `wandb` (where to send records) are None if not asked for.
    """

    new: tuple[str, ...]
    baseline: tuple[str, ...]
    fail_over: float
    allow: tuple[Allowed, ...]
    format: Format
    only: Mapping[str, tuple[str, ...]]
    prices: "Prices | None"
    wandb: WandbConfig | None = None


def main(argv: Sequence[str] | None = None) -> int:
    """Load, compare and show. Returns the exit code."""
    try:
        arguments = read(sys.argv[1:] if argv is None else argv)
        places = {"NEW": arguments.new} | ({"--baseline": arguments.baseline} if arguments.baseline else {})
        sides = choose([load(name, there) for name, there in places.items()], arguments.only)
        if arguments.baseline:
            return beside_baseline(sides[0], sides[1], arguments)
        if arguments.wandb:
            return publish(sides[0], arguments.wandb)
        show(sides[0], arguments.format, arguments.prices)
        return OK
    except BadInputError as error:
        print(f"jaxaccel: {error}", file=sys.stderr)
        return BAD_INPUT


def publish(records: "Sequence[Record]", project: WandbConfig) -> int:
    """Send to W&B what it has not, and say what came of it. Returns the exit code."""
    from jaxaccel.publish.wandb.publishing import publish_later

    published = publish_later(records, project)
    print(published.message)
    return OK if published.complete else NOT_PUBLISHED


def beside_baseline(new: "Sequence[Record]", base: "Sequence[Record]", arguments: Arguments) -> int:
    """Show how times changed since `base`. Returns the exit code.

    **Raises** BadInputError where the sides differ in what is not allowed to, or have nothing in common.
    """
    from jaxaccel.analyze.baseline import compare_with_baseline

    comparison = compare_with_baseline(new, base, fail_over=arguments.fail_over)
    refuse_what_differs(comparison, arguments.allow)
    show_baseline(comparison, arguments.format)
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


def show_baseline(comparison: "BaselineComparison", how: Format) -> None:
    """The comparison on standard output."""
    from jaxaccel.publish import baseline, console

    match how:
        case Format.table:
            console.show_baseline(console.make_console(), comparison)
        case Format.csv:
            print(baseline.as_csv(comparison), end="")
        case Format.json:
            print(baseline.as_json(comparison), end="")


def show(records: "Sequence[Record]", how: Format, prices: "Prices | None" = None) -> None:
    """The records by themselves, CPU beside GPU, on standard output; with prices also what calls cost."""
    from jaxaccel.analyze.compare import pair
    from jaxaccel.analyze.machines import standing
    from jaxaccel.publish import console, money, store, tables

    comparisons = pair(records)
    rows = [
        store.row(comparison) | (money.columns(comparison, prices) if prices else {})
        for comparison in comparisons
    ]
    match how:
        case Format.table:
            screen = console.make_console()
            console.show_comparisons(screen, comparisons)
            if prices:
                console.show_bills(screen, comparisons, prices)
            console.show_failures(screen, [placed.record for placed in standing(records)])
        case Format.csv:
            print(tables.csv_text(rows), end="")
        case Format.json:
            print(tables.json_text(rows), end="")


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
        "--wandb", action="store_true", help="send to W&B those records that it has not, in place of a table"
    )
    parser.add_argument(
        "--wandb-project", metavar="[ENTITY/]PROJECT", help="where to, with --wandb; jaxaccel if not given"
    )
    parser.add_argument("--format", metavar="FORMAT", default="table", help=f"one of {', '.join(Format)}")
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
    for name, value in (("--price-date", raw.price_date), ("--currency", raw.currency)):
        if value is not None and not raw.price:
            raise BadInputError(f"`{name}` is for a `--price`, and there is none; got {value!r}")
    if raw.wandb and (raw.baseline or raw.price):
        other = "--baseline" if raw.baseline else "--price"
        raise BadInputError(f"`--wandb` sends records, and compares nothing: not with `{other}`")
    if raw.wandb_project is not None and not raw.wandb:
        raise BadInputError(
            f"`--wandb-project` is for `--wandb`, and there is none; got {raw.wandb_project!r}"
        )
    try:
        return Arguments(
            new=tuple(raw.new),
            baseline=tuple(raw.baseline),
            fail_over=FAIL_OVER if raw.fail_over is None else share("--fail-over", raw.fail_over),
            allow=() if raw.allow is None else allowed("--allow", raw.allow),
            format=choice(Format, "--format", raw.format),
            only=parse_only("--only", raw.only),
            prices=given_prices(raw.price, raw.price_date, raw.currency, today) if raw.price else None,
            wandb=given_project("--wandb-project", raw.wandb_project) if raw.wandb else None,
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

"""What the command `report` is asked: read, and checked."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING

from jaxaccel.cli.parser import Parser, parser_with_examples
from jaxaccel.cli.record_arguments import given_prices, given_project, parse_only
from jaxaccel.records.checks import choice
from jaxaccel.records.errors import BadInputError
from jaxaccel.records.reading import RECORD, RECORDS, records_in
from jaxaccel.wandb.config import WandbConfig

if TYPE_CHECKING:
    from jaxaccel.analyze.money import Prices

FAIL_OVER = 0.05

EXAMPLES = """\
examples:
  python -m jaxaccel.report multirun/2026-01-02/03-04-05          # the table, and report.html in there
  python -m jaxaccel.report outputs/new --format markdown          # to be pasted in a pull request
  python -m jaxaccel.report experiments/accounting --only dtype=float32 precision=highest workload=matvec,dot
  python -m jaxaccel.report cpu_box/ gpu_box/ --price cpu=0.40 --price gpu=2.10 --currency EUR
  python -m jaxaccel.report outputs/new --baseline baseline/records.jsonl --fail-over 10%
  python -m jaxaccel.report outputs/new --baseline outputs/old --allow versions --format json
  python -m jaxaccel.report multirun/2026-01-02/03-04-05 --wandb --wandb-project our-team/gpus
  python -m jaxaccel.report outputs/2026-01-02/03-04-05 --bundle   # what a bug report needs, in there
  python -m jaxaccel.report outputs/2026-01-02/03-04-06 --bundle --run-own-code   # of workload=custom
  python -m jaxaccel.report experiments/accounting --only size=4096 device=gpu --bundle --output /tmp/bug

exit code: 0 nothing is worse beyond the limit (with --wandb: W&B has all; with --bundle: it is complete); 1
something surely is (or W&B has not, or the bundle is not); 2 bad input, or sides that can't be compared. A
file that holds no record is named and passed over
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
    """The command, read and checked. `fail_over` is a share: 0.05 is 5%.

    `prices` and `wandb` (where to send records) are None if not asked for. output: where the page, the text
    or the bundle is written to; None for where it usually is. program: what a bundle's record of
    workload=exported was made of. run_own_code: whether a bundle may run functions that its record names.
    """

    new: tuple[str, ...]
    baseline: tuple[str, ...]
    fail_over: float
    allow: tuple[Allowed, ...]
    format: Format
    output: Path | None
    only: Mapping[str, tuple[str, ...]]
    prices: "Prices | None"
    wandb: WandbConfig | None = None
    bundle: bool = False
    program: Path | None = None
    run_own_code: bool = False


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
        help="where to write it: or else a page is report.html beside the records, and text is printed; with "
        "--bundle, the folder to put it in",
    )
    parser.add_argument(
        "--bundle",
        action="store_true",
        help="what a bug report needs of one record, in place of a table: its program before and after XLA, "
        "a trace, and repro.py, which times it without jaxaccel; the record's device must be here",
    )
    parser.add_argument(
        "--program", metavar="FILE", help="with --bundle, the program of a record of workload=exported"
    )
    parser.add_argument(
        "--run-own-code",
        action="store_true",
        help="with --bundle, run the functions that the record names; without, they are shown and not run",
    )
    parser.add_argument(
        "--wandb", action="store_true", help="send to W&B those records that it has not, in place of a table"
    )
    parser.add_argument(
        "--wandb-project", metavar="[ENTITY/]PROJECT", help="where to, with --wandb; jaxaccel if not given"
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
    if raw.bundle:
        for name in ("baseline", "price", "format", "wandb"):
            if getattr(raw, name):
                raise BadInputError(f"`--bundle` writes a folder, and shows nothing: not with `--{name}`")
    for name, value in (("--program", raw.program), ("--run-own-code", raw.run_own_code or None)):
        if value is not None and not raw.bundle:
            raise BadInputError(f"`{name}` is for a `--bundle`, and there is none")
    if raw.output is not None and (not raw.output or Path(raw.output).is_dir() is not raw.bundle):
        wanted = "a folder that is there, for a `--bundle`" if raw.bundle else "a file"
        raise BadInputError(f"`--output` must be {wanted}, got {raw.output!r}")
    if raw.output and not raw.bundle and holds_records(Path(raw.output)):
        raise BadInputError(f"`--output` must not be a file that holds records, got {raw.output!r}")
    for name, value in (("--price-date", raw.price_date), ("--currency", raw.currency)):
        if value is not None and not raw.price:
            raise BadInputError(f"`{name}` is for a `--price`, and there is none; got {value!r}")
    if raw.wandb and (raw.baseline or raw.price or raw.format or raw.output):
        other = next(name for name in ("baseline", "price", "format", "output") if getattr(raw, name))
        raise BadInputError(f"`--wandb` sends records, and shows nothing: not with `--{other}`")
    if raw.wandb_project is not None and not raw.wandb:
        raise BadInputError(
            f"`--wandb-project` is for `--wandb`, and there is none; got {raw.wandb_project!r}"
        )
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
            wandb=given_project("--wandb-project", raw.wandb_project) if raw.wandb else None,
            bundle=raw.bundle,
            program=None if raw.program is None else Path(raw.program),
            run_own_code=raw.run_own_code,
        )
    except ValueError as error:
        raise BadInputError(str(error)) from error


def holds_records(path: Path) -> bool:
    """Whether a file is there that holds a record, or has the name of one that does."""
    return path.name in (RECORD, RECORDS) or (path.is_file() and any(records_in(path, [])))


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

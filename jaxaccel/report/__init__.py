"""`python -m jaxaccel.report`: what records say, alone, beside a baseline, or to W&B. It measures nothing.

Alone they are shown as a table, and written as a page that opens from disk. Of one, a bundle can be made for
whoever is to look into it, for which its program runs again.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from jaxaccel.cli.exit import INCOMPLETE, OK, command
from jaxaccel.cli.record_arguments import choose, load
from jaxaccel.process.saying import say
from jaxaccel.records import escape
from jaxaccel.records.errors import BadInputError
from jaxaccel.report.arguments import Allowed, Arguments, Format, make_parser, read
from jaxaccel.wandb.config import WandbConfig

if TYPE_CHECKING:
    from jaxaccel.analyze.baseline import BaselineComparison
    from jaxaccel.analyze.money import Prices
    from jaxaccel.records import Comparison, Record

WORSE = 1
NOTED = 20  # files that hold no record: so many are named on a page

__all__ = ["main", "make_parser", "read"]


@command
def main(argv: Sequence[str]) -> int:
    """Load, compare and show. Returns the exit code."""
    arguments = read(argv)
    if arguments.baseline:
        places = {"NEW": arguments.new, "--baseline": arguments.baseline}
        sides = choose([load(name, there) for name, there in places.items()], arguments.only)
        return beside_baseline(sides[0], sides[1], arguments)
    if arguments.bundle:
        from jaxaccel.report.bundle import bundle

        return OK if bundle(load("NEW", arguments.new), arguments) else INCOMPLETE
    skipped: list[str] = []
    (records,) = choose([load("NEW", arguments.new, skipped)], arguments.only)
    if arguments.wandb:
        return OK if publish(records, arguments.wandb) else INCOMPLETE
    more = len(skipped) - NOTED
    show(records, arguments, [*skipped[:NOTED], *([f"{more} more"] if more > 0 else [])])
    return OK


def publish(records: "Sequence[Record]", project: WandbConfig) -> bool:
    """Send to W&B what it has not, and say what came of it; whether W&B has all."""
    from jaxaccel.wandb.publish import publish_later

    published = publish_later(records, project)
    say(published.message)
    return published.complete


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
    from jaxaccel.render.words.baseline import labels

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
    from jaxaccel.render import terminal
    from jaxaccel.render.words import baseline

    match arguments.format:
        case Format.csv:
            hand_over(baseline.as_csv(comparison), arguments.output)
        case Format.json:
            hand_over(baseline.as_json(comparison), arguments.output)
        case _:
            terminal.show_baseline(terminal.make_console(), comparison)


def show(records: "Sequence[Record]", arguments: Arguments, skipped: Sequence[str] = ()) -> None:
    """The records by themselves, CPU beside GPU; with prices also what calls cost.

    **Raises** BadInputError where the file that was asked for can't be written.
    """
    from jaxaccel.analyze.compare import pair
    from jaxaccel.render import files, rows
    from jaxaccel.render.words import money

    comparisons, prices = pair(records), arguments.prices
    match arguments.format:
        case Format.html | Format.table:
            show_table(records, comparisons, prices)
            if arguments.format is Format.html:
                leave_page(records, comparisons, arguments, skipped)
        case Format.markdown:
            from jaxaccel.render.terminal.markdown import markdown

            hand_over(markdown(records, comparisons, prices, skipped), arguments.output)
        case Format.csv | Format.json:
            table = [
                rows.row(comparison) | (money.columns(comparison, prices) if prices else {})
                for comparison in comparisons
            ]
            as_text = files.csv_text if arguments.format is Format.csv else files.json_text
            hand_over(as_text(table), arguments.output)


def show_table(
    records: "Sequence[Record]", comparisons: "Sequence[Comparison]", prices: "Prices | None"
) -> None:
    """The tables of the terminal."""
    from jaxaccel.analyze.machines import standing
    from jaxaccel.render import terminal
    from jaxaccel.render.terminal import rates
    from jaxaccel.render.words import training
    from jaxaccel.render.words.sections import as_text

    screen = terminal.make_console()
    terminal.show_comparisons(screen, comparisons)
    if more := as_text((*training.sections(comparisons), *rates.sections(records))):
        say(more)
    if prices:
        terminal.show_bills(screen, comparisons, prices)
    terminal.show_failures(screen, [placed.record for placed in standing(records)])


def leave_page(
    records: "Sequence[Record]",
    comparisons: "Sequence[Comparison]",
    arguments: Arguments,
    skipped: Sequence[str],
) -> None:
    """Write the page where it was asked for, or else beside the first of the records; say where.

    **Raises** BadInputError where it can't be written.
    """
    from jaxaccel.render.page import PAGE, write_page

    first = Path(arguments.new[0])
    path = arguments.output or (first if first.is_dir() else first.parent) / PAGE
    notes = [f"skipped, as it can't be read: {line}" for line in skipped]
    try:
        write_page(records, path, arguments.prices, notes, comparisons)
    except OSError as error:
        raise unwritable(path, error) from error
    say(f"Page: {escape.inert(str(path))}")


def hand_over(text: str, output: Path | None) -> None:
    """Text on standard output, or in a file.

    **Raises** BadInputError where the file can't be written.
    """
    from jaxaccel.records.store import write_whole

    if output is None:
        say(text, end="")
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

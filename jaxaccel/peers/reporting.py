"""What records with peers say: the tables of `python -m jaxaccel.peers report`. It measures nothing."""

from collections.abc import Sequence

from jaxaccel.cli.exit import INCOMPLETE, OK
from jaxaccel.cli.parser import parser_with_examples
from jaxaccel.cli.record_arguments import choose, load_and_tell, parse_only
from jaxaccel.process.saying import say, warn
from jaxaccel.records.errors import BadInputError

EXAMPLES = """\
examples:
  python -m jaxaccel.peers report experiments/peers
  python -m jaxaccel.peers report experiments/peers --every --only workload=matvec,dot dtype=float32
"""


def report(argv: Sequence[str]) -> int:
    """Load, compare and show. Returns the exit code.

    **Raises** BadInputError for what is no record, or has no peer in it.
    """
    from jaxaccel.analyze.peers import beside, fastest
    from jaxaccel.render.terminal import make_console
    from jaxaccel.render.terminal.peers import failure_lines, peers_markdown, show_peers

    parser = parser_with_examples(
        prog="python -m jaxaccel.peers report",
        description="JAX beside its peers, from records that are there.",
        examples=EXAMPLES,
    )
    parser.add_argument("places", metavar="PLACE", nargs="+", help="folders and files with records")
    parser.add_argument("--every", action="store_true", help="every peer, not the fastest alone")
    parser.add_argument("--format", choices=("table", "markdown"), default="table", help="(default: table)")
    parser.add_argument("--only", metavar="KEY=VALUE", nargs="+", default=[], help="cases that have these")
    given = parser.parse_args(argv)
    try:
        only = parse_only("--only", given.only)
        (records,) = choose([load_and_tell(given.places, peers=True)], only)
    except ValueError as error:
        raise BadInputError(str(error)) from error
    found = beside(records)
    if not found:
        raise BadInputError(
            f"PLACE must hold records of JAX and of a peer in a case, got {' '.join(given.places)}"
        )
    shown = found if given.every else fastest(found)
    if given.format == "markdown":
        say(peers_markdown(shown), end="")
    else:
        show_peers(make_console(), shown)
    return _tell_failures(failure_lines(records))


def _tell_failures(lines: Sequence[str]) -> int:
    for line in lines:
        warn(line)
    return INCOMPLETE if lines else OK

"""`python -m jaxaccel.selftest`: is this harness trustworthy on this machine?

Simulations of the statistics, then the machine's own devices: equal arms, calls of known duration, mutants
that must be caught, honest workloads that must not. Minutes; about one with --quick. With --rerun,
compares two runs of the same cases instead.
"""

import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path

from jaxaccel.cli.commands import costs_a_warning, say_waiting
from jaxaccel.cli.exit import INCOMPLETE, OK, command
from jaxaccel.cli.keeping import require_room
from jaxaccel.cli.parser import Parser
from jaxaccel.process import signals
from jaxaccel.process.saying import say, tell
from jaxaccel.records import DEVICES
from jaxaccel.records.errors import BadInputError
from jaxaccel.selftest.check import Check, Outcome

QUICK_TRIALS, TRIALS = 100, 1000
_STYLES = {"passed": "green", "failed": "red", "inconclusive": "yellow", "skipped": "dim"}


@command
def main(argv: Sequence[str]) -> int:
    """Run the checks, show them, write them as JSON. Returns 1 if one failed or could not be written, else 0.

    **Raises** BadInputError for bad arguments, and DeviceBusyError.
    """
    options = _parser().parse_args(argv)
    from jaxaccel.session.device_locks import hold_devices

    output = options.output
    if output and output.is_dir():
        raise BadInputError(f"`--output` must be a file, got the folder {str(output)!r}")
    if output is None and not options.rerun:
        output = Path("outputs") / time.strftime("selftest-%Y%m%d-%H%M%S.json")
    if output:
        require_room([output.parent])
    found: list[Check] = []
    with signals.caught():
        if options.rerun:
            found += _rerun(*options.rerun)
        else:
            devices = dict.fromkeys(options.device or ["cpu"])
            with hold_devices(devices, wait_s=600.0, waiting=say_waiting):
                for check in _all(list(devices), quick=options.quick):
                    found.append(check)
    with costs_a_warning("the checks could not be shown"):
        _show(found)
    written = output is None
    if output:
        with costs_a_warning("the checks could not be written"):
            _write(found, output)
            written = True
            say(f"Checks: {output}")
    if signals.stopped():
        tell(f"{signals.how()}: {len(found)} checks were made")
    failed = any(check.outcome is Outcome.failed for check in found)
    return signals.exit_code() or (OK if written and not failed else INCOMPLETE)


def _all(devices: Sequence[str], *, quick: bool) -> Iterator[Check]:
    from jaxaccel.selftest import hardware, simulated

    trials = QUICK_TRIALS if quick else TRIALS
    _tell(f"simulations, {trials} trials each")
    yield from simulated.checks(trials)
    for device in devices:
        yield from hardware.checks(device, quick=quick, told=_tell)


def _rerun(first: Path, second: Path) -> Iterable[Check]:
    from jaxaccel.cli.record_arguments import load_and_tell
    from jaxaccel.selftest import rerun

    return rerun.checks(load_and_tell([first]), load_and_tell([second]))


def _tell(what: str) -> None:
    tell(f"{what} ...")


def _show(found: Sequence[Check]) -> None:
    from rich import box
    from rich.table import Table
    from rich.text import Text

    from jaxaccel.render.terminal import make_console

    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False)
    for heading in ("check", "expected", "found", ""):
        table.add_column(heading, overflow="fold")
    for check in found:
        outcome = Text(str(check.outcome), style=_STYLES[check.outcome])
        table.add_row(check.name, check.expected, check.found, outcome)
    console = make_console()
    console.print(table)
    counts = {outcome: sum(check.outcome is outcome for check in found) for outcome in Outcome}
    console.print(", ".join(f"{count} {outcome}" for outcome, count in counts.items() if count))


def _write(found: Sequence[Check], path: Path) -> None:
    from jaxaccel.records.store import write_whole
    from jaxaccel.render.files import json_text

    when = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    write_whole(path, json_text({"at": when, "checks": list(map(asdict, found))}).encode())


def _parser() -> Parser:
    parser = Parser(prog="python -m jaxaccel.selftest", description=__doc__.partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="fewer trials: about a minute")
    parser.add_argument(
        "--device",
        action="append",
        choices=DEVICES,
        help="a device to test; may be given twice (default: cpu)",
    )
    parser.add_argument(
        "--rerun",
        nargs=2,
        type=Path,
        metavar=("FIRST", "SECOND"),
        help="instead: do the intervals of a first run hold what a second run of the same cases found?",
    )
    parser.add_argument("--output", type=Path, help="where the checks go as JSON (default: outputs/)")
    return parser


if __name__ == "__main__":
    sys.exit(main())

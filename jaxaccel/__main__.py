"""The program `jaxaccel COMMAND`, and `python -m jaxaccel COMMAND`; without a command's name it is `run`."""

import sys
from collections.abc import Callable, Sequence
from importlib import import_module

from jaxaccel.process.early import COMMANDS, leave_on_signals

HELP = """\
jaxaccel measures JAX code on the CPU and the GPU: which is faster, from which size on, and how close to the
hardware's limit.

Usage: jaxaccel [COMMAND] ...          The same: python -m jaxaccel [COMMAND] ...

  run [KEY=VALUE ...]    measure; `run` may be left out, and a list of values is a sweep
  crossover KEY=VALUE    find the sizes at which the winner changes
  peers KEY=VALUE        measure NumPy, PyTorch or TensorFlow beside JAX
  report RECORDS         show records: table and page, Markdown, CSV, JSON; send them to W&B
  compare OLD NEW        show how times changed; exit code 3 if one is worse
  advise RECORDS         which device for a size, from records
  export FUNCTION        save a function as a file that other machines can measure
  dashboard              save workspaces of a W&B project
  selftest               is this harness trustworthy on this machine?

Examples:
  jaxaccel device=both size=4096
  jaxaccel fn=train.py:step device=cpu,gpu size=256,1024,4096
  jaxaccel compare outputs/before outputs/after

jaxaccel COMMAND --help tells more; jaxaccel --version names the version.
"""
IN_A_PACKAGE = ("peers", "selftest")  # commands whose `main` is in __main__ of a package of their name
LISTS = ("run", "crossover", "peers")  # commands in whose arguments a list of values makes a sweep
WORSE = 3


def main(argv: Sequence[str] | None = None) -> int:
    """Start a command. Signals are listened to before it is imported, which takes long."""
    leave_on_signals()
    words = list(sys.argv[1:] if argv is None else argv)
    match words:
        case [] | ["--help"] | ["-h"]:
            return tell(HELP)
        case ["--version"]:
            from jaxaccel import __version__

            return tell(f"jaxaccel {__version__}\n")
        case ["compare", *rest]:
            return compare(rest)
        case [name, *rest] if name in COMMANDS:
            return start(name, rest)
        case [word, *_] if "=" not in word and not word.startswith(("-", "+", "~")):
            return unknown(word)
        case _:
            return start("run", words)


def start(name: str, arguments: Sequence[str]) -> int:
    """Run a command with its arguments. Returns the exit code."""
    module = import_module(f"jaxaccel.{name}{'.__main__' if name in IN_A_PACKAGE else ''}")
    command: Callable[[Sequence[str]], int] = module.main
    return command(as_sweep(arguments) if name in LISTS else arguments)


def as_sweep(arguments: Sequence[str]) -> list[str]:
    """The arguments, with -m where one of them is a list of values."""
    from jaxaccel.cli.spelling import MULTIRUN, split_values

    asked = any(word in MULTIRUN or word.startswith("--") for word in arguments)
    listed = any(len(split_values(word.partition("=")[2])) > 1 for word in arguments)
    return ["-m", *arguments] if listed and not asked else [*arguments]


def compare(arguments: Sequence[str]) -> int:
    """`report NEW --baseline OLD`, with an exit code of its own where a time is worse."""
    from jaxaccel import report

    if {"--help", "-h"} & set(arguments):
        return report.main(["--help"])
    first_option = next((at for at, word in enumerate(arguments) if word.startswith("-")), len(arguments))
    places, options = arguments[:first_option], arguments[first_option:]
    if len(places) < 2:
        return refuse(f"`compare` must be given OLD and NEW, got {' '.join(arguments) or 'neither'}")
    code = report.main([*places[1:], "--baseline", places[0], *options])
    return WORSE if code == report.WORSE else code


def unknown(word: str) -> int:
    """Refuse a word that is neither a command nor an argument of `run`."""
    from jaxaccel.records.function_names import near

    commands = [*COMMANDS, "compare"]
    return refuse(
        f"there is no command {word!r}: it must be one of {', '.join(commands)}{near(word, commands)}"
    )


def tell(text: str) -> int:
    """Print it. Returns the exit code."""
    from jaxaccel.cli.exit import OK, command
    from jaxaccel.process.saying import say

    def show(_: Sequence[str]) -> int:
        say(text, end="")
        return OK

    return command(show)([])


def refuse(problem: str) -> int:
    """Say what is wrong. Returns the exit code."""
    from jaxaccel.cli.exit import command
    from jaxaccel.records.errors import BadInputError

    def show(_: Sequence[str]) -> int:
        raise BadInputError(problem)

    return command(show)([])


if __name__ == "__main__":
    sys.exit(main())

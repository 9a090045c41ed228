"""`python -m jaxaccel.export`: put a function into a file that workload=exported measures; by scripts/export.

It runs without its source, for the CPU and for CUDA; it takes no GPU to make it.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from jaxaccel.cli.exit import OK, command
from jaxaccel.cli.parser import Parser
from jaxaccel.process.saying import say, tell
from jaxaccel.records.errors import BadInputError
from jaxaccel.records.function_names import FORMS, MAKER, common_root, locate
from jaxaccel.records.precision import Dtype, Precision

FAILED = 1

EXAMPLES = """\
examples:
  scripts/export fn=src/train.py:step args=make_args step.bin --size 1024
  scripts/export my_pkg.my_module:step my_pkg.my_module:make_args step.bin --size 1024
  python -m jaxaccel.run workload=exported workload.file=step.bin device=both
"""


@command
def main(argv: Sequence[str]) -> int:
    """Export, and say what is in the file. Returns the exit code."""
    asked = parse_arguments(argv)
    # JAX, which only these rooms may import, is not needed to say what is wrong with the arguments.
    from jaxaccel.worker.problems import describe
    from jaxaccel.workloads.importing import BadCodeError
    from jaxaccel.workloads.saving import export_named

    try:
        said = export_named(
            asked.fn,
            asked.args,
            asked.file,
            size=asked.size,
            dtype=asked.dtype,
            precision=asked.precision,
            seed=asked.seed,
            static=asked.static,
            root=asked.root,
        )
    except BadCodeError as error:
        raise BadInputError(str(error)) from error
    except Exception as error:  # of the user's code
        problem = describe(error)
        lines = (f"jaxaccel: {problem.message}", problem.hint, problem.traceback)
        tell("\n".join(filter(None, lines)))
        return FAILED
    say(said)
    return OK


def parse_arguments(argv: Sequence[str]) -> argparse.Namespace:
    """What `argv` asks for.

    **Raises** BadInputError.
    """
    parser = Parser(
        prog="jaxaccel.export",
        usage="%(prog)s fn=FUNCTION [args=FUNCTION] FILE [options]",
        description=__doc__.splitlines()[0],
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "words",
        nargs="+",
        metavar="FUNCTION|FILE",
        help=f"the function, as {FORMS}; the function that makes its arguments, of size, key and dtype, by "
        "name (by default, make_args of the same module); the file to write",
    )
    parser.add_argument("--size", type=int, default=1, help="for which size (1)")
    parser.add_argument("--dtype", choices=list(map(str, Dtype)), default="float32", help="(float32)")
    parser.add_argument(
        "--precision",
        choices=list(map(str, Precision)),
        default="highest",
        help="of its matrix products (highest)",
    )
    parser.add_argument("--seed", type=int, default=0, help="of the key (0)")
    parser.add_argument(
        "--static",
        type=int,
        action="append",
        default=[],
        help="the position of an argument that is a setting",
    )
    asked = parser.parse_intermixed_args(list(argv))
    asked.fn, asked.args, asked.file, asked.root = read_words(asked.words)
    if asked.size < 1:
        raise BadInputError(f"`--size` must be a positive whole number, got {asked.size}")
    if not asked.file.parent.is_dir():
        raise BadInputError(f"`file`: there is no folder {str(asked.file.parent)!r}")
    return asked


def read_words(words: Sequence[str]) -> tuple[str, str, Path, str | None]:
    """The function, what makes its arguments, the file, and the folder from which the two are imported.

    **Raises** BadInputError.
    """
    named = dict(word.split("=", 1) for word in words if word.startswith(("fn=", "args=")))
    *functions, file = [word for word in words if not word.startswith(("fn=", "args="))] or [""]
    free = [key for key in ("fn", "args") if key not in named]
    if not file or len(functions) > len(free) or ("fn" in free and not functions):
        raise BadInputError(
            "the arguments must be fn=FUNCTION, args=FUNCTION (optional) and the FILE to write; see --help"
        )
    named |= dict(zip(free, functions, strict=False))
    try:
        fn = locate("fn", named["fn"])
        args = locate("args", named.get("args", MAKER), beside=fn.module)
        return fn.name, args.name, Path(file), common_root("fn", [fn, args])
    except ValueError as error:
        raise BadInputError(str(error)) from error


if __name__ == "__main__":
    sys.exit(main())

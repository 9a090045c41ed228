"""`python -m jaxaccel.export`: put a function into a file that workload=exported measures; by scripts/export.

It runs without its source, for the CPU and for CUDA; it takes no GPU to make it.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from jaxaccel.config import BadInputError, Dtype, Parser, Precision
from jaxaccel.saying import say, tell, warn

OK, FAILED, BAD_INPUT = 0, 1, 2

EXAMPLES = """\
examples:
  scripts/export my_pkg.my_module:step my_pkg.my_module:make_args --size 1024 step.bin
  python -m jaxaccel.run workload=exported workload.file=step.bin device=both
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Export, and say what is in the file. Returns the exit code."""
    try:
        asked = parse_arguments(sys.argv[1:] if argv is None else argv)
    except BadInputError as error:
        warn(str(error))
        return BAD_INPUT
    # JAX, which only these rooms may import, is not needed to say what is wrong with the arguments.
    from jaxaccel.worker.problems import describe
    from jaxaccel.workloads.own import BadCodeError
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
        )
    except BadCodeError as error:
        warn(str(error))
        return BAD_INPUT
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
        description=__doc__.splitlines()[0],
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("fn", help="the function, as package.module:function")
    parser.add_argument("args", help="what makes its arguments, of size, key and dtype, by name")
    parser.add_argument("file", type=Path, help="where to")
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
    asked = parser.parse_args(list(argv))
    if asked.size < 1:
        raise BadInputError(f"`--size` must be a positive whole number, got {asked.size}")
    if not asked.file.parent.is_dir():
        raise BadInputError(f"`file`: there is no folder {str(asked.file.parent)!r}")
    return asked


if __name__ == "__main__":
    sys.exit(main())

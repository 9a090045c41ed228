"""Command lines that say what is wrong in one line."""

import argparse
from typing import NoReturn

from jaxaccel.records.errors import BadInputError


class Parser(argparse.ArgumentParser):
    """Says what is wrong in one line, as every command here does."""

    def error(self, message: str) -> NoReturn:
        """Stop.

        **Raises** BadInputError.
        """
        raise BadInputError(f"{message} (see --help)")


def parser_with_examples(*, prog: str, description: str, examples: str) -> Parser:
    """A parser whose help ends with `examples` as they are, and that takes no option by its beginning."""
    return Parser(
        prog=prog,
        description=description,
        epilog=examples,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )

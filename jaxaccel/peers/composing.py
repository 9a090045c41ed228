"""The jobs of a command: those of its arguments, or of each line of a file beside them, for one session."""

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from jaxaccel.records.errors import BadInputError

if TYPE_CHECKING:
    from jaxaccel.cli.compose import Composed

GROUPS = ("peers=default",)
FILE = "cases="
# Of jobs of several lines, the number of a job alone does not tell folders apart.
SUBDIR = "hydra.sweep.subdir={}.${{hydra.job.num}}-${{workload.name}}-${{size}}-${{device.name}}"


def compose_all(arguments: Sequence[str], command_id: str) -> "Composed":
    """Let Hydra read them; `cases=FILE` stands for the lines of a file, each with all other arguments.

    **Raises** BadInputError for a file that can't be read, or has no line, and for what `compose` refuses.
    """
    from jaxaccel.cli.compose import Composed, compose

    files = [argument.removeprefix(FILE) for argument in arguments if argument.startswith(FILE)]
    if not files:
        return compose(arguments, command_id, GROUPS)
    others = [argument for argument in arguments if not argument.startswith(FILE) and argument != "-m"]
    parts: list[Composed] = []
    try:
        for number, words in enumerate(read_cases(files[-1])):
            # All in the folder of the first.
            folder = [f"hydra.sweep.dir={part.folder}" for part in parts[:1]]
            parts.append(compose(["-m", *others, *words, SUBDIR.format(number), *folder], command_id, GROUPS))
    except BadInputError:
        for part in parts:
            part.discard()
        raise
    return Composed(
        jobs=[job for part in parts for job in part.jobs],
        sweep_folder=parts[0].sweep_folder,
        made=[folder for part in parts for folder in part.made],
    )


def read_cases(path: str) -> list[list[str]]:
    """The arguments of each line of a file that has any; what is behind a # is for its readers.

    **Raises** BadInputError for a file that can't be read, or has no such line.
    """
    try:
        lines = [shlex.split(line, comments=True) for line in Path(path).read_text().splitlines()]
    except (OSError, ValueError) as error:
        raise BadInputError(f"`cases` must be a file with arguments a line, got {path!r}: {error}") from error
    found = [words for words in lines if words]
    if not found:
        raise BadInputError(f"`cases` must be a file with arguments a line, and {path!r} has none")
    return found

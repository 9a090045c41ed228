"""`python -m jaxaccel.dashboard`: saved W&B workspaces of a project, from code. It sends no record."""

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass

from jaxaccel.cli.exit import OK, command
from jaxaccel.cli.parser import Parser, parser_with_examples
from jaxaccel.cli.record_arguments import given_project
from jaxaccel.process.saying import say, warn
from jaxaccel.records.errors import BadInputError
from jaxaccel.records.redact import without_secrets
from jaxaccel.wandb.config import WandbConfig

NOT_SAVED = 1
WORKLOADS = ("matvec", "dot", "mlp")
SOMEBODY = "ENTITY"  # in place of one, where nobody is asked

EXAMPLES = """\
examples:
  scripts/dashboard jaxaccel                          create or renew both views
  scripts/dashboard our-team/gpus --workload mlp,matmul
  scripts/dashboard jaxaccel --dry-run                what would be saved; needs no account

exit code: 0 saved, 1 W&B did not take it, 2 bad input
"""


@dataclass(frozen=True, kw_only=True)
class Arguments:
    """The command, read and checked."""

    project: WandbConfig
    workloads: tuple[str, ...]
    dry_run: bool


@command
def main(argv: Sequence[str]) -> int:
    """Build the workspaces, and save or print them. Returns the exit code."""
    arguments = read(argv)
    return show(arguments) if arguments.dry_run else save(arguments)


def show(arguments: Arguments) -> int:
    """Print what would be saved, as JSON. Asks nobody."""
    from jaxaccel.wandb.workspace import spec, workspaces

    entity = arguments.project.entity or SOMEBODY
    found = workspaces(entity, arguments.project.project, arguments.workloads)
    say(json.dumps([spec(workspace) for workspace in found], indent=2))
    return OK


def save(arguments: Arguments) -> int:
    """Save both views, over earlier ones of theirs. Returns the exit code."""
    from jaxaccel.wandb import workspace
    from jaxaccel.wandb.client import in_words

    try:
        entity = workspace.default_entity()
        if entity is None:
            warn("nobody is logged in to W&B: wandb login, or WANDB_API_KEY")
            return NOT_SAVED
        entity = arguments.project.entity or entity
        for view in workspace.workspaces(entity, arguments.project.project, arguments.workloads):
            address, new = workspace.save(view)
            say(without_secrets(f"{view.name}: {'created' if new else 'renewed'}, {address}"))
    except Exception as error:  # the edge: whatever W&B says, in a line
        warn(f"W&B did not take the workspaces: {in_words(error)}")
        return NOT_SAVED
    return OK


def make_parser() -> Parser:
    """The command line, without what `read` checks by itself."""
    parser = parser_with_examples(
        prog="python -m jaxaccel.dashboard",
        description="Create or renew workspaces of a W&B project: CPU beside GPU, machine beside machine.",
        examples=EXAMPLES,
    )
    parser.add_argument("project", metavar="[ENTITY/]PROJECT", help="the W&B project that has the runs")
    parser.add_argument(
        "--workload",
        metavar="NAMES",
        default=",".join(WORKLOADS),
        help="which get a section, with commas between them; %(default)s if not given",
    )
    parser.add_argument("--dry-run", action="store_true", help="print what would be saved, as JSON")
    return parser


def read(argv: Sequence[str]) -> Arguments:
    """The command that `argv` describes.

    **Raises** BadInputError, naming the argument, the value and what is allowed.
    """
    raw = make_parser().parse_args(argv)
    known = known_workloads()
    workloads = tuple(dict.fromkeys(word.strip() for word in raw.workload.split(",")))
    if unknown := [name for name in workloads if name not in known]:
        raise BadInputError(f"`--workload` must be of {', '.join(known)}, got {unknown[0]!r}")
    try:
        project = given_project("PROJECT", raw.project)
    except ValueError as error:
        raise BadInputError(str(error)) from error
    return Arguments(project=project, workloads=workloads, dry_run=raw.dry_run)


def known_workloads() -> list[str]:
    """Those that have a YAML file."""
    from jaxaccel.cli.conf_folder import config_folder

    return sorted(path.stem for path in (config_folder() / "workload").glob("*.yaml"))


if __name__ == "__main__":
    sys.exit(main())

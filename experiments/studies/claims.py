"""`scripts/claims`: what became of the article's claims, from published records."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec

from jaxaccel.cli.exit import OK, command
from jaxaccel.cli.parser import parser_with_examples
from jaxaccel.process.saying import say
from jaxaccel.records.errors import BadInputError
from studies.claim import Claim, Published, read_claim

CLAIMS = Path(__file__).parent.parent / "claims.yaml"

EXAMPLES = """\
examples:
  scripts/claims                            the table of experiments/README.md, and the arguments
  scripts/claims experiments/claims.yaml

FILE has `claims`: section, claim, verdict, depends_on, why, study and figures; the numbers of these come from
records.jsonl in the folders beside FILE, or from JSON files there. CONTRIBUTING says how to add one.

exit code: 0 all numbers are there that can be, 2 bad input, or a number that the records do not have
"""


@command
def main(argv: Sequence[str]) -> int:
    """Read, work out, print. Returns the exit code."""
    parser = parser_with_examples(
        prog="scripts/claims",
        description="The article's claims, with verdicts and the numbers that they rest on, as Markdown.",
        examples=EXAMPLES,
    )
    parser.add_argument("file", metavar="FILE", nargs="?", type=Path, default=CLAIMS, help="the claims")
    path = parser.parse_args(argv).file
    claims = read_claims(path)
    from studies.claims_text import markdown

    try:
        text = markdown(claims, published(claims, path.parent))
    except ValueError as error:
        raise BadInputError(f"{path}: {error}") from error
    say(text)
    return OK


def read_claims(path: Path) -> list[Claim]:
    """The claims that a file holds.

    **Raises** BadInputError, in one line: the file, the key and what is allowed.
    """
    try:
        raw: Any = msgspec.yaml.decode(path.read_bytes())
        if not isinstance(raw, dict) or not {"claims"} <= raw.keys() <= {"claims", "select"}:
            raise ValueError("it must have `claims`, and may have `select`")
        return [read_claim(claim, raw.get("select", {})) for claim in raw["claims"]]
    except (OSError, ValueError, TypeError) as error:
        raise BadInputError(f"{path}: {' '.join(str(error).split())}") from error


def published(claims: Sequence[Claim], folder: Path) -> Published:
    """What the figures of claims are of, as far as it is there; studies are folders of `folder`."""
    from jaxaccel.cli.record_arguments import load_and_tell
    from jaxaccel.records.reading import read_json

    figures = [figure for claim in claims for figure in claim.figures]
    studies = dict.fromkeys(study for figure in figures for study in figure.records)
    files = dict.fromkeys(figure.file for figure in figures if figure.file)
    return Published(
        records={
            study: load_and_tell([folder / study])
            for study in studies
            if [*folder.glob(f"{study}/**/records.jsonl")]
        },
        files={name: read_json(folder / name, folder) for name in files if (folder / name).exists()},
        told=frozenset(path.parent.name for path in folder.glob("*/README.md")),
    )


if __name__ == "__main__":
    sys.exit(main())

"""Measures several jobs in one session: `python several.py FILE [DEVICE]`.

FILE has a JSON list of lists of arguments: each is what jaxaccel.run takes for one job. One worker serves
them all, one after the other, so that what a case leaves behind would reach those after it. Prints what was
refused before anything was measured, by position, as JSON on the first line of standard output.
"""

import json
import sys
from contextlib import ExitStack
from pathlib import Path

from jaxaccel.cli.commands import Launcher
from jaxaccel.cli.compose import Composed, compose
from jaxaccel.records.errors import BadInputError
from jaxaccel.run import measure_jobs

ID = "several"


def main() -> int:
    jobs, refused = [], {}
    for index, arguments in enumerate(json.loads(Path(sys.argv[1]).read_text())):
        try:
            jobs += compose(arguments, ID).jobs
        except BadInputError as error:
            refused[index] = str(error)
    print(json.dumps(refused), flush=True)
    with ExitStack() as workers:
        return measure_jobs(
            Composed(jobs=jobs, sweep_folder=None), ID, ID, Launcher(sys.argv[2:] or ["cpu"], workers)
        )


if __name__ == "__main__":
    sys.exit(main())

"""`python -m jaxaccel.peers`: JAX beside numpy, torch and TensorFlow; with `report`, from records alone."""

import sys
import uuid
from collections.abc import Sequence
from contextlib import ExitStack

from jaxaccel.cli.commands import command_line
from jaxaccel.cli.exit import OK, command
from jaxaccel.process.saying import say

HELP = """\
jaxaccel.peers measures a JAX workload beside other frameworks: the same data, tolerance and statistics, each
in turn with JAX, and tells their times as ratios.

Usage: scripts/peers [-m] [KEY=VALUE ...]     or     python -m jaxaccel.peers [-m] [KEY=VALUE ...]
       python -m jaxaccel.peers report PLACE ... [--every] [--format table|markdown] [--only KEY=VALUE ...]

  workload=matvec|dot|mlp|mlp_article|training
                                       what is computed; its keys, size, dtype, precision: as in jaxaccel.run;
                                       of training: workload.feed=scan|resident|copied, as its peer can
  device=cpu|gpu|both                  where; each device by itself, one after the other
  peers.frameworks=[numpy,torch,torch_compile,torch_cuda_graph,torch_compile_graph,tensorflow]
                                       which, of those that the device has       (all that are installed)
  metrics=[latency,throughput,device]  device: of PyTorch on a GPU, by its profiler
  timing=quick|default|thorough        how surely: 1, 5, 10 passes               (intervals take three)
  cases=FILE                           the arguments of each line, with all others, in one session
  resume=FOLDER                        measure what an earlier run of the same arguments lacks

report shows of each case and metric the fastest peer, with --every all of them.

Examples:
  scripts/peers workload=matvec size=1024
  scripts/peers -m workload=matvec,dot size=1048576 device=cpu passes=3 'peers.frameworks=[numpy,torch]'
  scripts/peers workload=mlp_article device=both passes=3
  scripts/peers -m workload=training workload.feed=scan,resident,copied passes=3
  python -m jaxaccel.peers report experiments/peers --format markdown

PyTorch and TensorFlow are measured where they are installed: pip install 'jaxaccel[peers]', or into the
environment of a checkout. Nothing is held against ceilings, and nothing is sent to W&B.

Results: record.json (one an arm) and records.jsonl in outputs/ or multirun/. Exit code: 0 all measured,
1 something has no result, 2 bad input.
"""


@command
def main(arguments: Sequence[str]) -> int:
    """Measure, or report. Returns the exit code."""
    if arguments and arguments[0] == "report":
        from jaxaccel.peers.reporting import report

        return report(arguments[1:])
    if {"--help", "-h"} & set(arguments):
        say(HELP, end="")
        return OK
    return _measure(arguments)


def _measure(arguments: Sequence[str]) -> int:
    from jaxaccel.peers.composing import compose_all
    from jaxaccel.peers.measuring import measure_jobs

    command_id = uuid.uuid4().hex[:8]
    line = command_line("jaxaccel.peers", arguments)
    composed = compose_all(arguments, command_id)
    if not composed.jobs:
        return OK
    with ExitStack() as stack:
        return measure_jobs(composed, line, command_id, stack)


if __name__ == "__main__":
    sys.exit(main())

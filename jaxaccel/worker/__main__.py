"""`python -m jaxaccel.worker DEVICE [CORES]`: answers requests on its standard input until that closes.

Standard input and output carry messages only: to own code and libraries the one is empty, and what they print
goes to standard error.
"""

import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any, BinaryIO

from jaxaccel.process.children import keep
from jaxaccel.records import CPU_CORES, ArmFacts, Spent
from jaxaccel.records.messages import AskRound, Close, Dump, Inspect, Message, Open, Started
from jaxaccel.worker.serving import answer_all, answering, claim_channels, round_of, send, start_failure


def main(device: str, cores: str | None = None) -> int:
    """Connect to the device, say so, and serve, on so many cores. Returns the exit code."""
    requests, replies = claim_channels()
    from jaxaccel.worker.devices import connect, device_environment, environment, keep_to

    if cores is not None:  # before JAX makes its threads, as many as there are cores
        keep_to(int(cores))
    host = environment()
    try:
        jax_device, facts = connect(device)
        if cores is not None:
            facts = replace(facts, flags={**facts.flags, CPU_CORES: cores})
    except Exception as error:  # the worker's edge: whatever it is becomes an answer
        send(replies, start_failure(error, host))
        return 1
    from jaxaccel.worker import arm  # noqa: F401  # its imports are part of the start

    known = host | device_environment(jax_device)
    send(replies, Started(arm=facts, ready_at=time.time(), environment=known))
    serve(requests, replies, jax_device, facts)
    return 0


def serve(requests: BinaryIO, replies: BinaryIO, jax_device: Any, facts: ArmFacts) -> None:
    """Answer each request with one message, a Failure where it went wrong."""
    from jaxaccel.worker.arm import OpenArm, dispatch_floor_s
    from jaxaccel.worker.own_code import refuse_environment

    arms: dict[str, OpenArm] = {}
    floor_s: dict[str, float] = {}

    def answer(request: Message) -> Message:
        match request:
            case Open():
                refuse_environment()
                begin = time.perf_counter()
                if not floor_s:  # not at the start, when other processes are starting, too
                    floor_s.update(dispatch_floor_s(jax_device))
                floor_took = Spent(warmup=time.perf_counter() - begin)
                arms[request.key] = opened = OpenArm(request.arm, jax_device, facts, floor_s, request.metrics)
                return replace(opened.facts, spent_s=opened.facts.spent_s + floor_took)
            case AskRound():
                return round_of(arms[request.key], request.metric)
            case Inspect():
                return arms[request.key].inspect(request.energy_s)
            case Dump():
                from jaxaccel.worker.dump import dump

                return dump(request.arm, jax_device, Path(request.folder))
            case Close():
                return arms.pop(request.key).close()
            case _:
                raise ValueError(f"a worker answers no {type(request).__name__}")

    answer_all(requests, replies, answering(answer))


if __name__ == "__main__":
    keep()
    sys.exit(main(*sys.argv[1:]))

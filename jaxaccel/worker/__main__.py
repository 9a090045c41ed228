"""`python -m jaxaccel.worker DEVICE [CORES]`: answers requests on its standard input until that closes.

Standard output carries messages only; whatever a library prints goes to standard error.
"""

import os
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any, BinaryIO

from jaxaccel.messages import (
    AskRound,
    Close,
    Closed,
    Dump,
    Failure,
    Inspect,
    Message,
    Open,
    Started,
    Unavailable,
    decode_message,
    encode_message,
)
from jaxaccel.records import CPU_CORES, ArmFacts, Problem, Spent


def main(device: str, cores: str | None = None) -> int:
    """Connect to the device, say so, and serve, on so many cores. Returns the exit code."""
    replies = _claim_stdout()
    from jaxaccel.worker.devices import NoDeviceError, connect, device_environment, environment, keep_to

    if cores is not None:  # before JAX makes its threads, as many as there are cores
        keep_to(int(cores))
    host = environment()
    try:
        jax_device, facts = connect(device)
        if cores is not None:
            facts = replace(facts, flags={**facts.flags, CPU_CORES: cores})
    except NoDeviceError as error:
        problem = Problem(type="NoDevice", message=str(error), hint=error.hint)
        _send(replies, Failure(error=problem, environment=host))
        return 1
    except Exception as error:  # the worker's edge: whatever it is becomes an answer
        from jaxaccel.worker.problems import describe

        _send(replies, Failure(error=describe(error), environment=host))
        return 1
    from jaxaccel.worker import arm  # noqa: F401  # its imports are part of the start

    known = host | device_environment(jax_device)
    _send(replies, Started(arm=facts, ready_at=time.time(), environment=known))
    serve(replies, jax_device, facts)
    return 0


def serve(replies: BinaryIO, jax_device: Any, facts: ArmFacts) -> None:
    """Answer each request with one message, a Failure where it went wrong."""
    from jaxaccel.worker.arm import BLOCKED, OpenArm, dispatch_floor_s
    from jaxaccel.worker.checks import RefusedError
    from jaxaccel.worker.problems import describe
    from jaxaccel.worker.timing import InvariantError
    from jaxaccel.workloads.own import BadCodeError

    arms: dict[str, OpenArm] = {}
    floor_s: dict[str, float] = {}

    def answer(request: Message) -> Message:
        match request:
            case Open():
                begin = time.perf_counter()
                if not floor_s:  # not at the start, when other processes are starting, too
                    floor_s.update(dispatch_floor_s(jax_device))
                floor_took = Spent(warmup=time.perf_counter() - begin)
                arms[request.key] = opened = OpenArm(request.arm, jax_device, facts, floor_s, request.metrics)
                return replace(opened.facts, spent_s=opened.facts.spent_s + floor_took)
            case AskRound():
                try:
                    return arms[request.key].round(request.metric)
                except InvariantError:
                    raise
                except Exception as error:  # the worker's edge: a profiler's trouble costs its metric
                    if request.metric in BLOCKED:
                        raise
                    return Unavailable(reason=describe(error).message)
            case Inspect():
                return arms[request.key].inspect(request.energy_s)
            case Dump():
                from jaxaccel.worker.dump import dump

                return dump(request.arm, jax_device, Path(request.folder))
            case Close():
                del arms[request.key]
                return Closed()
            case _:
                raise ValueError(f"a worker answers no {type(request).__name__}")

    for line in sys.stdin.buffer:
        try:
            reply = answer(decode_message(line))
        except (RefusedError, BadCodeError) as error:
            reply = Failure(error=describe(error), refused=True)
        except Exception as error:  # the worker's edge
            reply = Failure(error=describe(error))
        _send(replies, reply)


def _claim_stdout() -> BinaryIO:
    private = os.fdopen(os.dup(1), "wb", buffering=0)
    os.dup2(2, 1)
    return private


def _send(replies: BinaryIO, message: Message) -> None:
    replies.write(encode_message(message))


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))

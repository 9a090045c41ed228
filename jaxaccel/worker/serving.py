"""How a worker speaks: requests on what was its standard input, an answer to each on its standard output."""

import os
from collections.abc import Callable, Mapping
from typing import Any, BinaryIO, Protocol

from jaxaccel.records import Metric, Problem, escape
from jaxaccel.records.messages import Failure, Message, Round, Unavailable, decode_message, encode_message
from jaxaccel.records.redact import all_without_secrets


class Arm(Protocol):
    """What can be asked for rounds."""

    def round(self, metric: Metric) -> Round | Unavailable:
        """A short burst of samples, or why there is none."""


def claim_channels() -> tuple[BinaryIO, BinaryIO]:
    """Standard input and output, for requests and replies alone.

    From now on whoever reads standard input finds it empty, and whatever a library or own code prints goes to
    standard error.
    """
    requests, replies = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb", buffering=0)
    empty = os.open(os.devnull, os.O_RDONLY)
    os.dup2(empty, 0)
    os.close(empty)
    os.dup2(2, 1)
    return requests, replies


def send(replies: BinaryIO, message: Message) -> None:
    """Say it, without the secrets that this process knows. Text of own code's exceptions is made inert."""
    told = escape.everywhere(all_without_secrets(message), escape.MULTILINE)
    replies.write(encode_message(told))


def start_failure(error: Exception, host: Mapping[str, Any]) -> Failure:
    """Why a worker has not started, whatever it is."""
    from jaxaccel.worker.devices import NoDeviceError

    if isinstance(error, NoDeviceError):
        problem = Problem(type="NoDevice", message=str(error), hint=error.hint)
    else:
        from jaxaccel.worker.problems import describe

        problem = describe(error)
    return Failure(error=problem, environment=host)


def answering(answer: Callable[[Message], Message]) -> Callable[[bytes], Message]:
    """A function that answers each line with one message, a Failure where it went wrong."""
    from jaxaccel.worker.problems import describe, is_refusal

    def answered(line: bytes) -> Message:
        try:
            return answer(decode_message(line))
        except BaseException as error:  # the worker's edge: own code may raise SystemExit or any other
            return Failure(error=describe(error), refused=is_refusal(error))

    return answered


def answer_all(requests: BinaryIO, replies: BinaryIO, answered: Callable[[bytes], Message]) -> None:
    """Answer each request, until there are no more."""
    for line in requests:
        send(replies, answered(line))


def round_of(arm: Arm, metric: Metric) -> Message:
    """A round, or why there is none; an arm that can't be called any more raises."""
    from jaxaccel.worker.problems import describe
    from jaxaccel.worker.timing import BLOCKED, InvariantError

    try:
        return arm.round(metric)
    except InvariantError:
        raise
    except Exception as error:  # the worker's edge: a profiler's trouble costs its metric
        if metric in BLOCKED:
            raise
        return Unavailable(reason=describe(error).message)

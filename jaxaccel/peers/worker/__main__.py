"""`python -m jaxaccel.peers.worker DEVICE LIBRARY`: speaks as jaxaccel.worker does, for another library.

Standard output carries messages only; whatever a library prints goes to standard error.
"""

import gc
import pkgutil
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from jaxaccel.process.children import keep
from jaxaccel.records import ArmFacts, Spent
from jaxaccel.records.messages import AskRound, Close, Closed, Inspect, Message, Open, Started
from jaxaccel.worker.serving import answer_all, answering, claim_channels, round_of, send, start_failure

if TYPE_CHECKING:
    from jaxaccel.peers.worker.program import Library  # which imports NumPy, and that starts threads

# Each in a module that its library is imported in, and nowhere else.
KINDS = {
    "numpy": "jaxaccel.peers.worker.with_numpy:NumpyLibrary",
    "torch": "jaxaccel.peers.worker.with_torch:TorchLibrary",
    "tensorflow": "jaxaccel.peers.worker.with_tensorflow:TensorFlowLibrary",
}


def main(device: str, library: str) -> int:
    """Import the library, say so, and serve. Returns the exit code."""
    # What a library prints as it is imported must not get among the messages.
    requests, replies = claim_channels()
    from jaxaccel.worker.devices import environment

    host = environment()
    try:
        connected, facts, known = connect(device, library, host)
    except Exception as error:  # the worker's edge: whatever it is becomes an answer
        send(replies, start_failure(error, host))
        return 1
    from jaxaccel.peers.worker import arm  # noqa: F401  # its imports are part of the start

    send(replies, Started(arm=facts, ready_at=time.time(), environment=host | known))
    answer_all(requests, replies, make_answer(connected, facts))
    return 0


def connect(device: str, library: str, host: Mapping[str, Any]) -> "tuple[Library, ArmFacts, dict[str, Any]]":
    """The library on the device, the facts of that, and what of its own the environment gets.

    **Raises** NoDeviceError, ImportError.
    """
    from jaxaccel.worker.devices import nvml_facts, speed_variables

    if library not in KINDS:
        raise ValueError(f"LIBRARY must be one of {', '.join(KINDS)}, got {library!r}")
    connected: Library = pkgutil.resolve_name(KINDS[library])(device)
    facts = ArmFacts(
        requested=device,
        platform=connected.platform,
        kind=connected.kind,
        count=connected.count,
        flags=speed_variables(),
    )
    told = connected.environment()
    known: dict[str, Any] = {
        "framework": {"library": library, **told},
        "packages": host["packages"] | {library: told["version"]},
    }
    if device == "gpu":
        known["gpu"] = {"kind": connected.kind, **nvml_facts(None)}
    return connected, facts, known


def make_answer(library: "Library", facts: ArmFacts) -> Callable[[bytes], Message]:
    """A function that answers each request with one message, a Failure where it went wrong."""
    from jaxaccel.peers.worker.arm import Data, PeerArm, empty_call_s

    arms: dict[str, PeerArm] = {}
    data = Data()
    floors: dict[str, dict[str, float]] = {}

    def answer(request: Message) -> Message:
        match request:
            case Open():
                framework = request.arm.framework
                if not arms:
                    library.forget()
                    data.forget()
                begin = time.perf_counter()
                if framework not in floors:  # to compile for the first time can take half a minute
                    floors[framework] = empty_call_s(library, framework)
                floor_took = Spent(warmup=time.perf_counter() - begin)
                arms[request.key] = opened = PeerArm(
                    request.arm, library, facts, floors[framework], request.metrics, data
                )
                return replace(opened.facts, spent_s=opened.facts.spent_s + floor_took)
            case AskRound():
                return round_of(arms[request.key], request.metric)
            case Inspect():
                return arms[request.key].inspect()
            case Close():
                del arms[request.key]
                if not arms:
                    data.forget()
                    gc.unfreeze()
                    gc.collect()  # what a case held on a GPU, before the next one's is placed
                return Closed()
            case _:
                raise ValueError(f"a worker answers no {type(request).__name__}")

    return answering(answer)


if __name__ == "__main__":
    keep()
    sys.exit(main(*sys.argv[1:]))

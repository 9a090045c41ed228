"""Where the time of an awaited call goes, by the traces in bundles: python -m jaxaccel.report ... --bundle.

    python experiments/peers/traces.py experiments/peers experiments/variants

Times are in µs, and medians over the ten calls that a bundle has. Of a GPU: until its first kernel
began, in all kernels, and from the end of the last one until the calling thread was back. CUPTI has put
the GPU's clock and the host's on one axis, to some microseconds. Of a CPU: how many of XLA's threads
took part (that on which it begins the call is one), when the first and the last of them began, when
the last ended, and when the calling thread was back. The profiler itself changes
how long calls take: most are longer than those of the records, some shorter.
"""

import gzip
import json
import statistics
import sys
import tarfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

CALL = "PjitFunction"  # what the host does of a call, all of it
BACK = "Wait for"  # "donation holds" and "usage holds": what dropping a result begins with
BEGUN, ENDED = "ThreadpoolListener::StartRegion", "ThreadpoolListener::StopRegion"
TRACE = ".trace.json.gz"

Event = Mapping[str, Any]
Phases = Callable[[Sequence[Event]], Iterator[tuple[float, ...]]]


def gpu_phases(events: Sequence[Event]) -> Iterator[tuple[float, ...]]:
    """Of each call: until its first kernel began, the time in its kernels, from the last to the host."""
    named = (e for e in events if e.get("name") == "process_name")
    devices = {e["pid"] for e in named if "GPU" in e["args"].get("name", "")}
    for at, own in calls(events):
        kernels = [e for e in own if e["pid"] in devices]
        end = max(map(ends, kernels))
        yield kernels[0]["ts"] - at, sum(e["dur"] for e in kernels), back_after(end, own) - end


def cpu_phases(events: Sequence[Event]) -> Iterator[tuple[float, ...]]:
    """Of each call: threads, the first and the last of them begun, all ended, the calling thread back."""
    for at, own in calls(events):
        first: dict[int, float] = {}
        for event in own:
            if event["name"] == BEGUN:
                first.setdefault(event["tid"], event["ts"] - at)
        ended = max(e["ts"] for e in own if e["name"] == ENDED)
        back = back_after(ended, own)
        yield len(first), min(first.values()), max(first.values()), ended - at, back - at


def calls(events: Sequence[Event]) -> Iterator[tuple[float, list[Event]]]:
    """When each began, and what came from there to the next. The trace has a call twice, one in the other."""
    timed = sorted((e for e in events if e.get("ph") == "X"), key=lambda event: float(event["ts"]))
    begun, until = list[float](), 0.0
    for event in timed:
        if event["name"].startswith(CALL) and event["ts"] >= until:
            until = ends(event)
            begun.append(event["ts"])
    for at, following in zip(begun, [*begun[1:], float("inf")], strict=True):
        yield at, [e for e in timed if at <= e["ts"] < following]


def back_after(moment: float, own: Sequence[Event]) -> float:
    """When the calling thread was back from a call, whose work ended at `moment`."""
    back: float = next(e["ts"] for e in own if e["name"].startswith(BACK) and e["ts"] > moment)
    return back


def ends(event: Event) -> float:
    """When it did."""
    end: float = event["ts"] + event["dur"]
    return end


def read(archive: Path) -> list[Event]:
    """The events that the profiler wrote."""
    with tarfile.open(archive) as whole:
        (name,) = (name for name in whole.getnames() if name.endswith(TRACE))
        file = whole.extractfile(name)
        assert file
        events: list[Event] = json.loads(gzip.decompress(file.read()))["traceEvents"]
        return events


def table(folders: Sequence[Path]) -> Iterator[str]:
    """A line a bundle, those of a GPU first."""
    archives = sorted(archive for folder in folders for archive in folder.glob("bundle-*.tar.gz"))
    kinds: Sequence[tuple[str, Phases, Sequence[str]]] = (
        ("gpu", gpu_phases, ("to a kernel", "in kernels", "to the host")),
        ("cpu", cpu_phases, ("threads", "first began", "last began", "last ended", "host back")),
    )
    for device, phases, head in kinds:
        yield f"{device:29}" + "".join(f"{name:>13}" for name in head)
        for archive in archives:
            name, between, _ = archive.name.removeprefix("bundle-").partition(f"-{device}-")
            if between:
                medians = map(statistics.median, zip(*phases(read(archive)), strict=True))
                yield f"{name:29}" + "".join(f"{value:13.4g}" for value in medians)
        yield ""


if __name__ == "__main__":
    print("\n".join(table([Path(word) for word in sys.argv[1:]] or [Path(__file__).parent])).rstrip())

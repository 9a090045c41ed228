"""How batches reach the steps of an epoch: each way as a loop in Python over compiled training steps.

Within a call an epoch's batches go through in turn, always the same ones, so that every way trains alike and
only the time differs. What a loop awaits is what tells them apart: JAX's calls return before their work is
done, so that a loop that awaits nothing overlaps what it can by itself.
"""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import jax

from jaxaccel.workloads.tumours import Batch

Step = Callable[..., tuple[Any, jax.Array]]  # (leaves, x, y) -> (next leaves, loss)
Epoch = Callable[[Any], tuple[Any, list[jax.Array]]]  # leaves -> (next leaves, the loss of each step)


@dataclass(frozen=True, kw_only=True)
class Source:
    """The batches of an epoch, by number: `ready` on the host, or to be made there by `prepare`.

    `place` sends one to the device, explicitly, and returns before it is there.
    """

    ready: Sequence[Batch]
    prepare: Callable[[int], Batch]
    place: Callable[[Batch], tuple[jax.Array, jax.Array]]

    @property
    def count(self) -> int:
        """Batches of an epoch."""
        return len(self.ready)


def resident(step: Step, source: Source) -> Epoch:
    """All batches lie on the device; nothing is awaited."""
    there = jax.block_until_ready([source.place(batch) for batch in source.ready])
    return _in_turn(source, lambda leaves, number: step(leaves, *there[number]))


def copied(step: Step, source: Source) -> Epoch:
    """Copy a batch, take the step, await both, as the article's loop does.

    PyTorch's `.to()` of ordinary memory awaits its copy, which waits for the step before it in the stream.
    For a CPU device nothing moves: it takes the host's memory as it is.
    """

    def take(leaves: Any, number: int) -> tuple[Any, jax.Array]:
        return _one_by_one(step, leaves, source.place(source.ready[number]))

    return _in_turn(source, take)


def prefetched(step: Step, source: Source) -> Epoch:
    """The next batch is sent while the step runs; nothing is awaited."""

    def epoch(leaves: Any) -> tuple[Any, list[jax.Array]]:
        losses = []
        ahead = source.place(source.ready[0])
        for number in range(source.count):
            leaves, loss = step(leaves, *ahead)
            if number + 1 < source.count:
                ahead = source.place(source.ready[number + 1])
            losses.append(loss)
        return leaves, losses

    return epoch


def serial(step: Step, source: Source) -> Epoch:
    """Prepare a batch on the host, copy it, take the step, await it: one after the other."""

    def take(leaves: Any, number: int) -> tuple[Any, jax.Array]:
        return _one_by_one(step, leaves, source.place(source.prepare(number)))

    return _in_turn(source, take)


def queued(step: Step, source: Source) -> Epoch:
    """The same without awaiting: the device works while this thread prepares the next batch."""

    def take(leaves: Any, number: int) -> tuple[Any, jax.Array]:
        return step(leaves, *source.place(source.prepare(number)))

    return _in_turn(source, take)


def overlapped(step: Step, source: Source) -> Epoch:
    """Another thread prepares the next batch, while this one does with a batch what `serial` does.

    The first batch of a call has no step to be prepared beside: of n batches, n - 1 can be hidden.
    """
    beside = ThreadPoolExecutor(max_workers=1, thread_name_prefix="prepare")

    def epoch(leaves: Any) -> tuple[Any, list[jax.Array]]:
        losses = []
        ahead = beside.submit(source.prepare, 0)
        for number in range(source.count):
            batch = ahead.result()
            if number + 1 < source.count:
                ahead = beside.submit(source.prepare, number + 1)
            leaves, loss = _one_by_one(step, leaves, source.place(batch))
            losses.append(loss)
        return leaves, losses

    return epoch


def _in_turn(source: Source, take: Callable[[Any, int], tuple[Any, jax.Array]]) -> Epoch:
    """An epoch of `take`, the step on the batch of a number."""

    def epoch(leaves: Any) -> tuple[Any, list[jax.Array]]:
        losses = []
        for number in range(source.count):
            leaves, loss = take(leaves, number)
            losses.append(loss)
        return leaves, losses

    return epoch


def _one_by_one(step: Step, leaves: Any, batch: tuple[jax.Array, jax.Array]) -> tuple[Any, jax.Array]:
    """A step on a batch that is there before it, and that is done after it."""
    leaves, loss = step(leaves, *jax.block_until_ready(batch))
    return leaves, loss.block_until_ready()


LOOPS: dict[str, Callable[[Step, Source], Epoch]] = {
    "resident": resident,
    "copied": copied,
    "prefetched": prefetched,
    "serial": serial,
    "queued": queued,
    "overlapped": overlapped,
}
PREPARING = ("serial", "queued", "overlapped")  # on the host, within the call
SCAN = "scan"  # all batches on the device, and an epoch is one program: no loop in Python
FEEDS = (SCAN, *LOOPS)

"""What a peer's worker needs of a library: programs that it can time, and the facts of its device."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from jaxaccel.records import Case

Array = NDArray[Any]

# As optax.adam has them, which workloads/mlp.py takes with its LEARNING_RATE.
BETA1, BETA2, EPSILON = 0.9, 0.999, 1e-8


@dataclass(frozen=True, kw_only=True)
class Program:
    """A case in a library, its data in place and, of a training, its parameters as they were given.

    `call` makes one call, whose result `block` awaits; `ready` says whether it is there, `fetch` gives it as
    NumPy has it. `run` stands for what a workload's `verify` asks for: a function and its arguments. Where
    `chained`, each call takes up what the one before it left. `output_bytes` stay alive for each queued call.
    `leaves` gives the parameters after the last call, kernels before biases, of a training that is followed.
    """

    call: Callable[[], Any]
    block: Callable[[Any], Any]
    ready: Callable[[Any], bool]
    fetch: Callable[[Any], Any]
    run: Callable[..., Any]
    chained: bool
    output_bytes: int
    leaves: Callable[[], list[Array]] | None = None


class Library(Protocol):
    """A library on a device, connected."""

    @property
    def platform(self) -> str:
        """The device's platform, as the library names it."""

    @property
    def kind(self) -> str:
        """The device's name."""

    @property
    def count(self) -> int:
        """How many of them it sees."""

    @property
    def trace(self) -> Callable[[Callable[[], None]], Sequence[Any]] | None:
        """Gives the kernels that ran on the device, as worker/kernels.py has them; None where it can't."""

    def environment(self) -> Mapping[str, Any]:
        """The library's version, threads, and what else its speed depends on."""

    def capacity_bytes(self) -> int:
        """Memory that the device can still give."""

    def prepare(self, precision: str) -> None:
        """Set what holds for a process: another arm may have set it otherwise."""

    def forget(self) -> None:
        """Drop what earlier cases left behind; no program of one is open."""

    def program(self, framework: str, workload: Any, case: Case, inputs: Any) -> Program:
        """The case as the framework computes it."""

    def empty(self, framework: str) -> Program:
        """A program that adds one to a number: its calls are the cost of dispatch."""


@dataclass(frozen=True, kw_only=True)
class Parameters:
    """Of each layer the kernel (inputs, outputs) and the bias (outputs,)."""

    kernels: Sequence[Array]
    biases: Sequence[Array]


def parameters(leaves: Sequence[Array], widths: Sequence[int]) -> Parameters:
    """Those at the beginning of the leaves of an mlp's carry, or of its parameters alone."""
    ours = leaves[: 2 * len(list(pairwise(widths)))]
    return Parameters(
        kernels=[leaf for leaf in ours if leaf.ndim == 2], biases=[leaf for leaf in ours if leaf.ndim == 1]
    )


def learning_rate() -> float:
    """That of the workload; asked for when it is needed, for it comes with JAX."""
    from jaxaccel.workloads.mlp import LEARNING_RATE

    return LEARNING_RATE


def steps_of(case: Case) -> int | None:
    """How many training steps a call makes and gives the losses of; None: one, and its loss alone."""
    return int(case.params.get("steps") or 1) if case.variant == "scan" else None


def batches_of(workload: Any, seed: int) -> list[tuple[Array, Array]]:
    """Those of an epoch of `training` on the host, features and labels, in the order of JAX's."""
    return [*map(workload.prepare(seed), range(workload.batches))]


def fed_epoch(
    feed: str, batches: Sequence[Any], place: Callable[[Any], Any], step: Callable[..., Any]
) -> Callable[[], list[Any]]:
    """An epoch as a loop in Python over `step`, which gives a loss; as workloads/feeds.py has its loops.

    `resident`: all batches have been placed beforehand. `copied`: each is placed before its step; `place`
    returns once it is there, and it is there once the step before it is done.
    """
    if feed == "resident":
        there = [place(batch) for batch in batches]
        return lambda: [step(*batch) for batch in there]
    return lambda: [step(*place(batch)) for batch in batches]


def answers_for(
    widths: Sequence[int],
    first_steps: Callable[[], Callable[[], float]],
    checked: Callable[[Parameters, Array, Array], Any],
) -> Callable[..., Any]:
    """What stands for `run` in an mlp's `verify`, which asks for two things.

    Of parameters alone: loss, gradients and preactivations on some rows, which `checked` gives. Of a whole
    carry, again and again: single steps from the first on, of which `first_steps` gives a new series.
    """
    count = 2 * len(list(pairwise(widths)))
    series: list[Callable[[], float]] = []

    def run(_: Any, leaves: Sequence[Array], x: Array, y: Array) -> Any:
        if len(leaves) == count:
            return checked(parameters(leaves, widths), x, y)
        if not series:
            series.append(first_steps())
        return leaves, np.float64(series[0]())

    return run


def as_gradients(kernels: Sequence[Array], biases: Sequence[Array]) -> list[Array]:
    """The gradients as `verify` takes them: it tells kernels from biases by their dimensions."""
    return [*kernels, *biases]

"""An epoch of the article's training on real data, whose batches reach the device in several ways.

The article's network is 10-50-1, its batches have 32 samples, its loop copies each batch to the device.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from typing import Any, ClassVar

import jax
import numpy as np

from jaxaccel.records import Accuracy, Cost
from jaxaccel.workloads import exact_training, feeds, tumours
from jaxaccel.workloads.base import (
    Array,
    Inputs,
    Outcome,
    aligned_empty,
    check_arguments,
    itemsize,
    judged,
    largest,
    norm_error,
    rounding_error,
    sum_tolerance,
    uniform,
)
from jaxaccel.workloads.mlp import CHECKED_FLOPS, LEARNING_RATE, Mlp

CHECKED_STEPS = 2  # at least: the second has the first one's update in it
LATER = 10  # learning rates that losses may be off after the first epoch


@dataclass(frozen=True, kw_only=True)
class Training:
    """One epoch: 448 samples in batches of `batch`, the same ones in every epoch; `size` is the hidden width.

    feed: how the batches reach the steps, see feeds.py; of `scan`, an epoch is one program. copies: of each
    sample in its batch, all but the first jittered, so that a step has batch · copies rows and preparing
    them costs something. epochs: of the training that is followed beside the timing, from the start. What an
    epoch leaves over of 448 samples, as there are no smaller batches, is not trained on.
    """

    variants: ClassVar[Mapping[str, Any]] = {"direct": None}
    carries: ClassVar[bool] = True

    size: int
    dtype: str = "float32"
    variant: str = "direct"
    depth: int = 1
    batch: int = 32
    feed: str = "copied"
    copies: int = 1
    epochs: int = 100

    def __post_init__(self) -> None:
        check_arguments(self, depth=self.depth, batch=self.batch, copies=self.copies, epochs=self.epochs)
        if self.batch > tumours.TRAINED:
            raise ValueError(
                f"`workload.batch` must be at most {tumours.TRAINED}, the samples that are trained on, "
                f"got {self.batch}"
            )
        if self.feed not in feeds.FEEDS:
            raise ValueError(f"`workload.feed` must be one of {', '.join(feeds.FEEDS)}, got {self.feed!r}")

    @property
    def loops(self) -> bool:
        """Where the epoch is one program of several steps."""
        return self.feed == feeds.SCAN and self.batches > 1

    @property
    def batches(self) -> int:
        """Steps of an epoch."""
        return tumours.TRAINED // self.batch

    @property
    def sends(self) -> bool:
        """Whether a call sends batches to the device."""
        return self.feed not in (feeds.SCAN, "resident")

    @property
    def widths(self) -> tuple[int, ...]:
        """Units of each layer, from the features to the one logit."""
        return self._net.widths

    @property
    def operations(self) -> frozenset[str]:
        """A product."""
        return self._net.operations

    @property
    def function(self) -> Callable[..., Any]:
        """A step, (leaves, x, y) -> (next leaves, loss); of feed=scan an epoch of them, and all losses.

        There x is (batches, rows, 10), y (batches, rows), and the losses are (batches,).
        """
        step = self._net.function
        if self.feed != feeds.SCAN:
            return step

        def scan(leaves: list[jax.Array], x: jax.Array, y: jax.Array) -> tuple[list[jax.Array], jax.Array]:
            after, losses = jax.lax.scan(lambda leaves, batch: step(leaves, *batch), leaves, (x, y))
            return after, losses

        return scan

    def epoch(
        self, step: Callable[..., Any], place: Callable[[Any], Any], seed: int
    ) -> Callable[[Any], Any] | None:
        """An epoch as a loop in Python over the compiled step, leaves -> (next leaves, losses).

        None where the program is an epoch by itself. `place` sends arrays to the device.
        """
        if self.feed == feeds.SCAN:
            return None
        prepare = self.prepare(seed)
        ready = [*map(prepare, range(self.batches))]
        return feeds.LOOPS[self.feed](step, feeds.Source(ready=ready, prepare=prepare, place=place))

    def host_work(self, seed: int) -> Callable[[], None] | None:
        """What the host prepares for each epoch, by itself; None where nothing is prepared in a call."""
        if self.feed not in feeds.PREPARING:
            return None
        prepare = self.prepare(seed)

        def work() -> None:  # each batch goes before the next is made, as in an epoch
            for number in range(self.batches):
                prepare(number)

        return work

    def cost(self) -> Cost:
        """That of a step, as often as there are batches: see Mlp."""
        one, steps = self._net.cost(), self.batches
        assert one.flops is not None
        assert one.bytes is not None
        return Cost(flops=steps * one.flops, bytes=steps * one.bytes, steps=steps)

    def memory_bytes(self) -> int:
        """A step's, and all batches."""
        a_batch = self.batch * self.copies * (tumours.FEATURES * itemsize(self.dtype) + 4)
        return self._net.memory_bytes() + self.batches * a_batch

    def inputs(self, seed: int) -> Inputs:
        """Leaves of parameters and Adam's state, and the first batch; of feed=scan, all batches."""
        leaves, _, _ = self._net.inputs(seed)
        prepare = self.prepare(seed)
        if self.feed != feeds.SCAN:
            return leaves, *prepare(0)
        columns = zip(*map(prepare, range(self.batches)), strict=True)
        return leaves, *(_stacked(column) for column in columns)

    def verify(self, inputs: Inputs, output: Any, precision: str, run: Callable[..., Any]) -> Accuracy:
        """The first step's loss against float64; those after it are for `outcome` to judge."""
        leaves, x, y = inputs
        found = np.concatenate([np.ravel(np.asarray(loss, np.float64)) for loss in jax.tree.leaves(output)])
        first = (x, y) if self.feed != feeds.SCAN else (x[0], y[0])
        (exact,) = self.exact(leaves, [first])
        error = abs(found[0] - exact) / exact if np.isfinite(found).all() else math.inf
        return judged(float(error), self._rounding(precision), "NumPy float64, the loss of the first step")

    def outcome(self, seed: int, losses: Array, leaves: list[Array], precision: str) -> Outcome:
        """What came of a training: losses (epochs, batches) from the start on, and the leaves after it.

        Each epoch's losses are held norm-wise against the same training in float64, as far as `expected` has
        it. In the first epoch rounding and a learning rate are tolerated, later on ten of them. Adam divides
        a gradient by its own size: where rounding decides whether a unit that is hardly ever active is so,
        the weights move by about as much as by a right decision, the learning rate. That took the losses of 5
        of 12 trainings 1e-4 to 5e-4 off, and those of the others at most 1e-5 (float32, size 50, 2-core EPYC,
        JAX 0.10.2). A rate that is 1% wrong is 2e-3 off in the first epoch, batches in another order 0.1.
        Two devices that are within it of one reference are within twice of each other.
        """
        rounding, apart = self._rounding(precision), rounding_error(self.dtype, precision)
        exact = expected(replace(self, feed=feeds.SCAN), seed, apart)
        found = losses.ravel()[: len(exact)]
        if not np.isfinite(losses).all():
            found = np.full(len(exact), np.inf)
        errors = norms_apart(found, exact, self.batches)
        told = f"NumPy float64, the losses of {{}} of {losses.size} steps"
        judgements = (
            judged(errors[0], LEARNING_RATE + rounding, told.format(min(self.batches, len(exact)))),
            judged(largest(errors), LATER * LEARNING_RATE + rounding, told.format(len(exact))),
        )
        return Outcome(
            accuracy=next((each for each in judgements if not each.ok), judgements[1]),
            series={"loss": tuple(map(float, losses.mean(axis=1)))},
            results={"held_out_accuracy": self._held_out(seed, leaves)},
        )

    def _held_out(self, seed: int, leaves: list[Array]) -> float:
        """The share of the samples not trained on that the device's weights tell rightly, by NumPy."""
        data = tumours.split(seed)
        kernels, biases = self._layers(leaves)
        logits = exact_training.forward(kernels, biases, data.standardised(data.held_out))[-1][:, 0]
        return float(np.mean((logits > 0) == (data.labels[data.held_out] > 0)))

    def exact(self, leaves: Sequence[Array], batches: Sequence[tumours.Batch], **settings: Any) -> Array:
        """The loss of each step from these leaves on, in float64; settings: see exact_training."""
        kernels, biases = self._layers(leaves)
        return np.array(exact_training.losses(kernels, biases, batches, LEARNING_RATE, **settings))

    def _layers(self, leaves: Sequence[Array]) -> tuple[list[Array], list[Array]]:
        """Kernels and biases in float64; Adam's moments come after them."""
        params = [leaf.astype(np.float64) for leaf in leaves[: 2 * (self.depth + 1)]]
        return [leaf for leaf in params if leaf.ndim == 2], [leaf for leaf in params if leaf.ndim == 1]

    def _rounding(self, precision: str) -> float:
        """What rounding may do to a loss: that of each layer's sums. Parameters are float32 at best."""
        terms = max(*self._net.widths, self.batch * self.copies)
        layers = len(self._net.widths) * sum_tolerance(self.dtype, precision, terms)
        return max(layers, float(np.finfo(np.float32).eps))

    def prepare(self, seed: int) -> Callable[[int], tumours.Batch]:
        """What makes the batch of a number on the host."""
        return tumours.preparation(
            tumours.split(seed), batch=self.batch, copies=self.copies, dtype=self.dtype, seed=seed
        )

    @cached_property
    def _net(self) -> Mlp:
        """The network and its step."""
        return Mlp(
            size=self.size,
            dtype=self.dtype,
            depth=self.depth,
            batch=self.batch * self.copies,
            features=tumours.FEATURES,
        )


@lru_cache(maxsize=4)
def expected(training: Training, seed: int, apart: float) -> Array:
    """The losses of a training's steps in float64: as many as can be afforded, and rounding does not decide.

    Another training beside it begins `apart` from its weights, relatively, and has Adam's constants in
    float32. Where the steps amplify such differences, as those of two hidden layers of 256 do, nothing can
    be said of a device once the two differ by more than a tenth of what is tolerated. All feeds have one
    training: it is kept.
    """
    total = training.epochs * training.batches
    flops = training.cost().flops
    assert flops is not None
    steps = min(total, max(CHECKED_STEPS, int(CHECKED_FLOPS / flops * training.batches)))
    batches = [training.prepare(seed)(number) for number in range(training.batches)]
    fed = [batches[at % len(batches)] for at in range(steps)]
    start = training.inputs(seed)[0]
    beside = [
        leaf * (1 + apart * np.sign(uniform(leaf.shape, "float64", seed=seed, stream=at)))
        for at, leaf in enumerate(start)
    ]
    exact, other = training.exact(start, fed), training.exact(beside, fed, corrected_in=np.float32)
    gone = [error > LATER * LEARNING_RATE / 10 for error in norms_apart(other, exact, len(batches))]
    sure = gone.index(True) if True in gone else len(gone)
    return exact[: max(sure * len(batches), min(CHECKED_STEPS, steps))]


def norms_apart(found: Array, exact: Array, batches: int) -> list[float]:
    """How far apart the losses of each epoch are: the norm of the difference over that of `exact`."""
    return [
        norm_error(found[at : at + batches], exact[at : at + batches]) for at in range(0, len(exact), batches)
    ]


def _stacked(parts: Sequence[Array]) -> Array:
    return np.stack(parts, out=aligned_empty((len(parts), *parts[0].shape), parts[0].dtype))

"""The real data that is trained on: of 569 tumours ten measurements, and whether each is benign.

These are the ten "mean" features of the Breast Cancer Wisconsin (Diagnostic) set, which scikit-learn carries,
and so no copy is kept here. Source: W. Wolberg, O. Mangasarian, N. Street, W. Street, UCI Machine Learning
Repository, 1993, doi:10.24432/C5DW2B; licence CC BY 4.0.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from jaxaccel.workloads.base import Array, aligned_empty, uniform

FEATURES = 10
# Trained on, 79 of 100: batches of 32, or of another power of two up to 64, leave none of them out.
TRAINED = 448
# Of the copies of a sample beyond the first: at most so many standard deviations beside it.
JITTER = 0.1
# Of the random streams of a seed those of the jitter, one a batch, are beyond those of the parameters.
_STREAM = 1000

Batch = tuple[Array, Array]


def measurements() -> tuple[Array, Array]:
    """All 569 samples as they were measured: features (569, 10) in float64, labels (569,), 1 for benign."""
    from sklearn.datasets import load_breast_cancer

    bunch = load_breast_cancer()
    return bunch.data[:, :FEATURES], bunch.target.astype(np.float32)


def breast_cancer() -> tuple[Array, Array]:
    """All 569 samples: features (569, 10) standardised over all of them, and labels (569,); float32."""
    raw, labels = measurements()
    mean, deviation = moments(raw)
    return ((raw - mean) / deviation).astype(np.float32), labels


def moments(raw: Array) -> tuple[Array, Array]:
    """Mean and standard deviation of each column: the same bits on every processor, as fsum rounds once."""
    means, deviations = [], []
    for column in raw.T:
        means.append(math.fsum(column) / len(column))
        deviations.append(math.sqrt(math.fsum((column - means[-1]) ** 2) / len(column)))
    return np.array(means), np.array(deviations)


def shuffled(count: int, seed: int) -> Array:
    """The indices below `count` in an order that the seed decides.

    By raw bits, for NumPy keeps their stream stable; its permutation() may change between versions.
    """
    bits = np.random.SFC64(np.random.SeedSequence([seed, 0])).random_raw(count)
    return np.argsort(bits, kind="stable")


@dataclass(frozen=True, kw_only=True)
class Split:
    """The samples as measured, of which `train` are trained on and `held_out` are not: indices, by the seed.

    mean, deviation: of those that are trained on; the others must not be known beforehand.
    """

    raw: Array
    labels: Array
    train: Array
    held_out: Array
    mean: Array
    deviation: Array

    def standardised(self, chosen: Array) -> Array:
        """Features of the chosen samples, (chosen, 10) in float64."""
        result: Array = (self.raw[chosen] - self.mean) / self.deviation
        return result


def split(seed: int) -> Split:
    """448 samples to train on, 121 to be held out."""
    raw, labels = measurements()
    order = shuffled(len(labels), seed)
    train, held_out = order[:TRAINED], order[TRAINED:]
    mean, deviation = moments(raw[train])
    return Split(raw=raw, labels=labels, train=train, held_out=held_out, mean=mean, deviation=deviation)


def preparation(data: Split, *, batch: int, copies: int, dtype: str, seed: int) -> Callable[[int], Batch]:
    """What makes the batch of a number, on the host: features (batch · copies, 10), labels (batch · copies,).

    It gathers the batch's samples, standardises them, and repeats them `copies` times, each time but the
    first with a jitter of its own: the usual augmentation. Of one number always the same bits.
    """
    rows = batch * copies

    def prepare(number: int) -> Batch:
        chosen = data.train[number * batch : (number + 1) * batch]
        exact = np.tile(data.standardised(chosen), (copies, 1))
        if copies > 1:
            shape = (rows - batch, FEATURES)
            exact[batch:] += JITTER * uniform(shape, "float64", seed=seed, stream=_STREAM + number)
        features = aligned_empty((rows, FEATURES), dtype)
        labels = aligned_empty((rows,), np.float32)
        features[:], labels[:] = exact, np.tile(data.labels[chosen], copies)
        return features, labels

    return prepare

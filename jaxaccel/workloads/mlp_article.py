"""The article's MLP, 10-50-1 with batches of 32, one training step on real data.

The article trains on data that it does not give. Here the ten "mean" features of the Breast Cancer
Wisconsin (Diagnostic) set, which scikit-learn carries, standardised, say whether a tumour is benign.
"""

import math
from dataclasses import dataclass

import numpy as np

from jaxaccel.workloads.base import Array, aligned_empty
from jaxaccel.workloads.mlp import Mlp

HIDDEN = 50
FEATURES = 10


@dataclass(frozen=True, kw_only=True)
class MlpArticle(Mlp):
    """`mlp` at the article's size, which is fixed."""

    depth: int = 1
    batch: int = 32
    features: int | None = FEATURES

    def __post_init__(self) -> None:
        if self.size != HIDDEN:
            raise ValueError(f"`size` of mlp_article is fixed at {HIDDEN}, got {self.size}")
        if (self.depth, self.features) != (1, FEATURES):
            raise ValueError("the layers of mlp_article are fixed at 10-50-1: take workload=mlp for others")
        super().__post_init__()
        if self.batch > len(breast_cancer()[1]):
            raise ValueError(
                f"`workload.batch` must be at most {len(breast_cancer()[1])}, the samples that there are, "
                f"got {self.batch}"
            )

    def data(self, seed: int) -> tuple[Array, Array]:
        """`batch` samples drawn without replacement: features (batch, 10), labels (batch,)."""
        x, y = breast_cancer()
        # Raw bits, for NumPy keeps their stream stable; its permutation() may change between versions.
        order = np.argsort(
            np.random.SFC64(np.random.SeedSequence([seed, 0])).random_raw(len(y)), kind="stable"
        )
        chosen = order[: self.batch]
        features = aligned_empty((self.batch, FEATURES), self.dtype)
        labels = aligned_empty((self.batch,), np.float32)
        features[:], labels[:] = x[chosen], y[chosen]
        return features, labels


def breast_cancer() -> tuple[Array, Array]:
    """All 569 samples: standardised features (569, 10) and labels (569,), 1 for benign; float32.

    Source: W. Wolberg, O. Mangasarian, N. Street, W. Street, UCI Machine Learning Repository, 1993.
    """
    from sklearn.datasets import load_breast_cancer

    bunch = load_breast_cancer()
    raw = bunch.data[:, :FEATURES]
    columns = []
    for column in raw.T:
        # fsum rounds once, so mean and deviation are the same bits whatever the processor.
        mean = math.fsum(column) / len(column)
        deviation = math.sqrt(math.fsum((column - mean) ** 2) / len(column))
        columns.append((column - mean) / deviation)
    return np.stack(columns, axis=1).astype(np.float32), bunch.target.astype(np.float32)

"""The article's MLP, 10-50-1 with batches of 32, one training step on real data.

The article trains on data that it does not give: here it is that of tumours.py.
"""

from dataclasses import dataclass

import numpy as np

from jaxaccel.workloads.base import Array, aligned_empty
from jaxaccel.workloads.mlp import Mlp
from jaxaccel.workloads.tumours import FEATURES, breast_cancer, shuffled

HIDDEN = 50


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
        chosen = shuffled(len(y), seed)[: self.batch]
        features = aligned_empty((self.batch, FEATURES), self.dtype)
        labels = aligned_empty((self.batch,), np.float32)
        features[:], labels[:] = x[chosen], y[chosen]
        return features, labels

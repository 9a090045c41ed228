"""Convolution of images, a layer of a network: (batch, n, n, channels) -> the same shape, NHWC."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import jax
import numpy as np

from jaxaccel.records import Accuracy, Cost
from jaxaccel.workloads.base import (
    Array,
    Plain,
    check_arguments,
    itemsize,
    judged_by_rows,
    sum_tolerance,
    uniform,
)

CHECKED_FLOPS = 2e9  # of the reference: they bound its time to a second or so
LAYOUT = ("NHWC", "HWIO", "NHWC")


def direct(images: jax.Array, kernel: jax.Array) -> jax.Array:
    """As anyone would write it: (b, n, n, c), (k, k, c, c) -> (b, n, n, c), with zeros around the images."""
    return jax.lax.conv_general_dilated(images, kernel, (1, 1), "SAME", dimension_numbers=LAYOUT)


def reference(images: Array, kernel: Array, rows: Array) -> Array:
    """Some rows of pixels in float64, of all images one after the other: (..), (..), (r,) -> (r, n, c)."""
    _, n, _, channels = images.shape
    side = len(kernel)
    before = (side - 1) // 2  # of an even kernel, SAME puts more after
    exact = kernel.astype(np.float64)
    found = np.zeros((len(rows), n, channels))
    for index, (image, row) in enumerate(zip(rows // n, rows % n, strict=True)):
        for i in range(max(0, before - row), min(side, n + before - row)):
            line = np.zeros((n + side - 1, channels))
            line[before : before + n] = images[image, row + i - before]
            for j in range(side):
                found[index] += line[j : j + n] @ exact[i, j]
    return found


@dataclass(frozen=True, kw_only=True)
class Conv2d(Plain):
    """Zero-mean random images and kernels, as many `channels` out as in. `size` is n, an image's side.

    `batch` images at a time; `kernel` is the side of the kernels.
    """

    variants: ClassVar[Mapping[str, Callable[..., Any]]] = {"direct": direct}

    batch: int = 8
    channels: int = 64
    kernel: int = 3

    def __post_init__(self) -> None:
        check_arguments(self, batch=self.batch, channels=self.channels, kernel=self.kernel)

    @property
    def operations(self) -> frozenset[str]:
        """A convolution, or a library's; some are written as products."""
        return frozenset({"convolution", "custom-call", "dot"})

    def cost(self) -> Cost:
        """Of each pixel and pair of channels, a multiplication and an addition a point of the kernel.

        Points beyond the edges are not counted. It is the count of the sum as it is written: Winograd's
        algorithm takes fewer multiplications (Lavin, Gray: Fast algorithms for convolutional neural networks,
        CVPR 2016). Images and kernels are read once, images are written once.
        """
        return Cost(
            flops=2.0 * self.batch * self._points**2 * self.channels**2,
            bytes=float(self.memory_bytes()),
            source="the plain sum",
        )

    @property
    def _points(self) -> int:
        """Pairs of a pixel and a point of the kernel within the image, in one direction."""
        n, before = self.size, (self.kernel - 1) // 2
        return sum(max(0, n - abs(offset)) for offset in range(-before, self.kernel - before))

    def memory_bytes(self) -> int:
        """Images, kernels and images."""
        images = self.batch * self.size**2 * self.channels
        return (2 * images + self.kernel**2 * self.channels**2) * itemsize(self.dtype)

    def inputs(self, seed: int) -> tuple[Array, Array]:
        """Images (batch, n, n, channels) and kernels (kernel, kernel, channels, channels)."""
        images = self.batch, self.size, self.size, self.channels
        kernels = self.kernel, self.kernel, self.channels, self.channels
        return (
            uniform(images, self.dtype, seed=seed, stream=0),
            uniform(kernels, self.dtype, seed=seed, stream=1),
        )

    def verify(
        self, inputs: tuple[Array, Array], output: Array, precision: str, run: Callable[..., Any]
    ) -> Accuracy:
        """Norm-wise against float64, on all rows of pixels or on evenly spread ones.

        Four times what is tolerated of a plain sum, for libraries choose algorithms that round more.
        """
        rows = np.asarray(output).reshape(-1, self.size, self.channels)
        terms = self.kernel**2 * self.channels
        count = min(len(rows), max(8, int(CHECKED_FLOPS / (2 * self.size * terms * self.channels))))
        tolerance = 4 * sum_tolerance(self.dtype, precision, terms)
        return judged_by_rows(rows, lambda index: reference(*inputs, index), count, tolerance)

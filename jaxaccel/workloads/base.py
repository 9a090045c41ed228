"""The protocol of a workload, and what workloads share: seeded data, tolerances, checks of arguments.

A workload is one Python file here, with one class, and one YAML file in conf/workload/ that names it.
"""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Protocol

import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

from jaxaccel.records import BEST, Accuracy, Cost, PlainValues

Array = NDArray[Any]
Inputs = tuple[Any, ...]  # pytrees of NumPy arrays: the arguments of the timed function

ALIGNMENT_BYTES = 64  # of host memory that JAX's CPU device takes as it is (jax 0.10.2: at 32 it copies)

# Random numbers made at a time: their temporaries stay in a CPU's cache and off the heap's end.
_CHUNK = 1 << 15
# Elements of a vector that a reference has in float64 at a time. For 1 << 20, the allocator asks the system
# for memory each time: a dot took four times as long (2-core EPYC).
_BLOCK = 1 << 16


class Workload(Protocol):
    """A named computation at a size: a frozen dataclass of `size`, `dtype`, `variant` and parameters.

    Its `__post_init__` refuses arguments that can't be right. `function` and its arguments are all that is
    timed. Where `carries` is true, the function returns (next first argument, output) and its first argument
    is donated, as in a training loop.

    `operations` are names of HLO operations of which one at least must be in the optimised program, and in
    the body of its loop if `loops`: else XLA has found a way around the work. None, where nobody knows them.

    One that trains says by `series = "loss"` that its output is a number to be kept, a step at a time; or as
    many as it makes steps in a call, in a row.

    One whose call is a loop in Python over its function, or that follows a whole training beside the timing,
    has more: see training.py for `epoch`, `sends`, `host_work` and `outcome`.

    One that is a user's own has more: see custom.py for `answer`, `sketched`, `compiling`, `notes` and
    `caller`, exported.py for `opaque`.
    """

    variants: ClassVar[Mapping[str, Callable[..., Any]]]

    @property
    def loops(self) -> bool:
        """Whether a call repeats its work in a loop; of most workloads a class variable."""

    @property
    def carries(self) -> bool:
        """Whether a call takes up what the one before it returned; of most workloads a class variable."""

    @property
    def operations(self) -> frozenset[str]:
        """HLO operations that do the work, any of them."""

    @property
    def size(self) -> int:
        """How large; each workload says of what."""

    @property
    def dtype(self) -> str:
        """Floating-point type of the data, as NumPy or ml_dtypes names it."""

    @property
    def variant(self) -> str:
        """Which of `variants`."""

    @property
    def function(self) -> Callable[..., Any]:
        """The pure, jittable function that is timed."""

    def cost(self) -> Cost:
        """The floating-point operations and bytes that one call can't do without."""

    def memory_bytes(self) -> int:
        """What one call holds on the device at its peak, predicted: arguments, output, temporaries."""

    def inputs(self, seed: int) -> Inputs:
        """The arguments, as host arrays: the same bits on every platform."""

    def verify(self, inputs: Inputs, output: Any, precision: str, run: Callable[..., Any]) -> Accuracy:
        """Compare what the timed program returned for `inputs` with a float64 NumPy reference.

        `run(function, *arguments)` compiles and runs a further function on the same device, at the same
        precision, for a workload whose output alone does not tell.
        """


def check_arguments(workload: "Workload | Plain", **counts: int) -> None:
    """Refuse a variant that is not there, and counts that are no positive whole numbers.

    **Raises** ValueError, naming the argument, the value and what is allowed.
    """
    if workload.variant not in workload.variants:
        choices = [*workload.variants, *([BEST] if len(workload.variants) > 1 else [])]
        raise ValueError(f"`workload.variant` must be one of {', '.join(choices)}, got {workload.variant!r}")
    for name, value in counts.items():
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise ValueError(f"`workload.{name}` must be a positive whole number, got {value!r}")


@dataclass(frozen=True, kw_only=True)
class Compiling:
    """How a workload's function is compiled.

    donates: whether the next carry takes the memory of the one before. options: XLA's, by name, for this
    program alone. constants_bytes: how large the arrays may be, together, that it holds in place of taking
    them as arguments.
    """

    donates: bool = True
    options: Mapping[str, Any] = field(default_factory=dict)
    constants_bytes: int = 0


@dataclass(frozen=True, kw_only=True)
class Outcome(PlainValues):
    """What came of a whole training: how right it was, numbers an epoch by name, and single ones."""

    accuracy: Accuracy
    series: Mapping[str, tuple[float, ...]]
    results: Mapping[str, float]


@dataclass(frozen=True, kw_only=True)
class Plain:
    """What workloads without a carry, a loop or parameters have in common."""

    variants: ClassVar[Mapping[str, Callable[..., Any]]]
    carries: ClassVar[bool] = False

    size: int
    dtype: str = "float32"
    variant: str = "direct"

    def __post_init__(self) -> None:
        check_arguments(self)

    @property
    def loops(self) -> bool:
        """No."""
        return False

    @property
    def operations(self) -> frozenset[str]:
        """A product."""
        return product_operations(self.size)

    @property
    def function(self) -> Callable[..., Any]:
        """The variant."""
        return self.variants[self.variant]


@dataclass(frozen=True, kw_only=True)
class Stepped(Plain):
    """What workloads of so many dependent steps in one call have in common, their number known beforehand.

    A variant takes that number after its arrays.
    """

    steps: int = 100

    def __post_init__(self) -> None:
        check_arguments(self, steps=self.steps)

    @property
    def loops(self) -> bool:
        """Of a single step, XLA does away with the loop."""
        return self.steps > 1

    @property
    def operations(self) -> frozenset[str]:
        """What scales an element in each step."""
        return frozenset({"multiply"})

    @property
    def function(self) -> Callable[..., Any]:
        """The variant, of its arrays alone."""
        variant, steps = self.variants[self.variant], self.steps

        def stepped(*arrays: Any) -> Any:
            return variant(*arrays, steps)

        return stepped


def product_operations(size: int) -> frozenset[str]:
    """The HLO operations that a product of matrices or vectors of `size` may end up as."""
    as_product = {"dot", "custom-call", "reduce", "reduce-window", "convolution"}
    return frozenset(as_product if size > 1 else as_product | {"multiply"})


def itemsize(dtype: str) -> int:
    """Bytes of one element."""
    return int(jnp.dtype(dtype).itemsize)


def aligned_empty(shape: tuple[int, ...], dtype: Any) -> Array:
    """Like `np.empty`, in memory that begins at a multiple of 64 bytes.

    JAX's CPU device then takes it without a copy, always. NumPy's own arrays begin where the allocator
    happens to put them: large ones mostly 16 bytes after a page.
    """
    kind = jnp.dtype(dtype)
    held_bytes = math.prod(shape) * kind.itemsize
    memory = np.empty(held_bytes + ALIGNMENT_BYTES, dtype=np.uint8)
    start = -memory.ctypes.data % ALIGNMENT_BYTES
    aligned: Array = memory[start : start + held_bytes].view(kind).reshape(shape)
    return aligned


def uniform(shape: tuple[int, ...], dtype: str, *, seed: int, stream: int) -> Array:
    """Uniform numbers in (-1, 1) with mean zero, never zero: the same bits on every platform.

    They come from the bits of SFC64, whose stream NumPy keeps stable, by exact arithmetic: an odd integer
    over a power of two, of 24 significant bits (53 for float64), then one rounding to a narrower `dtype`.
    Zero-mean data does not overflow a float16 sum as uniform [0, 1) does; random data, because a GPU runs a
    product of zeros faster. `stream` numbers the arrays of one workload. Their memory is aligned to 64 bytes,
    so that JAX's CPU device takes it without a copy.
    """
    out = aligned_empty((math.prod(shape),), dtype)
    bits = np.random.SFC64(np.random.SeedSequence([seed, stream]))
    for start in range(0, out.size, _CHUNK):
        part = out[start : start + _CHUNK]
        if dtype == "float64":
            raw = bits.random_raw(part.size) >> np.uint64(12)  # 52 bits, odd once doubled and one added
            part[:] = (2.0 * raw + (1.0 - 2.0**52)) * 2.0**-52
        else:
            words = bits.random_raw((part.size + 1) // 2).astype("<u8", copy=False).view("<u4")[: part.size]
            raw = (words >> np.uint32(9)).astype(np.float32)  # 23 bits
            part[:] = (raw * np.float32(2) + np.float32(1 - 2**23)) * np.float32(2.0**-23)
    return out.reshape(shape)


def whole_numbers(count: int, below: int, *, seed: int, stream: int) -> Array:
    """Whole numbers from 0 to below `below`, each as likely: int32, the same bits on every platform.

    The upper half of 32 random bits times `below` (Lemire: Fast random integer generation in an interval,
    2019); that some are likelier by one in 2^32 / below is left.
    """
    out = aligned_empty((count,), np.int32)
    bits = np.random.SFC64(np.random.SeedSequence([seed, stream]))
    for start in range(0, count, _CHUNK):
        part = out[start : start + _CHUNK]
        part[:] = ((bits.random_raw(part.size) >> np.uint64(32)) * np.uint64(below)) >> np.uint64(32)
    return out


def rounding_error(dtype: str, precision: str) -> float:
    """The relative error that `dtype` at `precision` brings into a product, as a machine epsilon.

    Below `highest`, float32 products may run as TensorFloat-32, which keeps 10 bits of mantissa.
    """
    eps = float(jnp.finfo(dtype).eps)
    return max(eps, 2.0**-10) if dtype == "float32" and precision != "highest" else eps


def sum_tolerance(dtype: str, precision: str, terms: int) -> float:
    """What is tolerated of a sum of `terms` random products, relative to the norm of the result.

    Rounding the inputs and the output costs a few epsilons. The sum itself, kept in float32 at least, errs
    like a random walk: one element after the other, with a standard deviation of 0.2 epsilon times the
    square root of its length, of which five are granted.
    """
    accumulated = min(float(jnp.finfo(dtype).eps), float(jnp.finfo("float32").eps))
    return 2 * rounding_error(dtype, precision) + accumulated * math.sqrt(terms)


def largest(errors: Iterable[float]) -> float:
    """The largest of several errors; infinite where one is no number, which `max` may pass over."""
    found = [*errors]
    return max(found) if np.isfinite(found).all() else math.inf


def norm_error(value: Array, reference: Array) -> float:
    """‖value − reference‖ / ‖reference‖; the plain norm where the reference is zero."""
    wide = np.complex128 if np.iscomplexobj(reference) else np.float64
    difference = float(np.linalg.norm(np.asarray(value, wide).ravel() - reference.ravel()))
    norm = float(np.linalg.norm(reference))
    return difference / norm if norm else difference


def require_dtype(name: str, dtype: str, choices: tuple[str, ...]) -> None:
    """Refuse a type that a workload can't be computed in.

    **Raises** ValueError, naming the types that it can.
    """
    if dtype not in choices:
        raise ValueError(f"`dtype` of {name} must be {' or '.join(choices)}, got {dtype}")


def judged(error: float, tolerance: float, reference: str = "NumPy float64") -> Accuracy:
    """An error and what is tolerated of it."""
    return Accuracy(relative_error=error, tolerance=tolerance, ok=error <= tolerance, reference=reference)


def judged_by_rows(output: Array, exact: Callable[[Array], Array], count: int, tolerance: float) -> Accuracy:
    """Norm-wise, on `count` evenly spread rows from first to last; `exact` gives those of an index."""
    total = len(output)
    rows = np.linspace(0, total - 1, count).round().astype(np.int64)
    sampled = "" if count == total else f", {count} of {total} rows"
    return judged(norm_error(output[rows], exact(rows)), tolerance, f"NumPy float64{sampled}")


def blocks(*vectors: Array) -> Iterator[tuple[Array, ...]]:
    """Vectors of one length in float64, a block of each at a time: whole ones may not fit."""
    for start in range(0, vectors[0].size, _BLOCK):
        yield tuple(vector[start : start + _BLOCK].astype(np.float64) for vector in vectors)


def elementwise_error(exact: Callable[..., Array], value: Array, *vectors: Array) -> float:
    """‖value − exact(vectors)‖ over as many elements as `value` has, relative to the norm of the terms.

    The terms are `exact` of absolute values: where they cancel, rounding is no larger than elsewhere, but the
    result is nothing to measure it by.
    """
    difference = terms = 0.0
    for computed, *parts in blocks(value, *(vector[: value.size] for vector in vectors)):
        difference += float(np.sum((computed - exact(*parts)) ** 2))
        terms += float(np.sum(exact(*map(np.abs, parts)) ** 2))
    return math.sqrt(difference / terms)

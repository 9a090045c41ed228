"""Is the answer of a user's own code right? By their reference, or by what two devices may differ by."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxaccel.records import Accuracy
from jaxaccel.workloads.base import Array, norm_error
from jaxaccel.workloads.importing import BadCodeError, find

ROUNDINGS = 8  # a difference of so many roundings of the largest elements says nothing of smaller ones


def default_tolerance(dtype: Any, case_dtype: str, precision: str) -> float:
    """Half of the digits of a type: the square root of its epsilon. Nobody knows how user code rounds.

    It is the type of the output, or that of the case's data where that has fewer digits; below precision
    `highest` float32 may be computed with the ten bits of TensorFloat-32.
    """
    names = [np.dtype(dtype), jnp.dtype(case_dtype)]
    eps = max(float(jnp.finfo(name).eps) for name in names if jnp.issubdtype(name, jnp.inexact))
    return math.sqrt(max(eps, 2.0**-10) if precision != "highest" and case_dtype == "float32" else eps)


def tolerance_of(dtype: Any, *, case_dtype: str, precision: str, tolerance: float | None) -> float:
    """What an array of a type may be off by, relative to its norm: `tolerance`, where the user gave one."""
    return default_tolerance(dtype, case_dtype, precision) if tolerance is None else float(tolerance)


def negligible_norm(dtype: Any, rms: float, size: int, *, case_dtype: str, precision: str) -> float:
    """The norm of a difference of `size` elements that is rounding, beside elements of about `rms`.

    An array may be zero but for rounding, as the gradient of a bias that softmax takes out again: relative to
    its own norm, two devices then differ by all of it.
    """
    return float(ROUNDINGS * default_tolerance(dtype, case_dtype, precision) ** 2 * rms * math.sqrt(size))


def verify_own(
    workload: Any, arguments: Callable[[], tuple[Any, ...]], output: Any, precision: str
) -> Accuracy:
    """By a workload's `reference` where it has one; `arguments` gives those that it is called with.

    **Raises** BadCodeError where the reference gives other arrays than the function.
    """
    rules: dict[str, Any] = {
        "case_dtype": workload.dtype,
        "precision": precision,
        "tolerance": workload.tolerance,
    }
    if workload.reference is None:
        return unchecked(output, **rules)
    expected = find("workload.reference", workload.reference, workload.root)(*arguments())
    return compare(output, expected, name=workload.reference, **rules)


def compare(
    output: Any, expected: Any, *, case_dtype: str, precision: str, tolerance: float | None, name: str
) -> Accuracy:
    """Norm-wise, leaf by leaf, the worst against its tolerance; integers must be equal.

    **Raises** BadCodeError where the reference gives other arrays than the function.
    """
    found, wanted = jax.tree.leaves(output), jax.tree.leaves(expected)
    if [np.shape(leaf) for leaf in found] != [np.shape(leaf) for leaf in wanted]:
        raise BadCodeError(
            f"`workload.reference`: {name} gives arrays of shape {_shapes(wanted)}, and the function of "
            f"{_shapes(found)}"
        )
    worst, granted, ok = 0.0, 0.0, True
    sizes = [(_norm(leaf), np.size(leaf)) for leaf in wanted if _inexact(leaf)]
    finite = [(norm, size) for norm, size in sizes if math.isfinite(norm) and size]
    largest = max((norm for norm, _ in finite), default=0.0)
    rms = max((norm / math.sqrt(size) for norm, size in finite), default=0.0)
    rules: dict[str, Any] = {"case_dtype": case_dtype, "precision": precision}
    for leaf, other in zip(found, wanted, strict=True):
        leaf, other = np.asarray(leaf), np.asarray(other)
        allowed, error = 0.0, _error(leaf, other)
        if _inexact(leaf):
            allowed = tolerance_of(leaf.dtype, tolerance=tolerance, **rules)
            # Where the reference is zero, the error is the difference itself.
            difference = error * (_norm(other) or 1.0)
            # A tolerance of the user's own is for each array.
            if tolerance is None and difference <= negligible_norm(leaf.dtype, rms, leaf.size, **rules):
                error = difference / largest if largest else 0.0
        if ok and (error > allowed or error >= worst):
            worst, granted = error, allowed
        ok = ok and error <= allowed
    return Accuracy(relative_error=worst, tolerance=granted, ok=ok, reference=name)


def unchecked(output: Any, *, case_dtype: str, precision: str, tolerance: float | None) -> Accuracy:
    """What is known without a reference: what two devices may differ by."""
    kinds = {leaf.dtype for leaf in jax.tree.leaves(output) if _inexact(leaf)}
    allowed = [
        tolerance_of(kind, case_dtype=case_dtype, precision=precision, tolerance=tolerance) for kind in kinds
    ]
    return Accuracy(relative_error=None, tolerance=max(allowed, default=0.0), ok=None, reference=None)


def _inexact(leaf: Any) -> bool:
    return bool(jnp.issubdtype(np.asarray(leaf).dtype, jnp.inexact))


def _norm(leaf: Any) -> float:
    array = np.asarray(leaf)
    wide = np.complex128 if jnp.issubdtype(array.dtype, jnp.complexfloating) else np.float64
    return float(np.linalg.norm(array.astype(wide).ravel()))


def _error(leaf: Array, other: Array) -> float:
    if jnp.issubdtype(leaf.dtype, jnp.complexfloating) or np.iscomplexobj(other):
        leaf, other = (np.asarray(side, np.complex128).ravel().view(np.float64) for side in (leaf, other))
    error = norm_error(leaf, np.asarray(other, np.float64))
    return error if math.isfinite(error) else math.inf


def _shapes(leaves: Sequence[Any]) -> str:
    return ", ".join(str(np.shape(leaf)) for leaf in leaves[:4]) + (", ..." if len(leaves) > 4 else "")

"""An output in a few numbers, by which two devices' outputs can be compared without moving arrays.

Where its elements are not finite, and that they are, is of the whole array.

Of up to 2^20 evenly spread elements of an array, 16 projections on random signs: p_j = Σ s_ij x_i, with
s_ij = ±1 from a seeded stream that is the same everywhere. Of two arrays that differ by d, each difference of
projections has the mean square ‖d‖², so that ‖p − q‖ / √16 estimates ‖d‖ (Alon, Matias, Szegedy: The space
complexity of approximating the frequency moments, STOC 1996). Its standard deviation is √(1/32) = 18% at
most, about; it is off by more than a factor of two once in a thousand times.
"""

import functools
import hashlib
import math
from collections.abc import Callable, Iterator
from copy import deepcopy
from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxaccel.records import LeafSketch

PROJECTIONS = 16
ELEMENTS = 1 << 20
_SEED = 20
_CHUNK = 1 << 16


def sketch(
    output: Any,
    tolerance: Callable[[Any], float] | None = None,
    negligible: Callable[[Any, float, int], float] | None = None,
) -> tuple[LeafSketch, ...]:
    """A sketch of each array of an output that is on the host.

    tolerance: of an array's type, what it is. negligible: of that, the largest root mean square and a number
    of elements, a difference's norm that is rounding.
    """
    leaves = jax.tree_util.tree_leaves_with_path(output)
    found = [sketch_leaf(np.asarray(leaf), path=jax.tree_util.keystr(path)) for path, leaf in leaves]
    rms = max((one.norm / math.sqrt(one.elements) for one in found if one.norm and one.elements), default=0.0)
    return tuple(
        replace(
            one,
            tolerance=tolerance(leaf.dtype) if tolerance else None,
            negligible=negligible(leaf.dtype, rms, one.elements) if negligible else 0.0,
        )
        if one.norm is not None
        else one
        for one, (_, leaf) in zip(found, leaves, strict=True)
    )


def digest_of(arrays: Any) -> str:
    """The same for the same numbers, of any tree of arrays on the host; of large ones, of a part."""
    found = hashlib.sha256()
    for path, leaf in jax.tree_util.tree_leaves_with_path(arrays):
        found.update(f"{jax.tree_util.keystr(path)} {leaf.dtype} {leaf.shape}".encode())
        found.update(np.ascontiguousarray(_thinned(np.asarray(leaf).reshape(-1))).tobytes())
    return found.hexdigest()[:16]


def sketch_leaf(array: Any, path: str = "") -> LeafSketch:
    """One array's. Parts of complex numbers are elements; what has no floating point is hashed."""
    known = LeafSketch(path=path, dtype=str(array.dtype), shape=tuple(map(int, array.shape)))
    if not jnp.issubdtype(array.dtype, jnp.inexact):
        content = np.ascontiguousarray(array).tobytes()
        return replace(known, digest=hashlib.sha256(content).hexdigest()[:16])
    flat = array.reshape(-1)
    if jnp.issubdtype(array.dtype, jnp.complexfloating):
        flat = flat.view(flat.real.dtype)
    known = replace(known, **_not_finite(flat))
    flat = _thinned(flat)
    projections, squares = np.zeros(PROJECTIONS), 0.0
    # float64's large numbers have squares that it has not.
    scale = float(np.max(np.abs(flat), initial=0.0, where=np.isfinite(flat))) or 1.0
    starts = range(0, flat.size, _CHUNK)
    for start, signs in zip(starts, _signs(), strict=False):
        part = flat[start : start + _CHUNK].astype(np.float64)
        part = np.where(np.isfinite(part), part, 0.0) / scale
        squares += float(part @ part)
        projections += signs[:, : part.size] @ part
    if not (math.isfinite(scale * math.sqrt(squares)) and np.isfinite(projections * scale).all()):
        return replace(known, digest=digest_of(array))  # at the end of float64's range: equal or not
    return replace(
        known,
        elements=int(flat.size),
        projections=tuple(map(float, projections * scale)),
        norm=math.sqrt(squares) * scale,
    )


def _signs() -> Iterator[Any]:
    """The signs of an array's elements, (PROJECTIONS, _CHUNK) at a time; the first are made once."""
    first, stream = _first_signs()
    yield first
    stream = deepcopy(stream)
    while True:
        yield _next_signs(stream)


@functools.cache
def _first_signs() -> tuple[Any, Any]:
    """The first signs, which are all that most arrays need, and the stream that goes on with the next."""
    stream = np.random.SFC64(np.random.SeedSequence(_SEED))
    return _next_signs(stream), stream


def _next_signs(stream: Any) -> Any:
    # 16 of the bits of a word are one element's signs.
    bits = stream.random_raw(_CHUNK) >> np.uint64(48)
    return np.stack([1.0 - 2.0 * ((bits >> np.uint64(j)) & np.uint64(1)) for j in range(PROJECTIONS)])


def _thinned(flat: Any) -> Any:
    """Evenly spread elements of a flat array that has more than ELEMENTS."""
    if flat.size <= ELEMENTS:
        return flat
    return flat[np.linspace(0, flat.size - 1, ELEMENTS).round().astype(np.int64)]


def _not_finite(flat: Any) -> dict[str, Any]:
    """How many elements are NaN or infinite, and a digest of which are where."""
    wrong = np.flatnonzero(~np.isfinite(flat))
    if not wrong.size:
        return {}
    values = flat[wrong].astype(np.float64)
    kinds = [np.isnan(values), np.isposinf(values)]
    content = b"".join(np.ascontiguousarray(part).tobytes() for part in (wrong.astype(np.int64), *kinds))
    return {"not_finite": int(wrong.size), "digest": hashlib.sha256(content).hexdigest()[:16]}

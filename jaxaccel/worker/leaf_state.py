"""What kind of numbers an array on the device holds, without a second array beside it.

The bits are looked at: XLA's threads on a CPU take a denormal for zero. A program reads the array once, and a
few numbers come to the host. Of a small array in a CPU's memory NumPy does the same, so that nothing is
compiled.
"""

from collections.abc import Sequence
from types import ModuleType
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

SMALL = 1 << 18  # numbers: about what NumPy reads in the time of one compilation


class State(NamedTuple):
    """How many numbers an array holds (a complex one counts as two), and how many of each kind."""

    size: int
    nan: int
    infinite: int
    zero: int
    denormal: int


def look(leaf: jax.Array) -> State | None:
    """The state of an array; None of one that holds no floating-point numbers."""
    if not jnp.issubdtype(leaf.dtype, jnp.inexact):
        return None
    small = _on_cpu(leaf) and leaf.size <= SMALL
    return State(*np.asarray(_counts(np.asarray(leaf), np) if small else _counts_there(leaf)).tolist())


def fingerprint(leaf: jax.Array, *, whole: bool) -> tuple[int, ...]:
    """64 bits that differ where two arrays differ in a bit: of the first SMALL numbers, or of the `whole`."""
    if _on_cpu(leaf) and (leaf.size <= SMALL or not whole):
        return tuple(_mixed(np.asarray(leaf), np, whole=False).tolist())
    return tuple(np.asarray(_mixed_there(leaf, whole=whole)).tolist())


def _on_cpu(leaf: jax.Array) -> bool:
    return all(device.platform == "cpu" for device in leaf.devices())


def _counts(leaf: Any, xp: ModuleType) -> Any:
    """The fields of a State, as uint32 (5,)."""
    return sum(_float_counts(part, xp) for part in _parts(leaf))


def _float_counts(part: Any, xp: ModuleType) -> Any:
    words, facts = _words(part, xp), jnp.finfo(part.dtype)
    word = words.dtype.type
    magnitude = word((1 << (facts.bits - 1)) - 1)
    normal = word(1 << facts.nmant)
    infinity = word(magnitude + 1 - normal)
    found = words & magnitude
    zero = found == 0
    masks = (found == found, found > infinity, found == infinity, zero, (found < normal) & ~zero)
    return _sums([mask.astype(np.uint32) for mask in masks], xp)


def _mixed(leaf: Any, xp: ModuleType, *, whole: bool) -> Any:
    """Two sums of hashes, each of a number's bits and of its place, as uint32 (2,)."""
    words = [_words(part, xp) for part in _parts(leaf)]
    return sum(_hashes(found if whole else found[:SMALL], xp) for found in words)


def _hashes(words: Any, xp: ModuleType) -> Any:
    bits = words.astype(np.uint32)
    if words.dtype.itemsize == 8:
        bits = bits ^ ((words >> words.dtype.type(32)).astype(np.uint32) * np.uint32(0x9E3779B1))
    placed = bits ^ (xp.arange(words.size, dtype=np.uint32) * np.uint32(0x9E3779B9))
    hashes = []
    for factor in (0x85EBCA6B, 0xC2B2AE35):  # after MurmurHash3's finalizer
        mix = placed * np.uint32(factor)
        mix = (mix ^ (mix >> np.uint32(15))) * np.uint32(0x2C1B3C6D)
        mix = (mix ^ (mix >> np.uint32(12))) * np.uint32(0x297A2D39)
        hashes.append(mix ^ (mix >> np.uint32(15)))
    return _sums(hashes, xp)


def _sums(arrays: Sequence[Any], xp: ModuleType) -> Any:
    """The sum of each, modulo 2^32."""
    if xp is np:
        return np.array([np.sum(array, dtype=np.uint32) for array in arrays])

    # One reduction, into which XLA fuses what it reads: several would each have their operand in memory.
    def add(one: Any, other: Any) -> Any:
        return tuple(a + b for a, b in zip(one, other, strict=True))

    return jnp.stack(jax.lax.reduce(tuple(arrays), (np.uint32(0),) * len(arrays), add, (0,)))


def _parts(leaf: Any) -> list[Any]:
    """Its real arrays, of a type with a word of as many bits: narrower numbers are widened."""
    if jnp.issubdtype(leaf.dtype, jnp.complexfloating):
        return [leaf.real, leaf.imag]
    if leaf.dtype.itemsize > 1:
        return [leaf]
    return [leaf.astype(np.float32 if jnp.issubdtype(leaf.dtype, jnp.floating) else np.int32)]


def _words(part: Any, xp: ModuleType) -> Any:
    """The bits of its numbers, as unsigned integers (n,)."""
    word = np.dtype(f"uint{8 * part.dtype.itemsize}")
    if xp is np:
        return np.ascontiguousarray(part).view(word).ravel()
    return jax.lax.bitcast_convert_type(part, word).ravel()


_counts_there = jax.jit(lambda leaf: _counts(leaf, jnp))
_mixed_there = jax.jit(lambda leaf, whole: _mixed(leaf, jnp, whole=whole), static_argnames="whole")

"""A program that `jax.export` has put into a file: it runs without its source."""

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from jax import export

from jaxaccel.records import Accuracy, Cost
from jaxaccel.workloads.answer import verify_own
from jaxaccel.workloads.base import Array, Inputs, aligned_empty, check_arguments, uniform
from jaxaccel.workloads.importing import BadCodeError, find
from jaxaccel.workloads.own import check_counts, make_arguments, nbytes, plain, shapes_of, split, wrap_keys

# Of float32 operands; what names an algorithm of its own has no other precision.
_PRODUCT = re.compile(
    r"= stablehlo\.(?:dot_general|convolution)(?!.*\balgorithm\b).* : \(tensor<\S*f32>, tensor<\S*f32>\)"
)
_PRECISION = re.compile(r"\b(DEFAULT|HIGH|HIGHEST)\b")

# What a program calls by name: in a line's usual form, and in MLIR's generic one. A name in quotes may hold
# blanks and brackets, and with them the name of something harmless.
_QUOTED = r"\"((?:[^\"\\]|\\.)*)\""
_CALL = re.compile(rf"custom_call @(?:{_QUOTED}|([^\"\s(]+))|call_target_name = {_QUOTED}")
# Libraries of linear algebra and random numbers, marks for the compiler, and kernels of Pallas. A callback
# into Python is none of them: its address is a number in the file.
_LIBRARY = re.compile(
    r"(lapack|cusolver|cublas|cusparse|hipsolver|hipblas)_\w+|(cu|hip)_(threefry2x32|lu_pivots_to_permutation)\w*"
    r"|Sharding|SPMDFullToShardShape|SPMDShardToFullShape|annotate_device_placement|shape_assertion"
    r"|ApproxTopK|Eigh|LuDecomposition|ProductOfElementaryHouseholderReflectors|Qr|AllocateBuffer"
    r"|stablehlo\.dynamic_\w+|mhlo\.\w+|tpu_custom_call|mosaic_gpu_v2|__gpu\$xla\.gpu\.triton"
)

SMALL_INTEGERS = 4  # integers are below it: they may be places in something else


@dataclass(frozen=True, kw_only=True)
class Exported:
    """What `file` holds, of arguments that the file describes or that `args` makes. `size` is 1.

    `sha256` is that of the file's content, its first 16 digits: it identifies the case, wherever the file is.
    root: the folder from which `args` and `reference` are imported first.
    """

    variants: ClassVar[Mapping[str, Any]] = {"direct": None}
    loops: ClassVar[bool] = False
    carries: ClassVar[bool] = False
    operations: ClassVar[frozenset[str]] = frozenset()
    sketched: ClassVar[bool] = True
    opaque: ClassVar[bool] = True

    size: int
    dtype: str = "float32"
    variant: str = "direct"
    file: str = ""
    sha256: str = ""
    args: str | None = None
    reference: str | None = None
    tolerance: float | None = None
    flops: float | None = None
    bytes: float | None = None
    root: str | None = None

    def __post_init__(self) -> None:
        check_arguments(self)
        check_counts(flops=self.flops, bytes_=self.bytes, tolerance=self.tolerance)
        if self.size != 1 and self.args is None:
            raise BadCodeError(f"`size`={self.size}: an exported program has its own sizes; leave it at 1")
        check_program(Path(self.file).name, self._program, self.dtype)
        for key in ("args", "reference"):
            if getattr(self, key) is not None:
                find(f"workload.{key}", getattr(self, key), self.root)

    @property
    def function(self) -> Callable[..., Any]:
        """The program. Arguments by name, where it has any, come last, in a dictionary."""
        called, by_name = self._program.call, self._by_name

        def timed(*arguments: Any) -> Any:
            restored = self._with_keys(arguments)
            result = called(*restored[:-1], **restored[-1]) if by_name else called(*restored)
            return plain(result)

        return timed

    def cost(self) -> Cost:
        """What is declared; the rest is for XLA to count."""
        return Cost(flops=self.flops, bytes=self.bytes)

    def memory_bytes(self) -> int:
        """Arguments and results."""
        avals = [*self._program.in_avals, *self._program.out_avals]
        return nbytes([data_shape(aval) for aval in avals])

    def inputs(self, seed: int) -> Inputs:
        """Seeded arrays as the file describes them, or what `args` makes."""
        if self.args is None:
            made = [seeded(aval, seed=seed, stream=i) for i, aval in enumerate(self._program.in_avals)]
            positional, named = jax.tree.unflatten(self._program.in_tree, made)
            return (*positional, named) if named else tuple(positional)
        arguments = make_arguments(
            "workload.args", self.args, size=self.size, dtype=self.dtype, seed=seed, root=self.root
        )
        inputs, _ = split("workload.args", arguments, ())
        found = described(shapes_of(inputs))
        wanted = described([data_shape(aval) for aval in self._program.in_avals])
        if found != wanted:
            raise BadCodeError(
                f"`workload.args` gives {clipped(found)}; {Path(self.file).name} takes {clipped(wanted)}"
            )
        # As the file has them: it may have been made of the leaves alone.
        positional, named = jax.tree.unflatten(self._program.in_tree, jax.tree.leaves(inputs))
        return (*positional, named) if named else tuple(positional)

    def answer(self, result: Any) -> Any:
        """All of it."""
        return result

    def verify(self, inputs: Inputs, output: Any, precision: str, run: Callable[..., Any]) -> Accuracy:
        """Against `reference`, where there is one.

        **Raises** BadCodeError for another precision than that of the file.
        """
        check_precision(Path(self.file).name, self._program.mlir_module(), precision)
        return verify_own(self, lambda: self._with_keys(inputs), output, precision)

    @cached_property
    def _program(self) -> Any:
        return load(self.file)

    @property
    def _by_name(self) -> bool:
        _, named = jax.tree.unflatten(self._program.in_tree, list(self._program.in_avals))
        return bool(named)

    def _with_keys(self, arguments: Sequence[Any]) -> tuple[Any, ...]:
        """The arguments, with their random keys typed ones."""
        avals = self._program.in_avals
        keys = {i: key_implementation(aval) for i, aval in enumerate(avals) if _is_key(aval)}
        leaves, structure = jax.tree.flatten(tuple(arguments))
        return tuple(jax.tree.unflatten(structure, wrap_keys(leaves, keys)))


def load(file: str) -> Any:
    """The program that a file holds.

    **Raises** BadCodeError where it holds none, or one that this version of JAX can't read.
    """
    name = Path(file).name
    try:
        content = bytearray(Path(file).read_bytes())
    except OSError as error:
        raise BadCodeError(f"`workload.file`: can't read {name}: {error.strerror}") from error
    try:
        return export.deserialize(content)
    except ImportError as error:
        raise BadCodeError(f"`workload.file`: {error}") from error
    except Exception as error:  # whatever a reader of any bytes at all runs into
        if "version" in str(error).lower():
            raise BadCodeError(
                f"`workload.file`: {name} was written in a form that JAX {jax.__version__} does not read "
                f"({error}); export it again"
            ) from error
        if "unregistered" in str(error) or "registered" in str(error):
            raise BadCodeError(f"`workload.file`: {name}: {error}") from error
        raise BadCodeError(f"`workload.file`: {name} holds no program of jax.export") from error


def check_program(name: str, program: Any, dtype: str) -> None:
    """Refuse a program that can't run here as it is.

    **Raises** BadCodeError, saying what it is for.
    """
    here = export.default_export_platform()
    if here not in program.platforms:
        raise BadCodeError(
            f"`workload.file`: {name} was exported for {' and '.join(program.platforms)}, not for {here}"
        )
    if program.nr_devices != 1:
        raise BadCodeError(f"`workload.file`: {name} is for {program.nr_devices} devices, and an arm has one")
    low = export.minimum_supported_calling_convention_version
    high = export.maximum_supported_calling_convention_version
    if not low <= program.calling_convention_version <= high:
        raise BadCodeError(
            f"`workload.file`: {name} has calling convention {program.calling_convention_version}, and JAX "
            f"{jax.__version__} runs {low} to {high}; export it again"
        )
    try:
        unknown = unknown_calls(program.mlir_module())
    except Exception as error:  # whatever MLIR says of bytes that are no module
        raise BadCodeError(f"`workload.file`: {name} holds no program that this JAX can read") from error
    if unknown:
        raise BadCodeError(
            f"`workload.file`: {name} calls {unknown[0]!r}, which is no numerical library of JAX: a file "
            "must not call into this process"
        )
    for aval in program.in_avals:
        if not all(isinstance(length, int) for length in aval.shape):
            raise BadCodeError(
                f"`workload.file`: {name} takes an array of shape ({', '.join(map(str, aval.shape))}), whose "
                "size is left open: export it for the size that is to be measured"
            )
    if not program.in_avals:
        raise BadCodeError(f"`workload.file`: {name} takes no arguments: XLA would compute it once")
    if not program.out_avals:
        raise BadCodeError(f"`workload.file`: {name} returns no arrays: XLA would leave all of its work out")
    if not program.module_kept_var_idx:
        raise BadCodeError(f"`workload.file`: {name} reads none of its arguments: XLA would compute it once")
    types = [str(aval.dtype) for aval in program.in_avals if not _is_key(aval)]
    wide = [kind for kind in types if kind in ("float64", "complex128", "int64", "uint64")]
    if wide and dtype != "float64":
        raise BadCodeError(f"`dtype` must be float64 for {name}, which takes {wide[0]}; got {dtype}")
    floats = [kind for kind in types if jnp.issubdtype(jnp.dtype(kind), jnp.floating)]
    # Wide integers need float64's width of JAX, whatever floating-point numbers are beside them.
    if floats and dtype not in floats and not wide:
        choices = ", ".join(dict.fromkeys(floats))
        raise BadCodeError(f"`dtype` must be one that {name} takes, {choices}; got {dtype}")


def unknown_calls(module: str) -> list[str]:
    """What a StableHLO module calls outside of itself, but for libraries that are known to be safe."""
    called = ["".join(forms) for forms in _CALL.findall(module)]
    return [name for name in dict.fromkeys(called) if not _LIBRARY.fullmatch(name)]


def check_precision(name: str, module: str, precision: str) -> None:
    """Refuse to call a program's matrix products more, or less, precise than those that it was exported with.

    `module` is its text, in StableHLO. Only float32 has more than one precision.

    **Raises** BadCodeError, with the precision that it has.
    """
    products = [line for line in module.splitlines() if _PRODUCT.search(line)]
    found = [set(_PRECISION.findall(line)) or {"DEFAULT"} for line in products]
    lowest = [one for one in ("default", "high", "highest") if any(one.upper() in words for words in found)]
    if lowest and lowest[0] != precision:
        raise BadCodeError(
            f"`precision` must be {lowest[0]} for {name}, which was exported with it; got {precision} "
            "(--precision of scripts/export, or `precision` of save_exported, sets it)"
        )


def seeded(aval: Any, *, seed: int, stream: int) -> Array:
    """Host data for an argument: uniform in (-1, 1), or small integers, or a random key's numbers."""
    if _is_key(aval):
        data = np.asarray(jax.random.key_data(jax.random.key(seed + stream, impl=key_implementation(aval))))
        made = aligned_empty((*aval.shape, *data.shape), data.dtype)
        made[...] = data
        return made
    kind = jnp.dtype(aval.dtype)
    made = aligned_empty(aval.shape, kind)
    if jnp.issubdtype(kind, jnp.complexfloating):
        part = "float64" if kind == np.complex128 else "float32"
        sides = [uniform(aval.shape, part, seed=seed, stream=1000 * (1 + i) + stream) for i in range(2)]
        made[...] = sides[0] + 1j * sides[1]
    elif jnp.issubdtype(kind, jnp.floating):
        return uniform(aval.shape, str(kind), seed=seed, stream=stream)
    else:
        raw = np.random.SFC64(np.random.SeedSequence([seed, stream])).random_raw(math.prod(aval.shape))
        below = 2 if kind == np.bool_ else SMALL_INTEGERS
        made[...] = ((raw >> np.uint64(32)) % np.uint64(below)).reshape(aval.shape).astype(kind)
    return made


def data_shape(aval: Any) -> Any:
    """Shape and type of the host data for an argument or a result: of a random key, its numbers."""
    struct = jax.ShapeDtypeStruct(aval.shape, aval.dtype)
    return jax.eval_shape(jax.random.key_data, struct) if _is_key(aval) else struct


def key_implementation(aval: Any) -> str:
    """The name of the generator that a typed random key is one of."""
    names: list[str] = []
    key = jax.ShapeDtypeStruct(aval.shape, aval.dtype)
    jax.eval_shape(lambda key: names.append(str(jax.random.key_impl(key))), key)
    return names[0]


def _is_key(aval: Any) -> bool:
    return bool(jnp.issubdtype(aval.dtype, jax.dtypes.prng_key))


def described(shapes: Any) -> list[str]:
    """Type and shape of each array."""
    return [f"{leaf.dtype}{list(leaf.shape)}" for leaf in jax.tree.leaves(shapes)]


def clipped(shapes: Sequence[str], most: int = 6) -> str:
    """The first of them, and how many more there are."""
    more = len(shapes) - most
    return ", ".join(shapes[:most]) + (f" and {more} more" if more > 0 else "")

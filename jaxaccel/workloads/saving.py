"""A function into a file that workload=exported measures, for the CPU and for CUDA."""

import inspect
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import jax
from jax import export

from jaxaccel.workloads.exported import clipped, data_shape, described, load
from jaxaccel.workloads.importing import BadCodeError, find
from jaxaccel.workloads.jaxprs import captured_shapes
from jaxaccel.workloads.own import check_call, make_arguments, split, wrap_keys

PLATFORMS = ("cpu", "cuda")
# A setting of JAX and its value: programs name the source files of their lines, which say where code lies.
NAMES_WITHOUT_FOLDERS = ("jax_hlo_source_file_canonicalization_regex", r".*/")


def save_exported(
    fn: Callable[..., Any],
    args: Sequence[Any],
    path: str | Path,
    *,
    static: Sequence[int] = (),
    platforms: Sequence[str] = PLATFORMS,
    precision: str = "highest",
) -> Path:
    """Export `fn` of `args` (arrays, or their shapes) to a file that workload=exported measures.

    It needs no GPU to export for one. Containers that only their own library knows, as an optimiser's state,
    become the list of their arrays. static: positions of arguments that are settings. precision: of matrix
    products, in JAX's words; on recent GPUs only `highest` computes float32 as float32.

    **Raises** BadCodeError where `fn` captured an array, and whatever tracing it raises.
    """
    arguments = tuple(args) if isinstance(args, tuple | list) else (args,)
    traced = tuple(value for i, value in enumerate(arguments) if i not in static)
    settings = {i: value for i, value in enumerate(arguments) if i in static}

    def whole(*given: Any) -> Any:
        full = list(given)
        for position in sorted(settings):
            full.insert(position, settings[position])
        with jax.default_matmul_precision(precision):
            return fn(*full)

    if captured := captured_shapes(jax.make_jaxpr(whole)(*traced)):
        raise BadCodeError(
            f"`fn` captured an array of shape {captured[0]}: give it to `fn` as an argument, for XLA may "
            "compute with it once, at compile time, and whoever measures the file could not tell"
        )
    whole.__name__ = getattr(inspect.unwrap(fn), "__name__", "function")
    leaves, structure = jax.tree.flatten(traced)

    def flat(leaves: list[Any]) -> list[Any]:
        return list(jax.tree.leaves(whole(*jax.tree.unflatten(structure, leaves))))

    export_for = {"platforms": list(platforms)}
    with _names_without_folders():
        try:
            content = export.export(jax.jit(whole), **export_for)(*traced).serialize()
        except ValueError as error:
            if "unregistered type" not in str(error):
                raise
            content = export.export(jax.jit(flat), **export_for)(leaves).serialize()
    path = Path(path)
    path.write_bytes(content)
    return path


@contextmanager
def _names_without_folders() -> Iterator[None]:
    """So that one function gives one file, wherever its code lies, and the file does not tell where."""
    setting, value = NAMES_WITHOUT_FOLDERS
    before = jax.config.values[setting]
    jax.config.update(setting, value)
    try:
        yield
    finally:
        jax.config.update(setting, before)


def export_named(
    fn: str,
    args: str,
    path: str | Path,
    *,
    size: int,
    dtype: str,
    precision: str,
    seed: int = 0,
    static: Sequence[int] = (),
    root: str | None = None,
) -> str:
    """Export a function by its name, of the arguments that `args` makes, and say what is in the file.

    **Raises** BadCodeError, as workload=custom does, and whatever the functions raise.
    """
    jax.config.update("jax_enable_x64", dtype == "float64")
    function = find("fn", fn, root)
    arguments = make_arguments("args", args, size=size, dtype=dtype, seed=seed, root=root)
    check_call(fn, function, arguments)
    inputs, signature = split("args", arguments, static)
    # As the worker has them: NumPy's float64 becomes JAX's float32 here, too.
    whole = signature.arguments(wrap_keys(inputs, signature.keys))
    save_exported(function, whole, path, static=static, precision=precision)
    takes = described([data_shape(aval) for aval in load(str(path)).in_avals])
    return f"{path}: {Path(path).stat().st_size} bytes, for {' and '.join(PLATFORMS)}, takes {clipped(takes)}"

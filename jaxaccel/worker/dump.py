"""What XLA was given, and what it made of it, as files for a bug report; for a worker that does nothing else.

No file tells where code or Python lies on this machine, nor the machine's name.
"""

import gzip
import json
import re
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import export

from jaxaccel.process.children import scratch_prefix
from jaxaccel.records import Arm
from jaxaccel.records.messages import Dumped
from jaxaccel.records.redact import without_places
from jaxaccel.worker.checks import make_workload, predict_memory
from jaxaccel.worker.hlo import operations, outline
from jaxaccel.worker.own_code import OwnCode
from jaxaccel.worker.problems import describe
from jaxaccel.worker.program import Resident, as_timed, compiling, make_call, place
from jaxaccel.workloads.base import Array
from jaxaccel.workloads.saving import NAMES_WITHOUT_FOLDERS

PROGRAM, FACTS, EXACT = "program.bin", "program.json", "exact.npz"
WARM_CALLS, TRACED_CALLS = 3, 10
LOOK = 1000  # elements that mostly tell whether there are other numbers than whole ones
WHOLE_BYTES = 32 << 20  # of arguments, with which an archive can still be attached to a bug report
HOST_NAMES = 4  # the field of an XSpace that has them (tsl/profiler/protobuf/xplane.proto)

_NODE = re.compile(r"node='[^']*'")
_PROCESSES = re.compile(r"\n[^\n]*\n\| Processes:.*", re.DOTALL)  # the rule above, and all below
_CUSTOM_CALL = re.compile(r"custom_call @([\w.$\-]+)")


def dump(arm: Arm, device: Any, folder: Path) -> Dumped:
    """Write all files. Where the program can't be exported, what it takes to run it is `absent`.

    **Raises** RefusedError, as for a measurement, and what tracing or compiling it raises.
    """
    with OwnCode(arm) as own:
        dumped = _dump(arm, device, folder)
        own.check()
        code, _ = own.code
        return replace(dumped, code=code)


def _dump(arm: Arm, device: Any, folder: Path) -> Dumped:
    case = arm.case
    jax.config.update(*NAMES_WITHOUT_FOLDERS)
    jax.config.update("jax_enable_compilation_cache", False)  # in which it may be with other paths
    workload = make_workload(arm.target, case, arm.files)
    predict_memory(workload, case, device)
    inputs = workload.inputs(case.seed)
    arguments = jax.block_until_ready(place(inputs, device, may_alias=False))
    jitted = as_timed(workload.function, carries=workload.carries, how=compiling(workload))
    absent, notes = dict[str, str](), list[str]()
    with jax.default_matmul_precision(case.precision):
        lowered = jitted.lower(*arguments)
        compiled = lowered.compile()
        _write(folder / "stablehlo.mlir", lowered.as_text())
        _write(folder / "hlo_before.txt", lowered.as_text("hlo"))
        _write(folder / "hlo_after.txt", compiled.as_text())
        try:
            exported = _exported(jitted, arguments, lowered.as_text())
        except Exception as error:  # whatever JAX has against putting it into a file
            absent[PROGRAM] = without_places(describe(error).message)
            exported = None
    _write(folder / "environment.txt", _environment())
    if exported is not None:
        loops = "while" in operations(compiled.as_text())
        notes += _write_program(exported, inputs, folder, carries=workload.carries, loops=loops)
        remade = (
            as_timed(exported.call, carries=workload.carries, how=compiling(workload))
            .lower(*arguments)
            .compile()
        )
        if outline(remade.as_text()) != outline(compiled.as_text()):
            notes.append(
                "XLA makes other operations of program.bin than of the code, see hlo_repro.txt: on a GPU, "
                "autotuning alone may do that"
            )
            _write(folder / "hlo_repro.txt", remade.as_text())
        del remade
    _trace(compiled, Resident(arguments, carries=workload.carries), folder)
    kept = jax.tree.leaves(inputs) if exported is None else _kept(exported, inputs)
    takes = tuple(f"{leaf.dtype}{list(leaf.shape)}" for leaf in kept)
    return Dumped(takes=takes, notes=tuple(notes), absent=absent)


def _exported(jitted: Any, arguments: Any, module: str) -> Any:
    """The program as jax.export has it, with the calls to libraries that only this JAX must understand."""
    allowed = [export.DisabledSafetyCheck.custom_call(name) for name in set(_CUSTOM_CALL.findall(module))]
    return export.export(jitted, disabled_checks=allowed)(*arguments)


def _kept(exported: Any, inputs: Any) -> list[Array]:
    """The arrays that the program reads, as the export has them."""
    leaves = jax.tree.leaves(inputs)
    return [leaves[index] for index in exported.module_kept_var_idx]


def _write_program(exported: Any, inputs: Any, folder: Path, *, carries: bool, loops: bool) -> list[str]:
    """The program, what it takes and gives, and what of that is to be exact; returns what is to be noted.

    Where it `loops`, that is all, if it can be: how often may depend on any number (a minimiser took twice as
    long of random ones).

    Its bytes alone: the file of jax.export around them can't be read without a further package (flatbuffers).
    """
    (folder / PROGRAM).write_bytes(exported.mlir_module_serialized)
    kept = _kept(exported, inputs)
    whole = loops and sum(leaf.nbytes for leaf in kept) <= WHOLE_BYTES
    exact = {str(index): _plain(leaf) for index, leaf in enumerate(kept) if whole or not _random(leaf)}
    np.savez_compressed(folder / EXACT, allow_pickle=False, **exact)
    takes = [_described(leaf) | ({"exact": str(i)} if str(i) in exact else {}) for i, leaf in enumerate(kept)]
    gives = [{"shape": list(aval.shape), "dtype": str(aval.dtype)} for aval in exported.out_avals]
    carried = len(jax.tree.leaves(inputs[0])) if carries else 0
    output = gives[carried] if len(gives) == carried + 1 else gives[carried:]
    facts = {
        "carries": carries,
        "arguments": [takes[:carried], *takes[carried:]] if carries else takes,
        "results": [gives[:carried], output] if carries else output,
    }
    _write(folder / FACTS, json.dumps(facts) + "\n")
    notes = []
    if whole:
        notes.append("the program has a loop, whose trips may depend on numbers: all go along as they were")
    elif loops:
        notes.append("the program has a loop, which may make other trips of random numbers")
    if not _flat(exported, carried):
        notes.append(
            "the measured call takes or gives nested containers, repro.py their arrays alone, which JAX is a "
            "little faster to hand over"
        )
    return notes


def _flat(exported: Any, carried: int) -> bool:
    """Whether the function takes its arguments, and gives its results, as repro.py does."""
    positional, _ = jax.tree.unflatten(exported.in_tree, range(exported.in_tree.num_leaves))
    result = jax.tree.unflatten(exported.out_tree, range(exported.out_tree.num_leaves))
    carry, output = (positional[0], result[1]) if carried else ([], result)
    rest = positional[1:] if carried else positional
    return all(
        isinstance(value, int) or (type(value) in (list, tuple) and all(isinstance(v, int) for v in value))
        for value in (carry, output)
    ) and all(isinstance(value, int) for value in rest)


def _random(leaf: Array) -> bool:
    """Whether other numbers will do as well: whole ones may count, be places, labels, a mask.

    Where all are one number, that is told in place of them.
    """
    if not jnp.issubdtype(leaf.dtype, jnp.inexact):
        return False
    if _constant(leaf):
        return True
    return any(bool((part != np.round(part)).any()) for part in (leaf.flat[:LOOK], leaf))


def _constant(leaf: Array) -> bool:
    """Whether all elements are one number."""
    return not leaf.size or bool((leaf == leaf.flat[0]).all())


def _plain(leaf: Array) -> Array:
    """In a type that NumPy's files know."""
    if leaf.dtype.kind in "iubfc":
        return leaf
    return leaf.astype(np.float32 if jnp.issubdtype(leaf.dtype, jnp.inexact) else np.int32)


def _described(leaf: Array) -> dict[str, Any]:
    """Shape and type, and how numbers are spread that do not go along as they are."""
    found: dict[str, Any] = {"shape": list(leaf.shape), "dtype": str(leaf.dtype)}
    if not _random(leaf):
        return found
    real = leaf.real if np.iscomplexobj(leaf) else leaf
    if _constant(leaf):
        return found | {"mean": float(real.flat[0]) if leaf.size else 0.0, "deviation": 0.0}
    mean = float(np.mean(real, dtype=np.float64))
    spread = float(np.std(real, dtype=np.float64))
    # An infinity among them, as masks have, leaves no spread to make numbers of.
    known = bool(np.isfinite([mean, spread]).all())
    return found | ({"mean": mean, "deviation": spread} if known else {"mean": 0.0, "deviation": 1.0})


def _environment() -> str:
    return nameless(jax.print_environment_info(return_string=True) or "") + "\n"


def nameless(told: str) -> str:
    """What `jax.print_environment_info` tells, without the machine's name and what else runs on its GPU.

    nvidia-smi, which it asks, ends in a table of everybody's processes, with where their programs lie.
    """
    return _NODE.sub("node='***'", _PROCESSES.sub("", told).rstrip())


def _trace(compiled: Any, resident: Resident, folder: Path) -> None:
    """The profiler's files of a few awaited calls, where TensorBoard looks for them."""
    call, block = make_call(compiled, resident)
    for _ in range(WARM_CALLS):
        block(call())
    options = jax.profiler.ProfileOptions()
    options.python_tracer_level = 0
    with tempfile.TemporaryDirectory(prefix=scratch_prefix("trace")) as traced:
        with jax.profiler.trace(traced, profiler_options=options):
            for _ in range(TRACED_CALLS):
                block(call())
        place = folder / "trace" / "plugins" / "profile" / "calls"
        place.mkdir(parents=True)
        for path in Path(traced).rglob("*.xplane.pb"):
            (place / "host.xplane.pb").write_bytes(without_host_names(path.read_bytes()))
        for path in Path(traced).rglob("*.trace.json.gz"):
            told = gzip.decompress(path.read_bytes()).decode()
            (place / "host.trace.json.gz").write_bytes(gzip.compress(without_places(told).encode(), mtime=0))


def without_host_names(space: bytes) -> bytes:
    """An XSpace without its field of host names. All fields of this message have a length before them.

    **Raises** ValueError for a field of another kind.
    """
    kept, at = bytearray(), 0
    while at < len(space):
        start = at
        tag, at = _varint(space, at)
        if tag & 7 != 2:
            raise ValueError(f"an XSpace has no field of wire type {tag & 7}")
        length, at = _varint(space, at)
        at += length
        if tag >> 3 != HOST_NAMES:
            kept += space[start:at]
    return bytes(kept)


def _varint(data: Sequence[int], at: int) -> tuple[int, int]:
    """The number that begins at a place, and the place after it."""
    value, shift = 0, 0
    while True:
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            return value, at


def _write(path: Path, text: str) -> None:
    path.write_text(without_places(text), encoding="utf-8")

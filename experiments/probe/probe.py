"""Times the cases of CASES with JAX and its profiler alone, in this process: nothing of jaxaccel is imported.

    python experiments/probe/probe.py --device gpu

Prints JSON: by case, seconds of device time (the union of a call's kernels, by the profiler; None on a CPU),
latency (a call, awaited) and throughput (calls queued for two seconds, or 5,000 of them, then one wait).
"""

import argparse
import gc
import json
import math
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

QUEUED_S, QUEUED_CALLS = 2.0, 5000
LATENCY_S, LATENCY_CALLS = 0.5, 2000
WARM_S = 0.3
TRACED_CALLS = 50

# By name: what computes it, its size, and that of `--small`, for trying this out on a CPU.
CASES = {
    "matvec 4096": ("matvec", 4096, 256),
    "matvec 16384": ("matvec", 16384, 512),
    "dot 4194304": ("dot", 1 << 22, 1 << 16),
    "dot 268435456": ("dot", 1 << 28, 1 << 18),
    "matmul 2048": ("matmul", 2048, 128),
    "matmul 4096": ("matmul", 4096, 256),
    "mlp 1024": ("mlp", 1024, 64),
    "fft 4096": ("fft", 4096, 128),
    "sort 16777216": ("sort", 1 << 24, 1 << 14),
    "own step 2048": ("own", 2048, 128),
}

BATCH, DEPTH, LEARNING_RATE = 256, 2, 1e-3


# --- the cases: (function, arguments, whether its first argument is the carry) ---------------------


def matvec(size: int) -> tuple[Callable[..., Any], tuple[Any, ...], bool]:
    """A matrix times a vector."""
    return lambda a, x: a @ x, (_uniform(0, size, size), _uniform(1, size)), False


def dot(size: int) -> tuple[Callable[..., Any], tuple[Any, ...], bool]:
    """The product of two vectors."""
    return lambda x, y: x @ y, (_uniform(0, size), _uniform(1, size)), False


def matmul(size: int) -> tuple[Callable[..., Any], tuple[Any, ...], bool]:
    """The product of two matrices."""
    return lambda a, b: a @ b, (_uniform(0, size, size), _uniform(1, size, size)), False


def fft(size: int) -> tuple[Callable[..., Any], tuple[Any, ...], bool]:
    """The transform of a real grid."""
    import jax.numpy as jnp

    return jnp.fft.rfft2, (_uniform(0, size, size),), False


def sort(size: int) -> tuple[Callable[..., Any], tuple[Any, ...], bool]:
    """Sorted numbers."""
    import jax.numpy as jnp

    return jnp.sort, (_uniform(0, size),), False


def mlp(size: int) -> tuple[Callable[..., Any], tuple[Any, ...], bool]:
    """A step of Adam on two hidden layers of `size` units, ReLU, one logit, 256 rows of `size` features."""
    import jax
    import jax.numpy as jnp
    import optax

    adam = optax.adam(LEARNING_RATE)

    def loss(params: Any, x: Any, y: Any) -> Any:
        for weights, bias in params[:-1]:
            x = jax.nn.relu(x @ weights + bias)
        weights, bias = params[-1]
        return optax.sigmoid_binary_cross_entropy((x @ weights + bias)[:, 0], y).mean()

    def step(state: Any, x: Any, y: Any) -> Any:
        params, moments = state
        value, gradients = jax.value_and_grad(loss)(params, x, y)
        updates, moments = adam.update(gradients, moments, params)
        return (optax.apply_updates(params, updates), moments), value

    widths = [size] * (DEPTH + 1) + [1]
    params = [
        (_uniform(2 + i, widths[i], widths[i + 1]) * math.sqrt(6 / widths[i]), jnp.zeros(widths[i + 1]))
        for i in range(DEPTH + 1)
    ]
    x = _uniform(0, BATCH, size)
    return step, ((params, adam.init(params)), x, (x[:, 0] > 0).astype(jnp.float32)), True


def own(size: int) -> tuple[Callable[..., Any], tuple[Any, ...], bool]:
    """own_step.py, which jaxaccel measures as own code."""
    import jax

    sys.path.insert(0, str(Path(__file__).parent))
    import own_step

    return own_step.step, own_step.make_args(size, jax.random.key(0)), True


def _uniform(stream: int, *shape: int) -> Any:
    """Zero-mean numbers in (-1, 1): products of zeros would run faster."""
    import jax

    return jax.random.uniform(jax.random.key(stream), shape, minval=-1.0, maxval=1.0)


# --- timing ----------------------------------------------------------------------------------------


def caller(function: Callable[..., Any], arguments: tuple[Any, ...], carries: bool) -> Callable[[], Any]:
    """A call of the compiled function; where it carries, each takes up what the one before returned."""
    import jax

    with jax.default_matmul_precision("highest"):
        jitted = jax.jit(function, donate_argnums=(0,) if carries else ())
        compiled = jitted.lower(*arguments).compile()
    if not carries:
        return lambda: compiled(*arguments)
    state, *rest = arguments

    def step() -> Any:
        nonlocal state
        state, output = compiled(state, *rest)
        return state, output

    return step


def latency_s(call: Callable[[], Any]) -> float:
    """The median time of a call that is awaited."""
    import jax

    took: list[float] = []
    end = time.perf_counter() + LATENCY_S
    while len(took) < 15 or (time.perf_counter() < end and len(took) < LATENCY_CALLS):
        start = time.perf_counter()
        jax.block_until_ready(call())
        took.append(time.perf_counter() - start)
    return statistics.median(took)


def throughput_s(call: Callable[[], Any], about_s: float) -> float:
    """The time of a call among thousands, or two seconds of them, that are queued and awaited together."""
    import jax

    calls = max(20, min(QUEUED_CALLS, math.ceil(QUEUED_S / about_s)))
    jax.block_until_ready(call())
    start = time.perf_counter()
    for _ in range(calls):
        result = call()  # the one before is let go: its memory is for the next
    jax.block_until_ready(result)
    return (time.perf_counter() - start) / calls


def device_s(call: Callable[[], Any]) -> float | None:
    """The median over calls of the time in which a kernel of the call runs; None where there are none."""
    import jax

    options = jax.profiler.ProfileOptions()
    options.python_tracer_level = options.host_tracer_level = 0
    with tempfile.TemporaryDirectory() as folder:
        with jax.profiler.trace(folder, profiler_options=options):
            for _ in range(TRACED_CALLS):
                jax.block_until_ready(call())
        (path,) = Path(folder).rglob("*.xplane.pb")
        spans = sorted(
            (event.start_ns, event.start_ns + event.duration_ns)
            for plane in jax.profiler.ProfileData.from_file(str(path)).planes
            if plane.name.startswith("/device:GPU:")
            for line in plane.lines
            if line.name.startswith("Stream")
            for event in line.events
        )
    each, rest = divmod(len(spans), TRACED_CALLS)
    if rest or not each:
        return None
    return statistics.median(
        _union(spans[start : start + each]) * 1e-9 for start in range(0, len(spans), each)
    )


def _union(spans: list[tuple[float, float]]) -> float:
    """How long at least one of the spans lasts. They are in the order of their starts."""
    total, until = 0.0, -math.inf
    for start, end in spans:
        total += max(0.0, end - max(start, until))
        until = max(until, end)
    return total


def measure(case: str, *, small: bool, queued: bool) -> dict[str, float | None]:
    """What there is of a case in this process."""
    import jax

    kind, size, small_size = CASES[case]
    function, arguments, carries = globals()[kind](small_size if small else size)
    call = caller(function, jax.block_until_ready(arguments), carries)
    del arguments
    end = time.perf_counter() + WARM_S
    while time.perf_counter() < end:
        jax.block_until_ready(call())
    gc.collect()
    gc.disable()
    try:
        found: dict[str, float | None] = {"latency": latency_s(call)}
        if queued:
            found["throughput"] = throughput_s(call, found["latency"] or 1.0)
        found["device"] = device_s(call)
    finally:
        gc.enable()
    return found


def main() -> None:
    """Measure all cases, or those named."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--device", choices=["cpu", "gpu"], default="gpu")
    parser.add_argument("--small", action="store_true", help="small sizes, to try it out")
    parser.add_argument("--no-throughput", action="store_true", help="leave out what takes two seconds")
    parser.add_argument("cases", nargs="*", choices=[*CASES, []], help="by name; none: all")
    options = parser.parse_args()
    os.environ["JAX_PLATFORMS"] = "cpu" if options.device == "cpu" else "cuda,cpu"
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
    cases = options.cases or list(CASES)
    print(
        json.dumps(
            {case: measure(case, small=options.small, queued=not options.no_throughput) for case in cases}
        )
    )


if __name__ == "__main__":
    main()

"""`python -m jaxaccel.selftest.cupti SIZE`: what NVIDIA's CUPTI says that a matrix-vector product takes.

For the self-test, in a process of its own: a second use of CUPTI, or one beside JAX's profiler, ends the
process ("activity records were dropped", jax 0.11.2). Prints seconds a call, as JSON.
"""

import json
import sys

import jax

from jaxaccel.worker.program import Resident, compile_function, make_call
from jaxaccel.workloads.matvec import Matvec

WARM_CALLS, CALLS = 50, 20


def main(size: str) -> None:
    """Print the sum of each call's kernel times."""
    from jax.experimental.mosaic.gpu import profiler  # absent from what a CPU needs

    workload = Matvec(size=int(size))
    resident = Resident(jax.block_until_ready(jax.device_put(workload.inputs(0))), carries=False)
    compiled, _ = compile_function(workload.function, resident.arguments, "highest")
    call, block = make_call(compiled, resident)
    for _ in range(WARM_CALLS):
        block(call())
    _, times_ms = profiler.measure(compiled, iterations=CALLS)(*resident.arguments)
    print(json.dumps([1e-3 * time_ms for time_ms in times_ms or ()]))


if __name__ == "__main__":
    main(*sys.argv[1:])

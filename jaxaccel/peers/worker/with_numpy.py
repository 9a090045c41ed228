"""NumPy: the product by its BLAS, and a training step as it is written by hand."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import numpy as np

from jaxaccel.peers.worker.program import (
    BETA1,
    BETA2,
    EPSILON,
    Array,
    Parameters,
    Program,
    answers_for,
    as_gradients,
    batches_of,
    fed_epoch,
    learning_rate,
    parameters,
    steps_of,
)
from jaxaccel.records import Case
from jaxaccel.worker.devices import cpu_model, host_available_bytes

NARROW = "NumPy has no product of {}s of its own, only a loop over elements"


class NumpyLibrary:
    """NumPy on the CPU."""

    platform, count, trace = "cpu", 1, None

    def __init__(self, device: str) -> None:
        self.device, self.kind = device, cpu_model()

    def environment(self) -> Mapping[str, Any]:
        """The BLAS that it calls, and how many threads that has."""
        from threadpoolctl import threadpool_info

        pools = [pool for pool in threadpool_info() if pool["user_api"] == "blas"]
        known: dict[str, Any] = {"version": np.__version__, "blas": None, "threads": None}
        if not pools:
            return known | {"absent": "threadpoolctl sees no BLAS"}
        words = [pools[0].get(key) for key in ("internal_api", "version", "architecture")]
        return known | {"blas": " ".join(filter(None, words)), "threads": pools[0]["num_threads"]}

    def capacity_bytes(self) -> int:
        """Free memory of the host."""
        return host_available_bytes()

    def prepare(self, precision: str) -> None:
        """It computes in the type of its arrays, always."""

    def forget(self) -> None:
        """It keeps nothing."""

    def program(self, framework: str, workload: Any, case: Case, inputs: Any) -> Program:
        """The case.

        **Raises** ValueError for a type that it has no fast product of: its time would be no peer's.
        """
        if case.dtype not in ("float32", "float64"):
            raise ValueError(NARROW.format(case.dtype))
        if case.workload in ("matvec", "dot"):
            a, b = inputs
            return _simple((lambda: a @ b) if case.workload == "matvec" else (lambda: np.dot(a, b)))
        leaves, x, y = inputs
        params = parameters(leaves, workload.widths)
        training, steps = Training(params, case.dtype), steps_of(case)
        if case.workload == "training":  # for NumPy the host's memory is where the batches are to be
            batches = batches_of(workload, case.seed)
            epoch = fed_epoch(workload.feed, batches, lambda batch: batch, training.step)
            return _program(epoch, chained=True, run=None, leaves=training.leaves)
        call: Callable[[], Any] = partial(training.step, x, y)
        if steps is not None:
            count = steps

            def call() -> Array:
                return np.array([training.step(x, y) for _ in range(count)])

        return _program(
            call,
            chained=True,
            run=answers_for(
                workload.widths,
                lambda: partial(Training(params, case.dtype).step, x, y),
                lambda given, x, y: _checked(given, x, y, case.dtype),
            ),
        )

    def empty(self, framework: str) -> Program:
        """One added to an array of one number."""
        number, one = np.zeros(1, np.float32), np.float32(1)
        return _simple(lambda: number + one)


class Training:
    """Steps of an mlp: forward, backward, Adam. Parameters and moments are float32, layers of `dtype`."""

    def __init__(self, params: Parameters, dtype: str) -> None:
        self._params = [np.array(leaf) for leaf in (*params.kernels, *params.biases)]
        self._means = [np.zeros_like(leaf) for leaf in self._params]
        self._squares = [np.zeros_like(leaf) for leaf in self._params]
        self._dtype, self._steps = dtype, 0
        self._rate = learning_rate()

    def step(self, x: Array, y: Array) -> Any:
        """One of them, on a batch; gives the loss before it."""
        layers = len(self._params) // 2
        params = Parameters(kernels=self._params[:layers], biases=self._params[layers:])
        loss, kernels, biases, _ = loss_and_gradients(params, x, y, self._dtype)
        self._steps += 1
        first, second = 1 - BETA1**self._steps, 1 - BETA2**self._steps
        for param, mean, square, gradient in zip(
            self._params, self._means, self._squares, (*kernels, *biases), strict=True
        ):
            mean *= np.float32(BETA1)
            mean += np.float32(1 - BETA1) * gradient
            square *= np.float32(BETA2)
            square += np.float32(1 - BETA2) * gradient * gradient
            down = np.sqrt(square * np.float32(1 / second))
            down += np.float32(EPSILON)
            param -= np.float32(self._rate / first) * mean / down
        return loss

    def leaves(self) -> list[Array]:
        """The parameters as they are now."""
        return self._params


def loss_and_gradients(
    params: Parameters, x: Array, y: Array, dtype: str
) -> tuple[np.floating[Any], list[Array], list[Array], list[Array]]:
    """The loss, the gradients of kernels and of biases in float32, and what each layer gives."""
    kernels = [kernel.astype(dtype, copy=False) for kernel in params.kernels]
    acts, outputs = [x], []
    for at, (kernel, bias) in enumerate(zip(kernels, params.biases, strict=True)):
        outputs.append(acts[-1] @ kernel + bias.astype(dtype, copy=False))
        if at < len(kernels) - 1:
            acts.append(np.maximum(outputs[-1], 0))
    z, target = outputs[-1][:, 0], y.astype(dtype, copy=False)
    small = np.exp(-np.abs(z))
    loss = np.mean(np.maximum(z, 0) - z * target + np.log1p(small))
    sigmoid = np.where(z >= 0, 1, small) / (1 + small)
    delta = ((sigmoid - target) / z.dtype.type(z.size))[:, None]
    of_kernels, of_biases = list[Array](), list[Array]()
    for at in reversed(range(len(kernels))):
        of_kernels.insert(0, (acts[at].T @ delta).astype(np.float32, copy=False))
        of_biases.insert(0, delta.sum(axis=0).astype(np.float32, copy=False))
        if at:
            delta = (delta @ kernels[at].T) * (outputs[at - 1] > 0)
    return loss, of_kernels, of_biases, outputs


def _checked(params: Parameters, x: Array, y: Array, dtype: str) -> Any:
    loss, kernels, biases, outputs = loss_and_gradients(params, x, y, dtype)
    return loss, as_gradients(kernels, biases), outputs


def _simple(call: Callable[[], Any]) -> Program:
    return _program(call, chained=False, run=None)


def _program(
    call: Callable[[], Any],
    *,
    chained: bool,
    run: Callable[..., Any] | None,
    leaves: Callable[[], list[Array]] | None = None,
) -> Program:
    return Program(
        call=call,
        block=lambda result: result,  # NumPy returns when it is done
        ready=lambda _: True,
        fetch=np.asarray,
        run=run or _nothing_to_run,
        chained=chained,
        output_bytes=np.asarray(call()).nbytes if not chained else 8,
        leaves=leaves,
    )


def _nothing_to_run(*_: Any) -> Any:
    raise TypeError("the answer of this workload tells all by itself")

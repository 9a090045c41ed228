"""TensorFlow on a CPU: each call is one tf.function."""

import os
from collections.abc import Callable, Mapping, Sequence
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


class TensorFlowLibrary:
    """TensorFlow, whose GPUs are out of sight."""

    platform, count, trace = "cpu", 1, None

    def __init__(self, device: str) -> None:
        os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
        import tensorflow

        tensorflow.config.set_visible_devices([], "GPU")
        self._tf, self.kind = tensorflow, cpu_model()

    def environment(self) -> Mapping[str, Any]:
        """Its threads, as they are set: 0 leaves their number to TensorFlow."""
        threading = self._tf.config.threading
        return {
            "version": self._tf.__version__,
            "threads": threading.get_intra_op_parallelism_threads(),
            "inter_op_threads": threading.get_inter_op_parallelism_threads(),
        }

    def capacity_bytes(self) -> int:
        """Free memory of the host."""
        return host_available_bytes()

    def prepare(self, precision: str) -> None:
        """On a CPU, float32 is float32."""

    def forget(self) -> None:
        """What a tf.function has traced goes with it."""

    def program(self, framework: str, workload: Any, case: Case, inputs: Any) -> Program:
        """The case."""
        tf = self._tf
        if case.workload in ("matvec", "dot"):
            a, b = (tf.constant(array) for array in inputs)
            function = tf.linalg.matvec if case.workload == "matvec" else _dot_by(tf)
            return self._simple(tf.function(function), a, b)
        leaves, x, y = inputs

        def begin() -> "_Training":
            return _Training(tf, parameters(leaves, workload.widths))

        training, steps = begin(), steps_of(case)
        if case.workload == "training":
            return self._epochs(workload, case, training)
        data = tf.constant(x), tf.constant(y)
        function = tf.function(
            lambda: training.steps(steps, lambda _: data) if steps else training.step(*data)
        )

        def first_steps() -> Callable[[], float]:
            step = tf.function(begin().step)
            return lambda: float(step(*data))

        return _program(
            function,
            chained=True,
            output_bytes=8,
            run=answers_for(workload.widths, first_steps, lambda given, x, y: self._checked(given, x, y)),
        )

    def _epochs(self, workload: Any, case: Case, training: "_Training") -> Program:
        """A call is an epoch: a tf.function of all of it, or one of a step in a loop in Python."""
        tf, batches = self._tf, batches_of(workload, case.seed)
        if workload.feed == "scan":
            x, y = (tf.constant(np.stack(column)) for column in zip(*batches, strict=True))
            call = tf.function(lambda: training.steps(len(batches), lambda at: (x[at], y[at])))
        else:

            def place(batch: Sequence[Array]) -> list[Any]:
                return [tf.constant(array) for array in batch]

            step = tf.function(training.step).get_concrete_function(*place(batches[0]))
            call = fed_epoch(workload.feed, batches, place, step)
        return _program(call, chained=True, output_bytes=8 * len(batches), leaves=training.leaves)

    def empty(self, framework: str) -> Program:
        """One added to a tensor of one number."""
        return self._simple(self._tf.function(lambda number: number + 1.0), self._tf.constant(0.0))

    def _simple(self, function: Any, *arguments: Any) -> Program:
        concrete = function.get_concrete_function(*arguments)
        result = concrete(*arguments)
        held_bytes = int(np.prod(result.shape)) * result.dtype.size
        return _program(lambda: concrete(*arguments), chained=False, output_bytes=held_bytes)

    def _checked(self, given: Parameters, x: Array, y: Array) -> Any:
        tf = self._tf
        function = tf.function(_Training(tf, given).gradients)
        loss, gradients, outputs = function(tf.constant(x), tf.constant(y))
        half = len(gradients) // 2
        found = [_host(gradient) for gradient in gradients]
        return float(loss), as_gradients(found[:half], found[half:]), [_host(one) for one in outputs]


class _Training:
    """Steps of an mlp on variables: GradientTape, and Adam by TensorFlow's own fused operation."""

    def __init__(self, tf: Any, params: Parameters) -> None:
        self._tf = tf
        self._params = [tf.Variable(leaf) for leaf in (*params.kernels, *params.biases)]
        self._moments = [[tf.Variable(tf.zeros_like(leaf)) for leaf in self._params] for _ in range(2)]
        self._powers = [tf.Variable(tf.constant(beta)) for beta in (BETA1, BETA2)]
        self._rate = learning_rate()

    def gradients(self, x: Any, y: Any) -> Any:
        """The loss, the gradients of kernels and of biases, and what each layer gives."""
        tf, half, outputs = self._tf, len(self._params) // 2, list[Any]()
        with tf.GradientTape() as tape:
            for kernel, bias in zip(self._params[:half], self._params[half:], strict=True):
                given = tf.nn.relu(outputs[-1]) if outputs else x
                product = tf.matmul(given, tf.cast(kernel, x.dtype))
                outputs.append(tf.nn.bias_add(product, tf.cast(bias, x.dtype)))
            wide = self._wide(x)
            logits = tf.cast(outputs[-1][:, 0], wide)
            each = tf.nn.sigmoid_cross_entropy_with_logits(labels=tf.cast(y, wide), logits=logits)
            loss = tf.reduce_mean(each)
        return loss, tape.gradient(loss, self._params), outputs

    def step(self, x: Any, y: Any) -> Any:
        """One of them, on a batch; gives the loss before it."""
        loss, gradients, _ = self.gradients(x, y)
        powers, rules = self._powers, (self._rate, BETA1, BETA2, EPSILON)
        for param, mean, square, gradient in zip(self._params, *self._moments, gradients, strict=True):
            self._tf.raw_ops.ResourceApplyAdam(
                var=param.handle,
                m=mean.handle,
                v=square.handle,
                beta1_power=powers[0],
                beta2_power=powers[1],
                lr=rules[0],
                beta1=rules[1],
                beta2=rules[2],
                epsilon=rules[3],
                grad=gradient,
            )
        for power, beta in zip(powers, (BETA1, BETA2), strict=True):
            power.assign(power * beta)
        return loss

    def steps(self, count: int, batch: Callable[[Any], tuple[Any, Any]]) -> Any:
        """So many in a loop of the graph's own, each on the batch of its number; gives all losses."""
        tf = self._tf
        losses = tf.TensorArray(self._wide(batch(0)[0]), size=count)
        _, losses = tf.while_loop(
            lambda at, _: at < count,
            lambda at, losses: (at + 1, losses.write(at, self.step(*batch(at)))),
            (tf.constant(0), losses),
            parallel_iterations=1,
        )
        return losses.stack()

    def leaves(self) -> list[Array]:
        """The parameters as they are now."""
        return [param.numpy() for param in self._params]

    def _wide(self, x: Any) -> Any:
        """The type of a loss."""
        return self._tf.float64 if x.dtype == self._tf.float64 else self._tf.float32


def _dot_by(tf: Any) -> Callable[[Any, Any], Any]:
    return lambda a, b: tf.tensordot(a, b, 1)


def _program(
    call: Callable[[], Any],
    *,
    chained: bool,
    output_bytes: int,
    run: Callable[..., Any] = lambda *_: None,
    leaves: Callable[[], list[Array]] | None = None,
) -> Program:
    return Program(
        call=call,
        block=lambda result: result,  # on a CPU, a call returns when it is done
        ready=lambda _: True,
        fetch=_host,
        run=run,
        chained=chained,
        output_bytes=output_bytes,
        leaves=leaves,
    )


def _host(value: Any) -> Array:
    return np.asarray(value)

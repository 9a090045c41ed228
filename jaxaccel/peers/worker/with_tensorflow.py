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
        training, steps = self._training(leaves, workload, x, y), steps_of(case)
        function = tf.function(lambda: training.steps(steps) if steps else training.step())
        return _program(
            function,
            chained=True,
            output_bytes=8,
            run=answers_for(
                workload.widths,
                lambda: _numbers(tf.function(self._training(leaves, workload, x, y).step)),
                lambda given, x, y: self._checked(given, x, y),
            ),
        )

    def empty(self, framework: str) -> Program:
        """One added to a tensor of one number."""
        return self._simple(self._tf.function(lambda number: number + 1.0), self._tf.constant(0.0))

    def _simple(self, function: Any, *arguments: Any) -> Program:
        concrete = function.get_concrete_function(*arguments)
        result = concrete(*arguments)
        held_bytes = int(np.prod(result.shape)) * result.dtype.size
        return _program(lambda: concrete(*arguments), chained=False, output_bytes=held_bytes)

    def _training(self, leaves: Sequence[Array], workload: Any, x: Array, y: Array) -> "_Training":
        return _Training(self._tf, parameters(leaves, workload.widths), x, y)

    def _checked(self, given: Parameters, x: Array, y: Array) -> Any:
        training = _Training(self._tf, given, x, y)
        loss, gradients, outputs = self._tf.function(training.gradients)()
        half = len(gradients) // 2
        found = [_host(gradient) for gradient in gradients]
        return float(loss), as_gradients(found[:half], found[half:]), [_host(one) for one in outputs]


class _Training:
    """Steps of an mlp on variables: GradientTape, and Adam by TensorFlow's own fused operation."""

    def __init__(self, tf: Any, params: Parameters, x: Array, y: Array) -> None:
        self._tf, self._x, self._y = tf, tf.constant(x), tf.constant(y)
        self._params = [tf.Variable(leaf) for leaf in (*params.kernels, *params.biases)]
        self._moments = [[tf.Variable(tf.zeros_like(leaf)) for leaf in self._params] for _ in range(2)]
        self._powers = [tf.Variable(tf.constant(beta)) for beta in (BETA1, BETA2)]
        self._rate = learning_rate()

    def gradients(self) -> Any:
        """The loss, the gradients of kernels and of biases, and what each layer gives."""
        tf, half, outputs = self._tf, len(self._params) // 2, list[Any]()
        with tf.GradientTape() as tape:
            for kernel, bias in zip(self._params[:half], self._params[half:], strict=True):
                given = tf.nn.relu(outputs[-1]) if outputs else self._x
                product = tf.matmul(given, tf.cast(kernel, self._x.dtype))
                outputs.append(tf.nn.bias_add(product, tf.cast(bias, self._x.dtype)))
            wide = tf.float64 if self._x.dtype == tf.float64 else tf.float32
            logits = tf.cast(outputs[-1][:, 0], wide)
            each = tf.nn.sigmoid_cross_entropy_with_logits(labels=tf.cast(self._y, wide), logits=logits)
            loss = tf.reduce_mean(each)
        return loss, tape.gradient(loss, self._params), outputs

    def step(self) -> Any:
        """One of them; gives the loss before it."""
        loss, gradients, _ = self.gradients()
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

    def steps(self, count: int) -> Any:
        """So many, in a loop of the graph's own; gives the loss before each."""
        tf = self._tf
        kind = tf.float64 if self._x.dtype == tf.float64 else tf.float32
        losses = tf.TensorArray(kind, size=count)
        _, losses = tf.while_loop(
            lambda at, _: at < count,
            lambda at, losses: (at + 1, losses.write(at, self.step())),
            (tf.constant(0), losses),
            parallel_iterations=1,
        )
        return losses.stack()


def _dot_by(tf: Any) -> Callable[[Any, Any], Any]:
    return lambda a, b: tf.tensordot(a, b, 1)


def _numbers(function: Callable[[], Any]) -> Callable[[], float]:
    return lambda: float(function())


def _program(
    call: Callable[[], Any],
    *,
    chained: bool,
    output_bytes: int,
    run: Callable[..., Any] = lambda *_: None,
) -> Program:
    return Program(
        call=call,
        block=lambda result: result,  # on a CPU, a call returns when it is done
        ready=lambda _: True,
        fetch=_host,
        run=run,
        chained=chained,
        output_bytes=output_bytes,
    )


def _host(value: Any) -> Array:
    return np.asarray(value)

"""Training steps of an mlp in PyTorch: loss and gradients by autograd, Adam's update, on one device.

Op by op as PyTorch's users write it; compiled as one function of the whole step, which is as fast as its
compiler makes it.
"""

from collections.abc import Callable, Sequence
from functools import cache
from typing import Any, Protocol

import numpy as np

from jaxaccel.peers.worker.program import (
    BETA1,
    BETA2,
    EPSILON,
    Array,
    Parameters,
    as_gradients,
    learning_rate,
    parameters,
)


class Training(Protocol):
    """Steps on batches, each of which takes up the parameters that the one before it left."""

    def step(self, x: Any, y: Any) -> Any:
        """One of them; gives the loss before it, as a tensor."""

    def reset(self) -> None:
        """Put parameters and moments back to where they began, in their places."""

    def leaves(self) -> list[Array]:
        """The parameters as they are now."""


class Eager:
    """Op by op, with torch.optim.Adam in its fused form. `captured`: its steps go into a CUDA graph."""

    def __init__(
        self, leaves: Sequence[Array], widths: Sequence[int], device: Any, *, captured: bool
    ) -> None:
        import torch

        self._torch = torch
        self._given = placed(parameters(leaves, widths), device)
        self._params = [param.clone().requires_grad_() for param in self._given]
        self._adam = torch.optim.Adam(
            self._params,
            lr=learning_rate(),
            betas=(BETA1, BETA2),
            eps=EPSILON,
            fused=True,
            capturable=captured,
        )

    def step(self, x: Any, y: Any) -> Any:
        """Forward, backward, update."""
        self._adam.zero_grad(set_to_none=True)
        loss = loss_of(self._params, x, y)
        loss.backward()
        self._adam.step()
        return loss.detach()

    def reset(self) -> None:
        """In place, for a graph knows where they are."""
        with self._torch.no_grad():
            for param, given in zip(self._params, self._given, strict=True):
                param.copy_(given)
            for state in self._adam.state.values():
                for value in state.values():
                    value.zero_()

    def leaves(self) -> list[Array]:
        """The parameters as they are now."""
        return leaves_of(self._params)


class Compiled:
    """The whole step as one function by torch.compile."""

    def __init__(
        self, leaves: Sequence[Array], widths: Sequence[int], device: Any, *, captured: bool
    ) -> None:
        import torch

        self._given = placed(parameters(leaves, widths), device)
        self._params = [param.clone() for param in self._given]
        self._means = [torch.zeros_like(param) for param in self._params]
        self._squares = [torch.zeros_like(param) for param in self._params]
        self._count = torch.zeros((), device=device)
        self._rate = learning_rate()
        self._step = compile_once(whole_step)

    def step(self, x: Any, y: Any) -> Any:
        """Forward, backward, update."""
        return self._step(self._params, self._means, self._squares, self._count, x, y, self._rate)

    def reset(self) -> None:
        """In place, for a graph knows where they are."""
        for param, given in zip(self._params, self._given, strict=True):
            param.copy_(given)
        for state in (*self._means, *self._squares, self._count):
            state.zero_()

    def leaves(self) -> list[Array]:
        """The parameters as they are now."""
        return leaves_of(self._params)


def tensor(array: Array, device: Any) -> Any:
    """A host array's very bits, in memory of its own on a device."""
    import torch

    if array.dtype.name == "bfloat16":  # which NumPy itself does not have
        return torch.from_numpy(array.view(np.uint16)).view(torch.bfloat16).to(device, copy=True)
    return torch.from_numpy(array).to(device, copy=True)


def placed(params: Parameters, device: Any) -> list[Any]:
    """Weights as torch.nn.Linear keeps them, (outputs, inputs), then biases."""
    weights = [tensor(np.ascontiguousarray(kernel.T), device) for kernel in params.kernels]
    return [*weights, *(tensor(bias, device) for bias in params.biases)]


def leaves_of(params: Sequence[Any]) -> list[Array]:
    """What `placed` gave, or the gradients of it, as a workload has it: kernels (inputs, outputs), biases."""
    half = len(params) // 2
    kernels = [on_host(weight).T for weight in params[:half]]
    return as_gradients(kernels, [on_host(bias) for bias in params[half:]])


def layers_of(params: Sequence[Any], x: Any) -> list[Any]:
    """What each layer gives before its ReLU, computed in the type of `x`; the last are the logits."""
    from torch.nn.functional import linear, relu

    half = len(params) // 2
    outputs: list[Any] = []
    for weight, bias in zip(params[:half], params[half:], strict=True):
        given = relu(outputs[-1]) if outputs else x
        outputs.append(linear(given, weight.to(x.dtype), bias.to(x.dtype)))
    return outputs


def loss_of(params: Sequence[Any], x: Any, y: Any) -> Any:
    """Binary cross-entropy on logits, in float32 at least."""
    return loss_and_layers(params, x, y)[0]


def loss_and_layers(params: Sequence[Any], x: Any, y: Any) -> tuple[Any, list[Any]]:
    """The loss, and what each layer gives."""
    import torch

    outputs = layers_of(params, x)
    wide = torch.promote_types(x.dtype, torch.float32)
    logits = outputs[-1][:, 0].to(wide)
    return torch.nn.functional.binary_cross_entropy_with_logits(logits, y.to(wide)), outputs


def whole_step(
    params: list[Any], means: list[Any], squares: list[Any], count: Any, x: Any, y: Any, rate: float
) -> Any:
    """Forward, backward and Adam's update of parameters and moments in place; gives the loss before it.

    All that it works on are arguments, so that one compiled function serves all that have these shapes.
    """
    from torch.func import grad_and_value

    gradients, loss = grad_and_value(loss_of)(params, x, y)
    count.add_(1)
    first, second = 1 - BETA1**count, 1 - BETA2**count
    for param, mean, square, gradient in zip(params, means, squares, gradients, strict=True):
        mean.lerp_(gradient, 1 - BETA1)
        square.mul_(BETA2).addcmul_(gradient, gradient, value=1 - BETA2)
        param.sub_(rate / first * mean / ((square / second).sqrt() + EPSILON))
    return loss


def gradients_and_layers(params: list[Any], x: Any, y: Any) -> Any:
    """(gradients, (loss, what each layer gives))."""
    from torch.func import grad_and_value

    return grad_and_value(loss_and_layers, has_aux=True)(params, x, y)


def checked(params: Parameters, x: Array, y: Array, device: Any, *, compiled: bool) -> Any:
    """Loss, gradients as `verify` takes them, and what each layer gives, all as NumPy has them."""
    function = compile_once(gradients_and_layers) if compiled else gradients_and_layers
    found, (loss, outputs) = function(placed(params, device), tensor(x, device), tensor(y, device))
    return float(loss), leaves_of(found), [on_host(output) for output in outputs]


@cache
def compile_once(function: Callable[..., Any]) -> Callable[..., Any]:
    """By torch.compile, for the shapes that come; never in part."""
    import torch

    compiled: Callable[..., Any] = torch.compile(function, fullgraph=True, dynamic=False)
    return compiled


def on_host(value: Any) -> Array:
    """As NumPy has it, of several numbers all of them: of narrow types the very same ones, as float32."""
    if isinstance(value, list):
        return np.array([on_host(one) for one in value])
    wide = value.detach().float() if value.element_size() < 4 else value.detach()
    return np.asarray(wide.cpu().numpy())

"""Linear layers by the faster of the two libraries for matrix products that torch has on a CPU."""

from functools import cache
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable


class Linear(nn.Linear):
    """`linear` as a layer; made of an ``nn.Linear`` by `take_over`."""

    def forward(self, input: Tensor) -> Tensor:
        """(..., inputs) to (..., outputs)."""
        return linear(input, self.weight, self.bias)


def take_over(module: nn.Module) -> None:
    """Make every plain linear layer of ``module`` a `Linear`, with its parameters, hooks and name as they are."""
    for layer in module.modules():
        if type(layer) is nn.Linear:
            layer.__class__ = Linear


def hand_back(module: nn.Module) -> nn.Module:
    """Undo `take_over`: the layers as torch has them."""
    for layer in module.modules():
        if type(layer) is Linear:
            layer.__class__ = nn.Linear  # type: ignore[assignment]
    return module


def linear(inputs: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """``F.linear``, in float32 on AMD's processors by oneDNN: twice as fast there, forward and backward.

    torch takes MKL for float32 on every x86, which has a slow path on processors that its maker did not build; bfloat16
    is oneDNN's already. ``torch.backends.mkldnn.enabled = False`` switches this off, as second derivatives and the
    transforms of ``torch.func`` need.
    """
    if not _by_onednn(inputs):
        return F.linear(inputs, weight, bias)
    product: Tensor = Product.apply(inputs, weight, bias)
    return product


class Product(torch.autograd.Function):
    """By oneDNN; autograd's own way through its tensors would keep input and output of every layer twice."""

    @staticmethod
    def forward(ctx: Any, inputs: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """See `linear`."""
        ctx.save_for_backward(inputs, weight)
        return _onednn(inputs, weight, bias)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        """Of the inputs, the weight and the bias, where they are asked for."""
        inputs, weight = ctx.saved_tensors
        of_inputs, of_weight, of_bias = ctx.needs_input_grad
        rows = grad.flatten(0, -2)
        return (
            _onednn(grad, weight.t().contiguous()) if of_inputs else None,
            _onednn(rows.t(), inputs.flatten(0, -2).t().contiguous()) if of_weight else None,
            rows.sum(0) if of_bias else None,
        )


def _onednn(inputs: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    return F.linear(inputs.contiguous().to_mkldnn(), weight, bias).to_dense()


def _by_onednn(inputs: Tensor) -> bool:
    return (
        inputs.device.type == "cpu"
        and inputs.dtype == torch.float32
        and inputs.numel() > 0
        and not torch.compiler.is_compiling()  # or exporting: the graph says linear
        and not torch.is_autocast_enabled("cpu")
        and bool(torch.backends.mkldnn.enabled)
        and _mkl_is_slow()
    )


@cache
def _mkl_is_slow() -> bool:
    both = torch.backends.mkl.is_available() and torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
    return both and "AMD" in str(torch.cpu.get_capabilities().get("cpu_name", ""))

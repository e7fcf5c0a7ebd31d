"""Linear layers by the faster of the two libraries for matrix products that torch has on a CPU."""

from functools import cache

import torch
import torch.nn.functional as F
from torch import Tensor, nn


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
    product: Tensor = F.linear(inputs.to_mkldnn(), weight, bias).to_dense()
    return product


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

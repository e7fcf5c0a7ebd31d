import copy
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ifam.model import linear as module
from ifam.model.linear import Linear, linear, take_over


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> list[torch.Size]:
    """Shapes of what goes by oneDNN, on a processor of either maker."""
    shapes: list[torch.Size] = []
    to_mkldnn = Tensor.to_mkldnn

    def counting(tensor: Tensor) -> Tensor:
        shapes.append(tensor.shape)
        return to_mkldnn(tensor)

    monkeypatch.setattr(module, "_mkl_is_slow", lambda: True)
    monkeypatch.setattr(Tensor, "to_mkldnn", counting)
    return shapes


@pytest.mark.skipif(not torch.backends.mkldnn.is_available(), reason="needs a torch with oneDNN")
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("shape", [(5, 8), (2, 3, 8), (1, 1, 8)], ids=str)
def test_product_and_gradients_are_those_of_torch(shape: tuple[int, ...], bias: bool, counted: list[Any]) -> None:
    inputs, weight, offset = torch.randn(*shape), torch.randn(6, 8), torch.randn(6) if bias else None
    arguments = [tensor.requires_grad_() for tensor in (inputs, weight, offset) if tensor is not None]
    upstream = torch.randn(*shape[:-1], 6)
    found, expected = (function(inputs, weight, offset) for function in (linear, F.linear))
    assert counted == [inputs.shape]
    kept = found.grad_fn.saved_tensors
    assert [tensor.data_ptr() for tensor in kept] == [inputs.data_ptr(), weight.data_ptr()], "and no copies of them"
    torch.testing.assert_close(found, expected)
    for one, other in zip(*(torch.autograd.grad(out, arguments, upstream) for out in (found, expected)), strict=True):
        torch.testing.assert_close(one, other)


@pytest.mark.parametrize(
    "inputs",
    [torch.ones(2, 3, dtype=torch.float64), torch.ones(2, 3, dtype=torch.bfloat16), torch.ones(0, 3)],
    ids=["float64", "bfloat16", "empty"],
)
def test_other_products_stay_with_torch(inputs: Tensor, counted: list[Any]) -> None:
    assert torch.equal(linear(inputs, torch.ones(4, 3, dtype=inputs.dtype)), inputs.sum(1, keepdim=True).expand(-1, 4))
    assert not counted


def test_autocast_stays_with_torch(counted: list[Any]) -> None:
    with torch.autocast("cpu", torch.bfloat16):
        assert linear(torch.ones(2, 3), torch.ones(4, 3)).dtype == torch.bfloat16
    assert not counted


def test_only_the_gradients_asked_for_are_computed(counted: list[Any]) -> None:
    inputs, weight = torch.randn(5, 8, requires_grad=True), torch.randn(6, 8)
    linear(inputs, weight).sum().backward()
    assert counted == [(5, 8), (5, 6)]
    torch.testing.assert_close(inputs.grad, weight.sum(0).expand(5, -1))


def test_layers_keep_their_parameters_and_names() -> None:
    network = nn.Sequential(
        nn.Linear(3, 4), nn.Sequential(nn.Linear(4, 2)), nn.modules.linear.NonDynamicallyQuantizableLinear(2, 2)
    )
    before = copy.deepcopy(network)
    take_over(network)
    assert [type(layer) is Linear for layer in (network[0], network[1][0], network[2])] == [True, True, False]
    assert list(network.state_dict()) == list(before.state_dict())
    inputs = torch.randn(5, 3)
    torch.testing.assert_close(network(inputs), before(inputs))


def test_second_derivatives_need_it_off(counted: list[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.backends.mkldnn, "enabled", False)
    inputs = torch.randn(2, 3, requires_grad=True)
    (grad,) = torch.autograd.grad(linear(inputs, torch.ones(4, 3)).square().sum(), inputs, create_graph=True)
    (second,) = torch.autograd.grad(grad.sum(), inputs)
    assert second.shape == inputs.shape
    assert not counted

import itertools
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from ifam.model import mask_gradient
from ifam.model.attention import multiplicative_attention
from ifam.model.backbone import Backbone
from ifam.model.block import CLASS_TOKEN
from ifam.model.mask_gradient import Layout, attention_with_mask_gradient

HEADS, WIDTH, TOKENS = 3, 8, 13
EXACT = {"rtol": 0, "atol": 1e-9}


def draw(batch: int, dtype: torch.dtype = torch.float64) -> tuple[list[Tensor], Tensor]:
    """Query, key and value, and a hard mask whose first token is selected."""
    qkv = [torch.randn(batch, HEADS, TOKENS, WIDTH, dtype=dtype).requires_grad_() for _ in range(3)]
    mask = (torch.rand(batch, TOKENS) < 0.5).to(dtype)
    mask[:, 0] = 1
    return qkv, mask.requires_grad_()


def pack(tensor: Tensor, chosen: Tensor) -> Tensor:
    """(B, H, N, d) to (1, H, T, d)."""
    return tensor.transpose(1, 2)[chosen].transpose(0, 1)[None]


def packed(query: Tensor, key: Tensor, value: Tensor, mask: Tensor, *, bounded: bool = False) -> Tensor:
    """The selected tokens' attention, of a batch that is not packed."""
    chosen = mask.detach() > 0.5
    selected = (pack(tensor, chosen) for tensor in (query, key, value))
    others = (pack(tensor, ~chosen).detach() for tensor in (key, value))
    return attention_with_mask_gradient(*selected, *others, Layout.of(mask, bounded=bounded))


def defined(query: Tensor, key: Tensor, value: Tensor, mask: Tensor) -> Tensor:
    """The same by the definition."""
    return pack(multiplicative_attention(query, key, value, mask), mask.detach() > 0.5)


CHUNKS = {"one row": 1, "two rows": 2 * HEADS * TOKENS, "whole": 2**22}


@pytest.mark.parametrize("chunk", CHUNKS.values(), ids=CHUNKS)
def test_hard_masks_have_the_gradient_of_the_definition(chunk: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mask_gradient, "CHUNK_ELEMENTS", chunk)
    qkv, mask = draw(5)
    outs = [function(*qkv, mask) for function in (packed, defined)]
    torch.testing.assert_close(*outs, **EXACT)
    weights = torch.randn_like(outs[0])
    actual, expected = (torch.autograd.grad(out, (*qkv, mask), weights) for out in outs)
    torch.testing.assert_close(actual, expected, **EXACT)
    assert (expected[3][mask == 0].abs() > 1e-6).all(), "unselected tokens have a gradient too"


def test_one_token_of_each_image_may_ask() -> None:
    (query, key, value), mask = draw(3)
    chosen, first = mask.detach() > 0.5, query.detach()[:, :, :1].requires_grad_()
    keys = (pack(key, chosen), pack(value, chosen), pack(key, ~chosen).detach(), pack(value, ~chosen).detach())
    asking = first.squeeze(2).transpose(0, 1)[None]
    out = attention_with_mask_gradient(asking, *keys, Layout.of(mask, bounded=False))
    expected = multiplicative_attention(first, key, value, mask).squeeze(2).transpose(0, 1)[None]
    torch.testing.assert_close(out, expected, **EXACT)
    weights = torch.randn_like(out)
    grads = [torch.autograd.grad(found, (first, key, value, mask), weights) for found in (out, expected)]
    torch.testing.assert_close(*grads, **EXACT)


def by_definition(stack: Backbone, images: Tensor, mask: Tensor) -> Tensor:
    """The class token with the definition in every block, all tokens with a gradient."""
    visible = F.pad(mask.flatten(1), (stack.num_prefix_tokens, 0), value=1.0)
    tokens = torch.cat(stack.embed(images), dim=1)
    return stack._encode(tokens, lambda q, k, v: multiplicative_attention(q, k, v, visible), CLASS_TOKEN)[:, 0]


VARIANTS: dict[str, dict[str, Any]] = {
    "plain": {},
    "registers and LayerScale": {"init_values": 0.5, "qk_norm": True, "reg_tokens": 2},
}


@pytest.mark.parametrize("checkpointing", [False, True], ids=["", "checkpointing"])
@pytest.mark.parametrize("share", [0.0, 0.4, 1.0])
@pytest.mark.parametrize("variant", VARIANTS.values(), ids=VARIANTS)
def test_two_stacked_blocks(variant: dict[str, Any], share: float, checkpointing: bool, make_vit: Any) -> None:
    """No backward pass through the unselected tokens, and yet every gradient is that of the definition."""
    stack = Backbone(make_vit(**variant)).double()
    stack.vit.set_grad_checkpointing(checkpointing)
    images = torch.randn(3, 3, 32, 32, dtype=torch.float64).requires_grad_()
    mask = (torch.rand(3, 4, 4) < share).double().requires_grad_()
    weights = torch.randn(3, 24, dtype=torch.float64)
    inputs = [images, mask, *stack.vit.blocks.parameters()]
    actual, expected = stack.forward_with_mask_gradient(images, mask), by_definition(stack, images, mask)
    torch.testing.assert_close(actual, expected, **EXACT)
    grads, reference = (torch.autograd.grad(out, inputs, weights) for out in (actual, expected))
    for grad, wanted in zip(grads, reference, strict=True):
        scale = wanted.abs().max().clamp_min(1)
        torch.testing.assert_close(grad / scale, wanted / scale, **EXACT)
    assert grads[1].abs().min() > 0


def test_gradient_of_an_unselected_token_is_what_adding_a_little_of_it_does() -> None:
    qkv, mask = draw(1)
    mask = mask.detach()
    mask[0, 4] = 0
    chosen, step = mask > 0.5, 1e-5
    more, less = mask.clone(), mask.clone()
    more[0, 4], less[0, 4] = step, -step
    difference = multiplicative_attention(*qkv, more) - multiplicative_attention(*qkv, less)
    weights = torch.randn_like(pack(difference, chosen))
    (grad,) = torch.autograd.grad(packed(*qkv, mask.requires_grad_()), mask, weights)
    assert float(grad[0, 4]) == pytest.approx((pack(difference, chosen) * weights).sum().item() / (2 * step), rel=1e-6)


def saved_shapes(forward: Any, tokens_shape: tuple[int, int], mask: Tensor) -> list[torch.Size]:
    shapes: list[torch.Size] = []

    def record(tensor: Tensor) -> Tensor:
        shapes.append(tensor.shape)
        return tensor

    images = torch.randn(len(mask), 3, *(8 * side for side in tokens_shape))
    with torch.autograd.graph.saved_tensors_hooks(record, lambda tensor: tensor):
        out = forward(images, mask.requires_grad_())
    out.sum().backward()
    return shapes


def test_no_square_matrix_is_kept_for_backward(make_vit: Any) -> None:
    stack, mask = Backbone(make_vit()), torch.zeros(2, 4, 7)
    mask[:, :3] = 1
    counts = {1 + 21, 1 + 28}  # selected tokens of an image, and all of them

    def squares(forward: Any) -> list[torch.Size]:
        return [shape for shape in saved_shapes(forward, (4, 7), mask.clone()) if {*shape[-2:]} <= counts]

    assert not squares(stack.forward_with_mask_gradient)
    assert squares(lambda images, mask: by_definition(stack, images, mask)), "the test can see one"


def test_of_an_unselected_token_its_keys_and_values_alone_are_kept(make_vit: Any) -> None:
    stack, mask = Backbone(make_vit()), torch.zeros(2, 4, 7)
    mask[:, 0, :2] = 1
    unselected = 2 * (28 - 2)
    kept = [shape for shape in saved_shapes(stack.forward_with_mask_gradient, (4, 7), mask) if unselected in shape]
    blocks, heads, width = len(stack.vit.blocks), stack.vit.blocks[0].attn.num_heads, stack.vit.blocks[0].attn.head_dim
    assert [shape for shape in kept if len(shape) == 4] == [(1, heads, unselected, width)] * (2 * blocks)


def test_bound_is_not_active_on_ordinary_scores(monkeypatch: pytest.MonkeyPatch) -> None:
    qkv, mask = draw(2)
    out = packed(*qkv, mask)
    weights = torch.randn_like(out)
    limited = torch.autograd.grad(out, mask, weights)
    monkeypatch.setattr(mask_gradient, "MAX_LOG_RATIO", float("inf"))
    assert torch.equal(*limited, *torch.autograd.grad(packed(*qkv, mask), mask, weights))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_huge_scores_leave_finite_gradients(dtype: torch.dtype) -> None:
    qkv, mask = draw(2, dtype)
    qkv = [(tensor.detach() * 100).requires_grad_() for tensor in qkv]
    for grad in torch.autograd.grad(packed(*qkv, mask).sum(), (*qkv, mask)):
        assert grad.isfinite().all()


def test_bfloat16_gradients_have_the_dtype_of_their_inputs_and_are_summed_in_float32() -> None:
    (query, key, value), mask = draw(2, torch.bfloat16)
    inputs = (query, key, value, mask.detach().float().requires_grad_())
    grads = torch.autograd.grad(packed(*inputs).sum(), inputs)
    assert [grad.dtype for grad in grads] == [torch.bfloat16] * 3 + [torch.float32]
    wide = tuple(tensor.detach().double().requires_grad_() for tensor in inputs)
    reference = torch.autograd.grad(packed(*wide).sum(), wide)
    for grad, expected in zip(grads, reference, strict=True):
        torch.testing.assert_close(grad.double(), expected, rtol=0.02, atol=0.02 * float(expected.abs().max()))


def test_autocast_keeps_the_gradient_of_every_weight(make_vit: Any) -> None:
    """What autocast makes of a weight for the unselected tokens has no gradient and must not serve the others."""
    stack, images, mask = Backbone(make_vit()), torch.randn(2, 3, 32, 32), (torch.rand(2, 4, 4) < 0.5).float()
    with torch.autocast("cpu", torch.bfloat16):
        out = stack.forward_with_mask_gradient(images, mask.requires_grad_())
    out.float().square().sum().backward()
    wide = Backbone(make_vit())
    wide.load_state_dict(stack.state_dict())
    wide.forward_with_mask_gradient(images, mask).square().sum().backward()
    for (name, narrow), expected in zip(stack.named_parameters(), wide.parameters(), strict=True):
        assert narrow.grad is not None, name
        assert expected.grad is not None, name
        torch.testing.assert_close(narrow.grad, expected.grad, rtol=0, atol=0.05 * float(expected.grad.abs().max()))


def test_bounded_gradient_is_the_exact_change_when_a_token_is_added() -> None:
    """In one layer with a linear loss: ∂L/∂m_j of an unselected token is L(with j) − L(without j)."""
    (query, key, value), _ = draw(2)
    query = query * 3
    mask = torch.zeros(2, TOKENS, dtype=torch.float64)
    mask[0, [0, 3, 4, 6]] = mask[1, [0, 2]] = 1
    chosen = mask > 0.5
    weights = torch.randn_like(query)

    def losses(selected: Tensor) -> Tensor:
        """Of the tokens that are selected at first, whatever is added."""
        out = multiplicative_attention(query, key, value, selected)
        return (out * weights * chosen[:, None, :, None]).flatten(1).sum(1)

    mask.requires_grad_()
    grads = [
        torch.autograd.grad((packed(query, key, value, mask, bounded=bounded) * pack(weights, chosen)).sum(), mask)[0]
        for bounded in (True, False)
    ]
    with torch.no_grad():
        for image, token in itertools.product(range(2), range(TOKENS)):
            added = mask.index_fill(1, torch.tensor([token]), 1.0)
            if not chosen[image, token]:
                change = (losses(added) - losses(mask))[image]
                torch.testing.assert_close(grads[0][image, token], change, rtol=1e-9, atol=1e-9)
    assert torch.equal(grads[0][chosen], grads[1][chosen])
    assert not torch.allclose(grads[0], grads[1])

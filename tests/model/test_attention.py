import itertools
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from timm.layers.attention import Attention
from torch import Tensor

from ifam.model import attention, backbone
from ifam.model.attention import masked_attention, multiplicative_attention, packed_attention, soft_masked_attention
from ifam.model.backbone import Backbone, block_attention

HEADS, WIDTH = 3, 8
EXACT = {"rtol": 0, "atol": 1e-9}


def draw(batch: int, tokens: int, dtype: torch.dtype = torch.float64) -> tuple[list[Tensor], Tensor]:
    """Query, key and value, and a hard mask whose first token is selected."""
    qkv = [torch.randn(batch, HEADS, tokens, WIDTH, dtype=dtype).requires_grad_() for _ in range(3)]
    mask = (torch.rand(batch, tokens) < 0.5).to(dtype)
    mask[:, 0] = 1
    return qkv, mask.requires_grad_()


def textbook(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    return (query @ key.mT / query.shape[-1] ** 0.5).softmax(-1) @ value


def test_definition_has_the_derivative_of_its_formula() -> None:
    qkv = [torch.randn(2, 2, 4, 3, dtype=torch.float64).requires_grad_() for _ in range(3)]
    mask = (torch.rand(2, 4, dtype=torch.float64) + 0.1).requires_grad_()
    assert torch.autograd.gradcheck(multiplicative_attention, (*qkv, mask))


def test_definition_reads_the_selected_keys_only() -> None:
    (query, key, value), _ = draw(1, 7)
    selected = [0, 2, 5]
    mask = torch.zeros(1, 7, dtype=torch.float64)
    mask[:, selected] = 1
    expected = textbook(query, key[:, :, selected], value[:, :, selected])
    for function in (multiplicative_attention, masked_attention):
        torch.testing.assert_close(function(query, key, value, mask), expected, **EXACT)


CHUNKS = {"one token at a time": 1, "two rows": 2 * HEADS * 13, "two images": 2 * HEADS * 13 * 13, "whole": 2**22}


@pytest.mark.parametrize("chunk", CHUNKS.values(), ids=CHUNKS)
def test_hard_masks_have_the_gradient_of_the_definition(chunk: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attention, "CHUNK_ELEMENTS", chunk)
    qkv, mask = draw(5, 13)
    weights = torch.randn_like(qkv[0])
    outs = [function(*qkv, mask) for function in (masked_attention, multiplicative_attention)]
    torch.testing.assert_close(*outs, **EXACT)
    actual, expected = (torch.autograd.grad(out, (*qkv, mask), weights) for out in outs)
    torch.testing.assert_close(actual, expected, **EXACT)
    assert (expected[3][mask == 0].abs() > 1e-6).all(), "unselected tokens have a gradient too"


@pytest.mark.parametrize("chunk", [2 * HEADS * 17, 2**22])
def test_two_stacked_blocks(chunk: int, monkeypatch: pytest.MonkeyPatch, make_vit: Any) -> None:
    monkeypatch.setattr(attention, "CHUNK_ELEMENTS", chunk)
    stack = Backbone(make_vit(init_values=0.5, qk_norm=True)).double()
    images = torch.randn(3, 3, 32, 32, dtype=torch.float64).requires_grad_()
    mask = (torch.rand(3, 4, 4) < 0.4).double().requires_grad_()
    weights = torch.randn(3, 24, dtype=torch.float64)
    inputs = [images, mask, *stack.vit.blocks.parameters()]
    actual = stack.forward_masked(images, mask)
    grads = torch.autograd.grad(actual, inputs, weights)
    monkeypatch.setattr(backbone, "masked_attention", lambda *qkvm, bounded: multiplicative_attention(*qkvm))
    expected = stack.forward_masked(images, mask)
    torch.testing.assert_close(actual, expected, **EXACT)
    scale = [grad.abs().max().clamp_min(1) for grad in grads]
    reference = torch.autograd.grad(expected, inputs, weights)
    for grad, wanted, size in zip(grads, reference, scale, strict=True):
        torch.testing.assert_close(grad / size, wanted / size, **EXACT)
    assert grads[1].abs().min() > 0


def test_gradient_of_an_unselected_token_is_what_adding_a_little_of_it_does() -> None:
    qkv, mask = draw(1, 9)
    mask = mask.detach()
    mask[0, 4] = 0
    weights, step = torch.randn_like(qkv[0]), 1e-5
    more, less = mask.clone(), mask.clone()
    more[0, 4], less[0, 4] = step, -step
    change = (multiplicative_attention(*qkv, more) - multiplicative_attention(*qkv, less)) * weights
    (grad,) = torch.autograd.grad(masked_attention(*qkv, mask.requires_grad_()), mask, weights)
    assert float(grad[0, 4]) == pytest.approx(change.sum().item() / (2 * step), rel=1e-6)


def saved_shapes(stack: Backbone, tokens_shape: tuple[int, int]) -> list[torch.Size]:
    shapes: list[torch.Size] = []

    def record(tensor: Tensor) -> Tensor:
        shapes.append(tensor.shape)
        return tensor

    images = torch.randn(2, 3, *(8 * side for side in tokens_shape))
    mask = (torch.rand(2, *tokens_shape) < 0.5).float().requires_grad_()
    with torch.autograd.graph.saved_tensors_hooks(record, lambda tensor: tensor):
        out = stack.forward_masked(images, mask)
    out.sum().backward()
    return shapes


def test_no_square_matrix_is_kept_for_backward(monkeypatch: pytest.MonkeyPatch, make_vit: Any) -> None:
    stack, tokens = Backbone(make_vit()), 4 * 7 + 1
    shapes = saved_shapes(stack, (4, 7))
    assert any(tokens in shape for shape in shapes)
    assert not [shape for shape in shapes if list(shape).count(tokens) > 1]
    monkeypatch.setattr(backbone, "masked_attention", lambda *qkvm, bounded: multiplicative_attention(*qkvm))
    assert [shape for shape in saved_shapes(stack, (4, 7)) if list(shape).count(tokens) > 1], "the test can see one"


def test_bound_is_not_active_on_ordinary_scores(monkeypatch: pytest.MonkeyPatch) -> None:
    qkv, mask = draw(2, 13)
    weights = torch.randn_like(qkv[0])
    bounded = torch.autograd.grad(masked_attention(*qkv, mask), mask, weights)
    monkeypatch.setattr(attention, "MAX_LOG_RATIO", float("inf"))
    assert torch.equal(*bounded, *torch.autograd.grad(masked_attention(*qkv, mask), mask, weights))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_huge_scores_leave_finite_gradients(dtype: torch.dtype) -> None:
    qkv, mask = draw(2, 13, dtype)
    qkv = [(tensor.detach() * 100).requires_grad_() for tensor in qkv]
    for grad in torch.autograd.grad(masked_attention(*qkv, mask).sum(), (*qkv, mask)):
        assert grad.isfinite().all()


def test_bfloat16_gradients_have_the_dtype_of_their_inputs_and_are_summed_in_float32() -> None:
    (query, key, value), _ = draw(2, 13, torch.bfloat16)
    mask = (torch.rand(2, 13) < 0.5).float()
    mask[:, 0] = 1
    inputs = (query, key, value, mask.requires_grad_())
    grads = torch.autograd.grad(masked_attention(*inputs).sum(), inputs)
    assert [grad.dtype for grad in grads] == [torch.bfloat16] * 3 + [torch.float32]
    wide = tuple(tensor.detach().double().requires_grad_() for tensor in inputs)
    reference = torch.autograd.grad(masked_attention(*wide).sum(), wide)
    for grad, expected in zip(grads, reference, strict=True):
        torch.testing.assert_close(grad.double(), expected, rtol=0.02, atol=0.02 * float(expected.abs().max()))


@pytest.mark.parametrize("lengths", [[4, 4, 4], [1, 7, 3, 1], [5]], ids=str)
def test_packed_images_do_not_see_each_other(lengths: list[int]) -> None:
    qkv = [torch.randn(1, HEADS, sum(lengths), WIDTH, dtype=torch.float64) for _ in range(3)]
    starts = [sum(lengths[:i]) for i in range(len(lengths))]
    expected = [
        textbook(*(tensor[:, :, start : start + length] for tensor in qkv))
        for start, length in zip(starts, lengths, strict=True)
    ]
    torch.testing.assert_close(packed_attention(*qkv, lengths), torch.cat(expected, dim=2), **EXACT)


def test_soft_masks_weigh_the_exponentials() -> None:
    (query, key, value), _ = draw(2, 9)
    mask = torch.rand(2, 9, dtype=torch.float64)
    expected = multiplicative_attention(query, key, value, mask + 1e-10)
    torch.testing.assert_close(soft_masked_attention(query, key, value, mask), expected, **EXACT)


@pytest.mark.parametrize("options", [{}, {"qk_norm": True}, {"scale_norm": True}, {"gated": True}], ids=str)
def test_opened_attention_layer_is_timms(options: dict[str, bool]) -> None:
    layer = Attention(24, num_heads=3, qkv_bias=True, norm_layer=torch.nn.LayerNorm, **options).eval()
    tokens = torch.randn(2, 5, 24)
    expected = layer(tokens)
    actual = block_attention(layer, tokens, textbook)
    torch.testing.assert_close(actual, expected)
    readers = torch.tensor([0, 3])
    torch.testing.assert_close(block_attention(layer, tokens, textbook, readers), expected[:, readers])


def test_bounded_gradient_is_the_exact_change_when_a_token_is_added():
    """In one layer with a linear loss: ∂L/∂m_j of an unselected token is L(with j) − L(without j)."""
    generator = torch.Generator().manual_seed(3)
    query, key, value, weights = (
        3 * torch.randn(2, 3, 7, 4, dtype=torch.float64, generator=generator) for _ in range(4)
    )
    mask = torch.tensor([[1, 0, 0, 1, 1, 0, 1], [1, 0, 1, 0, 0, 0, 0]], dtype=torch.float64, requires_grad=True)

    def losses(selected):
        return (masked_attention(query, key, value, selected, bounded=True) * weights).flatten(1).sum(1)

    (grad,) = torch.autograd.grad(losses(mask).sum(), mask)
    with torch.no_grad():
        for token in range(7):
            added = mask.index_fill(1, torch.tensor([token]), 1.0)
            change = losses(added) - losses(mask)
            new = mask[:, token] == 0
            torch.testing.assert_close(grad[new, token], change[new], rtol=1e-9, atol=1e-9)
    (exact,) = torch.autograd.grad((masked_attention(query, key, value, mask) * weights).sum(), mask)
    assert torch.equal(grad[mask == 1], exact[mask == 1])


def test_one_kernel_for_all_lengths_gets_the_packed_layout(monkeypatch: pytest.MonkeyPatch) -> None:
    """The kernel is for GPUs; here a loop takes its place, by the same arguments."""

    def loop(
        q: Tensor, k: Tensor, v: Tensor, ends_asking: Tensor, ends: Tensor, most_asking: int, longest: int
    ) -> Tensor:
        assert ends_asking.dtype == ends.dtype == torch.int32
        assert (most_asking, longest) == (ends_asking.diff().max(), ends.diff().max())
        pieces = [
            F.scaled_dot_product_attention(
                *(t[a:b].transpose(0, 1) for t, (a, b) in zip((q, k, v), parts, strict=True))
            )
            for parts in (
                (asking, has, has)
                for asking, has in zip(
                    itertools.pairwise(ends_asking.tolist()), itertools.pairwise(ends.tolist()), strict=True
                )
            )
        ]
        return torch.cat([piece.transpose(0, 1) for piece in pieces])

    monkeypatch.setattr(attention, "varlen_attn", loop)
    query, key, value = (torch.randn(1, 2, 9, 4, dtype=torch.float64) for _ in range(3))
    for asking, lengths in (([2, 3, 4], [2, 3, 4]), ([1, 1, 1], [2, 3, 4])):
        qkv = query[:, :, : sum(asking)], key, value
        got = attention._variable_length_attention(*qkv, asking, lengths)
        torch.testing.assert_close(got, packed_attention(*qkv, lengths), **EXACT)


@pytest.mark.parametrize("lengths", [[4, 4], [2, 6]])
def test_one_token_of_each_image_may_ask(lengths: list[int]) -> None:
    query, key, value = (torch.randn(1, HEADS, 8, WIDTH, dtype=torch.float64) for _ in range(3))
    first = torch.tensor([0, lengths[0]])
    expected = packed_attention(query, key, value, lengths)[:, :, first]
    torch.testing.assert_close(packed_attention(query[:, :, first], key, value, lengths), expected, **EXACT)


def test_fewer_queries_have_the_gradient_of_the_definition(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attention, "CHUNK_ELEMENTS", 2 * HEADS * 13)
    (query, key, value), mask = draw(3, 13)
    query = query.detach()[:, :, [0, 5]].requires_grad_()
    outs = [function(query, key, value, mask) for function in (masked_attention, multiplicative_attention)]
    torch.testing.assert_close(*outs, **EXACT)
    weights = torch.randn_like(outs[0])
    actual, expected = (torch.autograd.grad(out, (query, key, value, mask), weights) for out in outs)
    torch.testing.assert_close(actual, expected, **EXACT)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_packed_attention_on_a_gpu() -> None:
    qkv = [torch.randn(1, 2, 90, 64) for _ in range(3)]
    on_gpu = packed_attention(*(t.to("cuda", torch.bfloat16) for t in qkv), [20, 30, 40])
    torch.testing.assert_close(on_gpu.float().cpu(), packed_attention(*qkv, [20, 30, 40]), atol=2e-2, rtol=2e-2)

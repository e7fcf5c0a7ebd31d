import itertools

import pytest
import torch
import torch.nn.functional as F
from timm.layers.attention import Attention
from torch import Tensor

from ifam.model import attention
from ifam.model.attention import masked_attention, multiplicative_attention, packed_attention, soft_masked_attention
from ifam.model.block import block_attention

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
    torch.testing.assert_close(multiplicative_attention(query, key, value, mask), expected, **EXACT)
    torch.testing.assert_close(masked_attention(query, key, value, mask > 0.5), expected, **EXACT)


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


@pytest.mark.parametrize("asking", [[2, 0, 5], [2, 2, 2], [0, 0, 0]], ids=str)
def test_other_tokens_may_ask(asking: list[int]) -> None:
    lengths = [3, 1, 4]
    query = torch.randn(1, HEADS, sum(asking), WIDTH, dtype=torch.float64)
    key, value = (torch.randn(1, HEADS, 8, WIDTH, dtype=torch.float64) for _ in range(2))
    pieces = zip(query.split(asking, 2), key.split(lengths, 2), value.split(lengths, 2), strict=True)
    expected = torch.cat([textbook(*piece) for piece in pieces], dim=2)
    torch.testing.assert_close(packed_attention(query, key, value, lengths, asking), expected, **EXACT)


@pytest.mark.parametrize("lengths", [[4, 4], [2, 6]])
def test_one_token_of_each_image_may_ask(lengths: list[int]) -> None:
    query, key, value = (torch.randn(1, HEADS, 8, WIDTH, dtype=torch.float64) for _ in range(3))
    first = torch.tensor([0, lengths[0]])
    expected = packed_attention(query, key, value, lengths)[:, :, first]
    torch.testing.assert_close(packed_attention(query[:, :, first], key, value, lengths), expected, **EXACT)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_packed_attention_on_a_gpu() -> None:
    qkv = [torch.randn(1, 2, 90, 64) for _ in range(3)]
    on_gpu = packed_attention(*(t.to("cuda", torch.bfloat16) for t in qkv), [20, 30, 40])
    torch.testing.assert_close(on_gpu.float().cpu(), packed_attention(*qkv, [20, 30, 40]), atol=2e-2, rtol=2e-2)

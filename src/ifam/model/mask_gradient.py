"""Stage 2 with the exact gradient of its mask.

With Z_i = Σ_k m_k e^{s_ik} and g_i = ∂L/∂o_i, the definition (`multiplicative_attention`) has at hard masks
∂L/∂m_j = Σ_heads Σ_i (e^{s_ij} / Z_i) g_i · (v_j − o_i), for selected and unselected j.

So the unselected tokens must pass through every block, for their keys and values. But nothing reads them: their weight
in every sum is 0, and what comes out is the class token's. Their own gradient is therefore 0 in every layer, g_i among
it, and they pass forward only: the exact gradient costs no backward pass through them, and keeps two vectors of each a
layer.

Shapes: B images, N tokens with the prefix, H heads of width d, D width; in a packed batch S selected tokens, U others.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from ifam.model.attention import packed_attention, tokens_asking
from ifam.model.block import run_block

CHUNK_ELEMENTS = 2**22
"""Scores that the backward pass holds at a time: 16 MiB in float32."""

MAX_LOG_RATIO = 20.0
"""Guard against overflow of e^{s_ij} / Z_i in the exact gradient of the mask. The ratio is unbounded for unselected j:
in four trained ViT-S 99.9 % of them lie under e^0.3 to e^2.5, the largest is e^38 to e^54
(`benchmarks/mask_gradient.py`)."""

NOBODY = slice(0, 0)


class Tokens(NamedTuple):
    """A batch, packed: each image's tokens behind those of the one before."""

    selected: Tensor
    """(1, S, D)"""
    unselected: Tensor
    """(1, U, D), without a gradient"""


@dataclass(frozen=True, kw_only=True)
class Layout:
    """Which tokens are selected, and the mask whose gradient is asked for."""

    is_selected: Tensor
    """(B, N) bool"""
    weights: Tensor
    """(S,) float, of the selected tokens: 1, with the mask's gradient"""
    other_weights: Tensor
    """(U,) float, of the unselected tokens: 0, with the mask's gradient"""
    selected: list[int]
    """of each image"""
    unselected: list[int]
    bounded: bool

    @classmethod
    def of(cls, weights: Tensor, *, bounded: bool) -> "Layout":
        """``weights``: (B, N) float, 0 and 1, the prefix first, which is always selected.

        With ``bounded`` the gradient of an unselected token has e / (Z + e), the exact change of one layer if the token
        were added, in the place of its first-order estimate e / Z.
        """
        is_selected = weights > 0.5
        return cls(
            is_selected=is_selected,
            weights=weights[is_selected],
            other_weights=weights[~is_selected],
            selected=is_selected.sum(1).tolist(),
            unselected=(~is_selected).sum(1).tolist(),
            bounded=bounded,
        )

    def split(self, tokens: Tensor) -> Tokens:
        """(B, N, D) to packed ones."""
        return Tokens(tokens[self.is_selected][None], tokens.detach()[~self.is_selected][None])

    @property
    def class_tokens(self) -> Tensor:
        """Their places among the selected ones: (B,)."""
        lengths = torch.tensor(self.selected, device=self.weights.device)
        return lengths.cumsum(0) - lengths


def run_block_twice(block: Any, tokens: Tokens, layout: Layout, *, last: bool) -> Tokens:
    """timm's transformer block on the selected tokens, and forward only on the unselected ones.

    The ``last`` block updates the class tokens alone: (1, B, D).
    """
    unselected: dict[str, Tensor] = {}

    def attend(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        def attend_unselected(other_query: Tensor, other_key: Tensor, other_value: Tensor) -> Tensor:
            unselected.update(key=other_key, value=other_value)
            if last:  # there are no queries
                return other_query
            return packed_attention(other_query, key, value, layout.selected, layout.unselected)

        with _forward_only():
            after = run_block(block, tokens.unselected, attend_unselected, NOBODY if last else None)
        unselected.update(after=after)
        return attention_with_mask_gradient(query, key, value, unselected["key"], unselected["value"], layout)

    selected = run_block(block, tokens.selected, attend, layout.class_tokens if last else None)
    return Tokens(selected, unselected["after"])


@contextmanager
def _forward_only() -> Iterator[None]:
    """No gradient; nor does autocast keep a half-precision weight made here, which would have no gradient later."""
    caching = torch.is_autocast_cache_enabled()
    torch.set_autocast_cache_enabled(False)
    try:
        with torch.no_grad():
            yield
    finally:
        torch.set_autocast_cache_enabled(caching)


def attention_with_mask_gradient(
    query: Tensor, key: Tensor, value: Tensor, other_key: Tensor, other_value: Tensor, layout: Layout
) -> Tensor:
    """`packed_attention` of the selected tokens, with the exact gradient for the mask of all.

    ``query``: (1, H, S, d), or (1, H, B, d) where one token of each image asks; ``key``, ``value``: (1, H, S, d);
    ``other_key``, ``other_value``: (1, H, U, d) of the unselected tokens, which get no gradient.
    """
    out: Tensor = AttentionWithMaskGradient.apply(
        query, key, value, other_key, other_value, layout.weights, layout.other_weights, layout
    )
    return out


class AttentionWithMaskGradient(torch.autograd.Function):
    """See `attention_with_mask_gradient`; the backward pass recomputes the scores in pieces from q, k, v and o."""

    @staticmethod
    def forward(
        ctx: Any,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        other_key: Tensor,
        other_value: Tensor,
        weights: Tensor,
        other_weights: Tensor,
        layout: Layout,
    ) -> Tensor:
        """``weights``: (S,); ``other_weights``: (U,)."""
        out = packed_attention(query, key, value, layout.selected)
        ctx.save_for_backward(query, key, value, out, other_key, other_value)
        ctx.lengths, ctx.others, ctx.bounded = layout.selected, layout.unselected, layout.bounded
        ctx.weight_dtype = weights.dtype
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_out: Tensor) -> tuple[Tensor | None, ...]:
        """Gradients of query, key, value and both weights, in float32 or wider."""
        query, key, value, out, other_key, other_value = ctx.saved_tensors
        asking = tokens_asking(query, key, ctx.lengths)
        parts = ((query, asking), (key, ctx.lengths), (value, ctx.lengths), (out, asking), (grad_out, asking))
        pieces = [_pieces(tensor, sizes) for tensor, sizes in parts]
        others = [_pieces(tensor, ctx.others) for tensor in (other_key, other_value)]
        grads = [_backward_image(*image, bounded=ctx.bounded) for image in zip(*pieces, *others, strict=True)]
        grad_query, grad_key, grad_value, grad_weights, grad_others = (
            torch.cat(of_images, dim=-2 if of_images[0].ndim > 1 else 0) for of_images in zip(*grads, strict=True)
        )
        tokens = (grad[None].to(query.dtype) for grad in (grad_query, grad_key, grad_value))
        return *tokens, None, None, grad_weights.to(ctx.weight_dtype), grad_others.to(ctx.weight_dtype), None


def _pieces(tensor: Tensor, sizes: Sequence[int]) -> Sequence[Tensor]:
    """(1, H, T, d) to (H, n, d) of each image, in float32 or wider."""
    wide = torch.promote_types(tensor.dtype, torch.float32)
    return [piece.to(wide) for piece in torch.split(tensor[0], list(sizes), dim=1)]


def _backward_image(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    out: Tensor,
    grad_out: Tensor,
    other_key: Tensor,
    other_value: Tensor,
    *,
    bounded: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """The backward pass of one image, a block of queries at a time; its selected tokens come first among all."""
    selected, scale = key.shape[1], query.shape[2] ** -0.5
    keys, values = torch.cat([key, other_key], dim=1), torch.cat([value, other_value], dim=1)
    grad_query, grad_key, grad_value = torch.empty_like(query), torch.zeros_like(key), torch.zeros_like(value)
    grad_weights_N = query.new_zeros(keys.shape[1])
    delta_Hn1 = (grad_out * out).sum(-1, keepdim=True)  # g_i · o_i
    rows = max(1, CHUNK_ELEMENTS // (keys.shape[0] * keys.shape[1]))
    for start in range(0, query.shape[1], rows):
        row = slice(start, start + rows)
        scores = query[:, row] @ keys.mT * scale
        log_ratio = scores - scores[..., :selected].logsumexp(-1, keepdim=True)
        ratio = log_ratio.clamp(max=MAX_LOG_RATIO).exp()  # e^{s_ij} / Z_i, at most 1 for selected j
        change = grad_out[:, row] @ values.mT - delta_Hn1[:, row]  # g_i · (v_j − o_i)
        attention = ratio[..., :selected]
        grad_scores = attention * change[..., :selected] * scale
        grad_query[:, row] = grad_scores @ key
        grad_key += grad_scores.mT @ query[:, row]
        grad_value += attention.mT @ grad_out[:, row]
        if bounded:
            ratio[..., selected:] = log_ratio[..., selected:].sigmoid()  # e / (Z + e)
        grad_weights_N += (ratio * change).sum((0, 1))
    return grad_query, grad_key, grad_value, grad_weights_N[:selected], grad_weights_N[selected:]

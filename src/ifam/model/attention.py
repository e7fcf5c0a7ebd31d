"""Attention over selected keys, with a gradient for the selection.

Shapes: B images, H heads, N tokens, d width of a head.
"""

from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn.attention.varlen import varlen_attn

CHUNK_ELEMENTS = 2**22
"""Scores that the backward pass holds at a time: 16 MiB in float32."""

MAX_LOG_RATIO = 20.0
"""Guard against overflow of e^{s_ij} / Z_i in the exact gradient of the mask. The ratio is unbounded for unselected j:
in a trained ViT-S 99.9 % of them lie under e^1.1, the largest near e^46 (`benchmarks/mask_gradient.py`)."""


def multiplicative_attention(query: Tensor, key: Tensor, value: Tensor, mask: Tensor) -> Tensor:
    """The definition: A_ij = m_j e^{s_ij} / Σ_k m_k e^{s_ik}, for any real-valued mask.

    Differentiable in all arguments and quadratic in memory: the reference for `MaskedAttention`.
    ``query``, ``key``, ``value``: (B, H, N, d); ``mask``: (B, N). Returns (B, H, N, d).
    """
    scores_BHNN = query @ key.transpose(-2, -1) * query.shape[-1] ** -0.5
    exp_BHNN = (scores_BHNN - scores_BHNN.amax(-1, keepdim=True).detach()).exp()
    weights_BHNN = mask[:, None, None, :] * exp_BHNN
    attention_BHNN: Tensor = weights_BHNN / weights_BHNN.sum(-1, keepdim=True)
    return attention_BHNN @ value


def soft_masked_attention(query: Tensor, key: Tensor, value: Tensor, mask: Tensor) -> Tensor:
    """The paper's ablation: log(m_j + 1e-10) is added to the scores of key j. ``mask``: (B, N) in [0, 1]."""
    bias_B11N = (mask + 1e-10).log()[:, None, None, :].to(query.dtype)
    return F.scaled_dot_product_attention(query, key, value, attn_mask=bias_B11N)


def masked_attention(query: Tensor, key: Tensor, value: Tensor, mask: Tensor, *, bounded: bool = False) -> Tensor:
    """Attention in which keys with ``mask`` 0 get weight exactly 0 and the mask gets its exact gradient.

    With ``bounded`` the gradient of an unselected key has e / (Z + e), the exact change of one layer if the token were
    added, in the place of its first-order estimate e / Z.

    ``key``, ``value``: (B, H, N, d); ``query``: the same, or fewer tokens; ``mask``: (B, N) float, 0 or 1, at least one
    1 in each row.
    """
    out: Tensor = MaskedAttention.apply(query, key, value, mask, bounded)
    return out


class MaskedAttention(torch.autograd.Function):
    """`multiplicative_attention` at hard masks, linear in memory.

    The backward pass recomputes the scores in pieces from q, k, v and o. With Z_i = Σ_k m_k e^{s_ik} and g_i = ∂L/∂o_i,
    ∂L/∂m_j = Σ_heads Σ_i (e^{s_ij} / Z_i) g_i · (v_j − o_i), for selected and unselected j.
    """

    @staticmethod
    def forward(ctx: Any, query: Tensor, key: Tensor, value: Tensor, mask: Tensor, bounded: bool) -> Tensor:
        """See `masked_attention`."""
        out = F.scaled_dot_product_attention(query, key, value, attn_mask=(mask > 0.5)[:, None, None, :])
        ctx.save_for_backward(query, key, value, mask, out)
        ctx.bounded = bounded
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_out: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor, None]:
        """Gradients of query, key, value and mask, in float32 or wider."""
        query, key, value, mask, out = ctx.saved_tensors
        wide = torch.promote_types(query.dtype, torch.float32)
        (batch, heads, asking, _), tokens = query.shape, key.shape[2]
        grads = [torch.empty_like(tensor, dtype=wide) for tensor in (query, key, value)]
        grad_mask = torch.empty(batch, tokens, dtype=wide, device=mask.device)
        images = max(1, CHUNK_ELEMENTS // (heads * asking * tokens))
        for start in range(0, batch, images):
            part = slice(start, start + images)
            q, k, v, o, g = (tensor[part].to(wide) for tensor in (query, key, value, out, grad_out))
            pieces = _backward_images(q, k, v, o, g, mask[part] > 0.5, bounded=ctx.bounded)
            for grad, piece in zip((*grads, grad_mask), pieces, strict=True):
                grad[part] = piece
        grad_query, grad_key, grad_value = (grad.to(query.dtype) for grad in grads)
        return grad_query, grad_key, grad_value, grad_mask.to(mask.dtype), None


def _backward_images(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    out: Tensor,
    grad_out: Tensor,
    selected: Tensor,
    *,
    bounded: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The backward pass of a few images, a block of queries at a time."""
    (batch, heads, asking, width), tokens = query.shape, key.shape[2]
    scale = width**-0.5
    grad_query, grad_key, grad_value = torch.empty_like(query), torch.zeros_like(key), torch.zeros_like(value)
    grad_mask_BHN = query.new_zeros(batch, heads, tokens)
    delta_BHN1 = (grad_out * out).sum(-1, keepdim=True)  # g_i · o_i
    rows = max(1, CHUNK_ELEMENTS // (batch * heads * tokens))
    for start in range(0, asking, rows):
        row = slice(start, start + rows)
        scores = query[:, :, row] @ key.transpose(-2, -1) * scale
        log_z = scores.masked_fill(~selected[:, None, None, :], -torch.inf).logsumexp(-1, keepdim=True)
        log_ratio = scores - log_z
        ratio = log_ratio.clamp(max=MAX_LOG_RATIO).exp()  # e^{s_ij} / Z_i, at most 1 for selected j
        change = grad_out[:, :, row] @ value.transpose(-2, -1) - delta_BHN1[:, :, row]  # g_i · (v_j − o_i)
        attention = ratio * selected[:, None, None, :]
        if bounded:
            ratio = torch.where(selected[:, None, None, :], ratio, log_ratio.sigmoid())  # e / (Z + e)
        grad_value += attention.transpose(-2, -1) @ grad_out[:, :, row]
        grad_mask_BHN += (ratio * change).sum(-2)
        grad_scores = attention * change * scale
        grad_query[:, :, row] = grad_scores @ key
        grad_key += grad_scores.transpose(-2, -1) @ query[:, :, row]
    return grad_query, grad_key, grad_value, grad_mask_BHN.sum(1)


def packed_attention(query: Tensor, key: Tensor, value: Tensor, lengths: list[int]) -> Tensor:
    """Attention within each image of a packed batch.

    ``key``, ``value``: (1, H, T, d) with the tokens of all images after one another; ``lengths``: tokens of each image,
    summing to T. ``query``: (1, H, T, d), or (1, H, len(lengths), d) where one token of each image asks.
    """
    if len(set(lengths)) == 1:  # a plain batch
        _, heads, _, width = query.shape
        images = len(lengths)
        q, k, v = (t[0].view(heads, images, -1, width).transpose(0, 1) for t in (query, key, value))
        return F.scaled_dot_product_attention(q, k, v).transpose(0, 1).reshape(1, heads, -1, width)
    asking = lengths if query.shape[2] == key.shape[2] else [1] * len(lengths)
    if query.is_cuda and query.dtype in (torch.float16, torch.bfloat16):
        return _variable_length_attention(query, key, value, asking, lengths)
    parts = ((query, asking), (key, lengths), (value, lengths))
    pieces = zip(*(torch.split(tensor, sizes, dim=2) for tensor, sizes in parts), strict=True)
    return torch.cat([F.scaled_dot_product_attention(*piece) for piece in pieces], dim=2)


def _variable_length_attention(
    query: Tensor, key: Tensor, value: Tensor, asking: list[int], lengths: list[int]
) -> Tensor:
    """`packed_attention` by one kernel, which exists on GPUs in half precision only."""
    ends_asking, ends = (
        F.pad(torch.tensor(of, dtype=torch.int32).cumsum(0, dtype=torch.int32), (1, 0)).to(query.device)
        for of in (asking, lengths)
    )
    q, k, v = (tensor[0].transpose(0, 1).contiguous() for tensor in (query, key, value))  # (T, H, d)
    out = cast(Tensor, varlen_attn(q, k, v, ends_asking, ends, max(asking), max(lengths)))
    return out.transpose(0, 1)[None]

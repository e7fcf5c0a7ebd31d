"""Attention over selected keys.

Shapes: B images, H heads, N tokens, d width of a head.
"""

from collections.abc import Sequence
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.attention.varlen import varlen_attn


def multiplicative_attention(query: Tensor, key: Tensor, value: Tensor, mask: Tensor) -> Tensor:
    """The definition: A_ij = m_j e^{s_ij} / Σ_k m_k e^{s_ik}, for any real-valued mask.

    Differentiable in all arguments and quadratic in memory: the reference for `ifam.model.mask_gradient`.
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


def masked_attention(query: Tensor, key: Tensor, value: Tensor, mask: Tensor) -> Tensor:
    """`multiplicative_attention` at a hard mask, (B, N) bool, at least one token selected in each row; no gradient."""
    return F.scaled_dot_product_attention(query, key, value, attn_mask=mask[:, None, None, :])


def packed_attention(
    query: Tensor, key: Tensor, value: Tensor, lengths: Sequence[int], asking: Sequence[int] | None = None
) -> Tensor:
    """Attention within each image of a packed batch.

    ``key``, ``value``: (1, H, T, d) with the tokens of all images after one another; ``lengths``: tokens of each image,
    summing to T. ``query``: (1, H, Q, d) with ``asking`` tokens of each image, summing to Q; where that is not given,
    the same tokens, or one of each image.
    """
    if asking is None:
        asking = tokens_asking(query, key, lengths)
    if len(set(lengths)) == len(set(asking)) == 1:  # a plain batch
        _, heads, _, width = query.shape
        images = len(lengths)
        q, k, v = (t[0].view(heads, images, -1, width).transpose(0, 1) for t in (query, key, value))
        return F.scaled_dot_product_attention(q, k, v).transpose(0, 1).reshape(1, heads, -1, width)
    if query.is_cuda and query.dtype in (torch.float16, torch.bfloat16):
        return _variable_length_attention(query, key, value, asking, lengths)
    parts = ((query, asking), (key, lengths), (value, lengths))
    pieces = zip(*(torch.split(tensor, list(sizes), dim=2) for tensor, sizes in parts), strict=True)
    return torch.cat([F.scaled_dot_product_attention(*piece) for piece in pieces], dim=2)


def tokens_asking(query: Tensor, key: Tensor, lengths: Sequence[int]) -> Sequence[int]:
    """How many tokens of each image ask in a packed batch: those of which the keys are, or one."""
    return lengths if query.shape[2] == key.shape[2] else [1] * len(lengths)


def _variable_length_attention(
    query: Tensor, key: Tensor, value: Tensor, asking: Sequence[int], lengths: Sequence[int]
) -> Tensor:
    """`packed_attention` by one kernel, which exists on GPUs in half precision only."""
    ends_asking, ends = (
        F.pad(torch.tensor(of, dtype=torch.int32).cumsum(0, dtype=torch.int32), (1, 0)).to(query.device)
        for of in (asking, lengths)
    )
    q, k, v = (tensor[0].transpose(0, 1).contiguous() for tensor in (query, key, value))  # (T, H, d)
    out = cast(Tensor, varlen_attn(q, k, v, ends_asking, ends, max(asking), max(lengths)))
    return out.transpose(0, 1)[None]

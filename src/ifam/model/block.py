"""timm's transformer block, opened up: another score function, and the update of some tokens only.

Shapes: B images, N tokens of width D, H heads of width d, M projections side by side.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from timm.layers.attention import Attention
from timm.models.vision_transformer import LayerScale
from torch import Tensor, nn

from ifam.model.linear import linear

Attend = Callable[[Tensor, Tensor, Tensor], Tensor]
"""(query, key, value), each (B, H, N, d), to (B, H, N, d); the queries may be those of fewer tokens"""
Readers = Tensor | slice
CLASS_TOKEN = slice(0, 1)
"""of a batch that is not packed"""


def run_block(block: Any, tokens: Tensor, attend: Attend, readers: Readers | None = None) -> Tensor:
    """timm's transformer block with its score function replaced. ``tokens``: (B, N, D).

    With ``readers``, n places, only the tokens there are updated and returned: (B, n, D).
    """
    read = tokens if readers is None else tokens[:, readers]
    read = add_scaled(read, block.ls1, block_attention(block.attn, block.norm1(tokens), attend, readers))
    return add_scaled(read, block.ls2, block.mlp(block.norm2(read)))


def add_scaled(tokens: Tensor, scale: nn.Module, update: Tensor) -> Tensor:
    """``tokens + scale(update)``, LayerScale in one pass over the memory."""
    if isinstance(scale, LayerScale):
        return torch.addcmul(tokens, update, scale.gamma)
    scaled: Tensor = tokens + scale(update)
    return scaled


def block_attention(attention: Attention, tokens: Tensor, attend: Attend, readers: Readers | None = None) -> Tensor:
    """timm's attention layer with its score function replaced. ``tokens``: (B, N, D).

    With ``readers``, n places of tokens, these alone ask: (B, n, D).
    """
    if readers is None:
        asking, (query, key, value) = tokens, _heads(attention, attention.qkv(tokens))
    else:
        asking, layer = tokens[:, readers], attention.qkv
        width = attention.num_heads * attention.head_dim
        bias = (None, None) if layer.bias is None else layer.bias.tensor_split([width])
        weight = layer.weight.tensor_split([width])
        (query,) = _heads(attention, linear(asking, weight[0], bias[0]))
        key, value = _heads(attention, linear(tokens, weight[1], bias[1]))
    out = attend(attention.q_norm(query), attention.k_norm(key), value)
    out = attention.norm(out.transpose(1, 2).flatten(2))
    if attention.gate is not None:
        out = out * attention.gate(asking).sigmoid()
    projected: Tensor = attention.proj_drop(attention.proj(out))
    return projected


def _heads(attention: Attention, projected: Tensor) -> Sequence[Tensor]:
    """(B, N, M · H · d), of M projections side by side, to M tensors (B, H, N, d)."""
    heads = (attention.num_heads, attention.head_dim)
    parted = projected.view(*projected.shape[:2], projected.shape[2] // (heads[0] * heads[1]), *heads)
    return parted.permute(2, 0, 3, 1, 4).unbind(0)

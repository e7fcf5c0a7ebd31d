"""Stage 1: tokens to parts (PDiscoFormer, ECCV 2024). Shapes: see `ifam.output`."""

import torch
from torch import Tensor


def part_logits(tokens: Tensor, prototypes: Tensor) -> Tensor:
    """−‖token − prototype‖² in float32 or wider: token norms² near 1,700 leave bfloat16 too few digits.

    ``tokens``: (B, h, w, D); ``prototypes``: (K+1, D). Returns (B, K+1, h, w).
    """
    wide = torch.promote_types(tokens.dtype, torch.float32)
    with torch.autocast(tokens.device.type, enabled=False):
        x, p = tokens.to(wide), prototypes.to(wide)
        squared = x.square().sum(-1, keepdim=True) - 2 * x @ p.T + p.square().sum(-1)
    return -squared.permute(0, 3, 1, 2)


def gumbel_like(logits: Tensor) -> Tensor:
    """I.i.d. Gumbel(0, 1) noise from torch's generator."""
    return -torch.empty_like(logits).exponential_().clamp_min_(torch.finfo(logits.dtype).tiny).log()


def part_maps(logits: Tensor, temperature: float = 1.0) -> Tensor:
    """Probabilities over the K+1 parts of each token. ``logits``: (B, K+1, h, w), noise already added."""
    return (logits / temperature).softmax(1)


def part_features(maps: Tensor, tokens: Tensor) -> Tensor:
    """Mean over *all* positions of map times token: not divided by the part's mass.

    ``maps``: (B, K+1, h, w); ``tokens``: (B, h, w, D). Returns (B, D, K+1).
    """
    with torch.autocast(tokens.device.type, enabled=False):
        total = torch.einsum("bkhw,bhwd->bdk", maps, tokens.to(maps.dtype))
    return total / (maps.shape[-2] * maps.shape[-1])


def drop_parts(shape: tuple[int, int], probability: float, device: torch.device) -> Tensor:
    """Bool (B, K): which parts survive, each dropped on its own with ``probability``."""
    return torch.rand(shape, device=device) >= probability
